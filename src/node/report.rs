//! What a ring tells about itself.

use super::config::Progress;
use crate::base::{ClusterId, MemberId, PartitionId};
use crate::ring::{MemberState, Params};

/// A member as others refer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRef {
    /// Its id in the ring map.
    pub mid: MemberId,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub addr: String,
}

/// One member and what it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberInfo {
    /// Id, name, address.
    pub node: NodeRef,
    /// Failure domain.
    pub zone: String,
    /// Share it should have in relation to the others.
    pub weight: u32,
    /// Place on the ring.
    pub position: u64,
    /// Up, down or leaving.
    pub state: MemberState,
    /// Whether it answered just now; the counts below are 0 if not.
    pub reachable: bool,
    /// Whether it runs the coordinator.
    pub coordinator: bool,
    /// Partitions whose operations it executes.
    pub primaries: u32,
    /// Partition copies that it holds in sync.
    pub copies: u32,
    /// Its part of all in-sync copies, 0 to 1.
    pub share: f64,
    /// Keys in the partitions it is primary of.
    pub keys: u64,
    /// Bytes of keys and values in the partitions it is primary of.
    pub bytes: u64,
    /// Keys it holds in all copies.
    pub keys_held: u64,
    /// Bytes of keys and values it holds in all copies.
    pub bytes_held: u64,
    /// Memory that its tables take, in bytes.
    pub memory_bytes: u64,
    /// Keys received in movements since it started.
    pub keys_moved_in: u64,
    /// Bytes of keys and values received in movements since it started.
    pub bytes_moved_in: u64,
}

/// The ring as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct RingInfo {
    /// Identity of the ring.
    pub cluster: ClusterId,
    /// Version of the ring map.
    pub version: u64,
    /// What was fixed when it was created.
    pub params: Params,
    /// Copies that a write needs now.
    pub required: u8,
    /// Members in the order of their positions: the next one is the successor.
    pub members: Vec<MemberInfo>,
    /// Keys in the ring, each counted once.
    pub keys: u64,
    /// Bytes of keys and values, each counted once.
    pub bytes: u64,
    /// Partitions with fewer in-sync copies than wanted and possible.
    pub under_replicated: u32,
    /// Partitions whose copies are all lost.
    pub lost: u32,
    /// A movement under way.
    pub moving: Option<Progress>,
}

impl RingInfo {
    /// The member before `mid` on the ring; itself if it is alone.
    pub fn predecessor(&self, mid: MemberId) -> Option<&MemberInfo> {
        let at = self.members.iter().position(|m| m.node.mid == mid)?;
        self.members.get((at + self.members.len() - 1) % self.members.len())
    }

    /// The member after `mid` on the ring; itself if it is alone.
    pub fn successor(&self, mid: MemberId) -> Option<&MemberInfo> {
        let at = self.members.iter().position(|m| m.node.mid == mid)?;
        self.members.get((at + 1) % self.members.len())
    }
}

/// What dropping a member meant beside its going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Partitions that lost their last copy with it: only by force.
    pub partitions_lost: u32,
}

/// Where a key lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The key's partition.
    pub partition: PartitionId,
    /// The key's place on the circle of 2^64 positions.
    pub position: u64,
    /// The in-sync holders, the primary first.
    pub holders: Vec<NodeRef>,
    /// The nodes that were asked on the way, in order; the last one answered.
    pub hops: Vec<NodeRef>,
}

/// Whether every partition can take a write now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Every partition can take a read and a write now, with all wanted copies in sync.
    pub ok: bool,
    /// Partitions that cannot take a write now.
    pub unwritable: u32,
    /// One sentence for each thing that is not as it should be.
    pub reasons: Vec<String>,
}
