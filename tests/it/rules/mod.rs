//! Rules as data: what each construct of Sigma matches, in JSON and in maps, behind the prefilter.

mod behaviour;
mod command;
mod correlations;
mod prefilter;
mod refused;

use std::sync::Arc;

use auditwatch::{
    detection::{limits::Limits, rule::Rule, screen::Screen},
    rules::{
        load::{self, Loaded},
        model::{Cost, Detection},
    },
};
use prost::Message as _;

use crate::{
    screen::carried,
    support::{
        json::{J, Noise},
        otlp,
    },
};

/// Loads the text of one file.
pub(crate) fn loaded(text: &str) -> Loaded {
    load::load_text("rule.yaml", text, &Rule::default()).unwrap_or_else(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        panic!("{}\n{text}", lines.join("\n"))
    })
}

/// A rule with these selections (indented by four) and this condition.
pub(crate) fn rule(selections: &str, condition: &str) -> String {
    format!(
        "title: T\nid: 11111111-2222-4333-8444-555555555555\nlevel: low\n\
         logsource: {{product: kubernetes, service: audit}}\ndetection:\n{selections}\n    \
         condition: {condition}\n"
    )
}

/// JSON as the tests mean it.
pub(crate) fn j(value: &serde_json::Value) -> J {
    match value {
        serde_json::Value::Null => J::Null,
        serde_json::Value::Bool(value) => J::Bool(*value),
        serde_json::Value::Number(number) => J::Num(number.to_string()),
        serde_json::Value::String(text) => J::Str(text.clone()),
        serde_json::Value::Array(list) => J::List(list.iter().map(j).collect()),
        serde_json::Value::Object(map) => J::Map(
            map.iter()
                .map(|(key, value)| (key.clone(), j(value)))
                .collect(),
        ),
    }
}

