//! A hash for tables whose values senders choose: quick, with seeds that no sender can know. So values
//! that it has chosen for one place of a table are spread over all of it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use foldhash::{
    SharedSeed,
    quality::{FoldHasher, SeedableRandomState},
};

/// The seed that all tables share. The library takes its own from addresses and the time, which a
/// sender may guess.
static SHARED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(secret()));

/// A number from the system that nobody knows.
fn secret() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// What a place in a table depends on besides the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds(SeedableRandomState);

impl Seeds {
    /// Seeds that nobody knows.
    pub(super) fn random() -> Self {
        Self(SeedableRandomState::with_seed(secret(), &SHARED))
    }

    /// A short hash of one that a sender may know.
    pub(super) fn short(&self, hash: u64) -> u32 {
        u32::try_from(self.hash_one(hash) >> 32).unwrap_or_default()
    }
}

impl Default for Seeds {
    fn default() -> Self {
        Self::random()
    }
}

impl BuildHasher for Seeds {
    type Hasher = FoldHasher;

    fn build_hasher(&self) -> FoldHasher {
        self.0.build_hasher()
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
