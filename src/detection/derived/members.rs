//! The members of a finding of several addresses: exact while they are few, estimated above.

use std::collections::BTreeMap;

use super::key::Octets;
use crate::detection::heap;

/// Members that are kept one by one.
pub(in crate::detection) const MOST: usize = 1024;
/// Members that a finding lists.
const LISTED: usize = 100;
/// Registers of the sketch: a standard error of 3 %.
const REGISTERS: usize = 1024;
/// Ranks that a register may have.
const RANKS: usize = 56;

/// What is known of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::detection) struct Member {
    /// Its requests in the finding.
    pub(in crate::detection) count: u64,
    /// The id of its own finding.
    pub(in crate::detection) finding: Option<u128>,
}

/// The members of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::detection) struct Members {
    pub(in crate::detection) kept: BTreeMap<Octets, Member>,
    /// A sketch of all, once there were more than are kept.
    pub(in crate::detection) sketch: Option<Box<Sketch>>,
}

/// How many distinct addresses there were, about (`HyperLogLog`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Sketch {
    registers: Box<[u8]>,
    /// How many registers have each rank.
    ranks: [u16; RANKS],
    /// What follows from them: it is asked for with each request.
    count: u64,
}

impl Members {
    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        let sketch = self.sketch.as_ref().map_or(0, |sketch| sketch.heap_bytes());
        heap::tree(self.kept.len(), size_of::<(Octets, Member)>()) + sketch
    }

    /// How many there are.
    pub(in crate::detection) fn count(&self) -> u64 {
        let kept = self.kept.len() as u64;
        self.sketch
            .as_ref()
            .map_or(kept, |sketch| sketch.count.max(kept))
    }

    /// Counts requests of a member, which may be new.
    pub(in crate::detection) fn add(&mut self, octets: Octets, requests: u64) -> &mut Member {
        if self.kept.len() >= MOST && !self.kept.contains_key(&octets) {
            self.halve();
        }
        if let Some(sketch) = &mut self.sketch {
            sketch.note(octets);
        }
        let member = self.kept.entry(octets).or_default();
        member.count += requests;
        member
    }

    /// Forgets the half with fewer requests, all of which the sketch remembers.
    fn halve(&mut self) {
        let sketch = self
            .sketch
            .get_or_insert_with(|| Box::new(Sketch::of(vec![0; REGISTERS])));
        for octets in self.kept.keys() {
            sketch.note(*octets);
        }
        let kept = self.by_count().take(MOST / 2);
        self.kept = kept.collect();
    }

    /// Those with most requests first.
    fn by_count(&self) -> impl Iterator<Item = (Octets, Member)> + use<> {
        let mut all: Vec<_> = self
            .kept
            .iter()
            .map(|(octets, one)| (*octets, *one))
            .collect();
        all.sort_by_key(|(octets, member)| (std::cmp::Reverse(member.count), *octets));
        all.into_iter()
    }

    /// Those that a finding lists.
    pub(in crate::detection) fn listed(&self) -> impl Iterator<Item = (Octets, Member)> + use<> {
        self.by_count().take(LISTED)
    }
}

impl Sketch {
    /// A sketch of these registers, or as many of them as there are in one.
    pub(in crate::detection) fn of(mut registers: Vec<u8>) -> Self {
        registers.resize(REGISTERS, 0);
        let mut ranks = [0; RANKS];
        for rank in &registers {
            if let Some(number) = ranks.get_mut(usize::from(*rank)) {
                *number += 1;
            }
        }
        Self {
            registers: registers.into_boxed_slice(),
            count: estimate(&ranks),
            ranks,
        }
    }

    /// Its registers.
    pub(in crate::detection) fn registers(&self) -> &[u8] {
        &self.registers
    }

    fn heap_bytes(&self) -> usize {
        heap::block(size_of::<Self>()) + heap::block(self.registers.len())
    }

    /// Counts an address.
    fn note(&mut self, octets: Octets) {
        let hash = mix(octets);
        let at = usize::try_from(hash % REGISTERS as u64).unwrap_or_default();
        let zeros = ((hash / REGISTERS as u64) | (1 << 54)).trailing_zeros();
        let rank = u8::try_from(zeros + 1).unwrap_or(u8::MAX);
        let Some(register) = self.registers.get_mut(at).filter(|known| **known < rank) else {
            return;
        };
        let before = std::mem::replace(register, rank);
        if let Some(number) = self.ranks.get_mut(usize::from(before)) {
            *number = number.saturating_sub(1);
        }
        if let Some(number) = self.ranks.get_mut(usize::from(rank)) {
            *number = number.saturating_add(1);
        }
        self.count = estimate(&self.ranks);
    }
}

fn mix(octets: Octets) -> u64 {
    let address = u128::from_be_bytes(octets);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = (address as u64, (address >> 64) as u64);
    // The finalizer of SplitMix64, once for each half.
    let mut hash = high;
    for part in [low, 0] {
        hash = hash.wrapping_add(part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^= hash >> 31;
    }
    hash
}

/// How many distinct addresses a sketch has seen whose registers have these ranks.
fn estimate(ranks: &[u16; RANKS]) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "there are few registers")]
    let registers = REGISTERS as f64;
    let mut weight = 1.0;
    let mut sum = 0.0;
    for number in ranks {
        sum += f64::from(*number) * weight;
        weight *= 0.5;
    }
    let alpha = 0.7213 / (1.0 + 1.079 / registers);
    let raw = alpha * registers * registers / sum;
    let [empty, ..] = ranks;
    let empty = f64::from(*empty);
    let count = if raw <= 2.5 * registers && empty > 0.0 {
        registers * (registers / empty).ln()
    } else {
        raw
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, and a cast saturates"
    )]
    let count = count.round() as u64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(n: u32) -> Octets {
        std::net::Ipv4Addr::from(n).to_ipv6_mapped().octets()
    }

    #[test]
    fn they_are_exact_while_few_and_estimated_above() {
        let mut members = Members::default();
        for n in 0..1024 {
            members.add(octets(n), 1);
            members.add(octets(n), 1);
        }
        assert_eq!((members.count(), members.sketch.is_some()), (1024, false));
        for n in 1024..50_000 {
            members.add(octets(n), 1);
        }
        let count = members.count();
        assert!((45_000..55_000).contains(&count), "{count}");
        assert!(members.kept.len() <= MOST);
    }

    #[test]
    fn one_that_comes_late_with_many_requests_is_listed_first() {
        let mut members = Members::default();
        for n in 0..20_000 {
            members.add(octets(n), 1);
            if n > 10_000 {
                members.add(octets(77), 1);
            }
        }
        let (first, _) = members.listed().next().unwrap();
        assert_eq!(first, octets(77));
        assert_eq!(members.listed().count(), 100);
    }
}
