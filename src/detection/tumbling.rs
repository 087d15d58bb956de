//! Tumbling windows: those of one detection in one cluster.
//!
//! A window is evaluated once, when the watermark has passed its end: with a lateness of ten
//! minutes that is when Splunk's scheduled search would run. What comes later is not counted, as
//! it is not in Splunk.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    dedup::DedupSet,
    emission::{Draft, Origin},
    evidence::Evidence,
    finding::{Finding, FindingState},
    geo::{self, Locate},
    group::{GroupId, GroupKey},
    heap,
    hit::Hit,
    key_table::{KeyTable, Listing},
    limits::Limits,
    packed::Fields,
    session::Disposition,
    threshold,
    time::{BEGINNING, Micros},
};
use crate::rules::{
    model::{Aggregate, Dedup, GroupBy},
    settings::MissingCity,
};

/// What windows need to know of their detection and its bounds.
#[derive(Clone, Copy)]
pub(super) struct Params<'a> {
    pub(super) threshold: u64,
    /// Length of a window in microseconds.
    pub(super) length: i64,
    /// Start of one of them since 1970, in microseconds.
    pub(super) offset: i64,
    pub(super) aggregate: Aggregate,
    pub(super) dedup: Dedup,
    pub(super) group_by: &'a GroupBy,
    pub(super) locate: Option<&'a dyn Locate>,
    pub(super) limits: &'a Limits,
}

/// What is counted and gathered for a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) evidence: Evidence,
    /// Where a request counts once: those that were counted.
    pub(super) dedup: Option<Box<DedupSet>>,
    /// Where distinct values are counted: those up to one more than the threshold.
    pub(super) values: BTreeSet<u64>,
}

impl Group {
    /// What is counted, at most one more than the threshold.
    fn counted(&self, params: &Params<'_>) -> u64 {
        let counted = match params.aggregate {
            Aggregate::Events => self.evidence.count,
            Aggregate::Values => self.values.len() as u64,
        };
        counted.min(params.threshold.saturating_add(1))
    }

    /// Takes an event that names the group this many times; whether it counts.
    fn add(&mut self, event: &Event<'_>, times: u64, params: &Params<'_>) -> bool {
        let identity = event.hit.identity;
        if params.dedup == Dedup::Request {
            let set = self.dedup.get_or_insert_default();
            if set.contains(identity) {
                return false;
            }
            let forgotten = set.insert(identity, event.time, params.limits.hits_per_key);
            self.evidence.unverified += forgotten.requests;
        }
        if params.aggregate == Aggregate::Values && self.values.len() as u64 <= params.threshold {
            self.values.insert(threshold::value(identity));
        }
        let seen = (event.time, identity);
        self.evidence.add(&event.fields, seen, times, params.limits);
        true
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let dedup = self.dedup.as_ref().map_or(0, |set| {
            heap::block(size_of::<DedupSet>()) + set.heap_bytes()
        });
        self.evidence.heap_bytes() + dedup + heap::tree(self.values.len(), size_of::<u64>())
    }
}

/// The windows that are not evaluated yet.
///
/// Invariant: each group here belongs to a window that ends after `evaluated`.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    pub(super) groups: KeyTable<GroupId, Group>,
    /// End of the last window that was evaluated.
    pub(super) evaluated: Micros,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            groups: KeyTable::default(),
            evaluated: BEGINNING,
        }
    }
}

/// A hit with its time, in the window that starts at `start`.
struct Event<'h> {
    hit: &'h Hit,
    fields: Fields<'h>,
    time: Micros,
    start: Micros,
}

