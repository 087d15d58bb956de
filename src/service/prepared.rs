//! Parts that read files when they are made.

use std::time::Duration;

use anyhow::Context as _;

use super::observed;
use crate::{
    config::{ComponentId, DetectionConfig},
    deadline,
    detection::limits::Limits,
    exporter::{
        Exporter,
        dead_letter::{self, DeadLetters},
    },
    processor::detection::{Detection, Quiet},
    rules,
    telemetry::metrics::Metrics,
};

/// How long a part may take to read its files at the start.
const PREPARE: Duration = Duration::from_mins(1);

/// Makes a part that reads files, which may be on a disk that hangs, or be pipes.
pub(super) async fn prepared<T: Send + 'static>(
    make: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    deadline::blocking(PREPARE, "reading its files", make).await?
}

/// Makes an exporter around which dead letters are kept.
pub(super) async fn with_letters<E: Exporter>(
    metrics: &Metrics,
    id: &ComponentId,
    letters: dead_letter::Config,
    make: impl FnOnce() -> anyhow::Result<E> + Send + 'static,
) -> anyhow::Result<DeadLetters<E>> {
    let name = id.to_string();
    let exporter = prepared(move || Ok(DeadLetters::new(&name, make()?, &letters)?)).await?;
    observed::dead_letters(metrics, id, exporter.counters());
    Ok(exporter)
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
