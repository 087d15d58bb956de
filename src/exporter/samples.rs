//! Findings for the exporters' unit tests.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};

use crate::detection::{
    Finding,
    finding::{GroupValue, Label, Member, New, Sample},
};

/// A small native finding that has just opened. Its number makes it distinct.
pub(super) fn opened(number: u32) -> Arc<Finding> {
    let at = |seconds| {
        Some(prost_types::Timestamp {
            seconds,
            nanos: 35_818_000,
        })
    };
    Arc::new(Finding {
        finding_id: format!("{number:032x}"),
        state: "opened".to_owned(),
        semantics: "native".to_owned(),
        rule_name: "Kubernetes Scanning by Unauthenticated IP Address".to_owned(),
        message: "Kubernetes scanning from ip 203.0.113.7".to_owned(),
        cluster: "prod".to_owned(),
        src_ip: "203.0.113.7".to_owned(),
        src: "203.0.113.7".to_owned(),
        first_time: at(1_764_055_000),
        alert_at: at(1_764_055_023),
        last_time: at(1_764_055_023),
        count: 6,
        count_by_code: [("403".to_owned(), 6)].into(),
        verbs: vec!["get".to_owned()],
        ..Finding::default()
    })
}

/// A finding of a rule that groups by no address.
pub(super) fn by_user() -> Finding {
    Finding {
        rule_name: "Secrets are read".to_owned(),
        severity: "high".to_owned(),
        risk_score: 60,
        message: "eve reads secrets".to_owned(),
        mitre_tactic: "Credential Access".to_owned(),
        src_ip: String::new(),
        src: String::new(),
        group_by: vec![GroupValue {
            name: "user.username".to_owned(),
            value: Some("eve".to_owned()),
        }],
        count_by_code: [("200".to_owned(), 6)].into(),
        users: vec!["eve".to_owned()],
        resources: vec!["secrets".to_owned()],
        drilldown_search: r#"`kube_audit` "user.username"="eve""#.to_owned(),
        ..(*opened(1)).clone()
    }
}

/// An update of a finding with all that a rule of labels and a success write.
pub(super) fn rich() -> Finding {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let label = |name: &str, kind: &str, title: &str, severity: &str| Label {
        name: name.to_owned(),
        kind: kind.to_owned(),
        title: title.to_owned(),
        severity: severity.to_owned(),
        count: 4,
        first_time: opened(1).first_time,
        example: "list /api/v1/secrets curl/8.5.0".to_owned(),
    };
    let sample = |path: &str, user: &str| Sample {
        time: opened(1).last_time,
        audit_id: "5f0c".to_owned(),
        stage: "ResponseComplete".to_owned(),
        verb: "get".to_owned(),
        path: path.to_owned(),
        code: "200".to_owned(),
        user_agent: "curl/8.5.0".to_owned(),
        user: user.to_owned(),
    };
    Finding {
        state: "updated".to_owned(),
        severity: "critical".to_owned(),
        risk_score: 80,
        severity_reasons: texts(&["2 requests succeeded", "4 requests for secrets"]),
        outcome: "success".to_owned(),
        successes: vec![
            sample("/metrics", "system:anonymous"),
            sample("/api", "eve"),
        ],
        success_count: 2,
        labels: vec![
            label("reads_secrets", "behaviour", "Asks for secrets", "high"),
            label("uses_curl", "tool", "Looks like curl", "low"),
        ],
        new: Some(New {
            paths: texts(&["/api/v1/secrets", "/api/v1/pods", "/metrics", "/version"]),
            user_agents: texts(&["curl/8.5.0"]),
            verbs: texts(&["create"]),
            codes: texts(&["401"]),
            users: texts(&["eve"]),
            labels: texts(&["reads_secrets"]),
            severity_before: "low".to_owned(),
            count: 3,
            successes: 1,
        }),
        continues: format!("{:032x}", 9),
        distinct: [("paths".to_owned(), 412)].into(),
        estimated: texts(&["paths"]),
        measures: [("truncated_percent".to_owned(), 12.5)].into(),
        ..(*opened(1)).clone()
    }
}

