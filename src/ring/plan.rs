//! What a change would move.
