//! The screen's part of following up: which of one request's records may be successes of a watched
//! source, or are the first lately of another one, and so are read although the prefilter rejects
//! them.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    address::UNKNOWN,
    hit::{Hit, Role},
    raw_source::{self, RawSources, SourceFinder},
    watch::{Watch, Watched},
};
use crate::{
    pdata::{AnyValue, KeyValues, Record},
    rules::{derived::Hops, model::Detection, prefilter::MayMatch},
};

/// Length of a period, as bits of nanoseconds: 8.6 seconds. Of a source that is not watched, one
/// success is remembered in each.
const PERIOD: u32 = 33;
/// Sources with matches in this request.
const MOST_SUSPECTS: usize = 4096;
/// Places of the cache of sources, a power of two.
const CACHED: usize = 256;

/// What follow-ups need to know in all requests.
#[derive(Clone, Debug)]
pub(super) struct FollowUps {
    watch: Watch,
    finder: SourceFinder,
    /// How the source address is found: one setting for all detections of a pipeline.
    hops: Hops,
}

impl FollowUps {
    /// `None` when no detection follows up.
    pub(super) fn new(detections: &[Arc<Detection>], watch: &Watch) -> Option<Arc<Self>> {
        let mut following = detections.iter().filter(|one| one.follow_up.is_some());
        let detection = following.next()?;
        Some(Arc::new(Self {
            watch: watch.clone(),
            finder: SourceFinder::default(),
            hops: detection.hops.clone(),
        }))
    }
}

/// The following up in one request.
#[derive(Debug)]
pub(super) struct Following {
    of: Arc<FollowUps>,
    watched: Arc<Watched>,
    /// Whether anything is watched, or a source of this request has had a match.
    is_watching: bool,
    /// Whether requests of no usable address are watched. Any event may be one: what looks like its list of
    /// sources may be in an object that it carries.
    is_unknown_watched: bool,
    /// Addresses of matches of this request.
    suspects: BTreeSet<u64>,
    cache: Vec<Option<Cached>>,
    /// Hash of the name of the cluster, as far as it is known.
    cluster: u64,
    /// The source and period of the record at hand, if it is to be remembered.
    due: Option<(u64, u64)>,
}

/// A list of sources, and the address in it; `None` when it is not plain to see.
#[derive(Clone, Copy, Debug)]
struct Cached {
    list: u64,
    address: Option<u64>,
}

impl Following {
    pub(super) fn new(of: Arc<FollowUps>) -> Self {
        let watched = of.watch.current();
        Self {
            is_watching: !watched.is_empty(),
            is_unknown_watched: watched.has_address(of.watch.hash(UNKNOWN.as_bytes())),
            of,
            watched,
            suspects: BTreeSet::new(),
            cache: Vec::new(),
            cluster: 0,
            due: None,
        }
    }

    /// Bytes on the heap, about.
    pub(super) fn heap_bytes(&self) -> usize {
        self.suspects.len() * 2 * size_of::<u64>()
            + self.cache.capacity() * size_of::<Option<Cached>>()
    }

    /// The records that follow are of this cluster.
    pub(super) fn enter(&mut self, cluster: &[u8]) {
        self.cluster = self.of.watch.hash(cluster);
    }

    /// An event of this address has matched.
    pub(super) fn suspect(&mut self, address: &str) {
        if self.suspects.len() < MOST_SUSPECTS {
            self.suspects.insert(self.of.watch.hash(address.as_bytes()));
            self.is_watching = true;
            self.is_unknown_watched |= address == UNKNOWN;
        }
    }

    /// Whether a record is to be read, of which the prefilter says this.
    #[inline]
    pub(super) fn wants(
        &mut self,
        record: &Record<'_>,
        body: &AnyValue<'_>,
        (of_body, of_attributes): (MayMatch, MayMatch),
        received: u64,
    ) -> bool {
        let times = [record.time_unix_nano, record.observed_time_unix_nano];
        let time = times.into_iter().find(|time| *time != 0);
        let period = time.unwrap_or(received) >> PERIOD;
        let of_body = of_body.follow_up
            && match body {
                AnyValue::Text(text) | AnyValue::Bytes(text) => {
                    self.wants_text(text, of_body, period)
                }
                AnyValue::Map(map) => self.wants_map(map, period),
                _ => false,
            };
        of_body || of_attributes.follow_up && self.wants_map(&record.attributes(), period)
    }

