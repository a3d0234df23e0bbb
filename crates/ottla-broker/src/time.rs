//! The broker's own time: nanoseconds since the cluster was made.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time, in nanoseconds since the cluster started.
///
/// The sans-IO core never reads a clock; whoever drives it says what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment the cluster was made.
    pub const ZERO: Self = Self(0);

    /// Makes a timestamp from nanoseconds since the cluster started.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Makes a timestamp from milliseconds since the cluster started (saturating).
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the cluster started.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the cluster started.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time since the cluster started.
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The time from `earlier` to this, zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` plus a number of milliseconds as it comes over the wire: below zero counts as zero.
    pub(crate) fn plus_wire_ms(self, millis: i32) -> Self {
        self + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.saturating_since(rhs)
    }
}
