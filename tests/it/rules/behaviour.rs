//! What the shipped detection of scans says of behaviours: evasions and causes that are no attack,
//! written as test events, and the recordings, read as an analyst would.

use std::{fmt::Write as _, fs, path::Path};

use auditwatch::{detection::cases, rules::load::LoadedRule};

use super::loaded;
use crate::support::corpus;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shipped detection of scans with other tests, which are indented by nothing.
fn scanning(tests: &str) -> LoadedRule {
    let rule = fs::read_to_string(root().join("rules/scanning.yaml")).unwrap();
    let (rule, _) = rule.rsplit_once("\n  tests:\n").unwrap();
    let mut text = format!("{rule}\n");
    for line in tests.lines().filter(|line| !line.starts_with('#')) {
        writeln!(text, "  {line}").unwrap();
    }
    let mut rules = loaded(&text).rules;
    let found = rules.iter().position(|rule| rule.reports).unwrap();
    rules.swap_remove(found)
}

/// What goes wrong, a line each.
fn failures(rule: &LoadedRule) -> String {
    let failures = cases::run(rule, "requestReceivedTimestamp");
    let lines = failures.iter().map(|failure| failure.text.clone());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn evasions_and_benign_causes_get_the_verdict_that_they_deserve() {
    for (name, least) in [("evasions", 60), ("benign", 20)] {
        let file = root().join(format!("tests/data/behaviour/{name}.yaml"));
        let rule = scanning(&fs::read_to_string(file).unwrap());
        assert!(rule.cases.len() >= least, "{}", rule.cases.len());
        assert!(rule.cases.iter().all(|case| {
            let expect = case.expect.as_ref().unwrap();
            expect.severity.is_some() && expect.labels.is_some()
        }));
        assert_eq!(failures(&rule), "", "{name}");
    }
}

/// Recording, address, severity, labels.
const RECORDED: &[(&str, &str, &str, &str)] = &[
    (
        "kube-hunter",
        "127.0.0.1",
        "high",
        "attempts_writes, curl, discovery, enumerates_resources, kube_hunter, python, reads_access_rules",
    ),
    (
        "kubectl-without-credentials",
        "127.0.0.1",
        "medium",
        "asks_for_permissions, curl, discovery, kubectl",
    ),
    (
        "scenario-1",
        "10.20.0.5",
        "high",
        "browser, curl, enumerates_resources, many_paths, one_request_each, reads_secrets, web_paths",
    ),
    (
        "scenario-1",
        "192.0.2.120",
        "high",
        "discovery, enumerates_resources, one_request_each, reads_access_rules, reads_secrets, zgrab",
    ),
    (
        "scenario-1",
        "192.0.2.121",
        "high",
        "discovery, enumerates_resources, many_paths, reads_access_rules, reads_internals, reads_secrets, remote_access, web_paths, zgrab",
    ),
    (
        "scenario-1",
        "192.0.2.40",
        "low",
        "curl, one_request_each, web_paths",
    ),
    (
        "scenario-1",
        "192.0.2.6",
        "low",
        "curl, one_request_each, web_paths",
    ),
    (
        "scenario-1",
        "192.0.2.7",
        "low",
        "curl, one_request_each, web_paths",
    ),
    (
        "scenario-1",
        "192.168.10.2",
        "informational",
        "curl, health_probe, one_path",
    ),
    (
        "scenario-1",
        "198.51.100.60",
        "high",
        "enumerates_resources, kubectl, one_request_each, reads_secrets",
    ),
    (
        "scenario-1",
        "198.51.100.61",
        "medium",
        "curl, discovery, reads_access_rules",
    ),
    (
        "scenario-1",
        "198.51.100.7",
        "high",
        "curl, discovery, enumerates_resources, many_paths, one_request_each, reads_access_rules, reads_internals, reads_secrets, remote_access, web_paths",
    ),
    (
        "scenario-1",
        "198.51.100.80",
        "medium",
        "curl, no_user_agent, one_path, rotates_user_agents",
    ),
    (
        "scenario-1",
        "198.51.100.81",
        "high",
        "attempts_writes, curl, one_path, unusual_methods",
    ),
    (
        "scenario-1",
        "198.51.100.82",
        "high",
        "curl, enumerates_resources, one_request_each, path_traversal, reads_secrets",
    ),
    (
        "scenario-1",
        "2001:db8:bad:1::7",
        "high",
        "curl, enumerates_resources, many_paths, one_request_each, reads_secrets, web_paths",
    ),
    (
        "scenario-1",
        "203.0.113.10",
        "medium",
        "discovery, enumerates_resources, kube_hunter, one_request_each, python, reads_access_rules",
    ),
    (
        "scenario-1",
        "203.0.113.11",
        "high",
        "attempts_writes, discovery, enumerates_resources, kube_hunter, python, reads_access_rules",
    ),
    (
        "scenario-1",
        "203.0.113.66",
        "high",
        "curl, discovery, enumerates_resources, many_paths, one_request_each, reads_access_rules, reads_secrets",
    ),
    (
        "scenario-1",
        "203.0.113.67",
        "medium",
        "curl, discovery, enumerates_resources, one_request_each, reads_access_rules",
    ),
    (
        "scenario-1",
        "203.0.113.68",
        "low",
        "curl, one_request_each, web_paths",
    ),
    (
        "scenario-1",
        "203.0.113.70",
        "high",
        "curl, enumerates_resources, one_request_each, reads_access_rules, reads_secrets",
    ),
    ("scenario-1", "203.0.113.71", "low", "curl, one_path"),
    (
        "scenario-1",
        "203.0.113.72",
        "medium",
        "curl, enumerates_resources, one_request_each",
    ),
    (
        "scenario-1",
        "203.0.113.90",
        "high",
        "curl, enumerates_resources, reads_secrets",
    ),
    (
        "scenario-1",
        "203.0.113.91",
        "low",
        "curl, one_request_each, web_paths",
    ),
    (
        "cloud-style",
        "10.20.0.5",
        "high",
        "browser, curl, enumerates_resources, many_paths, one_request_each, reads_secrets, web_paths",
    ),
    (
        "cloud-style",
        "192.0.2.120",
        "high",
        "discovery, enumerates_resources, one_request_each, reads_access_rules, reads_secrets, zgrab",
    ),
    (
        "cloud-style",
        "192.0.2.121",
        "high",
        "discovery, enumerates_resources, many_paths, one_request_each, reads_access_rules, reads_internals, reads_secrets, remote_access, zgrab",
    ),
    (
        "cloud-style",
        "192.0.2.40",
        "low",
        "curl, one_request_each, web_paths",
    ),
    (
        "cloud-style",
        "192.0.2.6",
        "low",
        "curl, one_request_each, web_paths",
    ),
    (
        "cloud-style",
        "192.0.2.7",
        "medium",
        "curl, enumerates_resources, one_request_each, web_paths",
    ),
    (
        "cloud-style",
        "192.168.10.2",
        "informational",
        "curl, health_probe, one_path",
    ),
    (
        "cloud-style",
        "198.51.100.30",
        "informational",
        "discovery, kubectl, kubectl_without_credentials",
    ),
    (
        "cloud-style",
        "198.51.100.31",
        "informational",
        "discovery, kubectl, kubectl_without_credentials",
    ),
    (
        "cloud-style",
        "198.51.100.60",
        "high",
        "enumerates_resources, kubectl, one_request_each, reads_secrets",
    ),
    (
        "cloud-style",
        "198.51.100.61",
        "medium",
        "curl, discovery, reads_access_rules",
    ),
    (
        "cloud-style",
        "198.51.100.62",
        "high",
        "curl, discovery, enumerates_resources, one_request_each, reads_access_rules, reads_secrets",
    ),
    (
        "cloud-style",
        "198.51.100.7",
        "high",
        "curl, discovery, enumerates_resources, many_paths, one_request_each, reads_access_rules, reads_internals, reads_secrets, remote_access, web_paths",
    ),
    (
        "cloud-style",
        "198.51.100.80",
        "medium",
        "curl, no_user_agent, one_path, rotates_user_agents",
    ),
    (
        "cloud-style",
        "198.51.100.81",
        "high",
        "attempts_writes, curl, one_path, unusual_methods",
    ),
    (
        "cloud-style",
        "198.51.100.82",
        "high",
        "curl, enumerates_resources, one_request_each, path_traversal, reads_secrets",
    ),
    (
        "cloud-style",
        "2001:db8:bad:1::7",
        "high",
        "curl, enumerates_resources, many_paths, one_request_each, reads_secrets, web_paths",
    ),
    (
        "cloud-style",
        "203.0.113.10",
        "medium",
        "discovery, enumerates_resources, kube_hunter, one_request_each, python, reads_access_rules",
    ),
    (
        "cloud-style",
        "203.0.113.11",
        "high",
        "attempts_writes, discovery, enumerates_resources, kube_hunter, python, reads_access_rules",
    ),
    (
        "cloud-style",
        "203.0.113.66",
        "high",
        "curl, discovery, enumerates_resources, many_paths, one_request_each, reads_access_rules, reads_secrets",
    ),
    (
        "cloud-style",
        "203.0.113.67",
        "medium",
        "curl, discovery, enumerates_resources, one_request_each, reads_access_rules",
    ),
    (
        "cloud-style",
        "203.0.113.68",
        "low",
        "curl, one_request_each, web_paths",
    ),
    (
        "cloud-style",
        "203.0.113.70",
        "high",
        "curl, enumerates_resources, one_request_each, reads_access_rules, reads_secrets",
    ),
    ("cloud-style", "203.0.113.71", "low", "curl, one_path"),
    (
        "cloud-style",
        "203.0.113.72",
        "medium",
        "curl, enumerates_resources, one_request_each",
    ),
    (
        "cloud-style",
        "203.0.113.90",
        "high",
        "curl, enumerates_resources, reads_secrets",
    ),
    (
        "cloud-style",
        "203.0.113.91",
        "low",
        "curl, one_request_each, web_paths",
    ),
];

#[test]
fn recordings_are_judged_as_an_analyst_would() {
    let mut names: Vec<_> = RECORDED.iter().map(|(name, ..)| *name).collect();
    names.dedup();
    let mut wrong = String::new();
    for name in names {
        let lines = corpus::lines(name);
        let alerts = corpus::alerts(name);
        let expected = RECORDED.iter().filter(|(of, ..)| *of == name);
        let known: Vec<_> = expected.clone().map(|(_, address, ..)| *address).collect();
        let alerting: Vec<_> = alerts.keys().map(String::as_str).collect();
        assert_eq!(
            known, alerting,
            "{name}: each address that alerts is judged"
        );
        for (_, address, severity, labels) in expected {
            let mut tests = format!(
                "tests:\n  match:\n    - name: '{name} {address}'\n      expect: {{severity: \
                 {severity}, labels: [{labels}]}}\n      events:\n"
            );
            for line in lines.iter().filter(|line| is_from(line, address)) {
                writeln!(tests, "        - '{}'", line.replace('\'', "''")).unwrap();
            }
            let found = failures(&scanning(&tests));
            if !found.is_empty() {
                writeln!(wrong, "{found}").unwrap();
            }
        }
    }
    assert_eq!(wrong, "");
}

/// Whether the last of its sources is this address.
fn is_from(line: &str, address: &str) -> bool {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    let code = event["responseStatus"]["code"].as_u64();
    let sources = event["sourceIPs"].as_array();
    matches!(code, Some(401 | 403))
        && sources.is_some_and(|all| all.last().is_some_and(|last| last == address))
}
