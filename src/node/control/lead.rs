//! This node's part in the coordinator: its votes, commands on their way to the leader, and what
//! the leader does with them.

use std::sync::Arc;

use super::{AdminReply, Control, PROPOSE_EVERY};
use crate::base::limits::{COMMANDS_MAX, GROUP_HEARTBEAT_TICKS, GROUP_TICK_MS};
use crate::base::{MemberId, Nanos, Status, Term, Ver};
use crate::net::{Context, Link};
use crate::node::shared::Membership;
use crate::proto::coordinator::News;
use crate::wire::{Applied, Command, ControlMsg, GroupMsg, Rejection};

/// Nothing happens in a group between two heartbeats, and an idle node shall sleep.
const TICKS_AT_ONCE: u64 = GROUP_HEARTBEAT_TICKS as u64;

/// Who leads the coordinator, as far as is known here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leader {
    /// The configuration and the term: later ones count more.
    since: (Ver, Term),
    mid: MemberId,
}

/// Somebody who waits for a command to take effect.
pub(super) struct Pending {
    /// The version of the map in which it does.
    ver: Ver,
    /// In which configuration and term it was executed: another leader may not know of it.
    leadership: Option<(Ver, Term)>,
    whom: Whom,
}

/// Who wants to hear what became of a command.
pub(super) enum Whom {
    /// A node that wants to join, or a member; with its number for the command.
    Submitter(Arc<Link>, u64, Applied),
    /// An operator.
    Operator(AdminReply),
}

impl Control {
    /// The node has left its ring: whoever waits is told, and the next ring has another leader.
    pub(super) fn forget_coordinator(&mut self) {
        self.coordinator = None;
        self.known_leader = Leader::default();
        self.led = None;
        for pending in std::mem::take(&mut self.pending) {
            if let Whom::Operator(reply) = pending.whom {
                reply.send(Status::Unavailable, "the node has left the ring");
            }
        }
    }

    /// A command of a replica of this node.
    pub(super) fn submit_own(&mut self, command: Command) {
        let Some(member) = self.shared.membership() else { return };
        match self.coordinator.as_mut().filter(|coordinator| coordinator.leads()) {
            // Overtaken commands do nothing; the replica decides again by the next map.
            Some(coordinator) => drop(coordinator.submit(member.me, &command)),
            None => {
                let submit = ControlMsg::Submit { id: 0, origin: member.me, command };
                self.tell_leader(&member, &submit);
            }
        }
    }

