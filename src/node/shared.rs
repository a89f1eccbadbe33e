//! What the threads of a node have in common.
//!
//! Lock order: a replica's lock, then the leases' or a link's. No thread holds two replicas' locks.
//! The maps of links, calls and routes are locked for a look-up only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crossbeam_channel::Sender;

use super::calls::Calls;
use super::config::NodeConfig;
use super::control::ControlInput;
use super::drive::Sessions;
use super::subscribe::Hub;
use super::sync::{Mutex, RwLock};
use super::worker::WorkerInput;
use crate::base::limits::BACKLOG_BYTES_MAX;
use crate::base::{Error, MemberId, Nanos, PartitionId, Result, Status, Ver};
use crate::net::{Link, Waker, sys};
use crate::proto::{Caller, Leases, MapRow, Moment, Replica};
use crate::ring::{Hasher, RingMap};

/// A node's membership of one ring, from joining to leaving.
pub(super) struct Membership {
    /// Its id.
    pub(super) me: MemberId,
    /// From keys to partitions.
    pub(super) hasher: Hasher,
    /// One replica for each partition of the ring, most of them holding nothing.
    replicas: Box<[Mutex<Replica>]>,
    /// What each replica wants (`BUSY` and so on), readable without its lock.
    flags: Box<[AtomicU8]>,
    /// The newest map.
    map: RwLock<Arc<RingMap>>,
    /// The leases that it gave and has.
    pub(super) leases: Mutex<Leases>,
    /// Data connections to the other members.
    peers: RwLock<HashMap<MemberId, Arc<Link>>>,
}

/// The replica wants `tick`.
pub(super) const BUSY: u8 = 1;
/// The replica wants `flush` soon: a snapshot waits for room.
pub(super) const STREAMING: u8 = 2;
/// The replica wants `sweep` now and then: keys of it may expire.
pub(super) const EXPIRING: u8 = 4;
/// The replica wants `collect_sessions` now and then.
pub(super) const REMEMBERING: u8 = 8;

impl Membership {
    pub(super) fn new(me: MemberId, map: Arc<RingMap>) -> Self {
        let params = map.params;
        let new = |pid| Mutex::new(Replica::new(PartitionId(pid), me, params.value_bytes_max));
        Self {
            me,
            hasher: Hasher::new(params.hash, params.seed, params.partitions),
            replicas: (0..params.partitions).map(new).collect(),
            flags: (0..params.partitions).map(|_| AtomicU8::new(0)).collect(),
            map: RwLock::new(map),
            leases: Mutex::default(),
            peers: RwLock::default(),
        }
    }

    pub(super) fn map(&self) -> Arc<RingMap> {
        Arc::clone(&self.map.read())
    }

    /// A1: stores the map and its epoch, then has the replicas of `pids` adopt their rows: whatever
    /// is promised from now on bears the new epoch, and the replicas look at what was promised
    /// before. Only after that a lease counts that was given by somebody who knows this map.
    pub(super) fn follow(
        &self,
        map: &Arc<RingMap>,
        pids: impl IntoIterator<Item = PartitionId>,
        mut adopt: impl FnMut(PartitionId, MapRow<'_>),
    ) {
        *self.map.write() = Arc::clone(map);
        self.leases.lock().hear_of(map.epoch);
        for pid in pids {
            if let Some(row) = row(map, pid) {
                adopt(pid, row);
            }
        }
        self.leases.lock().follow(map.epoch);
    }

    pub(super) fn map_ver(&self) -> Ver {
        self.map.read().ver
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.replicas.len() as u32).map(PartitionId)
    }

    /// The replica's lock; `None` if the ring has no such partition.
    pub(super) fn replica(&self, pid: PartitionId) -> Option<&Mutex<Replica>> {
        self.replicas.get(pid.0 as usize)
    }

    pub(super) fn flags(&self, pid: PartitionId) -> u8 {
        self.flags.get(pid.0 as usize).map_or(0, |flags| flags.load(Ordering::Relaxed))
    }

    /// Notes, under the replica's lock, what it wants.
    pub(super) fn note(&self, pid: PartitionId, replica: &Replica) -> u8 {
        let flags = (BUSY * u8::from(replica.is_busy()))
            | (STREAMING * u8::from(replica.is_streaming()))
            | (EXPIRING * u8::from(replica.has_expiring()))
            | (REMEMBERING * u8::from(replica.has_sessions()));
        if let Some(slot) = self.flags.get(pid.0 as usize) {
            slot.store(flags, Ordering::Relaxed);
        }
        flags
    }

    pub(super) fn peer(&self, mid: MemberId) -> Option<Arc<Link>> {
        self.peers.read().get(&mid).map(Arc::clone)
    }

