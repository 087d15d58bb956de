//! A hash for tables, of what is hashed already: two multiplications where `SipHash` takes
//! dozens of steps.
//!
//! A sender may know the hash of what it sends, but not the seeds. So values that it has chosen for
//! one place of a table are spread over all of it.

use std::hash::{BuildHasher, Hasher, RandomState};

/// An odd number whose bits are spread.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a place in a table depends on besides the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds([u64; 2]);

impl Seeds {
    /// Seeds that nobody knows.
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        Self([0_u8, 1].map(|number| random.hash_one(number)))
    }

    /// The hash of two halves of a value.
    pub(super) fn hash(&self, low: u64, high: u64) -> u64 {
        let Self([one, other]) = self;
        let wide = u128::from(low ^ one) * u128::from(high ^ other);
        let [low, high] = [wide, wide >> 64].map(|half| half & u128::from(u64::MAX));
        let hash = u64::try_from(low ^ high).unwrap_or_default();
        // Values that differ in a few bits make a progression, which may be uneven in the low bits.
        let hash = (hash ^ (hash >> 32)).wrapping_mul(SPREAD);
        hash ^ (hash >> 29)
    }

    /// A short hash of one that a sender may know.
    pub(super) fn short(&self, hash: u64) -> u32 {
        let hash = self.hash(hash, 0) >> 32;
        u32::try_from(hash).unwrap_or_default()
    }
}

impl Default for Seeds {
    fn default() -> Self {
        Self::random()
    }
}

impl BuildHasher for Seeds {
    type Hasher = Halves;

    fn build_hasher(&self) -> Halves {
        Halves {
            seeds: *self,
            halves: [0; 2],
        }
    }
}

/// Hashes values of 16 bytes that are spread already; of others the last 16.
#[derive(Clone, Debug)]
pub(super) struct Halves {
    seeds: Seeds,
    halves: [u64; 2],
}

impl Hasher for Halves {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let [low, high] = self.halves;
        self.halves = [high, low.rotate_left(5) ^ word];
    }

    fn finish(&self) -> u64 {
        let [low, high] = self.halves;
        self.seeds.hash(low, high)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;
    use crate::audit::Identity;

    /// Identities that have much in common are spread over a table, by other seeds otherwise.
    #[test]
    fn what_is_alike_is_spread() {
        let identity = |number: u64| {
            let mut bytes = [7; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            Identity(bytes)
        };
        for shift in [0, 20, 40, 56] {
            let seeds = Seeds::random();
            let places: BTreeSet<_> = (0..256_u64)
                .map(|number| seeds.hash_one(identity(number << shift)) % 4096)
                .collect();
            assert!(places.len() > 200, "{shift}: {}", places.len());
            let other = Seeds::random();
            let same = (0..256_u64)
                .filter(|number| seeds.short(*number) % 4096 == other.short(*number) % 4096);
            assert!(same.count() < 16);
        }
        let mut set: HashSet<Identity, Seeds> = HashSet::default();
        assert!((0..1000).all(|number| set.insert(identity(number))));
        assert!((0..1000).all(|number| set.contains(&identity(number))));
        assert!(!set.contains(&identity(1000)));
    }
}
