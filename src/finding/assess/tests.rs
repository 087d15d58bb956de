//! Severity, labels and reasons of findings.

use proptest::prelude::*;

use super::*;
use crate::rules::{load, settings::Rule};

/// A detection with these labels, written as in a rule file.
fn detection(labels: &str) -> Detection {
    let text = format!(
        "title: T\nid: 11111111-2222-4333-8444-555555555555\nlevel: low\nlogsource: {{product: \
         kubernetes, service: audit}}\ndetection:\n  s: {{verb: get}}\n  condition: s\ncustom:\n  \
         labels:\n{labels}"
    );
    let loaded = load::load_text("t.yaml", &text, &Rule::default()).unwrap();
    Detection::clone(loaded.detections().first().unwrap())
}

const LABELS: &str = r"    - {name: secrets, kind: behaviour, title: Secrets, severity: high, match: {verb: a}}
    - {name: often, kind: behaviour, title: Often, severity: medium, match: {verb: a}, min_requests: 3}
    - {name: paths, kind: shape, title: Paths, severity: medium, min_paths: 4}
    - {name: one, kind: shape, title: One, max_paths: 1}
    - {name: agents, kind: shape, title: Agents, severity: critical, min_user_agents: 5}
    - {name: each, kind: shape, title: Each, max_requests_per_path: 1, min_paths: 2}
    - {name: tool, kind: tool, title: Tool, match: {verb: a}}
    - {name: probe, kind: benign, title: Probe, match: {verb: a}, max_paths: 3, max_user_agents: 2}
    - {name: token, kind: benign, title: Token, match: {verb: a}, max_paths: 6, max_user_agents: 2,
       max_requests: 9, explains: [secrets, often, paths]}
";

/// A request as the property sees it: path, user agent, labels.
type Request = (u64, u64, u64);

/// What is seen of some requests.
fn seen(requests: &[Request], labels: usize) -> Seen {
    let mut seen = Seen {
        requests: requests.len() as u64,
        all: LabelSet(requests.iter().fold(u64::MAX, |all, (_, _, own)| all & own)),
        ..Seen::default()
    };
    let distinct = |of: fn(&Request) -> u64| {
        let mut all: Vec<_> = requests.iter().map(of).collect();
        all.sort_unstable();
        all.dedup();
        all.len() as u64
    };
    seen.paths = distinct(|(path, ..)| *path);
    seen.user_agents = distinct(|(_, agent, _)| *agent);
    for place in 0..labels {
        let has = |(_, _, own): &&Request| LabelSet(*own).contains(place);
        let count = requests.iter().filter(has).count() as u64;
        if count > 0 {
            seen.labels.push(LabelSeen {
                place,
                requests: count,
                first: Micros(1),
                example: example("get", "/x", "curl"),
            });
        }
    }
    seen
}

fn named(assessment: &Assessment) -> Vec<&str> {
    assessment
        .labels
        .iter()
        .map(|label| label.name.as_str())
        .collect()
}

#[test]
fn a_rule_without_labels_keeps_its_level_until_a_request_succeeds() {
    let detection = Detection::default();
    assert_eq!(assess(&detection, &Seen::default()), None);
    let seen = Seen {
        successes: 2,
        ..Seen::default()
    };
    let assessment = assess(&detection, &seen).unwrap();
    assert_eq!(assessment.severity, Severity::Critical);
    assert_eq!(
        assessment.reasons,
        ["2 requests from this address succeeded."]
    );
}

#[test]
fn reasons_name_number_and_example_the_greatest_severity_first() {
    let detection = detection(LABELS);
    let requests: Vec<Request> = (0..4)
        .map(|path| (path, 0, 0b1_0100 | u64::from(path == 1)))
        .collect();
    let assessment = assess(&detection, &seen(&requests, 9)).unwrap();
    assert_eq!(assessment.severity, Severity::High);
    assert_eq!(
        assessment.reasons,
        [
            "Secrets: 1 of 4 requests, the first get /x (curl).",
            "Paths: 4 paths in 4 requests."
        ]
    );
    let plain = assess(&detection, &seen(&[(0, 0, 0)], 9)).unwrap();
    assert_eq!(
        plain.reasons,
        ["No label asks for more than the level of the rule, low."]
    );
    assert_eq!(plain.severity, Severity::Low);
}

#[test]
fn a_benign_cause_lowers_and_says_why_and_ends_with_the_pattern() {
    let detection = detection(LABELS);
    let probe = 1 << 7;
    let mut requests = vec![(0, 0, probe), (1, 0, probe)];
    let of = |requests: &[Request]| assess(&detection, &seen(requests, 9)).unwrap();
    let assessment = of(&requests);
    assert_eq!(assessment.severity, Severity::Informational);
    assert_eq!(
        assessment.reasons,
        ["Probe: all 2 requests, 2 paths, for example get /x (curl)."]
    );
    assert_eq!(named(&assessment), ["probe"]);
    assert_eq!(assessment.labels[0].severity, "informational");
    // A request without it, too many paths, too many agents, a behaviour: each ends it.
    for more in [
        vec![(0, 0, 0)],
        vec![(2, 0, probe), (3, 0, probe)],
        vec![(0, 1, probe), (0, 2, probe)],
    ] {
        let all: Vec<_> = requests.iter().copied().chain(more).collect();
        let assessment = of(&all);
        assert_eq!(assessment.severity, Severity::Low);
        assert!(!named(&assessment).contains(&"probe"));
    }
    requests.push((0, 0, probe | 1));
    let assessment = of(&requests);
    assert_eq!(assessment.severity, Severity::High);
    assert_eq!(named(&assessment), ["secrets", "probe"]);
}

#[test]
fn what_a_cause_explains_counts_again_when_the_cause_ends() {
    let detection = detection(LABELS);
    let token = 1 << 8 | 0b11;
    let requests: Vec<Request> = (0..9).map(|at| (at % 6, 0, token)).collect();
    let of = |requests: &[Request]| assess(&detection, &seen(requests, 9)).unwrap();
    assert_eq!(of(&requests).severity, Severity::Informational);
    assert_eq!(named(&of(&requests)), ["secrets", "often", "token"]);
    let more: Vec<_> = requests.iter().copied().chain([(0, 0, token)]).collect();
    assert_eq!(of(&more).severity, Severity::High, "max_requests");
    let mut seen = seen(&requests, 9);
    seen.successes = 1;
    let success = assess(&detection, &seen).unwrap();
    assert_eq!(success.severity, Severity::Critical);
}

proptest! {
    /// The severity never falls as requests are added, and a benign label never survives a request
    /// that lacks it, or comes when it was not there before.
    #[test]
    fn more_requests_never_lower_the_severity(
        requests in prop::collection::vec((0_u64..8, 0_u64..6, 0_u64..512), 1..40),
    ) {
        let detection = detection(LABELS);
        let mut before: Option<Assessment> = None;
        for end in 1..=requests.len() {
            let requests = &requests[..end];
            let now = assess(&detection, &seen(requests, 9)).unwrap();
            for (place, name) in [(7, "probe"), (8, "token")] {
                let lacks = requests.iter().any(|(_, _, own)| !LabelSet(*own).contains(place));
                prop_assert!(!(lacks && named(&now).contains(&name)));
            }
            if let Some(before) = before {
                prop_assert!(now.severity >= before.severity, "{before:?}\n{now:?}");
                for name in ["probe", "token"] {
                    prop_assert!(!named(&now).contains(&name) || named(&before).contains(&name));
                }
            }
            prop_assert!(!now.reasons.is_empty() && now.reasons.len() <= MOST_REASONS);
            before = Some(now);
        }
    }
}
