//! The exporters of the service: how each is made, at the start and when its settings have changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tracing::{info, warn};

use super::{common::Common, observed, prepared::prepared};
use crate::{
    config::{ComponentId, ExporterConfig},
    exporter::{
        Exporter,
        dead_letter::{self, Counters as LetterCounters, DeadLetters},
        debug::Debug,
        file::{self, File},
        otlp_grpc::OtlpGrpc,
        otlp_http::OtlpHttp,
        queue::{self, Queue, QueueConfig, RetryConfig},
        replaceable::{Ready, Replace, replaceable},
        splunk_hec::SplunkHec,
    },
};

/// Findings that one request of an exporter carries at most.
const BATCH: usize = 512;

/// An exporter at work.
pub(super) struct Running {
    pub(super) queue: Queue,
    pub(super) replace: Replace,
    config: QueueConfig,
    letters: Arc<LetterCounters>,
    /// Whether a pipeline has it. One that none has any more goes on with what it has, and may come
    /// back.
    is_used: Arc<AtomicBool>,
}

impl Running {
    /// Whether a pipeline has it from now on.
    pub(super) fn use_it(&self, is_used: bool) {
        self.is_used.store(is_used, Ordering::Relaxed);
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Whether its queue is the one of these settings.
    pub(super) fn has_queue_of(&self, config: &ExporterConfig) -> bool {
        self.config == queue_of(config)
    }

    /// The counts of its dead letters, for the exporter that takes its place.
    pub(super) fn letters(&self) -> Arc<LetterCounters> {
        Arc::clone(&self.letters)
    }
}

/// Makes an exporter. When `is_start`, one that is to be healthy at the start is asked.
pub(super) async fn ready(
    id: &ComponentId,
    config: &ExporterConfig,
    letters: Arc<LetterCounters>,
    is_start: bool,
) -> anyhow::Result<Ready> {
    let context = || format!("cannot start exporter {id}");
    let made = match config.clone() {
        ExporterConfig::SplunkHec(config) => {
            if let Some(warning) = config.warning() {
                warn!(exporter = %id, "{warning}");
            }
            let retry = config.retry.clone();
            let check = config.health_check_enabled && is_start;
            let dead = config.dead_letter.clone();
            let exporter = with_letters(id, (dead, letters), move || Ok(SplunkHec::new(&config)?));
            let exporter = exporter.await.with_context(context)?;
            if check {
                let healthy = exporter.inner().check_health().await;
                healthy.with_context(context)?;
            }
            Ok(Ready::new(exporter, retry))
        }
        ExporterConfig::OtlpGrpc(config) => {
            warn_deprecated(id, "otlp_grpc");
            let (retry, dead) = (config.retry.clone(), config.dead_letter.clone());
            let exporter = with_letters(id, (dead, letters), move || Ok(OtlpGrpc::new(&config)?));
            exporter.await.map(|exporter| Ready::new(exporter, retry))
        }
        ExporterConfig::OtlpHttp(config) => {
            warn_deprecated(id, "otlp_http");
            let (retry, dead) = (config.retry.clone(), config.dead_letter.clone());
            let exporter = with_letters(id, (dead, letters), move || Ok(OtlpHttp::new(&config)?));
            exporter.await.map(|exporter| Ready::new(exporter, retry))
        }
        ExporterConfig::File(config) => {
            // A disk that is full and a pipe without a reader are for an operator to mend.
            let retry = RetryConfig {
                max_elapsed_time: Duration::ZERO,
                ..RetryConfig::default()
            };
            // A file is begun anew at the start alone.
            let append = config.append || !is_start;
            let config = file::Config { append, ..config };
            let exporter = prepared(move || Ok(File::new(&config)?)).await;
            exporter.map(|exporter| Ready::new(exporter, retry))
        }
        ExporterConfig::Debug(config) => {
            Ok(Ready::new(Debug::new(&config), RetryConfig::default()))
        }
    };
    made.with_context(context)
}

/// Makes an exporter around which dead letters are kept.
async fn with_letters<E: Exporter>(
    id: &ComponentId,
    (letters, counters): (dead_letter::Config, Arc<LetterCounters>),
    make: impl FnOnce() -> anyhow::Result<E> + Send + 'static,
) -> anyhow::Result<DeadLetters<E>> {
    let name = id.to_string();
    prepared(move || Ok(DeadLetters::new(&name, make()?, &letters)?.counting(counters))).await
}

fn queue_of(config: &ExporterConfig) -> QueueConfig {
    match config {
        ExporterConfig::SplunkHec(config) => config.queue.clone(),
        ExporterConfig::OtlpGrpc(config) => config.queue.clone(),
        ExporterConfig::OtlpHttp(config) => config.queue.clone(),
        ExporterConfig::File(_) | ExporterConfig::Debug(_) => QueueConfig::default(),
    }
}

/// Whether it can have dead letters.
fn has_letters(config: &ExporterConfig) -> bool {
    !matches!(config, ExporterConfig::File(_) | ExporterConfig::Debug(_))
}

/// Warns about a component whose type is written by its old name.
fn warn_deprecated(id: &ComponentId, kind: &str) {
    if id.kind() != kind {
        warn!(exporter = %id, "deprecated, use {kind}");
    }
}

/// Makes an exporter and runs it.
pub(super) async fn start(
    common: &Common,
    id: &ComponentId,
    config: &ExporterConfig,
) -> anyhow::Result<Running> {
    let letters = Arc::default();
    let ready = ready(id, config, Arc::clone(&letters), true).await?;
    Ok(run(common, (id, config), ready, letters))
}

/// Runs an exporter that has a queue of its own from now on.
pub(super) fn run(
    common: &Common,
    (id, config): (&ComponentId, &ExporterConfig),
    ready: Ready,
    letters: Arc<LetterCounters>,
) -> Running {
    let settings = queue_of(config);
    let (queue, receiver) = queue::queue(id.to_string(), settings.clone());
    observed::exporter(&common.metrics, id, &queue);
    if has_letters(config) {
        observed::dead_letters(&common.metrics, id, &letters);
    }
    queue.counters().trace(common.tracer.clone());
    let is_used = Arc::new(AtomicBool::new(true));
    let (counters, used) = (Arc::clone(queue.counters()), Arc::clone(&is_used));
    common
        .health
        .watch(move || counters.is_up() || !used.load(Ordering::Relaxed));
    let ending = common.ending.clone();
    let id = id.to_string();
    let (exporter, replace) = replaceable(ready);
    common.spawn_vital(id.clone(), async move {
        let retry = RetryConfig::default();
        let totals = queue::run(receiver, exporter, retry, BATCH, ending).await;
        info!(
            exporter = id,
            sent = totals.sent,
            failed = totals.failed,
            "exporter stopped"
        );
    });
    Running {
        queue,
        replace,
        config: settings,
        letters,
        is_used,
    }
}
