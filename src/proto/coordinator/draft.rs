//! The leader's side of the coordinator: commands, and what it does by itself.
//!
//! A [`Draft`] is the map as it will be when everything that its leader has proposed is decided.
//! `machine.rs` has the commands with their preconditions, checked against the draft; a command
//! that was overtaken does nothing. Here is the planner: what the leader does by itself to bring
//! every partition to its goal. Replicas are moved by their primaries (`replica/goal.rs`); the
//! leader only sets goals, adds learners within a budget, finishes the departure of members that
//! hold nothing any more, and chooses who votes.
//!
//! It has no clock: nothing that it decides depends on time.

use std::collections::{BTreeMap, BTreeSet};

use super::machine;
use crate::base::limits::STREAMS_PER_NODE_MAX;
use crate::base::{MemberId, PartitionId, Ver};
use crate::proto::mutants::{self, Mutant};
use crate::ring::{MapDelta, Member, MemberState, Part, PartState, RingMap};
use crate::wire::{Applied, Command, JoinInfo, Rejection};

/// Voters of the coordinator's group, at most.
const VOTERS_MAX: usize = 5;

/// What the leader's proposals make of the decided map.
///
/// - `map` always satisfies `RingMap::check_invariants`.
/// - Once it names voters anew it changes nothing any more: their group goes on.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) me: MemberId,
    pub(super) map: RingMap,
    /// What the next delta carries: changed since version `proposed`.
    proposed: Ver,
    voters_since: Ver,
    pub(super) members_changed: bool,
    pub(super) parts_changed: BTreeSet<usize>,
    /// False only when the planner has found nothing to do since the last change.
    pub(super) unplanned: bool,
}

impl Draft {
    /// Begins with the decided map.
    pub(super) fn new(me: MemberId, map: RingMap) -> Self {
        Self {
            me,
            proposed: map.ver,
            voters_since: map.voters_since,
            map,
            members_changed: false,
            parts_changed: BTreeSet::new(),
            unplanned: true,
        }
    }

    /// Whether it may still be changed.
    pub(super) fn is_open(&self) -> bool {
        self.map.voters_since == self.voters_since
    }

    /// Applies a command of a member about a partition it holds.
    pub(super) fn submit(
        &mut self,
        from: MemberId,
        command: &Command,
    ) -> Result<Applied, Rejection> {
        match command {
            // All of these are the primary's to propose.
            Command::CancelLearner { .. }
            | Command::AddInSync { .. }
            | Command::Remove { .. }
            | Command::Handover { .. } => self.apply(Some(from), command),
            _ => Err(Rejection::Refused("not a member's business".into())),
        }
    }

    /// Applies a command of an operator or of a node that joins.
    pub(super) fn operate(&mut self, command: &Command) -> Result<Applied, Rejection> {
        self.apply(None, command)
    }

