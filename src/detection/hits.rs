//! Hits of one key, in order of event time, and the memory they take.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use super::{
    heap,
    hit::{Identity, Place},
    limits::Limits,
    packed::{Fields, Packed},
    threshold::{Alert, ValueIndex},
    time::Micros,
};
use crate::rules::model::Aggregate;

/// A hit as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) place: Place,
    pub(super) packed: Packed,
}

impl Kept {
    pub(super) fn time(&self) -> Micros {
        self.place.0
    }
}

/// A few hits in order: no more than can share a few windows below the threshold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Few {
    list: Vec<Kept>,
    /// Bytes on the heap of what is in the list.
    texts: usize,
}

impl Deref for Few {
    type Target = [Kept];

    fn deref(&self) -> &[Kept] {
        &self.list
    }
}

impl Few {
    pub(super) fn heap_bytes(&self) -> usize {
        heap::list(&self.list) + self.texts
    }

    /// Puts a hit in its place.
    pub(super) fn insert(&mut self, hit: Kept) {
        let at = self.list.partition_point(|other| other.place < hit.place);
        if self.list.is_empty() {
            // Most keys never have a second hit.
            self.list.reserve_exact(1);
        }
        self.texts += hit.packed.heap_bytes();
        self.list.insert(at, hit);
    }

    /// Appends a hit that is later than all others.
    pub(super) fn push(&mut self, hit: Kept) {
        if self.list.is_empty() {
            self.list.reserve_exact(1);
        }
        self.texts += hit.packed.heap_bytes();
        self.list.push(hit);
    }

    /// Takes this many from the front.
    pub(super) fn take_first(&mut self, count: usize) -> Vec<Kept> {
        let taken: Vec<_> = self.list.drain(..count.min(self.list.len())).collect();
        self.forget_texts(&taken);
        taken
    }

    /// Keeps this many from the front.
    pub(super) fn truncate(&mut self, count: usize) {
        let taken: Vec<_> = self.list.drain(count.min(self.list.len())..).collect();
        self.forget_texts(&taken);
    }

    /// Gives up the texts of all hits later than `time`.
    pub(super) fn strip_after(&mut self, time: Micros) {
        for hit in self.list.iter_mut().rev() {
            if hit.place.0 <= time {
                return;
            }
            self.texts = self.texts.saturating_sub(hit.packed.heap_bytes());
            hit.packed.strip();
        }
    }

    fn forget_texts(&mut self, taken: &[Kept]) {
        let texts: usize = taken.iter().map(|hit| hit.packed.heap_bytes()).sum();
        self.texts = self.texts.saturating_sub(texts);
    }
}

/// Hits that belong to no finding: a few as a rule, very many when a scan waits for the finding
/// before it to close. Whatever their number and the order they come in, a hit is found, put in
/// its place and taken from the front in a number of steps that grows as its logarithm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unassigned {
    /// All of them while there are few; else empty.
    few: Few,
    many: Option<Box<Many>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Many {
    hits: BTreeMap<Place, Packed>,
    identities: BTreeSet<Identity>,
    /// Bytes on the heap of what is packed.
    texts: usize,
    /// Hits from here on are without texts.
    bare_from: Option<Place>,
    /// Where distinct values are counted, and the length of a window there.
    values: Option<(ValueIndex, i64)>,
}

/// How many hits are kept, besides the hits themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct ManyState {
    /// Hits from here on are without texts.
    pub(super) bare_from: Option<Place>,
    /// Length of a window in microseconds, where distinct values are counted.
    pub(super) value_window: Option<i64>,
}

impl Unassigned {
    /// With more than these a list is slower than a tree.
    const FEW: usize = 32;
    /// Part of the memory of all keys that the texts of one may take. Of the texts of a hundred
    /// hits a finding could hardly keep more than some; those of the latest give way.
    const SHARE: usize = 32;

    pub(super) fn heap_bytes(&self) -> usize {
        let many = self.many.as_ref().map_or(0, |many| {
            heap::block(size_of::<Many>())
                + many.texts
                + heap::tree(many.hits.len(), size_of::<(Place, Packed)>())
                + heap::tree(many.identities.len(), size_of::<Identity>())
                + many
                    .values
                    .as_ref()
                    .map_or(0, |(index, _)| index.heap_bytes())
        });
        self.few.heap_bytes() + many
    }

    pub(super) fn len(&self) -> usize {
        match &self.many {
            Some(many) => many.hits.len(),
            None => self.few.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn contains(&self, identity: Identity) -> bool {
        match &self.many {
            Some(many) => many.identities.contains(&identity),
            None => self.few.iter().any(|hit| hit.place.1 == identity),
        }
    }

    /// The hits in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &Packed)> + '_ {
        let many = self.many.iter().flat_map(|many| many.hits.iter());
        let few = self.few.iter().map(|hit| (hit.place, &hit.packed));
        few.chain(many.map(|(place, packed)| (*place, packed)))
    }

    /// Those of the hits, in order, that decide whether a window is above the threshold.
    pub(super) fn counted(&self, alert: &Alert) -> impl Iterator<Item = Place> + Clone + '_ {
        let (all, index) = self.split(alert);
        let all = all.flat_map(|many| many.hits.keys().copied());
        let few = self.few.iter().map(|hit| hit.place);
        few.chain(all).chain(index.flat_map(ValueIndex::iter))
    }

