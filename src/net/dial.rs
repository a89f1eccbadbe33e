//! Making a connection: every address of a host in turn, within one deadline.
//!
//! A [`Dial`] is the state of one attempt, without waiting: the event loop and the blocking client
//! drive the same code. Each address gets an equal part of the time that is left, so that one that
//! swallows packets does not starve the next.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::addr::{Address, Endpoint};
use super::socket::Socket;
use super::sys;
use super::wake::{Notice, Shared};
use crate::base::{Error, Nanos, Result, Status};

/// Host names that this process looks up at the same time: each takes a short-lived thread.
const LOOKUPS_MAX: usize = 16;

static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// One outgoing connection attempt. Never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// The state of one outgoing connection attempt.
pub(super) struct Dial {
    address: Address,
    timeout: Duration,
    deadline: Nanos,
    attempt_deadline: Nanos,
    endpoints: VecDeque<Endpoint>,
    attempt: Option<Socket>,
    last: Option<io::Error>,
}

/// How a dial stands.
#[derive(Debug)]
pub(super) enum Progress {
    /// Waiting: for [`Dial::socket`] to become writable, for the name, or for the deadline.
    Waiting,
    /// A new socket is connecting: wait for it to become writable.
    Connecting,
    /// It is over.
    Done(Result<Socket>),
}

impl Dial {
    pub(super) fn new(address: &Address, now: Nanos, timeout: Duration) -> Self {
        Self {
            address: address.clone(),
            timeout,
            deadline: now + timeout,
            attempt_deadline: now + timeout,
            endpoints: VecDeque::new(),
            attempt: None,
            last: None,
        }
    }

    /// The socket that is connecting now.
    pub(super) fn socket(&self) -> Option<&Socket> {
        self.attempt.as_ref()
    }

    /// When [`Dial::expire`] has something to do.
    pub(super) fn next_deadline(&self) -> Nanos {
        self.attempt_deadline
    }

    /// The name was resolved: starts with the first of its endpoints.
    pub(super) fn resolved(&mut self, found: Result<Vec<Endpoint>>, now: Nanos) -> Progress {
        match found {
            Ok(endpoints) => {
                self.endpoints = endpoints.into();
                self.try_next(now)
            }
            Err(error) => Progress::Done(Err(
                error.context(format_args!("cannot connect to {}", self.address))
            )),
        }
    }

    /// The connecting socket became writable, or broke.
    pub(super) fn writable(&mut self, now: Nanos) -> Progress {
        let Some(socket) = self.attempt.take() else { return Progress::Waiting };
        match socket.finish_connect() {
            Ok(()) => Progress::Done(Ok(socket)),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.attempt = Some(socket);
                Progress::Waiting
            }
            Err(error) => {
                self.last = Some(error);
                self.try_next(now)
            }
        }
    }

    /// Time passed: gives up on the current endpoint, or on all.
    pub(super) fn expire(&mut self, now: Nanos) -> Progress {
        if now < self.attempt_deadline {
            return Progress::Waiting;
        }
        self.attempt = None;
        self.last = None;
        if now < self.deadline { self.try_next(now) } else { Progress::Done(Err(self.failure())) }
    }

    fn try_next(&mut self, now: Nanos) -> Progress {
        self.attempt = None;
        while let Some(endpoint) = self.endpoints.pop_front() {
            match Socket::start_connect(&endpoint) {
                Ok((socket, true)) => return Progress::Done(Ok(socket)),
                Ok((socket, false)) => {
                    let share = 1 + u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX - 1);
                    self.attempt_deadline = now + self.deadline.since(now) / share;
                    self.attempt = Some(socket);
                    return Progress::Connecting;
                }
                Err(error) => self.last = Some(error),
            }
        }
        Progress::Done(Err(self.failure()))
    }

    fn failure(&self) -> Error {
        let address = &self.address;
        let Some(error) = &self.last else {
            let ms = self.timeout.as_millis();
            let message = format!("cannot connect to {address}: no answer within {ms} ms");
            return Error::new(Status::Timeout, message);
        };
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            io::ErrorKind::WouldBlock => "it has too many connections waiting".to_owned(),
            _ => error.to_string(),
        };
        Error::new(Status::Connect, format!("cannot connect to {address}: {why}"))
    }
}

/// Looks a host name up on a thread of its own and leaves the result for the loop.
pub(super) fn look_up(address: Address, id: DialId, home: &Arc<Shared>) {
    let one_more = |running| (running < LOOKUPS_MAX).then_some(running + 1);
    if LOOKUPS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_err() {
        let message = format!("{LOOKUPS_MAX} other host names are being looked up");
        home.notify(Notice::Resolved(id, Err(Error::new(Status::Busy, message))));
        return;
    }
    let thread_home = Arc::clone(home);
    let spawned = sys::spawn("ringkv-lookup", move || {
        let found = address.resolve();
        LOOKUPS.fetch_sub(1, Ordering::SeqCst);
        thread_home.notify(Notice::Resolved(id, found));
    });
    if let Err(error) = spawned {
        LOOKUPS.fetch_sub(1, Ordering::SeqCst);
        home.notify(Notice::Resolved(id, Err(error)));
    }
}
