//! The key table: the state of each key, when something is due for it, and which key is the weakest.
//!
//! A hit costs a few steps, whatever the number of keys. Keys lie in a slab without holes; an index
//! of numbers finds them by their hash, whose seeds no sender knows. Nothing that leaves the table
//! is in the order of the index or of the slab. Three orders run through the keys as lists of
//! numbers: that of their last arrival, in which they expire, and for each level of strength that
//! of their last arrival, in which they are evicted. Deadlines, which few keys have, are in a tree.

use std::hash::RandomState;

use super::{
    heap::{self, Counted},
    index::Index,
    slab::Slab,
    sorted::Sorted,
    time::Micros,
};

/// Seeds of the hashes of a table.
pub(super) type Seeds = RandomState;

/// The name of a key.
pub(super) trait Name: Ord + Clone {
    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;

    /// Its hash with these seeds.
    fn hash(&self, seeds: &Seeds) -> u64;

    /// What begins its order: a name with a lesser one is before others.
    fn prefix(&self) -> u128;
}

/// No key.
const NONE: u32 = u32::MAX;
/// No deadline.
const NEVER: Micros = Micros(i64::MAX);
/// Levels of strength.
const LEVELS: usize = 16;

/// Where a key is to be listed after it has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    /// Its strength: hits at hand.
    pub(super) hits: u64,
    /// When something is due for it next.
    pub(super) due_at: Option<Micros>,
    /// Bytes on the heap of its state.
    pub(super) heap_bytes: usize,
}

/// What a key has inherited when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inherited {
    /// Hits that it may have had before, and that were forgotten.
    pub(super) error: u32,
    /// The minute of event time when it came, since 1970.
    pub(super) minute: u32,
}

/// What a table is to have less of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Keys.
    Keys,
    /// Bytes of memory.
    Bytes,
}

/// All keys of one detection in one cluster.
///
/// Invariants: each key is in the list of arrivals and in the list of the level at which it was
/// listed; it is among the deadlines at the time noted in its entry, which may be early, never
/// late; `bytes` is the sum of what the entries have counted.
#[derive(Clone, Debug)]
pub(super) struct KeyTable<N, V> {
    entries: Slab<Entry<N, V>>,
    index: Index,
    seeds: Seeds,
    arrivals: List,
    levels: [List; LEVELS],
    due: Sorted<(Micros, N), ()>,
    /// Names of keys with deadlines, the first last: those that are still to be looked at.
    names: Vec<N>,
    bytes: Counted,
}

/// A key and where it is listed.
#[derive(Clone, Debug)]
struct Entry<N, V> {
    name: N,
    value: V,
    /// When it is listed as due.
    due: Micros,
    inherited: Inherited,
    arrivals: Links,
    level: Links,
    heap_bytes: u32,
    at_level: u8,
}

/// The neighbours of a key in a list.
#[derive(Clone, Copy, Debug)]
struct Links {
    before: u32,
    after: u32,
}

/// A list of keys.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    len: usize,
    bytes: usize,
}

/// One of the lists that a key is in.
#[derive(Clone, Copy)]
enum Order {
    Arrivals,
    Level,
}

impl<N, V> Entry<N, V> {
    fn links(&mut self, order: Order) -> &mut Links {
        match order {
            Order::Arrivals => &mut self.arrivals,
            Order::Level => &mut self.level,
        }
    }
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        len: 0,
        bytes: 0,
    };
}

impl<N, V> Default for KeyTable<N, V> {
    fn default() -> Self {
        Self {
            entries: Slab::default(),
            index: Index::default(),
            seeds: Seeds::new(),
            arrivals: List::EMPTY,
            levels: [List::EMPTY; LEVELS],
            due: Sorted::default(),
            names: Vec::new(),
            bytes: Counted::default(),
        }
    }
}

/// The level of a number of hits: of few each has its own, then each doubling.
pub(super) fn level(hits: u64) -> u8 {
    const EXACT: u64 = 4;
    let level = match hits {
        0..=EXACT => hits,
        _ => 2 + u64::from(u64::BITS - (hits - 1).leading_zeros()),
    };
    u8::try_from(level.min(LEVELS as u64 - 1)).unwrap_or_default()
}

