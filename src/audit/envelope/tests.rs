//! Envelopes, opened: the same event whatever is around it, in bounded time.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{glance::is_plain, *};
use crate::audit::{fields::AuditField, json as reader};

fn event() -> Value {
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "a-1",
        "stage": "ResponseComplete", "requestURI": "/api/v1/pods?a=\"}{\\é", "verb": "list",
        "user": {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
        "sourceIPs": ["192.0.2.1", "10.0.0.1"], "userAgent": "curl/8 \"x\"",
        "responseStatus": {"code": 403, "reason": "Forbidden", "message": "pods is forbidden: \"x\""},
        "requestReceivedTimestamp": "2026-11-25T10:00:00.000001Z",
        "stageTimestamp": "2026-11-25T10:00:00.000002Z",
        "annotations": {"authorization.k8s.io/decision": "forbid"},
    })
}

/// The fields of each event that is found, with its time and cluster.
type Seen = (Vec<Option<String>>, Option<u64>, Option<String>);

fn fields(text: &[u8]) -> Vec<Option<String>> {
    let event = reader::one(text, "requestReceivedTimestamp")
        .unwrap()
        .unwrap();
    assert!(event.is_audit_event(), "{}", String::from_utf8_lossy(text));
    let fields = [
        AuditField::Verb,
        AuditField::RequestUri,
        AuditField::UserAgent,
        AuditField::Username,
        AuditField::Code,
        AuditField::Message,
        AuditField::AuditId,
    ];
    let mut all: Vec<_> = fields
        .into_iter()
        .map(|field| event.field(field).text().map(Cow::into_owned))
        .collect();
    event.for_each_source(|source| all.push(Some(source.to_owned())));
    all.push(event.time().map(|time| time.to_string()));
    all
}

fn opened(text: &[u8]) -> (Vec<Seen>, Outcome) {
    let mut seen = Vec::new();
    let mut show = |found: &Found<'_>| {
        if let AnyValue::Text(text) = found.body {
            seen.push((fields(text), found.time, found.cluster.map(str::to_owned)));
        }
    };
    let mut opener = Opener::new(&mut show);
    opener.open_text(text, None);
    let outcome = opener.outcome;
    (seen, outcome)
}

fn pascal(value: &Value) -> Value {
    let name = |key: &str| {
        if key == "auditID" {
            return "AuditID".to_owned();
        }
        let (first, rest) = key.split_at(1);
        first.to_uppercase() + rest
    };
    let Value::Object(members) = value else {
        return value.clone();
    };
    let inner = |key: &str, value: &Value| match key {
        "user" | "responseStatus" => pascal(value),
        _ => value.clone(),
    };
    let members = members.iter();
    Value::Object(
        members
            .map(|(key, value)| (name(key), inner(key, value)))
            .collect(),
    )
}

