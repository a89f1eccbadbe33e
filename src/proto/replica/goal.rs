//! How a primary moves its partition to where the map wants it, in safe steps: count a learner that
//! holds everything, pass the primary's role on, let surplus replicas go.
//!
//! Before it passes its role on it *drains*: writes are held back until everything in its list is
//! committed. So at the moment of the handover no operation is under way, and what was held is
//! answered "ask the new primary", which is proof that it was not executed.

use super::{Replica, Role};
use crate::base::{Cfg, MemberId, Nanos};
use crate::proto::mutants::{self, Mutant};
use crate::proto::{Moment, Outbox};
use crate::wire::Command;

/// A proposal that the map does not show after this long is made again.
const PROPOSE_AGAIN_MS: u64 = 100;
/// Writes are held back no longer than this for a handover that does not come about.
const DRAIN_MS_MAX: u64 = 1500;

/// What the primary is trying to bring about.
#[derive(Debug, Default)]
pub(super) struct Pursuit {
    proposed: Option<(Command, Nanos)>,
    draining_since: Option<Nanos>,
    /// The configuration in which a handover was last proposed: it may have come about unseen.
    handover_in: Cfg,
    /// No new drain before this moment.
    rest_until: Nanos,
}

impl Pursuit {
    pub(super) fn is_draining(&self) -> bool {
        self.draining_since.is_some()
    }

    /// Proposes `command`, unless the same proposal is still fresh.
    pub(super) fn propose(&mut self, command: Command, now: Nanos, out: &mut dyn Outbox) {
        if let Some((last, when)) = &self.proposed
            && *last == command
            && (now.since(*when).as_millis() as u64) < PROPOSE_AGAIN_MS
        {
            return;
        }
        if let Command::Handover { cfg, .. } = command {
            self.handover_in = cfg;
        }
        self.proposed = Some((command.clone(), now));
        out.propose(command);
    }
}

impl Replica {
    /// Whether the adopted row is not yet as wanted and I am the one to change that.
    pub(super) fn wants_change(&self) -> bool {
        let serves = self.role == Role::Primary || mutants::on(Mutant::EarlyStream);
        serves && self.lead.is_some() && self.part.cfg == self.cfg && !self.part.is_settled()
    }

    /// Takes the next step towards the goal.
    pub(super) fn pursue_goal(&mut self, at: Moment, out: &mut dyn Outbox) {
        let wanted = match self.wants_change() {
            true => self.next_step(at, out),
            false => None,
        };
        let handover = matches!(wanted, Some(Command::Handover { .. }));
        if !self.drain(at, handover, out) {
            return;
        }
        if let (Some(command), Some(lead)) = (wanted, &mut self.lead) {
            lead.goal.propose(command, at.now, out);
        }
    }

    fn next_step(&mut self, at: Moment, out: &dyn Outbox) -> Option<Command> {
        let stream_id = {
            let cfg = self.cfg;
            move |count| crate::base::StreamId((cfg.0 << 20) | (count & 0xF_FFFF))
        };
        let lead = self.lead.as_mut()?;
        let (pid, cfg) = (self.pid, self.cfg);
        // E4: only an active primary opens streams, and it is one here.
        lead.open_streams(&self.part, self.commit, at.now, stream_id);
        if let Some((mid, lid)) = lead.shadow(self.commit) {
            return Some(Command::AddInSync { pid, cfg, mid, lid });
        }
        let goal = &self.part.goal;
        if goal.is_empty() {
            return None;
        }
        if !goal.is_subset_of(&self.part.isr) {
            // The coordinator adds learners, for which it has room only while no copy is surplus.
            let surplus = self.part.isr.len() > goal.len();
            let can_go = |mid: &MemberId| *mid != self.me && !goal.contains(*mid);
            let mid = self.part.isr.iter().find(can_go).filter(|_| surplus)?;
            return Some(Command::Remove { pid, cfg, mid });
        }
        match goal.first() {
            Some(first) if first != self.me => {
                // Level and alive: an idle partition is level with a dead member too.
                let ready = lead.is_level(first, self.log.last()) && out.bulk_room(first).is_some();
                ready.then_some(Command::Handover { pid, cfg, mid: first })
            }
            _ => {
                let surplus = self.part.isr.iter().find(|mid| !goal.contains(*mid))?;
                Some(Command::Remove { pid, cfg, mid: surplus })
            }
        }
    }

    /// Holds writes back while a handover is wanted. Whether the next step may be proposed now.
    fn drain(&mut self, at: Moment, handover: bool, out: &mut dyn Outbox) -> bool {
        let drained = self.commit == self.log.last();
        let Some(lead) = &mut self.lead else { return false };
        let goal = &mut lead.goal;
        if handover {
            match goal.draining_since {
                None if at.now < goal.rest_until => return false,
                None => goal.draining_since = Some(at.now),
                Some(since) if (at.now.since(since).as_millis() as u64) < DRAIN_MS_MAX => {}
                Some(_) => {
                    goal.draining_since = None;
                    goal.rest_until = Nanos(at.now.0 + Nanos::from_millis(DRAIN_MS_MAX).0);
                    self.serve_held(at, out);
                    return false;
                }
            }
            return drained;
        }
        // The goal may change after the handover was proposed. Until a newer configuration tells
        // what became of it, a write would be at risk to end unknown.
        let may_come = |since: Nanos| (at.now.since(since).as_millis() as u64) < DRAIN_MS_MAX;
        if goal.handover_in == self.cfg && goal.draining_since.is_some_and(may_come) {
            return true;
        }
        if goal.draining_since.take().is_some() {
            self.serve_held(at, out);
        }
        true
    }
}
