//! One event loop: waits for readiness, reads, hands frames to its handler, flushes.
//!
//! Each turn handles everything that one poll found, and then lets the handler flush, so that all
//! requests of a turn are handled before the first answer is sent and each connection gets one
//! `send`. Epoll is edge-triggered: an edge marks a connection as readable, and the mark stays
//! until a read comes back with less than was asked for. A connection is read once per turn, 64 KiB
//! at most, then the others come; what is left is read in the next turn, which then does not wait.
//!
//! Nothing here catches a panic of the handler: the thread's owner does that.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::context::{Connection, Context, Detached, ListenerId};
use super::dial::DialId;
use super::frames::{FrameBuffer, SCRATCH_BYTES};
use super::link::{CloseReason, ConnId, Link};
use super::socket::Socket;
use super::sys;
use super::wake::{Notice, Shared, Waker};
use crate::base::{Error, Nanos, Result};

const EVENTS_PER_TURN: usize = 256;
const ACCEPTS_PER_TURN: usize = 64;
const WAKE: Token = Token(0);
/// How long not to accept after the process ran out of descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What to do with a connection after one of its frames was handled.
#[derive(Debug)]
pub enum Flow {
    /// Go on with the next frame.
    Continue,
    /// Stop reading until [`Context::resume`].
    Pause,
    /// Close it when what was pushed is sent; `on_closed` follows.
    Close(CloseReason),
    /// Take it out of this loop; `on_detached` follows at once, with the frames after this one.
    Detach,
}

/// What an event loop does: its owner's half. Every method runs on the loop's thread.
///
/// Each connection that was added or attached ends in exactly one `on_closed` or `on_detached` (or
/// `Context::detach`), unless the loop ends first.
pub trait Handler {
    /// A listener has a new connection. To serve it here: `ctx.add`. It may also be sent to another
    /// thread; dropping it closes it.
    fn on_accept(&mut self, ctx: &mut Context, listener: ListenerId, socket: Socket);

    /// One frame arrived, without its length.
    fn on_frame(&mut self, ctx: &mut Context, link: &Arc<Link>, frame: &[u8]) -> Flow;

    /// A connection is closed, by whomever. `link` is closed already.
    fn on_closed(&mut self, ctx: &mut Context, link: &Arc<Link>, reason: CloseReason);

    /// A connection leaves this loop because `on_frame` said so.
    fn on_detached(&mut self, ctx: &mut Context, detached: Detached) {
        let _ = (ctx, detached);
    }

    /// A dial succeeded. As with `on_accept`, the socket belongs to no loop yet.
    fn on_connected(&mut self, ctx: &mut Context, dial: DialId, socket: Socket) {
        let _ = (ctx, dial, socket);
    }

    /// A dial failed; the sentence names the address.
    fn on_connect_failed(&mut self, ctx: &mut Context, dial: DialId, error: Error) {
        let _ = (ctx, dial, error);
    }

    /// The outgoing buffer, after it was above the high mark, fell to the low mark. If the handler
    /// paused the connection because of that, it resumes it here.
    fn on_drained(&mut self, ctx: &mut Context, link: &Arc<Link>) {
        let _ = (ctx, link);
    }

    /// Another thread called [`Waker::wake`].
    fn on_wake(&mut self, ctx: &mut Context) {
        let _ = ctx;
    }

    /// When `on_timer` should run next; asked for in every turn.
    fn next_timeout(&self) -> Option<Nanos> {
        None
    }

    /// The time that `next_timeout` named has come.
    fn on_timer(&mut self, ctx: &mut Context, now: Nanos) {
        let _ = (ctx, now);
    }

    /// Everything that this turn's poll found is handled: the place to flush.
    fn on_turn_end(&mut self, ctx: &mut Context, now: Nanos) {
        let _ = (ctx, now);
    }
}

/// Options of an event loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReactorOptions {
    /// How long to look for the next event without sleeping after a turn that had work. Waking a
    /// sleeping thread costs more than most requests; looking costs the core. Zero: never.
    pub spin: Duration,
}

/// One event loop. It belongs to the thread that turns it.
pub struct Reactor {
    poll: Poll,
    events: Events,
    scratch: Box<[u8]>,
    notices: Vec<Notice>,
    options: ReactorOptions,
    worked: bool,
    context: Context,
}

