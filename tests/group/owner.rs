//! What the owner of a group does: the rules of reconfiguration, on a state that is small enough
//! to be checked as a whole. The owner of the ring map does the same with maps.
//!
//! 1. The *state* is a value with a version, one more with each change. It names the voters, and
//!    the version that named them, its *configuration*. There is one sequence of states.
//! 2. A command is executed by the leader alone, on its *draft*: the decided state and what it has
//!    proposed itself. What is proposed is the difference, from one version to the next. So what
//!    the log holds fits the decided state without a gap, whoever proposed it.
//! 3. A difference that names voters seals. When it is decided the owner starts the next
//!    configuration at once, with an empty log, if it is among the voters; else it retires.
//! 4. A state that is announced is decided, never a draft. Whoever gets a newer one adopts it, and
//!    starts its configuration if that is newer too. What the log decides later and the state
//!    contains already is skipped, by its version.
//! 5. A message of an older configuration is answered by the state, one of a newer is ignored: its
//!    state will come, because whoever has a newer one than a voter that it hears of sends it.
//! 6. A command has an identity or names the configuration it was thought up for, so that a second
//!    one does nothing. It is passed on by any voter: whoever is cut off from the leader alone
//!    still reaches it.
//! 7. A long log is ended by sealing to the same voters.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringkv::base::{MemberId, Ver};
use ringkv::proto::Group;
use ringkv::proto::group::Decided;
use ringkv::proto::mutants::{self, Mutant};
use ringkv::wire::{GroupMsg, Reader, Writer};

/// Ticks after which a voter is told again what this one has, if nothing else is set.
pub const GOSSIP_TICKS: u32 = 5;
/// How often a command is passed on.
const HOPS: u8 = 2;

/// One step from a version to the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A numbered command took place.
    Done(u64),
    /// Others vote from now on.
    Voters(Vec<MemberId>),
}

/// The replicated state: all its changes, so that two can be compared from the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub changes: Vec<Change>,
    pub done: BTreeSet<u64>,
    pub cfg: Ver,
    pub voters: Vec<MemberId>,
}

impl State {
    pub fn ver(&self) -> Ver {
        Ver(self.changes.len() as u64)
    }

    /// Takes a step; `Err` if it is not the next one.
    fn apply(&mut self, from: Ver, change: Change) -> Result<(), String> {
        if from != self.ver() {
            return Err(format!("a step from {from:?} is decided at {:?}", self.ver()));
        }
        match &change {
            Change::Done(number) if !self.done.insert(*number) => {
                return Err(format!("command {number} is decided twice"));
            }
            Change::Done(_) => {}
            Change::Voters(voters) => {
                self.cfg = Ver(from.0 + 1);
                self.voters.clone_from(voters);
            }
        }
        self.changes.push(change);
        Ok(())
    }
}

/// What is asked of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Number(u64),
    /// Only in configuration `cfg`: what was thought up for another one is overtaken.
    Voters {
        cfg: Ver,
        voters: Vec<MemberId>,
    },
}

/// What owners say to each other.
#[derive(Clone, Debug)]
pub enum Packet {
    Group { cfg: Ver, msg: GroupMsg },
    Have(Ver),
    State(Arc<State>),
    Submit { command: Command, attempt: u64, hops: u8 },
}

/// One process.
#[derive(Debug)]
pub struct Owner {
    me: MemberId,
    /// What is decided.
    state: Arc<State>,
    group: Option<Group>,
    /// What its proposals will have made of the state, while it leads.
    draft: Option<State>,
    /// Peers that could not be reached last.
    lost: BTreeSet<MemberId>,
    ticks: u32,
    outbox: Vec<(MemberId, Packet)>,
    pub tuning: Tuning,
    /// For the oracle: what was decided, what was answered, what went wrong.
    pub decided: Vec<(Ver, Decided)>,
    pub answered: Vec<u64>,
    pub violation: Option<String>,
}

