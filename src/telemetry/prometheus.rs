//! `GET /metrics` in the text format of Prometheus.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Error;

/// Connections at a time; more wait until one ends.
const CONNECTIONS: usize = 16;
/// How long a connection may take in all: one request, one answer.
const CONNECTION: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted.
const BREATH: Duration = Duration::from_millis(100);
/// What is answered.
const PATH: &str = "/metrics";

/// `pull::exporter::prometheus`: who may read the metrics where, and how they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `host`: where to listen.
    pub host: String,
    /// `port`; 0 is one that is free.
    pub port: u16,
    /// `without_type_suffix`: counters have no `_total` behind their names.
    pub without_type_suffix: bool,
    /// `without_units`: names do not end in a unit.
    pub without_units: bool,
    /// `without_scope_info`: values do not name the library that measured them.
    pub without_scope_info: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 8888,
            // As the Collector has it, unless it is told otherwise.
            without_type_suffix: true,
            without_units: true,
            without_scope_info: true,
        }
    }
}

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    registry: Registry,
}

impl Server {
    /// Starts to listen; the reader is for a provider of metrics.
    pub(super) async fn bind(config: &Config) -> Result<(Self, PrometheusExporter), Error> {
        let listener = listen(&config.host, config.port).await;
        let failed = |reason| Error::Listen {
            endpoint: format!("{}:{}", config.host, config.port),
            reason,
        };
        let listener = listener.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let registry = Registry::new();
        let mut reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(!config.without_scope_info);
        if config.without_type_suffix {
            reader = reader.without_counter_suffixes();
        }
        if config.without_units {
            reader = reader.without_units();
        }
        let reader = reader
            .build()
            .map_err(|error| Error::Reader(error.to_string()))?;
        Ok((
            Self {
                listener,
                address,
                registry,
            },
            reader,
        ))
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is to stop, and then no more.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, self.registry.clone()));
                }
                Err(error) => {
                    debug!(%error, "cannot accept a connection for metrics");
                    sleep(BREATH).await;
                }
            }
        }
    }
}

/// Listens on a host and port. Of the addresses of a name it is one of IPv4 if there is any, as in
/// Go, or nobody would find us on 127.0.0.1; and that one alone, or a second service would take
/// `[::1]` and nobody would notice.
async fn listen(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = lookup_host((host, port)).await?;
    let address = addresses
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| std::io::Error::other("the name has no address"))?;
    TcpListener::bind(address).await
}

async fn connection(stream: TcpStream, registry: Registry) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, &registry);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    // A scrape is one request: whoever holds a connection open holds it against others.
    server.keep_alive(false).timer(TokioTimer::new());
    let served = server.serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION, served).await {
        debug!(%error, "connection for metrics ended");
    }
}

fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    let (status, kind, body) = if request.uri().path() != PATH {
        let hint = "not found, metrics are at /metrics\n";
        (StatusCode::NOT_FOUND, "text/plain", hint.into())
    } else if request.method() != Method::GET && request.method() != Method::HEAD {
        let hint = "only GET is possible\n";
        (StatusCode::METHOD_NOT_ALLOWED, "text/plain", hint.into())
    } else {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&registry.gather(), &mut text) {
            Ok(()) => (StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Err(error) => {
                let text = format!("cannot write the metrics: {error}\n");
                (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", text.into())
            }
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, http::HeaderValue::from_static("GET"));
    }
    response
}
