//! A worker: one event loop on one thread, serving clients and the data connections of peers.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::control::{AdminReply, ControlInput};
use super::shared::{BUSY, EXPIRING, Membership, REMEMBERING, STREAMING, Shared, Target, Wishes};
use super::turn::Turn;
use crate::base::limits::{FRAME_BYTES_MAX, TICK_MS};
use crate::base::{MemberId, Nanos, Status};
use crate::net::{CloseReason, ConnId, Context, Detached, Flow, Handler, Link, ListenerId, Socket};
use crate::proto::{Caller, Moment, Outbox, Replica};
use crate::wire::client::NodeStats;
use crate::wire::{ClientMsg, PeerMsg, Reply, Request, ServerMsg};

/// How soon a snapshot that waits for room is tried again.
const STREAM_RETRY: Duration = Duration::from_millis(2);

/// How often a replica looks for expired keys.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often a replica looks for sessions that were not used for long.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// What other threads tell a worker.
pub(super) enum WorkerInput {
    /// Serve this connection of a client.
    Client(Detached),
    /// The node has left this membership: take leave of its clients.
    Farewell(Arc<Membership>),
    /// Serve this data connection of the member, in the membership of that id.
    Peer { connection: Detached, mid: MemberId, me: MemberId },
}

/// What `Link::tag` says of a worker's connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Client,
    /// A client that was told goodbye: nothing of it is heard any more.
    Former,
    Peer(MemberId),
}

impl Kind {
    const FORMER: u64 = u64::MAX;

