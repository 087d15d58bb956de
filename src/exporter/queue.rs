//! x
use std::time::Duration;

/// `sending_queue` of an exporter, with the Collector's key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// `queue_size`: findings that may wait before senders are refused.
    pub queue_size: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { queue_size: 1000 }
    }
}

/// `retry_on_failure` of an exporter, with the Collector's key names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryConfig {
    /// `enabled`: whether a failed attempt is repeated at all.
    pub enabled: bool,
    /// `initial_interval`: wait before the first repetition.
    pub initial_interval: Duration,
    /// `randomization_factor`: share by which a wait may vary either way.
    pub randomization_factor: f64,
    /// `multiplier`: growth of the wait.
    pub multiplier: f64,
    /// `max_interval`: longest wait.
    pub max_interval: Duration,
    /// `max_elapsed_time`: after this a batch is given up; zero: never.
    pub max_elapsed_time: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
        }
    }
}
