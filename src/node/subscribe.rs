//! Who wants to be told of events, and how they get there.
//!
//! A node's control thread makes the events once for all subscribers of the node, and leaves them
//! in the inbox of each; it never waits for one. A client has nobody who tells it: it looks at the
//! newest map every 200 ms, on the thread that waits for an event.
//!
//! What happens thousands of times in one go (primaries that move, the progress of a movement) is
//! held back for 200 ms and told as one event with a count.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::ask::{Asker, pause};
use super::change::look;
use super::events::{Event, EventKind, Tracker};
use super::info::node_ref;
use super::interrupt::{SLICE, poll_interrupt};
use super::source::Source;
use crate::base::limits::EVENTS_MAX;
use crate::base::{MemberId, Nanos, Result};
use crate::net::sys::{boottime, unix_millis};
use crate::ring::RingMap;

/// How often a client looks at the map.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// How long one look waits for a member that does not answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long what happens in swarms is collected.
const COLLECTED: Duration = Duration::from_millis(200);

/// Events on their way to one subscriber.
///
/// - `told` has at most `EVENTS_MAX` events; those that did not fit are counted in `missing`.
/// - `swarm` has at most one event of each kind that comes in swarms.
#[derive(Debug, Default)]
struct Inbox {
    told: VecDeque<Event>,
    swarm: Vec<(Nanos, Event)>,
    missing: u64,
}

impl Inbox {
    fn push(&mut self, mut event: Event, now: Nanos) {
        event.time_ms = unix_millis();
        match event.kind {
            EventKind::PrimariesMoved | EventKind::Moving => self.collect(event, now),
            // Its end says all that the progress would have said.
            EventKind::Settled => {
                self.swarm.retain(|(_, event)| event.kind != EventKind::Moving);
                self.tell_swarm();
                self.tell(event);
            }
            _ => {
                self.tell_swarm();
                self.tell(event);
            }
        }
    }

    fn collect(&mut self, event: Event, now: Nanos) {
        match self.swarm.iter_mut().find(|(_, known)| known.kind == event.kind) {
            Some((_, known)) => {
                known.partitions += event.partitions;
                (known.done, known.total) = (event.done, event.total);
            }
            None => self.swarm.push((now + COLLECTED, event)),
        }
    }

    fn tell_swarm(&mut self) {
        for (_, event) in std::mem::take(&mut self.swarm) {
            self.tell(event);
        }
    }

    fn tell(&mut self, event: Event) {
        // What came before stays in order; the gap is where the newest would have been.
        match self.missing == 0 && self.told.len() < EVENTS_MAX {
            true => self.told.push_back(event),
            false => self.missing += 1,
        }
    }

    fn pop(&mut self, now: Nanos) -> Option<Event> {
        if let Some(event) = self.told.pop_front() {
            return Some(event);
        }
        if self.missing > 0 {
            let partitions = std::mem::take(&mut self.missing);
            let time_ms = unix_millis();
            return Some(Event { partitions, time_ms, ..Event::new(EventKind::Lagged) });
        }
        let due = self.swarm.iter().position(|(at, _)| *at <= now)?;
        Some(self.swarm.remove(due).1)
    }

    /// When it is to be looked at again although nothing comes.
    fn due(&self) -> Option<Nanos> {
        self.swarm.iter().map(|(at, _)| *at).min()
    }
}

/// The inbox of a subscriber of a node.
#[derive(Debug, Default)]
pub(super) struct Letterbox {
    inbox: Mutex<Inbox>,
    bell: Condvar,
}

/// All subscribers of one node.
#[derive(Debug, Default)]
pub(super) struct Hub {
    /// Readable without the lock: most nodes have no subscribers, and adopt many maps.
    subscribers: AtomicUsize,
    state: Mutex<HubState>,
}

#[derive(Debug, Default)]
struct HubState {
    tracker: Option<Tracker>,
    suspects: BTreeSet<MemberId>,
    letterboxes: Vec<Weak<Letterbox>>,
}

impl Hub {
    /// One more subscriber, to whom is told what follows on `map`.
    fn subscribe(&self, map: Option<Arc<RingMap>>) -> Arc<Letterbox> {
        let letterbox = Arc::new(Letterbox::default());
        let mut state = self.state.lock();
        if state.letterboxes.is_empty() {
            *state = HubState { tracker: map.map(Tracker::new), ..HubState::default() };
        }
        state.letterboxes.push(Arc::downgrade(&letterbox));
        self.subscribers.store(state.letterboxes.len(), Ordering::Release);
        letterbox
    }

