//! The test events of rules: whether each case matches as its rule says.

use std::sync::Arc;

use super::{
    engine::Engine,
    json,
    limits::{Bounds, Limits},
    rule_rows::RuleRows,
};
use crate::rules::{
    Scratch,
    load::{Case, LoadedRule},
    model::Detection,
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
        (found != case.must_match).then(|| Failure {
            line: case.line,
            text: explain(rule, case, time_field),
        })
    });
    failures.collect()
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
