//! Watching for success: which sources have findings, and which requests of others succeeded lately.
//!
//! The engine says which keys are watched: those of open findings, and of closed ones for some time.
//! The screen takes a snapshot of them at the start of a request, and reads the events of these
//! sources that its prefilter would reject. A success of another source is remembered here for a
//! while: when a finding of its key opens, the engine task takes it from here and hands it to the
//! engine. So what the engine takes is in its log of inputs, whichever way it came.
//!
//! What is remembered is bounded in bytes, and each source has a place of its own: the successes of
//! one take no room from another until all are full, and then the one longest without any goes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::hit::Hit;

/// Successes that are remembered of one key.
const PER_KEY: usize = 8;
/// Bytes that successes of all keys may take.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How long a success is remembered, in nanoseconds of arrival: a minute of event time and what
/// requests wait on their way.
const KEPT: u64 = 150 * 1_000_000_000;
/// Places of [`Periods`], a power of two.
const PLACES: usize = 1 << 15;
/// Bits of a period in its place; the others are of the source.
const PERIOD_BITS: u32 = 24;
/// Parts of a set: a change copies one of them.
const PARTS: usize = 64;

/// What screen and engine know together of sources to be watched. Copies are the same one.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    hasher: RandomState,
    watched: RwLock<Arc<Watched>>,
    /// How many keys watch each address.
    counts: Mutex<HashMap<u64, u32>>,
    memory: Mutex<Memory>,
    periods: Periods,
}

/// One key that is watched from now on, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// Place of the detection in the list of the pipeline.
    pub detection: usize,
    /// The key of its finding.
    pub key: Arc<str>,
    /// The source address in it.
    pub address: Arc<str>,
    /// Whether it is watched.
    pub is_watched: bool,
}

/// What is watched at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    addresses: Set,
    keys: Set,
}

/// A set of hashes, of which a copy costs little.
#[derive(Clone, Debug)]
struct Set([Arc<BTreeSet<u64>>; PARTS]);

impl Default for Set {
    fn default() -> Self {
        let empty = Arc::new(BTreeSet::new());
        Self(std::array::from_fn(|_| Arc::clone(&empty)))
    }
}

impl Set {
    fn contains(&self, hash: u64) -> bool {
        let part = self.0.get(place(hash, PARTS));
        part.is_some_and(|part| part.contains(&hash))
    }

    fn set(&mut self, hash: u64, is_there: bool) {
        if let Some(part) = self.0.get_mut(place(hash, PARTS)) {
            let part = Arc::make_mut(part);
            if is_there {
                part.insert(hash);
            } else {
                part.remove(&hash);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|part| part.is_empty())
    }
}

/// The place of a hash among so many, a power of two.
fn place(hash: u64, places: usize) -> usize {
    usize::try_from(hash).unwrap_or_default() & (places - 1)
}

impl Watched {
    /// Whether nothing is watched.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key of this address is watched, in any cluster.
    pub(super) fn has_address(&self, hash: u64) -> bool {
        self.addresses.contains(hash)
    }

    /// Whether this key is watched.
    pub(super) fn has_key(&self, hash: u64) -> bool {
        self.keys.contains(hash)
    }
}

impl Watch {
    /// What is watched now.
    pub(super) fn current(&self) -> Arc<Watched> {
        let watched = self.inner.watched.read();
        Arc::clone(&watched.unwrap_or_else(PoisonError::into_inner))
    }

    /// The hash of these bytes, which senders cannot predict.
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        self.inner.hasher.hash_one(bytes)
    }

    /// The hash of a key.
    pub(super) fn key_hash(&self, cluster: &str, detection: usize, key: &str) -> u64 {
        self.inner.hasher.hash_one((cluster, detection, key))
    }

