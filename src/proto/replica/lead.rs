//! What only a primary has: its followers, its streams, and who waits for an answer.

use std::collections::VecDeque;

use super::follow::Ack;
use super::log::{Log, Overlay};
use super::session::{Ahead, Marks, Sessions, reply_of};
use super::transfer::Outgoing;
use crate::base::limits::{
    APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, HELD_BYTES_MAX, HELD_OPERATIONS_MAX, SLOW_REPLICA_MS,
    WINDOW_ENTRIES_MAX,
};
use crate::base::{Cfg, LearnerId, MemberId, Nanos, PartitionId, Seq, StreamId, Ver};
use crate::proto::mutants::{self, Mutant};
use crate::proto::{Caller, Moment, Outbox};
use crate::ring::{Part, ReplicaSet};
use crate::store::{Cursor, Table};
use crate::wire::{Effect, Outcome, PeerMsg, Reply, Request};

/// Without any progress for this long, what is not acknowledged is sent again.
const RETRY_MS: u64 = 250;
/// Entries that a replica may lack and still count as level: it makes up for them at once.
const NEARLY_LEVEL: u64 = 1024;
/// Who may wait for entries: each entry has one caller, and senders of doubles share the rest.
const WAITERS_MAX: usize = 2 * WINDOW_ENTRIES_MAX;
/// Entries under way to one replica before the next acknowledgement.
const IN_FLIGHT_ENTRIES_MAX: u64 = 16 * 1024;

/// Entries on their way to one replica.
#[derive(Debug)]
pub(super) struct Feed {
    mid: MemberId,
    /// Zero for an in-sync replica, else its snapshot stream.
    strm: StreamId,
    /// It holds everything up to here.
    matched: Seq,
    /// Everything up to here is on its way.
    sent: Seq,
    /// The commit position that it was told last.
    commit_sent: Seq,
    /// Tell it the commit position although there is no entry to send.
    tell_commit: bool,
    /// Since when it owes an acknowledgement without any progress, if it does. A retry does not
    /// begin that anew.
    owing_since: Option<Nanos>,
    tried_at: Nanos,
}

impl Feed {
    fn new(mid: MemberId, strm: StreamId, from: Seq, now: Nanos) -> Self {
        Self {
            mid,
            strm,
            matched: from,
            sent: from,
            commit_sent: Seq::ZERO,
            tell_commit: false,
            owing_since: None,
            tried_at: now,
        }
    }

    fn begin_at(&mut self, start: Seq) {
        self.matched = start;
        self.sent = start;
    }

    fn acknowledge(&mut self, matched: Seq, now: Nanos) {
        if matched > self.matched {
            self.matched = matched;
            self.sent = self.sent.max(matched);
            self.owing_since = Some(now);
        }
        if self.matched == self.sent {
            self.owing_since = None;
        }
    }

    fn rewind(&mut self, to: Seq, log: &Log) {
        self.sent = to.max(log.base()).min(log.last());
        self.matched = self.matched.min(self.sent).max(log.base());
    }

    /// Sends entries after `sent`, in as many messages as they need.
    fn send(&mut self, context: &Sending<'_>, mut force: bool, sync: bool, out: &mut dyn Outbox) {
        let Sending { now, pid, cfg, commit, log, .. } = *context;
        let told = self.tell_commit && self.commit_sent < commit;
        force |= told;
        self.tell_commit = false;
        while force || (self.sent < log.last() && self.in_flight() < IN_FLIGHT_ENTRIES_MAX) {
            force = false;
            let prev = self.sent;
            let mut bytes = 0;
            let entries: Vec<_> = log
                .after(prev)
                .take(APPEND_ENTRIES_MAX)
                .take_while(|entry| {
                    let fits = bytes == 0 || bytes + entry_bytes(&entry.effect) <= APPEND_BYTES_MAX;
                    bytes += entry_bytes(&entry.effect);
                    fits
                })
                .collect();
            if sync || !entries.is_empty() {
                self.owing_since.get_or_insert(now);
            }
            self.sent = Seq(prev.0 + entries.len() as u64);
            self.commit_sent = commit;
            self.tried_at = now;
            out.send(
                self.mid,
                &PeerMsg::Append {
                    pid,
                    cfg,
                    strm: self.strm,
                    sync,
                    prev,
                    prev_ecfg: log.ecfg(prev),
                    commit,
                    last: log.last(),
                    entries,
                },
            );
        }
    }

