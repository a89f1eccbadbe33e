//! One key at a time.

use std::ffi::c_void;

use super::convert::{buf_from, buf_into_vec, bytes, options, timeout};
use super::guard::{invalid, quietly, required, with_ring};
use super::status::ringkv_status;
use super::types::*;
use crate::base::{Error, Result, Status};
use crate::node::{Lookup, ReadOptions, WriteOptions};
use std::time::Duration;

/// Stores `value` under `key`, replacing what was there.
///
/// Everything is borrowed for the call; NULL options stand for the defaults. Any thread, side
/// by side. Blocks until every in-sync copy has the value, up to the deadline. After
/// `RINGKV_TIMEOUT` and `RINGKV_CONNECTION_LOST` the value may or may not be stored, or may yet
/// be (see `ringkv_status_maybe_applied`); after every other failure it is not.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_KEY_TOO_LARGE`, `RINGKV_VALUE_TOO_LARGE`, `RINGKV_EXISTS`
/// (with `RINGKV_WRITE_IF_ABSENT`), `RINGKV_OUT_OF_MEMORY`, `RINGKV_NOT_ENOUGH_REPLICAS`,
/// `RINGKV_UNAVAILABLE`, `RINGKV_BUSY`, `RINGKV_DATA_LOST`, `RINGKV_TIMEOUT`,
/// `RINGKV_CONNECTION_LOST`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_put(
    ring: *mut ringkv_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const ringkv_write_options,
) -> ringkv_status {
    with_ring(ring, |ring| {
        // SAFETY: the caller vouches for the bytes and the options.
        let (key, value, options) = unsafe {
            (
                bytes(key, key_len, "key")?,
                bytes(value, value_len, "value")?,
                write_options(options)?,
            )
        };
        ring.put(key, value, &options)
    })
}

/// The value of `key`, in memory of its own.
///
/// Everything passed in is borrowed for the call; NULL options stand for the defaults. On
/// success `*out_value` is yours: release it with `ringkv_buf_free`. It is overwritten without
/// being looked at, so release what it held before. Any thread, side by side. Blocks up to the
/// deadline, and not at all when this node holds the key.
///
/// `RINGKV_NOT_FOUND`, `RINGKV_INVALID_ARGUMENT`, `RINGKV_KEY_TOO_LARGE`, `RINGKV_UNAVAILABLE`,
/// `RINGKV_BUSY`, `RINGKV_DATA_LOST`, `RINGKV_TIMEOUT`, `RINGKV_CONNECTION_LOST`,
/// `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_get(
    ring: *mut ringkv_t,
    key: *const c_void,
    key_len: usize,
    options: *const ringkv_read_options,
    out_value: *mut ringkv_buf,
) -> ringkv_status {
    with_ring(ring, |ring| {
        required(out_value, "out_value")?;
        // SAFETY: the caller vouches for the bytes and the options.
        let (key, options) = unsafe { (bytes(key, key_len, "key")?, read_options(options)?) };
        let value = ring.get_with(key, &options, copy_with_room_for_nul)?.ok_or_else(not_found)?;
        // SAFETY: `out_value` was checked above.
        unsafe { out_value.write(buf_from(value)) };
        Ok(())
    })
}

/// The value of `key`, written to `buf`, which has room for `cap` bytes. `*out_len` becomes the
/// length of the value, also with `RINGKV_BUFFER_TOO_SMALL`: then nothing is written to `buf`.
/// No NUL is added. `buf` may be NULL if `cap` is 0. Otherwise as `ringkv_get`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_get_into(
    ring: *mut ringkv_t,
    key: *const c_void,
    key_len: usize,
    options: *const ringkv_read_options,
    buf: *mut c_void,
    cap: usize,
    out_len: *mut usize,
) -> ringkv_status {
    with_ring(ring, |ring| {
        required(out_len, "out_len")?;
        if buf.is_null() && cap > 0 {
            return Err(invalid(format!("buf is NULL, but cap is {cap}")));
        }
        // SAFETY: the caller vouches for the bytes and the options.
        let (key, options) = unsafe { (bytes(key, key_len, "key")?, read_options(options)?) };
        let copy = |value: &[u8]| {
            if value.len() <= cap && !value.is_empty() {
                // SAFETY: `buf` has room for `cap` bytes, and is not ours, so it does not
                // overlap.
                unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), buf.cast(), value.len()) };
            }
            value.len()
        };
        let len = ring.get_with(key, &options, copy)?.ok_or_else(not_found)?;
        // SAFETY: `out_len` was checked above.
        unsafe { out_len.write(len) };
        match len <= cap {
            true => Ok(()),
            false => Err(Error::new(Status::BufferTooSmall, format!("{len} bytes are needed"))),
        }
    })
}

