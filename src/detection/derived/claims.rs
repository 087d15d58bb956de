//! The addresses that one peer has handed over: a few hundred at most, of which the weakest gives way.
//!
//! A client that changes its claim with each request makes a new one each time, so that has to be
//! cheap: which is the weakest is looked for in a list of numbers alone, and its place is closed
//! and that of the new one opened in one move.

use super::{key::Octets, ring::Ring};

/// Claims that are kept of a peer.
pub(in crate::detection) const MOST: usize = 256;

/// A source address that a peer has handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Claim {
    pub(in crate::detection) octets: Octets,
    pub(in crate::detection) ring: Ring,
    /// Its requests since it was kept.
    pub(in crate::detection) count: u32,
    /// Hash of the user agent of the first of them.
    pub(in crate::detection) agent: u32,
    /// A bit for each path, by a hash.
    pub(in crate::detection) paths: u64,
}

/// By which the weakest gives way: requests, then the slot of the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detection) struct Strength(u64);

/// Claims in the order of their addresses.
#[derive(Clone, Debug, Default)]
pub(in crate::detection) struct Claims {
    all: Vec<Claim>,
    /// Of each of them.
    strengths: Vec<Strength>,
    /// No claim is over before this slot is.
    earliest: u32,
}

impl PartialEq for Claims {
    /// The rest follows from the claims.
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Claims {}

impl Claim {
    fn strength(&self) -> Strength {
        Strength((u64::from(self.count) << 32) | u64::from(self.ring.newest))
    }
}

impl Claims {
    /// Claims in the order of their addresses; `None` when they are not.
    pub(in crate::detection) fn of(all: Vec<Claim>) -> Option<Self> {
        all.is_sorted_by(|one, next| one.octets < next.octets)
            .then(|| Self {
                strengths: all.iter().map(Claim::strength).collect(),
                all,
                earliest: 0,
            })
    }

    pub(in crate::detection) fn as_slice(&self) -> &[Claim] {
        &self.all
    }

    pub(in crate::detection) fn len(&self) -> usize {
        self.all.len()
    }

    /// Counts a request of a claim, which may be new: its slot, the hash of its user agent, and the
    /// bit of its path.
    pub(in crate::detection) fn count(
        &mut self,
        octets: Octets,
        (slot, agent, path): (u32, u32, u64),
    ) {
        let at = self.all.binary_search_by_key(&octets, |claim| claim.octets);
        let at = at.unwrap_or_else(|_| self.insert(octets, slot, agent));
        if let (Some(claim), Some(strength)) = (self.all.get_mut(at), self.strengths.get_mut(at)) {
            claim.ring.add(slot);
            claim.count = claim.count.saturating_add(1);
            claim.paths |= 1 << (path % 64);
            *strength = claim.strength();
        }
    }

    /// Puts a claim at its place, and removes those that are over, or else the weakest of too
    /// many. Where it is then.
    fn insert(&mut self, octets: Octets, slot: u32, agent: u32) -> usize {
        // By length, so that it is the same for state that was read.
        if self.all.len().is_power_of_two() {
            self.forget(slot);
        }
        let claim = Claim {
            octets,
            ring: Ring {
                newest: slot,
                ..Ring::default()
            },
            count: 0,
            agent,
            paths: 0,
        };
        self.earliest = self.earliest.min(slot);
        let at = self.all.partition_point(|claim| claim.octets < octets);
        if self.all.len() < MOST {
            self.all.insert(at, claim);
            self.strengths.insert(at, claim.strength());
            return at;
        }
        // Of equal ones the first, which has the least address.
        let weakest = self.strengths.iter().min().copied();
        let weakest = self.strengths.iter().position(|one| Some(*one) == weakest);
        let Some(weakest) = weakest else { return at };
        // Where it is without the weakest, whose place it takes.
        let to = at - usize::from(weakest < at);
        shift(&mut self.all, (weakest, to), claim);
        shift(&mut self.strengths, (weakest, to), claim.strength());
        to
    }

    /// Forgets claims that are over.
    fn forget(&mut self, slot: u32) {
        let oldest = Ring {
            newest: self.earliest,
            ..Ring::default()
        };
        if !oldest.is_over(slot) {
            return;
        }
        self.all.retain(|claim| !claim.ring.is_over(slot));
        self.strengths = self.all.iter().map(Claim::strength).collect();
        let newest = self.all.iter().map(|claim| claim.ring.newest);
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
