//! Processes that die at any moment, machines that die with them, nodes that come back with an
//! empty memory as another member, and what a coordinator might decide for no good reason.

use std::time::Duration;

use ringkv::base::{MemberId, Nanos, PartitionId, Rng};
use ringkv::proto::Coordinator;
use ringkv::proto::mutants::{self, Mutant};
use ringkv::ring::{Member, Part, PartState};
use ringkv::wire::{Applied, Command, JoinInfo};

use crate::net::{Endpoint, Kind, Link};
use crate::node::{Collector, Node};
use crate::world::{Event, Phase, World};

/// Between two attempts to come back.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What one seed draws of all this.
#[derive(Clone, Copy, Debug)]
pub struct Dangers {
    /// Mean time between two crashes; 0 is none.
    crash_ms: u64,
    crashes_max: u64,
    /// How often a member dies while it speaks.
    crash_in_speech_ppm: u64,
    silent_permille: u64,
    /// A node comes back after about this long; 0 is when the faults are over, or never.
    restart_ms: u64,
    /// How wrong clocks are.
    pub clock_spread_permille: u64,
    /// How often what is on a broken connection still arrives.
    pub ghost_permille: u64,
    /// Mean time between two senseless decisions; 0 is none.
    meddle_ms: u64,
    meddle_weights: [u64; 7],
    /// How long decisions about the living and the dead take, at most.
    pub decide_lag_ms: u64,
    /// Mean time between two directed attacks; 0 is none.
    pub assault_ms: u64,
}

impl Dangers {
    /// The dangers of a seed; of one in which nothing goes wrong, only wrong clocks.
    pub fn draw(rng: &mut Rng, quiet: bool) -> Self {
        let clock_spread_permille = pick(rng, &[0, 20, 100, 100]);
        let meddle_weights = std::array::from_fn(|_| rng.below(2));
        let drawn = Self {
            crash_ms: pick(rng, &[0, 0, 300, 1_000, 3_000]),
            crashes_max: pick(rng, &[2, 5, 12]),
            crash_in_speech_ppm: pick(rng, &[0, 0, 500, 3_000]),
            silent_permille: pick(rng, &[0, 300, 1_000]),
            restart_ms: pick(rng, &[0, 30, 300, 1_500]),
            clock_spread_permille,
            ghost_permille: pick(rng, &[0, 0, 500]),
            meddle_ms: pick(rng, &[0, 0, 100, 500, 2_000]),
            meddle_weights,
            decide_lag_ms: pick(rng, &[0, 0, 10, 400]),
            assault_ms: pick(rng, &[0, 200, 800]),
        };
        let harmless = Self {
            crash_ms: 0,
            crash_in_speech_ppm: 0,
            ghost_permille: 0,
            meddle_ms: 0,
            decide_lag_ms: 0,
            assault_ms: 0,
            ..drawn
        };
        if quiet { harmless } else { drawn }
    }

    /// For one crash: that the node comes back at once. What was there before.
    pub fn heralded_restart(&mut self, rng: &mut Rng) -> Self {
        let kept = *self;
        (self.silent_permille, self.restart_ms) = (0, rng.range(1, 30));
        kept
    }

    /// The faults are over.
    pub fn heal(&mut self) {
        self.crash_in_speech_ppm = 0;
        self.ghost_permille = 0;
        self.decide_lag_ms = 0;
    }
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u64) as usize]
}

/// Something dangerous that happens at a moment.
#[derive(Debug)]
pub enum Danger {
    /// Some process dies.
    CrashAny,
    /// The other side of a connection of a dead member learns that it is gone.
    Gone { link: Link, dead: MemberId },
    /// A member tried to reach a dead one, and nobody listens there.
    Refused { mid: MemberId, dead: MemberId },
    /// The node of a dead member starts again.
    Restart(MemberId),
    /// The coordinator decides something senseless.
    Meddle,
    /// The coordinator decides this.
    Decide(Command),
    /// A directed attack begins.
    Assault,
    /// Clients that have nothing to do ask at once.
    Poke,
    /// A connection breaks, and yet all that was on its way arrives.
    Haunt(Link),
    /// The primary passes its role on, to anybody but these.
    PassOn { pid: PartitionId, but: [MemberId; 2] },
    /// The role goes to that member, wherever it is.
    GiveTo { pid: PartitionId, mid: MemberId },
    /// The heir of that member is cut off and replaced, of which the member hears at last.
    ReplaceHeir { pid: PartitionId, of: MemberId },
    /// One direction is cut for a while.
    Cut { from: MemberId, to: MemberId, length: Duration },
}

