//! The loop of one exporter: takes what waits, delivers it, says what became of it.

use std::sync::{Arc, atomic::Ordering};

use super::{
    QueueReceiver, Shutdown,
    batch::{Batch, Lost},
    log::{FailedAttempt, LossLog, RetryLog},
    outcome::{describe, possible},
    retry::{Failed, RetryConfig, RetryState, next_wait},
    wide,
};
use crate::{
    exporter::{Exporter, Outcome},
    telemetry::traces::{Kind, Span},
};

/// Why an attempt was cut short.
const CUT: &str = "there was no answer within half of the time that the shutdown had left";

/// What became of the findings of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Findings that the receiver accepted.
    pub sent: u64,
    /// Findings that were given up.
    pub failed: u64,
}

/// Delivers what `receiver` gets, at most `batch_max` findings at a time, until every [`Queue`] is
/// gone and the last finding has been delivered or given up.
///
/// When `shutdown` begins, a wait for the next attempt ends at once, attempts follow each other
/// within a second whatever the settings and the receiver say, and none takes more than half of the
/// time that is left. When it abandons, waiting and retrying stop; what has not been accepted by
/// then counts as failed.
///
/// [`Queue`]: super::Queue
pub async fn run(
    receiver: QueueReceiver,
    exporter: impl Exporter,
    retry: RetryConfig,
    batch_max: usize,
    shutdown: impl Into<Shutdown>,
) -> Totals {
    let shutdown = shutdown.into();
    let mut exporter = exporter;
    exporter.attach(&shutdown);
    let mut worker = Worker {
        retries: RetryLog::new(Arc::clone(&receiver.id)),
        losses: LossLog::new(Arc::clone(&receiver.id)),
        queue: receiver,
        exporter,
        retry,
        shutdown,
        totals: Totals::default(),
    };
    let mut taken = Vec::new();
    let mut batch = Batch::default();
    loop {
        let shutdown = worker.shutdown.clone();
        let count = tokio::select! {
            biased;
            () = shutdown.abandoned() => {
                worker.give_up_waiting();
                break;
            }
            taken = worker.queue.inbox.recv_many(&mut taken, batch_max.max(1)) => taken,
        };
        if count == 0 {
            break;
        }
        batch.fill(&mut taken);
        let lost = worker.deliver(&mut batch).await;
        worker.report(lost);
    }
    worker.totals
}

struct Worker<E> {
    queue: QueueReceiver,
    exporter: E,
    retry: RetryConfig,
    shutdown: Shutdown,
    totals: Totals,
    retries: RetryLog,
    losses: LossLog,
}

impl<E: Exporter> Worker<E> {
    /// Delivers one batch, or as much of it as can be, and empties it.
    async fn deliver(&mut self, batch: &mut Batch) -> Lost {
        let mut lost = Lost::default();
        // Grows smaller while requests are too large, and stays so until the batch is through.
        let mut most = usize::MAX;
        let mut state = RetryState::begin();
        while let Some(part) = batch
            .findings
            .get(..most.min(batch.len()))
            .filter(|part| !part.is_empty())
        {
            let mut span = self.queue.attempt(part.len(), state.attempts);
            let outcome = tokio::select! {
                biased;
                () = self.shutdown.abandoned() => abandoned(),
                outcome = self.exporter.send(part) => outcome,
                // What hangs now may be answered when it is asked anew.
                () = self.shutdown.part_over(2), if self.retry.enabled => Outcome::retry(CUT),
            };
            let (tried, before) = (part.len(), batch.len());
            let outcome = possible(outcome, tried);
            if let Some(span) = &mut span {
                describe(span, &outcome);
            }
            drop(span);
            match outcome {
                Outcome::Accepted(count) => {
                    self.queue.counters.delivered(batch.since.drain(..count));
                    batch.findings.drain(..count);
                    self.accepted(count);
                }
                Outcome::Partial {
                    findings,
                    rejected,
                    reason,
                } => {
                    lost.add_some(batch.drain(..findings), rejected, reason);
                    self.accepted(findings.saturating_sub(rejected));
                }
                Outcome::TooLarge {
                    findings: 0 | 1,
                    reason,
                } => lost.add(batch.drain(..1), reason),
                Outcome::Invalid { index, reason } => {
                    lost.add(batch.drain(index..=index), reason);
                }
                Outcome::TooLarge { findings, .. } => {
                    most = findings / 2;
                    state = RetryState::begin();
                }
                Outcome::Permanent { reason } => {
                    self.queue.counters.condition.gave_up();
                    lost.add(batch.drain(..tried), reason);
                }
                Outcome::Retry {
                    reason,
                    after,
                    limit,
                } => {
                    let failed = state.failed(after, limit);
                    self.queue.counters.condition.failing();
                    if !self.wait(&failed, &reason).await {
                        self.queue.counters.condition.gave_up();
                        lost.add(batch.drain(..), reason);
                    }
                }
            }
            if batch.len() < before {
                state = RetryState::begin();
            }
        }
        lost
    }

