//! How other threads reach an event loop that sleeps in the kernel.
//!
//! Waking costs a system call and a switch to another core, so it is done once for everything that
//! is left for a loop before it looks: the flag `woken` says that a wake-up is on its way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::addr::Endpoint;
use super::dial::DialId;
use super::link::ConnId;
use crate::base::Result;

/// Wakes the event loop that it came from, from any thread: its handler's `on_wake` runs once for
/// any number of wake-ups that it had not seen yet.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Wakes the loop. What the caller did before is visible to `on_wake`.
    pub fn wake(&self) {
        if !self.0.asked.swap(true, Ordering::SeqCst) {
            self.0.signal();
        }
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

/// What other threads leave for a loop. Bounded: a link leaves one `Closed` in its life and one
/// `Drained` for each time that its buffer passed the high mark; a dial leaves one `Resolved`.
pub(super) enum Notice {
    /// A link was closed.
    Closed(ConnId),
    /// A link's buffer fell to its low mark.
    Drained(ConnId),
    /// A host name was looked up.
    Resolved(DialId, Result<Vec<Endpoint>>),
}

/// The part of an event loop that other threads see.
pub(super) struct Shared {
    waker: mio::Waker,
    woken: AtomicBool,
    asked: AtomicBool,
    notices: Mutex<Vec<Notice>>,
}

impl Shared {
    pub(super) fn new(registry: &mio::Registry, token: mio::Token) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            waker: mio::Waker::new(registry, token)?,
            woken: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            notices: Mutex::new(Vec::new()),
        }))
    }

    /// Leaves a notice for the loop.
    pub(super) fn notify(&self, notice: Notice) {
        self.notices.lock().push(notice);
        self.signal();
    }

    /// For the loop, each turn: what was left since, and whether `Waker::wake` was called.
    pub(super) fn take(&self, notices: &mut Vec<Notice>) -> bool {
        // First the flag: who leaves something after this wakes the loop again.
        if !self.woken.swap(false, Ordering::SeqCst) {
            return false;
        }
        std::mem::swap(&mut *self.notices.lock(), notices);
        self.asked.swap(false, Ordering::SeqCst)
    }

    fn signal(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            // The event loop's eventfd cannot fail but by a closed descriptor, and this owns it.
            if let Err(error) = self.waker.wake() {
                log::error!("cannot wake an event loop: {error}");
            }
        }
    }
}
