//! One cluster: its watermark, and its keys with what is due for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    escu::Windows,
    finding::FindingState,
    floors::Floors,
    heap::{self, Counted},
    hits::Place,
    limits::Limits,
    native::{Arrival, Fate, Key, Open, Terms},
    packed::Fields,
    ranking::{PLACE, Rank, Ranking, Slot},
    rule::Rule,
    time::{BEGINNING, Micros},
};

/// A window and the lateness is what hits on time can reach back. What is further back is kept for
/// so many windows more, for the sake of late hits: a backlog that a collector sends over several
/// connections at once comes in any order.
const RECALL: i64 = 4;

/// State of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cluster {
    /// Greatest event time seen.
    pub(super) front: Micros,
    /// Windows that end up to here are over, and hits from before it are late.
    pub(super) watermark: Micros,
    /// Findings that are quiet for a window up to here are over. Like the watermark, but it steps
    /// back when hits come in behind what ticks had made of it, so that a backlog is closed by its
    /// own times and not after each of its hits.
    quiet: Micros,
    /// Whether hits came since the last tick.
    busy: bool,
    /// What happened up to here to keys that are gone may have been forgotten.
    floors: Floors,
    keys: BTreeMap<Arc<str>, Box<Tracked>>,
    /// When the watermark may close a finding. A time may be early, never late.
    closings: BTreeSet<Due>,
    /// When a key may be forgotten. A time may be early, never late.
    expiries: BTreeSet<Due>,
    /// Escu semantics.
    pub(super) windows: Windows,
    /// Bytes on the heap that are counted for it, without its keys and groups.
    bytes: Counted,
}

/// When something may be due for a key.
type Due = (Micros, Arc<str>);

/// A key and where it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tracked {
    key: Key,
    closing: Option<Micros>,
    expiry: Micros,
    rank: Rank,
    /// Bytes on the heap that are counted for it.
    bytes: Counted,
}

impl Tracked {
    /// Bytes on the heap, with its name and its places in trees.
    fn heap_bytes(&self, id: &str) -> usize {
        const PLACES: usize =
            heap::entry(size_of::<(Arc<str>, Box<Tracked>)>()) + heap::entry(size_of::<Due>());
        let closing = self.closing.map_or(0, |_| heap::entry(size_of::<Due>()));
        heap::block(size_of::<Self>())
            + heap::shared(id.len())
            + PLACES
            + PLACE
            + closing
            + self.key.heap_bytes()
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            front: BEGINNING,
            watermark: BEGINNING,
            quiet: BEGINNING,
            busy: false,
            floors: Floors::default(),
            keys: BTreeMap::new(),
            closings: BTreeSet::new(),
            expiries: BTreeSet::new(),
            windows: Windows::default(),
            bytes: Counted::default(),
        }
    }
}

/// Hears of each new state of a finding, with its key.
pub(super) type Say<'s> = &'s mut dyn FnMut(&str, FindingState, &Open);

