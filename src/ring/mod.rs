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
pub use hash::{HashKind, Hasher};
pub use map::{Member, MemberState, Params, Part, PartState, PlacementKind, ReplicaSet, RingMap};
