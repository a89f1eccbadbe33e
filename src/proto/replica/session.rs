//! Sessions: what a replica remembers so that a mutation is executed once, however often it is sent
//! (S1 to S5).
//!
//! A session is one client's stay at one partition. The client draws its name at random, numbers
//! its mutations, and sends one of them again under the same number when it cannot know whether the
//! last message arrived. The primary looks the number up: in the log and not committed, the sender
//! joins those who wait; recorded, it is told again what the first one was told; neither, it is
//! executed. Results are part of the entries, so every replica has the same records, and whoever
//! becomes primary goes on with them.
//!
//! The name of a session that is not known says nothing: it may never have been opened, or it may
//! have been opened, used and closed, while an old message of it is still on its way. So a session
//! is opened by one message only, which its client sends once, and whatever else names an unknown
//! session is refused for ever (S1b, S1c). Closing is an entry of the log like any other: it must
//! be ordered against the operations that it makes unknown (S1e).
//!
//! [`Sessions`] is what the committed entries say; [`Ahead`], which only a primary has, is what the
//! rest of its log will make of that (S1d).

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::{Replica, Role};
use crate::base::limits::{
    SESSION_IDLE_MS, SESSION_WINDOW_MAX, SESSIONS_PER_PARTITION_MAX, SNAPSHOT_CHUNK_BYTES,
};
use crate::base::{Nanos, Seq};
use crate::proto::mutants::{self, Mutant};
use crate::proto::{Caller, Moment, Outbox};
use crate::wire::{Effect, EntryRef, Outcome, Reply, Request, Session, SessionRecord};

/// Sessions that are closed at the same time when there are too many: looking for the least
/// recently used ones takes a pass over all.
const CLOSE_AT_ONCE: usize = 64;
/// Time between two marks, by which idle sessions are told.
const MARK_EVERY_MS: u64 = SESSION_IDLE_MS / 12;

/// What the records say about a mutation that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recall {
    /// It was not executed: execute it. `opens`: in a session that begins with it.
    Execute { opens: bool },
    /// It is in the log, not committed, at that position.
    Pending(Seq),
    /// It was executed and committed, and this is what its client is told.
    Recorded(Outcome),
    /// Its client does not wait for an answer any more.
    Past,
    /// There is no such session, and the message may not open one.
    SessionUnknown,
    /// Its client has more operations under way than it may.
    Crowded,
}

/// What the committed entries say of one session.
///
/// - All numbers are at least `floor`, but that of `first` when it was not overwritten yet.
#[derive(Debug)]
struct Remembered {
    sid: u128,
    floor: u64,
    /// Position of its last entry.
    last: Seq,
    /// Most sessions have one result to remember, which costs no allocation.
    first: (u64, Outcome),
    others: Vec<(u64, Outcome)>,
}

impl Remembered {
    fn new(sid: u128) -> Self {
        Self { sid, floor: 0, last: Seq::ZERO, first: (0, Outcome::Done), others: Vec::new() }
    }

    fn results(&self) -> impl Iterator<Item = (u64, Outcome)> + '_ {
        let all = std::iter::once(&self.first).chain(&self.others);
        all.copied().filter(|(number, _)| *number >= self.floor.max(1))
    }

    fn result(&self, number: u64) -> Option<Outcome> {
        self.results().find(|(n, _)| *n == number).map(|(_, outcome)| outcome)
    }

    /// Records a result and forgets those that its client has (S3). Again is no different.
    fn record(&mut self, number: u64, floor: u64, outcome: Outcome) {
        self.floor = self.floor.max(floor);
        self.others.retain(|(n, _)| *n >= self.floor);
        if number < self.floor || self.result(number).is_some() {
            return;
        }
        if self.first.0 < self.floor.max(1) {
            self.first = (number, outcome);
        } else {
            self.others.push((number, outcome));
        }
    }

    fn digest(&self) -> u64 {
        let head = mix(self.sid as u64 ^ mix((self.sid >> 64) as u64 ^ mix(self.last.0)));
        let result = |(number, outcome): (u64, Outcome)| {
            let (code, value) = match outcome {
                Outcome::Done => (0, 0),
                Outcome::Exists => (1, 0),
                Outcome::Absent => (2, 0),
                Outcome::Mismatch => (3, 0),
                Outcome::Number(value) => (4, value as u64),
                Outcome::NotANumber => (5, 0),
                Outcome::Overflow => (6, 0),
            };
            mix(number ^ mix(code ^ mix(value)))
        };
        // A sum, because the order of the results is not part of the state.
        let results = self.results().map(result).fold(0, u64::wrapping_add);
        mix(head ^ mix(self.floor) ^ results)
    }
}

