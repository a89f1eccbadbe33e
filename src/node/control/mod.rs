//! The control thread: handshakes, connections to peers, the map, the coordinator.
//!
//! It has an event loop of its own, so that maps and heartbeats never wait behind bulk data. It
//! listens on all of the node's addresses; a connection that has said hello as a client or as a
//! peer's data connection is handed to a worker. The newer member of a pair dials the older one.
//!
//! Where things are: `mod.rs` the event loop, `greet.rs` handshakes of both directions, `ring.rs`
//! following the map, `lead.rs` the part in the coordinator, `operator.rs` what operators ask
//! of it, `pulse.rs` heartbeats and who is alive, `join.rs` becoming a member.

mod greet;
mod join;
mod lead;
mod operator;
mod pulse;
mod ring;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::shared::Shared;
use crate::base::limits::HALF_OPEN_MAX;
use crate::base::{ClusterId, MemberId, Nanos, PartitionId, Result, Rng, Status, Term, Ver};
use crate::net::{
    CloseReason, ConnId, ConnectionOptions, Context, Detached, DialId, Flow, Handler, Link,
    ListenerId, Socket, sys,
};
use crate::proto::Coordinator;
use crate::proto::detector::{Jury, Watch};
use crate::wire::{Command, ControlMsg, ServerMsg};

use join::Joining;
pub(super) use join::join_info;
use lead::{Leader, Pending};
use pulse::Pulse;

/// How often it is looked at what has taken too long.
const HOUSEKEEPING: Duration = Duration::from_millis(250);
/// How long the data connections of a pair stay after one of them left the ring.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Changes of the map are proposed no more often than this: those in between travel together.
const PROPOSE_EVERY: Duration = Duration::from_millis(2);

/// Where the answer to an administrator's request goes.
pub(super) struct AdminReply {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
}

impl AdminReply {
    fn send(&self, status: Status, text: &str) {
        let outcome = ServerMsg::Outcome { id: self.id, status: status.code(), text };
        if self.link.push_frame(|out| outcome.encode(out)).is_ok() {
            self.link.flush();
        }
    }
}

/// What other threads tell the control thread.
pub(super) enum ControlInput {
    /// A replica of this node wants the map changed.
    Propose(Command),
    /// A client asks this standby to join a ring.
    Invite { reply: AdminReply, cluster: ClusterId, seeds: Vec<String> },
    /// A client asks the coordinator to drop a member.
    Drop { reply: AdminReply, mid: MemberId, force: bool },
    /// A client asks the coordinator to keep a member that is being dropped.
    Keep { reply: AdminReply, mid: MemberId },
    /// A client asks the coordinator to reset lost partitions.
    ResetLost { reply: AdminReply, pids: Vec<PartitionId> },
    /// The data connection to that member broke.
    DataDown(MemberId),
}

/// What a connection of this loop is.
enum Conn {
    /// Accepted, and has not said hello.
    HalfOpen { since: Nanos },
    /// Dialled as a member, and not welcomed yet.
    Greeted { to: MemberId, is_data: bool, since: Nanos },
    /// The control connection to a member.
    Peer(MemberId),
    /// A node that wants to join asks us.
    Joiner,
    /// We ask a member of the ring that we want to join.
    Seed,
    /// On its way to a worker.
    Leaving(Destination),
}

#[derive(Clone, Copy)]
enum Destination {
    Client,
    Data(MemberId),
}

/// What is known of the connections to one member.
#[derive(Default)]
struct Peer {
    control: Option<Arc<Link>>,
    dialling_control: bool,
    dialling_data: bool,
    failures: u32,
    retry_at: Nanos,
}

enum Dial {
    Member {
        mid: MemberId,
        is_data: bool,
    },
    /// Whether that member is still there.
    Probe(MemberId),
    Seed,
}

pub(super) struct Control {
    shared: Arc<Shared>,
    inputs: Receiver<ControlInput>,
    conns: HashMap<ConnId, Conn>,
    dials: HashMap<DialId, Dial>,
    peers: BTreeMap<MemberId, Peer>,
    coordinator: Option<Coordinator>,
    joining: Option<Joining>,
    /// Data connections of members that left, and when to close them.
    closing: Vec<(Nanos, Arc<Link>)>,
    /// Told once when the node is a member, or why it is not going to be.
    started: Option<Sender<Result<()>>>,
    rng: Rng,
    next_worker: usize,
    /// When there was a control connection to a peer last.
    connected_at: Nanos,
    /// Commands that are not decided yet, for those who want to know.
    pending: Vec<Pending>,
    known_leader: Leader,
    /// What this member led when it was looked at last.
    led: Option<(Ver, Term)>,
    propose_at: Nanos,
    group_tick_at: Nanos,
    housekeeping_at: Nanos,
    pulse: Pulse,
    watch: Watch,
    jury: Jury,
    retry_at: Nanos,
}

