//! Parts that read files when they are made.

use std::time::Duration;

use super::observed;
use crate::{
    config::ComponentId,
    deadline,
    exporter::{
        Exporter,
        dead_letter::{self, DeadLetters},
    },
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
