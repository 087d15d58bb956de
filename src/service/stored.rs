//! Pipelines whose detection has a storage.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tracing::{info, warn};

use super::Service;
use crate::{
    config::{ComponentId, DetectionConfig, ExtensionConfig, PipelineConfig},
    deadline,
    detection::time::Micros,
    exporter::queue::Queue,
    extension::file_storage,
    memory::Pressure,
    pipeline::{self, DurableTask, FindingBudget, Intake, Kept},
    processor::detection::Detection,
    storage::Disk,
};

/// How long a start may take to read a storage.
const RECOVERY: Duration = Duration::from_mins(10);

impl Service {
    /// Starts the engine task of a pipeline, with a storage or in memory.
    pub(super) async fn start_pipeline(
        &self,
        (id, now): (&ComponentId, Micros),
        (detection, queues): (Detection, Vec<Queue>),
        storage: Option<&ExtensionConfig>,
        (pressure, findings): (Pressure, FindingBudget),
    ) -> anyhow::Result<Intake> {
        if let Some(ExtensionConfig::FileStorage(config)) = storage {
            let (intake, task) = self
                .durable_pipeline((id, now), detection, queues, config)
                .await?;
            self.spawn_vital(id.to_string(), task.under(pressure).run(self.cut.clone()));
            return Ok(intake);
        }
        warn_without(id);
        let (intake, task) = pipeline::pipeline(id.to_string(), detection, queues, findings);
        self.spawn_vital(id.to_string(), task.under(pressure).run(self.cut.clone()));
        Ok(intake)
    }

    /// A pipeline that continues from its storage.
    async fn durable_pipeline(
        &self,
        (id, now): (&ComponentId, Micros),
        detection: Detection,
        queues: Vec<Queue>,
        config: &file_storage::Config,
    ) -> anyhow::Result<(Intake, DurableTask)> {
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
            let storage = Box::new(opened.disk);
            Ok(pipeline::recover(
                detection,
                storage,
                (&name, now),
                &exporters,
            )?)
        };
        let recovered = deadline::blocking(RECOVERY, "reading the storage", read)
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
        self.health.watch(move || is_up.load(Ordering::Relaxed));
        let ending = self.ending.clone();
        Ok(pipeline::durable_pipeline(
            id.to_string(),
            recovered,
            queues,
            kept,
            ending,
        ))
    }
}

/// The exporters of pipelines without a storage: what they do not deliver at the end is lost.
pub(super) fn volatile(
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

/// Tells the other queues that nothing in them is lost.
pub(super) fn keep(queues: &BTreeMap<ComponentId, Queue>, volatile: &BTreeSet<ComponentId>) {
    for (_, queue) in queues.iter().filter(|(id, _)| !volatile.contains(id)) {
        queue.keep();
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
