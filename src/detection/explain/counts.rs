//! How many were counted before and after each hit of a key, in order of event time.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    detection::{hit::Identity, threshold, time::Micros},
    rules::model::{Aggregate, Detection, Window},
};

/// The counts of the hits of one key.
pub(super) struct Counts {
    /// Before and after each, by its number.
    pub(super) by_hit: Vec<(u64, u64)>,
    pub(super) most: u64,
    pub(super) alert_at: Option<Micros>,
}

/// Moves a window over hits in order of time.
pub(super) fn counts(hits: &[(Micros, Identity)], detection: &Detection) -> Counts {
    let length = match detection.window {
        Window::Session { length } => length,
        Window::Tumbling { .. } => i64::MAX,
    };
    let is_distinct = detection.aggregate == Aggregate::Values;
    let mut order: Vec<usize> = (0..hits.len()).collect();
    order.sort_by_key(|at| hits.get(*at));
    let mut counts = Counts {
        by_hit: vec![(0, 0); hits.len()],
        most: 0,
        alert_at: None,
    };
    let mut values: BTreeMap<u64, u64> = BTreeMap::new();
    let mut window: VecDeque<(Micros, Identity)> = VecDeque::new();
    for at in order {
        let Some((time, identity)) = hits.get(at).copied() else {
            continue;
        };
        while let Some((old, gone)) = window.front().copied()
            && old <= time.minus(length)
        {
            window.pop_front();
            if let Some(count) = values.get_mut(&threshold::value(gone)) {
                *count -= 1;
                if *count == 0 {
                    values.remove(&threshold::value(gone));
                }
            }
        }
        let number = |window: &VecDeque<_>, values: &BTreeMap<u64, u64>| {
            (if is_distinct {
                values.len()
            } else {
                window.len()
            }) as u64
        };
        let before = number(&window, &values);
        window.push_back((time, identity));
        *values.entry(threshold::value(identity)).or_default() += 1;
        let after = number(&window, &values);
        if let Some(place) = counts.by_hit.get_mut(at) {
            *place = (before, after);
        }
        counts.most = counts.most.max(after);
        if after > detection.threshold && counts.alert_at.is_none() {
            counts.alert_at = Some(time);
        }
    }
    counts
}
