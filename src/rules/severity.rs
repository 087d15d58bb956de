//! The severity of a finding, from the level of its rule.

use std::str::FromStr;

/// Level of a rule, in the words of Sigma. They are those of Splunk too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to act on by itself.
    Informational,
    /// Worth a look together with other findings.
    Low,
    /// Worth a look.
    Medium,
    /// To be looked at soon.
    High,
    /// To be looked at now.
    Critical,
}

/// A text that names no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected informational, low, medium, high or critical")]
pub struct UnknownSeverity;

impl FromStr for Severity {
    type Err = UnknownSeverity;

    fn from_str(name: &str) -> Result<Self, UnknownSeverity> {
        Ok(match name {
            "informational" => Self::Informational,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "critical" => Self::Critical,
            _ => return Err(UnknownSeverity),
        })
    }
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [
        Self::Informational,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    /// The one above it, if there is one.
    pub(crate) fn next(self) -> Self {
        let above = Self::ALL.into_iter().find(|other| *other > self);
        above.unwrap_or(self)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The risk score of a finding whose labels decide its severity.
    pub fn score(self) -> u32 {
        match self {
            Self::Informational => 0,
            Self::Low => 20,
            Self::Medium => 40,
            Self::High => 60,
            Self::Critical => 80,
        }
    }
}
