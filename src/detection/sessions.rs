//! All sessions of one detection in one cluster: its keys, and what is remembered of those that
//! are gone.

use std::sync::Arc;

use super::{
    coverage::Network,
    emission::{Draft, Origin},
    event_time::EventTime,
    eviction::{Floor, error, minute_end},
    evidence_log::EvidenceLog,
    hit::{Hit, Place, Role},
    key_table::{KeyTable, Listing, Measure},
    key_text::KeyText,
    late::Horizons,
    packed::Fields,
    session::{Arrival, Disposition, Key, Params, Sink, Transition},
    steps,
    time::BEGINNING,
};

/// The keys of one detection in one cluster.
///
/// Invariants: a key that is not here had no hit later than its horizon that still matters, unless
/// it was evicted; of those that were evicted none had a hit later than `evicted` says.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    pub(super) keys: KeyTable<KeyText, Key>,
    /// Of keys that expired.
    pub(super) horizons: Horizons,
    /// Of keys that were evicted: whether a hit of such a key was counted before is not known.
    pub(super) evicted: Horizons,
    pub(super) floor: Floor,
}

/// Where sessions put what they do not keep themselves.
pub(super) struct Outlet<'a> {
    /// The texts of unassigned hits.
    pub(super) log: &'a mut EvidenceLog,
    /// New states of findings.
    pub(super) out: &'a mut Vec<Draft>,
}

/// A key that is evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// Its network; of several keys none.
    pub(super) network: Option<Network>,
    /// Keys that were evicted.
    pub(super) keys: u64,
    /// The most hits of one window that it may have lost so far.
    pub(super) bound: u64,
}

impl Sessions {
    fn find(&self, key: &str) -> Option<u32> {
        let hash = KeyText::hash_of(key, self.keys.seeds());
        self.keys.find(hash, |name| name.is(key))
    }