fn short(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}

impl<N: Name, V: Clone> KeyTable<N, V> {
    /// Bytes on the heap that each key takes at least: its place, and its part of the index, which
    /// is between 7/16 and 7/8 full.
    pub(super) const KEY: usize = Slab::<Entry<N, V>>::PLACE + 20;

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes on the heap of all keys.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.0
    }

    /// Copies of the keys made from now on are the same memory, until it changes here.
    pub(super) fn share(&mut self) {
        self.entries.share();
        self.index.share();
        self.due.share();
    }

    /// Bytes on the heap of places that no key has yet.
    pub(super) fn spare_bytes(&self) -> usize {
        self.entries.spare_bytes()
    }

    /// The seeds of its hashes.
    pub(super) fn seeds(&self) -> &Seeds {
        &self.seeds
    }

    /// The key with this hash whose name is the one.
    pub(super) fn find(&self, hash: u64, is: impl Fn(&N) -> bool) -> Option<u32> {
        let hash = short(hash);
        let is = |at| self.entries.get(at).is_some_and(|entry| is(&entry.name));
        self.index.find(hash, is)
    }

    fn find_name(&self, name: &N) -> Option<u32> {
        self.find(name.hash(&self.seeds), |other| other == name)
    }

    pub(super) fn name(&self, at: u32) -> Option<&N> {
        self.entries.get(at).map(|entry| &entry.name)
    }

    pub(super) fn value(&self, at: u32) -> Option<&V> {
        self.entries.get(at).map(|entry| &entry.value)
    }

    pub(super) fn value_mut(&mut self, at: u32) -> Option<&mut V> {
        self.entries.get_mut(at).map(|entry| &mut entry.value)
    }

    /// What a key inherited when it came.
    pub(super) fn inherited(&self, at: u32) -> Option<Inherited> {
        self.entries.get(at).map(|entry| entry.inherited)
    }

    /// All keys, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&N, &V, Inherited)> {
        let entries = self.entries.iter();
        entries.map(|entry| (&entry.name, &entry.value, entry.inherited))
    }

    /// Adds a key that is not here, as the last to arrive; it has to be listed.
    pub(super) fn insert(&mut self, name: N, value: V, inherited: Inherited) -> u32 {
        let heap_bytes = Self::KEY + name.heap_bytes();
        let at = self.add((name, value, inherited), heap_bytes);
        self.link(Order::Arrivals, at);
        self.link(Order::Level, at);
        at
    }

    /// Adds a key that is in no list yet.
    fn add(&mut self, (name, value, inherited): (N, V, Inherited), heap_bytes: usize) -> u32 {
        let hash = short(name.hash(&self.seeds));
        let links = Links {
            before: NONE,
            after: NONE,
        };
        let heap_bytes = u32::try_from(heap_bytes).unwrap_or(u32::MAX);
        let at = self.entries.push(Entry {
            name,
            value,
            due: NEVER,
            inherited,
            arrivals: links,
            level: links,
            heap_bytes,
            at_level: 0,
        });
        self.index.insert(at, hash);
        self.bytes.0 += heap_bytes as usize;
        at
    }

    /// The key that arrived longest ago.
    pub(super) fn oldest(&self) -> Option<u32> {
        Some(self.arrivals.first).filter(|at| *at != NONE)
    }

    /// Takes the first deadline that is due off its list; whose it is.
    pub(super) fn pop_due(&mut self, until: Micros) -> Option<u32> {
        if !self.is_due(until) {
            return None;
        }
        let ((_, name), ()) = self.due.pop_first()?;
        let at = self.find_name(&name)?;
        if let Some(entry) = self.entries.get_mut(at) {
            entry.due = NEVER;
        }
        self.count_bytes(at, |bytes| bytes.saturating_sub(Self::DUE));
        Some(at)
    }

    /// Whether a deadline is due.
    pub(super) fn is_due(&self, until: Micros) -> bool {
        let first = self.due.first();
        first.is_some_and(|((at, _), ())| *at <= until)
    }

    /// The key with a deadline whose name is the first. It is to be removed: keys that come
    /// meanwhile are only looked at when there are no others.
    pub(super) fn first_with_deadline(&mut self) -> Option<u32> {
        loop {
            if self.names.is_empty() {
                let names = self.due.iter().map(|((_, name), ())| name.clone());
                self.names = names.collect();
                self.names.sort_unstable_by(|a, b| b.cmp(a));
            }
            let name = self.names.pop()?;
            let at = self.find_name(&name);
            let is_due = |at: &u32| {
                let entry = self.entries.get(*at);
                entry.is_some_and(|entry| entry.due != NEVER)
            };
            if let Some(at) = at.filter(is_due) {
                return Some(at);
            }
        }
    }

    /// The key to be evicted so that there is less of something: of the lowest level that has more
    /// than its share of it the one that arrived longest ago. The last to arrive stays if any other
    /// is left. A key without hits at hand goes before all others.
    pub(super) fn weakest(&self, measure: Measure) -> Option<u32> {
        let amount = |list: &List| match measure {
            Measure::Keys => list.len,
            Measure::Bytes => list.bytes,
        };
        let used = || self.levels.iter().filter(|level| level.len > 0);
        let (total, count) = (used().map(amount).sum::<usize>(), used().count());
        let newest = self.arrivals.last;
        let first_of = |is_wanted: &dyn Fn(usize, &List) -> bool| {
            let levels = used().zip(0..).filter(|(list, at)| is_wanted(*at, list));
            let mut firsts = levels.map(|(list, _)| list.first);
            firsts.find(|first| *first != newest)
        };
        let is_spare = self.levels.first().is_some_and(|level| level.len > 0);
        first_of(&|at, _| at == 0 && is_spare)
            .or_else(|| first_of(&|_, list| amount(list).saturating_mul(count) > total))
            .or_else(|| first_of(&|_, _| true))
            .or(Some(newest).filter(|at| *at != NONE))
    }

    /// Forgets a key. The number of the last key is its number from then on.
    pub(super) fn remove(&mut self, at: u32) -> Option<(N, V, Inherited)> {
        let entry = self.entries.get(at)?;
        let hash = short(entry.name.hash(&self.seeds));
        if entry.due != NEVER {
            self.due.remove(&(entry.due, entry.name.clone()));
        }
        let bytes = entry.heap_bytes as usize;
        self.unlink(Order::Arrivals, at);
        self.unlink(Order::Level, at);
        self.bytes.0 = self.bytes.0.saturating_sub(bytes);
        self.index.remove(at, hash);
        let entry = self.entries.swap_remove(at)?;
        let moved = u32::try_from(self.entries.len()).unwrap_or(NONE);
        if moved != at {
            self.moved(moved, at);
        }
        Some((entry.name, entry.value, entry.inherited))
    }

    /// Lists a key where it belongs by now, as the last to arrive if it has a new hit. A deadline
    /// that it has stays if it is early: until it is popped.
    pub(super) fn list(&mut self, at: u32, listing: Listing, is_arrival: bool) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let due = listing.due_at.unwrap_or(NEVER);
        if due < entry.due || (due == NEVER && entry.due != NEVER) {
            let before = std::mem::replace(&mut entry.due, due);
            if before != NEVER {
                self.due.remove(&(before, entry.name.clone()));
            }
            if due != NEVER {
                self.due.insert((due, entry.name.clone()), ());
            }
        }
        let is_due = entry.due != NEVER;
        let bytes = Self::KEY
            + entry.name.heap_bytes()
            + listing.heap_bytes
            + if is_due { Self::DUE } else { 0 };
        let now = level(listing.hits);
        let is_moved = now != entry.at_level || is_arrival;
        self.count_bytes(at, |_| bytes);
        if is_moved {
            self.unlink(Order::Level, at);
            if let Some(entry) = self.entries.get_mut(at) {
                entry.at_level = now;
            }
            self.link(Order::Level, at);
        }
        if is_arrival {
            self.unlink(Order::Arrivals, at);
            self.link(Order::Arrivals, at);
        }
    }

    /// Bytes on the heap of a deadline.
    const DUE: usize = heap::entry(size_of::<(Micros, N)>());

    /// Counts the bytes of a key anew.
    fn count_bytes(&mut self, at: u32, now: impl FnOnce(usize) -> usize) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let before = entry.heap_bytes as usize;
        // One key never has 4 GiB: the bounds of its hits and values are far below.
        entry.heap_bytes = u32::try_from(now(before)).unwrap_or(u32::MAX);
        let now = entry.heap_bytes as usize;
        self.bytes.0 = (self.bytes.0 + now).saturating_sub(before);
        if let Some(level) = self.levels.get_mut(usize::from(entry.at_level)) {
            level.bytes = (level.bytes + now).saturating_sub(before);
        }
    }

    /// Puts a key at the end of a list.
    fn link(&mut self, order: Order, at: u32) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let (bytes, level) = (entry.heap_bytes as usize, usize::from(entry.at_level));
        let list = match order {
            Order::Arrivals => Some(&mut self.arrivals),
            Order::Level => self.levels.get_mut(level),
        };
        let Some(list) = list else { return };
        *entry.links(order) = Links {
            before: list.last,
            after: NONE,
        };
        let last = std::mem::replace(&mut list.last, at);
        if last == NONE {
            list.first = at;
        }
        list.len += 1;
        list.bytes += bytes;
        if let Some(last) = self.entries.get_mut(last) {
            last.links(order).after = at;
        }
    }

    /// Takes a key out of a list.
    fn unlink(&mut self, order: Order, at: u32) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let (bytes, level) = (entry.heap_bytes as usize, usize::from(entry.at_level));
        let Links { before, after } = *entry.links(order);
        let list = match order {
            Order::Arrivals => Some(&mut self.arrivals),
            Order::Level => self.levels.get_mut(level),
        };
        let Some(list) = list else { return };
        list.len = list.len.saturating_sub(1);
        list.bytes = list.bytes.saturating_sub(bytes);
        if before == NONE {
            list.first = after;
        }
        if after == NONE {
            list.last = before;
        }
        if let Some(before) = self.entries.get_mut(before) {
            before.links(order).after = after;
        }
        if let Some(after) = self.entries.get_mut(after) {
            after.links(order).before = before;
        }
    }

    /// A key has another number: all that name it by its number do so by the new one.
    fn moved(&mut self, from: u32, to: u32) {
        let Some(entry) = self.entries.get_mut(to) else {
            return;
        };
        let hash = short(entry.name.hash(&self.seeds));
        let level = usize::from(entry.at_level);
        for order in [Order::Arrivals, Order::Level] {
            let Some(entry) = self.entries.get_mut(to) else {
                return;
            };
            let Links { before, after } = *entry.links(order);
            let list = match order {
                Order::Arrivals => Some(&mut self.arrivals),
                Order::Level => self.levels.get_mut(level),
            };
            if let Some(list) = list {
                if list.first == from {
                    list.first = to;
                }
                if list.last == from {
                    list.last = to;
                }
            }
            if let Some(before) = self.entries.get_mut(before) {
                before.links(order).after = to;
            }
            if let Some(after) = self.entries.get_mut(after) {
                after.links(order).before = to;
            }
        }
        self.index.moved((from, to), hash);
    }
}

