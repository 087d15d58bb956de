//! Keys that are watched for a success: those of open findings, and of closed ones for some time.
//!
//! A success of an open finding makes it critical and is sent with it. A success of a closed one is
//! handed to the detection of successes, which makes a finding of its own that refers to the scan.
//! Neither counts as a hit of the scan.
//!
//! The list is bounded in bytes. When it is full, the key goes that had no success, then one whose
//! finding is closed, then the one with the fewest hits, then the one that was quiet for longest.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    dedup::DedupSet,
    emission::{Draft, Origin},
    finding::{Finding, FindingState},
    heap,
    hit::{Hit, Place},
    rule::SECOND,
    time::{BEGINNING, Micros},
    watch::Change,
};
use crate::{finding::ids::SOURCE_ADDRESS, rules::model::Detection};

/// Identities of successes that are remembered of one finding.
const DISTINCT: usize = 1024;
/// Bytes that the watched keys of one detection in one cluster may take.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How long before the window of a finding a success may be and still belongs to it: a minute, and
/// what one remembered success may be before another that it stands in for.
const LOOK_BACK: i64 = 75 * SECOND;

/// The keys of one detection in one cluster that are watched.
#[derive(Clone, Debug, Default)]
pub(super) struct FollowUps {
    keys: BTreeMap<Arc<str>, Box<Watched>>,
    /// In the order in which they go when there are too many.
    order: BTreeSet<(Rank, Arc<str>)>,
    /// When closed ones are watched no longer. A time may be early, never late.
    ends: BTreeSet<(Micros, Arc<str>)>,
    bytes: usize,
}

/// The greatest is kept longest.
type Rank = (bool, bool, u32, Micros);

/// One key that is watched.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Watched {
    /// The source address in it.
    pub(super) address: Arc<str>,
    /// The hit that opened its last finding.
    pub(super) opening: Place,
    /// Hits of that finding when it was last emitted.
    pub(super) count: u64,
    /// When that finding was closed; `None` while it is open.
    pub(super) closed: Option<Micros>,
    /// When it is watched no longer; `None` while that finding is open.
    pub(super) end: Option<Micros>,
    /// Time of the latest success.
    pub(super) last_success: Micros,
    /// Requests that succeeded while it was open: each counts once.
    pub(super) seen: DedupSet,
}

/// What becomes of a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its key is not watched, or it is a duplicate: nothing.
    Ignored,
    /// It belongs to the open finding of its key.
    Open,
    /// The finding of its key is closed: it is one of the detection of successes.
    Closed,
}

/// Keys that are watched from now on or no longer, until the screen learns of it. Kept only where
/// there is a screen to learn of it.
#[derive(Debug, Default)]
pub(super) struct Changes(Option<Mutex<Vec<Change>>>);

impl Changes {
    /// For an engine with a screen that asks.
    pub(super) fn kept() -> Self {
        Self(Some(Mutex::default()))
    }

    pub(super) fn take(&mut self) -> Vec<Change> {
        let list = self.0.as_mut().map(Mutex::get_mut);
        list.map_or_else(Vec::new, |list| {
            mem::take(list.unwrap_or_else(PoisonError::into_inner))
        })
    }

    fn push(&self, change: Change) {
        if let Some(list) = &self.0 {
            list.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(change);
        }
    }
}

/// Which detection in which cluster the keys are of.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) detection: &'a Detection,
    /// Its place in the list of the engine.
    pub(super) place: usize,
    pub(super) cluster: &'a Arc<str>,
    pub(super) changes: &'a Changes,
}

impl Of<'_> {
    fn change(&self, key: &Arc<str>, address: &Arc<str>, is_watched: bool) {
        self.changes.push(Change {
            cluster: Arc::clone(self.cluster),
            detection: self.place,
            key: Arc::clone(key),
            address: Arc::clone(address),
            is_watched,
        });
    }

    /// How long a closed finding is followed up, in microseconds.
    fn window(&self) -> i64 {
        let follow_up = self.detection.follow_up.as_ref();
        follow_up.map_or(0, |follow_up| follow_up.window)
    }

    fn address(&self, key: &str) -> Arc<str> {
        let mut group = self.detection.group(key).into_iter();
        let address = group.find(|(name, _)| name == SOURCE_ADDRESS);
        Arc::from(address.and_then(|(_, value)| value).unwrap_or_default())
    }
}

