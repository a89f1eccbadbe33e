//! The commands: preconditions and effects, as in the table of the protocol page.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use crate::base::limits::{MEMBERS_MAX, NAME_BYTES_MAX};
use crate::base::{Cfg, LearnerId, MemberId, PartitionId, Ver};
use crate::ring::{Member, MemberState, Part, PartState, ReplicaSet, plan};
use crate::wire::{Applied, Command, JoinInfo, Rejection};

type Outcome = Result<Applied, Rejection>;

pub(super) fn member(info: JoinInfo) -> Member {
    Member {
        name: info.name,
        addr: info.addr,
        zone: info.zone,
        weight: info.weight,
        position: info.position,
        boot: info.boot,
        durable: info.durable,
        state: MemberState::Up,
    }
}

fn refused(why: impl Into<String>) -> Outcome {
    Err(Rejection::Refused(why.into()))
}

impl Draft {
    /// Applies one command: `from` is the member that it came from, `None` the coordinator itself
    /// or an operator. On `Err` nothing changed.
    pub(super) fn apply(&mut self, from: Option<MemberId>, command: &Command) -> Outcome {
        if !self.is_open() {
            return Err(Rejection::Stale);
        }
        let outcome = match *command {
            Command::Join(ref info) => self.join(info),
            Command::Leave { mid } => self.leave(mid),
            Command::Stay { mid } => self.stay(mid),
            Command::Down { mid } => self.down(mid),
            Command::Up { mid } => self.up(mid),
            Command::Away { mid } => self.away(mid),
            Command::Gone { mid } => self.gone(mid),
            Command::AddLearner { pid, mid } => self.add_learner(pid, mid),
            Command::CancelLearner { pid, cfg, mid, lid } => {
                self.cancel_learner(from, pid, cfg, mid, lid)
            }
            Command::AddInSync { pid, cfg, mid, lid } => self.add_in_sync(from, pid, cfg, mid, lid),
            Command::Remove { pid, cfg, mid } => self.remove(from, pid, cfg, mid),
            Command::Promote { pid, cfg, mid } => self.promote(pid, cfg, mid),
            Command::Handover { pid, cfg, mid } => self.handover(from, pid, cfg, mid),
            Command::Reset { pid } => self.reset(pid),
            Command::SetRequired { copies } => self.set_required(copies),
            Command::SetVoters { ref voters } => self.set_voters(voters),
        };
        if outcome.is_ok() {
            self.unplanned = true;
        }
        debug_assert!(self.map.epoch <= self.map.ver);
        outcome
    }

    fn join(&mut self, info: &JoinInfo) -> Outcome {
        let sound = !info.name.is_empty()
            && info.name.len() <= NAME_BYTES_MAX
            && info.addr.len() <= NAME_BYTES_MAX
            && info.zone.len() <= NAME_BYTES_MAX;
        if !sound {
            return refused("a node needs a name, and names have at most 255 bytes");
        }
        if self.map.members.len() >= MEMBERS_MAX {
            return refused(format!("a ring has at most {MEMBERS_MAX} members"));
        }
        for (mid, member) in &self.map.members {
            if *member == self::member(info.clone()) {
                // The same start asks again, since it did not hear the answer.
                return Ok(Applied::Admitted(*mid));
            }
            if member.name == info.name {
                return refused(format!(
                    "the ring has a member called {} already, at {}; drop it first or choose \
                     another name",
                    info.name, member.addr
                ));
            }
            if member.addr == info.addr {
                return refused(format!(
                    "the ring has a member at {} already, called {}; drop it first",
                    info.addr, member.name
                ));
            }
        }
        let mid = self.map.next_mid;
        self.bump();
        self.map.next_mid = MemberId(mid.0 + 1);
        self.map.members.insert(mid, member(info.clone()));
        self.members_changed = true;
        self.renew_goals();
        Ok(Applied::Admitted(mid))
    }