    fn in_flight(&self) -> u64 {
        self.sent.0 - self.matched.0.min(self.sent.0)
    }

    fn is_idle(&self, log: &Log, commit: Seq) -> bool {
        self.matched >= log.last() && self.commit_sent >= commit
    }
}

fn entry_bytes(effect: &Effect<'_>) -> usize {
    match effect {
        Effect::None => 16,
        Effect::Put { key, value, .. } => 16 + key.len() + value.len(),
        Effect::Delete { key } => 16 + key.len(),
        Effect::Close { .. } => 32,
    }
}

/// What every message of one `send` has in common.
#[derive(Clone, Copy)]
pub(super) struct Sending<'a> {
    pub(super) now: Nanos,
    pub(super) pid: PartitionId,
    pub(super) cfg: Cfg,
    pub(super) resets: u32,
    pub(super) commit: Seq,
    pub(super) log: &'a Log,
    pub(super) sessions: &'a Sessions,
}

#[derive(Debug)]
struct Follower {
    feed: Feed,
    /// It acknowledged the reconciliation in this configuration (W3).
    synced: bool,
    sync_sent: bool,
}

#[derive(Debug)]
struct Stream {
    feed: Feed,
    outgoing: Outgoing,
    begun: bool,
}

#[derive(Debug)]
struct Waiter {
    seq: Seq,
    caller: Caller,
    outcome: Outcome,
}

/// The part of a primary's state that a backup has no use for.
///
/// - `waiters` are in the order of their positions; several may wait for one (S2).
/// - A member is in `followers` or in `streams`, never in both.
/// - `overlay` knows exactly the keys of the entries after the commit position, `ahead` their
///   sessions.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// The last entry at promotion: it must be committed before the first answer (N1).
    pub(super) reconciled_at: Seq,
    /// When it may serve (N1): zero as soon as the old primary said that it stopped.
    pub(super) active_from: Nanos,
    pub(super) overlay: Overlay,
    pub(super) ahead: Ahead,
    pub(super) marks: Marks,
    pub(super) sweep: Cursor,
    pub(super) goal: super::goal::Pursuit,
    pub(super) reads: super::barrier::Reads,
    followers: Vec<Follower>,
    streams: Vec<Stream>,
    streams_opened: u64,
    waiters: VecDeque<Waiter>,
    held: VecDeque<(Caller, Vec<u8>)>,
    held_bytes: usize,
}

impl Lead {
    /// A3: the configuration is new, so nobody has acknowledged anything in it.
    pub(super) fn begin_cfg(&mut self, part: &Part, me: MemberId, commit: Seq, now: Nanos) {
        self.keep_listed_streams(part);
        self.reads.begin_again();
        let others = part.isr.iter().filter(|mid| *mid != me);
        self.followers = others
            .map(|mid| Follower {
                feed: Feed::new(mid, StreamId::ZERO, commit, now),
                synced: false,
                sync_sent: false,
            })
            .collect();
    }

    /// L7: a stream, shadow or not, ends when the map no longer lists it as a learner.
    pub(super) fn keep_listed_streams(&mut self, part: &Part) {
        self.streams.retain(|s| part.learner(s.feed.mid) == Some(s.outgoing.lid));
    }

    /// L1: opens a stream for each listed learner that has none, and again for one that is stuck.
    pub(super) fn open_streams(
        &mut self,
        part: &Part,
        commit: Seq,
        now: Nanos,
        stream_id: impl Fn(u64) -> StreamId,
    ) {
        self.streams.retain(|s| !s.outgoing.is_stuck(now));
        for (mid, lid) in &part.learners {
            if self.streams.iter().any(|s| s.feed.mid == *mid) {
                continue;
            }
            self.streams_opened += 1;
            let strm = stream_id(self.streams_opened);
            self.streams.push(Stream {
                feed: Feed::new(*mid, strm, commit, now),
                outgoing: Outgoing::new(*mid, *lid, strm, now),
                begun: false,
            });
        }
    }

    /// W3: up to where every in-sync replica and every counted learner holds the list.
    pub(super) fn agreed(&self, last: Seq) -> Option<Seq> {
        if self.followers.iter().any(|f| !f.synced) {
            return None;
        }
        let followers = self.followers.iter().map(|f| f.feed.matched);
        let is_needed = |s: &&Stream| s.outgoing.counted && !mutants::on(Mutant::NoShadow);
        let counted = self.streams.iter().filter(is_needed).map(|s| s.feed.matched);
        Some(followers.chain(counted).min().unwrap_or(last).min(last))
    }

