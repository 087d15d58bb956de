//! What the parts of a service share: how they are watched, measured, started and ended.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use crate::{
    exporter::queue,
    extension::health_check::Health,
    telemetry::{metrics::Metrics, traces::Tracer},
};

/// What all parts have.
#[derive(Default)]
pub(super) struct Common {
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) tracer: Tracer,
    pub(super) tracker: TaskTracker,
    /// Receivers finish what has begun and end.
    pub(super) stop: CancellationToken,
    /// Pipelines take nothing more in, whatever is still sent.
    pub(super) cut: CancellationToken,
    /// Exporters wait no longer than they must, and at the end give up what they still have.
    pub(super) ending: queue::Shutdown,
    /// A vital part has panicked.
    pub(super) failed: CancellationToken,
    pub(super) reloads: Arc<Reloads>,
}

/// How reloads of the configuration have ended.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub(super) applied: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Whether the last one was refused.
    pub(super) is_refused: AtomicBool,
}

impl Common {
    /// Starts a task without which the service is of no use: should it panic, the service has failed.
    pub(super) fn spawn_vital(
        &self,
        part: String,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tracker.spawn(task);
        let failed = self.failed.clone();
        self.tracker.spawn(async move {
            if task.await.is_err_and(|error| error.is_panic()) {
                error!(
                    part,
                    "a part that nothing works without has panicked, the service ends"
                );
                failed.cancel();
            }
        });
    }
}
