//! What only keys with more than one hit need.

use super::{
    super::{
        dedup::DedupSet,
        heap,
        time::{BEGINNING, Micros},
    },
    open::Open,
};

/// What a key has that has had more than one hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Rest {
    /// Requests that are remembered besides those of unassigned hits.
    pub(in crate::detection) dedup: Option<Box<DedupSet>>,
    pub(in crate::detection) open: Option<Box<Open>>,
    /// The finding of a later scan, while the first may still grow.
    pub(in crate::detection) next: Option<Box<Open>>,
    /// Time of the latest hit.
    pub(in crate::detection) last: Micros,
    /// Hits so far, where each delivery of a request counts: it distinguishes them.
    pub(in crate::detection) deliveries: u64,
    /// Whether a window of unassigned hits may be above the threshold although a place is free: a
    /// third scan has waited for it.
    pub(in crate::detection) is_unchecked: bool,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            dedup: None,
            open: None,
            next: None,
            last: BEGINNING,
            deliveries: 0,
            is_unchecked: false,
        }
    }
}

impl Rest {
    /// Its findings, in order of event time.
    pub(super) fn findings(&self) -> impl Iterator<Item = &Open> + Clone {
        [&self.open, &self.next]
            .into_iter()
            .flatten()
            .map(|open| &**open)
    }

    /// The last of its findings, in order of event time.
    pub(super) fn last_finding(&mut self) -> Option<&mut Open> {
        self.next.as_deref_mut().or(self.open.as_deref_mut())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let open = self.findings().map(Open::heap_bytes);
        let dedup = self.dedup.as_ref().map_or(0, |set| {
            heap::block(size_of::<DedupSet>()) + set.heap_bytes()
        });
        heap::block(size_of::<Self>()) + dedup + open.sum::<usize>()
    }
}
