//! Requests of many records, as the Collector sends them, encoded and compressed before they are sent.

use std::io::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message as _;
use serde_json::Value;

use crate::{
    events::Source,
    scenario::{Body, Compression, Protocol, Scenario},
};

/// Events of a list.
const LIST: usize = 100;
/// Requests without refused ones leave no state: the same are sent again and again.
const DISTINCT: usize = 24;

/// Encoded requests, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    pub(crate) all: Vec<Bytes>,
    /// Events in all of them.
    pub(crate) events: u64,
    /// The first request as it is before it is compressed and framed.
    pub(crate) plain: Bytes,
}

/// Makes requests until they have at least `records` records together.
pub(crate) fn messages(source: &mut Source, scenario: &Scenario, records: u64) -> Messages {
    let count = usize::try_from(records)
        .unwrap_or(usize::MAX)
        .div_ceil(scenario.batch)
        .max(1);
    let distinct = if scenario.hits > 0.0 {
        count
    } else {
        count.min(DISTINCT)
    };
    let mut plain = None;
    let made: Vec<Bytes> = (0..distinct)
        .map(|at| {
            let cluster = u32::try_from(at).unwrap_or_default() % scenario.clusters.max(1);
            let events: Vec<_> = (0..scenario.batch).map(|_| source.event()).collect();
            let bytes = Bytes::from(request(&events, scenario.body, cluster).encode_to_vec());
            plain.get_or_insert_with(|| bytes.clone());
            ready(&bytes, scenario)
        })
        .collect();
    let all: Vec<Bytes> = made.iter().cycle().take(count).cloned().collect();
    Messages {
        events: (all.len() * scenario.batch) as u64,
        all,
        plain: plain.unwrap_or_default(),
    }
}

/// One request of these events.
pub(crate) fn message(events: &[Value], scenario: &Scenario) -> Bytes {
    ready(&request(events, scenario.body, 0).encode_to_vec(), scenario)
}

/// Compressed, and framed for gRPC.
fn ready(bytes: &[u8], scenario: &Scenario) -> Bytes {
    let packed = match scenario.compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            let written = encoder.write_all(bytes);
            written.and_then(|()| encoder.finish()).unwrap_or_default()
        }
        Compression::Zstd => zstd::bulk::compress(bytes, 3).unwrap_or_default(),
    };
    if scenario.protocol == Protocol::Http {
        return packed.into();
    }
    let mut framed = BytesMut::with_capacity(packed.len() + 5);
    framed.put_u8(u8::from(scenario.compression != Compression::None));
    framed.put_u32(u32::try_from(packed.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&packed);
    framed.freeze()
}

fn request(events: &[Value], body: Body, cluster: u32) -> ExportLogsServiceRequest {
    let bodies: Vec<Any> = match body {
        Body::Text => events
            .iter()
            .map(|event| Any::StringValue(event.to_string()))
            .collect(),
        Body::Bytes => events
            .iter()
            .map(|event| Any::BytesValue(event.to_string().into_bytes()))
            .collect(),
        Body::Map => events.iter().map(any).collect(),
        Body::EventList => events.chunks(LIST).map(list).collect(),
    };
    let records = bodies.into_iter().map(|body| LogRecord {
        time_unix_nano: 1_795_590_000_000_000_000,
        observed_time_unix_nano: 1_795_590_000_000_000_000,
        body: Some(AnyValue { value: Some(body) }),
        attributes: vec![text("log.file.path", "/var/log/kubernetes/audit/audit.log")],
        ..LogRecord::default()
    });
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![
                    text("k8s.cluster.name", &format!("cluster-{cluster}")),
                    text("host.name", "control-plane-1"),
                    text("com.splunk.sourcetype", "kube:apiserver-audit"),
                    text("com.splunk.index", "kube_audit"),
                ],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                log_records: records.collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn list(events: &[Value]) -> Any {
    let list = serde_json::json!({
        "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events
    });
    Any::StringValue(list.to_string())
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// JSON as a parser of the Collector makes it.
fn any(value: &Value) -> Any {
    let nested = |value: &Value| AnyValue {
        value: (!value.is_null()).then(|| any(value)),
    };
    match value {
        Value::Null => Any::StringValue(String::new()),
        Value::Bool(yes) => Any::BoolValue(*yes),
        Value::Number(number) => Any::DoubleValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Any::StringValue(text.clone()),
        Value::Array(all) => Any::ArrayValue(ArrayValue {
            values: all.iter().map(nested).collect(),
        }),
        Value::Object(members) => Any::KvlistValue(KeyValueList {
            values: members
                .iter()
                .map(|(key, value)| KeyValue {
                    key: key.clone(),
                    value: Some(nested(value)),
                    ..KeyValue::default()
                })
                .collect(),
        }),
    }
}
