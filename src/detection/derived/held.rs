//! Requests that may be the second log of one: they wait here for the first.
//!
//! A request that names another client than the address it counts for may be the log of an
//! aggregated API server ([`crate::detection::joins`]). Then it is counted for that client, and
//! counts no second time for a network, a slow address or a peer. The log of the client's request
//! may come later, so such a request waits as long as times of the two may be apart. If none comes,
//! it is taken.
//!
//! Both have a bound. Where too many wait, the oldest of the cluster is taken at once. And the API
//! servers of a cluster are few: where requests of some addresses wait, one of a further address is
//! taken at once. So who names other clients keeps few of its addresses out of a network for that
//! time, and a flood ends the waiting.

use std::collections::BTreeMap;

use super::key::Cluster;
use crate::{
    audit::{Identity, time::Micros},
    detection::{
        heap,
        hit::{Hit, Place},
        joins::APART,
    },
};

/// Requests that wait, of all clusters.
const MOST: usize = 4096;
/// Addresses of a cluster whose requests wait.
const ADDRESSES: usize = 8;

/// By cluster, time and identity; then by detection and address, which no two share.
type Key = (Cluster, Micros, Identity, u32, String);

/// Requests that wait for another log of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::detection) struct Held {
    hits: BTreeMap<Key, Hit>,
    /// How many wait of each address of a cluster.
    addresses: BTreeMap<(Cluster, String), usize>,
    bytes: usize,
}

impl Held {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a request of a cluster. What is over the bounds then, and is to be taken now.
    pub(super) fn hold(&mut self, cluster: Cluster, hit: Hit, most_bytes: usize) -> Vec<Hit> {
        let Some(time) = hit.time else {
            return Vec::new();
        };
        if !self.has_room(cluster, &hit.key) {
            return vec![hit];
        }
        let key = (cluster, time, hit.identity, hit.detection, hit.key.clone());
        drop(self.remove(&key));
        let address = (cluster, hit.key.clone());
        *self.addresses.entry(address).or_default() += 1;
        self.bytes += bytes(&hit);
        self.hits.insert(key, hit);
        let mut over = Vec::new();
        while self.hits.len() > MOST || self.bytes > most_bytes {
            match self.take_until(cluster, Micros(i64::MAX)) {
                Some(hit) => over.push(hit),
                None => break,
            }
        }
        over
    }

    /// Whether a request of this address may wait.
    fn has_room(&self, cluster: Cluster, address: &str) -> bool {
        let known = self.addresses.range((cluster, String::new())..);
        let known = known.take_while(|((of, _), _)| *of == cluster);
        let are_few = known.take(ADDRESSES).count() < ADDRESSES;
        are_few || self.addresses.contains_key(&(cluster, address.to_owned()))
    }

    /// Whether none waits, which is nearly always so.
    pub(super) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// The earliest request of a cluster that has waited long enough at this time of the cluster.
    pub(super) fn due(&mut self, cluster: Cluster, now: Micros) -> Option<Hit> {
        self.take_until(cluster, now.minus(APART))
    }

    fn take_until(&mut self, cluster: Cluster, time: Micros) -> Option<Hit> {
        let from = (
            cluster,
            Micros(i64::MIN),
            Identity::default(),
            0,
            String::new(),
        );
        let (key, _) = self.hits.range(from..).next()?;
        if key.0 != cluster || key.1 > time {
            return None;
        }
        let key = key.clone();
        self.remove(&key)
    }

    /// Forgets a request: it is counted for its client.
    pub(super) fn forget(&mut self, cluster: Cluster, detection: u32, key: &str, place: Place) {
        let (time, identity) = place;
        drop(self.remove(&(cluster, time, identity, detection, key.to_owned())));
    }

    /// Forgets the requests of a cluster that is gone.
    pub(super) fn remove_cluster(&mut self, cluster: Cluster) {
        while self.take_until(cluster, Micros(i64::MAX)).is_some() {}
    }

    fn remove(&mut self, key: &Key) -> Option<Hit> {
        let hit = self.hits.remove(key)?;
        let address = (key.0, key.4.clone());
        if let Some(count) = self.addresses.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
        self.bytes = self.bytes.saturating_sub(bytes(&hit));
        Some(hit)
    }

    /// Gives the detections the places that are listed for them, and leaves out others.
    pub(super) fn move_detections(&mut self, place: impl Fn(usize) -> Option<usize>) {
        for ((cluster, ..), mut hit) in std::mem::take(self).hits {
            let place = place(hit.detection as usize);
            if let Some(place) = place.and_then(|place| u32::try_from(place).ok()) {
                hit.detection = place;
                drop(self.hold(cluster, hit, usize::MAX));
            }
        }
    }

    /// All that wait, with their clusters, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = (Cluster, &Hit)> {
        self.hits.iter().map(|((cluster, ..), hit)| (*cluster, hit))
    }
}

fn bytes(hit: &Hit) -> usize {
    heap::entry(size_of::<(Key, Hit)>()) + heap::block(hit.key.len()) + hit.heap_bytes()
        - size_of::<Hit>()
}
