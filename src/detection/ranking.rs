//! Who has to go when the limit of tracked keys, or of the memory they take, is reached: whoever has the fewest hits, and of
//! those the one that has been quiet longest. So a flood of addresses with one request each
//! pushes out its own, and never a scanner.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    escu::GroupPlace,
    heap::{self, Counted},
    time::Micros,
};

/// What is ranked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Slot {
    /// A key of native semantics.
    Key(Arc<str>),
    /// A group of escu semantics.
    Group(GroupPlace),
}

/// A place in the ranking.
pub(super) type Rank = (u64, Micros);

/// What is listed: its rank, cluster, and what it is there.
type Listed = (Rank, Arc<str>, Slot);

/// Bytes on the heap of one place in the ranking.
pub(super) const PLACE: usize = heap::entry(size_of::<Listed>());

/// All that is tracked, least precious first, and the bytes on the heap of all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ranking {
    order: BTreeSet<Listed>,
    bytes: Counted,
}

impl Ranking {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Bytes on the heap of all that is tracked.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.0
    }

    /// Something takes other bytes on the heap than before.
    pub(super) fn resize(&mut self, (before, now): (usize, usize)) {
        self.bytes.0 = (self.bytes.0 + now).saturating_sub(before);
    }

    pub(super) fn insert(&mut self, rank: Rank, cluster: &Arc<str>, slot: Slot) {
        self.order.insert((rank, Arc::clone(cluster), slot));
    }

    pub(super) fn remove(&mut self, rank: Rank, cluster: &Arc<str>, slot: Slot) {
        self.order.remove(&(rank, Arc::clone(cluster), slot));
    }

    /// Takes the least precious if there are more than `most`, or all takes more than `memory`.
    pub(super) fn pop_excess(
        &mut self,
        most: usize,
        memory: usize,
    ) -> Option<(Rank, Arc<str>, Slot)> {
        if self.order.len() <= most && self.bytes.0 <= memory {
            return None;
        }
        self.order.pop_first()
    }
}
