//! The forms of a finding are kept in step with finding.proto here: each of its fields, whatever
//! is added to it, has to appear in JSON and in OTLP.

use prost_reflect::{DynamicMessage, ReflectMessage as _};

use super::*;
use crate::exporter::samples;

/// Fields that OTLP carries under a name of the semantic conventions.
const CONVENTIONS: [(&str, &str); 9] = [
    ("rule_id", "security_rule.uuid"),
    ("rule_name", "security_rule.name"),
    ("rule_version", "security_rule.version"),
    ("cluster", "k8s.cluster.name"),
    ("src_ip", "client.address"),
    ("city", "geo.locality.name"),
    ("country_iso_code", "geo.country.iso_code"),
    ("lat", "geo.location.lat"),
    ("lon", "geo.location.lon"),
];

fn get<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let value = found.next()?.value.as_ref()?.value.as_ref();
    assert!(found.next().is_none(), "{key} stands twice");
    value
}

fn own(field: &str) -> String {
    format!("{OWN}{field}")
}

/// What a value of OTLP says, in the notation of JSON.
fn json(value: &Value) -> serde_json::Value {
    let inner = |value: &AnyValue| json(value.value.as_ref().unwrap());
    match value {
        Value::StringValue(text) => text.clone().into(),
        Value::BoolValue(is) => (*is).into(),
        Value::IntValue(number) => (*number).into(),
        Value::DoubleValue(number) => (*number).into(),
        Value::ArrayValue(list) => list.values.iter().map(inner).collect(),
        Value::KvlistValue(map) => map
            .values
            .iter()
            .map(|entry| (entry.key.clone(), inner(entry.value.as_ref().unwrap())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => panic!("{other:?} has no form in JSON"),
    }
}

#[test]
fn every_field_of_the_schema_appears_in_json_and_in_otlp_with_its_value() {
    let (message, finding) = samples::full();
    let text = finding.to_json();
    let forms: serde_json::Value = serde_json::from_str(&text).unwrap();
    let record = log_record(&finding, 0);
    let all = [record.attributes, resource(&finding).attributes].concat();
    let mut expected = vec!["log.record.uid".to_owned()];
    for field in message.descriptor().fields() {
        let in_json = &forms[field.name()];
        assert!(
            !in_json.is_null(),
            "{} is not in the JSON form",
            field.name()
        );
        let known = CONVENTIONS.iter().find(|(name, _)| *name == field.name());
        let key = known.map_or_else(|| own(field.name()), |(_, key)| (*key).to_owned());
        let Some(value) = get(&all, &key) else {
            panic!("{key} is not in the OTLP form")
        };
        assert_eq!(json(value), *in_json, "{key}");
        expected.push(key);
    }
    expected.extend(["service.name", "com.splunk.sourcetype"].map(str::to_owned));
    let mut keys: Vec<_> = all.iter().map(|attribute| attribute.key.clone()).collect();
    keys.sort();
    expected.sort();
    assert_eq!(keys, expected, "nothing else appears");

    let mut reader = serde_json::Deserializer::from_str(&text);
    let read = DynamicMessage::deserialize(message.descriptor(), &mut reader).unwrap();
    assert!(
        read == message,
        "any protobuf library reads the JSON form back: {text}"
    );
}

/// The severities of a finding are five numbers of OTLP in the same order.
#[test]
fn a_worse_finding_has_a_greater_severity_number() {
    let numbers: Vec<_> = Severity::ALL
        .into_iter()
        .map(|severity| {
            let finding = Finding {
                severity: severity.as_str().to_owned(),
                ..Finding::default()
            };
            let record = log_record(&finding, 0);
            (record.severity_number, record.severity_text)
        })
        .collect();
    let wanted = [
        (9, "INFO"),
        (13, "WARN"),
        (15, "WARN3"),
        (17, "ERROR"),
        (21, "FATAL"),
    ];
    assert_eq!(
        numbers,
        wanted.map(|(number, text)| (number, text.to_owned()))
    );
}

/// Deliveries of one state have one uid, and two states never have the same.
#[test]
fn each_state_has_its_uid() {
    let states = [
        ("opened", 6, 0),
        ("updated", 12, 0),
        ("updated", 24, 0),
        ("updated", 24, 1),
        ("closed", 24, 1),
    ];
    let uids: std::collections::BTreeSet<_> = states
        .iter()
        .map(|(state, count, success_count)| {
            let finding = Finding {
                state: (*state).to_owned(),
                count: *count,
                success_count: *success_count,
                ..(*samples::opened(7)).clone()
            };
            let [first, again] = [&finding, &finding.clone()]
                .map(|finding| get(&log_record(finding, 0).attributes, "log.record.uid").map(json));
            assert_eq!(first, again);
            first.unwrap().to_string()
        })
        .collect();
    assert_eq!(uids.len(), states.len());
}

/// As a lone user agent, a lone peer has the name of the conventions too.
#[test]
fn a_lone_peer_has_the_conventional_name_too() {
    for (peers, wanted) in [
        (&["10.0.0.1"] as &[&str], Some("10.0.0.1")),
        (&["10.0.0.1", "10.0.0.2"], None),
    ] {
        let finding = Finding {
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
            ..Finding::default()
        };
        let found = get(&log_record(&finding, 0).attributes, "network.peer.address").map(json);
        assert_eq!(found, wanted.map(Into::into));
    }
}

#[test]
fn the_record_of_an_opened_finding() {
    let finding = samples::opened(7);
    let record = log_record(&finding, 42);
    assert_eq!(record.event_name, "auditwatch.finding.opened");
    assert_eq!(record.severity_number, 13);
    assert_eq!(record.time_unix_nano, 1_764_055_023_035_818_000);
    assert_eq!(record.observed_time_unix_nano, 42);
    let Some(Value::StringValue(body)) = record.body.unwrap().value else {
        panic!("no text")
    };
    assert!(body.contains("203.0.113.7"), "{body}");
    let uid = get(&record.attributes, "log.record.uid").map(json).unwrap();
    assert_eq!(uid, "00000000000000000000000000000007-opened");
    assert_eq!(
        get(&record.attributes, &own("count_by_code")).map(json),
        Some(serde_json::json!({"403": 6}))
    );
    let resource = resource(&finding);
    assert_eq!(
        get(&resource.attributes, "k8s.cluster.name").map(json),
        Some("prod".into())
    );
}

#[test]
fn a_lone_user_agent_has_the_conventional_name_too() {
    let with = |agents: &[&str]| {
        let user_agents = agents.iter().map(|agent| (*agent).to_owned()).collect();
        let finding = Finding {
            user_agents,
            ..Finding::default()
        };
        get(&log_record(&finding, 0).attributes, "user_agent.original").map(json)
    };
    assert_eq!(with(&[]), None);
    assert_eq!(with(&["curl/8"]), Some("curl/8".into()));
    assert_eq!(with(&["curl/8", "nmap"]), None);
}

#[test]
fn what_otlp_cannot_hold_does_not_break_it() {
    let finding = Finding {
        last_time: Some(Timestamp {
            seconds: -5,
            nanos: 0,
        }),
        count: u64::MAX,
        city: Some(String::new()),
        ..Finding::default()
    };
    let record = log_record(&finding, 0);
    assert_eq!(record.time_unix_nano, 0);
    assert_eq!(
        get(&record.attributes, &own("count")).map(json),
        Some(i64::MAX.into())
    );
    assert_eq!(
        get(&record.attributes, "geo.locality.name").map(json),
        Some("".into())
    );
    let far = Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    let far = log_record(
        &Finding {
            last_time: Some(far),
            ..Finding::default()
        },
        0,
    );
    assert_eq!(far.time_unix_nano, 0);
}

#[test]
fn a_finding_of_any_rule_is_a_record() {
    let finding = samples::by_user();
    let record = log_record(&finding, 0);
    assert_eq!(record.severity_number, i32::from(SeverityNumber::Error));
    assert_eq!(record.severity_text, "ERROR");
    assert_eq!(get(&record.attributes, "client.address"), None);
    assert_eq!(
        get(&record.attributes, &own("group_by")).map(json),
        Some(serde_json::json!([{"name": "user.username", "value": "eve"}]))
    );
    assert_eq!(
        get(&record.attributes, &own("resources")).map(json),
        Some(serde_json::json!(["secrets"]))
    );
    let Some(Value::StringValue(body)) = record.body.unwrap().value else {
        panic!("no text")
    };
    assert!(
        body.starts_with("eve reads secrets on cluster prod"),
        "{body}"
    );
}