/// A finding of a network, with its members.
pub(super) fn rolled_up() -> Finding {
    let members = (0..40).map(|at| Member {
        source: format!("198.51.100.{at}"),
        count: 5,
        finding_id: if at < 5 {
            format!("{at:032x}")
        } else {
            String::new()
        },
    });
    Finding {
        rule_name: "Distributed Scanning".to_owned(),
        message: "Distributed scanning from 198.51.100.0/24".to_owned(),
        severity: "medium".to_owned(),
        risk_score: 40,
        src_ip: String::new(),
        src: String::new(),
        prefix: "198.51.100.0/24".to_owned(),
        members: members.collect(),
        member_count: 40,
        related: (0..5).map(|at| format!("{at:032x}")).collect(),
        count: 200,
        count_by_code: [("403".to_owned(), 200)].into(),
        ..(*opened(2)).clone()
    }
}

/// A finding about a cluster that cannot be seen in whole.
pub(super) fn blind_spot() -> Finding {
    Finding {
        rule_name: "Audit Logs with Gaps".to_owned(),
        message: "No audit event from cluster prod for an hour".to_owned(),
        severity: "medium".to_owned(),
        risk_score: 40,
        src_ip: String::new(),
        src: String::new(),
        measures: [("silent_seconds".to_owned(), 3600.0)].into(),
        count: 0,
        count_by_code: BTreeMap::new(),
        verbs: Vec::new(),
        ..(*opened(3)).clone()
    }
}

/// What the tests of the Splunk add-on read: findings of every kind, one of them in three states.
pub(super) fn states() -> Vec<Finding> {
    let low = |number| Finding {
        severity: "low".to_owned(),
        risk_score: 20,
        ..(*opened(number)).clone()
    };
    let first = Finding {
        labels: rich().labels.split_off(1),
        ..low(1)
    };
    let closed = Finding {
        state: "closed".to_owned(),
        close_reason: "quiet".to_owned(),
        new: None,
        ..rich()
    };
    let informational = Finding {
        severity: "informational".to_owned(),
        risk_score: 0,
        severity_reasons: vec!["health checks of a load balancer".to_owned()],
        ..low(4)
    };
    let continued = Finding {
        continues: format!("{:032x}", 9),
        severity: "high".to_owned(),
        risk_score: 60,
        ..low(5)
    };
    let elsewhere = Finding {
        cluster: "test".to_owned(),
        src_ip: "10.20.0.5".to_owned(),
        src: "10.20.0.5".to_owned(),
        message: "Kubernetes scanning from ip 10.20.0.5".to_owned(),
        ..low(6)
    };
    let escu = Finding {
        semantics: "escu".to_owned(),
        users: vec!["system:anonymous".to_owned()],
        ..low(7)
    };
    let written = Finding {
        finding_id: format!("{:032x}", 8),
        continues: String::new(),
        risk_score: 60,
        semantics: "native".to_owned(),
        cluster: "prod".to_owned(),
        ..hostile("\"} | delete <script>alert(1)</script> `x` $finding$ \\")
    };
    let rich = Finding {
        continues: String::new(),
        ..rich()
    };
    let all = vec![
        first,
        rich,
        Finding {
            continues: String::new(),
            ..closed
        },
        rolled_up(),
        blind_spot(),
        informational,
        continued,
        elsewhere,
        escu,
        written,
    ];
    let all = all.into_iter();
    all.map(|finding| Finding {
        rule_id: "f9cadf4e-df22-4f4e-a08f-9d3344c2165d".to_owned(),
        mitre_technique_id: "T1046".to_owned(),
        mitre_tactic: "Discovery".to_owned(),
        threshold: 5,
        window_seconds: 3600.0,
        drilldown_search: r#"`auditwatch_audit` "sourceIPs{}"="203.0.113.7""#.to_owned(),
        ..finding
    })
    .collect()
}

