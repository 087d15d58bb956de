//! What the records of a resource say of their clusters, while it is screened.

use std::{collections::BTreeMap, sync::Arc};

use super::{feed::Feed, hit::Hit};

/// A cluster that a record names, or only its envelope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) cluster: Arc<str>,
    /// Only its envelope does.
    pub(super) is_of_envelope: bool,
}

/// What the records of a resource say of their clusters.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// That of the record at hand.
    pub(super) current: Option<Name>,
    pub(super) feeds: BTreeMap<Name, Feed>,
    /// Hits whose envelope names a cluster.
    pub(super) of_envelopes: Vec<usize>,
    /// Bytes of names.
    pub(super) bytes: usize,
}

impl Named {
    /// Names a hit that will stand at this place, if its record says so.
    #[inline]
    pub(super) fn name(&mut self, hit: &mut Hit, place: usize) {
        if let Some(name) = &self.current {
            hit.cluster = Arc::clone(&name.cluster);
            if name.is_of_envelope {
                self.of_envelopes.push(place);
            }
        }
    }

    /// Bytes on the heap, about.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes
            + self.of_envelopes.capacity() * size_of::<usize>()
            + self.feeds.len() * 2 * size_of::<(Name, Feed)>()
    }
}
