//! Spans of our own, sent by OTLP on request: what became of a request with hits, and of each
//! attempt of an exporter. A request without hits, as nearly all are, has none.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
        TracerProvider as _,
    },
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter as _,
        SpanProcessor,
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    error::Error,
    otlp::{self, Target},
};

/// Spans that may wait to be sent. What is beyond is counted and left out.
const QUEUE: usize = 2048;
/// Spans that are sent together.
const BATCH: usize = 512;

/// `service::telemetry::traces`.
#[derive(Clone, Debug)]
pub struct Config {
    /// `sampler::trace_id_ratio_based::ratio`: the share of requests with hits, and of attempts,
    /// that have a span.
    pub ratio: f64,
    /// `processors`: where spans are sent to. None: there are no spans.
    pub processors: Vec<Batch>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            processors: Vec::new(),
        }
    }
}

/// `processors::batch`.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `schedule_delay`: how long spans wait for others.
    pub delay: Duration,
    /// `exporter::otlp`: where to.
    pub to: otlp::Config,
}

/// Makes spans. The default makes none.
#[derive(Clone, Default)]
pub struct Tracer {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    tracer: SdkTracer,
    /// Its processors end with it.
    _provider: SdkTracerProvider,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

/// A tracer, and the tasks that send its spans.
pub(super) fn start(config: &Config, resource: &Resource) -> Result<(Tracer, Vec<Send>), Error> {
    let mut tasks = Vec::new();
    if config.processors.is_empty() {
        return Ok((Tracer::default(), tasks));
    }
    let ratio = Sampler::TraceIdRatioBased(config.ratio);
    let mut provider = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(Sampler::ParentBased(Box::new(ratio)));
    for batch in &config.processors {
        let (mut exporter, target) = otlp::spans(&batch.to)?;
        exporter.set_resource(resource);
        let (sender, spans) = mpsc::channel(QUEUE);
        let left_out = Arc::new(AtomicU64::new(0));
        provider = provider.with_span_processor(Handover {
            spans: sender,
            left_out: Arc::clone(&left_out),
        });
        tasks.push(Send {
            spans,
            left_out,
            exporter,
            target,
            delay: batch.delay,
        });
    }
    let provider = provider.build();
    let tracer = Tracer {
        inner: Some(Arc::new(Inner {
            tracer: provider.tracer("auditwatch"),
            _provider: provider,
        })),
    };
    Ok((tracer, tasks))
}

impl Tracer {
    /// Whether there are any spans.
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Begins a span, which may have begun at a time that has passed (nanoseconds since 1970). It
    /// ends when it is dropped.
    pub fn begin(&self, name: impl Into<String>, kind: Kind, since: Option<u64>) -> Span {
        self.begin_under(&Context::new(), name.into(), kind, since)
    }

    fn begin_under(&self, parent: &Context, name: String, kind: Kind, since: Option<u64>) -> Span {
        let span = self.inner.as_ref().map(|inner| {
            let mut builder = SpanBuilder::from_name(name).with_kind(match kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
                Kind::Internal => SpanKind::Internal,
            });
            if let Some(since) = since.filter(|since| *since > 0) {
                builder = builder.with_start_time(UNIX_EPOCH + Duration::from_nanos(since));
            }
            inner.tracer.build_with_context(builder, parent)
        });
        Span {
            tracer: self.clone(),
            span,
        }
    }
}

/// The kind of a span, as OpenTelemetry defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that auditwatch answers.
    Server,
    /// A request that auditwatch sends.
    Client,
    /// Work inside auditwatch.
    Internal,
}

/// A span under way, or none.
pub struct Span {
    tracer: Tracer,
    span: Option<SdkSpan>,
}

impl Span {
    /// Begins a part of this one.
    #[must_use]
    pub fn part(&self, name: &'static str, since: Option<u64>) -> Span {
        let context = self
            .span
            .as_ref()
            .map_or_else(SpanContext::empty_context, |span| {
                span.span_context().clone()
            });
        let parent = Context::new().with_remote_span_context(context);
        self.tracer
            .begin_under(&parent, name.to_owned(), Kind::Internal, since)
    }

    /// Adds an attribute to the span.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Marks the span as failed.
    pub fn fail(&mut self, reason: impl Into<String>) {
        if let Some(span) = &mut self.span {
            span.set_status(Status::error(reason.into()));
        }
    }
}

/// Hands spans that have ended to the task that sends them, and never waits.
#[derive(Debug)]
struct Handover {
    spans: mpsc::Sender<SpanData>,
    left_out: Arc<AtomicU64>,
}

impl SpanProcessor for Handover {
    fn on_start(&self, _: &mut SdkSpan, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends spans, a batch at a time.
#[derive(Debug)]
pub struct Send {
    spans: mpsc::Receiver<SpanData>,
    left_out: Arc<AtomicU64>,
    exporter: SpanExporter,
    target: Target,
    delay: Duration,
}

impl Send {
    /// Sends until it is to stop, and then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.delay) => {}
            }
            let last = stop.is_cancelled();
            while let Ok(span) = self.spans.try_recv() {
                batch.push(span);
                if batch.len() >= BATCH {
                    self.send(&mut batch, last).await;
                }
            }
            if !batch.is_empty() {
                self.send(&mut batch, last).await;
            }
            if last {
                return;
            }
        }
    }

    async fn send(&mut self, batch: &mut Vec<SpanData>, last: bool) {
        let spans = batch.len();
        let was_failing = self.target.is_failing;
        let export = self.exporter.export(std::mem::take(batch));
        let sent = self.target.send(export, last).await;
        let endpoint = &self.target.endpoint;
        match sent {
            Ok(()) if was_failing => info!(endpoint, "spans are sent again"),
            Err(reason) if !was_failing => warn!(
                endpoint,
                reason,
                spans,
                "spans could not be sent and are lost; check the endpoint of service::telemetry::traces"
            ),
            _ => {}
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            warn!(
                endpoint,
                spans = left_out,
                "spans were left out, there are too many; lower the ratio of the sampler"
            );
        }
    }
}
