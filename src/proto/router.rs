//! The client's side: whom to ask, and what to do with the answer.
//!
//! One [`Attempt`] accompanies one operation from its first message to its end. The rule that
//! everything rests on: a message is sent once, and an answer "not executed" to it is proof; so a
//! write is sent again only after such a proof, and a write without an answer is *unknown*.

use std::time::Duration;

use crate::base::{MemberId, Nanos, Rng, Ver};
use crate::ring::{Hasher, RingMap};
use crate::wire::{Op, Reply};

const BACKOFF_MS_MIN: u64 = 2;
const BACKOFF_MS_MAX: u64 = 50;

/// What to do next about an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The reply is final: hand it to the caller.
    Done,
    /// Send the operation again, as a new message, not before this moment.
    Again {
        /// When.
        at: Nanos,
        /// Whom, if the answer named somebody; else whom the map names.
        hint: Option<MemberId>,
        /// Get a newer map before: the answerer had one, or the answerer could not be reached.
        refresh: bool,
    },
    /// It may have taken effect or not, and nobody can tell.
    Unknown,
}

/// The state of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    is_mutation: bool,
    refusals: u32,
}

impl Attempt {
    /// Before the first message of `op`.
    pub fn new(op: &Op<'_>) -> Self {
        Self { is_mutation: op.is_mutation(), refusals: 0 }
    }

    /// An answer came. `map_ver` is the version that the message was routed by.
    pub fn on_reply(&mut self, reply: &Reply<'_>, map_ver: Ver, now: Nanos, rng: &mut Rng) -> Next {
        match reply {
            Reply::Retry { primary, map_ver: theirs } => {
                let newer = *theirs > map_ver;
                let hint = (*primary != MemberId::ZERO && newer).then_some(*primary);
                self.again(hint, newer, now, rng)
            }
            Reply::NoRing => self.again(None, true, now, rng),
            Reply::Unknown if !self.is_mutation => self.again(None, false, now, rng),
            Reply::Unknown => Next::Unknown,
            _ => Next::Done,
        }
    }

    /// The connection broke, or could not be made. `sent`: the message may have left.
    pub fn on_lost(&mut self, sent: bool, now: Nanos, rng: &mut Rng) -> Next {
        match sent && self.is_mutation {
            true => Next::Unknown,
            false => self.again(None, true, now, rng),
        }
    }

    /// A hint costs nothing to follow at once; without one, waiting gets longer each time.
    fn again(&mut self, hint: Option<MemberId>, refresh: bool, now: Nanos, rng: &mut Rng) -> Next {
        self.refusals += 1;
        let at = if hint.is_some() && self.refusals == 1 {
            now
        } else {
            let ceiling = (BACKOFF_MS_MIN << self.refusals.min(6)).min(BACKOFF_MS_MAX);
            let wait_us = rng.range(BACKOFF_MS_MIN * 500, ceiling * 1000);
            now + Duration::from_micros(wait_us)
        };
        Next::Again { at, hint, refresh }
    }
}

/// Who executes `op` by this map.
pub fn primary_of(map: &RingMap, op: &Op<'_>) -> Option<MemberId> {
    let params = &map.params;
    let pid = match op {
        Op::Scan { pid, .. } => *pid,
        _ => Hasher::new(params.hash, params.seed, params.partitions).partition(op.key()?),
    };
    map.part(pid).map(|part| part.primary)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT: Op<'static> = Op::Put { key: b"k", value: b"v", ttl_ms: 0, if_absent: false };
    const GET: Op<'static> = Op::Get { key: b"k" };

    #[test]
    fn a_write_is_sent_again_only_after_proof_that_it_was_not_executed() {
        let mut rng = Rng::new(1);
        let now = Nanos(7);
        assert_eq!(Attempt::new(&PUT).on_lost(true, now, &mut rng), Next::Unknown);
        assert!(matches!(Attempt::new(&PUT).on_lost(false, now, &mut rng), Next::Again { .. }));
        let retry = Reply::Retry { primary: MemberId(2), map_ver: Ver(9) };
        let next = Attempt::new(&PUT).on_reply(&retry, Ver(8), now, &mut rng);
        assert_eq!(next, Next::Again { at: now, hint: Some(MemberId(2)), refresh: true });
        let next = Attempt::new(&PUT).on_reply(&Reply::Unknown, Ver(8), now, &mut rng);
        assert_eq!(next, Next::Unknown);
    }

    #[test]
    fn a_read_is_always_sent_again() {
        let mut rng = Rng::new(1);
        assert!(matches!(
            Attempt::new(&GET).on_lost(true, Nanos(0), &mut rng),
            Next::Again { refresh: true, .. }
        ));
        assert!(matches!(
            Attempt::new(&GET).on_reply(&Reply::Unknown, Ver(1), Nanos(0), &mut rng),
            Next::Again { .. }
        ));
    }

    #[test]
    fn waiting_grows_and_is_bounded() {
        let mut rng = Rng::new(3);
        let mut attempt = Attempt::new(&PUT);
        for _ in 0..100 {
            let stale = Reply::Retry { primary: MemberId::ZERO, map_ver: Ver(1) };
            let Next::Again { at, .. } = attempt.on_reply(&stale, Ver(1), Nanos(0), &mut rng)
            else {
                panic!("a refusal is never final");
            };
            assert!(at.0 <= BACKOFF_MS_MAX * 1_000_000);
        }
    }
}
