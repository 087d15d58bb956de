//! The distinct values of one field: those at both ends, how many there were, and which of them
//! a state of the finding has shown.

use std::cell::OnceCell;

use super::{
    ends::{Ends, Entry, Sought, Thing, When},
    sketch::Sketch,
};
use crate::{
    audit::marked::{hash, shown},
    detection::{heap, limits::Limits},
};

/// Values of one field that a state names as new, at most.
const MOST_NEW: usize = 10;
/// Values that are remembered as sent after they were pushed out, at most. Beyond it the older
/// half is forgotten: such a value may be named as new once more.
const MOST_GONE: usize = 1024;

/// The distinct values of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ValueSet {
    pub(super) ends: Ends<Box<str>, ()>,
    /// Whether values were cut, or given up before they came here.
    pub(super) is_cut: bool,
    pub(super) many: Option<Box<Many>>,
}

/// What is known of more values than are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Many {
    /// All values, from the one on that did not fit.
    pub(super) sketch: Sketch,
    /// Hashes of values that were sent and pushed out, in this order.
    pub(super) gone: Vec<u32>,
}

impl Thing for Box<str> {
    fn hash(&self) -> u64 {
        hash(self)
    }
}

/// A value that has come, and its hash once it was needed.
struct Value<'v> {
    text: &'v str,
    hash: OnceCell<u64>,
}

impl Sought<Box<str>> for Value<'_> {
    fn is(&self, thing: &Box<str>) -> bool {
        **thing == *self.text
    }

    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| hash(self.text))
    }
}

impl ValueSet {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let many = self.many.as_ref().map_or(0, |many| {
            heap::block(size_of::<Many>()) + many.sketch.heap_bytes() + heap::list(&many.gone)
        });
        self.ends.heap_bytes() + many
    }

    /// How many distinct values there were.
    pub(super) fn distinct(&self) -> u64 {
        match &self.many {
            Some(many) => many.sketch.count(),
            None => self.ends.entries().len() as u64,
        }
    }

    /// Whether that is an estimate.
    pub(super) fn is_estimated(&self) -> bool {
        let many = self.many.as_ref();
        many.is_some_and(|many| many.sketch.is_estimate())
    }

    /// Whether a value is missing, or some of one.
    pub(super) fn is_truncated(&self) -> bool {
        self.ends.is_full || self.is_cut
    }

    /// Takes a value of a hit.
    pub(super) fn add(&mut self, value: &str, when: When, limits: &Limits) {
        let (value, is_cut) = shown(value, limits.value_bytes);
        self.is_cut |= is_cut;
        self.put(&value, (when, when), limits.values_per_field);
    }

    fn put(&mut self, value: &str, span: (When, When), most: usize) {
        let value = Value {
            text: value,
            hash: OnceCell::new(),
        };
        let found = self.ends.find(&value);
        if found.is_none() && (self.many.is_some() || self.ends.is_at_most(most)) {
            if self.many.is_none() {
                self.many = Some(Box::new(self.counted()));
            }
            if let Some(many) = &mut self.many {
                many.sketch.insert(value.hash());
            }
        }
        let make = (|| value.text.into(), || Some(()));
        let sent = self.ends.put_at(found, span, most, make);
        if let (Some(sent), Some(many)) = (sent, &mut self.many) {
            many.forget(&sent);
        }
    }

    /// What is known of the values while all are here.
    fn counted(&self) -> Many {
        let mut many = Many::default();
        for entry in self.ends.entries() {
            many.sketch.insert(hash(&entry.thing));
        }
        many
    }

    /// Takes all values of another set of the field.
    pub(super) fn merge(&mut self, other: &Self, limits: &Limits) {
        if other.many.is_some() && self.many.is_none() {
            self.many = Some(Box::new(self.counted()));
        }
        for entry in other.ends.entries() {
            self.put(
                &entry.thing,
                (entry.first, entry.last),
                limits.values_per_field,
            );
        }
        if let (Some(many), Some(other)) = (&mut self.many, &other.many) {
            many.sketch.merge(&other.sketch);
        }
        self.ends.is_full |= other.ends.is_full;
        self.is_cut |= other.is_cut;
    }

    /// The values that a finding shows, in order.
    pub(super) fn list(&self, limits: &Limits) -> Vec<String> {
        let shown = self.ends.shown(limits.values_per_field);
        let shown = shown.iter().filter_map(|at| self.ends.entries().get(*at));
        shown.map(|entry| entry.thing.to_string()).collect()
    }

    /// Notes that a state of the finding shows its values; those of them that no state has shown
    /// before, in order: of very many half of each end.
    pub(super) fn send(&mut self, limits: &Limits) -> Vec<String> {
        let shown = self.ends.shown(limits.values_per_field);
        let shown_entries = shown.iter().filter_map(|at| self.ends.entries().get(*at));
        let gone = self.many.as_ref().map_or(&[][..], |many| &many.gone);
        let mut new: Vec<&Entry<Box<str>, ()>> = shown_entries
            .filter(|entry| {
                !entry.is_sent && (gone.is_empty() || !gone.contains(&mark(&entry.thing)))
            })
            .collect();
        if new.len() > MOST_NEW {
            new.sort_by_key(|entry| (appearance(entry), &entry.thing));
            new.drain(MOST_NEW / 2..new.len() - MOST_NEW / 2);
            new.sort_by_key(|entry| &entry.thing);
        }
        let new = new.iter().map(|entry| entry.thing.to_string()).collect();
        self.ends.mark_sent(&shown);
        new
    }
}