impl FollowUps {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// All of them, in the order of keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Watched)> {
        self.keys.iter().map(|(key, one)| (key, &**one))
    }

    /// The hit that opened the last finding of a key.
    pub(super) fn opening(&self, key: &str) -> Option<Place> {
        self.keys.get(key).map(|one| one.opening)
    }

    /// Takes the states of findings that are emitted: their keys are watched. Returns how many keys
    /// had to go.
    pub(super) fn take(&mut self, drafts: &mut [Draft], now: Micros, of: &Of<'_>) -> u64 {
        for draft in drafts {
            if let Origin::Session { key, opening, .. } = &draft.origin {
                self.draft((key, *opening), (draft.state, &mut draft.evidence), now, of);
            }
        }
        let mut gone = 0;
        while self.bytes > MOST_BYTES
            && let Some((_, key)) = self.order.first().cloned()
        {
            self.remove(&key, of);
            gone += 1;
        }
        gone
    }

    fn draft(
        &mut self,
        (key, opening): (&Arc<str>, Place),
        (state, finding): (FindingState, &mut Finding),
        now: Micros,
        of: &Of<'_>,
    ) {
        let mut one = match (self.unlist(key), state) {
            (Some(one), _) => one,
            (None, FindingState::Opened) => {
                let one = Watched {
                    address: of.address(key),
                    opening,
                    count: 0,
                    closed: None,
                    end: None,
                    last_success: BEGINNING,
                    seen: DedupSet::default(),
                };
                of.change(key, &one.address, true);
                Box::new(one)
            }
            (None, _) => return,
        };
        if one.opening != opening {
            if state != FindingState::Opened {
                // An earlier finding of the key: what succeeded belongs to the last one.
                self.list(key, one);
                return;
            }
            one.opening = opening;
        }
        one.count = finding.count;
        one.closed = (state == FindingState::Closed).then_some(now);
        one.set_end(of);
        self.list(key, one);
    }

    /// Whether the time of one is over.
    pub(super) fn is_due(&self, now: Micros) -> bool {
        self.ends.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Takes a success.
    pub(super) fn succeed(&mut self, hit: &Hit, time: Micros, of: &Of<'_>) -> Standing {
        let Some((key, one)) = self.keys.get_key_value(hit.key.as_str()) else {
            return Standing::Ignored;
        };
        let begin = of.detection.window.length().saturating_add(LOOK_BACK);
        let is_before = time < one.opening.0.minus(begin);
        let is_after = one.closed.is_some_and(|at| time > at.plus(of.window()));
        if is_before || is_after || one.seen.contains(hit.identity) {
            return Standing::Ignored;
        }
        let key = Arc::clone(key);
        let Some(mut one) = self.unlist(&key) else {
            return Standing::Ignored;
        };
        one.last_success = one.last_success.max(time);
        one.set_end(of);
        let standing = if one.closed.is_none() {
            one.seen.insert(hit.identity, time, DISTINCT);
            Standing::Open
        } else {
            Standing::Closed
        };
        self.list(&key, one);
        standing
    }

    /// Watches keys no longer whose time is over.
    pub(super) fn expire(&mut self, now: Micros, steps: &mut usize, of: &Of<'_>) -> bool {
        while let Some((at, key)) = self.ends.first()
            && *at <= now
        {
            if !super::steps::take(steps) {
                return false;
            }
            let key = Arc::clone(key);
            self.remove(&key, of);
        }
        true
    }

    /// Watches all keys no longer: those of this detection in this cluster.
    pub(super) fn clear(&mut self, detection: usize, cluster: &Arc<str>, changes: &Changes) {
        self.all(detection, cluster, changes, false);
        *self = Self::default();
    }

    /// Says anew that its keys are watched: those of this detection in this cluster.
    pub(super) fn announce(&self, detection: usize, cluster: &Arc<str>, changes: &Changes) {
        self.all(detection, cluster, changes, true);
    }

    fn all(&self, detection: usize, cluster: &Arc<str>, changes: &Changes, is_watched: bool) {
        for (key, one) in &self.keys {
            changes.push(Change {
                cluster: Arc::clone(cluster),
                detection,
                key: Arc::clone(key),
                address: Arc::clone(&one.address),
                is_watched,
            });
        }
    }

    fn remove(&mut self, key: &Arc<str>, of: &Of<'_>) {
        if let Some(one) = self.unlist(key) {
            of.change(key, &one.address, false);
        }
    }

    /// Lists a key that is not listed.
    pub(super) fn list(&mut self, key: &Arc<str>, one: Box<Watched>) {
        self.bytes += one.heap_bytes(key);
        self.order.insert((one.rank(), Arc::clone(key)));
        if let Some(end) = one.end {
            self.ends.insert((end, Arc::clone(key)));
        }
        self.keys.insert(Arc::clone(key), one);
    }

    fn unlist(&mut self, key: &Arc<str>) -> Option<Box<Watched>> {
        let one = self.keys.remove(key)?;
        self.bytes = self.bytes.saturating_sub(one.heap_bytes(key));
        self.order.remove(&(one.rank(), Arc::clone(key)));
        if let Some(end) = one.end {
            self.ends.remove(&(end, Arc::clone(key)));
        }
        Some(one)
    }
}

