//! The log callback: the only global state that a caller can set.

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;

use super::guard::{guard, invalid};
use super::status::ringkv_status;
use super::types::*;
use crate::base::{Error, Status};

/// Sends the messages of this library to `callback`, up to `max_level` (`RINGKV_LOG_...`),
/// instead of nowhere. It holds for the whole process. Set it again to change it; NULL ends it.
///
/// `user_data` is handed to the callback. Once this function has returned, the callback that
/// was set before is not running and will not be called again. Any thread. Blocks while a
/// callback runs.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED` (from inside the callback), `RINGKV_REFUSED`
/// (the program is written in Rust and has a logger of its own). Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_set_log_callback(
    callback: ringkv_log_cb,
    user_data: *mut c_void,
    max_level: i32,
) -> ringkv_status {
    guard(|| {
        let level = match (callback, max_level) {
            (None, _) | (_, RINGKV_LOG_OFF) => LevelFilter::Off,
            (_, RINGKV_LOG_ERROR) => LevelFilter::Error,
            (_, RINGKV_LOG_WARN) => LevelFilter::Warn,
            (_, RINGKV_LOG_INFO) => LevelFilter::Info,
            (_, RINGKV_LOG_DEBUG) => LevelFilter::Debug,
            (_, RINGKV_LOG_TRACE) => LevelFilter::Trace,
            (_, other) => return Err(invalid(format!("there is no log level {other}"))),
        };
        if !we_are_the_logger() {
            return Err(Error::new(Status::Refused, "this program has a logger of its own"));
        }
        *TARGET.write() = Target { callback, user_data };
        log::set_max_level(level);
        Ok(())
    })
}

/// Whether this thread is inside the log callback, where ringkv must not be called.
pub(super) fn inside_log_callback() -> bool {
    INSIDE.try_with(Cell::get).unwrap_or(false)
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Target {
    callback: ringkv_log_cb,
    user_data: *mut c_void,
}

// SAFETY: `user_data` is only handed back to the callback, which by its contract may be called
// on any thread.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// Locked for reading while the callback runs, so that replacing it waits for its end.
static TARGET: RwLock<Target> =
    RwLock::new(Target { callback: None, user_data: std::ptr::null_mut() });

struct Forward;

fn we_are_the_logger() -> bool {
    static SET: Once = Once::new();
    static OURS: AtomicBool = AtomicBool::new(false);
    SET.call_once(|| OURS.store(log::set_logger(&Forward).is_ok(), Ordering::Relaxed));
    OURS.load(Ordering::Relaxed)
}

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // A message that arises inside the callback would call it from within itself.
        if !self.enabled(record.metadata()) || inside_log_callback() {
            return;
        }
        let level = match record.level() {
            Level::Error => RINGKV_LOG_ERROR,
            Level::Warn => RINGKV_LOG_WARN,
            Level::Info => RINGKV_LOG_INFO,
            Level::Debug => RINGKV_LOG_DEBUG,
            Level::Trace => RINGKV_LOG_TRACE,
        };
        let text = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
        let (from, message) = (text(record.target().into()), text(record.args().to_string()));
        let target = TARGET.read();
        let Some(callback) = target.callback else { return };
        let _ = INSIDE.try_with(|inside| inside.set(true));
        // SAFETY: the callback that C set, with its own `user_data` and two NUL-terminated
        // texts that outlive the call.
        unsafe { callback(target.user_data, level, from.as_ptr(), message.as_ptr()) };
        let _ = INSIDE.try_with(|inside| inside.set(false));
    }

    fn flush(&self) {}
}
