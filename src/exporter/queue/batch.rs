//! The findings at hand of one exporter, and those of them that are lost.

use std::{ops::RangeBounds, sync::Arc};

use super::{Queued, wide};
use crate::{clock, detection::Finding, exporter::text};

/// Most finding ids that one line of the log names.
pub(super) const IDS_IN_LOG: usize = 5;

/// The findings at hand, and since when each of them waits.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) findings: Vec<Arc<Finding>>,
    pub(super) since: Vec<clock::Instant>,
}

impl Batch {
    pub(super) fn fill(&mut self, taken: &mut Vec<Queued>) {
        for Queued { finding, since } in taken.drain(..) {
            self.findings.push(finding);
            self.since.push(since);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.findings.len()
    }

    /// Takes out what is given up.
    pub(super) fn drain(
        &mut self,
        range: impl RangeBounds<usize> + Clone,
    ) -> impl Iterator<Item = Arc<Finding>> {
        self.since.drain(range.clone());
        self.findings.drain(range)
    }
}

/// Findings of one batch that were given up.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) count: u64,
    pub(super) ids: Vec<String>,
    /// Of the first of them; a batch fails as one, or for the same reason over and over.
    pub(super) reason: String,
}

impl Lost {
    pub(super) fn add(&mut self, findings: impl Iterator<Item = Arc<Finding>>, reason: String) {
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
    /// Adds `lost` of these findings. Which ones is unknown, so the ids of all may be named.
    pub(super) fn add_some(
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
    pub(super) fn add_all(&mut self, later: Lost) {
        self.count += later.count;
        self.reason = later.reason;
        let room = IDS_IN_LOG.saturating_sub(self.ids.len());
        self.ids.extend(later.ids.into_iter().take(room));
    }
}
