//! The test events of rules: whether each case matches as its rule says, and whether its finding
//! has the severity and the labels that the case expects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    engine::Engine,
    event::Event,
    fields::AuditField,
    finding::assess::{self, Assessment, LabelSeen, Seen, assess},
    hit::{Identity, LabelSet},
    joins::{Joined, Joins, Request},
    json,
    limits::{Bounds, Limits},
    rule_rows::RuleRows,
    time::Micros,
};
use crate::rules::{
    Scratch,
    load::{Case, Expect, LoadedRule},
    model::{Dedup, Detection},
};

/// A case that did not turn out as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line of the case in the file of its rule.
    pub line: usize,
    /// What happened, and which part of the rule decided.
    pub text: String,
}

/// Tries all cases of a rule.
pub fn run(rule: &LoadedRule, time_field: &str) -> Vec<Failure> {
    let failures = rule.cases.iter().filter_map(|case| {
        let found = rows(rule, case, time_field) > 0;
        let text = if found == case.must_match {
            let expect = case.expect.as_ref()?;
            unexpected(&rule.detection, case, (expect, time_field))?
        } else {
            explain(rule, case, time_field)
        };
        let text = if case.name.is_empty() {
            text
        } else {
            format!("{}: {text}", case.name)
        };
        Some(Failure {
            line: case.line,
            text,
        })
    });
    failures.collect()
}

/// What labels say of all events of a case that match and are of this key, or else of one.
///
/// # Errors
/// The number of keys, when there is not one.
fn assessment(
    detection: &Detection,
    case: &Case,
    (key, time_field): (Option<&str>, &str),
) -> Result<Option<Assessment>, usize> {
    let mut groups: BTreeMap<String, Gathering> = BTreeMap::new();
    let (mut scratch, mut joins) = (Scratch::default(), Joins::default());
    let joined_label = detection.joined_label();
    for text in &case.events {
        let Ok(Some(event)) = json::one(text.as_bytes(), time_field) else {
            continue;
        };
        let mut hits = Vec::new();
        event.hits(detection, &mut scratch, &Bounds::NONE, &mut |hit| {
            hits.push(hit);
        });
        for mut hit in hits {
            let group = groups.entry(hit.key.clone()).or_default();
            if !group.once.insert(hit.identity) && detection.dedup == Dedup::Request {
                continue;
            }
            let request = Request::of(&hit, "", detection, usize::MAX);
            let joined = joined_label.zip(request);
            let joined = joined.map(|(label, request)| (label, joins.take(request)));
            if let Some((label, Joined { is_copy: true, .. })) = &joined {
                hit.labels.insert(*label);
            }
            group.add(&event, hit.labels);
            if let Some((
                label,
                Joined {
                    copy: Some(copy), ..
                },
            )) = joined
                && let Some(group) = groups.get_mut(&*copy.key)
            {
                group.label(label, copy.place.0).requests += 1;
            }
        }
    }
    if let Some(key) = key {
        groups.retain(|own, _| own == key);
    }
    match groups.len() {
        1 => Ok(groups
            .into_values()
            .next()
            .and_then(|group| assess(detection, &group.seen()))),
        many => Err(many),
    }
}

/// What is seen of one group.
#[derive(Default)]
struct Gathering {
    once: BTreeSet<Identity>,
    seen: Seen,
    paths: BTreeSet<String>,
    user_agents: BTreeSet<String>,
    labels: BTreeMap<usize, LabelSeen>,
}

impl Gathering {
    fn add(&mut self, event: &Event<'_>, labels: LabelSet) {
        let text = |field| event.field(field).text().unwrap_or_default().into_owned();
        let uri = text(AuditField::RequestUri);
        let path = uri.split('?').next().unwrap_or_default();
        let (verb, agent) = (text(AuditField::Verb), text(AuditField::UserAgent));
        self.seen.all = if self.seen.requests == 0 {
            labels
        } else {
            LabelSet(self.seen.all.0 & labels.0)
        };
        self.seen.requests += 1;
        let time = event.time().unwrap_or(Micros(0));
        for place in labels.iter() {
            let label = self.label(place, Micros(i64::MAX));
            label.requests += 1;
            if time < label.first {
                label.first = time;
                label.example = assess::example(&verb, path, &agent);
            }
        }
        self.paths.insert(path.to_owned());
        self.user_agents.insert(agent);
    }

    fn label(&mut self, place: usize, first: Micros) -> &mut LabelSeen {
        self.labels.entry(place).or_insert_with(|| LabelSeen {
            place,
            requests: 0,
            first,
            example: String::new(),
        })
    }

