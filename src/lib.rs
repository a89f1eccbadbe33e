//! ringkv: a distributed hash table that lives inside your program.

pub mod base;
#[cfg(feature = "cli")]
pub mod cli;
pub mod ffi;
pub mod net;
pub mod node;
pub mod proto;
pub mod ring;
pub mod store;
pub mod wire;

pub use base::{Error, Result, Status};
pub use node::*;
