//! Heartbeats: leases, the version of the map, and who is alive.
//!
//! Members that share a partition, and everybody and the coordinator, hear of each other every
//! 50 ms; the rest now and then, for the sake of the map. Of a pair the newer member asks and the
//! older one answers; who wants a lease asks in any case.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Control, Dial};
use crate::base::limits::CONNECT_TIMEOUT_MS;
use crate::base::{Error, MemberId, Nanos, Status, Ver};
use crate::net::{Address, Context, Link, sys};
use crate::node::shared::Membership;
use crate::proto::detector::HEARTBEAT;
use crate::ring::RingMap;
use crate::wire::ControlMsg;

/// How often members that share nothing tell each other the version of their map.
const GOSSIP: Duration = Duration::from_secs(1);
/// How often it is looked at who shares a partition with whom.
const PARTNERS: Duration = Duration::from_millis(250);

/// When which kind of heartbeat is due next.
#[derive(Default)]
pub(super) struct Pulse {
    pub(super) due: Nanos,
    gossip: Nanos,
    partners: Nanos,
}

impl Control {
    /// Sends the heartbeats that are due, and looks who is silent.
    pub(super) fn pulse(&mut self, ctx: &mut Context, now: Nanos) {
        if now < self.pulse.due {
            return;
        }
        self.pulse.due = now + HEARTBEAT;
        let Some(member) = self.shared.membership() else { return };
        let map = member.map();
        if now >= self.pulse.partners {
            self.pulse.partners = now + PARTNERS;
            self.watch.set(&partners(&map, member.me), now);
        }
        let gossip = now >= self.pulse.gossip;
        if gossip {
            self.pulse.gossip = now + GOSSIP;
        }
        member.leases.lock().tidy(now);
        for (mid, peer) in &self.peers {
            let Some(link) = &peer.control else { continue };
            let asks = member.me > *mid && (gossip || self.watch.is_watched(*mid));
            let want = member.leases.lock().wants(*mid, now);
            if asks || want {
                self.heartbeat(ctx, &member, link, want);
            }
        }
        let suspects = self.watch.suspects(now);
        self.shared.hub.suspects(&map, &suspects);
        if !suspects.is_empty() && !self.leads() {
            self.tell_leader(&member, &ControlMsg::Suspect(suspects));
        }
        self.judge_members(now);
    }

    /// A new control connection: the other side shall know at once how new our map is.
    pub(super) fn greet_by_heartbeat(&self, ctx: &mut Context, link: &Arc<Link>) {
        if let Some(member) = self.shared.membership() {
            self.heartbeat(ctx, &member, link, false);
        }
    }

    fn heartbeat(&self, ctx: &mut Context, member: &Membership, link: &Arc<Link>, want: bool) {
        let (map_ver, sent_at) = (member.map_ver(), ctx.now());
        let leads = self.coordinator.as_ref().and_then(|coordinator| coordinator.leadership());
        let leads = leads.unwrap_or_default();
        self.send(ctx, link, &ControlMsg::Heartbeat { sent_at, map_ver, want, leads });
    }

    pub(super) fn on_heartbeat(
        &mut self,
        ctx: &mut Context,
        link: &Arc<Link>,
        from: MemberId,
        (theirs, echo, want): (Ver, Nanos, bool),
    ) {
        let Some(member) = self.shared.membership() else { return };
        let map = member.map();
        if theirs > map.ver {
            self.send(ctx, link, &ControlMsg::MapWanted { have: map.ver });
        }
        let grant = want && map.params.leases && map.members.contains_key(&from);
        let epoch = match grant {
            // The loop's own idea of now may be older than the question.
            true => member.leases.lock().give(from, sys::boottime()),
            false => Ver::ZERO,
        };
        let map_ver = map.ver;
        self.send(ctx, link, &ControlMsg::HeartbeatAck { echo, epoch, map_ver, grant });
    }

