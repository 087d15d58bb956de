//! What a finding gathers while it grows, within bounds, whatever the order of arrival.
//!
//! Of more values than fit, those seen earliest in event time are kept. That choice does not
//! depend on the order of arrival: a value that was pushed out was later than all that stayed.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{
    finding::{Finding, Sample},
    heap,
    hit::Identity,
    limits::Limits,
    packed::{Fields, Single},
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

/// At most so many bytes of a text, cut between characters.
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Detail {
    audit_id: Box<str>,
    stage: Box<str>,
    code: Box<str>,
    user_agent: Box<str>,
}

impl Detail {
    fn heap_bytes(&self) -> usize {
        [&self.audit_id, &self.stage, &self.code, &self.user_agent]
            .map(|text| heap::block(text.len()))
            .iter()
            .sum()
    }
}

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
    verbs: ValueSet,
    paths: ValueSet,
    agents: ValueSet,
    users: ValueSet,
    groups: ValueSet,
    codes: ValueSet,
    messages: ValueSet,
    reasons: ValueSet,
    statuses: ValueSet,
    claimed: ValueSet,
    requests: Earliest<Request>,
    details: Vec<(First, Detail)>,
    /// Bytes on the heap of their texts.
    detail_texts: usize,
}

impl Evidence {
    /// Bytes on the heap, but for those of the evidence itself.
    pub(super) fn heap_bytes(&self) -> usize {
        let sets: usize = [
            &self.verbs,
            &self.paths,
            &self.agents,
            &self.users,
            &self.groups,
            &self.codes,
            &self.messages,
            &self.reasons,
            &self.statuses,
            &self.claimed,
        ]
        .map(|set| set.0.heap_bytes())
        .iter()
        .sum();
        let details = heap::list(&self.details) + self.detail_texts;
        heap::list(&self.by_code) + sets + self.requests.heap_bytes() + details
    }

