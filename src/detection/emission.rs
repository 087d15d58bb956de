//! What leaves the engine.

use std::sync::Arc;

use super::{
    finding::{Finding, FindingState},
    group::GroupId,
    hit::Place,
    time::Micros,
};
use crate::rules::model::Detection;

/// One state of one finding, with the detection that made it.
#[derive(Clone, Debug)]
pub struct Emission {
    /// The detection that made it.
    pub detection: Arc<Detection>,
    /// What became of the finding.
    pub state: FindingState,
    /// The finding as it is now, whole.
    pub finding: Finding,
}

impl PartialEq for Emission {
    /// Detections are one when what shapes their state is.
    fn eq(&self, other: &Self) -> bool {
        let Self {
            detection,
            state,
            finding,
        } = self;
        detection.fingerprint == other.detection.fingerprint
            && *state == other.state
            && *finding == other.finding
    }
}

/// One state of one finding as windows know it, before it has its id and names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) state: FindingState,
    pub(super) origin: Origin,
    /// The evidence, written into a finding that is empty otherwise.
    pub(super) evidence: Finding,
}

/// Where a finding comes from: what its id is made of, besides the rule and the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    /// A session of a key.
    Session {
        key: Arc<str>,
        /// Event time and identity of the hit that opened it.
        opening: Place,
        /// Time of the first hit, in order of event time, that takes a window above the
        /// threshold.
        alert_at: Micros,
        /// Event time and identity of the hit that opened the finding which it continues.
        continues: Option<Place>,
    },
    /// A group of a tumbling window.
    Tumbling { group: GroupId, end: Micros },
}
