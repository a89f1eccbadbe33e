//! The consensus of the coordinator's group: what several voters decide, in which order.
//!
//! One [`Group`] is one *configuration*: Raft (Ongaro and Ousterhout, section 5 of the paper) among
//! fixed voters, with pre-vote and check-quorum, and without the paper's sections on changing the
//! membership and on compacting the log. Both are done by *sealing*: an entry that seals ends the
//! configuration, and its owner starts another `Group` with an empty log from the state at the
//! seal, with the same voters or with others. `docs/CONSENSUS.md` has the recipe, the evidence, and
//! which section of the paper each handler is.
//!
//! Sans-IO: it is handed ticks, messages and proposals; **hand it inputs, then call
//! `take_messages` and `take_decided`**. Entries are put into messages only then, so a turn with a
//! hundred proposals makes one message for each peer. Entries travel once: `next` moves when they
//! are sent, and while it is unknown what a peer has, empty probes find out.
//!
//! What it does not do: it never looks into a payload, keeps nothing on disk, and does not know
//! the clock. It does not defend against voters that lie, but whatever arrives, it neither panics
//! nor grows beyond its bounds; what no correct voter can have sent is ignored and counted.

mod append;
mod election;
mod log;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::append::Progress;
use self::election::Votes;
use self::log::Kept;
use super::mutants::{self, Mutant};
use crate::base::limits::{
    GROUP_APPEND_BYTES_MAX, GROUP_APPEND_ENTRIES_MAX, GROUP_ELECTION_TICKS, GROUP_HEARTBEAT_TICKS,
    GROUP_OUTBOX_MAX, GROUP_PAYLOAD_BYTES_MAX, GROUP_RANK_TICKS,
};
use crate::base::{LogIndex, MemberId, Term, Ver};
use crate::wire::{Content, GroupEntry, GroupMsg};

/// A voter in one configuration.
///
/// - `delivered` <= `commit` <= the end of the log, and `commit` never decreases.
/// - What is committed is never cut off.
/// - In each term at most one voter is leader; a leader voted for itself.
/// - A leader's log has at most one seal, and nothing is delivered behind the first one.
/// - For each peer of a leader `matched` < `next` <= the end of the log + 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    cfg: Ver,
    /// Voters are known by their rank in this list.
    members: Vec<MemberId>,
    me: usize,
    kept: Kept,
    commit: LogIndex,
    delivered: LogIndex,
    role: Role,
    /// Whose entries of this term were taken, until it falls silent.
    leader: Option<usize>,
    /// Ticks: of a leader since its last heartbeat, of another voter since it heard from the
    /// leader, gave its vote or campaigned.
    elapsed: u32,
    outbox: Vec<(usize, GroupMsg)>,
    batch_entries: usize,
    batch_bytes: usize,
    contradictions: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    Follower,
    /// Asks whether it would be elected.
    PreCandidate(Votes),
    Candidate(Votes),
    Leader {
        /// Its first entry of this term: once that is decided, so is everything older.
        ready_at: LogIndex,
        /// By rank; its own is not used.
        peers: Vec<Progress>,
    },
}

/// A payload that is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Its position. There are gaps: empty entries are not delivered.
    pub index: LogIndex,
    /// What was proposed.
    pub payload: Arc<[u8]>,
    /// It ends the configuration.
    pub seals: bool,
}

impl Group {
    /// A voter that has neither voted nor heard anything yet.
    ///
    /// `cfg` is the version of the map that named these voters; it is never used for two lists.
    /// `None` if `me` is not among the `members`, or if one is named twice. The first of them
    /// campaigns at once: put the one there that led before, and the new configuration has a
    /// leader after one round trip. A single member leads at once.
    pub fn new(cfg: Ver, me: MemberId, members: &[MemberId]) -> Option<Self> {
        let rank = members.iter().position(|mid| *mid == me)?;
        let repeated = |(at, mid): (usize, &MemberId)| members[..at].contains(mid);
        if members.iter().enumerate().any(repeated) {
            return None;
        }
        let mut group = Self {
            cfg,
            members: members.to_vec(),
            me: rank,
            kept: Kept::default(),
            commit: LogIndex::ZERO,
            delivered: LogIndex::ZERO,
            role: Role::Follower,
            leader: None,
            elapsed: 0,
            outbox: Vec::new(),
            batch_entries: GROUP_APPEND_ENTRIES_MAX,
            batch_bytes: GROUP_APPEND_BYTES_MAX,
            contradictions: 0,
        };
        if rank == 0 {
            group.campaign();
        }
        Some(group)
    }

    /// Sends smaller batches than `base::limits` allows: for slow links, and for tests that want
    /// to lose one half of what was proposed together.
    pub fn limit_batches(&mut self, entries: usize, bytes: usize) {
        self.batch_entries = entries.clamp(1, GROUP_APPEND_ENTRIES_MAX);
        self.batch_bytes = bytes.min(GROUP_APPEND_BYTES_MAX);
    }

