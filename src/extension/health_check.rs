//! The `health_check` extension: whether the service is ready, over HTTP.

use crate::tls;

/// Settings of one `health_check` extension, under the Collector's key names.
#[derive(Clone, Debug)]
pub struct Config {
    /// `endpoint`: host and port to listen on.
    pub endpoint: String,
    /// `path` that is answered; others get 404.
    pub path: String,
    /// `response_body::healthy`: the body while ready, instead of the Collector's JSON.
    pub healthy_body: Option<String>,
    /// `response_body::unhealthy`: the body while not ready.
    pub unhealthy_body: Option<String>,
    /// `tls`; `None`: in the clear.
    pub tls: Option<tls::server::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:13133".to_owned(),
            path: "/".to_owned(),
            healthy_body: None,
            unhealthy_body: None,
            tls: None,
        }
    }
}
