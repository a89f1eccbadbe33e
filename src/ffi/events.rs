//! Being told what happens to a ring.

use std::ffi::{CString, c_char};
use std::ptr::without_provenance_mut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::convert::options;
use super::guard::{guard, invalid, quietly, required, take_handle, with_ring};
use super::status::ringkv_status;
use super::table::Table;
use super::types::*;
use crate::base::{Error, Result, Status};
use crate::node::{Event, EventKind, Events};

/// How long a call waits without looking whether its handle was closed.
const SLICE: Duration = Duration::from_millis(100);

/// A subscription, and what the texts of the last event point at.
struct Feed {
    events: Events,
    texts: [CString; 3],
}

static FEEDS: Table<Arc<Mutex<Feed>>> = Table::new(3, "events handle");

/// Starts to collect what happens to the ring from now on: members that come, go and die,
/// partitions that move, are lost or recover. A node tells at once what it hears; a client looks
/// five times a second, while you wait in `ringkv_events_next`. What happens in swarms (4,096
/// primaries that move) is one event with a count. At most 1,024 events are kept for you; what does
/// not fit is counted by `RINGKV_EVENT_LAGGED`.
///
/// `options` is borrowed for the call; NULL stands for the defaults. On success `*out_events` is
/// yours: end it with `ringkv_events_close`. Any thread. Does not block.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED`, `RINGKV_BUSY` (too many are open),
/// `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_events_open(
    ring: *mut ringkv_t,
    options: *const ringkv_events_options,
    out_events: *mut *mut ringkv_events_t,
) -> ringkv_status {
    with_ring(ring, |ring| {
        required(out_events, "out_events")?;
        // SAFETY: NULL or a struct of the size it names, by the header's contract.
        unsafe { self::options(options) }?;
        let feed = Feed { events: ring.events()?, texts: Default::default() };
        let handle = FEEDS.insert(Arc::new(Mutex::new(feed)))?;
        // SAFETY: `out_events` was checked above.
        unsafe { out_events.write(without_provenance_mut(handle)) };
        Ok(())
    })
}

/// The next event; `RINGKV_TIMEOUT` if nothing happens for `timeout_ms`. With 0 it does not wait,
/// with `UINT32_MAX` for ever.
///
/// `*out_event` has to begin with its size (`RINGKV_EVENT_INIT`); its texts are views, valid until
/// the next call on these events. One thread at a time for each handle; two at once get
/// `RINGKV_BUSY`.
///
/// `RINGKV_TIMEOUT`, `RINGKV_INVALID_ARGUMENT`, `RINGKV_BUSY`, `RINGKV_CLOSED` (also when the ring
/// handle is closed), `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_events_next(
    events: *mut ringkv_events_t,
    out_event: *mut ringkv_event,
    timeout_ms: u32,
) -> ringkv_status {
    let status = guard(|| {
        required(out_event, "out_event")?;
        // SAFETY: `out_event` was checked above, and begins with its size.
        let size = unsafe { out_event.cast::<u32>().read() };
        if !(8..=4096).contains(&size) || size % 8 != 0 {
            return Err(invalid("ringkv_event.size: use RINGKV_EVENT_INIT"));
        }
        let feed = FEEDS.lookup(events.addr())?;
        let mut feed = feed.try_lock().ok_or_else(in_use)?;
        let event = wait(&mut feed.events, events.addr(), timeout_ms)?;
        let seen = feed.show(&event, size);
        let known = (size as usize).min(size_of::<ringkv_event>());
        // SAFETY: the caller vouches for `size` bytes at `out_event`, which is not ours.
        unsafe {
            std::ptr::copy_nonoverlapping((&raw const seen).cast::<u8>(), out_event.cast(), known);
        }
        Ok(())
    });
    if status == Status::Panic.code() {
        FEEDS.poison(events.addr());
    }
    status
}

/// Ends it and sets `*events` to NULL. NULL, a pointer to NULL, and one that is closed already are
/// fine. A thread that waits in `ringkv_events_next` gets `RINGKV_CLOSED`. Any thread, never
/// blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_events_close(events: *mut *mut ringkv_events_t) {
    // SAFETY: NULL, or the caller vouches that it points at a handle.
    quietly(|| drop(FEEDS.remove(unsafe { take_handle(events) })));
}

fn wait(events: &mut Events, handle: usize, timeout_ms: u32) -> Result<Event> {
    let patience = Duration::from_millis(timeout_ms.into());
    let began = Instant::now();
    loop {
        let left = match timeout_ms {
            u32::MAX => SLICE,
            _ => patience.saturating_sub(began.elapsed()).min(SLICE),
        };
        if let Some(event) = events.next(left)? {
            return Ok(event);
        }
        FEEDS.lookup(handle)?;
        if timeout_ms != u32::MAX && began.elapsed() >= patience {
            return Err(Error::new(Status::Timeout, "nothing has happened"));
        }
    }
}

impl Feed {
    /// The event for C; its texts live here until the next one.
    fn show(&mut self, event: &Event, size: u32) -> ringkv_event {
        let node = event.member.as_ref();
        let name = node.map_or("", |node| node.name.as_str());
        let address = node.map_or("", |node| node.addr.as_str());
        // A name has no NUL, or is shown without: only its own node could have told it so.
        let owned = |text: &str| CString::new(text.replace('\0', "")).unwrap_or_default();
        self.texts = [owned(name), owned(address), owned(&event.text())];
        let [name, address, text] =
            self.texts.each_ref().map(|text| text.as_ptr() as *const c_char);
        ringkv_event {
            size,
            kind: number(event.kind),
            time_ms: event.time_ms,
            member: ringkv_node_ref { id: node.map_or(0, |node| node.mid.0), name, address },
            partitions: event.partitions,
            done: event.done,
            total: event.total,
            text,
        }
    }
}

/// Kinds are numbered from 1 on in the order in which the library lists them.
fn number(kind: EventKind) -> i32 {
    let at = EventKind::ALL.iter().position(|(known, _)| *known == kind);
    at.map_or(0, |at| at as i32 + 1)
}

fn in_use() -> Error {
    Error::new(Status::Busy, "another thread waits for these events")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_header_are_in_the_order_of_the_library() {
        let header = [
            ("joined", RINGKV_EVENT_JOINED),
            ("leaving", RINGKV_EVENT_LEAVING),
            ("left", RINGKV_EVENT_LEFT),
            ("up", RINGKV_EVENT_UP),
            ("suspect", RINGKV_EVENT_SUSPECT),
            ("down", RINGKV_EVENT_DOWN),
            ("away", RINGKV_EVENT_AWAY),
            ("primaries_moved", RINGKV_EVENT_PRIMARIES_MOVED),
            ("under_replicated", RINGKV_EVENT_UNDER_REPLICATED),
            ("recovered", RINGKV_EVENT_RECOVERED),
            ("stalled", RINGKV_EVENT_STALLED),
            ("lost", RINGKV_EVENT_LOST),
            ("reset", RINGKV_EVENT_RESET),
            ("leader", RINGKV_EVENT_LEADER),
            ("voters", RINGKV_EVENT_VOTERS),
            ("moving", RINGKV_EVENT_MOVING),
            ("settled", RINGKV_EVENT_SETTLED),
            ("lagged", RINGKV_EVENT_LAGGED),
        ];
        let library = EventKind::ALL.map(|(kind, name)| (name, number(kind)));
        assert_eq!(header, library);
    }
}
