//! What became of the events of a replay.

use std::fmt;

/// Events by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) sent: u64,
    pub(super) rejected: u64,
    pub(super) given_up: u64,
    /// Lines that were too long to be read.
    pub(super) left_out: u64,
    /// Events that were left when it was stopped.
    pub(super) unsent: u64,
    /// Whether there are more of them than were counted.
    pub(super) more: bool,
}

impl Count {
    /// Whether all were taken.
    pub(super) fn is_whole(&self) -> bool {
        self.rejected == 0 && self.given_up == 0 && self.left_out == 0 && self.unsent == 0
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            rejected,
            given_up,
            left_out,
            unsent,
            more,
        } = self;
        write!(
            f,
            "{sent} events sent, {rejected} rejected, {given_up} given up"
        )?;
        if *left_out > 0 {
            write!(f, ", {left_out} too long")?;
        }
        if *unsent > 0 {
            let least = if *more { "at least " } else { "" };
            write!(f, ", {least}{unsent} not sent")?;
        }
        Ok(())
    }
}
