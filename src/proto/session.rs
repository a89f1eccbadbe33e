//! The client's side of sessions: names and numbers for mutations, so that one may be sent again
//! without being executed again (S1a, S1b, S3, S6').
//!
//! A client has one session at each partition. It begins with the first mutation there, whose first
//! message opens it; the others wait until that one is answered, then up to 64 are under way at the
//! same time. When the ring has forgotten the session (it was idle for long), or the fate of its
//! first operation stays unknown, a new one is drawn: a name is never opened twice.
//!
//! The name comes from the caller's generator, which must be the operating system's: two clients
//! with the same name would get each other's answers. After a fork only one side may go on.

use hashbrown::HashTable;

use crate::base::PartitionId;
use crate::base::limits::SESSION_WINDOW_MAX;
use crate::wire::Session;

/// The sessions of one client, which may be many threads.
#[derive(Debug, Default)]
pub struct ClientSessions {
    slots: HashTable<Slot>,
}

/// A number that was given to an operation. Give it back with [`ClientSessions::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a number that is not given back blocks its session"]
pub struct Ticket {
    /// Where.
    pub pid: PartitionId,
    /// What the messages of the operation bear.
    pub session: Session,
}

/// How an operation with a number ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was executed, so its session exists.
    Executed,
    /// It was not executed, or nobody knows.
    Abandoned,
    /// The ring does not know its session.
    SessionUnknown,
}

/// The session at one partition.
///
/// - `floor <= next <= floor + 64`; bit `i` of `open` is number `floor + i`.
/// - Bit 0 is set unless no number is out (`floor == next`).
#[derive(Debug)]
struct Slot {
    pid: PartitionId,
    sid: u128,
    /// It exists: an operation of it was executed.
    established: bool,
    next: u64,
    floor: u64,
    open: u64,
}

impl Slot {
    fn new(pid: PartitionId, sid: u128) -> Self {
        // Zero would be no session at all.
        Self { pid, sid: sid.max(1), established: false, next: 1, floor: 1, open: 0 }
    }
}

impl ClientSessions {
    /// A number for the next mutation at a partition; `None` if it has to wait, because the session
    /// is being opened or its window is full. `draw` is asked for the name of a new session.
    pub fn begin(&mut self, pid: PartitionId, draw: impl FnOnce() -> u128) -> Option<Ticket> {
        let found = self.slots.entry(hash(pid), |slot| slot.pid == pid, |slot| hash(slot.pid));
        let mut slot = found.or_insert_with(|| Slot::new(pid, draw()));
        let slot = slot.get_mut();
        let has_room = slot.next - slot.floor < SESSION_WINDOW_MAX;
        if !has_room || (!slot.established && slot.next > 1) {
            return None;
        }
        let number = slot.next;
        slot.open |= 1 << (number - slot.floor);
        slot.next += 1;
        let session = Session { sid: slot.sid, number, floor: slot.floor };
        Some(Ticket { pid, session })
    }

    /// The operation is over: its number is not used again.
    pub fn end(&mut self, ticket: Ticket, end: End) {
        let Ticket { pid, session } = ticket;
        // Another session may have taken its place.
        let same = |slot: &Slot| slot.pid == pid && slot.sid == session.sid;
        let Ok(mut found) = self.slots.find_entry(hash(pid), same) else { return };
        let slot = found.get_mut();
        slot.established |= end == End::Executed;
        if !slot.established || end == End::SessionUnknown {
            found.remove();
            return;
        }
        slot.open &= !(1 << (session.number - slot.floor));
        let done = u64::from(slot.open.trailing_zeros());
        let done = if slot.open == 0 { slot.next - slot.floor } else { done };
        slot.floor += done;
        slot.open = slot.open.checked_shr(done as u32).unwrap_or(0);
    }
}

/// Partitions are numbered from zero: any spread will do.
fn hash(pid: PartitionId) -> u64 {
    u64::from(pid.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: PartitionId = PartitionId(3);

    fn begin(sessions: &mut ClientSessions, sid: u128) -> Option<Ticket> {
        sessions.begin(PID, || sid)
    }

    fn established(sessions: &mut ClientSessions) {
        let first = begin(sessions, 7).unwrap();
        sessions.end(first, End::Executed);
    }

    #[test]
    fn a_session_is_opened_by_one_operation_and_the_others_wait() {
        let mut sessions = ClientSessions::default();
        let first = begin(&mut sessions, 7).unwrap();
        assert_eq!(first.session, Session { sid: 7, number: 1, floor: 1 });
        assert_eq!(begin(&mut sessions, 8), None);
        assert!(sessions.begin(PartitionId(4), || 9).is_some(), "other partitions go on");
        sessions.end(first, End::Executed);
        let second = begin(&mut sessions, 8).unwrap();
        assert_eq!(second.session, Session { sid: 7, number: 2, floor: 2 });
        sessions.end(second, End::Abandoned);
        let third = begin(&mut sessions, 8).unwrap();
        assert_eq!(third.session, Session { sid: 7, number: 3, floor: 3 });
    }

    #[test]
    fn a_session_that_was_not_opened_for_sure_is_not_used_again() {
        let mut sessions = ClientSessions::default();
        let first = begin(&mut sessions, 7).unwrap();
        sessions.end(first, End::Abandoned);
        assert_eq!(begin(&mut sessions, 8).unwrap().session.sid, 8);
    }

    #[test]
    fn the_floor_is_the_lowest_number_under_way_and_the_window_counts_from_it() {
        let mut sessions = ClientSessions::default();
        established(&mut sessions);
        let tickets: Vec<Ticket> = (0..64).map(|_| begin(&mut sessions, 8).unwrap()).collect();
        assert_eq!(begin(&mut sessions, 8), None);
        sessions.end(tickets[1], End::Executed);
        assert_eq!(begin(&mut sessions, 8), None, "number 2 is still under way");
        sessions.end(tickets[0], End::Abandoned);
        let next = begin(&mut sessions, 8).unwrap();
        assert_eq!(next.session, Session { sid: 7, number: 66, floor: 4 });
        tickets[2..].iter().for_each(|ticket| sessions.end(*ticket, End::Executed));
        sessions.end(next, End::Executed);
        assert_eq!(begin(&mut sessions, 8).unwrap().session.floor, 67);
    }

    #[test]
    fn what_the_ring_has_forgotten_is_drawn_anew() {
        let mut sessions = ClientSessions::default();
        established(&mut sessions);
        let (a, b) = (begin(&mut sessions, 8).unwrap(), begin(&mut sessions, 8).unwrap());
        sessions.end(a, End::SessionUnknown);
        let fresh = begin(&mut sessions, 8).unwrap();
        assert_eq!(fresh.session, Session { sid: 8, number: 1, floor: 1 });
        sessions.end(b, End::SessionUnknown);
        sessions.end(fresh, End::Executed);
        assert_eq!(begin(&mut sessions, 9).unwrap().session.sid, 8, "the older one is no matter");
    }
}
