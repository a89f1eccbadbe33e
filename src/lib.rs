//! ringkv: a distributed hash table that lives inside your program.
//!
//! [`Ring`] is what a Rust program uses: a node in this process ([`Ring::start`]) or a client of a
//! ring in others ([`Ring::connect`]). The C library (`ffi`), the Python package and the command
//! line (`cli`) are thin layers over it.
//!
//! Below that, each layer knows only the ones further down. `node` is the runtime: threads, the
//! ring map, operations on their way. `proto` holds the protocols as plain structs without I/O,
//! which a simulator drives as well. `wire` is what travels, `net` how it travels, `store` the data
//! of one partition, `ring` who holds what, `base` the values that all of them share.

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
