//! Connections of a thread that has no event loop: a client that calls and waits.
//!
//! [`connect`] makes one connection; [`Lanes`] holds several and waits for all of them at once, so
//! that many requests can be under way before the first answer is read. Sending goes through the
//! same [`Link`] as everywhere: any thread may push and flush; one thread at a time waits.
//!
//! Waiting comes in slices that the caller chooses, and ends early when a signal handler ran, so
//! that a caller can look at its own deadline, or for Ctrl-C. One caveat: a flush that another
//! thread could not finish while a slice runs is finished in the next one; who sends much should
//! use [`flush_all`].

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::addr::Address;
use super::context::{ConnectionOptions, next_connection};
use super::dial::{Dial, Progress};
use super::frames::{FrameBuffer, SCRATCH_BYTES};
use super::link::{CloseReason, ConnId, Link};
use super::socket::Socket;
use super::sys::{self, Interest};
use crate::base::{Error, Result, Status};

/// Connects to the first endpoint of `address` that answers, within `timeout` (beside what the
/// system's name service takes). The error's sentence names the address.
pub fn connect(address: &Address, timeout: Duration) -> Result<Socket> {
    let mut dial = Dial::new(address, sys::boottime(), timeout);
    let mut progress = dial.resolved(address.resolve(), sys::boottime());
    loop {
        if let Progress::Done(result) = progress {
            return result;
        }
        let Some(socket) = dial.socket() else {
            return Err(Error::new(Status::Internal, "a dial waits without a socket"));
        };
        let mut interest = [Interest::new(socket.as_fd(), false, true)];
        sys::wait_ready(&mut interest, dial.next_deadline().since(sys::boottime()))?;
        let [Interest { writable, .. }] = interest;
        let now = sys::boottime();
        progress = if writable { dial.writable(now) } else { dial.expire(now) };
    }
}

/// Sends everything that was pushed, waiting for the peer to read, for `wait_max` at most. Some
/// thread must read the connection meanwhile, or a peer that waits for that never reads.
pub fn flush_all(link: &Link, wait_max: Duration) -> Result<()> {
    let deadline = sys::boottime() + wait_max;
    loop {
        link.flush();
        if let Some(reason) = link.close_reason() {
            return Err(Error::new(Status::ConnectionLost, reason.to_string()));
        }
        if link.pending() == 0 {
            return Ok(());
        }
        let left = deadline.since(sys::boottime());
        if left.is_zero() {
            return Err(Error::new(Status::Timeout, "the peer does not read what is sent to it"));
        }
        let Some(socket) = link.socket() else { continue };
        let mut interest = [Interest::new(socket.as_fd(), false, true)];
        if sys::wait_ready(&mut interest, left)? > 0 {
            link.writable();
        }
    }
}

/// What [`Lanes::wait`] found on one connection.
#[derive(Debug)]
pub enum LaneEvent<'a> {
    /// A frame, without its length.
    Frame(&'a [u8]),
    /// The connection is closed, and no longer one of the lanes.
    Closed(CloseReason),
}

/// Several connections that one thread waits for.
pub struct Lanes {
    lanes: Vec<Lane>,
    scratch: Box<[u8]>,
    spin: Duration,
}

struct Lane {
    socket: Arc<Socket>,
    link: Arc<Link>,
    buffer: FrameBuffer,
    frame_max: usize,
}

impl Lanes {
    /// No connections.
    pub fn new() -> Self {
        let scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        Self { lanes: Vec::new(), scratch, spin: Duration::ZERO }
    }

    /// How long to look for an answer without sleeping: saves the wake-up, costs the core.
    pub fn set_spin(&mut self, spin: Duration) {
        self.spin = spin;
    }

    /// Adds a connection. What it has read is never paused: `pause_when_high` has no meaning here.
    pub fn add(&mut self, socket: Socket, options: ConnectionOptions) -> Arc<Link> {
        let socket = Arc::new(socket);
        let link = Link::new(next_connection(), Arc::clone(&socket), options.limits, None);
        let (buffer, frame_max) = (FrameBuffer::new(), options.frame_max);
        self.lanes.push(Lane { socket, link: Arc::clone(&link), buffer, frame_max });
        link
    }

