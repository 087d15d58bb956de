//! A disk that loses power: of what was not synced, some writes are there, some are not, one is torn.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use redb::StorageBackend;

/// A file on such a disk. Copies are the same file.
#[derive(Clone, Debug, Default)]
pub(crate) struct TornFile(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    synced: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    /// Writes and syncs until the power goes, or room ends.
    left: Option<u32>,
    is_full: bool,
}

impl TornFile {
    /// The power goes after this many writes and syncs.
    pub(crate) fn fail_after(&self, operations: u32) {
        self.inner().left = Some(operations);
    }

    /// Whether the power is gone.
    pub(crate) fn is_off(&self) -> bool {
        self.inner().left == Some(0)
    }

    /// Whether there is no room.
    pub(crate) fn fill(&self, is_full: bool) {
        self.inner().is_full = is_full;
    }

    /// What is there when the power is back.
    pub(crate) fn after_crash(&self, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let inner = self.inner();
        let mut bytes = inner.synced.clone();
        bytes.resize(bytes.len().max(inner.now.len()), 0);
        for (offset, data) in &inner.unsynced {
            let kept = match random.random_range(0..3) {
                0 => 0,
                1 => data.len(),
                _ => random.random_range(0..=data.len()),
            };
            let at = usize::try_from(*offset).unwrap();
            bytes[at..at + kept].copy_from_slice(&data[..kept]);
        }
        Self(Arc::new(Mutex::new(Inner {
            synced: bytes.clone(),
            now: bytes,
            ..Inner::default()
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn step(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        match &mut inner.left {
            Some(0) => return Err(io::Error::other("no power")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(inner)
    }
}

impl StorageBackend for TornFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let inner = self.inner();
        let bytes = inner.now.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.step()?;
        let len = usize::try_from(len).unwrap();
        if inner.is_full && len > inner.now.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.now.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.step()?;
        inner.synced = inner.now.clone();
        inner.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.step()?;
        if inner.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let at = usize::try_from(offset).unwrap();
        inner.now[at..at + data.len()].copy_from_slice(data);
        inner.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}
