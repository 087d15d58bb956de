//! The exporters of a pipeline with a storage. Each has a cursor: the first finding in the outbox that
//! it has not delivered. It is given a batch at a time, and the next when the cursor behind the last
//! is on disk; so after a crash at most one batch is sent again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use prost::Message as _;
use tracing::error;

use super::ledger::{FindingBudget, Ledger};
use crate::{
    detection::Finding,
    exporter::queue::{Queue, Shutdown},
    storage::{Numbered, Storage},
};

/// Findings that an exporter is given at once.
const BATCH: usize = 512;

/// The lanes of all exporters of a pipeline.
pub(super) struct Lanes {
    all: Vec<Lane>,
    ending: Shutdown,
    budget: FindingBudget,
}

struct Lane {
    queue: Queue,
    /// The first finding that is not known to be delivered.
    done: u64,
    /// `done`, as it is on disk.
    saved: u64,
    /// Whether there is a cursor on disk.
    is_known: bool,
    /// The next finding to hand over.
    next: u64,
    /// Findings that were handed over, in order.
    under_way: Vec<Weak<Finding>>,
    /// What they take. It is counted and refuses nothing: a batch is bounded, and an exporter that hangs
    /// holds up no other.
    ledger: Ledger,
    /// The exporter was removed, and gets no finding from this one on.
    until: Option<u64>,
}

impl Lane {
    fn new(queue: Queue, storage: &dyn Storage, budget: &FindingBudget) -> Self {
        let end = storage.bounds().next_finding;
        let cursor = storage.cursor(queue.id());
        let begin = (cursor.unwrap_or(end), cursor.is_some());
        Self::at(queue, begin, budget)
    }

    fn at(queue: Queue, (begin, is_known): (u64, bool), budget: &FindingBudget) -> Self {
        Self {
            queue,
            done: begin,
            saved: begin,
            is_known,
            next: begin,
            under_way: Vec::new(),
            ledger: Ledger::new(budget.clone()),
            until: None,
        }
    }

    /// Where its findings end, of those below this number.
    fn end(&self, end: u64) -> u64 {
        self.until.map_or(end, |until| until.min(end))
    }

    /// Findings that it can be given at once.
    fn most(&self, end: u64) -> usize {
        let left = usize::try_from(self.end(end).saturating_sub(self.next));
        left.unwrap_or(usize::MAX).min(self.queue.free()).min(BATCH)
    }
}

/// Findings that a lane can take now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    lane: usize,
    pub(super) from: u64,
    pub(super) most: usize,
}

impl Lanes {
    pub(super) fn new(
        queues: Vec<Queue>,
        storage: &dyn Storage,
        (ending, budget): (Shutdown, FindingBudget),
    ) -> Self {
        let lanes = queues.into_iter();
        let lanes = lanes.map(|queue| Lane::new(queue, storage, &budget));
        Self {
            all: lanes.collect(),
            ending,
            budget,
        }
    }

    /// Findings go to these queues from now on: to those that are new, from the end of the outbox on.
    /// Another one still gets what was there before.
    pub(super) fn change(&mut self, queues: Vec<Queue>, storage: &dyn Storage) {
        let end = storage.bounds().next_finding;
        for lane in &mut self.all {
            lane.until.get_or_insert(end);
        }
        for queue in queues {
            let mut lanes = self.all.iter_mut();
            match lanes.find(|lane| lane.queue.id() == queue.id()) {
                Some(lane) => lane.until = None,
                None => self.all.push(Lane::at(queue, (end, false), &self.budget)),
            }
        }
    }

    /// Gives up what exporters that were removed have not delivered, for there is no more room.
    pub(super) fn give_up_removed(&mut self) {
        self.all.retain(|lane| {
            let Some(until) = lane.until else { return true };
            error!(
                exporter = lane.queue.id(),
                findings = until.saturating_sub(lane.done),
                "findings of an exporter that was removed are given up: the storage is full"
            );
            false
        });
    }

