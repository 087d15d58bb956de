//! Exporters: findings out of the house.
//!
//! An exporter's author writes one thing, [`Exporter::send`]: one attempt to deliver one batch.
//! The bounded queue, batching, retries and counters are wrapped round it by [`queue`]. Encoding
//! a request and judging its answer are pure functions, so they are tested without a network.

pub mod queue;
pub mod splunk_hec;

use std::{future::Future, sync::Arc, time::Duration};

use crate::detection::Finding;

/// One attempt to deliver one batch.
pub trait Exporter: Send + 'static {
    /// Tries once to deliver `batch`, which is never empty, and says how it ended. Implementations
    /// bound their own time and never panic on an answer.
    fn send(&mut self, batch: &[Arc<Finding>]) -> impl Future<Output = Outcome> + Send;
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every finding of the batch was accepted.
    Accepted,
    /// Not now: the same batch may be accepted later.
    Retry {
        /// What happened, for the log. Holds no secret.
        reason: String,
        /// How long the receiver asks to wait (`Retry-After`).
        after: Option<Duration>,
        /// At most this many attempts in all for this kind of answer; `None`: as configured.
        limit: Option<u32>,
    },
    /// The batch is too large as one request: halve it. A single finding is then given up.
    TooLarge {
        /// What happened, for the log.
        reason: String,
    },
    /// One finding will never be accepted: give it up and send the rest.
    Invalid {
        /// Its position in the batch.
        index: usize,
        /// What happened, for the log.
        reason: String,
    },
    /// Never: the whole batch is given up.
    Permanent {
        /// What happened and what to do about it, for the log.
        reason: String,
    },
}
