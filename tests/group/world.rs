//! Several owners in virtual time, over a network that loses, doubles, delays, reorders and cuts,
//! while voters die, pause and are replaced. One seed replays exactly.

use std::collections::{BTreeMap, BTreeSet};

use ringkv::base::limits::GROUP_TICK_MS;
use ringkv::base::{MemberId, Rng, Ver};
use ringkv::wire::ControlMsg;

use crate::oracle::Oracle;
use crate::owner::{Command, Owner, Packet};
use crate::settings::{Fault, Settings};

/// A client asks again after this long.
const PATIENCE_MS: u64 = 300;
/// After the faults: everything is decided and known to all within this time.
const RECOVERY_MS: u64 = 9_000;
/// Processes at the same time, at most.
const NODES_MAX: usize = 9;

#[derive(Debug)]
enum Event {
    Tick(MemberId),
    Packet { from: MemberId, to: MemberId, generation: u32, packet: Packet },
    Reconnected(MemberId, MemberId),
    Lost(MemberId, MemberId),
    Spawn,
    Client,
    Operator,
    Fault,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub commands: u64,
    pub configurations: u64,
    pub kills: u64,
    pub pauses: u64,
    pub cuts: u64,
    pub resets: u64,
    pub messages: u64,
    pub recovery_ms_max: u64,
}

impl Counters {
    pub fn add(&mut self, other: &Counters) {
        self.commands += other.commands;
        self.configurations += other.configurations;
        self.kills += other.kills;
        self.pauses += other.pauses;
        self.cuts += other.cuts;
        self.resets += other.resets;
        self.messages += other.messages;
        self.recovery_ms_max = self.recovery_ms_max.max(other.recovery_ms_max);
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub violation: Option<String>,
    pub counters: Counters,
    /// Differs between runs that differ anywhere.
    pub hash: u64,
    pub tail: Vec<String>,
}

pub struct World {
    pub settings: Settings,
    pub rng: Rng,
    pub now: u64,
    pub nodes: BTreeMap<MemberId, Owner>,
    pub oracle: Oracle,
    pub counters: Counters,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    next_mid: u64,
    spawning: usize,
    cut: BTreeSet<(MemberId, MemberId)>,
    generations: BTreeMap<(MemberId, MemberId), u32>,
    arrivals: BTreeMap<(MemberId, MemberId), u64>,
    paused: BTreeMap<MemberId, u64>,
    /// Commands not yet decided: when to ask again, and how often that was done.
    open: BTreeMap<u64, (u64, u64)>,
    next_command: u64,
    /// What the operator asked for, and in which configuration.
    asked: Vec<(Ver, Vec<MemberId>)>,
    wanted: usize,
    is_healed: bool,
    pub has_clients: bool,
    pub has_operator: bool,
    hash: u64,
    trace: Option<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, settings: Option<Settings>, is_traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let settings = settings.unwrap_or_else(|| Settings::draw(&mut rng));
        let mut world = Self {
            settings,
            rng,
            now: 0,
            nodes: BTreeMap::new(),
            oracle: Oracle::default(),
            counters: Counters::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            next_mid: 1,
            spawning: 0,
            cut: BTreeSet::new(),
            generations: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            paused: BTreeMap::new(),
            open: BTreeMap::new(),
            next_command: 1,
            asked: Vec::new(),
            wanted: 3,
            is_healed: false,
            has_clients: true,
            has_operator: true,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: is_traced.then(Vec::new),
        };
        let first = Owner::create(MemberId(1), world.settings.tuning);
        world.add_node(first);
        world.after(5, Event::Client);
        world.after(50, Event::Operator);
        let delay = world.settings.fault_every_ms;
        world.after(300 + delay, Event::Fault);
        for delay in [20, 40, 600, 700] {
            world.spawn_after(delay);
        }
        world
    }

