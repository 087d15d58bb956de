//! Pipelines whose detection has a storage.

use std::{
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
    config::ComponentId,
    deadline,
    detection::time::Micros,
    exporter::queue::Queue,
    extension::file_storage,
    pipeline::{self, DurableTask, Intake, Kept},
    processor::detection::Detection,
    storage::Disk,
};

/// How long a start may take to read a storage.
const RECOVERY: Duration = Duration::from_mins(10);

impl Service {
    /// A pipeline that continues from its storage.
    pub(super) async fn durable_pipeline(
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

/// Says what a restart costs without a storage.
pub(super) fn warn_without(pipeline: &ComponentId) {
    info!(
        %pipeline,
        "windows and findings are in memory: a restart closes open findings early, and a crash loses \
         them; set storage of the detection to keep them"
    );
}
