//! Following the map, and running the coordinator where the map says so.

use std::sync::Arc;

use super::{AdminReply, CLOSE_GRACE, Control, PUBLISH_EVERY};
use crate::base::{MemberId, Nanos, PartitionId, Status, Ver};
use crate::net::{CloseReason, Context, Link, sys};
use crate::node::shared::{Membership, row};
use crate::node::turn::Turn;
use crate::node::worker::WorkerInput;
use crate::proto::Coordinator;
use crate::ring::{MapDelta, RingMap};
use crate::wire::{Applied, Command, ControlMsg, Rejection};

impl Control {
    /// Becomes a member: of a ring created here, or of the one that was joined.
    pub(in crate::node) fn become_member(&mut self, me: MemberId, map: RingMap, is_creator: bool) {
        let map = Arc::new(map);
        let member = Arc::new(Membership::new(me, Arc::clone(&map)));
        let mut turn = Turn::new(Arc::clone(&self.shared), Arc::clone(&member));
        for pid in member.partitions() {
            turn.visit(pid, |replica, at, out| {
                if is_creator {
                    replica.bootstrap();
                }
                if let Some(row) = row(&map, pid, Nanos::ZERO) {
                    replica.adopt(at, row, out);
                }
            });
        }
        turn.finish();
        member.leases.lock().follow(map.epoch);
        self.shared.set_membership(Some(member));
        self.connected_at = sys::boottime();
        self.retry_at = Nanos::ZERO;
        log::info!("member {me} of ring {}", map.cluster);
        self.report_started(Ok(()));
    }

    /// The ring goes on without this node: it stands by, empty.
    pub(super) fn leave_ring(&mut self, ctx: &mut Context) {
        let Some(member) = self.shared.membership() else { return };
        log::info!("member {} has left ring {}", member.me, member.map().cluster);
        self.shared.set_membership(None);
        for worker in self.shared.workers.get().into_iter().flatten() {
            // A full queue costs its clients only the proof that nothing of theirs was executed.
            let _ = worker.inputs.try_send(WorkerInput::Farewell(Arc::clone(&member)));
            worker.waker.wake();
        }
        self.coordinator = None;
        self.close_soon(ctx.now(), member.peer_links());
        for (_, peer) in std::mem::take(&mut self.peers) {
            if let Some(link) = peer.control {
                ctx.close_after_flush(link.id(), CloseReason::Local("left the ring".into()));
            }
        }
        self.shared.release_memory();
    }

    pub(super) fn on_map(&mut self, ctx: &mut Context, map: RingMap) {
        let Some(member) = self.shared.membership() else { return };
        let mine = member.map();
        let same_ring = map.cluster == mine.cluster && map.generation == mine.generation;
        if same_ring && map.params == mine.params && map.ver > mine.ver {
            self.adopt(ctx, &member, map, None);
        }
    }

    pub(super) fn on_delta(&mut self, ctx: &mut Context, link: &Arc<Link>, delta: &MapDelta) {
        let Some(member) = self.shared.membership() else { return };
        let mine = member.map();
        if delta.ver <= mine.ver {
            return;
        }
        match delta.apply(&mine) {
            Some(map) => {
                let changed = delta.parts.iter().map(|(pid, _)| *pid).collect();
                self.adopt(ctx, &member, map, Some(changed));
            }
            None => self.send(ctx, link, &ControlMsg::MapWanted { have: mine.ver }),
        }
    }

    /// A1: stores the map and its epoch, then looks which promises were given without knowing it,
    /// then tells the replicas, then acts on it.
    fn adopt(
        &mut self,
        ctx: &mut Context,
        member: &Arc<Membership>,
        map: RingMap,
        changed: Option<Vec<PartitionId>>,
    ) {
        let old = member.map();
        let map = Arc::new(map);
        if !map.members.contains_key(&member.me) {
            return self.leave_ring(ctx);
        }
        member.set_map(Arc::clone(&map));
        let promised_until = {
            let mut leases = member.leases.lock();
            leases.hear_of(map.epoch);
            leases.promised_until()
        };
        let mut turn = Turn::new(Arc::clone(&self.shared), Arc::clone(member));
        // A change of what all rows share concerns all replicas.
        let same = old.required == map.required;
        let pids = changed.filter(|_| same);
        for pid in pids.unwrap_or_else(|| member.partitions().collect()) {
            turn.visit(pid, |replica, at, out| {
                if let Some(row) = row(&map, pid, promised_until) {
                    replica.adopt(at, row, out);
                }
            });
        }
        turn.finish();
        // Only now: a lease that was given by somebody who knows this map counts from here on.
        member.leases.lock().follow(map.epoch);
        self.drop_strangers(ctx, member, &map);
        if map.voters.contains(&member.me) && self.coordinator.is_none() {
            log::info!("member {} runs the coordinator now", member.me);
            self.coordinator = Some(Coordinator::resume(member.me, (*map).clone()));
        }
        if old.members.len() != map.members.len() {
            self.retry_at = Nanos::ZERO;
        }
    }

    /// Closes connections to nodes that are no members any more.
    fn drop_strangers(&mut self, ctx: &mut Context, member: &Membership, map: &RingMap) {
        let reason = || CloseReason::Local("no member any more".into());
        let mut strangers = member.peer_links();
        strangers.retain(|(mid, _)| !map.members.contains_key(mid));
        self.close_soon(ctx.now(), strangers);
        self.peers.retain(|mid, peer| {
            let stays = map.members.contains_key(mid);
            if let Some(link) = peer.control.as_ref().filter(|_| !stays) {
                // What was pushed before, the map that says so, shall still arrive.
                ctx.close_after_flush(link.id(), reason());
            }
            stays
        });
    }

