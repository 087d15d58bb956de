//! Where the entries of a longer list are: by the hash of their things, and from each end inwards.

use std::{cmp::Ordering, collections::VecDeque};

use hashbrown::HashTable;

use super::entry::{Entry, Thing, When};
use crate::detection::{heap, keyed::Seeds};

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    First,
    Last,
}

impl End {
    /// The time by which an entry is in the order of this end, if it is.
    fn when<T, D>(self, entry: &Entry<T, D>) -> Option<When> {
        match self {
            Self::First => Some(entry.first).filter(|_| entry.is_first()),
            Self::Last => Some(entry.last).filter(|_| entry.is_last()),
        }
    }
}

/// Where entries are.
///
/// Invariants: `hashes` has one for each entry, and `index` each place with its hash; each end has
/// the places of the entries that are at it, in the order of their times and things.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    /// Place and hash of each entry.
    index: HashTable<(u32, u32)>,
    hashes: Vec<u32>,
    seeds: Seeds,
    firsts: VecDeque<u32>,
    lasts: VecDeque<u32>,
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn place(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// A hash as the index keeps it: its table takes the place from the low bits and compares the high
/// ones first.
fn spread(hash: u32) -> u64 {
    u64::from(hash) | (u64::from(hash) << 32)
}

impl Orders {
    /// Where these entries are.
    pub(super) fn of<T: Thing, D>(entries: &[Entry<T, D>]) -> Self {
        let mut orders = Self {
            index: HashTable::new(),
            hashes: Vec::new(),
            seeds: Seeds::random(),
            firsts: VecDeque::new(),
            lasts: VecDeque::new(),
        };
        for (at, entry) in entries.iter().enumerate() {
            orders.add(at, entry.thing.hash());
            orders.restore(at, entries);
        }
        orders
    }

    /// Bytes on the heap, with its own.
    pub(super) fn heap_bytes(&self) -> usize {
        let ends = [&self.firsts, &self.lasts].map(|end| end.capacity() * size_of::<u32>());
        heap::block(size_of::<Self>())
            + heap::table(self.index.capacity(), size_of::<(u32, u32)>())
            + heap::list(&self.hashes)
            + ends.map(heap::block).iter().sum::<usize>()
    }

    /// The place with this hash that is the one.
    pub(super) fn find(&self, hash: u64, is: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = self.seeds.short(hash);
        let found = self
            .index
            .find(spread(hash), |(at, of)| *of == hash && is(place(*at)));
        found.map(|(at, _)| place(*at))
    }

    /// Adds the entry behind all others, which is at neither end yet.
    pub(super) fn add(&mut self, at: usize, hash: u64) {
        let hash = self.seeds.short(hash);
        self.hashes.push(hash);
        self.index
            .insert_unique(spread(hash), (number(at), hash), |(_, hash)| spread(*hash));
    }

    /// Of the first ones the latest, of the last ones the earliest.
    pub(super) fn innermost(&self, end: End) -> Option<usize> {
        let at = match end {
            End::First => self.firsts.back(),
            End::Last => self.lasts.front(),
        };
        at.copied().map(place)
    }

    /// The innermost is not at this end any more.
    pub(super) fn push_out(&mut self, end: End) {
        match end {
            End::First => self.firsts.pop_back(),
            End::Last => self.lasts.pop_front(),
        };
    }

    /// An entry has another time at an end: it was there with the old one, or it was not.
    pub(super) fn move_to<T: Ord, D>(
        &mut self,
        end: End,
        at: usize,
        (was_there, old): (bool, When),
        entries: &[Entry<T, D>],
    ) {
        let order = self.order(end);
        if was_there {
            if end == End::Last && order.back() == Some(&number(at)) {
                // It was the last one, and its time is later now.
                return;
            }
            if let Some(from) = position(order, (end, at, old), entries) {
                order.remove(from);
            }
        }
        self.restore_at(end, at, entries);
    }

    /// Puts an entry where it belongs at each end.
    pub(super) fn restore<T: Ord, D>(&mut self, at: usize, entries: &[Entry<T, D>]) {
        self.restore_at(End::First, at, entries);
        self.restore_at(End::Last, at, entries);
    }

    fn restore_at<T: Ord, D>(&mut self, end: End, at: usize, entries: &[Entry<T, D>]) {
        let Some(entry) = entries.get(at) else { return };
        let Some(when) = end.when(entry) else { return };
        let order = self.order(end);
        let is_before = |other: &u32| {
            let other = entries.get(place(*other));
            let key = |of: &Entry<T, D>| end.when(of);
            other.is_some_and(|other| {
                let earlier = key(other).cmp(&Some(when));
                earlier.then_with(|| other.thing.cmp(&entry.thing)) == Ordering::Less
            })
        };
        // Nearly always it is later than all others.
        let to = if order.back().is_none_or(is_before) {
            order.len()
        } else {
            order.partition_point(is_before)
        };
        order.insert(to, number(at));
    }

    /// Removes an entry that is at neither end. The one behind all others takes its place.
    pub(super) fn remove<T: Ord, D>(&mut self, at: usize, entries: &[Entry<T, D>]) {
        if let Some(hash) = self.hashes.get(at).copied()
            && let Ok(known) = self
                .index
                .find_entry(spread(hash), |(of, _)| *of == number(at))
        {
            known.remove();
        }
        let last = entries.len().saturating_sub(1);
        if at != last {
            self.rename((last, at), entries);
        }
        if at < self.hashes.len() {
            self.hashes.swap_remove(at);
        }
    }

    /// The entry at a place will be at another one.
    fn rename<T: Ord, D>(&mut self, (from, to): (usize, usize), entries: &[Entry<T, D>]) {
        if let Some(hash) = self.hashes.get(from)
            && let Some((at, _)) = self
                .index
                .find_mut(spread(*hash), |(at, _)| *at == number(from))
        {
            *at = number(to);
        }
        for end in [End::First, End::Last] {
            let Some(when) = entries.get(from).and_then(|entry| end.when(entry)) else {
                continue;
            };
            let order = self.order(end);
            if let Some(at) = position(order, (end, from, when), entries)
                && let Some(slot) = order.get_mut(at)
            {
                *slot = number(to);
            }
        }
    }

    fn order(&mut self, end: End) -> &mut VecDeque<u32> {
        match end {
            End::First => &mut self.firsts,
            End::Last => &mut self.lasts,
        }
    }
}

/// Where an entry stands in the order of an end, where it is by this time.
fn position<T: Ord, D>(
    order: &VecDeque<u32>,
    (end, at, when): (End, usize, When),
    entries: &[Entry<T, D>],
) -> Option<usize> {
    let own = number(at);
    if order.back() == Some(&own) {
        return Some(order.len() - 1);
    }
    let thing = &entries.get(at)?.thing;
    let found = order.binary_search_by(|other| {
        if *other == own {
            return Ordering::Equal;
        }
        let other = entries.get(place(*other));
        let is = other.and_then(|other| Some((end.when(other)?, &other.thing)));
        is.cmp(&Some((when, thing)))
    });
    found.ok()
}