impl Control {
    pub(super) fn new(
        shared: Arc<Shared>,
        inputs: Receiver<ControlInput>,
        coordinator: Option<Coordinator>,
        started: Sender<Result<()>>,
    ) -> Self {
        Self {
            shared,
            inputs,
            conns: HashMap::new(),
            dials: HashMap::new(),
            peers: BTreeMap::new(),
            coordinator,
            joining: None,
            closing: Vec::new(),
            started: Some(started),
            rng: Rng::new(sys::random_u64()),
            next_worker: 0,
            connected_at: Nanos::ZERO,
            pending: Vec::new(),
            known_leader: Leader::default(),
            led: None,
            propose_at: Nanos::ZERO,
            group_tick_at: Nanos::ZERO,
            housekeeping_at: Nanos::ZERO,
            pulse: Pulse::default(),
            watch: Watch::default(),
            jury: Jury::default(),
            retry_at: Nanos::ZERO,
        }
    }

    /// Reports the outcome of starting, the first time.
    pub(super) fn report_started(&mut self, result: Result<()>) {
        if let Some(started) = self.started.take() {
            let _ = started.send(result);
        }
    }

    fn handle_inputs(&mut self, ctx: &mut Context) {
        while let Ok(input) = self.inputs.try_recv() {
            match input {
                ControlInput::Propose(command) => self.submit_own(command),
                ControlInput::Invite { reply, cluster, seeds } => {
                    self.on_invite(ctx, reply, cluster, seeds);
                }
                ControlInput::Drop { reply, mid, force } => {
                    self.on_drop(reply, mid, force, ctx.now());
                }
                ControlInput::Keep { reply, mid } => self.on_keep(reply, mid),
                ControlInput::ResetLost { reply, pids } => self.on_reset(reply, &pids),
                ControlInput::DataDown(mid) => {
                    if let Some(peer) = self.peers.get_mut(&mid) {
                        peer.retry_at = Nanos::ZERO;
                        self.retry_at = Nanos::ZERO;
                    }
                }
            }
        }
    }

    fn on_control(&mut self, ctx: &mut Context, link: &Arc<Link>, frame: &[u8]) -> Flow {
        let msg = match ControlMsg::decode(frame) {
            Ok(msg) => msg,
            Err(error) => return Flow::Close(CloseReason::Local(error.0.into())),
        };
        let from = match self.conns.get(&link.id()) {
            Some(Conn::Peer(mid)) => Some(*mid),
            Some(Conn::Seed) => return self.on_seed_message(ctx, link, msg),
            _ => None,
        };
        if let Some(mid) = from {
            self.watch.heard(mid, ctx.now());
        }
        match (msg, from) {
            (ControlMsg::MapWanted { have }, _) => self.send_map(ctx, link, have),
            (ControlMsg::Submit { id, origin, command }, _) => {
                self.on_submit(ctx, link, from, (id, origin), &command);
            }
            (ControlMsg::Heartbeat { map_ver, sent_at, want, leads }, Some(mid)) => {
                self.on_leader(mid, leads);
                self.on_heartbeat(ctx, link, mid, (map_ver, sent_at, want));
            }
            (ControlMsg::HeartbeatAck { echo, epoch, map_ver, grant }, Some(mid)) => {
                self.on_heartbeat_ack(ctx, link, mid, (map_ver, echo, epoch, grant));
            }
            (ControlMsg::Suspect(suspects), Some(mid)) => {
                self.on_suspect(mid, &suspects, ctx.now());
            }
            (ControlMsg::MapFull(map), Some(_)) => self.on_map(ctx, *map),
            (ControlMsg::MapDelta(delta), Some(_)) => self.on_delta(ctx, link, &delta),
            // An answer that nobody waits for: commands are proposed again.
            (ControlMsg::Submitted { .. }, Some(_)) => {}
            (ControlMsg::Group { cfg, msg }, Some(mid)) => {
                self.on_group(ctx, link, mid, (cfg, &msg));
            }
            (_, None) => return Flow::Close(CloseReason::Local("not a member's".into())),
        }
        Flow::Continue
    }

    fn send(&self, ctx: &mut Context, link: &Arc<Link>, msg: &ControlMsg) {
        if link.push_frame(|out| msg.encode(out)).is_ok() {
            ctx.flush_at_turn_end(link);
        }
    }

    /// Closes connections that did not finish their handshake in time.
    fn expire_handshakes(&mut self, ctx: &mut Context, now: Nanos) {
        let limit = Duration::from_millis(crate::base::limits::HANDSHAKE_TIMEOUT_MS);
        let overdue = |conn: &Conn| match conn {
            Conn::HalfOpen { since } | Conn::Greeted { since, .. } => now.since(*since) > limit,
            _ => false,
        };
        let late: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| overdue(conn)).map(|(id, _)| *id).collect();
        for id in late {
            ctx.close(id, CloseReason::Local("no handshake in time".into()));
        }
    }

    /// Hands a connection to a worker.
    fn give_away(&mut self, detached: Detached, destination: Destination) {
        use super::worker::WorkerInput;
        let Some(workers) = self.shared.workers.get() else { return };
        let Some(worker) = workers.get(self.next_worker % workers.len().max(1)) else { return };
        self.next_worker = self.next_worker.wrapping_add(1);
        let input = match destination {
            Destination::Client => WorkerInput::Client(detached),
            Destination::Data(mid) => {
                let Some(member) = self.shared.membership() else { return };
                WorkerInput::Peer { connection: detached, mid, me: member.me }
            }
        };
        // A full queue closes the connection: its other end tries again.
        let _ = worker.inputs.try_send(input);
        worker.waker.wake();
    }
}

