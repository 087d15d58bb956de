//! Which key is evicted when there are too many, or when they take too much memory: one of the
//! lowest priority, of a detection that has more than its share.
//!
//! A key's priority is its number of hits, and then how late the last of them was. So a flood of
//! keys with one hit each displaces itself, and never a scanner. Each of the detections that have
//! keys is guaranteed an equal share of the keys and of the memory before it gives way to others:
//! a detection whose every match opens a finding cannot displace what others gather.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    heap::{self, Counted},
    limits::Limits,
    time::Micros,
};

/// Eviction priority: the lowest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    /// Hits at hand, at most one more than the threshold; `u64::MAX` with an open finding.
    pub(super) hits: u64,
    /// Time of the latest hit when they became as many.
    pub(super) last: Micros,
}

/// What one detection keeps of one cluster, as far as eviction goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) keys: usize,
    pub(super) bytes: Counted,
    /// The lowest priority of its keys.
    pub(super) weakest: Option<Priority>,
}

/// A place of a cluster in the order of its detection.
type Place = (Priority, Arc<str>);

/// What one [`Usage`] with keys takes on the heap here.
pub(super) const PLACE: usize = heap::entry(size_of::<Place>());

/// Where the next key to be evicted is, and how much all keys take.
///
/// Invariant: it holds the sum of the usages that were last reported for each cluster and
/// detection, and their weakest keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Evictions {
    /// By detection.
    detections: Vec<Share>,
    /// Bytes on the heap that shards take besides their keys.
    pub(super) besides: Counted,
}

/// What one detection takes.
#[derive(Clone, Debug, Default)]
struct Share {
    weakest: BTreeSet<Place>,
    keys: usize,
    bytes: Counted,
}

impl Evictions {
    /// Keys of all detections.
    pub(super) fn keys(&self) -> usize {
        self.detections.iter().map(|share| share.keys).sum()
    }

    /// Bytes on the heap of all shards.
    pub(super) fn heap_bytes(&self) -> usize {
        let keys: usize = self.detections.iter().map(|share| share.bytes.0).sum();
        keys + self.besides.0
    }

    /// Takes what a detection keeps of a cluster now in place of what was reported before.
    pub(super) fn report(
        &mut self,
        detection: usize,
        cluster: &Arc<str>,
        reported: &mut Usage,
        now: Usage,
    ) {
        if self.detections.len() <= detection {
            self.detections
                .resize_with(detection.saturating_add(1), Share::default);
        }
        let Some(share) = self.detections.get_mut(detection) else {
            return;
        };
        share.keys = (share.keys + now.keys).saturating_sub(reported.keys);
        share.bytes.0 = (share.bytes.0 + now.bytes.0).saturating_sub(reported.bytes.0);
        if reported.weakest != now.weakest {
            if let Some(weakest) = reported.weakest {
                share.weakest.remove(&(weakest, Arc::clone(cluster)));
            }
            if let Some(weakest) = now.weakest {
                share.weakest.insert((weakest, Arc::clone(cluster)));
            }
        }
        *reported = now;
    }

    /// A shard takes other bytes on the heap besides its keys than before.
    pub(super) fn resize(&mut self, (before, now): (usize, usize)) {
        self.besides.0 = (self.besides.0 + now).saturating_sub(before);
    }

    /// The detection and cluster of the key to be evicted, if there are too many or if all takes
    /// too much memory.
    pub(super) fn excess(&self, limits: &Limits) -> Option<(usize, Arc<str>)> {
        let are_too_many = self.keys() > limits.keys;
        if !are_too_many && self.heap_bytes() <= limits.memory {
            return None;
        }
        let shares = self.detections.iter().filter(|share| share.keys > 0);
        let parts = shares.count().max(1);
        let is_above_its_share = |share: &Share| {
            if are_too_many {
                share.keys > limits.keys / parts
            } else {
                share.bytes.0 > limits.memory / parts
            }
        };
        let weakest = |of: &dyn Fn(&Share) -> bool| {
            let shares = self.detections.iter().enumerate();
            shares
                .filter(|(_, share)| of(share))
                .filter_map(|(detection, share)| Some((share.weakest.first()?, detection)))
                .min()
        };
        // What is kept besides keys may be what exceeds.
        let ((_, cluster), detection) =
            weakest(&is_above_its_share).or_else(|| weakest(&|_| true))?;
        Some((detection, Arc::clone(cluster)))
    }
}