    fn leave(&mut self, mid: MemberId) -> Outcome {
        let Some(member) = self.map.members.get(&mid) else { return Err(Rejection::Stale) };
        if member.state == MemberState::Leaving {
            return Ok(Applied::Changed);
        }
        let heirs = self.map.members.iter().filter(|(m, x)| **m != mid && x.is_heir()).count();
        if heirs == 0 {
            return refused(format!(
                "{} is the last living node that holds data; dropping it would lose every key: \
                 add another node first",
                member.name
            ));
        }
        self.bump();
        self.set_state(mid, MemberState::Leaving);
        self.map.required = self.map.required.min(u8::try_from(heirs).unwrap_or(u8::MAX));
        self.renew_goals();
        Ok(Applied::Changed)
    }

    /// The drop is called off. What has moved already moves back, and `required` is raised again
    /// by the planner as soon as every partition has the copies.
    fn stay(&mut self, mid: MemberId) -> Outcome {
        let Some(member) = self.map.members.get(&mid) else { return Err(Rejection::Stale) };
        if member.state != MemberState::Leaving {
            return refused(format!("{} is not being dropped", member.name));
        }
        // It may have died meanwhile: then it comes back like every dead member, and its last
        // copies count again.
        let waits = |part: &Part| part.state == PartState::Stalled && part.isr.contains(mid);
        let is_dead = self.map.parts.iter().any(waits);
        self.bump();
        self.set_state(mid, if is_dead { MemberState::Down } else { MemberState::Up });
        self.renew_goals();
        Ok(Applied::Changed)
    }

    fn down(&mut self, mid: MemberId) -> Outcome {
        let Some(member) = self.map.members.get(&mid) else { return Err(Rejection::Stale) };
        let is_leaving = member.state == MemberState::Leaving;
        let counts = |part: &Part| {
            part.learner(mid).is_some() || (part.isr.contains(mid) && part.state == PartState::Ok)
        };
        if member.is_dead() || (is_leaving && !self.map.parts.iter().any(counts)) {
            return Err(Rejection::Stale);
        }
        self.bump();
        if !is_leaving {
            // Who leaves goes on leaving: it is let go once it counts nowhere.
            self.set_state(mid, MemberState::Down);
        }
        self.remove_everywhere(mid, PartState::Stalled);
        Ok(Applied::Changed)
    }

    fn up(&mut self, mid: MemberId) -> Outcome {
        let Some(member) = self.map.members.get(&mid) else { return Err(Rejection::Stale) };
        // Where it was the only copy, it still is: nobody else was given the role.
        let waits = |part: &Part| part.state == PartState::Stalled && part.isr.contains(mid);
        let is_dead = member.is_dead();
        if !is_dead && !self.map.parts.iter().any(waits) {
            return Err(Rejection::Stale);
        }
        let was_away = member.state == MemberState::Away;
        self.bump();
        if is_dead {
            // Who leaves is still leaving.
            self.set_state(mid, MemberState::Up);
        }
        for at in 0..self.map.parts.len() {
            if self.map.parts.get(at).is_some_and(waits) {
                self.edit(PartitionId(at as u32), |part| part.state = PartState::Ok);
            }
        }
        if was_away {
            self.renew_goals();
        }
        Ok(Applied::Changed)
    }

    fn away(&mut self, mid: MemberId) -> Outcome {
        if !self.map.members.get(&mid).is_some_and(|m| m.state == MemberState::Down) {
            return Err(Rejection::Stale);
        }
        self.bump();
        self.set_state(mid, MemberState::Away);
        self.renew_goals();
        Ok(Applied::Changed)
    }

    fn set_state(&mut self, mid: MemberId, state: MemberState) {
        if let Some(member) = self.map.members.get_mut(&mid) {
            member.state = state;
            self.members_changed = true;
        }
    }

    fn gone(&mut self, mid: MemberId) -> Outcome {
        if !self.map.members.contains_key(&mid) {
            return Err(Rejection::Stale);
        }
        self.bump();
        self.remove_everywhere(mid, PartState::Lost);
        self.map.members.remove(&mid);
        self.members_changed = true;
        let holders = self.map.targets().len().max(1);
        self.map.required = self.map.required.min(u8::try_from(holders).unwrap_or(u8::MAX));
        self.renew_goals();
        Ok(Applied::Changed)
    }

