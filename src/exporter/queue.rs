//! The sending queue of every exporter: bounded, batching, retrying.
//!
//! The pipeline holds a [`Queue`], one task runs [`run`]. Findings leave in the order in which
//! they came, one batch at a time, so a receiver never sees a finding close before it opens. A
//! batch is whatever waited while the one before was under way: a lone finding leaves at once.
//! Memory is bounded by `queue_size` waiting findings and one batch on its way.

mod channel;
mod condition;
mod log;
mod lost;
mod worker;

pub use super::{delivery::RetryConfig, shutdown::Shutdown};
pub use channel::{Counters, Queue, QueueConfig, QueueReceiver, queue};
pub use worker::{Totals, run};

#[cfg(test)]
mod tests;