impl Handler for Control {
    fn on_accept(&mut self, ctx: &mut Context, _: ListenerId, socket: Socket) {
        let half_open = |conn: &&Conn| matches!(conn, Conn::HalfOpen { .. });
        if self.conns.values().filter(half_open).count() >= HALF_OPEN_MAX {
            return;
        }
        if let Ok(link) = ctx.add(socket, ConnectionOptions::default()) {
            self.conns.insert(link.id(), Conn::HalfOpen { since: ctx.now() });
        }
    }

    fn on_frame(&mut self, ctx: &mut Context, link: &Arc<Link>, frame: &[u8]) -> Flow {
        match self.conns.get(&link.id()) {
            Some(Conn::HalfOpen { .. }) => self.on_hello(ctx, link, frame),
            Some(Conn::Greeted { to, is_data, .. }) => {
                let (to, is_data) = (*to, *is_data);
                self.on_welcome(ctx, link, to, is_data, frame)
            }
            Some(Conn::Peer(_) | Conn::Joiner) => self.on_control(ctx, link, frame),
            Some(Conn::Seed) => self.on_seed_frame(ctx, link, frame),
            Some(Conn::Leaving(_)) | None => Flow::Continue,
        }
    }

    fn on_detached(&mut self, _: &mut Context, detached: Detached) {
        let Some(id) = detached.link().map(|link| link.id()) else { return };
        if let Some(Conn::Leaving(destination)) = self.conns.remove(&id) {
            self.give_away(detached, destination);
        }
    }

    fn on_closed(&mut self, ctx: &mut Context, link: &Arc<Link>, reason: CloseReason) {
        match self.conns.remove(&link.id()) {
            Some(Conn::Peer(mid)) => {
                log::info!("control connection to member {mid} closed: {reason}");
                if let Some(peer) = self.peers.get_mut(&mid)
                    && peer.control.as_ref().is_some_and(|current| Arc::ptr_eq(current, link))
                {
                    peer.control = None;
                    self.probe(ctx, mid);
                }
            }
            Some(Conn::Greeted { to, is_data, .. }) => {
                self.dial_failed(ctx, to, is_data);
                // Accepted, and hung up without a word: a process that ends may close its listener
                // after its connections.
                if matches!(reason, CloseReason::Eof | CloseReason::Reset(_)) {
                    self.on_dead_end(ctx.now(), to);
                }
            }
            Some(Conn::Seed) => self.seed_failed(ctx, &reason.to_string()),
            _ => {}
        }
    }

    fn on_connected(&mut self, ctx: &mut Context, dial: DialId, socket: Socket) {
        match self.dials.remove(&dial) {
            Some(Dial::Member { mid, is_data }) => self.greet_member(ctx, socket, mid, is_data),
            Some(Dial::Seed) => self.greet_seed(ctx, socket),
            // Somebody listens there. Whether it is that member, its welcome tells.
            Some(Dial::Probe(mid)) => self.greet_member(ctx, socket, mid, false),
            None => {}
        }
    }

    fn on_connect_failed(&mut self, ctx: &mut Context, dial: DialId, error: crate::base::Error) {
        match self.dials.remove(&dial) {
            Some(Dial::Member { mid, is_data }) => {
                self.dial_failed(ctx, mid, is_data);
                self.on_no_connection(ctx, mid, &error);
            }
            Some(Dial::Probe(mid)) => self.on_no_connection(ctx, mid, &error),
            Some(Dial::Seed) => self.seed_failed(ctx, error.message()),
            None => {}
        }
    }

    fn on_wake(&mut self, ctx: &mut Context) {
        self.handle_inputs(ctx);
        if self.shared.is_closed() {
            ctx.stop();
        }
    }

    fn next_timeout(&self) -> Option<Nanos> {
        let mut next = self.housekeeping_at.min(self.retry_at).min(self.pulse.due);
        if self.has_draft() {
            next = next.min(self.propose_at);
        }
        if self.coordinator.as_ref().is_some_and(Coordinator::is_ticking) {
            next = next.min(self.group_tick_at);
        }
        if let Some(joining) = &self.joining {
            next = next.min(joining.next_timeout());
        }
        Some(next)
    }

    fn on_timer(&mut self, ctx: &mut Context, now: Nanos) {
        self.drive_join(ctx, now);
        if now >= self.retry_at {
            self.retry_at = now + Duration::from_millis(50);
            self.dial_peers(ctx, now);
        }
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING;
            self.expire_handshakes(ctx, now);
            self.close_due(now);
        }
        self.pulse(ctx, now);
        self.tick_group(now);
    }

    fn on_turn_end(&mut self, ctx: &mut Context, now: Nanos) {
        self.run_coordinator(ctx, now);
        self.note_leader();
    }
}
