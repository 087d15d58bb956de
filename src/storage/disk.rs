//! The home on disk: a `redb` file for the log and the outbox, and a file for the snapshot.
//!
//! A commit is one transaction with one sync. Each entry and finding carries a checksum of its own,
//! because the checksums of redb are looked at only when it repairs a file.

use std::{
    fmt, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable, StorageBackend,
    StorageError as RedbError, Table, TableDefinition, TableError, WriteTransaction,
};
use siphasher::sip::SipHasher13;

use super::{
    Batch, Bounds, FINDINGS_BYTES, Numbered, Snapshots, Storage, StorageError,
    snapshot_file::{SnapshotFile, private, set_aside, sync_folder},
};
use crate::visible;

/// The version of the file.
const VERSION: u64 = 1;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");
const CURSORS: TableDefinition<'_, &str, u64> = TableDefinition::new("cursors");
/// Bytes of pages that are kept in memory.
const CACHE: usize = 8 << 20;
/// Bytes of a checksum.
const SUM: usize = 8;

/// Opens the file, again after an error.
type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// The log and the outbox in one file.
pub struct Disk {
    path: PathBuf,
    open: Open,
    /// `None` after an error, until the next call.
    database: Option<Database>,
    bounds: Bounds,
    epoch: u64,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A storage that was opened.
#[derive(Debug)]
pub struct Opened {
    /// It.
    pub disk: Disk,
    /// Damaged files that were set aside: what was wrong, and where they are now.
    pub aside: Option<String>,
}

impl Disk {
    /// Opens the storage `name` in a directory, or creates it. A damaged file is set aside under
    /// another name.
    ///
    /// # Errors
    /// When the directory cannot be used, another process has the file, or a later version wrote it.
    pub fn open(directory: &Path, name: &str) -> Result<Opened, StorageError> {
        if !directory.is_dir() {
            return Err(StorageError::NoDirectory(directory.to_owned()));
        }
        let path = directory.join(format!("{name}.redb"));
        match Self::at(&path) {
            Ok(disk) => Ok(Opened { disk, aside: None }),
            Err(error) if error.is_damage() => {
                let aside = set_aside(&path)?;
                Ok(Opened {
                    disk: Self::at(&path)?,
                    aside: Some(format!("{error}; it is kept as {}", visible::path(&aside))),
                })
            }
            Err(error) => Err(error),
        }
    }

    fn at(path: &Path) -> Result<Self, StorageError> {
        let is_new = !path.exists();
        let file = path.to_owned();
        let open = move || {
            let file = private(&file, false).map_err(RedbError::Io)?;
            Database::builder().set_cache_size(CACHE).create_file(file)
        };
        let disk = Self::with(path, Box::new(open))?;
        if is_new {
            sync_folder(path).map_err(|error| StorageError::of_io(path, error))?;
        }
        Ok(disk)
    }

    /// Opens a storage whose log is in these backends, one for each time it is opened.
    ///
    /// # Errors
    /// As [`Self::open`], but damage is an error too.
    pub fn on_backend<B: StorageBackend>(
        path: &Path,
        backend: impl Fn() -> B + Send + 'static,
    ) -> Result<Self, StorageError> {
        let open = move || {
            Database::builder()
                .set_cache_size(CACHE)
                .create_with_backend(backend())
        };
        Self::with(path, Box::new(open))
    }

