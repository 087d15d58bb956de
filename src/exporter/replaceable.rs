//! An exporter that is replaced while it works, when the configuration is loaded again.
//!
//! The attempt under way ends with the settings that it began with. The next one has the new ones,
//! and is made at once if it was waited for: what was refused for a wrong token is accepted with the
//! right one, without a wait and without a loss.

use std::{
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::{Exporter, Outcome, retry::RetryConfig, shutdown::Shutdown};
use crate::detection::Finding;

/// An exporter that is ready to work, and how its failed attempts are repeated.
pub struct Ready {
    exporter: Box<dyn AnyExporter>,
    retry: RetryConfig,
}

impl Ready {
    /// An exporter with its `retry_on_failure`.
    pub fn new(exporter: impl Exporter, retry: RetryConfig) -> Self {
        Self {
            exporter: Box::new(exporter),
            retry,
        }
    }
}

/// An exporter in whose place another may be put.
pub struct Replaceable {
    current: Ready,
    next: Arc<Next>,
    shutdown: Option<Shutdown>,
}

/// Puts other exporters in the place of one.
#[derive(Clone)]
pub struct Replace(Arc<Next>);

/// What takes the place of an exporter at its next attempt.
#[derive(Default)]
struct Next {
    ready: Mutex<Option<Ready>>,
    is_there: Notify,
}

impl Next {
    /// What takes the place of this one, unless that still writes to the file of both: two that write
    /// at a time would write some findings twice, and tear lines.
    fn take(&self, current: &Ready) -> Option<Ready> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, next) = (&current.exporter, &ready.as_ref()?.exporter);
        if before.is_writing() && before.file() == next.file() {
            return None;
        }
        ready.take()
    }
}

/// An exporter, and what replaces it.
pub fn replaceable(first: Ready) -> (Replaceable, Replace) {
    let next = Arc::new(Next::default());
    let replaceable = Replaceable {
        current: first,
        next: Arc::clone(&next),
        shutdown: None,
    };
    (replaceable, Replace(next))
}

impl Replace {
    /// The next attempt is made with this exporter, unless another one comes before it.
    pub fn with(&self, ready: Ready) {
        let next = self.0.ready.lock();
        *next.unwrap_or_else(PoisonError::into_inner) = Some(ready);
        self.0.is_there.notify_one();
    }
}

impl Replaceable {
    /// Whether another one has taken the place.
    fn install(&mut self) -> bool {
        let Some(mut ready) = self.next.take(&self.current) else {
            return false;
        };
        if let Some(shutdown) = &self.shutdown {
            ready.exporter.attach(shutdown);
        }
        self.current = ready;
        true
    }
}

impl Exporter for Replaceable {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        self.install();
        self.current.exporter.send(batch).await
    }

    fn goes_out(&self, finding: &Arc<Finding>) -> bool {
        self.current.exporter.goes_out(finding)
    }

    fn attach(&mut self, shutdown: &Shutdown) {
        self.shutdown = Some(shutdown.clone());
        self.current.exporter.attach(shutdown);
    }

    async fn changed(&mut self) {
        // A notice may be of one that an attempt has installed.
        while !self.install() {
            self.next.is_there.notified().await;
        }
    }

    fn retry(&self) -> Option<&RetryConfig> {
        Some(&self.current.retry)
    }
}

/// An attempt under way.
type Sending<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// An exporter of any type.
trait AnyExporter: Send {
    fn send<'a>(&'a mut self, batch: &'a [Arc<Finding>]) -> Sending<'a>;
    fn goes_out(&self, finding: &Arc<Finding>) -> bool;
    fn attach(&mut self, shutdown: &Shutdown);
    fn file(&self) -> Option<&Path>;
    fn is_writing(&self) -> bool;
}

impl<E: Exporter> AnyExporter for E {
    fn send<'a>(&'a mut self, batch: &'a [Arc<Finding>]) -> Sending<'a> {
        Box::pin(Exporter::send(self, batch))
    }

