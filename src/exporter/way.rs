//! How a gRPC connection reaches its receiver: straight, or through a proxy by `CONNECT`.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::{HttpConnector, proxy::Tunnel};
use reqwest::Url;
use tower_service::Service;

use super::resolver::FixedResolver;
use crate::proxy;

type Tcp = HttpConnector<FixedResolver>;

/// A way to one host.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Straight(Tcp),
    /// In the clear as far as the proxy, as grpc-go does it.
    Proxy(Box<Tunnel<Tcp>>),
}

impl Way {
    /// To this host, or through a proxy. `timeout` bounds making a connection.
    ///
    /// # Errors
    /// When the proxy is none that requests can be sent to.
    pub(super) fn new(
        host: &str,
        proxy: Option<&Url>,
        timeout: Duration,
    ) -> Result<Self, proxy::Error> {
        let Some(proxy) = proxy else {
            // Without another server name, the host is the name itself.
            return Ok(Self::Straight(tcp(host, timeout)));
        };
        let unfit = proxy::Error::Url("HTTPS_PROXY");
        let name = proxy.host_str().ok_or(unfit)?;
        let port = proxy.port_or_known_default().ok_or(unfit)?;
        let uri: Uri = format!("http://{name}:{port}").parse().map_err(|_| unfit)?;
        let mut tunnel = Tunnel::new(uri, tcp(name, timeout));
        if !proxy.username().is_empty() || proxy.password().is_some() {
            let (user, password) = (proxy.username(), proxy.password().unwrap_or_default());
            let both = format!("{}:{}", percent_decoded(user), percent_decoded(password));
            let value = format!("Basic {}", BASE64_STANDARD.encode(both));
            tunnel = tunnel.with_auth(HeaderValue::from_str(&value).map_err(|_| unfit)?);
        }
        Ok(Self::Proxy(Box::new(tunnel)))
    }
}

fn tcp(host: &str, timeout: Duration) -> Tcp {
    let mut tcp = HttpConnector::new_with_resolver(FixedResolver::new(host));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Shared among the addresses of a name, so that one that does not answer leaves time for the
    // others.
    tcp.set_connect_timeout(Some(timeout));
    tcp
}

/// A part of a URL without its escapes.
fn percent_decoded(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    let decoded = Url::parse(&format!("http://x/?{pair}")).ok();
    let decoded = decoded.and_then(|url| Some(url.query_pairs().next()?.1.into_owned()));
    decoded.unwrap_or_else(|| text.to_owned())
}

type Failed = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Way {
    type Response = <Tcp as Service<Uri>>::Response;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failed>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        match self {
            Self::Straight(tcp) => tcp.poll_ready(context).map_err(Failed::from),
            Self::Proxy(tunnel) => tunnel.poll_ready(context).map_err(Failed::from),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Straight(tcp) => {
                let connecting = tcp.call(uri);
                Box::pin(async move { connecting.await.map_err(Failed::from) })
            }
            Self::Proxy(tunnel) => {
                let connecting = tunnel.call(uri);
                Box::pin(async move { connecting.await.map_err(Failed::from) })
            }
        }
    }
}