fn flat(value: &Value) -> Value {
    let mut out = serde_json::Map::new();
    for (key, value) in value.as_object().unwrap() {
        match value {
            Value::Object(members) => {
                for (inner, value) in members {
                    match value {
                        Value::Array(list) => {
                            for (at, value) in list.iter().enumerate() {
                                out.insert(format!("{key}.{inner}.{at}"), value.clone());
                            }
                        }
                        _ => {
                            out.insert(format!("{key}.{inner}"), value.clone());
                        }
                    }
                }
            }
            Value::Array(list) => {
                for (at, value) in list.iter().enumerate() {
                    out.insert(format!("{key}.{at}"), value.clone());
                }
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(out)
}

/// Every envelope around an event, with its shape.
fn envelopes(event: &Value) -> Vec<(Shape, String)> {
    let text = event.to_string();
    let mut bare = event.clone();
    bare.as_object_mut().unwrap().remove("kind");
    let list = |items: Value| json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items});
    vec![
        (Shape::EventList, list(json!([event])).to_string()),
        (Shape::EventList, list(json!([bare])).to_string()),
        (Shape::EventList, json!({"Kind": "EventList", "Items": [pascal(event)]}).to_string()),
        (Shape::Respelled, pascal(event).to_string()),
        (Shape::List, json!([event]).to_string()),
        (Shape::Carrier, json!({"log": text, "stream": "stdout"}).to_string()),
        (Shape::Carrier, json!({"log": format!("{text}\n"), "time": "2026-11-25T10:00:01Z"}).to_string()),
        (Shape::Carrier, json!({"message": text, "level": "info", "user": "x"}).to_string()),
        (Shape::Carrier, json!({"event": event, "sourcetype": "kube:apiserver-audit"}).to_string()),
        (Shape::Carrier, json!({"MESSAGE": text, "_SYSTEMD_UNIT": "kubelet.service"}).to_string()),
        (Shape::Encoded, json!(text).to_string()),
        (Shape::Encoded, json!({"log": json!(text).to_string()}).to_string()),
        (
            Shape::CloudWatch,
            json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "/aws/eks/prod/cluster",
                "logStream": "kube-apiserver-audit-1", "subscriptionFilters": ["f"],
                "logEvents": [{"id": "1", "timestamp": 1_764_064_800_001_u64, "message": text}]})
            .to_string(),
        ),
        (Shape::Aks, json!({"records": [aks(json!({"log": text, "stream": "stdout"}))]}).to_string()),
        (Shape::Aks, json!({"records": [aks(json!({"log": event}))]}).to_string()),
        (Shape::Aks, aks(json!(json!({"log": text}).to_string())).to_string()),
        (Shape::Cri, format!("2026-11-25T10:00:00.123456789Z stdout F {text}")),
        (Shape::Prefix, format!("Nov 25 10:00:00 node kube-apiserver[1234]: {text}")),
        (Shape::Prefix, format!("2026-11-25T10:00:00+0000 node unit[1]: {text}")),
        (Shape::Prefix, format!("I1125 10:00:00.123456       1 audit.go:12] {text}")),
        (Shape::Prefix, format!("<110>1 2026-11-25T10:00:00Z node kube-apiserver 1 - [a b=\"]\"] {text}")),
        (Shape::Prefix, json!({"log": format!("Nov  5 10:00:00 node k3s[1]: {text}")}).to_string()),
        (Shape::Prefix, format!("2026-11-25T10:00:00Z stdout F I1125 10:00:00.123456 1 audit.go:12] {text}")),
        (Shape::Cri, format!("2026-11-25T10:00:00Z stdout F {}", json!({"log": text}))),
        (Shape::Flat, flat(event).to_string()),
    ]
}

fn aks(properties: impl Into<Value>) -> Value {
    let properties = properties.into();
    json!({"time": "2026-11-25T10:00:00.5Z", "category": "kube-audit", "operationName": "x",
        "resourceId": "/SUBSCRIPTIONS/1/RESOURCEGROUPS/g/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/PROD",
        "properties": properties})
}

#[test]
fn an_event_is_the_same_in_every_envelope() {
    let event = event();
    let alone = fields(event.to_string().as_bytes());
    for (shape, text) in envelopes(&event) {
        let (seen, outcome) = opened(text.as_bytes());
        assert_eq!(seen.len(), 1, "{text}");
        assert_eq!(seen[0].0, alone, "{text}");
        assert!(outcome.envelopes(shape) > 0, "{shape:?}: {text}");
        assert_eq!(outcome.all_ignored(), 0, "{text}");
        assert!(!is_plain(text.as_bytes()), "{text}");
        assert!(may_hold(text.as_bytes()), "{text}");
    }
    assert!(is_plain(event.to_string().as_bytes()));
}

#[test]
fn envelopes_say_time_and_cluster() {
    let event = event();
    for (text, time, cluster) in [
        (
            json!({"logGroup": "/aws/eks/prod/cluster", "logEvents": [{"timestamp": 1_000, "message": event.to_string()}]}),
            Some(1_000_000_000),
            Some("prod"),
        ),
        (
            json!({"records": [aks(json!({"log": event.to_string()}))]}),
            Some(1_795_600_800_500_000_000),
            Some("PROD"),
        ),
        (json!({"log": event.to_string()}), None, None),
    ] {
        let (seen, _) = opened(text.to_string().as_bytes());
        assert_eq!((seen[0].1, seen[0].2.as_deref()), (time, cluster), "{text}");
    }
}