/// What differs between runs.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Entries of a message.
    pub batch: usize,
    /// Entries of a log before it is ended.
    pub seal_after: usize,
    pub gossip_ticks: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { batch: 64, seal_after: 1000, gossip_ticks: GOSSIP_TICKS }
    }
}

impl Owner {
    /// The only one of a new ring.
    pub fn create(me: MemberId, tuning: Tuning) -> Self {
        let mut owner = Self::join(me, tuning);
        let first = Change::Voters(vec![me]);
        Arc::make_mut(&mut owner.state).apply(Ver::ZERO, first).expect("the first step");
        owner.settle();
        owner
    }

    /// One that knows nothing yet and waits to be told.
    pub fn join(me: MemberId, tuning: Tuning) -> Self {
        Self {
            me,
            state: Arc::default(),
            group: None,
            draft: None,
            lost: BTreeSet::new(),
            ticks: me.0 as u32,
            outbox: Vec::new(),
            tuning,
            decided: Vec::new(),
            answered: Vec::new(),
            violation: None,
        }
    }

    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    pub fn tick(&mut self) {
        self.ticks += 1;
        if let Some(group) = &mut self.group {
            group.tick();
        }
        if self.ticks.is_multiple_of(self.tuning.gossip_ticks) {
            self.tell_voters(Packet::Have(self.state.ver()));
        }
        self.settle();
        self.end_long_log();
    }

    pub fn reconnected(&mut self, peer: MemberId) {
        self.lost.remove(&peer);
        if let Some(group) = &mut self.group {
            group.reconnected(peer);
        }
        self.settle();
    }

    /// The connection to `peer` broke, and no new one can be made.
    pub fn lost(&mut self, peer: MemberId) {
        self.lost.insert(peer);
        if let Some(group) = &mut self.group {
            group.lost(peer);
        }
        self.settle();
    }

    pub fn receive(&mut self, from: MemberId, packet: Packet) {
        match packet {
            Packet::Group { cfg, msg } => self.on_group(from, cfg, &msg),
            Packet::Have(ver) if ver < self.state.ver() => self.announce(from),
            Packet::Have(ver) if ver > self.state.ver() => {
                self.outbox.push((from, Packet::Have(self.state.ver())));
            }
            Packet::Have(_) => {}
            Packet::State(state) => {
                if state.ver() > self.state.ver() {
                    self.state = state;
                }
            }
            Packet::Submit { command, attempt, hops } => self.submit(command, attempt, hops),
        }
        self.settle();
    }

    /// A command of this process itself. `attempt` counts how often it was tried.
    pub fn command(&mut self, command: Command, attempt: u64) {
        self.submit(command, attempt, HOPS);
        self.settle();
    }

    pub fn take_packets(&mut self) -> Vec<(MemberId, Packet)> {
        std::mem::take(&mut self.outbox)
    }

    /// Rule 5.
    fn on_group(&mut self, from: MemberId, cfg: Ver, msg: &GroupMsg) {
        if cfg < self.state.cfg {
            self.announce(from);
        }
        if let Some(group) = &mut self.group
            && (cfg == group.cfg() || mutants::on(Mutant::GroupCfgTag))
        {
            group.receive(from, msg);
        }
    }

    /// Rules 2 and 6.
    fn submit(&mut self, command: Command, attempt: u64, hops: u8) {
        if let Some(draft) = &self.draft {
            match command {
                Command::Number(number) if self.state.done.contains(&number) => {
                    self.answered.push(number);
                }
                Command::Number(number) if !draft.done.contains(&number) => {
                    self.propose(Change::Done(number));
                }
                Command::Voters { cfg, voters } if cfg == draft.cfg && voters != draft.voters => {
                    self.propose_voters(voters);
                }
                _ => {} // Under way, or overtaken.
            }
            return;
        }
        let leader = self.group.as_ref().and_then(Group::leader);
        let via = match self.state.voters.as_slice() {
            [] => None,
            voters => Some(voters[attempt as usize % voters.len()]),
        };
        let to = match hops {
            0 => None,
            HOPS if attempt % 2 == 1 => via,
            _ => leader.or(via),
        };
        if let Some(to) = to.filter(|to| *to != self.me) {
            self.outbox.push((to, Packet::Submit { command, attempt, hops: hops - 1 }));
        }
    }

