//! Requests that two API servers have logged: which of them are counted for their client already.
//!
//! An API server hands requests for other API groups on to an aggregated API server, which logs them
//! again under the same audit id. Its peer is the API server, so without trusted proxies they count
//! for that address. Such a request is joined with the one that is counted for its client: of the
//! same cluster, audit id, verb and path, where the client is who the sources say without the peer.
//!
//! What is joined lowers a finding, so the rules are strict. A client may choose the audit id, in
//! its header Audit-ID, and claim any source. So each request is the original of one other at most,
//! an original has fewer claimed sources than its copy (two addresses that claim each other are no
//! originals of each other), and both are logged within a minute (no stock of originals can be laid
//! up). An attacker who joins a request has thus made the same one where it counts.
//!
//! Either of the two may come first, so both wait here. Of a pair alone with its audit id, verb and
//! path, which order they come in does not matter. Where a client repeats all of these, more copies
//! than originals may compete for them: then those that came first are joined.
//!
//! Their number has a bound: they are in sets by a hash, and the oldest of a set gives way. What is
//! forgotten here is joined with nothing: it cannot hide a finding, but its finding is not lowered.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::{
    address::{self, MAX_HOPS, Trusted},
    event::Field,
    fields::AuditField,
    heap,
    hit::{Hit, Identity, Place},
    text::Text,
    time::Micros,
    wire::{StateError, place, read_place},
};
use crate::{
    proto::state as proto,
    rules::{derived::Hops, model::Detection, settings::SECOND},
};

/// Sets of waiting requests, of all clusters, and requests of a set, at most.
const SETS: usize = 1024;
const IN_SET: usize = 8;
/// Part of the memory of all state that they take at most, and bytes of a set at most.
const PART: usize = 16;
const SET_BYTES: usize = IN_SET * 768;
/// Times of a request in two logs are less than this apart, in microseconds.
pub(super) const APART: i64 = 60 * SECOND;
/// A request whose texts have more bytes is not joined.
const MOST_BYTES: usize = 512;

/// A request as it may be joined with another.
pub(super) struct Request {
    /// What an original and its copy have in common, if this is an original.
    own: Box<str>,
    /// Its hash.
    own_hash: usize,
    /// If it may be a copy: the same of its original, and what the request counts for.
    copy: Option<(Box<str>, Box<str>)>,
    place: Place,
    /// Sources that are mere claims.
    claims: u16,
    detection: u32,
}

/// A copy that was counted before its original came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copied {
    /// What it was counted for.
    pub(super) key: Box<str>,
    pub(super) place: Place,
}

/// What comes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Joined {
    /// It is the copy of a request that is counted for its client.
    pub(super) is_copy: bool,
    /// It is the original of this one.
    pub(super) copy: Option<Copied>,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    text: Box<str>,
    time: Micros,
    /// In the order of arrival.
    number: u64,
    claims: u16,
    detection: u32,
    /// If it is a copy: what it was counted for, and its identity.
    copy: Option<Box<(Box<str>, Identity)>>,
}

/// Requests that wait for another log of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Joins {
    /// By a hash of their texts. None before the first request.
    sets: Vec<Vec<Waiting>>,
    next: u64,
    /// Bytes on the heap of the sets and what is in them.
    bytes: usize,
    /// How many sets there are to be; 0: as many as there may be.
    wanted: usize,
}

impl Request {
    /// A request that counts for `hit.key`, if it can be joined at all: one whose time has only
    /// seconds cannot be told from others.
    pub(super) fn of(
        hit: &Hit,
        cluster: &str,
        detection: &Detection,
        most_values: usize,
    ) -> Option<Self> {
        let rows = hit.texts.rows();
        let all = |field: AuditField| rows.get(field.index()).cloned().unwrap_or_default();
        let id = all(AuditField::AuditId).next()?;
        let (time, key) = (hit.time?, hit.key.as_str());
        if id.is_empty() || hit.is_time_coarse || key == address::UNKNOWN {
            return None;
        }
        let verb = all(AuditField::Verb).next().unwrap_or_default();
        let uri = all(AuditField::RequestUri).next().unwrap_or_default();
        let path = uri.split_once('?').map_or(uri, |(path, _)| path);
        let texts = [id, verb, path, cluster];
        if texts.iter().map(|text| text.len()).sum::<usize>() > MOST_BYTES {
            return None;
        }
        let claims = all(AuditField::ClaimedIps).take(most_values.saturating_add(1));
        let claims: Vec<&str> = claims.collect();
        let client = (claims.len() <= most_values)
            .then(|| client(&claims, &detection.hops))
            .flatten()
            .filter(|client| client != key);
        let of = |client: &str| -> Box<str> {
            let bytes = client.len() + texts.iter().map(|text| text.len() + 1).sum::<usize>();
            let mut own = String::with_capacity(bytes);
            own.push_str(client);
            for text in texts {
                own.push('\0');
                own.push_str(text);
            }
            own.into()
        };
        let own = of(key);
        Some(Self {
            own_hash: hash_of(&own),
            own,
            copy: client.map(|client| (of(&client), key.into())),
            place: (time, hit.identity),
            claims: u16::try_from(claims.len()).unwrap_or(u16::MAX),
            detection: hit.detection,
        })
    }
}

