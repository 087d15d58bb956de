//! Findings that were given up, for the counters and the log.

use std::sync::Arc;

use crate::{detection::Finding, visible::quotable};

/// Most finding ids that one line of the log names.
pub(super) const IDS_IN_LOG: usize = 5;

/// Findings that were given up.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) count: u64,
    pub(super) ids: Vec<String>,
    /// Of the first of them; a batch fails as one, or for the same reason over and over.
    pub(super) reason: String,
}

impl Lost {
    /// Adds `count` of these findings. If those are not all, it is unknown which, so the ids of all
    /// may be named.
    pub(super) fn add(&mut self, findings: &[Arc<Finding>], count: usize, reason: String) {
        if self.count == 0 {
            self.reason = reason;
        }
        self.count = self.count.saturating_add(wide(count));
        let room = IDS_IN_LOG.saturating_sub(self.ids.len());
        let ids = findings.iter().take(room);
        self.ids
            .extend(ids.map(|finding| quotable(&finding.finding_id, 64)));
    }

    /// Adds later ones, with their reason.
    pub(super) fn add_all(&mut self, later: Lost) {
        self.count = self.count.saturating_add(later.count);
        self.reason = later.reason;
        let room = IDS_IN_LOG.saturating_sub(self.ids.len());
        self.ids.extend(later.ids.into_iter().take(room));
    }
}

/// A number of findings as counters have it.
pub(super) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
