//! The loop of one exporter: takes what waits, delivers it, says what became of it.

use std::{
    ops::RangeBounds,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    QueueReceiver, Queued,
    retry::{Failed, RetryConfig, next_wait},
};
use crate::{
    clock,
    detection::Finding,
    exporter::{Exporter, Outcome, text},
    telemetry::traces::{Kind, Span},
};

/// Most finding ids that one line of the log names.
const IDS_IN_LOG: usize = 5;
/// At most one line about trouble in this time, and one about losses for one reason.
const LOG_EVERY: Duration = Duration::from_mins(1);
/// Most lines about losses in this time, whatever their reasons.
const LINES: u32 = 5;

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
/// When `abandon` fires, waiting and retrying stop at once; what has not been accepted by then
/// counts as failed.
///
/// [`Queue`]: super::Queue
pub async fn run(
    receiver: QueueReceiver,
    exporter: impl Exporter,
    retry: RetryConfig,
    batch_max: usize,
    abandon: CancellationToken,
) -> Totals {
    let mut worker = Worker {
        queue: receiver,
        exporter,
        retry,
        abandon,
        totals: Totals::default(),
        trouble: Trouble::default(),
        losses: Losses::default(),
    };
    let mut taken = Vec::new();
    let mut batch = Batch::default();
    loop {
        let abandon = worker.abandon.clone();
        let count = tokio::select! {
            biased;
            () = abandon.cancelled() => {
                worker.give_up_waiting();
                break;
            }
            () = until(worker.losses.due()) => {
                worker.tell_rest();
                continue;
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
    worker.tell_rest();
    worker.totals
}

struct Worker<E> {
    queue: QueueReceiver,
    exporter: E,
    retry: RetryConfig,
    abandon: CancellationToken,
    totals: Totals,
    trouble: Trouble,
    losses: Losses,
}

impl<E: Exporter> Worker<E> {
    /// Delivers one batch, or as much of it as can be, and empties it.
    async fn deliver(&mut self, batch: &mut Batch) -> Lost {
        let mut lost = Lost::default();
        // Grows smaller while requests are too large, and stays so until the batch is through.
        let mut most = usize::MAX;
        let mut stretch = Stretch::begin();
        while let Some(part) = batch
            .findings
            .get(..most.min(batch.len()))
            .filter(|part| !part.is_empty())
        {
            let mut span = self.queue.attempt(part.len(), stretch.attempts);
            let outcome = tokio::select! {
                biased;
                () = self.abandon.cancelled() => abandoned(),
                outcome = self.exporter.send(part) => outcome,
            };
            let (tried, before) = (part.len(), batch.len());
            let outcome = sound(outcome, tried);
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
                    stretch = Stretch::begin();
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
                    let failed = stretch.failed(after, limit);
                    self.queue.counters.condition.failing();
                    if !self.wait(&failed, &reason).await {
                        self.queue.counters.condition.gave_up();
                        lost.add(batch.drain(..), reason);
                    }
                }
            }
            if batch.len() < before {
                stretch = Stretch::begin();
            }
        }
        lost
    }

    fn accepted(&mut self, count: usize) {
        let count = wide(count);
        self.totals.sent += count;
        self.queue.counters.sent.fetch_add(count, Ordering::Relaxed);
        self.queue.counters.condition.accepted();
        if self.trouble.over() {
            tracing::info!(exporter = &*self.queue.id, "findings are delivered again");
        }
    }

    /// Waits before the next attempt. False when there is to be none.
    async fn wait(&mut self, failed: &Failed, reason: &str) -> bool {
        if self.abandon.is_cancelled() {
            return false;
        }
        let Some(wait) = next_wait(&self.retry, failed, rand::random()) else {
            return false;
        };
        if let Some(unsaid) = self.trouble.worth_a_line(clock::monotonic()) {
            tracing::warn!(
                exporter = &*self.queue.id,
                reason,
                attempt = failed.attempts,
                retry_in = ?wait,
                waiting = self.queue.inbox.len(),
                failures_not_logged = unsaid,
                "findings could not be delivered, will try again"
            );
        }
        let slept = tokio::select! {
            biased;
            () = self.abandon.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
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
        self.queue
            .counters
            .send_failed
            .fetch_add(lost.count, Ordering::Relaxed);
        if let Some(lost) = self.losses.worth_a_line(lost, clock::monotonic()) {
            self.tell(&lost);
        }
    }

    /// Tells of what has not been told yet.
    fn tell_rest(&mut self) {
        if let Some(lost) = self.losses.rest(clock::monotonic()) {
            self.tell(&lost);
        }
    }

    fn tell(&self, lost: &Lost) {
        tracing::error!(
            exporter = &*self.queue.id,
            reason = lost.reason,
            findings = lost.count,
            finding_ids = lost.ids.join(" "),
            "findings were given up"
        );
    }
}

/// The findings at hand, and since when each of them waits.
#[derive(Default)]
struct Batch {
    findings: Vec<Arc<Finding>>,
    since: Vec<clock::Instant>,
}

impl Batch {
    fn fill(&mut self, taken: &mut Vec<Queued>) {
        for Queued { finding, since } in taken.drain(..) {
            self.findings.push(finding);
            self.since.push(since);
        }
    }

    fn len(&self) -> usize {
        self.findings.len()
    }

    /// Takes out what is given up.
    fn drain(
        &mut self,
        range: impl RangeBounds<usize> + Clone,
    ) -> impl Iterator<Item = Arc<Finding>> {
        self.since.drain(range.clone());
        self.findings.drain(range)
    }
}

/// Attempts without progress. A batch that moves is not given up, however long it takes.
struct Stretch {
    attempts: u32,
    limited: u32,
    since: clock::Instant,
}

impl Stretch {
    fn begin() -> Self {
        Self {
            attempts: 0,
            limited: 0,
            since: clock::monotonic(),
        }
    }

    fn failed(&mut self, after: Option<Duration>, limit: Option<u32>) -> Failed {
        self.attempts = self.attempts.saturating_add(1);
        self.limited = self.limited.saturating_add(u32::from(limit.is_some()));
        Failed {
            attempts: self.attempts,
            limited: self.limited,
            elapsed: clock::monotonic().saturating_duration_since(self.since),
            after,
            limit,
        }
    }
}

/// Findings of one batch that were given up.
#[derive(Debug, Default)]
struct Lost {
    count: u64,
    ids: Vec<String>,
    /// Of the first of them; a batch fails as one, or for the same reason over and over.
    reason: String,
}

impl Lost {
    fn add(&mut self, findings: impl Iterator<Item = Arc<Finding>>, reason: String) {
        if self.count == 0 {
            self.reason = reason;
        }
        for finding in findings {
            self.count += 1;
            if self.ids.len() < IDS_IN_LOG {
                self.ids.push(text::plain(&finding.finding_id, 64));
            }
        }
    }
}

impl Lost {
    /// Adds so many of some findings. Nobody knows which, so their ids are named as if all were.
    fn add_some(
        &mut self,
        findings: impl Iterator<Item = Arc<Finding>>,
        lost: usize,
        reason: String,
    ) {
        let count = self.count.saturating_add(wide(lost));
        self.add(findings, reason);
        self.count = count;
    }

    /// Adds later ones, with their reason.
    fn join(&mut self, later: Lost) {
        self.count += later.count;
        self.reason = later.reason;
        let room = IDS_IN_LOG.saturating_sub(self.ids.len());
        self.ids.extend(later.ids.into_iter().take(room));
    }
}

/// Keeps losses for one reason from flooding the log. None is left out: what is not told at once
/// is told when the minute is over.
#[derive(Debug, Default)]
struct Losses {
    /// What has not been told. Its reason is that of the last of them.
    unsaid: Lost,
    /// The reason of the last line.
    told: String,
    /// When the minute began, and the lines in it.
    since: Option<clock::Instant>,
    lines: u32,
}

impl Losses {
    /// Takes a loss in; gives what is to be told now.
    fn worth_a_line(&mut self, lost: Lost, now: clock::Instant) -> Option<Lost> {
        let quiet = self
            .since
            .is_some_and(|since| now.saturating_duration_since(since) < LOG_EVERY);
        let known = lost.reason == self.told || self.lines >= LINES;
        self.unsaid.join(lost);
        if quiet && known {
            return None;
        }
        if !quiet {
            self.since = Some(now);
            self.lines = 0;
        }
        self.lines += 1;
        self.told.clone_from(&self.unsaid.reason);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// When what has not been told is to be told.
    fn due(&self) -> Option<clock::Instant> {
        self.since
            .filter(|_| self.unsaid.count > 0)
            .map(|since| since + LOG_EVERY)
    }

    /// What has not been told.
    fn rest(&mut self, now: clock::Instant) -> Option<Lost> {
        if self.unsaid.count == 0 {
            return None;
        }
        self.since = Some(now);
        self.lines = 1;
        self.told.clone_from(&self.unsaid.reason);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Waits until then, or for ever.
async fn until(then: Option<clock::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// Keeps one stretch of trouble from flooding the log.
#[derive(Debug, Default)]
struct Trouble {
    /// Failures since something was delivered, and since the last line.
    unsaid: u64,
    last_line: Option<clock::Instant>,
    /// Whether the log has been told, so that it is told of the end as well.
    told: bool,
}

impl Trouble {
    /// Counts a failure. `Some` when it is to be logged, with the number that were not.
    fn worth_a_line(&mut self, now: clock::Instant) -> Option<u64> {
        let quiet = self
            .last_line
            .is_some_and(|last| now.duration_since(last) < LOG_EVERY);
        if quiet {
            self.unsaid += 1;
            return None;
        }
        self.last_line = Some(now);
        self.told = true;
        Some(std::mem::take(&mut self.unsaid))
    }

    /// Whether trouble that was logged has just ended.
    fn over(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }
}

/// An outcome that can be true of `findings` findings: whatever an exporter says, the loop ends
/// and nothing is counted as accepted that was not there.
fn sound(outcome: Outcome, findings: usize) -> Outcome {
    match outcome {
        Outcome::Accepted(0) | Outcome::Partial { findings: 0, .. } => {
            Outcome::retry("the exporter accepted nothing")
        }
        Outcome::Accepted(count) => Outcome::Accepted(count.min(findings)),
        Outcome::Partial {
            findings: held,
            rejected,
            reason,
        } => Outcome::Partial {
            findings: held.min(findings),
            rejected: rejected.min(held).min(findings),
            reason,
        },
        Outcome::TooLarge {
            findings: held,
            reason,
        } => Outcome::TooLarge {
            findings: held.min(findings),
            reason,
        },
        Outcome::Invalid { index, reason } if index >= findings => {
            Outcome::TooLarge { findings, reason }
        }
        sound => sound,
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

/// Says in a span how an attempt ended.
fn describe(span: &mut Span, outcome: &Outcome) {
    let (name, reason) = match outcome {
        Outcome::Accepted(count) => {
            span.set("accepted", i64::try_from(*count).unwrap_or(i64::MAX));
            ("accepted", None)
        }
        Outcome::Partial { reason, .. } => ("partial", Some(reason)),
        Outcome::Retry { reason, .. } => ("retry", Some(reason)),
        Outcome::TooLarge { reason, .. } => ("too_large", Some(reason)),
        Outcome::Invalid { reason, .. } => ("invalid", Some(reason)),
        Outcome::Permanent { reason } => ("permanent", Some(reason)),
    };
    span.set("outcome", name);
    if let Some(reason) = reason {
        span.fail(reason);
    }
}

fn abandoned() -> Outcome {
    Outcome::retry(abandoned_reason())
}

fn abandoned_reason() -> String {
    "there was no time left to deliver them before shutdown".to_owned()
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_a_minute_and_its_end_once() {
        let start = clock::monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trouble = Trouble::default();
        assert!(!trouble.over());
        assert_eq!(trouble.worth_a_line(at(0)), Some(0));
        assert_eq!(trouble.worth_a_line(at(5)), None);
        assert_eq!(trouble.worth_a_line(at(59)), None);
        assert_eq!(trouble.worth_a_line(at(60)), Some(2));
        assert!(trouble.over());
        assert!(!trouble.over());
        assert_eq!(
            trouble.worth_a_line(at(61)),
            None,
            "flapping does not flood the log either"
        );
        assert!(!trouble.over());
    }

    #[test]
    fn losses_for_one_reason_are_told_once_a_minute_and_all_of_them() {
        let start = clock::monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let lost = |count, reason: &str| Lost {
            count,
            ids: vec!["id".to_owned(); 3],
            reason: reason.to_owned(),
        };
        let mut losses = Losses::default();
        let mut told = |count, reason: &str, seconds| {
            losses
                .worth_a_line(lost(count, reason), at(seconds))
                .map(|lost| (lost.count, lost.reason))
        };
        let line = |count, reason: &str| Some((count, reason.to_owned()));
        assert_eq!(told(1, "token", 0), line(1, "token"));
        assert_eq!(told(2, "token", 1), None);
        assert_eq!(
            told(3, "index", 2),
            line(5, "index"),
            "a new reason is news"
        );
        assert_eq!(told(1, "index", 61), line(1, "index"));
        for (at, reason) in ["a", "b", "c", "d"].into_iter().enumerate() {
            assert_eq!(told(1, reason, 62 + at as u64), line(1, reason));
        }
        assert_eq!(
            told(1, "e", 70),
            None,
            "reasons without end are a flood too"
        );
        assert_eq!(told(1, "f", 71), None);
        assert_eq!(losses.due(), Some(at(121)));
        let rest = losses.rest(at(121)).unwrap();
        assert_eq!((rest.count, rest.ids.len()), (2, IDS_IN_LOG));
        assert!(losses.due().is_none() && losses.rest(at(122)).is_none());
    }

    #[test]
    fn impossible_outcomes_are_made_possible() {
        let reason = || "x".to_owned();
        assert!(matches!(
            sound(Outcome::Accepted(0), 3),
            Outcome::Retry { .. }
        ));
        assert_eq!(sound(Outcome::Accepted(9), 3), Outcome::Accepted(3));
        assert_eq!(
            sound(
                Outcome::Invalid {
                    index: 3,
                    reason: reason()
                },
                3
            ),
            Outcome::TooLarge {
                findings: 3,
                reason: reason()
            }
        );
    }
}
