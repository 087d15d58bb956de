//! Hits of one key, in order of event time, and the memory they take.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use super::{
    evidence_log::EvidenceLog,
    heap,
    hit::{Identity, Place},
    packed::{Brief, Packed},
    threshold::{Alert, ValueIndex},
    time::{BEGINNING, Micros},
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

    /// Gives a label to a hit, if it is among them.
    pub(super) fn label(&mut self, place: Place, label: usize) {
        if let Ok(at) = self.list.binary_search_by_key(&place, |hit| hit.place)
            && let Some(hit) = self.list.get_mut(at)
        {
            hit.packed.label(label);
        }
    }

    fn forget_texts(&mut self, taken: &[Kept]) {
        let texts: usize = taken.iter().map(|hit| hit.packed.heap_bytes()).sum();
        self.texts = self.texts.saturating_sub(texts);
    }
}

/// A hit without its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slim {
    pub(super) place: Place,
    pub(super) brief: Brief,
}

impl Slim {
    fn time(&self) -> Micros {
        self.place.0
    }

    /// The hit with its texts, which are in the log no longer.
    pub(super) fn take(self, log: &mut EvidenceLog) -> Kept {
        Kept {
            place: self.place,
            packed: self.brief.with(log.take(self.brief.number())),
        }
    }
}

/// Hits that belong to no finding: one as a rule, few as long as none is found, very many where
/// distinct values are counted and repeated. Whatever their number and the order they come in, a
/// hit is found, put in its place and taken from the front in a number of steps that grows as its
/// logarithm. Their texts are in the evidence log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Unassigned {
    #[default]
    None,
    One(Slim),
    /// Two or more, in order.
    Few(Vec<Slim>),
    Many(Box<Many>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Many {
    hits: BTreeMap<Place, Brief>,
    identities: BTreeSet<Identity>,
    /// Where distinct values are counted, and the length of a window there.
    values: Option<(ValueIndex, i64)>,
}

/// In which form unassigned hits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Few,
    Many {
        /// Length of a window in microseconds, where distinct values are counted.
        value_window: Option<i64>,
    },
}

impl Unassigned {
    /// With more than these a list is slower than a tree.
    const FEW: usize = 32;

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Few(list) => heap::list(list),
            Self::Many(many) => {
                let values = many.values.as_ref();
                heap::block(size_of::<Many>())
                    + heap::tree(many.hits.len(), size_of::<(Place, Brief)>())
                    + heap::tree(many.identities.len(), size_of::<Identity>())
                    + values.map_or(0, |(index, _)| index.heap_bytes())
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Many(many) => many.hits.len(),
            _ => self.few().len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn contains(&self, identity: Identity) -> bool {
        match self {
            Self::Many(many) => many.identities.contains(&identity),
            _ => self.few().iter().any(|hit| hit.place.1 == identity),
        }
    }

    /// The hits in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slim> + '_ {
        let many = self.many().into_iter().flat_map(|many| many.hits.iter());
        let many = many.map(|(place, brief)| Slim {
            place: *place,
            brief: *brief,
        });
        self.few().iter().copied().chain(many)
    }

