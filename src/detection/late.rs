//! Late-data retention: up to when what happened to keys that are gone is no longer known.

use std::collections::BTreeMap;

use super::{
    heap,
    time::{BEGINNING, Micros},
};

/// Parts that all keys of a cluster are in, by a hash.
const PARTS: usize = 4096;
/// With this many in a tree, a table of all is smaller.
const MANY: usize = 1024;

/// For each of 4096 parts of all keys the time up to which a late hit cannot be judged exactly, so
/// that the end of one key does not make late hits of all others inexact.
///
/// Invariant: `of(key)` is never earlier than the latest hit of any key of its part that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Horizons {
    few: BTreeMap<u16, Micros>,
    /// All of them, when they are many; `few` is then empty.
    all: Option<Box<[Micros]>>,
}

impl Horizons {
    pub(super) fn heap_bytes(&self) -> usize {
        let all = self.all.as_ref().map_or(0, |all| size_of_val(&**all));
        heap::tree(self.few.len(), size_of::<u16>() + size_of::<Micros>()) + heap::block(all)
    }

    /// Up to when hits of this key may have been forgotten.
    pub(super) fn of(&self, key: &str) -> Micros {
        let part = part(key);
        let known = match &self.all {
            Some(all) => all.get(usize::from(part)),
            None => self.few.get(&part),
        };
        known.copied().unwrap_or(BEGINNING)
    }

    /// This key is forgotten, with its hits up to `last`.
    pub(super) fn raise(&mut self, key: &str, last: Micros) {
        self.raise_part(part(key), last);
    }

    /// The parts of which something was forgotten, and up to when, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u16, Micros)> + '_ {
        let few = self.few.iter().map(|(part, until)| (*part, *until));
        let all = self
            .all
            .iter()
            .flat_map(|all| (0..).zip(all.iter().copied()));
        few.chain(all.filter(|(_, until)| *until != BEGINNING))
    }

    /// The same for a whole part; there is none beyond 4095.
    pub(super) fn raise_part(&mut self, part: u16, last: Micros) {
        if usize::from(part) >= PARTS {
            return;
        }
        if self.all.is_none() && self.few.len() >= MANY {
            let mut all = vec![BEGINNING; PARTS].into_boxed_slice();
            for (part, until) in std::mem::take(&mut self.few) {
                if let Some(place) = all.get_mut(usize::from(part)) {
                    *place = until;
                }
            }
            self.all = Some(all);
        }
        let until = match &mut self.all {
            Some(all) => all.get_mut(usize::from(part)),
            None => Some(self.few.entry(part).or_insert(BEGINNING)),
        };
        if let Some(until) = until {
            *until = (*until).max(last);
        }
    }
}

/// The part of a key (FNV-1a, folded).
fn part(key: &str) -> u16 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u16::try_from((hash ^ (hash >> 32)) & 0xfff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_the_tree_said() {
        let mut horizons = Horizons::default();
        let mut raised: BTreeMap<u16, Micros> = BTreeMap::new();
        for n in 0..20_000_i64 {
            let key = format!("10.{}.{}", n % 200, n / 200);
            let last = Micros(n * 7919 % 10_007);
            assert_eq!(
                horizons.of(&key),
                raised.get(&part(&key)).copied().unwrap_or(BEGINNING)
            );
            horizons.raise(&key, last);
            let until = raised.entry(part(&key)).or_insert(BEGINNING);
            *until = (*until).max(last);
            assert_eq!(horizons.of(&key), *until);
            assert_eq!(horizons.all.is_some(), raised.len() > MANY);
            assert!(horizons.heap_bytes() <= heap::block(PARTS * size_of::<Micros>()));
        }
        assert!(horizons.all.is_some());
        assert!(horizons.parts().eq(raised));
    }
}
