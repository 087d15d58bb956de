//! Our own metrics and spans, pushed over OTLP by the exporters of OpenTelemetry's own crate.
//!
//! The exporters run in tasks of the service, so that its shutdown waits for them. Over HTTP they
//! hide the cause of a failed connection; `Cause` keeps it for the log. They also read
//! `OTEL_EXPORTER_OTLP_*` on their own: `config` reads these variables first, refuses contradictions
//! to the configuration, and passes the values on, so the exporters find nothing that is not set
//! here.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use opentelemetry_otlp::{
    MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    metrics::{
        InstrumentKind, ManualReader, Pipeline, Temporality, data::ResourceMetrics,
        exporter::PushMetricExporter as _, reader::MetricReader,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tracing::{info, warn};

use super::error::Error;
use crate::{deadline, redact, tls};

/// The longest delay that the last metrics and spans may cause at the end.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(2);

/// Most characters of an error.
const WORDS: usize = 400;

/// Most bytes of an answer. A good one is short.
const ANSWER_MAX: usize = 64 * 1024;

/// The form of OTLP that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    #[default]
    Http,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `gzip`.
    Gzip,
    /// `zstd`, over gRPC alone.
    Zstd,
}

/// `exporter::otlp`: where to, completed by `OTEL_EXPORTER_OTLP_*`.
#[derive(Clone, Debug)]
pub struct Config {
    /// `protocol`.
    pub protocol: Protocol,
    /// `endpoint`: a URL. For `http/protobuf` the whole one, with its path.
    pub endpoint: String,
    /// `headers`: sent with every request. They may be secret.
    pub headers: BTreeMap<String, SecretString>,
    /// `timeout`: how long one request may take.
    pub timeout: Duration,
    /// Compression of requests. It has no key, only a variable.
    pub compression: Option<Compression>,
    /// PEM file of the authorities to trust instead of the system's. It has no key, only a variable.
    pub ca: Option<PathBuf>,
    /// PEM files of the client certificate and of its private key. They have no keys, only
    /// variables.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// `periodic`: metrics that are sent.
#[derive(Clone, Debug)]
pub struct Periodic {
    /// `interval`: how often.
    pub interval: Duration,
    /// `exporter::otlp`: where to.
    pub to: Config,
}

/// A reader that its provider shares with the task that pushes, or with the server that answers
/// Prometheus.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<ManualReader>);

impl Default for Shared {
    fn default() -> Self {
        Self(Arc::new(ManualReader::builder().build()))
    }
}

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// Pushes metrics, now and then.
#[derive(Debug)]
pub struct Push {
    reader: Shared,
    exporter: MetricExporter,
    target: Target,
    interval: Duration,
}

impl Push {
    /// A sender that has not begun; the reader is for a provider of metrics.
    pub(super) fn new(periodic: &Periodic) -> Result<(Self, Shared), Error> {
        let reader = Shared::default();
        let target = Target::new(&periodic.to);
        let builder = MetricExporter::builder().with_temporality(Temporality::Cumulative);
        let exporter = match periodic.to.protocol {
            Protocol::Grpc => grpc(builder.with_tonic(), &periodic.to)?.build(),
            Protocol::Http => http(builder.with_http(), &periodic.to, &target.cause)?.build(),
        };
        let push = Self {
            reader: reader.clone(),
            exporter: exporter.map_err(|why| failed(&periodic.to, &why))?,
            target,
            interval: periodic.interval,
        };
        Ok((push, reader))
    }

    /// Sends until it is to stop, and then once more.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(self.interval) => {}
            }
            let last = stop.is_cancelled();
            let mut metrics = ResourceMetrics::default();
            let collected = self.reader.collect(&mut metrics);
            let export = async {
                collected?;
                self.exporter.export(&metrics).await
            };
            let was_failing = self.target.is_failing;
            let sent = self.target.send(export, last).await;
            let endpoint = &self.target.endpoint;
            match sent {
                Ok(()) if was_failing => info!(endpoint, "metrics are sent again"),
                Err(reason) if !was_failing || last => warn!(
                    endpoint,
                    reason,
                    "metrics could not be sent; check the endpoint of service::telemetry::metrics"
                ),
                _ => {}
            }
            if last {
                return;
            }
        }
    }
}

/// Where a task sends to, and how that went.
#[derive(Debug)]
pub(super) struct Target {
    /// The URL, without what may be secret.
    pub(super) endpoint: String,
    /// Whether the last request failed.
    pub(super) is_failing: bool,
    timeout: Duration,
    /// The values of headers, which no message may contain.
    secrets: Vec<SecretString>,
    cause: Cause,
}

impl Target {
    fn new(config: &Config) -> Self {
        Self {
            endpoint: redact::url(&config.endpoint),
            is_failing: false,
            timeout: config.timeout,
            secrets: config.headers.values().cloned().collect(),
            cause: Cause::default(),
        }
    }

