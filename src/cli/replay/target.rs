//! Where a replay goes: an OTLP receiver, or a file.

use std::{fs::OpenOptions, io::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use indicatif::ProgressBar;

use super::{super::stop::Stop, count::Count, otlp::Otlp};
use crate::{
    cli::tally::Places,
    deadline::{Started, within},
    visible,
};

/// How long the file may take when a replay is stopped.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Where events go, and those that wait for the next request.
pub(super) struct Target {
    to: To,
    waiting: Vec<String>,
    bytes: usize,
    count: Count,
    bar: ProgressBar,
}

enum To {
    Otlp(Box<Otlp>),
    File(Appending),
}

/// A file that is appended to, by a thread: it may be a pipe whose reader does not read.
struct Appending {
    /// Absent while the thread has it.
    file: Option<std::fs::File>,
    writing: Option<Started<std::io::Result<std::fs::File>>>,
}

impl Appending {
    /// Writes a text and waits for that, until some seconds after a signal, or until a second one. Whether it is written.
    async fn write(&mut self, text: String, stop: &mut Stop) -> anyhow::Result<bool> {
        let Some(mut file) = self.file.take() else {
            return Ok(false);
        };
        let writing = self.writing.insert(Started::new("writing", move || {
            file.write_all(text.as_bytes()).map(|()| file)
        }));
        tokio::select! {
            // Until a signal asks for the end, a slow reader sets the pace.
            written = writing.within(Duration::MAX) => {
                self.file = Some(written?.context("cannot write")?);
                Ok(true)
            }
            () = async {
                stop.requested().await;
                let _again = within(LAST_WRITE, "writing", stop.repeated()).await;
            } => Ok(false),
        }
    }
}

impl Target {
    fn new(to: To, bar: ProgressBar) -> Self {
        Self {
            to,
            waiting: Vec::new(),
            bytes: 0,
            count: Count::default(),
            bar,
        }
    }

    /// A file that is appended to.
    pub(super) fn file(path: &Path, bar: ProgressBar) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", visible::path(path)))?;
        let appending = Appending {
            file: Some(file),
            writing: None,
        };
        Ok(Self::new(To::File(appending), bar))
    }

    /// A receiver.
    pub(super) fn otlp(otlp: Otlp, bar: ProgressBar) -> Self {
        Self::new(To::Otlp(Box::new(otlp)), bar)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_full(&self, events: u32, bytes: usize) -> bool {
        self.waiting.len() >= usize::try_from(events).unwrap_or(usize::MAX) || self.bytes >= bytes
    }

    pub(super) fn push(&mut self, event: String) {
        self.bytes += event.len();
        self.waiting.push(event);
    }

    pub(super) fn count(&self) -> Count {
        self.count
    }

    /// Takes note of lines that never came to be events.
    pub(super) fn left_out(&mut self, too_long: &Places) {
        if let Some(complaint) = too_long.complaint("longer than 64 MiB", "longer than 64 MiB") {
            tracing::warn!("{complaint}");
        }
        self.count.left_out = too_long.count();
    }

    /// Takes note of events that are left because it was stopped; `is_all`: there are no more.
    pub(super) fn unsent(&mut self, unsent: u64, is_all: bool) {
        self.count.unsent = unsent;
        self.count.more = !is_all;
        if unsent > 0 {
            let least = if is_all { "" } else { "at least " };
            tracing::warn!(
                "stopped before the end of the log, {least}{unsent} events were not sent"
            );
        }
    }

    /// Sends what waits, until it is taken or given up. After a signal it is tried once.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) async fn flush(&mut self, stop: &mut Stop) -> anyhow::Result<()> {
        let events = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if events.is_empty() {
            return Ok(());
        }
        match &mut self.to {
            To::File(file) => {
                let mut text = events.join("\n");
                text.push('\n');
                let count = events.len() as u64;
                if file.write(text, stop).await? {
                    self.count.sent += count;
                } else {
                    self.count.given_up += count;
                }
            }
            To::Otlp(otlp) => {
                otlp.deliver(events, &mut self.count, &self.bar, stop).await;
            }
        }
        Ok(())
    }
}
