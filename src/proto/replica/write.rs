//! Operations at the primary: reading, evaluating, appending.

use std::ops::ControlFlow;

use super::session::Recall;
use super::{Replica, Role};
use crate::base::limits::{
    SCAN_PAGE_BYTES, SCAN_PAGE_ITEMS_MAX, WINDOW_BYTES_MAX, WINDOW_ENTRIES_MAX,
};
use crate::base::{MemberId, Nanos, Seq};
use crate::proto::mutants::{self, Mutant};
use crate::proto::{Caller, Moment, Outbox};
use crate::ring::PartState;
use crate::store::{Cursor, Entry};
use crate::wire::codec::Reader;
use crate::wire::{Effect, EntryRef, Op, Outcome, Page, Reply, Request, Session};

/// Entries that one page of a scan looks at, so that a rare prefix does not hold the lock.
const SCAN_VISITS_MAX: usize = 16 * 1024;
/// Bytes of the longest number in decimal, with its sign.
const NUMBER_BYTES_MAX: usize = 20;
/// Entries that one sweep looks at for expired ones.
const SWEEP_VISITS: usize = 256;

/// What became of an operation that was handed to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It is answered, or will be.
    Accepted,
    /// It was not touched: that member is the primary, as far as is known here.
    Elsewhere(MemberId),
}

impl Replica {
    /// Hands it an operation of a client. Answered through `out`, now or later, exactly once,
    /// unless the result says that it belongs elsewhere.
    pub fn request(
        &mut self,
        at: Moment,
        caller: Caller,
        request: &Request<'_>,
        out: &mut dyn Outbox,
    ) -> Disposition {
        if self.part.state == PartState::Lost {
            out.reply(caller, &Reply::DataLost { resets: self.part.resets });
            return Disposition::Accepted;
        }
        match (request.op, self.role) {
            (Op::GetLocal { key }, _) if self.complete => {
                out.reply(caller, &value_reply(self.live(at, key)));
            }
            (_, Role::Primary) => self.execute(at, caller, request, out),
            (Op::Get { .. }, Role::Backup) if mutants::on(Mutant::BackupRead) => {
                self.answer_read(at, caller, request, out);
            }
            (_, Role::Recovering) => self.hold(at, caller, request, out),
            _ => return Disposition::Elsewhere(self.primary_hint()),
        }
        Disposition::Accepted
    }

    /// The value of a key, if this replica may answer for it now; `None` if the operation has to
    /// go through [`Replica::request`]. For callers in the same process: no message, no copy.
    pub fn read(
        &self,
        key: &[u8],
        now: impl Fn() -> Nanos,
        unix_ms: impl Fn() -> u64,
    ) -> Option<Option<&[u8]>> {
        let until = self.lead.as_ref()?.reads.leased_until;
        if self.role != Role::Primary || (until != Nanos::NEVER && now() >= until) {
            return None;
        }
        // Most entries never expire, and the clock costs as much as the look-up.
        let is_live =
            |entry: &Entry<'_>| entry.expires_at_ms == 0 || entry.expires_at_ms > unix_ms();
        Some(self.table.find(key).filter(is_live).map(|entry| entry.value))
    }

    /// The primary of the partition as far as this replica knows; zero if it knows none.
    pub fn primary_hint(&self) -> MemberId {
        if self.part.cfg < self.cfg || self.part.primary == self.me {
            return MemberId::ZERO;
        }
        self.part.primary
    }

    /// Commits entries up to `seq`.
    pub(super) fn apply_through(&mut self, seq: Seq) {
        while self.commit < seq {
            let next = Seq(self.commit.0 + 1);
            let Some(entry) = self.log.entry(next) else {
                debug_assert!(false, "a gap in the log at {next}");
                return;
            };
            let sessions = self.sessions.len() as i64;
            self.sessions.apply(&entry);
            let grown = self.sessions.len() as i64 - sessions;
            match entry.effect {
                Effect::None | Effect::Close { .. } => {}
                Effect::Put { key, value, expires_at_ms } => match &mut self.incoming {
                    Some(incoming) if !incoming.is_newer(&self.table, key, next) => {}
                    _ => self.table.upsert(key, value, next, expires_at_ms),
                },
                Effect::Delete { key } => match &mut self.incoming {
                    Some(incoming) if !incoming.is_newer(&self.table, key, next) => {}
                    incoming => {
                        self.table.remove(key);
                        // Until the snapshot is whole, an older value of the key may still come.
                        if let Some(incoming) = incoming.as_mut().filter(|_| !self.complete) {
                            incoming.tombs.insert(key, next);
                        }
                    }
                },
            }
            if let Some(lead) = &mut self.lead {
                lead.ahead.forget(&entry, grown);
                if let Some(key) = key_of(&entry.effect) {
                    lead.overlay.forget(key, next);
                }
            }
            self.commit = next;
        }
    }

