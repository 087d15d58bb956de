//! A server that listens: its socket, the versions of HTTP it speaks, its TLS.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::{Arc, Weak},
};

use tokio::net::TcpListener;

use super::{closed::Connections, socket};
use crate::{
    endpoint::{Endpoint, Invalid},
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
        reason: io::Error,
    },
    /// The address is none.
    #[error("cannot listen on {endpoint}: {reason}")]
    Endpoint {
        /// What was written.
        endpoint: String,
        /// What is wrong with it.
        reason: Invalid,
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
    endpoint: Endpoint,
    pub(super) address: SocketAddr,
    pub(super) versions: Versions,
    pub(super) tls: Option<Acceptor>,
    pub(super) connections: Arc<Connections>,
    pub(super) pressure: Pressure,
}

impl Listening {
    /// Listens on an endpoint; port 0 is one that is free.
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
        let parsed = Endpoint::to_listen(endpoint).map_err(|reason| Error::Endpoint {
            endpoint: endpoint.to_owned(),
            reason,
        })?;
        let failed = |reason| Error::Listen {
            endpoint: endpoint.to_owned(),
            reason,
        };
        let shared = match before {
            Some(before) => before.socket(&parsed).await,
            None => None,
        };
        let listener = match shared {
            Some(shared) => shared.map_err(failed)?,
            None => socket::listen(&parsed).await.map_err(failed)?,
        };
        let address = listener.local_addr().map_err(failed)?;
        let connections = match before {
            Some(before) => Arc::clone(&before.connections),
            None => Arc::new(Connections::new(address)),
        };
        Ok(Self {
            listener: Arc::new(listener),
            endpoint: parsed,
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
    endpoint: Endpoint,
    address: SocketAddr,
    socket: Weak<TcpListener>,
    connections: Arc<Connections>,
}

impl Before {
    /// Its socket, once more, if it is still there and the endpoint is its own.
    async fn socket(&self, endpoint: &Endpoint) -> Option<io::Result<TcpListener>> {
        if self.endpoint != *endpoint && !self.is_at(endpoint).await {
            return None;
        }
        let listener = self.socket.upgrade()?;
        let again = listener.as_fd().try_clone_to_owned();
        Some(again.and_then(|socket| TcpListener::from_std(socket.into())))
    }

    /// Whether an endpoint that is written in another way is its address: it could not be listened on a
    /// second time.
    async fn is_at(&self, endpoint: &Endpoint) -> bool {
        let found = socket::address(endpoint).await;
        found.is_ok_and(|found| {
            let are_all = found.ip().is_unspecified() && self.address.ip().is_unspecified();
            found == self.address || are_all && found.port() == self.address.port()
        })
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