impl Cluster {
    /// What its keys need to know.
    pub(super) fn terms<'a>(rule: &Rule, limits: &'a Limits) -> Terms<'a> {
        Terms {
            threshold: rule.threshold,
            window: rule.window,
            limits,
            keep: rule
                .window
                .saturating_mul(1 + RECALL)
                .saturating_add(rule.lateness),
        }
    }

    /// A hit of this time has come.
    pub(super) fn advance_by_hit(&mut self, time: Micros, lateness: i64) {
        self.busy = true;
        self.front = self.front.max(time);
        self.quiet = self.front.minus(lateness);
        self.watermark = self.watermark.max(self.quiet);
    }

    /// So much time has passed. It counts only if no hits came meanwhile.
    pub(super) fn advance_by_tick(&mut self, elapsed: i64) {
        if !self.busy && self.watermark != BEGINNING {
            self.watermark = self.watermark.plus(elapsed);
            self.quiet = self.quiet.plus(elapsed);
        }
        self.busy = false;
    }

    /// Bytes on the heap that were not counted yet or are counted too many, apart from those of
    /// its keys and groups: before and now.
    pub(super) fn count_bytes(&mut self, name: &str) -> (usize, usize) {
        /// A place among the clusters, one in their order, and the first nodes of its own trees.
        const PLACES: usize = heap::entry(size_of::<(Arc<str>, Box<Cluster>)>())
            + heap::entry(size_of::<Due>())
            + 3 * heap::tree(1, size_of::<Due>());
        let now = heap::block(size_of::<Self>())
            + heap::shared(name.len())
            + PLACES
            + self.floors.heap_bytes();
        self.bytes.set(now)
    }

    /// Most findings that so many further hits of one key can cause.
    pub(super) fn bound(&self, key: &str, hits: u64, terms: &Terms<'_>) -> u64 {
        match self.keys.get(key) {
            Some(tracked) => tracked.key.bound(hits, terms),
            None => Key::new(BEGINNING).bound(hits, terms),
        }
    }

    /// Takes a hit of a key.
    pub(super) fn observe(
        &mut self,
        (name, ranking): (&Arc<str>, &mut Ranking),
        (key, place, fields): (&str, Place, &Fields<'_>),
        terms: &Terms<'_>,
        say: Say<'_>,
    ) -> Fate {
        let arrival = Arrival {
            front: self.front,
            watermark: self.watermark,
            quiet: self.quiet,
        };
        let known = self.keys.get_key_value(key);
        let (id, is_known) = match known {
            Some((id, _)) => (Arc::clone(id), true),
            None => (Arc::from(key), false),
        };
        let floors = &self.floors;
        let tracked = self.keys.entry(Arc::clone(&id)).or_insert_with(|| {
            Box::new(Tracked {
                key: Key::new(floors.of(&id)),
                closing: None,
                expiry: BEGINNING,
                rank: (0, BEGINNING),
                bytes: Counted::default(),
            })
        });
        let fate = tracked
            .key
            .observe((place, fields), arrival, terms, &mut |state, open| {
                say(&id, state, open);
            });
        if fate == Fate::TooLate && !is_known {
            self.keys.remove(&id);
            return fate;
        }
        let rank = tracked.key.rank(terms);
        if !is_known || rank != tracked.rank.0 {
            if is_known {
                ranking.remove(tracked.rank, name, Slot::Key(Arc::clone(&id)));
            }
            tracked.rank = (rank, tracked.key.last());
            ranking.insert(tracked.rank, name, Slot::Key(Arc::clone(&id)));
        }
        if !is_known {
            tracked.expiry = tracked.key.expires_at(terms);
            self.expiries.insert((tracked.expiry, Arc::clone(&id)));
        }
        list_closing(&mut self.closings, &id, tracked, terms);
        count(ranking, &id, tracked);
        fate
    }

    /// Closes what has been quiet for a window and forgets what no hit can meet any more, in at
    /// most so many steps; whether that was all.
    pub(super) fn settle(
        &mut self,
        (name, ranking): (&Arc<str>, &mut Ranking),
        terms: &Terms<'_>,
        steps: &mut usize,
        say: Say<'_>,
    ) -> bool {
        while let Some((at, _)) = self.closings.first()
            && *at <= self.quiet
        {
            if !step(steps) {
                return false;
            }
            let Some((_, id)) = self.closings.pop_first() else {
                break;
            };
            let Some(tracked) = self.keys.get_mut(&id) else {
                continue;
            };
            tracked.closing = None;
            tracked.key.close(self.quiet, terms, &mut |state, open| {
                say(&id, state, open);
            });
            list_closing(&mut self.closings, &id, tracked, terms);
            count(ranking, &id, tracked);
        }
        while let Some((at, _)) = self.expiries.first()
            && *at <= self.front
        {
            if !step(steps) {
                return false;
            }
            let Some((_, id)) = self.expiries.pop_first() else {
                break;
            };
            let Some(tracked) = self.keys.get_mut(&id) else {
                continue;
            };
            let at = tracked.key.expires_at(terms);
            if at > self.front {
                tracked.expiry = at;
                self.expiries.insert((at, id));
            } else if let Some(rank) = self.forget(&id, ranking) {
                ranking.remove(rank, name, Slot::Key(id));
            }
        }
        true
    }

    /// Forgets a key; its rank, at which it stays listed.
    fn forget(&mut self, id: &Arc<str>, ranking: &mut Ranking) -> Option<Rank> {
        let tracked = self.keys.remove(id)?;
        if let Some(at) = tracked.closing {
            self.closings.remove(&(at, Arc::clone(id)));
        }
        self.expiries.remove(&(tracked.expiry, Arc::clone(id)));
        self.floors.raise(id, tracked.key.last());
        ranking.resize((tracked.bytes.0, 0));
        Some(tracked.rank)
    }

    /// Says of a key what has not been said yet, and forgets it. It is in the ranking no more.
    pub(super) fn drain(
        &mut self,
        id: &Arc<str>,
        ranking: &mut Ranking,
        terms: &Terms<'_>,
        say: Say<'_>,
    ) {
        if let Some(tracked) = self.keys.get_mut(id) {
            let key = &mut tracked.key;
            key.drain(terms, &mut |state, open| say(id, state, open));
            self.forget(id, ranking);
        }
    }

    /// Gives up one key, which is in the ranking no more.
    pub(super) fn evict(&mut self, id: &Arc<str>, ranking: &mut Ranking, say: Say<'_>) {
        if let Some(tracked) = self.keys.get_mut(id) {
            tracked.key.evict(&mut |state, open| say(id, state, open));
            self.forget(id, ranking);
        }
    }

    /// The first of its keys, and its rank.
    pub(super) fn first_key(&self) -> Option<(Rank, Arc<str>)> {
        let (id, tracked) = self.keys.first_key_value()?;
        Some((tracked.rank, Arc::clone(id)))
    }
}

/// Takes one of so many steps; whether there was one left.
pub(super) fn step(steps: &mut usize) -> bool {
    match steps.checked_sub(1) {
        Some(left) => {
            *steps = left;
            true
        }
        None => false,
    }
}

/// Counts anew what a key takes.
fn count(ranking: &mut Ranking, id: &str, tracked: &mut Tracked) {
    let now = tracked.heap_bytes(id);
    ranking.resize(tracked.bytes.set(now));
}

fn list_closing(
    closings: &mut BTreeSet<Due>,
    id: &Arc<str>,
    tracked: &mut Tracked,
    terms: &Terms<'_>,
) {
    if tracked.closing.is_none()
        && let Some(at) = tracked.key.closes_at(terms)
    {
        tracked.closing = Some(at);
        closings.insert((at, Arc::clone(id)));
    }
}
