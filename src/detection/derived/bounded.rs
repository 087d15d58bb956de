//! Addresses of one network or one peer, in order: a few hundred at most, of which the weakest gives
//! way.
//!
//! Who has more addresses than are kept makes a new one each time, so that has to be cheap: which is
//! the weakest is looked for in a list of numbers alone, and its place is closed and that of the new
//! one opened in one move.

use super::{key::Octets, ring::Ring};
use crate::detection::heap;

/// Addresses that are kept.
const MOST: usize = 256;

/// What is kept of an address.
pub(in crate::detection) trait Weighed: Copy + PartialEq {
    fn octets(&self) -> Octets;

    fn ring(&self) -> &Ring;

    /// Its requests.
    fn count(&self) -> u32;
}

/// By which the weakest gives way: requests, then the slot of the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Strength(u64);

impl Strength {
    fn of(one: &impl Weighed) -> Self {
        Self((u64::from(one.count()) << 32) | u64::from(one.ring().newest))
    }
}

/// What is kept of addresses, in their order.
#[derive(Clone, Debug)]
pub(in crate::detection) struct Bounded<E> {
    all: Vec<E>,
    /// Of each of them.
    strengths: Vec<Strength>,
    /// None is over before this slot is.
    earliest: u32,
}

impl<E> Default for Bounded<E> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            strengths: Vec::new(),
            earliest: 0,
        }
    }
}

impl<E: Weighed> PartialEq for Bounded<E> {
    /// The rest follows from what is kept.
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl<E: Weighed> Eq for Bounded<E> {}

impl<E: Weighed> Bounded<E> {
    /// Bytes on the heap that one takes.
    pub(in crate::detection) const ENTRY: usize = size_of::<E>() + size_of::<Strength>();

    /// These, if they are in order.
    pub(in crate::detection) fn of(all: Vec<E>) -> Option<Self> {
        let is_sorted = all.is_sorted_by(|one, next| one.octets() < next.octets());
        is_sorted.then(|| Self {
            strengths: all.iter().map(Strength::of).collect(),
            all,
            earliest: 0,
        })
    }

    pub(in crate::detection) fn as_slice(&self) -> &[E] {
        &self.all
    }

    pub(in crate::detection) fn len(&self) -> usize {
        self.all.len()
    }

    /// Bytes on the heap.
    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        heap::list(&self.all) + heap::list(&self.strengths)
    }

    /// Changes what is kept of an address; `new` is that if nothing is yet. The present slot decides
    /// which are over.
    pub(in crate::detection) fn change(&mut self, new: E, slot: u32, change: impl FnOnce(&mut E)) {
        let octets = new.octets();
        let at = self.all.binary_search_by_key(&octets, Weighed::octets);
        let at = at.unwrap_or_else(|_| self.insert(new, slot));
        if let (Some(one), Some(strength)) = (self.all.get_mut(at), self.strengths.get_mut(at)) {
            change(one);
            *strength = Strength::of(one);
        }
    }

    /// Puts one at its place, and removes those that are over, or else the weakest of too many.
    /// Where it is then.
    fn insert(&mut self, new: E, slot: u32) -> usize {
        // By length, so that it is the same for state that was read.
        if self.all.len().is_power_of_two() {
            self.forget(slot);
        }
        self.earliest = self.earliest.min(new.ring().newest);
        let at = self.all.partition_point(|one| one.octets() < new.octets());
        if self.all.len() < MOST {
            self.all.insert(at, new);
            self.strengths.insert(at, Strength::of(&new));
            return at;
        }
        // Of equal ones the first, which has the least address.
        let weakest = self.strengths.iter().min().copied();
        let weakest = self.strengths.iter().position(|one| Some(*one) == weakest);
        let Some(weakest) = weakest else { return at };
        // Where it is without the weakest, whose place it takes.
        let to = at - usize::from(weakest < at);
        shift(&mut self.all, (weakest, to), new);
        shift(&mut self.strengths, (weakest, to), Strength::of(&new));
        to
    }

