//! What travels between processes, byte by byte: `docs/WIRE.md` is this module in prose.
//!
//! A frame is a length and a payload (`net/frames`); a payload is one message, whose first byte
//! names its type. Everything is little-endian. Decoding borrows from the frame, checks every
//! length before it is believed, and never allocates more than twelve times the frame's own size
//! (`tests/decode_fuzz.rs` measures it). Every message has exactly one encoding: what decodes,
//! encodes to the same bytes again.

pub mod client;
pub mod codec;
pub mod command;
pub mod control;
pub mod entry;
pub mod group;
pub mod hello;
pub mod map;
pub mod operation;
pub mod replica;
#[cfg(test)]
mod tests;

pub use client::{ClientMsg, ServerMsg};
pub use codec::{DecodeError, Reader, Writer};
pub use command::{Applied, Command, JoinInfo, Rejection};
pub use control::ControlMsg;
pub use entry::{Effect, EntryRef, Outcome, SessionRecord};
pub use group::{Content, GroupEntry, GroupMsg};
pub use hello::{Hello, Role, Welcome};
pub use operation::{Op, Page, Reply, Request, Session};
pub use replica::{Item, PeerMsg};
