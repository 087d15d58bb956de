//! The log throttle: of warnings and errors with one message and component the first
//! ten in a minute are written, the rest is counted in one line. It covers what libraries write too.

use std::{
    fmt::{self, Write as _},
    sync::LazyLock,
};

use tracing::{
    Event, Level, Subscriber, error,
    field::{Field, Visit},
    warn,
};
use tracing_subscriber::layer::{Context, Layer};

use crate::throttle::{Limits, Line, PERIOD, Throttle};

/// More than the parts with a throttle of their own write.
const LIMITS: Limits = Limits {
    period: PERIOD,
    lines: 10,
    keys: 256,
};
/// Bytes of a message that are kept.
const MESSAGE: usize = 200;

/// What makes two lines similar.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    level: Level,
    message: String,
    /// `exporter=splunk_hec`; empty when the line names none.
    component: String,
}

/// The layer that throttles the log.
#[derive(Clone, Debug)]
pub(super) struct Throttled(Throttle<Kind>);

/// There is one log in a process.
static LOG: LazyLock<Throttled> = LazyLock::new(Throttled::new);

impl Throttled {
    /// That of the log of the process.
    pub(super) fn log() -> Self {
        LOG.clone()
    }

    fn new() -> Self {
        Self(Throttle::with(LIMITS, |line: &Line<'_, Kind, ()>| {
            let suppressed = line.count;
            let (level, of, component) = match line.key {
                Some(kind) => (kind.level, &*kind.message, &*kind.component),
                None => (Level::WARN, "other messages", ""),
            };
            if level == Level::ERROR {
                error!(of, component, "{suppressed} similar messages suppressed");
            } else {
                warn!(of, component, "{suppressed} similar messages suppressed");
            }
        }))
    }
}

impl<S: Subscriber> Layer<S> for Throttled {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let level = *event.metadata().level();
        // What it says itself is limited already.
        if level > Level::WARN || event.metadata().target() == module_path!() {
            return true;
        }
        let mut kind = Kind {
            level,
            message: String::new(),
            component: String::new(),
        };
        event.record(&mut Reading(&mut kind));
        self.0.admits(kind)
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
            "exporter" | "receiver" | "processor" | "pipeline" | "extension" => {
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
    use std::sync::{Arc, Mutex};

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

    #[tokio::test(start_paused = true)]
    async fn lines_beyond_the_first_few_are_summed_up() {
        let (throttled, lines) = (Throttled::new(), Lines::default());
        let log = tracing_subscriber::registry()
            .with(throttled.clone())
            .with(lines.clone());
        let _log = tracing::subscriber::set_default(log);
        for at in 0..47 {
            warn!(exporter = "a", at, "cannot do it");
            error!(exporter = "a", at, "cannot do it");
            tracing::info!(exporter = "a", at, "going on");
        }
        warn!(exporter = "b", "cannot do it");
        warn!("something else");
        let written = lines.take();
        let of = |text: &str| written.iter().filter(|line| line.contains(text)).count();
        assert_eq!(of("going on"), 47);
        assert_eq!(of("exporter=\"a\" at=9 "), 3);
        assert_eq!(of("exporter=\"a\" at=10 "), 1);
        assert_eq!((of("exporter=\"b\""), of("something else")), (1, 1));

        tokio::time::advance(PERIOD).await;
        throttled.0.write_due(false);
        let written = lines.take();
        assert_eq!(written.len(), 2, "{written:?}");
        for line in written {
            assert!(
                line.contains("37 similar messages suppressed")
                    && line.contains("of=\"cannot do it\"")
                    && line.contains("exporter=\\\"a\\\""),
                "{line}"
            );
        }
        throttled.0.write_due(true);
        assert_eq!(lines.take(), [""; 0], "all was reported");
    }
}
