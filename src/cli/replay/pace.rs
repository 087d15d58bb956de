//! When each event of a recording is due, and by how much all times are moved. Pure.

use std::{str::FromStr, time::Duration};

use crate::detection::time::Micros;

/// How fast a recording is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Speed {
    /// This many times as fast as it was recorded.
    Times(f64),
    /// As fast as it is taken.
    Full,
}

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "full" {
            return Ok(Self::Full);
        }
        let times = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
        times
            .ok()
            .filter(|times| (1e-3..=1e6).contains(times))
            .map(Self::Times)
            .ok_or("expected full, or a number from 0.001 to 1000000 such as 60")
    }
}

/// The pace of one replay. Two of the same settings say the same of the same events.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    speed: Speed,
    /// The longest wait between two events; none: without a bound.
    longest: Option<Duration>,
    /// The time of the recording that has been reached.
    reached: Option<Micros>,
    /// That time before a wait that was cut: the clock that made it may have been wrong.
    before_cut: Option<Micros>,
    /// When the last event was due.
    due: Duration,
}

/// When an event is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// How long after the start.
    pub(super) after: Duration,
    /// How long the wait for it would have been, where it was cut.
    pub(super) instead_of: Option<Duration>,
}

impl Pace {
    pub(super) fn new(speed: Speed, longest: Option<Duration>) -> Self {
        Self {
            speed,
            longest,
            reached: None,
            before_cut: None,
            due: Duration::ZERO,
        }
    }

    /// When an event of this time is due. One without a time, or of an earlier one than an event
    /// before it, is due with that.
    pub(super) fn due(&mut self, time: Option<Micros>) -> Due {
        let instead_of = match (self.speed, time) {
            (Speed::Times(times), Some(time)) => self.wait(times, time),
            _ => None,
        };
        Due {
            after: self.due,
            instead_of,
        }
    }

    fn wait(&mut self, times: f64, time: Micros) -> Option<Duration> {
        let reached = *self.reached.get_or_insert(time);
        let wait = wait(reached, time, times);
        let Some(longest) = self.longest.filter(|longest| wait > *longest) else {
            if time > reached {
                self.reached = Some(time);
                self.due = self.due.saturating_add(wait);
            } else if let (Some(before), Some(longest)) = (self.before_cut, self.longest)
                && wait_between(before, time, times) <= longest
            {
                // The event before was far ahead of the others, which go on.
                self.before_cut = None;
                self.reached = Some(time.max(before));
            }
            return None;
        };
        self.before_cut = Some(reached);
        self.reached = Some(time);
        self.due = self.due.saturating_add(longest);
        Some(wait)
    }
}

/// How long the way from one time to a later one takes.
#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of a recording are few enough for a double"
)]
fn wait(from: Micros, to: Micros, times: f64) -> Duration {
    let wait = to.0.saturating_sub(from.0).max(0) as f64 / 1e6 / times;
    Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
}

fn wait_between(one: Micros, other: Micros, times: f64) -> Duration {
    wait(one.min(other), one.max(other), times)
}

/// By how much all times of a recording are moved: one number, so that events are as far apart as
/// they were, and what belongs to one request still does. It is the largest with which no event
/// happens after it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shift {
    least: Option<i64>,
}

impl Shift {
    /// Takes an event that is due.
    pub(super) fn add(&mut self, time: Option<Micros>, due: Due) {
        if let Some(time) = time {
            let after = i64::try_from(due.after.as_micros()).unwrap_or(i64::MAX);
            let by = after.saturating_sub(time.0);
            self.least = Some(self.least.map_or(by, |least| least.min(by)));
        }
    }

    /// By how many microseconds, when it begins at this time. `None`: no event has a time.
    pub(super) fn from(self, began: Micros) -> Option<i64> {
        self.least.map(|least| began.0.saturating_add(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[expect(clippy::unnecessary_wraps, reason = "an event may have no time")]
    fn at(seconds: i64) -> Option<Micros> {
        Some(Micros(1_700_000_000_000_000 + seconds * 1_000_000))
    }

    fn seconds(pace: &mut Pace, times: &[Option<Micros>]) -> Vec<u64> {
        times
            .iter()
            .map(|time| pace.due(*time).after.as_secs())
            .collect()
    }

    #[test]
    fn events_are_due_as_they_were_recorded() {
        let times = [None, at(0), at(60), None, at(30), at(-5), at(3600)];
        let mut pace = Pace::new(Speed::Times(60.0), None);
        assert_eq!(seconds(&mut pace, &times), [0, 0, 1, 1, 1, 1, 60]);
        let mut full = Pace::new(Speed::Full, Some(MINUTE));
        assert_eq!(seconds(&mut full, &[at(0), at(3600)]), [0, 0]);
    }

    #[test]
    fn long_waits_are_cut() {
        let year = 365 * 86_400;
        let mut pace = Pace::new(Speed::Times(1.0), Some(MINUTE));
        let due: Vec<_> = [at(-year), at(0), at(60), at(121)]
            .map(|time| pace.due(time))
            .into();
        let seconds: Vec<_> = due.iter().map(|due| due.after.as_secs()).collect();
        assert_eq!(seconds, [0, 60, 120, 180]);
        let instead = due
            .iter()
            .map(|due| due.instead_of.map(|wait| wait.as_secs()));
        assert_eq!(
            instead.collect::<Vec<_>>(),
            [None, Some(year.unsigned_abs()), None, Some(61)]
        );
    }

    /// One clock that is ahead does not take the pace from the others.
    #[test]
    fn events_after_one_far_ahead_keep_their_pace() {
        let mut pace = Pace::new(Speed::Times(1.0), Some(MINUTE));
        let times = [at(0), at(32_400), at(1), at(5), at(32_406), at(6), at(8)];
        assert_eq!(seconds(&mut pace, &times), [0, 60, 60, 64, 124, 124, 126]);
    }

    #[test]
    fn no_event_happens_after_it_is_sent() {
        let began = Micros(1_800_000_000_000_000);
        let times = [at(10), at(0), None, at(9000), at(30), at(9010), at(9001)];
        for (speed, longest) in [
            (Speed::Full, None),
            (Speed::Times(0.5), None),
            (Speed::Times(0.5), Some(MINUTE)),
            (Speed::Times(1.0), None),
            (Speed::Times(1.0), Some(MINUTE)),
            (Speed::Times(60.0), None),
            (Speed::Times(60.0), Some(MINUTE)),
        ] {
            let (mut pace, mut shift) = (Pace::new(speed, longest), Shift::default());
            let mut due = Vec::new();
            for time in times {
                let one = pace.due(time);
                shift.add(time, one);
                due.extend(time.map(|time| (time, one)));
            }
            let by = shift.from(began).unwrap();
            let early: Vec<_> = due
                .iter()
                .map(|(time, due)| {
                    began.plus(i64::try_from(due.after.as_micros()).unwrap()).0 - time.plus(by).0
                })
                .collect();
            assert_eq!(early.iter().min(), Some(&0), "{speed:?} {longest:?}");
        }
        assert_eq!(Shift::default().from(began), None);
    }

    #[test]
    fn speeds_are_read() {
        for (text, wanted) in [
            ("1", Ok(Speed::Times(1.0))),
            ("60x", Ok(Speed::Times(60.0))),
            ("0.5", Ok(Speed::Times(0.5))),
            ("full", Ok(Speed::Full)),
        ] {
            assert_eq!(text.parse(), wanted, "{text}");
        }
        for text in ["", "0", "-1", "NaN", "inf", "fast", "1e9"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