    /// The configuration.
    pub fn cfg(&self) -> Ver {
        self.cfg
    }

    /// Its voters.
    pub fn members(&self) -> &[MemberId] {
        &self.members
    }

    /// The newest term that it has seen.
    pub fn term(&self) -> Term {
        self.kept.term
    }

    /// Who leads, as far as it knows.
    pub fn leader(&self) -> Option<MemberId> {
        self.leader.map(|rank| self.members[rank])
    }

    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// Whether it leads and knows all that was decided before: only then may it propose.
    pub fn is_ready(&self) -> bool {
        matches!(&self.role, Role::Leader { ready_at, .. } if self.commit >= *ready_at)
    }

    /// Whether everything in its log is decided and delivered.
    pub fn is_at_rest(&self) -> bool {
        self.delivered == self.kept.log.last()
    }

    /// Whether its log has a seal: then it proposes nothing more.
    pub fn is_sealed(&self) -> bool {
        self.kept.log.seal().is_some()
    }

    /// Length of the log. It only ends with the configuration, so an owner seals to the same
    /// voters from time to time.
    pub fn log_entries(&self) -> usize {
        self.kept.log.len()
    }

    /// Bytes of the log's payloads.
    pub fn log_bytes(&self) -> usize {
        self.kept.log.bytes()
    }

    /// How many messages came in that no correct voter sends: not zero is a bug or an attack.
    pub fn contradictions(&self) -> u64 {
        self.contradictions
    }

    /// Ten milliseconds have passed (`GROUP_TICK_MS`).
    pub fn tick(&mut self) {
        self.elapsed = self.elapsed.saturating_add(1);
        match &self.role {
            Role::Leader { .. } => self.tick_leader(),
            _ if self.elapsed >= self.patience() => self.pre_campaign(),
            Role::PreCandidate(_) | Role::Candidate(_) => self.ask_again(),
            Role::Follower => {}
        }
    }

    /// Ticks until it does something by itself: a leader its next heartbeat, another voter its next
    /// campaign.
    pub fn ticks_left(&self) -> u32 {
        let all = if self.is_leader() { GROUP_HEARTBEAT_TICKS } else { self.patience() };
        all.saturating_sub(self.elapsed).max(1)
    }

    /// A message of this configuration. Whoever is not a voter of it is not listened to.
    pub fn receive(&mut self, from: MemberId, msg: &GroupMsg) {
        let rank = self.members.iter().position(|mid| *mid == from);
        let Some(from) = rank.filter(|rank| *rank != self.me) else { return };
        match msg {
            GroupMsg::Vote { term, .. } | GroupMsg::Append { term, .. } if !is_term(*term) => {
                self.contradictions += 1;
            }
            GroupMsg::Vote { term, pre, last_term, last_index } => {
                self.on_vote(from, *term, *pre, (*last_term, *last_index));
            }
            GroupMsg::VoteReply { term, pre, granted } => {
                self.on_vote_reply(from, *term, *pre, *granted);
            }
            GroupMsg::Append { term, prev, prev_term, commit, entries } => {
                self.on_append(from, *term, (*prev, *prev_term), *commit, entries);
            }
            GroupMsg::AppendReply { term, accepted, prev, index } => {
                self.on_append_reply(from, *term, *accepted, *prev, *index);
            }
        }
    }

    /// There is a new connection to `peer`: what was under way to it is lost.
    pub fn reconnected(&mut self, peer: MemberId) {
        let rank = self.members.iter().position(|mid| *mid == peer);
        if let (Role::Leader { peers, .. }, Some(rank)) = (&mut self.role, rank)
            && let Some(peer) = peers.get_mut(rank)
        {
            peer.probe();
        }
    }

    /// The connection to `peer` broke and no new one can be made: it is probably dead, and if it
    /// is not, nothing is lost but an election. What silence would say in 150 ms is taken as said.
    /// While nobody has led this configuration yet, that goes for its first member.
    pub fn lost(&mut self, peer: MemberId) {
        let Some(rank) = self.members.iter().position(|mid| *mid == peer) else { return };
        let waits_for_it = rank != self.me && self.waits_for(rank);
        match &mut self.role {
            Role::Leader { peers, .. } => peers[rank].lost(),
            _ if waits_for_it => {
                // The slots of the living, from now on.
                let slot = self.me - usize::from(rank < self.me);
                let left = 1 + GROUP_RANK_TICKS * slot as u32;
                self.leader = None;
                self.elapsed = self.elapsed.max(self.patience().saturating_sub(left));
            }
            _ => {}
        }
    }

