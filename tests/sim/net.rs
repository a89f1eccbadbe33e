//! The simulated network: connections that keep order inside themselves and nowhere else, are
//! slow, are cut in one direction or both, and are reset with the loss of what is in flight.
//!
//! Two members have two connections, data and control, which know nothing of each other. A cut
//! direction delays what is sent into it until it heals, as a transport that retransmits does; a
//! reset loses it. While a direction is cut, no new connection can be made.

use std::collections::BTreeMap;
use std::time::Duration;

use ringkv::base::{MemberId, Nanos, Rng};

use crate::settings::Settings;

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// A member of the ring.
    Node(MemberId),
    /// A client.
    Client(usize),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Replication and forwarded requests.
    Data,
    /// Heartbeats, maps, commands.
    Control,
    /// Requests of a client.
    Client,
}

/// A connection's name: its two sides, the lower one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Both sides.
    pub sides: [Endpoint; 2],
    /// What it is for.
    pub kind: Kind,
}

impl Link {
    /// The connection of that kind between `a` and `b`.
    pub fn new(a: Endpoint, b: Endpoint, kind: Kind) -> Self {
        Self { sides: [a.min(b), a.max(b)], kind }
    }

    /// The index of a side.
    pub fn side(&self, endpoint: Endpoint) -> usize {
        usize::from(self.sides[1] == endpoint)
    }

    /// Whether `endpoint` is a side.
    pub fn touches(&self, endpoint: Endpoint) -> bool {
        self.sides.contains(&endpoint)
    }
}

#[derive(Debug, Default)]
struct Connection {
    /// One more with each reset: what was sent on an older one is lost.
    generation: u32,
    /// Whether each side knows the connection.
    up: [bool; 2],
    /// When the last message to each side arrives.
    last_arrival: [Nanos; 2],
    /// Bytes on their way to each side.
    in_flight: [usize; 2],
    /// What was sent on the generation before still arrives until then.
    ghosts_until: Nanos,
}

/// Bytes on their way.
#[derive(Debug)]
pub struct Parcel {
    /// The connection.
    pub link: Link,
    /// Its generation when they were sent.
    pub generation: u32,
    /// The side that they are for.
    pub to: usize,
    /// The payload.
    pub bytes: Vec<u8>,
}

/// All connections and cuts.
#[derive(Debug, Default)]
pub struct Network {
    connections: BTreeMap<Link, Connection>,
    /// Until when a direction is cut.
    cuts: BTreeMap<(Endpoint, Endpoint), Nanos>,
}

impl Network {
    /// Puts bytes on their way; `None` if they are lost at once.
    pub fn send(
        &mut self,
        settings: &Settings,
        rng: &mut Rng,
        now: Nanos,
        link: Link,
        from: Endpoint,
        bytes: Vec<u8>,
    ) -> Option<(Nanos, Parcel)> {
        let to = 1 - link.side(from);
        let blocked_until = self.cut_until(from, link.sides[to]);
        let connection = self.connections.get_mut(&link)?;
        if !connection.up[1 - to] {
            return None;
        }
        let start = now.max(blocked_until);
        let arrival = (start + settings.delay(rng)).max(connection.last_arrival[to]);
        connection.last_arrival[to] = arrival;
        connection.in_flight[to] += bytes.len();
        Some((arrival, Parcel { link, generation: connection.generation, to, bytes }))
    }

    /// Whether a parcel that arrives now does so, and whether it does on a connection that broke:
    /// a receiver may find what it holds of an old one after the new one was made.
    pub fn arrives(&mut self, parcel: &Parcel, now: Nanos) -> Option<bool> {
        let connection = self.connections.get_mut(&parcel.link)?;
        if connection.generation != parcel.generation {
            let is_ghost = connection.generation == parcel.generation + 1;
            return (is_ghost && now < connection.ghosts_until).then_some(true);
        }
        let in_flight = &mut connection.in_flight[parcel.to];
        *in_flight = in_flight.saturating_sub(parcel.bytes.len());
        Some(false)
    }

