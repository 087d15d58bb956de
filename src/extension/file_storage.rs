//! The `file_storage` extension: a directory in which detections keep what a restart must not lose.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Settings of one `file_storage` extension, under the Collector's key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `directory`: where the files are. One process has it at a time.
    pub directory: PathBuf,
    /// `create_directory`: whether to create it, with access for the user of the process alone.
    pub create_directory: bool,
    /// `timeout`: how long a write may take before senders are asked to keep their data.
    pub timeout: Duration,
    /// `max_size_mib`, in bytes: what the log and the outbox of a pipeline may take together.
    pub max_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/auditwatch"),
            create_directory: false,
            timeout: Duration::from_secs(1),
            max_size: 1 << 30,
        }
    }
}

/// Creates a directory that others cannot read, with those above it, unless it is there.
///
/// # Errors
/// When it cannot be created.
pub fn create(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
