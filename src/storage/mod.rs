//! What survives the process: the ordered log of the engine's inputs, snapshots of its state, and the
//! outbox of findings with a cursor for each exporter.
//!
//! A [`Storage`] is one partition: the log of one engine. It has one owner at a time. Opening it takes
//! ownership and raises its *epoch*; the owner before is [`StorageError::Fenced`] from then on.
//! Nothing here says that the home is a file: [`Memory`] and [`Disk`] are two homes, and
//! `contract.rs` is the test that any home must pass.
//!
//! Recovery: [`Snapshots::load`], then [`Storage::entries`] behind it, in order. Because the same
//! inputs give the same findings, findings are numbered: those that the outbox already had are known
//! by their number, and are not added again.

#[cfg(test)]
mod contract;
mod disk;
mod measured;
mod memory;
mod snapshot_file;
#[cfg(test)]
pub(crate) mod torn;

use std::{io, path::PathBuf, sync::Arc};

use thiserror::Error;

use crate::visible;

pub use disk::{Disk, Opened};
pub use measured::{Measured, Usage};
pub use memory::{Memory, MemoryHome};

/// What a storage holds: numbers are given in order, without gaps, and never again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The first entry of the log that is kept.
    pub first_entry: u64,
    /// The number of the next entry.
    pub next_entry: u64,
    /// The first finding of the outbox that is kept.
    pub first_finding: u64,
    /// The number of the next finding.
    pub next_finding: u64,
    /// Bytes of the entries.
    pub entry_bytes: u64,
    /// Bytes of the findings.
    pub finding_bytes: u64,
}

impl Bounds {
    /// Entries of the log that are kept.
    pub fn entries(&self) -> u64 {
        self.next_entry.saturating_sub(self.first_entry)
    }

    /// Findings of the outbox that are kept.
    pub fn findings(&self) -> u64 {
        self.next_finding.saturating_sub(self.first_finding)
    }
}

/// What is written at once: all of it, or nothing. Its numbers must be those of the home, also when it
/// has no entries or no findings: so whoever writes next learns of a commit that failed and is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first entry: what [`Bounds::next_entry`] says.
    pub first_entry: u64,
    /// Entries of the log, in order.
    pub entries: Vec<Vec<u8>>,
    /// The number of the first finding: what [`Bounds::next_finding`] says.
    pub first_finding: u64,
    /// Findings, in order.
    pub findings: Vec<Vec<u8>>,
    /// For an exporter, the next finding that it has not delivered.
    pub cursors: Vec<(String, u64)>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.findings.is_empty() && self.cursors.is_empty()
    }
}

/// Bytes of findings that are read at once: an exporter holds so much of the outbox in memory.
pub const FINDINGS_BYTES: usize = 8 << 20;

/// Entries or findings, with their numbers.
pub type Numbered = Vec<(u64, Vec<u8>)>;

/// The ordered log and the outbox of one engine. Calls block until the home has answered.
pub trait Storage: Send {
    /// What it holds.
    fn bounds(&self) -> Bounds;

    /// Writes a batch. When this returns `Ok`, the batch survives the loss of power. After an error it
    /// is unknown whether it does: [`StorageError::Misplaced`] for the next one says so.
    ///
    /// # Errors
    /// When the home did not write it.
    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError>;

    /// The next finding that this exporter has not delivered, if it ever said so.
    fn cursor(&self, exporter: &str) -> Option<u64>;

    /// Entries from this number on, about `most_bytes` of them, at least one if there is one.
    ///
    /// # Errors
    /// When they cannot be read, or are not what was written.
    fn entries(&mut self, from: u64, most_bytes: usize) -> Result<Numbered, StorageError>;

    /// Findings from this number on, at most `most` of them and about [`FINDINGS_BYTES`], at least one
    /// if there is one.
    ///
    /// # Errors
    /// When they cannot be read, or are not what was written.
    fn findings(&mut self, from: u64, most: usize) -> Result<Numbered, StorageError>;

    /// Gives up entries and findings below these numbers.
    ///
    /// # Errors
    /// When the home did not.
    fn cut(&mut self, entry: u64, finding: u64) -> Result<(), StorageError>;

    /// Sets what the log and the outbox hold aside, for what is left of them cannot be read, and
    /// begins empty at these numbers. Returns where it is now, for people.
    ///
    /// # Errors
    /// When the home did not.
    fn set_aside(&mut self, entry: u64, finding: u64) -> Result<String, StorageError>;

    /// Where snapshots are kept, which may be used while the log is written.
    fn snapshots(&self) -> Arc<dyn Snapshots>;
}

/// The last snapshot of an engine.
pub trait Snapshots: Send + Sync {
    /// The bytes that were kept last.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when they are not what was written: then they were set aside.
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError>;

    /// Keeps these in place of the last: when this returns `Ok`, they survive the loss of power, and
    /// before that the last ones do.
    ///
    /// # Errors
    /// When the home did not write them.
    fn keep(&self, bytes: &[u8]) -> Result<(), StorageError>;
}

/// Why a storage did not do what was asked.
#[derive(Debug, Error)]
pub enum StorageError {
    /// A later version wrote it.
    #[error(
        "{} has version {found}, this auditwatch reads up to {own}: run the version that wrote it, or a \
         later one",
        visible::path(path)
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version of this process.
        own: u64,
    },
    /// Another process has it open.
    #[error(
        "{} is in use by another process: give each auditwatch a directory of its own", visible::path(.0)
    )]
    InUse(PathBuf),
    /// The directory does not exist.
    #[error("{} does not exist: create it, or set create_directory: true", visible::path(.0))]
    NoDirectory(PathBuf),
    /// The user of the process may not write there.
    #[error(
        "{} may not be written: give the user of this process the right to write there", visible::path(.0)
    )]
    NoPermission(PathBuf),
    /// There is no room.
    #[error("the disk of {} is full: make room, senders keep their data until then", visible::path(.0))]
    Full(PathBuf),
    /// The file system is mounted so that it cannot be written.
    #[error("the file system of {} is read-only: mount it with write access", visible::path(.0))]
    ReadOnly(PathBuf),
    /// What is read is not what was written.
    #[error("{} is damaged: {why}", visible::path(path))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Anything else.
    #[error("cannot use {}: {source}", visible::path(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another owner has taken over.
    #[error("another process has taken over this log (epoch {current}, own {own})")]
    Fenced {
        /// The epoch of the present owner.
        current: u64,
        /// That of this one.
        own: u64,
    },
    /// The batch does not follow what is there: an earlier one, whose commit failed, is there after
    /// all.
    #[error("the log continues at entry {entry} and finding {finding}")]
    Misplaced {
        /// The number of the next entry.
        entry: u64,
        /// The number of the next finding.
        finding: u64,
    },
}

impl StorageError {
    /// Of an error of the system about a file.
    pub fn of_io(path: &std::path::Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NoPermission(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(path),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Corrupt {
                path,
                why: source.to_string(),
            },
            _ => Self::Io { path, source },
        }
    }

    /// Whether what was written is damaged, so that asking again does not help.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}
