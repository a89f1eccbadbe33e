//! The table by itself, one hole of the rules per test, and replicas that use it.

use super::*;
use crate::base::Cfg;
use crate::wire::Effect;

const SID: u128 = 0xABCD;

fn session(number: u64, floor: u64) -> Session {
    Session { sid: SID, number, floor }
}

fn entry(seq: u64, session: Session) -> EntryRef<'static> {
    let outcome = Outcome::Number(seq as i64);
    EntryRef { ecfg: Cfg(1), seq: Seq(seq), session, effect: Effect::None, outcome }
}

fn closing(seq: u64) -> EntryRef<'static> {
    let effect = Effect::Close { sid: SID };
    EntryRef { effect, ..entry(seq, Session::default()) }
}

/// Both sides of the table, as a primary has them, and the entries between them.
#[derive(Default)]
struct Book {
    sessions: Sessions,
    ahead: Ahead,
    log: VecDeque<EntryRef<'static>>,
}

impl Book {
    fn append(&mut self, entry: EntryRef<'static>) {
        self.ahead.note(&self.sessions, &entry);
        self.log.push_back(entry);
    }

    fn commit(&mut self) {
        let entry = self.log.pop_front().unwrap();
        let before = self.sessions.len() as i64;
        self.sessions.apply(&entry);
        self.ahead.forget(&entry, self.sessions.len() as i64 - before);
    }

    fn commit_all(&mut self) {
        while !self.log.is_empty() {
            self.commit();
        }
        assert!(self.ahead.table.is_empty());
        assert_eq!(self.ahead.grown, 0);
    }

    fn recall(&self, session: Session, opens: bool) -> Recall {
        self.ahead.recall(&self.sessions, session, opens)
    }
}

fn opened() -> Book {
    let mut book = Book::default();
    book.append(entry(1, session(1, 1)));
    book.commit_all();
    book
}

#[test]
fn a_mutation_is_executed_once_while_it_is_in_the_log_and_after() {
    let mut book = Book::default();
    assert_eq!(book.recall(session(1, 1), true), Recall::Execute { opens: true });
    book.append(entry(1, session(1, 1)));
    assert_eq!(book.ahead.count(&book.sessions), 1);
    assert_eq!(book.recall(session(1, 1), false), Recall::Pending(Seq(1)));
    assert_eq!(book.recall(session(2, 1), false), Recall::Execute { opens: false });
    book.append(entry(2, session(2, 1)));
    book.commit();
    assert_eq!(book.recall(session(1, 1), false), Recall::Recorded(Outcome::Number(1)));
    assert_eq!(book.recall(session(2, 1), false), Recall::Pending(Seq(2)));
    book.commit_all();
    assert_eq!(book.recall(session(2, 1), false), Recall::Recorded(Outcome::Number(2)));
    assert_eq!(book.sessions.len(), 1);
}

/// S1c. `sessany`: number 2 must not open; `sessretry`: nor a later message of number 1.
#[test]
fn only_one_message_opens() {
    let book = Book::default();
    assert_eq!(book.recall(session(2, 1), true), Recall::SessionUnknown);
    assert_eq!(book.recall(session(2, 1), false), Recall::SessionUnknown);
    assert_eq!(book.recall(session(1, 1), false), Recall::SessionUnknown);
}

/// S1d. `gcspec`: the closing entry counts from the moment it is in the log.
#[test]
fn a_session_that_is_being_closed_is_closed() {
    let mut book = opened();
    book.append(entry(2, session(2, 2)));
    book.append(closing(3));
    assert_eq!(book.ahead.count(&book.sessions), 0);
    assert_eq!(book.recall(session(1, 1), false), Recall::SessionUnknown);
    assert_eq!(book.recall(session(3, 2), false), Recall::SessionUnknown);
    assert_eq!(book.recall(session(2, 2), false), Recall::Pending(Seq(2)), "its answer stands");
    book.commit_all();
    assert_eq!(book.recall(session(2, 2), false), Recall::SessionUnknown);
    assert_eq!(book.sessions.len(), 0);
}

/// `gcunlogged`: if the record of number 1 went while number 2 keeps the session, number 1 would be
/// executed again. Closing takes all of it, in the order of the log.
#[test]
fn closing_leaves_nothing_behind() {
    let mut book = opened();
    book.append(closing(2));
    book.append(closing(3));
    book.commit();
    assert_eq!(book.recall(session(1, 1), false), Recall::SessionUnknown);
    book.commit_all();
    assert_eq!((book.sessions.len(), book.ahead.count(&book.sessions)), (0, 0));
}

