//! The write half of a connection, usable from any thread.
//!
//! Many threads push bytes; whoever flushes writes them all with one `send`. Pushing takes a lock
//! for the time of a copy and never waits for the kernel: the buffer under way is taken out of the
//! lock, and what arrives meanwhile is written by the thread that is writing already. When the
//! socket takes no more, the rest waits for the event loop, which is told when there is room again.
//!
//! The race to get right is between a thread that just learned that the socket is full and the
//! loop that just learned that it is not. The loop counts an edge and then reads `blocked`; the
//! thread sets `blocked` and then reads the count of edges. One of the two sees the other, and
//! flushes.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::frames::{FRAME_HEADER_BYTES, FrameTooLarge};
use super::socket::Socket;
use super::wake::{Notice, Shared};
use crate::base::limits;

/// One connection of this process, for as long as the process lives. It keeps its number when it
/// moves to another event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it in good order.
    Eof,
    /// It broke: a reset, or another error of the network.
    Reset(io::ErrorKind),
    /// The peer announced a frame longer than the connection's limit.
    FrameTooLarge(FrameTooLarge),
    /// The peer does not read: more bytes wait for it than the connection's limit allows.
    BufferFull,
    /// We closed it, for this reason.
    Local(Cow<'static, str>),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Eof => f.write_str("closed by the peer"),
            CloseReason::Reset(kind) => write!(f, "{kind}"),
            CloseReason::FrameTooLarge(FrameTooLarge { claimed, allowed }) => {
                write!(f, "a frame of {claimed} bytes, where {allowed} are allowed")
            }
            CloseReason::BufferFull => f.write_str("the peer does not read what is sent to it"),
            CloseReason::Local(why) => f.write_str(why),
        }
    }
}

/// The bounds of one connection's outgoing buffer, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// Above this the connection is closed with [`CloseReason::BufferFull`].
    pub buffer_max: usize,
    /// Above this [`Link::is_over_high`] is true ...
    pub high: usize,
    /// ... until at most this much is left.
    pub low: usize,
    /// What the emptied buffer may keep allocated: as much as one flush usually sends.
    pub retained: usize,
}

impl Default for LinkLimits {
    /// What fits a client.
    fn default() -> Self {
        Self {
            buffer_max: limits::PEER_BUFFER_BYTES_MAX,
            high: limits::CLIENT_BUFFER_BYTES_HIGH,
            low: limits::CLIENT_BUFFER_BYTES_HIGH / 4,
            retained: 64 * 1024,
        }
    }
}

/// The write half of one connection. All methods may be called from any thread.
///
/// Invariants:
/// - bytes go out in the order of the pushes: `sending` before `filling`;
/// - at most one thread is between `start_flush` and its end, marked by `flushing`;
/// - `pending` changes only under the lock and counts every byte that was pushed and not sent;
/// - whoever makes `over_high` false, or closes from outside of the loop, leaves a notice.
pub struct Link {
    id: ConnId,
    limits: LinkLimits,
    tag: AtomicU64,
    pending: AtomicUsize,
    over_high: AtomicBool,
    closed: AtomicBool,
    blocked: AtomicBool,
    edges: AtomicU64,
    queued: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Gone when the link is closed, so that the descriptor does not live as long as the link.
    socket: Option<Arc<Socket>>,
    filling: Vec<u8>,
    sending: Batch,
    flushing: bool,
    finish: Option<CloseReason>,
    reason: Option<CloseReason>,
    home: Option<Arc<Shared>>,
    /// The low mark was passed while there was nobody to tell.
    drained_unheard: bool,
}

/// Bytes under way, how many of them were sent, and how many of those `pending` knows of.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    sent: usize,
    accounted: usize,
}

enum Sent {
    All,
    Blocked,
    Broken(io::ErrorKind),
}

impl Link {
    /// A link that tells `home`, if there is one, what its reader has to know.
    pub(super) fn new(
        id: ConnId,
        socket: Arc<Socket>,
        mut limits: LinkLimits,
        home: Option<Arc<Shared>>,
    ) -> Arc<Self> {
        // A frame's length is a u32: what does not fit into it does not fit into the buffer.
        limits.buffer_max = limits.buffer_max.min(u32::MAX as usize);
        Arc::new(Self {
            id,
            limits,
            tag: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            over_high: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            edges: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            state: Mutex::new(State {
                socket: Some(socket),
                filling: Vec::new(),
                sending: Batch::default(),
                flushing: false,
                finish: None,
                reason: None,
                home,
                drained_unheard: false,
            }),
        })
    }

