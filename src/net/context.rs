//! What a handler can do with its event loop: the loop's connections, listeners and dials.
//!
//! Nothing here calls the handler back. Whatever a call causes (a connection closed, a dial
//! failed) is reported by the loop later, so a handler never runs inside itself.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::addr::Address;
use super::dial::{self, Dial, DialId, Progress};
use super::frames::FrameBuffer;
use super::link::{CloseReason, ConnId, Link, LinkLimits};
use super::socket::{Listener, Socket};
use super::wake::{Shared, Waker};
use crate::base::{Nanos, Result, limits};

/// How long a connection that is to be closed may take to send what waits for its peer.
const LINGER: Duration = Duration::from_millis(1000);

/// Numbers of connections, listeners and dials: one sequence for the whole process, so that none
/// is mistaken for another. 0 is the waker of each loop.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// One listener of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u64);

/// The bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions {
    /// Longest frame that the peer may send, in bytes; see [`Context::set_frame_max`].
    pub frame_max: usize,
    /// Bounds of the outgoing buffer.
    pub limits: LinkLimits,
    /// Whether to stop reading while the outgoing buffer is above its high mark: who does not read
    /// answers shall not ask for more.
    pub pause_when_high: bool,
}

impl Default for ConnectionOptions {
    /// What fits a client that has not said hello yet.
    fn default() -> Self {
        Self {
            frame_max: limits::HELLO_FRAME_BYTES_MAX,
            limits: LinkLimits::default(),
            pause_when_high: true,
        }
    }
}

/// A connection between two event loops: with everything that was read and not handled, and
/// everything that was pushed and not sent. Dropping it closes the connection.
#[derive(Debug)]
pub struct Detached {
    // `None` only after `Context::attach` took it.
    connection: Option<Connection>,
}

impl Detached {
    /// The write half, which stays the same wherever the connection goes.
    pub fn link(&self) -> Option<&Arc<Link>> {
        self.connection.as_ref().map(|connection| &connection.link)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.link.close(CloseReason::Local("nobody took the connection over".into()));
        }
    }
}

/// The event loop as its handler sees it.
pub struct Context {
    pub(super) registry: Registry,
    pub(super) shared: Arc<Shared>,
    pub(super) now: Nanos,
    pub(super) stopped: bool,
    pub(super) connections: HashMap<ConnId, Connection>,
    pub(super) listeners: BTreeMap<ListenerId, ListenerState>,
    pub(super) dials: BTreeMap<DialId, Dial>,
    /// The connection whose frames are being handled at this moment.
    pub(super) dispatching: Option<ConnId>,
    /// Connections to read in the next turn. A number may stand here after its connection left.
    pub(super) ready: Vec<ConnId>,
    /// Dials that are over and not reported yet.
    pub(super) dialled: Vec<(DialId, Result<Socket>)>,
    /// Links to flush at the end of the turn.
    pub(super) unflushed: Vec<Arc<Link>>,
    /// Connections that end when their last bytes are sent, or at this time.
    pub(super) lingering: Vec<(Nanos, ConnId)>,
}

/// The read half of a connection.
///
/// Invariants:
/// - `readable` is false only after a read that left nothing, so the next edge is sure to come;
/// - `queued` says whether its number stands in `Context::ready`.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Arc<Socket>,
    pub(super) link: Arc<Link>,
    pub(super) buffer: FrameBuffer,
    pub(super) frame_max: usize,
    pub(super) pause_when_high: bool,
    pub(super) paused: bool,
    pub(super) paused_high: bool,
    pub(super) closing: bool,
    pub(super) readable: bool,
    pub(super) ended: bool,
    /// Why it is of no use to wait for anything from the peer any more.
    pub(super) gone: Option<CloseReason>,
    pub(super) queued: bool,
}

impl Connection {
    pub(super) fn may_read(&self) -> bool {
        !(self.paused || self.paused_high || self.closing || self.link.is_closed())
    }
}

pub(super) struct ListenerState {
    pub(super) listener: Listener,
    pub(super) ready: bool,
    /// After an error of the kind "out of descriptors": not before this time.
    pub(super) retry_at: Option<Nanos>,
}

impl Context {
    pub(super) fn new(registry: Registry, shared: Arc<Shared>, now: Nanos) -> Self {
        Self {
            registry,
            shared,
            now,
            stopped: false,
            connections: HashMap::new(),
            listeners: BTreeMap::new(),
            dials: BTreeMap::new(),
            dispatching: None,
            ready: Vec::new(),
            dialled: Vec::new(),
            unflushed: Vec::new(),
            lingering: Vec::new(),
        }
    }