    /// N1: whether every in-sync replica shares the list in this configuration.
    pub(super) fn is_reconciled(&self) -> bool {
        self.followers.iter().all(|f| f.synced)
    }

    /// N1: whether what it took over is committed, so that it may serve when its time comes.
    pub(super) fn has_caught_up(&self, commit: Seq) -> bool {
        (self.is_reconciled() && commit >= self.reconciled_at) || mutants::on(Mutant::NoReconcile)
    }

    /// Whether nobody else gets a copy of anything.
    pub(super) fn stands_alone(&self) -> bool {
        self.followers.is_empty() && self.streams.is_empty()
    }

    /// Whether a commit needs nobody else, so that no acknowledgement will bring it about.
    pub(super) fn commits_alone(&self) -> bool {
        self.followers.is_empty() && !self.streams.iter().any(|s| s.outgoing.counted)
    }

    /// Everybody else whom a commit needs, and without whom no read is answered (R1, R2).
    pub(super) fn needed(&self) -> ReplicaSet {
        let counted = self.streams.iter().filter(|s| s.outgoing.counted).map(|s| s.feed.mid);
        self.followers.iter().map(|f| f.feed.mid).chain(counted).collect()
    }

    /// In-sync replicas alone, for the mutants that ask no learner.
    pub(super) fn in_sync(&self) -> ReplicaSet {
        self.followers.iter().map(|f| f.feed.mid).collect()
    }

    /// Whether `mid` is in sync and nearly level with the log.
    pub(super) fn is_level(&self, mid: MemberId, last: Seq) -> bool {
        let follower = self.followers.iter().find(|f| f.feed.mid == mid);
        follower.is_some_and(|f| f.synced && f.feed.matched.0 + NEARLY_LEVEL >= last.0)
    }

    /// L5: counts learners that are nearly level, and turns those that hold everything committed
    /// into shadows; the first shadow.
    pub(super) fn shadow(&mut self, commit: Seq) -> Option<(MemberId, LearnerId)> {
        for Stream { feed, outgoing, .. } in &mut self.streams {
            let level = outgoing.snap_ok && feed.matched.0 + NEARLY_LEVEL >= commit.0;
            if level && !std::mem::replace(&mut outgoing.counted, true) {
                // Its lease is needed from now on, too.
                self.reads.leased_until = Nanos::ZERO;
            }
            outgoing.shadow |= outgoing.counted && feed.matched >= commit;
        }
        let shadow = self.streams.iter().find(|s| s.outgoing.shadow)?;
        Some((shadow.feed.mid, shadow.outgoing.lid))
    }

    pub(super) fn on_ack(&mut self, from: MemberId, ack: &Ack, now: Nanos) {
        if ack.strm == StreamId::ZERO {
            if let Some(f) = self.followers.iter_mut().find(|f| f.feed.mid == from) {
                f.synced = f.synced || f.sync_sent;
                f.feed.acknowledge(ack.matched, now);
            }
        } else if let Some(s) = self.stream_mut(from, ack.strm) {
            s.outgoing.snap_ok |= ack.snap_ok;
            s.feed.acknowledge(ack.matched, now);
        }
    }

    pub(super) fn on_nack(&mut self, from: MemberId, strm: StreamId, have: Seq, log: &Log) {
        if strm == StreamId::ZERO {
            if let Some(f) = self.followers.iter_mut().find(|f| f.feed.mid == from) {
                f.feed.rewind(have, log);
            }
        } else if let Some(s) = self.stream_mut(from, strm) {
            s.feed.rewind(have, log);
        }
    }

    /// L4: the learner does not have what was sent.
    pub(super) fn on_snap_lost(&mut self, from: MemberId, strm: StreamId) {
        if let Some(stream) = self.stream_mut(from, strm) {
            stream.outgoing.is_lost = true;
        }
    }

