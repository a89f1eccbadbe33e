//! What changed between two versions of a ring map, so that a change of a few partitions does not
//! send the whole table.

use std::collections::BTreeMap;

use super::map::{Member, Part, RingMap};
use crate::base::{ClusterId, MemberId, PartitionId, Ver};

/// The rows that differ between version `from` and version `ver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDelta {
    /// Which ring.
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: u32,
    /// The version that it can be applied to.
    pub from: Ver,
    /// The version that results.
    pub ver: Ver,
    /// See [`RingMap::epoch`].
    pub epoch: Ver,
    /// See [`RingMap::required`].
    pub required: u8,
    /// See [`RingMap::next_mid`].
    pub next_mid: MemberId,
    /// See [`RingMap::voters`].
    pub voters: Vec<MemberId>,
    /// See [`RingMap::voters_since`].
    pub voters_since: Ver,
    /// All members, if any of them changed.
    pub members: Option<BTreeMap<MemberId, Member>>,
    /// The changed rows.
    pub parts: Vec<(PartitionId, Part)>,
}

impl MapDelta {
    /// What leads from `old` to `new`.
    pub fn between(old: &RingMap, new: &RingMap) -> Self {
        let changed = |(at, part): (usize, &Part)| {
            (old.parts.get(at) != Some(part)).then(|| (PartitionId(at as u32), part.clone()))
        };
        Self {
            cluster: new.cluster,
            generation: new.generation,
            from: old.ver,
            ver: new.ver,
            epoch: new.epoch,
            required: new.required,
            next_mid: new.next_mid,
            voters: new.voters.clone(),
            voters_since: new.voters_since,
            members: (old.members != new.members).then(|| new.members.clone()),
            parts: new.parts.iter().enumerate().filter_map(changed).collect(),
        }
    }

    /// The map that it leads to from `map`; `None` if it is for another ring or version, turns
    /// back what only grows, or does not lead to a sound map.
    ///
    /// Like every map, the result may name members in its rows that it does not list: the rows of
    /// lost partitions do. They are looked up with `get`, and an unknown one cannot be reached.
    pub fn apply(&self, map: &RingMap) -> Option<RingMap> {
        if self.cluster != map.cluster
            || self.generation != map.generation
            || self.from != map.ver
            || self.ver <= map.ver
            || self.epoch < map.epoch
            || self.next_mid < map.next_mid
            || self.voters_since < map.voters_since
            || (self.voters_since == map.voters_since && self.voters != map.voters)
        {
            return None;
        }
        let mut next = map.clone();
        next.ver = self.ver;
        next.epoch = self.epoch;
        next.required = self.required;
        next.next_mid = self.next_mid;
        next.voters.clone_from(&self.voters);
        next.voters_since = self.voters_since;
        if let Some(members) = &self.members {
            next.members.clone_from(members);
        }
        for (pid, part) in &self.parts {
            let row = next.parts.get_mut(pid.0 as usize)?;
            if part.cfg < row.cfg || part.resets < row.resets {
                return None; // Accepted, it would unfence what an older configuration sent.
            }
            row.clone_from(part);
        }
        next.check_invariants().ok()?;
        Some(next)
    }
}
