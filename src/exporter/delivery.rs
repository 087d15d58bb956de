//! The delivery of one batch: attempts until each of its items is accepted or given up.
//!
//! The one loop behind everything that is sent and repeated: findings of the exporters' queues, and
//! the audit events of `replay`. What differs, counting and logging, is an [`Observer`].

mod outcome;

pub use super::retry::{Failed, RetryConfig, next_wait};

use super::{
    Exporter, Outcome,
    retry::RetryState,
    shutdown::{RetryWait, Shutdown},
};
use crate::{clock::Instant, telemetry::traces::Span};
use outcome::{describe, possible};

/// Why an attempt was cut short.
const CUT: &str = "there was no answer within half of the time that the shutdown had left";

/// Why what is left at the end of the shutdown is given up.
pub const ABANDONED: &str = "there was no time left to deliver them before shutdown";

/// The items at hand, and since when each of them waits.
#[derive(Debug)]
pub struct Batch<T> {
    items: Vec<T>,
    since: Vec<Instant>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            since: Vec::new(),
        }
    }
}

impl<T> Batch<T> {
    /// Adds an item that waits since then.
    pub fn push(&mut self, item: T, since: Instant) {
        self.items.push(item);
        self.since.push(since);
    }

    /// Items in it.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The first items, `most` at most.
    fn front(&self, most: usize) -> &[T] {
        self.items.get(..most.min(self.len())).unwrap_or_default()
    }

    fn remove_front(&mut self, count: usize) {
        let count = count.min(self.len());
        self.items.drain(..count);
        self.since.drain(..count);
    }

    fn remove(&mut self, index: usize) {
        if index < self.len() {
            self.items.remove(index);
            self.since.remove(index);
        }
    }
}

/// Why items are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something is wrong with these items themselves.
    Item,
    /// The receiver does not take them, and they are not to wait any longer: others may fare the same.
    Receiver,
    /// The shutdown left no time for them.
    Abandoned,
}

/// A failed attempt that is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry<'a> {
    /// Why it failed. Holds no secret.
    pub reason: &'a str,
    /// Whether the receiver refuses what it is sent until an operator mends something.
    pub refused: bool,
    /// Attempts without progress so far, this one included.
    pub attempt: u32,
    /// How long until the next one.
    pub wait: std::time::Duration,
}

/// Who counts and logs what becomes of the items of a batch.
pub trait Observer<T> {
    /// An attempt with this number of items begins; `attempt` counts from 1 since there was
    /// progress. Its span, if spans are made.
    fn attempt(&mut self, _items: usize, _attempt: u32) -> Option<Span> {
        None
    }

    /// Items were accepted that waited since then, and this number of them went out.
    fn accepted(&mut self, since: &[Instant], out: usize);

    /// The receiver took a request in, but rejected some of these items for good, and does not say
    /// which.
    fn partly_accepted(&mut self, items: &[T], rejected: usize, reason: String);

    /// These items are given up.
    fn given_up(&mut self, items: &[T], cause: Cause, reason: String);

    /// An attempt failed and will be repeated.
    fn retrying(&mut self, retry: Retry<'_>);

    /// Since when the oldest item waits that is neither accepted nor given up; `None`: there is
    /// none.
    fn oldest(&mut self, _since: Option<Instant>) {}
}

/// What becomes of items that the receiver refuses until an operator mends something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusal {
    /// They are tried again, as everything that failed.
    #[default]
    Retry,
    /// They are given up at once: somebody sits before it, mends it, and begins anew.
    GiveUp,
}

/// How a batch is delivered.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `retry_on_failure`.
    pub retry: RetryConfig,
    /// What becomes of items that are refused.
    pub on_refusal: OnRefusal,
    /// What ends waits and attempts. While it runs, a wait for the next attempt ends at once,
    /// attempts follow each other within a second whatever the settings and the receiver say, and
    /// none takes more than half of the time that is left. When it abandons, what has not been
    /// accepted is given up.
    pub shutdown: Shutdown,
}

