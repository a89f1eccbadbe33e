//! Sockets, event loops and frames: everything between the kernel and the protocols.
//!
//! Knows bytes and frames, not what they mean, and never imports a protocol. A node runs one
//! [`Reactor`] per worker thread and gives it a [`Handler`]. The write half of every connection is
//! a [`Link`] that any thread may use; the read half belongs to one loop at a time and can move to
//! another one. A remote client has no thread of its own: [`blocking`] does its I/O on the thread
//! that calls.
//!
//! Every buffer is bounded, and a length that a peer claims is checked before memory is spent on
//! it. No call here raises a signal or depends on how the host program handles them. Not here:
//! encryption, authentication, and deadlines of requests.

mod addr;
pub mod blocking;
mod context;
mod dial;
mod frames;
mod link;
mod reactor;
mod socket;
pub mod sys;
#[cfg(test)]
mod tests;
mod wake;

pub use addr::{Address, Endpoint};
pub use context::{ConnectionOptions, Context, Detached, ListenerId};
pub use dial::DialId;
pub use frames::{FRAME_HEADER_BYTES, FrameBuffer, FrameTooLarge, SCRATCH_BYTES};
pub use link::{CloseReason, ConnId, Link, LinkLimits};
pub use reactor::{Flow, Handler, Reactor, ReactorOptions};
pub use socket::{Budget, Listener, Socket};
pub use wake::Waker;
