//! The groups of tumbling windows: what events are grouped by.

use std::sync::Arc;

use super::{geo::Place, heap, key_table::Name, time::Micros};

/// What events are grouped by: the key of a hit, or a source address as logged with its country
/// and city.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) text: Box<str>,
    pub(super) place: Place,
}

/// A group of one window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId {
    /// Start of the window.
    pub(super) start: Micros,
    pub(super) key: Arc<GroupKey>,
}

impl Name for GroupId {
    fn heap_bytes(&self) -> usize {
        let GroupKey { text, place } = &*self.key;
        let (country, city) = place;
        let place = [country, city].map(|name| name.as_ref().map_or(0, String::capacity));
        heap::shared(size_of::<GroupKey>())
            + heap::block(text.len())
            + place.map(heap::block).iter().sum::<usize>()
    }
}
