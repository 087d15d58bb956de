//! Receivers: requests off the wire into the screen, and the answer their sender is owed.
//!
//! A receiver begins a screening when a request arrives, feeds it the bytes as they come, and
//! hands over what came out. What to answer is decided behind [`Consumer`].

mod decompress;
mod door;
mod in_flight;
pub mod otlp_grpc;
pub mod otlp_http;
mod otlp_json;
mod rejection;
mod server;

use std::{future::Future, net::SocketAddr, time::Duration};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use in_flight::InFlight;
pub use server::Limits;

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

    /// A request was refused by the receiver itself, before its records were known.
    fn refused(&self, reason: Reason);
}

/// Why requests are refused, as far as somebody counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its bytes are not what they should be.
    Malformed,
    /// It is larger than is allowed.
    TooLarge,
    /// There is nothing of this path, method, content type or compression.
    Unsupported,
    /// It took too long to come in.
    Slow,
    /// The connection was cut inside it.
    Cut,
    /// There was no room in memory for it.
    Memory,
    /// There was no room for the findings it may cause.
    QueueFull,
    /// The service is shutting down.
    ShuttingDown,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Unsupported,
        Self::Slow,
        Self::Cut,
        Self::Memory,
        Self::QueueFull,
        Self::ShuttingDown,
    ];

    /// The word for it in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::Memory => "memory",
            Self::QueueFull => "queue_full",
            Self::ShuttingDown => "shutting_down",
        }
    }
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

/// What the receivers of a service share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// What their requests hold together.
    pub in_flight: InFlight,
    /// No more connections; what has begun may end.
    pub stop: CancellationToken,
    /// What has not come in by now is refused.
    pub cut: CancellationToken,
}

/// A receiver that cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {endpoint}: {source}")]
    Listen {
        /// The address.
        endpoint: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Listens on an address; port 0 is one that is free.
async fn listen(endpoint: &str) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen {
        endpoint: endpoint.to_owned(),
        source,
    };
    let listener = TcpListener::bind(endpoint).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// What a sender is told of records that could not be read.
fn partial_success(unreadable: u64) -> Option<ExportLogsPartialSuccess> {
    (unreadable > 0).then(|| ExportLogsPartialSuccess {
        rejected_log_records: i64::try_from(unreadable).unwrap_or(i64::MAX),
        error_message: "these bodies hold a denied request but are not one JSON value; \
                        check that lines are not cut or merged on their way"
            .to_owned(),
    })
}