    /// Watches keys from now on, and others no longer.
    pub fn apply(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let mut counts = lock(&self.inner.counts);
        // Readers have the one before until they begin their next request.
        let mut next = Watched::clone(&self.current());
        for change in changes {
            let key = self.key_hash(&change.cluster, change.detection, &change.key);
            if next.has_key(key) == change.is_watched {
                continue;
            }
            next.keys.set(key, change.is_watched);
            let address = self.hash(change.address.as_bytes());
            let count = counts.entry(address).or_default();
            *count = if change.is_watched {
                count.saturating_add(1)
            } else {
                count.saturating_sub(1)
            };
            next.addresses.set(address, *count > 0);
            if *count == 0 {
                counts.remove(&address);
            }
        }
        *self
            .inner
            .watched
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// Whether no success of this source is remembered of this period yet.
    pub(super) fn is_due(&self, source: u64, period: u64) -> bool {
        self.inner.periods.is_due(source, period)
    }

    /// A success of this source is remembered of this period.
    pub(super) fn mark(&self, source: u64, period: u64) {
        self.inner.periods.mark(source, period);
    }

    /// Remembers successes of a request that arrived at this time, in nanoseconds since 1970. Hands
    /// back those of keys that are watched by now.
    pub(super) fn remember(&self, successes: Vec<Hit>, received: u64) -> Vec<Hit> {
        let keys: BTreeSet<u64> = {
            let mut memory = lock(&self.inner.memory);
            memory.expire(received);
            let keys = successes.into_iter().map(|hit| {
                let key = self.key_hash(&hit.cluster, hit.detection as usize, &hit.key);
                memory.add(key, hit, received);
                key
            });
            keys.collect()
        };
        // In this order: a key that is watched after this look was not looked for before the
        // successes were there.
        let watched = self.current();
        let keys = keys.into_iter().filter(|key| watched.has_key(*key));
        // They stay in memory: their request may be refused.
        let memory = lock(&self.inner.memory);
        let known = keys.filter_map(|key| memory.keys.get(&key));
        known.flat_map(|known| known.hits.iter().cloned()).collect()
    }

    /// Takes over the successes that another one remembers; `place` moves them to the detections of
    /// this one, or says that they are not here.
    pub fn continue_from(&self, other: &Self, mut place: impl FnMut(u32) -> Option<u32>) {
        let mut theirs = std::mem::take(&mut *lock(&other.inner.memory));
        let mut ours = lock(&self.inner.memory);
        while let Some((_, key)) = theirs.order.pop_first() {
            let Some(known) = theirs.keys.remove(&key) else {
                continue;
            };
            for mut hit in known.hits {
                if let Some(here) = place(hit.detection) {
                    hit.detection = here;
                    let key = self.key_hash(&hit.cluster, here as usize, &hit.key);
                    ours.add(key, hit, known.received);
                }
            }
        }
    }

    /// Takes the successes of a key, in the order in which they came.
    pub fn recall(&self, change: &Change) -> Vec<Hit> {
        let key = self.key_hash(&change.cluster, change.detection, &change.key);
        lock(&self.inner.memory).take(key)
    }

    /// How many successes of a key [`Self::recall`] would hand out.
    pub fn remembered(&self, cluster: &str, detection: usize, key: &str) -> usize {
        let key = self.key_hash(cluster, detection, key);
        let memory = lock(&self.inner.memory);
        memory.keys.get(&key).map_or(0, |known| known.hits.len())
    }

    /// Bytes on the heap, about, besides those that it takes from the start.
    pub fn heap_bytes(&self) -> usize {
        /// A key is in a set by its own hash and that of its address, and is counted.
        const PER_KEY: usize = 6 * size_of::<u64>();
        lock(&self.inner.memory).bytes + lock(&self.inner.counts).len() * PER_KEY
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In which period a success of a source was remembered last. Two sources may share a place: then
/// their events are read more often, and none is missed.
/// There are no places until one is needed.
#[derive(Debug, Default)]
struct Periods(OnceLock<Box<[AtomicU64]>>);

impl Periods {
    fn entry(source: u64, period: u64) -> u64 {
        // The low bits of the source are its place.
        (source & !((1 << PERIOD_BITS) - 1)) | (period & ((1 << PERIOD_BITS) - 1))
    }

    fn is_due(&self, source: u64, period: u64) -> bool {
        let Some(all) = self.0.get() else {
            return true;
        };
        let at = all.get(place(source, PLACES));
        at.is_some_and(|at| at.load(Ordering::Relaxed) != Self::entry(source, period))
    }

    fn mark(&self, source: u64, period: u64) {
        let new = || (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        if let Some(at) = self.0.get_or_init(new).get(place(source, PLACES)) {
            at.store(Self::entry(source, period), Ordering::Relaxed);
        }
    }
}

/// Successes of sources that are not watched.
#[derive(Debug, Default)]
struct Memory {
    keys: HashMap<u64, Remembered>,
    /// The keys by when they were added to last.
    order: BTreeMap<u64, u64>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    /// The latest.
    hits: Vec<Hit>,
    order: u64,
    received: u64,
    bytes: usize,
}

/// What a key takes besides its hits, about: its places in the map and in the order.
const PER_ENTRY: usize = 2 * (size_of::<(u64, Remembered)>() + size_of::<(u64, u64)>());

impl Memory {
    fn add(&mut self, key: u64, hit: Hit, received: u64) {
        let mut known = match self.keys.remove(&key) {
            Some(known) => {
                self.order.remove(&known.order);
                self.bytes = self.bytes.saturating_sub(known.bytes);
                known
            }
            None => Remembered {
                hits: Vec::new(),
                order: 0,
                received,
                bytes: 0,
            },
        };
        if known.hits.iter().all(|one| one.identity != hit.identity) {
            if known.hits.len() >= PER_KEY {
                known.hits.remove(0);
            }
            known.hits.reserve_exact(1);
            known.hits.push(hit);
        }
        known.bytes = PER_ENTRY + known.hits.iter().map(Hit::heap_bytes).sum::<usize>();
        known.order = self.next;
        known.received = received;
        self.next += 1;
        self.bytes += known.bytes;
        self.order.insert(known.order, key);
        self.keys.insert(key, known);
        while self.bytes > MOST_BYTES && self.forget_first() {}
    }

    /// Forgets what arrived long before this time.
    fn expire(&mut self, now: u64) {
        while let Some(key) = self.order.first_key_value().map(|(_, key)| *key)
            && let Some(first) = self.keys.get(&key)
            && first.received.saturating_add(KEPT) < now
            && self.forget_first()
        {}
    }

    fn forget_first(&mut self) -> bool {
        let Some((_, key)) = self.order.first_key_value() else {
            return false;
        };
        let key = *key;
        self.take(key);
        true
    }

    fn take(&mut self, key: u64) -> Vec<Hit> {
        let Some(known) = self.keys.remove(&key) else {
            return Vec::new();
        };
        self.order.remove(&known.order);
        self.bytes = self.bytes.saturating_sub(known.bytes);
        known.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Identity;

    fn hit(number: u64, key: &str) -> Hit {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&number.to_le_bytes());
        Hit {
            cluster: Arc::from("prod"),
            key: key.to_owned(),
            identity: Identity(identity),
            ..Hit::default()
        }
    }

    fn change(key: &str, address: &str, is_watched: bool) -> Change {
        Change {
            cluster: Arc::from("prod"),
            detection: 0,
            key: Arc::from(key),
            address: Arc::from(address),
            is_watched,
        }
    }

    fn count(watch: &Watch, key: &str) -> usize {
        watch.recall(&change(key, key, true)).len()
    }

    #[test]
    fn an_address_is_watched_as_long_as_one_of_its_keys_is() {
        let watch = Watch::default();
        let is_watched = || watch.current().has_address(watch.hash(b"a"));
        watch.apply(&[
            change("a1", "a", true),
            change("a1", "a", true),
            change("a2", "a", true),
        ]);
        assert!(is_watched());
        watch.apply(&[change("a1", "a", false), change("a1", "a", false)]);
        assert!(is_watched());
        watch.apply(&[change("a2", "a", false)]);
        assert!(!is_watched() && watch.current().is_empty());
        assert_eq!(watch.heap_bytes(), 0);
    }

    /// A source pushes out its own successes, and no other's, until all places are taken.
    #[test]
    fn the_memory_is_bounded_and_each_source_has_its_place() {
        let watch = Watch::default();
        watch.remember(vec![hit(0, "quiet")], 1);
        let many = (0..100_000).map(|number| hit(number, "loud"));
        watch.remember(many.collect(), 2);
        assert_eq!(
            (count(&watch, "quiet"), count(&watch, "loud")),
            (1, PER_KEY)
        );
        // Ten thousand others do not push out the one before them either.
        watch.remember(vec![hit(0, "quiet")], 3);
        watch.remember(
            (0..10_000)
                .map(|number| hit(number, &number.to_string()))
                .collect(),
            4,
        );
        assert_eq!(count(&watch, "quiet"), 1);
        watch.remember(
            (0..100_000)
                .map(|number| hit(number, &number.to_string()))
                .collect(),
            5,
        );
        assert!(watch.heap_bytes() <= MOST_BYTES);
        assert_eq!((count(&watch, "0"), count(&watch, "99999")), (0, 1));
    }

    #[test]
    fn successes_move_with_their_detection() {
        let (old, new) = (Watch::default(), Watch::default());
        let of = |detection, key| Hit {
            detection,
            ..hit(1, key)
        };
        old.remember(vec![of(0, "gone"), of(1, "moved"), of(1, "late")], 7);
        new.continue_from(&old, |detection| (detection == 1).then_some(0));
        assert_eq!((count(&new, "gone"), count(&new, "moved")), (0, 1));
        assert_eq!((count(&new, "late"), count(&old, "late")), (1, 0));
    }

    #[test]
    fn successes_are_forgotten_in_time() {
        let watch = Watch::default();
        watch.remember(vec![hit(0, "old")], 1_000);
        watch.remember(vec![hit(1, "new")], 1_000 + KEPT);
        watch.remember(vec![hit(2, "newer")], 1_001 + KEPT);
        assert_eq!((count(&watch, "old"), count(&watch, "new")), (0, 1));
    }

    #[test]
    fn one_success_of_a_source_is_due_in_each_period() {
        let watch = Watch::default();
        let source = watch.hash(b"a");
        assert!(watch.is_due(source, 7));
        watch.mark(source, 7);
        assert!(!watch.is_due(source, 7) && watch.is_due(source, 8));
        assert!(watch.is_due(source ^ (1 << 40), 7));
    }
}
