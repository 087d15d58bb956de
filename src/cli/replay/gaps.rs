//! What people are told of the waits of a replay that were cut.

use std::time::Duration;

use indicatif::ProgressBar;

use super::pace::Due;

/// Lines of single waits.
const LINES: u64 = 5;

/// The waits that were cut.
#[derive(Debug)]
pub(super) struct Gaps {
    bar: ProgressBar,
    count: u64,
    all: Duration,
}

impl Gaps {
    pub(super) fn new(bar: ProgressBar) -> Self {
        Self {
            bar,
            count: 0,
            all: Duration::ZERO,
        }
    }

    /// Takes note of an event, and tells of its wait if that was cut to some seconds.
    pub(super) fn cut(&mut self, due: Due, longest: u64) {
        let Some(wait) = due.instead_of else { return };
        self.count += 1;
        self.all = self.all.saturating_add(wait);
        if self.count <= LINES {
            let wait = spoken(wait);
            self.bar.suspend(|| {
                tracing::warn!(
                    "a gap of the log, a wait of {wait}, was cut to {longest} s (--max-gap)"
                );
            });
        }
    }

    /// Tells how many there were, if not each had a line.
    pub(super) fn end(&self) {
        if self.count > LINES {
            let (count, all) = (self.count, spoken(self.all));
            tracing::warn!("{count} gaps of the log were cut, waits of {all} together");
        }
    }
}

/// A wait in its largest unit.
fn spoken(wait: Duration) -> String {
    let seconds = wait.as_secs();
    match seconds {
        0..600 => format!("{seconds} s"),
        600..36_000 => format!("{} min", seconds / 60),
        36_000..864_000 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
