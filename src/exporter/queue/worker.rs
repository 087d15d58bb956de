//! The task of one exporter: takes what waits, has it delivered, and accounts for it.

use std::sync::{Arc, atomic::Ordering};

use super::{
    channel::{QueueReceiver, Queued},
    log::{FailedAttempt, LossLog, RetryLog},
    lost::{Lost, wide},
};
use crate::{
    clock::Instant,
    detection::Finding,
    exporter::{
        Exporter,
        delivery::{
            ABANDONED, Batch, Cause, Observer, OnRefusal, Policy, Retry, RetryConfig, deliver,
        },
        shutdown::Shutdown,
    },
    telemetry::traces::{Kind, Span},
};

/// What became of the findings of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Findings that the receiver accepted.
    pub sent: u64,
    /// Findings that were given up.
    pub failed: u64,
}

/// Delivers what `receiver` gets, at most `batch_max` findings at a time, until every [`Queue`] is
/// gone and the last finding has been delivered or given up, as [`Policy`] says of retries and the
/// shutdown. When that abandons, what still waits counts as failed.
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
    let mut accounts = Accounts::new(receiver, shutdown.clone());
    let policy = Policy {
        retry,
        on_refusal: OnRefusal::Retry,
        shutdown,
    };
    let mut taken = Vec::new();
    let mut batch = Batch::default();
    loop {
        let inbox = &mut accounts.queue.inbox;
        let count = tokio::select! {
            biased;
            () = policy.shutdown.abandoned() => {
                accounts.give_up_waiting();
                break;
            }
            count = inbox.recv_many(&mut taken, batch_max.max(1)) => count,
        };
        if count == 0 {
            break;
        }
        for Queued { finding, since } in taken.drain(..) {
            batch.push(finding, since);
        }
        deliver(&mut batch, &mut exporter, &policy, &mut accounts).await;
        accounts.settle();
    }
    accounts.totals
}

/// The counters and the log of one exporter.
struct Accounts {
    queue: QueueReceiver,
    shutdown: Shutdown,
    totals: Totals,
    /// What the batch at hand has lost so far.
    lost: Lost,
    retries: RetryLog,
    losses: LossLog,
}

impl Observer<Arc<Finding>> for Accounts {
    fn attempt(&mut self, findings: usize, attempt: u32) -> Option<Span> {
        let counters = &self.queue.counters;
        if attempt > 1 {
            counters.retries.fetch_add(1, Ordering::Relaxed);
        }
        let tracer = counters.tracer.get().filter(|tracer| tracer.is_on())?;
        let id = &self.queue.id;
        let mut span = tracer.begin(format!("exporter/{id}/logs"), Kind::Client, None);
        span.set("exporter", id.to_string());
        span.set("findings", i64::try_from(findings).unwrap_or(i64::MAX));
        span.set("attempt", i64::from(attempt));
        Some(span)
    }

    fn accepted(&mut self, since: &[Instant], out: usize) {
        // What makes no event says nothing of the destination.
        if out > 0 {
            self.queue.counters.delivered(since);
            self.count_accepted(out);
        }
    }

    fn partly_accepted(&mut self, findings: &[Arc<Finding>], rejected: usize, reason: String) {
        self.lost.add(findings, rejected, reason);
        self.count_accepted(findings.len().saturating_sub(rejected));
    }

    fn given_up(&mut self, findings: &[Arc<Finding>], cause: Cause, reason: String) {
        match cause {
            Cause::Item => {}
            Cause::Abandoned if self.is_kept() => return,
            Cause::Receiver | Cause::Abandoned => self.queue.counters.condition.gave_up(),
        }
        self.lost.add(findings, findings.len(), reason);
    }

    fn retrying(&mut self, retry: Retry<'_>) {
        self.queue.counters.condition.failing();
        self.retries.failed(FailedAttempt {
            reason: retry.reason.to_owned(),
            refused: retry.refused,
            attempt: retry.attempt,
            retry_in: retry.wait,
            waiting: self.queue.inbox.len(),
        });
    }

    fn oldest(&mut self, since: Option<Instant>) {
        self.queue.counters.set_oldest(since);
    }
}

impl Accounts {
    fn new(queue: QueueReceiver, shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            totals: Totals::default(),
            lost: Lost::default(),
            retries: RetryLog::new(Arc::clone(&queue.id)),
            losses: LossLog::new(Arc::clone(&queue.id)),
            queue,
        }
    }

    fn count_accepted(&mut self, findings: usize) {
        let findings = wide(findings);
        self.totals.sent += findings;
        let counters = &self.queue.counters;
        counters.sent.fetch_add(findings, Ordering::Relaxed);
        counters.condition.accepted();
        self.retries.delivered();
    }

    /// Whether what is not delivered at the end is kept elsewhere.
    fn is_kept(&self) -> bool {
        self.queue.counters.is_kept.load(Ordering::Relaxed)
    }

    /// Counts what waits in the queue as failed, for there is no time left to deliver it.
    fn give_up_waiting(&mut self) {
        self.queue.inbox.close();
        while let Ok(Queued { finding, .. }) = self.queue.inbox.try_recv() {
            if self.is_kept() {
                continue;
            }
            self.lost.add(&[finding], 1, ABANDONED.to_owned());
        }
        self.settle();
    }

    /// Counts and logs what a batch has lost. Each loss is logged: it is an attack that is not
    /// reported.
    fn settle(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost.count == 0 {
            return;
        }
        self.totals.failed += lost.count;
        self.shutdown.count_lost(lost.count);
        let counters = &self.queue.counters;
        counters
            .send_failed
            .fetch_add(lost.count, Ordering::Relaxed);
        self.losses.lost(lost);
    }
}
