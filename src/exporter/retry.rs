//! Whether and when a failed attempt is repeated.

use std::time::Duration;

use crate::clock;

/// `retry_on_failure` of an exporter, with the Collector's key names, and its defaults but for the
/// last.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryConfig {
    /// `enabled`: whether a failed attempt is repeated at all.
    pub enabled: bool,
    /// `initial_interval`: wait before the first repetition.
    pub initial_interval: Duration,
    /// `randomization_factor`: share by which a wait may vary either way.
    pub randomization_factor: f64,
    /// `multiplier`: growth of the wait.
    pub multiplier: f64,
    /// `max_interval`: longest wait, before it is varied.
    pub max_interval: Duration,
    /// `max_elapsed_time`: after this a batch is given up; zero: never. The Collector's default is
    /// five minutes; here what an operator can mend costs no finding.
    pub max_elapsed_time: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::ZERO,
        }
    }
}

/// What is known when an attempt has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Time since the first of them began.
    pub elapsed: Duration,
    /// How long the receiver asks to wait.
    pub after: Option<Duration>,
}

/// How long to wait before the next attempt, or `None` to give up.
///
/// The Collector's rule: the wait grows by `multiplier` up to `max_interval`, is then varied by
/// `random` (0 to 1, half is no change), and is never shorter than the receiver asks for; a wait
/// that would end after `max_elapsed_time` is not begun.
pub fn next_wait(config: &RetryConfig, failed: &Failed, random: f64) -> Option<Duration> {
    if !config.enabled {
        return None;
    }
    let wait = backoff(config, failed.attempts, random);
    let asked = failed.after.unwrap_or_default();
    if config.max_elapsed_time.is_zero() {
        return Some(wait.max(asked));
    }
    let left = config.max_elapsed_time.saturating_sub(failed.elapsed);
    // A receiver that asks for more time than there is gets what there is: a last attempt is worth
    // more than giving up at once.
    (wait <= left && !left.is_zero()).then(|| wait.max(asked.min(left)))
}

fn backoff(config: &RetryConfig, attempts: u32, random: f64) -> Duration {
    let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = config.initial_interval.as_secs_f64() * config.multiplier.max(1.0).powi(exponent);
    let capped = grown.min(config.max_interval.as_secs_f64());
    let share = config.randomization_factor.clamp(0.0, 1.0) * (2.0 * random.clamp(0.0, 1.0) - 1.0);
    // What no duration can hold comes from settings that are no numbers.
    Duration::try_from_secs_f64(capped * (1.0 + share)).unwrap_or(config.max_interval)
}

/// Attempts without progress. A batch that moves is not given up, however long it takes.
pub(super) struct RetryState {
    pub(super) attempts: u32,
    pub(super) since: clock::Instant,
}

impl RetryState {
    pub(super) fn begin() -> Self {
        Self {
            attempts: 0,
            since: clock::monotonic(),
        }
    }

    pub(super) fn failed(&mut self, after: Option<Duration>) -> Failed {
        self.attempts = self.attempts.saturating_add(1);
        Failed {
            attempts: self.attempts,
            elapsed: clock::monotonic().saturating_duration_since(self.since),
            after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn five_minutes() -> RetryConfig {
        RetryConfig {
            max_elapsed_time: secs(300),
            ..RetryConfig::default()
        }
    }

    fn failed(attempts: u32) -> Failed {
        Failed {
            attempts,
            ..Failed::default()
        }
    }

    #[test]
    fn waits_grow_up_to_the_longest_and_vary() {
        let config = RetryConfig::default();
        let waits: Vec<f64> = [1, 2, 3, 4, 5, 6, u32::MAX]
            .map(|attempts| {
                next_wait(&config, &failed(attempts), 0.5)
                    .unwrap()
                    .as_secs_f64()
            })
            .to_vec();
        assert_eq!(waits, [5.0, 7.5, 11.25, 16.875, 25.312_5, 30.0, 30.0]);
        assert_eq!(
            next_wait(&config, &failed(1), 0.0),
            Some(Duration::from_millis(2500))
        );
        assert_eq!(
            next_wait(&config, &failed(1), 1.0),
            Some(Duration::from_millis(7500))
        );
        assert_eq!(next_wait(&config, &failed(9), 1.0), Some(secs(45)));
    }

    #[test]
    fn the_receiver_may_ask_for_more_never_for_less() {
        let asked = |after| Failed {
            after: Some(after),
            ..failed(1)
        };
        let config = five_minutes();
        assert_eq!(next_wait(&config, &asked(secs(60)), 0.5), Some(secs(60)));
        assert_eq!(next_wait(&config, &asked(secs(1)), 0.5), Some(secs(5)));
        // More than there is time for: one last attempt when it is over, not none at all.
        assert_eq!(next_wait(&config, &asked(secs(600)), 0.5), Some(secs(300)));
        let last = Failed {
            elapsed: secs(300),
            ..asked(secs(600))
        };
        assert_eq!(next_wait(&config, &last, 0.5), None);
    }

    #[test]
    fn gives_up_in_time_or_never() {
        let late = |elapsed| Failed {
            elapsed,
            ..failed(1)
        };
        assert_eq!(
            next_wait(&RetryConfig::default(), &late(Duration::MAX), 0.5),
            Some(secs(5)),
            "without end by default"
        );
        let mut config = five_minutes();
        assert_eq!(next_wait(&config, &late(secs(295)), 0.5), Some(secs(5)));
        assert_eq!(next_wait(&config, &late(secs(296)), 0.5), None);
        assert_eq!(next_wait(&config, &late(Duration::MAX), 0.5), None);
        config.max_elapsed_time = Duration::ZERO;
        assert_eq!(next_wait(&config, &late(Duration::MAX), 0.5), Some(secs(5)));
        config.enabled = false;
        assert_eq!(next_wait(&config, &failed(1), 0.5), None);
    }

    #[test]
    fn odd_settings_do_not_panic() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300] {
            let config = RetryConfig {
                multiplier: odd,
                randomization_factor: odd,
                max_elapsed_time: Duration::ZERO,
                ..RetryConfig::default()
            };
            let wait = next_wait(&config, &failed(7), odd).unwrap();
            assert!(wait <= secs(60), "{odd}: {wait:?}");
        }
    }
}
