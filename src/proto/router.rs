//! The client's side: whom to ask, and what to do with the answer.
//!
//! One [`Attempt`] accompanies one operation from its first message to its end. A mutation bears
//! the number of a session ([`ClientSessions`](super::session::ClientSessions)), so it is sent
//! again whenever its fate is open: whoever has executed it answers the same again. What an attempt
//! keeps count of is proof. An answer "not executed" proves that for the message that it answers
//! and for no other (S5), so an operation was not executed only if each of its messages was refused
//! or never left; else its fate is open until it is answered, and *unknown* at its deadline.

use std::time::Duration;

use super::mutants::{self, Mutant};
use super::session::{End, Ticket};
use crate::base::{MemberId, Nanos, PartitionId, Rng, Ver};
use crate::ring::{Hasher, RingMap};
use crate::wire::{Op, Reply, Request, Session};

const BACKOFF_MS_MIN: u64 = 2;
const BACKOFF_MS_MAX: u64 = 50;
/// A write that finds too few copies is tried again that often, about a second in all: after a
/// crash further copies are made within that time, or not before an operator adds a node.
const TRIES_MAX_WITH_FEW_COPIES: u32 = 40;

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

/// What a message of an operation says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which message of the operation it is, from 0.
    pub attempt: u8,
    /// It may open its session.
    pub opens: bool,
    /// Which operation of which session.
    pub session: Session,
}

impl Stamp {
    /// Puts it on a request.
    pub fn on<'a>(&self, request: Request<'a>) -> Request<'a> {
        let Self { attempt, opens, session } = *self;
        Request { attempt, opens, session, ..request }
    }
}

/// The state of one operation.
///
/// - A mutation has a ticket whenever a message of it is under way.
/// - `spent` is there only with a ticket, until both are taken.
/// - `open` is at most the number of messages sent.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    is_mutation: bool,
    refusals: u32,
    /// Messages sent with this ticket.
    sent: u32,
    /// Messages that may be executed: nobody has said that they are not.
    open: u32,
    ticket: Option<Ticket>,
    /// The ticket is to be given back, for that reason.
    spent: Option<End>,
}

impl Attempt {
    /// Before the first message of `op`.
    pub fn new(op: &Op<'_>) -> Self {
        Self {
            is_mutation: op.is_mutation(),
            refusals: 0,
            sent: 0,
            open: 0,
            ticket: None,
            spent: None,
        }
    }

    /// Whether it needs a number of a session before its next message.
    pub fn needs_ticket(&self) -> bool {
        self.is_mutation && (self.ticket.is_none() || self.spent.is_some())
    }

    /// Gives it its number.
    pub fn set_ticket(&mut self, ticket: Ticket) {
        debug_assert!(self.ticket.is_none() && self.open == 0, "a number for life: {self:?}");
        self.ticket = Some(ticket);
        self.sent = 0;
    }

    /// A message of it is about to be sent: what that has to say.
    pub fn send(&mut self) -> Stamp {
        debug_assert!(!self.needs_ticket(), "a mutation is never sent without a number");
        let attempt = u8::try_from(self.sent).unwrap_or(u8::MAX);
        self.sent = self.sent.saturating_add(1);
        self.open = self.open.saturating_add(1);
        let session = self.ticket.map_or(Session::default(), |ticket| ticket.session);
        // S1b: one message of one operation of a session opens it.
        Stamp { attempt, opens: attempt == 0 && session.number == 1, session }
    }

    /// A ticket to be given back, and why. Ask after each answer and each loss.
    pub fn take_spent(&mut self) -> Option<(Ticket, End)> {
        let end = self.spent.take()?;
        Some((self.ticket.take()?, end))
    }

    /// An answer came to its last message. `map_ver` is the version that the message was routed by.
    pub fn on_reply(&mut self, reply: &Reply<'_>, map_ver: Ver, now: Nanos, rng: &mut Rng) -> Next {
        match reply {
            Reply::Retry { primary, map_ver: theirs } => {
                let newer = *theirs > map_ver;
                let hint = (*primary != MemberId::ZERO && newer).then_some(*primary);
                self.refused();
                self.again(hint, newer, now, rng)
            }
            Reply::NoRing => {
                self.refused();
                self.again(None, true, now, rng)
            }
            Reply::Unknown => self.again(None, self.is_mutation, now, rng),
            Reply::SessionUnknown => self.on_session_unknown(now),
            Reply::NotEnoughReplicas { .. } if self.refusals < TRIES_MAX_WITH_FEW_COPIES => {
                self.refused();
                self.again(None, false, now, rng)
            }
            Reply::Busy
            | Reply::NotEnoughReplicas { .. }
            | Reply::ValueTooLarge { .. }
            | Reply::OutOfMemory => {
                self.refused();
                match self.may_be_executed() {
                    true => self.again(None, false, now, rng),
                    false => self.end(End::Abandoned, Next::Done),
                }
            }
            // S5: nothing will ever be known about it.
            Reply::DataLost { .. } => self.end(End::Abandoned, Next::Done),
            _ => self.end(End::Executed, Next::Done),
        }
    }

