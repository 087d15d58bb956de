//! The test events of rules: whether each case matches as its rule says.

use std::sync::Arc;

use super::{json, rule_rows::RuleRows};
use crate::rules::{
    Scratch,
    load::{Case, LoadedRule},
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
    let mut rows = RuleRows::new(vec![Arc::clone(&rule.detection)]);
    for text in &case.events {
        if let Ok(Some(event)) = json::one(text.as_bytes(), time_field) {
            rows.add_event(&event);
        }
    }
    rows.finish().len()
}

/// Why a case turned out as it did: for single events the decisive test, for several their number.
fn explain(rule: &LoadedRule, case: &Case, time_field: &str) -> String {
    let what = if case.must_match {
        "does not match, but must"
    } else {
        "matches, but must not"
    };
    let detection = &rule.detection;
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
