//! Parts that read files when they are made.

use std::time::Duration;

use anyhow::Context as _;
use tracing::warn;

use crate::{
    config::{ComponentId, DetectionConfig},
    deadline,
    detection::{limits::Limits, time::Micros},
    processor::detection::{Detection, Quiet},
    rules,
};

/// How long a part may take to read its files at the start.
const PREPARE: Duration = Duration::from_mins(1);

/// Makes a part that reads files, which may be on a disk that hangs, or be pipes.
pub(super) async fn prepared<T: Send + 'static>(
    make: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    deadline::blocking(PREPARE, "reading its files", make).await?
}

/// The detection of a processor, which may take this many bytes of state if it says nothing else.
pub(super) async fn detection(
    id: &ComponentId,
    config: DetectionConfig,
    state: usize,
) -> anyhow::Result<Detection> {
    let DetectionConfig {
        rule,
        limits,
        state_limit,
        geo_databases,
        cluster,
        rules: names,
        switches,
        exclude,
        filter,
        filter_all,
        ..
    } = config;
    let quiet = Quiet {
        exclude,
        filter,
        filter_all,
    };
    let limits = Limits {
        memory: state_limit.unwrap_or(state),
        ..limits
    };
    prepared(move || {
        let detections =
            rules::load::pipeline(&rule, &switches, &names).map_err(rules::load::Problems)?;
        let cluster = cluster.as_deref();
        let detection = Detection::new(&rule, detections, limits, &geo_databases, cluster)?;
        Ok(detection.quiet(quiet)?)
    })
    .await
    .with_context(|| format!("cannot start processor {id}"))
}

/// Warns of what may be a mistake at this time.
pub(super) fn warn_of(id: &ComponentId, config: &DetectionConfig, now: Micros) {
    for warning in config.warnings(now) {
        warn!(processor = %id, "{warning}");
    }
}
