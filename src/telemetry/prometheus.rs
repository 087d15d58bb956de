//! `GET /metrics` in the text format of Prometheus.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::lookup_host;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::http_server::{self, Connections, Ends, Handler, Limits, Listening, Peer, Versions};

/// Connections at a time. A new one takes the place of one that asks nothing.
const CONNECTIONS: usize = 16;
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
    listening: Listening,
    scrapes: Scrapes,
}

impl Server {
    /// Starts to listen; the reader is for a provider of metrics.
    pub(super) async fn bind(config: &Config) -> Result<(Self, PrometheusExporter), Error> {
        let listening = listen(&config.host, config.port).await;
        let listening = listening.map_err(|reason| Error::Listen {
            endpoint: format!("{}:{}", config.host, config.port),
            reason,
        })?;
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
                listening,
                scrapes: Scrapes { registry },
            },
            reader,
        ))
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// What becomes of its connections.
    pub fn connections(&self) -> &Arc<Connections> {
        self.listening.connections()
    }

    /// Answers until it is to stop.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let limits = Limits {
            // A scrape is one request: a connection that stays open takes a place from others.
            keep_alive: false,
            ..Limits::brief(CONNECTIONS)
        };
        let ends = Ends {
            stop: stop.clone(),
            cut: stop,
        };
        http_server::serve(self.listening, limits, self.scrapes, ends).await;
    }
}

/// Listens on a host and port. Of the addresses of a name it is one of IPv4 if there is any, as in
/// Go, or nobody would find us on 127.0.0.1; and that one alone, or a second service would take
/// `[::1]` and nobody would notice.
async fn listen(host: &str, port: u16) -> std::io::Result<Listening> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = lookup_host((host, port)).await?;
    let address = addresses
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let listening = Listening::bind(&address.to_string(), Versions::Http1, None).await;
    listening.map_err(|error| match error {
        http_server::Error::Listen { reason, .. } => reason,
        http_server::Error::Tls(error) => std::io::Error::other(error),
    })
}

/// Answers scrapes.
#[derive(Clone, Debug)]
struct Scrapes {
    registry: Registry,
}

impl Handler for Scrapes {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let response = answer(&request, &self.registry);
        if let Some(peer) = request.extensions().get::<Peer>()
            && response.status().is_success()
        {
            peer.received();
        }
        response
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
