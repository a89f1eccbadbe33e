//! Following the map, and running the coordinator where the map says so.

use std::sync::Arc;

use super::{CLOSE_GRACE, Control};
use crate::base::{MemberId, Nanos, PartitionId, Ver};
use crate::net::{CloseReason, Context, Link, sys};
use crate::node::shared::Membership;
use crate::node::turn::Turn;
use crate::node::worker::WorkerInput;
use crate::proto::Coordinator;
use crate::ring::{MapDelta, RingMap};
use crate::wire::ControlMsg;

impl Control {
    /// Becomes a member: of a ring created here, or of the one that was joined.
    pub(in crate::node) fn become_member(
        &mut self,
        me: MemberId,
        map: Arc<RingMap>,
        is_creator: bool,
    ) {
        let member = Arc::new(Membership::new(me, Arc::clone(&map)));
        let mut turn = Turn::new(Arc::clone(&self.shared), Arc::clone(&member));
        member.follow(&map, member.partitions(), |pid, row| {
            turn.visit(pid, |replica, at, out| {
                if is_creator {
                    replica.bootstrap();
                }
                replica.adopt(at, row, out);
            });
        });
        turn.finish();
        self.shared.set_membership(Some(member));
        // Who created the ring leads it: no news to anybody.
        self.shared.set_leader(self.present_leader());
        self.shared.hub.joined(me, &map);
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
        self.shared.hub.left(member.me, &member.map());
        for worker in self.shared.workers.get().into_iter().flatten() {
            // A full queue costs its clients only the proof that nothing of theirs was executed.
            let _ = worker.inputs.try_send(WorkerInput::Farewell(Arc::clone(&member)));
            worker.waker.wake();
        }
        self.forget_coordinator();
        self.forget_dialled(ctx);
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
            self.adopt(ctx, &member, Arc::new(map), None);
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
                self.adopt(ctx, &member, Arc::new(map), Some(changed));
            }
            None => self.send(ctx, link, &ControlMsg::MapWanted { have: mine.ver }),
        }
    }

    /// Follows a newer map, and acts on it.
    pub(super) fn adopt(
        &mut self,
        ctx: &mut Context,
        member: &Arc<Membership>,
        map: Arc<RingMap>,
        changed: Option<Vec<PartitionId>>,
    ) {
        let old = member.map();
        if !map.members.contains_key(&member.me) {
            return self.leave_ring(ctx);
        }
        let mut turn = Turn::new(Arc::clone(&self.shared), Arc::clone(member));
        // A change of what all rows share concerns all replicas.
        let same = old.required == map.required;
        let pids = changed.filter(|_| same);
        let pids = pids.unwrap_or_else(|| member.partitions().collect());
        member.follow(&map, pids, |pid, row| {
            turn.visit(pid, |replica, at, out| replica.adopt(at, row, out));
        });
        turn.finish();
        self.drop_strangers(ctx, member, &map);
        match &mut self.coordinator {
            _ if !map.voters.contains(&member.me) => self.coordinator = None,
            Some(coordinator) => coordinator.adopt(&map),
            None => self.coordinator = Some(Coordinator::join(member.me, Arc::clone(&map))),
        }
        self.shared.hub.map(&map);
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

    pub(super) fn send_map(&self, ctx: &mut Context, link: &Arc<Link>, have: Ver) {
        let Some(map) = self.shared.membership().map(|member| member.map()) else { return };
        let is_news = map.ver > have;
        if is_news && link.push_frame(|out| ControlMsg::encode_map_full(&map, out)).is_ok() {
            ctx.flush_at_turn_end(link);
        }
    }
}