    /// Whoever led goes first, so that it leads again after one round trip.
    fn propose_voters(&mut self, mut voters: Vec<MemberId>) {
        voters.sort_by_key(|mid| (*mid != self.me, *mid));
        self.propose(Change::Voters(voters));
    }

    fn propose(&mut self, change: Change) {
        let (Some(group), Some(draft)) = (&mut self.group, &mut self.draft) else { return };
        let seals = matches!(change, Change::Voters(_));
        if group.propose(encode(draft.ver(), &change), seals) {
            draft.apply(draft.ver(), change).expect("drafted on this very state");
        }
    }

    /// Rule 7.
    fn end_long_log(&mut self) {
        let is_long = |group: &Group| group.log_entries() >= self.tuning.seal_after;
        if self.group.as_ref().is_some_and(is_long) {
            self.propose_voters(self.state.voters.clone());
            self.settle();
        }
    }

    /// What follows from an input: rules 3 and 4.
    fn settle(&mut self) {
        if let Some(group) = &mut self.group {
            for decided in group.take_decided() {
                self.decided.push((group.cfg(), decided.clone()));
                let (from, change) = decode(&decided.payload);
                if from >= self.state.ver() || mutants::on(Mutant::GroupSkip) {
                    let applied = Arc::make_mut(&mut self.state).apply(from, change.clone());
                    self.violation = self.violation.take().or(applied.err());
                }
                if let Change::Done(number) = change
                    && self.draft.is_some()
                {
                    self.answered.push(number);
                }
            }
        }
        if self.state.cfg > self.group.as_ref().map_or(Ver::ZERO, Group::cfg) {
            self.draft = None;
            self.group = Group::new(self.state.cfg, self.me, &self.state.voters);
            if let Some(group) = &mut self.group {
                group.limit_batches(self.tuning.batch, usize::MAX);
                self.lost.iter().for_each(|peer| group.lost(*peer));
                self.tell_voters(Packet::State(Arc::clone(&self.state)));
            }
        }
        let Some(group) = &mut self.group else { return };
        match (group.is_ready(), &self.draft) {
            (true, None) => self.draft = Some(State::clone(&self.state)),
            (false, Some(_)) if !mutants::on(Mutant::GroupDraft) => self.draft = None,
            _ => {}
        }
        let cfg = group.cfg();
        for (to, msg) in group.take_messages() {
            self.outbox.push((to, Packet::Group { cfg, msg }));
        }
    }

    fn announce(&mut self, to: MemberId) {
        let state = match &self.draft {
            Some(draft) if mutants::on(Mutant::GroupBaseAtSeal) => Arc::new(draft.clone()),
            _ => Arc::clone(&self.state),
        };
        self.outbox.push((to, Packet::State(state)));
    }

    fn tell_voters(&mut self, packet: Packet) {
        for voter in self.state.voters.iter().filter(|voter| **voter != self.me) {
            self.outbox.push((*voter, packet.clone()));
        }
    }
}

/// The payload of a step.
pub fn encode(from: Ver, change: &Change) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64(from.0);
    match change {
        Change::Done(number) => out.put_u64(*number),
        Change::Voters(voters) => {
            out.put_u64(0);
            voters.iter().for_each(|voter| out.put_u64(voter.0));
        }
    }
    out
}

fn decode(payload: &[u8]) -> (Ver, Change) {
    let mut reader = Reader::new(payload);
    let from = Ver(reader.u64("from").expect("encoded here"));
    match reader.u64("number").expect("encoded here") {
        0 => {
            let voters = (2..payload.len() / 8).map(|_| reader.u64("voter").map(MemberId));
            (from, Change::Voters(voters.collect::<Result<_, _>>().expect("encoded here")))
        }
        number => (from, Change::Done(number)),
    }
}