    /// The connection broke, or could not be made. `sent`: the message may have left.
    pub fn on_lost(&mut self, sent: bool, now: Nanos, rng: &mut Rng) -> Next {
        if !sent {
            self.refused();
        }
        self.again(None, true, now, rng)
    }

    /// Nobody waits for it any more.
    pub fn give_up(&mut self) {
        self.end(End::Abandoned, Next::Unknown);
    }

    /// Whether it is a mutation that may have been executed, or may still be.
    pub fn may_be_executed(&self) -> bool {
        self.is_mutation && self.open > 0
    }

    /// The last message was not executed and never will be.
    fn refused(&mut self) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 && self.ticket.is_some_and(|ticket| ticket.session.number == 1) {
            // Nothing of the session was executed or ever will be, but its one opening message is
            // gone. The operation goes on in another one.
            self.spent = Some(End::Abandoned);
        }
    }

    /// S6': proof for the message that was answered. If it is the only one that is not proven,
    /// the operation was not executed, and begins anew in another session.
    fn on_session_unknown(&mut self, now: Nanos) -> Next {
        self.open = self.open.saturating_sub(1);
        if mutants::on(Mutant::Reissue) {
            self.open = 0;
        }
        if self.open > 0 {
            return self.end(End::SessionUnknown, Next::Unknown);
        }
        self.refusals += 1;
        self.end(End::SessionUnknown, Next::Again { at: now, hint: None, refresh: false })
    }

    fn end(&mut self, end: End, next: Next) -> Next {
        self.spent = self.ticket.map(|_| end);
        next
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
    map.part(partition_of(map, op)?).map(|part| part.primary)
}

