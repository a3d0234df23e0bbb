//! The time the core is told, and where it comes from.

use std::time::{SystemTime, UNIX_EPOCH};

use ottla_core::Timestamp;

/// Shared by the driver and its reader: both stamp what they tell the core with the same clock.
///
/// On a thread of its own the driver keeps real time, even if the caller's runtime has paused its clock; on
/// the caller's runtime it keeps that runtime's time, so that tests on paused time work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// Real time.
    Own(std::time::Instant),
    /// The time of the runtime that it is read on.
    Runtime(tokio::time::Instant),
}

impl Clock {
    pub(crate) fn own() -> Self {
        Self::Own(std::time::Instant::now())
    }

    /// To be called on the runtime.
    pub(crate) fn runtime() -> Self {
        Self::Runtime(tokio::time::Instant::now())
    }

    pub(crate) fn now(self) -> Timestamp {
        let elapsed = match self {
            Self::Own(origin) => origin.elapsed(),
            Self::Runtime(origin) => origin.elapsed(),
        };
        Timestamp::ZERO + elapsed
    }

    /// The instant of the driver's runtime at which it is `at`, or `None` if that is too far away to matter.
    pub(super) fn instant(self, at: Timestamp) -> Option<tokio::time::Instant> {
        let origin = match self {
            Self::Own(origin) => tokio::time::Instant::from_std(origin),
            Self::Runtime(origin) => origin,
        };
        // tokio's timer wheel ends after two years; nothing that far away is ever waited for.
        let after = at.since(Timestamp::ZERO);
        if after.as_secs() > 365 * 86_400 { None } else { origin.checked_add(after) }
    }
}

/// The wall clock in milliseconds since 1970, for offset resets by duration.
pub(crate) fn unix_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