    /// Closes a connection and forgets it; no event follows.
    pub fn remove(&mut self, id: ConnId) {
        if let Some(at) = self.lanes.iter().position(|lane| lane.link.id() == id) {
            self.lanes.swap_remove(at).link.close(CloseReason::Local("removed".into()));
        }
    }

    /// Longest frame that the peer may send, from the next one that [`Lanes::wait`] cuts.
    pub fn set_frame_max(&mut self, id: ConnId, frame_max: usize) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.link.id() == id) {
            lane.frame_max = frame_max;
        }
    }

    /// The write halves of the connections.
    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.lanes.iter().map(|lane| &lane.link)
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Flushes, waits until something arrives (`wait_max` at most), and reports it. Returns the
    /// number of events; 0 when the time is over or a signal came.
    pub fn wait(
        &mut self,
        wait_max: Duration,
        mut on_event: impl FnMut(&Arc<Link>, LaneEvent<'_>),
    ) -> Result<usize> {
        for lane in &self.lanes {
            lane.link.flush();
        }
        let closed = self.reap(&mut on_event);
        if closed > 0 || self.lanes.is_empty() {
            return Ok(closed);
        }
        let spin_until = sys::boottime() + self.spin.min(wait_max);
        let mut events = 0;
        while !self.spin.is_zero() && events == 0 && sys::boottime() < spin_until {
            events = self.wait_once(Duration::ZERO, &mut on_event)?;
        }
        if events == 0 {
            events = self.wait_once(wait_max, &mut on_event)?;
        }
        Ok(events + self.reap(&mut on_event))
    }

    fn wait_once(
        &mut self,
        wait_max: Duration,
        on_event: &mut impl FnMut(&Arc<Link>, LaneEvent<'_>),
    ) -> Result<usize> {
        let lanes = self.lanes.iter();
        let mut interests: Vec<Interest<'_>> = lanes
            .map(|lane| Interest::new(lane.socket.as_fd(), true, lane.link.is_blocked()))
            .collect();
        if sys::wait_ready(&mut interests, wait_max)? == 0 {
            return Ok(0);
        }
        let ready: Vec<(bool, bool)> =
            interests.iter().map(|interest| (interest.readable, interest.writable)).collect();
        let mut events = 0;
        for (lane, (readable, writable)) in self.lanes.iter_mut().zip(ready) {
            if writable {
                lane.link.writable();
            }
            if readable {
                events += lane.read(&mut self.scratch, on_event);
            }
        }
        Ok(events)
    }

    /// Takes the closed connections out and reports them.
    fn reap(&mut self, on_event: &mut impl FnMut(&Arc<Link>, LaneEvent<'_>)) -> usize {
        let mut reaped = 0;
        let mut at = 0;
        while let Some(lane) = self.lanes.get(at) {
            if !lane.link.is_closed() {
                at += 1;
                continue;
            }
            let lane = self.lanes.swap_remove(at);
            let reason = lane.link.close_reason().unwrap_or(CloseReason::Eof);
            on_event(&lane.link, LaneEvent::Closed(reason));
            reaped += 1;
        }
        reaped
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.link.close(CloseReason::Local("the client is closed".into()));
        }
    }
}

impl Lane {
    /// Reads once and reports the frames; an end or an error closes the link.
    fn read(
        &mut self,
        scratch: &mut [u8],
        on_event: &mut impl FnMut(&Arc<Link>, LaneEvent<'_>),
    ) -> usize {
        let received = match self.socket.receive(scratch) {
            Ok(0) => {
                self.link.close(CloseReason::Eof);
                return 0;
            }
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return 0,
            Err(error) => {
                self.link.close(CloseReason::Reset(error.kind()));
                return 0;
            }
        };
        let (mut cursor, mut frames) = (0, 0);
        while !self.link.is_closed() {
            match self.buffer.next(&scratch[..received], &mut cursor, self.frame_max) {
                Ok(Some(frame)) => {
                    frames += 1;
                    on_event(&self.link, LaneEvent::Frame(frame));
                }
                Ok(None) => break,
                Err(refused) => self.link.close(CloseReason::FrameTooLarge(refused)),
            }
        }
        frames
    }
}
