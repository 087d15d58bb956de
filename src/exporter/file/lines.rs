//! Whole lines at the end of whatever a path names now. Blocks.
//!
//! What a failed write leaves is cut off again, and where that is not possible (a terminal) the next
//! line starts on a line of its own. A file that was renamed or removed, as tools that rotate logs
//! do, is left, and the one that the path names is opened or created.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use tracing::info;

use crate::detection::Finding;

/// A finding as a line: JSON and a line end.
pub(super) fn line(finding: &Finding) -> Vec<u8> {
    let mut line = finding.to_json().into_bytes();
    line.push(b'\n');
    line
}

/// What became of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// They are written.
    Lines,
    /// Nothing is written: the path names a pipe.
    Pipe,
}

/// Writes to a path.
#[derive(Debug)]
pub(super) struct Appender {
    path: Arc<Path>,
    lines: Option<Lines<fs::File>>,
}

impl Appender {
    pub(super) fn new(path: Arc<Path>) -> Self {
        Self { path, lines: None }
    }

    /// Opens the file, emptied unless it is to be kept. A pipe is left alone.
    pub(super) fn open(&mut self, keep: bool) -> io::Result<()> {
        self.lines = None;
        if fs::metadata(&self.path).is_ok_and(|about| about.file_type().is_fifo()) {
            return Ok(());
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        if !keep && file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        self.lines = Some(Lines {
            torn: ends_within_a_line(&self.path),
            sink: file,
        });
        Ok(())
    }

    /// Writes lines, all of them or none.
    pub(super) fn append(&mut self, text: &[u8]) -> io::Result<Written> {
        let now = fs::metadata(&self.path);
        if now.as_ref().is_ok_and(|now| now.file_type().is_fifo()) {
            self.lines = None;
            return Ok(Written::Pipe);
        }
        let had = self.lines.is_some();
        if !self.is_open(now.ok().as_ref()) {
            self.open(true)?;
            if had {
                let path = crate::visible::path(&self.path);
                info!(%path, "the file was moved or removed, findings go to a new one");
            }
        }
        if let Some(lines) = &mut self.lines {
            lines.append(text)?;
        }
        Ok(Written::Lines)
    }

    /// Whether what is open is what the path names now.
    fn is_open(&self, now: Option<&fs::Metadata>) -> bool {
        let own = self
            .lines
            .as_ref()
            .and_then(|lines| lines.sink.metadata().ok());
        match (own, now) {
            (Some(own), Some(now)) => (own.dev(), own.ino()) == (now.dev(), now.ino()),
            _ => false,
        }
    }
}

/// Whether a crash left an incomplete line. A file that cannot be read is left as it is.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        Ok(u8::from_be_bytes(byte))
    };
    fs::metadata(path).is_ok_and(|about| about.is_file()) && last().is_ok_and(|last| last != b'\n')
}

/// What lines are written to: a file, or in tests something that fails.
pub(super) trait Sink: Write {
    /// Its length in bytes.
    fn length(&mut self) -> io::Result<u64>;
    /// Cuts it back to `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Sink for fs::File {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Whole lines to a sink.
#[derive(Debug)]
pub(super) struct Lines<S> {
    pub(super) sink: S,
    /// Whether the end may be half a line that could not be cut off.
    pub(super) torn: bool,
}

impl<S: Sink> Lines<S> {
    pub(super) fn append(&mut self, text: &[u8]) -> io::Result<()> {
        // Asked each time, because the file may have been emptied since.
        let length = self.sink.length()?;
        let written = self.write(text);
        if written.is_ok() {
            self.torn = false;
        } else if self.sink.cut(length).is_err() {
            self.torn = true;
        }
        written
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.torn {
            self.sink.write_all(b"\n")?;
        }
        self.sink.write_all(text)?;
        self.sink.flush()
    }
}
