//! Where a replay goes: an OTLP receiver, with retries as a collector makes them, or a file.

use std::{fmt, fs::OpenOptions, io::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use indicatif::ProgressBar;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};

use super::{Protocol, Replay, stop::Stop};
use crate::{
    cli::tally::Places,
    clock,
    deadline::{Started, within},
    exporter::{
        Outcome, otlp_grpc, otlp_http,
        queue::{Failed, RetryConfig, next_wait},
    },
    tls::{self, Pem},
    visible,
};

/// How long the file may take when a replay is stopped.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// What became of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    sent: u64,
    rejected: u64,
    given_up: u64,
    /// Lines that were too long to be read.
    left_out: u64,
    /// Events that were left when it was stopped.
    unsent: u64,
    /// Whether there are more of them than were counted.
    more: bool,
}

impl Tally {
    /// Whether all were taken.
    pub(super) fn is_whole(&self) -> bool {
        self.rejected == 0 && self.given_up == 0 && self.left_out == 0 && self.unsent == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            rejected,
            given_up,
            left_out,
            unsent,
            more,
        } = self;
        write!(
            f,
            "{sent} events sent, {rejected} rejected, {given_up} given up"
        )?;
        if *left_out > 0 {
            write!(f, ", {left_out} too long")?;
        }
        if *unsent > 0 {
            let least = if *more { "at least " } else { "" };
            write!(f, ", {least}{unsent} not sent")?;
        }
        Ok(())
    }
}

/// Where events go, and those that wait for the next request.
pub(super) struct Target {
    way: Way,
    waiting: Vec<String>,
    bytes: usize,
    tally: Tally,
    bar: ProgressBar,
}

enum Way {
    Otlp(Box<Otlp>),
    File(Appending),
}

/// A file that is appended to, by a thread: it may be a pipe whose reader does not read.
struct Appending {
    /// Absent while the thread has it.
    file: Option<std::fs::File>,
    writing: Option<Started<std::io::Result<std::fs::File>>>,
}

impl Appending {
    /// Writes a text and waits for that, until some seconds after a signal, or until a second one. Whether it is written.
    async fn write(&mut self, text: String, stop: &mut Stop) -> anyhow::Result<bool> {
        let Some(mut file) = self.file.take() else {
            return Ok(false);
        };
        let writing = self.writing.insert(Started::new("writing", move || {
            file.write_all(text.as_bytes()).map(|()| file)
        }));
        tokio::select! {
            // Until a signal asks for the end, a slow reader sets the pace.
            written = writing.within(Duration::MAX) => {
                self.file = Some(written?.context("cannot write")?);
                Ok(true)
            }
            () = async {
                stop.told().await;
                let _again = within(LAST_WRITE, "writing", stop.told_again()).await;
            } => Ok(false),
        }
    }
}

struct Otlp {
    client: Client,
    resource: Resource,
    retry: RetryConfig,
}

enum Client {
    Grpc(Box<otlp_grpc::OtlpGrpc>),
    Http(Box<otlp_http::OtlpHttp>),
}

impl Target {
    fn new(way: Way, bar: ProgressBar) -> Self {
        Self {
            way,
            waiting: Vec::new(),
            bytes: 0,
            tally: Tally::default(),
            bar,
        }
    }

