//! A resolver that leads every name to one host.
//!
//! With `tls::server_name_override` requests go to that name, so that it is the name asked for in
//! TLS and looked for in the certificate; this leads it to where the endpoint is.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use hyper_util::client::legacy::connect::dns;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower_service::Service;

use crate::deadline;

/// How long the addresses of a name may be looked for. The time of the request counts as well.
const LOOKUP: Duration = Duration::from_secs(10);

/// Leads every name to one host.
#[derive(Clone, Debug)]
pub(super) struct FixedResolver(Arc<str>);

impl FixedResolver {
    /// To this host, a name or an address; IPv6 with or without brackets.
    pub(super) fn new(host: &str) -> Self {
        Self(Arc::from(host.trim_matches(['[', ']'])))
    }

    /// Its addresses, with port 0: the port is that of the request.
    async fn lookup(self) -> io::Result<Vec<SocketAddr>> {
        const WHAT: &str = "looking up the host name";
        let host = (&*self.0, 0);
        let found = deadline::within(LOOKUP, WHAT, tokio::net::lookup_host(host)).await;
        Ok(found.map_err(io::Error::from)??.collect())
    }
}

/// For HTTP.
impl Resolve for FixedResolver {
    fn resolve(&self, _name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move { Ok(Box::new(resolver.lookup().await?.into_iter()) as Addrs) })
    }
}

/// For gRPC.
impl Service<dns::Name> for FixedResolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _name: dns::Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move { Ok(resolver.lookup().await?.into_iter()) })
    }
}
