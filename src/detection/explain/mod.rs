//! Why an address was found or was not: every record of it, what became of it, and how many were
//! counted before and after.
//!
//! Counts are those of the rows of `scan`: over the whole input, in any order. What the service
//! says of the same input while it runs is the business of the engine; `explain` shows both.

mod answer;
mod counts;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use self::counts::{Counts, counts};
pub use answer::{Outcome, Reason, Record, Summary, Tried, Verdict};

use super::{
    address,
    event::Event,
    exclude::{Exclusion, Exclusions},
    fields::AuditField,
    hit::{Hit, Identity},
    limits::Bounds,
    time::Micros,
    tumbling::window_start,
};
use crate::rules::{
    Scratch,
    model::{Dedup, Detection, GroupBy, Window},
};

/// Hits that are kept to be counted, over all keys.
const MOST_HITS: usize = 4_000_000;
/// Bytes of a text that are kept of a record.
const TEXT_BYTES: usize = 1024;
/// Elements of `sourceIPs` that are kept of a record.
const MOST_SOURCES: usize = 16;
/// Reasons that are kept apart.
const MOST_REASONS: usize = 64;

/// What is explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// All records that name this address among their sources, or count for it.
    Address(IpAddr),
    /// All records with this `auditID`.
    AuditId(String),
}

/// Hits of one detection for one key.
#[derive(Default)]
struct Hits {
    list: Vec<(Micros, Identity)>,
    /// Those that count once.
    seen: BTreeSet<Identity>,
}

/// What is gathered of the subject.
pub struct Explain {
    subject: Subject,
    detections: Vec<Arc<Detection>>,
    /// Hits by detection, key and window; the place of each is its number.
    hits: Vec<Hits>,
    places: BTreeMap<(usize, String, Option<Micros>), usize>,
    kept: usize,
    records: VecDeque<Record>,
    first: Vec<Record>,
    most: usize,
    /// Records of the subject.
    pub count: u64,
    /// Those of them that match in one detection at least.
    pub matching: u64,
    /// By detection.
    tallies: Vec<Tally>,
    scratch: Scratch,
    exclusions: Exclusions,
}

/// Counts of one detection.
#[derive(Default)]
struct Tally {
    matching: u64,
    repeats: u64,
    reasons: BTreeMap<String, Reason>,
    /// Keys that records of the subject count for.
    keys: BTreeSet<usize>,
}

impl Explain {
    /// Explains these detections; of more records than `most`, the first and the last are kept.
    pub fn new(subject: Subject, detections: Vec<Arc<Detection>>, most: usize) -> Self {
        Self {
            tallies: detections.iter().map(|_| Tally::default()).collect(),
            subject,
            detections,
            hits: Vec::new(),
            places: BTreeMap::new(),
            kept: 0,
            records: VecDeque::new(),
            first: Vec::new(),
            most: most.max(2),
            count: 0,
            matching: 0,
            scratch: Scratch::default(),
            exclusions: Exclusions::default(),
        }
    }

    /// Leaves out what these exclude, which were made for the same detections.
    #[must_use]
    pub fn excluding(mut self, exclusions: Exclusions) -> Self {
        self.exclusions = exclusions;
        self
    }

