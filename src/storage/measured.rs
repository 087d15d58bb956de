//! A home that counts what it does, for the metrics of a pipeline.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Batch, Bounds, Numbered, Snapshots, Storage, StorageError};
use crate::{
    clock::{self, Instant},
    telemetry::metrics::Timer,
};

/// What a storage holds and has done.
#[derive(Debug)]
pub struct Usage {
    bounds: Mutex<Bounds>,
    commits: AtomicU64,
    failed_commits: AtomicU64,
    snapshots: AtomicU64,
    snapshot_bytes: AtomicU64,
    /// When the last snapshot was kept, or the storage was opened.
    snapshot_at: Mutex<Instant>,
    delay: OnceLock<Timer>,
}

impl Usage {
    /// What the log and the outbox hold.
    pub fn bounds(&self) -> Bounds {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits that were synced.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Commits and other writes that failed.
    pub fn failed_commits(&self) -> u64 {
        self.failed_commits.load(Ordering::Relaxed)
    }

    /// Snapshots that were kept since the start.
    pub fn snapshots(&self) -> u64 {
        self.snapshots.load(Ordering::Relaxed)
    }

    /// Bytes of the last snapshot.
    pub fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes.load(Ordering::Relaxed)
    }

    /// Time since the last snapshot, or since the start when there was none since then.
    pub fn snapshot_age(&self) -> Duration {
        let since = *self
            .snapshot_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clock::monotonic().saturating_duration_since(since)
    }

    /// Sets what takes the time of each commit.
    pub fn time(&self, delay: Timer) {
        // There is one who measures; a second one would see the same.
        let _set = self.delay.set(delay);
    }

    fn hold(&self, bounds: Bounds) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    fn count<T>(&self, result: &Result<T, StorageError>) {
        let counter = if result.is_ok() {
            &self.commits
        } else {
            &self.failed_commits
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A storage whose [`Usage`] is counted.
pub struct Measured<S> {
    inner: S,
    usage: Arc<Usage>,
}

impl<S: Storage> Measured<S> {
    /// The same storage, and what is counted of it.
    pub fn new(inner: S) -> (Self, Arc<Usage>) {
        let usage = Arc::new(Usage {
            bounds: Mutex::new(inner.bounds()),
            commits: AtomicU64::new(0),
            failed_commits: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            snapshot_bytes: AtomicU64::new(0),
            snapshot_at: Mutex::new(clock::monotonic()),
            delay: OnceLock::new(),
        });
        let measured = Self {
            inner,
            usage: Arc::clone(&usage),
        };
        (measured, usage)
    }
}

impl<S: Storage> Storage for Measured<S> {
    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let begin = clock::monotonic();
        let result = self.inner.commit(batch);
        self.usage.count(&result);
        if result.is_ok()
            && let Some(timer) = self.usage.delay.get()
        {
            timer.record(clock::monotonic().saturating_duration_since(begin));
        }
        self.usage.hold(self.inner.bounds());
        result
    }

    fn cursor(&self, exporter: &str) -> Option<u64> {
        self.inner.cursor(exporter)
    }

    fn entries(&mut self, from: u64, most_bytes: usize) -> Result<Numbered, StorageError> {
        self.inner.entries(from, most_bytes)
    }

    fn findings(&mut self, from: u64, most: usize) -> Result<Numbered, StorageError> {
        self.inner.findings(from, most)
    }

    fn cut(&mut self, entry: u64, finding: u64) -> Result<(), StorageError> {
        let result = self.inner.cut(entry, finding);
        self.usage.count(&result);
        self.usage.hold(self.inner.bounds());
        result
    }

    fn set_aside(&mut self, entry: u64, finding: u64) -> Result<String, StorageError> {
        let result = self.inner.set_aside(entry, finding);
        self.usage.hold(self.inner.bounds());
        result
    }

    fn snapshots(&self) -> Arc<dyn Snapshots> {
        Arc::new(MeasuredSnapshots {
            inner: self.inner.snapshots(),
            usage: Arc::clone(&self.usage),
        })
    }
}

struct MeasuredSnapshots {
    inner: Arc<dyn Snapshots>,
    usage: Arc<Usage>,
}

impl Snapshots for MeasuredSnapshots {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let loaded = self.inner.load();
        if let Ok(Some(bytes)) = &loaded {
            let size = bytes.len() as u64;
            self.usage.snapshot_bytes.store(size, Ordering::Relaxed);
        }
        loaded
    }

    fn keep(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let result = self.inner.keep(bytes);
        if result.is_ok() {
            let Usage {
                snapshots,
                snapshot_bytes,
                snapshot_at,
                ..
            } = &*self.usage;
            snapshots.fetch_add(1, Ordering::Relaxed);
            snapshot_bytes.store(bytes.len() as u64, Ordering::Relaxed);
            *snapshot_at.lock().unwrap_or_else(PoisonError::into_inner) = clock::monotonic();
        } else {
            self.usage.failed_commits.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}