/// Delivers a batch, or as much of it as can be, and empties it.
pub async fn deliver<T>(
    batch: &mut Batch<T>,
    exporter: &mut impl Exporter<T>,
    policy: &Policy,
    observer: &mut impl Observer<T>,
) {
    // Grows smaller while requests are too large, and stays so until the batch is through.
    let mut most = usize::MAX;
    let mut state = RetryState::begin();
    while !batch.is_empty() {
        let before = batch.len();
        observer.oldest(batch.since.first().copied());
        let part = batch.front(most.max(1));
        let tried = part.len();
        let mut span = observer.attempt(tried, state.attempts.saturating_add(1));
        let retry = exporter.retry().unwrap_or(&policy.retry).clone();
        let outcome = attempt(exporter, part, &retry, &policy.shutdown).await;
        let outcome = possible(outcome, tried);
        if let Some(span) = &mut span {
            describe(span, &outcome);
        }
        drop(span);
        let is_refused = matches!(outcome, Outcome::Refused { .. });
        match outcome {
            Outcome::Accepted(count) => {
                let items = batch.front(count).iter();
                let out = items.filter(|item| exporter.goes_out(item)).count();
                observer.accepted(batch.since.get(..count).unwrap_or_default(), out);
                batch.remove_front(count);
            }
            Outcome::Partial {
                findings,
                rejected,
                reason,
            } => {
                observer.partly_accepted(batch.front(findings), rejected, reason);
                batch.remove_front(findings);
            }
            Outcome::TooLarge {
                findings: 0 | 1,
                reason,
            } => {
                observer.given_up(batch.front(1), Cause::Item, reason);
                batch.remove_front(1);
            }
            Outcome::Invalid { index, reason } => {
                let item = batch.items.get(index..=index).unwrap_or_default();
                observer.given_up(item, Cause::Item, reason);
                batch.remove(index);
            }
            Outcome::TooLarge { findings, .. } => {
                most = findings / 2;
                state = RetryState::begin();
            }
            Outcome::Refused { reason, .. } if policy.on_refusal == OnRefusal::GiveUp => {
                observer.given_up(batch.front(tried), Cause::Receiver, reason);
                batch.remove_front(tried);
            }
            Outcome::Refused { reason, after } | Outcome::Retry { reason, after } => {
                let failed = (state.failed(after), Reason(&reason, is_refused));
                match wait((&retry, &policy.shutdown), failed, exporter, observer).await {
                    Next::Again => {}
                    Next::Anew => state = RetryState::begin(),
                    Next::Never(cause) => {
                        observer.given_up(&batch.items, cause, reason);
                        batch.remove_front(usize::MAX);
                    }
                }
            }
        }
        if batch.len() < before {
            state = RetryState::begin();
        }
    }
    observer.oldest(None);
}

/// Why an attempt failed, and whether the receiver refuses.
struct Reason<'a>(&'a str, bool);

/// One attempt, unless the shutdown cuts it short.
async fn attempt<T>(
    exporter: &mut impl Exporter<T>,
    part: &[T],
    retry: &RetryConfig,
    shutdown: &Shutdown,
) -> Outcome {
    tokio::select! {
        biased;
        () = shutdown.abandoned() => Outcome::retry(ABANDONED),
        outcome = exporter.send(part) => outcome,
        // What hangs now may be answered when it is asked anew.
        () = shutdown.part_over(2), if retry.enabled => Outcome::retry(CUT),
    }
}

/// What follows a failed attempt.
enum Next {
    /// Another one.
    Again,
    /// The first with other settings.
    Anew,
    /// None, for this reason.
    Never(Cause),
}

