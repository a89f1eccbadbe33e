//! What happens to a ring, as events: what a person or a program would want to be told of.
//!
//! Nobody sends events: they are what two ring maps differ in. So every observer of the maps can
//! make them, a node from each map that it adopts and a client from those it fetches, and what an
//! observer misses in between it sees by its result. Only what is not in the map (suspicions, who
//! leads the coordinator) is known to nodes alone.

use std::sync::Arc;

use super::info::{node_ref, under_replicated};
use super::report::NodeRef;
use crate::ring::{Member, MemberState, Part, PartState, RingMap};

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A node became a member.
    Joined,
    /// A member is being dropped: its copies move elsewhere.
    Leaving,
    /// A member is not one any more.
    Left,
    /// A member is back, or is heard again, or is not dropped after all.
    Up,
    /// This node does not hear from a member. Told by nodes, not by clients.
    Suspect,
    /// A member was declared dead; its place is kept for a while.
    Down,
    /// A member has been dead for long: its copies are made elsewhere.
    Away,
    /// Partitions have another primary.
    PrimariesMoved,
    /// Partitions have fewer copies than wanted and possible.
    UnderReplicated,
    /// Every partition has its copies again.
    Recovered,
    /// The only copy of partitions is at a member that is dead: they wait for it.
    Stalled,
    /// Partitions have lost all their copies: their keys answer `DataLost`.
    Lost,
    /// Lost partitions started again, empty.
    Reset,
    /// Another member leads the coordinator. Told by nodes, not by clients.
    Leader,
    /// Other members vote in the coordinator.
    Voters,
    /// A movement goes on.
    Moving,
    /// A movement is complete.
    Settled,
    /// The observer was too slow: events were left out.
    Lagged,
}

impl EventKind {
    /// Every kind with its name in scripts, in the order of its number in C.
    pub const ALL: [(EventKind, &'static str); 18] = [
        (EventKind::Joined, "joined"),
        (EventKind::Leaving, "leaving"),
        (EventKind::Left, "left"),
        (EventKind::Up, "up"),
        (EventKind::Suspect, "suspect"),
        (EventKind::Down, "down"),
        (EventKind::Away, "away"),
        (EventKind::PrimariesMoved, "primaries_moved"),
        (EventKind::UnderReplicated, "under_replicated"),
        (EventKind::Recovered, "recovered"),
        (EventKind::Stalled, "stalled"),
        (EventKind::Lost, "lost"),
        (EventKind::Reset, "reset"),
        (EventKind::Leader, "leader"),
        (EventKind::Voters, "voters"),
        (EventKind::Moving, "moving"),
        (EventKind::Settled, "settled"),
        (EventKind::Lagged, "lagged"),
    ];

    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// Something that happened to a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// When it was noticed, in milliseconds since 1970.
    pub time_ms: u64,
    /// Whom it is about, if it is about one member.
    pub member: Option<NodeRef>,
    /// How many partitions it is about; of `Lagged`, how many events are missing.
    pub partitions: u64,
    /// Of `Moving` and `Settled`: partition copies that have moved.
    pub done: u64,
    /// Of `Moving` and `Settled`: those that had to move since the movement began.
    pub total: u64,
}

impl Event {
    /// One about nothing in particular.
    pub(super) fn new(kind: EventKind) -> Self {
        Self { kind, time_ms: 0, member: None, partitions: 0, done: 0, total: 0 }
    }

    /// One about a member.
    pub(super) fn about(kind: EventKind, member: NodeRef) -> Self {
        Self { member: Some(member), ..Self::new(kind) }
    }

    fn count(kind: EventKind, partitions: usize) -> Option<Self> {
        let partitions = partitions as u64;
        (partitions > 0).then(|| Self { partitions, ..Self::new(kind) })
    }

