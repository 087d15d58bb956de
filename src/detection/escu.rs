//! ESCU semantics as a stream: the tumbling windows of one cluster.
//!
//! Every event counts, every element of `sourceIPs` is a group, and a window is evaluated once,
//! when the watermark has passed its end: with the lateness of ten minutes that is when Splunk's
//! scheduled search would run. What comes later is not counted, as it is not in Splunk.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    evidence::Evidence,
    geo::{self, Locate, Place},
    hit::Hit,
    limits::Limits,
    rows::window_start,
    rule::{MissingCity, Rule},
    time::{BEGINNING, Micros},
};

/// One row in the making: source address as logged, country and city.
pub(super) type GroupKey = (Arc<str>, Place);

/// The windows of one cluster that are not evaluated yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Windows {
    open: BTreeMap<Micros, BTreeMap<GroupKey, Evidence>>,
    /// End of the last window that was evaluated.
    evaluated: Micros,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            evaluated: BEGINNING,
        }
    }
}

/// Where a group is, so that it can be found again among all.
pub(super) type GroupPlace = (Micros, GroupKey);

/// What a group takes beside its evidence: its name, and its places in trees.
const OVERHEAD: usize = 512;

/// A group that an event adds to.
pub(super) struct Touched {
    pub(super) group: GroupPlace,
    /// Its count before the event, and after.
    pub(super) before: u64,
    pub(super) after: u64,
    /// Bytes of memory it holds now, about.
    pub(super) held: usize,
}

impl Windows {
    /// Takes an event; the groups it adds to. `None` when its window was evaluated already.
    pub(super) fn observe(
        &mut self,
        hit: &Hit,
        time: Micros,
        rule: &Rule,
        (locate, limits): (Option<&dyn Locate>, &Limits),
    ) -> Option<Vec<Touched>> {
        let start = window_start(time, rule);
        if start.plus(rule.window) <= self.evaluated {
            return None;
        }
        let drop_missing_city = rule.missing_city == MissingCity::Drop;
        let mut touched: BTreeMap<GroupKey, Touched> = BTreeMap::new();
        for source in &hit.sources {
            let Some(place) = geo::place(source, locate, drop_missing_city) else {
                continue;
            };
            let key = (Arc::from(source.as_str()), place);
            let groups = self.open.entry(start).or_default();
            let group = groups.entry(key.clone()).or_default();
            let before = group.count;
            group.add(hit, time, limits);
            let entry = touched.entry(key.clone()).or_insert_with(|| Touched {
                group: (start, key),
                before,
                after: 0,
                held: 0,
            });
            entry.after = group.count;
            entry.held = OVERHEAD + group.held();
        }
        Some(touched.into_values().collect())
    }

    /// Takes the windows whose end the watermark has reached, in order.
    pub(super) fn take_due(
        &mut self,
        watermark: Micros,
        rule: &Rule,
    ) -> Vec<(Micros, BTreeMap<GroupKey, Evidence>)> {
        let mut due = Vec::new();
        while let Some(window) = self.open.first_entry()
            && window.key().plus(rule.window) <= watermark
        {
            due.push(window.remove_entry());
        }
        // Windows without events end as well.
        if watermark > BEGINNING.plus(rule.window) {
            self.evaluated = self.evaluated.max(window_start(watermark, rule));
        }
        due
    }

    /// Takes all windows, ended or not.
    pub(super) fn take_all(&mut self) -> Vec<(Micros, BTreeMap<GroupKey, Evidence>)> {
        std::mem::take(&mut self.open).into_iter().collect()
    }

    /// Gives up one group.
    pub(super) fn evict(&mut self, (start, key): &GroupPlace) {
        if let Some(groups) = self.open.get_mut(start) {
            groups.remove(key);
        }
    }
}