    /// Finds out what exporters are done with; the cursors that have moved.
    pub(super) fn moved(&mut self) -> Vec<(String, u64)> {
        let mut moved = BTreeMap::new();
        for lane in &mut self.all {
            // So that what is delivered is counted no longer.
            let _unbounded = lane.ledger.has_room();
            let done = lane.under_way.iter();
            let done = done.take_while(|one| one.strong_count() == 0).count();
            // An exporter that gives up, or has ended, drops what it did not deliver. This is asked
            // after the findings were looked at, for an exporter says so before it drops them.
            if self.ending.is_abandoned() || lane.queue.is_closed() {
                continue;
            }
            lane.under_way.drain(..done);
            lane.done += done as u64;
            if lane.done > lane.saved || !lane.is_known {
                moved.insert(lane.queue.id().to_owned(), lane.done);
            }
        }
        self.all.retain(|lane| {
            let is_over = lane.until.is_some_and(|until| lane.saved >= until);
            !is_over || !lane.under_way.is_empty()
        });
        moved.into_iter().collect()
    }

    /// These cursors are on disk.
    pub(super) fn saved(&mut self, cursors: &[(String, u64)]) {
        for lane in &mut self.all {
            for (_, done) in cursors.iter().filter(|(id, _)| id == lane.queue.id()) {
                lane.saved = lane.saved.max(*done);
                lane.is_known = true;
            }
        }
    }

    /// Findings that lanes can take now, of those below `end`.
    pub(super) fn wanted(&self, end: u64) -> Vec<Wanted> {
        let ready = self.all.iter().enumerate().filter(|(_, lane)| {
            let is_idle = lane.under_way.is_empty() && lane.saved == lane.done && lane.is_known;
            is_idle && lane.next < lane.end(end) && !lane.queue.is_closed()
        });
        let wanted = ready.map(|(place, lane)| Wanted {
            lane: place,
            from: lane.next,
            most: lane.most(end),
        });
        wanted.filter(|wanted| wanted.most > 0).collect()
    }

    /// Hands these over.
    pub(super) fn give(&mut self, wanted: Wanted, findings: Numbered) {
        let Some(lane) = self.all.get_mut(wanted.lane) else {
            return;
        };
        if lane.under_way.is_empty()
            && let Some((first, _)) = findings.first()
        {
            // An exporter that was away for long may point below what is kept.
            lane.done = lane.done.max(*first);
            lane.saved = lane.done;
        }
        for (number, bytes) in findings {
            match Finding::decode(bytes.as_slice()) {
                Ok(finding) => {
                    let finding = Arc::new(finding);
                    let weak = Arc::downgrade(&finding);
                    lane.ledger.add(&finding);
                    if lane.queue.try_push(finding).is_err() {
                        return;
                    }
                    lane.under_way.push(weak);
                }
                Err(reason) => {
                    error!(
                        exporter = lane.queue.id(),
                        number,
                        %reason,
                        "a finding in the storage cannot be read and is given up"
                    );
                    lane.queue.lost(1);
                    lane.under_way.push(Weak::new());
                }
            }
            lane.next = number + 1;
        }
    }

    /// The first finding that an exporter has not delivered.
    pub(super) fn first_undelivered(&self, end: u64) -> u64 {
        let saved = self.all.iter().map(|lane| lane.saved);
        saved.min().unwrap_or(end)
    }

    /// Whether exporters have findings whose end must be watched.
    pub(super) fn is_busy(&self) -> bool {
        let mut lanes = self.all.iter();
        lanes.any(|lane| !lane.under_way.is_empty() || lane.saved != lane.done || !lane.is_known)
    }

    /// Whether exporters will deliver nothing more.
    pub(super) fn is_over(&self) -> bool {
        self.ending.is_abandoned() || self.all.iter().all(|lane| lane.queue.is_closed())
    }
}