    /// The event as a sentence for a person.
    pub fn text(&self) -> String {
        let who = match &self.member {
            Some(node) if node.name == node.addr => node.name.clone(),
            Some(node) => format!("{} at {}", node.name, node.addr),
            None => String::new(),
        };
        let partitions = match self.partitions {
            1 => "1 partition".to_owned(),
            more => format!("{more} partitions"),
        };
        match self.kind {
            EventKind::Joined => format!("{who} joined the ring"),
            EventKind::Leaving => format!("{who} is being dropped"),
            EventKind::Left => format!("{who} left the ring"),
            EventKind::Up => format!("{who} is up"),
            EventKind::Suspect => format!("{who} is not heard"),
            EventKind::Down => format!("{who} is down"),
            EventKind::Away => format!("{who} stays away: its copies are made elsewhere"),
            EventKind::PrimariesMoved => format!("another primary for {partitions}"),
            EventKind::UnderReplicated => format!("{partitions} with fewer copies than wanted"),
            EventKind::Recovered => "every partition has its copies again".into(),
            EventKind::Stalled => {
                format!("{partitions} without any copy but that of a dead member")
            }
            EventKind::Lost => format!("all copies of {partitions} are lost"),
            EventKind::Reset => format!("{partitions} started again, empty"),
            EventKind::Leader => format!("{who} leads the coordinator"),
            EventKind::Voters => "the coordinator has other voters".into(),
            EventKind::Moving => format!("moved {} of {} copies", self.done, self.total),
            EventKind::Settled => format!("the movement is complete: {} copies", self.total),
            EventKind::Lagged => format!("{} events are missing", self.partitions),
        }
    }
}

/// What happened between two maps of one ring, in the order in which it is best told: who, then
/// what it means for the partitions.
pub(super) fn between(old: &RingMap, new: &RingMap) -> Vec<Event> {
    let mut events = members(old, new);
    if old.voters != new.voters {
        events.push(Event::new(EventKind::Voters));
    }
    let rows = || old.parts.iter().zip(&new.parts);
    let count = |kind, differs: &dyn Fn(&Part, &Part) -> bool| {
        Event::count(kind, rows().filter(|(was, is)| differs(was, is)).count())
    };
    let becomes = |state| move |was: &Part, is: &Part| was.state != state && is.state == state;
    events.extend(count(EventKind::PrimariesMoved, &|was, is| {
        was.primary != is.primary && is.resets == was.resets
    }));
    events.extend(count(EventKind::Stalled, &becomes(PartState::Stalled)));
    events.extend(count(EventKind::Lost, &becomes(PartState::Lost)));
    events.extend(count(EventKind::Reset, &|was, is| is.resets > was.resets));
    let (before, after) = (under_replicated(old), under_replicated(new));
    if after > before {
        events.extend(Event::count(EventKind::UnderReplicated, after as usize));
    } else if after == 0 && before > 0 {
        events.push(Event::new(EventKind::Recovered));
    }
    events
}

fn members(old: &RingMap, new: &RingMap) -> Vec<Event> {
    let mut events = Vec::new();
    if old.members == new.members {
        return events;
    }
    let state = |map: &RingMap, mid| map.members.get(mid).map(|member: &Member| member.state);
    let all: std::collections::BTreeSet<_> = old.members.keys().chain(new.members.keys()).collect();
    for mid in all {
        let (was, is) = (state(old, mid), state(new, mid));
        let kind = match (was, is) {
            (was, is) if was == is => continue,
            (None, _) => EventKind::Joined,
            (_, None) => EventKind::Left,
            (_, Some(MemberState::Up)) => EventKind::Up,
            (_, Some(MemberState::Down)) => EventKind::Down,
            (_, Some(MemberState::Away)) => EventKind::Away,
            (_, Some(MemberState::Leaving)) => EventKind::Leaving,
        };
        let map = if is.is_some() { new } else { old };
        events.push(Event::about(kind, node_ref(map, *mid)));
    }
    events
}

/// Follows the maps of a ring, and how far its movements have come.
#[derive(Debug)]
pub(super) struct Tracker {
    map: Arc<RingMap>,
    /// Copies that were made since the movement began; 0 while nothing moves.
    done: u64,
}

impl Tracker {
    pub(super) fn new(map: Arc<RingMap>) -> Self {
        Self { map, done: 0 }
    }

    pub(super) fn map(&self) -> &Arc<RingMap> {
        &self.map
    }

