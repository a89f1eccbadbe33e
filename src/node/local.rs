//! A node of this process: its threads, and operations from inside the process.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use super::calls::{Arrival, Mailbox};
use super::config::{Lookup, NodeConfig, Start};
use super::control::Control;
use super::drive::{Event, Sessions, Transport};
use super::shared::{Membership, Shared, WorkerHandle};
use super::subscribe::Hub;
use super::turn::{LOCAL, Turn};
use super::worker::Worker;
use crate::base::limits::{COMMANDS_MAX, CONNECTIONS_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::base::{ClusterId, Error, MemberId, Nanos, PartitionId, Result, Status, Ver};
use crate::net::{Address, Budget, Handler, Listener, Reactor, ReactorOptions, sys};
use crate::proto::router::Stamp;
use crate::proto::{Caller, Coordinator};
use crate::ring::RingMap;
use crate::wire::codec::Reader;
use crate::wire::{Op, Reply, Request};

/// Connections that wait for a worker to take them.
const WORKER_INPUTS_MAX: usize = 1024;
const WORKERS_MAX: usize = 64;
/// While answers are missing, a thread looks this often whether the ring has changed.
const DOUBT_AFTER: Duration = Duration::from_millis(300);

/// A running node. Clones share it.
#[derive(Clone)]
pub(super) struct Node(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// Starts a node; returns when it is a member, or stands by if that was asked for.
    pub(super) fn start(config: NodeConfig) -> Result<Node> {
        let config = checked(config)?;
        let budget = Budget::new(CONNECTIONS_MAX);
        let mut listeners = vec![listen(&config.listen, &config, &budget)?];
        for also in &config.also_listen {
            listeners.push(listen(also, &config, &budget)?);
        }
        let bound = listeners.first().map(|l| l.address().to_string()).unwrap_or_default();
        let address = config.advertise.clone().unwrap_or(bound);
        Address::parse(&address).map_err(|error| error.context("advertise"))?;
        let shared = Arc::new(Shared::new(config, address));
        let node = Node(Arc::new(Inner { shared, threads: Mutex::default() }));
        node.launch(listeners).inspect_err(|_| node.close())?;
        Ok(node)
    }

    fn launch(&self, listeners: Vec<Listener>) -> Result<()> {
        let shared = &self.0.shared;
        let (inputs, control_inputs) = bounded(COMMANDS_MAX);
        let (started, outcome) = bounded(1);
        let mut reactor = Reactor::new(ReactorOptions::default())?;
        shared.set_control(inputs, reactor.waker());
        self.launch_workers()?;
        let config = &shared.config;
        let coordinator = match config.start {
            Start::Create => Some(create(config, &shared.address)),
            Start::Join(_) | Start::Standby => None,
        };
        let first_map = coordinator.as_ref().map(|c| Arc::clone(c.map()));
        let mut control = Control::new(Arc::clone(shared), control_inputs, coordinator, started);
        match (&config.start, first_map) {
            (Start::Create, Some(map)) => control.become_member(MemberId(1), map, true),
            (Start::Join(seeds), _) => {
                control.join(sys::boottime(), seeds.clone(), ClusterId(0), None);
            }
            _ => control.report_started(Ok(())),
        }
        for listener in listeners {
            reactor.context().listen(listener)?;
        }
        self.spawn("ringkv-control", reactor, control)?;
        // The control thread gives up by itself at `start_timeout`; a little later so do we.
        let patience = config.start_timeout + Duration::from_secs(5);
        wait_started(&outcome, patience, shared)
    }

    fn launch_workers(&self) -> Result<()> {
        let shared = &self.0.shared;
        let count = shared.config.workers;
        let mut handles = Vec::new();
        let mut workers = Vec::new();
        for index in 0..count {
            let (inputs, receiver) = bounded(WORKER_INPUTS_MAX);
            let reactor = Reactor::new(ReactorOptions::default())?;
            handles.push(WorkerHandle { inputs, waker: reactor.waker() });
            workers.push((reactor, Worker::new(Arc::clone(shared), receiver, index, count)));
        }
        let first = shared.workers.set(handles).is_ok();
        debug_assert!(first, "workers are launched once");
        for (index, (reactor, worker)) in workers.into_iter().enumerate() {
            self.spawn(&format!("ringkv-work-{index}"), reactor, worker)?;
        }
        Ok(())
    }

    fn spawn<H: Handler + Send + 'static>(
        &self,
        name: &str,
        mut reactor: Reactor,
        mut handler: H,
    ) -> Result<()> {
        let shared = Arc::clone(&self.0.shared);
        let label = name.to_owned();
        let body = move || {
            let ran = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut handler)));
            match ran {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shared.fail(format!("{label} stopped: {error}")),
                Err(panic) => shared.fail(format!("{label} panicked: {}", text_of(&*panic))),
            }
        };
        self.0.threads.lock().push(sys::spawn(name, body)?);
        Ok(())
    }

    /// Stops the node's threads and waits for them. Idempotent. Must not be called from one of
    /// the node's own threads.
    pub(super) fn close(&self) {
        self.0.close();
    }

    pub(super) fn check_open(&self) -> Result<()> {
        self.0.shared.check_open()
    }

    /// What others can connect to.
    pub(super) fn address(&self) -> String {
        self.0.shared.address.clone()
    }

    /// Where the node's events come from.
    pub(super) fn hub(&self) -> &Hub {
        &self.0.shared.hub
    }

    pub(super) fn timeout(&self) -> Duration {
        self.0.shared.config.timeout
    }

    /// The newest map; `None` while standing by.
    pub(super) fn map(&self) -> Option<Arc<RingMap>> {
        Some(self.0.shared.membership()?.map())
    }

    /// This node's id in its ring.
    pub(super) fn member_id(&self) -> Option<MemberId> {
        Some(self.0.shared.membership()?.me)
    }

    /// The sessions of all threads.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.0.shared.sessions
    }

    /// How operations of the calling thread travel.
    pub(super) fn transport(&self, lookup: Lookup) -> LocalTransport {
        LocalTransport {
            shared: Arc::clone(&self.0.shared),
            mailbox: Arc::default(),
            lookup,
            turn: None,
            open: HashMap::new(),
            member: None,
            doubt_at: Nanos::ZERO,
        }
    }

    /// Hands the value of `key` to `f`, under a lock, if this node is the key's primary and may
    /// answer now; the outer `None` if the operation has to travel.
    pub(super) fn read<R>(&self, key: &[u8], f: &mut dyn FnMut(&[u8]) -> R) -> Option<Option<R>> {
        let shared = &self.0.shared;
        let member = shared.membership()?;
        let replica = member.replica(member.hasher.partition(key))?.lock();
        let value = replica.read(key, sys::boottime, sys::unix_millis)?;
        Some(value.map(f))
    }
}