impl Request {
    /// Whether it may be the copy of a request of another client, which may still come.
    pub(super) fn may_be_copy(&self) -> bool {
        self.copy.is_some()
    }
}

/// Whom a request came from, as the API server before the last says: what its sources say without
/// those that it counts for.
fn client(claims: &[&str], hops: &Hops) -> Option<String> {
    let last = claims.len().saturating_sub(MAX_HOPS);
    let fields: Vec<_> = claims
        .get(last..)?
        .iter()
        .map(|claim| Field::Text(Text::plain(claim.as_bytes())))
        .collect();
    match address::trusted(&fields, &hops.trusted_proxies, hops.ipv6_prefix) {
        Trusted::Unknown => None,
        client => Some(client.to_string()),
    }
}

impl Joins {
    /// None that wait, where all state takes this much memory at most.
    pub(super) fn within(memory: usize) -> Self {
        let sets = (memory / PART / SET_BYTES).clamp(1, SETS);
        Self {
            // A power of two that is not more.
            wanted: 1 << sets.ilog2(),
            ..Self::default()
        }
    }

    /// Those of another that find a place here, where none wait.
    pub(super) fn continued(mut self, other: Self) -> Self {
        self.next = other.next;
        for one in other.in_order() {
            self.put(hash_of(&one.text), one);
        }
        self
    }

    /// The same without any that wait.
    pub(super) fn emptied(&self) -> Self {
        Self {
            wanted: self.wanted,
            ..Self::default()
        }
    }

