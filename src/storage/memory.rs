//! The home in memory: it survives its owner, not the process. Tests use it, and what simulates
//! crashes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Batch, Bounds, FINDINGS_BYTES, Numbered, Snapshots, Storage, StorageError};

/// Where a [`Memory`] is kept: the next owner finds what was committed.
#[derive(Clone, Debug, Default)]
pub struct MemoryHome(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    epoch: u64,
    bounds: Bounds,
    entries: VecDeque<Vec<u8>>,
    findings: VecDeque<Vec<u8>>,
    cursors: BTreeMap<String, u64>,
    snapshot: Option<Vec<u8>>,
}

/// The owner of a [`MemoryHome`].
#[derive(Debug)]
pub struct Memory {
    home: MemoryHome,
    epoch: u64,
}

impl MemoryHome {
    /// Takes ownership.
    pub fn open(&self) -> Memory {
        let mut kept = self.kept();
        kept.epoch += 1;
        Memory {
            home: self.clone(),
            epoch: kept.epoch,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn owned(&self) -> Result<MutexGuard<'_, Kept>, StorageError> {
        let kept = self.home.kept();
        if kept.epoch == self.epoch {
            Ok(kept)
        } else {
            Err(StorageError::Fenced {
                current: kept.epoch,
                own: self.epoch,
            })
        }
    }
}

impl Storage for Memory {
    fn bounds(&self) -> Bounds {
        self.home.kept().bounds
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut kept = self.owned()?;
        let Bounds {
            next_entry,
            next_finding,
            ..
        } = kept.bounds;
        if (batch.first_entry, batch.first_finding) != (next_entry, next_finding) {
            return Err(StorageError::Misplaced {
                entry: next_entry,
                finding: next_finding,
            });
        }
        kept.entries.extend(batch.entries.iter().cloned());
        kept.findings.extend(batch.findings.iter().cloned());
        kept.cursors.extend(batch.cursors.iter().cloned());
        kept.bounds.next_entry += batch.entries.len() as u64;
        kept.bounds.next_finding += batch.findings.len() as u64;
        kept.bounds.entry_bytes += bytes(&batch.entries);
        kept.bounds.finding_bytes += bytes(&batch.findings);
        Ok(())
    }

    fn cursor(&self, exporter: &str) -> Option<u64> {
        self.home.kept().cursors.get(exporter).copied()
    }

    fn entries(&mut self, from: u64, most_bytes: usize) -> Result<Numbered, StorageError> {
        let kept = self.owned()?;
        let numbered = (kept.bounds.first_entry..).zip(&kept.entries);
        let wanted = numbered.filter(|(number, _)| *number >= from);
        Ok(up_to(most_bytes, wanted))
    }

    fn findings(&mut self, from: u64, most: usize) -> Result<Numbered, StorageError> {
        let kept = self.owned()?;
        let numbered = (kept.bounds.first_finding..).zip(&kept.findings);
        let wanted = numbered.filter(|(number, _)| *number >= from).take(most);
        Ok(up_to(FINDINGS_BYTES, wanted))
    }

    fn cut(&mut self, entry: u64, finding: u64) -> Result<(), StorageError> {
        let mut kept = self.owned()?;
        while kept.bounds.first_entry < entry
            && let Some(gone) = kept.entries.pop_front()
        {
            kept.bounds.first_entry += 1;
            kept.bounds.entry_bytes -= gone.len() as u64;
        }
        while kept.bounds.first_finding < finding
            && let Some(gone) = kept.findings.pop_front()
        {
            kept.bounds.first_finding += 1;
            kept.bounds.finding_bytes -= gone.len() as u64;
        }
        Ok(())
    }

    fn set_aside(&mut self, entry: u64, finding: u64) -> Result<String, StorageError> {
        let mut kept = self.owned()?;
        kept.entries.clear();
        kept.findings.clear();
        kept.cursors.clear();
        kept.bounds = Bounds {
            first_entry: entry,
            next_entry: entry,
            first_finding: finding,
            next_finding: finding,
            ..Bounds::default()
        };
        Ok("nowhere".to_owned())
    }

    fn snapshots(&self) -> Arc<dyn Snapshots> {
        Arc::new(self.home.clone())
    }
}

impl Snapshots for MemoryHome {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.kept().snapshot.clone())
    }

    fn keep(&self, bytes: &[u8]) -> Result<(), StorageError> {
        self.kept().snapshot = Some(bytes.to_vec());
        Ok(())
    }
}

/// The first of them, of about this many bytes, at least one.
fn up_to<'a>(most_bytes: usize, all: impl Iterator<Item = (u64, &'a Vec<u8>)>) -> Numbered {
    let mut size = 0_usize;
    let some = all.take_while(|(_, one)| {
        let is_first = size == 0;
        size = size.saturating_add(one.len().max(1));
        is_first || size <= most_bytes
    });
    some.map(|(number, one)| (number, one.clone())).collect()
}

fn bytes(all: &[Vec<u8>]) -> u64 {
    all.iter().map(|one| one.len() as u64).sum()
}
