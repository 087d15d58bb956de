//! Exporters: how findings leave the process.
//!
//! The contract of an exporter, as that of a component of the Collector:
//!
//! 1. *Settings*: a `Config` with `Default`, read by `config/`, and a constructor that checks what
//!    only it can. It reads files and connects to nothing.
//! 2. *Start*: `service.rs` makes its queue and one task that runs [`queue::run`].
//!    [`Exporter::attach`] hands it the shutdown before the first attempt.
//! 3. *Work*: [`Exporter::send`] is one attempt with the first items of a batch, and says with an
//!    [`Outcome`] how it ended. The exporter bounds the time of an attempt, and keeps no queue, no
//!    retry and no counter of its own: [`delivery`] repeats attempts, and [`queue`] batches, counts
//!    and logs.
//! 4. *Shutdown*: an attempt may be dropped at any time. The exporter is dropped with its task, once
//!    its queue is empty or the shutdown gives up what is left.
//!
//! Encoding a request and judging its answer are pure functions, so they are tested without a
//! network.

pub mod auth;
pub mod compression;
pub mod dead_letter;
pub mod debug;
pub mod delivery;
pub mod file;
pub(crate) mod http_client;
pub mod otlp;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod queue;
pub mod replaceable;
mod resolver;
mod retry;
pub mod shutdown;
mod smaller;
pub mod splunk_hec;
pub mod text;
pub mod time;
mod tls_errors;
mod way;

#[cfg(test)]
mod samples;

use std::{
    future::{self, Future},
    path::Path,
    sync::Arc,
    time::Duration,
};

use crate::detection::Finding;
use retry::RetryConfig;
use shutdown::Shutdown;

/// One attempt to deliver the first items of a batch: findings, or what else is sent (`replay` sends
/// audit events).
pub trait Exporter<T = Arc<Finding>>: Send + 'static {
    /// Tries once to deliver items from the front of `batch`, which is never empty, in their order,
    /// and says how it ended. One attempt is one request: what does not fit into it is left for the
    /// next call, so that nothing accepted is ever sent again because of a later failure.
    ///
    /// Implementations bound their own time, never panic on an answer, and keep no state that
    /// suffers when the future is dropped: shutdown may cut an attempt short.
    fn send(&mut self, batch: &[T]) -> impl Future<Output = Outcome> + Send;

    /// Whether an item that was accepted went out: not every state of a finding makes an event.
    fn goes_out(&self, _item: &T) -> bool {
        true
    }

    /// Hands over the shutdown before the first attempt, to exporters that wait within one for
    /// something else than an answer.
    fn attach(&mut self, _shutdown: &Shutdown) {}

    /// Until it works with other settings than at the last attempt, which may fare better. May be
    /// dropped at any time. Never, for exporters that stay as they are.
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        future::pending()
    }

    /// The file that it writes to, if it is one.
    fn file(&self) -> Option<&Path> {
        None
    }

    /// Whether an attempt has left something under way that still writes to its file.
    fn is_writing(&self) -> bool {
        false
    }

    /// How failed attempts are repeated; `None`: as the settings of the delivery say.
    fn retry(&self) -> Option<&RetryConfig> {
        None
    }
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This number of findings from the front of the batch was accepted, at least one. The rest was
    /// not tried.
    Accepted(usize),
    /// The receiver took a request in, but rejected some of its findings for good and does not say
    /// which.
    Partial {
        /// How many findings the request held.
        findings: usize,
        /// How many of them are lost, at least one.
        rejected: usize,
        /// What the receiver says, for the log.
        reason: String,
    },
    /// Not now: the same findings may be accepted later.
    Retry {
        /// What happened, for the log. Holds no secret.
        reason: String,
        /// How long the receiver asks to wait (`Retry-After`).
        after: Option<Duration>,
    },
    /// Too much for one request: try half of it. A single finding is then given up.
    TooLarge {
        /// How many findings from the front of the batch the refused request held.
        findings: usize,
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
    /// Refused for a reason that is not the findings' own, and that an operator can mend: a token,
    /// an index, an address. The same findings are accepted then.
    Refused {
        /// What happened and what to do about it, for the log.
        reason: String,
        /// How long the receiver asks to wait (`Retry-After`).
        after: Option<Duration>,
    },
}

impl Outcome {
    /// A [`Outcome::Retry`] without wishes of its own.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry {
            reason: reason.into(),
            after: None,
        }
    }
}
