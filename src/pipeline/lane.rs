//! The way to one exporter: its queue, and the findings that wait for room in it.

use std::{collections::VecDeque, sync::Arc};

use tracing::error;

use crate::{detection::Finding, exporter::queue::Queue};

/// Findings that may wait for room with the engine task, for each exporter. With so many waiting
/// no hits are taken and time stands still, so the bound holds and nothing is lost.
const MOST: usize = 65_536;

/// An exporter's queue and what waits for it.
pub(super) struct Lane {
    queue: Queue,
    pending: VecDeque<Arc<Finding>>,
}

impl Lane {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            pending: VecDeque::new(),
        }
    }

    /// Whether so much waits that nothing may be added.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MOST
    }

    /// Whether there is room for so many findings. More than the queue can ever hold find room
    /// when it is empty; the rest then waits here.
    pub(super) fn has_room(&self, findings: usize) -> bool {
        self.pending.is_empty() && self.queue.free() >= findings.min(self.queue.capacity())
    }

    pub(super) fn add(&mut self, finding: Arc<Finding>) {
        self.pending.push_back(finding);
    }

    /// Moves what waits into the queue, as far as there is room; whether nothing waits any more.
    pub(super) fn flush_pending(&mut self) -> bool {
        while let Some(finding) = self.pending.pop_front() {
            if let Err(finding) = self.queue.try_push(finding) {
                self.pending.push_front(finding);
                return false;
            }
        }
        // After a flood it need not keep room for the next.
        self.pending.shrink_to(1024);
        true
    }

    /// Whether the exporter has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Gives up what waits. An exporter that has ended knows nothing of it, so the loss is logged
    /// here.
    pub(super) fn give_up(&mut self) {
        let Some(finding) = self.pending.front() else {
            return;
        };
        error!(
            exporter = self.queue.id(),
            reason = "the exporter has ended before they found room in its queue",
            findings = self.pending.len(),
            first_finding_id = finding.finding_id,
            "findings were given up"
        );
        self.queue.lost(self.pending.len());
        self.pending.clear();
    }
}
