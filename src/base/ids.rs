//! Newtypes for the numbers of the protocol, so that two of them can never be swapped by accident.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The value that is below every issued one.
            pub const ZERO: Self = Self(0);
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// One boot of one node. Issued by the coordinator and never used twice; 0 is nobody.
    MemberId(u64),
    "m"
);
id!(
    /// One of the `Q` equal arcs of the ring: the unit of placement, replication and movement.
    PartitionId(u32),
    "p"
);
id!(
    /// Version of the ring map: one more with every applied change.
    Ver(u64),
    "v"
);
id!(
    /// Configuration of one partition: the map version that last changed its primary or its
    /// in-sync set. Fences replication.
    Cfg(u64),
    "c"
);
id!(
    /// Position of an entry in a partition's log.
    Seq(u64),
    "s"
);
id!(
    /// One stay of one member as learner of one partition: the map version that added it.
    LearnerId(u64),
    "l"
);
id!(
    /// One snapshot stream from a primary to a learner. 0 stands for the in-sync append stream.
    StreamId(u64),
    "x"
);
id!(
    /// Term of the coordinator's group: at most one voter leads in it.
    Term(u64),
    "t"
);
id!(
    /// Position of an entry in the log of the coordinator's group; the first one has 1.
    LogIndex(u64),
    "i"
);

/// Identity of a ring, drawn at random when it is created. Two rings never talk to each other.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