/// The committed sessions of one replica.
///
/// - It is a function of the committed entries (and of the snapshot that came before them), so
///   replicas with equal commit positions have equal ones (I11).
/// - `one` is not in `table`.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Most partitions have one client, and a node has thousands of partitions: here its session
    /// costs neither an allocation nor a look-up in memory that is not in the cache.
    one: Option<Remembered>,
    table: HashTable<Remembered>,
    /// Room for results beyond the first, of all sessions together.
    spilled: usize,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.table.len() + usize::from(self.one.is_some())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Memory that they take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.table.allocation_size() + self.spilled * size_of::<(u64, Outcome)>()
    }

    /// What an entry says, when it is committed.
    pub(super) fn apply(&mut self, entry: &EntryRef<'_>) {
        if let Effect::Close { sid } = entry.effect {
            self.close(sid);
        }
        if entry.session.is_none() {
            return;
        }
        let Session { sid, number, floor } = entry.session;
        let (outcome, seq) = (entry.outcome, entry.seq);
        let note = |remembered: &mut Remembered| {
            let before = remembered.others.capacity();
            remembered.record(number, floor, outcome);
            remembered.last = remembered.last.max(seq);
            (before, remembered.others.capacity())
        };
        let (before, after) = if self.is_empty() || self.is_the_one(sid) {
            note(self.one.get_or_insert_with(|| Remembered::new(sid)))
        } else {
            let found = self.table.entry(hash(sid), |s| s.sid == sid, |s| hash(s.sid));
            note(found.or_insert_with(|| Remembered::new(sid)).get_mut())
        };
        self.spilled = self.spilled + after - before;
    }

    fn close(&mut self, sid: u128) {
        if let Some(one) = self.one.take_if(|one| one.sid == sid) {
            self.spilled -= one.others.capacity();
        } else if let Ok(found) = self.table.find_entry(hash(sid), |s| s.sid == sid) {
            self.spilled -= found.get().others.capacity();
            found.remove();
        }
    }

    /// Takes over what a snapshot says.
    pub(super) fn install(&mut self, record: &SessionRecord) {
        self.close(record.sid);
        let mut new = Remembered::new(record.sid);
        for (number, outcome) in &record.results {
            new.record(*number, record.floor, *outcome);
        }
        new.floor = record.floor;
        new.last = record.last;
        self.spilled += new.others.capacity();
        match self.is_empty() {
            true => self.one = Some(new),
            false => drop(self.table.insert_unique(hash(new.sid), new, |s| hash(s.sid))),
        }
    }

    fn is_empty(&self) -> bool {
        self.one.is_none() && self.table.is_empty()
    }

    fn is_the_one(&self, sid: u128) -> bool {
        self.one.as_ref().is_some_and(|one| one.sid == sid)
    }

    fn iter(&self) -> impl Iterator<Item = &Remembered> {
        self.one.iter().chain(&self.table)
    }

    /// All of them, in pieces of about the size of a snapshot's other pieces.
    pub(super) fn pieces(&self) -> Vec<Vec<SessionRecord>> {
        let mut pieces: Vec<Vec<SessionRecord>> = Vec::new();
        let mut bytes = usize::MAX;
        for session in self.iter() {
            let results: Vec<(u64, Outcome)> = session.results().collect();
            let size = 40 + 20 * results.len();
            if bytes.saturating_add(size) > SNAPSHOT_CHUNK_BYTES {
                pieces.push(Vec::new());
                bytes = 0;
            }
            bytes += size;
            let Remembered { sid, floor, last, .. } = *session;
            if let Some(piece) = pieces.last_mut() {
                piece.push(SessionRecord { sid, floor, last, results });
            }
        }
        pieces
    }

    /// Equal for equal contents, whatever the order (I11).
    pub(super) fn digest(&self) -> u64 {
        self.iter().map(Remembered::digest).fold(0, u64::wrapping_add)
    }

    fn find(&self, sid: u128) -> Option<&Remembered> {
        if self.is_the_one(sid) || self.table.is_empty() {
            return self.one.as_ref().filter(|one| one.sid == sid);
        }
        self.table.find(hash(sid), |s| s.sid == sid)
    }

    /// Those that were used last, of the ones that `may_go`, least recently used first.
    fn least_recent(&self, count: usize, may_go: impl Fn(u128) -> bool) -> Vec<u128> {
        let mut all: Vec<(Seq, u128)> =
            self.iter().filter(|s| may_go(s.sid)).map(|s| (s.last, s.sid)).collect();
        if count < all.len() {
            all.select_nth_unstable(count);
            all.truncate(count);
        }
        all.sort_unstable();
        all.into_iter().map(|(_, sid)| sid).collect()
    }
}

