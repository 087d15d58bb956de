//! The start from a storage: the last snapshot, then the log behind it. Findings that the replay
//! causes have the numbers they had; those that the outbox has already are not added again.

use prost::Message as _;
use thiserror::Error;
use tracing::{info, warn};

use crate::{
    detection::{
        input::{Input, InputError},
        time::Micros,
    },
    processor::detection::{Detection, Places, Position, SnapshotError},
    storage::{Batch, Bounds, Storage, StorageError},
};

/// Bytes of entries that are read at once.
const CHUNK: usize = 4 << 20;
/// Findings that are written at once.
const FINDINGS: usize = 4096;

/// Why a pipeline cannot continue.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The storage cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A later version wrote the snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A later version wrote the log.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// A detection that continues, with its storage.
pub struct Recovered {
    detection: Detection,
    storage: Box<dyn Storage>,
    started: Option<Micros>,
}

impl Recovered {
    /// The detection.
    pub fn detection(&self) -> &Detection {
        &self.detection
    }

    /// What the storage holds.
    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(super) fn into_parts(self) -> (Detection, Box<dyn Storage>, Option<Micros>) {
        (self.detection, self.storage, self.started)
    }
}

/// Brings a detection that has taken no hits to where the log ends. `now` is when the process started;
/// `exporters` get cursors, new ones at the end of the outbox. Blocks.
///
/// # Errors
/// When the storage cannot be used, or a later version wrote it. What is damaged is set aside and said.
pub fn recover(
    mut detection: Detection,
    mut storage: Box<dyn Storage>,
    (pipeline, now): (&str, Micros),
    exporters: &[String],
) -> Result<Recovered, RecoverError> {
    detection.follow_log(false);
    let mut replay = Replay::begin(&mut detection, &mut *storage, pipeline, now)?;
    let from = replay.position.next_entry;
    replay.run(&mut detection, &mut *storage, pipeline)?;
    let Replay {
        position, pending, ..
    } = replay;
    let bounds = storage.bounds();
    let cursors = exporters.iter().filter_map(|exporter| {
        let begin = bounds.next_finding;
        let is_known = storage.cursor(exporter).is_some();
        (!is_known).then(|| (exporter.clone(), begin))
    });
    let numbered = bounds.next_finding + pending.len() as u64;
    let entries = [Input::Numbered(numbered), Input::Start(detection.known())];
    let batch = Batch {
        first_entry: bounds.next_entry,
        entries: entries.iter().map(Input::encode).collect(),
        first_finding: bounds.next_finding,
        cursors: cursors.collect(),
        findings: pending,
    };
    storage.commit(&batch)?;
    detection.follow_log(true);
    info!(
        pipeline,
        replayed_entries = position.next_entry.saturating_sub(from),
        tracked = detection.kept().tracked,
        "continues from its storage"
    );
    Ok(Recovered {
        detection,
        storage,
        started: position.started,
    })
}

/// A replay under way.
struct Replay {
    position: Position,
    /// From the detections of the entries to those here.
    places: Places,
    /// Findings below this number were in the outbox at the start.
    known_findings: u64,
    /// Findings that the outbox does not have.
    pending: Vec<Vec<u8>>,
}

