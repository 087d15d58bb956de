//! Distinct things with the times of their first and last hits, of which those at both ends are
//! kept: the ones that appeared first and the ones that appeared last.
//!
//! What is kept does not depend on the order of arrival. Each end is exact by itself: a thing that
//! was pushed out of it lies further inside than all that stayed, and comes back when a hit of it
//! lies further outside. As many are kept of the first end as are shown in all, so that nothing is
//! missing while there are no more; of the last end half as many.

use std::cmp::Ordering;

use crate::detection::{heap, hit::Place, time::Micros};

/// When a hit was: event time, and a part of its identity to break ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detection) struct When {
    pub(super) time: Micros,
    pub(super) tie: u64,
}

impl From<Place> for When {
    fn from((time, identity): Place) -> Self {
        let tie = identity.0.first_chunk();
        Self {
            time,
            tie: tie.map_or(0, |tie| u64::from_be_bytes(*tie)),
        }
    }
}

/// The first time of what is not among the first.
pub(super) const NOT_FIRST: When = When {
    time: Micros(i64::MAX),
    tie: u64::MAX,
};
/// The last time of what is not among the last.
pub(super) const NOT_LAST: When = When {
    time: Micros(i64::MIN),
    tie: 0,
};

/// Something that is kept.
pub(super) trait Bytes {
    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;
}

impl Bytes for () {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Bytes for Box<str> {
    fn heap_bytes(&self) -> usize {
        heap::block(self.len())
    }
}

/// A thing, and what is kept of its first and of its last hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<T, D> {
    pub(super) thing: T,
    pub(super) first: When,
    pub(super) last: When,
    pub(super) first_detail: Option<D>,
    pub(super) last_detail: Option<D>,
    /// Whether a state of the finding has shown it.
    pub(super) is_sent: bool,
}

impl<T, D> Entry<T, D> {
    pub(super) fn is_first(&self) -> bool {
        self.first != NOT_FIRST
    }

    pub(super) fn is_last(&self) -> bool {
        self.last != NOT_LAST
    }
}

impl<T: Bytes, D: Bytes> Entry<T, D> {
    fn heap_bytes(&self) -> usize {
        let details = self.first_detail.iter().chain(&self.last_detail);
        self.thing.heap_bytes() + details.map(Bytes::heap_bytes).sum::<usize>()
    }
}

/// Things at both ends, in their own order: a list, for of most fields there is one value.
#[derive(Clone, Debug)]
pub(super) struct Ends<T, D> {
    entries: Vec<Entry<T, D>>,
    /// Bytes on the heap of the entries themselves.
    bytes: usize,
    /// How many are among the first.
    firsts: u32,
    /// How many are among the last.
    lasts: u32,
    /// Whether there were more than fit.
    pub(super) is_full: bool,
    /// The greatest first time, once it was looked for and until it changes: of a flood of values
    /// each is later.
    latest_first: When,
    /// The least last time, likewise.
    earliest_last: When,
}

impl<T, D> Default for Ends<T, D> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            firsts: 0,
            lasts: 0,
            is_full: false,
            latest_first: NOT_FIRST,
            earliest_last: NOT_LAST,
        }
    }
}

impl<T: PartialEq, D: PartialEq> PartialEq for Ends<T, D> {
    /// What was looked for already is no part of what is kept.
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.is_full == other.is_full
    }
}

impl<T: Eq, D: Eq> Eq for Ends<T, D> {}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl<T: Ord + Bytes, D: Bytes> Ends<T, D> {
    pub(super) fn heap_bytes(&self) -> usize {
        heap::list(&self.entries) + self.bytes
    }

    pub(super) fn entries(&self) -> &[Entry<T, D>] {
        &self.entries
    }

    pub(super) fn contains(&self, compare: impl Fn(&T) -> Ordering) -> bool {
        let entries = &self.entries;
        entries
            .binary_search_by(|entry| compare(&entry.thing))
            .is_ok()
    }

