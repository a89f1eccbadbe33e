//! The table that `balanced` works on: who holds what, indexed both ways.

use std::collections::BTreeMap;

use super::{Candidate, PARTNERS_WANTED};
use crate::base::limits::COPIES_MAX;

/// No member, where a place is empty.
const NOBODY: u32 = u32::MAX;

/// Holders of one partition, as indices into the sorted members.
#[derive(Clone, Copy, Default)]
pub(super) struct Row {
    members: [u32; COPIES_MAX],
    /// Where this partition stands in `held` of the member beside it.
    at: [u32; COPIES_MAX],
    len: u8,
}

impl Row {
    pub(super) fn members(&self) -> &[u32] {
        &self.members[..usize::from(self.len)]
    }

    pub(super) fn contains(&self, member: u32) -> bool {
        self.members().contains(&member)
    }

    pub(super) fn slot_of(&self, member: u32) -> Option<usize> {
        self.members().iter().position(|m| *m == member)
    }
}

/// What it costs to put two copies on one host, on the scale of [`Layout::cost`]; all that is
/// less than half of it in either direction is only about partners.
pub(super) const HOST_COST: i64 = 1 << 12;

/// Where a member stands, as far as separation goes.
///
/// Hosts are numbered within zones: two members of one `host` are always of one `zone`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) zone: u32,
    pub(super) host: u32,
}

/// The holders of every partition while they are being decided.
///
/// Invariants: no row has a member twice or more than `copies` of them; `held[m]` lists exactly
/// the rows that contain `m`; `shared` counts, for each two members, the rows that contain both.
pub(super) struct Layout {
    pub(super) copies: usize,
    pub(super) rows: Vec<Row>,
    pub(super) held: Vec<Vec<u32>>,
    pub(super) places: Vec<Place>,
    /// The holders that have the data already, whether they keep it or not.
    origins: Vec<[u32; COPIES_MAX]>,
    shared: Vec<u32>,
    partners: Vec<u32>,
}

impl Layout {
    pub(super) fn new(partitions: usize, copies: usize, members: &[&Candidate]) -> Self {
        debug_assert!(0 < copies && copies <= members.len() && copies <= COPIES_MAX);
        let count = members.len();
        Self {
            copies,
            rows: vec![Row::default(); partitions],
            held: vec![Vec::new(); count],
            places: places_of(members),
            origins: vec![[NOBODY; COPIES_MAX]; partitions],
            shared: vec![0; count * count],
            partners: vec![0; count],
        }
    }

    /// Enters a holder that has the data already. The row must have room and lack it.
    pub(super) fn add_original(&mut self, pid: u32, member: u32) {
        let slot = self.rows[pid as usize].members().len();
        self.origins[pid as usize][slot] = member;
        self.add(pid, member);
    }

    /// Gives a copy to `member`. The row must have room and lack it.
    pub(super) fn add(&mut self, pid: u32, member: u32) {
        let row = &mut self.rows[pid as usize];
        let slot = usize::from(row.len);
        debug_assert!(slot < self.copies);
        row.len += 1;
        self.occupy(pid, slot, member);
    }

    /// Whether `member` had the data of `pid` from the beginning.
    pub(super) fn had(&self, pid: u32, member: u32) -> bool {
        self.origins[pid as usize].contains(&member)
    }

    /// How many copies more have to move if `to` takes the place of `from`: -1, 0 or 1.
    pub(super) fn moves(&self, pid: u32, from: u32, to: u32) -> i64 {
        i64::from(self.had(pid, from)) - i64::from(self.had(pid, to))
    }

    /// Puts `member` in the place of the holder in `slot`.
    pub(super) fn replace(&mut self, pid: u32, slot: usize, member: u32) {
        debug_assert!(slot < self.rows[pid as usize].members().len());
        self.vacate(pid, slot);
        self.occupy(pid, slot, member);
    }

    /// Swaps the holder in `slot` of one row with the one in `other_slot` of another row.
    pub(super) fn swap(&mut self, pid: u32, slot: usize, other_pid: u32, other_slot: usize) {
        let member = self.rows[pid as usize].members[slot];
        let other = self.rows[other_pid as usize].members[other_slot];
        self.replace(pid, slot, other);
        self.replace(other_pid, other_slot, member);
    }

