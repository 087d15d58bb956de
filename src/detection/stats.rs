//! What the engine has counted, besides findings.

use std::ops::AddAssign;

/// What the engine has counted besides findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Hits taken.
    pub hits: u64,
    /// Hits that repeated a request that was counted before.
    pub duplicates: u64,
    /// Hits behind the watermark.
    pub late: u64,
    /// Those of them that could not be counted exactly any more and were left out.
    pub late_dropped: u64,
    /// Hits without any time.
    pub untimed: u64,
    /// Hits that were forgotten while they waited for a finding of their key to close, because
    /// more came than are kept: the next finding counts as many too few.
    pub overflow: u64,
    /// Keys evicted to stay within the limits.
    pub evicted: u64,
    /// The error bound of that: of no key more hits of one window were forgotten than this. A key
    /// with more than the threshold and this many hits in a window is found.
    pub evicted_hits: u64,
}

impl AddAssign for Stats {
    /// Sums, and the greater of the error bounds.
    fn add_assign(&mut self, other: Self) {
        let Self {
            hits,
            duplicates,
            late,
            late_dropped,
            untimed,
            overflow,
            evicted,
            evicted_hits,
        } = other;
        self.hits += hits;
        self.duplicates += duplicates;
        self.late += late;
        self.late_dropped += late_dropped;
        self.untimed += untimed;
        self.overflow += overflow;
        self.evicted += evicted;
        self.evicted_hits = self.evicted_hits.max(evicted_hits);
    }
}

/// What was evicted of a cluster, since it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterEvictions {
    /// Keys.
    pub keys: u64,
    /// The greatest error bound: of no key more hits of one window were forgotten.
    pub bound: u64,
    /// The networks (/24 and /64) with the most evictions, and at most how many those were.
    pub networks: Vec<(String, u64)>,
}
