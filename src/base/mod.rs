//! Values that every layer shares: identifiers, errors, limits, time and randomness.
//!
//! Nothing here does I/O, reads a clock or starts a thread. Time and randomness are passed in as
//! values, so that a simulator can own both.

pub mod error;
pub mod ids;
pub mod limits;
pub mod rng;
pub mod time;

pub use error::{Error, Result, Status};
pub use ids::{
    Cfg, ClusterId, LearnerId, LogIndex, MemberId, PartitionId, Seq, StreamId, Term, Ver,
};
pub use rng::Rng;
pub use time::Nanos;