#[test]
fn each_event_of_several_is_shown_with_its_own() {
    let other = |name: &str| {
        let mut event = event();
        event["auditID"] = json!(name);
        event
    };
    let records: Vec<_> = ["a", "b"]
        .map(|name| {
            let mut record = aks(json!({"log": other(name).to_string()}));
            record["resourceId"] = json!(format!("/x/managedClusters/{name}"));
            record
        })
        .into();
    let text = json!({"records": records}).to_string();
    let (seen, outcome) = opened(text.as_bytes());
    let names: Vec<_> = seen
        .iter()
        .map(|(fields, _, cluster)| (fields[6].as_deref(), cluster.as_deref()))
        .collect();
    assert_eq!(names, [(Some("a"), Some("a")), (Some("b"), Some("b"))]);
    assert_eq!(outcome.envelopes(Shape::Aks), 1);
}

/// An entry of Cloud Audit Logs.
fn entry(status: &Value, principal: &Value, method: &str, name: &str) -> Value {
    json!({
        "protoPayload": {
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog", "serviceName": "k8s.io",
            "authenticationInfo": principal, "methodName": method, "resourceName": name,
            "requestMetadata": {"callerIp": "203.0.113.9", "callerSuppliedUserAgent": "curl/8"},
            "status": status,
        },
        "insertId": "i-1", "operation": {"id": "op-1", "first": true, "last": true},
        "resource": {"type": "k8s_cluster", "labels": {"cluster_name": "c1", "location": "eu"}},
        "labels": {"authorization.k8s.io/decision": "forbid"},
        "timestamp": "2026-11-25T10:00:00.123456Z", "severity": "ERROR",
    })
}

#[test]
fn a_refused_request_of_gke_is_one() {
    let anonymous = json!({"principalEmail": "system:anonymous"});
    for (text, code, uri, verb, user) in [
        (
            entry(
                &json!({"code": 7, "message": "PERMISSION_DENIED"}),
                &anonymous,
                "io.k8s.core.v1.secrets.list",
                "core/v1/secrets",
            ),
            "403",
            "/api/v1/secrets",
            "list",
            Some("system:anonymous"),
        ),
        (
            entry(&json!({"code": 7}), &json!({}), "io.k8s.get", "openapi/v2"),
            "403",
            "/openapi/v2",
            "get",
            Some("system:anonymous"),
        ),
        (
            entry(
                &json!({"code": 16}),
                &json!({}),
                "io.k8s.apps.v1.deployments.list",
                "apps/v1/namespaces/d/deployments",
            ),
            "401",
            "/apis/apps/v1/namespaces/d/deployments",
            "list",
            None,
        ),
        (
            entry(
                &json!({}),
                &json!({"principalEmail": "a@example.com"}),
                "io.k8s.core.v1.pods.get",
                "core/v1/namespaces/d/pods/p",
            ),
            "200",
            "/api/v1/namespaces/d/pods/p",
            "get",
            Some("a@example.com"),
        ),
    ] {
        let (seen, outcome) = opened(text.to_string().as_bytes());
        let fields: Vec<_> = seen[0].0.iter().map(Option::as_deref).collect();
        assert_eq!((fields[0], fields[1]), (Some(verb), Some(uri)));
        assert_eq!((fields[3], fields[4]), (user, Some(code)));
        assert_eq!((fields[6], fields[7]), (Some("op-1"), Some("203.0.113.9")));
        assert_eq!(fields[8], Some("2026-11-25T10:00:00.123456Z"));
        assert_eq!(seen[0].2.as_deref(), Some("c1"));
        assert_eq!(outcome.envelopes(Shape::Gke), 1);
    }
    let other =
        json!({"protoPayload": {"serviceName": "container.googleapis.com", "methodName": "x"}});
    assert_eq!(
        opened(other.to_string().as_bytes())
            .1
            .ignored(Reason::Category),
        1
    );
}