    /// How much worse the ring gets if `member` takes the place of the holder in `slot` (or a
    /// free place): zones first, then hosts, then partners; negative if it gets better.
    pub(super) fn cost(&self, pid: u32, slot: Option<usize>, member: u32) -> i64 {
        const ZONE: i64 = HOST_COST << 8;
        const HOST: i64 = HOST_COST;
        const PARTNER: i64 = 1 << 1;
        let row = &self.rows[pid as usize];
        let gone = slot.map(|slot| row.members[slot]);
        let mut cost = i64::from(slot == Some(0)); // Where all else is equal, spare the primary.
        for (at, other) in row.members().iter().copied().enumerate() {
            if Some(at) == slot {
                continue;
            }
            let place = self.places[other as usize];
            let new = self.places[member as usize];
            cost += ZONE * i64::from(new.zone == place.zone);
            cost += HOST * i64::from(new.host == place.host);
            if self.shared[self.pair(member, other)] == 0 {
                cost += PARTNER * i64::from(self.is_social(member) || self.is_social(other));
            }
            if let Some(gone) = gone {
                let old = self.places[gone as usize];
                cost -= ZONE * i64::from(old.zone == place.zone);
                cost -= HOST * i64::from(old.host == place.host);
                if self.shared[self.pair(gone, other)] == 1 {
                    cost -= PARTNER * i64::from(self.is_crowded(gone) || self.is_crowded(other));
                }
            }
        }
        cost
    }

    /// Whether some partition has two copies in one zone or on one host though there are several.
    pub(super) fn has_neighbours(&self) -> bool {
        let several = self.places.iter().any(|place| *place != self.places[0]);
        several
            && self.rows.iter().any(|row| {
                row.members().iter().enumerate().any(|(at, member)| {
                    let place = self.places[*member as usize];
                    row.members()[..at].iter().any(|m| self.places[*m as usize].zone == place.zone)
                })
            })
    }

    /// How many pairs of holders share a zone, the one in `slot` left aside.
    pub(super) fn neighbours_without(&self, pid: u32, slot: usize) -> i64 {
        let members = self.rows[pid as usize].members();
        let zone = |at: usize| self.places[members[at] as usize].zone;
        let others = || (0..members.len()).filter(|at| *at != slot);
        let pairs = others().map(|at| others().filter(|b| *b < at && zone(*b) == zone(at)).count());
        pairs.sum::<usize>() as i64
    }

    /// It has as many partners as it should have.
    fn is_social(&self, member: u32) -> bool {
        self.partners[member as usize] as usize >= PARTNERS_WANTED
    }

    /// It has more partners than it should have.
    fn is_crowded(&self, member: u32) -> bool {
        self.partners[member as usize] as usize > PARTNERS_WANTED
    }

    fn pair(&self, one: u32, other: u32) -> usize {
        one as usize * self.held.len() + other as usize
    }

    fn occupy(&mut self, pid: u32, slot: usize, member: u32) {
        let row = &mut self.rows[pid as usize];
        row.members[slot] = member;
        row.at[slot] = self.held[member as usize].len() as u32;
        self.held[member as usize].push(pid);
        for (at, other) in self.rows[pid as usize].members.into_iter().enumerate() {
            if at == slot || at >= usize::from(self.rows[pid as usize].len) {
                continue;
            }
            debug_assert_ne!(other, member, "a member holds a partition once");
            for pair in [self.pair(member, other), self.pair(other, member)] {
                self.shared[pair] += 1;
            }
            if self.shared[self.pair(member, other)] == 1 {
                self.partners[member as usize] += 1;
                self.partners[other as usize] += 1;
            }
        }
    }

    /// Takes the holder out of the tables. The row keeps a stale entry, to be occupied at once.
    fn vacate(&mut self, pid: u32, slot: usize) {
        let row = self.rows[pid as usize];
        let member = row.members[slot];
        let at = row.at[slot] as usize;
        let held = &mut self.held[member as usize];
        held.swap_remove(at);
        if let Some(moved) = held.get(at).copied() {
            let moved = &mut self.rows[moved as usize];
            if let Some(slot) = moved.slot_of(member) {
                moved.at[slot] = at as u32;
            }
        }
        for (other_slot, other) in row.members().iter().copied().enumerate() {
            if other_slot == slot {
                continue;
            }
            for pair in [self.pair(member, other), self.pair(other, member)] {
                self.shared[pair] -= 1;
            }
            if self.shared[self.pair(member, other)] == 0 {
                self.partners[member as usize] -= 1;
                self.partners[other as usize] -= 1;
            }
        }
    }

    /// What must hold after every step.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        for (pid, row) in self.rows.iter().enumerate() {
            for (slot, member) in row.members().iter().enumerate() {
                assert!(!row.members()[..slot].contains(member));
                assert_eq!(self.held[*member as usize][row.at[slot] as usize], pid as u32);
            }
        }
        let held: usize = self.held.iter().map(Vec::len).sum();
        assert_eq!(held, self.rows.iter().map(|row| row.members().len()).sum::<usize>());
    }
}

/// Numbers zones and, within them, hosts. A member without a zone is in a zone of its host.
fn places_of(members: &[&Candidate]) -> Vec<Place> {
    let mut zones = BTreeMap::new();
    let mut hosts = BTreeMap::new();
    members
        .iter()
        .map(|member| {
            let own = member.zone.is_empty();
            let zone = (own, if own { &member.host } else { &member.zone });
            let next = zones.len() as u32;
            let zone = *zones.entry(zone).or_insert(next);
            let next = hosts.len() as u32;
            let host = *hosts.entry((zone, &member.host)).or_insert(next);
            Place { zone, host }
        })
        .collect()
}