    /// Whether another thing is one more than fit.
    pub(super) fn is_at_most(&self, most: usize) -> bool {
        count(self.firsts) >= most
    }

    /// Takes a thing with the times of a first and a last hit of it. It is made only if it is to be
    /// kept; `compare` says how another one compares with it. Returns what was pushed out after a
    /// state of the finding had shown it.
    pub(super) fn put(
        &mut self,
        compare: impl Fn(&T) -> Ordering,
        (first, last): (When, When),
        most: usize,
        (own, detail): (impl FnOnce() -> T, impl Fn() -> Option<D>),
    ) -> Option<T> {
        let found = self.entries.binary_search_by(|entry| compare(&entry.thing));
        if found.is_err() && self.is_at_most(most) {
            self.is_full = true;
        }
        let is_first = self.is_among_first(first, most);
        let is_last = self.is_among_last(last, most / 2);
        match found {
            Ok(at) => self.meet(at, (first, is_first), (last, is_last), &detail),
            Err(at) if is_first || is_last => {
                if self.entries.is_empty() {
                    self.entries.reserve_exact(1);
                }
                let entry = Entry {
                    thing: own(),
                    first: NOT_FIRST,
                    last: NOT_LAST,
                    first_detail: None,
                    last_detail: None,
                    is_sent: false,
                };
                self.bytes += entry.heap_bytes();
                self.entries.insert(at, entry);
                self.meet(at, (first, is_first), (last, is_last), &detail);
            }
            Err(_) => return None,
        }
        let mut sent = None;
        while count(self.firsts) > most && self.push_out_first(&mut sent) {}
        while count(self.lasts) > most / 2 && self.push_out_last(&mut sent) {}
        sent
    }

