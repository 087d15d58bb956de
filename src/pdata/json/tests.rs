//! What the library's own serialiser writes is read back, and what only others write is read too.
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{
        AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::*;

fn read(text: &str) -> Result<ExportLogsServiceRequest, String> {
    let protobuf = to_protobuf(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ExportLogsServiceRequest::decode(&protobuf[..]).unwrap())
}

fn in_record(member: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{member}}}]}}]}}]}}"#)
}

/// The one record that has these members.
fn record(member: &str) -> LogRecord {
    let request = read(&in_record(member)).unwrap_or_else(|error| panic!("{member}: {error}"));
    request.resource_logs[0].scope_logs[0].log_records[0].clone()
}

/// The value of the one record's body.
fn body(json: &str) -> Option<Value> {
    record(&format!(r#""body":{json}"#)).body?.value
}

#[test]
fn what_senders_leave_out_has_its_default() {
    for empty in [
        "null",
        "{}",
        r#"{"stringValue":null}"#,
        r#"{"new":[1,{"a":2}]}"#,
    ] {
        assert_eq!(body(empty), None, "{empty}");
    }
    for (json, values) in [
        (r#"{"arrayValue":{}}"#, 0),
        (r#"{"arrayValue":{"values":null}}"#, 0),
        (
            r#"{"arrayValue":{"values":[{},null,{"kvlistValue":{}}]}}"#,
            3,
        ),
    ] {
        let Some(Value::ArrayValue(list)) = body(json) else {
            panic!("{json}")
        };
        assert_eq!(list.values.len(), values);
    }
    for text in [
        "{}",
        r#"{"resourceLogs":null}"#,
        r#"{"resourceLogs":[{"resource":null,"scopeLogs":null,"schemaUrl":null}]}"#,
    ] {
        assert!(read(text).is_ok(), "{text}");
    }
    let nothing = r#""attributes":null,"severityText":null,"timeUnixNano":null,"traceId":null,
        "flags":null,"body":null,"severityNumber":null,"unknown":{"deep":[null]}"#;
    assert_eq!(record(nothing), LogRecord::default());
}

#[test]
fn bytes_come_in_either_alphabet() {
    for (texts, wanted) in [
        (
            &["+//+AQ==", "+//+AQ", "-__-AQ==", "-__-AQ"][..],
            &b"\xfb\xff\xfe\x01"[..],
        ),
        (&["", "="], b""),
        (&["YQ", "YQ=="], b"a"),
        (&["YWI", "YWI="], b"ab"),
        (&["YWJj"], b"abc"),
    ] {
        for text in texts {
            let json = format!(r#"{{"bytesValue":"{text}"}}"#);
            assert_eq!(
                body(&json),
                Some(Value::BytesValue(wanted.to_vec())),
                "{text}"
            );
        }
    }
}

#[test]
fn numbers_come_as_text_or_number() {
    for (text, wanted) in [
        ("403", 403),
        (r#""403""#, 403),
        ("4.03e2", 403),
        (r#""403.0""#, 403),
        ("-1", -1),
        (r#""-9223372036854775808""#, i64::MIN),
        ("9223372036854775807", i64::MAX),
    ] {
        let json = format!(r#"{{"intValue":{text}}}"#);
        assert_eq!(body(&json), Some(Value::IntValue(wanted)), "{text}");
    }
    for (text, wanted) in [
        ("403.5", 403.5),
        (r#""403.5""#, 403.5),
        ("403", 403.0),
        ("-1", -1.0),
        (r#""Infinity""#, f64::INFINITY),
        (r#""-Infinity""#, f64::NEG_INFINITY),
    ] {
        let json = format!(r#"{{"doubleValue":{text}}}"#);
        assert_eq!(body(&json), Some(Value::DoubleValue(wanted)), "{text}");
    }
    let Some(Value::DoubleValue(number)) = body(r#"{"doubleValue":"NaN"}"#) else {
        panic!()
    };
    assert!(number.is_nan());
    let time = 1_795_600_200_000_000_001;
    for text in [time.to_string(), format!("\"{time}\"")] {
        assert_eq!(
            record(&format!("\"timeUnixNano\":{text}")).time_unix_nano,
            time
        );
        assert_eq!(
            record(&format!("\"observed_time_unix_nano\":{text}")).observed_time_unix_nano,
            time
        );
    }
    assert_eq!(
        record(r#""severityNumber":9,"flags":"1""#).severity_number,
        9
    );
    assert_eq!(
        record(r#""severityNumber":"SEVERITY_NUMBER_INFO""#).severity_number,
        0
    );
}

#[test]
fn the_last_of_several_values_counts_and_lists_go_on() {
    let json = r#"{"stringValue":"a","intValue":"1"}"#;
    assert_eq!(body(json), Some(Value::IntValue(1)));
    let twice = record(r#""attributes":[{"key":"a"}],"attributes":[{"key":"b"}]"#);
    assert_eq!(twice.attributes.len(), 2);
}

/// Half of a surrogate pair, which JavaScript writes, costs its own letter and not the request.
#[test]
fn half_a_surrogate_pair_is_no_reason_to_refuse() {
    let text = in_record(r#""body":{"stringValue":"a\ud83db"}"#);
    let protobuf = to_protobuf(text.as_bytes()).unwrap();
    let wanted = b"a\xed\xa0\xbdb";
    assert!(
        protobuf
            .windows(wanted.len())
            .any(|window| window == wanted)
    );
}

#[test]
fn refuses_what_is_no_request() {
    for text in [
        "",
        "null",
        "[]",
        "{",
        "{} {}",
        r#"{"resourceLogs":{}}"#,
        r#"{"resourceLogs":[[]]}"#,
        r#"{"resourceLogs":[{"resource":[]}]}"#,
        r#"{"resourceLogs":"a"}"#,
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    for member in [
        r#""traceId":"5b8""#,
        r#""traceId":"zz""#,
        r#""traceId":7"#,
        r#""timeUnixNano":-1"#,
        r#""timeUnixNano":1.5"#,
        r#""timeUnixNano":"soon""#,
        r#""timeUnixNano":18446744073709551616"#,
        r#""flags":4294967296"#,
        r#""severityNumber":2147483648"#,
        r#""body":"text""#,
        r#""body":{"stringValue":1}"#,
        r#""body":{"boolValue":1}"#,
        r#""body":{"boolValue":"true"}"#,
        r#""body":{"intValue":true}"#,
        r#""body":{"intValue":"9223372036854775808"}"#,
        r#""body":{"intValue":1e300}"#,
        r#""body":{"bytesValue":"a"}"#,
        r#""body":{"bytesValue":"a b c"}"#,
        r#""body":{"bytesValue":[1,2]}"#,
        r#""body":{"arrayValue":[]}"#,
    ] {
        assert!(read(&in_record(member)).is_err(), "{member}");
    }
    assert!(to_protobuf(b"{\"a\":\"\xff\"}").is_err());
}

/// Depth costs no stack: what is known has a bound, and what is passed over is not descended into.
#[test]
fn depth_is_bounded_where_it_is_read() {
    let nested = |depth: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(depth);
        let close = "]}}".repeat(depth);
        in_record(&format!(r#""body":{open}{close}"#))
    };
    assert!(read(&nested(20)).is_ok());
    for depth in [100, 100_000] {
        assert!(to_protobuf(nested(depth).as_bytes()).is_err());
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&format!(r#"{{"unknown":{deep}}}"#)).is_ok());
}

/// Whatever a document is made of, it becomes no more than a few times its size.
#[test]
fn a_document_of_brackets_stays_small() {
    let many = |element: &str| vec![element; 10_000].join(",");
    for text in [
        format!(r#"{{"resourceLogs":[{}]}}"#, many("{}")),
        in_record(&format!(r#""attributes":[{}]"#, many("{}"))),
        in_record(&format!(
            r#""body":{{"arrayValue":{{"values":[{}]}}}}"#,
            many("{}")
        )),
        in_record(&format!(r#""unknown":[{}]"#, many("0"))),
        in_record(&many(r#""flags":1"#)),
    ] {
        let protobuf = to_protobuf(text.as_bytes()).unwrap();
        assert!(protobuf.len() <= 2 * text.len(), "{}", protobuf.len());
        assert!(protobuf.capacity() <= 4 * text.len());
    }
}

fn value() -> impl Strategy<Value = Option<AnyValue>> {
    let leaf = prop_oneof![
        Just(None),
        any::<String>().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|flag| Some(Value::BoolValue(flag))),
        any::<i64>().prop_map(|number| Some(Value::IntValue(number))),
        (-1e15..1e15).prop_map(|number| Some(Value::DoubleValue(number))),
        vec(any::<u8>(), 0..9).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    let inner = leaf.prop_recursive(4, 24, 4, |value| {
        prop_oneof![
            vec(value.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec((any::<String>(), value), 0..4).prop_map(|pairs| {
                let pair = |(key, value)| KeyValue {
                    key,
                    value: Some(value),
                    ..Default::default()
                };
                let values = pairs.into_iter().map(pair).collect();
                Value::KvlistValue(KeyValueList { values })
            }),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    });
    inner.prop_map(Some)
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (any::<String>(), value()).prop_map(|(key, value)| KeyValue {
        key,
        value,
        ..Default::default()
    });
    vec(pair, 0..3)
}

fn log_record() -> impl Strategy<Value = LogRecord> {
    let numbers = (any::<[u64; 2]>(), 0..25_i32, any::<[u32; 2]>());
    let texts = any::<[String; 2]>();
    let ids = (any::<[u8; 16]>(), any::<[u8; 8]>());
    (numbers, texts, ids, value(), attributes()).prop_map(
        |(
            ([time, observed], severity_number, [dropped, flags]),
            [severity, name],
            ids,
            body,
            attributes,
        )| LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: observed,
            severity_number,
            severity_text: severity,
            body,
            attributes,
            dropped_attributes_count: dropped,
            flags,
            trace_id: ids.0.to_vec(),
            span_id: ids.1.to_vec(),
            event_name: name,
        },
    )
}

fn request() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope = (vec(log_record(), 0..3), any::<[String; 3]>(), attributes()).prop_map(
        |(log_records, [name, version, schema_url], attributes)| ScopeLogs {
            scope: Some(InstrumentationScope {
                name,
                version,
                attributes,
                dropped_attributes_count: 0,
            }),
            log_records,
            schema_url,
        },
    );
    let resource = (vec(scope, 0..3), attributes(), any::<(u32, String)>()).prop_map(
        |(scope_logs, attributes, (dropped_attributes_count, schema_url))| ResourceLogs {
            resource: Some(Resource {
                attributes,
                dropped_attributes_count,
                ..Default::default()
            }),
            scope_logs,
            schema_url,
        },
    );
    vec(resource, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// The library's serialiser and prost's decoder have nothing in common with this module.
    #[test]
    fn what_the_library_writes_is_read_back(request in request()) {
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(read(&text).unwrap(), request);
    }

    #[test]
    fn nothing_makes_it_panic(text in r#"[\[\]{}:,"a0-9\\u+=-]{0,60}"#) {
        let _read = read(&text);
    }
}
