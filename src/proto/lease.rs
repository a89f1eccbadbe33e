//! Leases between members: what lets a primary answer a read without asking anybody.
//!
//! A member that backs up a primary promises it, for all partitions that they share: whatever map
//! I adopt from now on, I will not *serve* as a successor of yours before the lease that you have
//! from me has run out (E1). Only in-sync replicas are ever promoted, so a primary that holds a
//! lease from each of them is alone (R1). Nothing has to be asked of the coordinator, and nobody
//! has to be told that a lease ended: both sides count for themselves.
//!
//! - The one who is asked records the promise by *its* clock, for longer than the asker will count
//!   on it by its own: clocks may run 10 % too fast or too slow.
//! - The asker counts from the moment it *sent* the question (E2).
//! - Each lease bears the newest epoch that its giver knows of. A primary that has not caught up
//!   with that epoch may be deposed without knowing it, so it does not count such a lease (E1).
//! - Leases are asked for by barriers, and then by heartbeats for as long as reads come (E5, E6): a
//!   ring that nobody reads from gives none, and its failovers wait for none.

use std::collections::BTreeMap;
use std::time::Duration;

use super::mutants::{self, Mutant};
use crate::base::{MemberId, Nanos, Ver};

/// How long a lease counts, from when it was asked for.
const LEASE: Duration = Duration::from_millis(350);
/// How much faster or slower than real time a clock may run.
const DRIFT_PERCENT: u64 = 10;
/// How long the giver keeps its promise: by its clock, longer than any asker's `LEASE`.
const PROMISE: Duration =
    Duration::from_millis(350 * (100 + DRIFT_PERCENT) / (100 - DRIFT_PERCENT) + 6);
/// Heartbeats ask for leases for this long after a read needed them last.
const WANTED_FOR: Duration = Duration::from_millis(800);

const _: () = assert!(PROMISE.as_millis() >= 350 * 110 / 90 + 5);
const _: () = assert!(WANTED_FOR.as_millis() > 2 * LEASE.as_millis());

/// The leases of one member: those it has given, and those it was given.
///
/// - `promised` and `known_epoch` never decrease.
/// - `followed_epoch <= known_epoch`.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// Until when I do not serve as the successor of whom.
    promised: BTreeMap<MemberId, Nanos>,
    /// The newest epoch that this member has heard of, by a map or by a message of a replica.
    known_epoch: Ver,
    /// Every replica of this member follows the maps up to this epoch.
    followed_epoch: Ver,
    held: BTreeMap<MemberId, Lease>,
    /// Until when heartbeats ask that member for a lease.
    wanted: BTreeMap<MemberId, Nanos>,
    /// Always empty, but under the mutant that records promises late.
    unrecorded: Option<(MemberId, Nanos)>,
}

/// A lease that I was given.
#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    until: Nanos,
    epoch: Ver,
}

impl Leases {
    /// Gives `to` a lease; the epoch to stamp the answer with. `now` must be sampled after the
    /// question was received, and the answer sent after this.
    pub fn give(&mut self, to: MemberId, now: Nanos) -> Ver {
        let kept = if mutants::on(Mutant::PromiseShort) { LEASE } else { PROMISE };
        let mut promise = Some((to, now + kept));
        if mutants::on(Mutant::PromiseLate) {
            std::mem::swap(&mut promise, &mut self.unrecorded);
        }
        if let Some((to, promised)) = promise {
            let until = self.promised.entry(to).or_default();
            *until = (*until).max(promised);
        }
        self.known_epoch
    }

    /// When every promise has run out: for who does not know who was primary before it (N1).
    pub fn promised_until(&self) -> Nanos {
        self.promised.values().copied().max().unwrap_or_default()
    }

    /// A newer epoch was heard of. Before a map is followed, and when a replica is told of a
    /// configuration before the map is.
    pub fn hear_of(&mut self, epoch: Ver) {
        self.known_epoch = self.known_epoch.max(epoch);
    }

    /// Every replica of this member follows the maps up to `epoch` now.
    pub fn follow(&mut self, epoch: Ver) {
        self.hear_of(epoch);
        self.followed_epoch = self.followed_epoch.max(epoch);
    }

    /// `from` gave a lease, as the answer to a question sent at `asked_at`.
    pub fn receive(&mut self, from: MemberId, asked_at: Nanos, epoch: Ver) {
        let lease = Lease { until: asked_at + LEASE, epoch };
        let held = self.held.entry(from).or_default();
        if lease.until > held.until {
            *held = lease;
        }
    }

