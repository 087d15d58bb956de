//! What a finding gathers while it grows, within bounds, whatever the order of arrival.
//!
//! Of more values than fit, half are those that appeared first in event time, half those that
//! appeared last, so that neither a flood before nor one after hides the others. That choice does
//! not depend on the order of arrival (`ends`). Beside it all distinct values are counted
//! (`sketch`).

mod ends;
mod entry;
mod labelled;
mod orders;
mod samples;
mod sketch;
mod stored;
mod values;

use super::{
    fields::{self, AuditField, Row},
    finding::{
        Finding, New, Sample,
        assess::{LabelSeen, Seen},
    },
    heap,
    hit::{LabelSet, Place, Texts},
    limits::Limits,
    packed::Fields,
    time::Micros,
};
use ends::When;
use labelled::Labelled;
use samples::Samples;
use values::ValueSet;

/// Requests that succeeded of which a finding shows a sample.
const MOST_SUCCESSES: usize = 10;

/// The fields that a list of the finding holds.
fn listed() -> impl Iterator<Item = (&'static Row, &'static str)> {
    fields::TABLE
        .iter()
        .filter_map(|row| Some((row, row.list?)))
}

/// How many rows of the table before this one have a list.
const fn lists_before(end: usize) -> usize {
    let (mut count, mut at, mut rows) = (0, 0, fields::TABLE.as_slice());
    while at < end
        && let [row, rest @ ..] = rows
    {
        count += row.list.is_some() as usize;
        rows = rest;
        at += 1;
    }
    count
}

/// How many lists there are.
const LISTED: usize = lists_before(fields::COUNT);
const PATHS: usize = lists_before(AuditField::RequestUri.index());
const USER_AGENTS: usize = lists_before(AuditField::UserAgent.index());
const VERBS: usize = lists_before(AuditField::Verb.index());
const CODES: usize = lists_before(AuditField::Code.index());
const USERS: usize = lists_before(AuditField::Username.index());

type Sets = [ValueSet; LISTED];

/// What of a URI is a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Paths {
    /// All of it, as the ESCU search has it.
    #[default]
    Whole,
    /// What is before its query.
    WithoutQuery,
}

/// Everything gathered for one finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) paths: Paths,
    pub(super) count: u64,
    /// By code, in order.
    by_code: Vec<(u16, u64)>,
    pub(super) first: Option<Micros>,
    pub(super) last: Option<Micros>,
    clamped: bool,
    pub(super) unverified: u64,
    /// Verbs that write, by their place in [`write_verb`].
    write_verbs: u16,
    /// The values of each field that a list of the finding holds, in the order of the table.
    sets: Sets,
    samples: Samples,
    labels: Labelled,
    /// Requests that succeeded.
    successes: u64,
    /// The first of them, in order.
    first_successes: Vec<(When, Texts)>,
}

/// What decides whether a finding has something new, in a few numbers. All grow, but for `all`,
/// which loses labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Requests.
    pub(super) count: u64,
    /// Distinct status codes.
    pub(super) codes: u64,
    /// Verbs that write.
    pub(super) write_verbs: u16,
    /// Distinct paths.
    pub(super) paths: u64,
    /// Distinct user agents.
    pub(super) user_agents: u64,
    /// Requests that succeeded.
    pub(super) successes: u64,
    /// Labels that at least one request has.
    pub(super) any: LabelSet,
    /// Labels that every request has.
    pub(super) all: LabelSet,
}