    /// The node has a newer map.
    pub(super) fn map(&self, map: &Arc<RingMap>) {
        self.tell(|state| match &mut state.tracker {
            Some(tracker) => tracker.follow(map),
            None => {
                state.tracker = Some(Tracker::new(Arc::clone(map)));
                Vec::new()
            }
        });
    }

    /// The node has become a member of a ring.
    pub(super) fn joined(&self, me: MemberId, map: &Arc<RingMap>) {
        self.tell(|state| {
            state.tracker = Some(Tracker::new(Arc::clone(map)));
            vec![Event::about(EventKind::Joined, node_ref(map, me))]
        });
    }

    /// The node has left its ring.
    pub(super) fn left(&self, me: MemberId, map: &Arc<RingMap>) {
        self.tell(|state| {
            (state.tracker, state.suspects) = (None, BTreeSet::new());
            vec![Event::about(EventKind::Left, node_ref(map, me))]
        });
    }

    /// Whom the node does not hear of at the moment.
    pub(super) fn suspects(&self, map: &RingMap, suspects: &[MemberId]) {
        self.tell(|state| {
            let lives = |mid: &MemberId| map.members.get(mid).is_some_and(|m| !m.is_dead());
            let now: BTreeSet<MemberId> = suspects.iter().copied().filter(lives).collect();
            let before = std::mem::replace(&mut state.suspects, now);
            let now = &state.suspects;
            let event = |kind, mid: &MemberId| Event::about(kind, node_ref(map, *mid));
            let fresh = now.difference(&before).map(|mid| event(EventKind::Suspect, mid));
            // Who is dead now, or gone, was told of in other words.
            let heard = before.difference(now).filter(|mid| lives(mid));
            let heard: Vec<Event> = heard.map(|mid| event(EventKind::Up, mid)).collect();
            fresh.chain(heard).collect()
        });
    }

    /// Somebody else leads the coordinator.
    pub(super) fn leader(&self, map: &RingMap, leader: MemberId) {
        self.tell(|_| vec![Event::about(EventKind::Leader, node_ref(map, leader))]);
    }

    fn tell(&self, work: impl FnOnce(&mut HubState) -> Vec<Event>) {
        if self.subscribers.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.letterboxes.retain(|letterbox| letterbox.strong_count() > 0);
        self.subscribers.store(state.letterboxes.len(), Ordering::Release);
        if state.letterboxes.is_empty() {
            return;
        }
        let events = work(&mut state);
        let now = boottime();
        for letterbox in state.letterboxes.iter().filter_map(Weak::upgrade) {
            let mut inbox = letterbox.inbox.lock();
            events.iter().for_each(|event| inbox.push(event.clone(), now));
            drop(inbox);
            if !events.is_empty() {
                letterbox.bell.notify_all();
            }
        }
    }
}

/// The events of a ring from the moment on at which this was opened.
pub struct Events {
    source: Source,
    feed: Feed,
}

enum Feed {
    /// The node tells.
    Told(Arc<Letterbox>),
    /// We look ourselves.
    Looked(Box<Lookout>),
}

/// What a client looks with.
struct Lookout {
    inbox: Inbox,
    asker: Asker,
    tracker: Tracker,
    turn: usize,
    next: Nanos,
}

impl Events {
    pub(super) fn open(source: &Source) -> Result<Self> {
        source.check_open()?;
        let feed = match source {
            Source::Node(node) => Feed::Told(node.hub().subscribe(node.map())),
            Source::Client(client) => Feed::Looked(Box::new(Lookout {
                inbox: Inbox::default(),
                asker: Asker::of(client.map().cluster),
                tracker: Tracker::new(client.map()),
                turn: 0,
                next: Nanos::ZERO,
            })),
        };
        Ok(Self { source: source.clone(), feed })
    }