/// What the log says of one session beyond the commit position.
#[derive(Debug)]
struct Uncommitted {
    sid: u128,
    floor: u64,
    /// The last entry that opens or closes it; true: opens.
    turned: Option<(Seq, bool)>,
    /// Numbers with their positions.
    pending: Vec<(u64, Seq)>,
}

/// What the uncommitted entries of a primary's log say about sessions, in their order (S1d).
///
/// - It knows exactly the sessions of the entries after the commit position.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    table: HashTable<Uncommitted>,
    /// How many sessions more there are after the last entry than after the last committed one.
    grown: i64,
}

impl Ahead {
    /// Notes an entry, which must be the newest of the log.
    pub(super) fn note(&mut self, sessions: &Sessions, entry: &EntryRef<'_>) {
        let closes = match entry.effect {
            Effect::Close { sid } => Some(sid),
            _ => None,
        };
        let Some(sid) = closes.or((!entry.session.is_none()).then_some(entry.session.sid)) else {
            return;
        };
        let found = self.table.entry(hash(sid), |u| u.sid == sid, |u| hash(u.sid));
        let new = || Uncommitted { sid, floor: 0, turned: None, pending: Vec::new() };
        let mut slot = found.or_insert_with(new);
        let slot = slot.get_mut();
        let was_there = match slot.turned {
            Some((_, opened)) => opened,
            None => sessions.find(sid).is_some(),
        };
        if closes.is_none() {
            slot.floor = slot.floor.max(entry.session.floor);
            slot.pending.push((entry.session.number, entry.seq));
        }
        if was_there == closes.is_some() {
            slot.turned = Some((entry.seq, closes.is_none()));
            self.grown += if closes.is_none() { 1 } else { -1 };
        }
    }

    /// Forgets an entry when it is committed, by which there are `grown` more committed sessions.
    pub(super) fn forget(&mut self, entry: &EntryRef<'_>, grown: i64) {
        self.grown -= grown;
        let sid = match entry.effect {
            Effect::Close { sid } => sid,
            _ => entry.session.sid,
        };
        if sid == 0 {
            return;
        }
        let Ok(mut found) = self.table.find_entry(hash(sid), |u| u.sid == sid) else { return };
        let slot = found.get_mut();
        slot.pending.retain(|(_, seq)| *seq != entry.seq);
        slot.turned = slot.turned.filter(|(seq, _)| *seq != entry.seq);
        if slot.pending.is_empty() && slot.turned.is_none() {
            found.remove();
        }
        if self.table.is_empty() && self.table.capacity() > 64 {
            self.table = HashTable::new();
        }
    }

    fn find(&self, sid: u128) -> Option<&Uncommitted> {
        // Most look-ups of a primary without backups end here.
        if self.table.is_empty() {
            return None;
        }
        self.table.find(hash(sid), |u| u.sid == sid)
    }