impl Reactor {
    /// A loop without connections.
    pub fn new(options: ReactorOptions) -> Result<Self> {
        let poll = Poll::new()?;
        let shared = Shared::new(poll.registry(), WAKE)?;
        let context = Context::new(poll.registry().try_clone()?, shared, sys::boottime());
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            notices: Vec::new(),
            options,
            worked: false,
            context,
        })
    }

    /// What wakes this loop from other threads.
    pub fn waker(&self) -> Waker {
        self.context.waker()
    }

    /// The loop as its handler sees it, to prepare it before it runs.
    pub fn context(&mut self) -> &mut Context {
        self.context.now = sys::boottime();
        &mut self.context
    }

    /// Turns until the handler calls [`Context::stop`].
    pub fn run<H: Handler + ?Sized>(&mut self, handler: &mut H) -> Result<()> {
        while !self.context.stopped {
            self.turn(handler, Duration::MAX)?;
        }
        Ok(())
    }

    /// Waits for something to do, `wait_max` at most, and does it.
    pub fn turn<H: Handler + ?Sized>(&mut self, handler: &mut H, wait_max: Duration) -> Result<()> {
        self.wait(self.wait_time(handler, wait_max))?;
        self.context.now = sys::boottime();
        let mut listeners_ready = false;
        let mut worked = false;
        for event in &self.events {
            worked = true;
            listeners_ready |= self.context.on_event(event);
        }
        self.worked = worked;
        self.context.expire(&mut listeners_ready);
        if listeners_ready {
            self.accept_all(handler);
        }
        self.report_dials(handler);
        self.read_all(handler);
        self.handle_notices(handler);
        let now = self.context.now;
        if handler.next_timeout().is_some_and(|due| due <= now) {
            handler.on_timer(&mut self.context, now);
        }
        handler.on_turn_end(&mut self.context, now);
        for link in mem::take(&mut self.context.unflushed) {
            link.unmark_queued();
            link.flush();
        }
        Ok(())
    }

    fn wait_time<H: Handler + ?Sized>(&self, handler: &H, wait_max: Duration) -> Option<Duration> {
        let context = &self.context;
        let accepting =
            context.listeners.values().any(|state| state.ready && state.retry_at.is_none());
        if !context.ready.is_empty() || !context.dialled.is_empty() || accepting {
            return Some(Duration::ZERO);
        }
        let due = [handler.next_timeout(), context.next_deadline()].into_iter().flatten().min();
        let wait = due.filter(|due| *due != Nanos::NEVER).map(|due| due.since(sys::boottime()));
        Some(wait.unwrap_or(Duration::MAX).min(wait_max)).filter(|wait| *wait != Duration::MAX)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        if self.worked && !self.options.spin.is_zero() && timeout != Some(Duration::ZERO) {
            let spin = self.options.spin.min(timeout.unwrap_or(Duration::MAX));
            let until = sys::boottime() + spin;
            while sys::boottime() < until {
                self.poll_once(Some(Duration::ZERO))?;
                if !self.events.is_empty() {
                    return Ok(());
                }
            }
        }
        self.poll_once(timeout)
    }

    fn poll_once(&mut self, timeout: Option<Duration>) -> Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn accept_all<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let ids: Vec<ListenerId> = self.context.listeners.keys().copied().collect();
        for id in ids {
            for _ in 0..ACCEPTS_PER_TURN {
                match self.context.accept(id) {
                    Some(socket) => handler.on_accept(&mut self.context, id, socket),
                    None => break,
                }
            }
        }
    }

    fn report_dials<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for (id, result) in mem::take(&mut self.context.dialled) {
            match result {
                Ok(socket) => handler.on_connected(&mut self.context, id, socket),
                Err(error) => handler.on_connect_failed(&mut self.context, id, error),
            }
        }
    }

    fn read_all<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        // What becomes ready again while this list is handled waits for the next turn.
        for id in mem::take(&mut self.context.ready) {
            self.read(handler, id);
        }
    }

    /// One read of one connection, or none if frames of an earlier one still wait.
    fn read<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        let Some(connection) = self.context.connections.get_mut(&id) else { return };
        connection.queued = false;
        if !connection.may_read() {
            return;
        }
        let mut received = 0;
        if connection.readable && !connection.buffer.has_frame(connection.frame_max) {
            match connection.receive(&mut self.scratch) {
                Ok(count) => received = count,
                Err(reason) => {
                    // The peer may have closed its sending half alone: it gets what is ready.
                    connection.link.flush();
                    return connection.link.close(reason);
                }
            }
        }
        let link = Arc::clone(&connection.link);
        let mut buffer = mem::take(&mut connection.buffer);
        let input = &self.scratch[..received];
        self.context.dispatching = Some(id);
        let detach = dispatch(&mut self.context, handler, &link, &mut buffer, input);
        self.context.dispatching = None;
        if let Some(connection) = self.context.connections.get_mut(&id) {
            connection.buffer = buffer;
        }
        if detach {
            if let Some(detached) = self.context.detach(id) {
                handler.on_detached(&mut self.context, detached);
            }
        } else {
            self.context.make_ready(id);
        }
    }

    fn handle_notices<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let mut notices = mem::take(&mut self.notices);
        let asked = self.context.shared.take(&mut notices);
        for notice in notices.drain(..) {
            match notice {
                Notice::Closed(id) => self.report_closed(handler, id),
                Notice::Drained(id) => self.report_drained(handler, id),
                Notice::Resolved(id, found) => {
                    let now = self.context.now;
                    if let Some(dial) = self.context.dials.get_mut(&id) {
                        let progress = dial.resolved(found, now);
                        self.context.dial_progress(id, progress);
                    }
                }
            }
        }
        self.notices = notices;
        if asked {
            handler.on_wake(&mut self.context);
        }
    }

    fn report_closed<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        let Some(link) = self.context.remove_closed(id) else { return };
        let reason = link.close_reason().unwrap_or(CloseReason::Eof);
        handler.on_closed(&mut self.context, &link, reason);
    }

    fn report_drained<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        let Some(connection) = self.context.connections.get_mut(&id) else { return };
        if !connection.link.is_over_high() {
            connection.paused_high = false;
        }
        let link = Arc::clone(&connection.link);
        self.context.make_ready(id);
        handler.on_drained(&mut self.context, &link);
    }
}

