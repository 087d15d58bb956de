//! A thing of which the first and the last hit are known, and how it is found.

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

/// Something that is found by its hash.
pub(super) trait Thing: Ord + Bytes {
    /// A hash of it that who sends it may know.
    fn hash(&self) -> u64;
}

/// What is looked for: as a thing, before there is one.
pub(super) trait Sought<T> {
    /// Whether it is this thing.
    fn is(&self, thing: &T) -> bool;

    /// The hash of the thing.
    fn hash(&self) -> u64;
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
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let details = self.first_detail.iter().chain(&self.last_detail);
        self.thing.heap_bytes() + details.map(Bytes::heap_bytes).sum::<usize>()
    }
}
