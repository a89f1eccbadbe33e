//! Where a handle gets its ring from: a node of this process, or connections to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::config::Lookup;
use super::drive::{Sessions, Transport, drive};
use super::lane::Session;
use super::local::{LocalTransport, Node};
use super::remote::Client;
use crate::base::{Error, MemberId, Nanos, Result, Rng, Status};
use crate::net::sys::boottime;
use crate::ring::RingMap;
use crate::wire::{Op, Reply};

/// One of the two.
#[derive(Clone)]
pub(super) enum Source {
    /// A node of this process.
    Node(Node),
    /// A client of nodes elsewhere.
    Client(Client),
}

impl Source {
    /// Stops the node, or closes the connections.
    pub(super) fn close(&self) {
        match self {
            Source::Node(node) => node.close(),
            Source::Client(client) => client.close(),
        }
    }

    /// An error once it is closed.
    pub(super) fn check_open(&self) -> Result<()> {
        match self {
            Source::Node(node) => node.check_open(),
            Source::Client(client) => client.check_open(),
        }
    }

    /// Where the node listens, or the first seed.
    pub(super) fn address(&self) -> String {
        match self {
            Source::Node(node) => node.address(),
            Source::Client(client) => client.address(),
        }
    }

    /// When an operation that begins now has to be done.
    pub(super) fn deadline(&self, timeout: Option<Duration>) -> Nanos {
        let own = || match self {
            Source::Node(node) => node.timeout(),
            Source::Client(client) => client.timeout(),
        };
        boottime() + timeout.unwrap_or_else(own)
    }

    /// The newest map known here.
    pub(super) fn map(&self) -> Result<Arc<RingMap>> {
        self.check_open()?;
        match self {
            Source::Client(client) => Ok(client.map()),
            Source::Node(node) => node.map().ok_or_else(|| {
                Error::new(Status::Unavailable, "this node stands by: it belongs to no ring yet")
            }),
        }
    }

    /// Somebody else told a newer map.
    pub(super) fn offer(&self, map: &Arc<RingMap>) {
        // A node gets its maps from the coordinator, in order.
        if let Source::Client(client) = self {
            client.offer(map);
        }
    }

    /// The member that lookups begin with if they do not go straight to the primary.
    pub(super) fn first_asked(&self) -> Option<MemberId> {
        match self {
            Source::Client(client) => Some(client.contact()),
            Source::Node(node) => node.member_id(),
        }
    }

    /// How operations travel, until the moment at the latest.
    pub(super) fn way(&self, lookup: Lookup, until: Nanos) -> Result<Way<'_>> {
        self.check_open()?;
        Ok(match self {
            Source::Node(node) => Way::Local(node.transport(lookup)),
            Source::Client(client) => Way::Remote(client.session(lookup, until)?),
        })
    }

    /// Brings operations to their end; see [`drive`].
    pub(super) fn drive(
        &self,
        lookup: Lookup,
        until: Nanos,
        ops: &[Op<'_>],
        done: &mut dyn FnMut(usize, Result<&Reply<'_>>),
    ) -> Result<()> {
        let mut way = self.way(lookup, until)?;
        drive(way.transport(), self.sessions(), ops, until, &mut next_rng(), done)
    }

    /// The sessions that all calls of the handle share.
    pub(super) fn sessions(&self) -> &Sessions {
        match self {
            Source::Node(node) => node.sessions(),
            Source::Client(client) => client.sessions(),
        }
    }
}

/// The transport of one call.
pub(super) enum Way<'s> {
    /// Through the node of this process.
    Local(LocalTransport),
    /// Over connections of this thread.
    Remote(Session<'s>),
}

impl Way<'_> {
    pub(super) fn transport(&mut self) -> &mut dyn Transport {
        match self {
            Way::Local(transport) => transport,
            Way::Remote(transport) => transport,
        }
    }
}

/// Jitter needs no good randomness, only that two threads do not wait in step.
pub(super) fn next_rng() -> Rng {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    Rng::new(CALLS.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed) ^ boottime().0)
}