    fn with(path: &Path, open: Open) -> Result<Self, StorageError> {
        let mut disk = Self {
            path: path.to_owned(),
            open,
            database: None,
            bounds: Bounds::default(),
            epoch: 0,
        };
        disk.reopen()?;
        disk.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let epoch = number(&meta, "epoch")? + 1;
            meta.insert("epoch", epoch)?;
            meta.insert("version", VERSION)?;
            Ok(epoch)
        })
        .map(|epoch| disk.epoch = epoch)?;
        Ok(disk)
    }

    /// Opens the file, and finds out what it holds.
    fn reopen(&mut self) -> Result<(), StorageError> {
        self.database = None;
        // A damaged file may fail an assertion of redb.
        let opened = catch_unwind(AssertUnwindSafe(&self.open));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(self.database_error(error)),
            Err(_panic) => return Err(self.corrupt("its pages contradict each other")),
        };
        // Before anything else is looked at or written: a later version may have other tables.
        let version = match catch_unwind(AssertUnwindSafe(|| version(&database))) {
            Ok(Ok(version)) => version,
            Ok(Err(error)) => return Err(self.error(error)),
            Err(_panic) => return Err(self.corrupt("its pages contradict each other")),
        };
        if version > VERSION {
            return Err(StorageError::Newer {
                path: self.path.clone(),
                found: version,
                own: VERSION,
            });
        }
        self.database = Some(database);
        self.bounds = self.write(Bounds::read)?;
        Ok(())
    }

    /// Does work in a transaction, and syncs it.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StorageError> {
        if self.database.is_none() {
            self.reopen()?;
        }
        let Some(database) = &self.database else {
            return Err(self.corrupt("it is not open"));
        };
        let done = catch_unwind(AssertUnwindSafe(|| -> Result<T, redb::Error> {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        }));
        match done {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => {
                // redb refuses all that follows an error of the system.
                self.database = None;
                Err(self.error(error))
            }
            Err(_panic) => {
                self.database = None;
                Err(self.corrupt("its pages contradict each other"))
            }
        }
    }

    /// Reads from one table.
    fn read(
        &mut self,
        table: TableDefinition<'_, u64, &[u8]>,
        from: u64,
        most: (usize, usize),
    ) -> Result<Numbered, StorageError> {
        if self.database.is_none() {
            self.reopen()?;
        }
        let Some(database) = &self.database else {
            return Err(self.corrupt("it is not open"));
        };
        let read = catch_unwind(AssertUnwindSafe(|| -> Result<_, redb::Error> {
            let transaction = database.begin_read()?;
            let table = transaction.open_table(table)?;
            let (mut all, mut bytes) = (Numbered::new(), 0_usize);
            for one in table.range(from..)? {
                let (number, value) = one?;
                bytes = bytes.saturating_add(value.value().len());
                if !all.is_empty() && bytes > most.1 || all.len() >= most.0 {
                    break;
                }
                all.push((number.value(), value.value().to_vec()));
            }
            Ok(all)
        }));
        let all = match read {
            Ok(Ok(all)) => all,
            Ok(Err(error)) => return Err(self.error(error)),
            Err(_panic) => return Err(self.corrupt("its pages contradict each other")),
        };
        let all = (from..).zip(all).map(|(due, (number, sealed))| {
            match opened(number, &sealed).filter(|_| due == number || due == from) {
                Some(value) => Ok((number, value.to_vec())),
                None => Err(self.corrupt("the checksum of an entry does not match")),
            }
        });
        all.collect()
    }

    fn corrupt(&self, why: &str) -> StorageError {
        StorageError::Corrupt {
            path: self.path.clone(),
            why: why.to_owned(),
        }
    }

    fn database_error(&self, error: DatabaseError) -> StorageError {
        match error {
            DatabaseError::DatabaseAlreadyOpen => StorageError::InUse(self.path.clone()),
            DatabaseError::UpgradeRequired(found) => StorageError::Newer {
                path: self.path.clone(),
                found: found.into(),
                own: VERSION,
            },
            other => self.error(other.into()),
        }
    }

    fn error(&self, error: redb::Error) -> StorageError {
        match error {
            redb::Error::Io(error) => StorageError::of_io(&self.path, error),
            redb::Error::DatabaseAlreadyOpen => StorageError::InUse(self.path.clone()),
            redb::Error::Corrupted(why) => self.corrupt(&why),
            redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::RepairAborted => self.corrupt(&error.to_string()),
            other => StorageError::Io {
                path: self.path.clone(),
                source: std::io::Error::other(other.to_string()),
            },
        }
    }
}