    /// Executes what waited for the role or for the end of a drain.
    pub(super) fn serve_held(&mut self, at: Moment, out: &mut dyn Outbox) {
        let Some(lead) = &mut self.lead else { return };
        for (caller, bytes) in lead.take_held() {
            match Request::decode(&mut Reader::new(&bytes)) {
                Ok(request) => self.execute(at, caller, &request, out),
                Err(_) => debug_assert!(false, "a held operation was encoded by us"),
            }
        }
    }

    /// Removes some expired keys, by entries like any other deletion. `flush` it afterwards.
    pub fn sweep(&mut self, at: Moment) {
        let Some(lead) = &self.lead else { return };
        let idle = self.role == Role::Primary && !lead.goal.is_draining() && self.is_writable();
        if !idle || self.table.expiring() == 0 {
            return;
        }
        let mut expired: Vec<Vec<u8>> = Vec::new();
        let mut visits = 0;
        let next = self.table.scan(lead.sweep, &mut |entry| {
            if visits == SWEEP_VISITS {
                return ControlFlow::Break(());
            }
            visits += 1;
            if is_expired(&entry, at) {
                expired.push(entry.key.to_vec());
            }
            ControlFlow::Continue(())
        });
        for key in expired {
            let Some(lead) = &self.lead else { return };
            if lead.overlay.find(&key, &self.log).is_none() {
                self.append(None, Session::default(), Effect::Delete { key: &key }, Outcome::Done);
            }
        }
        if let Some(lead) = &mut self.lead {
            lead.sweep = next.unwrap_or_default();
        }
    }

    /// Keys, and their bytes with their values, that have expired and are not swept yet.
    pub(super) fn expired(&self, at: Moment) -> (u64, u64) {
        let mut expired = (0, 0);
        if self.table.expiring() > 0 {
            self.table.scan(Cursor::default(), &mut |entry| {
                if is_expired(&entry, at) {
                    expired.0 += 1;
                    expired.1 += (entry.key.len() + entry.value.len()) as u64;
                }
                ControlFlow::Continue(())
            });
        }
        expired
    }

    fn execute(&mut self, at: Moment, caller: Caller, request: &Request<'_>, out: &mut dyn Outbox) {
        match request.op {
            Op::Probe { .. } => out.reply(caller, &Reply::Here(self.me)),
            Op::Get { .. } | Op::GetLocal { .. } | Op::Scan { .. } => {
                match self.may_read(at, out) {
                    true => self.answer_read(at, caller, request, out),
                    false => self.confirm_read(caller, request, out),
                }
            }
            Op::Put { .. } | Op::Delete { .. } | Op::Cas { .. } | Op::Incr { .. } => {
                self.mutate(at, caller, request, out);
            }
        }
    }

    /// Answers from the table.
    pub(super) fn answer_read(
        &self,
        at: Moment,
        caller: Caller,
        request: &Request<'_>,
        out: &mut dyn Outbox,
    ) {
        match request.op {
            Op::Scan { cursor, limit, keys_only, prefix, .. } => {
                let page = self.page(at, cursor, limit, keys_only, prefix);
                out.reply(caller, &Reply::Page(page));
            }
            Op::Get { key } if mutants::on(Mutant::DirtyRead) => {
                let newest = self.lead.as_ref().and_then(|lead| lead.overlay.find(key, &self.log));
                match newest.map(|entry| entry.effect) {
                    Some(Effect::Put { value, .. }) => out.reply(caller, &Reply::Value(value)),
                    Some(_) => out.reply(caller, &Reply::Absent),
                    None => out.reply(caller, &value_reply(self.live(at, key))),
                }
            }
            op => {
                let entry = op.key().and_then(|key| self.live(at, key));
                out.reply(caller, &value_reply(entry));
            }
        }
    }

    fn mutate(&mut self, at: Moment, caller: Caller, request: &Request<'_>, out: &mut dyn Outbox) {
        // W1': what was executed already is not refused, and needs no room.
        let opens = match self.recall(request) {
            Recall::Execute { opens } => opens,
            known => return self.remind(caller, known, out),
        };
        if self.lead.as_ref().is_some_and(|lead| lead.goal.is_draining()) {
            return self.hold(at, caller, request, out);
        }
        // mutant: minnohold
        if let Some(refusal) = self.refusal(at, &request.op) {
            return out.reply(caller, &refusal);
        }
        if opens && !self.make_room_for_session() {
            return out.reply(caller, &Reply::Busy);
        }
        let mut digits = Vec::new();
        let (effect, outcome) = self.evaluate(at, &request.op, &mut digits);
        self.append(Some(caller), request.session, effect, outcome);
        if self.lead.as_ref().is_some_and(|lead| lead.commits_alone()) {
            self.advance(at, out);
        }
    }