impl Replay {
    /// Loads the snapshot, and finds out where the log goes on.
    fn begin(
        detection: &mut Detection,
        storage: &mut dyn Storage,
        pipeline: &str,
        now: Micros,
    ) -> Result<Self, RecoverError> {
        let snapshots = storage.snapshots();
        let mut position = match snapshots.load() {
            Ok(Some(bytes)) => match detection.restore(&bytes) {
                Ok(position) => Some(position),
                Err(SnapshotError::State(error)) if error.is_damage() => {
                    lost(pipeline, &error, "windows and open findings before the log");
                    None
                }
                Err(error) => return Err(error.into()),
            },
            Ok(None) => None,
            Err(error) if error.is_damage() => {
                lost(pipeline, &error, "windows and open findings before the log");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let bounds = storage.bounds();
        if let Some(known) = &mut position
            && known.next_entry > bounds.next_entry
        {
            // The log was set aside.
            storage.set_aside(known.next_entry, known.next_finding)?;
        }
        let mut position = position.unwrap_or_else(|| {
            detection.started_at_time(now);
            Position {
                next_entry: bounds.first_entry,
                next_finding: if bounds.first_entry == 0 {
                    0
                } else {
                    bounds.next_finding
                },
                started: Some(now),
                known: detection.known(),
            }
        });
        let Bounds { first_entry, .. } = storage.bounds();
        if first_entry > position.next_entry {
            let why = "entries between the snapshot and the log are missing";
            lost(pipeline, &why, "requests in them");
            position.next_entry = first_entry;
        }
        if bounds == Bounds::default() {
            // So that the time of the first start is known whenever the process ends.
            snapshots.keep(&detection.moment(&position).encode())?;
        }
        let places = Places::between(&position.known, &detection.known());
        Ok(Self {
            known_findings: storage.bounds().next_finding,
            position,
            places,
            pending: Vec::new(),
        })
    }

    fn run(
        &mut self,
        detection: &mut Detection,
        storage: &mut dyn Storage,
        pipeline: &str,
    ) -> Result<(), RecoverError> {
        loop {
            let entries = match storage.entries(self.position.next_entry, CHUNK) {
                Ok(entries) => entries,
                Err(error) if error.is_damage() => {
                    return self.give_up_log(detection, storage, pipeline, &error);
                }
                Err(error) => return Err(error.into()),
            };
            if entries.is_empty() {
                return Ok(());
            }
            for (number, entry) in entries {
                match Input::decode(&entry) {
                    Ok(input) => self.apply(input, detection, storage)?,
                    Err(error @ InputError::Invalid(_)) => lost(pipeline, &error, "one entry"),
                    Err(error) => return Err(error.into()),
                }
                self.position.next_entry = number + 1;
            }
        }
    }

    fn apply(
        &mut self,
        input: Input,
        detection: &mut Detection,
        storage: &mut dyn Storage,
    ) -> Result<(), StorageError> {
        let input = match input {
            Input::Hits(hits) => Input::Hits(self.places.moved(hits)),
            Input::Start(known) => {
                self.places = Places::between(&known, &detection.known());
                return Ok(());
            }
            // With other settings a replay may cause more or less than the first run did.
            Input::Numbered(next) => {
                self.position.next_finding = next;
                self.pending.clear();
                return Ok(());
            }
            other => other,
        };
        for emission in detection.apply(input) {
            if self.position.next_finding >= self.known_findings {
                self.pending.push(emission.finding.encode_to_vec());
            }
            self.position.next_finding += 1;
        }
        if self.pending.len() >= FINDINGS {
            let bounds = storage.bounds();
            let batch = Batch {
                first_entry: bounds.next_entry,
                first_finding: bounds.next_finding,
                findings: std::mem::take(&mut self.pending),
                ..Batch::default()
            };
            storage.commit(&batch)?;
        }
        Ok(())
    }

    /// What is left of the log cannot be read: it is set aside, and the state so far is what there is.
    fn give_up_log(
        &mut self,
        detection: &Detection,
        storage: &mut dyn Storage,
        pipeline: &str,
        error: &StorageError,
    ) -> Result<(), RecoverError> {
        let end = storage.bounds();
        self.position.next_entry = end.next_entry.max(self.position.next_entry);
        self.position.next_finding = end.next_finding.max(self.position.next_finding);
        let (entry, finding) = (self.position.next_entry, self.position.next_finding);
        storage.set_aside(entry, finding)?;
        lost(
            pipeline,
            error,
            "the requests in the rest of the log, and findings that were not delivered",
        );
        let moment = detection.moment(&self.position);
        Ok(storage.snapshots().keep(&moment.encode())?)
    }
}

fn lost(pipeline: &str, error: &dyn std::fmt::Display, what: &str) {
    warn!(pipeline, %error, lost = what, "a damaged storage was set aside, what it held is lost");
}