/// When a value appeared, as far as that is known.
fn appearance(entry: &Entry<Box<str>, ()>) -> When {
    if entry.is_first() {
        entry.first
    } else {
        entry.last
    }
}

impl Many {
    /// Notes that a value that was sent is not kept any more.
    fn forget(&mut self, value: &str) {
        if self.gone.len() >= MOST_GONE {
            self.gone.drain(..MOST_GONE / 2);
        }
        let mark = mark(value);
        if !self.gone.contains(&mark) {
            self.gone.push(mark);
        }
    }
}

/// A short hash of a value.
fn mark(value: &str) -> u32 {
    let [.., a, b, c, d] = hash(value).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{collection::vec, prelude::*};

    use super::{
        super::ends::{NOT_FIRST, NOT_LAST},
        *,
    };
    use crate::{
        audit::time::Micros,
        detection::hit::{Identity, Place},
    };

    fn when(time: i64) -> When {
        let place: Place = (Micros(time), Identity::default());
        place.into()
    }

    /// The values that are to be shown: all, or half of each end.
    fn wanted(seen: &[(u8, i64)], most: usize) -> Vec<String> {
        let mut spans: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
        for (value, time) in seen {
            let span = spans.entry(*value).or_insert((*time, *time));
            *span = (span.0.min(*time), span.1.max(*time));
        }
        let name = |value: u8| format!("v{value:03}");
        let mut firsts: Vec<_> = spans.iter().map(|(value, span)| (span.0, *value)).collect();
        firsts.sort_unstable();
        let mut lasts: Vec<_> = spans.iter().map(|(value, span)| (span.1, *value)).collect();
        lasts.sort_unstable_by(|a, b| b.cmp(a));
        let mut shown: BTreeSet<u8> = BTreeSet::new();
        if spans.len() > most {
            shown.extend(firsts.iter().take(most - most / 2).map(|(_, value)| *value));
            shown.extend(lasts.iter().take(most / 2).map(|(_, value)| *value));
        }
        for (_, value) in firsts {
            if shown.len() < most {
                shown.insert(value);
            }
        }
        shown.into_iter().map(name).collect()
    }

    proptest! {
        /// Whatever the order of arrival, and in one set or two: half of the values are those that
        /// appeared first, half those that appeared last, and all are counted.
        #[test]
        fn both_ends_are_kept(
            seen in vec((0u8..30, 0i64..40), 0..200),
            most in 1usize..12,
            cut in 0usize..200,
        ) {
            let limits = Limits { values_per_field: most, ..Limits::default() };
            let add = |seen: &[(u8, i64)]| {
                let mut set = ValueSet::default();
                for (value, time) in seen {
                    set.add(&format!("v{value:03}"), when(*time), &limits);
                }
                set
            };
            let set = add(&seen);
            let wanted = wanted(&seen, most);
            prop_assert_eq!(set.list(&limits), wanted.clone());
            let distinct: BTreeSet<_> = seen.iter().map(|(value, _)| value).collect();
            prop_assert_eq!(set.distinct(), distinct.len() as u64);
            prop_assert_eq!(set.is_truncated(), distinct.len() > most);
            let (one, other) = seen.split_at(cut.min(seen.len()));
            let mut merged = add(one);
            merged.merge(&add(other), &limits);
            prop_assert_eq!(merged.list(&limits), wanted.clone());
            prop_assert_eq!(merged.distinct(), set.distinct());
            let texts = set.ends.entries().iter().map(|entry| heap::block(entry.thing.len()));
            prop_assert!(set.heap_bytes() >= texts.sum());
            let mut sorted = seen.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&add(&sorted), &set);
            sorted.reverse();
            prop_assert_eq!(add(&sorted).list(&limits), wanted);
        }

        /// New is what no state has shown before, and all that a state shows is either.
        #[test]
        fn new_is_what_was_not_shown_before(
            seen in vec((0u8..40, 0i64..40, any::<bool>()), 0..200),
            most in 1usize..9,
        ) {
            let limits = Limits { values_per_field: most, ..Limits::default() };
            let mut set = ValueSet::default();
            let mut sent = BTreeSet::new();
            for (value, time, send) in seen {
                set.add(&format!("v{value:03}"), when(time), &limits);
                if send {
                    let list = set.list(&limits);
                    let new: Vec<_> = list.iter().filter(|value| !sent.contains(*value)).cloned().collect();
                    prop_assert_eq!(set.send(&limits), new);
                    sent.extend(list);
                }
            }
        }
    }

    /// A flood of values neither hides what came before nor what comes after, nor costs without
    /// bound.
    #[test]
    fn a_flood_hides_nothing_and_costs_little() {
        let limits = Limits::default();
        let mut set = ValueSet::default();
        set.add("first", when(0), &limits);
        for n in 0..100_000_i64 {
            set.add(&format!("junk{n}"), when(n + 1), &limits);
            if n % 100 == 0 {
                assert!(set.send(&limits).len() <= MOST_NEW);
            }
        }
        set.add("secret", when(200_000), &limits);
        let list = set.list(&limits);
        assert!(list.contains(&"first".to_owned()) && list.contains(&"secret".to_owned()));
        assert_eq!(list.len(), 100);
        assert!(set.send(&limits).contains(&"secret".to_owned()));
        assert!(set.is_estimated() && (90_000..110_000).contains(&set.distinct()));
        assert!(set.heap_bytes() < 32 * 1024, "{}", set.heap_bytes());
        let (first, last) = (NOT_FIRST, NOT_LAST);
        set.put("nowhere", (first, last), 100);
        assert!(!set.list(&limits).contains(&"nowhere".to_owned()));
    }
}
