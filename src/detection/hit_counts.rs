//! How many hits of a request there are for each key, and of what times: what decides how much room
//! their findings may need.

use std::collections::BTreeMap;

use super::{hit::Hit, time::Micros};

/// Hits of one request.
#[derive(Debug, Default)]
pub struct HitCounts<'h> {
    /// How many, by cluster, detection and key.
    pub(super) by_key: BTreeMap<(&'h str, usize, &'h str), u64>,
    /// Their earliest and latest time, by cluster and detection.
    pub(super) times: BTreeMap<(&'h str, usize), (Micros, Micros)>,
    /// Successes, each of which makes one state of a finding at most.
    pub(super) successes: usize,
}

impl<'h> HitCounts<'h> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.successes == 0
    }

    /// Counts a hit of a detection in a cluster.
    pub(super) fn add(&mut self, cluster: &'h str, detection: usize, hit: &'h Hit) {
        let key = (cluster, detection, hit.key.as_str());
        *self.by_key.entry(key).or_default() += 1;
        if let Some(time) = hit.time {
            let times = self.times.entry((cluster, detection));
            let (earliest, latest) = times.or_insert((time, time));
            *earliest = (*earliest).min(time);
            *latest = (*latest).max(time);
        }
    }
}
