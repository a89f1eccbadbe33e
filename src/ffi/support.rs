//! Statuses and error sentences for people.

use std::ffi::{CString, c_char};
use std::sync::LazyLock;

use super::guard;
use super::status::ringkv_status;
use crate::base::Status;

/// A short text for a status, such as "not found"; never NULL, and never to be freed. Any
/// thread, never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ringkv_status_str(status: ringkv_status) -> *const c_char {
    static TEXTS: LazyLock<Vec<CString>> = LazyLock::new(|| {
        Status::ALL.iter().map(|status| CString::new(status.text()).unwrap_or_default()).collect()
    });
    let at = Status::ALL.iter().position(|known| known.code() == status);
    at.map_or(c"unknown status".as_ptr(), |at| TEXTS[at].as_ptr())
}

/// 1 if the same call may succeed later without any change by the caller, otherwise 0. Any
/// thread, never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ringkv_status_is_retryable(status: ringkv_status) -> i32 {
    Status::from_code(status).is_some_and(Status::is_retryable).into()
}

/// 1 if a write that ended with this status may have taken effect, or may still do so; 0 if it
/// certainly did not (or, with `RINGKV_OK`, certainly did). Any thread, never blocks. Since
/// 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ringkv_status_maybe_applied(status: ringkv_status) -> i32 {
    Status::from_code(status).is_some_and(Status::maybe_applied).into()
}

/// The sentence of the last call on this thread that did not return `RINGKV_OK`, such as
/// "cannot connect to 10.0.0.7:4700: connection refused"; empty if there was none, never NULL.
/// It is valid until the next call of ringkv on this thread. Any thread, never blocks. Since
/// 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ringkv_last_error() -> *const c_char {
    guard::last_error()
}
