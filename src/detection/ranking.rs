//! Who has to go when the limit of tracked keys is reached: whoever has the fewest hits, and of
//! those the one that has been quiet longest. So a flood of addresses with one request each
//! pushes out its own, and never a scanner.

use std::{collections::BTreeSet, sync::Arc};

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

/// All that is tracked, least precious first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ranking {
    order: BTreeSet<(Rank, Arc<str>, Slot)>,
}

impl Ranking {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn insert(&mut self, rank: Rank, cluster: &Arc<str>, slot: Slot) {
        self.order.insert((rank, Arc::clone(cluster), slot));
    }

    pub(super) fn remove(&mut self, rank: Rank, cluster: &Arc<str>, slot: Slot) {
        self.order.remove(&(rank, Arc::clone(cluster), slot));
    }

    /// Takes the least precious if there are more than `most`.
    pub(super) fn pop_excess(&mut self, most: usize) -> Option<(Rank, Arc<str>, Slot)> {
        if self.order.len() > most {
            self.order.pop_first()
        } else {
            None
        }
    }
}