    pub(super) fn on_heartbeat_ack(
        &mut self,
        ctx: &mut Context,
        link: &Arc<Link>,
        from: MemberId,
        (theirs, echo, epoch, grant): (Ver, Nanos, Ver, bool),
    ) {
        let Some(member) = self.shared.membership() else { return };
        if grant && echo <= ctx.now() {
            member.leases.lock().receive(from, echo, epoch);
        }
        if theirs > member.map_ver() {
            self.send(ctx, link, &ControlMsg::MapWanted { have: member.map_ver() });
        }
    }

    /// A member reports whom it cannot hear.
    pub(super) fn on_suspect(&mut self, from: MemberId, suspects: &[MemberId], now: Nanos) {
        let Some(member) = self.shared.membership() else { return };
        let map = member.map();
        let members = suspects.iter().copied().filter(|mid| map.members.contains_key(mid));
        self.jury.report(from, members, now);
        self.judge_members(now);
    }

    /// The control connection to `mid` broke: looks at once whether it is still there.
    pub(super) fn probe(&mut self, ctx: &mut Context, mid: MemberId) {
        if !self.watch.disconnected(mid) {
            return;
        }
        let Some(member) = self.shared.membership() else { return };
        let map = member.map();
        let address = map.members.get(&mid).map(|info| Address::parse(&info.addr));
        if let Some(Ok(address)) = address {
            let dial = ctx.dial(&address, Duration::from_millis(CONNECT_TIMEOUT_MS));
            self.dials.insert(dial, Dial::Probe(mid));
        }
    }

    /// No connection to `mid` can be made. If nobody listens there, that is telling.
    pub(super) fn on_no_connection(&mut self, ctx: &mut Context, mid: MemberId, error: &Error) {
        if error.status() == Status::Connect {
            self.on_dead_end(ctx.now(), mid);
        }
    }

    /// Nobody, or somebody else, is at the address of `mid`.
    pub(super) fn on_dead_end(&mut self, now: Nanos, mid: MemberId) {
        self.watch.refused(mid);
        if !self.watch.is_suspect(mid, now) {
            return;
        }
        if let Some(coordinator) = &mut self.coordinator {
            if coordinator.leader() == Some(mid) {
                self.group_tick_at = now;
            }
            coordinator.lost(mid);
        }
        if let Some(member) = self.shared.membership() {
            self.tell_voters(&member, &ControlMsg::Suspect(vec![mid]));
        }
        self.judge_members(now);
    }

    fn leads(&self) -> bool {
        self.coordinator.as_ref().is_some_and(|coordinator| coordinator.leads())
    }

    /// As the leader: decides who is dead and who is back.
    pub(super) fn judge_members(&mut self, now: Nanos) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let Some(member) = self.shared.membership() else { return };
        let Some(draft) = coordinator.draft() else { return };
        for command in self.jury.judge(member.me, draft, &self.watch, now) {
            log::info!("{command:?}");
            let _ = coordinator.operate(&command);
        }
    }

    /// Tells everybody at once that this member leads the coordinator now.
    pub(super) fn greet_all_by_heartbeat(&self, ctx: &mut Context) {
        let Some(member) = self.shared.membership() else { return };
        for link in self.peers.values().filter_map(|peer| peer.control.as_ref()) {
            self.heartbeat(ctx, &member, link, false);
        }
    }
}

/// Whom `me` has to hear of: everybody that it shares a partition with, and the coordinator, which
/// hears of everybody.
fn partners(map: &RingMap, me: MemberId) -> BTreeSet<MemberId> {
    let mut partners: BTreeSet<MemberId> = match map.voters.contains(&me) {
        true => map.members.keys().copied().collect(),
        false => map.voters.iter().copied().collect(),
    };
    for part in &map.parts {
        let holds = part.isr.contains(me) || part.goal.contains(me) || part.learner(me).is_some();
        if holds {
            partners.extend(part.isr.iter().chain(part.goal.iter()));
            partners.extend(part.learners.iter().map(|(mid, _)| *mid));
        }
    }
    partners.retain(|mid| *mid != me && map.members.contains_key(mid));
    partners
}
