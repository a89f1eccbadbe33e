//! The protocols, sans-IO: plain structs that are handed inputs and a moment, and write what they
//! have to say into an [`Outbox`] that the caller lends.
//!
//! No socket, clock, thread, lock or global generator in here. The runtime (`node`) and the
//! simulator (`tests/sim`) drive the same structs. The rules that comments name (A2, W3, P2, ...)
//! are those of `docs/PROTOCOL.md`.
//!
//! The contract of every protocol struct: **hand it inputs, then call `flush` once**. Inputs only
//! note what is to be sent; `flush` sends it, so that a turn of the event loop with a thousand
//! writes makes one batch for each peer.

pub mod coordinator;
pub mod detector;
pub mod group;
pub mod lease;
pub mod mutants;
pub mod outbox;
pub mod replica;
pub mod router;
pub mod session;

pub use coordinator::Coordinator;
pub use group::Group;
pub use lease::Leases;
pub use outbox::{Caller, Moment, Outbox};
pub use replica::{Disposition, MapRow, Replica};
pub use session::{ClientSessions, End, Ticket};