    /// Whether that member leads, or is the first who should and nobody else has tried yet.
    fn waits_for(&self, rank: usize) -> bool {
        let is_fresh = matches!(self.role, Role::Follower)
            && self.kept.log.len() == 0
            && self.kept.voted.is_none_or(|voted| voted == 0);
        self.leader == Some(rank) || (self.leader.is_none() && rank == 0 && is_fresh)
    }

    /// Proposes a payload; `seals` makes it the last one of this configuration. False, and nothing
    /// done, if this voter does not lead or is not ready, if there is a seal already, if the log
    /// is full, or if the payload is too long. True promises nothing: only what `take_decided`
    /// returns is decided, and a proposal of a leader that is overthrown may be lost, or decided
    /// under another one.
    pub fn propose(&mut self, payload: Vec<u8>, seals: bool) -> bool {
        let ended = self.is_sealed() && !mutants::on(Mutant::GroupFirstSeal);
        if !self.is_ready()
            || ended
            || payload.len() > GROUP_PAYLOAD_BYTES_MAX
            || !self.kept.log.has_room(payload.len(), seals)
        {
            return false;
        }
        let payload = payload.into();
        self.add(if seals { Content::Seal(payload) } else { Content::Change(payload) });
        true
    }

    /// What was decided since the last call, in order, each once. Nothing follows a seal.
    pub fn take_decided(&mut self) -> Vec<Decided> {
        let mut decided = Vec::new();
        while self.delivered < self.commit {
            let ended = self.kept.log.seal().is_some_and(|seal| self.delivered >= seal);
            if ended && !mutants::on(Mutant::GroupFirstSeal) {
                break;
            }
            self.delivered = next(self.delivered);
            let entry = self.kept.log.entry(self.delivered);
            let entry = entry.expect("what is committed is in the log");
            let (payload, seals) = match &entry.content {
                Content::Empty => continue,
                Content::Change(payload) => (Arc::clone(payload), false),
                Content::Seal(payload) => (Arc::clone(payload), true),
            };
            decided.push(Decided { index: self.delivered, payload, seals });
        }
        decided
    }

    /// What is to be sent now, in order for each receiver.
    pub fn take_messages(&mut self) -> Vec<(MemberId, GroupMsg)> {
        for rank in (0..self.members.len()).filter(|rank| *rank != self.me).collect::<Vec<_>>() {
            self.feed(rank);
        }
        let messages = std::mem::take(&mut self.outbox);
        messages.into_iter().map(|(rank, msg)| (self.members[rank], msg)).collect()
    }

    /// Panics if one of the bullets above does not hold. For tests.
    pub fn check_invariants(&self) {
        let last = self.kept.log.last();
        self.kept.log.check_invariants();
        assert!(self.commit <= last, "committed up to {:?} of {last:?}", self.commit);
        assert!(self.delivered <= self.commit, "delivered before it was committed");
        assert!(self.kept.log.last_term() <= self.kept.term, "an entry of a term to come");
        if let Role::Leader { ready_at, peers } = &self.role {
            assert_eq!(self.leader, Some(self.me), "a leader knows who leads");
            assert_eq!(self.kept.voted, Some(self.me), "a leader voted for itself");
            assert!(*ready_at <= last, "a leader never cuts off its own entries");
            for (rank, peer) in peers.iter().enumerate().filter(|(rank, _)| *rank != self.me) {
                peer.check(last).unwrap_or_else(|why| panic!("{why} for {rank}: {peer:?}"));
            }
        }
    }

    /// Appends an entry of its own: the caller leads.
    fn add(&mut self, content: Content) {
        self.kept.log.push(GroupEntry { term: self.kept.term, content });
        self.advance_commit();
    }

    /// How many voters are enough.
    fn quorum(&self) -> usize {
        match mutants::on(Mutant::GroupQuorum) {
            true => (self.members.len() / 2).max(1),
            false => self.members.len() / 2 + 1,
        }
    }

    /// Ticks of silence that it bears before it campaigns.
    fn patience(&self) -> u32 {
        GROUP_ELECTION_TICKS + GROUP_RANK_TICKS * self.me as u32
    }

    /// A newer term exists: whatever it was, it follows, and does not know whom yet.
    fn adopt(&mut self, term: Term) {
        if self.is_leader() {
            self.elapsed = 0; // Counted heartbeats so far.
        }
        self.kept.term = term;
        self.kept.voted = None;
        self.role = Role::Follower;
        self.leader = None;
    }

    fn send(&mut self, to: usize, msg: GroupMsg) {
        if self.outbox.len() < GROUP_OUTBOX_MAX {
            self.outbox.push((to, msg));
        }
    }
}

/// Whether a term may stand in a message. The largest numbers may not, so that nobody can be
/// brought to a term after which there is none.
fn is_term(term: Term) -> bool {
    term > Term::ZERO && term.0 < u64::MAX / 2
}

fn next(index: LogIndex) -> LogIndex {
    LogIndex(index.0 + 1)
}
