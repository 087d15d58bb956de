//! Pipelines, in memory or with a storage from which they continue.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{exporters::Running, observed};
use crate::{
    config::{ComponentId, DetectionConfig, ExtensionConfig, PipelineConfig},
    deadline,
    detection::time::Micros,
    exporter::queue::{Queue, Shutdown},
    extension::{file_storage, health_check::Health},
    memory::Pressure,
    pipeline::{self, Control, DurableTask, EngineTask, FindingBudget, Kept},
    processor::detection::Detection,
    storage::{Disk, Measured},
    telemetry::metrics::Metrics,
};

/// How long a start may take to read a storage.
const RECOVERY: Duration = Duration::from_mins(10);

/// What the end of a pipeline depends on.
pub(super) struct Ending<'a> {
    pub(super) health: &'a Health,
    pub(super) metrics: &'a Metrics,
    /// What all findings may take that wait in memory.
    pub(super) findings: FindingBudget,
    /// How exporters end.
    pub(super) exporters: &'a Shutdown,
}

/// The engine task of a pipeline.
pub(super) enum Task {
    Memory(Box<EngineTask>),
    Durable(Box<DurableTask>),
}

impl Task {
    /// Runs until no more can come in; keeps less while the process takes more memory than it may.
    pub(super) async fn run(self, pressure: Pressure, cut: CancellationToken) {
        match self {
            Self::Memory(task) => task.under(pressure).run(cut).await,
            Self::Durable(task) => task.under(pressure).run(cut).await,
        }
    }
}

/// A pipeline with a storage, or in memory.
pub(super) async fn pipeline(
    (id, now): (&ComponentId, Micros),
    (detection, queues): (Detection, Vec<Queue>),
    storage: Option<&ExtensionConfig>,
    ending: Ending<'_>,
) -> anyhow::Result<(Control, Task)> {
    if let Some(ExtensionConfig::FileStorage(config)) = storage {
        let (control, task) = durable((id, now), (detection, queues), config, ending).await?;
        return Ok((control, Task::Durable(Box::new(task))));
    }
    warn_without(id);
    let (control, task) = pipeline::pipeline(id.to_string(), detection, queues, ending.findings);
    Ok((control, Task::Memory(Box::new(task))))
}

/// A pipeline that continues from its storage.
async fn durable(
    (id, now): (&ComponentId, Micros),
    (detection, queues): (Detection, Vec<Queue>),
    config: &file_storage::Config,
    ending: Ending<'_>,
) -> anyhow::Result<(Control, DurableTask)> {
    let name = id.to_string();
    let exporters: Vec<_> = queues.iter().map(|queue| queue.id().to_owned()).collect();
    let directory = config.directory.clone();
    let read = move || -> anyhow::Result<_> {
        // Ids have no other letter that a file name may not have.
        let file = name.replace('/', "+");
        let opened = Disk::open(&directory, &file)?;
        if let Some(aside) = opened.aside {
            warn!(
                pipeline = name,
                aside,
                lost = "requests since the last snapshot, and findings that were not delivered",
                "a damaged storage was set aside, what it held is lost"
            );
        }
        let (storage, usage) = Measured::new(opened.disk);
        let storage = Box::new(storage);
        let recovered = pipeline::recover(detection, storage, (&name, now), &exporters)?;
        Ok((recovered, usage))
    };
    let (recovered, usage) = deadline::blocking(RECOVERY, "reading the storage", read)
        .await
        .map_err(anyhow::Error::from)
        .and_then(|read| read)
        .with_context(|| format!("cannot continue pipeline {id} from its storage"))?;
    let is_up = Arc::new(AtomicBool::new(true));
    let kept = Kept {
        timeout: config.timeout,
        limit: u64::try_from(config.max_size / 2).unwrap_or(u64::MAX),
        is_up: Arc::clone(&is_up),
    };
    observed::storage(
        ending.metrics,
        &id.to_string(),
        (&usage, &is_up),
        kept.limit,
    );
    ending.health.watch(move || is_up.load(Ordering::Relaxed));
    Ok(pipeline::durable_pipeline(
        id.to_string(),
        recovered,
        queues,
        kept,
        (ending.exporters.clone(), ending.findings),
    ))
}

/// The queues of the exporters of a pipeline.
pub(super) fn queues_of(
    parts: &PipelineConfig,
    running: &BTreeMap<ComponentId, Running>,
) -> Vec<Queue> {
    let exporters = parts.exporters.iter().filter_map(|id| running.get(id));
    exporters.map(|exporter| exporter.queue.clone()).collect()
}

/// The exporters of pipelines without a storage: what they do not deliver at the end is lost.
fn volatile(
    pipelines: &BTreeMap<ComponentId, PipelineConfig>,
    processors: &BTreeMap<ComponentId, DetectionConfig>,
) -> BTreeSet<ComponentId> {
    let without = pipelines.values().filter(|parts| {
        let detection = processors.get(&parts.processor);
        detection.is_none_or(|detection| detection.storage.is_none())
    });
    without
        .flat_map(|parts| parts.exporters.iter().cloned())
        .collect()
}

/// Tells the queues of exporters in pipelines whether what they do not deliver is in a storage, and so
/// not lost.
pub(super) fn keep(
    exporters: &BTreeMap<ComponentId, Running>,
    pipelines: &BTreeMap<ComponentId, PipelineConfig>,
    processors: &BTreeMap<ComponentId, DetectionConfig>,
) {
    let volatile = volatile(pipelines, processors);
    let used = pipelines.values().flat_map(|parts| &parts.exporters);
    for id in used {
        if let Some(exporter) = exporters.get(id) {
            exporter.queue.keep(!volatile.contains(id));
        }
    }
}

/// Says what a restart costs without a storage.
fn warn_without(pipeline: &ComponentId) {
    info!(
        %pipeline,
        "windows and findings are in memory: a restart closes open findings early, and a crash loses \
         them; set storage of the detection to keep them"
    );
}
