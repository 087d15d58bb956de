//! Findings to a file, one JSON object a line.
//!
//! A line is whole or not there: what a failed write leaves is cut off again, and where that is
//! not possible (a pipe) the next line starts on a line of its own.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{Exporter, Outcome};
use crate::{detection::Finding, visible};

/// Settings of one `file` exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `path` of the file. Created with mode 0600 if absent; its folder must exist. Required.
    pub path: PathBuf,
    /// `append`: keep what the file holds.
    pub append: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            append: true,
        }
    }
}

/// Why the file cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error(
    "path: cannot open {}: {why}; does its folder exist, and may we write there?",
    visible::path(.path)
)]
pub struct Error {
    path: PathBuf,
    /// Part of the message, and so no source that is printed behind it.
    why: io::Error,
}

/// What lines are written to: a file, or in tests something that fails.
pub trait Sink: AsyncWrite + Unpin + Send + 'static {
    /// Its length in bytes.
    fn length(&mut self) -> impl Future<Output = io::Result<u64>> + Send;
    /// Cuts it back to `length` bytes.
    fn cut(&mut self, length: u64) -> impl Future<Output = io::Result<()>> + Send;
}

impl Sink for tokio::fs::File {
    async fn length(&mut self) -> io::Result<u64> {
        Ok(self.metadata().await?.len())
    }

    async fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length).await
    }
}

/// The `file` exporter.
#[derive(Debug)]
pub struct File<S = tokio::fs::File> {
    path: PathBuf,
    sink: S,
    /// Whether the end may be half a line that could not be cut off.
    torn: bool,
}

impl File {
    /// Opens the file.
    ///
    /// # Errors
    /// The path and the system's reason.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let failed = |why| Error {
            path: config.path.clone(),
            why,
        };
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&config.path).map_err(failed)?;
        if !config.append && file.metadata().map_err(failed)?.is_file() {
            file.set_len(0).map_err(failed)?;
        }
        Ok(Self {
            path: config.path.clone(),
            torn: ends_within_a_line(&config.path),
            sink: tokio::fs::File::from_std(file),
        })
    }
}

/// Whether a crash left half a line. A file that cannot be read is none of ours to mend.
fn ends_within_a_line(path: &Path) -> bool {
    use std::io::{Read as _, Seek as _, SeekFrom};

    let last = || -> io::Result<u8> {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        Ok(u8::from_be_bytes(byte))
    };
    std::fs::metadata(path).is_ok_and(|about| about.is_file())
        && last().is_ok_and(|last| last != b'\n')
}

impl<S: Sink> File<S> {
    async fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // Asked each time, because somebody may have emptied the file since.
        let length = self.sink.length().await?;
        let written = self.write(lines).await;
        if written.is_ok() {
            self.torn = false;
        } else if self.sink.cut(length).await.is_err() {
            self.torn = true;
        }
        written
    }

    async fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.sink.write_all(lines).await?;
        self.sink.flush().await
    }
}

impl<S: Sink> Exporter for File<S> {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        let mut lines = Vec::new();
        if self.torn {
            lines.push(b'\n');
        }
        for finding in batch {
            lines.extend_from_slice(finding.to_json().as_bytes());
            lines.push(b'\n');
        }
        match self.append(&lines).await {
            Ok(()) => Outcome::Accepted(batch.len()),
            Err(error) => Outcome::retry(format!(
                "cannot write to {}: {error}",
                visible::path(&self.path)
            )),
        }
    }
}

#[cfg(test)]
mod tests;