    /// Most findings that this many further hits of one key can cause, while the closing watermark
    /// moves on by at most so many microseconds, and whether successes are among them.
    pub(super) fn bound(
        &self,
        key: &str,
        hits: u64,
        advance: (i64, bool),
        params: &Params<'_>,
    ) -> u64 {
        match self.find(key).and_then(|at| self.keys.value(at)) {
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
        outlet: &mut Outlet<'_>,
    ) -> Disposition {
        let Some(time) = hit.time else {
            return Disposition::TooLate;
        };
        let name = hit.key.as_str();
        let found = self.find(name);
        let inherited = match found.and_then(|at| self.keys.inherited(at)) {
            Some(inherited) => inherited,
            None => self.floor.inherited(event_time.max, params.error_span()),
        };
        let mut fields = Fields::of(hit);
        // Since the key is here it knows its requests.
        fields.is_unverified |= time < minute_end(inherited) && time <= self.evicted.of(name);
        let arrival = Arrival {
            place: (time, hit.identity),
            fields,
            event_time,
            is_distinct: !hit.is_time_coarse,
            error: error(inherited, event_time.max, params.error_span()).into(),
        };
        let mut transitions = Vec::new();
        let mut sink = Sink {
            log: outlet.log,
            out: &mut transitions,
        };
        let (at, disposition) = if let Some(at) = found {
            let Some(key) = self.keys.value_mut(at) else {
                return Disposition::TooLate;
            };
            let disposition = match hit.role {
                Role::Match => key.observe(&arrival, params, &mut sink),
                Role::Success => key.succeed(&arrival, params, &mut sink),
            };
            (at, disposition)
        } else {
            if hit.role == Role::Success {
                return Disposition::TooLate;
            }
            let mut key = Key::new(self.horizons.of(name));
            let disposition = key.observe(&arrival, params, &mut sink);
            if disposition == Disposition::TooLate {
                return disposition;
            }
            (self.keys.insert(name.into(), key, inherited), disposition)
        };
        if matches!(disposition, Disposition::Duplicate | Disposition::TooLate) {
            // The key is as it was.
            return disposition;
        }
        append(&hit.key, transitions, outlet.out);
        self.list(at, true, params);
        disposition
    }

    /// Gives a label to a request of a key that was counted before.
    pub(super) fn join_label(
        &mut self,
        (key, place): (&str, Place),
        label: usize,
        params: &Params<'_>,
    ) {
        if let Some(at) = self.find(key)
            && let Some(key) = self.keys.value_mut(at)
            && key.join_label(place, label, params)
        {
            self.list(at, false, params);
        }
    }

    /// Lists a key where it belongs by now.
    fn list(&mut self, at: u32, is_arrival: bool, params: &Params<'_>) {
        if let Some(key) = self.keys.value(at) {
            self.keys.list(at, listing(key, params), is_arrival);
        }
    }

    /// Emits states of findings that are due, closes those that no hit has joined for a window, and
    /// forgets keys that no hit can meet any more, in at most this many steps; whether that was all.
    pub(super) fn settle(
        &mut self,
        event_time: &EventTime,
        params: &Params<'_>,
        steps: &mut usize,
        outlet: &mut Outlet<'_>,
    ) -> bool {
        while self.keys.is_due(event_time.closing_watermark) {
            if !steps::take(steps) {
                return false;
            }
            let Some(at) = self.keys.pop_due(event_time.closing_watermark) else {
                continue;
            };
            let mut transitions = Vec::new();
            let mut sink = Sink {
                log: outlet.log,
                out: &mut transitions,
            };
            if let Some(key) = self.keys.value_mut(at) {
                key.settle(event_time.closing_watermark, params, &mut sink);
            }
            self.append_of(at, transitions, outlet.out);
            self.list(at, false, params);
        }
        while let Some(at) = self.keys.oldest()
            && let Some(key) = self.keys.value(at)
            && key.expires_at(params) <= event_time.max
        {
            if !steps::take(steps) {
                return false;
            }
            if let Some((name, key, _)) = self.keys.remove(at) {
                name.with(|name| self.horizons.raise(name, key.last()));
                key.release(outlet.log);
            }
        }
        true
    }

    /// Emits what was not emitted yet of the first key that has an open finding, and forgets the
    /// key; without such a key forgets all.
    pub(super) fn drain_first(&mut self, params: &Params<'_>, outlet: &mut Outlet<'_>) {
        let Some(at) = self.keys.first_with_deadline() else {
            self.keys = KeyTable::default();
            return;
        };
        if let Some((name, mut key, _)) = self.keys.remove(at) {
            let mut transitions = Vec::new();
            let mut sink = Sink {
                log: outlet.log,
                out: &mut transitions,
            };
            key.drain(params, &mut sink);
            key.release(outlet.log);
            name.with(|name| append(name, transitions, outlet.out));
        }
    }

    /// Evicts the weakest key, so that there is less of something.
    pub(super) fn evict_weakest(
        &mut self,
        measure: Measure,
        event_time: &EventTime,
        params: &Params<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Option<Loss> {
        let at = self.keys.weakest(measure)?;
        self.evict(at, event_time, params, outlet)
    }

    /// Evicts the first key that has an open finding, because its cluster is; without such a key
    /// evicts all.
    pub(super) fn evict_first(
        &mut self,
        event_time: &EventTime,
        params: &Params<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Option<Loss> {
        if let Some(at) = self.keys.first_with_deadline() {
            return self.evict(at, event_time, params, outlet);
        }
        let mut bound = 0;
        for (_, key, inherited) in self.keys.iter() {
            let hits = key.hits_at_hand(params);
            let max = event_time.max;
            bound = bound.max(self.floor.raise(inherited, hits, max, params.error_span()));
        }
        let mut keys = std::mem::take(&mut self.keys);
        let count = keys.len() as u64;
        while let Some(at) = keys.oldest()
            && let Some((_, key, _)) = keys.remove(at)
        {
            key.release(outlet.log);
        }
        Some(Loss {
            network: None,
            keys: count,
            bound,
        })
    }

    fn evict(
        &mut self,
        at: u32,
        event_time: &EventTime,
        params: &Params<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Option<Loss> {
        let (name, mut key, inherited) = self.keys.remove(at)?;
        let hits = key.hits_at_hand(params);
        let bound = self
            .floor
            .raise(inherited, hits, event_time.max, params.error_span());
        let mut transitions = Vec::new();
        let mut sink = Sink {
            log: outlet.log,
            out: &mut transitions,
        };
        key.evict(params, &mut sink);
        let last = key.last();
        let key = name.with(|name| {
            append(name, transitions, outlet.out);
            self.evicted.raise(name, last);
            Network::of(name)
        });
        Some(Loss {
            network: Some(key),
            keys: 1,
            bound,
        })
    }

    fn append_of(&self, at: u32, transitions: Vec<Transition>, out: &mut Vec<Draft>) {
        if let Some(name) = self.keys.name(at) {
            name.with(|name| append(name, transitions, out));
        }
    }
}

/// Where a key is to be listed.
pub(super) fn listing(key: &Key, params: &Params<'_>) -> Listing {
    Listing {
        hits: key.strength(params),
        due_at: key.due_at(params),
        heap_bytes: key.heap_bytes(),
    }
}

fn append(key: &str, transitions: Vec<Transition>, out: &mut Vec<Draft>) {
    if transitions.is_empty() {
        return;
    }
    let key: Arc<str> = Arc::from(key);
    out.extend(transitions.into_iter().map(|transition| Draft {
        state: transition.state,
        origin: Origin::Session {
            key: Arc::clone(&key),
            opening: transition.opening,
            alert_at: transition.alert_at,
            continues: transition.continues,
        },
        evidence: transition.evidence,
    }));
}
