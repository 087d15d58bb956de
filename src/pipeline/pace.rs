//! When an engine task with a storage makes snapshots.

use std::time::Duration;

/// When snapshots are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes of the log at which one is made.
    pub(super) log: u64,
    /// Time after which one is made of a log that is shorter.
    pub(super) every: Duration,
    /// The least time between two.
    pub(super) rest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            log: 16 << 20,
            every: Duration::from_mins(10),
            rest: Duration::from_secs(10),
        }
    }
}