    /// Until when the leases of all these members count; zero if one of them does not count now.
    /// A lease that counts once counts until then, whatever happens. Notes that they are needed.
    pub fn until(&mut self, members: &[MemberId], now: Nanos) -> Nanos {
        for mid in members {
            self.wanted.insert(*mid, now + WANTED_FOR);
        }
        self.valid_until(members, now)
    }

    /// The same without noting anything; for tests and the simulator (I1).
    pub fn valid_until(&self, members: &[MemberId], now: Nanos) -> Nanos {
        let of = |mid: &MemberId| {
            let held = self.held.get(mid).copied().unwrap_or_default();
            let epoch = match mutants::on(Mutant::ControlEpoch) {
                true => self.known_epoch,
                false => self.followed_epoch,
            };
            let knows = held.epoch <= epoch || mutants::on(Mutant::NoEpoch);
            let counts = knows && held.until > now;
            if counts { held.until } else { Nanos::ZERO }
        };
        members.iter().map(of).min().unwrap_or(Nanos::NEVER)
    }

    /// Until when the lease of `from` counts, if its epoch does (I9).
    pub fn held_until(&self, from: MemberId) -> Nanos {
        self.held.get(&from).map_or(Nanos::ZERO, |lease| lease.until)
    }

    /// Until when `to` was promised that I do not take its place (N1, I9).
    pub fn promised_to(&self, to: MemberId) -> Nanos {
        self.promised.get(&to).copied().unwrap_or_default()
    }

    /// Whether a heartbeat to `mid` should ask for a lease.
    pub fn wants(&self, mid: MemberId, now: Nanos) -> bool {
        self.wanted.get(&mid).is_some_and(|until| *until > now)
    }

    /// The newest epoch that this member has heard of.
    pub fn known_epoch(&self) -> Ver {
        self.known_epoch
    }

    /// Forgets what has run out.
    pub fn tidy(&mut self, now: Nanos) {
        self.promised.retain(|_, until| *until > now);
        self.held.retain(|_, lease| lease.until > now);
        self.wanted.retain(|_, until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MemberId = MemberId(1);
    const B: MemberId = MemberId(2);

    fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for_and_ends_before_the_promise() {
        let mut leases = Leases::default();
        assert_eq!(leases.until(&[A], ms(0)), Nanos::ZERO);
        leases.receive(A, ms(10), Ver(0));
        assert_eq!(leases.until(&[A], ms(300)), ms(360));
        assert_eq!(leases.until(&[A], ms(360)), Nanos::ZERO);
        let mut giver = Leases::default();
        giver.give(B, ms(10));
        // The asker's clock may lag by the drift, the giver's hurry by as much.
        assert!(giver.promised_until().0 - ms(10).0 > 350_000_000 * 110 / 90);
    }

    #[test]
    fn every_member_that_is_needed_must_have_given_one() {
        let mut leases = Leases::default();
        leases.receive(A, ms(0), Ver(0));
        assert_eq!(leases.until(&[A, B], ms(1)), Nanos::ZERO);
        leases.receive(B, ms(5), Ver(0));
        assert_eq!(leases.until(&[A, B], ms(6)), ms(350), "the shortest counts");
        assert_eq!(leases.until(&[], ms(6)), Nanos::NEVER);
    }

    #[test]
    fn a_lease_from_somebody_who_knows_more_does_not_count_until_the_map_is_followed() {
        let mut leases = Leases::default();
        leases.receive(A, ms(0), Ver(7));
        leases.hear_of(Ver(7));
        assert_eq!(leases.until(&[A], ms(1)), Nanos::ZERO, "known is not followed");
        leases.follow(Ver(7));
        assert_eq!(leases.until(&[A], ms(1)), ms(350));
    }

    #[test]
    fn the_longest_promise_counts_until_it_has_run_out() {
        let mut leases = Leases::default();
        leases.hear_of(Ver(3));
        assert_eq!(leases.give(A, ms(0)), Ver(3));
        leases.give(B, ms(100));
        let until = leases.promised_until();
        assert!(until > ms(100 + 427));
        leases.tidy(ms(450));
        assert_eq!(leases.promised_until(), until);
        leases.tidy(until);
        assert_eq!(leases.promised_until(), Nanos::ZERO);
    }

    #[test]
    fn heartbeats_ask_for_what_reads_needed_lately() {
        let mut leases = Leases::default();
        assert!(!leases.wants(A, ms(0)));
        leases.until(&[A], ms(0));
        assert!(leases.wants(A, ms(700)));
        assert!(!leases.wants(A, ms(801)));
    }
}