    /// A process dies: each of its connections that worked, and when the last of what it sent on it
    /// arrives. They are there until they are closed.
    pub fn crash(&mut self, endpoint: Endpoint) -> Vec<(Link, Nanos)> {
        let mut broken = Vec::new();
        for (link, connection) in &mut self.connections {
            if link.touches(endpoint) {
                let dead = link.side(endpoint);
                if connection.up != [true; 2] {
                    // A later event that would complete it finds another generation.
                    connection.generation += 1;
                }
                connection.up[dead] = false;
                connection.ghosts_until = Nanos::ZERO;
                broken.push((*link, connection.last_arrival[1 - dead]));
            }
        }
        broken
    }

    /// Holds back what is said next on a connection, and everything after it.
    pub fn hold_back(&mut self, link: Link, from: Endpoint, until: Nanos) {
        if let Some(connection) = self.connections.get_mut(&link) {
            let slot = &mut connection.last_arrival[1 - link.side(from)];
            *slot = (*slot).max(until);
        }
    }

    /// What was on its way when a connection broke last arrives nevertheless.
    pub fn haunt(&mut self, link: Link, until: Nanos) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.ghosts_until = until;
        }
    }

    /// The last side knows that a connection is no more.
    pub fn close(&mut self, link: Link) {
        self.connections.remove(&link);
    }

    /// Bytes on their way over `link` from `from`; `None` if that side has no connection.
    pub fn in_flight(&self, link: Link, from: Endpoint) -> Option<usize> {
        let connection = self.connections.get(&link)?;
        let side = link.side(from);
        connection.up[side].then_some(connection.in_flight[1 - side])
    }

    /// Breaks a connection, or begins to make one: the moments at which each side will know of the
    /// new one, and its generation.
    pub fn reset(
        &mut self,
        settings: &Settings,
        rng: &mut Rng,
        now: Nanos,
        link: Link,
    ) -> ([Nanos; 2], u32) {
        let [a, b] = link.sides;
        let possible = now.max(self.cut_until(a, b)).max(self.cut_until(b, a));
        let dialled = possible + Duration::from_millis(rng.below(settings.reconnect_ms.max(1)));
        let first = rng.below(2) as usize;
        let mut moments = [dialled; 2];
        moments[first] = dialled + settings.delay(rng);
        let connection = self.connections.entry(link).or_default();
        connection.generation += 1;
        connection.up = [false; 2];
        connection.ghosts_until = match rng.chance(settings.dangers.ghost_permille) {
            true => now + Duration::from_micros(rng.below(1_000_000)),
            false => Nanos::ZERO,
        };
        connection.in_flight = [0; 2];
        // Nothing can arrive on a side before that side knows of the connection.
        connection.last_arrival = moments;
        (moments, connection.generation)
    }

    /// A side learns of the new connection; false if that is overtaken by another reset.
    pub fn connect(&mut self, link: Link, generation: u32, side: usize) -> bool {
        let connection = self.connections.get_mut(&link);
        let current = connection.filter(|connection| connection.generation == generation);
        current.map(|connection| connection.up[side] = true).is_some()
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Endpoint, to: Endpoint, until: Nanos) {
        let slot = self.cuts.entry((from, to)).or_default();
        *slot = (*slot).max(until);
    }

    /// Ends every cut. What it delayed keeps its delay.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Closes every connection of an endpoint for ever.
    pub fn forget(&mut self, endpoint: Endpoint) {
        self.connections.retain(|link, _| !link.touches(endpoint));
    }

    /// The names of all connections.
    pub fn links(&self) -> Vec<Link> {
        self.connections.keys().copied().collect()
    }

    fn cut_until(&self, from: Endpoint, to: Endpoint) -> Nanos {
        self.cuts.get(&(from, to)).copied().unwrap_or_default()
    }
}