impl Evidence {
    /// Evidence of a finding that compares paths in this way.
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            ..Self::default()
        }
    }

    /// Bytes on the heap, but for those of the evidence itself.
    pub(super) fn heap_bytes(&self) -> usize {
        let sets: usize = self.sets.iter().map(ValueSet::heap_bytes).sum();
        let successes = self.first_successes.iter();
        let successes: usize = successes.map(|(_, texts)| texts.heap_bytes()).sum();
        heap::list(&self.by_code)
            + sets
            + self.samples.0.heap_bytes()
            + self.labels.heap_bytes()
            + heap::list(&self.first_successes)
            + successes
    }

    /// Takes one request (or, in escu semantics, one event as often as it names an address).
    pub(super) fn add(&mut self, hit: &Fields<'_>, seen: Place, times: u64, limits: &Limits) {
        let (time, when) = (seen.0, When::from(seen));
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
            self.sets.iter_mut().for_each(|set| set.is_cut = true);
            self.labels.add(hit.labels, when, times, None);
            return;
        }
        let values = hit.texts.rows();
        self.labels.add(hit.labels, when, times, Some(&values));
        let all = fields::TABLE.iter().zip(&values);
        let listed = all.filter(|(row, _)| row.list.is_some());
        for (set, (row, values)) in self.sets.iter_mut().zip(listed) {
            for value in values.clone() {
                match row.field {
                    AuditField::RequestUri if self.paths == Paths::WithoutQuery => {
                        set.add(without_query(value), when, limits);
                    }
                    AuditField::Verb => {
                        self.write_verbs |= write_verb(value);
                        set.add(value, when, limits);
                    }
                    _ => set.add(value, when, limits),
                }
            }
        }
        self.samples
            .add(hit.texts, &values, when, limits.value_bytes);
    }

    /// Takes a request that succeeded. It does not count among the others.
    pub(super) fn add_success(&mut self, hit: &Fields<'_>, seen: Place) {
        let when = When::from(seen);
        self.successes += 1;
        let at = self.first_successes.partition_point(|(at, _)| *at < when);
        if at < MOST_SUCCESSES {
            self.first_successes
                .insert(at, (when, samples::reduced(hit.texts)));
            self.first_successes.truncate(MOST_SUCCESSES);
        }
    }

    /// Takes all requests of other evidence for the same key. None of them may be in both.
    pub(super) fn merge(&mut self, other: &Self, limits: &Limits) {
        self.count += other.count;
        for (code, count) in &other.by_code {
            self.count_code(*code, *count);
        }
        let first = [self.first, other.first].into_iter().flatten();
        self.first = first.min();
        self.last = self.last.max(other.last);
        self.clamped |= other.clamped;
        self.unverified += other.unverified;
        self.write_verbs |= other.write_verbs;
        for (set, other) in self.sets.iter_mut().zip(&other.sets) {
            set.merge(other, limits);
        }
        self.samples.merge(&other.samples);
        self.labels.merge(&other.labels);
        self.successes += other.successes;
        self.first_successes
            .extend(other.first_successes.iter().cloned());
        self.first_successes.sort_by_key(|(when, _)| *when);
        self.first_successes.truncate(MOST_SUCCESSES);
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

    fn distinct(&self, list: usize) -> u64 {
        self.sets.get(list).map_or(0, ValueSet::distinct)
    }

    /// What decides whether something is new.
    pub(super) fn marks(&self) -> Marks {
        Marks {
            count: self.count,
            codes: self.by_code.len() as u64,
            write_verbs: self.write_verbs,
            paths: self.distinct(PATHS),
            user_agents: self.distinct(USER_AGENTS),
            successes: self.successes,
            any: self.labels.any,
            all: self.labels.all.unwrap_or_default(),
        }
    }

    /// What decides how bad the finding is.
    pub(super) fn seen(&self) -> Seen {
        let labels = self.labels.each.iter().map(|label| LabelSeen {
            place: label.place,
            requests: label.requests,
            first: label.first,
            example: label
                .example
                .as_ref()
                .map_or_else(String::new, |(_, example)| example.to_string()),
        });
        let marks = self.marks();
        Seen {
            requests: marks.count,
            paths: marks.paths,
            user_agents: marks.user_agents,
            labels: labels.collect(),
            all: marks.all,
            successes: marks.successes,
        }
    }

    /// Gives a label to a request that was taken before.
    pub(super) fn label(&mut self, (time, _): Place, label: usize) {
        self.labels.label(label, time);
    }

    /// Requests that have a label.
    pub(super) fn labelled(&self, place: usize) -> u64 {
        let label = self.labels.each.iter().find(|label| label.place == place);
        label.map_or(0, |label| label.requests)
    }

    /// Notes that a state of the finding shows all this; what of it no state has shown before.
    pub(super) fn send(&mut self, limits: &Limits) -> New {
        let mut send = |list: usize| {
            let set = self.sets.get_mut(list);
            set.map(|set| set.send(limits)).unwrap_or_default()
        };
        New {
            paths: send(PATHS),
            user_agents: send(USER_AGENTS),
            verbs: send(VERBS),
            codes: send(CODES),
            users: send(USERS),
            ..New::default()
        }
    }

    /// Writes all this into a finding.
    pub(super) fn write(&self, finding: &mut Finding, limits: &Limits) {
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
        for (set, (row, name)) in self.sets.iter().zip(listed()) {
            if let Some(list) = finding.list_mut(row.field) {
                *list = set.list(limits);
            }
            if set.is_truncated() {
                finding.truncated.push(name.to_owned());
            }
            if set.distinct() > 0 {
                finding.distinct.insert(name.to_owned(), set.distinct());
            }
            if set.is_estimated() {
                finding.estimated.push(name.to_owned());
            }
        }
        finding.samples = self.samples.list(limits.value_bytes);
        finding.success_count = self.successes;
        if self.successes > 0 {
            "success".clone_into(&mut finding.outcome);
        }
        let successes = self.first_successes.iter();
        let sample = |(when, texts): &(When, Texts)| -> Sample {
            samples::of(texts, when.time, limits.value_bytes)
        };
        finding.successes = successes.map(sample).collect();
    }
}

/// A URI without its query, as far as it was kept.
fn without_query(uri: &str) -> &str {
    uri.split_once('?').map_or(uri, |(path, _)| path)
}