    fn of(link: &Link) -> Self {
        match link.tag() {
            0 => Kind::Client,
            Self::FORMER => Kind::Former,
            mid => Kind::Peer(MemberId(mid)),
        }
    }
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    inputs: Receiver<WorkerInput>,
    /// This worker ticks every `count`-th partition, from `index` on.
    index: usize,
    count: usize,
    turn: Option<Turn>,
    next_tick: Nanos,
    next_stream: Nanos,
    next_sweep: Nanos,
    next_collect: Nanos,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        inputs: Receiver<WorkerInput>,
        index: usize,
        count: usize,
    ) -> Self {
        Self {
            shared,
            inputs,
            index,
            count,
            turn: None,
            next_tick: Nanos::ZERO,
            next_stream: Nanos::ZERO,
            next_sweep: Nanos::ZERO,
            next_collect: Nanos::ZERO,
        }
    }

    /// The turn of this loop turn, in the membership of now; `None` while standing by.
    fn turn(&mut self) -> Option<&mut Turn> {
        let member = self.shared.membership()?;
        let is_current = |turn: &Turn| Arc::ptr_eq(turn.member(), &member);
        if !self.turn.as_ref().is_some_and(is_current) {
            self.finish_turn();
            self.turn = Some(Turn::new(Arc::clone(&self.shared), member));
        }
        self.turn.as_mut()
    }

    fn finish_turn(&mut self) {
        if let Some(mut turn) = self.turn.take() {
            turn.finish();
        }
    }

    fn add_client(&mut self, ctx: &mut Context, connection: Detached) {
        let Ok(link) = ctx.attach(connection) else { return };
        link.set_tag(0);
        ctx.set_frame_max(link.id(), FRAME_BYTES_MAX);
        let target = Arc::new(Target::new(Arc::clone(&link), false));
        self.shared.targets.write().insert(link.id().0, target);
    }

    fn add_peer(&mut self, ctx: &mut Context, connection: Detached, mid: MemberId, me: MemberId) {
        let Ok(link) = ctx.attach(connection) else { return };
        let Some(member) = self.shared.membership().filter(|member| member.me == me) else {
            return ctx.close(link.id(), CloseReason::Local("no member any more".into()));
        };
        link.set_tag(mid.0);
        ctx.set_frame_max(link.id(), FRAME_BYTES_MAX);
        ctx.set_pause_when_high(link.id(), false);
        let target = Arc::new(Target::new(Arc::clone(&link), true));
        self.shared.targets.write().insert(link.id().0, target);
        if let Some(old) = member.set_peer(mid, Arc::clone(&link)) {
            old.close(CloseReason::Local("replaced by a newer connection".into()));
            self.fail_routes(mid);
        }
        let Some(turn) = self.turn() else { return };
        for pid in member.partitions() {
            turn.visit(pid, |replica, _, _| replica.peer_connected(mid));
        }
    }

    /// Answers what was passed on, and tells this loop's clients that whatever is not answered now
    /// was not executed. They are deaf ears from then on, for the node may join a ring again.
    fn say_farewell(&mut self, ctx: &mut Context, member: Arc<Membership>) {
        self.finish_turn();
        let mut turn = Turn::new(Arc::clone(&self.shared), member);
        turn.fail_routes(self.shared.routes.close_all());
        turn.finish();
        let clients: Vec<Arc<Link>> =
            ctx.links().filter(|link| Kind::of(link) == Kind::Client).cloned().collect();
        for link in clients {
            link.set_tag(Kind::FORMER);
            self.shared.targets.write().remove(&link.id().0);
            if link.push_frame(|out| ServerMsg::Goodbye.encode(out)).is_ok() {
                ctx.flush_at_turn_end(&link);
            }
        }
    }

    /// The connection to `mid` is gone, and the answers that were to come over it.
    fn fail_routes(&mut self, mid: MemberId) {
        let routes = self.shared.routes.close_all_to(mid);
        if let Some(turn) = self.turn() {
            turn.fail_routes(routes);
        }
    }

    fn on_client(&mut self, link: &Arc<Link>, frame: &[u8]) -> Flow {
        let msg = match ClientMsg::decode(frame) {
            Ok(msg) => msg,
            Err(error) => return Flow::Close(CloseReason::Local(error.0.into())),
        };
        match msg {
            ClientMsg::Request { id, request } => {
                let caller = Caller { connection: link.id().0, id };
                let refusal = match self.turn() {
                    None => Reply::NoRing,
                    Some(turn) => match turn.admit(caller) {
                        true => {
                            turn.request(caller, &request);
                            return Flow::Continue;
                        }
                        false => Reply::Busy,
                    },
                };
                self.answer(link, |out| ServerMsg::encode_reply(id, &refusal, out));
            }
            ClientMsg::MapWanted { id, have } => {
                let map = self.shared.membership().map(|member| member.map());
                let map = map.filter(|map| map.ver > have);
                self.answer(link, |out| ServerMsg::encode_map(id, map.as_deref(), out));
            }
            ClientMsg::StatsWanted { id } => {
                let stats = self.stats();
                self.answer(link, |out| ServerMsg::Stats { id, stats }.encode(out));
            }
            ClientMsg::Invite { id, cluster, seeds } => {
                let reply = AdminReply { link: Arc::clone(link), id };
                let seeds = seeds.into_iter().map(str::to_owned).collect();
                self.ask_control(link, id, ControlInput::Invite { reply, cluster, seeds });
            }
            ClientMsg::DropMember { id, mid, force } => {
                let reply = AdminReply { link: Arc::clone(link), id };
                self.ask_control(link, id, ControlInput::Drop { reply, mid, force });
            }
            ClientMsg::KeepMember { id, mid } => {
                let reply = AdminReply { link: Arc::clone(link), id };
                self.ask_control(link, id, ControlInput::Keep { reply, mid });
            }
            ClientMsg::ResetLost { id, pids } => {
                let reply = AdminReply { link: Arc::clone(link), id };
                self.ask_control(link, id, ControlInput::ResetLost { reply, pids });
            }
        }
        Flow::Continue
    }

    fn ask_control(&mut self, link: &Arc<Link>, id: u64, input: ControlInput) {
        if !self.shared.tell_control(input) {
            let (status, text) = (Status::Busy.code(), "the node is busy");
            self.answer(link, |out| ServerMsg::Outcome { id, status, text }.encode(out));
        }
    }

    fn wishes(&self) -> &Wishes {
        self.shared.wishes(self.index)
    }

    fn answer(&mut self, link: &Arc<Link>, encode: impl FnOnce(&mut Vec<u8>)) {
        if link.push_frame(encode).is_err() {
            return;
        }
        match &mut self.turn {
            Some(turn) => turn.touch(link),
            None => link.flush(),
        }
    }

    fn stats(&self) -> NodeStats {
        let mut stats = NodeStats::default();
        let Some(member) = self.shared.membership() else { return stats };
        let at = self.shared.moment();
        for pid in member.partitions() {
            let Some(replica) = member.replica(pid) else { continue };
            let (counts, memory) = {
                let replica = replica.lock();
                (replica.stats(at), replica.memory_bytes())
            };
            stats.keys_held += counts.keys;
            stats.bytes_held += counts.bytes;
            stats.memory_bytes += memory;
            stats.keys_moved_in += counts.keys_moved_in;
            stats.bytes_moved_in += counts.bytes_moved_in;
            if counts.primary && counts.keys > 0 {
                stats.partitions.push((pid, counts.keys, counts.bytes));
            }
        }
        stats.leader = self.shared.leader();
        stats
    }

    fn on_peer(&mut self, from: MemberId, link: &Arc<Link>, frame: &[u8]) -> Flow {
        let msg = match PeerMsg::decode(frame) {
            Ok(msg) => msg,
            Err(error) => return Flow::Close(CloseReason::Local(error.0.into())),
        };
        match msg {
            PeerMsg::Forward { route, request } => self.on_forward(link, route, &request),
            PeerMsg::ForwardReply { route, reply } => {
                let route = self.shared.routes.close(route);
                if let (Some(route), Some(turn)) = (route, self.turn()) {
                    turn.reply(route.caller, &reply);
                }
            }
            msg => {
                let (Some(turn), Some(pid)) = (self.turn(), msg.partition()) else {
                    return Flow::Continue;
                };
                // Only of the connection that counts now: one that was replaced, or that belongs
                // to an earlier stay in the ring, would bring back what is overtaken.
                if turn.member().peer(from).is_some_and(|current| Arc::ptr_eq(&current, link)) {
                    turn.visit(pid, |replica, at, out| replica.receive(at, from, &msg, out));
                }
            }
        }
        Flow::Continue
    }

    fn on_forward(&mut self, link: &Arc<Link>, route: u64, request: &Request<'_>) {
        let caller = Caller { connection: link.id().0, id: route };
        let refusal = match self.turn() {
            None => Reply::NoRing,
            Some(turn) => match request.hop == 1 && turn.admit(caller) {
                true => return turn.request(caller, request),
                // The forwarder's link is full, not the client's: it may try again.
                false => Reply::Retry { primary: MemberId::ZERO, map_ver: turn.member().map_ver() },
            },
        };
        self.answer(link, |out| PeerMsg::encode_forward_reply(route, &refusal, out));
    }

    /// Runs `f` on each of this worker's replicas that has `flag` set.
    fn each_flagged(&mut self, flag: u8, f: impl Fn(&mut Replica, Moment, &mut dyn Outbox)) {
        let (index, count) = (self.index, self.count);
        let Some(turn) = self.turn() else { return };
        let member: Arc<Membership> = Arc::clone(turn.member());
        let mine = member.partitions().skip(index).step_by(count);
        for pid in mine.filter(|pid| member.flags(*pid) & flag != 0) {
            turn.visit(pid, &f);
        }
    }
}

