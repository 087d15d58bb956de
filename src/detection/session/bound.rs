//! How many states of findings further hits can cause, so that room can be made for them.

use super::{Key, Params, Sent, pace::FIRST_INTERVAL};

impl Key {
    /// Most findings that this many further hits can cause, while the closing watermark moves on
    /// by at most `advance` microseconds, and whether successes are among the hits.
    pub(in crate::detection) fn bound(
        &self,
        hits: u64,
        (advance, has_successes): (i64, bool),
        params: &Params<'_>,
    ) -> u64 {
        /// Severities above the least.
        const RISES: u64 = 4;
        if params.is_each_a_finding() {
            return hits;
        }
        let doublings = |from: u64, to: u64| u64::from((to / from.max(1)).max(1).ilog2());
        let count = self.unassigned.len() as u64 + hits;
        // Each further one needs a window without hits, or a day.
        let findings = || self.rest.iter().flat_map(|rest| rest.findings());
        let open = findings().count() as u64;
        let spans = (advance.max(0) / params.window.max(1)).unsigned_abs();
        let new = (count / params.threshold.saturating_add(1)).min(spans.saturating_add(2));
        let opens = new + 2 * open + spans.min(open * hits);
        if opens == 0 {
            return 0;
        }
        let (mut most, mut least) = (count, params.threshold.saturating_add(1));
        for open in findings() {
            // A late hit may bring in unassigned ones, or earlier ones that were no members so
            // far.
            most += open.requests() + open.before.len() as u64;
            least = 1;
        }
        // The next may be merged.
        let mut each = 2 + doublings(least, most);
        if has_successes {
            each += 1 + doublings(1, hits);
        }
        if has_successes || !params.detection.labels.is_empty() {
            each += RISES;
        }
        // What is new waits after each state, and a finding that is open may have waited already.
        let apart = (advance.max(0) / FIRST_INTERVAL).unsigned_abs();
        let news = Sent::most_news(opens, advance).min(apart + 2 * open);
        let all = opens.saturating_mul(each).saturating_add(news);
        // The hits up to the threshold cause nothing before a finding is open.
        let silent = params
            .threshold
            .saturating_sub(self.unassigned.len() as u64);
        let causing = if open > 0 {
            hits
        } else {
            hits.saturating_sub(silent)
        };
        // A hit that merges a finding, or opens one near more hits, causes a state of it, and one
        // of what grew by it. One that opens a finding may bring out what the other has waited for.
        let is_more = open > 0 || count > params.threshold.saturating_add(1);
        let twice = if is_more { 2 * new } else { 0 } + u64::from(self.next().is_some());
        all.min(causing.saturating_add(twice.min(causing)))
    }
}