    fn add_learner(&mut self, pid: PartitionId, mid: MemberId) -> Outcome {
        let part = self.part(pid)?;
        let is_replica = part.isr.contains(mid) || part.learner(mid).is_some();
        if is_replica || !self.is_up(mid) || !self.has_room_for_learner(part) {
            return Err(Rejection::Stale);
        }
        let lid = LearnerId(self.bump().0);
        self.edit(pid, |part| part.learners.push((mid, lid)));
        Ok(Applied::Changed)
    }

    fn cancel_learner(
        &mut self,
        from: Option<MemberId>,
        pid: PartitionId,
        cfg: Cfg,
        mid: MemberId,
        lid: LearnerId,
    ) -> Outcome {
        let part = self.part_of(from, pid, cfg)?;
        if part.learner(mid) != Some(lid) {
            return Err(Rejection::Stale);
        }
        self.bump();
        self.edit(pid, |part| part.learners.retain(|(m, _)| *m != mid));
        Ok(Applied::Changed)
    }

    fn add_in_sync(
        &mut self,
        from: Option<MemberId>,
        pid: PartitionId,
        cfg: Cfg,
        mid: MemberId,
        lid: LearnerId,
    ) -> Outcome {
        let part = self.part_of(from, pid, cfg)?;
        // While its primary is taken for dead nothing is added: who counts as in sync beside a dead
        // primary could not be given its place.
        let fits = part.learner(mid) == Some(lid) && part.state == PartState::Ok;
        if from.is_none() || !fits {
            return Err(Rejection::Stale);
        }
        self.bump_cfg(pid, |part| {
            part.learners.retain(|(m, _)| *m != mid);
            part.isr.insert(mid);
        });
        Ok(Applied::Changed)
    }

    fn remove(
        &mut self,
        from: Option<MemberId>,
        pid: PartitionId,
        cfg: Cfg,
        mid: MemberId,
    ) -> Outcome {
        let part = self.part_of(from, pid, cfg)?;
        if from.is_none() || mid == part.primary || !part.isr.contains(mid) {
            return Err(Rejection::Stale);
        }
        self.bump_cfg(pid, |part| {
            part.isr.remove(mid);
        });
        Ok(Applied::Changed)
    }

    fn promote(&mut self, pid: PartitionId, cfg: Cfg, mid: MemberId) -> Outcome {
        let part = self.part(pid)?;
        if part.cfg != cfg || mid == part.primary || !part.isr.contains(mid) {
            return Err(Rejection::Stale);
        }
        self.bump_cfg(pid, |part| {
            part.isr.remove(part.primary);
            part.primary = mid;
        });
        Ok(Applied::Changed)
    }

    fn handover(
        &mut self,
        from: Option<MemberId>,
        pid: PartitionId,
        cfg: Cfg,
        mid: MemberId,
    ) -> Outcome {
        let part = self.part_of(from, pid, cfg)?;
        if mid == part.primary || !part.isr.contains(mid) || !self.is_up(mid) {
            return Err(Rejection::Stale);
        }
        self.bump_cfg(pid, |part| part.primary = mid);
        Ok(Applied::Changed)
    }

    fn reset(&mut self, pid: PartitionId) -> Outcome {
        let part = self.part(pid)?;
        if part.state != PartState::Lost {
            return refused("only a lost partition can be reset");
        }
        let fresh: ReplicaSet = part.goal.iter().filter(|mid| self.is_up(*mid)).collect();
        let Some(primary) = fresh.first() else {
            return refused("no node is up that could hold the partition");
        };
        self.bump_cfg(pid, |part| {
            part.resets += 1;
            part.state = PartState::Ok;
            part.learners.clear();
            part.isr = fresh;
            part.primary = primary;
        });
        Ok(Applied::Changed)
    }

    fn set_required(&mut self, copies: u8) -> Outcome {
        let wanted = usize::from(copies);
        let allowed = copies >= 1 && copies <= self.map.params.min_insync;
        let lacks = |part: &Part| part.state != PartState::Lost && part.isr.len() < wanted;
        if !allowed || self.map.parts.iter().any(lacks) {
            return Err(Rejection::Stale);
        }
        self.bump();
        self.map.required = copies;
        Ok(Applied::Changed)
    }

