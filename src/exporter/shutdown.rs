//! What a shutdown means to deliveries: no time to wait in, and an end.

use std::{
    future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::clock::{self, Instant};

/// How long a failed attempt waits for the next one during the shutdown, whatever the settings or
/// the receiver say: what is not delivered by its end is lost.
const HURRY: Duration = Duration::from_secs(1);

/// The shutdown as the service announces it to its exporters. Clones are the same one.
///
/// It begins, which wakes whatever waits for the next attempt. At its deadline the service abandons
/// what has not been delivered. A command that is interrupted [finishes](Shutdown::finish) instead.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    began: CancellationToken,
    end: Arc<OnceLock<End>>,
    abandon: CancellationToken,
    lost: Arc<AtomicU64>,
}

/// How long there is after the beginning.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Until then.
    At(Instant),
    /// For what is under way and one attempt more.
    LastAttempt,
}

/// How long a failed attempt waits for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryWait {
    /// No shutdown has begun: settings and the receiver decide.
    AsConfigured,
    /// For this time.
    Fixed(Duration),
    /// There is no next one.
    None,
}

/// One that only ever abandons.
impl From<CancellationToken> for Shutdown {
    fn from(abandon: CancellationToken) -> Self {
        Self {
            abandon,
            ..Self::default()
        }
    }
}

impl Shutdown {
    /// The shutdown begins, and exporters are abandoned after `left`. A second beginning changes
    /// nothing.
    pub fn begin(&self, left: Duration) {
        let _first = self.end.set(End::At(clock::monotonic() + left));
        self.began.cancel();
    }

    /// The shutdown begins, without a deadline: what waits is tried at once, and what is tried and
    /// fails is given up.
    pub fn finish(&self) {
        let _first = self.end.set(End::LastAttempt);
        self.began.cancel();
    }

    /// Exporters give up the remaining findings.
    pub fn abandon(&self) {
        self.abandon.cancel();
    }

    /// Findings that were given up since the shutdown began.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Counts findings that were given up, if it has begun.
    pub(super) fn count_lost(&self, findings: u64) {
        if self.has_begun() {
            self.lost.fetch_add(findings, Ordering::Relaxed);
        }
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.began.is_cancelled()
    }

    /// Whether exporters give up the remaining findings.
    pub fn is_abandoned(&self) -> bool {
        self.abandon.is_cancelled()
    }

    pub(super) async fn abandoned(&self) {
        self.abandon.cancelled().await;
    }

    /// The wait between attempts.
    pub(super) fn retry_wait(&self) -> RetryWait {
        match self.end.get() {
            Some(End::LastAttempt) => RetryWait::None,
            Some(End::At(_)) => RetryWait::Fixed(HURRY),
            None => RetryWait::AsConfigured,
        }
    }

    /// Waits for `wait`, or until the shutdown begins. If it has begun already, a second at most.
    pub async fn pause(&self, wait: Duration) {
        if self.has_begun() {
            tokio::time::sleep(wait.min(HURRY)).await;
            return;
        }
        tokio::select! {
            () = self.began.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Waits until the shutdown has begun and one part in `parts` of the time that was left then, or
    /// is left now, has passed. So whatever hangs leaves time for another attempt.
    pub async fn part_over(&self, parts: u32) {
        self.began.cancelled().await;
        match self.end.get() {
            Some(End::At(deadline)) => {
                let left = deadline.saturating_duration_since(clock::monotonic());
                tokio::time::sleep(left / parts.max(1)).await;
            }
            Some(End::LastAttempt) | None => future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn took(waiting: impl Future<Output = ()>) -> Duration {
        let start = clock::monotonic();
        waiting.await;
        clock::monotonic() - start
    }

    #[tokio::test(start_paused = true)]
    async fn its_beginning_ends_waits_and_shortens_them() {
        let (shutdown, ten) = (Shutdown::default(), Duration::from_secs(10));
        assert_eq!(took(shutdown.pause(ten)).await, ten);
        let begin = async {
            tokio::time::sleep(ten).await;
            shutdown.begin(2 * ten);
        };
        let hour = Duration::from_hours(1);
        assert_eq!(
            took(async { _ = tokio::join!(shutdown.pause(hour), begin) }).await,
            ten
        );
        assert_eq!(took(shutdown.pause(hour)).await, HURRY);
        let short = Duration::from_millis(3);
        assert_eq!(took(shutdown.pause(short)).await, short);
    }

    #[tokio::test(start_paused = true)]
    async fn each_attempt_leaves_time_for_another() {
        let shutdown = Shutdown::default();
        let never = tokio::time::timeout(Duration::from_hours(1), shutdown.part_over(2));
        assert!(never.await.is_err());
        shutdown.begin(Duration::from_secs(20));
        assert_eq!(took(shutdown.part_over(2)).await, Duration::from_secs(10));
        assert_eq!(took(shutdown.part_over(2)).await, Duration::from_secs(5));
        shutdown.begin(Duration::from_hours(1));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(took(shutdown.part_over(2)).await, Duration::ZERO);
    }
}
