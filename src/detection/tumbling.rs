//! Tumbling windows: those of one detection in one cluster.
//!
//! A window is evaluated once, when the watermark has passed its end: with a lateness of ten
//! minutes that is when Splunk's scheduled search would run. What comes later is not counted, as
//! it is not in Splunk.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    coverage::Network,
    dedup::DedupSet,
    emission::{Draft, Origin},
    eviction::{Floor, Usage},
    evidence::Evidence,
    evidence_log::EvidenceLog,
    finding::{Finding, FindingState},
    geo::{self, Locate},
    group::{GroupId, GroupKey},
    heap,
    hit::{Hit, Identity, Place},
    hits::Slim,
    key_table::{Inherited, KeyTable, Listed, Listing, Measure},
    limits::Limits,
    packed::{Brief, Fields},
    session::Disposition,
    sessions::{Loss, Outlet},
    threshold,
    time::{BEGINNING, Micros},
};
use crate::rules::{
    model::{Aggregate, Dedup, GroupBy},
    settings::MissingCity,
};

/// What windows need to know of their detection and its bounds.
#[derive(Clone, Copy)]
pub(super) struct Params<'a> {
    pub(super) threshold: u64,
    /// Length of a window in microseconds.
    pub(super) length: i64,
    /// Start of one of them since 1970, in microseconds.
    pub(super) offset: i64,
    pub(super) aggregate: Aggregate,
    pub(super) dedup: Dedup,
    pub(super) group_by: &'a GroupBy,
    pub(super) locate: Option<&'a dyn Locate>,
    pub(super) limits: &'a Limits,
    /// Event time at which the process started to count, if it did not continue.
    pub(super) started: Option<Micros>,
}

/// Hits of a group that are kept one by one, at most: most groups never have more.
const FEW: usize = 16;

/// A hit that names a group, without its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) hit: Slim,
    /// How often it names the group.
    pub(super) times: u32,
}

/// What is counted and gathered for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// As long as no more is counted than the threshold allows.
    Few(Few),
    Whole(Box<Whole>),
}

/// The hits of a group as they came. There may be a million of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Few {
    One(Named),
    More(Vec<Named>),
}

/// All that is kept of a group that may become a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) evidence: Evidence,
    /// Where a request counts once: those that were counted.
    pub(super) dedup: Option<Box<DedupSet>>,
    /// Where distinct values are counted: those up to one more than the threshold.
    pub(super) values: BTreeSet<u64>,
}

impl Few {
    pub(super) fn list(&self) -> &[Named] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(list) => list,
        }
    }

    /// Hits as they were kept; there is at least one.
    pub(super) fn restored(list: Vec<Named>) -> Option<Self> {
        match list.as_slice() {
            [] => None,
            [one] => Some(Self::One(*one)),
            _ => Some(Self::More(list)),
        }
    }

    fn push(&mut self, named: Named) {
        match self {
            Self::One(one) => {
                let mut list = Vec::with_capacity(2);
                list.extend([*one, named]);
                *self = Self::More(list);
            }
            Self::More(list) => {
                list.reserve_exact(1);
                list.push(named);
            }
        }
    }

    fn contains(&self, identity: Identity) -> bool {
        self.list().iter().any(|one| one.hit.place.1 == identity)
    }

    fn counted(&self, params: &Params<'_>) -> u64 {
        let list = self.list().iter();
        match params.aggregate {
            Aggregate::Events => list.map(|one| u64::from(one.times)).sum(),
            Aggregate::Values => {
                let values = list.map(|one| threshold::value(one.hit.place.1));
                values.collect::<BTreeSet<_>>().len() as u64
            }
        }
    }
}

impl Whole {
    /// Takes an event that names the group this many times; whether it counts.
    fn add(&mut self, place: Place, fields: &Fields<'_>, times: u64, params: &Params<'_>) -> bool {
        let (time, identity) = place;
        if params.dedup == Dedup::Request {
            let set = self.dedup.get_or_insert_default();
            if set.contains(identity) {
                return false;
            }
            let forgotten = set.insert(identity, time, params.limits.hits_per_key);
            self.evidence.unverified += forgotten.requests;
        }
        if params.aggregate == Aggregate::Values && self.values.len() as u64 <= params.threshold {
            self.values.insert(threshold::value(identity));
        }
        self.evidence.add(fields, place, times, params.limits);
        true
    }
}

