//! Detections and their counters, in the state.

use super::super::engine::{Known, Stats};
use crate::proto::state as proto;

pub(super) fn detection_stats(known: &Known) -> proto::DetectionStats {
    let Known {
        rule_id,
        fingerprint,
        stats,
    } = known;
    let Stats {
        hits,
        duplicates,
        late,
        late_dropped,
        untimed,
        overflow,
        evicted,
        evicted_hits,
        successes,
        unwatched,
    } = *stats;
    proto::DetectionStats {
        rule_id: rule_id.clone(),
        fingerprint: fingerprint.clone(),
        hits,
        duplicates,
        late,
        late_dropped,
        untimed,
        overflow,
        evicted,
        evicted_hits,
        successes,
        unwatched,
    }
}

pub(super) fn known_detection(known: proto::DetectionStats) -> Known {
    Known {
        rule_id: known.rule_id,
        fingerprint: known.fingerprint,
        stats: Stats {
            hits: known.hits,
            duplicates: known.duplicates,
            late: known.late,
            late_dropped: known.late_dropped,
            untimed: known.untimed,
            overflow: known.overflow,
            evicted: known.evicted,
            evicted_hits: known.evicted_hits,
            successes: known.successes,
            unwatched: known.unwatched,
        },
    }
}
