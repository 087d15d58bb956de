//! Requests that may be the second log of one: they wait here for the first.
//!
//! A request that names another client than the address it counts for may be the log of an
//! aggregated API server ([`crate::detection::joins`]). Then it is counted for that client, and
//! counts no second time for a network, a slow address or a peer. The log of the client's request
//! may come later, so such a request waits as long as times of the two may be apart. If none comes,
//! it is taken.
//!
//! Memory has a bound: where too many wait, the oldest of the cluster is taken at once. So a flood
//! of such requests ends the waiting, and hides none.

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

/// By cluster, time and identity; then by detection and address, which no two share.
type Key = (Cluster, Micros, Identity, u32, String);

/// Requests that wait for another log of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::detection) struct Held {
    hits: BTreeMap<Key, Hit>,
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
        let key = (cluster, time, hit.identity, hit.detection, hit.key.clone());
        self.bytes += bytes(&hit);
        if let Some(before) = self.hits.insert(key, hit) {
            self.bytes = self.bytes.saturating_sub(bytes(&before));
        }
        let mut over = Vec::new();
        while self.hits.len() > MOST || self.bytes > most_bytes {
            match self.take_until(cluster, Micros(i64::MAX)) {
                Some(hit) => over.push(hit),
                None => break,
            }
        }
        over
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