    /// A command that came over a connection: of a member, or of a node that wants to join.
    pub(super) fn on_submit(
        &mut self,
        ctx: &mut Context,
        link: &Arc<Link>,
        from: Option<MemberId>,
        (id, origin): (u64, MemberId),
        command: &Command,
    ) {
        let me = self.shared.membership().map_or(MemberId::ZERO, |member| member.me);
        let peers = &self.peers;
        let is_alive =
            |mid| mid == me || peers.get(&mid).is_some_and(|peer| peer.control.is_some());
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.leads()) else {
            if from == Some(origin) {
                self.relay(origin, command);
            }
            return self.answer_submit(ctx, link, id, Err(Rejection::Stale));
        };
        let outcome = match (from, command) {
            (Some(_), _) => coordinator.submit(origin, command),
            (None, Command::Join(info)) => match crate::net::Address::parse(&info.addr) {
                Ok(_) => coordinator.admit(info, is_alive),
                Err(error) => Err(Rejection::Refused(error.message().into())),
            },
            (None, _) => Err(Rejection::Refused("only members may do that".into())),
        };
        match outcome {
            Ok((applied, ver)) => {
                self.await_effect(ver, Whom::Submitter(Arc::clone(link), id, applied));
            }
            Err(rejection) => self.answer_submit(ctx, link, id, Err(rejection)),
        }
    }

    /// Passes a member's command on to the leader: the member may be cut off from it alone.
    fn relay(&self, origin: MemberId, command: &Command) {
        let Some(member) = self.shared.membership() else { return };
        if self.leader(&member) != member.me {
            let command = command.clone();
            self.tell_leader(&member, &ControlMsg::Submit { id: 0, origin, command });
        }
    }

    pub(super) fn await_effect(&mut self, ver: Ver, whom: Whom) {
        let leadership = self.coordinator.as_ref().and_then(|c| c.leadership());
        if matches!(whom, Whom::Submitter(_, 0, _)) {
            return;
        }
        if self.pending.len() < COMMANDS_MAX {
            return self.pending.push(Pending { ver, leadership, whom });
        }
        // Whoever joins asks again when no answer comes.
        if let Whom::Operator(reply) = whom {
            reply.send(Status::Busy, "too many changes of the ring wait to be decided");
        }
    }

    /// Answers those whose command is decided, and those whose leader was overthrown: what was
    /// decided since may be somebody else's. A joiner finds out by the map.
    fn answer_pending(&mut self, ctx: &mut Context) {
        let decided = self.coordinator.as_ref().map_or(Ver::ZERO, |c| c.map().ver);
        let leadership = self.coordinator.as_ref().and_then(|c| c.leadership());
        for pending in std::mem::take(&mut self.pending) {
            let (is_decided, leads_still) =
                (pending.ver <= decided, pending.leadership == leadership);
            if !is_decided && leads_still {
                self.pending.push(pending);
                continue;
            }
            match (pending.whom, is_decided) {
                (Whom::Submitter(link, id, applied), true) => {
                    self.answer_submit(ctx, &link, id, Ok(applied));
                }
                (Whom::Submitter(link, id, _), false) => {
                    self.answer_submit(ctx, &link, id, Err(Rejection::Stale));
                }
                (Whom::Operator(reply), true) if leads_still => reply.send(Status::Ok, ""),
                (Whom::Operator(reply), _) => {
                    reply.send(Status::Unavailable, "the coordinator has another leader now");
                }
            }
        }
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

    /// A voter says something to another one.
    pub(super) fn on_group(
        &mut self,
        ctx: &mut Context,
        link: &Arc<Link>,
        from: MemberId,
        (cfg, msg): (Ver, &GroupMsg),
    ) {
        let is_current = match &mut self.coordinator {
            Some(coordinator) => coordinator.receive(from, cfg, msg),
            None => false,
        };
        let newest = self.shared.membership().map_or(Ver::ZERO, |m| m.map().voters_since);
        if !is_current && cfg < newest {
            self.send_map(ctx, link, Ver::ZERO);
        }
    }

    pub(super) fn tick_group(&mut self, now: Nanos) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.is_ticking()) else {
            return;
        };
        if now >= self.group_tick_at {
            // Late ticks are not made up for: who stood still has heard nothing meanwhile.
            self.group_tick_at = Nanos(now.0 + Nanos::from_millis(GROUP_TICK_MS).0 * TICKS_AT_ONCE);
            (0..TICKS_AT_ONCE).for_each(|_| coordinator.tick());
        }
    }

    /// Whether the leader has changes that it has not proposed.
    pub(super) fn has_draft(&self) -> bool {
        let coordinator = self.coordinator.as_ref();
        coordinator.is_some_and(|c| c.draft().is_some_and(|draft| draft.ver > c.map().ver))
    }

    /// Lets the coordinator propose, sends its messages, and adopts and publishes what was decided.
    pub(super) fn run_coordinator(&mut self, ctx: &mut Context, now: Nanos) {
        let Some(member) = self.shared.membership() else { return };
        let peers = &self.peers;
        let reachable =
            |mid| mid == member.me || peers.get(&mid).is_some_and(|peer| peer.control.is_some());
        let Some(coordinator) = &mut self.coordinator else { return };
        if now >= self.propose_at && coordinator.leads() {
            self.propose_at = now + PROPOSE_EVERY;
            coordinator.propose(&reachable);
        }
        let (cfg, messages) = coordinator.take_messages();
        let news = coordinator.take_news();
        let leads = coordinator.leadership();
        let led = std::mem::replace(&mut self.led, leads);
        for (to, msg) in messages {
            if let Some(link) = self.peers.get(&to).and_then(|peer| peer.control.clone()) {
                self.send(ctx, &link, &ControlMsg::Group { cfg, msg });
            }
        }
        for news in news {
            self.publish(ctx, &member, news);
        }
        if leads.is_some() && led != leads {
            log::info!("member {} leads the coordinator now", member.me);
            self.greet_all_by_heartbeat(ctx);
            // Whoever led before may be known to be dead already.
            self.judge_members(now);
        }
        self.answer_pending(ctx);
    }

    /// Tells everybody what was decided, then follows it here.
    fn publish(&mut self, ctx: &mut Context, member: &Arc<Membership>, news: News) {
        let changed = news.delta.parts.iter().map(|(pid, _)| *pid).collect();
        if news.is_mine {
            let mut bytes = Vec::new();
            ControlMsg::MapDelta(Box::new(news.delta)).encode(&mut bytes);
            for link in self.peers.values().filter_map(|peer| peer.control.as_ref()) {
                if link.push_frame(|out| out.extend_from_slice(&bytes)).is_ok() {
                    ctx.flush_at_turn_end(link);
                }
            }
        }
        if news.map.ver > member.map_ver() {
            self.adopt(ctx, member, news.map, Some(changed));
        }
    }

    /// A member says that it leads.
    pub(super) fn on_leader(&mut self, mid: MemberId, since: (Ver, Term)) {
        if since > self.known_leader.since {
            self.known_leader = Leader { since, mid };
        }
    }

    pub(super) fn leader(&self, member: &Membership) -> MemberId {
        let map = member.map();
        let voted = self.coordinator.as_ref().and_then(|coordinator| coordinator.leader());
        let is_current = self.known_leader.since.0 >= map.voters_since;
        let heard = Some(self.known_leader.mid).filter(|_| is_current);
        voted.or(heard).or_else(|| map.voters.first().copied()).unwrap_or(MemberId::ZERO)
    }

    /// Tells all voters: the leader may be the one that is gone.
    pub(super) fn tell_voters(&self, member: &Membership, msg: &ControlMsg) {
        let voters = member.map().voters.clone();
        let links = voters.iter().filter_map(|mid| self.peers.get(mid)?.control.as_ref());
        for link in links {
            if link.push_frame(|out| msg.encode(out)).is_ok() {
                link.flush();
            }
        }
    }

    /// Sends something to the leader of the coordinator, or to a voter that may know it.
    pub(super) fn tell_leader(&self, member: &Membership, msg: &ControlMsg) {
        let connected = |mid: MemberId| self.peers.get(&mid)?.control.clone();
        let voters = member.map().voters.clone();
        let link =
            connected(self.leader(member)).or_else(|| voters.into_iter().find_map(connected));
        if let Some(link) = link
            && link.push_frame(|out| msg.encode(out)).is_ok()
        {
            link.flush();
        }
    }
}