    fn goes_out(&self, finding: &Arc<Finding>) -> bool {
        Exporter::goes_out(self, finding)
    }

    fn attach(&mut self, shutdown: &Shutdown) {
        Exporter::attach(self, shutdown);
    }

    fn file(&self) -> Option<&Path> {
        Exporter::file(self)
    }

    fn is_writing(&self) -> bool {
        Exporter::is_writing(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;
    use crate::{
        clock,
        exporter::queue::{self, QueueConfig},
    };

    /// Refuses or accepts everything, and writes down who was asked.
    struct Answers(&'static str, bool, Arc<Mutex<Vec<&'static str>>>);

    impl Exporter for Answers {
        async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
            let mut asked = self.2.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(self.0);
            if self.1 {
                Outcome::Accepted(batch.len())
            } else {
                Outcome::Refused {
                    reason: "token".to_owned(),
                    after: Some(Duration::from_hours(1)),
                }
            }
        }
    }

    /// Hangs for a number of attempts in its file.
    struct Hangs(&'static str, usize, Arc<Mutex<Vec<&'static str>>>);

    impl Exporter for Hangs {
        async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
            let mut asked = self.2.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(self.0);
            self.1 = self.1.saturating_sub(1);
            if self.1 > 0 {
                Outcome::retry("it hangs")
            } else {
                Outcome::Accepted(batch.len())
            }
        }

        fn file(&self) -> Option<&Path> {
            Some(Path::new(self.0.split_once(' ').unwrap().1))
        }

        fn is_writing(&self) -> bool {
            self.1 > 0
        }
    }

    /// A write that hangs is waited for when what follows writes to the same file, and only then.
    #[tokio::test]
    async fn two_do_not_write_to_one_file() {
        for (next, wanted) in [
            ("new /a", ["old /a", "old /a", "new /a"]),
            ("new /b", ["old /a", "new /b", "new /b"]),
        ] {
            let asked = Arc::default();
            let ready = |name, hangs| {
                let exporter = Hangs(name, hangs, Arc::clone(&asked));
                Ready::new(exporter, RetryConfig::default())
            };
            let (mut exporter, replace) = replaceable(ready("old /a", 2));
            let batch = [Arc::default()];
            Exporter::send(&mut exporter, &batch).await;
            replace.with(ready(next, 0));
            Exporter::send(&mut exporter, &batch).await;
            Exporter::send(&mut exporter, &batch).await;
            assert_eq!(*asked.lock().unwrap(), wanted);
        }
    }

    /// A batch that is refused waits for an hour. With the right token it leaves at once, and later
    /// ones go the same way.
    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_tried_at_once_with_new_settings() {
        let asked = Arc::default();
        let ready = |name, accepts| {
            let answers = Answers(name, accepts, Arc::clone(&asked));
            Ready::new(answers, RetryConfig::default())
        };
        let (exporter, replace) = replaceable(ready("old", false));
        let (queue, receiver) = queue::queue("test".to_owned(), QueueConfig::default());
        let shutdown = Shutdown::default();
        let run = queue::run(receiver, exporter, RetryConfig::default(), 10, shutdown);
        let mut running = JoinSet::new();
        running.spawn(run);
        let begin = clock::monotonic();
        queue.push(Arc::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        replace.with(ready("wrong", false));
        replace.with(ready("right", true));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(queue.counters().sent(), 1);
        assert!(begin.elapsed() < Duration::from_mins(1));
        drop(replace);
        queue.push(Arc::default()).await.unwrap();
        drop(queue);
        let totals = running.join_all().await;
        assert_eq!(totals.first().unwrap().sent, 2);
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(asked.first(), Some(&"old"));
        assert_eq!(asked.last(), Some(&"right"));
        assert_eq!(asked.iter().filter(|name| **name == "right").count(), 2);
    }
}