/// Removes `key`. `RINGKV_OK` if it was there, `RINGKV_NOT_FOUND` if not.
///
/// Otherwise as `ringkv_put`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_delete(
    ring: *mut ringkv_t,
    key: *const c_void,
    key_len: usize,
    options: *const ringkv_write_options,
) -> ringkv_status {
    with_ring(ring, |ring| {
        // SAFETY: the caller vouches for the bytes and the options.
        let (key, options) = unsafe { (bytes(key, key_len, "key")?, write_options(options)?) };
        ring.delete(key, &options)?.then_some(()).ok_or_else(not_found)
    })
}

/// Stores `value` under `key` if the key has the `expected` value; if `expected` is NULL, if the
/// key is absent (an empty value is expected by a pointer that is not NULL and length 0).
/// `RINGKV_MISMATCH` if the key has another value, or one at all: then nothing was changed.
///
/// A call that ringkv has to try again takes effect once. `RINGKV_WRITE_IF_ABSENT` has no meaning
/// here. Otherwise as `ringkv_put`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_cas(
    ring: *mut ringkv_t,
    key: *const c_void,
    key_len: usize,
    expected: *const c_void,
    expected_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const ringkv_write_options,
) -> ringkv_status {
    with_ring(ring, |ring| {
        // SAFETY: the caller vouches for the bytes and the options.
        let (key, expectation, value, options) = unsafe {
            (
                bytes(key, key_len, "key")?,
                bytes(expected, expected_len, "expected")?,
                bytes(value, value_len, "value")?,
                write_options(options)?,
            )
        };
        let expectation = (!expected.is_null()).then_some(expectation);
        let swapped = ring.cas(key, expectation, value, &options)?;
        swapped.then_some(()).ok_or_else(|| Status::Mismatch.into())
    })
}

/// Adds `delta` to the value of `key`, which must be a whole number as decimal text, in the range
/// of `int64_t`; an absent key counts as 0. `*out_sum`, which may be NULL, becomes the sum.
///
/// A call that ringkv has to try again counts once. A time to live in the options is that of a key
/// that was absent; one that was there keeps its own. `RINGKV_NOT_A_NUMBER`, `RINGKV_OVERFLOW`, and
/// otherwise as `ringkv_put`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_incr(
    ring: *mut ringkv_t,
    key: *const c_void,
    key_len: usize,
    delta: i64,
    options: *const ringkv_write_options,
    out_sum: *mut i64,
) -> ringkv_status {
    with_ring(ring, |ring| {
        // SAFETY: the caller vouches for the bytes and the options.
        let (key, options) = unsafe { (bytes(key, key_len, "key")?, write_options(options)?) };
        if !out_sum.is_null() {
            required(out_sum, "out_sum")?;
        }
        let sum = ring.incr(key, delta, &options)?;
        if !out_sum.is_null() {
            // SAFETY: not NULL and aligned, and the caller vouches for the rest.
            unsafe { out_sum.write(sum) };
        }
        Ok(())
    })
}

/// Releases the bytes and makes `*buf` empty. NULL and an empty one are fine. Any thread, never
/// blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_buf_free(buf: *mut ringkv_buf) {
    quietly(|| {
        if !buf.is_null() && buf.is_aligned() {
            // SAFETY: the caller vouches that it is empty or came from a call of ours.
            drop(unsafe { buf_into_vec(buf.replace(EMPTY_BUF)) });
        }
    });
}

/// A buffer that holds nothing: `RINGKV_BUF_INIT`.
pub(super) const EMPTY_BUF: ringkv_buf =
    ringkv_buf { data: std::ptr::null_mut(), len: 0, owner: std::ptr::null_mut() };

/// # Safety
///
/// `pointer` is NULL or points at a struct of the size that it names.
pub(super) unsafe fn read_options(pointer: *const ringkv_read_options) -> Result<ReadOptions> {
    // SAFETY: the caller's contract.
    let given = unsafe { options(pointer) }?;
    let lookup = match given.lookup {
        RINGKV_LOOKUP_DIRECT => Lookup::Direct,
        RINGKV_LOOKUP_ITERATIVE => Lookup::Iterative,
        RINGKV_LOOKUP_RECURSIVE => Lookup::Recursive,
        RINGKV_LOOKUP_LOCAL => Lookup::Local,
        other => return Err(invalid(format!("there is no lookup number {other}"))),
    };
    Ok(ReadOptions { timeout: timeout(given.timeout_ms), lookup })
}

/// # Safety
///
/// `pointer` is NULL or points at a struct of the size that it names.
pub(super) unsafe fn write_options(pointer: *const ringkv_write_options) -> Result<WriteOptions> {
    // SAFETY: the caller's contract.
    let given = unsafe { options(pointer) }?;
    Ok(WriteOptions {
        timeout: timeout(given.timeout_ms),
        ttl: (given.ttl_ms > 0).then(|| Duration::from_millis(given.ttl_ms)),
        if_absent: given.flags & RINGKV_WRITE_IF_ABSENT != 0,
    })
}

pub(super) fn not_found() -> Error {
    Error::new(Status::NotFound, "no such key")
}

/// A copy whose vector has room for the NUL that `buf_from` pushes: one allocation, not two.
fn copy_with_room_for_nul(value: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(value.len() + 1);
    copy.extend_from_slice(value);
    copy
}
