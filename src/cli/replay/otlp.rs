//! A replay to an OTLP receiver, delivered and repeated as the exporters do it.

use std::{path::PathBuf, pin::pin, time::Duration};

use anyhow::Context as _;
use clap::ValueEnum;
use http::{HeaderMap, HeaderName, HeaderValue};
use indicatif::ProgressBar;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};

use super::{super::stop::Stop, count::Count};
use crate::{
    clock::{self, Instant},
    config,
    exporter::{
        Exporter, Outcome,
        delivery::{Batch, Cause, Observer, OnRefusal, Policy, Retry, RetryConfig, deliver},
        otlp_grpc, otlp_http,
        shutdown::Shutdown,
    },
    tls::{self, Pem},
};

/// How events travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// A receiver, and how it is reached.
#[derive(Debug)]
pub(super) struct Config {
    /// `host:port`, or a URL.
    pub(super) endpoint: String,
    pub(super) protocol: Protocol,
    /// Headers of each request. Their values are secrets.
    pub(super) headers: Vec<(String, String)>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) insecure_skip_verify: bool,
    /// Attributes of the resource.
    pub(super) resource: Vec<(String, String)>,
    pub(super) retry: RetryConfig,
}

/// A receiver that events are sent to.
pub(super) struct Otlp {
    sender: Sender,
    retry: RetryConfig,
}

/// One attempt at a time.
struct Sender {
    client: Client,
    resource: Resource,
}

enum Client {
    Grpc(Box<otlp_grpc::OtlpGrpc>),
    Http(Box<otlp_http::OtlpHttp>),
}

impl Otlp {
    /// Prepares the client. Connects to nothing yet.
    ///
    /// # Errors
    /// A flag that cannot work.
    pub(super) fn new(config: Config) -> anyhow::Result<Self> {
        let attributes = config.resource.iter().map(|(key, value)| KeyValue {
            key: key.clone(),
            value: Some(text(value.clone())),
            ..KeyValue::default()
        });
        let resource = Resource {
            attributes: attributes.collect(),
            ..Resource::default()
        };
        Ok(Self {
            sender: Sender {
                client: client(&config)?,
                resource,
            },
            retry: config.retry,
        })
    }

    /// Delivers events, or gives them up, and counts both. After a signal each is tried once more,
    /// and after a second one not at all.
    pub(super) async fn deliver(
        &mut self,
        events: Vec<String>,
        count: &mut Count,
        bar: &ProgressBar,
        stop: &mut Stop,
    ) {
        let shutdown = Shutdown::default();
        let policy = Policy {
            retry: self.retry.clone(),
            on_refusal: OnRefusal::GiveUp,
            shutdown: shutdown.clone(),
        };
        let mut batch = Batch::default();
        for event in events {
            batch.push(event, clock::monotonic());
        }
        let mut counting = Counting { count, bar };
        let mut delivery = pin!(deliver(
            &mut batch,
            &mut self.sender,
            &policy,
            &mut counting
        ));
        tokio::select! {
            () = &mut delivery => return,
            () = stop.requested() => shutdown.finish(),
        }
        tokio::select! {
            () = &mut delivery => return,
            () = stop.repeated() => shutdown.abandon(),
        }
        delivery.await;
    }
}

fn client(config: &Config) -> anyhow::Result<Client> {
    let tls = tls::client::Config {
        insecure: !config.endpoint.starts_with("https://"),
        ca: config.ca_file.clone().map(Pem::File),
        insecure_skip_verify: config.insecure_skip_verify,
        ..tls::client::Config::default()
    };
    let headers = headers(&config.headers)?;
    Ok(match config.protocol {
        Protocol::Grpc => Client::Grpc(Box::new(otlp_grpc::OtlpGrpc::new(&otlp_grpc::Config {
            endpoint: config.endpoint.clone(),
            tls,
            headers,
            timeout: Duration::from_secs(30),
            proxies: config::proxies(),
            ..otlp_grpc::Config::default()
        })?)),
        Protocol::Http => Client::Http(Box::new(otlp_http::OtlpHttp::new(&otlp_http::Config {
            endpoint: if config.endpoint.contains("://") {
                config.endpoint.clone()
            } else {
                format!("http://{}", config.endpoint)
            },
            tls,
            headers,
            proxies: config::proxies(),
            ..otlp_http::Config::default()
        })?)),
    })
}

fn headers(written: &[(String, String)]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let name = HeaderName::try_from(name.as_str())
            .with_context(|| format!("--header: {name:?} is no name of a header"))?;
        // The value is not shown.
        let mut value = HeaderValue::from_str(value)
            .with_context(|| format!("--header: the value of {name} cannot be sent"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

impl Exporter<String> for Sender {
    async fn send(&mut self, events: &[String]) -> Outcome {
        let observed_time_unix_nano = clock::unix_nanos();
        // As `file_log` makes them: the line is the body, and its time is not read.
        let log_records = events.iter().map(|event| LogRecord {
            observed_time_unix_nano,
            body: Some(text(event.clone())),
            ..LogRecord::default()
        });
        let message = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    log_records: log_records.collect(),
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        match &mut self.client {
            Client::Grpc(client) => client.export(message, events.len()).await,
            Client::Http(client) => client.export(&message, events.len()).await,
        }
    }
}

/// Counts what becomes of events, and prints what goes wrong beside the progress bar.
struct Counting<'a> {
    count: &'a mut Count,
    bar: &'a ProgressBar,
}

impl Counting<'_> {
    fn warn(&self, line: &str) {
        self.bar.suspend(|| tracing::warn!("{line}"));
    }
}

impl Observer<String> for Counting<'_> {
    fn accepted(&mut self, since: &[Instant], _out: usize) {
        self.count.sent += since.len() as u64;
    }

    fn partly_accepted(&mut self, events: &[String], rejected: usize, reason: String) {
        self.count.sent += events.len().saturating_sub(rejected) as u64;
        self.count.rejected += rejected as u64;
        self.warn(&reason);
    }

    fn given_up(&mut self, events: &[String], cause: Cause, reason: String) {
        let count = events.len();
        self.count.given_up += count as u64;
        // An interruption is no news to the one who interrupts.
        if cause != Cause::Abandoned {
            self.warn(&format!("{count} events were given up: {reason}"));
        }
    }

    fn retrying(&mut self, retry: Retry<'_>) {
        let Retry { reason, wait, .. } = retry;
        let seconds = wait.as_secs_f64();
        self.warn(&format!("{reason}, trying again in {seconds:.1} s"));
    }
}

fn text(text: String) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text)),
    }
}