impl Inner {
    fn close(&self) {
        self.shared.set_closed();
        self.shared.wake_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ = thread.join(); // A panic was caught and reported by the thread itself.
        }
        self.shared.set_membership(None);
        self.shared.targets.write().clear();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn wait_started(
    outcome: &crossbeam_channel::Receiver<Result<()>>,
    patience: Duration,
    shared: &Shared,
) -> Result<()> {
    let until = sys::boottime() + patience;
    loop {
        match outcome.recv_timeout(super::interrupt::SLICE) {
            Ok(result) => return result,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                super::interrupt::poll_interrupt()?;
                shared.check_open()?;
                if sys::boottime() >= until {
                    return Err(Error::new(Status::Timeout, "the node did not start in time"));
                }
            }
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                shared.check_open()?;
                return Err(Error::new(Status::Internal, "the control thread ended"));
            }
        }
    }
}

fn create(config: &NodeConfig, address: &str) -> Coordinator {
    let cluster = ClusterId(sys::random_u128());
    let boot = sys::random_u64() as u32;
    let first = super::control::join_info(config, address, config.params.seed, boot);
    Coordinator::create(cluster, config.params, first)
}

fn listen(address: &str, config: &NodeConfig, budget: &Arc<Budget>) -> Result<Listener> {
    let address = Address::parse(address).map_err(|error| error.context("listen"))?;
    if !address.is_loopback() && !config.accept_public {
        return Err(Error::new(
            Status::Refused,
            format!(
                "{address} can be reached from other machines, and this version has no \
                 authentication; allow it explicitly (accept_public) or listen on loopback"
            ),
        ));
    }
    Listener::bind(&address, Arc::clone(budget))
}

