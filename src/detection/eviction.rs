//! Which key is evicted when there are too many, or when they take too much memory.
//!
//! A key that comes always finds a place. The detection that has most of what is short loses a key,
//! in the cluster that has most of it: so each detection and each cluster is guaranteed an
//! equal share, and a flood in one cluster displaces the keys of that cluster. Which of its keys
//! goes, its table says ([`super::key_table::KeyTable::weakest`]).
//!
//! Who is displaced loses the hits it had, and a key that comes may have been displaced before. So
//! a key inherits as its error the most that any key has lost in the window ([`Floor`]). Whichever
//! keys are chosen, no key has lost more hits of a window than that: see there.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    heap::{self, Counted},
    key_table::{Inherited, Measure},
    limits::Limits,
    time::{BEGINNING, Micros},
};

/// What one detection keeps of one cluster, as far as eviction goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) keys: usize,
    pub(super) bytes: Counted,
}

/// A place of a cluster in the order of its detection.
type Place = (usize, Arc<str>);

/// What one [`Usage`] with keys takes on the heap here.
pub(super) const PLACE: usize = 2 * heap::entry(size_of::<Place>());

/// Where the next key to be evicted is, and how much all keys take.
///
/// Invariant: it holds the sum of the usages that were last reported for each cluster and
/// detection, and each of them in the order of its size.
#[derive(Clone, Debug, Default)]
pub(super) struct Evictions {
    /// By detection.
    detections: Vec<Share>,
    /// Bytes on the heap that shards take besides their keys.
    pub(super) besides: Counted,
    /// Bytes on the heap of the evidence log.
    pub(super) texts: usize,
}

/// What one detection takes.
#[derive(Clone, Debug, Default)]
struct Share {
    by_keys: BTreeSet<Place>,
    by_bytes: BTreeSet<Place>,
    keys: usize,
    bytes: Counted,
}

/// A number of keys as clusters are ordered by it: not each key of many moves its cluster.
fn coarse_keys(keys: usize) -> usize {
    const EXACT: usize = 1024;
    if keys < EXACT { keys } else { keys & !63 }
}

/// The same for bytes.
fn coarse_bytes(bytes: usize) -> usize {
    bytes / 8192
}

impl Evictions {
    /// Keys of all detections.
    pub(super) fn keys(&self) -> usize {
        self.detections.iter().map(|share| share.keys).sum()
    }

    /// Bytes on the heap of all state.
    pub(super) fn heap_bytes(&self) -> usize {
        let keys: usize = self.detections.iter().map(|share| share.bytes.0).sum();
        keys + self.besides.0 + self.texts
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
        let places = |usage: &Usage| {
            let is_any = usage.keys > 0;
            is_any.then(|| (coarse_keys(usage.keys), coarse_bytes(usage.bytes.0)))
        };
        let (before, after) = (places(reported), places(&now));
        *reported = now;
        if before == after {
            return;
        }
        for (order, before, after) in [
            (
                &mut share.by_keys,
                before.map(|one| one.0),
                after.map(|one| one.0),
            ),
            (
                &mut share.by_bytes,
                before.map(|one| one.1),
                after.map(|one| one.1),
            ),
        ] {
            if before == after {
                continue;
            }
            if let Some(before) = before {
                order.remove(&(before, Arc::clone(cluster)));
            }
            if let Some(after) = after {
                order.insert((after, Arc::clone(cluster)));
            }
        }
    }

    /// A shard takes other bytes on the heap besides its keys than before.
    pub(super) fn resize(&mut self, (before, now): (usize, usize)) {
        self.besides.0 = (self.besides.0 + now).saturating_sub(before);
    }

    /// The detection and cluster that have to give way, and in what, if there are too many keys or
    /// if all takes too much memory.
    pub(super) fn excess(&self, limits: &Limits) -> Option<(usize, Arc<str>, Measure)> {
        let measure = if self.keys() > limits.keys {
            Measure::Keys
        } else if self.heap_bytes() > limits.memory {
            Measure::Bytes
        } else {
            return None;
        };
        let amount = |share: &Share| match measure {
            Measure::Keys => share.keys,
            Measure::Bytes => share.bytes.0,
        };
        let shares = self.detections.iter().enumerate();
        let (detection, share) = shares
            .filter(|(_, share)| share.keys > 0)
            .max_by_key(|(at, share)| (amount(share), usize::MAX - at))?;
        let order = match measure {
            Measure::Keys => &share.by_keys,
            Measure::Bytes => &share.by_bytes,
        };
        let (_, cluster) = order.last()?;
        Some((detection, Arc::clone(cluster), measure))
    }
}

/// The most hits of one window that any key may have lost because it was displaced: the error that
/// a key inherits, and the bound that is published.
///
/// A key that comes inherits the floor. When it is displaced, the floor becomes at least its error
/// and its own hits. So by induction the floor is never less than what any one key has lost: what
/// it had lost before it came is within its error, and its own hits are what it loses now. That
/// holds whichever key is displaced; a good choice only keeps the floor low. What is older than
/// a window is over: no later hit shares a window with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floor {
    /// Event time at which `young` began.
    pub(super) since: Micros,
    pub(super) young: u32,
    /// Of the span before.
    pub(super) old: u32,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            since: BEGINNING,
            young: 0,
            old: 0,
        }
    }
}

/// Microseconds of a minute.
const MINUTE: i64 = 60_000_000;

/// The minute of a time since 1970.
fn minute(time: Micros) -> u32 {
    u32::try_from(time.0.div_euclid(MINUTE)).unwrap_or_default()
}

impl Floor {
    /// Event time is here. What is older than `span`, in microseconds, is over.
    fn advance(&mut self, now: Micros, span: i64) {
        if now < self.since.plus(span) {
            return;
        }
        self.old = if now < self.since.plus(span.saturating_mul(2)) {
            self.young
        } else {
            0
        };
        self.young = 0;
        self.since = now;
    }

    /// What a key that comes now inherits.
    pub(super) fn inherited(&mut self, now: Micros, span: i64) -> Inherited {
        self.advance(now, span);
        Inherited {
            error: self.young.max(self.old),
            minute: minute(now),
        }
    }

    /// A key is displaced that had these hits at hand; the error bound of that.
    pub(super) fn raise(&mut self, inherited: Inherited, hits: u64, now: Micros, span: i64) -> u64 {
        self.advance(now, span);
        let hits = u32::try_from(hits).unwrap_or(u32::MAX);
        let lost = error(inherited, now, span).saturating_add(hits);
        self.young = self.young.max(lost);
        lost.into()
    }
}

/// The end of the minute in which a key came: before that, it may have been here already.
pub(super) fn minute_end(inherited: Inherited) -> Micros {
    Micros((i64::from(inherited.minute) + 1).saturating_mul(MINUTE))
}

/// The error of a key by now: it ends a window after the key came.
pub(super) fn error(inherited: Inherited, now: Micros, span: i64) -> u32 {
    if minute_end(inherited).plus(span) > now {
        inherited.error
    } else {
        0
    }
}