    /// Those of them that are later than one time and earlier than another.
    pub(super) fn counted_between(
        &self,
        after: Micros,
        before: Micros,
        alert: &Alert,
    ) -> impl Iterator<Item = Place> + Clone + '_ {
        let few = self.few.iter().map(|hit| hit.place);
        let few = few.filter(move |(time, _)| *time > after && *time < before);
        let from = (after.plus(1), Identity([0; 16]));
        let (all, index) = self.split(alert);
        let all = all.flat_map(move |many| {
            many.hits
                .range(from..)
                .map(|(place, _)| *place)
                .take_while(move |(time, _)| *time < before)
        });
        few.chain(all)
            .chain(index.flat_map(move |index| index.between(after, before)))
    }

    /// The tree of many hits, or the index of their values where that is what counts.
    fn split(
        &self,
        alert: &Alert,
    ) -> (
        impl Iterator<Item = &Many> + Clone + '_,
        impl Iterator<Item = &ValueIndex> + Clone + '_,
    ) {
        let counts_values = alert.aggregate == Aggregate::Values;
        let many = self.many.as_deref();
        let index = many.and_then(|many| many.values.as_ref());
        (
            many.filter(|_| !counts_values).into_iter(),
            index.map(|(index, _)| index).into_iter(),
        )
    }

    /// How many hits are kept; `None` while they are few.
    pub(super) fn many(&self) -> Option<ManyState> {
        self.many.as_ref().map(|many| ManyState {
            bare_from: many.bare_from,
            value_window: many.values.as_ref().map(|(_, window)| *window),
        })
    }

    /// Hits as they were kept.
    pub(super) fn restored(hits: Vec<Kept>, many: Option<ManyState>) -> Self {
        let mut restored = Self::default();
        match many {
            Some(ManyState {
                bare_from,
                value_window,
            }) => {
                let mut many = Box::new(Many {
                    values: value_window.map(|window| (ValueIndex::default(), window)),
                    ..Many::default()
                });
                for hit in hits {
                    many.insert(hit.place, hit.packed);
                }
                many.bare_from = bare_from;
                restored.many = Some(many);
            }
            None => {
                for hit in hits {
                    restored.few.insert(hit);
                }
            }
        }
        restored
    }

    /// Takes a hit that is not among them; whether a window may have come above the threshold by
    /// it.
    pub(super) fn insert(
        &mut self,
        place: Place,
        fields: &Fields<'_>,
        limits: &Limits,
        alert: &Alert,
    ) -> bool {
        if self.many.is_none() && self.few.len() >= Self::FEW {
            let mut many = Box::new(Many::new(alert));
            for hit in std::mem::take(&mut self.few).list {
                many.insert(hit.place, hit.packed);
            }
            self.many = Some(many);
        }
        let Some(many) = &mut self.many else {
            let packed = Packed::of(fields);
            self.few.insert(Kept { place, packed });
            return true;
        };
        let packed = if many.bare_from.is_some_and(|from| place >= from) {
            Packed::bare(fields)
        } else {
            Packed::of(fields)
        };
        let may_alert = many.insert(place, packed);
        many.keep_texts(limits.memory / Self::SHARE);
        may_alert
    }

    pub(super) fn first(&self) -> Option<Place> {
        match &self.many {
            Some(many) => many.hits.first_key_value().map(|(place, _)| *place),
            None => self.few.first().map(|hit| hit.place),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<Kept> {
        let Some(many) = &mut self.many else {
            return self.few.take_first(1).pop();
        };
        let hit = many.pop_first();
        if many.hits.len() <= Self::FEW / 2 {
            while let Some(hit) = many.pop_first() {
                self.few.insert(hit);
            }
            self.many = None;
        }
        hit
    }

    /// Gives back memory that a list has taken in advance.
    pub(super) fn shrink(&mut self) {
        self.few.list.shrink_to_fit();
    }
}

impl Many {
    fn new(alert: &Alert) -> Self {
        Self {
            values: (alert.aggregate == Aggregate::Values)
                .then(|| (ValueIndex::default(), alert.window)),
            ..Self::default()
        }
    }

    /// Takes a hit; whether a window may have come above the threshold by it.
    fn insert(&mut self, place: Place, packed: Packed) -> bool {
        self.texts += packed.heap_bytes();
        self.identities.insert(place.1);
        self.hits.insert(place, packed);
        self.values
            .as_mut()
            .is_none_or(|(index, window)| index.insert(place, *window))
    }

    fn pop_first(&mut self) -> Option<Kept> {
        let (place, packed) = self.hits.pop_first()?;
        self.identities.remove(&place.1);
        if let Some((index, window)) = &mut self.values {
            index.remove_first(place, *window);
        }
        self.texts = self.texts.saturating_sub(packed.heap_bytes());
        if self.bare_from.is_some_and(|from| from <= place) {
            // What comes now may have its texts again.
            self.bare_from = None;
        }
        Some(Kept { place, packed })
    }

    /// Gives up the texts of the latest until the others take at most this many bytes.
    fn keep_texts(&mut self, most: usize) {
        while self.texts > most {
            let latest = match self.bare_from {
                Some(from) => self.hits.range_mut(..from).next_back(),
                None => self.hits.iter_mut().next_back(),
            };
            let Some((place, packed)) = latest else {
                return;
            };
            self.bare_from = Some(*place);
            self.texts = self.texts.saturating_sub(packed.heap_bytes());
            packed.strip();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{fields::AuditField, hit::Texts},
        *,
    };

    const EVENTS: Alert = Alert {
        aggregate: Aggregate::Events,
        threshold: 5,
        window: 10,
    };

    fn texts(uri: &str) -> Texts {
        Texts::from_iter([(AuditField::RequestUri, uri)])
    }

    fn fields(texts: &Texts) -> Fields<'_> {
        Fields {
            code: 403,
            clamped: false,
            labels: super::super::hit::LabelSet::default(),
            texts,
        }
    }

    proptest! {
        /// Few or many, they are what a sorted list of them would be.
        #[test]
        fn unassigned_hits_are_a_sorted_list(
            steps in vec((0i64..60, 0u8..4, 0usize..30), 0..400),
            share in prop_oneof![Just(usize::MAX), 0usize..3000],
        ) {
            let limits = Limits {
                memory: share.saturating_mul(Unassigned::SHARE),
                ..Limits::default()
            };
            let mut hits = Unassigned::default();
            let mut list: Vec<Place> = Vec::new();
            for (at, (time, what, length)) in steps.into_iter().enumerate() {
                let mut identity = [0; 16];
                identity[..8].copy_from_slice(&(at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
                if what == 0 {
                    let first = (!list.is_empty()).then(|| list.remove(0));
                    prop_assert_eq!(hits.pop_first().map(|hit| hit.place), first);
                } else {
                    let place = (Micros(time), Identity(identity));
                    hits.insert(place, &fields(&texts(&"x".repeat(length))), &limits, &EVENTS);
                    list.insert(list.partition_point(|other| *other < place), place);
                }
                prop_assert_eq!(hits.counted(&EVENTS).collect::<Vec<_>>(), list.clone());
                prop_assert_eq!((hits.len(), hits.is_empty()), (list.len(), list.is_empty()));
                prop_assert_eq!(hits.first(), list.first().copied());
                let (after, before) = (Micros(time - 7), Micros(time + 5));
                let between = list.iter().filter(|hit| hit.0 > after && hit.0 < before);
                prop_assert_eq!(
                    hits.counted_between(after, before, &EVENTS).collect::<Vec<_>>(),
                    between.copied().collect::<Vec<_>>()
                );
                for (_, identity) in &list {
                    prop_assert!(hits.contains(*identity));
                }
                prop_assert!(!hits.contains(Identity([0xff; 16])));
                if let Some(many) = &hits.many {
                    prop_assert!(many.texts <= share);
                    let texts: usize = many.hits.values().map(Packed::heap_bytes).sum();
                    prop_assert_eq!(many.texts, texts);
                    // It is the latest that are without texts.
                    let bare: Vec<_> = many.hits.values().map(Packed::is_bare).collect();
                    if share == usize::MAX {
                        prop_assert!(!bare.contains(&true));
                    }
                } else {
                    let texts: usize = hits.few.iter().map(|hit| hit.packed.heap_bytes()).sum();
                    prop_assert_eq!(hits.few.texts, texts);
                }
            }
        }
    }

    #[test]
    fn texts_beyond_the_share_are_those_of_the_latest_hits() {
        const HITS: usize = 1000;
        let uri = "x".repeat(100);
        let limits = Limits {
            memory: Unassigned::SHARE * HITS / 4 * 128,
            ..Limits::default()
        };
        for order in [|n: usize| n, |n| HITS - n, |n| n * 619 % HITS] {
            let mut hits = Unassigned::default();
            for n in 0..HITS {
                let mut identity = [0; 16];
                identity[..8].copy_from_slice(&(n as u64).to_be_bytes());
                let time = Micros(i64::try_from(order(n)).unwrap());
                hits.insert(
                    (time, Identity(identity)),
                    &fields(&texts(&uri)),
                    &limits,
                    &EVENTS,
                );
            }
            let bare: Vec<_> = std::iter::from_fn(|| hits.pop_first())
                .map(|hit| hit.packed.is_bare())
                .collect();
            let whole = bare.iter().filter(|bare| !**bare).count();
            assert!((200..=260).contains(&whole), "{whole}");
            assert!(bare.is_sorted(), "the earliest have theirs");
        }
    }
}
