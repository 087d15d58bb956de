//! The dedup set: identities of requests that were counted, the latest of them within a bound.

use std::collections::HashSet;

use super::{
    heap,
    hit::Identity,
    keyed::Seeds,
    time::{BEGINNING, Micros},
};

/// Two generations of identities. When the young one has grown to half the bound it becomes the
/// old one, and the old one is forgotten: so at least half the bound is always remembered, and
/// forgetting costs nothing per request.
///
/// Invariant: what `insert` and `forget` return is never earlier than a request forgotten by them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DedupSet {
    pub(super) young: Generation,
    pub(super) old: Generation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    /// Only asked for one by one: their order plays no part.
    pub(super) identities: HashSet<Identity, Seeds>,
    /// Latest event time of them.
    pub(super) last: Micros,
}

/// What was forgotten to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) requests: u64,
    /// Latest event time of them.
    pub(super) until: Micros,
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            identities: HashSet::default(),
            last: BEGINNING,
        }
    }
}

impl DedupSet {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        [&self.young, &self.old]
            .map(|one| heap::table(one.identities.capacity(), size_of::<Identity>()))
            .iter()
            .sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.young.identities.is_empty() && self.old.identities.is_empty()
    }

    pub(super) fn contains(&self, identity: Identity) -> bool {
        self.young.identities.contains(&identity) || self.old.identities.contains(&identity)
    }

    /// Remembers a request, of at most `most`.
    pub(super) fn insert(&mut self, identity: Identity, time: Micros, most: usize) -> Forgotten {
        let mut forgotten = Forgotten {
            requests: 0,
            until: BEGINNING,
        };
        if self.young.identities.len() >= most.div_ceil(2) {
            let young = std::mem::take(&mut self.young);
            let old = std::mem::replace(&mut self.old, young);
            forgotten = Forgotten {
                requests: old.identities.len() as u64,
                until: old.last,
            };
        }
        self.young.identities.insert(identity);
        self.young.last = self.young.last.max(time);
        forgotten
    }

    /// Forgets generations that lie wholly at or before `horizon`; the latest time forgotten.
    pub(super) fn forget(&mut self, horizon: Micros) -> Micros {
        let mut until = BEGINNING;
        for generation in [&mut self.young, &mut self.old] {
            if generation.last <= horizon {
                until = until.max(std::mem::take(generation).last);
            }
        }
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: u64) -> Identity {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Identity(bytes)
    }

    #[test]
    fn remembers_the_latest_within_the_bound() {
        let mut set = DedupSet::default();
        let mut forgotten = 0;
        for n in 0..1000 {
            forgotten += set
                .insert(identity(n), Micros(n.cast_signed()), 10)
                .requests;
            assert!(set.young.identities.len() + set.old.identities.len() <= 10);
            for recent in n.saturating_sub(4)..=n {
                assert!(set.contains(identity(recent)));
            }
        }
        assert_eq!(forgotten, 990);
        assert!(!set.contains(identity(0)));
    }

    #[test]
    fn forgets_what_is_behind_the_horizon() {
        let mut set = DedupSet::default();
        for n in 0..7 {
            set.insert(identity(n), Micros(n.cast_signed()), 10);
        }
        assert_eq!(set.forget(Micros(3)), BEGINNING);
        assert_eq!(set.forget(Micros(4)), Micros(4));
        assert!(!set.contains(identity(4)) && set.contains(identity(5)));
    }
}