/// Which partition of the ring `op` is about.
pub fn partition_of(map: &RingMap, op: &Op<'_>) -> Option<PartitionId> {
    let params = &map.params;
    match op {
        Op::Scan { pid, .. } => Some(*pid),
        _ => {
            let hasher = Hasher::new(params.hash, params.seed, params.partitions);
            op.key().map(|key| hasher.partition(key))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT: Op<'static> = Op::Put { key: b"k", value: b"v", ttl_ms: 0, if_absent: false };
    const GET: Op<'static> = Op::Get { key: b"k" };
    const NOW: Nanos = Nanos(7);

    fn ticket(number: u64) -> Ticket {
        Ticket { pid: PartitionId(1), session: Session { sid: 5, number, floor: number } }
    }

    /// A put whose number is `number` after its first message.
    fn sent(number: u64) -> Attempt {
        let mut attempt = Attempt::new(&PUT);
        attempt.set_ticket(ticket(number));
        let stamp = attempt.send();
        assert_eq!((stamp.attempt, stamp.opens), (0, number == 1));
        attempt
    }

    fn hear(attempt: &mut Attempt, reply: &Reply<'_>) -> Next {
        attempt.on_reply(reply, Ver(8), NOW, &mut Rng::new(1))
    }

    const RETRY: Reply<'static> = Reply::Retry { primary: MemberId(2), map_ver: Ver(9) };

    #[test]
    fn a_write_without_an_answer_is_sent_again_under_its_number() {
        let mut attempt = sent(4);
        assert!(matches!(attempt.on_lost(true, NOW, &mut Rng::new(1)), Next::Again { .. }));
        assert_eq!(attempt.take_spent(), None);
        assert!(!attempt.needs_ticket() && attempt.may_be_executed());
        let stamp = attempt.send();
        assert_eq!((stamp.attempt, stamp.opens, stamp.session), (1, false, ticket(4).session));
        assert!(matches!(hear(&mut attempt, &Reply::Unknown), Next::Again { refresh: true, .. }));
        assert_eq!(attempt.send().attempt, 2);
        assert_eq!(hear(&mut attempt, &Reply::Done), Next::Done);
        assert_eq!(attempt.take_spent(), Some((ticket(4), End::Executed)));
    }

    /// S1b: the message that opens is sent once, also if it never left.
    #[test]
    fn a_refused_opening_goes_on_in_another_session() {
        for lost in [true, false] {
            let mut attempt = sent(1);
            let next = match lost {
                true => attempt.on_lost(false, NOW, &mut Rng::new(1)),
                false => hear(&mut attempt, &RETRY),
            };
            assert!(matches!(next, Next::Again { .. }));
            assert_eq!(attempt.take_spent(), Some((ticket(1), End::Abandoned)));
            assert!(attempt.needs_ticket() && !attempt.may_be_executed());
        }
        let mut attempt = sent(1);
        attempt.on_lost(true, NOW, &mut Rng::new(1));
        assert!(!attempt.send().opens, "a message of it may still open its session");
    }

    /// S5: what is said of a later message proves nothing about an earlier one.
    #[test]
    fn a_refusal_is_final_only_if_every_message_was_refused() {
        let mut attempt = sent(4);
        assert_eq!(hear(&mut attempt, &Reply::Busy), Next::Done);
        assert!(!attempt.may_be_executed());
        for reply in [Reply::Busy, Reply::NotEnoughReplicas { have: 1, need: 2 }, RETRY] {
            let mut attempt = sent(4);
            attempt.on_lost(true, NOW, &mut Rng::new(1));
            attempt.send();
            assert!(matches!(hear(&mut attempt, &reply), Next::Again { .. }), "{reply:?}");
            assert!(attempt.may_be_executed());
        }
    }

    #[test]
    fn a_write_waits_a_while_for_further_copies() {
        let few = Reply::NotEnoughReplicas { have: 1, need: 2 };
        let mut attempt = sent(4);
        for _ in 0..TRIES_MAX_WITH_FEW_COPIES {
            assert!(matches!(hear(&mut attempt, &few), Next::Again { refresh: false, .. }));
            attempt.send();
        }
        assert_eq!(hear(&mut attempt, &few), Next::Done);
        assert!(!attempt.may_be_executed());
    }

    /// S6', and the hole `sessrename`.
    #[test]
    fn an_operation_is_renamed_only_if_each_of_its_messages_was_refused() {
        let mut attempt = sent(4);
        let next = hear(&mut attempt, &Reply::SessionUnknown);
        assert_eq!(next, Next::Again { at: NOW, hint: None, refresh: false });
        assert_eq!(attempt.take_spent(), Some((ticket(4), End::SessionUnknown)));
        assert!(attempt.needs_ticket());
        let mut attempt = sent(4);
        attempt.on_lost(true, NOW, &mut Rng::new(1));
        attempt.send();
        assert_eq!(hear(&mut attempt, &Reply::SessionUnknown), Next::Unknown);
        assert!(attempt.may_be_executed());
        assert_eq!(attempt.take_spent(), Some((ticket(4), End::SessionUnknown)));
    }

    #[test]
    fn who_gives_up_returns_the_number() {
        let mut attempt = sent(4);
        attempt.give_up();
        assert_eq!(attempt.take_spent(), Some((ticket(4), End::Abandoned)));
        assert!(attempt.may_be_executed());
    }

    #[test]
    fn a_read_is_always_sent_again() {
        let mut attempt = Attempt::new(&GET);
        assert!(!attempt.needs_ticket());
        assert_eq!(attempt.send().session, Session::default());
        let lost = attempt.on_lost(true, NOW, &mut Rng::new(1));
        assert!(matches!(lost, Next::Again { refresh: true, .. }));
        attempt.send();
        assert!(matches!(hear(&mut attempt, &Reply::Unknown), Next::Again { .. }));
        assert!(!attempt.may_be_executed());
        attempt.send();
        let crowded = hear(&mut attempt, &Reply::Busy);
        assert!(matches!(crowded, Next::Done), "{crowded:?}");
    }

    #[test]
    fn waiting_grows_and_is_bounded() {
        let mut rng = Rng::new(3);
        let mut attempt = sent(2);
        for _ in 0..100 {
            let stale = Reply::Retry { primary: MemberId::ZERO, map_ver: Ver(1) };
            let Next::Again { at, .. } = attempt.on_reply(&stale, Ver(1), Nanos(0), &mut rng)
            else {
                panic!("a refusal is never final");
            };
            attempt.send();
            assert!(at.0 <= BACKOFF_MS_MAX * 1_000_000);
        }
    }
}