impl Group {
    /// What is counted.
    pub(super) fn counted(&self, params: &Params<'_>) -> u64 {
        match (self, params.aggregate) {
            (Self::Few(few), _) => few.counted(params),
            (Self::Whole(whole), Aggregate::Events) => whole.evidence.count,
            (Self::Whole(whole), Aggregate::Values) => whole.values.len() as u64,
        }
    }

    /// Takes an event that names the group this many times; whether it counts.
    fn add(&mut self, event: &Event<'_>, times: u64, params: &Params<'_>) -> bool {
        let few = match self {
            Self::Whole(whole) => return whole.add(event.place, &event.fields, times, params),
            Self::Few(few) => few,
        };
        if params.dedup == Dedup::Request && few.contains(event.place.1) {
            return false;
        }
        few.push(event.named(times));
        self.promote(params, event.log);
        true
    }

    /// Gathers its evidence, if it may make a row or has more hits than are kept one by one.
    fn promote(&mut self, params: &Params<'_>, log: &EvidenceLog) {
        let Self::Few(few) = self else { return };
        if few.counted(params) > params.threshold || few.list().len() >= FEW {
            let mut whole = Box::<Whole>::default();
            for Named { hit, times } in few.list() {
                let packed = hit.brief.with(log.get(hit.brief.number()));
                whole.add(hit.place, &packed.fields(), (*times).into(), params);
            }
            *self = Self::Whole(whole);
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Few(Few::One(_)) => 0,
            Self::Few(Few::More(list)) => heap::list(list),
            Self::Whole(whole) => {
                let dedup = whole.dedup.as_ref().map_or(0, |set| {
                    heap::block(size_of::<DedupSet>()) + set.heap_bytes()
                });
                heap::block(size_of::<Whole>())
                    + whole.evidence.heap_bytes()
                    + dedup
                    + heap::tree(whole.values.len(), size_of::<u64>())
            }
        }
    }
}

/// The groups of one window.
pub(super) type Groups = KeyTable<GroupKey, Group>;

/// The windows that are not evaluated yet.
///
/// Invariant: each group here belongs to a window that ends after `evaluated`; those that are above
/// the threshold are due.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    /// By the start of the window; none is empty.
    pub(super) starts: BTreeMap<Micros, Groups>,
    /// End of the last window that was evaluated.
    pub(super) evaluated: Micros,
    pub(super) floor: Floor,
    /// Groups and bytes of all windows.
    pub(super) usage: Usage,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            starts: BTreeMap::new(),
            evaluated: BEGINNING,
            floor: Floor::default(),
            usage: Usage::default(),
        }
    }
}

/// A hit with its time, in the window that starts at `start`.
struct Event<'h> {
    place: Place,
    fields: Fields<'h>,
    /// The number of its texts in the evidence log, which its groups share.
    number: u64,
    start: Micros,
    inherited: Inherited,
    log: &'h EvidenceLog,
}

impl Event<'_> {
    fn named(&self, times: u64) -> Named {
        Named {
            hit: Slim {
                place: self.place,
                brief: Brief::new(&self.fields, self.number),
            },
            times: u32::try_from(times).unwrap_or(u32::MAX),
        }
    }
}

impl Windows {
    /// Bytes on the heap of a window without its groups.
    pub(super) const WINDOW: usize = heap::entry(size_of::<(Micros, Groups)>());

