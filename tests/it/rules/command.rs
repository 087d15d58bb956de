//! `auditwatch rules` and `scan --rules` as commands.

use std::{fs, path::Path};

use serde_json::Value;

use super::{event, rule};
use crate::support::{auditwatch::run, corpus::path as corpus};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn shipped_rules_are_listed_checked_and_pass_their_tests() {
    let list = run(["rules", "list"]);
    assert_eq!(list.code, 0, "{}", list.err);
    let files = fs::read_dir(root().join("rules")).unwrap().count();
    // One each, two in that of anonymous successes, and a headline.
    assert_eq!(list.out.lines().count(), files + 2, "{}", list.out);
    let folder = root().join("rules");
    let folder = folder.to_str().unwrap();
    let check = run(["rules", "check", folder]);
    assert_eq!(check.code, 0, "{}", check.err);
    assert!(
        check
            .out
            .contains("by cluster, source.address, user.username")
    );
    let test = run(["rules", "test", folder]);
    assert_eq!(test.code, 0, "{}{}", test.out, test.err);
    assert!(test.out.contains(", 0 failed"), "{}", test.out);
    assert!(!test.out.contains("has no tests"), "{}", test.out);
}

#[test]
fn wrong_rules_and_failed_tests_have_exit_codes_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    fs::write(&wrong, "title: X\n").unwrap();
    let ran = run(["rules", "check", wrong.to_str().unwrap()]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("wrong.yaml:1:1: logsource is missing"),
        "{}",
        ran.err
    );
    let failing = folder.path().join("failing.yaml");
    let text = rule("    sel:\n        verb: get", "sel")
        + "custom:\n    tests:\n        match:\n            - {verb: list, user: {}, sourceIPs: []}\n";
    fs::write(&failing, text).unwrap();
    let ran = run(["rules", "test", failing.to_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains(
            "failing.yaml:12: T: the event does not match, but must: verb (line 7) decides"
        ),
        "{}",
        ran.err
    );
    let ran = run(["rules", "check", "secrets_unusual_principle"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("did you mean secrets_unusual_principal?"),
        "{}",
        ran.err
    );
}

#[test]
fn a_log_is_searched_with_rules() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rule.yaml");
    fs::write(
        &rules,
        rule("    sel:\n        objectRef.name: '<b>*'", "sel"),
    )
    .unwrap();
    let log = folder.path().join("log");
    let one = event(serde_json::json!({"objectRef": {"name": "<b>x"}}));
    fs::write(&log, format!("{one}\n{one}\n")).unwrap();
    let (rules, log) = (rules.to_str().unwrap(), log.to_str().unwrap());
    let ran = run([
        "scan",
        log,
        "--rules",
        rules,
        "--output",
        "ndjson",
        "--fail-on-findings",
    ]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let row: Value = serde_json::from_str(&ran.out).unwrap();
    let wanted = serde_json::json!({
        "rule_id": "11111111-2222-4333-8444-555555555555", "rule": "T", "title": "T", "level": "low",
        "group": {"source.address": "10.0.0.1", "user.username": "Jane"}, "count": 1,
        "alert_at": "2026-11-25T07:17:03.035818Z", "first_time": "2026-11-25T07:17:03.035818Z",
        "last_time": "2026-11-25T07:17:03.035818Z", "audit_ids": ["a"],
    });
    assert_eq!(row, wanted);
    let ran = run(["scan", log, "--rules", rules]);
    assert!(
        ran.out.contains("T (T, low)") && ran.out.contains("1 row"),
        "{}",
        ran.out
    );
    let ran = run(["scan", log, "--rules", rules, "--output", "html"]);
    assert!(ran.out.contains("user.username=Jane"), "{}", ran.out);
    let ran = run(["scan", log, "--rules", "nothing"]);
    assert_eq!(ran.code, 2);
    let ran = run(["scan", log, "--rules", rules, "--threshold", "3"]);
    assert_eq!(ran.code, 2);
}

/// The recordings hold what the shipped rules look for, and nothing that they should not find.
#[test]
fn shipped_rules_on_recordings() {
    let found = |name: &str, rule: &str| {
        let file = corpus(&format!("{name}.ndjson.gz"));
        let ran = run([
            "scan",
            file.to_str().unwrap(),
            "--rules",
            rule,
            "--output",
            "json",
        ]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let rows: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
        rows.len()
    };
    for (name, rule, wanted) in [
        ("scenario-1", "kubernetes_scanning", 24),
        ("scenario-1", "pod_exec", 1),
        ("scenario-1", "service_account_token", 1),
        ("scenario-1", "anonymous_success", 1),
        ("scenario-1", "impersonation", 0),
        ("scenario-1", "events_deleted", 0),
        ("kube-hunter", "kubernetes_scanning", 1),
        ("kube-hunter", "pod_exec", 0),
        ("anonymous-auth-off", "kubernetes_scanning", 0),
    ] {
        assert_eq!(found(name, rule), wanted, "{name} {rule}");
    }
}
