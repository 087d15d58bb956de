//! What the engine counts besides findings.

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
    /// Successes of watched keys.
    pub successes: u64,
    /// Keys that are watched no longer, because more were to be watched than there is room for.
    pub unwatched: u64,
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
            successes,
            unwatched,
        } = other;
        self.successes += successes;
        self.unwatched += unwatched;
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
