//! When a snapshot is made, and what is cut behind it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tracing::debug;

use super::DurableTask;
use crate::{
    clock,
    deadline::{Late, Started},
    processor::detection::Position,
    storage::Numbered,
};

impl DurableTask {
    /// Makes a snapshot when it is time, and cuts the log behind the last.
    pub(super) async fn snapshot(&mut self, is_last: bool) {
        let limit = if is_last {
            Duration::from_mins(10)
        } else {
            Duration::ZERO
        };
        if !self.finish_snapshot(limit).await {
            return;
        }
        self.cut().await;
        let now = clock::monotonic();
        let is_old = now.saturating_duration_since(self.snapshot_at) >= self.pace.every;
        let bytes = {
            let storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
            storage.bounds().entry_bytes
        };
        // One that failed is not tried again at once.
        let is_rested = now.saturating_duration_since(self.snapshot_at) >= self.pace.rest;
        let is_due = is_last
            || is_rested && bytes >= self.pace.log
            || is_old && self.next_entry > self.in_snapshot;
        // What is applied must be on disk before a snapshot of it is.
        if !is_due
            || self
                .write(Vec::new(), Vec::new(), Vec::new())
                .await
                .is_err()
        {
            return;
        }
        self.snapshot_at = now;
        // The engine stops from here on; a commit before it is one like any other.
        let begin = clock::monotonic();
        self.detection.share();
        let moment = self.detection.moment(&Position {
            next_entry: self.next_entry,
            next_finding: self.next_finding,
            started: self.started,
            known: self.known.clone(),
        });
        let stopped = clock::monotonic().saturating_duration_since(begin);
        debug!(pipeline = self.id, ?stopped, "state taken for a snapshot");
        let snapshots = Arc::clone(&self.snapshots);
        let keep = move || snapshots.keep(&moment.encode());
        self.writing = Some((Started::new("writing a snapshot", keep), self.next_entry));
    }

    /// Waits for the snapshot that is written; whether none is any more.
    pub(super) async fn finish_snapshot(&mut self, limit: Duration) -> bool {
        if let Some((started, entry)) = &mut self.writing {
            match started.within(limit).await {
                Err(Late::Elapsed(..)) => return false,
                Ok(Ok(())) => self.in_snapshot = *entry,
                Ok(Err(error)) => self.failed(&error),
                Err(late) => self.failed(&late),
            }
            self.writing = None;
        }
        true
    }

    /// Gives up what the snapshot holds, and what every exporter has delivered.
    pub(super) async fn cut(&mut self) {
        let is_full = {
            let storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
            storage.bounds().finding_bytes >= self.kept.limit / 2
        };
        if is_full {
            self.lanes.give_up_removed();
        }
        let (entry, finding) = (
            self.in_snapshot,
            self.lanes.first_undelivered(self.next_finding),
        );
        let bounds = {
            let storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
            storage.bounds()
        };
        if entry > bounds.first_entry || finding > bounds.first_finding {
            let _nothing = self
                .read(move |storage| storage.cut(entry, finding).map(|()| Numbered::new()))
                .await;
        }
    }
}