impl Storage for Disk {
    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if self.database.is_none() {
            self.reopen()?;
        }
        let before = self.bounds;
        if (batch.first_entry, batch.first_finding) != (before.next_entry, before.next_finding) {
            return Err(StorageError::Misplaced {
                entry: before.next_entry,
                finding: before.next_finding,
            });
        }
        self.bounds = self.write(|transaction| {
            let mut bounds = before;
            // A table that is opened is written: only those that change.
            if !batch.entries.is_empty() {
                let mut log = transaction.open_table(LOG)?;
                for entry in &batch.entries {
                    bounds.entry_bytes += insert(&mut log, bounds.next_entry, entry)?;
                    bounds.next_entry += 1;
                }
            }
            if !batch.findings.is_empty() {
                let mut outbox = transaction.open_table(OUTBOX)?;
                for finding in &batch.findings {
                    bounds.finding_bytes += insert(&mut outbox, bounds.next_finding, finding)?;
                    bounds.next_finding += 1;
                }
            }
            if !batch.cursors.is_empty() {
                let mut cursors = transaction.open_table(CURSORS)?;
                for (exporter, next) in &batch.cursors {
                    cursors.insert(exporter.as_str(), *next)?;
                }
            }
            bounds.write(&before, transaction)?;
            Ok(bounds)
        })?;
        Ok(())
    }

    fn cursor(&self, exporter: &str) -> Option<u64> {
        let read = || -> Result<Option<u64>, redb::Error> {
            let Some(database) = &self.database else {
                return Ok(None);
            };
            let transaction = database.begin_read()?;
            let cursors = transaction.open_table(CURSORS)?;
            Ok(cursors.get(exporter)?.map(|next| next.value()))
        };
        read().ok().flatten()
    }

    fn entries(&mut self, from: u64, most_bytes: usize) -> Result<Numbered, StorageError> {
        self.read(LOG, from, (usize::MAX, most_bytes))
    }

    fn findings(&mut self, from: u64, most: usize) -> Result<Numbered, StorageError> {
        self.read(OUTBOX, from, (most, FINDINGS_BYTES))
    }

    fn cut(&mut self, entry: u64, finding: u64) -> Result<(), StorageError> {
        if self.database.is_none() {
            self.reopen()?;
        }
        let bounds = self.bounds;
        self.bounds = self.write(|transaction| {
            let mut cut = bounds;
            let entry = entry.min(bounds.next_entry);
            if entry > bounds.first_entry {
                let mut log = transaction.open_table(LOG)?;
                cut.entry_bytes -= remove(&mut log, entry)?;
                cut.first_entry = entry;
            }
            let finding = finding.min(bounds.next_finding);
            if finding > bounds.first_finding {
                let mut outbox = transaction.open_table(OUTBOX)?;
                cut.finding_bytes -= remove(&mut outbox, finding)?;
                cut.first_finding = finding;
            }
            cut.write(&bounds, transaction)?;
            Ok(cut)
        })?;
        Ok(())
    }

    fn set_aside(&mut self, entry: u64, finding: u64) -> Result<String, StorageError> {
        self.database = None;
        let aside = if fs::exists(&self.path).unwrap_or(false) {
            visible::path(&set_aside(&self.path)?).to_string()
        } else {
            "nowhere".to_owned()
        };
        self.reopen()?;
        let (epoch, before) = (self.epoch, self.bounds);
        self.bounds = self.write(|transaction| {
            let bounds = Bounds {
                first_entry: entry,
                next_entry: entry,
                first_finding: finding,
                next_finding: finding,
                ..Bounds::default()
            };
            bounds.write(&before, transaction)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert("version", VERSION)?;
            meta.insert("epoch", epoch)?;
            Ok(bounds)
        })?;
        Ok(aside)
    }

    fn snapshots(&self) -> Arc<dyn Snapshots> {
        Arc::new(SnapshotFile(self.path.with_extension("snapshot")))
    }
}

impl Bounds {
    fn read(transaction: &WriteTransaction) -> Result<Self, redb::Error> {
        let meta = transaction.open_table(META)?;
        let bounds = Self {
            first_entry: number(&meta, "first_entry")?,
            next_entry: number(&meta, "next_entry")?,
            first_finding: number(&meta, "first_finding")?,
            next_finding: number(&meta, "next_finding")?,
            entry_bytes: number(&meta, "entry_bytes")?,
            finding_bytes: number(&meta, "finding_bytes")?,
        };
        // So that readers find each table.
        transaction.open_table(LOG)?;
        transaction.open_table(OUTBOX)?;
        transaction.open_table(CURSORS)?;
        Ok(bounds)
    }

    /// Writes what is not as it was.
    fn write(&self, before: &Self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        for (key, value, before) in [
            ("first_entry", self.first_entry, before.first_entry),
            ("next_entry", self.next_entry, before.next_entry),
            ("first_finding", self.first_finding, before.first_finding),
            ("next_finding", self.next_finding, before.next_finding),
            ("entry_bytes", self.entry_bytes, before.entry_bytes),
            ("finding_bytes", self.finding_bytes, before.finding_bytes),
        ] {
            if value != before {
                meta.insert(key, value)?;
            }
        }
        Ok(())
    }
}

/// The version of a file, 0 of one without tables.
fn version(database: &Database) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(number(&meta, "version")?),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn number(meta: &impl ReadableTable<&'static str, u64>, key: &str) -> Result<u64, RedbError> {
    Ok(meta.get(key)?.map_or(0, |value| value.value()))
}

/// Writes a value with its checksum; its bytes.
fn insert(
    table: &mut Table<'_, u64, &'static [u8]>,
    number: u64,
    value: &[u8],
) -> Result<u64, RedbError> {
    let mut sealed = Vec::with_capacity(SUM + value.len());
    sealed.extend_from_slice(&sum(number, value).to_le_bytes());
    sealed.extend_from_slice(value);
    table.insert(number, sealed.as_slice())?;
    Ok(value.len() as u64)
}

/// Removes all values below a number; their bytes.
fn remove(table: &mut Table<'_, u64, &'static [u8]>, below: u64) -> Result<u64, RedbError> {
    let mut bytes = 0;
    table.retain_in(..below, |_, sealed| {
        bytes += sealed.len().saturating_sub(SUM) as u64;
        false
    })?;
    Ok(bytes)
}

/// The value, if its checksum matches.
fn opened(number: u64, sealed: &[u8]) -> Option<&[u8]> {
    let (stored, value) = sealed.split_first_chunk::<SUM>()?;
    (u64::from_le_bytes(*stored) == sum(number, value)).then_some(value)
}

fn sum(number: u64, value: &[u8]) -> u64 {
    SipHasher13::new_with_keys(number, 0).hash(value)
}
