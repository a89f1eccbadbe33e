//! Changing who belongs to the ring, and waiting until everything has moved.
//!
//! The ring itself does the work and goes on with it whether somebody waits or not. Waiting means
//! to look at the ring map again and again: at the coordinator's, and at those of a few others,
//! because the coordinator may move, and because the node that was asked first may be the one that
//! leaves.

use std::sync::Arc;
use std::time::Duration;

use super::ask::{Alive, Asker, pause};
use super::config::{ChangeOptions, OnProgress, Progress};
use super::events::lacking;
use super::info::{member_called, newest_map, newest_of, outcome};
use super::report::Dropped;
use super::source::Source;
use crate::base::{ClusterId, Error, MemberId, Nanos, PartitionId, Result, Status};
use crate::net::Address;
use crate::net::sys::boottime;
use crate::ring::{MemberState, Part, PartState, RingMap};
use crate::wire::ClientMsg;

/// How long a dropped node may take to notice it.
const STAND_BY_TIME: Duration = Duration::from_secs(1);
/// After so long everybody has heard of a change that was decided.
const COMMAND_TIME: Duration = Duration::from_secs(2);
/// Between two looks at the ring map.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// How long one look waits for a member that does not answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many members are asked at each look beside the coordinator.
const OTHERS_ASKED: usize = 2;

/// Adds the standby node at `address`, and waits for its share if the options say so.
pub(super) fn add_node(source: &Source, address: &str, options: ChangeOptions<'_>) -> Result<()> {
    Address::parse(address)?;
    let mut watch = Watch::new(source, options.timeout)?;
    let mut door = Asker::new();
    let greeting = door.greet(address, watch.until, &|| source.check_open())?;
    let ours = watch.map.cluster;
    if greeting.cluster == ours {
        let name = watch.map.members.get(&greeting.mid).map_or(address, |member| &member.name);
        return Err(Error::new(Status::Refused, format!("{name} is a member already")));
    }
    if greeting.cluster != ClusterId::default() {
        let sentence = format!(
            "the node at {address} belongs to another ring; only a standby node can be added \
             (start it with standby, or drop it from its ring first)"
        );
        return Err(Error::new(Status::WrongRing, sentence));
    }
    let map = Arc::clone(&watch.map);
    let coordinator = map.voters.first().and_then(|mid| map.members.get(mid));
    let others = map.members.values().filter(|member| member.state == MemberState::Up);
    let mut seeds: Vec<&str> =
        coordinator.into_iter().chain(others).map(|member| member.addr.as_str()).collect();
    dedup_unsorted(&mut seeds);
    let invite = |id| ClientMsg::Invite { id, cluster: ours, seeds: seeds.clone() };
    let answer = door.ask(address, invite, watch.until, &|| source.check_open())?;
    outcome(&answer, address)?;
    // Its greeting tells the id that the ring has given it.
    door.forget(address);
    let mid = door.greet(address, watch.until, &|| source.check_open())?.mid;
    watch.wait_until(None, |map| map.members.contains_key(&mid))?;
    if !options.wait {
        return Ok(());
    }
    watch.wait_moved(options.on_progress, None, |map| joined(map, mid).is_some())?;
    match joined(&watch.map, mid) {
        Some(Err(became)) => {
            Err(Error::new(Status::Aborted, format!("{address} {became} while it joined")))
        }
        _ => Ok(()),
    }
}

/// Whether a new member has its share, or what became of it instead; `None` while that is open.
fn joined(map: &RingMap, mid: MemberId) -> Option<std::result::Result<(), &'static str>> {
    match map.members.get(&mid).map(|member| member.state) {
        Some(MemberState::Up) => map.is_settled().then_some(Ok(())),
        // It may be back soon; else it is away.
        Some(MemberState::Down) => None,
        Some(MemberState::Away) => Some(Err("died")),
        Some(MemberState::Leaving) | None => Some(Err("left the ring")),
    }
}