/// Only a refused request is anonymous because no principal is shown. Identities of a workforce pool
/// have no address of mail.
#[test]
fn a_principal_that_gke_does_not_show_is_no_stranger() {
    let subject = "principal://pool/subject/alice";
    for (status, principal, user, code) in [
        (
            json!({"code": 7}),
            json!({"principalSubject": subject}),
            Some(subject),
            "403",
        ),
        (json!({}), json!({}), None, "200"),
    ] {
        let text = entry(
            &status,
            &principal,
            "io.k8s.core.v1.secrets.create",
            "core/v1/secrets",
        );
        let (seen, _) = opened(text.to_string().as_bytes());
        let fields: Vec<_> = seen[0].0.iter().map(Option::as_deref).collect();
        assert_eq!((fields[3], fields[4]), (user, Some(code)));
    }
}

#[test]
fn what_holds_no_event_is_counted_by_its_reason() {
    let mut other = aks(json!({"log": "I1125 leader"}));
    other["category"] = json!("kube-controller-manager");
    let mut deep = event().to_string();
    for _ in 0..12 {
        deep = json!({"log": deep}).to_string();
        if deep.len() > 1 << 20 {
            break;
        }
    }
    for (text, reason) in [
        (String::new(), Reason::Empty),
        ("\u{feff} ".to_owned(), Reason::Empty),
        ("I1125 listening".to_owned(), Reason::NoJson),
        ("{\"a\":".to_owned(), Reason::NoEvent),
        ("{}".to_owned(), Reason::NoEvent),
        ("[1]".to_owned(), Reason::NoEvent),
        ("7".to_owned(), Reason::NoJson),
        (json!({"log": "a line"}).to_string(), Reason::NoJson),
        (json!({"items": [{"metadata": {}}]}).to_string(), Reason::NoEvent),
        (
            json!({"messageType": "CONTROL_MESSAGE", "logEvents": [{"message": "CWL CONTROL MESSAGE"}]}).to_string(),
            Reason::Control,
        ),
        (json!({"records": [other]}).to_string(), Reason::Category),
        (deep, Reason::TooDeep),
        (json!({"log": "\\".repeat(MOST_DECODED)}).to_string(), Reason::TooLarge),
    ] {
        let (seen, outcome) = opened(text.as_bytes());
        assert!(seen.is_empty());
        let text: String = text.chars().take(80).collect();
        assert_eq!((outcome.ignored(reason), outcome.all_ignored()), (1, 1), "{text}");
    }
}

#[test]
fn hostile_records_cost_no_more_than_they_are_long() {
    for text in [
        "[".repeat(1 << 20) + &"]".repeat(1 << 20),
        "{\"log\":".repeat(100_000) + "1" + &"}".repeat(100_000),
        "{\"log\":[".repeat(100_000),
        format!("{{\"items\":[{}{{}}]}}", "{},".repeat(1 << 20)),
        format!(
            "{{\"items\":[{}]}}",
            vec!["{\"items\":[]}"; 1 << 17].join(",")
        ),
        format!("{{\"log\":\"{}", "\\\"".repeat(1 << 22)),
        format!("{{\"auditID\":\"{}", "\\u0041".repeat(1 << 20)),
        format!("{{\"auditID\":{}", "[".repeat(1 << 20)),
        format!("{{\"auditID\":1,{}", "\"a\":{\"b\":[".repeat(1 << 17)),
        "\"".repeat(1 << 20),
    ] {
        let (seen, _) = opened(text.as_bytes());
        assert!(seen.is_empty());
        let _plain = is_plain(text.as_bytes());
    }
}

#[test]
fn a_thousandfold_list_is_shown_one_by_one() {
    let event = event();
    let text = json!({"items": vec![event; 5000]}).to_string();
    let (seen, outcome) = opened(text.as_bytes());
    assert_eq!((seen.len(), outcome.events), (5000, 5000));
}

