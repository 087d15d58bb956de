//! Our own metrics and spans, sent by OTLP.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_otlp::{
    MetricExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        InstrumentKind, ManualReader, Pipeline, Temporality, data::ResourceMetrics,
        exporter::PushMetricExporter as _, reader::MetricReader,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{metadata::MetadataMap, transport::ClientTlsConfig};
use tracing::{info, warn};

use super::Error;

/// How the last metrics may delay the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    exporter: MetricExporter,
    interval: Duration,
    config: Config,
}

impl Push {
    /// A sender that has not begun; the reader is for a provider of metrics.
    pub(super) fn new(periodic: &Periodic) -> Result<(Self, Shared), Error> {
        let Periodic { interval, to } = periodic;
        let exporter = match to.protocol {
            Protocol::Grpc => {
                let mut builder = MetricExporter::builder()
                    .with_tonic()
                    .with_endpoint(to.endpoint.clone())
                    .with_timeout(to.timeout)
                    .with_metadata(MetadataMap::from_headers(headers(to)?));
                if to.endpoint.starts_with("https:") {
                    builder = builder.with_tls_config(ClientTlsConfig::new().with_native_roots());
                }
                builder.build()
            }
            Protocol::Http => MetricExporter::builder()
                .with_http()
                .with_http_client(client(to)?)
                .with_endpoint(to.endpoint.clone())
                .with_timeout(to.timeout)
                .with_headers(plain(to))
                .build(),
        };
        let exporter = exporter.map_err(|error| failed(to, &error))?;
        let reader = Shared(Arc::new(ManualReader::builder().build()));
        let push = Self {
            reader: reader.clone(),
            exporter,
            interval: *interval,
            config: to.clone(),
        };
        Ok((push, reader))
    }

    /// Sends until it is to stop, and then once more.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut failing = false;
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
                    info!(endpoint = self.config.endpoint, "metrics are sent again");
                    failing = false;
                }
                Ok(()) => {}
                Err(reason) => {
                    if !failing || last {
                        warn!(
                            endpoint = self.config.endpoint,
                            reason, "metrics could not be sent, will try again"
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
        match timeout(limit, self.exporter.export(&metrics)).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {limit:?}")),
        }
    }
}

/// The client for OTLP over HTTP.
pub(super) fn client(config: &Config) -> Result<reqwest::Client, Error> {
    // Whoever came first chose the same one.
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(config.timeout)
        .build()
        .map_err(|error| failed(config, &error))
}

pub(super) fn headers(config: &Config) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let name = HeaderName::try_from(name).map_err(|error| failed(config, &error))?;
        let mut value =
            HeaderValue::try_from(value.expose_secret()).map_err(|error| failed(config, &error))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

pub(super) fn plain(config: &Config) -> HashMap<String, String> {
    config
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
        .collect()
}

pub(super) fn failed(config: &Config, error: &dyn std::error::Error) -> Error {
    Error::Exporter {
        endpoint: config.endpoint.clone(),
        reason: error.to_string(),
    }
}
