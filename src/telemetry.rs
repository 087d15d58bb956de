//! What auditwatch says of itself: logs, one event per change of state, never per record, metrics,
//! and spans on request.

mod error;
mod escaped;
mod exposition;
pub mod metrics;
pub mod otlp;
mod output;
pub mod process;
pub mod prometheus;
mod throttled;
pub mod traces;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::BTreeMap,
    net::SocketAddr,
    panic::PanicHookInfo,
    sync::{Arc, OnceLock},
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::http_server::Connections;
pub use error::Error;
use escaped::{Escaped, Form};
use metrics::{Level, Metrics};
pub use output::Output;
use throttled::Throttled;

use crate::throttle;

/// How long the last lines of the log may delay the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

/// `service::telemetry::metrics`.
#[derive(Clone, Debug)]
pub struct MetricsConfig {
    /// `level`: how much is measured.
    pub level: Level,
    /// `readers`: who gets it.
    pub readers: Vec<Reader>,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            level: Level::default(),
            readers: vec![Reader::Pull(prometheus::Config::default())],
        }
    }
}

/// One of `readers`.
#[derive(Clone, Debug)]
pub enum Reader {
    /// `pull`: Prometheus comes and asks.
    Pull(prometheus::Config),
    /// `periodic`: they are sent.
    Periodic(otlp::Periodic),
}

/// A reader at work, for the tracker of the service.
#[derive(Debug)]
pub enum Task {
    /// Answers Prometheus.
    Serve(prometheus::Server),
    /// Sends metrics.
    Push(Box<otlp::Push>),
    /// Sends spans.
    Spans(Box<traces::Send>),
}

impl Task {
    /// The address that is listened on.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Serve(server) => Some(server.address()),
            Self::Push(_) | Self::Spans(_) => None,
        }
    }

    /// What becomes of the connections to that address.
    pub fn connections(&self) -> Option<&Arc<Connections>> {
        match self {
            Self::Serve(server) => Some(server.connections()),
            Self::Push(_) | Self::Spans(_) => None,
        }
    }

    /// Works until it is to stop.
    pub async fn run(self, stop: CancellationToken) {
        match self {
            Self::Serve(server) => server.serve(stop).await,
            Self::Push(push) => push.run(stop).await,
            Self::Spans(spans) => spans.run(stop).await,
        }
    }
}

/// Starts measuring: the metrics, and the tasks that let others see them.
///
/// # Errors
/// When an address cannot be listened on, or an endpoint is none.
pub async fn measure(
    config: &MetricsConfig,
    resource: &Resource,
) -> Result<(Metrics, Vec<Task>), Error> {
    let mut tasks = Vec::new();
    if config.level == Level::None || config.readers.is_empty() {
        return Ok((Metrics::default(), tasks));
    }
    let mut provider = SdkMeterProvider::builder();
    for reader in &config.readers {
        match reader {
            Reader::Pull(config) => {
                let (server, reader) = prometheus::Server::bind(config).await?;
                provider = provider.with_reader(reader);
                tasks.push(Task::Serve(server));
            }
            Reader::Periodic(config) => {
                let (push, reader) = otlp::Push::new(config)?;
                provider = provider.with_reader(reader);
                tasks.push(Task::Push(Box::new(push)));
            }
        }
    }
    let metrics = Metrics::new(config.level, provider, resource.clone());
    Ok((metrics, tasks))
}

/// Starts tracing: what makes spans, and the tasks that send them.
///
/// # Errors
/// When an endpoint is none.
pub fn trace(
    config: &traces::Config,
    resource: &Resource,
) -> Result<(traces::Tracer, Vec<Task>), Error> {
    let (tracer, tasks) = traces::start(config, resource)?;
    let tasks = tasks.into_iter().map(|task| Task::Spans(Box::new(task)));
    Ok((tracer, tasks.collect()))
}