    /// Those of the hits, in order, that decide whether a window is above the threshold.
    pub(super) fn counted(&self, alert: &Alert) -> impl Iterator<Item = Place> + Clone + '_ {
        let (all, index) = self.split(alert);
        let all = all.flat_map(|many| many.hits.keys().copied());
        let few = self.few().iter().map(|hit| hit.place);
        few.chain(all).chain(index.flat_map(ValueIndex::iter))
    }

    /// Those of them that are later than one time and earlier than another.
    pub(super) fn counted_between(
        &self,
        after: Micros,
        before: Micros,
        alert: &Alert,
    ) -> impl Iterator<Item = Place> + Clone + '_ {
        let few = self.few().iter().map(|hit| hit.place);
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
        let many = self.many();
        let index = many.and_then(|many| many.values.as_ref());
        (
            many.filter(|_| !counts_values).into_iter(),
            index.map(|(index, _)| index).into_iter(),
        )
    }

    fn few(&self) -> &[Slim] {
        match self {
            Self::None | Self::Many(_) => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Few(list) => list,
        }
    }

    fn many(&self) -> Option<&Many> {
        match self {
            Self::Many(many) => Some(many),
            _ => None,
        }
    }

    /// In which form they are kept.
    pub(super) fn form(&self) -> Form {
        match self.many() {
            Some(many) => Form::Many {
                value_window: many.values.as_ref().map(|(_, window)| *window),
            },
            None => Form::Few,
        }
    }

    /// Hits as they were kept.
    pub(super) fn restored(hits: Vec<Slim>, form: Form) -> Self {
        match form {
            Form::Many { value_window } => {
                let mut many = Box::new(Many {
                    values: value_window.map(|window| (ValueIndex::default(), window)),
                    ..Many::default()
                });
                for hit in hits {
                    many.insert(hit);
                }
                Self::Many(many)
            }
            Form::Few => Self::of_few(hits),
        }
    }

    fn of_few(mut hits: Vec<Slim>) -> Self {
        match hits.len() {
            0 | 1 => hits.pop().map_or(Self::None, Self::One),
            _ => {
                hits.sort_unstable_by_key(|hit| hit.place);
                Self::Few(hits)
            }
        }
    }

    /// Takes a hit that is not among them; whether a window may have come above the threshold by
    /// it.
    pub(super) fn insert(&mut self, hit: Slim, alert: &Alert) -> bool {
        match self {
            Self::None => {
                *self = Self::One(hit);
                true
            }
            Self::One(one) => {
                // There may be a million keys with two hits.
                let mut list = Vec::with_capacity(2);
                list.extend([*one, hit]);
                *self = Self::of_few(list);
                true
            }
            Self::Few(list) if list.len() < Self::FEW => {
                let at = list.partition_point(|other| other.place < hit.place);
                if list.len() < Self::FEW / 4 {
                    list.reserve_exact(1);
                }
                list.insert(at, hit);
                true
            }
            Self::Few(list) => {
                let mut many = Box::new(Many::new(alert));
                for hit in std::mem::take(list) {
                    many.insert(hit);
                }
                let may_alert = many.insert(hit);
                *self = Self::Many(many);
                may_alert
            }
            Self::Many(many) => many.insert(hit),
        }
    }

    /// Gives a label to a hit; whether it is among them.
    pub(super) fn label(&mut self, place: Place, label: usize) -> bool {
        let brief = match self {
            Self::None => None,
            Self::One(one) => Some(one)
                .filter(|one| one.place == place)
                .map(|one| &mut one.brief),
            Self::Few(list) => {
                let at = list.binary_search_by_key(&place, |hit| hit.place);
                let hit = at.ok().and_then(|at| list.get_mut(at));
                hit.map(|hit| &mut hit.brief)
            }
            Self::Many(many) => many.hits.get_mut(&place),
        };
        let is_here = brief.is_some();
        if let Some(brief) = brief {
            brief.label(label);
        }
        is_here
    }

    pub(super) fn first(&self) -> Option<Place> {
        match self {
            Self::Many(many) => many.hits.first_key_value().map(|(place, _)| *place),
            _ => self.few().first().map(|hit| hit.place),
        }
    }

    /// Time of the latest; before all others when there is none.
    pub(super) fn last(&self) -> Micros {
        let last = match self {
            Self::Many(many) => many.hits.last_key_value().map(|((time, _), _)| *time),
            _ => self.few().last().map(Slim::time),
        };
        last.unwrap_or(BEGINNING)
    }

    pub(super) fn pop_first(&mut self) -> Option<Slim> {
        match std::mem::take(self) {
            Self::None => None,
            Self::One(one) => Some(one),
            Self::Few(mut list) => {
                let first = (!list.is_empty()).then(|| list.remove(0));
                *self = match list.as_slice() {
                    [] => Self::None,
                    [one] => Self::One(*one),
                    _ => Self::Few(list),
                };
                first
            }
            Self::Many(mut many) => {
                let first = many.pop_first();
                *self = if many.hits.len() <= Self::FEW / 2 {
                    Self::of_few(std::iter::from_fn(|| many.pop_first()).collect())
                } else {
                    Self::Many(many)
                };
                first
            }
        }
    }

    /// Gives back memory that a list has taken in advance.
    pub(super) fn shrink(&mut self) {
        if let Self::Few(list) = self {
            list.shrink_to_fit();
        }
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
    fn insert(&mut self, Slim { place, brief }: Slim) -> bool {
        self.identities.insert(place.1);
        self.hits.insert(place, brief);
        self.values
            .as_mut()
            .is_none_or(|(index, window)| index.insert(place, *window))
    }

    fn pop_first(&mut self) -> Option<Slim> {
        let (place, brief) = self.hits.pop_first()?;
        self.identities.remove(&place.1);
        if let Some((index, window)) = &mut self.values {
            index.remove_first(place, *window);
        }
        Some(Slim { place, brief })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{
            hit::{LabelSet, Texts},
            packed::Fields,
        },
        *,
    };

    const EVENTS: Alert = Alert {
        aggregate: Aggregate::Events,
        threshold: 5,
        window: 10,
    };

    fn slim(place: Place, number: u64) -> Slim {
        let texts = Texts::default();
        let fields = Fields {
            code: 403,
            clamped: false,
            labels: LabelSet::default(),
            is_unverified: false,
            texts: &texts,
        };
        Slim {
            place,
            brief: Brief::new(&fields, number),
        }
    }

    proptest! {
        /// Few or many, they are what a sorted list of them would be.
        #[test]
        fn unassigned_hits_are_a_sorted_list(
            steps in vec((0i64..60, 0u8..4), 0..400),
        ) {
            let mut hits = Unassigned::default();
            let mut list: Vec<Place> = Vec::new();
            for (at, (time, what)) in steps.into_iter().enumerate() {
                let mut identity = [0; 16];
                identity[..8].copy_from_slice(&(at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
                if what == 0 {
                    let first = (!list.is_empty()).then(|| list.remove(0));
                    prop_assert_eq!(hits.pop_first().map(|hit| hit.place), first);
                } else {
                    let place = (Micros(time), Identity(identity));
                    hits.insert(slim(place, at as u64), &EVENTS);
                    list.insert(list.partition_point(|other| *other < place), place);
                }
                prop_assert_eq!(hits.counted(&EVENTS).collect::<Vec<_>>(), list.clone());
                prop_assert_eq!((hits.len(), hits.is_empty()), (list.len(), list.is_empty()));
                prop_assert_eq!(hits.first(), list.first().copied());
                prop_assert_eq!(hits.last(), list.last().map_or(BEGINNING, |last| last.0));
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
                let same = Unassigned::restored(hits.iter().collect(), hits.form());
                prop_assert_eq!(&same, &hits);
            }
        }
    }

    #[test]
    fn a_hit_without_its_texts_is_small() {
        assert!(size_of::<Slim>() <= 40);
        assert!(size_of::<Unassigned>() <= 48);
        let hit = slim((Micros(5), Identity([7; 16])), 1 << 40);
        assert_eq!(hit.brief.number(), 1 << 40);
    }
}
