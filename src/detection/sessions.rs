//! All sessions of one detection in one cluster: its keys, and what is remembered of those that
//! are gone.

use std::sync::Arc;

use super::{
    emission::{Draft, Origin},
    event_time::EventTime,
    hit::{Hit, Role},
    key_table::{KeyTable, Listing},
    late::Horizons,
    packed::Fields,
    session::{Arrival, Disposition, Key, Params, Transition},
    steps,
    time::BEGINNING,
};

/// The keys of one detection in one cluster.
///
/// Invariant: a key that is not here had no hit later than its horizon that still matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    pub(super) keys: KeyTable<Arc<str>, Key>,
    pub(super) horizons: Horizons,
}

impl Sessions {
    /// Most findings that this many further hits of one key can cause, while the closing watermark
    /// moves on by at most so many microseconds, and whether successes are among them.
    pub(super) fn bound(
        &self,
        key: &str,
        hits: u64,
        advance: (i64, bool),
        params: &Params<'_>,
    ) -> u64 {
        match self.keys.get(key) {
            Some(key) => key.bound(hits, advance, params),
            None => Key::new(BEGINNING).bound(hits, advance, params),
        }
    }

    /// Takes a hit that has a time.
    pub(super) fn observe(
        &mut self,
        hit: &Hit,
        event_time: &EventTime,
        params: &Params<'_>,
        out: &mut Vec<Draft>,
    ) -> Disposition {
        let Some(time) = hit.time else {
            return Disposition::TooLate;
        };
        let name = match self.keys.name(hit.key.as_str()) {
            Some(name) => Arc::clone(name),
            None => Arc::from(hit.key.as_str()),
        };
        let horizons = &self.horizons;
        let mut keyed = self
            .keys
            .entry(name, || Key::new(horizons.of(hit.key.as_str())));
        let mut transitions = Vec::new();
        let arrival = Arrival {
            place: (time, hit.identity),
            fields: Fields::of(hit),
            event_time,
        };
        let key = keyed.value();
        let disposition = match hit.role {
            Role::Match => key.observe(&arrival, params, &mut transitions),
            Role::Success => key.succeed(&arrival, params, &mut transitions),
        };
        if matches!(disposition, Disposition::Duplicate | Disposition::TooLate) {
            // The key is as it was.
            if keyed.is_new() {
                let name = Arc::clone(keyed.name());
                self.keys.remove(&name);
            }
            return disposition;
        }
        append(keyed.name(), transitions, out);
        let listing = listing(keyed.value(), params);
        keyed.list(listing);
        disposition
    }

    /// Emits states of findings that are due, closes those that no hit has joined for a window, and
    /// forgets keys that no hit can meet
    /// any more, in at most this many steps; whether that was all.
    pub(super) fn settle(
        &mut self,
        event_time: &EventTime,
        params: &Params<'_>,
        steps: &mut usize,
        out: &mut Vec<Draft>,
    ) -> bool {
        while self.keys.is_closing_due(event_time.closing_watermark) {
            if !steps::take(steps) {
                return false;
            }
            let Some(mut keyed) = self.keys.pop_closing() else {
                continue;
            };
            let mut transitions = Vec::new();
            let key = keyed.value();
            key.settle(event_time.closing_watermark, params, &mut transitions);
            let listing = listing(key, params);
            append(keyed.name(), transitions, out);
            keyed.list(listing);
        }
        while self.keys.is_expiry_due(event_time.max) {
            if !steps::take(steps) {
                return false;
            }
            let Some(mut keyed) = self.keys.pop_expiry() else {
                continue;
            };
            let listing = listing(keyed.value(), params);
            let name = Arc::clone(keyed.name());
            let is_over = listing.expires_at.is_some_and(|at| at <= event_time.max);
            keyed.list(listing);
            if is_over {
                self.forget(&name);
            }
        }
        true
    }

    /// Emits what was not emitted yet of the first key, and forgets the key; whether there was
    /// one.
    pub(super) fn drain_first(&mut self, params: &Params<'_>, out: &mut Vec<Draft>) -> bool {
        let Some(name) = self.keys.first().cloned() else {
            return false;
        };
        if let Some(mut key) = self.forget(&name) {
            let mut transitions = Vec::new();
            key.drain(params, &mut transitions);
            append(&name, transitions, out);
        }
        true
    }

    /// Evicts a key; the hits it had at hand.
    pub(super) fn evict(
        &mut self,
        name: &Arc<str>,
        params: &Params<'_>,
        out: &mut Vec<Draft>,
    ) -> Option<u64> {
        let hits = self.keys.listed(name)?.priority.hits;
        let mut key = self.forget(name)?;
        let mut transitions = Vec::new();
        key.evict(params, &mut transitions);
        append(name, transitions, out);
        Some(hits)
    }

    fn forget(&mut self, name: &Arc<str>) -> Option<Key> {
        let key = self.keys.remove(name)?;
        self.horizons.raise(name, key.last());
        Some(key)
    }
}

/// Where a key is to be listed.
pub(super) fn listing(key: &Key, params: &Params<'_>) -> Listing {
    Listing {
        hits: key.hits_at_hand(params),
        last: key.last(),
        due_at: key.due_at(params),
        expires_at: Some(key.expires_at(params)),
        heap_bytes: key.heap_bytes(),
    }
}

fn append(key: &Arc<str>, transitions: Vec<Transition>, out: &mut Vec<Draft>) {
    out.extend(transitions.into_iter().map(|transition| Draft {
        state: transition.state,
        origin: Origin::Session {
            key: Arc::clone(key),
            opening: transition.opening,
            alert_at: transition.alert_at,
            continues: transition.continues,
        },
        evidence: transition.evidence,
    }));
}
