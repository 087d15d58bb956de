//! Why a request is not taken: the reason that is counted, and refusals that end by themselves.

use std::{fmt, time::Duration};

/// Why requests are refused, as metrics count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The request is malformed.
    Malformed,
    /// It is larger than is allowed.
    TooLarge,
    /// Its sender did not prove that it may send.
    Unauthenticated,
    /// The path, method, content type or compression is not supported.
    Unsupported,
    /// It asks whether somebody is there, as balancers do, and carries nothing.
    Probe,
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
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Unauthenticated,
        Self::Unsupported,
        Self::Probe,
        Self::Slow,
        Self::Cut,
        Self::Memory,
        Self::QueueFull,
        Self::ShuttingDown,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::Unsupported => "unsupported",
            Self::Probe => "probe",
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
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
            Self::Connection => "connection",
            Self::Process => "process",
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "the requests under way hold",
            Self::Address => "the requests of this address hold",
            Self::Connection => "the requests of this connection hold",
            Self::Process => "the process holds",
        })
    }
}

impl Refusal {
    /// The reason that is counted.
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