impl World {
    /// Dangers that come by themselves.
    pub fn begin_dangers(&mut self) {
        let dangers = self.settings.dangers;
        self.after_ms(dangers.crash_ms, Event::Danger(Danger::CrashAny));
        self.after_ms(dangers.meddle_ms, Event::Danger(Danger::Meddle));
        self.after_ms(dangers.assault_ms, Event::Danger(Danger::Assault));
    }

    /// One of them happens.
    pub fn on_danger(&mut self, danger: Danger) {
        let dangers = self.settings.dangers;
        match danger {
            Danger::CrashAny => {
                if let Some(mid) = self.any_node() {
                    self.crash(mid);
                }
                self.after_ms(dangers.crash_ms, Event::Danger(Danger::CrashAny));
            }
            Danger::Gone { link, dead } => self.on_gone(link, dead),
            Danger::Refused { mid, dead } => self.on_refused(mid, dead),
            Danger::Restart(mid) => self.restart(mid),
            Danger::Meddle => {
                self.meddle();
                self.after_ms(dangers.meddle_ms, Event::Danger(Danger::Meddle));
            }
            Danger::Assault => {
                self.assault();
                self.after_ms(dangers.assault_ms, Event::Danger(Danger::Assault));
            }
            Danger::Poke => self.poke(),
            Danger::Haunt(link) => {
                self.reset(link);
                self.network.haunt(link, self.now + Duration::from_secs(1));
            }
            _ if self.phase != Phase::Load => {}
            Danger::Decide(command) => self.decide(&command),
            Danger::PassOn { pid, but } => self.pass_on(pid, but),
            Danger::GiveTo { pid, mid } => self.give_to(pid, mid),
            Danger::ReplaceHeir { pid, of } => self.replace_heir(pid, of),
            Danger::Cut { from, to, length } => self.cut(from, to, length),
        }
    }

    /// Whether the process of a member may die. Voters keep what they know in memory: a majority of
    /// them must live, also of those that were proposed as the next ones; and until a majority of
    /// the newest ones know that they are, nobody may die, who could be the one to tell them.
    fn may_crash(&self, mid: MemberId) -> bool {
        let budget = self.settings.dangers.crashes_max;
        if self.phase != Phase::Load || self.coverage.crashes >= budget {
            return false;
        }
        let others = || self.truth.voters.iter().filter(|voter| **voter != mid);
        let knows = |voter: &&MemberId| {
            let map = self.nodes.get(*voter).and_then(|node| node.map.as_ref());
            map.is_some_and(|map| map.ver >= self.truth.voters_since)
        };
        let is_settled = 2 * others().filter(knows).count() > self.truth.voters.len();
        let lives = |voter: &&MemberId| **voter != mid && self.nodes.contains_key(*voter);
        let keeps = |voters: &[MemberId]| 2 * voters.iter().filter(lives).count() > voters.len();
        let may_come = |since: &ringkv::base::Ver| *since > self.truth.voters_since;
        let mut proposed = self.proposed_voters.iter().filter(|(since, _)| may_come(since));
        self.nodes.contains_key(&mid) && is_settled && proposed.all(|(_, voters)| keeps(voters))
    }

    /// Notes whom a leader wants as the next voters.
    pub fn note_voters(&mut self, mid: MemberId) {
        let coordinator = self.nodes.get(&mid).and_then(|node| node.coordinator.as_ref());
        let Some(draft) = coordinator.and_then(Coordinator::draft) else { return };
        if draft.voters_since > self.truth.voters_since {
            self.proposed_voters.insert(draft.voters_since, draft.voters.clone());
        }
    }

    /// The process of a member dies, with everything it knew.
    pub fn crash(&mut self, mid: MemberId) {
        if !self.may_crash(mid) {
            return;
        }
        let silent = self.rng.chance(self.settings.dangers.silent_permille);
        self.coverage.crashes += 1;
        self.coverage.silent_crashes += u64::from(silent);
        self.note(|_| format!("{mid:?} dies{}", if silent { " with its machine" } else { "" }));
        self.nodes.remove(&mid);
        self.oracle.die(mid);
        for (link, drained) in self.network.crash(Endpoint::Node(mid)) {
            let notice = match silent {
                true => Duration::from_millis(self.rng.range(500, 20_000)),
                false => self.settings.delay(&mut self.rng),
            };
            let at = drained.max(self.now + notice);
            self.at(at, Event::Danger(Danger::Gone { link, dead: mid }));
        }
        let restart = Event::Danger(Danger::Restart(mid));
        match self.settings.dangers.restart_ms {
            0 => self.graves.push(mid),
            ms => self.after_ms(ms, restart),
        }
    }

