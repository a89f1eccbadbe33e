//! The node and the client: the public Rust API and the runtime that drives the protocols.

mod ask;
mod calls;
mod change;
pub mod config;
mod control;
mod drive;
pub mod events;
mod health;
mod info;
#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
mod lane;
mod local;
mod remote;
mod scan;
mod shared;
mod source;
mod subscribe;
mod sync;
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
pub use events::{Event, EventKind};
pub use handle::{Events, Pair, Ring, Scan};
pub use interrupt::with_interrupt;
pub use report::{Dropped, Health, Location, MemberInfo, NodeRef, RingInfo};