    fn set_of(&self, hash: usize) -> usize {
        hash % self.sets.len().max(1)
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a request is the copy of one that waits. [`Self::take`] joins the two.
    pub(super) fn is_copy(&self, request: &Request) -> bool {
        self.original_of(request).is_some()
    }

    /// Takes a request that was counted.
    pub(super) fn take(&mut self, mut request: Request) -> Joined {
        let mut joined = Joined::default();
        if let Some(found) = self.original_of(&request) {
            drop(self.remove(found));
            joined.is_copy = true;
        } else if let Some((text, key)) = request.copy.take() {
            let copy = (key, request.place.1);
            self.wait((hash_of(&text), text), &request, Some(Box::new(copy)));
        }
        let copy = self.copy_of(&request).and_then(|at| self.remove(at));
        if let Some(Waiting {
            time,
            copy: Some(copy),
            ..
        }) = copy
        {
            let (key, identity) = *copy;
            let place = (time, identity);
            joined.copy = Some(Copied { key, place });
        } else {
            let own = std::mem::take(&mut request.own);
            self.wait((request.own_hash, own), &request, None);
        }
        joined
    }

    fn original_of(&self, request: &Request) -> Option<(usize, usize)> {
        let (text, _) = request.copy.as_ref()?;
        self.oldest((hash_of(text), text), request, |one| {
            one.copy.is_none() && one.claims < request.claims
        })
    }

    fn copy_of(&self, request: &Request) -> Option<(usize, usize)> {
        self.oldest((request.own_hash, &request.own), request, |one| {
            one.copy.is_some() && one.claims > request.claims
        })
    }

    /// The oldest of those with this text that are wanted: its set, and its place there.
    fn oldest(
        &self,
        (hash, text): (usize, &str),
        request: &Request,
        is_wanted: impl Fn(&Waiting) -> bool,
    ) -> Option<(usize, usize)> {
        let at = self.set_of(hash);
        let waiting = self.sets.get(at)?.iter().enumerate();
        let mut found = waiting.filter(|(_, one)| {
            one.detection == request.detection
                && (one.time.0.abs_diff(request.place.0.0)) < APART.unsigned_abs()
                && is_wanted(one)
                && *one.text == *text
        });
        found.next().map(|(place, _)| (at, place))
    }

    /// Keeps a request; the oldest of its set gives way.
    fn wait(
        &mut self,
        (hash, text): (usize, Box<str>),
        request: &Request,
        copy: Option<Box<(Box<str>, Identity)>>,
    ) {
        let waiting = Waiting {
            text,
            time: request.place.0,
            number: self.next,
            claims: request.claims,
            detection: request.detection,
            copy,
        };
        self.next += 1;
        self.put(hash, waiting);
    }

    /// Keeps a request whose text has this hash.
    fn put(&mut self, hash: usize, waiting: Waiting) {
        if self.sets.is_empty() {
            let sets = if self.wanted == 0 { SETS } else { self.wanted };
            self.sets = vec![Vec::new(); sets];
            self.bytes = heap::list(&self.sets);
        }
        let at = self.set_of(hash);
        if self.sets.get(at).is_some_and(|set| set.len() >= IN_SET) {
            drop(self.remove((at, 0)));
        }
        let Some(set) = self.sets.get_mut(at) else {
            return;
        };
        let before = heap::list(set);
        if set.len() == set.capacity() {
            set.reserve_exact(set.len().max(1));
        }
        self.bytes += waiting.heap_bytes();
        set.push(waiting);
        self.bytes = (self.bytes + heap::list(set)).saturating_sub(before);
    }

    fn remove(&mut self, (at, place): (usize, usize)) -> Option<Waiting> {
        let set = self.sets.get_mut(at)?;
        if place >= set.len() {
            return None;
        }
        // In the order of arrival: the first is the oldest.
        let removed = set.remove(place);
        self.bytes = self.bytes.saturating_sub(removed.heap_bytes());
        Some(removed)
    }

    /// Gives the detections the places that are listed for them, and leaves out others.
    pub(super) fn move_detections(&mut self, places: &[Option<usize>]) {
        let empty = self.emptied();
        let (next, all) = (self.next, std::mem::replace(self, empty).in_order());
        for mut one in all {
            let place = places.get(one.detection as usize).copied().flatten();
            if let Some(place) = place.and_then(|place| u32::try_from(place).ok()) {
                one.detection = place;
                self.put(hash_of(&one.text), one);
            }
        }
        self.next = next;
    }

    fn in_order(self) -> Vec<Waiting> {
        let mut all: Vec<_> = self.sets.into_iter().flatten().collect();
        all.sort_unstable_by_key(|one| one.number);
        all
    }

    /// As it is stored.
    pub(super) fn to_state(&self) -> Option<proto::JoinsState> {
        let waiting = self.clone().in_order().into_iter().map(|one| {
            let (key, identity) = one.copy.map(|copy| *copy).unzip();
            proto::JoinState {
                text: one.text.into(),
                place: place((one.time, identity.unwrap_or_default())),
                number: one.number,
                claims: one.claims.into(),
                detection: one.detection,
                key: key.map(String::from),
            }
        });
        (self.next > 0).then(|| proto::JoinsState {
            next: self.next,
            waiting: waiting.collect(),
        })
    }

    /// As it was stored.
    pub(super) fn from_state(state: Option<proto::JoinsState>) -> Result<Self, StateError> {
        let mut joins = Self::default();
        let Some(state) = state else {
            return Ok(joins);
        };
        for one in state.waiting {
            let (time, identity) = read_place(one.place)?;
            let hash = hash_of(&one.text);
            let waiting = Waiting {
                text: one.text.into(),
                time,
                number: one.number,
                claims: u16::try_from(one.claims).map_err(|_| StateError::Invalid("claims"))?,
                detection: one.detection,
                copy: one.key.map(|key| Box::new((key.into(), identity))),
            };
            joins.put(hash, waiting);
        }
        joins.next = state.next;
        Ok(joins)
    }
}

impl Waiting {
    fn heap_bytes(&self) -> usize {
        let copy = self.copy.as_ref();
        let copy = copy.map_or(0, |copy| {
            heap::block(size_of::<(Box<str>, Identity)>()) + heap::block(copy.0.len())
        });
        heap::block(self.text.len()) + copy
    }
}

fn hash_of(text: &str) -> usize {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_bytes());
    usize::try_from(hasher.finish() >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of the longest texts, which claims a client.
    fn request(number: u64) -> Request {
        let text = |client: &str| format!("{client}{number:0>MOST_BYTES$}").into();
        let own: Box<str> = text("2001:db8::1");
        Request {
            own_hash: hash_of(&own),
            own,
            copy: Some((text("2001:db8::2"), "2001:db8::1".into())),
            place: (Micros(0), Identity::default()),
            claims: 1,
            detection: 0,
        }
    }

    /// Whatever comes, memory has a bound, and what is counted for it is what is there.
    #[test]
    fn only_so_many_wait() {
        let mut joins = Joins::default();
        for number in 0..30_000 {
            assert_eq!(joins.take(request(number)), Joined::default());
        }
        let waiting: usize = joins.sets.iter().map(Vec::len).sum();
        assert_eq!(waiting, SETS * IN_SET);
        assert!(
            joins.heap_bytes() < 6 * 1024 * 1024,
            "{}",
            joins.heap_bytes()
        );
        let read = Joins::from_state(joins.to_state()).unwrap();
        assert_eq!(read.to_state(), joins.to_state());
        assert_eq!(read, joins);
        // Where there is less memory, fewer wait.
        let memory = 1 << 20;
        let few = Joins::within(memory).continued(joins.clone());
        assert!(few.heap_bytes() > 0 && few.heap_bytes() <= memory / PART);
        assert_eq!(
            Joins::within(usize::MAX)
                .continued(joins.clone())
                .to_state(),
            joins.to_state()
        );
        // A detection that is not there any more takes its requests with it.
        joins.move_detections(&[None]);
        assert_eq!(joins.sets.iter().map(Vec::len).sum::<usize>(), 0);
    }
}
