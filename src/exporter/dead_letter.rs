//! What a destination can never take, whole and with the reason, in a file: `dead_letter`.
//!
//! [`DeadLetters`] stands around an exporter and sees how each attempt ends. A finding that is given
//! up because of itself goes into the file before the attempt ends, so that neither a long outage
//! nor a crash after it costs the letter. `auditwatch redeliver` reads the file again.

pub mod file;

pub use file::Config;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Exporter, Outcome, shutdown::Shutdown};
use crate::{
    clock,
    deadline::Exclusive,
    detection::{Finding, time::Micros},
    throttle::Throttle,
    visible,
};

/// How long writing may take before the finding counts as not written.
const WRITE: Duration = Duration::from_secs(10);

/// Why a letter was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The destination says that this finding is wrong.
    Invalid,
    /// It is too large, alone.
    TooLarge,
    /// The destination took a request and rejected some of its findings, without saying which: this
    /// one may be among those that it took.
    Rejected,
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter<F> {
    /// When it was written, RFC 3339.
    pub time: String,
    /// The exporter that could not deliver it.
    pub exporter: String,
    /// Why.
    pub reason: Reason,
    /// What the destination answered, bounded and without secrets.
    pub answer: String,
    /// The finding, whole.
    pub finding: F,
}

/// What became of letters so far.
#[derive(Debug, Default)]
pub struct Counters {
    written: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    /// Findings that are in the file.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Findings that belong there and could not be written.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Why the file cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error(
    "dead_letter::path: cannot open {}: {why}; does its folder exist, and may we write there?",
    visible::path(.path)
)]
pub struct Error {
    path: PathBuf,
    /// Part of the message, and so no source that is printed behind it.
    why: std::io::Error,
}

/// An exporter whose findings are kept when it can never deliver them.
pub struct DeadLetters<E> {
    inner: E,
    keeper: Keeper,
}

struct Keeper {
    /// `None`: what is given up is counted and logged alone.
    letters: Option<Letters>,
    counters: Arc<Counters>,
}

struct Letters {
    exporter: Arc<str>,
    config: Arc<Config>,
    writing: Exclusive,
    failures: Throttle<(), String>,
}

impl<E> fmt::Debug for DeadLetters<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").finish_non_exhaustive()
    }
}

impl<E> DeadLetters<E> {
    /// Around the exporter `id`. Opens the file, if the settings name one, to see that it can be
    /// written.
    ///
    /// # Errors
    /// The path and the system's reason.
    pub fn new(id: &str, inner: E, config: &Config) -> Result<Self, Error> {
        let letters = if config.path.as_os_str().is_empty() {
            None
        } else {
            file::append(config, &[]).map_err(|why| Error {
                path: config.path.clone(),
                why,
            })?;
            Some(Letters::new(id, config))
        };
        Ok(Self {
            inner,
            keeper: Keeper {
                letters,
                counters: Arc::default(),
            },
        })
    }

    /// The same, with the counts of the one whose place it takes.
    #[must_use]
    pub fn counting(mut self, counters: Arc<Counters>) -> Self {
        self.keeper.counters = counters;
        self
    }

    /// The exporter itself.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// What became of letters so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.keeper.counters
    }
}

impl Keeper {
    /// Writes these findings into the file, and says so where the log says that they are given up.
    async fn keep(&self, findings: &[Arc<Finding>], reason: Reason, answer: &mut String) {
        let Some(letters) = &self.letters else {
            return;
        };
        let count = u64::try_from(findings.len()).unwrap_or(u64::MAX);
        match letters.write(findings, reason, answer).await {
            Ok(()) => {
                self.counters.written.fetch_add(count, Ordering::Relaxed);
                answer.push_str("; in the dead-letter file, see auditwatch redeliver");
            }
            Err(error) => {
                self.counters.failed.fetch_add(count, Ordering::Relaxed);
                letters.failures.log((), error.to_string());
                answer.push_str("; not in the dead-letter file, which cannot be written");
            }
        }
    }
}

impl<E: Exporter> Exporter for DeadLetters<E> {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        let mut outcome = self.inner.send(batch).await;
        match &mut outcome {
            Outcome::Invalid { index, reason } => {
                let finding = batch.get(*index..=*index).unwrap_or_default();
                self.keeper.keep(finding, Reason::Invalid, reason).await;
            }
            Outcome::TooLarge {
                findings: 0 | 1,
                reason,
            } => {
                let finding = batch.get(..1).unwrap_or_default();
                self.keeper.keep(finding, Reason::TooLarge, reason).await;
            }
            Outcome::Partial {
                findings, reason, ..
            } => {
                let findings = batch.get(..*findings).unwrap_or_default();
                self.keeper.keep(findings, Reason::Rejected, reason).await;
            }
            Outcome::Accepted(_)
            | Outcome::Retry { .. }
            | Outcome::TooLarge { .. }
            | Outcome::Refused { .. } => {}
        }
        outcome
    }

    fn goes_out(&self, finding: &Arc<Finding>) -> bool {
        self.inner.goes_out(finding)
    }

    fn attach(&mut self, shutdown: &Shutdown) {
        self.inner.attach(shutdown);
    }
}

impl Letters {
    fn new(id: &str, config: &Config) -> Self {
        let exporter: Arc<str> = Arc::from(id);
        let (id, path) = (Arc::clone(&exporter), config.path.clone());
        Self {
            exporter,
            config: Arc::new(config.clone()),
            writing: Exclusive::default(),
            failures: Throttle::new(move |line| {
                tracing::error!(
                    exporter = &*id,
                    path = %visible::path(&path),
                    error = line.detail,
                    suppressed = line.suppressed(),
                    "findings cannot be written to the dead-letter file and are lost: make room for \
                     it, or let it be written"
                );
            }),
        }
    }

    async fn write(
        &self,
        findings: &[Arc<Finding>],
        reason: Reason,
        answer: &str,
    ) -> std::io::Result<()> {
        let now = Micros::from_unix_nanos(clock::unix_nanos()).unwrap_or_default();
        let mut lines = Vec::new();
        for finding in findings {
            let letter = Letter {
                time: now.to_string(),
                exporter: self.exporter.to_string(),
                reason,
                answer: answer.to_owned(),
                finding: &**finding,
            };
            lines.extend(visible::json(&letter)?.into_bytes());
            lines.push(b'\n');
        }
        let config = Arc::clone(&self.config);
        self.writing
            .blocking(WRITE, "writing the dead-letter file", move || {
                file::append(&config, &lines)
            })
            .await?
    }
}

#[cfg(test)]
mod tests;
