//! `GET /metrics` in the text format of Prometheus.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use opentelemetry_sdk::metrics::{data::ResourceMetrics, reader::MetricReader as _};
use tokio_util::sync::CancellationToken;

use super::{
    error::Error,
    exposition::{self, Naming},
    otlp::Shared,
};
use crate::{
    endpoint::Endpoint,
    http_server::{self, Connections, Ends, Handler, Limits, Listening, Peer, Versions},
};

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
            // The Collector's default.
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
    pub(super) async fn bind(config: &Config) -> Result<(Self, Shared), Error> {
        let failed = |reason: String| Error::Listen {
            endpoint: format!("{}:{}", config.host, config.port),
            reason,
        };
        let endpoint =
            Endpoint::of(&config.host, config.port).map_err(|reason| failed(reason.to_string()))?;
        let endpoint = endpoint.to_string();
        let listening = Listening::bind(&endpoint, Versions::Http1, None).await;
        let listening = listening.map_err(|error| match error {
            http_server::Error::Listen { reason, .. } => Error::Listen {
                endpoint,
                reason: reason.to_string(),
            },
            error => failed(error.to_string()),
        })?;
        let reader = Shared::default();
        let scrapes = Scrapes {
            reader: reader.clone(),
            naming: Naming {
                type_suffix: !config.without_type_suffix,
                units: !config.without_units,
                scope: !config.without_scope_info,
            },
        };
        Ok((Self { listening, scrapes }, reader))
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
            replaced: CancellationToken::new(),
            cut: stop,
        };
        http_server::serve(self.listening, limits, self.scrapes, ends).await;
    }
}

/// Answers scrapes.
#[derive(Clone, Debug)]
struct Scrapes {
    reader: Shared,
    naming: Naming,
}

impl Handler for Scrapes {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let response = self.answer_to(&request);
        if let Some(peer) = request.extensions().get::<Peer>()
            && response.status().is_success()
        {
            peer.received();
        }
        response
    }
}

impl Scrapes {
    fn answer_to<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let (status, kind, body) = if request.uri().path() != PATH {
            let hint = "not found, metrics are at /metrics\n";
            (StatusCode::NOT_FOUND, "text/plain", hint.to_owned())
        } else if request.method() != Method::GET && request.method() != Method::HEAD {
            let hint = "only GET is possible\n";
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                hint.to_owned(),
            )
        } else {
            let mut metrics = ResourceMetrics::default();
            match self.reader.collect(&mut metrics) {
                Ok(()) => {
                    let text = exposition::render(&metrics, self.naming);
                    (StatusCode::OK, exposition::CONTENT_TYPE, text)
                }
                Err(error) => {
                    let text = format!("cannot read the metrics: {error}\n");
                    (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", text)
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
}