    /// Forgets those that are over.
    fn forget(&mut self, slot: u32) {
        let earliest = Ring {
            newest: self.earliest,
            ..Ring::default()
        };
        if !earliest.is_over(slot) {
            return;
        }
        self.all.retain(|one| !one.ring().is_over(slot));
        self.all.shrink_to_fit();
        self.strengths = self.all.iter().map(Strength::of).collect();
        let newest = self.all.iter().map(|one| one.ring().newest);
        self.earliest = newest.min().unwrap_or(u32::MAX);
    }
}

/// Removes what is at one place, moves what is between, and puts something else at the other.
fn shift<T: Copy>(list: &mut [T], (from, to): (usize, usize), new: T) {
    let between = if from < to {
        list.get_mut(from..=to)
    } else {
        list.get_mut(to..=from)
    };
    let Some(between) = between else { return };
    if from < to {
        between.rotate_left(1);
        if let Some(last) = between.last_mut() {
            *last = new;
        }
    } else {
        between.rotate_right(1);
        if let Some(first) = between.first_mut() {
            *first = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What is kept of an address.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct One {
        octets: Octets,
        ring: Ring,
        count: u32,
        about: u32,
    }

    impl Weighed for One {
        fn octets(&self) -> Octets {
            self.octets
        }

        fn ring(&self) -> &Ring {
            &self.ring
        }

        fn count(&self) -> u32 {
            self.count
        }
    }

    fn octets(number: u16) -> Octets {
        let mut octets = Octets::default();
        octets[14..].copy_from_slice(&number.to_be_bytes());
        octets
    }

    /// A claim that has had no request.
    fn claim(octets: Octets, (slot, about): (u32, u32)) -> One {
        let ring = Ring {
            newest: slot,
            ..Ring::default()
        };
        One {
            octets,
            ring,
            count: 0,
            about,
        }
    }

    /// Claims as a list that is looked through.
    #[derive(Default)]
    struct Plain(Vec<One>);

    impl Plain {
        fn count(&mut self, octets: Octets, (slot, about): (u32, u32)) {
            if !self.0.iter().any(|claim| claim.octets == octets) {
                if self.0.len().is_power_of_two() {
                    self.0.retain(|claim| !claim.ring.is_over(slot));
                }
                if self.0.len() >= MOST {
                    let key = |one: &&One| (one.count, one.ring.newest, one.octets);
                    let weakest = self.0.iter().min_by_key(key).unwrap().octets;
                    self.0.retain(|claim| claim.octets != weakest);
                }
                self.0.push(claim(octets, (slot, about)));
                self.0.sort_by_key(|claim| claim.octets);
            }
            let claim = self.0.iter_mut().find(|claim| claim.octets == octets);
            let claim = claim.unwrap();
            claim.ring.add(slot);
            claim.count += 1;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases / 8,
            ..ProptestConfig::default()
        })]

        /// The same are kept as by a look at all of them, also when they were stored meanwhile.
        #[test]
        fn the_weakest_gives_way(
            requests in vec((0u16..600, 0u32..3), 0..2000),
            stored in 0usize..2000,
        ) {
            let (mut claims, mut plain, mut slot) = (Bounded::default(), Plain::default(), 5);
            for (at, (number, later)) in requests.into_iter().enumerate() {
                // Some come late, and now and then a long time passes.
                slot += if at % 700 == 699 { 15 } else { later / 2 };
                let of = (slot - later.min(1), u32::from(number));
                let (new, (slot, _)) = (claim(octets(number), of), of);
                claims.change(new, slot, |claim| {
                    claim.ring.add(slot);
                    claim.count += 1;
                });
                plain.count(octets(number), of);
                if at == stored {
                    claims = Bounded::of(claims.as_slice().to_vec()).unwrap();
                }
            }
            prop_assert_eq!(claims.as_slice(), &plain.0[..]);
        }
    }
}
