//! Hits of one key, in order, and the memory they hold.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::native::TimedHit;

/// Hits by time and identity. What they hold is counted as they come and go, for there may be many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hits {
    list: Vec<TimedHit>,
    held: usize,
}

impl Deref for Hits {
    type Target = [TimedHit];

    fn deref(&self) -> &[TimedHit] {
        &self.list
    }
}

impl Hits {
    /// Bytes of memory they hold, about.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Puts a hit in its place.
    pub(super) fn insert(&mut self, hit: TimedHit) {
        let at = self
            .list
            .partition_point(|other| other.place() < hit.place());
        if self.list.is_empty() {
            // Most keys never have a second hit.
            self.list.reserve_exact(1);
        }
        self.held += hit.hit.held();
        self.list.insert(at, hit);
    }

    /// Takes so many from the front.
    pub(super) fn take_first(&mut self, count: usize) -> Self {
        let later = self.list.split_off(count.min(self.list.len()));
        let list = std::mem::replace(&mut self.list, later);
        let held = list.iter().map(|hit| hit.hit.held()).sum();
        self.held = self.held.saturating_sub(held);
        Self { list, held }
    }

    /// Keeps so many from the front.
    pub(super) fn truncate(&mut self, count: usize) {
        let first = self.take_first(count);
        *self = first;
    }
}

impl IntoIterator for Hits {
    type Item = TimedHit;
    type IntoIter = std::vec::IntoIter<TimedHit>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}
