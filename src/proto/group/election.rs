//! Elections: the paper's 5.2 and 5.4.1, pre-vote (9.6 of Ongaro's thesis), stickiness (6 of the
//! paper, its last issue).

use super::{Group, Role, is_term, next};
use crate::base::limits::{GROUP_ELECTION_TICKS, GROUP_HEARTBEAT_TICKS};
use crate::base::{LogIndex, Term};
use crate::proto::mutants::{self, Mutant};
use crate::wire::{Content, GroupMsg};

use super::append::Progress;

/// The answers to a campaign, by rank; `None` has not answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Votes(Vec<Option<bool>>);

impl Votes {
    fn own(members: usize, me: usize) -> Self {
        Self((0..members).map(|rank| (rank == me).then_some(true)).collect())
    }

    fn granted(&self) -> usize {
        self.0.iter().filter(|vote| **vote == Some(true)).count()
    }
}

impl Group {
    /// Asks whether it would be elected, before it disturbs anybody: a voter that was cut off, or
    /// is behind, stays in its term and overthrows no leader that others still hear.
    pub(super) fn pre_campaign(&mut self) {
        self.elapsed = 0;
        self.leader = None;
        self.role = Role::PreCandidate(Votes::own(self.members.len(), self.me));
        self.ask();
        self.count_votes();
    }

    /// Stands for leader of the next term.
    pub(super) fn campaign(&mut self) {
        if !is_term(next_term(self.kept.term)) {
            return;
        }
        self.elapsed = 0;
        self.leader = None;
        self.kept.term = next_term(self.kept.term);
        self.kept.voted = Some(self.me);
        self.role = Role::Candidate(Votes::own(self.members.len(), self.me));
        self.ask();
        self.count_votes();
    }

    /// Between two campaigns: a question, or its answer, may have been lost, or it came before the
    /// peer knew of this configuration, or while it still took the leader for alive.
    pub(super) fn ask_again(&mut self) {
        if self.elapsed.is_multiple_of(GROUP_HEARTBEAT_TICKS) {
            self.ask();
        }
    }

    fn ask(&mut self) {
        let (votes, pre, term) = match &self.role {
            Role::PreCandidate(votes) => (votes, true, next_term(self.kept.term)),
            Role::Candidate(votes) => (votes, false, self.kept.term),
            _ => return,
        };
        // A vote that is refused stays refused in its term, but what a voter would do may change.
        let is_open = |vote: &Option<bool>| vote.is_none() || pre && *vote == Some(false);
        let open = votes.0.iter().enumerate().filter(|(_, vote)| is_open(vote));
        let open: Vec<usize> = open.map(|(rank, _)| rank).collect();
        let (last_term, last_index) = (self.kept.log.last_term(), self.kept.log.last());
        for rank in open {
            self.send(rank, GroupMsg::Vote { term, pre, last_term, last_index });
        }
    }

    /// `last` is the term and the position of the candidate's last entry.
    pub(super) fn on_vote(&mut self, from: usize, term: Term, pre: bool, last: (Term, LogIndex)) {
        let own = self.kept.term;
        if term > own && self.hears_leader() {
            // Not even the term is taken: a leader that a majority hears is not overthrown. One
            // that has lost its majority steps down by itself.
            return self.send(from, GroupMsg::VoteReply { term: own, pre, granted: false });
        }
        let is_current = last >= (self.kept.log.last_term(), self.kept.log.last())
            || mutants::on(Mutant::GroupUpToDate);
        if pre {
            let granted = is_current && term > own;
            let term = if granted { term } else { own };
            return self.send(from, GroupMsg::VoteReply { term, pre, granted });
        }
        if term > own {
            self.adopt(term);
        }
        let is_free =
            self.kept.voted.is_none_or(|voted| voted == from) || mutants::on(Mutant::GroupVoteKept);
        let granted = term == self.kept.term && is_current && is_free;
        if granted {
            self.kept.voted = Some(from);
            self.role = Role::Follower;
            self.elapsed = 0;
        }
        self.send(from, GroupMsg::VoteReply { term: self.kept.term, pre, granted });
    }

    pub(super) fn on_vote_reply(&mut self, from: usize, term: Term, pre: bool, granted: bool) {
        let own = self.kept.term;
        if !granted && term > own {
            match is_term(term) {
                true => self.adopt(term),
                false => self.contradictions += 1,
            }
            return;
        }
        let votes = match &mut self.role {
            Role::PreCandidate(votes) if pre && (!granted || term == next_term(own)) => votes,
            Role::Candidate(votes) if !pre && term == own => votes,
            _ => return, // Of an older campaign.
        };
        votes.0[from] = Some(granted);
        self.count_votes();
    }

    fn count_votes(&mut self) {
        match &self.role {
            Role::PreCandidate(votes) if votes.granted() >= self.quorum() => self.campaign(),
            Role::Candidate(votes) if votes.granted() >= self.quorum() => self.lead(),
            _ => {}
        }
    }

    /// Takes the lead, and begins the term with an empty entry: entries of older terms are only
    /// decided together with one of this term (5.4.2), so without it they might wait for ever.
    fn lead(&mut self) {
        let end = self.kept.log.last();
        self.role = Role::Leader {
            ready_at: next(end),
            peers: vec![Progress::behind(end); self.members.len()],
        };
        self.leader = Some(self.me);
        self.elapsed = 0;
        self.add(Content::Empty);
    }

    fn hears_leader(&self) -> bool {
        self.is_leader() || self.leader.is_some() && self.elapsed < GROUP_ELECTION_TICKS
    }
}

fn next_term(term: Term) -> Term {
    Term(term.0 + 1)
}
