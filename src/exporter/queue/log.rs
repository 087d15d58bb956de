//! What our log says of deliveries that fail, without a flood: an outage may last for hours, and each
//! batch may be lost for a reason of its own.

use std::time::Duration;

use super::batch::Lost;
use crate::clock;

/// At most one line about failed attempts in this time, and one about losses for one reason.
const LOG_EVERY: Duration = Duration::from_mins(1);
/// Most lines about losses in this time, whatever their reasons.
const LINES: u32 = 5;

/// Keeps the failed attempts of an outage from flooding the log.
#[derive(Debug, Default)]
pub(super) struct RetryLog {
    /// Failures since something was delivered, and since the last line.
    pub(super) unsaid: u64,
    pub(super) last_line: Option<clock::Instant>,
    /// Whether there was a line, so that there is one about the end as well.
    pub(super) told: bool,
}

impl RetryLog {
    /// Counts a failure. `Some` when it is to be logged, with the number that were not.
    pub(super) fn worth_a_line(&mut self, now: clock::Instant) -> Option<u64> {
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

    /// Whether an outage that was logged has just ended.
    pub(super) fn over(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }
}

/// Keeps losses for one reason from flooding the log. None is left out: what is not logged at once
/// is logged when the minute is over.
#[derive(Debug, Default)]
pub(super) struct LossLog {
    /// What has not been told. Its reason is that of the last of them.
    pub(super) unsaid: Lost,
    /// The reason of the last line.
    pub(super) told: String,
    /// When the minute began, and the lines in it.
    pub(super) since: Option<clock::Instant>,
    pub(super) lines: u32,
}

impl LossLog {
    /// Takes a loss in; gives what is to be told now.
    pub(super) fn worth_a_line(&mut self, lost: Lost, now: clock::Instant) -> Option<Lost> {
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
    pub(super) fn due(&self) -> Option<clock::Instant> {
        self.since
            .filter(|_| self.unsaid.count > 0)
            .map(|since| since + LOG_EVERY)
    }

    /// What has not been told.
    pub(super) fn rest(&mut self, now: clock::Instant) -> Option<Lost> {
        if self.unsaid.count == 0 {
            return None;
        }
        self.since = Some(now);
        self.lines = 1;
        self.told.clone_from(&self.unsaid.reason);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::batch::IDS_IN_LOG, *};

    #[test]
    fn an_outage_is_logged_once_a_minute_and_its_end_once() {
        let start = clock::monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut retries = RetryLog::default();
        assert!(!retries.over());
        assert_eq!(retries.worth_a_line(at(0)), Some(0));
        assert_eq!(retries.worth_a_line(at(5)), None);
        assert_eq!(retries.worth_a_line(at(59)), None);
        assert_eq!(retries.worth_a_line(at(60)), Some(2));
        assert!(retries.over());
        assert!(!retries.over());
        assert_eq!(
            retries.worth_a_line(at(61)),
            None,
            "flapping does not flood the log either"
        );
        assert!(!retries.over());
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
        let mut losses = LossLog::default();
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
}
