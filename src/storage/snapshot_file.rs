//! A snapshot on disk: a file of its own, so that writing it holds up no commit. It is written under
//! another name, synced, and renamed, so that there is always a whole one.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{Snapshots, StorageError};
use crate::visible;

/// The first bytes of the file.
const MAGIC: &[u8; 16] = b"auditwatch snap1";

/// The file of one engine.
#[derive(Debug)]
pub(super) struct SnapshotFile(pub(super) PathBuf);

impl Snapshots for SnapshotFile {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let path = &self.0;
        let mut bytes = Vec::new();
        match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::of_io(path, error)),
        }
        if let Some((magic, rest)) = bytes.split_first_chunk::<16>()
            && magic == MAGIC
            && let Some((digest, body)) = rest.split_first_chunk::<32>()
            && *digest == <[u8; 32]>::from(Sha256::digest(body))
        {
            // Not a second copy.
            bytes.drain(..MAGIC.len() + digest.len());
            return Ok(Some(bytes));
        }
        let aside = set_aside(path)?;
        Err(StorageError::Corrupt {
            path: path.clone(),
            why: format!(
                "its checksum does not match; it was set aside as {}",
                visible::path(&aside)
            ),
        })
    }

    fn keep(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let path = &self.0;
        let new = path.with_extension("snapshot.new");
        let written = || -> io::Result<()> {
            let mut file = private(&new, true)?;
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(bytes))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            sync_folder(path)
        };
        written().map_err(|error| StorageError::of_io(path, error))
    }
}

/// Opens a file to write, or creates it: addresses and users in it are for us alone. Empty when it `is_new`.
pub(super) fn private(path: &Path, is_new: bool) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true);
    options.truncate(is_new).mode(0o600).open(path)
}

/// Renames a damaged file to a name that is free. Never erases one.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StorageError> {
    let error = |error| StorageError::of_io(path, error);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (1..=10_000_u32)
        .map(|number| path.with_file_name(format!("{name}.corrupt-{number}")))
        .find(|aside| !aside.exists())
        .ok_or_else(|| error(io::Error::other("too many files were set aside")))?;
    fs::rename(path, &free).map_err(error)?;
    sync_folder(path).map_err(error)?;
    Ok(free)
}

/// Makes the names in the folder of a file survive the loss of power.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
