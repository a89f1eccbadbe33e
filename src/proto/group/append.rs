//! The log: the paper's 5.3 and 5.4.2, check-quorum (6.2 of Ongaro's thesis), what is sent when.

use super::{Group, Role, next};
use crate::base::limits::{GROUP_ELECTION_TICKS, GROUP_HEARTBEAT_TICKS, GROUP_WINDOW_BYTES_MAX};
use crate::base::{LogIndex, Term};
use crate::proto::mutants::{self, Mutant};
use crate::wire::{GroupEntry, GroupMsg};

/// What a leader knows about a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    /// The logs agree up to here.
    matched: LogIndex,
    /// What is sent next. Everything before it was sent, or is known to be there.
    next: LogIndex,
    /// What is on its way lies behind this.
    settled: LogIndex,
    /// The commit position that it was last told.
    told: LogIndex,
    /// It is unknown whether what precedes `next` is there: until a probe is answered, no entries.
    is_probing: bool,
    /// Something is to be sent, although there may be no entry to send.
    is_due: bool,
    /// Ticks since it was heard, up to `GROUP_ELECTION_TICKS`.
    silence: u32,
}

impl Progress {
    /// A new leader takes a peer to have what it has itself, up to `end`.
    pub(super) fn behind(end: LogIndex) -> Self {
        Self {
            matched: LogIndex::ZERO,
            next: next(end),
            settled: end,
            told: LogIndex::ZERO,
            is_probing: false,
            is_due: true,
            silence: 0,
        }
    }

    /// Finds out what is there before anything more is sent.
    pub(super) fn probe(&mut self) {
        self.is_probing = true;
        self.is_due = true;
    }

    /// It does not count as heard any more.
    pub(super) fn lost(&mut self) {
        self.silence = GROUP_ELECTION_TICKS;
    }

    pub(super) fn check(&self, last: LogIndex) -> Result<(), &'static str> {
        let is_ordered = self.matched < self.next && self.next <= next(last);
        if is_ordered { Ok(()) } else { Err("the positions are out of order") }
    }

    fn prev(&self) -> LogIndex {
        LogIndex(self.next.0 - 1)
    }
}

impl Group {
    /// Heartbeats; and a leader that does not hear from a majority stops, so that its owner does
    /// not go on waiting for decisions that cannot come, and the others may elect another.
    pub(super) fn tick_leader(&mut self) {
        let (me, quorum) = (self.me, self.quorum());
        let beats = self.elapsed >= GROUP_HEARTBEAT_TICKS;
        let Role::Leader { peers, .. } = &mut self.role else { return };
        let mut heard = 0;
        for (rank, peer) in peers.iter_mut().enumerate() {
            peer.silence = (peer.silence + 1).min(GROUP_ELECTION_TICKS);
            peer.is_due |= beats;
            heard += usize::from(rank == me || peer.silence < GROUP_ELECTION_TICKS);
        }
        if beats {
            self.elapsed = 0;
        }
        if heard < quorum {
            self.role = Role::Follower;
            self.leader = None;
            self.elapsed = 0;
        }
    }

    /// Puts what a peer is to get into the outbox.
    pub(super) fn feed(&mut self, rank: usize) {
        while let Some(msg) = self.next_append(rank) {
            self.send(rank, msg);
        }
    }

    fn next_append(&mut self, rank: usize) -> Option<GroupMsg> {
        let log = &self.kept.log;
        let Role::Leader { peers, .. } = &mut self.role else { return None };
        let peer = peers.get_mut(rank)?;
        let prev = peer.prev();
        let is_window_full = log.bytes_between(peer.settled, prev) >= GROUP_WINDOW_BYTES_MAX;
        let entries = match peer.is_probing || is_window_full {
            true => Vec::new(),
            false => log.batch(prev, self.batch_entries, self.batch_bytes),
        };
        let is_news = !peer.is_probing && (!entries.is_empty() || peer.told < self.commit);
        if !is_news && !peer.is_due {
            return None;
        }
        peer.next = LogIndex(peer.next.0 + entries.len() as u64);
        peer.told = self.commit;
        peer.is_due = false;
        let prev_term = log.term_at(prev).expect("what was sent is in the log");
        Some(GroupMsg::Append {
            term: self.kept.term,
            prev,
            prev_term,
            commit: self.commit,
            entries,
        })
    }

