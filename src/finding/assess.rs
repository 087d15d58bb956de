//! How bad a finding is: its severity and labels, from what its requests look like.

use crate::{
    audit::time::Micros,
    proto::finding::Label,
    rules::{
        model::{Detection, LabelSet},
        severity::Severity,
    },
};

/// What is known of the requests of a finding.
#[derive(Clone, Debug, Default)]
#[expect(dead_code, reason = "labels with bounds will read all of it")]
pub(crate) struct Seen {
    /// Requests.
    pub(crate) requests: u64,
    /// Distinct paths.
    pub(crate) paths: u64,
    /// Distinct user agents.
    pub(crate) user_agents: u64,
    /// Labels that at least one request has, in the order of the detection.
    pub(crate) labels: Vec<LabelSeen>,
    /// Labels that every request has.
    pub(crate) all: LabelSet,
    /// Requests that succeeded.
    pub(crate) successes: u64,
}

/// What is known of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelSeen {
    /// Its place in the detection.
    pub(crate) place: usize,
    /// Requests that have it.
    pub(crate) requests: u64,
    /// Event time of the first of them.
    pub(crate) first: Micros,
    /// The first of them: verb, path and user agent.
    pub(crate) example: String,
}

/// What labels say of a finding.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assessment {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// The labels that it has.
    pub(crate) labels: Vec<Label>,
    /// Why, one sentence each.
    pub(crate) reasons: Vec<String>,
}

/// What the labels of a detection say of a finding; `None` when it has no labels and nothing
/// succeeded, so that the level of the rule stands.
pub(crate) fn assess(detection: &Detection, seen: &Seen) -> Option<Assessment> {
    if detection.labels.is_empty() && seen.successes == 0 {
        return None;
    }
    let level = detection.annotations.level.parse();
    let mut severity: Severity = level.unwrap_or(Severity::Low);
    let (mut labels, mut reasons) = (Vec::new(), Vec::new());
    for LabelSeen {
        place,
        requests,
        first,
        example,
    } in &seen.labels
    {
        let Some(label) = detection.labels.get(*place) else {
            continue;
        };
        if let Some(asked) = label.severity
            && asked > severity
        {
            severity = asked;
            reasons.push(label.title.clone());
        }
        labels.push(Label {
            name: label.name.clone(),
            kind: label.kind.as_str().to_owned(),
            title: label.title.clone(),
            severity: label.severity.map_or("", Severity::as_str).to_owned(),
            count: *requests,
            first_time: Some(first.to_proto()),
            example: example.clone(),
        });
    }
    Some(Assessment {
        severity,
        labels,
        reasons,
    })
}
