//! Findings to a file, one JSON object a line.
//!
//! A line is whole or not there, whatever the disk or the pipe does. Nothing here waits without an
//! end: what blocks is done by a thread that may hang, once, while the attempt ends; a pipe is
//! written to as far as its reader reads.

mod lines;
mod pipe;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use self::{
    lines::{Appender, Written, line},
    pipe::Pipe,
};
use super::{Exporter, Outcome};
use crate::{
    deadline::{Late, Started},
    detection::Finding,
    visible,
};

/// How long one attempt may take. What hangs is waited for again by the next one.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Bytes after which an attempt takes no further finding, so that one attempt is bounded in memory.
const ATTEMPT_BYTES: usize = 1024 * 1024;

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

/// The `file` exporter.
#[derive(Debug)]
pub struct File {
    path: Arc<Path>,
    /// Absent while a thread has it.
    appender: Option<Appender>,
    writing: Option<Writing>,
    pipe: Pipe,
}

/// Lines that a thread writes.
#[derive(Debug)]
struct Writing {
    work: Started<(Appender, io::Result<Written>)>,
    findings: Vec<Arc<Finding>>,
}

impl Writing {
    /// Whether it writes the first findings of this batch.
    fn is_of(&self, batch: &[Arc<Finding>]) -> bool {
        self.findings.len() <= batch.len()
            && self
                .findings
                .iter()
                .zip(batch)
                .all(|(own, asked)| Arc::ptr_eq(own, asked))
    }
}

impl File {
    /// Opens the file. A pipe is opened when there is something to write, for it may have no reader
    /// yet.
    ///
    /// # Errors
    /// The path and the system's reason.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let path: Arc<Path> = config.path.as_path().into();
        let mut appender = Appender::new(Arc::clone(&path));
        appender.open(config.append).map_err(|why| Error {
            path: config.path.clone(),
            why,
        })?;
        Ok(Self {
            pipe: Pipe::new(Arc::clone(&path)),
            appender: Some(appender),
            writing: None,
            path,
        })
    }

    /// Hands the first findings of a batch to a thread, unless one is at work.
    fn begin(&mut self, batch: &[Arc<Finding>]) {
        if self.writing.is_some() {
            return;
        }
        let mut appender = self
            .appender
            .take()
            .unwrap_or_else(|| Appender::new(Arc::clone(&self.path)));
        let (mut lines, mut findings) = (Vec::new(), Vec::new());
        for finding in batch {
            lines.extend(line(finding));
            findings.push(Arc::clone(finding));
            if lines.len() >= ATTEMPT_BYTES {
                break;
            }
        }
        let work = Started::new("writing to the disk", move || {
            let written = appender.append(&lines);
            (appender, written)
        });
        self.writing = Some(Writing { work, findings });
    }

    /// Waits for the thread, and takes the appender back. How many findings it was for.
    async fn written(&mut self) -> Result<(usize, io::Result<Written>), Late> {
        let Some(writing) = &mut self.writing else {
            return Ok((0, Ok(Written::Lines)));
        };
        let findings = writing.findings.len();
        let written = match writing.work.within(ATTEMPT).await {
            Ok((appender, written)) => {
                self.appender = Some(appender);
                Ok((findings, written))
            }
            Err(late @ Late::Ended(_)) => Err(late),
            Err(late) => return Err(late),
        };
        self.writing = None;
        written
    }

    fn retry(&self, why: impl std::fmt::Display) -> Outcome {
        Outcome::retry(format!(
            "cannot write to {}: {why}",
            visible::path(&self.path)
        ))
    }
}

impl Exporter for File {
    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        // What an attempt before has begun is finished first, and counts if it was for these.
        if self
            .writing
            .as_ref()
            .is_some_and(|writing| !writing.is_of(batch))
            && let Err(late) = self.written().await
        {
            return self.retry(late);
        }
        self.begin(batch);
        match self.written().await {
            Ok((findings, Ok(Written::Lines))) => Outcome::Accepted(findings),
            Ok((_, Ok(Written::Pipe))) => match self.pipe.send(batch, ATTEMPT).await {
                Ok(findings) => Outcome::Accepted(findings),
                Err(error) => self.retry(error),
            },
            Ok((_, Err(error))) => self.retry(error),
            Err(late) => self.retry(late),
        }
    }
}

#[cfg(test)]
mod tests;