/// Waits before the next attempt.
async fn wait<T>(
    (retry, shutdown): (&RetryConfig, &Shutdown),
    (failed, Reason(reason, refused)): (Failed, Reason<'_>),
    exporter: &mut impl Exporter<T>,
    observer: &mut impl Observer<T>,
) -> Next {
    if shutdown.is_abandoned() {
        return Next::Never(Cause::Abandoned);
    }
    let wait = match shutdown.retry_wait() {
        // In the shutdown there is nothing to be saved by giving up before its end.
        RetryWait::Fixed(wait) if retry.enabled => Some(wait),
        RetryWait::Fixed(_) | RetryWait::AsConfigured => next_wait(retry, &failed, rand::random()),
        RetryWait::None => None,
    };
    let Some(wait) = wait else {
        return Next::Never(Cause::Receiver);
    };
    observer.retrying(Retry {
        reason,
        refused,
        attempt: failed.attempts,
        wait,
    });
    tokio::select! {
        biased;
        () = shutdown.abandoned() => Next::Never(Cause::Abandoned),
        () = shutdown.pause(wait) => Next::Again,
        () = exporter.changed() => Next::Anew,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use super::*;
    use crate::clock;

    /// Answers by script, then says to try again.
    struct Scripted(VecDeque<Outcome>);

    impl Exporter<u32> for Scripted {
        async fn send(&mut self, _batch: &[u32]) -> Outcome {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.pop_front().unwrap_or(Outcome::retry("busy"))
        }
    }

    /// Writes down what becomes of items.
    #[derive(Default)]
    struct Noted(Vec<String>, Vec<bool>);

    impl Observer<u32> for Noted {
        fn accepted(&mut self, since: &[Instant], _out: usize) {
            self.0.push(format!("accepted {}", since.len()));
        }

        fn partly_accepted(&mut self, items: &[u32], rejected: usize, reason: String) {
            self.0
                .push(format!("rejected {rejected} of {items:?}: {reason}"));
        }

        fn given_up(&mut self, items: &[u32], cause: Cause, reason: String) {
            self.0.push(format!("lost {items:?} {cause:?}: {reason}"));
        }

        fn retrying(&mut self, retry: Retry<'_>) {
            let refused = if retry.refused { "refused " } else { "" };
            self.0.push(format!("{refused}retry {}", retry.attempt));
        }

        fn oldest(&mut self, since: Option<Instant>) {
            self.1.push(since.is_some());
        }
    }

    async fn delivered(script: impl IntoIterator<Item = Outcome>, shutdown: &Shutdown) -> Noted {
        delivered_with(OnRefusal::GiveUp, script, shutdown).await
    }

    async fn delivered_with(
        on_refusal: OnRefusal,
        script: impl IntoIterator<Item = Outcome>,
        shutdown: &Shutdown,
    ) -> Noted {
        let policy = Policy {
            retry: RetryConfig::default(),
            on_refusal,
            shutdown: shutdown.clone(),
        };
        let mut batch = Batch::default();
        for item in 1..=4 {
            batch.push(item, clock::monotonic());
        }
        let mut noted = Noted::default();
        let mut exporter = Scripted(script.into_iter().collect());
        deliver(&mut batch, &mut exporter, &policy, &mut noted).await;
        assert!(batch.is_empty());
        noted
    }

    #[tokio::test(start_paused = true)]
    async fn every_item_ends_in_one_of_the_ways() {
        let reason = || "why".to_owned();
        let script = [
            Outcome::retry("busy"),
            Outcome::TooLarge {
                findings: 4,
                reason: reason(),
            },
            Outcome::Accepted(1),
            Outcome::Invalid {
                index: 1,
                reason: reason(),
            },
            Outcome::Partial {
                findings: 1,
                rejected: 1,
                reason: reason(),
            },
            Outcome::Refused {
                reason: reason(),
                after: None,
            },
        ];
        assert_eq!(
            delivered(script, &Shutdown::default()).await.0,
            [
                "retry 1",
                "accepted 1",
                "lost [3] Item: why",
                "rejected 1 of [2]: why",
                "lost [4] Receiver: why",
            ]
        );
    }

    /// A day of refusals costs nothing, and what waits is known all the while.
    #[tokio::test(start_paused = true)]
    async fn what_is_refused_waits_until_it_is_mended() {
        let refused = || Outcome::Refused {
            reason: "token".to_owned(),
            after: None,
        };
        let mut script = vec![refused(); 3000];
        script.push(Outcome::Accepted(4));
        let start = clock::monotonic();
        let shutdown = Shutdown::default();
        let noted = delivered_with(OnRefusal::Retry, script, &shutdown).await;
        assert!(start.elapsed() > Duration::from_hours(20));
        assert_eq!(noted.0.len(), 3001);
        assert_eq!(noted.0.first().unwrap(), "refused retry 1");
        assert_eq!(noted.0.last().unwrap(), "accepted 4");
        assert_eq!(noted.1, [vec![true; 3001], vec![false]].concat());
    }

    /// The wait ends at once, one more attempt is made, and a second signal ends even that.
    #[tokio::test(start_paused = true)]
    async fn what_is_interrupted_is_tried_once_more() {
        let shutdown = Shutdown::default();
        let start = clock::monotonic();
        let interrupt = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            shutdown.finish();
        };
        let (noted, ()) = tokio::join!(delivered([], &shutdown), interrupt);
        assert_eq!(noted.0, ["retry 1", "lost [1, 2, 3, 4] Receiver: busy"]);
        assert_eq!(start.elapsed(), Duration::from_millis(2500));

        let shutdown = Shutdown::default();
        let interrupt = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            shutdown.finish();
            shutdown.abandon();
        };
        let (noted, ()) = tokio::join!(delivered([], &shutdown), interrupt);
        assert_eq!(
            noted.0,
            [format!("lost [1, 2, 3, 4] Abandoned: {ABANDONED}")]
        );
    }
}