    /// What is left of an output if the member dies in the middle of it.
    pub fn interrupt(&mut self, mid: MemberId, out: &mut Collector) -> bool {
        let ppm = self.settings.dangers.crash_in_speech_ppm;
        if ppm == 0 || self.rng.below(1_000_000) >= ppm || !self.may_crash(mid) {
            return false;
        }
        out.sends.truncate(self.rng.below(out.sends.len() as u64 + 1) as usize);
        out.replies.truncate(self.rng.below(out.replies.len() as u64 + 1) as usize);
        out.proposals.truncate(self.rng.below(out.proposals.len() as u64 + 1) as usize);
        self.coverage.crashes_in_mid_speech += 1;
        true
    }

    fn on_gone(&mut self, link: Link, dead: MemberId) {
        self.network.close(link);
        let side = 1 - link.side(Endpoint::Node(dead));
        match (link.sides[side], link.kind) {
            (Endpoint::Node(mid), Kind::Data) => self.lose_routes(mid, dead),
            (Endpoint::Node(mid), _) => {
                self.coordinate(mid, |_| {});
                self.look_for(mid, dead);
            }
            (Endpoint::Client(client), _) => self.client_lost(client, dead),
        }
    }

    /// The node of a dead member starts again. It asks until it is admitted, and then it runs.
    fn restart(&mut self, old: MemberId) {
        let Some(member) = self.truth.members.get(&old) else { return };
        let info = JoinInfo { boot: old.0 as u32, ..info_of(member) };
        let is_dead = member.is_dead();
        self.after(TRY_AGAIN, Event::Danger(Danger::Restart(old)));
        let Some(decider) = self.decider() else { return };
        let link = Link::new(Endpoint::Node(decider), Endpoint::Node(old), Kind::Control);
        let seems_alive = self.network.in_flight(link, Endpoint::Node(decider)).is_some();
        if self.nodes.contains_key(&old) || (seems_alive && !is_dead) {
            return;
        }
        let admitted = self.coordinate(decider, |c| c.admit(&info, |mid| mid != old));
        self.note(|_| format!("the node of {old:?} is back: {admitted:?}"));
        match admitted {
            Some(Ok((Applied::Admitted(mid), _))) if mid == old && mutants::on(Mutant::Amnesia) => {
                self.network.forget(Endpoint::Node(old));
                self.oracle.revive(old);
                self.insert_node(old);
            }
            Some(Ok(_)) => self.coverage.restarts += 1,
            // The leader has not enough of a group, or too much of a log, to take it just now.
            Some(Err(_)) | None => {}
        }
    }

    /// The faults are over: the dead come back, but for one now and then without whom the ring can
    /// be as wanted.
    pub fn raise_the_dead(&mut self) {
        let mut graves = std::mem::take(&mut self.graves);
        let lives = |mid: &MemberId| self.nodes.contains_key(mid);
        let waits =
            |part: &Part| part.state != PartState::Lost && !part.isr.iter().any(|m| lives(&m));
        let is_target = |(mid, member): &(&MemberId, &Member)| member.is_target() && lives(mid);
        let can_leave = |mid: &MemberId| self.truth.members.get(mid).is_none_or(Member::is_target);
        let targets = self.truth.members.iter().filter(is_target).count();
        let missed = self.truth.parts.iter().any(waits)
            || targets < usize::from(self.truth.params.min_insync)
            || !graves.iter().all(can_leave);
        let counts = |mid: MemberId| {
            (0..self.truth.parts.len() as u32).any(|pid| {
                let (now, soon) = (&self.truth.parts[pid as usize], self.planned(PartitionId(pid)));
                // Whether a learner is in sync may be decided already, and nobody know it yet.
                let is_learner = now.learner(mid).is_some();
                is_learner || now.isr.contains(mid) || soon.isr.contains(mid)
            })
        };
        let dispensable = graves.iter().position(|mid| !missed && !counts(*mid));
        if let Some(at) = dispensable.filter(|_| self.rng.chance(300)) {
            graves.remove(at);
        }
        for mid in graves {
            self.after_ms(100, Event::Danger(Danger::Restart(mid)));
        }
    }

