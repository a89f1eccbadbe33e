//! Who should hold which partition.
