//! The only module that reads clocks. Other modules get the time as an argument, so that replay,
//! tests and live traffic behave alike.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that may read a clock"
)]

use std::time::{SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// The wall clock, in nanoseconds since 1970. 0 if the machine believes in an earlier year.
pub fn unix_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

/// A clock that never goes back, for measuring spans of time. Tests may pause it.
pub fn monotonic() -> Instant {
    Instant::now()
}