/// A request with one record that holds an event in its body.
fn request(event: &J, as_map: bool, noise: &mut Noise) -> Vec<u8> {
    let body = if as_map {
        carried(event, noise)
    } else {
        otlp::holding(otlp::Value::Text(event.spell(noise).into_bytes()))
    };
    let record = otlp::LogRecord {
        body,
        ..Default::default()
    };
    otlp::Request {
        resource_logs: vec![otlp::ResourceLogs {
            scope_logs: vec![otlp::ScopeLogs {
                log_records: vec![record],
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

/// How many hits an event makes behind the prefilter.
pub(crate) fn hits(detections: &[Arc<Detection>], event: &J, as_map: bool, seed: u64) -> usize {
    let screen = Screen::of(
        detections.to_vec(),
        Rule::default(),
        &Limits::default(),
        None,
    );
    let mut screening = screen.begin(1);
    screening
        .feed(&request(event, as_map, &mut Noise::new(seed)))
        .unwrap();
    screening.finish().unwrap().hits.len()
}

/// The event that tables change.
pub(crate) fn event(change: serde_json::Value) -> serde_json::Value {
    let mut event = serde_json::json!({
        "auditID": "a", "stage": "ResponseComplete", "verb": "create",
        "requestURI": "/api/v1/namespaces/default/pods?x=1&y=2",
        "user": {"username": "Jane", "groups": ["system:authenticated", "Dev"],
                 "extra": {"authentication.kubernetes.io/pod-name": ["web-0"]}},
        "sourceIPs": ["198.51.100.7", "10.0.0.1"], "userAgent": "kubectl/v1.32.4",
        "objectRef": {"resource": "pods", "namespace": "default", "name": "web"},
        "responseStatus": {"code": 201},
        "requestReceivedTimestamp": "2026-11-25T07:17:03.035818Z",
        "annotations": {"authorization.k8s.io/decision": "allow"},
        "requestObject": {"spec": {"hostNetwork": true, "replicas": 3, "nothing": null, "empty": [],
            "containers": [{"image": "nginx"}, {"image": "Ünï/Busybox:1.36",
            "securityContext": {"privileged": true}, "ports": [{"containerPort": 80}]}]}},
    });
    if let (Some(event), serde_json::Value::Object(change)) = (event.as_object_mut(), change) {
        event.extend(change);
    }
    event
}

/// Whether a rule matches, the same in each kind of body and spelling.
fn matches(text: &str, event: &serde_json::Value) -> bool {
    let detections = loaded(text).detections();
    let event = j(event);
    let plain = hits(&detections, &event, false, 0) > 0;
    for (as_map, seed) in [(true, 0), (true, 5), (false, 3), (false, 77), (false, 1234)] {
        assert_eq!(
            hits(&detections, &event, as_map, seed) > 0,
            plain,
            "as a map: {as_map}, seed {seed}\n{text}"
        );
    }
    plain
}

/// A field of a selection, and whether the event matches.
const FIELDS: &[(&str, bool)] = &[
    ("verb: create", true),
    ("verb: CREATE", true),
    ("verb|cased: CREATE", false),
    ("verb|cased: create", true),
    ("verb: [get, create]", true),
    ("verb: [get, list]", false),
    ("verb: cre*", true),
    ("verb: 'c?eate'", true),
    ("verb: '*'", true),
    ("stage|contains: responsec", true),
    ("stage|contains|cased: responsec", false),
    ("requestURI|startswith: /API/", true),
    ("requestURI|endswith: 'x=1&y=2'", true),
    ("requestURI|contains|all: ['x=1', 'y=2']", true),
    ("requestURI|contains|all: ['x=1', 'y=3']", false),
    ("requestURI|contains: ['x=9', 'y=2']", true),
    ("requestURI: '*\\?x=1*'", true),
    ("requestURI: '*\\*x=1*'", false),
    ("requestURI|re: '^/api/v\\d+/.*pods'", true),
    ("requestURI|re: '^/API/'", false),
    ("requestURI|re|i: '^/API/'", true),
    ("user.groups: dev", true),
    ("user.groups[]: dev", true),
    ("user.groups: [ops, DEV]", true),
    ("user.groups|contains|all: [system, dev]", true),
    ("sourceIPs|cidr: 10.0.0.0/8", true),
    ("sourceIPs|cidr: [192.168.0.0/16, '2001:db8::/32']", false),
    ("source.address: 10.0.0.1", true),
    ("source.address: 198.51.100.7", false),
    ("source.claimed: 198.51.100.7", true),
    ("source.prefix: 10.0.0.0/24", true),
    ("source.address|cidr: 10.0.0.0/24", true),
    ("responseStatus.code: 201", true),
    ("responseStatus.code: '201'", true),
    ("responseStatus.code: 200", false),
    ("responseStatus.code|gte: 201", true),
    ("responseStatus.code|gt: 201", false),
    ("responseStatus.code|lt: 300", true),
    ("responseStatus.code|lte: 200.5", false),
    ("responseStatus.code|neq: 403", true),
    ("responseStatus.code|neq: 201", false),
    ("verb|neq: [get, list]", true),
    ("objectRef.subresource: null", true),
    ("objectRef.subresource|exists: false", true),
    ("objectRef.name|exists: true", true),
    ("objectRef.name: null", false),
    ("objectRef.subresource: [null, status]", true),
    ("objectRef.subresource: ''", false),
    ("userAgent: ''", false),
    ("requestObject.spec.nothing: null", true),
    ("requestObject.spec.nothing|exists: true", false),
    ("requestObject.spec.empty: null", true),
    ("requestObject.spec.empty|exists: true", true),
    ("requestObject.spec.hostNetwork: true", true),
    ("requestObject.spec.hostNetwork: 'true'", true),
    ("requestObject.spec.hostNetwork: false", false),
    ("requestObject.spec.replicas: 3", true),
    ("requestObject.spec.replicas: '3'", true),
    ("requestObject.spec.replicas|gt: 2", true),
    ("requestObject.spec.containers[].image: nginx", true),
    (
        "requestObject.spec.containers.image|contains: busybox",
        true,
    ),
    (
        "requestObject.spec.containers.image|startswith: 'üNÏ/'",
        true,
    ),
    (
        "requestObject.spec.containers.image: 'ünï/busybox:1.36'",
        true,
    ),
    (
        "requestObject.spec.containers[].securityContext.privileged: true",
        true,
    ),
    (
        "requestObject.spec.containers[].ports[].containerPort: 80",
        true,
    ),
    ("requestObject.spec.containers: '*'", true),
    ("requestObject.spec.initContainers: '*'", false),
    ("annotations.authorization.k8s.io/decision: allow", true),
    (
        "user.extra.authentication.kubernetes.io/pod-name: web-*",
        true,
    ),
    ("objectRef.name|fieldref: verb", false),
    ("requestURI|contains|fieldref: objectRef.namespace", true),
    ("requestURI|fieldref|contains: objectRef.name", false),
    ("requestURI|endswith|fieldref: objectRef.name", false),
    ("user.username|fieldref: user.username", true),
    ("unknown.field: x", false),
];

#[test]
fn modifiers_and_values() {
    for (field, wanted) in FIELDS {
        let text = rule(&format!("    selection:\n        {field}"), "selection");
        assert_eq!(
            matches(&text, &event(serde_json::json!({}))),
            *wanted,
            "{field}"
        );
    }
}

#[test]
fn conditions() {
    let selections = "    a:\n        verb: create\n    b:\n        verb: get\n    sel_1:\n        \
                      objectRef.resource: pods\n    sel_2:\n        objectRef.resource: secrets\n    \
                      _hidden:\n        verb: nothing\n    list:\n        - verb: get\n        - \
                      objectRef.name: web\n          verb: create";
    for (condition, wanted) in [
        ("a", true),
        ("b", false),
        ("not b", true),
        ("a and not b", true),
        ("a and b or sel_1", true),
        ("a and (b or sel_2)", false),
        ("not (a and b)", true),
        ("1 of sel_*", true),
        ("all of sel_*", false),
        ("any of sel_*", true),
        ("2 of sel_*", false),
        ("3 of them", true),
        ("all of them", false),
        ("1 of them", true),
        ("a AND NOT b", true),
        ("list", true),
        ("not 1 of sel_2*", true),
        ("(((a)))", true),
    ] {
        let text = rule(selections, condition);
        assert_eq!(
            matches(&text, &event(serde_json::json!({}))),
            wanted,
            "{condition}"
        );
    }
}

/// Shapes of published rules load as they are.
#[test]
fn rules_as_they_are_published() {
    let text = r"title: Something In A Cluster
id: 0d933542-1f1f-420d-97d4-21b2c3c492aa
related:
    - id: 6ad91e31-53df-4826-bd27-0166171c8040
      type: similar
status: experimental
description: |
    Two lines
    of text.
references:
    - https://example.com/a
author: Somebody (@somebody)
date: 2024/03/26
modified: 2024-04-01
tags:
    - attack.privilege-escalation
    - attack.persistence
    - attack.t1552.007
    - cve.2024-1234
logsource:
    category: application
    product: kubernetes
    service: audit
detection:
    selection_object:
        objectRef.apiGroup: admissionregistration.k8s.io
        objectRef.resource:
            - mutatingwebhookconfigurations
            - validatingwebhookconfigurations
        verb:
            - create
            - replace
    selection_uri:
        requestURI|contains:
            - '%2fbin%2fsh'
            - '/bin/bash'
    selection_path:
        file_path:
            - '*-gcc-*'
            - '*g++*'
    capabilities:
        capabilities: '*' # Note
    filter_main:
        user.username|startswith: 'system:serviceaccount:'
    condition: 1 of selection_* and not 1 of filter_* or capabilities
falsepositives:
    - Unknown
level: medium
";
    let loaded = loaded(text);
    let [detection] = loaded.detections().try_into().unwrap();
    let annotations = &detection.annotations;
    assert_eq!(
        (annotations.score, annotations.tactic.as_str()),
        (40, "Privilege Escalation")
    );
    assert_eq!(annotations.techniques, ["T1552.007"]);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "rule.yaml:38:9: audit events of Kubernetes have no field \"file_path\"",
            "rule.yaml:42:9: audit events of Kubernetes have no field \"capabilities\"",
        ]
    );
    let uri = event(serde_json::json!({"requestURI": "/x?command=%2Fbin%2FSH"}));
    assert!(matches(text, &uri));
    assert!(!matches(text, &event(serde_json::json!({}))));
}

#[test]
fn costs_are_named() {
    let cost = |field: &str| {
        let text = rule(&format!("    selection:\n        {field}"), "selection");
        loaded(&text).detections().first().unwrap().cost()
    };
    assert_eq!(
        cost("objectRef.resource: secrets"),
        Cost::Prefilter {
            codes: vec![],
            literals: vec!["secrets".to_owned()]
        }
    );
    assert_eq!(
        cost("responseStatus.code: [401, 403]"),
        Cost::Prefilter {
            codes: vec![401, 403],
            literals: vec![]
        }
    );
    assert_eq!(cost("verb|re: '.'"), Cost::EveryEvent);
    assert_eq!(cost("verb: null"), Cost::EveryEvent);
}
