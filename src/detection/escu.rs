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
    heap::{self, Counted},
    hit::Hit,
    limits::Limits,
    packed::Fields,
    ranking::{PLACE, Rank, Ranking, Slot},
    rows::window_start,
    rule::{MissingCity, Rule},
    time::{BEGINNING, Micros},
};

/// One row in the making: source address as logged, country and city.
pub(super) type GroupKey = (Box<str>, Place);

/// Where a group is, so that it can be found again among all.
pub(super) type GroupPlace = (Micros, Arc<GroupKey>);

/// The groups of one window.
type Groups = BTreeMap<Arc<GroupKey>, Box<Group>>;

/// A group and what it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Group {
    evidence: Evidence,
    /// Bytes on the heap, with its name and its places.
    bytes: Counted,
}

impl Group {
    fn rank(&self, start: Micros, rule: &Rule) -> Rank {
        // Beyond the threshold a group is as precious as it gets.
        (self.evidence.count.min(rule.threshold + 1), start)
    }

    fn heap_bytes(&self, (source, (country, city)): &GroupKey) -> usize {
        let place = [country, city].map(|name| name.as_ref().map_or(0, String::capacity));
        heap::block(size_of::<Self>())
            + self.evidence.heap_bytes()
            + heap::shared(size_of::<GroupKey>())
            + heap::block(source.len())
            + place.map(heap::block).iter().sum::<usize>()
            + heap::entry(size_of::<(Arc<GroupKey>, Box<Self>)>())
            + PLACE
    }
}

/// The windows of one cluster that are not evaluated yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Windows {
    open: BTreeMap<Micros, Groups>,
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

impl Windows {
    /// Takes an event; whether it counts. It does not when its window was evaluated already.
    pub(super) fn observe(
        &mut self,
        (cluster, ranking): (&Arc<str>, &mut Ranking),
        (hit, time): (&Hit, Micros),
        rule: &Rule,
        (locate, limits): (Option<&dyn Locate>, &Limits),
    ) -> bool {
        let start = window_start(time, rule);
        if start.plus(rule.window) <= self.evaluated {
            return false;
        }
        let drop_missing_city = rule.missing_city == MissingCity::Drop;
        let fields = Fields::of(hit);
        let mut sources: Vec<&str> = hit.sources.iter().map(String::as_str).collect();
        sources.sort_unstable();
        for named in sources.chunk_by(|one, other| one == other) {
            let Some(source) = named.first() else {
                continue;
            };
            let Some(place) = geo::place(source, locate, drop_missing_city) else {
                continue;
            };
            let groups = self.open.entry(start).or_default();
            let key = ((*source).into(), place);
            let id = match groups.get_key_value(&key) {
                Some((id, _)) => Arc::clone(id),
                None => Arc::new(key),
            };
            let group = groups.entry(Arc::clone(&id)).or_default();
            let (known, before) = (group.evidence.count > 0, group.rank(start, rule));
            let times = named.len() as u64;
            group
                .evidence
                .add(&fields, (time, hit.identity), times, limits);
            let bytes = group.heap_bytes(&id);
            ranking.resize(group.bytes.set(bytes));
            let now = group.rank(start, rule);
            if !known || now != before {
                let slot = Slot::Group((start, id));
                if known {
                    ranking.remove(before, cluster, slot.clone());
                }
                ranking.insert(now, cluster, slot);
            }
        }
        true
    }

    /// Takes a group of the windows whose end the watermark has reached, in order. Once there is
    /// none, windows that have ended take no more events.
    pub(super) fn take_due(
        &mut self,
        watermark: Micros,
        (cluster, ranking): (&Arc<str>, &mut Ranking),
        rule: &Rule,
    ) -> Option<(GroupPlace, Evidence)> {
        while let Some(window) = self.open.first_key_value()
            && window.0.plus(rule.window) <= watermark
        {
            if let Some(group) = self.take_first((cluster, ranking), rule) {
                return Some(group);
            }
        }
        // Windows without events end as well.
        if watermark > BEGINNING.plus(rule.window) {
            self.evaluated = self.evaluated.max(window_start(watermark, rule));
        }
        None
    }

    /// Takes the first group of all windows, ended or not; `None` when the first window had none,
    /// which is then gone.
    pub(super) fn take_first(
        &mut self,
        (cluster, ranking): (&Arc<str>, &mut Ranking),
        rule: &Rule,
    ) -> Option<(GroupPlace, Evidence)> {
        let mut window = self.open.first_entry()?;
        let start = *window.key();
        let Some((key, group)) = window.get_mut().pop_first() else {
            window.remove();
            return None;
        };
        let slot = Slot::Group((start, Arc::clone(&key)));
        ranking.remove(group.rank(start, rule), cluster, slot);
        ranking.resize((group.bytes.0, 0));
        Some(((start, key), group.evidence))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Gives up one group, which is in the ranking no more.
    pub(super) fn evict(&mut self, (start, key): &GroupPlace, ranking: &mut Ranking) {
        let Some(groups) = self.open.get_mut(start) else {
            return;
        };
        if let Some(group) = groups.remove(key) {
            ranking.resize((group.bytes.0, 0));
        }
        if groups.is_empty() {
            self.open.remove(start);
        }
    }
}
