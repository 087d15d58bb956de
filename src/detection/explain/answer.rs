//! What `explain` answers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    detection::{rows::stamp_or_null, time::Micros},
    rules::trace::Traced,
};

/// One record of the subject.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The file and line that it is in.
    pub place: String,
    /// Event time.
    #[serde(serialize_with = "stamp_or_null")]
    pub time: Option<Micros>,
    /// The fields that people look at, by path.
    pub fields: BTreeMap<&'static str, String>,
    /// `sourceIPs` as logged, the last 16.
    pub sources: Vec<String>,
    /// What became of it, by detection.
    pub outcomes: Vec<Outcome>,
}

/// What became of a record in one detection.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Name of the detection.
    pub detection: String,
    /// What became of it.
    pub result: Verdict,
    /// Why, for people.
    pub why: String,
    /// What it counts for, if it matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What was counted in its window before it, in order of event time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The same with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Each test of the detection.
    pub tests: Vec<Tried>,
    /// Where its count is to be found.
    #[serde(skip)]
    pub(super) hit: Option<(usize, usize)>,
}

/// A test and whether it holds.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// The rule.
    pub rule: String,
    /// The test, with its line in the rule.
    pub test: String,
    /// Values that the event has.
    pub values: Vec<String>,
    /// Whether it holds.
    pub holds: bool,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It counts.
    Counted,
    /// It repeats a request that counts already.
    Repeat,
    /// It matches, but counts for another address.
    OtherAddress,
    /// It matches, but has no readable time.
    Untimed,
    /// It matches, but there are more hits than are kept.
    LeftOut,
    /// It does not match.
    NoMatch,
    /// It matches, and an exclusion leaves it out.
    Excluded,
}

/// What one detection says of the subject.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the detection.
    pub detection: String,
    /// Records that match.
    pub matching: u64,
    /// Requests that count.
    pub counted: u64,
    /// Records that repeat one of them.
    pub repeats: u64,
    /// The most that was counted in one window.
    pub max_in_window: u64,
    /// A window with more than this makes a finding.
    pub threshold: u64,
    /// Length of a window in seconds.
    pub window_seconds: f64,
    /// Event time of the request that takes a window above the threshold.
    #[serde(serialize_with = "stamp_or_null")]
    pub alert_at: Option<Micros>,
    /// Why records do not count.
    pub reasons: Vec<Reason>,
    /// The answer, for people.
    pub conclusion: String,
}

/// Why some records do not count.
#[derive(Clone, Debug, Serialize)]
pub struct Reason {
    /// The reason, for people.
    pub why: String,
    /// How many they are.
    pub count: u64,
    /// The first of them.
    pub example: Record,
}

impl From<Traced> for Tried {
    fn from(traced: Traced) -> Self {
        let Traced {
            rule,
            test,
            values,
            holds,
        } = traced;
        Self {
            rule,
            test,
            values,
            holds,
        }
    }
}
