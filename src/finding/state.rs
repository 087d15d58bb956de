//! The states of a finding.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What became of a finding, when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FindingState {
    /// A window has come above the threshold.
    Opened,
    /// It has grown.
    Updated,
    /// Nothing has joined it for the length of a window, or it was evicted.
    Closed,
}

impl FindingState {
    /// All of them, in the order of a finding's life.
    pub const ALL: [Self; 3] = [Self::Opened, Self::Updated, Self::Closed];

    /// As the `state` of a finding names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Closed => "closed",
        }
    }
}

/// A text that names no state of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected opened, updated or closed")]
pub struct UnknownState;

impl FromStr for FindingState {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.as_str() == name).ok_or(UnknownState)
    }
}

/// Why a finding was closed, as its `close_reason` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseReason {
    /// No hit has joined it for a window.
    Quiet,
    /// It is 24 hours old; the next one continues it.
    RolledOver,
    /// Late hits joined it to the finding before it.
    Merged,
    /// The state was full, and it was the weakest.
    Evicted,
    /// The process ends, and its state cannot be kept.
    Shutdown,
}

impl CloseReason {
    /// As `close_reason` of a finding names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::RolledOver => "rolled_over",
            Self::Merged => "merged",
            Self::Evicted => "evicted",
            Self::Shutdown => "shutdown",
        }
    }
}
