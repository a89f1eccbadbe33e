//! The ring map: the epoch-numbered table of members and, for each partition, its replicas.

use std::collections::BTreeMap;
use std::fmt;

use super::hash::HashKind;
use crate::base::limits::{COPIES_MAX, REPLICAS_MAX};
use crate::base::{Cfg, ClusterId, LearnerId, MemberId, PartitionId, Ver};

/// A small ordered set of members without a heap allocation. The order matters only to a goal,
/// whose first member is the wanted primary.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicaSet {
    members: [MemberId; REPLICAS_MAX],
    len: u8,
}

impl ReplicaSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set as a slice, in its order.
    pub fn as_slice(&self) -> &[MemberId] {
        &self.members[..usize::from(self.len)]
    }

    /// Its members, in its order.
    pub fn iter(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.as_slice().iter().copied()
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `mid` is a member.
    pub fn contains(&self, mid: MemberId) -> bool {
        self.as_slice().contains(&mid)
    }

    /// The first member.
    pub fn first(&self) -> Option<MemberId> {
        self.as_slice().first().copied()
    }

    /// Adds `mid` at the end. False if it is there already or the set is full.
    pub fn insert(&mut self, mid: MemberId) -> bool {
        if self.contains(mid) || self.len() == REPLICAS_MAX {
            return false;
        }
        self.members[self.len()] = mid;
        self.len += 1;
        true
    }

    /// Removes `mid`, keeping the order of the rest. False if it was not there.
    pub fn remove(&mut self, mid: MemberId) -> bool {
        let Some(at) = self.as_slice().iter().position(|m| *m == mid) else {
            return false;
        };
        self.members.copy_within(at + 1..usize::from(self.len), at);
        self.len -= 1;
        self.members[usize::from(self.len)] = MemberId::ZERO;
        true
    }

    /// Whether every member of `self` is in `other`.
    pub fn is_subset_of(&self, other: &ReplicaSet) -> bool {
        self.iter().all(|mid| other.contains(mid))
    }
}

impl FromIterator<MemberId> for ReplicaSet {
    /// Takes the first `REPLICAS_MAX` distinct members.
    fn from_iter<I: IntoIterator<Item = MemberId>>(iter: I) -> Self {
        let mut set = Self::new();
        for mid in iter {
            set.insert(mid);
        }
        set
    }
}

impl fmt::Debug for ReplicaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// How partitions are given to members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlacementKind {
    /// Exact quotas by weight, minimal movement, copies on different hosts and zones if they exist.
    #[default]
    Balanced,
    /// Chord's rule: the first member whose position is at or after the arc's end, and its
    /// successors hold the copies.
    Successor,
}

/// What is fixed when a ring is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Number of partitions, `Q`: a power of two up to 65536.
    pub partitions: u32,
    /// The function from keys to ring positions.
    pub hash: HashKind,
    /// Seed of the key hash.
    pub seed: u32,
    /// How partitions are given to members.
    pub placement: PlacementKind,
    /// Wanted copies of each key, `RF`: 1 to 7.
    pub copies: u8,
    /// A write is acknowledged only with at least this many in-sync copies (never more than
    /// there are members).
    pub min_insync: u8,
    /// Longest value, in bytes.
    pub value_bytes_max: u32,
    /// Reads are answered under leases. Without, each read waits for a round to the in-sync
    /// replicas: for machines whose clocks cannot be relied upon.
    pub leases: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            partitions: crate::base::limits::PARTITIONS_DEFAULT,
            hash: HashKind::default(),
            seed: 0,
            placement: PlacementKind::default(),
            copies: 3,
            min_insync: 2,
            value_bytes_max: crate::base::limits::VALUE_BYTES_DEFAULT_MAX as u32,
            leases: true,
        }
    }
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// Takes part.
    #[default]
    Up,
    /// Declared dead by the coordinator: it holds nothing that counts, and its place is kept for a
    /// while in case it comes back.
    Down,
    /// Dead for so long that its copies are made elsewhere.
    Away,
    /// Being dropped: its copies move elsewhere.
    Leaving,
}

