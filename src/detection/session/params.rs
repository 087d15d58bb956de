//! What a key needs to know of its detection, and what comes of a hit that is offered to it.

use super::super::{
    event_time::EventTime,
    evidence_log::EvidenceLog,
    finding::{Finding, FindingState},
    hit::Place,
    limits::Limits,
    packed::Fields,
    threshold::Alert,
    time::Micros,
};
use crate::rules::model::{Aggregate, Dedup, Detection, Emit};

/// What a key needs to know of its detection and its bounds.
#[derive(Clone, Copy, Debug)]
pub(in crate::detection) struct Params<'a> {
    pub(in crate::detection) threshold: u64,
    /// Length of a window in microseconds.
    pub(in crate::detection) window: i64,
    pub(in crate::detection) aggregate: Aggregate,
    pub(in crate::detection) dedup: Dedup,
    pub(in crate::detection) emit: Emit,
    pub(in crate::detection) limits: &'a Limits,
    /// The detection, whose labels decide how bad a finding is.
    pub(in crate::detection) detection: &'a Detection,
    /// How far back hits are remembered, in microseconds: at least as far as hits on time can
    /// reach.
    pub(in crate::detection) retention: i64,
    /// How far a hit may be behind the greatest event time and still be on time, in microseconds.
    pub(in crate::detection) lateness: i64,
}

impl Params<'_> {
    /// What makes a window an alert.
    pub(in crate::detection) fn alert(&self) -> Alert {
        Alert {
            aggregate: self.aggregate,
            threshold: self.threshold,
            window: self.window,
        }
    }

    /// Whether each match is a finding of its own.
    pub(in crate::detection) fn is_each_a_finding(&self) -> bool {
        self.emit == Emit::Each && self.threshold == 0
    }

    /// For how long of event time a hit that was forgotten may still matter to a window, in
    /// microseconds.
    pub(in crate::detection) fn error_span(&self) -> i64 {
        self.window.saturating_add(self.lateness)
    }
}

/// A hit that has come.
pub(in crate::detection) struct Arrival<'a> {
    pub(in crate::detection) place: Place,
    pub(in crate::detection) fields: Fields<'a>,
    /// The event time of its cluster, which it has moved already.
    pub(in crate::detection) event_time: &'a EventTime,
    /// Whether its identity tells it from other requests.
    pub(in crate::detection) is_distinct: bool,
    /// Hits that the key may have had before, and that were forgotten.
    pub(in crate::detection) error: u64,
}

/// Where a key puts what it does not keep itself.
pub(in crate::detection) struct Sink<'a> {
    /// The texts of unassigned hits.
    pub(in crate::detection) log: &'a mut EvidenceLog,
    /// New states of its findings.
    pub(in crate::detection) out: &'a mut Vec<Transition>,
}

/// A new state of the finding of a key, with what was gathered for it so far.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::detection) struct Transition {
    pub(in crate::detection) state: FindingState,
    /// Event time and identity of the hit that opened it.
    pub(in crate::detection) opening: Place,
    /// Time of the first hit, in order of event time, that takes a window above the threshold.
    pub(in crate::detection) alert_at: Micros,
    /// Event time and identity of the hit that opened the finding which it continues.
    pub(in crate::detection) continues: Option<Place>,
    /// The evidence, written into a finding that is empty otherwise.
    pub(in crate::detection) evidence: Finding,
}

/// What became of a hit that was offered to a key or a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) enum Disposition {
    /// It counts.
    Counted,
    /// Its request was counted before.
    Duplicate,
    /// It came too late to be counted exactly.
    TooLate,
    /// It counts, and the oldest unassigned hit gave way, for there are more than are kept.
    Overflow,
}
