//! The coordinator: the only one that changes the ring map.
//!
//! `machine.rs` is a state machine of commands with preconditions, checked when a command is
//! applied; a command that was overtaken does nothing. `mod.rs` adds the planner: what the
//! coordinator does by itself to bring every partition to its goal. Replicas are moved by their
//! primaries (`replica/goal.rs`); the coordinator only sets goals, adds learners within a budget,
//! and finishes the departure of members that hold nothing any more.
//!
//! It has no clock: nothing that it decides depends on time. It runs on one member
//! (`RingMap::voters`) and moves away when that member is dropped: the last map of the old one,
//! which names the new one, is where the new one starts. A group that survives a crash comes
//! with the consensus core; the commands and the map stay the same.

mod machine;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::mutants::{self, Mutant};
use crate::base::limits::STREAMS_PER_NODE_MAX;
use crate::base::{Cfg, ClusterId, MemberId, PartitionId, Ver};
use crate::ring::{MapDelta, Member, MemberState, Params, Part, PartState, ReplicaSet, RingMap};
use crate::wire::{Applied, Command, JoinInfo, Rejection};

/// The ring-map state machine on the member that runs it.
///
/// - `map` always satisfies `RingMap::check_invariants`.
/// - Once sealed (its last map names another coordinator) it changes nothing any more.
#[derive(Debug)]
pub struct Coordinator {
    me: MemberId,
    map: RingMap,
    /// What the next delta carries: changed since version `published`.
    published: Ver,
    members_changed: bool,
    parts_changed: BTreeSet<usize>,
    /// False only when the planner has found nothing to do since the last change.
    unplanned: bool,
}

impl Coordinator {
    /// Creates a ring whose only member is `first`; that member is given id 1.
    pub fn create(cluster: ClusterId, params: Params, first: JoinInfo) -> Self {
        let me = MemberId(1);
        let alone: ReplicaSet = [me].into_iter().collect();
        let part = Part {
            cfg: Cfg(1),
            pcfg: Cfg::ZERO,
            primary: me,
            isr: alone,
            learners: Vec::new(),
            goal: alone,
            state: PartState::Ok,
            resets: 0,
        };
        let map = RingMap {
            cluster,
            generation: 1,
            ver: Ver(1),
            epoch: Ver(1),
            params,
            required: 1,
            next_mid: MemberId(2),
            members: BTreeMap::from([(me, machine::member(first))]),
            parts: vec![part; params.partitions as usize],
            voters: vec![me],
        };
        Self::resume(me, map)
    }

    /// Goes on where the map leaves off: for the member that a map names as coordinator.
    pub fn resume(me: MemberId, map: RingMap) -> Self {
        debug_assert!(map.voters.contains(&me), "only a voter runs the coordinator");
        Self {
            me,
            published: map.ver,
            map,
            members_changed: false,
            parts_changed: BTreeSet::new(),
            unplanned: true,
        }
    }

    /// The map as of the last applied command.
    pub fn map(&self) -> &RingMap {
        &self.map
    }

    /// Whether it still decides.
    pub fn is_active(&self) -> bool {
        self.map.voters.contains(&self.me)
    }

    /// Applies a command of a member about a partition it holds.
    pub fn submit(&mut self, from: MemberId, command: &Command) -> Result<Applied, Rejection> {
        match command {
            // All of these are the primary's to propose. `Promote`, a backup's, comes with leases.
            Command::CancelLearner { .. }
            | Command::AddInSync { .. }
            | Command::Remove { .. }
            | Command::Handover { .. } => self.apply(Some(from), command),
            _ => Err(Rejection::Refused("not a member's business".into())),
        }
    }

    /// Applies a command of an operator or of a node that joins.
    pub fn operate(&mut self, command: &Command) -> Result<Applied, Rejection> {
        self.apply(None, command)
    }

    /// Admits a node that wants to join. One that has the name or the address of a dead member is
    /// that member's next life: the old one, whose memory is gone, is forgotten first.
    pub fn admit(
        &mut self,
        info: &JoinInfo,
        is_alive: impl Fn(MemberId) -> bool,
    ) -> Result<Applied, Rejection> {
        let is_old_self = |(mid, member): (&MemberId, &Member)| {
            let same = member.name == info.name || member.addr == info.addr;
            let again = *member == machine::member(info.clone());
            (same && !again && (member.is_dead() || !is_alive(*mid))).then_some(*mid)
        };
        if mutants::on(Mutant::Amnesia)
            && let Some(mid) = self.map.find_member(&info.name)
        {
            return Ok(Applied::Admitted(mid));
        }
        let old: Vec<MemberId> = self.map.members.iter().filter_map(is_old_self).collect();
        for mid in old {
            self.apply(None, &Command::Gone { mid })?;
        }
        self.apply(None, &Command::Join(info.clone()))
    }

    /// What changed since the last call; `None` if nothing did.
    pub fn take_delta(&mut self) -> Option<MapDelta> {
        if self.map.ver == self.published {
            return None;
        }
        let changed = std::mem::take(&mut self.parts_changed);
        let row = |at: usize| Some((PartitionId(at as u32), self.map.parts.get(at)?.clone()));
        let members_changed = std::mem::take(&mut self.members_changed);
        let delta = MapDelta {
            cluster: self.map.cluster,
            generation: self.map.generation,
            from: self.published,
            ver: self.map.ver,
            epoch: self.map.epoch,
            required: self.map.required,
            next_mid: self.map.next_mid,
            voters: self.map.voters.clone(),
            members: members_changed.then(|| self.map.members.clone()),
            parts: changed.into_iter().filter_map(row).collect(),
        };
        self.published = self.map.ver;
        Some(delta)
    }

