//! Marks what belongs to the process that opened it.
//!
//! After `fork` the child has a copy of the handle's memory but none of its threads, and the locks
//! in that memory may be held for ever. The child must touch nothing: calls fail with `Forked`,
//! and dropping a handle leaks it.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use ringkv::Status;

use crate::call::exception;
use crate::logs;

/// How many forks lie between this process and the one that first loaded the module.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Called by Python before it forks.
#[pyfunction]
pub(crate) fn before_fork() {
    logs::hold();
}

/// Called by Python in the parent after it forked.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    logs::release(false);
}

/// Called by Python in the child: marks every handle that exists as one of the parent process.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    logs::release(true);
}

/// A value that only the process that made it may use.
///
/// Invariant: `value` is `Some` until the drop.
pub(crate) struct OfProcess<T: Send> {
    value: Option<T>,
    forks: u32,
}

impl<T: Send> OfProcess<T> {
    /// Binds `value` to this process.
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), forks: FORKS.load(Ordering::Relaxed) }
    }

    /// The value, or the error that says that it belongs to the parent process.
    pub(crate) fn value(&self, py: Python<'_>) -> PyResult<&T> {
        match &self.value {
            Some(value) if self.is_ours() => Ok(value),
            _ => Err(exception(py, &Status::Forked.into())),
        }
    }

    /// Whether this is the process that made it.
    pub(crate) fn is_ours(&self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }
}

impl<T: Send> Drop for OfProcess<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if !self.is_ours() {
            std::mem::forget(value);
            return;
        }
        // The last handle stops the node and waits for its threads: the interpreter need not.
        Python::try_attach(|py| py.detach(|| drop(value)));
    }
}
