//! What a pipeline counts, for metrics and for the summary at its end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::clusters::Clusters;
use crate::{
    detection::{
        envelope::Outcome,
        finding::{Finding, FindingState},
    },
    processor::detection::Kept,
    receiver::{Class, Reason},
    telemetry::metrics::Timer,
};

/// What came in by one source: a receiver and its protocol.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Log records that were taken.
    pub accepted: AtomicU64,
    /// Log records that were not: unreadable ones, and those of requests that were refused for now.
    pub refused: AtomicU64,
    /// Requests that were taken.
    pub requests: AtomicU64,
    refused_requests: [[AtomicU64; Class::ALL.len()]; Reason::ALL.len()],
}

impl SourceCounters {
    /// Requests of senders of this class that were refused for this reason, for now or for good.
    pub fn refused_requests(&self, reason: Reason, class: Class) -> u64 {
        let counters = self.refused_requests.get(reason as usize);
        counters
            .and_then(|counters| counters.get(class as usize))
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    pub(super) fn all_refused_requests(&self) -> u64 {
        let counters = self.refused_requests.iter().flatten();
        counters
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }

    pub(super) fn refuse(&self, reason: Reason, class: Class) {
        let counters = self.refused_requests.get(reason as usize);
        if let Some(counter) = counters.and_then(|counters| counters.get(class as usize)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a pipeline has seen and found. To read it makes no task wait.
#[derive(Debug, Default)]
pub struct Counters {
    /// Log records of requests that were taken.
    pub screened: AtomicU64,
    /// Records that were rejected as unreadable.
    pub rejected: AtomicU64,
    /// Records that passed the prefilter.
    pub candidates: AtomicU64,
    /// Events that would count, but for the selector.
    pub deselected: AtomicU64,
    /// Events that count.
    pub hits: AtomicU64,
    /// What arrived of each cluster.
    pub clusters: Clusters,
    /// What was in records that are no plain events.
    opened: Mutex<Outcome>,
    /// Hits of each exclusion, with its name.
    excluded: Mutex<BTreeMap<Arc<str>, u64>>,
    /// States of findings, in the order of [`STATES`].
    findings: [AtomicU64; STATES.len()],
    /// What the detection has counted, as of the last request or tick.
    pub(super) detection: Mutex<Kept>,
    pub(super) sources: Mutex<Vec<Arc<SourceCounters>>>,
    /// From events to the findings they opened or changed, in the order of [`STATES`].
    lag: OnceLock<[Timer; 2]>,
}

/// The states of a finding.
pub const STATES: [FindingState; 3] = FindingState::ALL;

impl Counters {
    /// What was in records that are no plain events.
    pub fn opened(&self) -> Outcome {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was in those of a request.
    pub(super) fn open(&self, opened: &Outcome) {
        if *opened != Outcome::default() {
            let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            all.add(opened);
        }
    }

    /// There are exclusions of these names, which have a count from the beginning.
    pub(super) fn exclusions<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut excluded = self.of_exclusions();
        for name in names {
            excluded.entry(Arc::from(name)).or_default();
        }
    }

    /// Hits of each exclusion, by its name, those of former configurations too.
    pub fn excluded(&self) -> Vec<(Arc<str>, u64)> {
        let excluded = self.of_exclusions();
        let counts = excluded.iter();
        counts
            .map(|(name, count)| (Arc::clone(name), *count))
            .collect()
    }

    /// Counts a hit of each of these exclusions.
    pub(super) fn exclude<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut names = names.peekable();
        if names.peek().is_none() {
            return;
        }
        let mut excluded = self.of_exclusions();
        for name in names {
            if let Some(count) = excluded.get_mut(name) {
                *count += 1;
            }
        }
    }

    fn of_exclusions(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, u64>> {
        self.excluded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Findings of the state at this place of [`STATES`].
    pub fn findings(&self, state: usize) -> u64 {
        self.findings
            .get(state)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Counters and state size of the detection.
    pub fn detection(&self) -> Kept {
        *self
            .detection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what takes the time from an event to the finding that it opens, and to the one that
    /// it changes.
    pub fn time(&self, opened: Timer, updated: Timer) {
        // There is one who measures; a second one would see the same.
        let _set = self.lag.set([opened, updated]);
    }

    /// The sum over all receivers.
    pub(super) fn over_sources(&self, count: impl Fn(&SourceCounters) -> u64) -> u64 {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().map(|source| count(source)).sum()
    }

    /// Counts an emission, and, given the time, how long ago its event was.
    pub(super) fn found(&self, state: FindingState, finding: &Finding, now: Option<u64>) {
        let place = STATES.iter().position(|one| *one == state);
        let Some(place) = place else {
            return;
        };
        if let Some(counter) = self.findings.get(place) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let since = match state {
            FindingState::Opened => finding.alert_at.or(finding.window_end),
            FindingState::Updated | FindingState::Closed => finding.last_time,
        };
        if let (Some(timer), Some(since), Some(now)) = (
            self.lag.get().and_then(|timers| timers.get(place)),
            since.and_then(nanos),
            now,
        ) {
            timer.record(Duration::from_nanos(now.saturating_sub(since)));
        }
    }
}

fn nanos(time: prost_types::Timestamp) -> Option<u64> {
    let seconds = u64::try_from(time.seconds).ok()?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(u64::try_from(time.nanos).ok()?)
}