    fn wants_text(&mut self, text: &[u8], may: MayMatch, period: u64) -> bool {
        let sources = if self.is_watching {
            self.of.finder.only(text, may.hides_sources)
        } else {
            self.of.finder.first(text)
        };
        match sources {
            RawSources::Unclear => self.is_watching,
            RawSources::None => self.is_watching && self.wants_list(b"", period),
            RawSources::List(list) => self.wants_list(list, period),
        }
    }

    fn wants_list(&mut self, list: &[u8], period: u64) -> bool {
        let hash = self.of.watch.hash(list);
        self.is_unknown_watched
            || self.is_watching && {
                let of = Arc::clone(&self.of);
                self.is_watched(hash, || raw_source::address_of(list, &of.hops))
            }
            || self.is_due(hash, period)
    }

    fn wants_map(&mut self, map: &KeyValues<'_>, period: u64) -> bool {
        let sources = raw_source::sources_in(map);
        let encoded = match &sources {
            Some(AnyValue::Array(list)) => list.encoded(),
            _ => None,
        };
        let of = Arc::clone(&self.of);
        let address = || Some(raw_source::address_of_value(sources, &of.hops));
        // The same list has the same address.
        let hash = of.watch.hash(encoded.unwrap_or_default());
        let is_watched = self.is_watching
            && match encoded {
                Some(_) => self.is_watched(hash, address),
                None => address().is_some_and(|one| self.has(of.watch.hash(one.as_bytes()))),
            };
        is_watched || self.is_due(hash, period)
    }

    fn is_due(&mut self, source: u64, period: u64) -> bool {
        let source = source ^ self.cluster;
        let is_due = self.of.watch.is_due(source, period);
        self.due = is_due.then_some((source, period));
        is_due
    }

    fn has(&self, address: u64) -> bool {
        self.is_watching && (self.suspects.contains(&address) || self.watched.has_address(address))
    }

    /// Whether the address of a list of sources with this hash is watched.
    fn is_watched(&mut self, hash: u64, address: impl FnOnce() -> Option<String>) -> bool {
        if self.cache.is_empty() {
            self.cache.resize(CACHED, None);
        }
        let place = usize::try_from(hash).unwrap_or_default() & (CACHED - 1);
        let known = self.cache.get(place).copied().flatten();
        let address = match known {
            Some(known) if known.list == hash => known.address,
            _ => {
                let address = address().map(|address| self.of.watch.hash(address.as_bytes()));
                if let Some(place) = self.cache.get_mut(place) {
                    *place = Some(Cached {
                        list: hash,
                        address,
                    });
                }
                address
            }
        };
        // What is not plain to see may be any.
        address.is_none_or(|address| self.has(address))
    }

    /// The record at hand was a success.
    pub(super) fn succeeded(&mut self) {
        if let Some((source, period)) = self.due.take() {
            self.of.watch.mark(source, period);
        }
    }

    /// What comes next is another record.
    pub(super) fn end_record(&mut self) {
        self.due = None;
    }

    /// Leaves among the hits of a whole request those successes whose keys are watched. The others are
    /// remembered.
    pub(super) fn release(self, hits: &mut Vec<Hit>, received: u64) {
        let watch = &self.of.watch;
        let others = hits.extract_if(.., |hit| {
            let key = |hit: &Hit| watch.key_hash(&hit.cluster, hit.detection as usize, &hit.key);
            hit.role == Role::Success && !self.watched.has_key(key(hit))
        });
        let others: Vec<_> = others.collect();
        if !others.is_empty() {
            hits.extend(watch.remember(others, received));
        }
    }
}
