//! What a finding gathers while it grows, within bounds, whatever the order of arrival.
//!
//! Of more values than fit, those seen earliest in event time are kept. That choice does not
//! depend on the order of arrival: a value that was pushed out was later than all that stayed.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{
    fields::{self, AuditField, Row},
    finding::{Finding, Sample},
    heap,
    hit::{Identity, Values},
    limits::Limits,
    packed::Fields,
    time::Micros,
    wire::{self, StateError},
};
use crate::proto::state as proto;

/// Sample requests of a finding.
const SAMPLES: usize = 10;

/// When something was first seen: event time, and an identity to break ties.
type First = (Micros, Identity);

/// Distinct things with the time they were first seen, by their own order. A list, not a tree: of
/// most fields there is one value, and there may be a hundred thousand findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Earliest<T> {
    things: Vec<(T, First)>,
    /// Bytes on the heap of the things themselves.
    texts: usize,
    /// Whether there was more than fits.
    full: bool,
    /// When the last of them was first seen, once that was looked for and until they change: of a
    /// flood of values each is later.
    bar: Option<First>,
}

/// Something that is kept.
trait Thing: Ord {
    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;
}

impl<T> Default for Earliest<T> {
    fn default() -> Self {
        Self {
            things: Vec::new(),
            texts: 0,
            full: false,
            bar: None,
        }
    }
}

impl<T: Thing> Earliest<T> {
    fn heap_bytes(&self) -> usize {
        heap::list(&self.things) + self.texts
    }

    /// Takes a thing, made only if it is to be kept; `compare` says how another one compares with
    /// it. Whether it is kept as seen just now.
    fn add(
        &mut self,
        compare: impl Fn(&T) -> Ordering,
        seen: First,
        most: usize,
        own: impl FnOnce() -> T,
    ) -> bool {
        let at = match self.things.binary_search_by(|(known, _)| compare(known)) {
            Ok(at) => {
                return match self.things.get_mut(at) {
                    Some((_, first)) if *first > seen => {
                        *first = seen;
                        self.bar = None;
                        true
                    }
                    _ => false,
                };
            }
            Err(at) => at,
        };
        let mut place = at;
        if self.things.len() >= most {
            self.full = true;
            if self.bar.is_some_and(|bar| bar < seen) {
                return false;
            }
            let Some(latest) = self.latest() else {
                return false;
            };
            let Some((known, first)) = self.things.get(latest) else {
                return false;
            };
            self.bar = Some(*first);
            if first.cmp(&seen).then_with(|| compare(known)).is_le() {
                return false;
            }
            self.texts = self.texts.saturating_sub(known.heap_bytes());
            self.things.remove(latest);
            place -= usize::from(latest < at);
        }
        if self.things.is_empty() {
            self.things.reserve_exact(1);
        }
        self.bar = None;
        let thing = own();
        self.texts += thing.heap_bytes();
        self.things.insert(place, (thing, seen));
        true
    }

    /// Where the thing is that was first seen last.
    fn latest(&self) -> Option<usize> {
        (0..self.things.len()).max_by(|a, b| {
            let place = |at: &usize| self.things.get(*at).map(|(thing, first)| (first, thing));
            place(a).cmp(&place(b))
        })
    }
}

impl Thing for Box<str> {
    fn heap_bytes(&self) -> usize {
        heap::block(self.len())
    }
}

/// The distinct values of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ValueSet(Earliest<Box<str>>);

impl ValueSet {
    fn add(&mut self, value: &str, seen: First, limits: &Limits) {
        let whole = value.len();
        let value = cut(value, limits.value_bytes);
        self.0.full |= value.len() < whole;
        self.0.add(
            |known| (**known).cmp(value),
            seen,
            limits.values_per_field,
            || value.into(),
        );
    }

    /// The values into a list of the finding; its name into `truncated` when some are missing.
    fn write(&self, name: &str, list: &mut Vec<String>, truncated: &mut Vec<String>) {
        list.extend(self.0.things.iter().map(|(value, _)| value.to_string()));
        if self.0.full {
            truncated.push(name.to_owned());
        }
    }
}