    fn stream_mut(&mut self, mid: MemberId, strm: StreamId) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|s| s.feed.mid == mid && s.outgoing.strm == strm)
    }

    /// Everything up to here is committed and held by everybody: the log may forget it.
    pub(super) fn forgettable(&self, commit: Seq) -> Seq {
        let followers = self.followers.iter().map(|f| f.feed.matched);
        let streams = self.streams.iter().map(|s| s.feed.matched);
        followers.chain(streams).min().unwrap_or(commit).min(commit)
    }

    pub(super) fn send(&mut self, context: &Sending<'_>, table: &Table, out: &mut dyn Outbox) {
        for follower in &mut self.followers {
            // Until it acknowledged one, every message reconciles: the first may have been lost.
            let sync = !follower.synced;
            follower.feed.send(context, sync && !follower.sync_sent, sync, out);
            follower.sync_sent = true;
        }
        for stream in &mut self.streams {
            if !stream.begun {
                stream.begun = true;
                let Outgoing { lid, strm, .. } = stream.outgoing;
                let Sending { pid, cfg, resets, commit: start, .. } = *context;
                // Exactly here: the sessions that follow are those of this position.
                stream.feed.begin_at(start);
                let begin = PeerMsg::SnapBegin { pid, cfg, lid, strm, start, resets };
                out.send(stream.feed.mid, &begin);
                stream.outgoing.send_sessions(pid, context.sessions, out);
            }
            stream.outgoing.pump(context.pid, table, context.now, out);
            stream.feed.send(context, false, false, out);
        }
    }

    /// Rewinds what made no progress, and tells followers a commit position that no entry carried.
    /// Returns a follower that is silent for too long (W5).
    pub(super) fn retry(
        &mut self,
        at: Moment,
        log: &Log,
        part: &Part,
        out: &dyn Outbox,
    ) -> Option<MemberId> {
        // What still waits in the connection's buffer is not lost; sending it again would only
        // make it later.
        let retry_due = |feed: &Feed| {
            let waited_ms = at.now.since(feed.tried_at).as_millis() as u64;
            waited_ms >= RETRY_MS && out.bulk_room(feed.mid) != Some(0)
        };
        let mut slowest: Option<(u64, MemberId)> = None;
        for follower in &mut self.followers {
            follower.feed.tell_commit = true;
            let behind = !follower.synced || follower.feed.matched < log.last();
            if behind && retry_due(&follower.feed) {
                let from = follower.feed.matched;
                follower.feed.rewind(from, log);
                follower.sync_sent = false;
            }
            let owing_since = follower.feed.owing_since.filter(|_| behind);
            let silent_ms = owing_since.map_or(0, |since| at.now.since(since).as_millis() as u64);
            if silent_ms >= SLOW_REPLICA_MS && part.isr.contains(follower.feed.mid) {
                slowest = slowest.max(Some((silent_ms, follower.feed.mid)));
            }
        }
        for stream in &mut self.streams {
            stream.feed.tell_commit = true;
            if stream.begun && stream.feed.matched < log.last() && retry_due(&stream.feed) {
                let from = stream.feed.matched;
                stream.feed.rewind(from, log);
            }
        }
        slowest.map(|(_, mid)| mid)
    }

    /// The connection to `peer` is new: what was on the old one is lost.
    pub(super) fn resend_to(&mut self, peer: MemberId, log: &Log, commit: Seq) {
        self.reads.resend();
        for follower in self.followers.iter_mut().filter(|f| f.feed.mid == peer) {
            let from = if follower.synced { follower.feed.matched } else { commit };
            follower.feed.rewind(from, log);
            follower.sync_sent = follower.synced;
            follower.feed.commit_sent = Seq::ZERO;
        }
        // L8: a snapshot dies with its connection; a whole one only has its entries sent again.
        let keeps = |s: &Stream| match s.outgoing.snap_ok {
            true => !mutants::on(Mutant::ShadowDropped),
            false => mutants::on(Mutant::LostChunk),
        };
        self.streams.retain(|s| s.feed.mid != peer || keeps(s));
        for stream in self.streams.iter_mut().filter(|s| s.feed.mid == peer) {
            let from = stream.feed.matched;
            stream.feed.rewind(from, log);
        }
    }

    pub(super) fn wait(&mut self, seq: Seq, caller: Caller, outcome: Outcome) {
        debug_assert!(self.waiters.back().is_none_or(|w| w.seq < seq), "waiters are ordered");
        self.waiters.push_back(Waiter { seq, caller, outcome });
    }

    /// S2, S2': one more who waits for an entry that is there already.
    pub(super) fn attach(
        &mut self,
        seq: Seq,
        caller: Caller,
        outcome: Outcome,
        out: &mut dyn Outbox,
    ) {
        if self.waiters.len() >= WAITERS_MAX {
            return out.reply(caller, &Reply::Busy);
        }
        let at = self.waiters.partition_point(|waiter| waiter.seq <= seq);
        self.waiters.insert(at, Waiter { seq, caller, outcome });
    }

    /// W4: answers what is committed, if the in-sync set is large enough.
    pub(super) fn release(&mut self, commit: Seq, writable: bool, out: &mut dyn Outbox) {
        let writable = writable || mutants::on(Mutant::HeldAck);
        while writable && self.waiters.front().is_some_and(|w| w.seq <= commit) {
            let Some(waiter) = self.waiters.pop_front() else { return };
            out.reply(waiter.caller, &reply_of(waiter.outcome));
        }
        if self.waiters.is_empty() && self.waiters.capacity() > 64 {
            self.waiters = VecDeque::new();
        }
    }

    /// Keeps an operation for later, unless too many are kept already.
    pub(super) fn hold(&mut self, caller: Caller, request: &Request<'_>, out: &mut dyn Outbox) {
        if self.held.len() >= HELD_OPERATIONS_MAX || self.held_bytes >= HELD_BYTES_MAX {
            return out.reply(caller, &Reply::Busy);
        }
        let mut bytes = Vec::with_capacity(64 + request.op.bytes());
        request.encode(&mut bytes);
        self.held_bytes += bytes.len();
        self.held.push_back((caller, bytes));
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes + self.reads.bytes()
    }

    pub(super) fn take_held(&mut self) -> VecDeque<(Caller, Vec<u8>)> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// A5: answers everybody who waits. What is in the log may still be committed by the next
    /// primary; what was only held was never executed.
    pub(super) fn dismiss(mut self: Box<Self>, hint: MemberId, ver: Ver, out: &mut dyn Outbox) {
        for waiter in &self.waiters {
            out.reply(waiter.caller, &Reply::Unknown);
        }
        let held = self.take_held().into_iter().map(|(caller, _)| caller);
        for caller in held.chain(self.reads.dismiss()) {
            out.reply(caller, &Reply::Retry { primary: hint, map_ver: ver });
        }
    }

    pub(super) fn is_busy(&self, log: &Log, commit: Seq) -> bool {
        let feeds_idle = self.followers.iter().all(|f| f.synced && f.feed.is_idle(log, commit));
        !feeds_idle
            || !self.streams.is_empty()
            || !self.waiters.is_empty()
            || !self.held.is_empty()
            || self.reads.is_busy()
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.streams.iter().any(|s| s.outgoing.is_sending())
    }
}