    /// Takes one request (or, in escu semantics, one event as often as it names an address).
    pub(super) fn add(&mut self, hit: &Fields<'_>, seen: First, times: u64, limits: &Limits) {
        let (time, _) = seen;
        self.count += times;
        self.count_code(hit.code, times);
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        self.clamped |= hit.clamped;
        if hit.bare {
            self.mark_all();
            return;
        }
        let texts = &hit.texts;
        for (set, value) in [
            (&mut self.verbs, texts.verb),
            (&mut self.paths, texts.uri),
            (&mut self.agents, texts.agent),
            (&mut self.users, texts.user),
            (&mut self.codes, texts.code),
            (&mut self.messages, texts.message),
            (&mut self.reasons, texts.reason),
            (&mut self.statuses, texts.status),
        ] {
            if let Some(value) = value {
                set.add(value, seen, limits);
            }
        }
        for group in hit.groups.clone() {
            self.groups.add(group, seen, limits);
        }
        for source in hit.claimed() {
            self.claimed.add(source, seen, limits);
        }
        self.sample(texts, seen, limits);
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

    /// Of any field there may be more values than are kept.
    fn mark_all(&mut self) {
        for set in [
            &mut self.verbs,
            &mut self.paths,
            &mut self.agents,
            &mut self.users,
            &mut self.groups,
            &mut self.codes,
            &mut self.messages,
            &mut self.reasons,
            &mut self.statuses,
            &mut self.claimed,
        ] {
            set.0.full = true;
        }
    }

    fn sample(&mut self, texts: &Single<'_>, seen: First, limits: &Limits) {
        let text = |value: Option<&str>| -> Box<str> {
            cut(value.unwrap_or_default(), limits.value_bytes).into()
        };
        let verb = cut(texts.verb.unwrap_or_default(), limits.value_bytes);
        let path = cut(texts.uri.unwrap_or_default(), limits.value_bytes);
        let compare = |known: &Request| (&*known.verb, &*known.path).cmp(&(verb, path));
        let own = || Request {
            verb: verb.into(),
            path: path.into(),
        };
        if self.requests.add(compare, seen, SAMPLES, own) {
            let detail = Detail {
                audit_id: text(texts.audit_id),
                stage: text(texts.stage),
                code: text(texts.code),
                user_agent: text(texts.agent),
            };
            if self.details.is_empty() {
                self.details.reserve_exact(1);
            }
            self.details.push((seen, detail));
            let kept = &self.requests.things;
            self.details
                .retain(|(seen, _)| kept.iter().any(|(_, first)| first == seen));
            let texts = self.details.iter().map(|(_, detail)| detail.heap_bytes());
            self.detail_texts = texts.sum();
        }
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
        for (set, name, list) in [
            (&self.verbs, "verbs", &mut finding.verbs),
            (&self.paths, "paths", &mut finding.paths),
            (&self.agents, "user_agents", &mut finding.user_agents),
            (&self.users, "users", &mut finding.users),
            (&self.groups, "groups", &mut finding.groups),
            (&self.codes, "codes", &mut finding.codes),
            (&self.messages, "messages", &mut finding.messages),
            (&self.reasons, "reasons", &mut finding.reasons),
            (&self.statuses, "statuses", &mut finding.statuses),
            (&self.claimed, "claimed_ips", &mut finding.claimed_ips),
        ] {
            set.write(name, list, &mut truncated);
        }
        finding.truncated = truncated;
        let mut requests: Vec<_> = self.requests.things.iter().collect();
        requests.sort_by_key(|(request, first)| (first, request));
        for (request, seen) in requests {
            let Some((_, detail)) = self.details.iter().find(|(first, _)| first == seen) else {
                continue;
            };
            finding.samples.push(Sample {
                time: Some(seen.0.to_proto()),
                audit_id: detail.audit_id.to_string(),
                stage: detail.stage.to_string(),
                verb: request.verb.to_string(),
                path: request.path.to_string(),
                code: detail.code.to_string(),
                user_agent: detail.user_agent.to_string(),
            });
        }
    }
}

impl Evidence {
    /// The sets of values, and what a finding calls them.
    fn sets(&self) -> [(&'static str, &ValueSet); 10] {
        [
            ("verbs", &self.verbs),
            ("paths", &self.paths),
            ("user_agents", &self.agents),
            ("users", &self.users),
            ("groups", &self.groups),
            ("codes", &self.codes),
            ("messages", &self.messages),
            ("reasons", &self.reasons),
            ("statuses", &self.statuses),
            ("claimed_ips", &self.claimed),
        ]
    }

    fn set_mut(&mut self, name: &str) -> Option<&mut ValueSet> {
        match name {
            "verbs" => Some(&mut self.verbs),
            "paths" => Some(&mut self.paths),
            "user_agents" => Some(&mut self.agents),
            "users" => Some(&mut self.users),
            "groups" => Some(&mut self.groups),
            "codes" => Some(&mut self.codes),
            "messages" => Some(&mut self.messages),
            "reasons" => Some(&mut self.reasons),
            "statuses" => Some(&mut self.statuses),
            "claimed_ips" => Some(&mut self.claimed),
            _ => None,
        }
    }

    /// As it is written into the state of the engine.
    pub(super) fn to_state(&self) -> proto::EvidenceState {
        let codes = self.by_code.iter().map(|(code, count)| proto::CodeCount {
            code: (*code).into(),
            count: *count,
        });
        let fields = self.sets().into_iter();
        let fields = fields.filter(|(_, set)| !set.0.things.is_empty() || set.0.full);
        let fields = fields.map(|(name, set)| proto::FieldState {
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
            let text =
                |of: fn(&Detail) -> &str| detail.map_or("", |(_, detail)| of(detail)).to_owned();
            proto::SampleState {
                place: wire::place(*first),
                verb: request.verb.to_string(),
                path: request.path.to_string(),
                audit_id: text(|detail| &detail.audit_id),
                stage: text(|detail| &detail.stage),
                code: text(|detail| &detail.code),
                user_agent: text(|detail| &detail.user_agent),
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
            let Some(set) = evidence.set_mut(&field.name) else {
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
            let detail = Detail {
                audit_id: sample.audit_id.into(),
                stage: sample.stage.into(),
                code: sample.code.into(),
                user_agent: sample.user_agent.into(),
            };
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
