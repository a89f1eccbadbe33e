//! One simulated member: the real cores, and the little that a runtime adds to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ringkv::base::{MemberId, Nanos, PartitionId, Term, Ver};
use ringkv::proto::detector::{Jury, Watch};
use ringkv::proto::{Caller, Coordinator, Leases, Outbox, Replica};
use ringkv::ring::{Params, RingMap};
use ringkv::wire::{Command, PeerMsg, Reply};

use crate::clock::Clock;
use crate::world::Event;

/// Callers above this are members that forwarded a request, below it clients.
const PEER_CALLERS: u64 = 1 << 32;

/// A member.
#[derive(Debug)]
pub struct Node {
    pub mid: MemberId,
    /// Its own idea of the time.
    pub clock: Clock,
    /// Whom it hears.
    pub watch: Watch,
    /// Who leads the coordinator, and since when, as far as it knows.
    pub leader: ((Ver, Term), MemberId),
    /// What it thinks of the others, if it decides.
    pub jury: Jury,
    /// The newest map that it adopted.
    pub map: Option<Arc<RingMap>>,
    pub replicas: Vec<Replica>,
    /// The leases that it gave and has.
    pub leases: Leases,
    /// Maps that some partitions have not followed yet: how many, and the map's epoch.
    pub following: BTreeMap<Ver, (usize, Ver)>,
    /// There if this member is or was the coordinator.
    pub coordinator: Option<Coordinator>,
    /// Replicas that had inputs since their last flush.
    pub dirty: BTreeSet<usize>,
    pub turn_due: bool,
    /// What happened to it while it was paused.
    pub backlog: VecDeque<Event>,
    pub paused: bool,
    /// Since when, while it catches up: what a clock that is not read again shows.
    pub slept_at: Option<Nanos>,
    /// It hears nothing of maps until then.
    pub deaf_until: Nanos,
    /// What other voters said meanwhile, which would tell it of maps: it hears that later.
    pub unheard: VecDeque<(MemberId, Vec<u8>)>,
    /// It is no member any more, and knows it.
    pub retired: bool,
    /// Forwarded requests: to whom, and who waits.
    routes: BTreeMap<u64, (MemberId, Caller)>,
    routes_opened: u64,
}

impl Node {
    /// A member that knows nothing but the parameters of its ring.
    pub fn new(mid: MemberId, params: &Params, clock: Clock) -> Self {
        let replica = |at| Replica::new(PartitionId(at), mid, params.value_bytes_max);
        Self {
            mid,
            clock,
            watch: Watch::default(),
            leader: Default::default(),
            jury: Jury::default(),
            map: None,
            replicas: (0..params.partitions).map(replica).collect(),
            leases: Leases::default(),
            following: BTreeMap::new(),
            coordinator: None,
            dirty: BTreeSet::new(),
            turn_due: false,
            backlog: VecDeque::new(),
            paused: false,
            slept_at: None,
            deaf_until: Nanos::ZERO,
            unheard: VecDeque::new(),
            retired: false,
            routes: BTreeMap::new(),
            routes_opened: 0,
        }
    }

    /// The number under which the answer of a forwarded request comes back.
    pub fn open_route(&mut self, to: MemberId, caller: Caller) -> u64 {
        self.routes_opened += 1;
        self.routes.insert(self.routes_opened, (to, caller));
        self.routes_opened
    }

    /// Who waits for that answer.
    pub fn close_route(&mut self, route: u64, from: MemberId) -> Option<Caller> {
        let (to, caller) = *self.routes.get(&route)?;
        (to == from).then(|| self.routes.remove(&route))?;
        (to == from).then_some(caller)
    }

    /// Everybody whose request went over a connection that broke.
    pub fn lose_routes(&mut self, peer: MemberId) -> Vec<Caller> {
        let lost = self.routes.iter().filter(|(_, (to, _))| *to == peer);
        let lost: Vec<(u64, Caller)> = lost.map(|(route, (_, caller))| (*route, *caller)).collect();
        self.routes.retain(|_, (to, _)| *to != peer);
        lost.into_iter().map(|(_, caller)| caller).collect()
    }
}

/// The caller that stands for a client.
pub fn client_caller(client: usize, id: u64) -> Caller {
    Caller { connection: client as u64, id }
}

/// The caller that stands for a member that forwarded a request.
pub fn peer_caller(peer: MemberId, route: u64) -> Caller {
    Caller { connection: PEER_CALLERS + peer.0, id: route }
}

/// The member that a caller stands for, if it is not a client.
pub fn peer_of(caller: Caller) -> Option<MemberId> {
    caller.connection.checked_sub(PEER_CALLERS).map(MemberId)
}

/// What the cores said in one turn, encoded.
#[derive(Debug, Default)]
pub struct Collector {
    pub sends: Vec<(MemberId, Vec<u8>)>,
    pub replies: Vec<(Caller, Vec<u8>)>,
    pub proposals: Vec<Command>,
    /// Bulk bytes that each connection still takes.
    pub room: BTreeMap<MemberId, usize>,
    /// The member's own, lent for the turn.
    pub leases: Leases,
}

impl Outbox for Collector {
    fn send(&mut self, to: MemberId, msg: &PeerMsg<'_>) {
        let mut bytes = Vec::new();
        msg.encode(&mut bytes);
        if let Some(room) = self.room.get_mut(&to) {
            *room = room.saturating_sub(bytes.len());
        }
        self.sends.push((to, bytes));
    }

    fn reply(&mut self, to: Caller, reply: &Reply<'_>) {
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        self.replies.push((to, bytes));
    }

    fn propose(&mut self, command: Command) {
        self.proposals.push(command);
    }

    fn bulk_room(&self, to: MemberId) -> Option<usize> {
        self.room.get(&to).copied()
    }

    fn leases(&mut self, f: &mut dyn FnMut(&mut Leases)) {
        f(&mut self.leases);
    }
}
