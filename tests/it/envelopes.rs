//! Events inside envelopes: screened as if they had come alone, by the screen and by the real binary.

use auditwatch::detection::{
    envelope::{Reason, Shape},
    rule::Rule,
    screen::{Screen, Screened},
    selector::Pattern,
};
use proptest::{prelude::*, sample::select};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{
    auditwatch::run,
    otlp::{
        self, ArrayValue, KeyValueList, LogRecord, Request, Resource, ResourceLogs, ScopeLogs,
        holding, pair,
    },
    props::cases,
};

const RECEIVED: u64 = 1_795_600_900_000_000_000;

fn event(second: u32, source: &str) -> Value {
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": format!("id-{second}"),
        "stage": "ResponseComplete", "requestURI": format!("/api/v1/secrets?limit={second}&a=\"é"), "verb": "list",
        "user": {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
        "sourceIPs": [source], "userAgent": "curl/8 (\"x\")",
        "responseStatus": {"metadata": {}, "status": "Failure", "message": "forbidden: \"x\"", "reason": "Forbidden", "code": 403},
        "requestReceivedTimestamp": format!("2026-11-25T10:{:02}:{:02}.000001Z", second / 60, second % 60),
        "stageTimestamp": format!("2026-11-25T10:{:02}:{:02}.000002Z", second / 60, second % 60),
        "annotations": {"authorization.k8s.io/decision": "forbid"},
    })
}

/// An envelope around events, or around each of them.
type Wrap = (&'static str, fn(&[Value]) -> Vec<Value>);

/// Bodies of records, as text or as JSON. What is a JSON text is the text itself.
const WRAPS: &[Wrap] = &[
    ("plain", |events| each(events, Value::to_string)),
    ("mark", |events| {
        each(events, |event| format!("\u{feff}{event}"))
    }),
    ("event_list", |events| {
        let mut items = events.to_vec();
        for item in &mut items {
            item.as_object_mut()
                .unwrap()
                .retain(|key, _| key != "kind" && key != "apiVersion");
        }
        vec![
            json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}),
        ]
    }),
    ("list", |events| vec![json!(events)]),
    ("log", |events| {
        each_object(
            events,
            |event| json!({"log": event.to_string(), "stream": "stdout"}),
        )
    }),
    ("message", |events| {
        each_object(
            events,
            |event| json!({"message": event.to_string(), "level": "info"}),
        )
    }),
    ("event", |events| {
        each_object(events, |event| json!({"event": event, "host": "a"}))
    }),
    ("MESSAGE", |events| {
        each_object(events, |event| json!({"MESSAGE": event.to_string()}))
    }),
    ("string", |events| {
        each(events, |event| json!(event.to_string()).to_string())
    }),
    ("string in log", |events| {
        each_object(
            events,
            |event| json!({"log": json!(event.to_string()).to_string()}),
        )
    }),
    ("cloudwatch", |events| {
        let lines: Vec<_> = events
            .iter()
            .map(|event| json!({"id": "1", "timestamp": 1, "message": event.to_string()}))
            .collect();
        vec![json!({"messageType": "DATA_MESSAGE", "logGroup": "/other", "logEvents": lines})]
    }),
    ("aks", |events| {
        let records: Vec<_> = events
            .iter()
            .map(
                |event| json!({"category": "kube-audit", "properties": {"log": event.to_string()}}),
            )
            .collect();
        vec![json!({"records": records})]
    }),
    ("aks objects", |events| {
        let records: Vec<_> = events
            .iter()
            .map(|event| json!({"category": "kube-audit-admin", "properties": {"log": event}}))
            .collect();
        vec![json!({"records": records})]
    }),
    ("cri", |events| {
        each(events, |event| {
            format!("2026-11-25T10:00:00.123456789Z stdout F {event}")
        })
    }),
    ("cri in parts", |events| {
        let mut lines = Vec::new();
        for event in events {
            let text = event.to_string();
            let at = text.floor_char_boundary(text.len() / 2);
            let (first, last) = text.split_at(at);
            lines.push(json!(format!("2026-11-25T10:00:00Z stdout P {first}")));
            lines.push(json!(format!("2026-11-25T10:00:00Z stdout F {last}")));
        }
        lines
    }),
    ("journald", |events| {
        each(events, |event| {
            format!("Nov 25 10:00:00 node kube-apiserver[12]: {event}")
        })
    }),
    ("klog", |events| {
        each(events, |event| {
            format!("I1125 10:00:00.000000       1 audit.go:12] {event}")
        })
    }),
    ("row", |events| vec![json!(each_text(events).concat())]),
    ("row in the usual order", |events| {
        let usual = |event: String| {
            let members = event.strip_prefix('{').unwrap();
            format!(r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1",{members}"#)
        };
        let texts: Vec<_> = each_text(events).into_iter().map(usual).collect();
        vec![json!(texts.concat())]
    }),
    ("row of deliveries", |events| {
        let delivery = |text: String| json!({"logEvents": [{"message": text}]}).to_string();
        let texts: Vec<_> = each_text(events).into_iter().map(delivery).collect();
        vec![json!(texts.concat())]
    }),
    ("id beside", |events| {
        each_object(
            events,
            |event| json!({"auditID": event["auditID"], "log": event.to_string(), "user": "x"}),
        )
    }),
    ("flat", |events| {
        each_object(events, |event| {
            let mut flat = serde_json::Map::new();
            for (key, value) in event.as_object().unwrap() {
                match value {
                    Value::Object(inner) if key == "user" || key == "responseStatus" => {
                        for (inner, value) in inner {
                            flat.insert(format!("{key}.{inner}"), value.clone());
                        }
                    }
                    _ => drop(flat.insert(key.clone(), value.clone())),
                }
            }
            Value::Object(flat)
        })
    }),
];

