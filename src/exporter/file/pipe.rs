//! Whole lines to a named pipe, as far as its reader reads, and never waiting for one.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::net::unix::pipe::{OpenOptions, Sender};

use super::lines::line;
use crate::{deadline, detection::Finding};

/// A pipe, open or not.
#[derive(Debug)]
pub(super) struct Pipe {
    path: Arc<Path>,
    sender: Option<Sender>,
    /// A line that the reader has only the beginning of.
    unfinished: Option<(Arc<Finding>, Vec<u8>)>,
    /// Lines that are written, and not reported yet: an attempt may be dropped at any time.
    written: Vec<Arc<Finding>>,
}

impl Pipe {
    pub(super) fn new(path: Arc<Path>) -> Self {
        Self {
            path,
            sender: None,
            unfinished: None,
            written: Vec::new(),
        }
    }

    /// Writes findings from the front of a batch for at most `limit`. How many, at least one.
    ///
    /// # Errors
    /// Why not a single one was.
    pub(super) async fn send(
        &mut self,
        batch: &[Arc<Finding>],
        limit: Duration,
    ) -> io::Result<usize> {
        let known = |(own, asked): &(&Arc<Finding>, &Arc<Finding>)| Arc::ptr_eq(own, asked);
        let before = self.written.iter().zip(batch).take_while(known).count();
        self.written.truncate(before);
        let rest = batch.get(before..).unwrap_or_default();
        let ended = deadline::within(limit, "waiting for its reader", self.write(rest)).await;
        let ended = ended.map_err(io::Error::from).and_then(|written| written);
        let written = std::mem::take(&mut self.written).len();
        match ended {
            // The rest of the batch will say what is wrong.
            Err(error) if written == 0 => Err(error),
            _ => Ok(written),
        }
    }

    async fn write(&mut self, batch: &[Arc<Finding>]) -> io::Result<()> {
        // A line that has begun is ended first, also if its finding was given up since.
        let begun = self.unfinished.as_ref();
        let begun = begun.and_then(|(finding, _)| {
            let first = batch.first();
            first
                .is_some_and(|first| Arc::ptr_eq(first, finding))
                .then_some(1)
        });
        if self.unfinished.is_some() && !self.end_line().await? {
            return Ok(());
        }
        self.written
            .extend(batch.iter().take(begun.unwrap_or(0)).cloned());
        for finding in batch.iter().skip(begun.unwrap_or(0)) {
            self.unfinished = Some((Arc::clone(finding), line(finding)));
            if !self.end_line().await? {
                return Ok(());
            }
            self.written.push(Arc::clone(finding));
        }
        Ok(())
    }

    /// Writes what is unfinished, or as much as there is room for when lines before it can be
    /// reported. Whether all of it is written. When the reader is gone, the next one gets the line
    /// from its beginning.
    async fn end_line(&mut self) -> io::Result<bool> {
        let written = self.write_rest().await;
        if written.is_err() {
            self.sender = None;
            self.unfinished = None;
        }
        written
    }

    async fn write_rest(&mut self) -> io::Result<bool> {
        let has_some = !self.written.is_empty();
        let sender = match &mut self.sender {
            Some(sender) => sender,
            closed => closed.insert(open(&self.path)?),
        };
        while let Some((_, rest)) = self
            .unfinished
            .as_mut()
            .filter(|(_, rest)| !rest.is_empty())
        {
            match sender.try_write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(rest.drain(..count)),
                // What the reader has is reported before it is waited for.
                Err(error) if is_full(&error) && has_some => return Ok(false),
                Err(error) if is_full(&error) => sender.writable().await?,
                Err(error) => return Err(error),
            }
        }
        self.unfinished = None;
        Ok(true)
    }
}

/// Whether there is no room in the pipe.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Opens a pipe that has a reader.
fn open(path: &Path) -> io::Result<Sender> {
    /// `ENXIO`: there is no reader.
    const NO_READER: i32 = 6;
    OpenOptions::new().open_sender(path).map_err(|error| {
        if error.raw_os_error() == Some(NO_READER) {
            let why = "no process reads from this pipe, start its reader";
            return io::Error::new(io::ErrorKind::NotConnected, why);
        }
        error
    })
}
