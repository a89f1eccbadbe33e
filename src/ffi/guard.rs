//! Around every call: the panic guard, the error sentence of the thread, and the fork counter.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::log::inside_log_callback;
use super::status::ringkv_status;
use super::table::Table;
use super::types::ringkv_t;
use crate::base::{Error, Result, Status};
use crate::node::Ring;

/// Every open node and client.
pub(super) static RINGS: Table<Ring> = Table::new(1, "ring handle");

/// Runs the body of a C function: no panic leaves it, and a failure leaves its sentence for
/// `ringkv_last_error`.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> ringkv_status {
    if inside_log_callback() {
        remember("ringkv must not be called from inside its log callback");
        return Status::Unsupported.code();
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Status::Ok.code(),
        Ok(Err(error)) => {
            remember(error.message());
            error.status().code()
        }
        Err(payload) => {
            remember(panic_message(payload.as_ref()));
            Status::Panic.code()
        }
    }
}

/// [`guard`] for functions that release something and cannot fail: the sentence of an earlier
/// failure stays, because programs clean up first and print it then.
pub(super) fn quietly(body: impl FnOnce()) {
    if !inside_log_callback() && catch_unwind(AssertUnwindSafe(body)).is_err() {
        ::log::error!("a panic was caught while something was released");
    }
}

/// [`guard`] with the ring that `handle` stands for. A panic poisons the handle.
pub(super) fn with_ring(
    handle: *mut ringkv_t,
    body: impl FnOnce(&Ring) -> Result<()>,
) -> ringkv_status {
    let status = guard(|| body(&RINGS.lookup(handle.addr())?));
    if status == Status::Panic.code() {
        RINGS.poison(handle.addr());
    }
    status
}

/// A sentence about an argument of the caller.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Status::InvalidArgument, message)
}

/// Checks an output argument that the caller must give.
pub(super) fn required<T>(out: *mut T, name: &str) -> Result<()> {
    match out.is_null() {
        true => Err(invalid(format!("{name} is NULL"))),
        false if !out.is_aligned() => Err(invalid(format!("{name} is not aligned"))),
        false => Ok(()),
    }
}

/// The handle that `slot` holds, which becomes NULL; 0 if `slot` itself is NULL.
///
/// # Safety
///
/// `slot` is NULL or points at a handle.
pub(super) unsafe fn take_handle<T>(slot: *mut *mut T) -> usize {
    match slot.is_null() || !slot.is_aligned() {
        true => 0,
        // SAFETY: not NULL and aligned, and the caller vouches for the rest.
        false => unsafe { slot.replace(std::ptr::null_mut()) }.addr(),
    }
}

thread_local! {
    /// The sentence of this thread's last failure, with a NUL at its end. The buffer is kept,
    /// so that a miss on a hot path does not allocate for it.
    static LAST_ERROR: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps `message` for `ringkv_last_error` on this thread.
pub(super) fn remember(message: &str) {
    // A thread that is ending has no sentence any more: the status alone must do.
    let _ = LAST_ERROR.try_with(|last| {
        let mut last = last.borrow_mut();
        last.clear();
        last.extend(message.bytes().map(|byte| if byte == 0 { b' ' } else { byte }));
        last.push(0);
    });
}

/// The sentence of this thread's last failure, NUL-terminated; empty if there was none.
pub(super) fn last_error() -> *const c_char {
    let sentence = LAST_ERROR.try_with(|last| {
        let last = last.borrow();
        (!last.is_empty()).then(|| last.as_ptr().cast())
    });
    sentence.ok().flatten().unwrap_or(c"".as_ptr())
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic without a message")
}

static FORKS: AtomicU64 = AtomicU64::new(0);

/// How often this process is a fork of the one that loaded the library. A counter that the
/// child increments is three hundred times cheaper than asking for the process id in every
/// call.
pub(super) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Counts forks from now on. Called before the first handle is opened.
pub(super) fn watch_forks() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the handler only increments an atomic, which is safe in a forked child. The
        // shared library is linked with `-z nodelete`, so the handler is never unloaded.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        debug_assert_eq!(failed, 0, "pthread_atfork fails only without memory");
    });
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::ptr::without_provenance_mut;

    use super::*;
    use crate::node::NodeConfig;

    fn sentence() -> String {
        // SAFETY: `last_error` points at a NUL-terminated text that lives until the next call.
        unsafe { CStr::from_ptr(last_error()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_and_poisons_the_handle() {
        let ring = Ring::start(NodeConfig::default()).expect("a node starts");
        let handle = without_provenance_mut(RINGS.insert(ring).expect("room"));
        let status = with_ring(handle, |_| panic!("for the test {}", 1));
        assert_eq!((status, sentence().as_str()), (Status::Panic.code(), "for the test 1"));
        assert_eq!(with_ring(handle, |_| Ok(())), Status::Panic.code());
        RINGS.remove(handle.addr()).expect("still there").close();
        assert_eq!(with_ring(handle, |_| Ok(())), Status::Closed.code());
    }

    #[test]
    fn the_sentence_survives_later_success_and_is_cut_at_no_nul() {
        assert_eq!(guard(|| Err(invalid("a\0b"))), Status::InvalidArgument.code());
        assert_eq!(guard(|| Ok(())), 0);
        assert_eq!(sentence(), "a b");
        std::thread::spawn(|| assert_eq!(sentence(), "")).join().expect("no panic there");
    }
}
