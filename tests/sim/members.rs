//! What happens to members, handled as a runtime would: inputs into the cores, their outputs onto
//! the network, a check after each.

use std::collections::BTreeMap;
use std::time::Duration;

use ringkv::base::limits::TICK_MS;
use ringkv::base::{MemberId, Nanos, PartitionId, Ver};
use ringkv::proto::replica::Role;
use ringkv::proto::{Caller, Disposition, Moment, Replica};
use ringkv::ring::RingMap;
use ringkv::wire::codec::Reader;
use ringkv::wire::{ClientMsg, Op, PeerMsg, Reply, Request, ServerMsg};

use crate::net::{Endpoint, Kind, Link, Parcel};
use crate::node::{Collector, Node, client_caller, peer_caller, peer_of};
use crate::world::{Event, World};

/// The tag of a barrier.
const BARRIER: u8 = 0x2A;

impl World {
    /// A member begins to run: its timers, its connections.
    pub fn start_node(&mut self, mid: MemberId) {
        self.after_ms(TICK_MS, Event::Tick(mid));
        self.after_ms(25, Event::Heartbeat(mid));
        let others: Vec<MemberId> = self.nodes.keys().copied().filter(|m| *m != mid).collect();
        for other in others {
            for kind in [Kind::Data, Kind::Control] {
                self.reset(Link::new(Endpoint::Node(mid), Endpoint::Node(other), kind));
            }
        }
        for client in 0..self.clients.len() {
            let link = Link::new(Endpoint::Node(mid), Endpoint::Client(client), Kind::Client);
            self.reset(link);
        }
    }

