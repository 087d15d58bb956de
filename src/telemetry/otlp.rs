//! Our own metrics and spans, sent by OTLP.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        InstrumentKind, ManualReader, Pipeline, Temporality, data::ResourceMetrics,
        reader::MetricReader,
    },
};
use prost::Message as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tracing::{info, warn};

use super::Error;
use crate::{deadline, redact};

/// How the last metrics may delay the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Most characters of what is wrong.
const WORDS: usize = 400;

/// The form of OTLP that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    #[default]
    Http,
}

/// `exporter::otlp`: where to.
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
}

/// `periodic`: metrics that are sent.
#[derive(Clone, Debug)]
pub struct Periodic {
    /// `interval`: how often.
    pub interval: Duration,
    /// `exporter::otlp`: where to.
    pub to: Config,
}

/// A reader that its provider and the task that asks it share.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<ManualReader>);

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

/// Sends metrics, now and then.
#[derive(Debug)]
pub struct Push {
    reader: Shared,
    way: Way,
    interval: Duration,
    config: Config,
}

impl Push {
    /// A sender that has not begun; the reader is for a provider of metrics.
    pub(super) fn new(periodic: &Periodic) -> Result<(Self, Shared), Error> {
        let reader = Shared(Arc::new(ManualReader::builder().build()));
        let push = Self {
            reader: reader.clone(),
            way: Way::new(&periodic.to)?,
            interval: periodic.interval,
            config: periodic.to.clone(),
        };
        Ok((push, reader))
    }

    /// Sends until it is to stop, and then once more.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        let endpoint = redact::url(&self.config.endpoint);
        loop {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(self.interval) => {}
            }
            let last = stop.is_cancelled();
            let limit = if last {
                self.config.timeout.min(LAST_WORDS)
            } else {
                self.config.timeout
            };
            match self.send(limit).await {
                Ok(()) if failing => {
                    info!(endpoint, "metrics are sent again");
                    failing = false;
                }
                Ok(()) => {}
                Err(reason) => {
                    if !failing || last {
                        warn!(
                            endpoint,
                            reason,
                            "metrics could not be sent; check the endpoint of service::telemetry::metrics"
                        );
                    }
                    failing = true;
                }
            }
            if last {
                return;
            }
        }
    }

    async fn send(&self, limit: Duration) -> Result<(), String> {
        let mut metrics = ResourceMetrics::default();
        self.reader
            .collect(&mut metrics)
            .map_err(|error| error.to_string())?;
        deadline::within(limit, "the answer", self.way.metrics((&metrics).into()))
            .await
            .unwrap_or_else(|late| Err(late.to_string()))
    }
}

/// A way to one endpoint. The environment has no say in it, as it has in OpenTelemetry's own.
#[derive(Clone, Debug)]
pub(super) struct Way {
    client: Client,
    headers: HeaderMap,
    /// What no message may hold: the values of `headers`.
    secrets: Vec<SecretString>,
}

#[derive(Clone, Debug)]
enum Client {
    Grpc(Channel),
    Http(reqwest::Client, String),
}

impl Way {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let client = match config.protocol {
            Protocol::Grpc => Client::Grpc(channel(config).map_err(|why| failed(config, &why))?),
            Protocol::Http => {
                // Whoever came first chose the same one.
                let _already_there =
                    rustls::crypto::aws_lc_rs::default_provider().install_default();
                let client = reqwest::Client::builder()
                    .timeout(config.timeout)
                    .connect_timeout(config.timeout / 2)
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|why| failed(config, &why.without_url()))?;
                Client::Http(client, config.endpoint.clone())
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let name = HeaderName::try_from(name).map_err(|why| failed(config, &why))?;
            let mut value =
                HeaderValue::try_from(value.expose_secret()).map_err(|why| failed(config, &why))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self {
            client,
            headers,
            secrets: config.headers.values().cloned().collect(),
        })
    }

    /// Sends metrics. What is wrong is told without secrets.
    async fn metrics(&self, message: ExportMetricsServiceRequest) -> Result<(), String> {
        match &self.client {
            Client::Grpc(channel) => {
                let mut client = MetricsServiceClient::new(channel.clone());
                self.answered(client.export(self.request(message)).await)
            }
            Client::Http(client, url) => self.post(client, url, message.encode_to_vec()).await,
        }
    }

    /// Sends spans. What is wrong is told without secrets.
    pub(super) async fn spans(&self, message: ExportTraceServiceRequest) -> Result<(), String> {
        match &self.client {
            Client::Grpc(channel) => {
                let mut client = TraceServiceClient::new(channel.clone());
                self.answered(client.export(self.request(message)).await)
            }
            Client::Http(client, url) => self.post(client, url, message.encode_to_vec()).await,
        }
    }

    /// What is wrong with an answer. Its words are the peer's, who may repeat what we sent.
    fn answered<M>(&self, answer: Result<M, tonic::Status>) -> Result<(), String> {
        let Err(status) = answer else {
            return Ok(());
        };
        // Why there is no connection stands behind the status.
        let why = std::error::Error::source(&status).map(|why| format!(": {}", told(why)));
        let (code, message) = (status.code(), status.message());
        let words = format!("{code}: {message}{}", why.unwrap_or_default());
        let words = redact::hidden(&words, &self.secrets);
        Err(words.chars().take(WORDS).collect())
    }

    fn request<M>(&self, message: M) -> tonic::Request<M> {
        let metadata = MetadataMap::from_headers(self.headers.clone());
        tonic::Request::from_parts(metadata, tonic::Extensions::default(), message)
    }

    async fn post(&self, client: &reqwest::Client, url: &str, body: Vec<u8>) -> Result<(), String> {
        let request = client
            .post(url)
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        let answer = request
            .send()
            .await
            .map_err(|why| told(&why.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("the answer was {status}"))
        }
    }
}

fn channel(config: &Config) -> Result<Channel, tonic::transport::Error> {
    let mut endpoint = Endpoint::from_shared(config.endpoint.clone())?
        .connect_timeout(config.timeout)
        .timeout(config.timeout);
    if config.endpoint.starts_with("https:") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    Ok(endpoint.connect_lazy())
}

/// An error and what is behind it, on one line.
fn told(error: &dyn std::error::Error) -> String {
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
        reason: told(error),
    }
}