/// S3: what the client has is forgotten, and never executed again.
#[test]
fn below_the_floor_nothing_is_executed() {
    let mut book = opened();
    book.append(entry(2, session(3, 3)));
    assert_eq!(book.recall(session(2, 2), false), Recall::Past, "the floor of the log counts");
    book.commit_all();
    assert_eq!(book.recall(session(1, 1), false), Recall::Past);
    assert_eq!(book.recall(session(2, 2), false), Recall::Past);
    assert_eq!(book.recall(session(3, 3), false), Recall::Recorded(Outcome::Number(2)));
}

#[test]
fn a_session_keeps_a_window_of_results() {
    let mut book = opened();
    for number in 2..66 {
        assert_eq!(book.recall(session(number, 2), false), Recall::Execute { opens: false });
        book.append(entry(number, session(number, 2)));
    }
    assert_eq!(book.recall(session(66, 2), false), Recall::Crowded);
    assert_eq!(book.recall(session(66, 3), false), Recall::Execute { opens: false });
    book.commit_all();
    let kept = book.sessions.find(SID).unwrap().results().count();
    assert_eq!(kept, 64);
    assert!(book.sessions.spilled >= 63);
    book.append(entry(66, session(66, 66)));
    book.commit_all();
    assert_eq!(book.sessions.find(SID).unwrap().results().count(), 1);
    book.append(closing(67));
    book.commit_all();
    assert_eq!(book.sessions.spilled, 0);
}

/// A new primary reads its log again, from the commit position on (`nodedup2`).
#[test]
fn what_the_log_says_can_be_read_again() {
    let mut book = opened();
    book.append(entry(2, session(2, 1)));
    book.append(closing(3));
    book.ahead = Ahead::default();
    let log: Vec<_> = book.log.iter().copied().collect();
    log.iter().for_each(|entry| book.ahead.note(&book.sessions, entry));
    assert_eq!(book.recall(session(2, 1), false), Recall::Pending(Seq(2)));
    assert_eq!(book.recall(session(3, 1), false), Recall::SessionUnknown);
    book.commit_all();
}

#[test]
fn a_snapshot_carries_everything() {
    let mut sessions = Sessions::default();
    for sid in 1..=700u128 {
        for number in 1..=(sid as u64 % 5 + 1) {
            let session = Session { sid, number, floor: 1 };
            sessions.apply(&EntryRef { session, ..entry(number, session) });
        }
    }
    let pieces = sessions.pieces();
    assert!(pieces.len() > 1, "bounded pieces");
    let mut copy = Sessions::default();
    pieces.iter().flatten().for_each(|record| copy.install(record));
    assert_eq!((copy.len(), copy.digest()), (sessions.len(), sessions.digest()));
    // The entries of the log that the snapshot has already change nothing.
    let again = Session { sid: 4, number: 3, floor: 1 };
    copy.apply(&EntryRef { session: again, ..entry(3, again) });
    assert_eq!(copy.digest(), sessions.digest());
    copy.apply(&EntryRef { session: again, ..entry(6, again) });
    assert_ne!(copy.digest(), sessions.digest(), "the last use is part of it");
    assert!(Sessions::default().pieces().is_empty());
}

#[test]
fn the_least_recently_used_go_first() {
    let mut sessions = Sessions::default();
    for (sid, seq) in [(1u128, 50), (2, 10), (3, 40), (4, 20), (5, 30)] {
        let session = Session { sid, number: 1, floor: 1 };
        sessions.apply(&entry(seq, session));
    }
    assert_eq!(sessions.least_recent(2, |_| true), [2, 4]);
    assert_eq!(sessions.least_recent(2, |sid| sid != 2), [4, 5]);
    assert_eq!(sessions.least_recent(9, |_| true), [2, 4, 5, 3, 1]);
}

#[test]
fn idle_is_what_was_not_used_for_an_hour() {
    let at = Nanos::from_millis;
    let mut marks = Marks::default();
    assert_eq!(marks.idle_through(at(0), Seq(5)), None);
    for minute in 1..60 {
        assert_eq!(marks.idle_through(at(minute * 60_000), Seq(5 + minute)), None);
    }
    assert_eq!(marks.idle_through(at(SESSION_IDLE_MS), Seq(100)), Some(Seq(5)));
    assert_eq!(marks.idle_through(at(SESSION_IDLE_MS + 300_000), Seq(100)), Some(Seq(10)));
    assert!(marks.0.len() < 16);
}
