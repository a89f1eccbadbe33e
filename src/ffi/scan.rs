//! Walking over all keys.

use std::ptr::without_provenance_mut;
use std::sync::Arc;

use parking_lot::Mutex;

use super::convert::{bytes, options, timeout, view};
use super::guard::{guard, invalid, quietly, required, take_handle, with_ring};
use super::status::ringkv_status;
use super::table::Table;
use super::types::*;
use crate::base::{Error, Result, Status};
use crate::node::{Pair, Scan, ScanOptions};

/// A walk and the page of it that views point into.
struct Walk {
    scan: Scan,
    page: std::vec::IntoIter<Pair>,
    shown: Pair,
}

static SCANS: Table<Arc<Mutex<Walk>>> = Table::new(2, "scan handle");

/// Starts a walk over the ring. Every key that is there during the whole walk is seen at least
/// once; a key that is written meanwhile may be seen or not, and rarely twice. There is no
/// order.
///
/// `options` and the prefix in it are borrowed for the call; NULL stands for the defaults. On
/// success `*out_scan` is yours: end it with `ringkv_scan_close`. Any thread. Does not block.
///
/// `RINGKV_KEY_TOO_LARGE` for a prefix of more than 4 KiB, `RINGKV_INVALID_ARGUMENT`,
/// `RINGKV_UNSUPPORTED`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_scan_open(
    ring: *mut ringkv_t,
    options: *const ringkv_scan_options,
    out_scan: *mut *mut ringkv_scan_t,
) -> ringkv_status {
    with_ring(ring, |ring| {
        required(out_scan, "out_scan")?;
        // SAFETY: the caller vouches for the options and the prefix in them.
        let scan = ring.scan(unsafe { scan_options(options) }?)?;
        let walk = Walk { scan, page: Vec::new().into_iter(), shown: Pair::default() };
        let handle = SCANS.insert(Arc::new(Mutex::new(walk)))?;
        // SAFETY: `out_scan` was checked above.
        unsafe { out_scan.write(without_provenance_mut(handle)) };
        Ok(())
    })
}

/// The next key and its value; `RINGKV_NOT_FOUND` at the end, as often as you ask.
///
/// `*out_key` and `*out_value` are views: they are valid until the next call on this scan, also
/// `ringkv_scan_close`. `out_value` may be NULL. After another failure the same item may be
/// asked for again. One thread at a time for each scan; two at once get `RINGKV_BUSY`. Blocks
/// up to the deadline, for one item in some hundreds.
///
/// `RINGKV_NOT_FOUND`, `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNAVAILABLE`, `RINGKV_BUSY`,
/// `RINGKV_DATA_LOST`, `RINGKV_TIMEOUT`, `RINGKV_CLOSED` (also when the ring handle is closed),
/// `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_scan_next(
    scan: *mut ringkv_scan_t,
    out_key: *mut ringkv_bytes,
    out_value: *mut ringkv_bytes,
) -> ringkv_status {
    let status = guard(|| {
        required(out_key, "out_key")?;
        let walk = SCANS.lookup(scan.addr())?;
        let mut walk = walk.try_lock().ok_or_else(in_use)?;
        let (key, value) = walk.step()?;
        // SAFETY: `out_key` was checked above; `out_value` is NULL or can be written.
        unsafe {
            out_key.write(view(key));
            if !out_value.is_null() {
                out_value.write(view(value));
            }
        }
        Ok(())
    });
    if status == Status::Panic.code() {
        SCANS.poison(scan.addr());
    }
    status
}

/// Ends a walk and sets `*scan` to NULL. NULL, a pointer to NULL, and a scan that is closed
/// already are fine. The scans of a ring handle must be closed too, before or after the handle.
/// Any thread, never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_scan_close(scan: *mut *mut ringkv_scan_t) {
    // SAFETY: NULL, or the caller vouches that it points at a handle.
    quietly(|| drop(SCANS.remove(unsafe { take_handle(scan) })));
}

impl Walk {
    fn step(&mut self) -> Result<(&[u8], &[u8])> {
        loop {
            if let Some(pair) = self.page.next() {
                self.shown = pair;
                return Ok((&self.shown.0, &self.shown.1));
            }
            let page = self.scan.next_page()?;
            let page =
                page.ok_or_else(|| Error::new(Status::NotFound, "the walk is at its end"))?;
            self.page = page.into_iter();
        }
    }
}

fn in_use() -> Error {
    Error::new(Status::Busy, "another thread is in a call on this scan")
}

/// # Safety
///
/// `pointer` is NULL or points at a struct of the size that it names; its prefix is readable.
unsafe fn scan_options(pointer: *const ringkv_scan_options) -> Result<ScanOptions> {
    // SAFETY: the caller's contract.
    let (given, prefix) = unsafe {
        let given = options(pointer)?;
        (given, bytes(given.prefix.data, given.prefix.len, "prefix")?)
    };
    if prefix.len() > crate::base::limits::KEY_BYTES_MAX {
        return Err(invalid("the prefix is longer than any key"));
    }
    Ok(ScanOptions {
        timeout: timeout(given.timeout_ms),
        prefix: prefix.to_vec(),
        keys_only: given.flags & RINGKV_SCAN_KEYS_ONLY != 0,
    })
}
