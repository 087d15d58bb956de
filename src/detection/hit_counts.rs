//! How many hits of a request there are for each key, and of what times: what decides how much room
//! their findings may need.

use std::collections::BTreeMap;

use super::{
    hit::Hit,
    time::{BEGINNING, Micros},
};

/// Hits of one request.
#[derive(Debug, Default)]
pub struct HitCounts<'h> {
    /// How many, by cluster, detection and key.
    pub(super) by_key: BTreeMap<(&'h str, usize, &'h str), u64>,
    /// Successes, each of which makes one state of a finding at most.
    pub(super) successes: usize,
    /// What is known of all of them, by cluster and detection.
    pub(super) spans: BTreeMap<(&'h str, usize), Span>,
}

/// What is known of the hits of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Their earliest time.
    pub(super) earliest: Micros,
    /// Their latest time.
    pub(super) latest: Micros,
    /// Whether requests that succeeded are among them.
    pub(super) has_successes: bool,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            earliest: Micros(i64::MAX),
            latest: BEGINNING,
            has_successes: false,
        }
    }
}

impl<'h> HitCounts<'h> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.successes == 0
    }

    /// Counts a success for a detection in a cluster.
    pub(super) fn succeed(&mut self, cluster: &'h str, detection: usize) {
        self.successes += 1;
        let span = self.spans.entry((cluster, detection)).or_default();
        span.has_successes = true;
    }

    /// Counts a hit of a detection in a cluster.
    pub(super) fn add(&mut self, cluster: &'h str, detection: usize, hit: &'h Hit) {
        let key = (cluster, detection, hit.key.as_str());
        *self.by_key.entry(key).or_default() += 1;
        let span = self.spans.entry((cluster, detection)).or_default();
        if let Some(time) = hit.time {
            span.earliest = span.earliest.min(time);
            span.latest = span.latest.max(time);
        }
    }
}