    /// S1c, S1d, S2: what is known of an operation once everything in the log is committed.
    pub(super) fn recall(&self, sessions: &Sessions, session: Session, opens: bool) -> Recall {
        let Session { sid, number, floor } = session;
        let ahead = self.find(sid);
        let pending = ahead.and_then(|u| u.pending.iter().find(|(n, _)| *n == number));
        let pending = pending.filter(|_| !mutants::on(Mutant::NoDedupePending));
        if let Some((_, seq)) = pending {
            return Recall::Pending(*seq);
        }
        let remembered = sessions.find(sid);
        let is_there = ahead.and_then(|u| u.turned).map(|(_, opened)| opened);
        let is_there = is_there.filter(|opened| *opened || !mutants::on(Mutant::CloseUnseen));
        if !is_there.unwrap_or(remembered.is_some()) {
            let may_open = number == 1 || mutants::on(Mutant::OpenAny);
            return match (opens && may_open) || mutants::on(Mutant::OpenAlways) {
                true => Recall::Execute { opens: true },
                false => Recall::SessionUnknown,
            };
        }
        if let Some(outcome) = remembered.and_then(|r| r.result(number)) {
            return Recall::Recorded(outcome);
        }
        let committed = remembered.map_or(0, |r| r.floor);
        let known = committed.max(ahead.map_or(0, |u| u.floor));
        if number < known {
            return Recall::Past;
        }
        match number - known.max(floor) >= SESSION_WINDOW_MAX {
            true => Recall::Crowded,
            false => Recall::Execute { opens: false },
        }
    }

    /// Sessions there are after the last entry.
    fn count(&self, sessions: &Sessions) -> usize {
        (sessions.len() as i64 + self.grown).max(0) as usize
    }
}

/// Where the log ended at certain moments: by that a primary tells which sessions were not used for
/// long, without a time stamp in each. A new primary begins anew, so that a session may live longer
/// than it must.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(Nanos, Seq)>);

impl Marks {
    /// Notes the last position; the one that was the last long ago, if that is known.
    fn idle_through(&mut self, now: Nanos, last: Seq) -> Option<Seq> {
        let age_ms = |(at, _): &(Nanos, Seq)| now.since(*at).as_millis() as u64;
        if self.0.back().is_none_or(|mark| age_ms(mark) >= MARK_EVERY_MS) {
            self.0.push_back((now, last));
        }
        while self.0.get(1).is_some_and(|mark| age_ms(mark) >= SESSION_IDLE_MS) {
            self.0.pop_front();
        }
        self.0.front().filter(|mark| age_ms(mark) >= SESSION_IDLE_MS).map(|(_, seq)| *seq)
    }
}

impl Replica {
    /// Whether it remembers sessions: then it wants `collect_sessions`, about once per minute.
    pub fn has_sessions(&self) -> bool {
        self.role == Role::Primary && !self.sessions.is_empty()
    }

    /// Closes some sessions that were not used for long, by entries of the log. `flush` it
    /// afterwards.
    pub fn collect_sessions(&mut self, at: Moment) {
        if !self.may_close() {
            return;
        }
        let last = self.log.last();
        let Some(lead) = &mut self.lead else { return };
        let Some(through) = lead.marks.idle_through(at.now, last) else { return };
        let ahead = &lead.ahead;
        let is_idle = |sid: u128| {
            let session = self.sessions.find(sid);
            ahead.find(sid).is_none() && session.is_some_and(|s| s.last <= through)
        };
        for sid in self.sessions.least_recent(CLOSE_AT_ONCE, is_idle) {
            self.close_session(sid);
        }
    }

    /// Closes one session, also one in use: the `pick`-th, in any order. Whether there was one.
    /// Nothing but memory asks for this: it is how a simulator attacks the rules. `flush` it
    /// afterwards.
    pub fn close_any_session(&mut self, pick: u64) -> bool {
        let Some(lead) = self.lead.as_deref().filter(|_| self.may_close()) else { return false };
        let is_there = |sid: &u128| {
            let turned = lead.ahead.find(*sid).and_then(|u| u.turned);
            turned.is_none_or(|(_, opened)| opened)
        };
        let opened = lead.ahead.table.iter().filter(|u| u.turned.is_some_and(|(_, o)| o));
        let opened = opened.map(|u| u.sid).filter(|sid| self.sessions.find(*sid).is_none());
        let committed = self.sessions.iter().map(|s| s.sid).filter(is_there);
        let all: Vec<u128> = committed.chain(opened).collect();
        let chosen = all.get((pick % all.len().max(1) as u64) as usize).copied();
        if let Some(sid) = chosen {
            self.close_session(sid);
        }
        chosen.is_some()
    }

