//! The key table: the state of each key, when something is due for it, and in which order keys are
//! evicted.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    eviction::Priority,
    heap::{self, Counted},
    time::Micros,
};

/// The name of a key. Copies are cheap and share one block of memory.
pub(super) trait Name: Ord + Clone {
    /// Bytes on the heap, counted once.
    fn heap_bytes(&self) -> usize;
}

impl Name for Arc<str> {
    fn heap_bytes(&self) -> usize {
        heap::shared(self.len())
    }
}

/// Where a key is to be listed after it has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    /// Hits at hand.
    pub(super) hits: u64,
    /// Time of the latest of them.
    pub(super) last: Micros,
    /// When something may be due for its finding.
    pub(super) due_at: Option<Micros>,
    /// When it may be forgotten.
    pub(super) expires_at: Option<Micros>,
    /// Bytes on the heap of its state.
    pub(super) heap_bytes: usize,
}

/// A deadline and whose it is.
type Due<N> = (Micros, N);

/// All keys of one detection in one cluster.
///
/// Invariants, kept by [`Keyed::list`] and [`KeyTable::remove`] alone: each key is in the eviction
/// order at its priority; it is among the closings and expiries at the times noted in its entry,
/// which may be early, never late; `bytes` is the sum of what the entries have counted.
#[derive(Clone, Debug)]
pub(super) struct KeyTable<N, V> {
    entries: BTreeMap<N, Box<Entry<V>>>,
    closings: BTreeSet<Due<N>>,
    expiries: BTreeSet<Due<N>>,
    evictions: BTreeSet<(Priority, N)>,
    bytes: Counted,
}

/// A key and where it is listed.
#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    priority: Option<Priority>,
    closing: Option<Micros>,
    expiry: Option<Micros>,
    bytes: Counted,
}

/// One key of the table, to be changed and listed anew.
pub(super) struct Keyed<'t, N, V> {
    name: N,
    entry: &'t mut Entry<V>,
    closings: &'t mut BTreeSet<Due<N>>,
    expiries: &'t mut BTreeSet<Due<N>>,
    evictions: &'t mut BTreeSet<(Priority, N)>,
    bytes: &'t mut Counted,
}

impl<N, V> Default for KeyTable<N, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            closings: BTreeSet::new(),
            expiries: BTreeSet::new(),
            evictions: BTreeSet::new(),
            bytes: Counted::default(),
        }
    }
}

impl<N: Name, V> KeyTable<N, V> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes on the heap of all keys.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.0
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, name: &Q) -> Option<&V>
    where
        N: Borrow<Q>,
    {
        self.entries.get(name).map(|entry| &entry.value)
    }

    /// The name of a key as the table has it.
    pub(super) fn name<Q: Ord + ?Sized>(&self, name: &Q) -> Option<&N>
    where
        N: Borrow<Q>,
    {
        self.entries.get_key_value(name).map(|(name, _)| name)
    }

    /// The first key in the order of names.
    pub(super) fn first(&self) -> Option<&N> {
        self.entries.first_key_value().map(|(name, _)| name)
    }

    /// All keys with their state, in the order of names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&N, &V)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name, &entry.value))
    }

    /// The key of this name, a new one if there is none.
    pub(super) fn entry(&mut self, name: N, new: impl FnOnce() -> V) -> Keyed<'_, N, V> {
        let entry = self.entries.entry(name.clone()).or_insert_with(|| {
            Box::new(Entry {
                value: new(),
                priority: None,
                closing: None,
                expiry: None,
                bytes: Counted::default(),
            })
        });
        Keyed {
            name,
            entry,
            closings: &mut self.closings,
            expiries: &mut self.expiries,
            evictions: &mut self.evictions,
            bytes: &mut self.bytes,
        }
    }

    /// The key of this name.
    pub(super) fn get_mut(&mut self, name: N) -> Option<Keyed<'_, N, V>> {
        Some(Keyed {
            entry: self.entries.get_mut(&name)?,
            name,
            closings: &mut self.closings,
            expiries: &mut self.expiries,
            evictions: &mut self.evictions,
            bytes: &mut self.bytes,
        })
    }

    /// Whether a closing is due.
    pub(super) fn is_closing_due(&self, until: Micros) -> bool {
        self.closings.first().is_some_and(|(at, _)| *at <= until)
    }

    /// Takes the first closing off its list.
    pub(super) fn pop_closing(&mut self) -> Option<Keyed<'_, N, V>> {
        let (_, name) = self.closings.pop_first()?;
        let keyed = self.get_mut(name)?;
        keyed.entry.closing = None;
        Some(keyed)
    }

    /// Whether an expiry is due.
    pub(super) fn is_expiry_due(&self, until: Micros) -> bool {
        self.expiries.first().is_some_and(|(at, _)| *at <= until)
    }

    /// Takes the first expiry off its list.
    pub(super) fn pop_expiry(&mut self) -> Option<Keyed<'_, N, V>> {
        let (_, name) = self.expiries.pop_first()?;
        let keyed = self.get_mut(name)?;
        keyed.entry.expiry = None;
        Some(keyed)
    }

    /// The priority of the key that is evicted first.
    pub(super) fn weakest(&self) -> Option<Priority> {
        self.evictions.first().map(|(priority, _)| *priority)
    }

    /// The key that is evicted first.
    pub(super) fn first_eviction(&self) -> Option<N> {
        self.evictions.first().map(|(_, name)| name.clone())
    }

    /// Forgets a key; its state.
    pub(super) fn remove(&mut self, name: &N) -> Option<V> {
        let entry = self.entries.remove(name)?;
        if let Some(priority) = entry.priority {
            self.evictions.remove(&(priority, name.clone()));
        }
        if let Some(at) = entry.closing {
            self.closings.remove(&(at, name.clone()));
        }
        if let Some(at) = entry.expiry {
            self.expiries.remove(&(at, name.clone()));
        }
        self.bytes.0 = self.bytes.0.saturating_sub(entry.bytes.0);
        Some(entry.value)
    }

    /// The priority and deadlines at which a key is listed.
    pub(super) fn listed(&self, name: &N) -> Option<Listed> {
        let entry = self.entries.get(name)?;
        Some(Listed {
            priority: entry.priority?,
            closing: entry.closing,
            expiry: entry.expiry,
        })
    }
}

