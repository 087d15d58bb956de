//! One cluster: its watermark, and its keys with what is due for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    escu::Windows,
    limits::Limits,
    native::{Arrival, Fate, Key, Open, State, Terms, TimedHit},
    ranking::{Rank, Ranking, Slot},
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
    /// What happened up to here to keys that are gone may have been forgotten: by a hash of the
    /// key, so that the end of one key does not make late hits of all others inexact.
    floors: BTreeMap<u16, Micros>,
    keys: BTreeMap<Arc<str>, Held>,
    /// When the watermark may close a finding. A time may be early, never late.
    closings: BTreeSet<(Micros, Arc<str>)>,
    /// When a key may be forgotten. A time may be early, never late.
    expiries: BTreeSet<(Micros, Arc<str>)>,
    /// Escu semantics.
    pub(super) windows: Windows,
}

/// A key and where it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Held {
    key: Key,
    closing: Option<Micros>,
    rank: Rank,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            front: BEGINNING,
            watermark: BEGINNING,
            quiet: BEGINNING,
            busy: false,
            floors: BTreeMap::new(),
            keys: BTreeMap::new(),
            closings: BTreeSet::new(),
            expiries: BTreeSet::new(),
            windows: Windows::default(),
        }
    }
}

/// Hears of each new state of a finding, with its key.
pub(super) type Say<'s> = &'s mut dyn FnMut(&str, State, &Open);

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

    /// Most findings that so many further hits of one key can cause.
    pub(super) fn bound(&self, key: &str, hits: u64, terms: &Terms<'_>) -> u64 {
        match self.keys.get(key) {
            Some(held) => held.key.bound(hits, terms),
            None => Key::new(BEGINNING).bound(hits, terms),
        }
    }

    /// Takes a hit of a key.
    pub(super) fn observe(
        &mut self,
        (name, ranking): (&Arc<str>, &mut Ranking),
        hit: TimedHit,
        terms: &Terms<'_>,
        say: Say<'_>,
    ) -> Fate {
        let id: Arc<str> = match self.keys.get_key_value(hit.hit.key.as_str()) {
            Some((id, _)) => Arc::clone(id),
            None => Arc::from(hit.hit.key.as_str()),
        };
        let arrival = Arrival {
            front: self.front,
            watermark: self.watermark,
            quiet: self.quiet,
        };
        let known = self.keys.contains_key(&id);
        let floor = self.floors.get(&bucket(&id)).copied().unwrap_or(BEGINNING);
        let held = self.keys.entry(Arc::clone(&id)).or_insert_with(|| Held {
            key: Key::new(floor),
            closing: None,
            rank: (0, BEGINNING),
        });
        let fate = held.key.observe(hit, arrival, terms, &mut |state, open| {
            say(&id, state, open);
        });
        if fate == Fate::TooLate && !known {
            self.keys.remove(&id);
            return fate;
        }
        let rank = held.key.rank(terms);
        if !known || rank != held.rank.0 {
            ranking.remove(held.rank, name, Slot::Key(Arc::clone(&id)));
            held.rank = (rank, held.key.last());
        }
        ranking.put(held.rank, name, Slot::Key(Arc::clone(&id)), held.key.held());
        if !known {
            self.expiries
                .insert((held.key.expires_at(terms), Arc::clone(&id)));
        }
        list_closing(&mut self.closings, &id, held, terms);
        fate
    }

    /// Closes what has been quiet for a window and forgets what no hit can meet any more.
    pub(super) fn settle(
        &mut self,
        (name, ranking): (&Arc<str>, &mut Ranking),
        terms: &Terms<'_>,
        say: Say<'_>,
    ) {
        while let Some((at, _)) = self.closings.first()
            && *at <= self.quiet
            && let Some((_, id)) = self.closings.pop_first()
        {
            let Some(held) = self.keys.get_mut(&id) else {
                continue;
            };
            held.closing = None;
            held.key.close(self.quiet, terms, &mut |state, open| {
                say(&id, state, open);
            });
            list_closing(&mut self.closings, &id, held, terms);
        }
        while let Some((at, _)) = self.expiries.first()
            && *at <= self.front
            && let Some((_, id)) = self.expiries.pop_first()
        {
            let Some(held) = self.keys.get(&id) else {
                continue;
            };
            let at = held.key.expires_at(terms);
            if at > self.front {
                self.expiries.insert((at, id));
            } else {
                let (last, rank) = (held.key.last(), held.rank);
                self.keys.remove(&id);
                self.raise_floor(&id, last);
                ranking.remove(rank, name, Slot::Key(id));
            }
        }
    }

    fn raise_floor(&mut self, id: &str, last: Micros) {
        let floor = self.floors.entry(bucket(id)).or_insert(BEGINNING);
        *floor = (*floor).max(last);
    }

    /// Says of every key what has not been said yet.
    pub(super) fn drain(&mut self, terms: &Terms<'_>, say: Say<'_>) {
        for (id, held) in &mut self.keys {
            held.key
                .drain(terms, &mut |state, open| say(id, state, open));
            list_closing(&mut self.closings, id, held, terms);
        }
    }

    /// Gives up one key.
    pub(super) fn evict(&mut self, id: &Arc<str>, terms: &Terms<'_>, say: Say<'_>) {
        if let Some(mut held) = self.keys.remove(id) {
            held.key.evict(&mut |state, open| say(id, state, open));
            if let Some(at) = held.closing {
                self.closings.remove(&(at, Arc::clone(id)));
            }
            // Its entry among the expiries may be early; it is then passed over when due.
            self.expiries
                .remove(&(held.key.expires_at(terms), Arc::clone(id)));
            self.raise_floor(id, held.key.last());
        }
    }

    /// The keys, in order.
    pub(super) fn key_ids(&self) -> Vec<(Rank, Arc<str>)> {
        self.keys
            .iter()
            .map(|(id, held)| (held.rank, Arc::clone(id)))
            .collect()
    }
}

fn list_closing(
    closings: &mut BTreeSet<(Micros, Arc<str>)>,
    id: &Arc<str>,
    held: &mut Held,
    terms: &Terms<'_>,
) {
    if held.closing.is_none()
        && let Some(at) = held.key.closes_at(terms)
    {
        held.closing = Some(at);
        closings.insert((at, Arc::clone(id)));
    }
}

/// One of 4096 parts of all keys (FNV-1a, folded).
fn bucket(id: &str) -> u16 {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u16::try_from((hash ^ (hash >> 32)) & 0xfff).unwrap_or(0)
}
