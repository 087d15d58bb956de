//! A server that listens: its socket, the versions of HTTP it speaks, its TLS.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;

use super::closed::Connections;
use crate::{
    memory::Pressure,
    tls::{self, server::Acceptor},
};

/// A server that cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {endpoint}: {reason}")]
    Listen {
        /// The address.
        endpoint: String,
        /// Why.
        reason: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// The versions of HTTP that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone, which is what gRPC needs.
    Http2,
    /// HTTP/1.1 and HTTP/2.
    All,
}

impl Versions {
    /// Their names in a TLS handshake, in order of preference.
    fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::All => &[b"h2", b"http/1.1"],
        }
    }
}

/// A server that listens, and does not serve yet.
#[derive(Debug)]
pub struct Listening {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) versions: Versions,
    pub(super) tls: Option<Acceptor>,
    pub(super) connections: Arc<Connections>,
    pub(super) pressure: Pressure,
}

impl Listening {
    /// Listens on an address; port 0 is one that is free.
    ///
    /// # Errors
    /// When the address is in use or not ours, or certificates cannot be used.
    pub async fn bind(
        endpoint: &str,
        versions: Versions,
        tls: Option<&tls::server::Config>,
    ) -> Result<Self, Error> {
        let tls = tls
            .map(|config| Acceptor::new(config, versions.alpn()))
            .transpose()?;
        let failed = |reason| Error::Listen {
            endpoint: endpoint.to_owned(),
            reason,
        };
        let listener = TcpListener::bind(endpoint).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            versions,
            tls,
            connections: Arc::new(Connections::new(address)),
            pressure: Pressure::default(),
        })
    }

    /// Takes no connections while the process is above its hard memory limit.
    #[must_use]
    pub fn under(mut self, pressure: Pressure) -> Self {
        self.pressure = pressure;
        self
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What becomes of its connections, for metrics.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }
}