    /// A file that is appended to.
    pub(super) fn file(path: &Path, bar: ProgressBar) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", visible::path(path)))?;
        Ok(Self::new(
            Way::File(Appending {
                file: Some(file),
                writing: None,
            }),
            bar,
        ))
    }

    /// A receiver.
    pub(super) fn otlp(
        replay: &Replay,
        retry: RetryConfig,
        bar: ProgressBar,
    ) -> anyhow::Result<Self> {
        let secure = replay.endpoint.starts_with("https://");
        let tls = tls::client::Config {
            insecure: !secure,
            ca: replay.ca_file.clone().map(Pem::File),
            insecure_skip_verify: replay.insecure_skip_verify,
            ..tls::client::Config::default()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &replay.header {
            let name = HeaderName::try_from(name.as_str())
                .with_context(|| format!("--header: {name:?} is no name of a header"))?;
            // The value is not shown.
            let mut value = HeaderValue::from_str(value)
                .with_context(|| format!("--header: the value of {name} cannot be sent"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let client = match replay.protocol {
            Protocol::Grpc => {
                Client::Grpc(Box::new(otlp_grpc::OtlpGrpc::new(&otlp_grpc::Config {
                    endpoint: replay.endpoint.clone(),
                    tls,
                    headers,
                    timeout: Duration::from_secs(30),
                    ..otlp_grpc::Config::default()
                })?))
            }
            Protocol::Http => {
                Client::Http(Box::new(otlp_http::OtlpHttp::new(&otlp_http::Config {
                    endpoint: if replay.endpoint.contains("://") {
                        replay.endpoint.clone()
                    } else {
                        format!("http://{}", replay.endpoint)
                    },
                    tls,
                    headers,
                    ..otlp_http::Config::default()
                })?))
            }
        };
        let attributes = replay
            .resource_attribute
            .iter()
            .map(|(key, value)| KeyValue {
                key: key.clone(),
                value: Some(text(value.clone())),
                ..KeyValue::default()
            });
        let resource = Resource {
            attributes: attributes.collect(),
            ..Resource::default()
        };
        Ok(Self::new(
            Way::Otlp(Box::new(Otlp {
                client,
                resource,
                retry,
            })),
            bar,
        ))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_full(&self, events: u32, bytes: usize) -> bool {
        self.waiting.len() >= usize::try_from(events).unwrap_or(usize::MAX) || self.bytes >= bytes
    }

    pub(super) fn push(&mut self, event: String) {
        self.bytes += event.len();
        self.waiting.push(event);
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes note of lines that never came to be events.
    pub(super) fn left_out(&mut self, too_long: &Places) {
        if let Some(complaint) = too_long.complaint("longer than 64 MiB", "longer than 64 MiB") {
            tracing::warn!("{complaint}");
        }
        self.tally.left_out = too_long.count();
    }

    /// Takes note of events that are left because it was stopped; `is_all`: there are no more.
    pub(super) fn unsent(&mut self, unsent: u64, is_all: bool) {
        self.tally.unsent = unsent;
        self.tally.more = !is_all;
        if unsent > 0 {
            let least = if is_all { "" } else { "at least " };
            tracing::warn!(
                "stopped before the end of the log, {least}{unsent} events were not sent"
            );
        }
    }

    /// Sends what waits, until it is taken or given up. Whoever is told to stop tries it once.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) async fn flush(&mut self, stop: &mut Stop) -> anyhow::Result<()> {
        let events = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if events.is_empty() {
            return Ok(());
        }
        match &mut self.way {
            Way::File(file) => {
                let mut text = events.join("\n");
                text.push('\n');
                let count = events.len() as u64;
                if file.write(text, stop).await? {
                    self.tally.sent += count;
                } else {
                    self.tally.given_up += count;
                }
            }
            Way::Otlp(otlp) => {
                otlp.deliver(&events, &mut self.tally, &self.bar, stop)
                    .await;
            }
        }
        Ok(())
    }
}

impl Otlp {
    async fn deliver(
        &mut self,
        events: &[String],
        tally: &mut Tally,
        bar: &ProgressBar,
        stop: &mut Stop,
    ) {
        let say = |line: String| bar.suspend(|| tracing::warn!("{line}"));
        let (mut rest, mut most) = (events, usize::MAX);
        let mut failed = Failed::default();
        let mut since = clock::monotonic();
        while !rest.is_empty() {
            let (part, later) = rest.split_at(most.min(rest.len()));
            let count = part.len() as u64;
            let outcome = tokio::select! {
                outcome = self.send(part) => outcome,
                // What is under way may have been taken all the same.
                () = stop.told_again() => {
                    tally.given_up += rest.len() as u64;
                    return;
                }
            };
            match outcome {
                Outcome::Accepted(_) => tally.sent += count,
                Outcome::Partial {
                    rejected, reason, ..
                } => {
                    let rejected = (rejected as u64).min(count);
                    tally.sent += count - rejected;
                    tally.rejected += rejected;
                    say(reason);
                }
                Outcome::TooLarge { .. } if part.len() > 1 => {
                    most = part.len() / 2;
                    continue;
                }
                Outcome::Retry {
                    reason,
                    after,
                    limit,
                } => {
                    failed.attempts += 1;
                    failed.limited += u32::from(limit.is_some());
                    failed.elapsed = clock::monotonic() - since;
                    (failed.after, failed.limit) = (after, limit);
                    if let Some(wait) = next_wait(&self.retry, &failed, rand::random())
                        && !stop.is_told()
                    {
                        say(format!(
                            "{reason}, trying again in {:.1} s",
                            wait.as_secs_f64()
                        ));
                        // A signal that ends the wait leaves one attempt more.
                        tokio::select! {
                            () = tokio::time::sleep(wait) => {}
                            () = stop.told() => {}
                        }
                        continue;
                    }
                    tally.given_up += count;
                    say(format!("{count} events were given up: {reason}"));
                }
                Outcome::TooLarge { reason, .. }
                | Outcome::Invalid { reason, .. }
                | Outcome::Permanent { reason } => {
                    tally.given_up += count;
                    say(format!("{count} events were given up: {reason}"));
                }
            }
            rest = later;
            failed = Failed::default();
            since = clock::monotonic();
        }
    }

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

fn text(text: String) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text)),
    }
}