impl Handler for Worker {
    fn on_accept(&mut self, _: &mut Context, _: ListenerId, _: Socket) {
        debug_assert!(false, "the control thread listens");
    }

    fn on_frame(&mut self, _: &mut Context, link: &Arc<Link>, frame: &[u8]) -> Flow {
        match Kind::of(link) {
            Kind::Client => self.on_client(link, frame),
            Kind::Peer(mid) => self.on_peer(mid, link, frame),
            Kind::Former => Flow::Continue,
        }
    }

    fn on_closed(&mut self, _: &mut Context, link: &Arc<Link>, reason: CloseReason) {
        let ConnId(id) = link.id();
        self.shared.targets.write().remove(&id);
        let Kind::Peer(mid) = Kind::of(link) else { return };
        log::info!("data connection to member {mid} closed: {reason}");
        let Some(member) = self.shared.membership() else { return };
        if member.forget_peer(mid, link) {
            self.fail_routes(mid);
            self.shared.tell_control(ControlInput::DataDown(mid));
        }
    }

    fn on_wake(&mut self, ctx: &mut Context) {
        while let Ok(input) = self.inputs.try_recv() {
            match input {
                WorkerInput::Client(connection) => self.add_client(ctx, connection),
                WorkerInput::Farewell(member) => self.say_farewell(ctx, member),
                WorkerInput::Peer { connection, mid, me } => {
                    self.add_peer(ctx, connection, mid, me);
                }
            }
        }
        if self.shared.is_closed() {
            ctx.stop();
        }
    }

    fn next_timeout(&self) -> Option<Nanos> {
        let next = self.next_tick.min(self.wishes().serves_at());
        Some(if self.wishes().is_streaming() { next.min(self.next_stream) } else { next })
    }

    fn on_timer(&mut self, _: &mut Context, now: Nanos) {
        if self.wishes().is_streaming() && now >= self.next_stream {
            self.next_stream = now + STREAM_RETRY;
            self.wishes().clear_streaming();
            // A visit is enough: the turn flushes what it visited. Visits of streaming replicas
            // set the mark again.
            self.each_flagged(STREAMING, |_, _, _| {});
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            self.each_flagged(EXPIRING, |replica, at, _| replica.sweep(at));
        }
        if now >= self.next_collect {
            self.next_collect = now + COLLECT_EVERY;
            self.each_flagged(REMEMBERING, |replica, at, _| replica.collect_sessions(at));
        }
        if self.wishes().take_serving(now) || now >= self.next_tick {
            self.next_tick = now + Duration::from_millis(TICK_MS);
            self.each_flagged(BUSY, |replica, at, out| replica.tick(at, out));
        }
    }

    fn on_turn_end(&mut self, _: &mut Context, _: Nanos) {
        self.finish_turn();
    }
}