    /// The time at which this turn of the loop began.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// What wakes this loop from other threads.
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.shared))
    }

    /// Ends `Reactor::run` after this turn.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Accepts connections from `listener` from now on.
    pub fn listen(&mut self, listener: Listener) -> Result<ListenerId> {
        let number = next_number();
        self.register(listener.as_raw_fd(), number, Interest::READABLE)?;
        let state = ListenerState { listener, ready: true, retry_at: None };
        self.listeners.insert(ListenerId(number), state);
        Ok(ListenerId(number))
    }

    /// Serves a connected socket in this loop.
    pub fn add(&mut self, socket: Socket, options: ConnectionOptions) -> Result<Arc<Link>> {
        let id = ConnId(next_number());
        let socket = Arc::new(socket);
        self.register(socket.as_raw_fd(), id.0, Interest::READABLE | Interest::WRITABLE)?;
        let home = Some(Arc::clone(&self.shared));
        let link = Link::new(id, Arc::clone(&socket), options.limits, home);
        let connection = Connection {
            socket,
            link: Arc::clone(&link),
            buffer: FrameBuffer::new(),
            frame_max: options.frame_max,
            pause_when_high: options.pause_when_high,
            paused: false,
            paused_high: false,
            closing: false,
            // Registering causes an edge if there is something to read.
            readable: false,
            ended: false,
            gone: None,
            queued: false,
        };
        self.connections.insert(id, connection);
        Ok(link)
    }

    /// Takes a connection out of this loop, to be served by another one. The handler hears no more
    /// of it here. `None` if it is not here, or if its frames are being handled at this moment: its
    /// `on_frame` returns `Flow::Detach` instead.
    pub fn detach(&mut self, id: ConnId) -> Option<Detached> {
        if self.dispatching == Some(id) {
            return None;
        }
        let connection = self.connections.remove(&id)?;
        connection.link.set_home(None);
        self.deregister(connection.socket.as_raw_fd());
        Some(Detached { connection: Some(connection) })
    }

    /// Serves a connection that another loop gave away. Its bounds stay as they are; if it was
    /// paused it is resumed. If it was closed meanwhile, `on_closed` follows.
    pub fn attach(&mut self, mut detached: Detached) -> Result<Arc<Link>> {
        let fd = detached.connection.as_ref().map(|connection| connection.socket.as_raw_fd());
        let id = detached.link().map(|link| link.id());
        if let (Some(fd), Some(id)) = (fd, id) {
            // Registering reports what is ready by now, so an edge that the other loop took is not
            // missed. On failure `detached` is dropped, which closes the connection.
            self.register(fd, id.0, Interest::READABLE | Interest::WRITABLE)?;
        }
        let mut connection = detached.connection.take().expect("only attach takes it, by value");
        connection.paused = false;
        connection.readable = true;
        connection.queued = false;
        let link = Arc::clone(&connection.link);
        self.connections.insert(link.id(), connection);
        link.set_home(Some(Arc::clone(&self.shared)));
        self.make_ready(link.id());
        Ok(link)
    }

    /// Connects to `address`; `on_connected` or `on_connect_failed` follows, exactly one of them,
    /// unless the dial is cancelled. Does not block: a host name is looked up on another thread.
    pub fn dial(&mut self, address: &Address, timeout: Duration) -> DialId {
        let id = DialId(next_number());
        let mut dial = Dial::new(address, self.now, timeout);
        match address.literal() {
            Some(endpoints) => {
                let progress = dial.resolved(Ok(endpoints), self.now);
                self.dials.insert(id, dial);
                self.dial_progress(id, progress);
            }
            None => {
                self.dials.insert(id, dial);
                dial::look_up(address.clone(), id, &self.shared);
            }
        }
        id
    }

    /// Forgets a dial; neither of its outcomes is reported.
    pub fn cancel_dial(&mut self, id: DialId) {
        if let Some(socket) = self.dials.remove(&id).as_ref().and_then(Dial::socket) {
            self.deregister(socket.as_raw_fd());
        }
        self.dialled.retain(|(dialled, _)| *dialled != id);
    }

    /// The write half of a connection of this loop.
    pub fn link(&self, id: ConnId) -> Option<&Arc<Link>> {
        self.connections.get(&id).map(|connection| &connection.link)
    }

    /// Connections of this loop.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// The write halves of all connections of this loop, in no particular order.
    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.connections.values().map(|connection| &connection.link)
    }

    /// Longest frame that the peer may send from the next frame on.
    pub fn set_frame_max(&mut self, id: ConnId, frame_max: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.frame_max = frame_max;
        }
    }

    /// Whether to stop reading while the outgoing buffer is above its high mark. Two peers that
    /// both did so could wait for each other for ever, so it is for clients only.
    pub fn set_pause_when_high(&mut self, id: ConnId, pause: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pause_when_high = pause;
            connection.paused_high &= pause;
        }
    }

    /// Stops reading a connection, at once: frames that were read already wait as well. While it is
    /// paused, the end of a TCP peer that just closes is not noticed; that it broke is.
    pub fn pause(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.paused = true;
            self.make_ready(id);
        }
    }

    /// Reads a connection again, from the next turn on.
    pub fn resume(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.paused = false;
            self.make_ready(id);
        }
    }

    /// Closes a connection now; `on_closed` follows.
    pub fn close(&mut self, id: ConnId, reason: CloseReason) {
        if let Some(connection) = self.connections.get(&id) {
            connection.link.close(reason);
        }
    }

    /// Closes a connection when what was pushed until now is sent, a second from now at the
    /// latest. No more frames of it are handled. `on_closed` follows.
    pub fn close_after_flush(&mut self, id: ConnId, reason: CloseReason) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.closing = true;
            connection.link.close_after_flush(reason);
            self.lingering.push((self.now + LINGER, id));
        }
    }

    /// Flushes the link, which may belong to another loop, when this turn is over: many pushes,
    /// one `send`. Asking again in the same turn costs nothing.
    pub fn flush_at_turn_end(&mut self, link: &Arc<Link>) {
        if link.mark_queued() {
            self.unflushed.push(Arc::clone(link));
        }
    }

    /// Has a connection read in the next turn, if there is something to read and it may be.
    pub(super) fn make_ready(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            if let Some(reason) = connection.gone.clone().filter(|_| !connection.may_read()) {
                // Nobody reads it, so nobody else would notice that the peer is gone.
                return connection.link.close(reason);
            }
            let something = connection.readable || !connection.buffer.is_empty();
            if something && !connection.queued && connection.may_read() {
                connection.queued = true;
                self.ready.push(id);
            }
        }
    }

    /// What to do after a step of a dial, whose former socket may still be registered.
    pub(super) fn dial_progress(&mut self, id: DialId, progress: Progress) {
        let result = match progress {
            Progress::Waiting => return,
            Progress::Connecting => {
                let fd = self.dials.get(&id).and_then(Dial::socket).map(AsRawFd::as_raw_fd);
                match fd.map(|fd| self.register(fd, id.0, Interest::WRITABLE)) {
                    Some(Err(error)) => Err(error.into()),
                    Some(Ok(())) | None => return,
                }
            }
            Progress::Done(result) => result,
        };
        self.dials.remove(&id);
        if let Ok(socket) = &result {
            self.deregister(socket.as_raw_fd());
        }
        self.dialled.push((id, result));
    }

    /// When the loop itself has something to do, beside what its handler wants.
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let dials = self.dials.values().map(Dial::next_deadline);
        let retries = self.listeners.values().filter_map(|state| state.retry_at);
        let lingering = self.lingering.iter().map(|(deadline, _)| *deadline);
        dials.chain(retries).chain(lingering).min()
    }

    /// Takes a closed connection out of the loop.
    pub(super) fn remove_closed(&mut self, id: ConnId) -> Option<Arc<Link>> {
        let connection = self.connections.remove(&id)?;
        self.deregister(connection.socket.as_raw_fd());
        self.lingering.retain(|(_, lingering)| *lingering != id);
        Some(connection.link)
    }

    pub(super) fn deregister(&self, fd: i32) {
        // Fails if it was never registered: a dial that was over at once.
        let _ = self.registry.deregister(&mut SourceFd(&fd));
    }

    fn register(&self, fd: i32, number: u64, interest: Interest) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&fd), Token(number as usize), interest)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        for connection in self.connections.values() {
            connection.link.set_home(None);
            connection.link.close(CloseReason::Local("the event loop ended".into()));
        }
    }
}

fn next_number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// A number for a connection that no loop serves.
pub(super) fn next_connection() -> ConnId {
    ConnId(next_number())
}
