//! Changing who is a member of the ring.

use std::ffi::c_char;
use std::time::Duration;

use super::convert::{options, required_text, timeout};
use super::guard::{invalid, required, with_ring};
use super::status::ringkv_status;
use super::types::*;
use crate::base::Result;
use crate::node::{ChangeOptions, OnProgress, Progress};

/// Adds the standby node at `address` to the ring. Reads and writes go on meanwhile.
///
/// `address` and `options` are borrowed for the call; NULL options stand for the defaults. Any
/// thread, side by side with everything. Blocks until the node's share has moved to it, unless
/// `RINGKV_CHANGE_NO_WAIT`. After `RINGKV_TIMEOUT`, and after
/// `RINGKV_ABORTED` by a callback, the change goes on in the ring; `RINGKV_ABORTED` is also the
/// answer if the node dies or leaves the ring before it has its share.
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
            let given = self::options(options)?;
            if given.flags & (RINGKV_CHANGE_FORCE | RINGKV_CHANGE_ABORT) != 0 {
                return Err(invalid("RINGKV_CHANGE_FORCE and _ABORT are for ringkv_drop_node"));
            }
            change(&given, |options| ring.add_node(address, options))
        }
    })
}

/// Drops a member, given by name or by address: moves its copies to the others, then lets it
/// go. Its process goes on as an empty standby. Reads and writes go on meanwhile.
///
/// `RINGKV_REFUSED` if fewer living nodes than `min_insync` would remain, or if the member is
/// dead and has the only copy of something: the sentence says what would be needed.
/// `RINGKV_CHANGE_FORCE` drops it all the same, and forgets a member that is dead at once: what it
/// had the only copy of is lost then (`ringkv_reset_lost`). The last living node that holds data
/// stays in any case.
///
/// With `RINGKV_CHANGE_ABORT` the call takes back a drop of that member that is under way: it
/// stays, and what has moved moves back. Whoever waits for the drop gets `RINGKV_ABORTED`.
///
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
            let given = self::options(options)?;
            if given.flags & RINGKV_CHANGE_ABORT != 0 {
                return ring.abort_drop(member, change_timeout(given.timeout_ms));
            }
            change(&given, |options| ring.drop_node(member, options).map(|_| ()))
        }
    })
}

/// Lets every partition whose copies are all lost start again, empty; `*out_count`, which may be
/// NULL, becomes how many. Until then the operations on their keys answer `RINGKV_DATA_LOST`.
/// What they held is gone for good: so the ring never does this by itself.
///
/// `timeout_ms` 0 stands for ten minutes. Any thread, side by side with everything. Blocks until
/// the ring has agreed to it.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_REFUSED` (no node is up that could hold a partition),
/// `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_reset_lost(
    ring: *mut ringkv_t,
    timeout_ms: u32,
    out_count: *mut u32,
) -> ringkv_status {
    with_ring(ring, |ring| {
        let count = ring.reset_lost(change_timeout(timeout_ms))?;
        if !out_count.is_null() {
            required(out_count, "out_count")?;
            // SAFETY: not NULL and aligned, and the caller vouches for the rest.
            unsafe { out_count.write(count) };
        }
        Ok(())
    })
}

/// Runs `call` with the options that are given.
///
/// # Safety
///
/// The callback in them may be called on this thread.
unsafe fn change(
    given: &ringkv_change_options,
    call: impl FnOnce(ChangeOptions<'_>) -> Result<()>,
) -> Result<()> {
    let mut forward = |progress: &Progress| match given.on_progress {
        // SAFETY: a function of that type and its `user_data`, by the caller's contract.
        Some(callback) => unsafe { callback(given.user_data, &progress.into()) == 0 },
        None => true,
    };
    let on_progress: &mut OnProgress<'_> = &mut forward;
    call(ChangeOptions {
        timeout: change_timeout(given.timeout_ms),
        wait: given.flags & RINGKV_CHANGE_NO_WAIT == 0,
        force: given.flags & RINGKV_CHANGE_FORCE != 0,
        on_progress: given.on_progress.is_some().then_some(on_progress),
    })
}

fn change_timeout(ms: u32) -> Duration {
    timeout(ms).unwrap_or(ChangeOptions::default().timeout)
}