    /// Takes the steps towards the goals that are the coordinator's own. Cheap when there is
    /// nothing to do; call it after each batch of commands. Members that are not `reachable` get
    /// no new duties; call `replan` when that changes.
    pub fn plan(&mut self, reachable: &dyn Fn(MemberId) -> bool) {
        if !std::mem::take(&mut self.unplanned) || !self.is_active() {
            return;
        }
        self.replace_urgently();
        self.add_learners(reachable);
        self.raise_required();
        self.finish_departures(reachable);
    }

    /// Has the next `plan` look at everything again.
    pub fn replan(&mut self) {
        self.unplanned = true;
    }

    /// Has the copies of a dead member made elsewhere at once where writes wait for that.
    fn replace_urgently(&mut self) {
        let required = usize::from(self.map.required);
        let mut urgent: BTreeSet<MemberId> = BTreeSet::new();
        for part in self.map.parts.iter().filter(|part| part.isr.len() < required) {
            let is_down = |mid: &MemberId| {
                self.map.members.get(mid).is_some_and(|m| m.state == MemberState::Down)
            };
            let has_spare = self.map.members.iter().any(|(mid, member)| {
                member.state == MemberState::Up && member.weight > 0 && !part.goal.contains(*mid)
            });
            urgent.extend(part.goal.iter().filter(|mid| has_spare && is_down(mid)));
        }
        for mid in urgent {
            let _ = self.apply(None, &Command::Away { mid });
        }
    }

    /// Gives partitions the learners that their goals ask for, within each node's budget.
    fn add_learners(&mut self, reachable: &dyn Fn(MemberId) -> bool) {
        let mut streams: BTreeMap<MemberId, usize> = BTreeMap::new();
        for part in &self.map.parts {
            for (mid, _) in part.learners.iter().filter(|(mid, _)| reachable(*mid)) {
                *streams.entry(*mid).or_default() += 1;
                *streams.entry(part.primary).or_default() += 1;
            }
        }
        let mut commands = Vec::new();
        for (at, part) in self.map.parts.iter().enumerate() {
            let pid = PartitionId(at as u32);
            for (mid, lid) in part.learners.iter().filter(|(mid, _)| !part.goal.contains(*mid)) {
                let (cfg, mid, lid) = (part.cfg, *mid, *lid);
                commands.push(Command::CancelLearner { pid, cfg, mid, lid });
            }
            let missing = part.goal.iter().find(|mid| {
                !part.isr.contains(*mid)
                    && part.learner(*mid).is_none()
                    && self.is_up(*mid)
                    && reachable(*mid)
            });
            let Some(mid) = missing.filter(|_| self.has_room_for_learner(part)) else { continue };
            let busy = |mid: &MemberId| streams.get(mid).copied().unwrap_or(0);
            if busy(&mid) < STREAMS_PER_NODE_MAX && busy(&part.primary) < STREAMS_PER_NODE_MAX {
                *streams.entry(mid).or_default() += 1;
                *streams.entry(part.primary).or_default() += 1;
                commands.push(Command::AddLearner { pid, mid });
            }
        }
        for command in commands {
            let applied = self.apply(None, &command);
            debug_assert!(applied.is_ok(), "planned on this very map: {command:?} {applied:?}");
        }
    }

    /// A ring that has grown asks for as many copies as it was created for, once it has them.
    fn raise_required(&mut self) {
        // Members that leave do not count: what they hold is about to go.
        let targets = self.map.members.values().filter(|m| m.is_target()).count();
        let wanted = usize::from(self.map.params.min_insync).min(targets);
        let alive = self.map.parts.iter().filter(|part| part.state != PartState::Lost);
        let has = alive.map(|part| part.isr.len()).min().unwrap_or(0);
        if wanted > usize::from(self.map.required) && has >= wanted {
            let _ = self.apply(None, &Command::SetRequired { copies: wanted as u8 });
        }
    }

    /// Lets members go that are leaving and hold nothing any more; moves itself away first.
    fn finish_departures(&mut self, reachable: &dyn Fn(MemberId) -> bool) {
        let leaving =
            |(mid, m): (&MemberId, &Member)| (m.state == MemberState::Leaving).then_some(*mid);
        let departing: Vec<MemberId> = self.map.members.iter().filter_map(leaving).collect();
        for mid in departing {
            let holds = |part: &Part| {
                part.isr.contains(mid) || part.goal.contains(mid) || part.learner(mid).is_some()
            };
            if self.map.voters.contains(&mid) {
                let is_heir = |(mid, m): &(&MemberId, &Member)| {
                    m.state == MemberState::Up && reachable(**mid)
                };
                let heir = self.map.members.iter().find(is_heir);
                if let Some(to) = heir.map(|(to, _)| *to) {
                    let _ = self.apply(None, &Command::MoveCoordinator { to });
                }
                return; // Sealed: the heir goes on.
            }
            if !self.map.parts.iter().any(holds) {
                let _ = self.apply(None, &Command::Gone { mid });
            }
        }
    }

    fn is_up(&self, mid: MemberId) -> bool {
        self.map.members.get(&mid).is_some_and(|m| m.state == MemberState::Up)
    }

    fn has_room_for_learner(&self, part: &Part) -> bool {
        part.state == PartState::Ok
            && part.isr.len() + part.learners.len() <= usize::from(self.map.params.copies)
    }
}
