//! Up to when keys that are gone may have been forgotten.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    heap,
    time::{BEGINNING, Micros},
};

/// Parts that all keys of a cluster are in, by a hash.
const PARTS: usize = 4096;
/// With so many in a tree, a table of all is smaller.
const MANY: usize = 1024;

/// A time for each of 4096 parts of all keys, so that the end of one key does not make late hits
/// of all others inexact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Floors {
    some: BTreeMap<u16, Micros>,
    /// All of them, when they are many.
    all: Option<Box<[Micros]>>,
}

impl Floors {
    pub(super) fn heap_bytes(&self) -> usize {
        let all = self.all.as_ref().map_or(0, |all| size_of_val(&**all));
        heap::tree(self.some.len(), size_of::<u16>() + size_of::<Micros>()) + heap::block(all)
    }

    /// What happened to this key up to here may have been forgotten.
    pub(super) fn of(&self, id: &str) -> Micros {
        let part = part(id);
        let known = match &self.all {
            Some(all) => all.get(usize::from(part)),
            None => self.some.get(&part),
        };
        known.copied().unwrap_or(BEGINNING)
    }

    /// This key is forgotten, with what happened to it up to `last`.
    pub(super) fn raise(&mut self, id: &str, last: Micros) {
        if self.all.is_none() && self.some.len() >= MANY {
            let mut all = vec![BEGINNING; PARTS].into_boxed_slice();
            for (part, floor) in std::mem::take(&mut self.some) {
                if let Some(place) = all.get_mut(usize::from(part)) {
                    *place = floor;
                }
            }
            self.all = Some(all);
        }
        let part = part(id);
        let floor = match &mut self.all {
            Some(all) => all.get_mut(usize::from(part)),
            None => Some(self.some.entry(part).or_insert(BEGINNING)),
        };
        if let Some(floor) = floor {
            *floor = (*floor).max(last);
        }
    }
}

/// The part of a key (FNV-1a, folded).
fn part(id: &str) -> u16 {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u16::try_from((hash ^ (hash >> 32)) & 0xfff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_the_tree_said() {
        let mut floors = Floors::default();
        let mut raised: BTreeMap<u16, Micros> = BTreeMap::new();
        for n in 0..20_000_i64 {
            let id = format!("10.{}.{}", n % 200, n / 200);
            let last = Micros(n * 7919 % 10_007);
            assert_eq!(
                floors.of(&id),
                raised.get(&part(&id)).copied().unwrap_or(BEGINNING)
            );
            floors.raise(&id, last);
            let floor = raised.entry(part(&id)).or_insert(BEGINNING);
            *floor = (*floor).max(last);
            assert_eq!(floors.of(&id), *floor);
            assert_eq!(floors.all.is_some(), raised.len() > MANY);
            assert!(floors.heap_bytes() <= heap::block(PARTS * size_of::<Micros>()));
        }
        assert!(floors.all.is_some());
    }
}