    /// The connection's number.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// A number that the owner may keep here, for instance an index into its own table; 0 at first.
    pub fn tag(&self) -> u64 {
        self.tag.load(Ordering::Relaxed)
    }

    /// Sets the number that [`Link::tag`] returns.
    pub fn set_tag(&self, tag: u64) {
        self.tag.store(tag, Ordering::Relaxed);
    }

    /// Bytes that were pushed and not yet taken by the kernel.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Whether the peer reads too slowly: true from the push that passed the high mark until the
    /// buffer has fallen to the low mark, which the loop's handler is then told.
    pub fn is_over_high(&self) -> bool {
        self.over_high.load(Ordering::SeqCst)
    }

    /// Whether the connection is closed. Pushes fail from then on.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Appends bytes, to be sent by the next flush of any thread. `append` may only append. Returns
    /// the bytes that wait now; fails if the connection is closed, or by this push.
    pub fn push(&self, append: impl FnOnce(&mut Vec<u8>)) -> Result<usize, CloseReason> {
        let mut state = self.state.lock();
        if let Some(reason) = state.reason.as_ref().or(state.finish.as_ref()) {
            return Err(reason.clone());
        }
        let before = state.filling.len();
        append(&mut state.filling);
        debug_assert!(state.filling.len() >= before, "a push may only append");
        let added = state.filling.len().saturating_sub(before);
        let pending = self.pending.load(Ordering::Relaxed) + added;
        self.pending.store(pending, Ordering::Relaxed);
        if pending > self.limits.buffer_max {
            self.close_locked(&mut state, CloseReason::BufferFull);
            return Err(CloseReason::BufferFull);
        }
        if pending > self.limits.high {
            self.over_high.store(true, Ordering::SeqCst);
        }
        Ok(pending)
    }

    /// Appends one frame: the length is written here, `append` writes what follows it.
    pub fn push_frame(&self, append: impl FnOnce(&mut Vec<u8>)) -> Result<usize, CloseReason> {
        self.push(|buffer| append_frame(buffer, append))
    }

    /// Sends what the kernel takes, from the calling thread, without waiting. If another thread is
    /// sending already, it will send this too. What remains is sent by the event loop.
    pub fn flush(&self) {
        if self.pending() == 0 || self.blocked.load(Ordering::SeqCst) {
            return;
        }
        let Some((socket, mut batch)) = self.start_flush() else { return };
        loop {
            let edges = self.edges.load(Ordering::SeqCst);
            let more = match batch.send(&socket) {
                Sent::All => self.next_batch(&mut batch),
                Sent::Blocked => self.retry_blocked(&mut batch, edges),
                Sent::Broken(kind) => {
                    self.close(CloseReason::Reset(kind));
                    false
                }
            };
            if !more {
                return;
            }
        }
    }

    /// Closes the connection now. Bytes that were not sent are dropped. The loop's handler is told
    /// in its next turn. Closing again changes nothing, the first reason stays.
    pub fn close(&self, reason: CloseReason) {
        self.close_locked(&mut self.state.lock(), reason);
    }

    /// Closes the connection as soon as everything that was pushed until now is sent. Flushes.
    pub fn close_after_flush(&self, reason: CloseReason) {
        {
            let mut state = self.state.lock();
            if self.pending() == 0 {
                self.close_locked(&mut state, reason);
                return;
            }
            state.finish.get_or_insert(reason);
        }
        self.flush();
    }

