//! A server that listens: its socket, the versions of HTTP it speaks, its TLS.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    net::{TcpListener, lookup_host},
    time::timeout,
};

use super::closed::Connections;
use crate::{
    memory::Pressure,
    tls::{self, server::Acceptor},
};

/// How long the name in an endpoint may take to be found.
const RESOLVE: Duration = Duration::from_secs(5);

/// A server that cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {endpoint}: {reason}")]
    Listen {
        /// The address.
        endpoint: String,
        /// Why.
        reason: io::Error,
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
    pub(super) listener: Arc<TcpListener>,
    endpoint: String,
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
        Self::bind_after(None, endpoint, versions, tls).await
    }

    /// The same in the place of a server that may still serve. On the same endpoint they share the
    /// socket, so that no connection is refused meanwhile.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn bind_after(
        before: Option<&Before>,
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
        let shared = match before {
            Some(before) => before.socket(endpoint).await,
            None => None,
        };
        let listener = match shared {
            Some(shared) => shared.map_err(failed)?,
            None => TcpListener::bind(endpoint).await.map_err(failed)?,
        };
        let address = listener.local_addr().map_err(failed)?;
        let connections = match before {
            Some(before) => Arc::clone(&before.connections),
            None => Arc::new(Connections::new(address)),
        };
        Ok(Self {
            listener: Arc::new(listener),
            endpoint: endpoint.to_owned(),
            address,
            versions,
            tls,
            connections,
            pressure: Pressure::default(),
        })
    }

    /// What another server needs to take its place.
    pub fn before(&self) -> Before {
        Before {
            endpoint: self.endpoint.clone(),
            address: self.address,
            socket: Arc::downgrade(&self.listener),
            connections: Arc::clone(&self.connections),
        }
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

/// A server whose place another one takes. It does not keep the socket open.
#[derive(Clone, Debug)]
pub struct Before {
    endpoint: String,
    address: SocketAddr,
    socket: Weak<TcpListener>,
    connections: Arc<Connections>,
}

impl Before {
    /// Its socket, once more, if it is still there and the endpoint is its own.
    async fn socket(&self, endpoint: &str) -> Option<io::Result<TcpListener>> {
        if self.endpoint != endpoint && !self.is_at(endpoint).await {
            return None;
        }
        let listener = self.socket.upgrade()?;
        let again = listener.as_fd().try_clone_to_owned();
        Some(again.and_then(|socket| TcpListener::from_std(socket.into())))
    }

    /// Whether an endpoint that is written in another way is its address: it could not be listened on a
    /// second time.
    async fn is_at(&self, endpoint: &str) -> bool {
        let found = timeout(RESOLVE, lookup_host(endpoint)).await;
        match found {
            Ok(Ok(mut all)) => all.any(|one| one == self.address),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `localhost` in the place of its address listens on the socket that is there.
    #[tokio::test]
    async fn another_name_of_an_address_shares_its_socket() {
        let bind = |before, endpoint: String| async move {
            Listening::bind_after(before, &endpoint, Versions::All, None).await
        };
        let first = bind(None, "127.0.0.1:0".to_owned()).await.unwrap();
        let (before, port) = (first.before(), first.address().port());
        for name in ["127.0.0.1", "localhost"] {
            let again = bind(Some(&before), format!("{name}:{port}")).await;
            match again {
                Ok(again) => assert_eq!(again.address(), first.address(), "{name}"),
                // Where the name has no such address, it is another endpoint.
                Err(error) => assert_ne!(name, "127.0.0.1", "{error}"),
            }
        }
    }
}