/// Hands frames to the handler until they are used up or it wants no more; what is left is held.
/// True if the connection is to be detached.
fn dispatch<H: Handler + ?Sized>(
    context: &mut Context,
    handler: &mut H,
    link: &Arc<Link>,
    buffer: &mut FrameBuffer,
    input: &[u8],
) -> bool {
    let id = link.id();
    let mut cursor = 0;
    loop {
        let Some(connection) = context.connections.get_mut(&id) else { return false };
        if connection.pause_when_high && link.is_over_high() {
            connection.paused_high = true;
        }
        if !connection.may_read() {
            buffer.hold(&input[cursor..]);
            return false;
        }
        let flow = match buffer.next(input, &mut cursor, connection.frame_max) {
            Ok(Some(frame)) => handler.on_frame(context, link, frame),
            Ok(None) => return false,
            Err(refused) => Flow::Close(CloseReason::FrameTooLarge(refused)),
        };
        match flow {
            Flow::Continue => {}
            Flow::Pause => context.pause(id),
            Flow::Close(reason) => context.close_after_flush(id, reason),
            Flow::Detach => {
                buffer.hold(&input[cursor..]);
                return true;
            }
        }
    }
}

impl Connection {
    /// Reads once. An end or an error is the reason to close.
    fn receive(&mut self, scratch: &mut [u8]) -> std::result::Result<usize, CloseReason> {
        match self.socket.receive(scratch) {
            Ok(0) => Err(CloseReason::Eof),
            Ok(count) => {
                // After the peer's end there is no further edge, so read on until it is seen.
                self.readable = count == scratch.len() || self.ended;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            Err(error) => Err(CloseReason::Reset(error.kind())),
        }
    }
}

impl Context {
    /// Marks what an event is about as ready; true if that is a listener.
    fn on_event(&mut self, event: &Event) -> bool {
        let number = event.token().0 as u64;
        let id = ConnId(number);
        if let Some(connection) = self.connections.get_mut(&id) {
            if event.is_writable() || event.is_write_closed() {
                connection.link.writable();
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                connection.readable = true;
                connection.ended |= event.is_read_closed();
                if event.is_error() {
                    let reset = io::ErrorKind::ConnectionReset;
                    connection.gone = Some(CloseReason::Reset(reset));
                } else if event.is_read_closed() && event.is_write_closed() {
                    connection.gone = Some(CloseReason::Eof);
                }
                self.make_ready(id);
            }
        } else if let Some(dial) = self.dials.get_mut(&DialId(number)) {
            let progress = dial.writable(self.now);
            self.dial_progress(DialId(number), progress);
        } else if let Some(state) = self.listeners.get_mut(&ListenerId(number)) {
            state.ready = true;
            return true;
        }
        false
    }

    /// What is due by time: dials, listeners that back off, connections that linger.
    fn expire(&mut self, listeners_ready: &mut bool) {
        let now = self.now;
        for state in self.listeners.values_mut() {
            if state.retry_at.is_some_and(|retry_at| retry_at <= now) {
                state.retry_at = None;
            }
            *listeners_ready |= state.ready && state.retry_at.is_none();
        }
        let late: Vec<DialId> = self
            .dials
            .iter()
            .filter(|(_, dial)| dial.next_deadline() <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(dial) = self.dials.get_mut(&id) {
                let progress = dial.expire(now);
                self.dial_progress(id, progress);
            }
        }
        for (deadline, id) in mem::take(&mut self.lingering) {
            if deadline > now {
                self.lingering.push((deadline, id));
            } else {
                self.close(id, CloseReason::BufferFull);
            }
        }
    }

    /// The next connection of a listener; `None` when there is none for now.
    fn accept(&mut self, id: ListenerId) -> Option<Socket> {
        let state = self.listeners.get_mut(&id)?;
        if !state.ready || state.retry_at.is_some() {
            return None;
        }
        loop {
            match state.listener.accept() {
                Ok(Some(socket)) => return Some(socket),
                Ok(None) => log::debug!("{}: too many connections", state.listener.address()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.ready = false;
                    return None;
                }
                // That connection failed before we took it; the next is another one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Out of descriptors or memory, most likely: the next would fail the same way.
                Err(error) => {
                    log::warn!("{}: cannot accept: {error}", state.listener.address());
                    state.retry_at = Some(self.now + ACCEPT_BACKOFF);
                    return None;
                }
            }
        }
    }
}
