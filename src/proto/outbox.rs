//! The seam between the protocols and the world.

use super::Leases;
use crate::base::{MemberId, Nanos};
use crate::wire::{Command, PeerMsg, Reply};

/// Who waits for the answer of an operation: a connection (or a thread of this process) and the
/// number that it gave the operation. Opaque to the protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller {
    /// Which connection.
    pub connection: u64,
    /// Its number for the operation.
    pub id: u64,
}

/// The circumstances under which an input is handled, sampled after the input was received.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The node's lease clock.
    pub now: Nanos,
    /// Wall clock in milliseconds since 1970, for expiry only.
    pub unix_ms: u64,
    /// The node's memory limit is reached: refuse writes.
    pub memory_full: bool,
    /// All partitions of the node together keep too many operations that are not done: refuse
    /// further ones for now.
    pub backlog_full: bool,
}

/// Where a protocol puts what it has to say. Nothing here may call back into the protocol.
pub trait Outbox {
    /// Sends to another member. May be lost with the connection; what must arrive is sent again.
    /// Messages to one member arrive in order or not at all.
    fn send(&mut self, to: MemberId, msg: &PeerMsg<'_>);

    /// Answers an operation; exactly once for each operation that was accepted.
    fn reply(&mut self, to: Caller, reply: &Reply<'_>);

    /// Proposes a change of the map to the coordinator. May be lost or doubled.
    fn propose(&mut self, command: Command);

    /// How many bytes of bulk data may be sent to that member now without delaying the rest; `None`
    /// if there is no connection to it.
    fn bulk_room(&self, to: MemberId) -> Option<usize>;

    /// Lends the member's leases, for as long as `f` runs.
    fn leases(&mut self, f: &mut dyn FnMut(&mut Leases));
}
