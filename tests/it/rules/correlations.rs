//! Correlations over a whole log, in any order and with repeats, against a naive model.

use auditwatch::detection::{
    json,
    rule_rows::{RuleRow, RuleRows},
};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{event, loaded};

const RULES: &str = "title: Read
id: 11111111-2222-4333-8444-555555555555
name: read
level: low
logsource: {product: kubernetes, service: audit}
detection: {sel: {verb: get}, condition: sel}
---
title: Write
id: 21111111-2222-4333-8444-555555555555
name: write
level: low
logsource: {product: kubernetes, service: audit}
detection: {sel: {verb: create}, condition: sel}
---
title: Counted
id: 31111111-2222-4333-8444-555555555555
level: high
correlation:
    TYPE
    rules: [read, write]
    group-by: [user.username]
    timespan: 10s
";

fn rules(kind: &str) -> String {
    RULES.replace("    TYPE\n", kind)
}

fn rows(rules: &str, events: &[serde_json::Value]) -> Vec<RuleRow> {
    let mut rows = RuleRows::new(loaded(rules).detections());
    for event in events {
        let text = event.to_string();
        let json::Document::Event(event) = json::read(&text, "requestReceivedTimestamp").unwrap()
        else {
            panic!("{text}");
        };
        rows.add_event(&event);
    }
    rows.finish()
}

#[derive(Clone, Debug)]
struct Request {
    id: u32,
    second: u32,
    user: &'static str,
    verb: &'static str,
    name: &'static str,
}

impl Request {
    fn event(&self, stage: &str) -> serde_json::Value {
        event(serde_json::json!({
            "auditID": format!("id-{}", self.id), "stage": stage, "verb": self.verb,
            "user": {"username": self.user},
            "objectRef": {"resource": "pods", "name": self.name},
            "requestReceivedTimestamp": format!("2026-11-25T07:{:02}:{:02}.000000Z", self.second / 60, self.second % 60),
        }))
    }
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let one = (
        0u32..60,
        select(vec!["a", "b"]),
        select(vec!["get", "create", "list"]),
        select(vec!["x", "y", "z"]),
    );
    vec(one, 0..14).prop_map(|all| {
        all.into_iter()
            .zip(0..)
            .map(|((second, user, verb, name), id)| Request {
                id,
                second,
                user,
                verb,
                name,
            })
            .collect()
    })
}

/// The groups with more than `most` in some window of ten seconds, and how many match in all.
fn naive(
    requests: &[Request],
    most: usize,
    value: fn(&Request) -> &str,
    distinct: bool,
) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for user in ["a", "b"] {
        let own: Vec<_> = requests
            .iter()
            .filter(|request| request.user == user && request.verb != "list")
            .collect();
        let is_above = own.iter().any(|end| {
            let within = own
                .iter()
                .filter(|request| request.second <= end.second && end.second - request.second < 10);
            let mut values: Vec<_> = within.map(|request| value(request)).collect();
            if distinct {
                values.sort_unstable();
                values.dedup();
            }
            values.len() > most
        });
        if is_above {
            found.push((user.to_owned(), own.len() as u64));
        }
    }
    found
}

fn found(rows: &[RuleRow]) -> Vec<(String, u64)> {
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| (row.group["user.username"].clone().unwrap(), row.count))
        .collect();
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn order_and_repeats_change_nothing(
        requests in requests(),
        order in any::<u64>(),
        repeated in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut events: Vec<_> = requests.iter().map(|request| request.event("ResponseComplete")).collect();
        let plain = events.clone();
        for index in repeated {
            if !requests.is_empty() {
                events.push(index.get(&requests).event("RequestReceived"));
            }
        }
        events.sort_by_key(|event| {
            let text = event.to_string();
            text.bytes().fold(order | 1, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)))
        });
        for (kind, most, value, distinct) in [
            ("    type: event_count\n    condition: {gt: 2}\n", 2, (|_| "") as fn(&Request) -> &str, false),
            ("    type: event_count\n    condition: {gte: 2}\n", 1, |_| "", false),
            ("    type: value_count\n    condition: {gt: 1, field: objectRef.name}\n", 1, |request| request.name, true),
            ("    type: temporal\n", 1, |request| request.verb, true),
        ] {
            let text = rules(kind);
            let rows = rows(&text, &events);
            prop_assert_eq!(found(&rows), naive(&requests, most, value, distinct), "{}", kind);
            prop_assert_eq!(rows, self::rows(&text, &plain), "{}", kind);
        }
    }
}

#[test]
fn windows_emissions_and_aliases() {
    let request = |id, second, verb| Request {
        id,
        second,
        user: "a",
        verb,
        name: "x",
    };
    let six: Vec<_> = (0..6)
        .map(|id| request(id, id * 5, "get").event("x"))
        .collect();
    let rule = "title: R\nid: 11111111-2222-4333-8444-555555555555\nlevel: low\n\
                logsource: {product: kubernetes, service: audit}\n\
                detection: {sel: {verb: get}, condition: sel}\n";
    let each = format!("{rule}custom: {{emit: each, group_by: [user.username]}}\n");
    let each = rows(&each, &six);
    assert_eq!(each.len(), 6);
    assert!(
        each.iter()
            .all(|row| row.count == 1 && row.audit_ids.len() == 1)
    );
    let tumbling = format!("{rule}custom: {{window: tumbling 10s, group_by: [user.username]}}\n");
    let tumbling = rows(&tumbling, &six);
    assert_eq!(
        tumbling.iter().map(|row| row.count).collect::<Vec<_>>(),
        [2, 2, 2]
    );
    assert!(tumbling.iter().all(|row| row.window_start.is_some()));
    // A group of its own by default: who, and from where.
    let default = rows(rule, &six);
    let names: Vec<_> = default[0].group.keys().collect();
    assert_eq!(names, ["source.address", "user.username"]);
    assert_eq!((default[0].count, default[0].level.as_str()), (6, "low"));
    // Redeliveries count when the rule says so.
    let twice: Vec<_> = six.iter().chain(&six).cloned().collect();
    let none = format!("{rule}custom: {{dedup: none}}\n");
    assert_eq!(rows(&none, &twice)[0].count, 12);
    assert_eq!(rows(rule, &twice)[0].count, 6);
    // One name for a different field in each rule.
    let alias = rules(
        "    type: temporal\n    aliases: {who: {read: user.username, write: objectRef.name}}\n",
    )
    .replace("group-by: [user.username]", "group-by: [who]");
    let mut write = request(9, 3, "create");
    (write.user, write.name) = ("other", "a");
    let found = rows(&alias, &[request(0, 0, "get").event("x"), write.event("x")]);
    assert_eq!(found[0].group["who"].as_deref(), Some("a"));
    assert_eq!(found[0].distinct, Some(2));
    // Rules that are counted make rows of their own only if the correlation says so.
    let generate = rules("    type: event_count\n    condition: {gt: 100}\n    generate: true\n");
    assert_eq!(rows(&generate, &six)[0].rule, "read");
    assert!(rows(&generate.replace("generate: true", "generate: false"), &six).is_empty());
}
