//! Operations of threads of this process that wait for an answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::wire::Reply;

/// One answer.
pub(super) struct Arrival {
    /// The call's number: an answer to a call that was given up is told by it.
    pub(super) number: u64,
    /// What the caller named it.
    pub(super) tag: usize,
    /// The encoded answer.
    pub(super) reply: Vec<u8>,
}

/// Where the answers to one thread's operations arrive.
#[derive(Default)]
pub(super) struct Mailbox {
    arrived: Mutex<Vec<Arrival>>,
    bell: Condvar,
}

impl Mailbox {
    /// Takes what has arrived, waiting for it up to `wait_max`.
    pub(super) fn take(&self, wait_max: Duration) -> Vec<Arrival> {
        let mut arrived = self.arrived.lock();
        if arrived.is_empty() && !wait_max.is_zero() {
            self.bell.wait_for(&mut arrived, wait_max);
        }
        std::mem::take(&mut arrived)
    }

    /// Wakes its thread.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }
}

/// The operations under way, by number.
#[derive(Default)]
pub(super) struct Calls {
    next: AtomicU64,
    open: Mutex<HashMap<u64, (Arc<Mailbox>, usize)>>,
}

impl Calls {
    /// A number under which an answer reaches `mailbox` with `tag`.
    pub(super) fn open(&self, mailbox: &Arc<Mailbox>, tag: usize) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, (Arc::clone(mailbox), tag));
        number
    }

    /// Delivers an answer; dropped if nobody waits for it any more. The mailbox is to be rung when
    /// everything for it is there.
    pub(super) fn complete(&self, number: u64, reply: &Reply<'_>) -> Option<Arc<Mailbox>> {
        let (mailbox, tag) = self.open.lock().remove(&number)?;
        let mut bytes = Vec::with_capacity(32);
        reply.encode(&mut bytes);
        mailbox.arrived.lock().push(Arrival { number, tag, reply: bytes });
        Some(mailbox)
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&self, number: u64) {
        self.open.lock().remove(&number);
    }

    /// Wakes everybody who waits: the node is closed.
    pub(super) fn fail_all(&self) {
        for (_, (mailbox, _)) in self.open.lock().drain() {
            mailbox.bell.notify_all();
        }
    }
}