impl super::Replica {
    /// A3, N1: the map says that I am the primary of `self.part`.
    pub(super) fn take_lead(&mut self, at: Moment, leases_on: bool) {
        debug_assert!(self.complete, "an incomplete replica was promoted: {self:?}");
        let is_new = self.lead.is_none();
        let lead = self.lead.get_or_insert_default();
        lead.begin_cfg(&self.part, self.me, self.commit, at.now);
        if !is_new {
            return;
        }
        self.role = super::Role::Recovering;
        self.incoming = None;
        self.owed.clear();
        self.stopped = None;
        lead.reconciled_at = self.log.last();
        let nobody_before = self.part.pcfg == Cfg::ZERO;
        let handed = self.handed == Some((self.part.cfg, self.part.pcfg));
        let need_not_wait =
            nobody_before || handed || !leases_on || mutants::on(Mutant::NoLeaseWait);
        lead.active_from = if need_not_wait { Nanos::ZERO } else { self.predecessors_until };
        for entry in self.log.after(self.commit) {
            if let Effect::Put { key, .. } | Effect::Delete { key } = entry.effect {
                lead.overlay.note(key, entry.seq, &self.log);
            }
            lead.ahead.note(&self.sessions, &entry);
        }
    }

    /// Commits and applies what every replica holds, answers its clients, begins to serve when
    /// everything for that has come together (W3, W4, N1).
    pub(super) fn advance(&mut self, at: Moment, out: &mut dyn Outbox) {
        let Some(lead) = &self.lead else { return };
        if let Some(agreed) = lead.agreed(self.log.last()) {
            self.apply_through(agreed);
        }
        let writable = self.is_writable();
        let Some(lead) = &mut self.lead else { return };
        lead.release(self.commit, writable, out);
        self.log.drop_through(lead.forgettable(self.commit));
        let may_serve = self.role == super::Role::Recovering
            && lead.has_caught_up(self.commit)
            && at.now >= lead.active_from;
        if may_serve {
            self.role = super::Role::Primary;
            self.serve_held(at, out);
        }
    }
}
