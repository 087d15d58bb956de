//! A table of very many small entries within bounds of number and bytes, where the weakest entry
//! gives way.
//!
//! Entries are in buckets by a hash of their key, some six in each; the table grows by one bucket
//! at a time. A newcomer to a full table always gets in: in its bucket, the weakest entry of the
//! cluster that has most there gives way. So a flood of one cluster displaces its own entries
//! first, and a flood of entries that are seen once displaces itself, never one that has shown
//! more. The hash is fixed, so that the same log gives the same findings; who chooses addresses for
//! one bucket still has to make each of them stronger than what it is to displace.

use super::key::Key;
use crate::detection::{heap, page::Page};

/// Entries of a bucket, on average.
const LOAD: usize = 6;
/// Entries of a bucket, at most: its entries are looked at one by one.
const MOST: usize = 24;

/// What is kept in a table.
pub(in crate::detection) trait Entry {
    fn key(&self) -> Key;

    /// Whether this is its key: entries are looked at one by one.
    fn is(&self, key: Key) -> bool {
        self.key() == key
    }

    /// The cluster of its key.
    fn cluster(&self) -> u32;

    /// The weakest gives way.
    fn strength(&self) -> (u64, u64, u64);

    /// Bytes on the heap besides the entry itself.
    fn heap_bytes(&self) -> usize;
}

/// Buckets by number, some in each page.
#[derive(Clone, Debug)]
struct Buckets<E> {
    pages: Vec<Page<Vec<Vec<E>>>>,
    len: usize,
}

/// Buckets of a page.
const PAGE: usize = 64;

impl<E> Default for Buckets<E> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }
}

impl<E> Buckets<E> {
    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap without those of entries: it follows from the number of buckets.
    fn heap_bytes(&self) -> usize {
        let pages = self.pages.capacity() * size_of::<Page<Vec<Vec<E>>>>();
        heap::block(pages) + self.pages.len() * heap::block(PAGE * size_of::<Vec<E>>())
    }

    fn get(&self, at: usize) -> Option<&Vec<E>> {
        self.pages.get(at / PAGE)?.get().get(at % PAGE)
    }

    fn iter(&self) -> impl Iterator<Item = &Vec<E>> {
        self.pages.iter().flat_map(Page::get)
    }
}

impl<E: Clone> Buckets<E> {
    fn share(&mut self) {
        for page in &mut self.pages {
            page.share();
        }
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut Vec<E>> {
        self.pages.get_mut(at / PAGE)?.get_mut().get_mut(at % PAGE)
    }

    /// Adds an empty bucket.
    fn push(&mut self) {
        if self.len.is_multiple_of(PAGE) {
            self.pages.push(Page::new(Vec::with_capacity(PAGE)));
        }
        if let Some(last) = self.pages.last_mut() {
            last.get_mut().push(Vec::new());
        }
        self.len += 1;
    }
}

/// Bounds of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Bounds {
    pub(in crate::detection) entries: usize,
    pub(in crate::detection) bytes: usize,
}

/// Entries by key.
#[derive(Clone, Debug)]
pub(in crate::detection) struct Table<E> {
    buckets: Buckets<E>,
    entries: usize,
    /// Bytes on the heap of all buckets and entries.
    bytes: usize,
    /// The bucket that is swept next.
    sweep: usize,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self {
            buckets: Buckets::default(),
            entries: 0,
            bytes: 0,
            sweep: 0,
        }
    }
}

