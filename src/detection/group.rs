//! The groups of tumbling windows: what events are grouped by.

use std::{hash::BuildHasher as _, sync::Arc};

use super::{
    geo::Place,
    heap,
    key_table::{Name, Seeds},
    key_text::KeyText,
    time::Micros,
};

/// What events are grouped by: the key of a hit, or a source address as logged with its country
/// and city.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) text: KeyText,
    /// `None` without a country and without a city.
    pub(super) place: Option<Arc<Place>>,
}

impl GroupKey {
    pub(super) fn new(text: &str, place: Place) -> Self {
        Self {
            text: KeyText::from(text),
            place: (place != (None, None)).then(|| Arc::new(place)),
        }
    }

    /// Whether it is this one.
    pub(super) fn is(&self, text: &str, place: &Place) -> bool {
        self.text.is(text) && self.place() == place
    }

    /// Country and city.
    pub(super) fn place(&self) -> &Place {
        const NOWHERE: &Place = &(None, None);
        self.place.as_deref().unwrap_or(NOWHERE)
    }

    /// The hash of a group with these seeds.
    pub(super) fn hash_of(text: &str, place: &Place, seeds: &Seeds) -> u64 {
        seeds.hash_one((text, place))
    }
}

impl Name for GroupKey {
    fn heap_bytes(&self) -> usize {
        let place = self.place.as_ref().map_or(0, |place| {
            let (country, city) = &**place;
            let names = [country, city].map(|name| name.as_ref().map_or(0, String::capacity));
            heap::shared(size_of::<Place>()) + names.map(heap::block).iter().sum::<usize>()
        });
        self.text.heap_bytes() + place
    }

    fn hash(&self, seeds: &Seeds) -> u64 {
        self.text
            .with(|text| Self::hash_of(text, self.place(), seeds))
    }

    fn prefix(&self) -> u128 {
        self.text.prefix()
    }
}

/// A group of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupId {
    /// Start of the window.
    pub(super) start: Micros,
    pub(super) key: GroupKey,
}
