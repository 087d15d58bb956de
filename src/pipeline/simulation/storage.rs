//! A storage that fails, is full, or dies with the process, in the middle of what it does.

use std::{io, path::Path, sync::Arc};

use super::{
    home::Home,
    world::{State, World},
};
use crate::storage::{
    Batch, Bounds, Disk, Numbered, Snapshots, Storage, StorageError, torn::TornFile,
};

/// The storage of one process.
pub(super) struct Simulated {
    world: World,
    inner: Box<dyn Storage>,
    torn: Option<TornFile>,
}

impl Simulated {
    pub(super) fn open(world: &World) -> Result<Self, StorageError> {
        let mut state = world.lock();
        let crash_in = state.faults.crash_in;
        let (inner, torn): (Box<dyn Storage>, _) = match &state.home {
            Home::Memory(home) => (Box::new(home.open()), None),
            Home::Torn(file) => {
                // It dies between any two writes, not only between calls.
                file.fail_after(crash_in.map_or(u32::MAX, |left| left * 4));
                let mut torn = file.clone();
                let mut opened = on_torn(&torn);
                if opened.as_ref().is_err_and(StorageError::is_damage) && state.is_unused() {
                    // The power went while the file was made: it is set aside.
                    torn = TornFile::default();
                    opened = on_torn(&torn);
                    state.home = Home::Torn(torn.clone());
                }
                match opened {
                    Ok(disk) => (Box::new(disk), Some(torn)),
                    Err(error) => {
                        if torn.is_off() {
                            state.die();
                        }
                        return Err(error);
                    }
                }
            }
        };
        let Bounds {
            next_entry,
            next_finding,
            ..
        } = inner.bounds();
        state.settle(next_entry, next_finding);
        drop(state);
        Ok(Self {
            world: world.clone(),
            inner,
            torn,
        })
    }

    fn operation<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Storage, &mut State) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let world = self.world.clone();
        let mut state = world.lock();
        if let Some(file) = &self.torn {
            file.fill(state.faults.full > 0);
        }
        let (inner, torn) = (&mut self.inner, &self.torn);
        operation(&mut state, |state| {
            let result = work(&mut **inner, state);
            if torn.as_ref().is_some_and(TornFile::is_off) {
                state.die();
            }
            result
        })
    }
}

fn on_torn(file: &TornFile) -> Result<Disk, StorageError> {
    let file = file.clone();
    Disk::on_backend(Path::new("torn"), move || file.clone())
}

fn failed(why: &'static str) -> StorageError {
    StorageError::Io {
        path: "simulated".into(),
        source: io::Error::other(why),
    }
}

/// Work of the storage, which may fail or end the process, before it is done and after that.
fn operation<T>(
    state: &mut State,
    work: impl FnOnce(&mut State) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    if state.is_dead {
        return Err(failed("the process is gone"));
    }
    let dies = state.faults.crash_in == Some(0);
    if let Some(left) = &mut state.faults.crash_in {
        *left = left.saturating_sub(1);
    }
    let often = state.faults.storage;
    let fails = state.happens(often);
    if fails && state.happens(20) {
        state.faults.full = state.pick(1, 10);
    }
    let is_full = state.faults.full > 0;
    state.faults.full = state.faults.full.saturating_sub(1);
    let is_done = !is_full && (!(dies || fails) || state.happens(50));
    let result = if is_done {
        work(state)
    } else {
        Err(failed("it did not work"))
    };
    if dies {
        state.die();
    }
    if dies || fails || state.is_dead {
        return Err(failed("there was no answer"));
    }
    result
}

impl Storage for Simulated {
    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.operation(|inner, state| {
            let result = inner.commit(batch);
            match &result {
                Ok(()) => {
                    state.attempts.clear();
                    state.append(batch);
                }
                Err(StorageError::Misplaced { entry, finding }) => state.settle(*entry, *finding),
                Err(_) => state.attempts.push(batch.clone()),
            }
            result
        })
    }

    fn cursor(&self, exporter: &str) -> Option<u64> {
        self.inner.cursor(exporter)
    }

    fn entries(&mut self, from: u64, most_bytes: usize) -> Result<Numbered, StorageError> {
        self.operation(|inner, _| inner.entries(from, most_bytes))
    }

    fn findings(&mut self, from: u64, most: usize) -> Result<Numbered, StorageError> {
        self.operation(|inner, _| inner.findings(from, most))
    }

    fn cut(&mut self, entry: u64, finding: u64) -> Result<(), StorageError> {
        self.operation(|inner, _| inner.cut(entry, finding))
    }

    fn set_aside(&mut self, _entry: u64, _finding: u64) -> Result<String, StorageError> {
        self.world
            .lock()
            .wrong("nothing is damaged, but the log was set aside".to_owned());
        Err(failed("nothing is damaged"))
    }

    fn snapshots(&self) -> Arc<dyn Snapshots> {
        Arc::new(SimulatedSnapshots(self.world.clone()))
    }
}

struct SimulatedSnapshots(World);

impl Snapshots for SimulatedSnapshots {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        operation(&mut self.0.lock(), |state| Ok(state.snapshot.clone()))
    }

    fn keep(&self, bytes: &[u8]) -> Result<(), StorageError> {
        operation(&mut self.0.lock(), |state| {
            state.snapshot = Some(bytes.to_vec());
            Ok(())
        })
    }
}
