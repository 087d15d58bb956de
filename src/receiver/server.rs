//! What the servers of all receivers have in common: how they listen, what they share, when they end.

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::admission::Admission;
use crate::{
    http_server::{Before, Ends, Error, Listening, Versions},
    memory::Pressure,
    tls,
};

/// What the receivers of a service share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The memory that their requests hold together.
    pub admission: Admission,
    /// Whether the process takes more memory than it may.
    pub pressure: Pressure,
    /// No more connections; what has begun may end.
    pub stop: CancellationToken,
    /// Another server takes the place of this one.
    pub replaced: CancellationToken,
    /// What has not come in by now is refused.
    pub cut: CancellationToken,
}

impl Shared {
    pub(super) fn ends(&self) -> Ends {
        Ends {
            stop: self.stop.clone(),
            replaced: self.replaced.clone(),
            cut: self.cut.clone(),
        }
    }
}

/// Listens, and warns when requests could be read on their way.
pub(super) async fn listen(
    before: Option<&Before>,
    endpoint: &str,
    versions: Versions,
    tls: Option<&tls::server::Config>,
) -> Result<Listening, Error> {
    let listening = Listening::bind_after(before, endpoint, versions, tls).await?;
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
