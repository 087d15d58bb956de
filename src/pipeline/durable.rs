//! The engine task of a pipeline with a storage. A request is answered OK when its hits are in the log
//! and synced, and nothing more: the engine applies them after that. Findings enter the outbox before
//! an exporter sees them.
//!
//! One commit holds what all connections have waiting. The passing of time is written with the next
//! commit: when a crash takes some of it, time has not passed, and nothing else follows.

mod snapshots;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use tokio::{
    sync::mpsc,
    task,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    change::{Change, Changing},
    counters::Counters,
    outbox::Lanes,
    pace::Pace,
    recovery::Recovered,
    submission::{Ack, FULL, SLICE, Submission},
};
use crate::{
    clock,
    deadline::{Late, Started},
    detection::{emission::Emission, hit::Hit, input::Input, time::Micros},
    memory::Pressure,
    processor::detection::{Detection, Known},
    receiver::Refusal,
    storage::{Batch, Numbered, Snapshots, Storage, StorageError},
};

/// The interval of ticks.
const TICK: Duration = Duration::from_secs(1);
/// The interval at which the engine is given what arrived of each cluster.
const ACTIVITY: Duration = Duration::from_mins(1);
/// How often exporters are looked at while they have findings.
const LOOK: Duration = Duration::from_millis(10);
/// Requests that one commit holds at most.
const GROUP: usize = 64;

/// How a storage is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// How long a commit may take before senders are refused.
    pub timeout: Duration,
    /// Bytes of the log and of the outbox, each, at which requests with hits are refused.
    pub limit: u64,
    /// Whether the last commit succeeded, for the health of the service.
    pub is_up: Arc<AtomicBool>,
}

type Shared = Arc<Mutex<Box<dyn Storage>>>;

/// The engine task of a pipeline with a storage.
pub struct DurableTask {
    id: String,
    detection: Detection,
    known: Known,
    started: Option<Micros>,
    inbox: mpsc::Receiver<Submission>,
    changes: mpsc::Receiver<Changing>,
    /// A change that waits until the storage can be written: what is in doubt was caused by the
    /// settings of now.
    changing: Option<Changing>,
    lanes: Lanes,
    pressure: Pressure,
    storage: Shared,
    snapshots: Arc<dyn Snapshots>,
    kept: Kept,
    pace: Pace,
    /// The next entry on disk.
    next_entry: u64,
    /// The next finding on disk.
    next_finding: u64,
    /// Entries that were applied and are not on disk: all but the hits of requests may be.
    lazy: Vec<Vec<u8>>,
    /// Findings that are not on disk.
    findings: Vec<Vec<u8>>,
    /// A snapshot that is written, and the first entry and finding that are not in it.
    writing: Option<(Started<Result<(), StorageError>>, u64)>,
    /// Entries before this one are in the last snapshot.
    in_snapshot: u64,
    snapshot_at: Instant,
    ticked: Instant,
    activity: Instant,
    counters: Arc<Counters>,
}

impl DurableTask {
    pub(super) fn new(
        id: String,
        recovered: Recovered,
        (inbox, changes): (mpsc::Receiver<Submission>, mpsc::Receiver<Changing>),
        lanes: Lanes,
        (counters, kept): (Arc<Counters>, Kept),
    ) -> Self {
        let (detection, storage, started) = recovered.into_parts();
        let bounds = storage.bounds();
        let now = clock::monotonic();
        Self {
            id,
            known: detection.known(),
            detection,
            started,
            inbox,
            changes,
            changing: None,
            lanes,
            pressure: Pressure::default(),
            snapshots: storage.snapshots(),
            storage: Arc::new(Mutex::new(storage)),
            kept,
            pace: Pace::default(),
            next_entry: bounds.next_entry,
            next_finding: bounds.next_finding,
            lazy: Vec::new(),
            findings: Vec::new(),
            writing: None,
            in_snapshot: bounds.first_entry,
            snapshot_at: now,
            ticked: now,
            activity: now,
            counters,
        }
    }

    /// Keeps less while the process takes more memory than it may.
    #[must_use]
    pub fn under(mut self, pressure: Pressure) -> Self {
        self.pressure = pressure;
        self
    }

