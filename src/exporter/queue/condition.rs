//! Whether an exporter delivers, as far as it has tried.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::{self, Instant};

/// How long after the last finding that was given up an exporter counts as down. There is an end to
/// it because a service that is not ready may be sent no logs, and so have nothing to try again with.
const FORGET: Duration = Duration::from_mins(5);

/// The condition of one exporter.
#[derive(Debug, Default)]
pub(super) struct Condition(Mutex<Now>);

#[derive(Clone, Copy, Debug, Default)]
enum Now {
    #[default]
    Up,
    /// Findings are tried again and again.
    Failing,
    /// Findings were given up, for a reason that is not their own.
    GaveUp(Instant),
}

impl Condition {
    pub(super) fn is_up(&self) -> bool {
        match *self.now() {
            Now::Up => true,
            Now::Failing => false,
            Now::GaveUp(at) => clock::monotonic().saturating_duration_since(at) >= FORGET,
        }
    }

    pub(super) fn accepted(&self) {
        *self.now() = Now::Up;
    }

    pub(super) fn failing(&self) {
        *self.now() = Now::Failing;
    }

    pub(super) fn gave_up(&self) {
        *self.now() = Now::GaveUp(clock::monotonic());
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failing_lasts_and_what_was_given_up_is_forgotten() {
        let condition = Condition::default();
        assert!(condition.is_up());
        condition.failing();
        tokio::time::advance(2 * FORGET).await;
        assert!(!condition.is_up());
        condition.gave_up();
        tokio::time::advance(FORGET / 2).await;
        assert!(!condition.is_up());
        tokio::time::advance(FORGET / 2).await;
        assert!(condition.is_up());
        condition.gave_up();
        condition.accepted();
        assert!(condition.is_up());
    }
}
