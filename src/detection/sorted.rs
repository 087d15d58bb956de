//! A sorted list in pages, which a snapshot shares: what changes meanwhile is copied page by page,
//! where a tree of the library would be copied whole.

use super::page::Page;

/// Things of one page, at most.
const MOST: usize = 128;

/// Values by key, in the order of their keys.
///
/// Invariants: no page is empty, none has more than [`MOST`] things, and all are in order.
#[derive(Clone, Debug)]
pub(crate) struct Sorted<K, V> {
    pages: Vec<Page<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Ord, V> Sorted<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let page = self.pages.get(self.page_of(key))?.get();
        let at = page.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        page.get(at).map(|(_, value)| value)
    }

    pub(crate) fn first(&self) -> Option<&(K, V)> {
        self.pages.first()?.get().first()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.pages.iter().flat_map(Page::get)
    }

    /// Those whose key is this one or greater.
    pub(crate) fn from<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a (K, V)> + use<'a, K, V> {
        let at = self.page_of(key);
        let page = self.pages.get(at).map(Page::get);
        let within = page.map_or(0, |page| page.partition_point(|(other, _)| other < key));
        let pages = self.pages.get(at..).unwrap_or_default();
        pages.iter().flat_map(Page::get).skip(within)
    }

    /// The first page whose last key is not less.
    fn page_of(&self, key: &K) -> usize {
        let is_less =
            |page: &Page<Vec<(K, V)>>| page.get().last().is_some_and(|(last, _)| last < key);
        self.pages.partition_point(is_less)
    }
}

impl<K: Ord + Clone, V: Clone> Sorted<K, V> {
    /// Copies made from now on are the same memory, until it changes here.
    pub(crate) fn share(&mut self) {
        for page in &mut self.pages {
            page.share();
        }
    }

    /// Puts a value in its place; the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let at = self.page_of(&key).min(self.pages.len().saturating_sub(1));
        let Some(page) = self.pages.get_mut(at) else {
            self.pages.push(Page::new(vec![(key, value)]));
            self.len += 1;
            return None;
        };
        let page = page.get_mut();
        let within = match page.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(within) => {
                let place = page.get_mut(within)?;
                return Some(std::mem::replace(&mut place.1, value));
            }
            Err(within) => within,
        };
        self.len += 1;
        if page.len() < MOST {
            page.insert(within, (key, value));
            return None;
        }
        let mut second = if within == MOST {
            // In their order, as time is: the first page stays full.
            Vec::new()
        } else {
            page.split_off(MOST / 2)
        };
        match within.checked_sub(page.len()) {
            Some(within) => second.insert(within, (key, value)),
            None => page.insert(within, (key, value)),
        }
        self.pages.insert(at + 1, Page::new(second));
        None
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.page_of(key);
        let page = self.pages.get(at)?.get();
        let within = page.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        self.take(at, within).map(|(_, value)| value)
    }

    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        self.take(0, 0)
    }

    fn take(&mut self, at: usize, within: usize) -> Option<(K, V)> {
        let page = self.pages.get_mut(at)?.get_mut();
        if within >= page.len() {
            return None;
        }
        let taken = page.remove(within);
        self.len -= 1;
        let left = page.len();
        if left == 0 {
            self.pages.remove(at);
        } else if left < MOST / 4 {
            self.join(at);
        }
        Some(taken)
    }

    /// Puts a page that is nearly empty to the next one, if that has room.
    fn join(&mut self, at: usize) {
        let length = |at: usize| self.pages.get(at).map_or(MOST, |page| page.get().len());
        if length(at) + length(at + 1) > MOST / 2 {
            return;
        }
        let mut next = self.pages.remove(at + 1);
        if let Some(page) = self.pages.get_mut(at) {
            page.get_mut().append(next.get_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// It is the map of the library, and what was taken of it does not change.
        #[test]
        fn a_list_in_pages_is_a_map(
            steps in vec((0u32..9, 0u32..3000, 0u32..400), 0..60),
        ) {
            let (mut sorted, mut map) = (Sorted::default(), BTreeMap::new());
            let mut taken: Vec<(Sorted<u32, u32>, BTreeMap<u32, u32>)> = Vec::new();
            for (what, from, many) in steps {
                for key in from..from + many {
                    let mixed = key.wrapping_mul(2_654_435_761) % 3000;
                    match what {
                        0..2 => prop_assert_eq!(sorted.insert(key, many), map.insert(key, many)),
                        2..4 => prop_assert_eq!(sorted.insert(mixed, many), map.insert(mixed, many)),
                        4 => prop_assert_eq!(sorted.remove(&key), map.remove(&key)),
                        5..7 => prop_assert_eq!(sorted.remove(&mixed), map.remove(&mixed)),
                        7 => prop_assert_eq!(sorted.pop_first(), map.pop_first()),
                        _ => {
                            sorted.share();
                            taken.push((sorted.clone(), map.clone()));
                            break;
                        }
                    }
                }
                prop_assert_eq!(sorted.len(), map.len());
                prop_assert_eq!(sorted.get(&from), map.get(&from));
                let first = sorted.first().map(|(key, value)| (key, value));
                prop_assert_eq!(first, map.first_key_value());
                let tail = sorted.from(&from).map(|(key, value)| (key, value));
                prop_assert!(tail.eq(map.range(from..)));
                let pages = sorted.pages.iter().map(|page| page.get().len());
                prop_assert!(pages.clone().all(|length| (1..=MOST).contains(&length)));
            }
            taken.push((sorted, map));
            for (sorted, map) in taken {
                prop_assert!(sorted.iter().map(|(key, value)| (key, value)).eq(&map));
            }
        }
    }
}