fn each(events: &[Value], text: impl Fn(&Value) -> String) -> Vec<Value> {
    events.iter().map(|event| json!(text(event))).collect()
}

fn each_text(events: &[Value]) -> Vec<String> {
    events.iter().map(Value::to_string).collect()
}

fn each_object(events: &[Value], wrap: impl Fn(&Value) -> Value) -> Vec<Value> {
    events.iter().map(wrap).collect()
}

/// How a body is carried.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Carried {
    Text,
    Bytes,
    /// As a map, if it is an object.
    Map,
    /// As attributes, if it is an object.
    Attributes,
}

fn value(from: &Value) -> otlp::Value {
    match from {
        Value::Null => unreachable!("no event has one"),
        Value::Bool(value) => otlp::Value::Bool(*value),
        Value::Number(number) => otlp::Value::Double(number.as_f64().unwrap()),
        Value::String(text) => otlp::Value::Text(text.clone().into_bytes()),
        Value::Array(list) => otlp::Value::Array(ArrayValue {
            values: list.iter().filter_map(|one| holding(value(one))).collect(),
        }),
        Value::Object(members) => otlp::Value::Map(KeyValueList {
            values: members
                .iter()
                .map(|(key, one)| pair(key, value(one)))
                .collect(),
        }),
    }
}

