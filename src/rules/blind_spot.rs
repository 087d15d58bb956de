//! Blind spots: rules about what arrives, or does not, instead of about single events.

use std::str::FromStr;

/// A rule about the feed of a cluster. Its window and its threshold are those of the detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlindSpot {
    /// What it looks for.
    pub kind: BlindSpotKind,
    /// From which share on, in percent, where the kind looks at a share.
    pub percent: u64,
}

/// What a blind spot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlindSpotKind {
    /// No audit event arrives from a cluster that has sent more of them than the threshold.
    Silence,
    /// More requests than the threshold were answered with 401 and none with 403, for a window.
    UnauthorizedOnly,
    /// More audit events than the threshold were cut on their way, within a window.
    Truncation,
    /// The times of the events differ from those of their arrival, for a window.
    ClockSkew,
    /// More keys than the threshold were evicted within a window.
    Flood,
    /// More clusters send than are kept apart, or more have blind spots than are reported.
    ClusterNames,
}

impl BlindSpotKind {
    /// All of them, in the order in which they are judged.
    pub const ALL: [Self; 6] = [
        Self::Silence,
        Self::UnauthorizedOnly,
        Self::Truncation,
        Self::ClockSkew,
        Self::Flood,
        Self::ClusterNames,
    ];

    /// As a rule file names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::UnauthorizedOnly => "unauthorized_only",
            Self::Truncation => "truncation",
            Self::ClockSkew => "clock_skew",
            Self::Flood => "flood",
            Self::ClusterNames => "cluster_names",
        }
    }
}

/// A text that names no kind of blind spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected silence, unauthorized_only, truncation, clock_skew, flood or cluster_names")]
pub struct UnknownBlindSpot;

impl FromStr for BlindSpotKind {
    type Err = UnknownBlindSpot;

    fn from_str(name: &str) -> Result<Self, UnknownBlindSpot> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == name)
            .ok_or(UnknownBlindSpot)
    }
}
