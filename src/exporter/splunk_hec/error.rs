//! Why a `splunk_hec` exporter cannot be made of its settings.

use crate::{proxy, tls};

/// A setting that cannot work. Never holds the token or the endpoint's query.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is no URL that requests can be sent to.
    #[error("endpoint: {0}, expected one such as https://splunk.example.com:8088")]
    Endpoint(&'static str),
    /// The token cannot be sent.
    #[error("token: {0}")]
    Token(&'static str),
    /// Requests would never end.
    #[error("timeout: must be more than zero")]
    Timeout,
    /// The name or version of the application cannot be sent.
    #[error("{0}: holds characters that no HTTP header can carry")]
    App(&'static str),
    /// The compressor cannot be made.
    #[error("disable_compression: {0}")]
    Compression(std::io::Error),
    /// HEC is not fit to take events.
    #[error("health_check_enabled: {0}")]
    Unhealthy(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The proxy of the environment cannot be used.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
}