    /// Makes snapshots at another pace.
    #[cfg(test)]
    pub(super) fn paced(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Runs until every intake is gone, or `cut` says that no more shall come in. Then the state is
    /// kept: nothing closes.
    pub async fn run(mut self, cut: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.ticked = clock::monotonic();
        loop {
            if self.kept.is_up.load(Ordering::Relaxed)
                && let Some(changing) = self.changing.take()
            {
                self.change(changing).await;
            }
            self.feed().await;
            let waits = self.lanes.is_busy();
            // Time and changes first: a full inbox does not stop them. The order makes simulations repeatable.
            tokio::select! {
                biased;
                _ = ticks.tick() => self.tick().await,
                // What is in the inbox already is still taken.
                () = cut.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
                Some(changing) = self.changes.recv(), if self.changing.is_none() => {
                    if !self.kept.is_up.load(Ordering::Relaxed) {
                        self.warn_of_waiting();
                    }
                    self.changing = Some(changing);
                }
                submission = self.inbox.recv() => match submission {
                    Some(submission) => self.take(submission).await,
                    None => break,
                },
                () = tokio::time::sleep(LOOK), if waits => {}
            }
        }
        self.end().await;
    }

    /// Takes what waits: writes the hits of all of it at once, answers, and applies them.
    async fn take(&mut self, first: Submission) {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(more) = self.inbox.try_recv()
        {
            group.push(more);
        }
        if !self.has_room() {
            for submission in group {
                submission.ack.send(Err(FULL));
            }
            return;
        }
        let (mut acks, mut inputs, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for submission in group {
            let (mut hits, ack) = submission.placed(&self.detection);
            self.detection.cut(&mut hits);
            let input = Input::Hits(hits);
            entries.push(input.encode());
            inputs.push(input);
            acks.push(ack);
            task::yield_now().await;
        }
        if self.write(entries, acks, Vec::new()).await.is_err() {
            return;
        }
        for input in inputs {
            if let Input::Hits(hits) = input {
                self.apply(hits).await;
            }
        }
        self.flush().await;
    }

    /// Applies hits that are in the log, and the successes that their findings make known.
    async fn apply(&mut self, hits: Vec<Hit>) {
        let mut hits = hits;
        loop {
            let mut some = hits.into_iter();
            while !some.as_slice().is_empty() {
                let findings = self.detection.observe(&mut some, SLICE);
                self.emit(findings);
                task::yield_now().await;
            }
            hits = self.recalled();
            if hits.is_empty() {
                break;
            }
        }
        self.publish();
    }

    /// Successes that are now of interest: an input like any other, written before its findings are.
    fn recalled(&mut self) -> Vec<Hit> {
        let mut hits = self.detection.take_recalled();
        if !hits.is_empty() {
            self.detection.cut(&mut hits);
            let input = Input::Hits(hits);
            self.lazy.push(input.encode());
            if let Input::Hits(same) = input {
                return same;
            }
        }
        Vec::new()
    }

    /// Goes on with other settings. What was applied so far is on disk first.
    async fn change(&mut self, changing: Changing) {
        let written = self.write(Vec::new(), Vec::new(), Vec::new()).await;
        if written.is_err() {
            self.warn_of_waiting();
            self.changing = Some(changing);
            return;
        }
        let (Change { detection, queues }, done) = changing.into_parts();
        let mut begun = Vec::new();
        if let Some(detection) = detection {
            let now = Micros::from_unix_nanos(clock::unix_nanos()).unwrap_or_default();
            let before = std::mem::replace(&mut self.detection, *detection);
            begun = self.detection.begun_since(&self.known);
            let mut ended = self.detection.continue_from(before, now);
            self.known = self.detection.known();
            if !begun.is_empty() {
                self.started = Some(now);
            }
            while let Some(of) = &mut ended {
                let (findings, is_all) = of.drain(SLICE);
                self.emit(findings);
                if is_all {
                    break;
                }
                task::yield_now().await;
            }
            self.lazy.push(Input::Start(self.known.clone()).encode());
        }
        {
            let storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
            self.lanes.change(queues, &**storage);
        }
        let cursors = self.lanes.moved();
        let _later = self.write(Vec::new(), Vec::new(), cursors).await;
        self.publish();
        // Who asked may be gone.
        let _sent = done.send(begun);
    }

    fn warn_of_waiting(&self) {
        warn!(
            pipeline = self.id,
            "the configuration is applied when the storage can be written"
        );
    }

    /// Gives the detection the time that has passed. Not while there is no room: the time waits.
    async fn tick(&mut self) {
        if self.has_room() {
            let now = clock::monotonic();
            if now.saturating_duration_since(self.activity) >= ACTIVITY {
                self.activity = now;
                let input = Input::Activity(Box::new(self.counters.clusters.take()));
                self.lazy.push(input.encode());
                let findings = self.detection.apply(input);
                self.emit(findings);
            }
            let elapsed = now.saturating_duration_since(self.ticked);
            // As it is written, so that a replay gives the same.
            let elapsed = Duration::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(0));
            self.ticked += elapsed;
            let state_limit = self.detection.state_limit(&self.pressure);
            let input = Input::Tick {
                elapsed,
                state_limit,
            };
            self.lazy.push(input.encode());
            self.detection.limit_state(state_limit);
            self.detection.advance(elapsed);
            loop {
                let (findings, is_settled) = self.detection.settle(SLICE);
                self.emit(findings);
                if is_settled {
                    break;
                }
                task::yield_now().await;
            }
            let hits = self.recalled();
            self.apply(hits).await;
        }
        if !self.kept.is_up.load(Ordering::Relaxed) || !self.findings.is_empty() {
            self.flush().await;
        }
        self.snapshot(false).await;
    }

    /// Writes what is not on disk. What fails is tried again at the next tick.
    async fn flush(&mut self) {
        let is_up = self.kept.is_up.load(Ordering::Relaxed);
        if !self.findings.is_empty() || !is_up {
            let _later = self.write(Vec::new(), Vec::new(), Vec::new()).await;
        }
    }

    /// Whether more may be added: otherwise senders keep their data.
    fn has_room(&self) -> bool {
        let is_up = self.kept.is_up.load(Ordering::Relaxed);
        let storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = storage.bounds();
        let most = bounds.entry_bytes.max(bounds.finding_bytes);
        is_up && most < self.kept.limit && self.findings.len() < 65_536
    }

    /// Writes what is not on disk, with the entries of requests, which are answered. An error: they
    /// were refused, and are not in the log.
    async fn write(
        &mut self,
        requests: Vec<Vec<u8>>,
        acks: Vec<Ack>,
        cursors: Vec<(String, u64)>,
    ) -> Result<(), ()> {
        let lazy = self.lazy.len();
        let mut entries = std::mem::take(&mut self.lazy);
        if !self.findings.is_empty() {
            let next = self.next_finding + self.findings.len() as u64;
            entries.push(Input::Numbered(next).encode());
        }
        entries.extend(requests);
        let batch = Batch {
            first_entry: self.next_entry,
            entries,
            first_finding: self.next_finding,
            findings: std::mem::take(&mut self.findings),
            cursors,
        };
        let storage = Arc::clone(&self.storage);
        let mut started = Started::new("writing to the storage", move || {
            let mut storage = storage.lock().unwrap_or_else(PoisonError::into_inner);
            let result = storage.commit(&batch);
            (batch, result)
        });
        let mut acks = acks;
        let (mut batch, result) = loop {
            match started.within(self.kept.timeout).await {
                Ok(done) => break done,
                Err(late @ Late::Ended(_)) => {
                    // What was to be written is gone with the thread: only a restart knows the rest.
                    error!(pipeline = self.id, %late, "the storage has failed");
                    self.kept.is_up.store(false, Ordering::Relaxed);
                    refuse(&mut acks);
                    self.inbox.close();
                    return Err(());
                }
                Err(late) => {
                    self.failed(&late);
                    refuse(&mut acks);
                    while let Ok(submission) = self.inbox.try_recv() {
                        submission.ack.send(Err(FULL));
                    }
                }
            }
        };
        match result {
            Ok(()) => {
                self.next_entry += batch.entries.len() as u64;
                self.next_finding += batch.findings.len() as u64;
                self.lanes.saved(&batch.cursors);
                if !self.kept.is_up.swap(true, Ordering::Relaxed) {
                    info!(pipeline = self.id, "the storage can be written again");
                }
                for ack in acks {
                    ack.send(Ok(0));
                }
                Ok(())
            }
            Err(error) => {
                refuse(&mut acks);
                batch.entries.truncate(lazy);
                self.lazy = batch.entries;
                self.findings = batch.findings;
                if let StorageError::Misplaced { entry, finding } = error {
                    self.catch_up(entry, finding).await;
                } else {
                    self.failed(&error);
                }
                Err(())
            }
        }
    }

    /// A commit that failed is on disk after all: its requests were refused, but they are in the log,
    /// and count. Nothing was applied since. If it cannot be read now, the next write finds out again.
    async fn catch_up(&mut self, entry: u64, finding: u64) {
        let applied = self.next_entry + self.lazy.len() as u64;
        let read = self.read(move |storage| storage.entries(applied, usize::MAX));
        let Some(entries) = read.await else {
            return;
        };
        let landed = usize::try_from(entry.saturating_sub(self.next_entry)).unwrap_or(usize::MAX);
        self.lazy.drain(..landed.min(self.lazy.len()));
        let landed = usize::try_from(finding.saturating_sub(self.next_finding));
        let landed = landed.unwrap_or(usize::MAX).min(self.findings.len());
        self.findings.drain(..landed);
        (self.next_entry, self.next_finding) = (entry, finding);
        for (_, entry) in entries {
            if let Ok(input) = Input::decode(&entry) {
                let findings = self.detection.apply(input);
                self.emit(findings);
                let hits = self.recalled();
                self.apply(hits).await;
            }
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        if self.kept.is_up.swap(false, Ordering::Relaxed) {
            error!(
                pipeline = self.id,
                %error,
                "the storage cannot be written: requests with hits are refused until it can"
            );
        }
    }

    /// Hands findings of the outbox to exporters, and writes how far they are.
    async fn feed(&mut self) {
        let cursors = self.lanes.moved();
        let is_up = self.kept.is_up.load(Ordering::Relaxed);
        if !cursors.is_empty() && is_up {
            let _later = self.write(Vec::new(), Vec::new(), cursors).await;
        }
        for wanted in self.lanes.wanted(self.next_finding) {
            let read = self.read(move |storage| storage.findings(wanted.from, wanted.most));
            if let Some(findings) = read.await {
                self.lanes.give(wanted, findings);
            }
        }
    }

    /// Reads from the storage, on a thread for that.
    async fn read(
        &self,
        work: impl FnOnce(&mut dyn Storage) -> Result<Numbered, StorageError> + Send + 'static,
    ) -> Option<Numbered> {
        let storage = Arc::clone(&self.storage);
        let mut started = Started::new("reading from the storage", move || {
            let mut storage = storage.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut **storage)
        });
        match started.within(self.kept.timeout).await {
            Ok(Ok(read)) => Some(read),
            Ok(Err(error)) => {
                self.failed(&error);
                None
            }
            Err(late) => {
                self.failed(&late);
                None
            }
        }
    }

    /// At the end of the process: keeps the state, and lets exporters deliver while there is time.
    async fn end(&mut self) {
        self.inbox.close();
        // The first begins it, after one that may be under way; the second waits for it.
        self.snapshot(true).await;
        if self.writing.is_some() {
            self.finish_snapshot(Duration::from_mins(10)).await;
            self.cut().await;
        }
        loop {
            self.feed().await;
            let is_empty = self.lanes.first_undelivered(self.next_finding) >= self.next_finding;
            if is_empty || self.lanes.is_over() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let left = self.next_finding - self.lanes.first_undelivered(self.next_finding);
        if left > 0 {
            warn!(
                pipeline = self.id,
                findings = left,
                "findings stay in the storage and are sent after the next start"
            );
        }
        info!(
            pipeline = self.id,
            tracked = self.detection.kept().tracked,
            "pipeline stopped, its windows are kept"
        );
    }

    /// Adds findings to what is written next.
    fn emit(&mut self, emissions: Vec<Emission>) {
        let now = clock::unix_nanos();
        for Emission {
            detection,
            state,
            finding,
        } in emissions
        {
            debug!(
                pipeline = self.id,
                id = finding.finding_id,
                state = state.as_str(),
                src_ip = finding.src_ip,
                count = finding.count,
                "finding"
            );
            let now = detection.blind_spot.is_none().then_some(now);
            self.counters.found(state, &finding, now);
            self.findings.push(finding.encode_to_vec());
        }
    }

    /// Publishes what the detection has counted, for metrics.
    fn publish(&self) {
        *self
            .counters
            .detection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = self.detection.kept();
    }
}

fn refuse(acks: &mut Vec<Ack>) {
    for ack in acks.drain(..) {
        ack.send(Err::<usize, Refusal>(FULL));
    }
}