    /// `prev` is the position that the entries follow, and the term of the leader's entry there.
    pub(super) fn on_append(
        &mut self,
        from: usize,
        term: Term,
        prev: (LogIndex, Term),
        commit: LogIndex,
        entries: &[GroupEntry],
    ) {
        let (prev, prev_term) = prev;
        if term < self.kept.term {
            let (term, index) = (self.kept.term, LogIndex::ZERO);
            let reply = GroupMsg::AppendReply { term, accepted: false, prev, index };
            return self.send(from, reply);
        }
        let is_rival = term == self.kept.term && self.leader.is_some_and(|leader| leader != from);
        if is_rival || !is_sound(entries, prev_term, term) {
            self.contradictions += 1; // Two leaders in a term, or terms that go back.
            return;
        }
        if term > self.kept.term {
            self.adopt(term);
        }
        self.role = Role::Follower;
        self.leader = Some(from);
        self.elapsed = 0;
        let agrees = match mutants::on(Mutant::GroupLogMatching) {
            true => prev <= self.kept.log.last(),
            false => self.kept.log.term_at(prev) == Some(prev_term),
        };
        let (accepted, index) = match agrees {
            true => (true, self.take_entries(prev, entries)),
            // What is committed agrees with every leader.
            false => (false, self.kept.log.retreat(prev).max(self.commit)),
        };
        if accepted {
            self.commit_to(commit.min(index));
        }
        self.send(from, GroupMsg::AppendReply { term, accepted, prev, index });
    }

    /// Takes entries that follow `prev`, where the logs agree; up to where they agree afterwards.
    fn take_entries(&mut self, prev: LogIndex, entries: &[GroupEntry]) -> LogIndex {
        let mut index = prev;
        for entry in entries {
            let at = next(index);
            match self.kept.log.term_at(at) {
                Some(term) if term == entry.term => {}
                Some(_) if mutants::on(Mutant::GroupTruncation) => {}
                Some(_) if at <= self.commit => {
                    self.contradictions += 1;
                    return index;
                }
                Some(_) => self.kept.log.truncate(index),
                None => {}
            }
            if at > self.kept.log.last() {
                if !self.kept.log.can_hold(entry.content.payload().len()) {
                    return index;
                }
                self.kept.log.push(entry.clone());
            }
            index = at;
        }
        index
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: usize,
        term: Term,
        accepted: bool,
        prev: LogIndex,
        index: LogIndex,
    ) {
        if term > self.kept.term {
            match super::is_term(term) {
                true => self.adopt(term),
                false => self.contradictions += 1,
            }
            return;
        }
        let last = self.kept.log.last();
        let Role::Leader { peers, .. } = &mut self.role else { return };
        if term < self.kept.term {
            return;
        }
        if prev > last || index > last && accepted {
            self.contradictions += 1;
            return;
        }
        let peer = &mut peers[from];
        peer.silence = 0;
        if accepted {
            peer.matched = peer.matched.max(index);
            peer.next = peer.next.max(next(peer.matched));
            peer.settled = peer.settled.max(index);
            peer.is_probing &= next(index) < peer.next;
            self.advance_commit();
        } else if prev > peer.matched && (!peer.is_probing || prev == peer.prev()) {
            // Refusals that were overtaken are left out, so that each one is acted on once.
            let agreed = index.min(LogIndex(prev.0 - 1)).max(peer.matched);
            peer.next = next(agreed);
            peer.settled = agreed;
            peer.probe();
        }
    }

    /// Commits what a majority has, if that ends with an entry of this term (5.4.2).
    pub(super) fn advance_commit(&mut self) {
        let last = self.kept.log.last();
        let Role::Leader { peers, .. } = &self.role else { return };
        let position = |(rank, peer): (usize, &Progress)| match rank == self.me {
            true => last,
            false => peer.matched,
        };
        let mut matched: Vec<LogIndex> = peers.iter().enumerate().map(position).collect();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let index = matched[self.quorum() - 1];
        let is_own = self.kept.log.term_at(index) == Some(self.kept.term);
        if is_own || mutants::on(Mutant::GroupCurrentTerm) {
            self.commit_to(index);
        }
    }

    fn commit_to(&mut self, index: LogIndex) {
        debug_assert!(index <= self.kept.log.last(), "only what is in the log is committed");
        self.commit = self.commit.max(index);
    }
}

/// Whether the terms are such that a leader of `term` may have these entries behind `prev_term`.
fn is_sound(entries: &[GroupEntry], prev_term: Term, term: Term) -> bool {
    let mut terms = vec![prev_term];
    terms.extend(entries.iter().map(|entry| entry.term));
    terms.is_sorted()
        && terms[terms.len() - 1] <= term
        && terms[1..].iter().all(|term| *term > Term::ZERO)
}
