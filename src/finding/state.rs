//! The states of a finding.

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