    /// The newer map, and what happened until it.
    pub(super) fn follow(&mut self, map: &Arc<RingMap>) -> Vec<Event> {
        if map.ver <= self.map.ver {
            return Vec::new();
        }
        let mut events = between(&self.map, map);
        let fresh = made(&self.map, map);
        self.done += fresh;
        // What is wanted no longer was not moved, so only what was made counts.
        let (done, total) = (self.done, self.done + lacking(map));
        if map.is_settled() {
            if done > 0 {
                events.push(Event { done, total, ..Event::new(EventKind::Settled) });
            }
            self.done = 0;
        } else if fresh > 0 {
            events.push(Event { done, total, ..Event::new(EventKind::Moving) });
        }
        self.map = Arc::clone(map);
        events
    }
}

/// Copies that the goals want and that are not there yet.
pub(super) fn lacking(map: &RingMap) -> u64 {
    let lacking =
        |part: &Part| part.goal.iter().filter(|mid| !part.isr.contains(*mid)).count() as u64;
    map.parts.iter().filter(|part| part.state != PartState::Lost).map(lacking).sum()
}

/// Copies that were made between two maps.
fn made(old: &RingMap, new: &RingMap) -> u64 {
    let rows = old.parts.iter().zip(&new.parts).filter(|(was, is)| was.resets == is.resets);
    let fresh = |(was, is): (&Part, &Part)| {
        is.isr.iter().filter(|mid| !was.isr.contains(*mid)).count() as u64
    };
    rows.map(fresh).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, MemberId, Ver};
    use crate::proto::Coordinator;
    use crate::ring::{Params, ReplicaSet};
    use crate::wire::{Command, JoinInfo};

    fn join(name: &str) -> Command {
        let (name, addr) = (name.to_owned(), format!("{name}:1"));
        Command::Join(JoinInfo { name, addr, weight: 1, ..JoinInfo::default() })
    }

    /// A settled ring of three.
    fn ring() -> RingMap {
        let params = Params { partitions: 16, ..Params::default() };
        let Command::Join(first) = join("a") else { unreachable!() };
        let mut coordinator = Coordinator::create(ClusterId(7), params, first);
        for name in ["b", "c"] {
            coordinator.operate(&join(name)).expect("a new name");
        }
        let mut map = coordinator.draft().expect("a single voter leads").clone();
        for part in &mut map.parts {
            part.isr = part.goal;
            part.primary = part.goal.first().expect("three hold it");
        }
        assert!(map.is_settled());
        map
    }

    fn changed(old: &RingMap, change: impl FnOnce(&mut RingMap)) -> RingMap {
        let mut new = old.clone();
        new.ver = Ver(old.ver.0 + 1);
        change(&mut new);
        new
    }

    fn kinds(events: &[Event]) -> Vec<(EventKind, u64)> {
        events.iter().map(|event| (event.kind, event.partitions)).collect()
    }

    fn set(map: &mut RingMap, mid: u64, state: MemberState) {
        map.members.get_mut(&MemberId(mid)).expect("a member").state = state;
    }

    fn without(map: &mut RingMap, mid: MemberId) -> u64 {
        let mut moved = 0;
        for part in &mut map.parts {
            part.isr.remove(mid);
            if part.primary == mid {
                part.primary = part.isr.first().expect("two others have it");
                moved += 1;
            }
        }
        moved
    }

    #[test]
    fn nothing_happens_between_equal_maps() {
        let map = ring();
        assert_eq!(between(&map, &map), []);
        assert_eq!(between(&map, &changed(&map, |_| ())), []);
    }

    #[test]
    fn a_death_is_told_with_what_it_means_and_so_is_the_recovery() {
        let before = ring();
        let mut moved = 0;
        let after = changed(&before, |map| {
            set(map, 3, MemberState::Down);
            moved = without(map, MemberId(3));
        });
        let events = between(&before, &after);
        let expected = [
            (EventKind::Down, 0),
            (EventKind::PrimariesMoved, moved),
            (EventKind::UnderReplicated, 16),
        ];
        assert_eq!(kinds(&events), expected);
        assert_eq!(events[0].member.as_ref().map(|node| node.name.as_str()), Some("c"));
        assert_eq!(events[0].text(), "c at c:1 is down");
        let again = changed(&before, |map| map.ver = Ver(after.ver.0 + 1));
        let expected =
            [(EventKind::Up, 0), (EventKind::PrimariesMoved, moved), (EventKind::Recovered, 0)];
        assert_eq!(kinds(&between(&after, &again)), expected);
    }