#[test]
fn a_cut_event_counts_when_enough_of_it_survives() {
    // As API servers order it: the annotations and times are last.
    let whole = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","requestURI":"/x","verb":"get","user":{"username":"u","groups":["g"]},"sourceIPs":["192.0.2.1"],"responseStatus":{"metadata":{},"code":403},"responseObject":{"kind":"Status","message":"aé\"{}"},"stageTimestamp":"2026-11-25T10:00:00Z"}"#;
    let enough = whole.find(",\"responseObject\"").unwrap();
    for end in 60..whole.len() {
        let text = &whole.as_bytes()[..end];
        let salvaged = salvage(text);
        assert_eq!(
            salvaged.is_some(),
            end >= enough,
            "{end}: {}",
            String::from_utf8_lossy(text)
        );
        if let Some(salvaged) = salvaged {
            let fields = fields(&salvaged);
            assert_eq!(fields[4].as_deref(), Some("403"));
            assert!(
                String::from_utf8_lossy(&salvaged).contains(r#""audit.k8s.io/truncated":"true""#)
            );
        } else {
            assert_eq!(opened(text).1.cut, u64::from(end < enough), "{end}");
        }
        // The same in an envelope that is cut with it.
        for outer in [
            json!({"log": whole}).to_string(),
            json!({"logEvents": [{"message": whole}]}).to_string(),
        ] {
            let quoted = serde_json::to_string(&String::from_utf8_lossy(text)).unwrap();
            let inner = quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            let at = outer.find("{\\\"kind").unwrap();
            let cut = format!("{}{inner}", outer.split_at(at).0);
            let (seen, _) = opened(cut.as_bytes());
            assert_eq!(seen.len(), usize::from(end >= enough), "{cut}");
        }
    }
    assert!(salvage(whole.as_bytes()).is_none());
}

/// Events that are told apart by their ids.
fn several(count: usize) -> Vec<Value> {
    let named = |at: usize| {
        let mut event = event();
        event["auditID"] = json!(format!("id-{at}"));
        event
    };
    (0..count).map(named).collect()
}