/// The add-on is tested with findings as they are, not as they were.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "UPDATE_FIXTURE=1 writes the file afresh instead of comparing it"
)]
fn the_tests_of_the_add_on_read_findings_as_they_are() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/splunk/tests/data/states.ndjson"
    );
    let lines: String = states().iter().map(|one| one.to_json() + "\n").collect();
    if std::env::var_os("UPDATE_FIXTURE").is_some() {
        std::fs::write(path, &lines).unwrap();
        return;
    }
    let kept = include_str!("../../deploy/splunk/tests/data/states.ndjson");
    assert!(
        kept == lines,
        "run UPDATE_FIXTURE=1 cargo test --lib exporter::samples"
    );
}

/// A finding in which a stranger wrote every text that is not the state.
pub(super) fn hostile(text: &str) -> Finding {
    let mut message = full().0;
    write_texts(&mut message, text);
    let finding = Finding::decode(message.encode_to_vec().as_slice()).unwrap();
    Finding {
        state: "opened".to_owned(),
        severity: "high".to_owned(),
        ..finding
    }
}

/// Writes this into every text, also into those of messages inside.
fn write_texts(message: &mut DynamicMessage, text: &str) {
    let schema = message.descriptor();
    for field in schema.fields() {
        write_text(message.get_field_mut(&field), text);
    }
}

fn write_text(value: &mut Value, text: &str) {
    match value {
        Value::String(old) => text.clone_into(old),
        Value::Message(inner) if inner.descriptor().full_name() != "google.protobuf.Timestamp" => {
            write_texts(inner, text);
        }
        Value::List(values) => values.iter_mut().for_each(|value| write_text(value, text)),
        Value::Map(values) => {
            let old = std::mem::take(values);
            *values = old
                .into_values()
                .map(|value| (MapKey::String(text.to_owned()), value))
                .collect();
        }
        _ => {}
    }
}

/// Several of them.
pub(super) fn findings(count: u32) -> Vec<Arc<Finding>> {
    (0..count).map(opened).collect()
}

/// The schema, compiled afresh from `finding.proto`.
fn schema() -> MessageDescriptor {
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = protox::compile(["auditwatch/v1/finding.proto"], [proto]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name("auditwatch.v1.Finding").unwrap()
}

/// A finding in which every field of the schema is set, each to a value of its own.
pub(super) fn full() -> (DynamicMessage, Finding) {
    let message = filled(&schema());
    let finding = Finding::decode(message.encode_to_vec().as_slice()).unwrap();
    (message, finding)
}

fn filled(schema: &MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(schema.clone());
    if schema.full_name() == "google.protobuf.Timestamp" {
        message.set_field_by_name("seconds", Value::I64(1_764_055_023));
        message.set_field_by_name("nanos", Value::I32(35_818_000));
        return message;
    }
    for field in schema.fields() {
        let value = if field.is_map() {
            let kind = field.kind();
            let entry = kind.as_message().unwrap();
            let value = scalar(&entry.map_entry_value_field());
            Value::Map([(MapKey::String(format!("key of {}", field.name())), value)].into())
        } else if field.is_list() {
            Value::List(vec![scalar(&field), scalar(&field)])
        } else {
            scalar(&field)
        };
        message.set_field(&field, value);
    }
    message
}

fn scalar(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::String => Value::String(format!("value of {}", field.name())),
        Kind::Uint32 => Value::U32(field.number()),
        Kind::Uint64 => Value::U64(u64::from(field.number())),
        Kind::Double => Value::F64(f64::from(field.number()) + 0.25),
        Kind::Bool => Value::Bool(true),
        Kind::Message(inner) => Value::Message(filled(&inner)),
        other => panic!("finding.proto has a new kind of field, {other:?}: teach it to the tests"),
    }
}