    #[test]
    fn members_come_and_go() {
        let before = ring();
        for (state, kind) in
            [(MemberState::Leaving, EventKind::Leaving), (MemberState::Away, EventKind::Away)]
        {
            let after = changed(&before, |map| set(map, 2, state));
            assert_eq!(between(&before, &after)[0].kind, kind);
        }
        let after = changed(&before, |map| drop(map.members.remove(&MemberId(2))));
        let left = &between(&before, &after)[0];
        assert_eq!((left.kind, left.text().as_str()), (EventKind::Left, "b at b:1 left the ring"));
        assert_eq!(between(&after, &before)[0].kind, EventKind::Joined);
    }

    #[test]
    fn what_waits_is_lost_and_starts_again_is_counted() {
        let before = ring();
        let set_state = |map: &RingMap, state| {
            changed(map, |map| map.parts[..3].iter_mut().for_each(|part| part.state = state))
        };
        let stalled = set_state(&before, PartState::Stalled);
        assert_eq!(kinds(&between(&before, &stalled)), [(EventKind::Stalled, 3)]);
        let lost = set_state(&stalled, PartState::Lost);
        assert_eq!(kinds(&between(&stalled, &lost)), [(EventKind::Lost, 3)]);
        let reset = changed(&set_state(&lost, PartState::Ok), |map| {
            for part in &mut map.parts[..3] {
                part.resets += 1;
                part.primary = part.isr.as_slice()[1];
            }
        });
        assert_eq!(kinds(&between(&lost, &reset)), [(EventKind::Reset, 3)]);
    }

    #[test]
    fn a_movement_is_followed_to_its_end() {
        let two: ReplicaSet = [1, 2].map(MemberId).into_iter().collect();
        let begin = Arc::new(changed(&ring(), |map| {
            map.parts.iter_mut().for_each(|part| (part.isr, part.primary) = (two, MemberId(1)));
        }));
        let mut tracker = Tracker::new(Arc::clone(&begin));
        let half = changed(&begin, |map| {
            map.parts[..10].iter_mut().for_each(|part| part.isr = part.goal);
        });
        let events = tracker.follow(&Arc::new(half.clone()));
        let moving = events.last().expect("a movement");
        assert_eq!((moving.kind, moving.done, moving.total), (EventKind::Moving, 10, 16));
        assert_eq!(moving.text(), "moved 10 of 16 copies");
        let end = changed(&half, |map| {
            for part in &mut map.parts {
                part.isr = part.goal;
                part.primary = part.goal.first().expect("three hold it");
            }
        });
        let events = tracker.follow(&Arc::new(end.clone()));
        let settled = events.last().expect("its end");
        assert_eq!((settled.kind, settled.done, settled.total), (EventKind::Settled, 16, 16));
        assert_eq!(tracker.follow(&Arc::new(end)), []);
        assert_eq!(tracker.follow(&begin), [], "maps do not go back");
    }

    #[test]
    fn a_movement_that_was_missed_is_told_by_its_result() {
        let after = ring();
        let before = changed(&after, |map| {
            map.ver = Ver(after.ver.0 - 1);
            for part in &mut map.parts[..5] {
                let without = part.goal.as_slice()[2];
                part.isr.remove(without);
                part.goal.remove(without);
            }
        });
        let events = Tracker::new(Arc::new(before)).follow(&Arc::new(after));
        let settled = events.last().expect("its end");
        assert_eq!((settled.kind, settled.done, settled.total), (EventKind::Settled, 5, 5));
    }

    #[test]
    fn every_kind_has_a_name_and_a_sentence() {
        for (kind, name) in EventKind::ALL {
            assert_eq!(kind.name(), name);
            let node = NodeRef { mid: MemberId(1), name: "n".into(), addr: "h:1".into() };
            assert!(Event::about(kind, node).text().len() > 5);
        }
    }
}