fn checked(mut config: NodeConfig) -> Result<NodeConfig> {
    let invalid = |text: String| Err(Error::new(Status::InvalidArgument, text));
    let params = &mut config.params;
    if let Some(forced) = params.hash.forced_partitions() {
        params.partitions = forced;
    }
    let q_max = crate::base::limits::PARTITIONS_MAX;
    if !params.partitions.is_power_of_two() || params.partitions > q_max {
        let q = params.partitions;
        return invalid(format!("partitions must be a power of two up to {q_max}, not {q}"));
    }
    if !(1..=crate::base::limits::COPIES_MAX).contains(&usize::from(params.copies)) {
        return invalid(format!("copies must be 1 to 7, not {}", params.copies));
    }
    if params.min_insync == 0 || params.min_insync > params.copies {
        // Fewer copies than the default of min_insync is a plain wish, not a contradiction.
        let is_default = params.min_insync == crate::ring::Params::default().min_insync;
        if !is_default {
            let (min, copies) = (params.min_insync, params.copies);
            return invalid(format!("min_insync must be 1 to copies ({copies}), not {min}"));
        }
        params.min_insync = params.copies;
    }
    if params.value_bytes_max == 0 || params.value_bytes_max as usize > VALUE_BYTES_MAX {
        return invalid(format!("the longest value must be 1 to {VALUE_BYTES_MAX} bytes"));
    }
    if !(1..=WORKERS_MAX).contains(&config.workers) {
        return invalid(format!("workers must be 1 to {WORKERS_MAX}, not {}", config.workers));
    }
    if config.name.as_ref().is_some_and(|n| n.is_empty() || n.len() > NAME_BYTES_MAX) {
        return invalid(format!("a name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    if config.zone.len() > NAME_BYTES_MAX {
        return invalid(format!("a zone has at most {NAME_BYTES_MAX} bytes"));
    }
    if config.start == Start::Create && config.weight == 0 {
        return invalid("the first node of a ring must hold data: its weight cannot be 0".into());
    }
    if let Start::Join(seeds) = &config.start {
        if seeds.is_empty() {
            return invalid("joining needs the address of at least one member".into());
        }
        for seed in seeds {
            Address::parse(seed).map_err(|error| error.context("join"))?;
        }
    }
    Ok(config)
}

/// Operations of one thread of this process.
pub(super) struct LocalTransport {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    lookup: Lookup,
    turn: Option<Turn>,
    /// What is under way, by tag: its call number, and the map that it was routed by.
    open: HashMap<usize, (u64, Ver)>,
    /// The membership that the next operation was looked up in, so that it is looked up once.
    member: Option<Arc<Membership>>,
    /// Zero until the first wait.
    doubt_at: Nanos,
}

impl Transport for LocalTransport {
    fn now(&self) -> Nanos {
        sys::boottime()
    }

    fn partition(&mut self, op: &Op<'_>) -> Option<PartitionId> {
        self.member = self.shared.membership();
        Some(self.member.as_ref()?.hasher.partition(op.key()?))
    }

    fn submit(&mut self, tag: usize, op: &Op<'_>, stamp: Stamp, _: Option<MemberId>) -> Ver {
        let id = self.shared.calls.open(&self.mailbox, tag);
        let Some(member) = self.member.take().or_else(|| self.shared.membership()) else {
            self.open.insert(tag, (id, Ver::ZERO));
            self.shared.calls.complete(id, &Reply::NoRing);
            return Ver::ZERO;
        };
        let map_ver = member.map_ver();
        self.open.insert(tag, (id, map_ver));
        let stale = |turn: &Turn| !Arc::ptr_eq(turn.member(), &member);
        if self.turn.as_ref().is_some_and(stale) {
            self.finish_turn();
        }
        let shared = &self.shared;
        let turn = self.turn.get_or_insert_with(|| Turn::new(Arc::clone(shared), member));
        let op = match (*op, self.lookup) {
            (Op::Get { key }, Lookup::Local) => Op::GetLocal { key },
            (op, _) => op,
        };
        let caller = Caller { connection: LOCAL, id };
        let redirect = matches!(op, Op::GetLocal { .. });
        if redirect && !turn.holds(&op) {
            // What this node does not hold, it does not know: LOCAL asks nobody else.
            turn.reply(caller, &Reply::Absent);
        } else {
            turn.request(caller, &stamp.on(Request::new(map_ver, op)));
        }
        map_ver
    }

    fn wait(&mut self, until: Nanos, report: &mut dyn FnMut(usize, Event<'_>)) -> Result<()> {
        self.finish_turn();
        self.shared.check_open()?;
        let now = sys::boottime();
        let arrived = self.mailbox.take(until.since(now));
        for Arrival { number, tag, reply } in arrived {
            if self.open.get(&tag).is_none_or(|(id, _)| *id != number) {
                continue; // Given up meanwhile.
            }
            self.open.remove(&tag);
            match Reply::decode(&mut Reader::new(&reply)) {
                Ok(reply) => report(tag, Event::Reply(&reply)),
                Err(_) => debug_assert!(false, "an answer was encoded by us"),
            }
        }
        if now >= self.doubt_at {
            if self.doubt_at != Nanos::ZERO {
                self.doubt(report);
            }
            self.doubt_at = now + DOUBT_AFTER;
        }
        self.shared.check_open()
    }

    fn refresh(&mut self, _: Nanos) {
        // Maps come by themselves; the retry waits a little anyway.
    }

    fn abandon(&mut self) {
        self.finish_turn();
        for (_, (id, _)) in self.open.drain() {
            self.shared.calls.forget(id);
        }
    }
}

impl LocalTransport {
    /// What was passed on to a member that hangs is not answered, nor is its connection closed. If
    /// some partition has another configuration now, do not wait for the old one any longer; who
    /// waited for something else is told the same answer again.
    fn doubt(&mut self, report: &mut dyn FnMut(usize, Event<'_>)) {
        let Some(member) = self.shared.membership() else { return };
        let epoch = member.map().epoch;
        let overtaken = self.open.iter().filter(|(_, (_, map_ver))| epoch > *map_ver);
        let overtaken: Vec<usize> = overtaken.map(|(tag, _)| *tag).collect();
        for tag in overtaken {
            if let Some((id, _)) = self.open.remove(&tag) {
                self.shared.calls.forget(id);
                report(tag, Event::Lost { sent: true });
            }
        }
    }

    fn finish_turn(&mut self) {
        if let Some(mut turn) = self.turn.take() {
            turn.finish();
        }
    }
}

impl Drop for LocalTransport {
    fn drop(&mut self) {
        self.abandon();
    }
}
