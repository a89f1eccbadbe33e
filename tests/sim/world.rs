//! One run: virtual time, the heap of events, and who handles which.
//!
//! Everything happens in one thread and every choice comes from one generator, so a seed fixes a
//! run to the last bit; the digest of its trace says so. Inputs of members are in `members.rs`,
//! `control.rs` and `pulse.rs`, faults and the operator in `faults.rs`, clients in `clients.rs`.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ringkv::base::{ClusterId, MemberId, Nanos, PartitionId, Rng, Ver};
use ringkv::proto::replica::Role;
use ringkv::proto::{Coordinator, Moment};
use ringkv::ring::{Hasher, Member, PartState, RingMap};
use ringkv::wire::JoinInfo;

use crate::clients::Client;
use crate::clock::Clock;
use crate::coverage::Coverage;
use crate::crashes::Danger;
use crate::net::{Endpoint, Kind, Link, Network, Parcel};
use crate::node::Node;
use crate::oracle::{Check, Oracle, fold};
use crate::settings::Settings;

/// Wall clock of the first moment, in milliseconds since 1970.
const UNIX_MS: u64 = 1_700_000_000_000;
/// Lines of the trace that a failure shows.
const TAIL_LINES: usize = 400;
/// The ring must be as wanted this long after the last fault (I14).
const SETTLE_MS_MAX: u64 = 90_000;

/// Something that happens at a moment.
#[derive(Debug)]
pub enum Event {
    /// Bytes arrive.
    Arrival(Parcel),
    /// A side learns of a new connection.
    Connected { link: Link, generation: u32, side: usize },
    /// A member sends what its inputs gave rise to.
    Turn(MemberId),
    /// The 50 ms of a member are over.
    Tick(MemberId),
    /// A member's heartbeats are due.
    Heartbeat(MemberId),
    /// A partition of a member adopts a map.
    Adopt { mid: MemberId, pid: PartitionId, map: Arc<RingMap> },
    /// A member goes on after a pause.
    Resume(MemberId),
    /// A client looks at what it is waiting for.
    Wake { client: usize },
    /// A request arrives at the network for a second time.
    Double { client: usize, to: MemberId, bytes: Vec<u8> },
    /// A random fault is due.
    Fault,
    /// A connection breaks.
    Reset(Link),
    /// The operator adds or drops a member.
    Operator,
    /// A dropped member ends.
    Retire(MemberId),
    /// Something dangerous.
    Danger(Danger),
    /// The faults end.
    Heal,
    /// Is the ring as wanted?
    Inspect,
}

#[derive(Debug)]
struct Due {
    at: Nanos,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest, which a heap gives out first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What happened in a run, for the report: a simulator that saw no handover has tested none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub events: u64,
    pub operations: u64,
    pub acks: u64,
    pub unknown: u64,
    pub joins: u64,
    pub leaves: u64,
    pub departures: u64,
    pub reconfigurations: u64,
    pub handovers: u64,
    pub streams: u64,
    pub chunks: u64,
    pub resets: u64,
    pub cuts: u64,
    pub pauses: u64,
    pub forwards: u64,
    pub coordinator_moves: u64,
    pub unresolved: u64,
    pub sessions: u64,
    pub closed: u64,
    pub session_unknown: u64,
    pub refused_unknown: u64,
    pub retries: u64,
    pub impatience: u64,
    pub doubles: u64,
}