    /// Makes `link` the data connection to `mid`; the one that it replaces.
    pub(super) fn set_peer(&self, mid: MemberId, link: Arc<Link>) -> Option<Arc<Link>> {
        self.peers.write().insert(mid, link)
    }

    /// Forgets the data connection to `mid` if it is `link`.
    pub(super) fn forget_peer(&self, mid: MemberId, link: &Arc<Link>) -> bool {
        let mut peers = self.peers.write();
        let is_current = peers.get(&mid).is_some_and(|current| Arc::ptr_eq(current, link));
        if is_current {
            peers.remove(&mid);
        }
        is_current
    }

    pub(super) fn peer_links(&self) -> Vec<(MemberId, Arc<Link>)> {
        self.peers.read().iter().map(|(mid, link)| (*mid, Arc::clone(link))).collect()
    }
}

/// Where answers to a connection go.
pub(super) struct Target {
    pub(super) link: Arc<Link>,
    /// A peer's answers travel back as forwarded ones.
    pub(super) is_peer: bool,
    /// Operations that are not answered yet.
    pub(super) in_flight: AtomicU32,
}

/// A request that was passed on to the primary of its key.
pub(super) struct Route {
    pub(super) caller: Caller,
    pub(super) to: MemberId,
    pub(super) is_mutation: bool,
}

/// Requests that were passed on and not answered.
#[derive(Default)]
pub(super) struct Routes {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Route>>,
}

impl Routes {
    pub(super) fn open(&self, route: Route) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, route);
        number
    }

    pub(super) fn close(&self, number: u64) -> Option<Route> {
        self.open.lock().remove(&number)
    }

    /// Takes every route: the node leaves its ring.
    pub(super) fn close_all(&self) -> Vec<Route> {
        self.open.lock().drain().map(|(_, route)| route).collect()
    }

    /// Takes every route to `mid`, whose connection is gone.
    pub(super) fn close_all_to(&self, mid: MemberId) -> Vec<Route> {
        let mut open = self.open.lock();
        let numbers: Vec<u64> = open.iter().filter(|(_, r)| r.to == mid).map(|(n, _)| *n).collect();
        numbers.iter().filter_map(|number| open.remove(number)).collect()
    }
}

/// How to reach one worker.
pub(super) struct WorkerHandle {
    pub(super) inputs: Sender<WorkerInput>,
    pub(super) waker: Waker,
}

/// What the threads of a node have in common.
pub(super) struct Shared {
    pub(super) config: NodeConfig,
    /// The address that others use.
    pub(super) address: String,
    membership: RwLock<Option<Arc<Membership>>>,
    pub(super) targets: RwLock<HashMap<u64, Arc<Target>>>,
    pub(super) calls: Calls,
    pub(super) routes: Routes,
    /// Sessions of the calls from inside of this process.
    pub(super) sessions: Sessions,
    pub(super) workers: OnceLock<Vec<WorkerHandle>>,
    control: OnceLock<(Sender<ControlInput>, Waker)>,
    /// Who leads the coordinator, as far as the control thread knows; 0 if nobody.
    leader: AtomicU64,
    pub(super) hub: Hub,
    memory_bytes: AtomicI64,
    backlog_bytes: AtomicI64,
    /// For each worker, what its replicas want.
    wishes: Box<[Wishes]>,
    closed: AtomicBool,
    failure: OnceLock<String>,
}

/// What some replica of a worker wants of it soon.
pub(super) struct Wishes {
    /// `flush`: a snapshot waits for room.
    streaming: AtomicBool,
    /// `tick` at this time: it begins to serve then.
    serves_at: AtomicU64,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { streaming: AtomicBool::new(false), serves_at: AtomicU64::new(Nanos::NEVER.0) }
    }
}

impl Wishes {
    /// Whether one wants `flush`.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Relaxed)
    }

    /// Forgets that one wants `flush`: a visit notes it again.
    pub(super) fn clear_streaming(&self) {
        self.streaming.store(false, Ordering::Relaxed);
    }

    /// When the first one begins to serve.
    pub(super) fn serves_at(&self) -> Nanos {
        Nanos(self.serves_at.load(Ordering::Relaxed))
    }

    /// Whether one is to begin now; those that are to begin later are noted again by a visit.
    pub(super) fn take_serving(&self, now: Nanos) -> bool {
        let due = now >= self.serves_at();
        if due {
            self.serves_at.store(Nanos::NEVER.0, Ordering::Relaxed);
        }
        due
    }
}