    /// The next event; `None` if nothing happens for that long.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Event>> {
        let until = boottime() + timeout;
        loop {
            self.source.check_open()?;
            poll_interrupt()?;
            let now = boottime();
            let found = match &mut self.feed {
                Feed::Told(letterbox) => letterbox.inbox.lock().pop(now),
                Feed::Looked(lookout) => lookout.look(&self.source, now)?,
            };
            if found.is_some() || now >= until {
                return Ok(found);
            }
            self.wait(until.min(now + SLICE))?;
        }
    }

    fn wait(&mut self, until: Nanos) -> Result<()> {
        match &mut self.feed {
            Feed::Told(letterbox) => {
                let mut inbox = letterbox.inbox.lock();
                let until = inbox.due().map_or(until, |due| due.min(until));
                if inbox.told.is_empty() && inbox.missing == 0 {
                    letterbox.bell.wait_for(&mut inbox, until.since(boottime()));
                }
                Ok(())
            }
            Feed::Looked(lookout) => {
                let due = lookout.inbox.due().unwrap_or(lookout.next).min(lookout.next);
                pause(due.min(until).since(boottime()), &|| self.source.check_open())
            }
        }
    }
}

impl Lookout {
    /// An event that is there, or comes from a look if it is time for one.
    fn look(&mut self, source: &Source, now: Nanos) -> Result<Option<Event>> {
        if let Some(event) = self.inbox.pop(now) {
            return Ok(Some(event));
        }
        if now < self.next {
            return Ok(None);
        }
        let before = Arc::clone(self.tracker.map());
        let until = now + PATIENCE;
        let map = look(source, &mut self.asker, &before, None, &mut self.turn, until)?;
        let now = boottime();
        self.next = now + POLL_EVERY;
        for event in self.tracker.follow(&map) {
            self.inbox.push(event, now);
        }
        Ok(self.inbox.pop(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(inbox: &mut Inbox, now: Nanos) -> Vec<(EventKind, u64)> {
        std::iter::from_fn(|| inbox.pop(now)).map(|event| (event.kind, event.partitions)).collect()
    }

    fn moved(partitions: u64) -> Event {
        Event { partitions, ..Event::new(EventKind::PrimariesMoved) }
    }

    #[test]
    fn a_swarm_becomes_one_event_with_a_count() {
        let (mut inbox, start) = (Inbox::default(), Nanos::from_millis(1000));
        for _ in 0..256 {
            inbox.push(moved(16), start);
            inbox.push(Event::new(EventKind::Moving), start);
        }
        assert_eq!(drain(&mut inbox, start), []);
        let later = start + COLLECTED;
        let expected = [(EventKind::PrimariesMoved, 4096), (EventKind::Moving, 0)];
        assert_eq!(drain(&mut inbox, later), expected);
        assert_eq!(inbox.due(), None);
    }

    #[test]
    fn what_happens_once_is_told_at_once_and_in_order() {
        let (mut inbox, now) = (Inbox::default(), Nanos::from_millis(1000));
        inbox.push(moved(3), now);
        inbox.push(Event::new(EventKind::Moving), now);
        inbox.push(Event::new(EventKind::Down), now);
        inbox.push(Event::new(EventKind::Settled), now);
        let kinds: Vec<EventKind> = drain(&mut inbox, now).iter().map(|(kind, _)| *kind).collect();
        use EventKind::*;
        assert_eq!(kinds, [PrimariesMoved, Moving, Down, Settled]);
        inbox.push(Event::new(EventKind::Moving), now);
        inbox.push(Event::new(EventKind::Settled), now);
        assert_eq!(drain(&mut inbox, now), [(Settled, 0)]);
    }

    #[test]
    fn a_full_inbox_says_how_much_is_missing() {
        let (mut inbox, now) = (Inbox::default(), Nanos::from_millis(1000));
        for _ in 0..EVENTS_MAX + 7 {
            inbox.push(Event::new(EventKind::Up), now);
        }
        let told = drain(&mut inbox, now);
        assert_eq!(told.len(), EVENTS_MAX + 1);
        assert_eq!(told.last(), Some(&(EventKind::Lagged, 7)));
        inbox.push(Event::new(EventKind::Up), now);
        assert_eq!(drain(&mut inbox, now), [(EventKind::Up, 0)]);
    }

    #[test]
    fn a_subscriber_that_went_away_costs_nothing() {
        let hub = Hub::default();
        let letterbox = hub.subscribe(None);
        hub.tell(|_| vec![Event::new(EventKind::Up)]);
        assert_eq!(letterbox.inbox.lock().told.len(), 1);
        drop(letterbox);
        hub.tell(|_| unreachable!("nobody is told"));
        assert_eq!(hub.subscribers.load(Ordering::Relaxed), 0);
    }
}
