//! The ring as data: where a key lives, who holds which partition, and what a change would move.
//!
//! Pure functions over plain values. The coordinator changes a [`RingMap`] by commands
//! (`proto/coordinator`); everybody else only reads it.

pub mod hash;
pub mod map;
pub mod placement;
pub mod plan;

pub use hash::{HashKind, Hasher};
pub use map::{Member, MemberState, Params, Part, PartState, PlacementKind, ReplicaSet, RingMap};