    /// The reason for which the connection is closed, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.state.lock().reason.clone()
    }

    /// For the reader of this connection: the socket can take bytes again.
    pub(super) fn writable(&self) {
        self.edges.fetch_add(1, Ordering::SeqCst);
        if self.blocked.swap(false, Ordering::SeqCst) {
            self.flush();
        }
    }

    /// The socket, while the link is open.
    pub(super) fn socket(&self) -> Option<Arc<Socket>> {
        self.state.lock().socket.clone()
    }

    /// Whether bytes wait for the socket to take them.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst)
    }

    /// Who is to be told of events from now on. What happened before is told to it as well.
    pub(super) fn set_home(&self, home: Option<Arc<Shared>>) {
        let mut state = self.state.lock();
        if let Some(home) = &home {
            if state.reason.is_some() {
                home.notify(Notice::Closed(self.id));
            } else if std::mem::take(&mut state.drained_unheard) {
                home.notify(Notice::Drained(self.id));
            }
        }
        state.home = home;
    }

    /// Marks the link as waiting in a list of links to flush; true if it was not marked.
    pub(super) fn mark_queued(&self) -> bool {
        !self.queued.swap(true, Ordering::SeqCst)
    }

    /// Takes the mark away. To be called before the flush, so that a later push is not missed.
    pub(super) fn unmark_queued(&self) {
        self.queued.store(false, Ordering::SeqCst);
    }

    fn start_flush(&self) -> Option<(Arc<Socket>, Batch)> {
        let mut state = self.state.lock();
        if state.flushing || self.is_blocked() {
            return None;
        }
        let socket = Arc::clone(state.socket.as_ref()?);
        let mut batch = std::mem::take(&mut state.sending);
        if batch.is_sent() {
            batch.reset(self.limits.retained);
            std::mem::swap(&mut batch.bytes, &mut state.filling);
        }
        state.flushing = true;
        Some((socket, batch))
    }

    /// After a batch is sent: true with the next one, false if there is none and the flush ends.
    fn next_batch(&self, batch: &mut Batch) -> bool {
        let mut state = self.state.lock();
        if state.reason.is_some() {
            return false;
        }
        self.account(&mut state, batch.take_progress());
        batch.reset(self.limits.retained);
        if !state.filling.is_empty() {
            std::mem::swap(&mut batch.bytes, &mut state.filling);
            return true;
        }
        state.sending = std::mem::take(batch);
        state.flushing = false;
        if let Some(reason) = state.finish.take() {
            self.close_locked(&mut state, reason);
        }
        false
    }

    /// After the socket took no more: true if it may take more by now, false if the rest is left
    /// to the next writable edge and the flush ends.
    fn retry_blocked(&self, batch: &mut Batch, edges: u64) -> bool {
        let mut state = self.state.lock();
        if state.reason.is_some() {
            return false;
        }
        self.account(&mut state, batch.take_progress());
        self.blocked.store(true, Ordering::SeqCst);
        if self.edges.load(Ordering::SeqCst) != edges {
            self.blocked.store(false, Ordering::SeqCst);
            return true;
        }
        state.sending = std::mem::take(batch);
        state.flushing = false;
        false
    }

    /// Takes sent bytes off `pending`, and leaves a notice if that crosses the low mark.
    fn account(&self, state: &mut State, sent: usize) {
        let before = self.pending.load(Ordering::Relaxed);
        debug_assert!(sent <= before, "more was sent than pushed");
        let pending = before.saturating_sub(sent);
        self.pending.store(pending, Ordering::Relaxed);
        if pending <= self.limits.low && self.over_high.swap(false, Ordering::SeqCst) {
            match &state.home {
                Some(home) => home.notify(Notice::Drained(self.id)),
                None => state.drained_unheard = true,
            }
        }
    }

    fn close_locked(&self, state: &mut State, reason: CloseReason) {
        if state.reason.is_some() {
            return;
        }
        // Who wanted to close it when it is flushed came first.
        state.reason = Some(state.finish.take().unwrap_or(reason));
        state.filling = Vec::new();
        state.sending = Batch::default();
        self.pending.store(0, Ordering::Relaxed);
        self.over_high.store(false, Ordering::SeqCst);
        self.closed.store(true, Ordering::Release);
        if let Some(socket) = state.socket.take() {
            socket.shut_down();
        }
        if let Some(home) = &state.home {
            home.notify(Notice::Closed(self.id));
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pending, closed) = (self.pending(), self.is_closed());
        write!(f, "Link({}, {pending} bytes pending, closed: {closed})", self.id.0)
    }
}

impl Batch {
    fn send(&mut self, socket: &Socket) -> Sent {
        while !self.is_sent() {
            match socket.send(&self.bytes[self.sent..]) {
                Ok(0) => return Sent::Broken(io::ErrorKind::WriteZero),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
                Err(error) => return Sent::Broken(error.kind()),
            }
        }
        Sent::All
    }

    fn is_sent(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn take_progress(&mut self) -> usize {
        let progress = self.sent - self.accounted;
        self.accounted = self.sent;
        progress
    }

    fn reset(&mut self, retained: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(retained);
        (self.sent, self.accounted) = (0, 0);
    }
}

/// Appends a frame to `buffer`: a length, and what `append` appends.
pub(super) fn append_frame(buffer: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let payload = buffer.len();
    append(buffer);
    // A longer frame passes the bound of every buffer, so its connection is closed anyway.
    let length = u32::try_from(buffer.len().saturating_sub(payload)).unwrap_or(u32::MAX);
    if let Some(header) = buffer.get_mut(start..payload) {
        header.copy_from_slice(&length.to_le_bytes());
    }
}
