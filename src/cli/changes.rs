//! Changes of the configuration and of the files that it names, while the service runs.

use std::{fs, time::Duration};

use tracing::warn;

use crate::{
    config::{self, Config, Source, Written},
    deadline::{self, Exclusive, Late},
    service::Files,
    visible,
};

/// How long it may take to read a configuration, and to look at its files.
const READ: Duration = Duration::from_mins(1);
/// For this long a configuration must stay the same before it counts: an editor may be writing it.
const SETTLE: Duration = Duration::from_secs(1);
/// How often it may differ until it counts all the same.
const ROUNDS: usize = 30;

/// A configuration and its files as they are now, or why it cannot be used.
pub(super) type Loaded = Result<(Box<Config>, Files), String>;

/// What tells one that was loaded from another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Good(Written, Files),
    Bad(String),
}

/// Looks for changes at an interval.
pub(super) struct Changes {
    sources: Vec<Source>,
    interval: Duration,
    /// A disk that hangs costs one thread.
    reading: Exclusive,
    /// What was seen last.
    seen: Seen,
    /// A source that can be read only once.
    once: Option<String>,
}

impl Changes {
    /// Changes since this configuration was loaded from these sources.
    ///
    /// # Errors
    /// When its files cannot be looked at in time.
    pub(super) async fn since(sources: &[Source], config: &Config) -> Result<Self, Late> {
        let (looked, paths) = (config.clone(), sources.to_vec());
        let look = move || {
            let mut paths = paths.into_iter().filter_map(|source| match source {
                Source::File(path) => Some(path),
                _ => None,
            });
            // What is no regular file, as a pipe, can be read only once.
            let once = paths.find(|path| !fs::metadata(path).is_ok_and(|is| is.is_file()));
            (Files::of(&looked), once)
        };
        let (files, once) = deadline::blocking(READ, "looking at the files", look).await?;
        Ok(Self {
            sources: sources.to_vec(),
            interval: config.reload_interval,
            reading: Exclusive::default(),
            seen: Seen::Good(config.written.clone(), files),
            once: once.map(|path| visible::path(&path).to_string()),
        })
    }

    /// Loads the configuration now. `None`: it cannot be read a second time, which the log says.
    pub(super) async fn load(&mut self) -> Option<Loaded> {
        if let Some(path) = &self.once {
            warn!(
                file = path,
                "the configuration is in no regular file and cannot be read again: restart auditwatch to \
                 change it"
            );
            return None;
        }
        let loaded = self.read().await;
        self.note(&loaded);
        Some(loaded)
    }

    /// The next configuration that differs from the one before. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Loaded {
        if self.interval.is_zero() || self.once.is_some() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(self.interval).await;
            let mut loaded = self.read().await;
            if self.is_seen(&loaded) {
                continue;
            }
            for _ in 0..ROUNDS {
                tokio::time::sleep(SETTLE).await;
                let again = self.read().await;
                let is_settled = seen(&again) == seen(&loaded);
                loaded = again;
                if is_settled {
                    break;
                }
            }
            if !self.is_seen(&loaded) {
                self.note(&loaded);
                return loaded;
            }
        }
    }

    fn is_seen(&self, loaded: &Loaded) -> bool {
        self.seen == seen(loaded)
    }

    fn note(&mut self, loaded: &Loaded) {
        self.seen = seen(loaded);
    }

    /// The configuration in use says how often to look.
    pub(super) fn look_every(&mut self, interval: Duration) {
        self.interval = interval;
    }

    async fn read(&self) -> Loaded {
        let sources = self.sources.clone();
        let read = move || {
            let config = config::load(&sources).map_err(|error| error.to_string())?;
            let files = Files::of(&config);
            Ok((Box::new(config), files))
        };
        let read = self
            .reading
            .blocking(READ, "reading the configuration", read);
        read.await.unwrap_or_else(|late| Err(late.to_string()))
    }
}

fn seen(loaded: &Loaded) -> Seen {
    match loaded {
        Ok((config, files)) => Seen::Good(config.written.clone(), files.clone()),
        Err(error) => Seen::Bad(error.clone()),
    }
}
