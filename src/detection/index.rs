//! The index of a key table: numbers of keys by their hash, in parts that a snapshot shares. It grows
//! by one part at a time, so that no hit waits for a million keys to be placed anew.

use hashbrown::HashTable;

use super::page::Page;

/// Keys of a part, on average, from which on there is one part more.
const LOAD: usize = if cfg!(test) { 32 } else { 2048 };
/// Bits of a hash that choose the place within a part; those above choose the part.
const WITHIN: u32 = 13;

/// Number and hash of each key.
type Part = HashTable<(u32, u32)>;

/// Numbers of keys by their hash. A key that is there once must not be added again.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    parts: Vec<Page<Part>>,
    len: usize,
}

/// A hash as a part keeps it: its table takes the place from the low bits and compares the high ones
/// first.
fn spread(hash: u32) -> u64 {
    u64::from(hash) | (u64::from(hash) << 32)
}

fn add(part: &mut Part, at: u32, hash: u32) {
    part.insert_unique(spread(hash), (at, hash), |(_, hash)| spread(*hash));
}

impl Index {
    /// Copies made from now on are the same memory, until it changes here.
    pub(super) fn share(&mut self) {
        for part in &mut self.parts {
            part.share();
        }
    }

    /// The number with this hash that is the one.
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let part = self.parts.get(self.part_of(hash))?.get();
        let found = part.find(spread(hash), |(at, of)| *of == hash && is(*at));
        found.map(|(at, _)| *at)
    }

    pub(super) fn insert(&mut self, at: u32, hash: u32) {
        if self.len >= self.parts.len() * LOAD {
            self.split();
        }
        let part = self.part_of(hash);
        if let Some(part) = self.parts.get_mut(part) {
            add(part.get_mut(), at, hash);
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, at: u32, hash: u32) {
        let part = self.part_of(hash);
        let Some(part) = self.parts.get_mut(part).map(Page::get_mut) else {
            return;
        };
        if let Ok(place) = part.find_entry(spread(hash), |(other, _)| *other == at) {
            place.remove();
            self.len -= 1;
        }
        if part.capacity() > 64 && part.len() < part.capacity() / 4 {
            part.shrink_to(part.len() * 2, |(_, hash)| spread(*hash));
        }
        if self.len < self.parts.len().saturating_sub(1) * (LOAD / 2) {
            self.join();
        }
    }

    /// A key has another number.
    pub(super) fn moved(&mut self, (from, to): (u32, u32), hash: u32) {
        let part = self.part_of(hash);
        if let Some(part) = self.parts.get_mut(part)
            && let Some(place) = part.get_mut().find_mut(spread(hash), |(at, _)| *at == from)
        {
            place.0 = to;
        }
    }

    /// The part of a hash: as many bits of it as there are parts, one less where that part is still
    /// to come.
    fn part_of(&self, hash: u32) -> usize {
        let parts = self.parts.len().max(1);
        let bits = (hash >> WITHIN) as usize;
        let wide = parts.next_power_of_two();
        let at = bits & (wide - 1);
        if at < parts { at } else { at & (wide / 2 - 1) }
    }

    /// The part that the last of this number of parts takes its keys from.
    fn source(parts: usize) -> usize {
        let last = parts.saturating_sub(1);
        last & (parts.next_power_of_two() / 2).saturating_sub(1)
    }

    /// Adds a part, and moves to it what belongs there.
    fn split(&mut self) {
        self.parts.push(Page::default());
        let last = self.parts.len() - 1;
        let source = Self::source(self.parts.len());
        if last == 0 {
            return;
        }
        let Some(from) = self.parts.get_mut(source) else {
            return;
        };
        let all = std::mem::take(from.get_mut());
        let (stay, go): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(_, hash)| self.part_of(*hash) == source);
        for (at, keys) in [(source, stay), (last, go)] {
            if let Some(part) = self.parts.get_mut(at) {
                let part = part.get_mut();
                *part = HashTable::with_capacity(keys.len());
                for (at, hash) in keys {
                    add(part, at, hash);
                }
            }
        }
    }

    /// Gives up the last part.
    fn join(&mut self) {
        let source = Self::source(self.parts.len());
        let Some(mut last) = self.parts.pop() else {
            return;
        };
        if let Some(part) = self.parts.get_mut(source) {
            let part = part.get_mut();
            for (at, hash) in std::mem::take(last.get_mut()) {
                add(part, at, hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// Each key is found by its hash, whatever came and went, and none that is gone.
        #[test]
        fn numbers_are_found_by_their_hash(
            steps in vec((prop::bool::weighted(0.6), 0u32..600, 0u32..300), 1..8),
            few in any::<bool>(),
        ) {
            // Many that share a hash, or none.
            let hash = |at: u32| {
                let hash = at.wrapping_mul(0x9E37_79B9);
                if few { hash & 0xFFFF_0000 } else { hash }
            };
            let (mut index, mut map) = (Index::default(), BTreeMap::new());
            let mut taken = Vec::new();
            for (is_more, from, many) in steps {
                for at in from..from + many {
                    if is_more && map.insert(at, hash(at)).is_none() {
                        index.insert(at, hash(at));
                    } else if !is_more && map.remove(&at).is_some() {
                        index.remove(at, hash(at));
                    }
                }
                prop_assert_eq!(index.len, map.len());
                index.share();
                taken.push((index.clone(), map.clone()));
            }
            if let Some((at, hash)) = map.pop_first() {
                index.moved((at, 1 << 30), hash);
                map.insert(1 << 30, hash);
            }
            taken.push((index, map));
            for (index, map) in taken {
                for at in 0..900 {
                    let found = index.find(hash(at), |other| other == at);
                    prop_assert_eq!(found, map.get(&at).map(|_| at));
                }
                let parts: usize = index.parts.iter().map(|part| part.get().len()).sum();
                prop_assert_eq!(parts, map.len());
                prop_assert!(index.parts.len() <= map.len() / (LOAD / 2) + 1);
            }
        }
    }
}