    /// Waits for a request, for at most [`LAST_REQUEST`] if it is the last one. An error contains no
    /// secret.
    pub(super) async fn send(
        &mut self,
        export: impl Future<Output = OTelSdkResult>,
        last: bool,
    ) -> Result<(), String> {
        let limit = if last {
            self.timeout.min(LAST_REQUEST)
        } else {
            self.timeout
        };
        let sent = deadline::within(limit, "the answer", export).await;
        let cause = self.cause.take();
        let sent = match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(OTelSdkError::InternalFailure(words))) => Err(words),
            Ok(Err(error)) => Err(error.to_string()),
            Err(late) => Err(late.to_string()),
        };
        self.is_failing = sent.is_err();
        sent.map_err(|words| {
            // The text may contain words of the peer, which may repeat our headers.
            let words = cause.map_or(words.clone(), |cause| format!("{words}: {cause}"));
            let words = redact::hidden(&words, &self.secrets);
            words.chars().take(WORDS).collect()
        })
    }
}

/// The cause why the last request over HTTP got no answer.
#[derive(Clone, Debug, Default)]
struct Cause(Arc<Mutex<Option<String>>>);

impl Cause {
    fn set(&self, cause: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An exporter of spans and where it sends to.
pub(super) fn spans(config: &Config) -> Result<(SpanExporter, Target), Error> {
    let target = Target::new(config);
    let builder = SpanExporter::builder();
    let exporter = match config.protocol {
        Protocol::Grpc => grpc(builder.with_tonic(), config)?.build(),
        Protocol::Http => http(builder.with_http(), config, &target.cause)?.build(),
    };
    Ok((exporter.map_err(|why| failed(config, &why))?, target))
}

/// Sets everything on an exporter over gRPC.
fn grpc<B: WithExportConfig + WithTonicConfig>(builder: B, config: &Config) -> Result<B, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let name = HeaderName::try_from(name).map_err(|why| failed(config, &why))?;
        let mut value =
            HeaderValue::try_from(value.expose_secret()).map_err(|why| failed(config, &why))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let builder = builder
        .with_channel(channel(config)?)
        .with_timeout(config.timeout)
        .with_metadata(MetadataMap::from_headers(headers));
    Ok(match compression(config) {
        Some(compression) => builder.with_compression(compression),
        None => builder,
    })
}

/// The connection under gRPC, which begins when there is something to send.
fn channel(config: &Config) -> Result<Channel, Error> {
    let fail = |why: tonic::transport::Error| failed(config, &why);
    let mut endpoint = Endpoint::from_shared(config.endpoint.clone())
        .map_err(fail)?
        .connect_timeout(config.timeout)
        .timeout(config.timeout);
    if config.endpoint.starts_with("https:") {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|why| failed(config, &why));
        let mut tls = match &config.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &config.identity {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        endpoint = endpoint.tls_config(tls).map_err(fail)?;
    }
    Ok(endpoint.connect_lazy())
}

/// Sets everything on an exporter over HTTP.
fn http<B: WithExportConfig + WithHttpConfig>(
    builder: B,
    config: &Config,
    cause: &Cause,
) -> Result<B, Error> {
    let mut client = reqwest::Client::builder()
        .timeout(config.timeout)
        .connect_timeout(config.timeout / 2)
        // Headers would travel with them.
        .redirect(reqwest::redirect::Policy::none());
    if config.endpoint.starts_with("https:") {
        let file = |path: &PathBuf| tls::Pem::File(path.clone());
        let identity = config.identity.as_ref();
        let tls = tls::client::Config {
            ca: config.ca.as_ref().map(file),
            cert: identity.map(|(certificate, _)| file(certificate)),
            key: identity.map(|(_, key)| file(key)),
            ..tls::client::Config::default()
        };
        let tls = tls.build().map_err(|why| failed(config, &why))?;
        client = client.tls_backend_preconfigured(tls);
    } else {
        tls::install();
        // Without this, a machine without certificates could not even speak plain HTTP.
        client = client.tls_certs_only([]);
    }
    let client = client
        .build()
        .map_err(|why| failed(config, &why.without_url()))?;
    let headers: HashMap<_, _> = config
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
        .collect();
    let builder = builder
        .with_http_client(Client {
            client,
            cause: cause.clone(),
        })
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(&config.endpoint)
        .with_timeout(config.timeout)
        .with_headers(headers);
    Ok(match compression(config) {
        Some(compression) => builder.with_compression(compression),
        None => builder,
    })
}

fn compression(config: &Config) -> Option<opentelemetry_otlp::Compression> {
    config.compression.map(|compression| match compression {
        Compression::Gzip => opentelemetry_otlp::Compression::Gzip,
        Compression::Zstd => opentelemetry_otlp::Compression::Zstd,
    })
}

/// The HTTP client of an exporter. It keeps the cause when it gets no answer.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    cause: Cause,
}

impl Client {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request = self
            .client
            .post(parts.uri.to_string())
            .headers(parts.headers)
            .body(body);
        let noted = |error: reqwest::Error| {
            let error = error.without_url();
            self.cause.set(chain(&error));
            error
        };
        // The client has a time-out of its own.
        let mut answer = request.send().await.map_err(noted)?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(noted)? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_MAX {
                return Err(ResponseBodyTooLarge::new().into());
            }
        }
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = answer.status();
        Ok(response)
    }
}

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    // As the macro of the trait writes it.
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Answering<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}

/// An error and what is behind it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        text = format!("{text}: {error}");
        behind = error.source();
    }
    text
}

fn failed(config: &Config, error: &dyn std::error::Error) -> Error {
    Error::Exporter {
        endpoint: redact::url(&config.endpoint),
        reason: chain(error),
    }
}