/// Drops the member of that name or address, and waits until it is gone if the options say so.
pub(super) fn drop_node(
    source: &Source,
    name_or_address: &str,
    options: ChangeOptions<'_>,
) -> Result<Dropped> {
    let mut watch = Watch::new(source, options.timeout)?;
    let mid = member_called(&watch.map, name_or_address)?;
    let before = Arc::clone(&watch.map);
    watch.leaving = Some(mid);
    let force = options.force;
    let wanted = |id| ClientMsg::DropMember { id, mid, force };
    // Forced, a second try may mean more than the first did: the member may be dead by now.
    watch.command(wanted, |map| match map.members.get(&mid).map(|member| member.state) {
        None => true,
        Some(state) => state == MemberState::Leaving && !force,
    })?;
    if options.wait {
        let held = before.parts.iter().filter(|part| part.isr.contains(mid)).count() as u64;
        let (mut was_leaving, asked) = (false, boottime());
        watch.wait_moved(options.on_progress, Some((mid, held)), |map| {
            let state = map.members.get(&mid).map(|member| member.state);
            // Called off at once, it may never be seen to leave.
            was_leaving |=
                state == Some(MemberState::Leaving) || boottime().since(asked) > COMMAND_TIME;
            state.is_none() || (was_leaving && state != Some(MemberState::Leaving))
        })?;
        if watch.map.members.contains_key(&mid) && !watch.has_left() {
            let sentence = format!("{name_or_address} stays: the drop was called off");
            return Err(Error::new(Status::Aborted, sentence));
        }
        if let Some(member) = before.members.get(&mid).filter(|_| !watch.has_left()) {
            watch.wait_standing_by(&member.addr)?;
        }
    } else if force {
        watch.look()?;
    }
    let is_lost = |part: &Part| part.state == PartState::Lost;
    let rows = before.parts.iter().zip(&watch.map.parts);
    let lost = rows.filter(|(was, is)| !is_lost(was) && is_lost(is)).count();
    Ok(Dropped { partitions_lost: lost as u32 })
}

/// Takes back a drop that is under way.
pub(super) fn abort_drop(source: &Source, name_or_address: &str, timeout: Duration) -> Result<()> {
    let mut watch = Watch::new(source, timeout)?;
    let mid = member_called(&watch.map, name_or_address)?;
    let stays = |map: &RingMap| {
        map.members.get(&mid).is_some_and(|member| member.state != MemberState::Leaving)
    };
    if stays(&watch.map) {
        let sentence = format!("{name_or_address} is not being dropped");
        return Err(Error::new(Status::Refused, sentence));
    }
    watch.command(|id| ClientMsg::KeepMember { id, mid }, stays)
}

/// Lets lost partitions start again, empty: that one, or all that are lost now. How many.
pub(super) fn reset_lost(
    source: &Source,
    only: Option<PartitionId>,
    timeout: Duration,
) -> Result<u32> {
    let mut watch = Watch::new(source, timeout)?;
    let lost = lost_partitions(&watch.map);
    let chosen: Vec<PartitionId> = match only {
        Some(pid) if lost.contains(&pid) => vec![pid],
        Some(pid) => {
            let sentence = format!("partition {pid} is not lost; only a lost one can be reset");
            return Err(Error::new(Status::Refused, sentence));
        }
        None => lost,
    };
    if chosen.is_empty() {
        return Ok(0);
    }
    let before = Arc::clone(&watch.map);
    let was_reset = |map: &RingMap, pid: &PartitionId| {
        let resets = |map: &RingMap| map.part(*pid).map_or(0, |part| part.resets);
        resets(map) > resets(&before)
    };
    let done = |map: &RingMap| chosen.iter().all(|pid| was_reset(map, pid));
    watch.command(|id| ClientMsg::ResetLost { id, pids: chosen.clone() }, done)?;
    watch.wait_until(None, done)?;
    Ok(chosen.iter().filter(|pid| was_reset(&watch.map, pid)).count() as u32)
}

/// The partitions whose copies are all lost.
pub(super) fn lost_partitions(map: &RingMap) -> Vec<PartitionId> {
    let rows = map.parts.iter().enumerate();
    let lost = rows.filter(|(_, part)| part.state == PartState::Lost);
    lost.map(|(at, _)| PartitionId(at as u32)).collect()
}

/// Waits until nothing moves and every partition has the copies it should have.
pub(super) fn wait_settled(source: &Source, timeout: Duration) -> Result<()> {
    let mut watch = Watch::new(source, timeout)?;
    watch.wait_until(None, RingMap::is_settled)
}

