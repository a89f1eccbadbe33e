//! Time as a value: nanoseconds of a clock that counts suspend and never runs backwards.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the node's lease clock (`CLOCK_BOOTTIME` in a process, virtual time in the
/// simulator). Only the runtime reads the clock; every protocol gets `Nanos` as an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Before every other point.
    pub const ZERO: Self = Self(0);
    /// A point that never comes: "until told otherwise".
    pub const NEVER: Self = Self(u64::MAX);

    /// `ms` milliseconds as a point after zero, or as a span to add to one.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// The span from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Nanos {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Nanos {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}