/// One member of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name, unique in the ring.
    pub name: String,
    /// Where it listens: `host:port` or `unix:/path`.
    pub addr: String,
    /// Failure domain; empty if none was given.
    pub zone: String,
    /// Share of the ring in relation to the others; 0 is a router that holds nothing.
    pub weight: u32,
    /// Place on the ring, which defines predecessor and successor.
    pub position: u64,
    /// Count of boots of a durable member; a random number of the start of a memory-only one.
    pub boot: u32,
    /// Whether it keeps its data across a restart.
    pub durable: bool,
    /// Where it stands.
    pub state: MemberState,
}

impl Member {
    /// Whether it is to hold copies. One that is down keeps its place for a while.
    pub fn is_target(&self) -> bool {
        matches!(self.state, MemberState::Up | MemberState::Down) && self.weight > 0
    }

    /// Whether copies can be given to it now.
    pub fn is_heir(&self) -> bool {
        self.state == MemberState::Up && self.weight > 0
    }

    /// Whether it was declared dead.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, MemberState::Down | MemberState::Away)
    }

    /// The host part of its address: copies avoid sharing one.
    pub fn host(&self) -> &str {
        match self.addr.strip_prefix("unix:") {
            Some(_) => "localhost",
            None => self.addr.rsplit_once(':').map_or(self.addr.as_str(), |(host, _)| host),
        }
    }
}

/// Whether a partition can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartState {
    /// Its primary serves.
    #[default]
    Ok,
    /// Its only in-sync member is down; nothing is lost while it may come back.
    Stalled,
    /// Every in-sync copy is gone: its keys answer `DataLost` until it is reset.
    Lost,
}

/// One partition's row of the map.
///
/// Invariants: `primary` is in `isr`; `isr` is never empty; no member is both in `isr` and a
/// learner; `cfg` and `pcfg` never decrease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Map version of the last change of `primary` or `isr`.
    pub cfg: Cfg,
    /// The `cfg` before that.
    pub pcfg: Cfg,
    /// The one member that executes operations.
    pub primary: MemberId,
    /// In-sync replicas: each holds every acknowledged write.
    pub isr: ReplicaSet,
    /// Members that are catching up, with the map version that added each.
    pub learners: Vec<(MemberId, LearnerId)>,
    /// Who should hold it in the end; the first should be the primary. Reached by the primary
    /// and the coordinator in small safe steps.
    pub goal: ReplicaSet,
    /// Whether it can serve.
    pub state: PartState,
    /// How often it was reset after a loss.
    pub resets: u32,
}

impl Part {
    /// The learner instance of `mid`, if it is one.
    pub fn learner(&self, mid: MemberId) -> Option<LearnerId> {
        self.learners.iter().find(|(m, _)| *m == mid).map(|(_, lid)| *lid)
    }

    /// Whether it is held exactly as wanted, with the wanted primary. Nothing moves where all is
    /// lost.
    pub fn is_settled(&self) -> bool {
        if self.state == PartState::Lost {
            return true;
        }
        self.learners.is_empty()
            && self.goal.len() == self.isr.len()
            && self.goal.is_subset_of(&self.isr)
            && self.goal.first() == Some(self.primary)
    }

    /// I7: what must hold of every row, whatever happens.
    pub fn check_invariants(&self) -> Result<(), String> {
        if self.isr.is_empty() {
            return Err(format!("empty in-sync set in {self:?}"));
        }
        if !self.isr.contains(self.primary) {
            return Err(format!("primary outside the in-sync set in {self:?}"));
        }
        if self.learners.iter().any(|(mid, _)| self.isr.contains(*mid)) {
            return Err(format!("in-sync learner in {self:?}"));
        }
        if self.isr.len() + self.learners.len() > REPLICAS_MAX || self.goal.len() > COPIES_MAX {
            return Err(format!("too many replicas in {self:?}"));
        }
        Ok(())
    }
}