/// Looks at a ring while it changes.
struct Watch<'s> {
    source: &'s Source,
    asker: Asker,
    map: Arc<RingMap>,
    until: Nanos,
    /// This one may stop to know the ring.
    leaving: Option<MemberId>,
    /// Who looks, if it is a member itself.
    me: Option<MemberId>,
    turn: usize,
}

impl<'s> Watch<'s> {
    /// Begins with the newest map that any member has.
    fn new(source: &'s Source, timeout: Duration) -> Result<Self> {
        let until = boottime() + timeout;
        let patience = until.min(boottime() + PATIENCE);
        let known = source.map()?;
        let mut asker = Asker::of(known.cluster);
        let map = newest_map(source, &mut asker, &known, patience)?;
        let me = match source {
            Source::Node(node) => node.member_id(),
            Source::Client(_) => None,
        };
        Ok(Self { source, asker, map, until, leaving: None, me, turn: 0 })
    }

    /// Whether the member that leaves is this very node, and knows that it has left. Nobody may be
    /// there to ask: the others may have ended meanwhile.
    fn has_left(&self) -> bool {
        let Source::Node(node) = self.source else { return false };
        self.leaving == self.me && node.map().is_none()
    }

    /// Gets the map once more.
    fn look(&mut self) -> Result<()> {
        let until = self.until.min(boottime() + PATIENCE);
        let (leaving, turn) = (self.leaving, &mut self.turn);
        self.map = look(self.source, &mut self.asker, &self.map, leaving, turn, until)?;
        Ok(())
    }