    fn accepted(&mut self, count: usize) {
        let count = wide(count);
        self.totals.sent += count;
        self.queue.counters.sent.fetch_add(count, Ordering::Relaxed);
        self.queue.counters.condition.accepted();
        self.retries.delivered();
    }

    /// Waits before the next attempt. False when there is to be none.
    async fn wait(&mut self, failed: &Failed, reason: &str) -> bool {
        if self.shutdown.is_abandoned() {
            return false;
        }
        // In the shutdown there is nothing to be saved by giving up before its end.
        let wait = match self.shutdown.wait().filter(|_| self.retry.enabled) {
            Some(wait) => wait,
            None => match next_wait(&self.retry, failed, rand::random()) {
                Some(wait) => wait,
                None => return false,
            },
        };
        self.retries.failed(FailedAttempt {
            reason: reason.to_owned(),
            attempt: failed.attempts,
            retry_in: wait,
            waiting: self.queue.inbox.len(),
        });
        let slept = tokio::select! {
            biased;
            () = self.shutdown.abandoned() => false,
            () = self.shutdown.pause(wait) => true,
        };
        if slept {
            self.queue.counters.retries.fetch_add(1, Ordering::Relaxed);
        }
        slept
    }

    /// Counts what waits in the queue as failed, for nobody will deliver it.
    fn give_up_waiting(&mut self) {
        self.queue.inbox.close();
        let mut lost = Lost::default();
        while let Ok(finding) = self.queue.inbox.try_recv() {
            lost.add(std::iter::once(finding.finding), abandoned_reason());
        }
        self.report(lost);
    }

    /// Every loss is told: it is an attack somebody will not hear of from us. What is lost for one
    /// and the same reason, such as a wrong token, is told of in one line a minute.
    fn report(&mut self, lost: Lost) {
        if lost.count == 0 {
            return;
        }
        self.totals.failed += lost.count;
        self.shutdown.count_lost(lost.count);
        self.queue
            .counters
            .send_failed
            .fetch_add(lost.count, Ordering::Relaxed);
        self.losses.lost(lost);
    }
}

impl QueueReceiver {
    /// The span of an attempt, if there are any.
    fn attempt(&self, findings: usize, before: u32) -> Option<Span> {
        let tracer = self.counters.tracer.get().filter(|tracer| tracer.is_on())?;
        let mut span = tracer.begin(format!("exporter/{}/logs", self.id), Kind::Client, None);
        span.set("exporter", self.id.to_string());
        span.set("findings", i64::try_from(findings).unwrap_or(i64::MAX));
        span.set("attempt", i64::from(before) + 1);
        Some(span)
    }
}

fn abandoned() -> Outcome {
    Outcome::retry(abandoned_reason())
}

fn abandoned_reason() -> String {
    "there was no time left to deliver them before shutdown".to_owned()
}