    /// Sessions that its committed entries know.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    fn may_close(&self) -> bool {
        let draining = self.lead.as_ref().is_some_and(|lead| lead.goal.is_draining());
        self.role == Role::Primary && !draining && self.is_writable()
    }

    /// S1e: closing is an entry, in the order of the operations.
    fn close_session(&mut self, sid: u128) {
        if mutants::on(Mutant::CloseUnlogged) {
            let (ecfg, seq, effect) = (self.cfg, self.commit, Effect::Close { sid });
            let (session, outcome) = (Session::default(), Outcome::Done);
            return self.sessions.apply(&EntryRef { ecfg, seq, session, effect, outcome });
        }
        self.append(None, Session::default(), Effect::Close { sid }, Outcome::Done);
    }

    /// What is known of a mutation.
    pub(super) fn recall(&self, request: &Request<'_>) -> Recall {
        let Some(lead) = &self.lead else { return Recall::Execute { opens: false } };
        if request.session.is_none() || mutants::on(Mutant::NoDedupe) {
            return Recall::Execute { opens: false };
        }
        // S1b: the first message of number 1 opens, and nothing else, whatever the sender says.
        let opens = match () {
            () if mutants::on(Mutant::OpenAny) => request.attempt == 0,
            () if mutants::on(Mutant::OpenRetry) => request.session.number == 1,
            () => request.opens && request.attempt == 0,
        };
        lead.ahead.recall(&self.sessions, request.session, opens)
    }

    /// Answers a mutation that is not executed, now or when the first one is answered.
    pub(super) fn remind(&mut self, caller: Caller, known: Recall, out: &mut dyn Outbox) {
        let (writable, commit) = (self.is_writable(), self.commit);
        let Some(lead) = &mut self.lead else { return };
        match known {
            Recall::Pending(seq) => {
                let outcome = self.log.entry(seq).map_or(Outcome::Done, |entry| entry.outcome);
                lead.attach(seq, caller, outcome, out);
            }
            // S2': to tell it again is to acknowledge it again, which takes as many copies.
            Recall::Recorded(outcome) if writable || mutants::on(Mutant::RecordOfOne) => {
                out.reply(caller, &reply_of(outcome))
            }
            Recall::Recorded(outcome) => lead.attach(commit, caller, outcome, out),
            // Nobody waits for this answer, but whoever carried the message counts it.
            Recall::Past => out.reply(caller, &Reply::Unknown),
            Recall::SessionUnknown => out.reply(caller, &Reply::SessionUnknown),
            Recall::Crowded => out.reply(caller, &Reply::Busy),
            Recall::Execute { .. } => debug_assert!(false, "there is nothing to be reminded of"),
        }
    }

    /// Room for one more session, made by closing others if need be. False if none can be closed
    /// now, because all of them are being opened.
    pub(super) fn make_room_for_session(&mut self) -> bool {
        let Some(lead) = &self.lead else { return false };
        let ahead = &lead.ahead;
        if ahead.count(&self.sessions) < SESSIONS_PER_PARTITION_MAX {
            return true;
        }
        let is_quiet = |sid| ahead.find(sid).is_none();
        let surplus = self.sessions.least_recent(CLOSE_AT_ONCE, is_quiet);
        surplus.iter().for_each(|sid| self.close_session(*sid));
        !surplus.is_empty()
    }
}

/// What the client of an entry is told.
pub(super) fn reply_of(outcome: Outcome) -> Reply<'static> {
    match outcome {
        Outcome::Done => Reply::Done,
        Outcome::Exists => Reply::Exists,
        Outcome::Absent => Reply::Absent,
        Outcome::Mismatch => Reply::Mismatch,
        Outcome::Number(number) => Reply::Number(number),
        Outcome::NotANumber => Reply::NotANumber,
        Outcome::Overflow => Reply::Overflow,
    }
}

/// The name is random. Somebody who chooses names that collide slows down a table of 1024.
fn hash(sid: u128) -> u64 {
    mix(sid as u64 ^ (sid >> 64) as u64)
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    value ^ (value >> 29)
}

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