/// At most this many bytes of a text, cut between characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// One request of a distinct verb and path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Request {
    verb: Box<str>,
    path: Box<str>,
}

impl Thing for Request {
    fn heap_bytes(&self) -> usize {
        heap::block(self.verb.len()) + heap::block(self.path.len())
    }
}

/// What else a sample shows: the values of the fields in [`details`], in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Detail(Box<[Box<str>]>);

/// The fields that a sample shows besides those that make it distinct.
fn details() -> impl Iterator<Item = &'static Row> {
    let own = |row: &&Row| !matches!(row.field, AuditField::Verb | AuditField::RequestUri);
    fields::TABLE
        .iter()
        .filter(|row| row.sample.is_some())
        .filter(own)
}

impl Detail {
    fn heap_bytes(&self) -> usize {
        let texts = self.0.iter().map(|text| heap::block(text.len()));
        heap::block(size_of_val(&*self.0)) + texts.sum::<usize>()
    }
}

/// The fields that a list of the finding holds.
fn listed() -> impl Iterator<Item = (&'static Row, &'static str)> {
    fields::TABLE
        .iter()
        .filter_map(|row| Some((row, row.list?)))
}

/// How many they are.
const LISTED: usize = {
    let (mut count, mut rows) = (0, fields::TABLE.as_slice());
    while let [row, rest @ ..] = rows {
        count += row.list.is_some() as usize;
        rows = rest;
    }
    count
};

type Sets = [ValueSet; LISTED];

/// Everything gathered for one finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Evidence {
    pub(super) count: u64,
    /// By code, in order.
    by_code: Vec<(u16, u64)>,
    pub(super) first: Option<Micros>,
    pub(super) last: Option<Micros>,
    clamped: bool,
    pub(super) unverified: u64,
    /// The values of each field that a list of the finding holds, in the order of the table.
    sets: Sets,
    requests: Earliest<Request>,
    details: Vec<(First, Detail)>,
    /// Bytes on the heap of their texts.
    detail_texts: usize,
}

impl Evidence {
    /// Bytes on the heap, but for those of the evidence itself.
    pub(super) fn heap_bytes(&self) -> usize {
        let sets: usize = self.sets.iter().map(|set| set.0.heap_bytes()).sum();
        let details = heap::list(&self.details) + self.detail_texts;
        heap::list(&self.by_code) + sets + self.requests.heap_bytes() + details
    }

    /// Takes one request (or, in escu semantics, one event as often as it names an address).
    pub(super) fn add(&mut self, hit: &Fields<'_>, seen: First, times: u64, limits: &Limits) {
        let (time, _) = seen;
        self.count += times;
        if hit.code != 0 {
            self.count_code(hit.code, times);
        }
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        self.clamped |= hit.clamped;
        self.unverified += if hit.is_unverified { times } else { 0 };
        if hit.texts.is_empty() {
            // Of any field there may be more values than are kept.
            self.sets.iter_mut().for_each(|set| set.0.full = true);
            return;
        }
        let values = hit.texts.rows();
        let all = fields::TABLE.iter().zip(&values);
        let listed = all.filter(|(row, _)| row.list.is_some());
        for (set, (_, values)) in self.sets.iter_mut().zip(listed) {
            for value in values.clone() {
                set.add(value, seen, limits);
            }
        }
        self.sample(&values, seen, limits);
    }

    fn count_code(&mut self, code: u16, times: u64) {
        match self.by_code.binary_search_by_key(&code, |(code, _)| *code) {
            Ok(at) => {
                if let Some((_, count)) = self.by_code.get_mut(at) {
                    *count += times;
                }
            }
            Err(at) => {
                self.by_code.reserve_exact(1);
                self.by_code.insert(at, (code, times));
            }
        }
    }

