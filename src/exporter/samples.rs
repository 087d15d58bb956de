//! Findings for the exporters' unit tests.

use std::sync::Arc;

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

use crate::detection::{Finding, finding::GroupValue};

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
