//! Folds what the log says over and over. The first few warnings or errors of one message and
//! component are written, those that follow within the minute are counted and summed up.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::{
    Event, Level, Subscriber, error,
    field::{Field, Visit},
    warn,
};
use tracing_subscriber::layer::{Context, Layer};

use crate::clock::{self, Instant};

/// How long the first few count.
const PERIOD: Duration = Duration::from_mins(1);
/// So many are written in it. Above what parts of ours that mind themselves ever write.
const FIRST: u64 = 10;
/// Messages that are kept apart. What is beyond is one.
const KINDS: usize = 256;
/// How often it is looked what is to be summed up.
const LOOK: Duration = Duration::from_secs(5);
/// Bytes of a message that are kept.
const MESSAGE: usize = 200;

/// What makes two lines the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    level: Level,
    message: String,
    /// `exporter=splunk_hec`; empty when the line names none.
    component: String,
}

#[derive(Debug)]
struct Fold {
    since: Instant,
    count: u64,
    untold: u64,
}

/// What was folded. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    kinds: Arc<Mutex<BTreeMap<Kind, Fold>>>,
}

impl Folded {
    /// Whether a line is written.
    fn admits(&self, mut kind: Kind, now: Instant) -> bool {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS && !kinds.contains_key(&kind) {
            kinds.retain(|_, fold| fold.untold > 0 || !fold.is_over(now));
            if kinds.len() >= KINDS {
                "other messages".clone_into(&mut kind.message);
                kind.component.clear();
            }
        }
        let fold = kinds.entry(kind).or_insert(Fold {
            since: now,
            count: 0,
            untold: 0,
        });
        if fold.is_over(now) {
            fold.since = now;
            fold.count = 0;
        }
        fold.count += 1;
        let admitted = fold.count <= FIRST;
        fold.untold += u64::from(!admitted);
        admitted
    }

    /// Sums up what is over by now, or all there is.
    fn tell(&self, now: Instant, all: bool) {
        // Lines come back here, so nothing is held while they are written.
        for (kind, more) in self.take_due(now, all) {
            let Kind {
                level,
                message,
                component,
            } = kind;
            if level == Level::ERROR {
                error!(
                    more,
                    of = message,
                    component,
                    "more like this were left out"
                );
            } else {
                warn!(
                    more,
                    of = message,
                    component,
                    "more like this were left out"
                );
            }
        }
    }

    fn take_due(&self, now: Instant, all: bool) -> Vec<(Kind, u64)> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        kinds.retain(|kind, fold| {
            let over = fold.is_over(now);
            if (over || all) && fold.untold > 0 {
                due.push((kind.clone(), std::mem::take(&mut fold.untold)));
            }
            !over
        });
        due
    }

    /// Sums up now and then, until it is to stop, and then once more.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
            self.tell(clock::monotonic(), false);
            super::report_dropped();
        }
        self.tell(clock::monotonic(), true);
    }
}

impl Fold {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= PERIOD
    }
}

/// The layer in front of the log.
pub(super) struct Folding(pub(super) Folded);

impl<S: Subscriber> Layer<S> for Folding {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let level = *event.metadata().level();
        if level > Level::WARN {
            return true;
        }
        let mut kind = Kind {
            level,
            message: String::new(),
            component: String::new(),
        };
        event.record(&mut Reading(&mut kind));
        self.0.admits(kind, clock::monotonic())
    }
}

/// Reads from a line what kind it is.
struct Reading<'a>(&'a mut Kind);

impl Visit for Reading<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        // Writing into memory does not fail, and too long a text is cut on purpose.
        let _cut = match name {
            "message" => write!(Short(&mut self.0.message), "{value:?}"),
            // What was summed up is known by what it sums up.
            "exporter" | "receiver" | "processor" | "pipeline" | "extension" | "of"
            | "component" => {
                write!(Short(&mut self.0.component), "{name}={value:?}")
            }
            _ => return,
        };
    }
}

/// A text that takes no more than a message has.
struct Short<'a>(&'a mut String);

impl fmt::Write for Short<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.0.len() >= MESSAGE {
                return Err(fmt::Error);
            }
            self.0.push(letter);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Writes down what passes.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            struct All(String);
            impl Visit for All {
                fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                    write!(self.0, "{field}={value:?} ").unwrap();
                }
            }
            let mut all = All(String::new());
            event.record(&mut all);
            self.0.lock().unwrap().push(all.0);
        }
    }

    impl Lines {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[test]
    fn lines_beyond_the_first_few_are_summed_up() {
        let (folded, lines) = (Folded::default(), Lines::default());
        let log = tracing_subscriber::registry()
            .with(Folding(folded.clone()))
            .with(lines.clone());
        tracing::subscriber::with_default(log, || {
            for at in 0..47 {
                warn!(exporter = "a", at, "cannot do it");
                error!(exporter = "a", at, "cannot do it");
                tracing::info!(exporter = "a", at, "going on");
            }
            warn!(exporter = "b", "cannot do it");
            warn!("something else");
            let told = lines.take();
            let of = |text: &str| told.iter().filter(|line| line.contains(text)).count();
            assert_eq!(of("going on"), 47);
            assert_eq!(of("exporter=\"a\" at=9 "), 3);
            assert_eq!(of("exporter=\"a\" at=10 "), 1);
            assert_eq!((of("exporter=\"b\""), of("something else")), (1, 1));

            folded.tell(clock::monotonic(), false);
            assert_eq!(lines.take(), [""; 0], "the minute is not over");
            let later = clock::monotonic() + PERIOD;
            folded.tell(later, false);
            let told = lines.take();
            assert_eq!(told.len(), 2, "{told:?}");
            for line in told {
                assert!(
                    line.contains("more like this were left out")
                        && line.contains("more=37")
                        && line.contains("of=\"cannot do it\"")
                        && line.contains("exporter=\\\"a\\\""),
                    "{line}"
                );
            }
            folded.tell(later + PERIOD, true);
            assert_eq!(lines.take(), [""; 0], "all was told");
        });
    }

    #[test]
    fn messages_without_end_are_folded_too() {
        let folded = Folded::default();
        let now = clock::monotonic();
        let kind = |at: u32| Kind {
            level: Level::WARN,
            message: at.to_string(),
            component: String::new(),
        };
        let written = (0..1000).filter(|at| folded.admits(kind(*at), now)).count();
        assert_eq!(written, KINDS + usize::try_from(FIRST).unwrap());
        assert_eq!(folded.kinds.lock().unwrap().len(), KINDS + 1);
        assert!(folded.admits(kind(5000), now + PERIOD));
        assert_eq!(folded.kinds.lock().unwrap().len(), 2, "with what is untold");
    }
}