impl Shared {
    pub(super) fn new(config: NodeConfig, address: String) -> Self {
        let wishes = (0..config.workers).map(|_| Wishes::default()).collect();
        Self {
            config,
            address,
            membership: RwLock::new(None),
            targets: RwLock::default(),
            calls: Calls::default(),
            routes: Routes::default(),
            sessions: Sessions::default(),
            workers: OnceLock::new(),
            control: OnceLock::new(),
            leader: AtomicU64::new(0),
            hub: Hub::default(),
            memory_bytes: AtomicI64::new(0),
            backlog_bytes: AtomicI64::new(0),
            wishes,
            closed: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn set_control(&self, inputs: Sender<ControlInput>, waker: Waker) {
        let first = self.control.set((inputs, waker)).is_ok();
        debug_assert!(first, "a node has one control thread");
    }

    pub(super) fn membership(&self) -> Option<Arc<Membership>> {
        self.membership.read().clone()
    }

    pub(super) fn set_membership(&self, membership: Option<Arc<Membership>>) {
        *self.membership.write() = membership;
    }

    /// Who leads the coordinator, as far as this node knows; zero if nobody.
    pub(super) fn leader(&self) -> MemberId {
        MemberId(self.leader.load(Ordering::Relaxed))
    }

    /// Notes who leads; the one who did so far.
    pub(super) fn set_leader(&self, leader: MemberId) -> MemberId {
        MemberId(self.leader.swap(leader.0, Ordering::Relaxed))
    }

    /// Leaves something for the control thread. False if its queue is full.
    pub(super) fn tell_control(&self, input: ControlInput) -> bool {
        let Some((inputs, waker)) = self.control.get() else { return false };
        let sent = inputs.try_send(input).is_ok();
        waker.wake();
        sent
    }

    /// Wakes every thread of the node: each looks whether the node is closed.
    pub(super) fn wake_all(&self) {
        if let Some((_, waker)) = self.control.get() {
            waker.wake();
        }
        for worker in self.workers.get().into_iter().flatten() {
            worker.waker.wake();
        }
    }

    /// The circumstances, sampled now.
    pub(super) fn moment(&self) -> Moment {
        let limit = self.config.memory_bytes_max;
        let backlog = self.backlog_bytes.load(Ordering::Relaxed).max(0) as u64;
        let used = self.memory_bytes.load(Ordering::Relaxed).max(0) as u64 + backlog;
        Moment {
            now: sys::boottime(),
            unix_ms: sys::unix_millis(),
            memory_full: limit != 0 && used >= limit,
            backlog_full: backlog >= BACKLOG_BYTES_MAX as u64,
        }
    }

    /// Runs `f` on a replica under its lock and keeps the books. `None` if there is no such one.
    pub(super) fn visit<R>(
        &self,
        member: &Membership,
        pid: PartitionId,
        f: impl FnOnce(&mut Replica) -> R,
    ) -> Option<R> {
        let mut replica = member.replica(pid)?.lock();
        let before = (replica.memory_bytes(), replica.backlog_bytes());
        let result = f(&mut replica);
        let after = (replica.memory_bytes(), replica.backlog_bytes());
        add_change(&self.memory_bytes, before.0, after.0);
        add_change(&self.backlog_bytes, before.1, after.1);
        let streams = member.note(pid, &replica) & STREAMING != 0;
        let serves_at = replica.serves_at();
        if streams || serves_at.is_some() {
            let wishes = self.wishes(pid.0 as usize % self.wishes.len());
            wishes.streaming.fetch_or(streams, Ordering::Relaxed);
            wishes.serves_at.fetch_min(serves_at.unwrap_or(Nanos::NEVER).0, Ordering::Relaxed);
        }
        Some(result)
    }

    /// What the replicas of a worker want.
    pub(super) fn wishes(&self, worker: usize) -> &Wishes {
        &self.wishes[worker]
    }

    /// Forgets the memory of replicas that are gone.
    pub(super) fn release_memory(&self) {
        self.memory_bytes.store(0, Ordering::Relaxed);
        self.backlog_bytes.store(0, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// True for the first caller only.
    pub(super) fn set_closed(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::SeqCst);
        self.calls.fail_all();
        first
    }

    /// A thread of the node panicked: nothing goes on.
    pub(super) fn fail(&self, what: String) {
        log::error!("{what}");
        let _ = self.failure.set(what);
        self.set_closed();
        self.wake_all();
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if !self.is_closed() {
            return Ok(());
        }
        match self.failure.get() {
            Some(what) => Err(Error::new(Status::Panic, what.clone())),
            None => Err(Error::new(Status::Closed, "the node is closed")),
        }
    }
}

fn add_change(counter: &AtomicI64, before: u64, after: u64) {
    if before != after {
        counter.fetch_add(after as i64 - before as i64, Ordering::Relaxed);
    }
}

/// The row of `pid` as its replica adopts it.
fn row(map: &RingMap, pid: PartitionId) -> Option<MapRow<'_>> {
    Some(MapRow {
        ver: map.ver,
        required: map.required,
        leases: map.params.leases,
        part: map.part(pid)?,
    })
}
