//! The ring as data: where a key lives, who holds which partition, and what a change would move.
//!
//! Pure functions over plain values. The coordinator changes a [`RingMap`] by commands
//! (`proto/coordinator`); everybody else only reads it.

pub mod delta;
pub mod hash;
pub mod map;
pub mod placement;
pub mod plan;

pub use delta::MapDelta;
pub use hash::{HashKind, Hasher, arc_of, arc_start, node_position};
pub use map::{Member, MemberState, Params, Part, PartState, PlacementKind, ReplicaSet, RingMap};
pub use placement::{Candidate, assign};
pub use plan::{Change, PartitionSize, Plan, Share, goals, max_over_mean, plan, shares};
