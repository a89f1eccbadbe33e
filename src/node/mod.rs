//! The node and the client: the public Rust API and the runtime that drives the protocols.

mod calls;
pub mod config;
mod control;
mod drive;
mod local;
mod shared;
#[cfg(test)]
mod tests;
mod turn;
mod worker;

mod handle;
pub mod interrupt;
pub mod report;

pub use config::{
    ChangeOptions, ClientConfig, Lookup, NodeConfig, OnProgress, Progress, ReadOptions,
    ScanOptions, Start, WriteOptions,
};
pub use handle::{Pair, Ring, Scan};
pub use interrupt::with_interrupt;
pub use report::{Health, Location, MemberInfo, Moved, NodeRef, RingInfo};
