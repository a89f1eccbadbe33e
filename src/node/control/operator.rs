//! What operators ask of the leader of the coordinator. The answer goes out when the change of the
//! map is decided, or when the leader is overthrown before (`lead.rs`).

use super::lead::Whom;
use super::{AdminReply, Control};
use crate::base::{MemberId, Nanos, PartitionId, Status, Ver};
use crate::proto::coordinator::{lost_among, order_to_drop};
use crate::wire::{Command, Rejection};

impl Control {
    /// A member is to be dropped.
    pub(super) fn on_drop(&mut self, reply: AdminReply, mid: MemberId, force: bool, now: Nanos) {
        // Its connection may be gone for the moment only; what counts is that it is not heard.
        let is_connected = self.peers.get(&mid).is_some_and(|peer| peer.control.is_some());
        let is_silent = !is_connected && self.watch.is_suspect(mid, now);
        self.operate(reply, |coordinator| {
            let map = coordinator.draft().ok_or(Rejection::Stale)?;
            let command = order_to_drop(map, mid, force, is_silent)?;
            log::info!("{command:?}, as an operator wants");
            Ok(coordinator.operate(&command)?.1)
        });
    }

    /// A member that is being dropped is to stay.
    pub(super) fn on_keep(&mut self, reply: AdminReply, mid: MemberId) {
        self.operate(reply, |coordinator| Ok(coordinator.operate(&Command::Stay { mid })?.1));
    }

    /// Lost partitions are to start again, empty.
    pub(super) fn on_reset(&mut self, reply: AdminReply, pids: &[PartitionId]) {
        self.operate(reply, |coordinator| {
            let map = coordinator.draft().ok_or(Rejection::Stale)?;
            let (lost, mut ver) = (lost_among(map, pids), map.ver);
            for pid in lost {
                log::warn!("partition {pid} starts again, empty, as an operator wants");
                ver = coordinator.operate(&Command::Reset { pid })?.1;
            }
            Ok(ver)
        });
    }

    fn operate(
        &mut self,
        reply: AdminReply,
        work: impl FnOnce(&mut crate::proto::Coordinator) -> Result<Ver, Rejection>,
    ) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.leads()) else {
            return reply.send(Status::Unavailable, "this node does not lead the coordinator");
        };
        match work(coordinator) {
            Ok(ver) => self.await_effect(ver, Whom::Operator(reply)),
            // Between two configurations of the group nothing can be changed for a moment.
            Err(Rejection::Stale) if !self.leads_openly() => {
                reply.send(Status::Unavailable, "the coordinator is busy with itself");
            }
            Err(Rejection::Stale) => reply.send(Status::NoSuchMember, "no such member"),
            Err(Rejection::Refused(why)) => reply.send(Status::Refused, &why),
        }
    }

    /// Who leads the coordinator now, as far as this member can know: it hears from that one.
    /// Zero while the voters elect, or cannot.
    pub(super) fn present_leader(&self) -> MemberId {
        let Some(member) = self.shared.membership() else { return MemberId::ZERO };
        let leader = match &self.coordinator {
            Some(coordinator) if coordinator.leads() => return member.me,
            Some(coordinator) => coordinator.leader().unwrap_or_default(),
            None => self.leader(&member),
        };
        let is_connected = self.peers.get(&leader).is_some_and(|peer| peer.control.is_some());
        if is_connected { leader } else { MemberId::ZERO }
    }

    /// Lets the other threads, and whoever listens, know who leads.
    pub(super) fn note_leader(&self) {
        let leader = self.present_leader();
        let before = self.shared.set_leader(leader);
        if leader != before
            && leader != MemberId::ZERO
            && let Some(member) = self.shared.membership()
        {
            self.shared.hub.leader(&member.map(), leader);
        }
    }

    fn leads_openly(&self) -> bool {
        self.coordinator.as_ref().is_some_and(|coordinator| {
            let since = coordinator.map().voters_since;
            coordinator.draft().is_some_and(|draft| draft.voters_since == since)
        })
    }
}