    /// Admits a node that wants to join. One that has the name or the address of a dead member is
    /// that member's next life: the old one, whose memory is gone, is forgotten first.
    pub(super) fn admit(
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
    pub(super) fn take_delta(&mut self) -> Option<MapDelta> {
        if self.map.ver == self.proposed {
            return None;
        }
        let changed = std::mem::take(&mut self.parts_changed);
        let row = |at: usize| Some((PartitionId(at as u32), self.map.parts.get(at)?.clone()));
        let members_changed = std::mem::take(&mut self.members_changed);
        let delta = MapDelta {
            cluster: self.map.cluster,
            generation: self.map.generation,
            from: self.proposed,
            ver: self.map.ver,
            epoch: self.map.epoch,
            required: self.map.required,
            next_mid: self.map.next_mid,
            voters: self.map.voters.clone(),
            voters_since: self.map.voters_since,
            members: members_changed.then(|| self.map.members.clone()),
            parts: changed.into_iter().filter_map(row).collect(),
        };
        self.proposed = self.map.ver;
        Some(delta)
    }

    /// Takes the steps towards the goals that are the coordinator's own. Cheap when there is
    /// nothing to do; call it after each batch of commands. Members that are not `reachable` get
    /// no new duties; call `replan` when that changes.
    pub(super) fn plan(&mut self, reachable: &dyn Fn(MemberId) -> bool) {
        if !std::mem::take(&mut self.unplanned) || !self.is_open() {
            return;
        }
        self.replace_urgently();
        self.add_learners(reachable);
        self.raise_required();
        self.finish_departures();
        self.choose_voters(reachable);
    }

    /// Has the next `plan` look at everything again.
    pub(super) fn replan(&mut self) {
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
            let mut members = self.map.members.iter();
            let has_spare =
                members.any(|(mid, member)| member.is_heir() && !part.goal.contains(*mid));
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
        let wanted = usize::from(self.map.params.min_insync).min(self.map.targets().len());
        let alive = self.map.parts.iter().filter(|part| part.state != PartState::Lost);
        let has = alive.map(|part| part.isr.len()).min().unwrap_or(0);
        if wanted > usize::from(self.map.required) && has >= wanted {
            let _ = self.apply(None, &Command::SetRequired { copies: wanted as u8 });
        }
    }

    /// Lets members go that are leaving and hold nothing any more.
    fn finish_departures(&mut self) {
        let leaving =
            |(mid, m): (&MemberId, &Member)| (m.state == MemberState::Leaving).then_some(*mid);
        let departing: Vec<MemberId> = self.map.members.iter().filter_map(leaving).collect();
        for mid in departing {
            let holds = |part: &Part| {
                part.isr.contains(mid) || part.goal.contains(mid) || part.learner(mid).is_some()
            };
            // A voter is replaced first: until then its group may need it.
            if !self.map.voters.contains(&mid) && !self.map.parts.iter().any(holds) {
                let _ = self.apply(None, &Command::Gone { mid });
            }
        }
    }

    /// Has one, three or five members vote, as many as the ring is large enough for (B3). A voter
    /// is replaced when it leaves or has been dead for long, and kept while nobody can replace it.
    fn choose_voters(&mut self, reachable: &dyn Fn(MemberId) -> bool) {
        let state = |mid: &MemberId| self.map.members.get(mid).map(|member| member.state);
        let stays =
            |mid: &MemberId| matches!(state(mid), Some(MemberState::Up | MemberState::Down));
        let (mut voters, rest): (Vec<MemberId>, Vec<MemberId>) =
            self.map.voters.iter().copied().partition(stays);
        // When fewer are to vote, those stay who can be heard.
        let is_silent = |mid: &MemberId| state(mid) == Some(MemberState::Down) || !reachable(*mid);
        voters.sort_by_key(|mid| (*mid != self.me, is_silent(mid), *mid));
        let members = self.map.members.iter();
        let fresh = members.filter(|(mid, member)| {
            member.state == MemberState::Up && !voters.contains(mid) && reachable(**mid)
        });
        let fresh: Vec<MemberId> = fresh.map(|(mid, _)| *mid).collect();
        voters.extend(fresh);
        voters.extend(rest.iter().filter(|mid| state(mid) == Some(MemberState::Away)));
        // Whoever holds data rather than a router: the data shall not depend on one more node.
        voters.sort_by_key(|mid| self.map.members.get(mid).is_some_and(|m| m.weight == 0));
        let size = self.map.members.values().filter(|m| m.state != MemberState::Leaving).count();
        // Two or four voters survive no more failures than one or three.
        let wanted = size.min(voters.len()).clamp(1, VOTERS_MAX);
        voters.truncate(wanted - usize::from(wanted.is_multiple_of(2)));
        let same = |voters: &[MemberId]| voters.iter().copied().collect::<BTreeSet<_>>();
        // Whoever goes stays as long as there is nobody to take over.
        let heard = voters.iter().filter(|mid| **mid == self.me || reachable(**mid)).count();
        if 2 * heard > voters.len() && same(&voters) != same(&self.map.voters) {
            let _ = self.apply(None, &Command::SetVoters { voters });
        }
    }

    pub(super) fn is_up(&self, mid: MemberId) -> bool {
        self.map.members.get(&mid).is_some_and(|m| m.state == MemberState::Up)
    }

    pub(super) fn has_room_for_learner(&self, part: &Part) -> bool {
        part.state == PartState::Ok
            && part.isr.len() + part.learners.len() <= usize::from(self.map.params.copies)
    }
}