    /// Tells the leader of the coordinator what is wanted: one of the voters leads, and each
    /// knows only of itself whether it does. `is_done`: whether an earlier try has reached it.
    fn command<'m>(
        &mut self,
        wanted: impl Fn(u64) -> ClientMsg<'m>,
        is_done: impl Fn(&RingMap) -> bool,
    ) -> Result<()> {
        let mut attempt = 0;
        loop {
            let map = Arc::clone(&self.map);
            let voter = map.voters.get(attempt % map.voters.len().max(1));
            attempt += 1;
            let tried = match voter.and_then(|mid| map.members.get(mid)) {
                Some(member) => self.ask_leader(&member.addr, &wanted),
                None => Err(Error::new(Status::Unavailable, "the ring has no coordinator now")),
            };
            match tried {
                Err(error) if error.status().is_retryable() && boottime() < self.until => {
                    self.pause()?;
                    self.look()?;
                }
                // Of an earlier try the answer may have been lost.
                Err(error) if attempt > 1 => {
                    self.look()?;
                    if !is_done(&self.map) && !self.has_left() {
                        return Err(error);
                    }
                }
                result => return result,
            }
            if is_done(&self.map) || self.has_left() {
                return Ok(());
            }
        }
    }

    fn ask_leader<'m>(
        &mut self,
        address: &str,
        wanted: impl Fn(u64) -> ClientMsg<'m>,
    ) -> Result<()> {
        // A leader without a majority keeps the answer for as long as it leads, about a second.
        let until = self.until.min(boottime() + 4 * PATIENCE);
        let source = self.source;
        match self.asker.ask(address, wanted, until, &|| source.check_open()) {
            Ok(answer) => outcome(&answer, address),
            Err(error) if error.status() == Status::WrongRing => {
                let sentence = format!("{address} is another node's now: {}", error.message());
                Err(Error::new(Status::Unavailable, sentence))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the end of a movement and tells how far it is. `emptied`: whose copies have to
    /// go, and how many it had; else what counts is what the goals lack.
    fn wait_moved<'p>(
        &mut self,
        on_progress: Option<&'p mut OnProgress<'p>>,
        emptied: Option<(MemberId, u64)>,
        is_done: impl FnMut(&RingMap) -> bool,
    ) -> Result<()> {
        let mut on_progress = on_progress;
        let mut total = emptied.map_or(0, |(_, held)| held);
        let mut tell = |map: &RingMap| {
            let left = match emptied {
                Some((mid, _)) => map.parts.iter().filter(|p| p.isr.contains(mid)).count() as u64,
                None => lacking(map),
            };
            total = total.max(left);
            let progress = Progress { copies_done: total - left, copies_total: total };
            on_progress.as_mut().is_none_or(|on_progress| on_progress(&progress))
        };
        self.wait_until(Some(&mut tell), is_done)
    }

    fn wait_until(
        &mut self,
        mut tell: Option<&mut dyn FnMut(&RingMap) -> bool>,
        mut is_done: impl FnMut(&RingMap) -> bool,
    ) -> Result<()> {
        loop {
            if !tell.as_mut().is_none_or(|tell| tell(&self.map)) {
                let sentence = "no longer waited for; the movement goes on in the ring";
                return Err(Error::new(Status::Aborted, sentence));
            }
            if is_done(&self.map) || self.has_left() {
                return Ok(());
            }
            if boottime() >= self.until {
                let sentence = "not complete in time; the movement goes on in the ring";
                return Err(Error::new(Status::Timeout, sentence));
            }
            self.pause()?;
            self.look()?;
        }
    }

    /// Waits until the node at `address` has heard that it was dropped, and has told its clients:
    /// it may be ended then without any of their operations becoming unknown. One that does not
    /// answer is not waited for.
    fn wait_standing_by(&mut self, address: &str) -> Result<()> {
        let until = self.until.min(boottime() + STAND_BY_TIME);
        let source = self.source;
        while boottime() < until {
            let greeting = Asker::new().greet(address, until, &|| source.check_open());
            if greeting.is_err() || greeting.is_ok_and(|greeting| greeting.cluster.0 == 0) {
                return source.check_open();
            }
            self.pause()?;
        }
        Ok(())
    }

    fn pause(&self) -> Result<()> {
        let alive: &Alive<'_> = &|| self.source.check_open();
        pause(POLL_EVERY.min(self.until.since(boottime())), alive)
    }
}

/// The newest of `map` and those of the coordinator and a few others, who take turns. `leaving`
/// may stop to know the ring.
pub(super) fn look(
    source: &Source,
    asker: &mut Asker,
    map: &Arc<RingMap>,
    leaving: Option<MemberId>,
    turn: &mut usize,
    until: Nanos,
) -> Result<Arc<RingMap>> {
    let known = |mid: &MemberId| map.members.get(mid).filter(|m| !m.is_dead());
    let mut others: Vec<MemberId> = map.members.keys().copied().collect();
    others.retain(|mid| known(mid).is_some() && Some(*mid) != leaving);
    if !others.is_empty() {
        *turn = (*turn + 1) % others.len();
        others.rotate_left(*turn);
    }
    let coordinator = map.voters.first().filter(|mid| known(mid).is_some());
    let asked = coordinator.into_iter().chain(others.iter().take(OTHERS_ASKED));
    let mut addresses: Vec<&str> =
        asked.filter_map(known).map(|member| member.addr.as_str()).collect();
    dedup_unsorted(&mut addresses);
    newest_of(source, asker, map, &addresses, until)
}

fn dedup_unsorted(addresses: &mut Vec<&str>) {
    let mut seen = Vec::with_capacity(addresses.len());
    addresses.retain(|address| {
        let is_new = !seen.contains(address);
        seen.push(*address);
        is_new
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Coordinator;
    use crate::ring::Params;
    use crate::wire::{Command, JoinInfo};

    #[test]
    fn a_new_member_is_waited_for_while_it_may_still_get_its_share() {
        let info = |name: &str| JoinInfo {
            name: name.into(),
            addr: format!("{name}:1"),
            weight: 1,
            ..JoinInfo::default()
        };
        let params = Params { partitions: 8, ..Params::default() };
        let mut ring = Coordinator::create(ClusterId(1), params, info("a"));
        let new = MemberId(2);
        assert_eq!(joined(ring.map(), MemberId(1)), Some(Ok(())));
        assert_eq!(joined(ring.map(), new), Some(Err("left the ring")), "it was dropped at once");
        let mut after = |command| {
            ring.operate(&command).expect("it may be done");
            ring.propose(&|_| true);
            joined(ring.map(), new)
        };
        assert_eq!(after(Command::Join(info("b"))), None, "nothing has moved yet");
        assert_eq!(after(Command::Down { mid: new }), None, "it may be back soon");
        assert_eq!(after(Command::Up { mid: new }), None);
        assert_eq!(after(Command::Down { mid: new }), None);
        assert_eq!(after(Command::Away { mid: new }), Some(Err("died")));
    }
}
