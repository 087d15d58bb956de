//! Who has to go when the limit of tracked keys, or of the memory they hold, is reached: whoever has the fewest hits, and of
//! those the one that has been quiet longest. So a flood of addresses with one request each
//! pushes out its own, and never a scanner.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{escu::GroupPlace, time::Micros};

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

/// All that is tracked, least precious first, with the memory it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ranking {
    order: BTreeMap<(Rank, Arc<str>, Slot), usize>,
    held: usize,
}

impl Ranking {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Bytes of memory that all of it holds, about.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Puts something in its place, or says anew what it holds there.
    pub(super) fn put(&mut self, rank: Rank, cluster: &Arc<str>, slot: Slot, held: usize) {
        let before = self.order.insert((rank, Arc::clone(cluster), slot), held);
        self.held = (self.held + held).saturating_sub(before.unwrap_or(0));
    }

    pub(super) fn remove(&mut self, rank: Rank, cluster: &Arc<str>, slot: Slot) {
        let held = self.order.remove(&(rank, Arc::clone(cluster), slot));
        self.held = self.held.saturating_sub(held.unwrap_or(0));
    }

    /// Takes the least precious if there are more than `most`, or they hold more than `memory`.
    pub(super) fn pop_excess(
        &mut self,
        most: usize,
        memory: usize,
    ) -> Option<(Rank, Arc<str>, Slot)> {
        if self.order.len() <= most && self.held <= memory {
            return None;
        }
        let (place, held) = self.order.pop_first()?;
        self.held = self.held.saturating_sub(held);
        Some(place)
    }
}
