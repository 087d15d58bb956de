//! The progress of event time, for one detection in one cluster.

use super::time::{BEGINNING, Micros};

/// How far event time has come.
///
/// Hits and ticks alone move it, so a log that is read again moves it in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventTime {
    /// Greatest event time of a hit.
    pub(super) max: Micros,
    /// Windows that end up to here are over, and a hit from before it is late. It never steps back.
    pub(super) watermark: Micros,
    /// Findings that no hit has joined for a window up to here are over. Like the watermark, but
    /// it steps back when hits come in behind what ticks had made of it, so that a backlog is
    /// closed by its own times and not after each of its hits.
    pub(super) closing_watermark: Micros,
    /// Whether hits came since the last tick.
    pub(super) is_busy: bool,
}

impl Default for EventTime {
    fn default() -> Self {
        Self {
            max: BEGINNING,
            watermark: BEGINNING,
            closing_watermark: BEGINNING,
            is_busy: false,
        }
    }
}

impl EventTime {
    /// A hit of this time has come.
    pub(super) fn advance_by_hit(&mut self, time: Micros, lateness: i64) {
        self.is_busy = true;
        self.max = self.max.max(time);
        self.closing_watermark = self.max.minus(lateness);
        self.watermark = self.watermark.max(self.closing_watermark);
    }

    /// This many microseconds have passed. They count only if no hits came meanwhile.
    pub(super) fn advance_by_tick(&mut self, elapsed: i64) {
        if !self.is_busy && self.watermark != BEGINNING {
            self.watermark = self.watermark.plus(elapsed);
            self.closing_watermark = self.closing_watermark.plus(elapsed);
        }
        self.is_busy = false;
    }
}
