//! Changing who is a member of the ring.

use std::ffi::c_char;

use super::convert::{options, required_text, timeout};
use super::guard::with_ring;
use super::status::ringkv_status;
use super::types::*;
use crate::base::Result;
use crate::node::{ChangeOptions, OnProgress, Progress};

/// Adds the standby node at `address` to the ring. Reads and writes go on meanwhile.
///
/// `address` and `options` are borrowed for the call; NULL options stand for the defaults. Any
/// thread, side by side with everything. Blocks until the node's share has moved to it, unless
/// `RINGKV_CHANGE_NO_WAIT`. After `RINGKV_TIMEOUT` and `RINGKV_ABORTED` the change goes on in
/// the ring.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_CONNECT`, `RINGKV_UNKNOWN_HOST`, `RINGKV_REFUSED`,
/// `RINGKV_WRONG_RING` (it belongs to another ring), `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`,
/// `RINGKV_ABORTED`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_add_node(
    ring: *mut ringkv_t,
    address: *const c_char,
    options: *const ringkv_change_options,
) -> ringkv_status {
    with_ring(ring, |ring| {
        // SAFETY: the caller vouches for the text, the options and the callback in them.
        unsafe {
            let address = required_text(address, "address")?;
            change(options, |options| ring.add_node(address, options))
        }
    })
}

/// Drops a member, given by name or by address: moves its copies to the others, then lets it
/// go. Its process goes on as an empty standby. Reads and writes go on meanwhile.
///
/// Dropping the last copy of anything is refused, and the sentence says what would be needed.
/// Otherwise as `ringkv_add_node`, and `RINGKV_NO_SUCH_MEMBER`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_drop_node(
    ring: *mut ringkv_t,
    name_or_address: *const c_char,
    options: *const ringkv_change_options,
) -> ringkv_status {
    with_ring(ring, |ring| {
        // SAFETY: the caller vouches for the text, the options and the callback in them.
        unsafe {
            let member = required_text(name_or_address, "name_or_address")?;
            change(options, |options| ring.drop_node(member, options))
        }
    })
}

/// Runs `call` with the options at `pointer`.
///
/// # Safety
///
/// `pointer` is NULL or points at a struct of the size that it names; its callback may be
/// called on this thread.
unsafe fn change(
    pointer: *const ringkv_change_options,
    call: impl FnOnce(ChangeOptions<'_>) -> Result<()>,
) -> Result<()> {
    // SAFETY: the caller's contract.
    let given = unsafe { options(pointer) }?;
    let mut forward = |progress: &Progress| match given.on_progress {
        // SAFETY: a function of that type and its `user_data`, by the caller's contract.
        Some(callback) => unsafe { callback(given.user_data, &progress.into()) == 0 },
        None => true,
    };
    let on_progress: &mut OnProgress<'_> = &mut forward;
    let default = ChangeOptions::default();
    call(ChangeOptions {
        timeout: timeout(given.timeout_ms).unwrap_or(default.timeout),
        wait: given.flags & RINGKV_CHANGE_NO_WAIT == 0,
        on_progress: given.on_progress.is_some().then_some(on_progress),
    })
}
