//! What outlives a simulated process, and the dice.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::Notify;

use super::{
    home::Home,
    sent::{Request, requests},
};
use crate::storage::Batch;

/// Names of the exporters.
pub(super) const EXPORTERS: [&str; 2] = ["one", "two"];

/// All that outlives the process. Clones are the same.
#[derive(Clone)]
pub(super) struct World(Arc<Mutex<State>>);

pub(super) struct State {
    random: StdRng,
    pub(super) home: Home,
    pub(super) snapshot: Option<Vec<u8>>,
    pub(super) record: Record,
    /// Batches of which it is not known yet whether they are on disk.
    pub(super) attempts: Vec<Batch>,
    pub(super) requests: Vec<Request>,
    pub(super) endpoints: [Endpoint; 2],
    /// Findings that an exporter is given at once, at most.
    pub(super) queue_size: usize,
    pub(super) faults: Faults,
    /// Whether the process of now is gone.
    pub(super) is_dead: bool,
    pub(super) died: Arc<Notify>,
    wrong: Option<String>,
}

/// All that was ever committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) findings: Vec<Vec<u8>>,
}

/// What an exporter sends to.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoint {
    /// Findings that the exporters of all lives know to be accepted.
    pub(super) confirmed: u64,
    /// The next finding that the exporter of this life sends.
    pub(super) next: u64,
    /// Findings that arrived.
    pub(super) received: u64,
}

/// What goes wrong in one life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Operations of the storage until the process dies in one.
    pub(super) crash_in: Option<u32>,
    /// Of a hundred operations of the storage, those that fail.
    pub(super) storage: u32,
    /// Of a hundred, those that are slow.
    pub(super) slow: u32,
    /// Of a hundred attempts of an exporter, those that fail.
    pub(super) exporter: u32,
    /// Operations for which the disk is still full.
    pub(super) full: u32,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let requests = requests(&mut random);
        let home = Home::new(random.random_range(0..8) == 0);
        let queue_size = random.random_range(1..=8);
        Self(Arc::new(Mutex::new(State {
            random,
            home,
            snapshot: None,
            record: Record::default(),
            attempts: Vec::new(),
            requests,
            endpoints: Default::default(),
            queue_size,
            faults: Faults::default(),
            is_dead: false,
            died: Arc::default(),
            wrong: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A number, both ends included.
    pub(super) fn pick(&mut self, least: u32, most: u32) -> u32 {
        self.random.random_range(least..=most)
    }

    /// Whether something happens that does so this many times in a hundred.
    pub(super) fn happens(&mut self, of_hundred: u32) -> bool {
        self.random.random_range(0..100) < of_hundred
    }

    pub(super) fn seed(&mut self) -> u64 {
        self.random.random()
    }

    /// How long blocking work is held up.
    pub(super) fn pause(&mut self) -> Duration {
        if self.is_dead {
            return Duration::from_hours(1000);
        }
        let slow = self.faults.slow;
        if !self.happens(slow) {
            return Duration::ZERO;
        }
        // Some of them longer than the storage is given.
        let milliseconds = if self.happens(10) {
            12_000
        } else {
            self.pick(1, 400)
        };
        Duration::from_millis(milliseconds.into())
    }

    /// The process ends here.
    pub(super) fn die(&mut self) {
        self.is_dead = true;
        self.died.notify_one();
    }

    /// Whether nothing was ever written.
    pub(super) fn is_unused(&self) -> bool {
        self.record == Record::default() && self.attempts.is_empty()
    }

    /// What must not be was seen.
    pub(super) fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub(super) fn verdict(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// The log and the outbox end here: which of the batches in doubt are on disk.
    pub(super) fn settle(&mut self, entry: u64, finding: u64) {
        let attempts = std::mem::take(&mut self.attempts);
        let ends = |batch: &Batch| {
            let entries = batch.first_entry + batch.entries.len() as u64;
            (entries, batch.first_finding + batch.findings.len() as u64)
        };
        let here = |record: &Record| (record.entries.len() as u64, record.findings.len() as u64);
        if here(&self.record) == (entry, finding) {
            return;
        }
        let landed = attempts
            .into_iter()
            .find(|batch| ends(batch) == (entry, finding));
        match landed {
            Some(batch) => self.append(&batch),
            None => self.wrong(format!(
                "the storage ends at {entry} and {finding}, after {:?}",
                here(&self.record)
            )),
        }
    }

    /// A batch is on disk.
    pub(super) fn append(&mut self, batch: &Batch) {
        let Record { entries, findings } = &mut self.record;
        let is_next = (batch.entries.is_empty() || batch.first_entry == entries.len() as u64)
            && (batch.findings.is_empty() || batch.first_finding == findings.len() as u64);
        entries.extend(batch.entries.iter().cloned());
        findings.extend(batch.findings.iter().cloned());
        if !is_next {
            self.wrong("a batch does not follow the one before".to_owned());
        }
    }
}