    /// A whole run of a seed.
    pub fn run(seed: u64, is_traced: bool) -> Outcome {
        let mut world = World::new(seed, None, is_traced);
        let mut run = || -> Result<(), String> {
            world.run_until(world.settings.chaos_ms)?;
            let size = [1, 3, 3, 5][world.rng.below(4) as usize];
            world.heal_to(size);
            world.run_until(world.now + 500)?;
            world.recover()
        };
        // A core's assertion is a violation as well.
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut run));
        let violation = match run {
            Ok(result) => result.err(),
            Err(panic) => Some(crate::panic_text(panic.as_ref())),
        };
        world.counters.configurations = world.oracle.configurations();
        let tail = world.trace.take().unwrap_or_default();
        let at = world.now;
        Outcome {
            violation: violation.map(|why| format!("at {at} ms: {why}")),
            counters: world.counters,
            hash: world.hash,
            tail: tail[tail.len().saturating_sub(400)..].to_vec(),
        }
    }

    /// A ring of so many voters, in which nothing has happened yet.
    pub fn grown(seed: u64, voters: usize, settings: Settings) -> Result<Self, String> {
        let mut world = World::new(seed, Some(settings), false);
        world.wanted = voters;
        while world.latest().1.len() != voters || world.leader().is_none() {
            if world.now > RECOVERY_MS {
                return Err(world.why_stuck());
            }
            world.run_until(world.now + 50)?;
        }
        let phase = world.rng.range(100, 400);
        world.run_until(world.now + phase)?;
        Ok(world)
    }

    /// Waits until everything that was asked for is done and known to all.
    pub fn recover(&mut self) -> Result<(), String> {
        self.has_clients = false;
        let begin = self.now;
        while !self.is_converged() {
            if self.now > begin + RECOVERY_MS {
                return Err(self.why_stuck());
            }
            self.run_until(self.now + 50)?;
        }
        self.counters.recovery_ms_max = self.now - begin;
        Ok(())
    }

    pub fn run_until(&mut self, end: u64) -> Result<(), String> {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.step(event)?;
        }
        self.now = end;
        Ok(())
    }

    /// The newest configuration that anybody has started, and its voters.
    pub fn latest(&self) -> (Ver, Vec<MemberId>) {
        let states = self.nodes.values().map(|node| (node.state().cfg, &node.state().voters));
        states.max().map(|(cfg, voters)| (cfg, voters.clone())).unwrap_or_default()
    }

    /// Who leads the newest configuration.
    pub fn leader(&self) -> Option<MemberId> {
        let cfg = self.latest().0;
        let leads =
            |node: &Owner| node.group().is_some_and(|group| group.cfg() == cfg && group.is_ready());
        let leaders = self.nodes.iter().filter(|(_, node)| leads(node));
        leaders.max_by_key(|(_, node)| node.group().map(|group| group.term())).map(|(mid, _)| *mid)
    }

    pub fn command(&mut self, at: MemberId, command: Command, attempt: u64) -> Result<(), String> {
        if self.is_paused(at) {
            return Ok(());
        }
        if let Some(node) = self.nodes.get_mut(&at) {
            node.command(command, attempt);
        }
        self.after_event(at)
    }

    pub fn kill(&mut self, mid: MemberId) {
        self.note(|| format!("kill {mid:?}"));
        self.counters.kills += 1;
        self.nodes.remove(&mid);
    }

    /// The victim's host lives and resets its connections, which all others notice.
    pub fn kill_noticed(&mut self, mid: MemberId) {
        self.kill(mid);
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            // What was on its way came before the reset, or is lost with it.
            *self.generations.entry((mid, other)).or_default() += 1;
            let delay = self.rng.range(1, 6);
            self.after(delay, Event::Lost(other, mid));
        }
    }

    pub fn cut(&mut self, from: MemberId, to: MemberId) {
        self.note(|| format!("cut {from:?} -> {to:?}"));
        self.counters.cuts += 1;
        self.cut.insert((from, to));
    }

    pub fn spawn_after(&mut self, delay: u64) {
        self.spawning += 1;
        self.after(delay, Event::Spawn);
    }

    /// Ends all faults; so many voters are wanted in the end.
    pub fn heal_to(&mut self, voters: usize) {
        self.is_healed = true;
        self.paused.clear();
        self.wanted = voters;
        self.mend_cuts();
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        if let Event::Tick(mid) | Event::Packet { to: mid, .. } = &event
            && let Some(until) = self.paused.get(mid).copied().filter(|until| *until > self.now)
        {
            // A process that stands still finds everything in its buffers when it goes on.
            self.after(until - self.now, event);
            return Ok(());
        }
        match event {
            Event::Tick(mid) => {
                let Some(node) = self.nodes.get_mut(&mid) else { return Ok(()) };
                node.tick();
                self.after(GROUP_TICK_MS, Event::Tick(mid));
                self.after_event(mid)
            }
            Event::Packet { from, to, generation, packet } => {
                self.deliver(from, to, generation, packet)
            }
            Event::Reconnected(mid, peer) => {
                let is_there = self.nodes.contains_key(&peer);
                let Some(node) = self.nodes.get_mut(&mid).filter(|_| is_there) else {
                    return Ok(());
                };
                node.reconnected(peer);
                self.after_event(mid)
            }
            Event::Lost(mid, peer) => {
                let Some(node) = self.nodes.get_mut(&mid) else { return Ok(()) };
                node.lost(peer);
                self.after_event(mid)
            }
            Event::Spawn => {
                self.spawning -= 1;
                self.next_mid += 1;
                let node = Owner::join(MemberId(self.next_mid), self.settings.tuning);
                self.add_node(node);
                Ok(())
            }
            Event::Client => self.on_client(),
            Event::Operator => self.on_operator(),
            Event::Fault => {
                self.on_fault();
                Ok(())
            }
        }
    }

    fn deliver(
        &mut self,
        from: MemberId,
        to: MemberId,
        generation: u32,
        packet: Packet,
    ) -> Result<(), String> {
        let is_lost = self.settings.is_ordered
            && self.generations.get(&(from, to)).copied().unwrap_or(0) != generation;
        if is_lost || self.cut.contains(&(from, to)) {
            return Ok(());
        }
        self.note(|| format!("{to:?} <- {from:?} {}", brief(&packet)));
        self.mix(self.now << 16 | from.0 << 8 | to.0);
        let packet = match packet {
            Packet::Group { cfg, msg } => through_the_codec(cfg, msg),
            packet => packet,
        };
        let Some(node) = self.nodes.get_mut(&to) else { return Ok(()) };
        node.receive(from, packet);
        self.after_event(to)
    }

    /// Looks at a node that has done something, and sends what it wants to send.
    fn after_event(&mut self, mid: MemberId) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&mid) else { return Ok(()) };
        let packets = node.take_packets();
        self.oracle.check(mid, node)?;
        for number in std::mem::take(&mut node.answered) {
            self.oracle.check_answer(number)?;
            if self.open.remove(&number).is_some() {
                self.counters.commands += 1;
                self.mix(number);
            }
        }
        packets.into_iter().for_each(|(to, packet)| self.send(mid, to, packet));
        Ok(())
    }

    fn send(&mut self, from: MemberId, to: MemberId, packet: Packet) {
        if from == to || self.cut.contains(&(from, to)) {
            return;
        }
        self.counters.messages += 1;
        let generation = self.generations.get(&(from, to)).copied().unwrap_or(0);
        let delay_max = if self.is_healed { 3 } else { self.settings.delay_ms };
        let mut copies = 1;
        if !self.settings.is_ordered && !self.is_healed {
            copies = u64::from(!self.rng.chance(self.settings.loss));
            copies += copies * u64::from(self.rng.chance(self.settings.duplication));
        }
        for _ in 0..copies {
            let mut at = self.now + self.rng.range(1, delay_max + 1);
            if self.settings.is_ordered {
                let last = self.arrivals.entry((from, to)).or_default();
                at = at.max(*last);
                *last = at;
            }
            let packet = packet.clone();
            self.after(at - self.now, Event::Packet { from, to, generation, packet });
        }
    }

    fn on_client(&mut self) -> Result<(), String> {
        self.after(self.settings.command_every_ms, Event::Client);
        if self.has_clients && self.open.len() < 50 {
            self.open.insert(self.next_command, (self.now, 0));
            self.next_command += 1;
        }
        let now = self.now;
        let due: Vec<(u64, u64)> = self
            .open
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(number, (_, attempt))| (*number, *attempt))
            .collect();
        for (number, attempt) in due {
            if let Some(at) = self.any_informed() {
                self.open.insert(number, (now + PATIENCE_MS, attempt + 1));
                self.command(at, Command::Number(number), attempt)?;
            }
        }
        Ok(())
    }

    /// Replaces voters that are dead, or taken for dead, and follows the wanted size.
    fn on_operator(&mut self) -> Result<(), String> {
        self.after(self.settings.operator_every_ms, Event::Operator);
        if !self.has_operator {
            return Ok(());
        }
        // Looks with the eyes of one node, which may be behind.
        let Some(at) = self.any_informed() else { return Ok(()) };
        let (cfg, voters) = (self.nodes[&at].state().cfg, self.nodes[&at].state().voters.clone());
        let mut live: Vec<MemberId> = voters.clone();
        live.retain(|mid| self.nodes.contains_key(mid));
        if !self.is_healed && self.rng.chance(self.settings.wrong_death) && live.len() > 1 {
            live.remove(self.rng.below(live.len() as u64) as usize);
        }
        live.truncate(self.wanted);
        let mut spare: Vec<MemberId> =
            self.nodes.keys().copied().filter(|mid| !voters.contains(mid)).collect();
        while live.len() < self.wanted && !spare.is_empty() {
            live.push(spare.remove(self.rng.below(spare.len() as u64) as usize));
        }
        live.sort_unstable();
        let mut now = voters;
        now.sort_unstable();
        // Fewer than wanted, and an even number: nothing is won.
        if live == now || live.is_empty() || live.len().is_multiple_of(2) {
            return Ok(());
        }
        self.asked.push((cfg, live.clone()));
        self.note(|| format!("operator at {at:?}: {live:?} after {cfg:?}"));
        let attempt = self.rng.below(4);
        self.command(at, Command::Voters { cfg, voters: live }, attempt)
    }

    fn on_fault(&mut self) {
        if self.is_healed {
            return;
        }
        let delay = self.rng.range(1, self.settings.fault_every_ms);
        self.after(delay, Event::Fault);
        let kinds = &self.settings.faults;
        let fault = kinds[self.rng.below(kinds.len() as u64) as usize];
        let (Some(mut a), Some(b)) = (self.any_node(), self.any_node()) else { return };
        if self.rng.chance(self.settings.leader_bias) {
            a = self.leader().unwrap_or(a);
        }
        if a == b && !matches!(fault, Fault::Kill | Fault::Isolate | Fault::Pause) {
            return;
        }
        match fault {
            Fault::Kill if self.may_die(a) => {
                match self.rng.chance(500) {
                    true => self.kill_noticed(a),
                    false => self.kill(a),
                }
                let delay = self.rng.range(20, 600);
                self.spawn_after(delay);
            }
            Fault::Kill => {}
            Fault::CutOneWay if self.rng.chance(500) => self.cut(a, b),
            Fault::CutOneWay => self.cut(b, a),
            Fault::CutBothWays => [(a, b), (b, a)].into_iter().for_each(|(a, b)| self.cut(a, b)),
            Fault::Isolate => {
                let others = self.nodes.keys().copied().filter(|mid| *mid != a);
                for other in others.collect::<Vec<_>>() {
                    self.cut(a, other);
                    self.cut(other, a);
                }
            }
            Fault::Heal => self.mend_cuts(),
            Fault::Reset => self.reset(a, b),
            Fault::Pause => {
                self.counters.pauses += 1;
                let until = self.now + self.rng.range(50, 800);
                self.note(|| format!("pause {a:?} until {until}"));
                self.paused.insert(a, until);
            }
            Fault::Suspect => self.after(1, Event::Lost(b, a)),
            Fault::Resize => self.wanted = [1, 3, 3, 5][self.rng.below(4) as usize],
        }
    }

    /// Whether every configuration that is, or may become, the one that counts keeps a majority.
    /// Without that nothing can be promised.
    fn may_die(&self, victim: MemberId) -> bool {
        let (cfg, voters) = self.latest();
        let has_started =
            |mid: &&MemberId| self.nodes.get(mid).is_some_and(|node| node.state().cfg == cfg);
        let started = voters.iter().filter(has_started).count();
        let mut sets: Vec<&Vec<MemberId>> = vec![&voters];
        sets.extend(self.asked.iter().filter(|(asked, _)| *asked == cfg).map(|(_, set)| set));
        // Until a majority has started, the one before it is still needed.
        if started * 2 <= voters.len() {
            sets.extend(self.oracle.voters_before(cfg));
        }
        sets.iter().all(|set| {
            let lives = |mid: &&MemberId| **mid != victim && self.nodes.contains_key(mid);
            set.is_empty() || set.iter().filter(lives).count() * 2 > set.len()
        })
    }

    fn mend_cuts(&mut self) {
        for (from, to) in std::mem::take(&mut self.cut) {
            self.reset(from, to);
        }
    }

    /// Breaks the connection of two: what is on its way is lost.
    fn reset(&mut self, a: MemberId, b: MemberId) {
        self.note(|| format!("reset {a:?} {b:?}"));
        self.counters.resets += 1;
        for pair in [(a, b), (b, a)] {
            *self.generations.entry(pair).or_default() += 1;
            self.after(2, Event::Reconnected(pair.0, pair.1));
        }
    }

    /// Everybody who counts knows everything, and everything asked for is done.
    fn is_converged(&self) -> bool {
        let (_, voters) = self.latest();
        let knows = |mid: &MemberId| {
            self.nodes.get(mid).is_some_and(|node| node.state().changes == self.oracle.truth)
        };
        self.spawning == 0
            && self.open.is_empty()
            && self.leader().is_some()
            && voters.len() == self.wanted
            && voters.iter().all(knows)
    }

    pub fn why_stuck(&self) -> String {
        let mut text = format!(
            "stuck: open {:?}, newest {:?}, wanted {}, decided {}",
            self.open,
            self.latest(),
            self.wanted,
            self.oracle.truth.len()
        );
        for (mid, node) in &self.nodes {
            let (state, group) = (node.state(), node.group());
            text += &format!("\n  {mid:?} at {:?} in {:?}: {group:?}", state.ver(), state.cfg);
        }
        text
    }

    fn add_node(&mut self, node: Owner) {
        let mid = MemberId(self.next_mid);
        if self.nodes.len() < NODES_MAX {
            self.nodes.insert(mid, node);
            self.after(1 + mid.0 * 3 % 10, Event::Tick(mid));
        }
    }

    fn any_node(&mut self) -> Option<MemberId> {
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        self.nodes.keys().nth(at).copied()
    }

    /// A node that was ever told of the ring.
    fn any_informed(&mut self) -> Option<MemberId> {
        let knows = |node: &Owner| node.state().cfg > Ver::ZERO;
        let informed = self.nodes.iter().filter(|(_, node)| knows(node)).map(|(mid, _)| *mid);
        let informed: Vec<MemberId> = informed.collect();
        informed.get(self.rng.below(informed.len() as u64) as usize).copied()
    }

    fn is_paused(&self, mid: MemberId) -> bool {
        self.paused.get(&mid).is_some_and(|until| *until > self.now)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {}", self.now, text()));
        }
    }
}

/// As it would arrive.
fn through_the_codec(cfg: Ver, msg: ringkv::wire::GroupMsg) -> Packet {
    let mut bytes = Vec::new();
    ControlMsg::Group { cfg, msg }.encode(&mut bytes);
    match ControlMsg::decode(&bytes) {
        Ok(ControlMsg::Group { cfg, msg }) => Packet::Group { cfg, msg },
        other => panic!("encoded as a message of the group, decoded as {other:?}"),
    }
}

fn brief(packet: &Packet) -> String {
    match packet {
        Packet::State(state) => format!("State {:?} of {:?}", state.ver(), state.cfg),
        packet => format!("{packet:?}"),
    }
}