    /// Takes an event. It is too late when its window was evaluated already.
    pub(super) fn observe(
        &mut self,
        hit: &Hit,
        time: Micros,
        params: &Params<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Disposition {
        let start = window_start(time, params.length, params.offset);
        if start.plus(params.length) <= self.evaluated {
            return Disposition::TooLate;
        }
        let inherited = self.floor.inherited(time, params.length);
        let groups = self.starts.entry(start).or_default();
        let before = (groups.len(), groups.heap_bytes());
        let event = Event {
            place: (time, hit.identity),
            fields: Fields::of(hit),
            number: outlet.log.push(&hit.texts),
            start,
            inherited,
            log: outlet.log,
        };
        let (mut is_counted, mut is_duplicate) = (false, false);
        let mut add = |text: &str, place: geo::Place, times| {
            let is_new = add(groups, &event, (text, place), times, params);
            is_counted |= is_new;
            is_duplicate |= !is_new;
        };
        match params.group_by {
            GroupBy::Fields(_) => add(&hit.key, (None, None), 1),
            GroupBy::Sources { missing_city } => {
                let drop_missing_city = *missing_city == MissingCity::Drop;
                let mut sources: Vec<&str> = hit.sources.iter().map(String::as_str).collect();
                sources.sort_unstable();
                for named in sources.chunk_by(|one, other| one == other) {
                    if let Some(source) = named.first()
                        && let Some(place) = geo::place(source, params.locate, drop_missing_city)
                    {
                        add(source, place, named.len() as u64);
                    }
                }
            }
        }
        self.recount(start, before);
        if is_duplicate && !is_counted {
            Disposition::Duplicate
        } else {
            Disposition::Counted
        }
    }

    /// Takes the groups of a window as they were kept.
    pub(super) fn restore(
        &mut self,
        start: Micros,
        groups: Vec<(GroupKey, Group, Inherited, Listed, usize)>,
    ) {
        self.starts.entry(start).or_default().restore(groups);
        self.recount(start, (0, 0));
    }

    /// Counts anew what a window takes, which took this before. One without groups goes.
    fn recount(&mut self, start: Micros, (keys, bytes): (usize, usize)) {
        let now = self.starts.get(&start);
        let (now_keys, now_bytes) = now.map_or((0, 0), |one| (one.len(), one.heap_bytes()));
        if now_keys == 0 {
            self.starts.remove(&start);
        }
        let usage = &mut self.usage;
        usage.keys = (usage.keys + now_keys).saturating_sub(keys);
        usage.bytes.0 = (usage.bytes.0 + now_bytes).saturating_sub(bytes);
    }

    /// Takes a group of the windows whose end the watermark has reached, in order; whether there
    /// was one. Once there is none, windows that have ended take no more events.
    pub(super) fn evaluate_next(
        &mut self,
        watermark: Micros,
        params: &Params<'_>,
        out: &mut Vec<Draft>,
    ) -> bool {
        let first = self.starts.first_key_value();
        if first.is_some_and(|(start, _)| start.plus(params.length) <= watermark) {
            return self.take_first(false, params, out);
        }
        // Windows without events end as well.
        if watermark > BEGINNING.plus(params.length) {
            let start = window_start(watermark, params.length, params.offset);
            self.evaluated = self.evaluated.max(start);
        }
        false
    }

    /// Takes the first group of all windows, although its window has not ended.
    pub(super) fn drain_first(&mut self, params: &Params<'_>, out: &mut Vec<Draft>) {
        self.take_first(true, params, out);
    }

    /// Takes the first group of the first window that makes a row, or the window when none does;
    /// whether there was one.
    fn take_first(&mut self, is_partial: bool, params: &Params<'_>, out: &mut Vec<Draft>) -> bool {
        let Some((start, groups)) = self.starts.iter_mut().next() else {
            return false;
        };
        let (start, before) = (*start, (groups.len(), groups.heap_bytes()));
        let Some(at) = groups.first_with_deadline() else {
            *groups = Groups::default();
            self.recount(start, before);
            return true;
        };
        let row = groups.remove(at);
        self.recount(start, before);
        if let Some((key, group, inherited)) = row {
            let id = GroupId { start, key };
            emit(id, &group, (inherited, is_partial), params, out);
        }
        true
    }

    /// Evicts the weakest group of the window that has most of what is short. What makes a row is
    /// emitted as far as it has come.
    pub(super) fn evict_weakest(
        &mut self,
        measure: Measure,
        params: &Params<'_>,
        out: &mut Vec<Draft>,
    ) -> Option<Loss> {
        let amount = |groups: &Groups| match measure {
            Measure::Keys => groups.len(),
            Measure::Bytes => groups.heap_bytes(),
        };
        let (start, groups) = self
            .starts
            .iter_mut()
            .max_by_key(|(start, groups)| (amount(groups), std::cmp::Reverse(**start)))?;
        let (start, before) = (*start, (groups.len(), groups.heap_bytes()));
        let at = groups.weakest(measure)?;
        let (key, group, inherited) = groups.remove(at)?;
        self.recount(start, before);
        let hits = group
            .counted(params)
            .min(params.threshold.saturating_add(1));
        let bound = self.floor.raise(inherited, hits, start, params.length);
        let evicted = key.text.with(Network::of);
        emit(
            GroupId { start, key },
            &group,
            (inherited, true),
            params,
            out,
        );
        Some(Loss {
            network: Some(evicted),
            keys: 1,
            bound,
        })
    }

    /// Evicts the first group that makes a row, which is emitted, or a window without one, because
    /// the cluster is evicted.
    pub(super) fn evict_first(
        &mut self,
        params: &Params<'_>,
        out: &mut Vec<Draft>,
    ) -> Option<Loss> {
        let before = self.usage.keys;
        let first = self.starts.values().next()?;
        let hits = first
            .iter()
            .map(|(_, group, _)| group.counted(params))
            .max();
        let bound = hits
            .unwrap_or_default()
            .min(params.threshold.saturating_add(1));
        self.take_first(true, params, out);
        Some(Loss {
            network: None,
            keys: (before - self.usage.keys) as u64,
            bound,
        })
    }
}

/// Adds an event to a group.
fn add(
    groups: &mut Groups,
    event: &Event<'_>,
    (text, place): (&str, geo::Place),
    times: u64,
    params: &Params<'_>,
) -> bool {
    let hash = GroupKey::hash_of(text, &place, groups.seeds());
    let found = groups.find(hash, |key| key.is(text, &place));
    let at = if let Some(at) = found {
        let group = groups.value_mut(at);
        if !group.is_some_and(|group| group.add(event, times, params)) {
            return false;
        }
        at
    } else {
        let mut group = Group::Few(Few::One(event.named(times)));
        group.promote(params, event.log);
        groups.insert(GroupKey::new(text, place), group, event.inherited)
    };
    if let Some(group) = groups.value(at) {
        groups.list(at, listing(event.start, group, params), true);
    }
    true
}

/// Emits the row of a group, if it makes one.
fn emit(
    group: GroupId,
    of: &Group,
    (inherited, is_partial): (Inherited, bool),
    params: &Params<'_>,
    out: &mut Vec<Draft>,
) {
    let Group::Whole(whole) = of else { return };
    if of.counted(params) <= params.threshold {
        return;
    }
    let end = group.start.plus(params.length);
    let started = params
        .started
        .is_some_and(|at| at > group.start && at < end);
    let mut evidence = Finding::default();
    whole.evidence.write(&mut evidence, params.limits);
    evidence.count_error = inherited.error.into();
    evidence.is_partial = is_partial || started;
    out.push(Draft {
        state: FindingState::Opened,
        origin: Origin::Tumbling { group, end },
        evidence,
    });
}

/// Where a group is to be listed. One above the threshold is due at the end of its window.
pub(super) fn listing(start: Micros, group: &Group, params: &Params<'_>) -> Listing {
    let counted = group.counted(params);
    Listing {
        hits: counted,
        due_at: (counted > params.threshold).then(|| start.plus(params.length)),
        heap_bytes: group.heap_bytes(),
    }
}

/// Start of the window that holds a time. Lengths are in microseconds.
pub(super) fn window_start(time: Micros, length: i64, offset: i64) -> Micros {
    let length = i128::from(length.max(1));
    let offset = i128::from(offset);
    let start = (i128::from(time.0) - offset).div_euclid(length) * length + offset;
    Micros(i64::try_from(start).unwrap_or(i64::MIN))
}
