//! Many keys in one call, pipelined.

use super::convert::{array, buf_from, bytes};
use super::data::{EMPTY_BUF, not_found, read_options, write_options};
use super::guard::{required, with_ring};
use super::status::ringkv_status;
use super::types::*;
use crate::base::{Result, Status};
use crate::node::Ring;

/// Stores `count` pairs, pipelined: much faster than one at a time, not atomic.
///
/// `out_statuses` (NULL, or room for `count`) tells for each pair what happened to it, also
/// when the whole call fails. The status returned is the first failure among them, `RINGKV_OK`
/// if there was none. Otherwise as `ringkv_put`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_put_many(
    ring: *mut ringkv_t,
    pairs: *const ringkv_pair,
    count: usize,
    options: *const ringkv_write_options,
    out_statuses: *mut ringkv_status,
) -> ringkv_status {
    // SAFETY: the caller vouches for the array, the bytes that it points at, the options, and
    // the room in `out_statuses`.
    unsafe {
        let call = |ring: &Ring| {
            let mut slices = Vec::with_capacity(count.min(PREALLOCATED_MAX));
            for pair in array(pairs, count, "pairs")? {
                let key = bytes(pair.key.data, pair.key.len, "a key")?;
                slices.push((key, bytes(pair.value.data, pair.value.len, "a value")?));
            }
            ring.put_many(&slices, &write_options(options)?)
        };
        many(ring, count, out_statuses, call, |_, ()| Ok(()))
    }
}

/// The values of `count` keys, pipelined: much faster than one at a time.
///
/// `out_values` has room for `count`; each is written, with an empty `RINGKV_BUF_INIT` where
/// there is no value. Release each with `ringkv_buf_free`, which is harmless for the empty
/// ones. `out_statuses` (NULL, or room for `count`) tells for each key `RINGKV_OK`,
/// `RINGKV_NOT_FOUND` or what failed. The status returned is the first failure among them; that
/// a key is not there is none. Otherwise as `ringkv_get`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_get_many(
    ring: *mut ringkv_t,
    keys: *const ringkv_bytes,
    count: usize,
    options: *const ringkv_read_options,
    out_values: *mut ringkv_buf,
    out_statuses: *mut ringkv_status,
) -> ringkv_status {
    // SAFETY: the caller vouches for the array, the bytes that it points at, the options, and
    // the room in `out_values` and `out_statuses`.
    unsafe {
        fill(out_values, count, EMPTY_BUF);
        let call = |ring: &Ring| {
            if count > 0 {
                required(out_values, "out_values")?;
            }
            ring.get_many(&key_slices(keys, count)?, &read_options(options)?)
        };
        let store = |at, value: Option<Vec<u8>>| {
            out_values.add(at).write(buf_from(value.ok_or_else(not_found)?));
            Ok(())
        };
        many(ring, count, out_statuses, call, store)
    }
}

/// Removes `count` keys, pipelined: much faster than one at a time, not atomic.
///
/// `out_statuses` (NULL, or room for `count`) tells for each key `RINGKV_OK`,
/// `RINGKV_NOT_FOUND` or what failed. The status returned is the first failure among them; that
/// a key is not there is none. Otherwise as `ringkv_delete`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_delete_many(
    ring: *mut ringkv_t,
    keys: *const ringkv_bytes,
    count: usize,
    options: *const ringkv_write_options,
    out_statuses: *mut ringkv_status,
) -> ringkv_status {
    // SAFETY: the caller vouches for the array, the bytes that it points at, the options, and
    // the room in `out_statuses`.
    unsafe {
        let call =
            |ring: &Ring| ring.delete_many(&key_slices(keys, count)?, &write_options(options)?);
        let was_there = |_, there: bool| there.then_some(()).ok_or_else(not_found);
        many(ring, count, out_statuses, call, was_there)
    }
}

/// Space for more items than this is made while they are read, so that an absurd count fails on
/// its array and not on its size.
const PREALLOCATED_MAX: usize = 4096;

/// Runs `call`, hands each of its results to `item`, and reports what became of each.
///
/// # Safety
///
/// `out_statuses` is NULL or has room for `count`.
unsafe fn many<T>(
    ring: *mut ringkv_t,
    count: usize,
    out_statuses: *mut ringkv_status,
    call: impl FnOnce(&Ring) -> Result<Vec<Result<T>>>,
    mut item: impl FnMut(usize, T) -> Result<()>,
) -> ringkv_status {
    let mut reported = 0;
    let status = with_ring(ring, |ring| {
        let mut first_failure = Ok(());
        for (at, result) in call(ring)?.into_iter().enumerate() {
            debug_assert!(at < count, "one result for each item");
            let result = result.and_then(|value| item(at, value));
            let status = result.as_ref().err().map_or(Status::Ok, |error| error.status());
            // SAFETY: `at` is below `count`.
            unsafe { fill_one(out_statuses, at, status.code()) };
            reported = at + 1;
            if first_failure.is_ok() && status != Status::NotFound {
                first_failure = result;
            }
        }
        first_failure
    });
    // The whole call failed, or ended early: what was not reported shares its status.
    if !out_statuses.is_null() && reported < count {
        // SAFETY: the items from `reported` to `count` are within the array.
        unsafe { fill(out_statuses.add(reported), count - reported, status) };
    }
    status
}

/// # Safety
///
/// `out` is NULL or has room for `count` items.
unsafe fn fill<T: Copy>(out: *mut T, count: usize, value: T) {
    let possible = count <= isize::MAX as usize / size_of::<T>() && out.is_aligned();
    for at in (0..count).take_while(|_| possible) {
        // SAFETY: the caller's contract.
        unsafe { fill_one(out, at, value) };
    }
}

/// # Safety
///
/// `out` is NULL or has room for more than `at` items.
unsafe fn fill_one<T>(out: *mut T, at: usize, value: T) {
    if !out.is_null() {
        // SAFETY: the caller's contract.
        unsafe { out.add(at).write(value) };
    }
}

/// # Safety
///
/// `keys` is NULL or points at `count` keys, which stay readable for `'a`.
unsafe fn key_slices<'a>(keys: *const ringkv_bytes, count: usize) -> Result<Vec<&'a [u8]>> {
    let mut slices = Vec::with_capacity(count.min(PREALLOCATED_MAX));
    // SAFETY: the caller's contract.
    unsafe {
        for key in array(keys, count, "keys")? {
            slices.push(bytes(key.data, key.len, "a key")?);
        }
    }
    Ok(slices)
}