impl Watched {
    /// Bytes on the heap, with its places in the lists.
    fn heap_bytes(&self, key: &str) -> usize {
        const PLACES: usize = heap::entry(size_of::<(Arc<str>, Box<Watched>)>())
            + heap::entry(size_of::<(Rank, Arc<str>)>())
            + heap::entry(size_of::<(Micros, Arc<str>)>());
        PLACES
            + heap::shared(key.len())
            + heap::shared(self.address.len())
            + heap::block(size_of::<Self>())
            + self.seen.heap_bytes()
    }

    fn rank(&self) -> Rank {
        let is_open = self.closed.is_none();
        let time = self.closed.unwrap_or(self.opening.0).max(self.last_success);
        let has_success = self.last_success != BEGINNING;
        (has_success, is_open, self.count.max(1).ilog2(), time)
    }

    /// When it is watched no longer. A finding of successes refers to the scan as long as it may be
    /// open.
    fn set_end(&mut self, of: &Of<'_>) {
        self.end = self.closed.map(|closed| {
            let findings = of.detection.window.length().saturating_mul(3);
            let end = closed.plus(of.window());
            end.max(self.last_success.plus(findings))
        });
    }
}

/// The outcome of a finding with successes.
const SUCCESS: &str = "success";

/// What a finding of successes says of them: all its requests are.
pub(super) fn all_succeeded(finding: &mut Finding) {
    SUCCESS.clone_into(&mut finding.outcome);
    finding.success_count = finding.count;
    finding.successes.clone_from(&finding.samples);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::Identity, detection::rule::Rule};

    const OPENED: FindingState = FindingState::Opened;
    const CLOSED: FindingState = FindingState::Closed;

    fn draft(key: &str, state: FindingState, count: u64) -> Draft {
        Draft {
            state,
            origin: Origin::Session {
                key: Arc::from(key),
                opening: (Micros(0), Identity::default()),
                alert_at: Micros(0),
                continues: None,
            },
            evidence: Finding {
                count,
                ..Finding::default()
            },
        }
    }

    fn success(key: &str, number: u8) -> Hit {
        Hit {
            key: key.to_owned(),
            identity: Identity([number; 16]),
            ..Hit::default()
        }
    }

    /// The list is bounded in bytes, and the weakest keys go: no success, closed, few hits.
    #[test]
    fn the_weakest_keys_go_and_the_screen_learns_of_it() {
        let detection = Detection::of(&Rule::default());
        let (cluster, mut changes) = (Arc::from("prod"), Changes::kept());
        let of = Of {
            detection: &detection,
            place: 0,
            cluster: &cluster,
            changes: &changes,
        };
        let mut list = FollowUps::default();
        for key in ["succeeded", "open"] {
            list.take(&mut [draft(key, OPENED, 100)], Micros(0), &of);
        }
        let standing = list.succeed(&success("succeeded", 1), Micros(1), &of);
        assert_eq!(standing, Standing::Open);
        list.take(&mut [draft("succeeded", CLOSED, 6)], Micros(2), &of);
        let mut gone = 0;
        for number in 0..40_000 {
            let key = number.to_string();
            let mut drafts = [draft(&key, OPENED, 6), draft(&key, CLOSED, 6)];
            gone += list.take(&mut drafts, Micros(3), &of);
        }
        assert!(gone > 10_000 && list.heap_bytes() <= MOST_BYTES, "{gone}");
        assert_eq!(list.keys.len() as u64 + gone, 40_002);
        assert!(list.opening("succeeded").is_some() && list.opening("open").is_some());
        assert!(list.opening("0").is_none());
        let again = list.succeed(&success("succeeded", 1), Micros(4), &of);
        assert_eq!(again, Standing::Ignored);
        let later = list.succeed(&success("succeeded", 2), Micros(4), &of);
        assert_eq!(later, Standing::Closed);
        // All but the open one end with their window, and none is counted any more.
        let day = Micros(0).plus(25 * 3600 * SECOND);
        assert!(list.expire(day, &mut { usize::MAX }, &of));
        assert_eq!(list.keys.len(), 1);
        list.clear(0, &cluster, &changes);
        assert_eq!(
            (list.heap_bytes(), list.order.len(), list.ends.len()),
            (0, 0, 0)
        );
        let mut watched = 0_i64;
        for change in changes.take() {
            watched += if change.is_watched { 1 } else { -1 };
        }
        assert_eq!(watched, 0);
    }
}