    /// The entry at a place has had hits at these times.
    fn meet(
        &mut self,
        at: usize,
        (first, is_first): (When, bool),
        (last, is_last): (When, bool),
        detail: &impl Fn() -> Option<D>,
    ) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        if first < entry.first && (is_first || entry.is_first()) {
            if !entry.is_first() {
                self.firsts += 1;
            }
            // A new latest one is looked for.
            self.latest_first = NOT_FIRST;
            entry.first = first;
            let old = std::mem::replace(&mut entry.first_detail, detail());
            self.bytes += entry.first_detail.as_ref().map_or(0, Bytes::heap_bytes);
            self.bytes -= old.as_ref().map_or(0, Bytes::heap_bytes);
        }
        if last > entry.last && (is_last || entry.is_last()) {
            if !entry.is_last() {
                self.lasts += 1;
                self.earliest_last = NOT_LAST;
            } else if self.earliest_last == entry.last {
                self.earliest_last = NOT_LAST;
            }
            entry.last = last;
            let old = std::mem::replace(&mut entry.last_detail, detail());
            self.bytes += entry.last_detail.as_ref().map_or(0, Bytes::heap_bytes);
            self.bytes -= old.as_ref().map_or(0, Bytes::heap_bytes);
        }
    }

    fn is_among_first(&mut self, first: When, most: usize) -> bool {
        if count(self.firsts) < most {
            return first != NOT_FIRST;
        }
        if self.latest_first == NOT_FIRST {
            let firsts = self.entries.iter().filter(|entry| entry.is_first());
            self.latest_first = firsts.map(|entry| entry.first).max().unwrap_or(NOT_LAST);
        }
        first <= self.latest_first
    }

    fn is_among_last(&mut self, last: When, most: usize) -> bool {
        if count(self.lasts) < most {
            return last != NOT_LAST;
        }
        if self.earliest_last == NOT_LAST {
            let lasts = self.entries.iter().filter(|entry| entry.is_last());
            self.earliest_last = lasts.map(|entry| entry.last).min().unwrap_or(NOT_FIRST);
        }
        last >= self.earliest_last
    }

    /// Pushes the latest out of the first ones; whether there was one.
    fn push_out_first(&mut self, sent: &mut Option<T>) -> bool {
        let entries = self.entries.iter().enumerate();
        let firsts = entries.filter(|(_, entry)| entry.is_first());
        let latest = firsts.max_by(|(_, a), (_, b)| (a.first, &a.thing).cmp(&(b.first, &b.thing)));
        let Some((at, _)) = latest else { return false };
        self.firsts -= 1;
        self.latest_first = NOT_FIRST;
        if let Some(entry) = self.entries.get_mut(at) {
            entry.first = NOT_FIRST;
            let detail = entry.first_detail.take();
            self.bytes -= detail.as_ref().map_or(0, Bytes::heap_bytes);
        }
        self.leave_out(at, sent);
        true
    }

    /// Pushes the earliest out of the last ones; whether there was one.
    fn push_out_last(&mut self, sent: &mut Option<T>) -> bool {
        let (mut earliest, mut next): (Option<(usize, &Entry<T, D>)>, _) = (None, NOT_LAST);
        for (at, entry) in self.entries.iter().enumerate() {
            if !entry.is_last() {
                continue;
            }
            match earliest {
                Some((_, least)) if (least.last, &least.thing) < (entry.last, &entry.thing) => {
                    if next == NOT_LAST || entry.last < next {
                        next = entry.last;
                    }
                }
                _ => {
                    next = earliest.map_or(NOT_LAST, |(_, least)| least.last);
                    earliest = Some((at, entry));
                }
            }
        }
        let Some((at, _)) = earliest else {
            return false;
        };
        self.lasts -= 1;
        self.earliest_last = next;
        if let Some(entry) = self.entries.get_mut(at) {
            entry.last = NOT_LAST;
            let detail = entry.last_detail.take();
            self.bytes -= detail.as_ref().map_or(0, Bytes::heap_bytes);
        }
        self.leave_out(at, sent);
        true
    }

    /// Forgets an entry that is at neither end.
    fn leave_out(&mut self, at: usize, sent: &mut Option<T>) {
        let entry = self.entries.get(at);
        if entry.is_some_and(|entry| !entry.is_first() && !entry.is_last()) {
            let entry = self.entries.remove(at);
            self.bytes -= entry.heap_bytes();
            if entry.is_sent {
                *sent = Some(entry.thing);
            }
        }
    }

    /// Where the entries are that a finding shows, in order: all, or half of each end. Where the
    /// ends have things in common, more of the first ones fill the list.
    pub(super) fn shown(&self, most: usize) -> Vec<usize> {
        if !self.is_full {
            return (0..self.entries.len()).collect();
        }
        let entries = || self.entries.iter().enumerate();
        let mut firsts: Vec<_> = entries().filter(|(_, entry)| entry.is_first()).collect();
        firsts.sort_by(|(_, a), (_, b)| (a.first, &a.thing).cmp(&(b.first, &b.thing)));
        let half = most - most / 2;
        let mut shown: Vec<usize> = firsts.iter().take(half).map(|(at, _)| *at).collect();
        shown.extend(
            entries()
                .filter(|(_, entry)| entry.is_last())
                .map(|(at, _)| at),
        );
        shown.sort_unstable();
        shown.dedup();
        let mut more = firsts.into_iter().skip(half).map(|(at, _)| at);
        while shown.len() < most
            && let Some(at) = more.next()
        {
            if let Err(place) = shown.binary_search(&at) {
                shown.insert(place, at);
            }
        }
        shown
    }

    /// Notes that a state of the finding shows these.
    pub(super) fn mark_sent(&mut self, shown: &[usize]) {
        for at in shown {
            if let Some(entry) = self.entries.get_mut(*at) {
                entry.is_sent = true;
            }
        }
    }

    /// Appends an entry as it was kept. Entries come in order.
    pub(super) fn restore(&mut self, entry: Entry<T, D>) {
        let last = self.entries.last();
        if last.is_some_and(|last| last.thing >= entry.thing)
            || !(entry.is_first() || entry.is_last())
        {
            return;
        }
        self.firsts += u32::from(entry.is_first());
        self.lasts += u32::from(entry.is_last());
        self.bytes += entry.heap_bytes();
        self.entries.push(entry);
    }
}
