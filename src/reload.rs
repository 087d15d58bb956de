//! Files that are read again while the service runs: certificates, tokens.
//!
//! Their content decides whether they have changed: times of files are coarse, and links to them
//! change without. What cannot be read again leaves the last good value in use, which the log says
//! once. A file on a disk that hangs delays one caller for a few seconds, and costs one thread.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing::{info, warn};

use crate::{
    clock::{self, Instant},
    deadline::{Exclusive, Late},
    throttle::Throttle,
};

/// How long the caller that reads again may wait for that.
const READ: Duration = Duration::from_secs(5);

/// What is read from files.
pub trait Source: Send + Sync + 'static {
    /// What was read. Equal values have the same content.
    type Value: PartialEq + Send + Sync + 'static;
    /// Why it cannot be used. Holds no secret.
    type Error: fmt::Display + Send + 'static;

    /// What it is, for the log: `certificates`.
    const WHAT: &'static str;

    /// Where it comes from, for the log.
    fn place(&self) -> String;

    /// How long a value is used before the files are read again. `None`: for the life of the
    /// process.
    fn interval(&self) -> Option<Duration>;

    /// Reads the files. May block.
    ///
    /// # Errors
    /// When they cannot be read or their content cannot be used.
    fn read(&self) -> Result<Self::Value, Self::Error>;
}

/// The last good value of files. Clones share it.
pub struct Reloaded<S: Source>(Arc<Inner<S>>);

struct Inner<S: Source> {
    source: S,
    state: Mutex<State<S::Value>>,
    reading: Exclusive,
    failures: Throttle<(), String>,
}

struct State<T> {
    value: Arc<T>,
    /// When the files were read last, well or not.
    at: Instant,
    /// Whether that failed, which was logged.
    failed: bool,
}

impl<S: Source> Clone for Reloaded<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Source> fmt::Debug for Reloaded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded")
            .field("what", &S::WHAT)
            .field("place", &self.0.source.place())
            .finish_non_exhaustive()
    }
}

impl<S: Source> Reloaded<S> {
    /// Reads the files for the first time. May block.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn new(source: S) -> Result<Self, S::Error> {
        let value = source.read()?;
        let place = source.place();
        Ok(Self(Arc::new(Inner {
            source,
            state: Mutex::new(State {
                value: Arc::new(value),
                at: clock::monotonic(),
                failed: false,
            }),
            reading: Exclusive::default(),
            failures: Throttle::new(move |line| {
                warn!(
                    what = S::WHAT,
                    file = place,
                    error = %line.detail,
                    suppressed = line.suppressed(),
                    "files cannot be read again, their last good content stays in use"
                );
            }),
        })))
    }

    /// The last good value, without a look at the files.
    pub fn last(&self) -> Arc<S::Value> {
        Arc::clone(&self.state().value)
    }

    /// The value in use. The first caller after the interval reads the files again, and waits for
    /// that some seconds at most; all others get the value before.
    pub async fn current(&self) -> Arc<S::Value> {
        if self.is_due() {
            let inner = Arc::clone(&self.0);
            let read = move || inner.source.read().map_err(|error| error.to_string());
            let read = self.0.reading.blocking(READ, "reading it", read).await;
            match read {
                // The runtime is ending.
                Err(Late::Ended(_)) => {}
                Err(late) => self.failed(late.to_string()),
                Ok(Err(error)) => self.failed(error),
                Ok(Ok(value)) => self.succeeded(value),
            }
        }
        self.last()
    }

    /// Whether it is time to read the files again, which the caller then does.
    fn is_due(&self) -> bool {
        let Some(interval) = self.0.source.interval() else {
            return false;
        };
        let mut state = self.state();
        let now = clock::monotonic();
        let due = now.saturating_duration_since(state.at) >= interval;
        if due {
            state.at = now;
        }
        due
    }

    fn succeeded(&self, value: S::Value) {
        let mut state = self.state();
        let recovered = std::mem::take(&mut state.failed);
        let changed = *state.value != value;
        if changed {
            state.value = Arc::new(value);
        }
        drop(state);
        let file = self.0.source.place();
        if changed {
            info!(what = S::WHAT, file, "changed files are in use");
        } else if recovered {
            info!(what = S::WHAT, file, "files can be read again");
        }
        self.0.failures.forget(());
    }

    fn failed(&self, error: String) {
        if !std::mem::replace(&mut self.state().failed, true) {
            self.0.failures.log((), error);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<S::Value>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    /// Reads what the test has put there.
    #[derive(Clone)]
    struct File(Arc<Mutex<Result<u32, &'static str>>>);

    impl Source for File {
        type Value = u32;
        type Error = &'static str;

        const WHAT: &'static str = "numbers";

        fn place(&self) -> String {
            "a file".to_owned()
        }

        fn interval(&self) -> Option<Duration> {
            Some(INTERVAL)
        }

        fn read(&self) -> Result<u32, &'static str> {
            *self.0.lock().unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_value_stays_in_use() {
        let file = File(Arc::new(Mutex::new(Ok(1))));
        let write = |content| *file.0.lock().unwrap() = content;
        let value = Reloaded::new(file.clone()).unwrap();
        write(Ok(2));
        assert_eq!(*value.current().await, 1, "it is not time yet");
        tokio::time::advance(INTERVAL).await;
        assert_eq!(*value.last(), 1);
        assert_eq!(*value.current().await, 2);
        write(Err("gone"));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(*value.current().await, 2);
        assert!(value.state().failed);
        write(Ok(2));
        let before = value.last();
        tokio::time::advance(INTERVAL).await;
        assert!(
            Arc::ptr_eq(&before, &value.current().await),
            "the same content"
        );
        assert!(!value.state().failed);
        write(Err("never there"));
        assert_eq!(Reloaded::new(file.clone()).unwrap_err(), "never there");
    }
}
