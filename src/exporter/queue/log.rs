//! What our log says of deliveries that fail, through the throttle: an outage may last for hours, and
//! each batch may be lost for a reason of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::lost::Lost;
use crate::throttle::{Detail, Limits, Throttle};

/// Reasons of losses that are kept apart.
const REASONS: usize = 5;

/// An attempt that failed and is repeated.
pub(super) struct FailedAttempt {
    pub(super) reason: String,
    /// Whether the destination refuses them until somebody mends something.
    pub(super) refused: bool,
    /// Attempts so far, this one included.
    pub(super) attempt: u32,
    pub(super) retry_in: Duration,
    /// Findings that wait in the queue.
    pub(super) waiting: usize,
}

impl Detail for FailedAttempt {}

/// Logs the failed attempts of an outage, and its end.
#[derive(Debug)]
pub(super) struct RetryLog {
    exporter: Arc<str>,
    /// Refusals apart: an outage before must not keep them quiet.
    failures: Throttle<bool, FailedAttempt>,
    /// Whether the last line was about a failure, so that there is one about the end as well.
    failing: Arc<AtomicBool>,
}

impl RetryLog {
    pub(super) fn new(exporter: Arc<str>) -> Self {
        let failing = Arc::new(AtomicBool::new(false));
        let (id, logged) = (Arc::clone(&exporter), Arc::clone(&failing));
        let failures = Throttle::new(move |line| {
            logged.store(true, Ordering::Relaxed);
            let FailedAttempt {
                reason,
                refused,
                attempt,
                retry_in,
                waiting,
            } = line.detail;
            if *refused {
                tracing::error!(
                    exporter = &*id,
                    reason,
                    attempt,
                    ?retry_in,
                    waiting,
                    suppressed = line.suppressed(),
                    "the destination refuses findings, they wait until it takes them"
                );
                return;
            }
            tracing::warn!(
                exporter = &*id,
                reason,
                attempt,
                ?retry_in,
                waiting,
                suppressed = line.suppressed(),
                "findings could not be delivered, will try again"
            );
        });
        Self {
            exporter,
            failures,
            failing,
        }
    }

    pub(super) fn failed(&self, attempt: FailedAttempt) {
        self.failures.log(attempt.refused, attempt);
    }

    /// Logs the end of an outage that was logged.
    pub(super) fn delivered(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            // A line about them would come after this one.
            let suppressed = self.failures.forget(false) + self.failures.forget(true);
            tracing::info!(
                exporter = &*self.exporter,
                suppressed,
                "findings are delivered again"
            );
        }
    }
}

impl Detail for Lost {
    fn join(&mut self, later: Self) {
        self.add_all(later);
    }
}

/// Logs losses: every one of them counts in a line, for each is an attack that is not reported. A
/// wrong token, the same reason for all, is one line a minute.
#[derive(Debug)]
pub(super) struct LossLog(Throttle<String, Lost>);

impl LossLog {
    pub(super) fn new(exporter: Arc<str>) -> Self {
        let limits = Limits {
            keys: REASONS,
            ..Limits::default()
        };
        Self(Throttle::with(limits, move |line| {
            let Lost { count, ids, reason } = line.detail;
            tracing::error!(
                exporter = &*exporter,
                reason,
                findings = count,
                finding_ids = ids.join(" "),
                "findings were given up"
            );
        }))
    }

    pub(super) fn lost(&self, lost: Lost) {
        self.0.log(lost.reason.clone(), lost);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::lost::IDS_IN_LOG, *};

    #[test]
    fn joined_losses_keep_their_number_and_some_ids() {
        let lost = |count, reason: &str| Lost {
            count,
            ids: vec!["id".to_owned(); 3],
            reason: reason.to_owned(),
        };
        let mut all = lost(3, "token");
        all.join(lost(7, "index"));
        assert_eq!((all.count, all.reason.as_str()), (10, "index"));
        assert_eq!(all.ids.len(), IDS_IN_LOG);
    }
}