    /// A dropped member ends.
    pub fn retire(&mut self, mid: MemberId) {
        self.note(|_| format!("{mid:?} ends"));
        self.nodes.remove(&mid);
        self.oracle.forget(mid);
        self.network.forget(Endpoint::Node(mid));
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.lose_routes(other, mid);
        }
        for client in 0..self.clients.len() {
            self.client_lost(client, mid);
        }
    }

    /// Bytes arrive at a member or a client.
    pub fn arrive(&mut self, parcel: Parcel) {
        let Some(is_ghost) = self.network.arrives(&parcel, self.now) else { return };
        self.coverage.ghosts += u64::from(is_ghost);
        let is_for_nobody = match parcel.link.sides[parcel.to] {
            Endpoint::Node(mid) => !self.nodes.contains_key(&mid),
            Endpoint::Client(_) => false,
        };
        if is_for_nobody {
            return;
        }
        let from = parcel.link.sides[1 - parcel.to];
        self.mark(&parcel.bytes[..parcel.bytes.len().min(64)]);
        match (parcel.link.sides[parcel.to], from) {
            (Endpoint::Client(client), _) => self.client_hears(client, &parcel.bytes),
            (Endpoint::Node(mid), Endpoint::Client(client)) => {
                self.on_client(mid, client, &parcel.bytes);
            }
            (Endpoint::Node(mid), Endpoint::Node(from)) => match parcel.link.kind {
                Kind::Control => self.on_control(mid, from, &parcel.bytes),
                _ => self.on_data(mid, from, &parcel.bytes),
            },
        }
    }

    /// A side learns of a new connection.
    pub fn connected(&mut self, link: Link, generation: u32, side: usize) {
        if !self.network.connect(link, generation, side) {
            return;
        }
        let (Endpoint::Node(mid), Endpoint::Node(peer)) = (link.sides[side], link.sides[1 - side])
        else {
            return;
        };
        if link.kind == Kind::Control {
            self.coordinate(mid, |coordinator| coordinator.reconnected(peer));
            return self.greet(mid, peer);
        }
        self.note(|_| format!("{mid:?} is connected to {peer:?}"));
        for pid in self.partitions() {
            self.input(mid, pid, None, |replica, _, _| replica.peer_connected(peer));
        }
    }

    /// Breaks a connection and begins to make it anew.
    pub fn reset(&mut self, link: Link) {
        let known = |endpoint: Endpoint| match endpoint {
            Endpoint::Node(mid) => self.nodes.contains_key(&mid),
            Endpoint::Client(_) => true,
        };
        if !link.sides.iter().all(|endpoint| known(*endpoint)) {
            return;
        }
        self.note(|_| format!("reset {link:?}"));
        let (moments, generation) =
            self.network.reset(&self.settings, &mut self.rng, self.now, link);
        for (side, moment) in moments.into_iter().enumerate() {
            self.at(moment, Event::Connected { link, generation, side });
        }
        match link.sides {
            [Endpoint::Node(a), Endpoint::Node(b)] if link.kind == Kind::Data => {
                self.lose_routes(a, b);
                self.lose_routes(b, a);
            }
            [Endpoint::Node(a), Endpoint::Node(b)] => {
                self.look_for(a, b);
                self.look_for(b, a);
            }
            [Endpoint::Node(mid), Endpoint::Client(client)] => self.client_lost(client, mid),
            _ => {}
        }
    }

    /// F3: the answers of what was forwarded are lost with the connection. It may be executed.
    pub fn lose_routes(&mut self, mid: MemberId, peer: MemberId) {
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        for caller in node.lose_routes(peer) {
            let mut bytes = Vec::new();
            Reply::Unknown.encode(&mut bytes);
            self.answer(mid, caller, &bytes);
        }
    }

    /// All partitions of the ring.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.settings.params.partitions).map(PartitionId)
    }

    /// Hands one input to one replica: then looks at it, and puts on its way what it said.
    pub fn input<T>(
        &mut self,
        mid: MemberId,
        pid: PartitionId,
        msg: Option<&PeerMsg<'_>>,
        handle: impl FnOnce(&mut Replica, Moment, &mut Collector) -> T,
    ) -> Option<T> {
        let at = self.moment(mid);
        let leads = |replica: &Replica| replica.role() >= Role::Recovering;
        let replica = self.nodes.get(&mid)?.replicas.get(pid.0 as usize)?;
        let room = self.room(mid, leads(replica));
        let node = self.nodes.get_mut(&mid)?;
        let replica = node.replicas.get_mut(pid.0 as usize)?;
        let was_waiting = replica.is_waiting_out();
        let leases = std::mem::take(&mut node.leases);
        let mut out = Collector { room, leases, ..Collector::default() };
        let was = replica.role();
        let result = handle(replica, at, &mut out);
        node.leases = std::mem::take(&mut out.leases);
        let became_primary = was != Role::Primary && replica.role() == Role::Primary;
        let waits = !was_waiting && replica.is_waiting_out();
        let serves = replica.role() == Role::Primary;
        let done = |(_, bytes): &(Caller, Vec<u8>)| {
            Reply::decode(&mut Reader::new(bytes)) == Ok(Reply::Done)
        };
        let short = !replica.is_writable() && out.replies.iter().any(done);
        let check = self.oracle.observe(pid, mid, replica, msg);
        node.dirty.insert(pid.0 as usize);
        self.require(check);
        let check = self.oracle.check_copies(pid, &self.truth);
        self.require(check);
        if short {
            self.require(Err(format!("W4: {mid:?} acknowledged a write with too few copies")));
        }
        if serves {
            self.check_one_primary(pid);
        }
        self.note_role(mid, pid, waits, became_primary.then_some(was_waiting));
        self.turn_soon(mid, self.settings.turn_us);
        self.emit(mid, out);
        if became_primary {
            self.on_new_primary(mid, pid);
        }
        Some(result)
    }

    fn turn_soon(&mut self, mid: MemberId, within_us: u64) {
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        if !std::mem::replace(&mut node.turn_due, true) {
            let span = Duration::from_micros(self.rng.below(within_us + 1));
            self.after(span, Event::Turn(mid));
        }
    }

    /// The bulk bytes that each connection of a member takes now; nothing where there is none.
    fn room(&mut self, mid: MemberId, leads: bool) -> BTreeMap<MemberId, usize> {
        if !leads {
            return BTreeMap::new(); // Nobody asks.
        }
        let stingy = self.rng.chance(self.settings.no_room_permille);
        let budget = if stingy { 0 } else { self.settings.bulk_room };
        let peers = self.nodes.keys().filter(|peer| **peer != mid);
        let room = peers.filter_map(|peer| {
            let link = Link::new(Endpoint::Node(mid), Endpoint::Node(*peer), Kind::Data);
            let in_flight = self.network.in_flight(link, Endpoint::Node(mid))?;
            Some((*peer, budget.saturating_sub(in_flight)))
        });
        room.collect()
    }

    /// Flushes every replica that had inputs.
    pub fn turn(&mut self, mid: MemberId) {
        let Some(node) = self.nodes.get(&mid) else { return };
        let leads = node.dirty.iter().any(|pid| node.replicas[*pid].role() >= Role::Recovering);
        let room = self.room(mid, leads);
        let at = self.moment(mid);
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        node.turn_due = false;
        let leases = std::mem::take(&mut node.leases);
        let mut out = Collector { room, leases, ..Collector::default() };
        let (mut streaming, mut flushed) = (Vec::new(), Vec::new());
        for pid in std::mem::take(&mut node.dirty) {
            let replica = &mut node.replicas[pid];
            replica.flush(at, &mut out);
            if replica.is_streaming() {
                streaming.push(pid);
            }
            let pid = PartitionId(pid as u32);
            if let Err(why) = self.oracle.observe(pid, mid, replica, None) {
                self.violation.get_or_insert(why);
            }
            if replica.role() == Role::Primary {
                flushed.push(pid);
            }
        }
        node.leases = std::mem::take(&mut out.leases);
        let wait = !streaming.is_empty();
        node.dirty.extend(streaming);
        flushed.into_iter().for_each(|pid| self.check_one_primary(pid));
        self.emit(mid, out);
        if wait {
            self.turn_soon(mid, 2_000);
        }
    }

    /// Lets time pass for the replicas that want it.
    pub fn tick(&mut self, mid: MemberId) {
        if !self.nodes.contains_key(&mid) {
            return;
        }
        for pid in self.partitions() {
            let busy = |node: &Node| node.replicas[pid.0 as usize].is_busy();
            if self.nodes.get(&mid).is_some_and(busy) {
                self.input(mid, pid, None, |replica, at, out| replica.tick(at, out));
            }
            let remembering = |node: &Node| node.replicas[pid.0 as usize].has_sessions();
            if self.nodes.get(&mid).is_some_and(remembering) {
                self.close_sessions(mid, pid);
            }
            let expiring = |node: &Node| node.replicas[pid.0 as usize].has_expiring();
            if self.nodes.get(&mid).is_some_and(expiring) {
                self.input(mid, pid, None, |replica, at, _| replica.sweep(at));
            }
        }
        // Fewer and later ticks than the 10 ms of a runtime are as good.
        self.coordinate(mid, |coordinator| (0..TICK_MS / 10).for_each(|_| coordinator.tick()));
        self.after(Duration::from_millis(TICK_MS), Event::Tick(mid));
    }

    /// S1e: sessions are closed by entries; also ones that are in use.
    fn close_sessions(&mut self, mid: MemberId, pid: PartitionId) {
        if self.rng.chance(self.settings.sessions.close_permille) {
            let pick = self.rng.next_u64();
            let closed = self.input(mid, pid, None, |r, _, _| r.close_any_session(pick));
            self.counters.closed += u64::from(closed == Some(true));
        } else {
            self.input(mid, pid, None, |replica, at, _| replica.collect_sessions(at));
        }
    }

    /// Puts on its way what a core said.
    fn emit(&mut self, mid: MemberId, mut out: Collector) {
        let dies = self.interrupt(mid, &mut out);
        for (to, bytes) in out.sends {
            self.watch_snapshot(mid, to, bytes[0]);
            self.watch_append(mid, to, &bytes);
            self.haunt(mid, to, &bytes);
            self.coverage.barriers += u64::from(bytes[0] == BARRIER);
            self.send(Endpoint::Node(mid), Endpoint::Node(to), Kind::Data, bytes);
        }
        for (caller, bytes) in out.replies {
            let check = self.oracle.answered(mid, caller);
            self.require(check);
            self.answer(mid, caller, &bytes);
        }
        for command in out.proposals {
            self.propose(mid, command);
        }
        if dies {
            self.crash(mid);
        }
    }

    /// Counts what becomes of roles.
    fn note_role(&mut self, mid: MemberId, pid: PartitionId, waits: bool, served: Option<bool>) {
        if waits && self.is_served_elsewhere(mid, pid) {
            self.coverage.waits_that_mattered += 1;
        }
        match served {
            Some(true) => self.coverage.promotions += 1,
            Some(false) => self.coverage.successions += 1,
            None => {}
        }
    }

    /// Sends bytes over the connection of that kind, if there is one.
    pub fn send(&mut self, from: Endpoint, to: Endpoint, kind: Kind, bytes: Vec<u8>) {
        let link = Link::new(from, to, kind);
        let sent = self.network.send(&self.settings, &mut self.rng, self.now, link, from, bytes);
        if let Some((at, parcel)) = sent {
            self.at(at, Event::Arrival(parcel));
        }
    }

    fn answer(&mut self, mid: MemberId, caller: Caller, reply: &[u8]) {
        let Ok(reply) = Reply::decode(&mut Reader::new(reply)) else {
            return self.require(Err("a reply cannot be decoded".into()));
        };
        let mut bytes = Vec::new();
        match peer_of(caller) {
            Some(peer) => {
                PeerMsg::ForwardReply { route: caller.id, reply }.encode(&mut bytes);
                self.send(Endpoint::Node(mid), Endpoint::Node(peer), Kind::Data, bytes);
            }
            None => {
                let client = Endpoint::Client(caller.connection as usize);
                ServerMsg::Reply { id: caller.id, reply }.encode(&mut bytes);
                self.send(Endpoint::Node(mid), client, Kind::Client, bytes);
            }
        }
    }

    fn on_data(&mut self, mid: MemberId, from: MemberId, bytes: &[u8]) {
        let msg = match PeerMsg::decode(bytes) {
            Ok(msg) => msg,
            Err(error) => return self.require(Err(format!("{error:?} from {from:?}: {bytes:?}"))),
        };
        self.note(|_| short(format!("{from:?} -> {mid:?} {msg:?}")));
        match msg {
            PeerMsg::Forward { route, request } => {
                self.on_request(mid, peer_caller(from, route), &request);
            }
            PeerMsg::ForwardReply { route, reply } => {
                let Some(node) = self.nodes.get_mut(&mid) else { return };
                if let Some(caller) = node.close_route(route, from) {
                    let mut bytes = Vec::new();
                    reply.encode(&mut bytes);
                    self.answer(mid, caller, &bytes);
                }
            }
            msg => {
                let Some(pid) = msg.partition() else { return };
                self.input(mid, pid, Some(&msg), |replica, at, out| {
                    replica.receive(at, from, &msg, out);
                });
            }
        }
    }

    fn on_client(&mut self, mid: MemberId, client: usize, bytes: &[u8]) {
        match ClientMsg::decode(bytes) {
            Ok(ClientMsg::Request { id, request }) => {
                self.note(|_| short(format!("client {client} -> {mid:?} {id} {request:?}")));
                self.on_request(mid, client_caller(client, id), &request);
            }
            Ok(ClientMsg::MapWanted { id, have }) => {
                let Some(node) = self.nodes.get(&mid) else { return };
                let newer = node.map.as_ref().filter(|map| map.ver > have);
                let map = newer.map(|map| Box::new(RingMap::clone(map)));
                let mut bytes = Vec::new();
                ServerMsg::Map { id, map }.encode(&mut bytes);
                self.send(Endpoint::Node(mid), Endpoint::Client(client), Kind::Client, bytes);
            }
            other => self.require(Err(format!("{other:?} from a client"))),
        }
    }

    /// F1, F2: executes, forwards once, or says who is asked instead.
    fn on_request(&mut self, mid: MemberId, caller: Caller, request: &Request<'_>) {
        let pid = self.hasher.partition(request.op.key().unwrap_or_default());
        let check = self.oracle.asked(mid, caller);
        self.require(check);
        let truth_cfg = self.truth.parts[pid.0 as usize].cfg;
        let (mut read, mut at_old) = (None, false);
        let disposition = self.input(mid, pid, None, |replica, at, out| {
            let disposition = replica.request(at, caller, request, out);
            if matches!(request.op, Op::Get { .. }) && replica.role() == Role::Primary {
                read = Some(!out.replies.is_empty());
                at_old = replica.cfg() < truth_cfg;
            }
            disposition
        });
        if let Some(at_once) = read {
            self.coverage.reads_at_once += u64::from(at_once);
            self.coverage.reads_later += u64::from(!at_once);
            self.coverage.reads_at_the_old += u64::from(at_once && at_old);
            self.on_read(mid);
        }
        let Some(Disposition::Elsewhere(primary)) = disposition else { return };
        if !self.nodes.contains_key(&mid) {
            return; // It died of it.
        }
        let check = self.oracle.answered(mid, caller);
        self.require(check);
        let link = Link::new(Endpoint::Node(mid), Endpoint::Node(primary), Kind::Data);
        let reachable = self.network.in_flight(link, Endpoint::Node(mid)).is_some();
        let mut bytes = Vec::new();
        if request.hop == 0 && !request.redirect && reachable && primary != mid {
            let Some(node) = self.nodes.get_mut(&mid) else { return };
            let route = node.open_route(primary, caller);
            self.counters.forwards += 1;
            PeerMsg::Forward { route, request: Request { hop: 1, ..*request } }.encode(&mut bytes);
            return self.send(Endpoint::Node(mid), Endpoint::Node(primary), Kind::Data, bytes);
        }
        let map_ver = self.map_ver(mid);
        Reply::Retry { primary, map_ver }.encode(&mut bytes);
        self.answer(mid, caller, &bytes);
    }

    /// The version of a member's map.
    pub fn map_ver(&self, mid: MemberId) -> Ver {
        let map = self.nodes.get(&mid).and_then(|node| node.map.as_ref());
        map.map_or(Ver::ZERO, |map| map.ver)
    }
    /// A paused member goes on with everything that came meanwhile.
    pub fn resume(&mut self, mid: MemberId) {
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        node.paused = false;
        for event in std::mem::take(&mut node.backlog) {
            self.dispatch(event);
        }
        if let Some(node) = self.nodes.get_mut(&mid).filter(|node| !node.paused) {
            node.slept_at = None;
        }
    }

    /// Until when a member is deaf, extended.
    pub fn deafen(&mut self, mid: MemberId, until: Nanos) {
        if let Some(node) = self.nodes.get_mut(&mid) {
            node.deaf_until = node.deaf_until.max(until);
        }
    }
}

fn short(mut line: String) -> String {
    let end = line.char_indices().nth(600).map_or(line.len(), |(at, _)| at);
    line.truncate(end);
    line
}