/// The mark is among the annotations of the event, whatever a client writes elsewhere and wherever
/// the cut is.
#[test]
fn a_cut_event_is_marked_beside_its_own_annotations() {
    let begin = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","requestURI":"/","verb":"get","user":{"username":"u"},"sourceIPs":["192.0.2.1"],"responseStatus":{"code":403}"#;
    for (rest, own) in [
        (r#","userAgent":"\"annotations\"","annot"#, None),
        (r#","requestObject":{"annotations":{"x":"y"},"#, None),
        (r#","annotations":{"#, None),
        (r#","annotations":{"a/b":"c","d"#, Some("c")),
    ] {
        let salvaged = salvage(format!("{begin}{rest}").as_bytes()).unwrap();
        // The last of duplicate keys counts here too.
        let event: Value = serde_json::from_slice(&salvaged).unwrap();
        let annotations = &event["annotations"];
        assert_eq!(annotations["audit.k8s.io/truncated"], "true", "{rest}");
        assert_eq!(annotations["a/b"].as_str(), own, "{rest}");
    }
}

#[test]
fn a_cut_envelope_has_all_its_whole_events() {
    let events = several(4);
    let texts = || events.iter().map(Value::to_string);
    let bare = |event: &Value| {
        let mut event = event.clone();
        let members = event.as_object_mut().unwrap();
        members.retain(|key, _| key != "kind" && key != "apiVersion");
        event
    };
    let items: Vec<_> = events.iter().map(bare).collect();
    let messages: Vec<_> = texts()
        .map(|text| json!({"id": "1", "message": text}))
        .collect();
    let records: Vec<_> = texts().map(|text| aks(json!({"log": text}))).collect();
    let objects: Vec<_> = events
        .iter()
        .map(|event| aks(json!({"log": event})))
        .collect();
    let carriers: Vec<_> = events.iter().map(|event| json!({"event": event})).collect();
    for envelope in [
        format!(
            r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{}}}"#,
            json!(items)
        ),
        json!(events).to_string(),
        json!({"logGroup": "/aws/eks/prod/cluster", "logEvents": messages}).to_string(),
        json!({"records": records}).to_string(),
        json!({"records": objects}).to_string(),
        json!({"items": carriers}).to_string(),
        texts().collect(),
    ] {
        // The verb is the last member of each.
        let ends = [r#""list"}"#, r#"\"list\"}"#];
        for end in 0..envelope.len() {
            let Some(text) = envelope.get(..end) else {
                continue;
            };
            let whole: usize = ends.iter().map(|end| text.matches(end).count()).sum();
            let (seen, outcome) = opened(text.as_bytes());
            assert!((whole..=whole + 1).contains(&seen.len()), "{text}");
            let cut = seen.len() - whole;
            assert!(outcome.cut >= cut as u64, "{text}");
            for (at, (fields, _, _)) in seen.iter().enumerate() {
                assert_eq!(fields[4].as_deref(), Some("403"), "{text}");
                assert_eq!(
                    fields[6].as_deref(),
                    Some(format!("id-{at}").as_str()),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn objects_in_a_row_are_opened_one_after_the_other() {
    let ids = |text: &str| -> Vec<_> {
        let (seen, _) = opened(text.as_bytes());
        seen.into_iter()
            .filter_map(|(fields, _, _)| fields[6].clone())
            .collect()
    };
    let events = several(3);
    let all = ["id-0", "id-1", "id-2"];
    let texts: Vec<_> = events.iter().map(Value::to_string).collect();
    for between in ["", " ", "\n", "\r\n\t", "{}", "{\"a\":1}"] {
        assert_eq!(ids(&texts.join(between)), all, "{between:?}");
    }
    let deliveries = |event: &Value| {
        json!({"messageType": "DATA_MESSAGE", "logEvents": [{"message": event.to_string()}]})
            .to_string()
    };
    let control = r#"{"messageType":"CONTROL_MESSAGE","logEvents":[]}"#;
    let row = events
        .iter()
        .map(deliveries)
        .collect::<Vec<_>>()
        .join(control);
    assert_eq!(ids(&row), all);
    assert_eq!(ids(&json!({"message": texts.concat()}).to_string()), all);
    assert_eq!(ids(&format!("2026-11-25T10:00:00Z stdout F {row}")), all);
    // What is behind them costs them nothing, and a value that is no object begins no row.
    assert_eq!(ids(&format!("{} x", texts.concat())), all);
    assert_eq!(
        ids(&format!("{}{{\"a\":x}}{}", texts[0], texts[1])),
        ["id-0"]
    );
    for first in ["1", "[12]", "\"a\"", "null"] {
        assert!(ids(&format!("{first} {}", texts[0])).is_empty(), "{first}");
    }
    assert!(is_row(texts.concat().as_bytes()));
    assert!(!is_row(texts[0].as_bytes()));
    let (seen, _) = opened("{}".repeat(1 << 20).as_bytes());
    assert!(seen.is_empty());
}

#[test]
fn text_of_other_logs_is_no_event() {
    let forged = event();
    let whole = format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1",{}"#,
        forged.to_string().strip_prefix('{').unwrap()
    );
    let open = format!("{},\"x\":\" 12ms end", whole.strip_suffix('}').unwrap());
    for text in [forged.to_string(), whole, open] {
        for line in [
            format!("not found, user agent {text}"),
            format!("GET /x 404 agent={text} 12ms"),
            format!("2026-11-25T10:00:00Z INFO agent: {text}"),
            format!("Nov 25 10:00:00 node nginx[12]: agent {text}"),
            format!("I1125 10:00:00.123456 1 a.go:12] agent {text}"),
            format!("<110>1 2026-11-25T10:00:00Z node nginx 12 - - agent {text}"),
            format!("[12] {text}"),
            format!("\"GET /x\" {text}"),
            format!("{{\"a\":1}} agent {text}"),
            format!("[info {text}"),
        ] {
            for text in [
                line.clone(),
                format!("2026-11-25T10:00:00Z stdout F {line}"),
                json!(line).to_string(),
                json!([line]).to_string(),
                json!({"level": "info", "msg": line}).to_string(),
                json!({"message": line, "log": line, "event": {"body": line}}).to_string(),
                json!({"log": json!({"msg": line}).to_string()}).to_string(),
                json!({"items": [line]}).to_string(),
                json!({"logEvents": [{"message": line}]}).to_string(),
                json!({"records": [aks(json!({"log": line}))]}).to_string(),
            ] {
                assert!(opened(text.as_bytes()).0.is_empty(), "{text}");
                // Nor does it become one when its end is lost.
                for end in [text.len() - 1, text.len() - 2, text.len() - 10] {
                    let cut = text.as_bytes().get(..end).unwrap();
                    assert!(opened(cut).0.is_empty(), "{}", String::from_utf8_lossy(cut));
                }
            }
        }
    }
}

#[test]
fn text_inside_an_event_is_no_event() {
    let inner = event().to_string();
    let mut outer = event();
    outer["sourceIPs"] = json!(["198.51.100.1"]);
    for (key, value) in [
        ("userAgent", json!(inner)),
        ("user", json!({"username": inner, "log": inner})),
        (
            "requestObject",
            json!({"message": inner, "items": [event()], "log": event()}),
        ),
        ("annotations", json!({"log": inner})),
    ] {
        let mut outer = outer.clone();
        outer[key] = value;
        let texts = [
            outer.to_string(),
            json!([outer]).to_string(),
            json!({"items": [outer]}).to_string(),
            json!({"log": outer.to_string()}).to_string(),
        ];
        for text in texts {
            for end in (0..=text.len()).rev().step_by(7) {
                let Some(text) = text.get(..end) else {
                    continue;
                };
                for (fields, _, _) in opened(text.as_bytes()).0 {
                    assert_eq!(fields[7].as_deref(), Some("198.51.100.1"), "{text}");
                }
            }
        }
    }
}

#[test]
fn an_id_beside_an_envelope_is_not_an_event() {
    let text = event().to_string();
    for key in survey::CARRIERS {
        let key = std::str::from_utf8(key).unwrap();
        for envelope in [
            format!(r#"{{"auditID":"a-1","{key}":{}}}"#, json!(text)),
            format!(r#"{{"{key}":{},"auditID":"a-1"}}"#, json!(text)),
            format!(
                r#"{{"auditID":"a-1","verb":"list","{key}":{}}}"#,
                json!(text)
            ),
            format!(r#"{{"auditID":"a-1","user":"x","{key}":{}}}"#, json!(text)),
        ] {
            assert!(!is_plain(envelope.as_bytes()), "{envelope}");
            assert_eq!(opened(envelope.as_bytes()).0.len(), 1, "{envelope}");
        }
    }
    // An event without a response, and without a user.
    assert!(is_plain(
        br#"{"auditID":"a","stage":"Panic","requestURI":"/x","verb":"get"}"#
    ));
}

#[test]
fn parts_of_a_line_are_put_together() {
    let text = event().to_string();
    let mut parts = Parts::default();
    let (a, b) = text.split_at(300);
    let (b, c) = b.split_at(30);
    let line =
        |tag: &str, stream: &str, text: &str| format!("2026-11-25T10:00:00Z {stream} {tag} {text}");
    let mut take =
        |hash, text: &str| parts.take(certain(hash), &split(text.as_bytes()).unwrap(), || hash);
    assert_eq!(take(1, &line("P", "stdout", a)), Joined::Kept);
    assert_eq!(
        take(1, &line("P", "stderr", "no audit event")),
        Joined::Alone
    );
    assert_eq!(take(2, &line("P", "stdout", a)), Joined::Kept);
    assert_eq!(take(1, &line("P", "stdout", b)), Joined::Kept);
    assert_eq!(take(2, &line("F", "stderr", "x")), Joined::Alone);
    // The rest of a line of no use is passed over, whatever it looks like.
    assert_eq!(take(1, &line("F", "stderr", &text)), Joined::Kept);
    assert_eq!(
        take(1, &line("F", "stdout", c)),
        Joined::Line(text.clone().into_bytes())
    );
    let rest: Vec<_> = parts.rest().collect();
    assert_eq!(rest, [(2, a.as_bytes().to_vec())]);
    assert!(parts.is_empty());
    assert_eq!(parts.given_up(), 0);
}

fn certain(hash: u64) -> Source {
    Source {
        hash,
        is_certain: true,
    }
}

/// The tail of a line of another log may begin as an event does: a stranger chooses what is in it and
/// how long it is.
#[test]
fn the_tail_of_another_log_is_no_event() {
    let forged = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","verb":"get"}"#;
    for (is_certain, wanted) in [(true, Joined::Kept), (false, Joined::Alone)] {
        let mut parts = Parts::default();
        let source = Source {
            hash: 1,
            is_certain,
        };
        let mut take = |tag: &str, text: &str| {
            let line = format!("2026-11-25T10:00:00Z stdout {tag} {text}");
            parts.take(source, &split(line.as_bytes()).unwrap(), || ())
        };
        assert_eq!(take("P", "10.0.0.1 GET /xxxx agent="), Joined::Alone);
        assert_eq!(take("P", forged), Joined::Kept);
        assert_eq!(take("F", forged), wanted);
        // The line has ended, where it is certain which.
        assert_eq!(take("F", forged), Joined::Alone);
    }
}

#[test]
fn a_part_is_never_put_to_another_line() {
    let text = format!(
        r#"{{"kind":"Event","auditID":"a","requestURI":"/{}"}}"#,
        "x".repeat(400)
    );
    let (a, b) = text.split_at(200);
    let line = |tag: &str, text: &str| format!("2026-11-25T10:00:00Z stdout {tag} {text}");
    let long = "x".repeat(5 << 20);
    let whole = Joined::Line(text.clone().into_bytes());
    for (between, end, wanted, given_up) in [
        // Lines that are of no container.
        (
            "2026-11-25T10:00:00Z host app[1]: {\"x\":1}",
            b,
            whole.clone(),
            0,
        ),
        (
            "Nov 25 10:00:00 host app[1]: {\"x\":1}",
            b,
            whole.clone(),
            0,
        ),
        // A whole event of another container.
        (&line("F", &text), b, whole, 0),
        // The beginning of one: the end may be of either.
        (&line("P", a), b, Joined::Kept, 1),
        // A part that is too long, or an end.
        (&line("P", &long), b, Joined::Kept, 1),
        ("", &long, Joined::Kept, 1),
    ] {
        let mut parts = Parts::default();
        let mut take = |text: &str| parts.take(certain(1), &split(text.as_bytes()).unwrap(), || ());
        assert_eq!(take(&line("P", a)), Joined::Kept);
        if !between.is_empty() {
            take(between);
        }
        assert_eq!(take(&line("F", end)), wanted);
        assert_eq!((parts.given_up(), parts.heap_bytes()), (given_up, 0));
        assert_eq!(parts.rest().count(), 0);
    }
}

proptest! {
    /// Whatever comes, it is read in bounds, and a glance never says of an envelope that it is plain.
    #[test]
    fn any_bytes_are_opened(text in vec(any::<u8>(), 0..300)) {
        let _opened = opened_any(&text);
        let _plain = (is_plain(&text), may_hold(&text), salvage(&text));
    }

    #[test]
    fn a_piece_of_an_envelope_is_opened(which in 0usize..25, from in 0usize..400, to in 0usize..3000) {
        let (_, text) = envelopes(&event()).swap_remove(which);
        let to = to.min(text.len());
        let from = from.min(to);
        let _opened = opened_any(&text.as_bytes()[from..to]);
    }
}

fn opened_any(text: &[u8]) -> Outcome {
    let mut show = |found: &Found<'_>| {
        let AnyValue::Text(text) = found.body else {
            panic!("{found:?}");
        };
        reader::one(text, "t").unwrap();
    };
    let mut opener = Opener::new(&mut show);
    opener.open_text(text, None);
    opener.outcome
}