/// Where a key is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) priority: Priority,
    pub(super) closing: Option<Micros>,
    pub(super) expiry: Option<Micros>,
}

impl<N: Name, V> Keyed<'_, N, V> {
    pub(super) fn name(&self) -> &N {
        &self.name
    }

    pub(super) fn value(&mut self) -> &mut V {
        &mut self.entry.value
    }

    /// Whether it was not listed yet.
    pub(super) fn is_new(&self) -> bool {
        self.entry.priority.is_none()
    }

    /// Lists the key where it belongs by now. A deadline that it has stays until it is popped, unless
    /// something is due earlier; its priority changes with its number of hits.
    pub(super) fn list(self, listing: Listing) {
        let Self { name, entry, .. } = self;
        if entry
            .priority
            .is_none_or(|listed| listed.hits != listing.hits)
        {
            if let Some(listed) = entry.priority {
                self.evictions.remove(&(listed, name.clone()));
            }
            let priority = Priority {
                hits: listing.hits,
                last: listing.last,
            };
            entry.priority = Some(priority);
            self.evictions.insert((priority, name.clone()));
        }
        if let (None, Some(at)) = (entry.expiry, listing.expires_at) {
            entry.expiry = Some(at);
            self.expiries.insert((at, name.clone()));
        }
        if let Some(at) = listing.due_at
            && entry.closing.is_none_or(|listed| at < listed)
        {
            if let Some(listed) = entry.closing {
                self.closings.remove(&(listed, name.clone()));
            }
            entry.closing = Some(at);
            self.closings.insert((at, name.clone()));
        }
        let deadlines = usize::from(entry.expiry.is_some()) + usize::from(entry.closing.is_some());
        let now = const {
            heap::block(size_of::<Entry<V>>())
                + heap::entry(size_of::<(N, Box<Entry<V>>)>())
                + heap::entry(size_of::<(Priority, N)>())
        } + deadlines * const { heap::entry(size_of::<Due<N>>()) }
            + name.heap_bytes()
            + listing.heap_bytes;
        let (before, now) = entry.bytes.set(now);
        self.bytes.0 = (self.bytes.0 + now).saturating_sub(before);
    }

    /// Lists the key just where another table had it.
    pub(super) fn list_at(self, listed: Listed, heap_bytes: usize) {
        self.list(Listing {
            hits: listed.priority.hits,
            last: listed.priority.last,
            due_at: listed.closing,
            expires_at: listed.expiry,
            heap_bytes,
        });
    }
}