    fn sample(&mut self, values: &[Values<'_>; fields::COUNT], seen: First, limits: &Limits) {
        let text = |field: AuditField| {
            let value = values.get(field.index()).and_then(|all| all.clone().next());
            cut(value.unwrap_or_default(), limits.value_bytes)
        };
        let (verb, path) = (text(AuditField::Verb), text(AuditField::RequestUri));
        let compare = |known: &Request| (&*known.verb, &*known.path).cmp(&(verb, path));
        let own = || Request {
            verb: verb.into(),
            path: path.into(),
        };
        if self.requests.add(compare, seen, SAMPLES, own) {
            let detail = Detail(details().map(|row| text(row.field).into()).collect());
            self.detail((seen, detail));
        }
    }

    /// Keeps what a new sample shows, and leaves out what is no sample any more.
    fn detail(&mut self, detail: (First, Detail)) {
        if self.details.is_empty() {
            self.details.reserve_exact(1);
        }
        self.details.push(detail);
        let kept = &self.requests.things;
        self.details
            .retain(|(seen, _)| kept.iter().any(|(_, first)| first == seen));
        let texts = self.details.iter().map(|(_, detail)| detail.heap_bytes());
        self.detail_texts = texts.sum();
    }

    /// Takes all that another gathered, of requests that are all later.
    pub(super) fn merge(&mut self, other: &Self, limits: &Limits) {
        self.count += other.count;
        for (code, count) in &other.by_code {
            self.count_code(*code, *count);
        }
        let earliest = [self.first, other.first].into_iter().flatten().min();
        self.first = earliest;
        self.last = self.last.max(other.last);
        self.clamped |= other.clamped;
        self.unverified += other.unverified;
        for (set, others) in self.sets.iter_mut().zip(&other.sets) {
            for (value, seen) in &others.0.things {
                set.add(value, *seen, limits);
            }
            set.0.full |= others.0.full;
        }
        for (request, seen) in &other.requests.things {
            let compare = |known: &Request| known.cmp(request);
            let detail = other.details.iter().find(|(first, _)| first == seen);
            if self
                .requests
                .add(compare, *seen, SAMPLES, || request.clone())
                && let Some(detail) = detail
            {
                self.detail(detail.clone());
            }
        }
        self.requests.full |= other.requests.full;
    }

    /// Writes all this into a finding.
    pub(super) fn write(&self, finding: &mut Finding) {
        finding.count = self.count;
        finding.count_by_code = self
            .by_code
            .iter()
            .map(|(code, count)| (code.to_string(), *count))
            .collect();
        finding.first_time = self.first.map(Micros::to_proto);
        finding.last_time = self.last.map(Micros::to_proto);
        finding.time_clamped = self.clamped;
        finding.unverified = self.unverified;
        let mut truncated = Vec::new();
        for (set, (row, name)) in self.sets.iter().zip(listed()) {
            if let Some(list) = finding.list_mut(row.field) {
                set.write(name, list, &mut truncated);
            }
        }
        finding.truncated = truncated;
        let mut requests: Vec<_> = self.requests.things.iter().collect();
        requests.sort_by_key(|(request, first)| (first, request));
        for (request, seen) in requests {
            let Some((_, detail)) = self.details.iter().find(|(first, _)| first == seen) else {
                continue;
            };
            let mut sample = Sample {
                time: Some(seen.0.to_proto()),
                verb: request.verb.to_string(),
                path: request.path.to_string(),
                ..Sample::default()
            };
            for (text, row) in detail.0.iter().zip(details()) {
                if let Some(shown) = sample.text_mut(row.field) {
                    *shown = text.to_string();
                }
            }
            finding.samples.push(sample);
        }
    }
}

impl Evidence {
    /// As it is written into the state of the engine.
    pub(super) fn to_state(&self) -> proto::EvidenceState {
        let codes = self.by_code.iter().map(|(code, count)| proto::CodeCount {
            code: (*code).into(),
            count: *count,
        });
        let fields = listed().zip(&self.sets);
        let fields = fields.filter(|(_, set)| !set.0.things.is_empty() || set.0.full);
        let fields = fields.map(|((_, name), set)| proto::FieldState {
            name: name.to_owned(),
            values: set
                .0
                .things
                .iter()
                .map(|(text, first)| proto::ValueState {
                    text: text.to_string(),
                    first: wire::place(*first),
                })
                .collect(),
            is_truncated: set.0.full,
        });
        let samples = self.requests.things.iter().map(|(request, first)| {
            let detail = self.details.iter().find(|(seen, _)| seen == first);
            let texts = detail.into_iter().flat_map(|(_, detail)| detail.0.iter());
            let texts = details().filter_map(|row| row.sample).zip(texts);
            proto::SampleState {
                place: wire::place(*first),
                verb: request.verb.to_string(),
                path: request.path.to_string(),
                texts: texts
                    .map(|(name, text)| proto::SampleText {
                        name: name.to_owned(),
                        text: text.to_string(),
                    })
                    .collect(),
            }
        });
        proto::EvidenceState {
            count: self.count,
            codes: codes.collect(),
            first: self.first.map(|time| time.0),
            last: self.last.map(|time| time.0),
            is_clamped: self.clamped,
            unverified: self.unverified,
            fields: fields.collect(),
            samples: samples.collect(),
            samples_truncated: self.requests.full,
        }
    }