/// What identifies this process: our defaults and what the configuration sets; an empty value leaves
/// an attribute out.
pub fn resource(own: &BTreeMap<String, String>) -> Resource {
    let mut attributes = BTreeMap::from([
        ("service.name".to_owned(), "auditwatch".to_owned()),
        (
            "service.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        (
            "service.instance.id".to_owned(),
            instance_id(rand::random()),
        ),
    ]);
    attributes.extend(own.clone());
    attributes.retain(|_, value| !value.is_empty());
    // Only what is written here counts, not OTEL_RESOURCE_ATTRIBUTES.
    Resource::builder_empty()
        .with_attributes(
            attributes
                .into_iter()
                .map(|(key, value)| KeyValue::new(key, value)),
        )
        .build()
}

/// Random bits as a UUID of version 4.
fn instance_id(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let mut id = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if [8, 12, 16, 20].contains(&at) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}

/// How often suppressed messages and dropped lines are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// Writes now and then what the log throttles hold back and how many lines were dropped, until it is
/// to stop, and then once more.
pub async fn report_suppressed(stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        throttle::write_due(false);
        report_dropped();
    }
    throttle::write_due(true);
}

/// The output of the service's log; there is one standard error.
static OUTPUT: OnceLock<Output> = OnceLock::new();

fn output() -> &'static Output {
    OUTPUT.get_or_init(Output::to_stderr)
}

/// Starts logging to standard error, for a command: its lines wait until they are read, and are in
/// order with what else it prints there. A second start in one process changes nothing.
pub fn start(level: LevelFilter, json: bool) {
    start_with(level, json, std::io::stderr);
}

/// Starts logging to standard error, for the service: no part of it ever waits for a line. What is
/// not read is dropped and counted. Panics are logged as well.
pub fn start_service(level: LevelFilter, json: bool) {
    start_with(level, json, output().clone());
    std::panic::set_hook(Box::new(log_panic));
}

/// Writes a line of its own behind those of the log, and waits a second at most until all are
/// written.
pub fn last_line(line: &str) {
    output().push(format!("{line}\n").as_bytes());
    flush();
}

/// Waits a second at most until all lines of the service's log are written.
pub fn flush() {
    report_dropped();
    if let Some(output) = OUTPUT.get() {
        output.flush(LAST_LINES);
    }
}

/// Logs how many lines were dropped, when there is room for that line.
fn report_dropped() {
    if let Some(output) = OUTPUT.get() {
        output.report_dropped();
    }
}

/// Lines of the service's log that were dropped so far.
pub fn dropped_lines() -> u64 {
    OUTPUT.get().map_or(0, Output::dropped)
}

fn start_with<W>(level: LevelFilter, json: bool, writer: W)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // Libraries speak up only when something is wrong.
    let own = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("auditwatch", level);
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let form = match (json, colours) {
        (true, _) => Form::Json,
        (false, true) => Form::Colours,
        (false, false) => Form::Console,
    };
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(escaped::fields())
        .with_writer(Escaped {
            inner: writer,
            form,
        })
        .with_ansi(colours)
        // It would report a line that cannot be written in the same place, and panic there.
        .log_internal_errors(false)
        .with_target(false);
    let lines = if json {
        lines.json().boxed()
    } else {
        lines.boxed()
    };
    // Tests start several services in one process; the first one's logging serves all.
    let _started = tracing_subscriber::registry()
        .with(lines)
        .with(Throttled::log())
        .with(own)
        .try_init();
}

/// The standard library's own hook would write to standard error itself, and wait there.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(
        place,
        reason = panic.payload_as_str(),
        thread = thread.name(),
        backtrace,
        "a part of auditwatch panicked, please report this"
    );
    // The process ends with that thread, so this is the last chance to write the line.
    if thread.name() == Some("main") {
        flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_a_uuid_of_version_4() {
        assert_eq!(instance_id(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(
            instance_id(u128::MAX),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
    }

    #[test]
    fn a_resource_is_ours_unless_told_otherwise() {
        let own = [
            ("service.name", "mine"),
            ("service.version", ""),
            ("a", "b"),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let resource = resource(&own.into());
        let of = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
        assert_eq!(of("service.name").as_deref(), Some("mine"));
        assert_eq!(of("service.version"), None);
        assert_eq!(of("a").as_deref(), Some("b"));
        assert!(of("service.instance.id").is_some());
    }
}
