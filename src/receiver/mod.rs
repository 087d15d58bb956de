//! Receivers: requests off the wire into the screen, and the answer their sender is owed.
//!
//! A receiver begins a screening when a request arrives, feeds it the bytes as they come, and
//! hands over what came out. What to answer is decided behind [`Consumer`].

mod decompress;
pub mod otlp_grpc;

use std::{future::Future, time::Duration};

use crate::detection::screen::{Screened, Screening};

/// Where a receiver's requests go.
pub trait Consumer: Clone + Send + Sync + 'static {
    /// A request is arriving.
    fn begin(&self) -> Screening;

    /// A request has ended well. Returns when its effect is safe: every hit observed, and every
    /// finding it caused accepted by the queue of every exporter.
    ///
    /// # Errors
    /// When nothing of the request was taken, and the sender shall try again later.
    fn consume(&self, screened: Screened) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// A request was refused by the receiver itself: malformed, too large, or cut off.
    fn refused(&self);
}

/// Not now. The same request may be taken later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no room for the findings the request may cause.
    #[error("the exporters cannot take more findings now, try again later")]
    Full {
        /// How long the sender should wait.
        retry_after: Duration,
    },
    /// The service is shutting down.
    #[error("the service is shutting down, try again later")]
    ShuttingDown,
}

impl Refusal {
    /// How long the sender should wait.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Full { retry_after } => retry_after,
            // Long enough for a restart.
            Self::ShuttingDown => Duration::from_secs(5),
        }
    }
}
