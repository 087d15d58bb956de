//! The exporters of a pipeline with a storage. Each has a cursor: the first finding in the outbox that
//! it has not delivered. It is given a batch at a time, and the next when the cursor behind the last
//! is on disk; so after a crash at most one batch is sent again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use prost::Message as _;
use tracing::error;

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
}

struct Lane {
    queue: Queue,
    /// The first finding that is not known to be delivered.
    done: u64,
    /// `done`, as it is on disk.
    saved: u64,
    /// The next finding to hand over.
    next: u64,
    /// Findings that were handed over, in order.
    under_way: Vec<Weak<Finding>>,
}

impl Lane {
    fn new(queue: Queue, storage: &dyn Storage) -> Self {
        let end = storage.bounds().next_finding;
        let begin = storage.cursor(queue.id()).unwrap_or(end);
        Self {
            queue,
            done: begin,
            saved: begin,
            next: begin,
            under_way: Vec::new(),
        }
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
    pub(super) fn new(queues: Vec<Queue>, storage: &dyn Storage, ending: Shutdown) -> Self {
        let lanes = queues.into_iter().map(|queue| Lane::new(queue, storage));
        Self {
            all: lanes.collect(),
            ending,
        }
    }

    /// Findings go to these queues from now on. The cursors of those that had none: they begin at the
    /// end. What another one was given it still delivers.
    pub(super) fn change(
        &mut self,
        queues: Vec<Queue>,
        storage: &dyn Storage,
    ) -> Vec<(String, u64)> {
        let mut before = std::mem::take(&mut self.all);
        let mut begun = Vec::new();
        for queue in queues {
            let known = before.iter().position(|lane| lane.queue.id() == queue.id());
            let lane = match known {
                Some(place) => before.swap_remove(place),
                None => Lane::new(queue, storage),
            };
            if storage.cursor(lane.queue.id()).is_none() {
                begun.push((lane.queue.id().to_owned(), lane.saved));
            }
            self.all.push(lane);
        }
        begun
    }

    /// Finds out what exporters are done with; the cursors that have moved.
    pub(super) fn moved(&mut self) -> Vec<(String, u64)> {
        let mut moved = BTreeMap::new();
        for lane in &mut self.all {
            let done = lane.under_way.iter();
            let done = done.take_while(|one| one.strong_count() == 0).count();
            // An exporter that gives up, or has ended, drops what it did not deliver. This is asked
            // after the findings were looked at, for an exporter says so before it drops them.
            if self.ending.is_abandoned() || lane.queue.is_closed() {
                continue;
            }
            lane.under_way.drain(..done);
            lane.done += done as u64;
            if lane.done > lane.saved {
                moved.insert(lane.queue.id().to_owned(), lane.done);
            }
        }
        moved.into_iter().collect()
    }

    /// These cursors are on disk.
    pub(super) fn saved(&mut self, cursors: &[(String, u64)]) {
        for lane in &mut self.all {
            for (_, done) in cursors.iter().filter(|(id, _)| id == lane.queue.id()) {
                lane.saved = lane.saved.max(*done);
            }
        }
    }

    /// Findings that lanes can take now, of those below `end`.
    pub(super) fn wanted(&self, end: u64) -> Vec<Wanted> {
        let ready = self.all.iter().enumerate().filter(|(_, lane)| {
            let is_idle = lane.under_way.is_empty() && lane.saved == lane.done;
            is_idle && lane.next < end && !lane.queue.is_closed()
        });
        let wanted = ready.map(|(place, lane)| Wanted {
            lane: place,
            from: lane.next,
            most: lane.queue.free().min(BATCH),
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
        lanes.any(|lane| !lane.under_way.is_empty() || lane.saved != lane.done)
    }

    /// Whether exporters will deliver nothing more.
    pub(super) fn is_over(&self) -> bool {
        self.ending.is_abandoned() || self.all.iter().all(|lane| lane.queue.is_closed())
    }
}