/// The agreed table of one ring. Versions only grow; a node adopts a map only if it is newer and
/// of its own ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingMap {
    /// Which ring.
    pub cluster: ClusterId,
    /// Bumped by disaster recovery.
    pub generation: u32,
    /// One more with every applied change.
    pub ver: Ver,
    /// Version of the last change of any partition's `cfg`.
    pub epoch: Ver,
    /// What was fixed at creation.
    pub params: Params,
    /// Copies that a write needs now: `params.min_insync`, or less while the ring is too small
    /// or still growing to it.
    pub required: u8,
    /// The next member id to issue.
    pub next_mid: MemberId,
    /// All members, by id.
    pub members: BTreeMap<MemberId, Member>,
    /// One row for each partition.
    pub parts: Vec<Part>,
    /// Members that run the coordinator together.
    pub voters: Vec<MemberId>,
    /// The version that named them: the configuration of their group.
    pub voters_since: Ver,
}

impl RingMap {
    /// The row of `pid`, if the ring has that partition.
    pub fn part(&self, pid: PartitionId) -> Option<&Part> {
        self.parts.get(pid.0 as usize)
    }

    /// The member of that name or address.
    pub fn find_member(&self, name_or_addr: &str) -> Option<MemberId> {
        let by = |f: fn(&Member) -> &str| {
            self.members.iter().find(|(_, m)| f(m) == name_or_addr).map(|(mid, _)| *mid)
        };
        by(|m| &m.name).or_else(|| by(|m| &m.addr))
    }

    /// Those whom goals may name. Whoever leaves holds on while there is nobody else: the heirs
    /// may have died since the drop was ordered.
    pub fn targets(&self) -> Vec<MemberId> {
        let those = |is_one: fn(&Member) -> bool| -> Vec<MemberId> {
            let such = self.members.iter().filter(|(_, member)| is_one(member));
            such.map(|(mid, _)| *mid).collect()
        };
        let targets = those(Member::is_target);
        if !targets.is_empty() {
            return targets;
        }
        those(|member| member.state == MemberState::Leaving && member.weight > 0)
    }

    /// Members in the order of their ring positions.
    pub fn by_position(&self) -> Vec<MemberId> {
        let mut order: Vec<(u64, MemberId)> =
            self.members.iter().map(|(mid, m)| (m.position, *mid)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, mid)| mid).collect()
    }

    /// Whether no partition is moving or waiting to move.
    pub fn is_settled(&self) -> bool {
        self.parts.iter().all(Part::is_settled)
    }

    /// What must hold of every map, whatever happens.
    pub fn check_invariants(&self) -> Result<(), String> {
        if self.voters_since > self.ver {
            return Err(format!("voters of version {} in version {}", self.voters_since, self.ver));
        }
        for part in &self.parts {
            part.check_invariants()?;
            if part.cfg.0 > self.epoch.0 || self.epoch > self.ver {
                return Err(format!("cfg {} beyond epoch {}", part.cfg, self.epoch));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_sets_keep_order_and_refuse_doubles() {
        let mut set: ReplicaSet = [3, 1, 2, 1].map(MemberId).into_iter().collect();
        assert_eq!(set.as_slice(), [3, 1, 2].map(MemberId));
        assert!(!set.insert(MemberId(1)));
        assert!(set.remove(MemberId(3)));
        assert!(!set.remove(MemberId(3)));
        assert_eq!(set.first(), Some(MemberId(1)));
        assert_eq!(set, [1, 2].map(MemberId).into_iter().collect());
    }

    #[test]
    fn a_full_replica_set_refuses_one_more() {
        let mut set: ReplicaSet = (1..=REPLICAS_MAX as u64).map(MemberId).collect();
        assert!(!set.insert(MemberId(99)));
        assert_eq!(set.len(), REPLICAS_MAX);
    }
}
