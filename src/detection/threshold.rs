//! When a window of hits is above the threshold: events or distinct values in it.

use std::{collections::BTreeSet, ops::Bound};

use super::{
    heap,
    hit::{Identity, Place},
    time::Micros,
};
use crate::rules::model::Aggregate;

/// What makes a window an alert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alert {
    /// What is counted.
    pub(super) aggregate: Aggregate,
    /// A window with more of it is one.
    pub(super) threshold: u64,
    /// Two hits share a window when they differ by less than this, in microseconds.
    pub(super) window: i64,
}

/// The value of a hit, where distinct values are counted.
pub(super) fn value(Identity(bytes): Identity) -> u64 {
    let value = bytes.last_chunk();
    value.map_or(0, |value| u64::from_le_bytes(*value))
}

/// The first of these hits, which are in order, that takes a window above the threshold.
pub(super) fn first_above(
    hits: impl Iterator<Item = Place> + Clone,
    alert: &Alert,
) -> Option<Place> {
    match alert.aggregate {
        Aggregate::Events => first_with(EventCount::default(), hits, alert),
        Aggregate::Values => first_with(ValueCount::default(), hits, alert),
    }
}

fn first_with(
    mut count: impl Count,
    hits: impl Iterator<Item = Place> + Clone,
    alert: &Alert,
) -> Option<Place> {
    let mut oldest = hits.clone().peekable();
    for hit in hits {
        count.add(hit.1);
        while let Some((_, old)) = oldest.next_if(|old| old.0 <= hit.0.minus(alert.window)) {
            count.remove(old);
        }
        if count.total() > alert.threshold {
            return Some(hit);
        }
    }
    None
}

/// What is counted in a window that slides over hits.
trait Count {
    fn add(&mut self, hit: Identity);
    fn remove(&mut self, hit: Identity);
    fn total(&self) -> u64;
}

#[derive(Default)]
struct EventCount(u64);

impl Count for EventCount {
    fn add(&mut self, _: Identity) {
        self.0 += 1;
    }

    fn remove(&mut self, _: Identity) {
        self.0 = self.0.saturating_sub(1);
    }

    fn total(&self) -> u64 {
        self.0
    }
}

/// Each value with the number of its hits, in order: at most one more than the threshold.
#[derive(Default)]
struct ValueCount(Vec<(u64, u32)>);

impl Count for ValueCount {
    fn add(&mut self, hit: Identity) {
        let value = value(hit);
        match self.0.binary_search_by_key(&value, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, hits)) = self.0.get_mut(at) {
                    *hits += 1;
                }
            }
            Err(at) => self.0.insert(at, (value, 1)),
        }
    }

    fn remove(&mut self, hit: Identity) {
        let value = value(hit);
        if let Ok(at) = self.0.binary_search_by_key(&value, |(known, _)| *known)
            && let Some((_, hits)) = self.0.get_mut(at)
        {
            *hits -= 1;
            if *hits == 0 {
                self.0.remove(at);
            }
        }
    }

    fn total(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Of very many hits those that distinct counts need: a few of each value in each window, however
/// often the value is repeated.
///
/// A hit between two others of its value that differ by less than the length of a window is left
/// out: a window that holds it holds one of them, so it changes no count, and no window comes
/// above the threshold by it.
///
/// Invariant: each hit that is left out has such neighbours among those that are kept. When
/// a neighbour is left out later, its own neighbours are such for all hits between them. When the
/// first hit goes, the next of its value takes its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ValueIndex {
    all: Ordered,
    kept: Ordered,
    kept_by_time: BTreeSet<Place>,
}

/// Hits by value, then in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ordered(BTreeSet<(u64, Place)>);

impl Ordered {
    fn previous(&self, value: u64, place: Place) -> Option<Place> {
        let first = (Micros(i64::MIN), Identity([0; 16]));
        let mut earlier = self.0.range((value, first)..(value, place));
        earlier.next_back().map(|(_, place)| *place)
    }

    fn next(&self, value: u64, place: Place) -> Option<Place> {
        let after = (Bound::Excluded((value, place)), Bound::Unbounded);
        let (of, place) = self.0.range(after).next()?;
        (*of == value).then_some(*place)
    }
}

impl ValueIndex {
    pub(super) fn heap_bytes(&self) -> usize {
        heap::tree(self.all.0.len(), size_of::<(u64, Place)>())
            + heap::tree(self.kept.0.len(), size_of::<(u64, Place)>())
            + heap::tree(self.kept_by_time.len(), size_of::<Place>())
    }

    /// Takes a hit; whether a window may have come above the threshold by it.
    pub(super) fn insert(&mut self, place: Place, window: i64) -> bool {
        let value = value(place.1);
        self.all.0.insert((value, place));
        self.keep(value, place, window)
    }

    /// Forgets the first of all hits.
    pub(super) fn remove_first(&mut self, first: Place, window: i64) {
        let value = value(first.1);
        self.all.0.remove(&(value, first));
        self.leave_out(value, first);
        if let Some(next) = self.all.next(value, first) {
            self.keep(value, next, window);
        }
    }

    /// Keeps a hit unless it is between such neighbours.
    fn keep(&mut self, value: u64, place: Place, window: i64) -> bool {
        let (previous, next) = (
            self.kept.previous(value, place),
            self.kept.next(value, place),
        );
        let are_near = |one: Option<Place>, other: Option<Place>| {
            one.zip(other)
                .is_some_and(|(one, other)| other.0.minus(window) < one.0)
        };
        if are_near(previous, next) {
            return false;
        }
        let before = previous.and_then(|hit| self.kept.previous(value, hit));
        if let Some(hit) = previous.filter(|_| are_near(before, Some(place))) {
            self.leave_out(value, hit);
        }
        let after = next.and_then(|hit| self.kept.next(value, hit));
        if let Some(hit) = next.filter(|_| are_near(Some(place), after)) {
            self.leave_out(value, hit);
        }
        self.kept.0.insert((value, place));
        self.kept_by_time.insert(place);
        true
    }

    fn leave_out(&mut self, value: u64, place: Place) {
        self.kept.0.remove(&(value, place));
        self.kept_by_time.remove(&place);
    }

    /// The kept ones that are later than one time and earlier than another, in order.
    pub(super) fn between(
        &self,
        after: Micros,
        before: Micros,
    ) -> impl Iterator<Item = Place> + Clone + '_ {
        let from = (after.plus(1), Identity([0; 16]));
        let later = self.kept_by_time.range(from..).copied();
        later.take_while(move |(time, _)| *time < before)
    }

    /// The kept ones, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Place> + Clone + '_ {
        self.kept_by_time.iter().copied()
    }
}
