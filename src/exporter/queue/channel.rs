//! The queue of an exporter: both of its ends, and what is counted about it.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use super::condition::Condition;
use crate::{
    clock::{self, Instant},
    detection::Finding,
    telemetry::{metrics::Timer, traces::Tracer},
};

/// `sending_queue` of an exporter, with the Collector's key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// `queue_size`: findings that may wait before senders are refused.
    pub queue_size: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { queue_size: 1000 }
    }
}

/// What has become of an exporter's findings so far.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) send_failed: AtomicU64,
    enqueue_failed: AtomicU64,
    /// Whether what is not delivered at the end is kept elsewhere.
    pub(super) is_kept: AtomicBool,
    pub(super) retries: AtomicU64,
    delay: OnceLock<Timer>,
    pub(super) tracer: OnceLock<Tracer>,
    pub(super) condition: Condition,
    /// Since when the oldest finding waits that is neither accepted nor given up.
    oldest: Mutex<Option<Instant>>,
}

impl Counters {
    /// Findings that the receiver accepted.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Findings that were given up.
    pub fn send_failed(&self) -> u64 {
        self.send_failed.load(Ordering::Relaxed)
    }

    /// Findings that found no place in the queue before the exporter ended.
    pub fn enqueue_failed(&self) -> u64 {
        self.enqueue_failed.load(Ordering::Relaxed)
    }

    /// Whether findings get through, as far as it was tried: not while they fail, nor for five
    /// minutes after some were given up for a reason that is not their own.
    pub fn is_up(&self) -> bool {
        self.condition.is_up()
    }

    /// How long the oldest finding has waited that is neither accepted nor given up; zero when none
    /// waits.
    pub fn oldest_age(&self) -> Duration {
        let oldest = *self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        oldest.map_or(Duration::ZERO, |since| {
            clock::monotonic().saturating_duration_since(since)
        })
    }

    pub(super) fn set_oldest(&self, since: Option<Instant>) {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Attempts that were repeated.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Sets what takes the time from the queue to the acceptance.
    pub fn time(&self, delay: Timer) {
        // There is one who measures; a second one would see the same.
        let _set = self.delay.set(delay);
    }

    /// Sets what makes a span of each attempt.
    pub fn trace(&self, tracer: Tracer) {
        let _set = self.tracer.set(tracer);
    }

    /// Takes the time of findings that waited since then and were accepted.
    pub(super) fn delivered(&self, since: &[Instant]) {
        if let Some(timer) = self.delay.get() {
            let now = clock::monotonic();
            for since in since {
                timer.record(now.saturating_duration_since(*since));
            }
        }
    }
}

/// A finding, and since when it waits.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) finding: Arc<Finding>,
    pub(super) since: Instant,
}

impl Queued {
    fn now(finding: Arc<Finding>) -> Self {
        Self {
            finding,
            since: clock::monotonic(),
        }
    }
}

/// The sending side of one exporter's queue. Clones feed the same queue; when the last is dropped
/// the exporter drains what waits and ends.
#[derive(Clone, Debug)]
pub struct Queue {
    id: Arc<str>,
    inbox: mpsc::Sender<Queued>,
    counters: Arc<Counters>,
}

impl Queue {
    /// Id of the exporter, `type` or `type/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Findings that may wait.
    pub fn capacity(&self) -> usize {
        self.inbox.max_capacity()
    }

    /// Findings for which there is room now. With one sender this only grows until it sends.
    pub fn free(&self) -> usize {
        self.inbox.capacity()
    }

    /// What has become of the findings so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Queues a finding, or hands it back when there is no room or the exporter has ended.
    pub fn try_push(&self, finding: Arc<Finding>) -> Result<(), Arc<Finding>> {
        self.inbox
            .try_send(Queued::now(finding))
            .map_err(|refused| refused.into_inner().finding)
    }

    /// Queues a finding as soon as there is room. Hands it back when the exporter has ended.
    pub async fn push(&self, finding: Arc<Finding>) -> Result<(), Arc<Finding>> {
        // The time until there is room counts as well.
        self.inbox
            .send(Queued::now(finding))
            .await
            .map_err(|refused| refused.0.finding)
    }

    /// Whether what is not delivered at the end is in a storage, and so not lost.
    pub fn keep(&self, is_kept: bool) {
        self.counters.is_kept.store(is_kept, Ordering::Relaxed);
    }

    /// Whether the exporter has ended.
    pub fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Counts findings that are lost because the exporter has ended.
    pub fn lost(&self, findings: usize) {
        let findings = u64::try_from(findings).unwrap_or(u64::MAX);
        self.counters
            .enqueue_failed
            .fetch_add(findings, Ordering::Relaxed);
    }

    /// How many findings wait, for who asks now and then: it does not keep the exporter from
    /// ending.
    pub fn waiting(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        let inbox = self.inbox.downgrade();
        move || {
            inbox.upgrade().map_or(0, |inbox| {
                inbox.max_capacity().saturating_sub(inbox.capacity())
            })
        }
    }
}

/// The receiving side, for [`run`](super::run) alone.
#[derive(Debug)]
pub struct QueueReceiver {
    pub(super) id: Arc<str>,
    pub(super) inbox: mpsc::Receiver<Queued>,
    pub(super) counters: Arc<Counters>,
}

/// Creates the queue of the exporter `id`. A `queue_size` of 0 is taken as 1.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the settings are used up, as in every other constructor"
)]
pub fn queue(id: String, config: QueueConfig) -> (Queue, QueueReceiver) {
    // The channel panics beyond its own limit, which is more than any memory holds.
    let size = config
        .queue_size
        .clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
    let (sender, receiver) = mpsc::channel(size);
    let id: Arc<str> = id.into();
    let counters = Arc::new(Counters::default());
    (
        Queue {
            id: Arc::clone(&id),
            inbox: sender,
            counters: Arc::clone(&counters),
        },
        QueueReceiver {
            id,
            inbox: receiver,
            counters,
        },
    )
}
