//! Why telemetry cannot start.

/// Telemetry that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address for Prometheus cannot be listened on.
    #[error(
        "cannot listen on {endpoint} for Prometheus: {reason}; set another port under \
         service::telemetry::metrics::readers, or level: none under service::telemetry::metrics"
    )]
    Listen {
        /// The address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// Nothing can be sent there.
    #[error("cannot send telemetry to {endpoint}: {reason}")]
    Exporter {
        /// Where to.
        endpoint: String,
        /// Why not.
        reason: String,
    },
}