/// The bit of a verb that writes; 0 for others.
fn write_verb(verb: &str) -> u16 {
    match verb {
        "create" => 1,
        "update" => 2,
        "patch" | "PATCH" => 4,
        "delete" | "DELETE" => 8,
        "deletecollection" => 16,
        "post" | "POST" => 32,
        "put" | "PUT" => 64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::detection::hit::{Hit, Identity};

    /// One request; everything follows from the numbers.
    fn hit(number: u64, value: u32) -> Hit {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        let values = [
            (
                AuditField::Verb,
                ["get", "create", "delete"][value as usize % 3].to_owned(),
            ),
            (
                AuditField::RequestUri,
                format!("/path/{}?q={number}", value % 700),
            ),
            (AuditField::UserAgent, format!("agent{}", value % 5)),
            (AuditField::AuditId, format!("id{number}")),
            (AuditField::Code, "403".to_owned()),
        ];
        Hit {
            time: Some(Micros(i64::from(value.wrapping_mul(2_654_435_761) % 1000))),
            code: 403,
            labels: LabelSet(u64::from(value) % 7),
            identity: Identity(identity),
            texts: values.into_iter().collect(),
            ..Hit::default()
        }
    }

    fn add(evidence: &mut Evidence, hit: &Hit, limits: &Limits) {
        let place = (hit.time.unwrap(), hit.identity);
        if hit.labels.0 == 5 {
            evidence.add_success(&Fields::of(hit), place);
        } else {
            evidence.add(&Fields::of(hit), place, 1, limits);
        }
    }

    fn written(evidence: &Evidence, limits: &Limits) -> (Finding, Vec<LabelSeen>, LabelSet) {
        let mut finding = Finding::default();
        evidence.write(&mut finding, limits);
        let seen = evidence.seen();
        (finding, seen.labels, seen.all)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases / 8,
            ..ProptestConfig::default()
        })]

        /// Whatever the order of arrival, and in one or merged from two: the same is written. What
        /// was stored is what it was.
        #[test]
        fn evidence_does_not_depend_on_order(
            values in vec(0u32..2000, 0..200),
            split in 0usize..200,
            most in prop::sample::select(vec![1usize, 2, 7, 100]),
        ) {
            let limits = Limits { values_per_field: most, ..Limits::default() };
            let hits: Vec<_> = (0..).zip(&values).map(|(number, value)| hit(number, *value)).collect();
            let gather = |hits: &[Hit]| {
                let mut evidence = Evidence::new(Paths::WithoutQuery);
                for hit in hits {
                    add(&mut evidence, hit, &limits);
                }
                evidence
            };
            let evidence = gather(&hits);
            let wanted = written(&evidence, &limits);
            let mut sorted = hits.clone();
            sorted.sort_by_key(|hit| (hit.time, hit.identity));
            prop_assert_eq!(&written(&gather(&sorted), &limits), &wanted);
            sorted.reverse();
            prop_assert_eq!(&written(&gather(&sorted), &limits), &wanted);
            let (one, other) = hits.split_at(split.min(hits.len()));
            let mut merged = gather(other);
            merged.merge(&gather(one), &limits);
            prop_assert_eq!(&written(&merged, &limits), &wanted);
            let state = evidence.to_state();
            let read = Evidence::from_state(state.clone(), Paths::WithoutQuery).unwrap();
            prop_assert_eq!(read.to_state(), state);
            prop_assert_eq!(&read, &evidence);
            // It continues as the other does.
            let (mut read, mut evidence) = (read, evidence);
            for hit in &hits {
                add(&mut read, hit, &limits);
                add(&mut evidence, hit, &limits);
            }
            prop_assert_eq!(written(&read, &limits), written(&evidence, &limits));
            prop_assert!(read.send(&limits) == evidence.send(&limits));
        }
    }

    /// A URI that is padded beyond what is kept of it is still one of its own.
    #[test]
    fn padded_paths_are_counted_each() {
        let limits = Limits::default();
        for paths in [Paths::Whole, Paths::WithoutQuery] {
            let mut evidence = Evidence::new(paths);
            for number in 0..200_u64 {
                let mut hit = hit(number, 1);
                let uri = format!("/{}/{number}", "x".repeat(1100));
                hit.texts.set(AuditField::RequestUri, &[&uri]);
                hit.cut(limits.value_bytes);
                assert!(hit.texts.heap_bytes() < 1300);
                add(&mut evidence, &hit, &limits);
            }
            let (finding, ..) = written(&evidence, &limits);
            assert_eq!(finding.distinct["paths"], 200);
            assert_eq!(finding.estimated, [""; 0]);
            assert_eq!((finding.paths.len(), finding.samples.len()), (100, 10));
            assert!(finding.paths.iter().all(|path| path.len() <= 1024));
            assert!(finding.truncated.contains(&"paths".to_owned()));
        }
    }

    /// Native paths have no query, samples have it; of the ESCU columns nothing is left out.
    #[test]
    fn paths_are_compared_without_their_query() {
        let limits = Limits::default();
        for (paths, wanted) in [(Paths::WithoutQuery, 1), (Paths::Whole, 3)] {
            let mut evidence = Evidence::new(paths);
            for number in 0..3 {
                add(&mut evidence, &hit(number, 1), &limits);
            }
            let (finding, ..) = written(&evidence, &limits);
            assert_eq!(finding.paths.len(), wanted);
            assert_eq!(finding.distinct["paths"], wanted as u64);
            assert!(
                finding
                    .samples
                    .iter()
                    .any(|sample| sample.path == "/path/1?q=0")
            );
        }
    }
}