impl<E: Entry + Clone> Table<E> {
    /// Copies made from now on are the same memory, until it changes here.
    pub(in crate::detection) fn share(&mut self) {
        self.buckets.share();
    }

    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        self.buckets.heap_bytes() + self.bytes
    }

    /// Number of buckets, the next to be swept, and all entries in the order of their keys.
    pub(in crate::detection) fn parts(&self) -> (usize, usize, Vec<&E>) {
        let mut entries: Vec<_> = self.buckets.iter().flatten().collect();
        entries.sort_by_key(|entry| entry.key());
        (self.buckets.len(), self.sweep, entries)
    }

    /// A table as it was.
    pub(in crate::detection) fn restored(
        buckets: usize,
        sweep: usize,
        entries: impl ExactSizeIterator<Item = E>,
    ) -> Self {
        /// Buckets that may be empty.
        const SPARE: usize = 1 << 20;
        let mut table = Self {
            sweep,
            ..Self::default()
        };
        // A table never has more buckets than it has had entries; one that is damaged may say so.
        let buckets = buckets.min(entries.len().saturating_add(SPARE));
        for _ in 0..buckets {
            table.buckets.push();
        }
        for entry in entries {
            table.put(entry);
        }
        table
    }

    fn place(&self, key: Key) -> usize {
        let buckets = self.buckets.len().max(1);
        let hash = hash(key);
        let wide = buckets.next_power_of_two();
        let at = hash & (wide - 1);
        if at < buckets {
            at
        } else {
            at & (wide / 2 - 1)
        }
    }

    pub(in crate::detection) fn get(&self, key: Key) -> Option<&E> {
        let bucket = self.buckets.get(self.place(key))?;
        bucket.iter().find(|entry| entry.is(key))
    }

    /// Changes an entry, which may take other bytes then.
    pub(in crate::detection) fn change<T>(
        &mut self,
        key: Key,
        change: impl FnOnce(&mut E) -> T,
    ) -> Option<T> {
        let at = self.place(key);
        let bucket = self.buckets.get_mut(at)?;
        let entry = bucket.iter_mut().find(|entry| entry.is(key))?;
        let before = entry.heap_bytes();
        let result = change(entry);
        self.bytes = (self.bytes + entry.heap_bytes()).saturating_sub(before);
        Some(result)
    }

    /// Adds an entry that is not there; what gave way for it.
    pub(in crate::detection) fn insert(&mut self, entry: E, bounds: Bounds) -> Option<E> {
        let is_full = self.entries >= bounds.entries || self.heap_bytes() >= bounds.bytes;
        if !is_full && self.entries >= self.buckets.len().saturating_mul(LOAD) {
            self.split();
        }
        let at = self.place(entry.key());
        let length = self.buckets.get(at).map_or(0, Vec::len);
        let given = if is_full || length >= MOST {
            self.remove_weakest(at)
        } else {
            None
        };
        self.put(entry);
        given
    }

    pub(in crate::detection) fn remove(&mut self, key: Key) -> Option<E> {
        let at = self.place(key);
        let bucket = self.buckets.get(at)?;
        let within = bucket.iter().position(|entry| entry.is(key))?;
        self.take(at, within)
    }

    /// Looks at some buckets: removes entries that are over, and the weakest of each while the
    /// table is above its bounds.
    pub(in crate::detection) fn sweep(&mut self, bounds: Bounds, is_over: impl Fn(&E) -> bool) {
        /// Buckets that are looked at each time.
        const SWEPT: usize = 256;
        for _ in 0..SWEPT.min(self.buckets.len()) {
            let at = self.sweep % self.buckets.len();
            self.sweep = at + 1;
            while let Some(bucket) = self.buckets.get(at)
                && let Some(within) = bucket.iter().position(&is_over)
            {
                self.take(at, within);
            }
            if self.entries > bounds.entries || self.heap_bytes() > bounds.bytes {
                self.remove_weakest(at);
            }
        }
    }

    /// Adds a bucket and moves to it what belongs there.
    fn split(&mut self) {
        let from = self.place_to_split();
        self.buckets.push();
        let Some(bucket) = self.buckets.get_mut(from) else {
            return;
        };
        let entries = std::mem::take(bucket);
        self.bytes = self.bytes.saturating_sub(heap::list(&entries));
        for entry in entries {
            self.bytes = self.bytes.saturating_sub(entry.heap_bytes());
            self.entries = self.entries.saturating_sub(1);
            self.put(entry);
        }
    }

    /// The bucket whose entries a further bucket takes in part.
    fn place_to_split(&self) -> usize {
        let buckets = self.buckets.len();
        let wide = (buckets + 1).next_power_of_two();
        buckets & (wide / 2).saturating_sub(1)
    }

    fn put(&mut self, entry: E) {
        if self.buckets.is_empty() {
            self.buckets.push();
        }
        let at = self.place(entry.key());
        let Some(bucket) = self.buckets.get_mut(at) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(heap::list(bucket)) + entry.heap_bytes();
        bucket.reserve_exact(1);
        bucket.push(entry);
        self.bytes += heap::list(bucket);
        self.entries += 1;
    }

    fn take(&mut self, at: usize, within: usize) -> Option<E> {
        let bucket = self.buckets.get_mut(at)?;
        if within >= bucket.len() {
            return None;
        }
        self.bytes = self.bytes.saturating_sub(heap::list(bucket));
        let entry = bucket.swap_remove(within);
        bucket.shrink_to_fit();
        self.bytes = (self.bytes + heap::list(bucket)).saturating_sub(entry.heap_bytes());
        self.entries = self.entries.saturating_sub(1);
        Some(entry)
    }

    /// Removes the weakest of a bucket, of the cluster that has most entries in it.
    fn remove_weakest(&mut self, at: usize) -> Option<E> {
        let bucket = self.buckets.get(at)?;
        // Few clusters have an entry in a bucket, nearly always one.
        let mut clusters: Vec<(u32, usize)> = Vec::with_capacity(1);
        for entry in bucket {
            match clusters.iter_mut().find(|(of, _)| *of == entry.cluster()) {
                Some((_, count)) => *count += 1,
                None => clusters.push((entry.cluster(), 1)),
            }
        }
        let most = clusters.iter().map(|(_, count)| *count).max()?;
        let has_most = |entry: &E| clusters.contains(&(entry.cluster(), most));
        let candidates = bucket.iter().enumerate();
        let candidates = candidates.filter(|(_, entry)| has_most(entry));
        let weakest = candidates.min_by(|(_, a), (_, b)| {
            let strength = a.strength().cmp(&b.strength());
            strength.then_with(|| a.key().cmp(&b.key()))
        });
        let (within, _) = weakest?;
        self.take(at, within)
    }
}

/// A fixed hash of a key.
fn hash(key: Key) -> usize {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let address = u128::from_be_bytes(key.octets);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = (address as u64, (address >> 64) as u64);
    let mut hash = u64::from(key.cluster).wrapping_add(ODD);
    for part in [high, low] {
        hash = (hash ^ part).wrapping_mul(ODD);
        hash ^= hash >> 29;
    }
    usize::try_from(hash >> 8).unwrap_or_default()
}