    /// Takes an audit event; `place` says where it is, if it is wanted.
    pub fn add(&mut self, event: &Event<'_>, place: impl FnOnce() -> String) {
        let is_subject = self.is_subject(event);
        let detections = std::mem::take(&mut self.detections);
        let mut outcomes = Vec::new();
        for (at, detection) in detections.iter().enumerate() {
            let outcome = self.judge(event, (at, detection), is_subject);
            outcomes.extend(outcome);
        }
        self.detections = detections;
        if !is_subject {
            return;
        }
        self.count += 1;
        let record = record(event, place(), outcomes);
        self.note_reasons(&record);
        let is_match = |outcome: &Outcome| outcome.result != Verdict::NoMatch;
        if !record.outcomes.iter().any(is_match) {
            return;
        }
        self.matching += 1;
        if self.first.len() < self.most / 2 {
            self.first.push(record);
            return;
        }
        if self.records.len() >= self.most - self.most / 2 {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Notes why a record does not count.
    fn note_reasons(&mut self, record: &Record) {
        for (tally, outcome) in self.tallies.iter_mut().zip(&record.outcomes) {
            tally.matching += u64::from(outcome.result != Verdict::NoMatch);
            tally.repeats += u64::from(outcome.result == Verdict::Repeat);
            if outcome.result == Verdict::Counted {
                continue;
            }
            if let Some(reason) = tally.reasons.get_mut(&outcome.why) {
                reason.count += 1;
            } else if tally.reasons.len() < MOST_REASONS {
                let example = Record {
                    outcomes: vec![outcome.clone()],
                    ..record.clone()
                };
                let why = outcome.why.clone();
                let reason = Reason {
                    why: why.clone(),
                    count: 1,
                    example,
                };
                tally.reasons.insert(why, reason);
            }
        }
    }

    /// Whether a record is one of the subject.
    fn is_subject(&self, event: &Event<'_>) -> bool {
        match &self.subject {
            Subject::AuditId(wanted) => event
                .field(AuditField::AuditId)
                .value()
                .is_some_and(|id| id.cut(TEXT_BYTES) == *wanted),
            Subject::Address(wanted) => {
                let mut is_one = false;
                event.for_each_source(&mut |source: &str| {
                    is_one = is_one || address::locatable(source) == Some(*wanted);
                });
                is_one
            }
        }
    }

    /// What becomes of an event in one detection; of one that is not of the subject nothing is
    /// said, but it may be counted.
    fn judge(
        &mut self,
        event: &Event<'_>,
        (at, detection): (usize, &Detection),
        is_subject: bool,
    ) -> Option<Outcome> {
        let mut matches = Vec::new();
        let bounds = Bounds {
            source_ips: MOST_SOURCES,
            value_bytes: TEXT_BYTES,
            values: MOST_SOURCES,
        };
        event.hits(detection, &mut self.scratch, &bounds, &mut |hit| {
            matches.push(hit);
        });
        let mut found = None;
        for hit in &mut matches {
            hit.detection = u32::try_from(at).unwrap_or(u32::MAX);
            if let Some(exclusion) = self.exclusions.matching(event, detection, hit) {
                let excluded = || Counted::Excluded(excluded(exclusion));
                found = found.or_else(|| is_subject.then(excluded));
                continue;
            }
            for key in keys(hit, detection) {
                let outcome = self.count(hit, (at, detection), key, is_subject);
                found = found.or(outcome);
            }
        }
        if !is_subject {
            return None;
        }
        let tests = detection.trace(event, &mut self.scratch);
        let (result, why, key, hit) = match found {
            Some(Counted::At(key, place)) => (
                Verdict::Counted,
                "it counts".to_owned(),
                Some(key),
                Some(place),
            ),
            Some(Counted::Repeat(key)) => (
                Verdict::Repeat,
                "it repeats a request that counts already".to_owned(),
                Some(key),
                None,
            ),
            Some(Counted::Other(key)) => (
                Verdict::OtherAddress,
                format!("it counts for {key}: the address is only claimed in a header"),
                Some(key),
                None,
            ),
            Some(Counted::Excluded(why)) => (Verdict::Excluded, why, None, None),
            Some(Counted::Untimed) => (
                Verdict::Untimed,
                "it matches, but its time cannot be read".to_owned(),
                None,
                None,
            ),
            Some(Counted::LeftOut) => (
                Verdict::LeftOut,
                "it matches, but the log has more hits than are kept here".to_owned(),
                None,
                None,
            ),
            None => {
                let test = detection.why_not(event, &mut self.scratch);
                let why = test.map_or_else(
                    || "it does not match".to_owned(),
                    |test| format!("it does not match: {test}"),
                );
                (Verdict::NoMatch, why, None, None)
            }
        };
        Some(Outcome {
            detection: detection.name().to_owned(),
            result,
            why,
            key,
            before: None,
            after: None,
            tests: tests.into_iter().map(Tried::from).collect(),
            hit,
        })
    }

    /// Counts a hit for a key, if that key may be one of the subject.
    fn count(
        &mut self,
        hit: &Hit,
        (at, detection): (usize, &Detection),
        key: String,
        is_subject: bool,
    ) -> Option<Counted> {
        let is_own = match &self.subject {
            Subject::AuditId(_) => true,
            Subject::Address(wanted) => names(&key, detection, *wanted),
        };
        if !is_own {
            return is_subject.then_some(Counted::Other(shown(&key, detection)));
        }
        let Some(time) = hit.time else {
            return Some(Counted::Untimed);
        };
        if self.kept >= MOST_HITS {
            return Some(Counted::LeftOut);
        }
        let window = match detection.window {
            Window::Tumbling { length, offset } => Some(window_start(time, length, offset)),
            Window::Session { .. } => None,
        };
        let text = shown(&key, detection);
        let next = self.hits.len();
        let place = *self.places.entry((at, key, window)).or_insert(next);
        if place == next {
            self.hits.push(Hits::default());
        }
        let hits = self.hits.get_mut(place)?;
        let is_repeat = detection.dedup == Dedup::Request && !hits.seen.insert(hit.identity);
        if is_subject && let Some(tally) = self.tallies.get_mut(at) {
            tally.keys.insert(place);
        }
        if is_repeat {
            return Some(Counted::Repeat(text));
        }
        hits.list.push((time, hit.identity));
        self.kept += 1;
        Some(Counted::At(text, (place, hits.list.len() - 1)))
    }

    /// The records of the subject that match, in order, and what each detection says of it.
    pub fn finish(mut self) -> (Vec<Record>, Vec<Summary>) {
        let counts: Vec<BTreeMap<usize, Counts>> = self
            .detections
            .iter()
            .zip(&self.tallies)
            .map(|(detection, tally)| {
                let places = tally.keys.iter();
                let counts = places.filter_map(|place| {
                    Some((*place, counts(&self.hits.get(*place)?.list, detection)))
                });
                counts.collect()
            })
            .collect();
        let mut records = std::mem::take(&mut self.first);
        records.extend(std::mem::take(&mut self.records));
        for record in &mut records {
            for (at, outcome) in record.outcomes.iter_mut().enumerate() {
                let of = outcome.hit.and_then(|(place, number)| {
                    let counts = counts.get(at)?.get(&place)?;
                    counts.by_hit.get(number).copied()
                });
                (outcome.before, outcome.after) = of.unzip();
            }
        }
        let summaries = self.detections.iter().enumerate();
        let summaries = summaries.filter_map(|(at, detection)| {
            Some(summary(detection, self.tallies.get(at)?, counts.get(at)?))
        });
        let summaries = summaries.collect();
        (records, summaries)
    }
}

/// What became of a hit.
enum Counted {
    /// It is this one of the hits of this key.
    At(String, (usize, usize)),
    Repeat(String),
    Other(String),
    Excluded(String),
    Untimed,
    LeftOut,
}

/// Why a request that matches does not count, for people.
fn excluded(exclusion: &Exclusion) -> String {
    let Exclusion { name, reason, .. } = exclusion;
    if reason.is_empty() {
        format!("it matches, but exclude {name:?} leaves it out")
    } else {
        format!("it matches, but exclude {name:?} leaves it out: {reason}")
    }
}

/// The keys that a hit counts for.
fn keys(hit: &Hit, detection: &Detection) -> Vec<String> {
    match detection.group_by {
        GroupBy::Fields(_) => vec![hit.key.clone()],
        GroupBy::Sources { .. } => hit.sources.clone(),
    }
}

/// Whether a key is that of an address, or does not depend on one.
fn names(key: &str, detection: &Detection, wanted: IpAddr) -> bool {
    let is_address = |text: &str| match text.parse::<ipnet::IpNet>() {
        Ok(network) => network.contains(&wanted),
        Err(_) => address::locatable(text) == Some(wanted),
    };
    match &detection.group_by {
        GroupBy::Sources { .. } => is_address(key),
        GroupBy::Fields(_) => {
            let group = detection.group(key);
            let mut sources = group.iter().filter(|(name, _)| name == "source.address");
            sources.all(|(_, value)| value.as_deref().is_some_and(is_address))
        }
    }
}

/// A key for people.
fn shown(key: &str, detection: &Detection) -> String {
    if matches!(detection.group_by, GroupBy::Sources { .. }) {
        return key.to_owned();
    }
    let values = detection.group(key).into_iter();
    let values = values.map(|(_, value)| value.unwrap_or_else(|| "-".to_owned()));
    values.collect::<Vec<_>>().join(", ")
}

fn record(event: &Event<'_>, place: String, outcomes: Vec<Outcome>) -> Record {
    let fields = [
        ("auditID", AuditField::AuditId),
        ("stage", AuditField::Stage),
        ("verb", AuditField::Verb),
        ("requestURI", AuditField::RequestUri),
        ("user.username", AuditField::Username),
        ("userAgent", AuditField::UserAgent),
        ("responseStatus.code", AuditField::Code),
    ];
    let fields = fields.into_iter().filter_map(|(name, field)| {
        let text = event.field(field).value()?;
        Some((name, text.cut(TEXT_BYTES)))
    });
    let fields = fields.collect();
    let mut sources = VecDeque::new();
    event.for_each_source(&mut |source: &str| {
        if sources.len() >= MOST_SOURCES {
            sources.pop_front();
        }
        let end = source.floor_char_boundary(TEXT_BYTES);
        sources.push_back(source.get(..end).unwrap_or_default().to_owned());
    });
    Record {
        place,
        time: event.time(),
        fields,
        sources: sources.into(),
        outcomes,
    }
}

fn summary(detection: &Detection, tally: &Tally, counts: &BTreeMap<usize, Counts>) -> Summary {
    let counted = counts.values().map(|counts| counts.by_hit.len() as u64);
    let counted: u64 = counted.sum();
    let most = counts.values().map(|counts| counts.most).max();
    let most = most.unwrap_or_default();
    let alert_at = counts.values().filter_map(|counts| counts.alert_at).min();
    let length = detection.window.length();
    let window = jiff::SignedDuration::from_micros(length);
    let needed = detection.threshold;
    let conclusion = match alert_at {
        Some(time) => format!(
            "found: the request of {time} is number {} in a window of {window:#}; more than \
             {needed} make a finding",
            needed.saturating_add(1)
        ),
        None if counted == 0 => "not found: no record of it counts".to_owned(),
        None => format!(
            "not found: of {counted} requests that count, at most {most} are in one window of \
             {window:#}; more than {needed} make a finding"
        ),
    };
    Summary {
        detection: detection.name().to_owned(),
        matching: tally.matching,
        counted,
        repeats: tally.repeats,
        max_in_window: most,
        threshold: needed,
        window_seconds: super::ids::seconds(length),
        alert_at,
        reasons: {
            let mut reasons: Vec<_> = tally.reasons.values().cloned().collect();
            reasons.sort_by_key(|reason| Reverse(reason.count));
            reasons
        },
        conclusion,
    }
}