impl Counters {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        let pairs = self.fields().into_iter().zip(other.fields());
        pairs.for_each(|((_, mine), (_, theirs))| *mine += *theirs);
    }

    /// All counts with their names.
    pub fn fields(&mut self) -> [(&'static str, &mut u64); 24] {
        [
            ("events", &mut self.events),
            ("operations", &mut self.operations),
            ("acks", &mut self.acks),
            ("unknown", &mut self.unknown),
            ("joins", &mut self.joins),
            ("leaves", &mut self.leaves),
            ("departures", &mut self.departures),
            ("reconfigurations", &mut self.reconfigurations),
            ("handovers", &mut self.handovers),
            ("streams", &mut self.streams),
            ("chunks", &mut self.chunks),
            ("resets", &mut self.resets),
            ("cuts", &mut self.cuts),
            ("pauses", &mut self.pauses),
            ("forwards", &mut self.forwards),
            ("coordinator_moves", &mut self.coordinator_moves),
            ("unresolved", &mut self.unresolved),
            ("sessions", &mut self.sessions),
            ("sessions_closed", &mut self.closed),
            ("session_unknown", &mut self.session_unknown),
            ("refused_unknown", &mut self.refused_unknown),
            ("retries", &mut self.retries),
            ("impatience", &mut self.impatience),
            ("doubles", &mut self.doubles),
        ]
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub counters: Counters,
    pub coverage: Coverage,
    /// Digest of everything that happened.
    pub trace: u64,
    pub violation: Option<String>,
    pub tail: VecDeque<String>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Load and faults.
    Load,
    /// The faults are over; the ring comes to rest.
    Settle,
    /// Every key is read once more.
    Verify,
    /// Over.
    Done,
}

/// A run.
pub struct World {
    pub settings: Settings,
    pub rng: Rng,
    pub now: Nanos,
    pub phase: Phase,
    pub network: Network,
    pub nodes: BTreeMap<MemberId, Node>,
    pub clients: Vec<Client>,
    /// The authoritative map.
    pub truth: Arc<RingMap>,
    pub oracle: Oracle,
    pub counters: Counters,
    pub coverage: Coverage,
    /// Dead members whose nodes do not come back by themselves.
    pub graves: Vec<MemberId>,
    /// Voters that some leader proposed, by the version of the map in which they would be.
    pub proposed_voters: BTreeMap<Ver, Vec<MemberId>>,
    pub hasher: Hasher,
    pub history: crate::clients::History,
    pub names_issued: u64,
    pub violation: Option<String>,
    heap: BinaryHeap<Due>,
    number: u64,
    trace: u64,
    tail: Option<VecDeque<String>>,
}

impl World {
    /// Runs a seed to its end; a panic of a core is a violation. `verbose` keeps the tail of the
    /// trace.
    pub fn run(seed: u64, verbose: bool) -> Outcome {
        let mut world = World::new(seed, verbose);
        let driven = catch_unwind(AssertUnwindSafe(|| world.drive()));
        if let Err(panic) = driven {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            world.require(Err(format!("panic: {}", text.unwrap_or("without a text"))));
        }
        Outcome {
            counters: world.counters,
            coverage: world.coverage,
            trace: world.trace,
            violation: world.violation,
            tail: world.tail.unwrap_or_default(),
        }
    }

    fn drive(&mut self) {
        self.begin();
        while self.phase != Phase::Done && self.violation.is_none() {
            self.step();
        }
        if self.violation.is_none() {
            self.check_history();
        }
    }

    fn new(seed: u64, verbose: bool) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5EED);
        let settings = Settings::draw(&mut rng);
        let params = settings.params;
        let cluster = ClusterId(u128::from(seed) + 1);
        let coordinator = Coordinator::create(cluster, params, join_info(&mut rng, 1));
        let truth = coordinator.map().clone();
        let clock = Clock::draw(&mut rng, settings.dangers.clock_spread_permille);
        let mut first = Node::new(MemberId(1), &params, clock);
        first.coordinator = Some(coordinator);
        first.replicas.iter_mut().for_each(|replica| replica.bootstrap());
        let stride = if settings.value_bytes > 1000 { 8 } else { 1 };
        Self {
            now: Nanos(1),
            phase: Phase::Load,
            network: Network::default(),
            nodes: BTreeMap::from([(MemberId(1), first)]),
            clients: (0..settings.clients).map(|_| Client::new()).collect(),
            truth,
            oracle: Oracle::new(params.partitions, stride),
            counters: Counters::default(),
            coverage: Coverage::default(),
            graves: Vec::new(),
            proposed_voters: BTreeMap::new(),
            hasher: Hasher::new(params.hash, params.seed, params.partitions),
            history: crate::clients::History::new(settings.keys),
            names_issued: 1,
            violation: None,
            heap: BinaryHeap::new(),
            number: 0,
            trace: 0xCBF2_9CE4_8422_2325,
            tail: verbose.then(VecDeque::new),
            settings,
            rng,
        }
    }

    fn begin(&mut self) {
        self.note(|world| format!("{:#?}", world.settings));
        let map = self.truth.clone();
        self.start_node(MemberId(1));
        self.adopt(MemberId(1), map);
        for _ in 0..self.settings.joins_at_start {
            self.add_member();
        }
        for client in 0..self.clients.len() {
            self.client_wakes_in(client, Duration::from_millis(1));
        }
        self.after_ms(self.settings.operator_ms, Event::Operator);
        self.after_ms(self.settings.fault_ms, Event::Fault);
        self.begin_dangers();
        let end = self.settings.duration;
        self.at(end, Event::Heal);
    }

    /// Lets something happen at a moment.
    pub fn at(&mut self, at: Nanos, event: Event) {
        self.number += 1;
        self.heap.push(Due { at: at.max(self.now), number: self.number, event });
    }

    /// Lets something happen after a span.
    pub fn after(&mut self, span: Duration, event: Event) {
        self.at(self.now + span, event);
    }

    /// Lets something happen after about that many milliseconds; never if that is 0.
    pub fn after_ms(&mut self, mean_ms: u64, event: Event) {
        if mean_ms > 0 {
            let span = Duration::from_micros(self.rng.range(1, 2 * mean_ms * 1000));
            self.after(span, event);
        }
    }

    /// The circumstances of an input.
    pub fn moment(&mut self, mid: MemberId) -> Moment {
        // One draw for both kinds of fullness; the second is half as frequent.
        let (drawn, permille) = (self.rng.below(1000), self.settings.memory_full_permille);
        let memory_full = drawn < permille;
        let backlog_full = drawn >= 1000 - permille / 2;
        Moment { now: self.clock(mid), unix_ms: self.unix_ms(), memory_full, backlog_full }
    }

    /// The wall clock, which all members share.
    pub fn unix_ms(&self) -> u64 {
        UNIX_MS + self.now.0 / 1_000_000
    }

    /// Adds a line to the trace of a run that is being looked at.
    pub fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.tail.is_none() {
            return;
        }
        let line = format!("{:>12.6} {}", self.now.0 as f64 / 1e9, line(self));
        if let Some(tail) = &mut self.tail {
            if std::env::var_os("TRACE").is_some() {
                println!("{line}");
            }
            tail.push_back(line);
            if tail.len() > TAIL_LINES {
                tail.pop_front();
            }
        }
    }

    /// Makes an outcome part of the trace's digest.
    pub fn mark(&mut self, bytes: &[u8]) {
        self.trace = fold(self.trace, bytes);
    }

    /// Ends the run if a check failed.
    pub fn require(&mut self, check: Check) {
        if let Err(why) = check {
            let at = self.now.0 as f64 / 1e9;
            self.violation.get_or_insert(format!("at {at:.6}: {why}"));
        }
    }

    fn step(&mut self) {
        let Some(due) = self.heap.pop() else {
            return self.require(Err("nothing is left to happen".into()));
        };
        debug_assert!(due.at >= self.now, "time goes forwards");
        self.now = due.at;
        self.counters.events += 1;
        self.mark(&due.at.0.to_le_bytes());
        self.dispatch(due.event);
    }

    /// Handles an event, or keeps it for a member that is paused.
    pub fn dispatch(&mut self, event: Event) {
        let target = self.member_of(&event);
        let target = target.and_then(|mid| self.nodes.get_mut(&mid));
        if let Some(node) = target.filter(|node| node.paused) {
            return node.backlog.push_back(event);
        }
        match event {
            Event::Arrival(parcel) => self.arrive(parcel),
            Event::Connected { link, generation, side } => self.connected(link, generation, side),
            Event::Turn(mid) => self.turn(mid),
            Event::Tick(mid) => self.tick(mid),
            Event::Heartbeat(mid) => self.heartbeat(mid),
            Event::Adopt { mid, pid, map } => {
                self.adopt_row(mid, pid, &map);
            }
            Event::Resume(mid) => self.resume(mid),
            Event::Wake { client } => self.client_wakes(client),
            Event::Double { client, to, bytes } => {
                self.send(Endpoint::Client(client), Endpoint::Node(to), Kind::Client, bytes);
            }
            Event::Fault => self.random_fault(),
            Event::Reset(link) => self.reset(link),
            Event::Operator => self.operate(),
            Event::Retire(mid) => self.retire(mid),
            Event::Danger(danger) => self.on_danger(danger),
            Event::Heal => self.heal(),
            Event::Inspect => self.inspect(),
        }
    }

    /// The member that would handle the event, if it can be paused in front of it.
    fn member_of(&self, event: &Event) -> Option<MemberId> {
        let endpoint = match event {
            Event::Arrival(parcel) => parcel.link.sides[parcel.to],
            Event::Connected { link, side, .. } => link.sides[*side],
            Event::Turn(mid) | Event::Tick(mid) | Event::Heartbeat(mid) => return Some(*mid),
            Event::Adopt { mid, .. } | Event::Retire(mid) => return Some(*mid),
            Event::Danger(Danger::Refused { mid, .. }) => return Some(*mid),
            Event::Danger(Danger::Gone { link, dead }) => {
                link.sides[1 - link.side(Endpoint::Node(*dead))]
            }
            _ => return None,
        };
        match endpoint {
            Endpoint::Node(mid) => Some(mid),
            Endpoint::Client(_) => None,
        }
    }

    fn heal(&mut self) {
        self.phase = Phase::Settle;
        self.note(|_| "the faults are over".into());
        self.settings.heal();
        self.network.heal();
        self.nodes.values_mut().for_each(|node| node.deaf_until = Nanos::ZERO);
        self.forgive();
        self.raise_the_dead();
        self.after(Duration::from_millis(100), Event::Inspect);
    }

    /// Ends dropped members that know nobody who is still there to tell them. They hold nothing.
    fn retire_orphans(&mut self) {
        let knows_one = |node: &Node| {
            let map = node.map.iter().flat_map(|map| map.members.keys());
            map.into_iter().any(|mid| self.truth.members.contains_key(mid))
        };
        let truth = &self.truth;
        let dropped = self.nodes.values().filter(|node| !truth.members.contains_key(&node.mid));
        let orphans: Vec<_> = dropped.filter(|n| !knows_one(n)).map(|node| node.mid).collect();
        orphans.into_iter().for_each(|mid| self.retire(mid));
    }

    /// I14: the ring comes to rest as wanted, and all operations end.
    fn inspect(&mut self) {
        self.retire_orphans();
        let unsettled = self.unsettled();
        let deadline = self.settings.duration + Duration::from_millis(SETTLE_MS_MAX);
        match (self.phase, unsettled) {
            (Phase::Settle, None) => {
                self.phase = Phase::Verify;
                self.note(|_| "the ring is as wanted".into());
                self.read_everything();
            }
            (Phase::Verify, None) if self.clients.iter().all(Client::is_idle) => {
                self.phase = Phase::Done;
                return self.check_replicas();
            }
            (_, why) if self.now > deadline => {
                let why = why.unwrap_or("the last reads do not end".into());
                let members: Vec<_> =
                    self.truth.members.iter().map(|(m, x)| (*m, x.state)).collect();
                let living: Vec<_> = self.nodes.keys().collect();
                self.require(Err(format!(
                    "I14: {why}; voters {:?}; members {members:?}; living {living:?}; {:?}",
                    self.truth.voters, self.truth.parts
                )));
            }
            _ => {}
        }
        self.after(Duration::from_millis(100), Event::Inspect);
    }

    fn unsettled(&self) -> Option<String> {
        if self.phase == Phase::Settle && !self.clients.iter().all(Client::is_idle) {
            return Some("a client is not done".into());
        }
        if self.phase == Phase::Settle && self.oracle.waiting() > 0 {
            return Some("an operation is held and not answered".into());
        }
        let truth = &self.truth;
        if !truth.is_settled() {
            return Some("a partition is not as its goal wants it".into());
        }
        if let Some(mid) = self.nodes.keys().find(|mid| !truth.members.contains_key(mid)) {
            return Some(format!("{mid:?} does not know that it was dropped"));
        }
        let asleep = |(mid, m): (&MemberId, &Member)| m.is_dead() && self.nodes.contains_key(mid);
        if truth.members.iter().any(asleep) {
            return Some("a living member is taken for dead".into());
        }
        let wanted = usize::from(truth.params.min_insync).min(self.targets());
        let all_lost = truth.parts.iter().all(|part| part.state == PartState::Lost);
        // What is asked for is never lowered because somebody died.
        let kept =
            usize::from(truth.required) > wanted && truth.members.values().any(Member::is_dead);
        if usize::from(truth.required) != wanted && !all_lost && !kept {
            return Some(format!("a write needs {} copies, not {wanted}", truth.required));
        }
        for (mid, node) in &self.nodes {
            if node.map.as_ref().map(|map| map.ver) != Some(truth.ver) {
                return Some(format!("{mid:?} has not the newest map"));
            }
        }
        let parts = truth.parts.iter().zip(0..);
        parts.map(|(part, pid)| self.part_unsettled(part, PartitionId(pid))).find_map(|why| why)
    }

    fn targets(&self) -> usize {
        self.truth.targets().len()
    }

    fn part_unsettled(&self, part: &ringkv::ring::Part, pid: PartitionId) -> Option<String> {
        if part.state == PartState::Lost {
            return None;
        }
        let copies = usize::from(self.truth.params.copies).min(self.targets());
        if part.isr.len() != copies {
            return Some(format!("{pid:?} has {} copies, not {copies}", part.isr.len()));
        }
        let primary = self.nodes.get(&part.primary)?.replicas.get(pid.0 as usize)?;
        if primary.role() != Role::Primary || primary.cfg() != part.cfg {
            return Some(format!("{pid:?}: {:?} is {:?}", part.primary, primary.role()));
        }
        for mid in part.isr.iter() {
            let replica = self.nodes.get(&mid)?.replicas.get(pid.0 as usize)?;
            if (replica.commit(), replica.last()) != (primary.commit(), primary.commit()) {
                return Some(format!("{pid:?}: {mid:?} is not level with its primary"));
            }
        }
        None
    }

    fn check_replicas(&mut self) {
        for (at, part) in self.truth.clone().parts.iter().enumerate() {
            let held = part
                .isr
                .iter()
                .filter_map(|mid| Some((mid, self.nodes.get(&mid)?.replicas.get(at)?)));
            let held: Vec<_> = held.collect();
            let check = self.oracle.check_equal(PartitionId(at as u32), &held);
            self.require(check);
        }
    }
}

/// What the `number`th node says of itself.
pub fn join_info(rng: &mut Rng, number: u64) -> JoinInfo {
    JoinInfo {
        name: format!("node-{number}"),
        addr: format!("host-{number}:1"),
        zone: String::new(),
        weight: 1 + rng.below(3) as u32,
        position: rng.next_u64(),
        boot: 0,
        durable: false,
    }
}