    fn seen(self) -> Seen {
        Seen {
            paths: self.paths.len() as u64,
            user_agents: self.user_agents.len() as u64,
            labels: self.labels.into_values().collect(),
            ..self.seen
        }
    }
}

/// How the finding of a case differs from what it must say.
fn unexpected(
    detection: &Detection,
    case: &Case,
    (expect, time_field): (&Expect, &str),
) -> Option<String> {
    let of = (expect.key.as_deref(), time_field);
    let assessment = match assessment(detection, case, of) {
        Ok(assessment) => assessment?,
        Err(0) => return Some("no event is of the key that expect names".to_owned()),
        Err(groups) => {
            return Some(format!(
                "the events are of {groups} groups, but expect is for one: split the case, or name \
                 the key"
            ));
        }
    };
    let reasons = assessment.reasons.join(" ");
    if let Some(wanted) = expect.severity
        && wanted != assessment.severity
    {
        return Some(format!(
            "the severity is {}, expected {}: {reasons}",
            assessment.severity.as_str(),
            wanted.as_str()
        ));
    }
    let wanted: BTreeSet<_> = expect.labels.as_ref()?.iter().map(String::as_str).collect();
    let found: BTreeSet<_> = assessment
        .labels
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let list = |names: Vec<&&str>| {
        let names: Vec<&str> = names.into_iter().copied().collect();
        names.join(", ")
    };
    let missing = list(wanted.difference(&found).collect());
    let more = list(found.difference(&wanted).collect());
    let text = match (missing.is_empty(), more.is_empty()) {
        (true, true) => return None,
        (false, true) => format!("the finding has no label {missing}"),
        (true, false) => format!("the finding has the label {more} too"),
        (false, false) => {
            format!("the finding has no label {missing}, and has the label {more} too")
        }
    };
    Some(format!("{text}: {reasons}"))
}

fn rows(rule: &LoadedRule, case: &Case, time_field: &str) -> usize {
    if let Some(derivation) = &rule.detection.derivation {
        return derived(rule, &derivation.source, case, time_field);
    }
    let mut rows = RuleRows::new(vec![Arc::clone(&rule.detection)]);
    for text in &case.events {
        if let Ok(Some(event)) = json::one(text.as_bytes(), time_field) {
            rows.add_event(&event);
        }
    }
    rows.finish().len()
}

/// The findings of a derived detection, which takes what the engine has counted for another one.
fn derived(rule: &LoadedRule, source: &Detection, case: &Case, time_field: &str) -> usize {
    let mut source = source.clone();
    source
        .hops
        .trusted_proxies
        .clone_from(&case.trusted_proxies);
    let source = Arc::new(source);
    let detections = vec![Arc::clone(&source), Arc::clone(&rule.detection)];
    let mut engine = Engine::new(detections, Limits::default(), None);
    let (mut scratch, mut found) = (Scratch::default(), Vec::new());
    for text in &case.events {
        if let Ok(Some(event)) = json::one(text.as_bytes(), time_field) {
            let bounds = Bounds::from(&Limits::default());
            event.hits(&source, &mut scratch, &bounds, &mut |hit| {
                engine.observe(hit, &mut found);
            });
        }
    }
    engine.drain(&mut found);
    let own = found
        .iter()
        .filter(|one| Arc::ptr_eq(&one.detection, &rule.detection));
    own.count()
}

/// Why a case turned out as it did: for single events the decisive test, for several their number.
fn explain(rule: &LoadedRule, case: &Case, time_field: &str) -> String {
    let what = if case.must_match {
        "does not match, but must"
    } else {
        "matches, but must not"
    };
    let detection = &rule.detection;
    if let Some(derivation) = &detection.derivation {
        return format!(
            "the case {what}: {} events for {}",
            case.events.len(),
            derivation.source.name()
        );
    }
    if let ([text], [part]) = (case.events.as_slice(), detection.parts.as_slice())
        && detection.threshold == 0
        && let Ok(Some(event)) = json::one(text.as_bytes(), time_field)
    {
        let decisive = part.decisive(&event, &detection.hops, &mut Scratch::default());
        return match decisive {
            Some(test) => format!("the event {what}: {test} decides"),
            None => format!("the event {what}"),
        };
    }
    let mut scratch = Scratch::default();
    let mut matches = 0;
    for text in &case.events {
        if let Ok(Some(event)) = json::one(text.as_bytes(), time_field) {
            detection.matches(&event, &mut scratch, usize::MAX, &mut |_| matches += 1);
        }
    }
    format!(
        "the case {what}: {matches} matches in {} events, more than {} in one window are a finding",
        case.events.len(),
        detection.threshold
    )
}