    /// As it is read from the state of an engine. Fields that are not known are left out.
    pub(super) fn from_state(state: proto::EvidenceState) -> Result<Self, StateError> {
        let mut evidence = Self {
            count: state.count,
            first: state.first.map(Micros),
            last: state.last.map(Micros),
            clamped: state.is_clamped,
            unverified: state.unverified,
            ..Self::default()
        };
        for code in state.codes {
            let value = u16::try_from(code.code).map_err(|_| StateError::Invalid("status code"))?;
            evidence.count_code(value, code.count);
        }
        for field in state.fields {
            let mut sets = listed().zip(&mut evidence.sets);
            let Some((_, set)) = sets.find(|((_, name), _)| *name == field.name) else {
                continue;
            };
            for value in field.values {
                let first = wire::read_place(value.first)?;
                let text = value.text.as_str();
                set.0.add(
                    |known| (**known).cmp(text),
                    first,
                    usize::MAX,
                    || text.into(),
                );
            }
            set.0.full = field.is_truncated;
        }
        for sample in state.samples {
            let first = wire::read_place(sample.place)?;
            let (verb, path) = (sample.verb.as_str(), sample.path.as_str());
            let compare = |known: &Request| (&*known.verb, &*known.path).cmp(&(verb, path));
            let own = || Request {
                verb: verb.into(),
                path: path.into(),
            };
            evidence.requests.add(compare, first, usize::MAX, own);
            let text = |row: &Row| {
                let texts = sample.texts.iter();
                let mut texts = texts.filter(|text| row.sample == Some(text.name.as_str()));
                texts.next().map_or("", |text| &text.text).into()
            };
            let detail = Detail(details().map(text).collect());
            evidence.detail_texts += detail.heap_bytes();
            evidence.details.push((first, detail));
        }
        evidence.requests.full = state.samples_truncated;
        Ok(evidence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Thing for u8 {
        fn heap_bytes(&self) -> usize {
            1
        }
    }

    proptest! {
        /// Whatever the order of arrival, the same things are kept: those seen earliest.
        #[test]
        fn keeps_the_earliest(
            things in prop::collection::vec((0u8..12, 0i64..20), 0..60),
            most in 1usize..6,
        ) {
            let seen = |time| (Micros(time), Identity::default());
            let mut first: BTreeMap<u8, i64> = BTreeMap::new();
            for (thing, time) in &things {
                let entry = first.entry(*thing).or_insert(*time);
                *entry = (*entry).min(*time);
            }
            let mut wanted: Vec<_> = first.iter().map(|(thing, time)| (*time, *thing)).collect();
            wanted.sort_unstable();
            let full = wanted.len() > most;
            wanted.truncate(most);

            let mut kept = Earliest::default();
            for (thing, time) in &things {
                kept.add(|known: &u8| known.cmp(thing), seen(*time), most, || *thing);
            }
            let mut got: Vec<_> =
                kept.things.iter().map(|(thing, first)| (first.0.0, *thing)).collect();
            got.sort_unstable();
            prop_assert_eq!(kept.texts, got.len());
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(kept.full, full);
        }
    }
}
