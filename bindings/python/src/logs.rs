//! The engine's log records on their way to Python's `logging`.
//!
//! An engine thread never calls Python, which could make it wait for the interpreter while it
//! holds a partition: it leaves the record in a short queue, and one Python thread fetches them
//! (`ringkv/_logging.py`). Over the bound the oldest records go, and the next fetch says how many.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use log::{Level, LevelFilter, Metadata, Record};
use pyo3::prelude::*;

const RECORDS_MAX: usize = 1024;

/// Python's number of the level, where in the engine it comes from, the text.
type Fetched = (u32, String, String);

struct Queue {
    records: VecDeque<(Level, String, String)>,
    lost: usize,
    open: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { records: VecDeque::new(), lost: 0, open: false });
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// The queue, held over a fork so that the child does not inherit it locked by a thread that
    /// it does not have.
    static HELD: RefCell<Option<MutexGuard<'static, Queue>>> = const { RefCell::new(None) };
}

struct Forward;

impl log::Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let mut queue = lock();
        if !queue.open {
            return;
        }
        if queue.records.len() == RECORDS_MAX {
            queue.records.pop_front();
            queue.lost += 1;
        }
        queue.records.push_back((record.level(), record.target().to_owned(), text));
        CHANGED.notify_one();
    }

    fn flush(&self) {}
}

/// Collects records from `level` (Python's number) on. False if something else in this process
/// has already claimed the engine's log.
#[pyfunction]
pub(crate) fn open_log(level: u32) -> bool {
    static CLAIMED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let claimed = *CLAIMED.get_or_init(|| log::set_logger(&Forward).is_ok());
    if claimed {
        log::set_max_level(filter(level));
        lock().open = true;
    }
    claimed
}

/// Waits for records and takes them all; None once the log is closed and empty.
#[pyfunction]
pub(crate) fn fetch_log(py: Python<'_>) -> Option<Vec<Fetched>> {
    py.detach(|| {
        let idle = |queue: &mut Queue| queue.open && queue.records.is_empty();
        let mut queue = CHANGED.wait_while(lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if queue.records.is_empty() {
            return None;
        }
        let lost = std::mem::take(&mut queue.lost);
        let records = std::mem::take(&mut queue.records);
        drop(queue);
        let complaint = (lost > 0).then(|| {
            (number(Level::Warn), "ringkv".into(), format!("{lost} log records were lost"))
        });
        let fetched = records.into_iter().map(|(level, from, text)| (number(level), from, text));
        Some(complaint.into_iter().chain(fetched).collect())
    })
}

/// Collects no more records, and lets `fetch_log` come to its end.
#[pyfunction]
pub(crate) fn close_log() {
    log::set_max_level(LevelFilter::Off);
    lock().open = false;
    CHANGED.notify_all();
}

/// Holds the queue until `release_log`.
pub(crate) fn hold() {
    HELD.set(Some(lock()));
}

/// Ends `hold`. The thread that fetches is not there in a child: it starts without a log.
pub(crate) fn release(in_child: bool) {
    let held = HELD.take();
    if let Some(mut queue) = held.filter(|_| in_child) {
        log::set_max_level(LevelFilter::Off);
        *queue = Queue { records: VecDeque::new(), lost: 0, open: false };
    }
}

/// A panic while the lock was held leaves a queue that is as good as before.
fn lock() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(level: Level) -> u32 {
    match level {
        Level::Error => 40,
        Level::Warn => 30,
        Level::Info => 20,
        Level::Debug => 10,
        Level::Trace => 5,
    }
}

fn filter(number: u32) -> LevelFilter {
    match number {
        0..10 => LevelFilter::Trace,
        10..20 => LevelFilter::Debug,
        20..30 => LevelFilter::Info,
        30..40 => LevelFilter::Warn,
        _ => LevelFilter::Error,
    }
}
