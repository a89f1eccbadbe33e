//! A few groups on a bench: every message is delivered, or lost, by hand.

use std::collections::VecDeque;

use ringkv::base::limits::GROUP_ELECTION_TICKS;
use ringkv::base::{MemberId, Ver};
use ringkv::proto::Group;
use ringkv::wire::GroupMsg;

/// Voters 1, 2, ... of one configuration.
///
/// - What two of them decide is the same, as far as both have decided: `check` after every step.
pub struct Lab {
    pub groups: Vec<Group>,
    /// What each has decided.
    pub decided: Vec<Vec<Vec<u8>>>,
    wire: VecDeque<(usize, usize, GroupMsg)>,
    /// Messages that were sent, and entries in them.
    pub sent: (usize, usize),
}

impl Lab {
    /// `batch` is how many entries a message has at most.
    pub fn new(voters: u64, batch: usize) -> Self {
        let members: Vec<MemberId> = (1..=voters).map(MemberId).collect();
        let group = |me: &MemberId| {
            let mut group = Group::new(Ver(1), *me, &members).expect("one of them");
            group.limit_batches(batch, usize::MAX);
            group
        };
        let groups: Vec<Group> = members.iter().map(group).collect();
        let decided = vec![Vec::new(); groups.len()];
        Self { groups, decided, wire: VecDeque::new(), sent: (0, 0) }
    }

    /// Delivers everything among `these` voters, until nothing more is said; what others are sent
    /// is lost.
    pub fn talk(&mut self, these: &[usize]) -> Result<(), String> {
        self.deliver(usize::MAX, |from, to, _| these.contains(&from) && these.contains(&to))
    }

    /// Delivers the first `count` messages that are `wanted`, and what they lead to; other
    /// messages are lost.
    pub fn deliver(
        &mut self,
        mut count: usize,
        wanted: impl Fn(usize, usize, &GroupMsg) -> bool,
    ) -> Result<(), String> {
        self.collect()?;
        while let Some((from, to, msg)) = self.wire.pop_front() {
            if count > 0 && wanted(from, to, &msg) {
                count -= 1;
                self.groups[to].receive(MemberId(from as u64 + 1), &msg);
                self.collect()?;
            }
        }
        Ok(())
    }

    /// Time passes for one voter.
    pub fn tick(&mut self, at: usize, ticks: u32) -> Result<(), String> {
        (0..ticks).for_each(|_| self.groups[at].tick());
        self.collect()
    }

    /// Has `candidate` elected by `voters`; all of them hear of no leader any more, nor of voters
    /// if they led themselves. Nothing but votes is
    /// delivered: what the new leader says first is lost.
    pub fn elect(&mut self, candidate: usize, voters: &[usize]) -> Result<(), String> {
        self.quieten(candidate, voters)?;
        match self.try_elect_for(candidate, voters, 500)? {
            true => Ok(()),
            false => {
                Err(format!("voter {candidate} was not elected: {:?}", self.groups[candidate]))
            }
        }
    }

    /// The same, without insisting.
    pub fn try_elect(&mut self, candidate: usize, voters: &[usize]) -> Result<bool, String> {
        self.quieten(candidate, voters)?;
        self.try_elect_for(candidate, voters, 80)
    }

    fn quieten(&mut self, candidate: usize, voters: &[usize]) -> Result<(), String> {
        for at in voters.iter().chain([&candidate]) {
            self.tick(*at, GROUP_ELECTION_TICKS)?;
        }
        self.wire.clear();
        Ok(())
    }

    fn try_elect_for(
        &mut self,
        candidate: usize,
        voters: &[usize],
        ticks: u32,
    ) -> Result<bool, String> {
        for _ in 0..ticks {
            self.tick(candidate, 1)?;
            self.deliver(usize::MAX, |from, to, msg| {
                let is_vote = matches!(msg, GroupMsg::Vote { .. } | GroupMsg::VoteReply { .. });
                let is_theirs = from == candidate && voters.contains(&to)
                    || to == candidate && voters.contains(&from);
                is_vote && is_theirs
            })?;
            if self.groups[candidate].is_leader() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn propose(&mut self, at: usize, payload: &[u8]) -> bool {
        self.groups[at].propose(payload.to_vec(), false)
    }

    fn collect(&mut self) -> Result<(), String> {
        for (from, group) in self.groups.iter_mut().enumerate() {
            group.check_invariants();
            let payloads = group.take_decided().into_iter().map(|d| d.payload.to_vec());
            self.decided[from].extend(payloads);
            for (to, msg) in group.take_messages() {
                self.sent.0 += 1;
                if let GroupMsg::Append { entries, .. } = &msg {
                    self.sent.1 += entries.len();
                }
                self.wire.push_back((from, to.0 as usize - 1, msg));
            }
            if group.contradictions() > 0 {
                return Err(format!("voter {from} was told a contradiction: {group:?}"));
            }
        }
        for pair in self.decided.windows(2) {
            if pair[0].iter().zip(&pair[1]).any(|(a, b)| a != b) {
                return Err(format!("two decisions: {:?}", self.decided));
            }
        }
        Ok(())
    }
}