impl Windows {
    /// Takes an event. It is too late when its window was evaluated already.
    pub(super) fn observe(&mut self, hit: &Hit, time: Micros, params: &Params<'_>) -> Disposition {
        let start = window_start(time, params.length, params.offset);
        if start.plus(params.length) <= self.evaluated {
            return Disposition::TooLate;
        }
        let event = Event {
            hit,
            fields: Fields::of(hit),
            time,
            start,
        };
        let (mut is_counted, mut is_duplicate) = (false, false);
        let mut add = |text: &str, place, times| {
            let text: Box<str> = Box::from(text);
            let is_new = self.add(&event, GroupKey { text, place }, times, params);
            is_counted |= is_new;
            is_duplicate |= !is_new;
        };
        match params.group_by {
            GroupBy::Fields(_) => add(&hit.key, (None, None), 1),
            GroupBy::Sources { missing_city } => {
                let drop_missing_city = *missing_city == MissingCity::Drop;
                let mut sources: Vec<&str> = hit.sources.iter().map(String::as_str).collect();
                sources.sort_unstable();
                for named in sources.chunk_by(|one, other| one == other) {
                    if let Some(source) = named.first()
                        && let Some(place) = geo::place(source, params.locate, drop_missing_city)
                    {
                        add(source, place, named.len() as u64);
                    }
                }
            }
        }
        if is_duplicate && !is_counted {
            Disposition::Duplicate
        } else {
            Disposition::Counted
        }
    }

    fn add(&mut self, event: &Event<'_>, key: GroupKey, times: u64, params: &Params<'_>) -> bool {
        let id = GroupId {
            start: event.start,
            key: Arc::new(key),
        };
        let mut keyed = self.groups.entry(id, Group::default);
        let group = keyed.value();
        let is_counted = group.add(event, times, params);
        let listing = listing(event.start, group, params);
        keyed.list(listing);
        is_counted
    }

    /// Takes a group of the windows whose end the watermark has reached, in order; whether there
    /// was one. Once there is none, windows that have ended take no more events.
    pub(super) fn evaluate_next(
        &mut self,
        watermark: Micros,
        params: &Params<'_>,
        out: &mut Vec<Draft>,
    ) -> bool {
        let first = self.groups.first();
        if first.is_some_and(|group| group.start.plus(params.length) <= watermark) {
            return self.drain_first(params, out);
        }
        // Windows without events end as well.
        if watermark > BEGINNING.plus(params.length) {
            let start = window_start(watermark, params.length, params.offset);
            self.evaluated = self.evaluated.max(start);
        }
        false
    }

    /// Takes the first group of all windows, ended or not; whether there was one.
    pub(super) fn drain_first(&mut self, params: &Params<'_>, out: &mut Vec<Draft>) -> bool {
        let Some(id) = self.groups.first().cloned() else {
            return false;
        };
        if let Some(group) = self.groups.remove(&id)
            && group.counted(params) > params.threshold
        {
            let mut evidence = Finding::default();
            group.evidence.write(&mut evidence, params.limits);
            out.push(Draft {
                state: FindingState::Opened,
                origin: Origin::Tumbling {
                    end: id.start.plus(params.length),
                    group: id,
                },
                evidence,
            });
        }
        true
    }

    /// Evicts a group; the hits it had.
    pub(super) fn evict(&mut self, id: &GroupId) -> Option<u64> {
        let hits = self.groups.listed(id)?.priority.hits;
        self.groups.remove(id)?;
        Some(hits)
    }
}

/// Where a group is to be listed. Beyond the threshold no group is before another.
pub(super) fn listing(start: Micros, group: &Group, params: &Params<'_>) -> Listing {
    Listing {
        hits: group.counted(params),
        last: start,
        due_at: None,
        expires_at: None,
        heap_bytes: group.heap_bytes(),
    }
}

/// Start of the window that holds a time. Lengths are in microseconds.
pub(super) fn window_start(time: Micros, length: i64, offset: i64) -> Micros {
    let length = i128::from(length.max(1));
    let offset = i128::from(offset);
    let start = (i128::from(time.0) - offset).div_euclid(length) * length + offset;
    Micros(i64::try_from(start).unwrap_or(i64::MIN))
}
