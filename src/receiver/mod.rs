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
mod reading;
mod rejection;

use std::{future::Future, time::Duration};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use in_flight::InFlight;

pub use crate::http_server::{Class, Connections, Error, Limits};
use crate::{
    detection::screen::{Screened, Screening},
    http_server::{Ends, Listening, Versions},
    memory::Pressure,
    tls,
};

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

    /// A request was refused, by the receiver or by [`Self::consume`]. Its sender is anonymous or
    /// authenticated.
    fn refused(&self, reason: Reason, class: Class);
}

/// Why requests are refused, as far as somebody counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its bytes are not what they should be.
    Malformed,
    /// It is larger than is allowed.
    TooLarge,
    /// Nobody who may send has sent it.
    Unauthenticated,
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
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Unauthenticated,
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
            Self::Unauthenticated => "unauthenticated",
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
    /// There is no memory for more of the request.
    #[error(
        "{holder} all the memory there may be (service::memory, service::admission), try again later"
    )]
    Memory {
        /// How long the sender should wait.
        retry_after: Duration,
        /// Whose requests hold it.
        holder: Holder,
    },
    /// The service is shutting down.
    #[error("the service is shutting down, try again later")]
    ShuttingDown,
}

/// Whose requests hold as much memory as they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// All requests under way.
    All,
    /// Those of one address.
    Address,
    /// Those of one connection.
    Connection,
    /// The process: it takes more than it may, and requests are why.
    Process,
}

impl Holder {
    /// The word for it in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
            Self::Connection => "connection",
            Self::Process => "process",
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::All => "the requests under way hold",
            Self::Address => "the requests of this address hold",
            Self::Connection => "the requests of this connection hold",
            Self::Process => "the process holds",
        })
    }
}

impl Refusal {
    /// The same, as it is counted.
    pub fn reason(self) -> Reason {
        match self {
            Self::Full { .. } => Reason::QueueFull,
            Self::Memory { .. } => Reason::Memory,
            Self::ShuttingDown => Reason::ShuttingDown,
        }
    }

    /// How long the sender should wait.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Full { retry_after } | Self::Memory { retry_after, .. } => retry_after,
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
    /// Whether the process takes more memory than it may.
    pub pressure: Pressure,
    /// No more connections; what has begun may end.
    pub stop: CancellationToken,
    /// What has not come in by now is refused.
    pub cut: CancellationToken,
}

impl Shared {
    fn ends(&self) -> Ends {
        Ends {
            stop: self.stop.clone(),
            cut: self.cut.clone(),
        }
    }
}

/// Listens, and says so when what is sent could be read on its way.
async fn listen(
    endpoint: &str,
    versions: Versions,
    tls: Option<&tls::server::Config>,
) -> Result<Listening, Error> {
    let listening = Listening::bind(endpoint, versions, tls).await?;
    let address = listening.address();
    if tls.is_none() && !address.ip().is_loopback() {
        let place = if address.ip().is_unspecified() {
            "all addresses"
        } else {
            "an address that others reach"
        };
        warn!(
            endpoint = %address,
            "listens on {place} without tls: logs and tokens can be read on their way, set tls, \
             and auth or client_ca_file for who may send, or listen on 127.0.0.1"
        );
    }
    Ok(listening)
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