    /// The same voters again are a new configuration, too: with an empty log.
    fn set_voters(&mut self, voters: &[MemberId]) -> Outcome {
        let distinct: BTreeSet<MemberId> = voters.iter().copied().collect();
        let sound = !voters.is_empty() && distinct.len() == voters.len();
        if !sound || voters.iter().any(|mid| !self.map.members.contains_key(mid)) {
            return Err(Rejection::Stale);
        }
        self.map.voters = voters.to_vec();
        self.map.voters_since = self.bump();
        Ok(Applied::Changed)
    }

    /// Takes `mid` out of every partition. Where it was the only in-sync replica it stays in the
    /// row, and the partition gets the state `alone`: an in-sync set never becomes empty.
    fn remove_everywhere(&mut self, mid: MemberId, alone: PartState) {
        let mut primaries: BTreeMap<MemberId, usize> = BTreeMap::new();
        for part in &self.map.parts {
            *primaries.entry(part.primary).or_default() += 1;
        }
        for at in 0..self.map.parts.len() {
            let pid = PartitionId(at as u32);
            let Some(part) = self.map.parts.get(at) else { return };
            if part.learner(mid).is_some() {
                self.edit(pid, |part| part.learners.retain(|(m, _)| *m != mid));
            }
            let Some(part) = self.map.parts.get(at).filter(|p| p.isr.contains(mid)) else {
                continue;
            };
            if part.isr.len() == 1 {
                if part.state != PartState::Lost {
                    self.edit(pid, |part| part.state = alone);
                }
                continue;
            }
            let heir = (part.primary == mid).then(|| self.heir(part, mid, &primaries)).flatten();
            if let Some(heir) = heir {
                *primaries.entry(heir).or_default() += 1;
            }
            let ver = self.map.ver;
            self.map.epoch = ver;
            self.edit(pid, |part| {
                part.pcfg = part.cfg;
                part.cfg = Cfg(ver.0);
                part.isr.remove(mid);
                part.primary = heir.unwrap_or(part.primary);
            });
        }
    }

    /// Who takes over: members that are up first, then those with the fewest primaries.
    fn heir(
        &self,
        part: &Part,
        without: MemberId,
        primaries: &BTreeMap<MemberId, usize>,
    ) -> Option<MemberId> {
        let load = |mid: &MemberId| primaries.get(mid).copied().unwrap_or_default();
        let candidates = part.isr.iter().filter(|mid| *mid != without);
        candidates.min_by_key(|mid| (!self.is_up(*mid), load(mid), *mid))
    }

    /// Asks the placement anew who should hold what.
    fn renew_goals(&mut self) {
        let goals = plan::goals(&self.map);
        for (at, goal) in goals.into_iter().enumerate() {
            if self.map.parts.get(at).is_some_and(|part| part.goal != goal) {
                self.edit(PartitionId(at as u32), |part| part.goal = goal);
            }
        }
    }

    fn part(&self, pid: PartitionId) -> Result<&Part, Rejection> {
        self.map.part(pid).ok_or(Rejection::Stale)
    }

    /// The row, if it still is in that configuration and the sender is its primary.
    fn part_of(
        &self,
        from: Option<MemberId>,
        pid: PartitionId,
        cfg: Cfg,
    ) -> Result<&Part, Rejection> {
        let part = self.part(pid)?;
        let may = part.cfg == cfg && from.is_none_or(|mid| mid == part.primary);
        if may { Ok(part) } else { Err(Rejection::Stale) }
    }

    fn bump(&mut self) -> Ver {
        self.map.ver = Ver(self.map.ver.0 + 1);
        self.map.ver
    }

    fn edit(&mut self, pid: PartitionId, change: impl FnOnce(&mut Part)) {
        let at = pid.0 as usize;
        if let Some(part) = self.map.parts.get_mut(at) {
            change(part);
            debug_assert_eq!(part.check_invariants(), Ok(()));
            self.parts_changed.insert(at);
        }
    }

    /// Changes the primary or the in-sync set: a new configuration.
    fn bump_cfg(&mut self, pid: PartitionId, change: impl FnOnce(&mut Part)) {
        let ver = self.bump();
        self.map.epoch = ver;
        self.edit(pid, |part| {
            change(part);
            part.pcfg = part.cfg;
            part.cfg = Cfg(ver.0);
        });
    }
}
