//! When each event of a recording is due, and by how much its times are moved. Pure.

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

/// The pace of one replay.
#[derive(Debug)]
pub(super) struct Pace {
    speed: Speed,
    /// Time of the first event that has one.
    first: Option<Micros>,
    /// When the last event was due.
    due: Duration,
}

impl Pace {
    pub(super) fn new(speed: Speed) -> Self {
        Self {
            speed,
            first: None,
            due: Duration::ZERO,
        }
    }

    /// How long after the start an event of this time is due. One without a time, or of an earlier
    /// one than the event before it, is due with that.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a recording are few enough for a double"
    )]
    pub(super) fn due(&mut self, time: Option<Micros>) -> Duration {
        if let (Speed::Times(times), Some(time)) = (self.speed, time) {
            let first = *self.first.get_or_insert(time);
            let after = time.0.saturating_sub(first.0).max(0) as f64 / 1e6 / times;
            let after = Duration::try_from_secs_f64(after).unwrap_or(Duration::MAX);
            self.due = self.due.max(after);
        }
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_as_they_were_recorded() {
        let at = |seconds: i64| Some(Micros(1_700_000_000_000_000 + seconds * 1_000_000));
        let mut pace = Pace::new(Speed::Times(60.0));
        let due: Vec<_> = [None, at(0), at(60), None, at(30), at(-5), at(3600)]
            .map(|time| pace.due(time).as_secs())
            .to_vec();
        assert_eq!(due, [0, 0, 1, 1, 1, 1, 60]);
        let mut full = Pace::new(Speed::Full);
        assert!(
            [at(0), at(3600)]
                .iter()
                .all(|time| full.due(*time).is_zero())
        );
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