    /// W1: why a write is not even begun.
    fn refusal(&self, at: Moment, op: &Op<'_>) -> Option<Reply<'static>> {
        if !self.is_writable() {
            let have = self.part.isr.len() as u8;
            return Some(Reply::NotEnoughReplicas { have, need: self.required });
        }
        let written = match *op {
            Op::Put { key, value, .. } | Op::Cas { key, value, .. } => Some((key, value.len())),
            Op::Incr { key, .. } => Some((key, NUMBER_BYTES_MAX)),
            _ => None,
        };
        if let Some((key, value_bytes)) = written {
            if value_bytes > self.value_bytes_max as usize && !matches!(op, Op::Incr { .. }) {
                return Some(Reply::ValueTooLarge { limit: self.value_bytes_max });
            }
            if at.memory_full || !self.table.fits(key.len(), value_bytes) {
                return Some(Reply::OutOfMemory);
            }
        }
        let full = at.backlog_full
            || self.log.len() >= WINDOW_ENTRIES_MAX
            || self.log.bytes() + op.bytes() > WINDOW_BYTES_MAX.max(op.bytes());
        full.then_some(Reply::Busy)
    }

    /// W2: gives an operation its position and puts it into the list.
    pub(super) fn append(
        &mut self,
        caller: Option<Caller>,
        session: Session,
        effect: Effect<'_>,
        outcome: Outcome,
    ) {
        let Some(lead) = &mut self.lead else { return };
        let seq = Seq(self.log.last().0 + 1);
        if let Some(caller) = caller {
            lead.wait(seq, caller, outcome);
        }
        let entry = EntryRef { ecfg: self.cfg, seq, session, effect, outcome };
        if lead.stands_alone() && self.log.len() == 0 {
            // The only copy: what is written is committed, and no list has to keep it.
            self.sessions.apply(&entry);
            match effect {
                Effect::None | Effect::Close { .. } => {}
                Effect::Put { key, value, expires_at_ms } => {
                    self.table.upsert(key, value, seq, expires_at_ms);
                }
                Effect::Delete { key } => {
                    self.table.remove(key);
                }
            }
            self.log.skip(self.cfg);
            self.commit = seq;
            return;
        }
        self.log.push(&entry);
        lead.ahead.note(&self.sessions, &entry);
        if let Some(key) = key_of(&effect) {
            lead.overlay.note(key, seq, &self.log);
        }
    }

    fn hold(&mut self, at: Moment, caller: Caller, request: &Request<'_>, out: &mut dyn Outbox) {
        match &mut self.lead {
            Some(lead) if !at.backlog_full => lead.hold(caller, request, out),
            _ => out.reply(caller, &Reply::Busy),
        }
    }

    /// The committed entry of a key, unless it has expired.
    pub(super) fn live(&self, at: Moment, key: &[u8]) -> Option<Entry<'_>> {
        self.table.find(key).filter(|entry| !is_expired(entry, at))
    }

    fn page(
        &self,
        at: Moment,
        cursor: (u64, u32),
        limit: u32,
        keys_only: bool,
        prefix: &[u8],
    ) -> Page<'_> {
        let limit = (limit as usize).clamp(1, SCAN_PAGE_ITEMS_MAX);
        let mut items: Vec<(&[u8], &[u8])> = Vec::new();
        let (mut bytes, mut visits) = (0, 0);
        let from = Cursor { birth: cursor.0, offset: cursor.1 };
        let next = self.table.scan(from, &mut |entry| {
            let value: &[u8] = if keys_only { &[] } else { entry.value };
            let size = entry.key.len() + value.len();
            let full = items.len() == limit || visits == SCAN_VISITS_MAX;
            if full || (!items.is_empty() && bytes + size > SCAN_PAGE_BYTES) {
                return ControlFlow::Break(());
            }
            visits += 1;
            if entry.key.starts_with(prefix) && !is_expired(&entry, at) {
                bytes += size;
                items.push((entry.key, value));
            }
            ControlFlow::Continue(())
        });
        Page { next: next.map(|cursor| (cursor.birth, cursor.offset)), items }
    }
}

fn key_of<'a>(effect: &Effect<'a>) -> Option<&'a [u8]> {
    match *effect {
        Effect::None | Effect::Close { .. } => None,
        Effect::Put { key, .. } | Effect::Delete { key } => Some(key),
    }
}

fn is_expired(entry: &Entry<'_>, at: Moment) -> bool {
    entry.expires_at_ms != 0 && entry.expires_at_ms <= at.unix_ms
}

fn value_reply<'a>(entry: Option<Entry<'a>>) -> Reply<'a> {
    entry.map_or(Reply::Absent, |entry| Reply::Value(entry.value))
}