fn record(body: &Value, carried: Carried) -> LogRecord {
    let mut record = LogRecord {
        observed_time_unix_nano: RECEIVED,
        ..LogRecord::default()
    };
    let text = match body {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match (carried, body) {
        (Carried::Map, Value::Object(_)) => record.body = holding(value(body)),
        (Carried::Attributes, Value::Object(members)) => {
            record.attributes = members
                .iter()
                .map(|(key, one)| pair(key, value(one)))
                .collect();
        }
        (Carried::Bytes, _) => record.body = holding(otlp::Value::Bytes(text.into_bytes())),
        _ => record.body = holding(otlp::Value::Text(text.into_bytes())),
    }
    record
}

fn request(records: Vec<LogRecord>, cluster: Option<&str>) -> Vec<u8> {
    let resource = cluster.map(|name| Resource {
        attributes: vec![pair("k8s.cluster.name", value(&json!(name)))],
        ..Resource::default()
    });
    Request {
        resource_logs: vec![ResourceLogs {
            resource,
            scope_logs: vec![ScopeLogs {
                log_records: records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

fn screened(records: Vec<LogRecord>) -> Screened {
    screened_in(&Screen::new(Rule::default(), 64, None), records, Some("c"))
}

fn screened_in(screen: &Screen, records: Vec<LogRecord>, cluster: Option<&str>) -> Screened {
    let mut screening = screen.begin(RECEIVED);
    screening.feed(&request(records, cluster)).unwrap();
    screening.finish().unwrap()
}

#[test]
fn an_event_has_the_same_hits_in_every_envelope_however_it_is_carried() {
    let events: Vec<_> = (0..7).map(|second| event(second, "192.0.2.7")).collect();
    let alone = screened(
        events
            .iter()
            .map(|event| record(&json!(event.to_string()), Carried::Text))
            .collect(),
    );
    assert_eq!(alone.hits.len(), 7);
    for (name, wrap) in WRAPS {
        for carried in [
            Carried::Text,
            Carried::Bytes,
            Carried::Map,
            Carried::Attributes,
        ] {
            let bodies = wrap(&events);
            let wrapped = screened(bodies.iter().map(|body| record(body, carried)).collect());
            assert_eq!(wrapped.hits, alone.hits, "{name} {carried:?}");
            let (activities, wanted): (Vec<_>, Vec<_>) = (
                wrapped.activity.iter().collect(),
                alone.activity.iter().collect(),
            );
            assert_eq!(activities[0].0, wanted[0].0);
            assert_eq!(
                activities[0].1.events, wanted[0].1.events,
                "{name} {carried:?}"
            );
            assert_eq!(activities[0].1.hits, 7, "{name} {carried:?}");
            assert_eq!(
                (wrapped.unreadable, wrapped.opened.all_ignored()),
                (0, 0),
                "{name} {carried:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    /// Whatever is between them, whatever the code and the user.
    #[test]
    fn neighbours_cost_an_event_nothing(
        which in 0..WRAPS.len(),
        carried in select(vec![Carried::Text, Carried::Bytes, Carried::Map, Carried::Attributes]),
        codes in prop::collection::vec(select(vec![200, 401, 403, 404]), 1..8),
        junk in prop::collection::vec(("\\PC{0,40}", 0usize..9), 0..6),
        junk_json in prop::collection::vec(select(vec!["{", "{}", "[1]", "\"x\"", "{\"log\":\"{\\\"verb\\\"\"}", "null", "{\"items\":[{}]}"]), 0..4),
    ) {
        let events: Vec<_> = codes.iter().zip(0..).map(|(code, second)| {
            let mut event = event(second, "198.51.100.3");
            event["responseStatus"]["code"] = json!(code);
            if *code == 401 {
                event["user"] = json!({});
            }
            event
        }).collect();
        let alone = screened(events.iter().map(|event| record(&json!(event.to_string()), Carried::Text)).collect());
        let (_, wrap) = WRAPS[which];
        let mut records: Vec<_> = wrap(&events).iter().map(|body| record(body, carried)).collect();
        for (text, at) in junk {
            let at = at.min(records.len());
            records.insert(at, record(&json!(text), Carried::Text));
        }
        for text in junk_json {
            records.push(record(&json!(text), Carried::Text));
        }
        prop_assert_eq!(screened(records).hits, alone.hits);
    }
}

#[test]
fn a_cluster_is_that_of_the_record_then_the_resource_then_the_envelope_then_the_configuration() {
    let screen = Screen::new(Rule::default(), 64, Some("configured"));
    let body = event(1, "192.0.2.7").to_string();
    let enveloped =
        json!({"logGroup": "/aws/eks/enveloped/cluster", "logEvents": [{"message": body}]});
    let named = |body: &Value| {
        let mut record = record(body, Carried::Text);
        record.attributes = vec![pair("k8s.cluster.name", value(&json!("own")))];
        record
    };
    for (record, resource, wanted) in [
        (named(&json!(body)), Some("resource"), "own"),
        (named(&enveloped), Some("resource"), "own"),
        (
            record(&enveloped, Carried::Text),
            Some("resource"),
            "resource",
        ),
        (record(&enveloped, Carried::Text), None, "enveloped"),
        (
            record(&json!(body), Carried::Text),
            Some("resource"),
            "resource",
        ),
        (record(&json!(body), Carried::Text), None, "configured"),
    ] {
        let screened = screened_in(&screen, vec![record], resource);
        assert_eq!(&*screened.hits[0].cluster, wanted);
        let hits: Vec<_> = screened
            .activity
            .iter()
            .filter(|(_, one)| one.hits > 0)
            .collect();
        assert_eq!(
            (hits.len(), &**hits[0].0, hits[0].1.events),
            (1, wanted, 1),
            "{wanted}"
        );
    }
}

#[test]
fn an_id_among_the_attributes_does_not_hide_the_body() {
    let text = event(1, "192.0.2.7").to_string();
    for body in [
        json!({"log": text}),
        json!({"auditID": "id-1", "log": text}),
    ] {
        for carried in [Carried::Text, Carried::Map] {
            let mut record = record(&body, carried);
            record.attributes = vec![
                pair("auditID", value(&json!("id-1"))),
                pair("verb", value(&json!("list"))),
                pair("user", value(&json!("x"))),
            ];
            let screened = screened(vec![record]);
            assert_eq!(screened.hits.len(), 1, "{body} {carried:?}");
        }
    }
}

#[test]
fn a_cut_envelope_has_the_hits_of_its_whole_events() {
    let events: Vec<_> = (0..5).map(|second| event(second, "192.0.2.7")).collect();
    for (name, wrap) in WRAPS {
        if ![
            "event_list",
            "list",
            "cloudwatch",
            "aks",
            "aks objects",
            "row",
        ]
        .contains(name)
        {
            continue;
        }
        let body = match &wrap(&events)[0] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let cut = body.floor_char_boundary(body.len() - 500);
        let record = record(&json!(body.split_at(cut).0), Carried::Text);
        assert_eq!(screened(vec![record]).hits.len(), 4, "{name}");
    }
}

#[test]
fn text_of_other_logs_has_no_hits() {
    let forged = event(1, "203.0.113.9").to_string();
    let open = format!("{},\"x\":\" 12ms end", forged.strip_suffix('}').unwrap());
    for text in [forged, open] {
        let line = format!("GET /x 404 agent={text} 12ms");
        for body in [
            json!(line),
            json!(format!("2026-11-25T10:00:00Z stdout F {line}")),
            json!({"level": "info", "msg": line}),
            json!({"level": "info", "message": line}),
            json!({"log": json!({"msg": line}).to_string()}),
        ] {
            for carried in [Carried::Text, Carried::Map, Carried::Attributes] {
                let screened = screened(vec![record(&body, carried)]);
                assert!(screened.hits.is_empty(), "{body} {carried:?}");
            }
        }
    }
}

#[test]
fn what_is_ignored_is_counted_by_its_reason_and_described() {
    let other = json!({"records": [{"category": "kube-scheduler", "properties": {"log": "x"}}]});
    let control = json!({"messageType": "CONTROL_MESSAGE", "logEvents": [{"message": "x"}]});
    let records = [
        json!("a line"),
        json!("{\"a\": 1}"),
        other,
        control,
        json!(""),
        json!(event(1, "192.0.2.1").to_string()),
    ];
    let screened = screened(
        records
            .iter()
            .map(|body| record(body, Carried::Text))
            .collect(),
    );
    let opened = &screened.opened;
    for reason in [
        Reason::NoJson,
        Reason::NoEvent,
        Reason::Category,
        Reason::Control,
        Reason::Empty,
    ] {
        assert_eq!(opened.ignored(reason), 1, "{reason:?}");
    }
    assert_eq!(opened.all_ignored(), 5);
    assert_eq!(screened.hits.len(), 1);
    assert_eq!(screened.ignored.to_string(), "100% text that is not JSON");
    assert!(Shape::ALL.iter().all(|shape| opened.envelopes(*shape) == 0));
}

/// What is written anew may be several times as long as it came.
#[test]
fn no_event_is_written_anew_that_is_longer_than_is_decoded() {
    let pascal = |rest: Value| {
        json!({"RequestURI": "/x", "Verb": "get", "User": {"Username": "u"}, "SourceIPs": ["192.0.2.1"],
            "ResponseStatus": {"Code": 403}, "Rest": rest})
    };
    let flat = |rest: Value| {
        json!({"requestURI": "/x", "verb": "get", "user.username": "u", "sourceIPs.0": "192.0.2.1",
            "responseStatus.code": 403, "rest": rest})
    };
    let sources = |text: String| {
        json!({"requestURI": "/x", "verb": "get", "user.username": "u", "sourceIPs": "192.0.2.1",
            "sourceIPs.0": text, "responseStatus.code": 403})
    };
    let gke = |rest: Value| {
        json!({"protoPayload": {"serviceName": "k8s.io", "methodName": "io.k8s.core.v1.secrets.list",
            "resourceName": "core/v1/secrets", "status": {"code": 7},
            "requestMetadata": {"callerIp": "192.0.2.1"}}, "labels": {"a": rest}})
    };
    let long = json!("\u{1}".repeat(3 << 20));
    let short = json!("\u{1}".repeat(1 << 10));
    for (body, carried, events) in [
        (pascal(short.clone()), Carried::Map, 1),
        (pascal(json!(["x", long])), Carried::Map, 0),
        (flat(short.clone()), Carried::Map, 1),
        (flat(json!({"x": long})), Carried::Map, 0),
        (
            sources(format!("[\"{}\"]", "\u{1}".repeat(10))),
            Carried::Map,
            1,
        ),
        (
            sources(format!("[\"{}\"]", "x".repeat(17 << 20))),
            Carried::Text,
            0,
        ),
        (gke(short), Carried::Map, 1),
        (gke(long), Carried::Map, 0),
    ] {
        let opened = screened(vec![record(&body, carried)]).opened;
        let wanted = (events, 1 - events);
        assert_eq!((opened.events, opened.ignored(Reason::TooLarge)), wanted);
    }
}

#[test]
fn a_string_that_is_no_utf8_is_not_decoded_to_more_than_is_allowed() {
    for (bytes, reason) in [(1 << 10, Reason::NoEvent), (6 << 20, Reason::TooLarge)] {
        // Each of these bytes reads as a character of three.
        let inner = [br#"{\"verb\":\""#, &b"\xff".repeat(bytes)[..], br#"\"}"#].concat();
        let text = [br#"{"log":""#, &inner[..], br#""}"#].concat();
        let record = LogRecord {
            body: holding(otlp::Value::Bytes(text)),
            ..LogRecord::default()
        };
        let opened = screened(vec![record]).opened;
        assert_eq!(
            (opened.ignored(reason), opened.all_ignored()),
            (1, 1),
            "{bytes}"
        );
    }
}

#[test]
fn an_event_that_was_cut_behind_more_than_is_decoded_is_counted_and_not_copied() {
    for (bytes, hits) in [(1 << 10, 1), (17 << 20, 0)] {
        let text = format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","requestURI":"/x","verb":"get","user":{{"username":"system:anonymous","groups":["system:unauthenticated"]}},"sourceIPs":["192.0.2.1"],"responseStatus":{{"code":403}},"requestReceivedTimestamp":"2026-11-25T10:00:00Z","responseObject":{{"a":"{}"#,
            "x".repeat(bytes)
        );
        let screened = screened(vec![record(&json!(text), Carried::Text)]);
        let truncated: u64 = screened.activity.iter().map(|(_, one)| one.truncated).sum();
        assert_eq!((screened.hits.len(), truncated), (hits, 1), "{bytes}");
    }
}

/// A line in two parts, as records of the same source.
fn parts(source: &[(&str, &str)]) -> [LogRecord; 2] {
    let text = event(1, "192.0.2.7").to_string();
    let (first, last) = text.split_at(text.find("\"responseStatus\"").unwrap());
    [("P", first), ("F", last)].map(|(tag, text)| {
        let line = json!(format!("2026-11-25T10:00:00Z stdout {tag} {text}"));
        let mut record = record(&line, Carried::Text);
        record.attributes = source
            .iter()
            .map(|(key, of)| pair(key, value(&json!(of))))
            .collect();
        record
    })
}

/// The attributes of a resource, and its records.
type OfResource<'r> = (&'r [(&'r str, &'r str)], &'r [LogRecord]);

fn with_resources(screen: &Screen, resources: &[OfResource<'_>]) -> Screened {
    let resource_logs = resources.iter().map(|(attributes, records)| ResourceLogs {
        resource: Some(Resource {
            attributes: attributes
                .iter()
                .map(|(key, of)| pair(key, value(&json!(of))))
                .collect(),
            ..Resource::default()
        }),
        scope_logs: vec![ScopeLogs {
            log_records: records.to_vec(),
            ..ScopeLogs::default()
        }],
        ..ResourceLogs::default()
    });
    let request = Request {
        resource_logs: resource_logs.collect(),
    };
    let mut screening = screen.begin(RECEIVED);
    screening.feed(&request.encode_to_vec()).unwrap();
    screening.finish().unwrap()
}

fn truncated(screened: &Screened) -> u64 {
    screened.activity.iter().map(|(_, one)| one.truncated).sum()
}

#[test]
fn parts_of_a_line_are_joined_by_resource_source_and_stream_within_a_request() {
    let screen = Screen::new(Rule::default(), 64, None);
    let a: &[(&str, &str)] = &[("k8s.cluster.name", "a")];
    let b: &[(&str, &str)] = &[("k8s.cluster.name", "b")];
    let container: &[(&str, &str)] = &[("k8s.pod.uid", "u"), ("k8s.container.name", "n")];
    let path = [
        ("log.file.path", "/var/log/pods/a/0.log"),
        ("log.file.name", "0.log"),
    ];
    let name = [("log.file.name", "0.log")];
    let other = record(
        &json!("2026-11-25T10:00:00Z host app: {\"x\":1}"),
        Carried::Text,
    );
    let plain = record(&json!(event(2, "192.0.2.7").to_string()), Carried::Text);

    let [first, last] = parts(&path);
    for (resources, hits) in [
        // What is between them does not matter, nor that the resource comes again.
        (vec![(a, vec![first.clone(), other, last.clone()])], 1),
        (vec![(a, vec![first.clone(), plain, last.clone()])], 2),
        (vec![(a, vec![first.clone()]), (a, vec![last.clone()])], 1),
        (
            vec![
                (a, vec![first.clone()]),
                (b, vec![]),
                (a, vec![last.clone()]),
            ],
            1,
        ),
        (vec![(a, parts(&[]).to_vec())], 1),
        (vec![(container, parts(&name).to_vec())], 1),
        // Of another resource or source, or of nobody knows which.
        (vec![(a, vec![first.clone()]), (b, vec![last])], 0),
        (vec![(a, vec![first, parts(&container[..1])[1].clone()])], 0),
        (vec![(a, parts(&name).to_vec())], 0),
    ] {
        let borrowed: Vec<_> = resources
            .iter()
            .map(|(of, records)| (*of, &records[..]))
            .collect();
        let screened = with_resources(&screen, &borrowed);
        assert_eq!(screened.hits.len(), hits, "{resources:?}");
        assert_eq!(truncated(&screened) == 0, hits > 0, "{resources:?}");
    }
}

#[test]
fn a_line_that_has_not_ended_is_that_of_its_record_and_resource() {
    let mut rule = Rule::default();
    rule.selector.source = vec![Pattern::new("yes")];
    let selecting = Screen::new(rule, 64, None);
    let any = Screen::new(Rule::default(), 64, None);
    // All that a finding needs is before the cut.
    let text = event(1, "192.0.2.7").to_string();
    let text = text.split_at(text.rfind("list").unwrap()).0;
    let part = |attributes: &[(&str, &str)]| {
        let line = json!(format!("2026-11-25T10:00:00Z stdout P {text}"));
        let mut record = record(&line, Carried::Text);
        record.attributes = attributes
            .iter()
            .map(|(key, of)| pair(key, value(&json!(of))))
            .collect();
        [record]
    };
    let a: &[(&str, &str)] = &[("k8s.cluster.name", "a")];
    let b: &[(&str, &str)] = &[("k8s.cluster.name", "b"), ("com.splunk.source", "yes")];
    let clusters = |screened: &Screened| -> Vec<String> {
        screened
            .hits
            .iter()
            .map(|hit| hit.cluster.to_string())
            .collect()
    };
    let named = part(&[("k8s.cluster.name", "own"), ("k8s.pod.uid", "u")]);
    let found = with_resources(&any, &[(a, &part(&[])), (b, &part(&[])), (a, &named)]);
    let mut names = clusters(&found);
    names.sort();
    assert_eq!(names, ["a", "b", "own"]);
    assert_eq!(truncated(&found), 3);
    let yes = part(&[("com.splunk.source", "yes")]);
    let no = part(&[("com.splunk.source", "no")]);
    for (resource, records, hits) in [(a, &yes, 1), (a, &no, 0), (b, &no, 0), (b, &part(&[]), 1)] {
        let found = with_resources(&selecting, &[(resource, records)]);
        assert_eq!((found.hits.len() as u64, truncated(&found)), (hits, hits));
        assert_eq!(found.deselected, 1 - hits);
    }
}

#[test]
fn scan_says_what_it_passed_over_in_lines_with_events() {
    let folder = tempfile::tempdir().unwrap();
    let scan = |text: &str| {
        let path = folder.path().join("log");
        std::fs::write(&path, text).unwrap();
        run(["scan", "--output", "ndjson", path.to_str().unwrap()])
    };
    let events: Vec<_> = (0..31).map(|second| event(second, "192.0.2.7")).collect();
    let lines: Vec<_> = events.iter().map(Value::to_string).collect();
    let alone = scan(&lines.join("\n"));
    // A list of plain events and others is read whole.
    for wrap in [
        |event: &Value| json!({"log": event.to_string()}),
        |event: &Value| {
            json!({"RequestURI": event["requestURI"], "Verb": "list", "UserAgent": event["userAgent"],
                "User": event["user"], "SourceIPs": event["sourceIPs"], "AuditID": event["auditID"],
                "ResponseStatus": event["responseStatus"], "ObjectRef": event["objectRef"],
                "RequestReceivedTimestamp": event["requestReceivedTimestamp"]})
        },
    ] {
        let items: Vec<_> = (0..)
            .zip(&events)
            .map(|(at, event)| if at == 0 { event.clone() } else { wrap(event) })
            .collect();
        let ran = scan(&json!({"kind": "EventList", "items": items}).to_string());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert_eq!(ran.out, alone.out);
    }
    let aks = |category: &str, log: &str| json!({"category": category, "properties": {"log": log}});
    let whole = events[0].to_string();
    let mut records = vec![aks("kube-audit", whole.split_at(200).0); 30];
    records.push(aks("kube-scheduler", "x"));
    records.push(aks("kube-audit", "a line"));
    records.push(aks("kube-audit", &whole));
    let ran = scan(&json!({"records": records}).to_string());
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in [
        "passed over 30 records: cut on its way",
        "passed over 1 record: of another category",
        "passed over 1 record: not JSON",
        "30 events were cut",
    ] {
        assert!(ran.err.contains(part), "{part}: {ran:?}");
    }
    // Lines of others between the parts of a line.
    let divided = lines.iter().map(|text| {
        let (first, last) = text.split_at(text.floor_char_boundary(text.len() / 2));
        [
            &format!("2026-11-25T10:00:00Z stdout P {first}"),
            "2026-11-25T10:00:00Z host app[1]: {\"x\":1}",
            "{\"a\":1",
            &format!("2026-11-25T10:00:00Z stdout F {last}"),
        ]
        .join("\n")
    });
    let text = divided.collect::<Vec<_>>().join("\n");
    assert_eq!(scan(&text).out, alone.out);
}

#[test]
fn scan_reads_what_is_in_every_envelope_as_if_it_had_come_alone() {
    let folder = tempfile::tempdir().unwrap();
    let events: Vec<_> = (0..7).map(|second| event(second, "192.0.2.7")).collect();
    let scan = |name: &str, bodies: &[Value]| {
        let lines: Vec<_> = bodies
            .iter()
            .map(|body| match body {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect();
        let path = folder.path().join(name.replace(' ', "-"));
        std::fs::write(&path, lines.join("\n")).unwrap();
        run(["scan", "--output", "ndjson", path.to_str().unwrap()])
    };
    let alone = scan("alone", &events);
    assert!(alone.out.contains("192.0.2.7"), "{alone:?}");
    for (name, wrap) in WRAPS {
        let ran = scan(name, &wrap(&events));
        assert_eq!(ran.out, alone.out, "{name}");
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{name}");
    }
}

#[test]
fn scan_fails_loudly_when_a_log_is_no_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let line = json!({"log": "I1125 leader election", "stream": "stderr"}).to_string();
    std::fs::write(&path, format!("{line}\n").repeat(300)).unwrap();
    for output in ["table", "json", "ndjson", "findings", "html"] {
        let ran = run(["scan", "--output", output, path.to_str().unwrap()]);
        assert_eq!(ran.code, 2, "{output}: {ran:?}");
        for part in [
            "no audit log",
            "300 lines",
            "no_json 300",
            "JSON object with the keys log, stream",
            "docs/feeds.md",
        ] {
            assert!(ran.err.contains(part), "{part}: {}", ran.err);
        }
    }
    // A few of them among events are none of our business.
    let text = format!("{line}\n{}\n", event(1, "192.0.2.1"));
    std::fs::write(&path, text).unwrap();
    let ran = run(["scan", path.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("skipped 1 line"), "{ran:?}");
}