    /// A decision of the coordinator, unless it is stopped just now.
    pub fn decide(&mut self, command: &Command) {
        let Some(decider) = self.decider() else { return };
        let done = self.coordinate(decider, |c| c.operate(command).is_ok());
        if done != Some(true) {
            return;
        }
        self.note(|_| format!("decided: {command:?}"));
        match *command {
            Command::Down { mid } => {
                self.coverage.downs += 1;
                self.coverage.false_downs += u64::from(self.nodes.contains_key(&mid));
            }
            Command::Up { .. } => self.coverage.returns += 1,
            Command::Away { .. } => self.coverage.aways += 1,
            _ => {}
        }
    }

    /// The coordinator takes `command` for one of the primary of its partition.
    pub fn propose_as_primary(&mut self, command: &Command) {
        let (Command::Remove { pid, .. } | Command::Handover { pid, .. }) = *command else {
            return;
        };
        let Some(decider) = self.decider() else { return };
        let primary = self.planned(pid).primary;
        self.coordinate(decider, |c| drop(c.submit(primary, command)));
    }

    fn meddle(&mut self) {
        let weights = self.settings.dangers.meddle_weights;
        let total: u64 = weights.iter().sum();
        if self.phase != Phase::Load || total == 0 {
            return;
        }
        let mut left = self.rng.below(total);
        let kind = weights.iter().position(|weight| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let pid = PartitionId(self.rng.below(self.truth.parts.len() as u64) as u32);
        let part = self.planned(pid);
        let cfg = part.cfg;
        let at = self.rng.below(part.isr.len() as u64) as usize;
        let replica = part.isr.as_slice()[at];
        let at = self.rng.below(self.truth.members.len() as u64) as usize;
        let Some(anybody) = self.truth.members.keys().nth(at).copied() else { return };
        self.coverage.meddling += 1;
        match kind {
            Some(0) => self.decide(&Command::Down { mid: replica }),
            Some(1) => self.decide(&Command::Up { mid: anybody }),
            Some(2) => self.decide(&Command::Away { mid: anybody }),
            Some(3) => self.decide(&Command::Promote { pid, cfg, mid: replica }),
            Some(4) => self.propose_as_primary(&Command::Remove { pid, cfg, mid: replica }),
            Some(5) => self.propose_as_primary(&Command::Handover { pid, cfg, mid: replica }),
            _ => {
                if let Some((mid, lid)) = part.learners.first().copied() {
                    self.decide(&Command::CancelLearner { pid, cfg, mid, lid });
                }
            }
        }
    }

    /// G3: a partition is given up only if nobody lives who holds it.
    pub fn check_loss(&mut self, pid: PartitionId, before: PartState, part: &Part) {
        self.coverage.stalled += u64::from(part.state == PartState::Stalled);
        self.coverage.lost += u64::from(part.state == PartState::Lost);
        if let Some(mid) = part.isr.iter().find(|mid| self.nodes.contains_key(mid))
            && part.state == PartState::Lost
        {
            self.require(Err(format!("G3: {pid:?} is given up although {mid:?} lives: {part:?}")));
        }
        if before == PartState::Lost {
            self.require(Err(format!("G3: {pid:?} was lost and is {part:?}")));
        }
    }

    /// A member that is at work from now on.
    pub fn insert_node(&mut self, mid: MemberId) {
        let clock =
            crate::clock::Clock::draw(&mut self.rng, self.settings.dangers.clock_spread_permille);
        self.nodes.insert(mid, Node::new(mid, &self.settings.params, clock));
        self.start_node(mid);
    }

    /// What the clock of a member shows.
    pub fn clock(&self, mid: MemberId) -> Nanos {
        let node = self.nodes.get(&mid);
        let stale = node.and_then(|node| node.slept_at).filter(|_| mutants::on(Mutant::CachedNow));
        node.map_or(self.now, |node| node.clock.read(stale.unwrap_or(self.now)))
    }
}

fn info_of(member: &Member) -> JoinInfo {
    JoinInfo {
        name: member.name.clone(),
        addr: member.addr.clone(),
        zone: member.zone.clone(),
        weight: member.weight,
        position: member.position,
        boot: member.boot,
        durable: member.durable,
    }
}