    /// Closes data connections after a grace: answers that are on their way shall arrive, and
    /// requests of members that do not know yet are told so.
    fn close_soon(&mut self, now: Nanos, links: Vec<(MemberId, Arc<Link>)>) {
        self.closing.extend(links.into_iter().map(|(_, link)| (now + CLOSE_GRACE, link)));
    }

    pub(super) fn close_due(&mut self, now: Nanos) {
        self.closing.retain(|(at, link)| {
            let is_due = *at <= now;
            if is_due {
                link.close_after_flush(CloseReason::Local("no member any more".into()));
            }
            !is_due
        });
    }

    /// A command of a replica of this node.
    pub(super) fn submit_own(&mut self, command: Command) {
        let Some(member) = self.shared.membership() else { return };
        if let Some(coordinator) = &mut self.coordinator {
            // Overtaken commands do nothing; the replica decides again by the next map.
            let _ = coordinator.submit(member.me, &command);
            return;
        }
        self.tell_leader(&member, &ControlMsg::Submit { id: 0, command });
    }

    /// A command that came over a connection: of a member, or of a node that wants to join.
    pub(super) fn on_submit(
        &mut self,
        ctx: &mut Context,
        link: &Arc<Link>,
        from: Option<MemberId>,
        id: u64,
        command: &Command,
    ) {
        let peers = &self.peers;
        let is_alive = |mid| peers.get(&mid).is_some_and(|peer| peer.control.is_some());
        let Some(coordinator) = &mut self.coordinator else {
            return self.answer_submit(ctx, link, id, Err(Rejection::Stale));
        };
        let me = self.shared.membership().map_or(MemberId::ZERO, |member| member.me);
        let outcome = match (from, command) {
            (Some(mid), _) => coordinator.submit(mid, command),
            (None, Command::Join(info)) => match crate::net::Address::parse(&info.addr) {
                Ok(_) => coordinator.admit(info, |mid| mid == me || is_alive(mid)),
                Err(error) => Err(Rejection::Refused(error.message().into())),
            },
            (None, _) => Err(Rejection::Refused("only members may do that".into())),
        };
        if matches!(outcome, Ok(Applied::Admitted(_))) {
            // The new member asks for the map next, and must find itself in it.
            self.publish_at = Nanos::ZERO;
            let now = ctx.now();
            self.publish(ctx, now);
        }
        self.answer_submit(ctx, link, id, outcome);
    }

    fn answer_submit(
        &self,
        ctx: &mut Context,
        link: &Arc<Link>,
        id: u64,
        outcome: Result<Applied, Rejection>,
    ) {
        if id == 0 {
            return;
        }
        let (admitted, status, text) = match outcome {
            Ok(Applied::Admitted(mid)) => (mid, Status::Ok, String::new()),
            Ok(Applied::Changed) => (MemberId::ZERO, Status::Ok, String::new()),
            // Overtaken, or asked of the wrong node: worth trying again.
            Err(Rejection::Stale) => (MemberId::ZERO, Status::Unavailable, "try again".into()),
            Err(Rejection::Refused(why)) => (MemberId::ZERO, Status::Refused, why),
        };
        let status = status.code();
        self.send(ctx, link, &ControlMsg::Submitted { id, admitted, status, text });
    }

    /// A client wants a member dropped.
    pub(super) fn on_drop(&mut self, reply: &AdminReply, mid: MemberId) {
        let Some(coordinator) = &mut self.coordinator else {
            return reply.send(Status::Unavailable, "this node does not run the coordinator");
        };
        match coordinator.operate(&Command::Leave { mid }) {
            Ok(_) => reply.send(Status::Ok, ""),
            Err(Rejection::Stale) => reply.send(Status::NoSuchMember, "no such member"),
            Err(Rejection::Refused(why)) => reply.send(Status::Refused, &why),
        }
    }

    /// Whether the coordinator has changes that nobody has seen.
    pub(super) fn has_news(&self) -> bool {
        let published = self.shared.membership().map_or(Ver::ZERO, |member| member.map_ver());
        self.coordinator.as_ref().is_some_and(|c| c.map().ver > published)
    }

    /// Lets the coordinator plan, and publishes what it changed: to everybody, then here.
    pub(super) fn publish(&mut self, ctx: &mut Context, now: Nanos) {
        let Some(member) = self.shared.membership() else { return };
        let Some(coordinator) = &mut self.coordinator else { return };
        if now < self.publish_at {
            return;
        }
        let peers = &self.peers;
        let reachable =
            |mid| mid == member.me || peers.get(&mid).is_some_and(|peer| peer.control.is_some());
        coordinator.plan(&reachable);
        let Some(delta) = coordinator.take_delta() else { return };
        let map = coordinator.map().clone();
        if !coordinator.is_active() {
            self.coordinator = None;
        }
        self.publish_at = now + PUBLISH_EVERY;
        let changed = delta.parts.iter().map(|(pid, _)| *pid).collect();
        let mut bytes = Vec::new();
        ControlMsg::MapDelta(Box::new(delta)).encode(&mut bytes);
        for link in self.peers.values().filter_map(|peer| peer.control.as_ref()) {
            if link.push_frame(|out| out.extend_from_slice(&bytes)).is_ok() {
                ctx.flush_at_turn_end(link);
            }
        }
        self.adopt(ctx, &member, map, Some(changed));
    }

    pub(super) fn send_map(&self, ctx: &mut Context, link: &Arc<Link>, have: Ver) {
        let Some(map) = self.shared.membership().map(|member| member.map()) else { return };
        let is_news = map.ver > have;
        if is_news && link.push_frame(|out| ControlMsg::encode_map_full(&map, out)).is_ok() {
            ctx.flush_at_turn_end(link);
        }
    }
}