/// Where a key is listed, to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its level of strength.
    pub(super) level: u8,
    /// When it is listed as due.
    pub(super) due: Option<Micros>,
    /// Its place among the arrivals.
    pub(super) arrival: u64,
    /// Its place in its level.
    pub(super) place: u64,
}

impl<N: Name, V: Clone> KeyTable<N, V> {
    /// All keys in the order of their names, with where they are listed.
    pub(super) fn sorted(&self) -> Vec<(&N, &V, Inherited, Listed)> {
        let mut places = vec![Listed::default(); self.entries.len()];
        for (order, list) in self.lists() {
            let mut at = list.first;
            let mut place = 0;
            while let Some(entry) = self.entries.get(at) {
                place += 1;
                let listed = places.get_mut(at as usize);
                at = match order {
                    Order::Arrivals => {
                        if let Some(listed) = listed {
                            listed.arrival = place;
                        }
                        entry.arrivals.after
                    }
                    Order::Level => {
                        if let Some(listed) = listed {
                            listed.place = place;
                            listed.level = entry.at_level;
                            listed.due = Some(entry.due).filter(|due| *due != NEVER);
                        }
                        entry.level.after
                    }
                };
            }
        }
        // What is sorted is small, and nearly never looks at a name: a million of them lie apart.
        let order = self.entries.iter().zip(0_u32..);
        let mut order: Vec<_> = order.map(|(entry, at)| (entry.name.prefix(), at)).collect();
        let name = |at| self.entries.get(at).map(|entry| &entry.name);
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(&name(b.1))));
        let sorted = order.into_iter().filter_map(|(_, at)| {
            let entry = self.entries.get(at)?;
            let listed = *places.get(at as usize)?;
            Some((&entry.name, &entry.value, entry.inherited, listed))
        });
        sorted.collect()
    }

    fn lists(&self) -> impl Iterator<Item = (Order, &List)> {
        let levels = self.levels.iter().map(|level| (Order::Level, level));
        std::iter::once((Order::Arrivals, &self.arrivals)).chain(levels)
    }

    /// Takes keys that another table had, where they were listed there; each with the bytes on
    /// the heap of its state.
    pub(super) fn restore(&mut self, keys: Vec<(N, V, Inherited, Listed, usize)>) {
        let order = keys.iter().zip(0_usize..);
        let mut order: Vec<_> = order.map(|(key, at)| (key.3.arrival, at)).collect();
        let name = |at: usize| keys.get(at).map(|key| &key.0);
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(&name(b.1))));
        let mut keys: Vec<_> = keys.into_iter().map(Some).collect();
        let mut places = Vec::with_capacity(keys.len());
        for (_, at) in order {
            let key = keys.get_mut(at).and_then(Option::take);
            let Some((name, value, inherited, listed, heap_bytes)) = key else {
                continue;
            };
            let due = listed.due.map(|due| (due, name.clone()));
            let due_bytes = if due.is_some() { Self::DUE } else { 0 };
            let bytes = Self::KEY + name.heap_bytes() + heap_bytes + due_bytes;
            let at = self.add((name, value, inherited), bytes);
            self.link(Order::Arrivals, at);
            if let Some(due) = due {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.due = due.0;
                }
                self.due.insert(due, ());
            }
            places.push((listed.place, at, listed.level));
        }
        places.sort_unstable();
        for (_, at, level) in places {
            if let Some(entry) = self.entries.get_mut(at) {
                entry.at_level = level.min(u8::try_from(LEVELS - 1).unwrap_or_default());
            }
            self.link(Order::Level, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::detection::key_text::KeyText;

    type Table = KeyTable<KeyText, u64>;

    /// A key of the model: its hits, and when it was last listed at its level.
    #[derive(Clone, Debug)]
    struct Row {
        hits: u64,
        due: Option<i64>,
        arrived: usize,
        placed: usize,
    }

    fn find(table: &Table, name: &str) -> Option<u32> {
        table.find(KeyText::hash_of(name, table.seeds()), |key| key.is(name))
    }

    /// The same rule over a plain list.
    fn weakest(rows: &BTreeMap<String, Row>) -> Option<String> {
        let of = |wanted: u8| {
            let mut members: Vec<_> = rows
                .iter()
                .filter(|(_, row)| level(row.hits) == wanted)
                .collect();
            members.sort_by_key(|(_, row)| row.placed);
            members
        };
        let used = (0..16).filter(|level| !of(*level).is_empty()).count();
        let newest = rows.iter().max_by_key(|(_, row)| row.arrived)?.0;
        let passes: [&dyn Fn(u8) -> bool; 3] = [
            &|level| level == 0,
            &|level| of(level).len() * used > rows.len(),
            &|_| true,
        ];
        for is_wanted in passes {
            for level in (0..16).filter(|level| is_wanted(*level)) {
                if let Some((name, _)) = of(level).first()
                    && *name != newest
                {
                    return Some((*name).clone());
                }
            }
        }
        Some(newest.clone())
    }

    proptest! {
        /// Whatever is added, listed, popped and removed: the table is as a plain list of its keys.
        #[test]
        fn a_table_is_as_its_model(
            steps in vec((0u8..8, 0u32..40, 0u64..40, prop::option::of(0i64..50)), 0..400),
        ) {
            let mut table = Table::default();
            let mut rows: BTreeMap<String, Row> = BTreeMap::new();
            for (now, (what, id, hits, due)) in steps.into_iter().enumerate() {
                let name = format!("192.0.2.{id}");
                let listing = Listing { hits, due_at: due.map(Micros), heap_bytes: 100 };
                match (what, find(&table, &name)) {
                    (0, Some(at)) => {
                        prop_assert!(table.remove(at).is_some());
                        rows.remove(&name);
                    }
                    (1, _) => {
                        let first = rows.values().filter_map(|row| row.due).min();
                        let popped = table.pop_due(Micros(i64::MAX - 1));
                        prop_assert_eq!(popped.is_some(), first.is_some());
                        if let Some(at) = popped {
                            let name = table.name(at).unwrap().with(str::to_owned);
                            let row = rows.get_mut(&name).unwrap();
                            prop_assert_eq!(row.due.take(), first);
                        }
                    }
                    (2, _) => {
                        let found = table.weakest(Measure::Keys);
                        let found = found.map(|at| table.name(at).unwrap().with(str::to_owned));
                        prop_assert_eq!(&found, &weakest(&rows));
                        if let Some(name) = found {
                            table.remove(find(&table, &name).unwrap());
                            rows.remove(&name);
                        }
                    }
                    (3, Some(at)) => {
                        table.list(at, listing, false);
                        let row = rows.get_mut(&name).unwrap();
                        if level(row.hits) != level(hits) {
                            row.placed = now;
                        }
                        row.hits = hits;
                        row.due = row.due.min(due).or(due).filter(|_| due.is_some());
                    }
                    (_, found) => {
                        let at = match found {
                            Some(at) => at,
                            None => table.insert(KeyText::from(name.as_str()), u64::from(id), Inherited::default()),
                        };
                        table.list(at, listing, true);
                        let due = match rows.get(&name).and_then(|row| row.due) {
                            Some(before) => due.map(|due| due.min(before)),
                            None => due,
                        };
                        rows.insert(name, Row { hits, due, arrived: now, placed: now });
                    }
                }
                prop_assert_eq!(table.len(), rows.len());
                let oldest = rows.iter().min_by_key(|(_, row)| row.arrived).map(|(name, _)| name.clone());
                let found = table.oldest().map(|at| table.name(at).unwrap().with(str::to_owned));
                prop_assert_eq!(found, oldest);
                let deadlines = rows.values().filter(|row| row.due.is_some()).count();
                prop_assert_eq!(table.due.len(), deadlines);
                let bytes = rows.len() * (Table::KEY + 100) + deadlines * Table::DUE;
                prop_assert_eq!(table.heap_bytes(), bytes);
                prop_assert_eq!(table.levels.iter().map(|level| level.bytes).sum::<usize>(), bytes);
            }
            for (name, row) in &rows {
                let at = find(&table, name).unwrap();
                prop_assert_eq!(table.value(at).map(|id| format!("192.0.2.{id}")), Some(name.clone()));
                prop_assert_eq!(table.entries.get(at).unwrap().at_level, level(row.hits));
            }
            // Another table that takes its keys is the same.
            let sorted = |table: &Table| -> Vec<_> {
                let keys = table.sorted().into_iter();
                keys.map(|(name, id, inherited, listed)| (name.clone(), *id, inherited, listed, 100)).collect()
            };
            let mut other = Table::default();
            other.restore(sorted(&table));
            prop_assert_eq!(sorted(&other), sorted(&table));
            prop_assert_eq!(other.heap_bytes(), table.heap_bytes());
        }
    }

    #[test]
    fn levels_are_exact_for_few_hits_and_then_each_doubling() {
        let levels = [0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 1 << 13, u64::MAX].map(level);
        assert_eq!(levels, [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 15, 15]);
    }
}
