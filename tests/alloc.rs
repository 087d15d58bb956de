//! The screen allocates nothing for a record that does not match: a binary of its own, because it
//! counts allocations.
#![cfg(test)]

use auditwatch::{
    detection::{
        limits::Limits,
        rule::{Rule, Semantics},
        screen::Screen,
    },
    rules::{load, switches::Switches},
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message as _;

/// An audit event that counts in neither semantics: it was allowed.
const ALLOWED: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"c9230016-52bb-42af-90eb-89f77eb994e8","stage":"ResponseComplete","requestURI":"/api/v1/pods?watch=1\u0026limit=500","verb":"watch","user":{"username":"admin","groups":["system:authenticated"]},"sourceIPs":["10.1.2.3"],"userAgent":"kubectl/v1.32.4","responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-11-25T07:17:03.035818Z","annotations":{"mention":"system:unauthenticated 403"}}"#;

#[expect(
    clippy::unnecessary_wraps,
    reason = "every field of this type is optional"
)]
fn any(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn parsed(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::String(text) => Value::StringValue(text.clone()),
        serde_json::Value::Number(number) => Value::DoubleValue(number.as_f64().unwrap()),
        serde_json::Value::Array(list) => Value::ArrayValue(ArrayValue {
            values: list.iter().filter_map(|value| any(parsed(value))).collect(),
        }),
        serde_json::Value::Object(map) => Value::KvlistValue(KeyValueList {
            values: map
                .iter()
                .map(|(key, value)| pair(key, parsed(value)))
                .collect(),
        }),
        _ => Value::BoolValue(true),
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: any(value),
        ..Default::default()
    }
}

/// A request of this number of records with this body.
fn request(body: &Value, records: usize) -> Vec<u8> {
    let record = LogRecord {
        observed_time_unix_nano: 1_764_055_023_000_000_000,
        body: any(body.clone()),
        attributes: vec![
            pair(
                "log.file.path",
                Value::StringValue("/var/log/audit.log".to_owned()),
            ),
            pair("parsed", parsed(&serde_json::json!({"a": [1, {"b": "c"}]}))),
        ],
        ..Default::default()
    };
    let resource = Resource {
        attributes: vec![pair(
            "k8s.cluster.name",
            Value::StringValue("prod".to_owned()),
        )],
        ..Default::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs {
                log_records: vec![record; records],
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

/// Allocations while a request is screened in pieces of this length.
fn allocations(screen: &Screen, bytes: &[u8], piece: usize) -> u64 {
    let mut records = 0;
    let counted = allocation_counter::measure(|| {
        let mut screening = screen.begin(1_764_055_023_000_000_000);
        for piece in bytes.chunks(piece) {
            screening.feed(piece).unwrap();
        }
        let screened = screening.finish().unwrap();
        assert_eq!((screened.hits.len(), screened.candidates), (0, 0));
        records = screened.records;
    });
    assert!(records > 0);
    counted.count_total
}

#[test]
fn a_record_that_does_not_match_costs_no_allocation() {
    let event: serde_json::Value = serde_json::from_str(ALLOWED).unwrap();
    for semantics in [Semantics::Native, Semantics::Escu] {
        let screen = Screen::new(
            Rule {
                semantics,
                ..Rule::default()
            },
            64,
            None,
        );
        for (name, body) in [
            ("text", Value::StringValue(ALLOWED.to_owned())),
            ("bytes", Value::BytesValue(ALLOWED.as_bytes().to_vec())),
            ("map", parsed(&event)),
            (
                "foreign",
                Value::StringValue("a line of some other log, code 403".to_owned()),
            ),
        ] {
            // Whole, and in frames as gRPC has them, where some records straddle two.
            for piece in [usize::MAX, 16 * 1024] {
                let few = allocations(&screen, &request(&body, 1000), piece);
                let many = allocations(&screen, &request(&body, 2000), piece);
                assert_eq!(many, few, "{name} in {semantics}, pieces of {piece}");
            }
        }
    }
}

/// Nor does one that several rules look at, though it is parsed for them.
#[test]
fn a_record_that_is_parsed_and_does_not_match_costs_no_allocation() {
    let event: serde_json::Value = serde_json::from_str(ALLOWED).unwrap();
    let names = [
        "pod_exec",
        "anonymous_success",
        "impersonation",
        "privileged_pod",
    ];
    let names = names.map(str::to_owned);
    let rule = Rule::default();
    let detections = load::pipeline(&rule, &Switches::default(), &names).unwrap();
    assert!(
        names
            .iter()
            .all(|name| detections.iter().any(|one| one.name() == *name))
    );
    // One that is evaluated to its end on each event.
    let text = "title: T\nid: 11111111-2222-4333-8444-555555555555\nlevel: low\n\
                logsource: {product: kubernetes, service: audit}\ndetection:\n  a:\n    \
                user.username|re: '^[b-z]'\n    responseStatus.code|lt: 100\n  b:\n    \
                requestURI|contains: /secrets\n    userAgent|startswith: curl\n  \
                condition: a or not a and b\n";
    let every = load::load_text("t", text, &rule).unwrap().detections();
    let detections = detections.into_iter().chain(every).collect();
    let screen = Screen::of(detections, rule, &Limits::default(), None);
    for (name, body) in [
        ("text", Value::StringValue(ALLOWED.to_owned())),
        ("map", parsed(&event)),
    ] {
        let screened = |records| {
            let bytes = request(&body, records);
            let counted = allocation_counter::measure(|| {
                let mut screening = screen.begin(1);
                screening.feed(&bytes).unwrap();
                let screened = screening.finish().unwrap();
                assert_eq!(
                    (screened.hits.len(), screened.candidates),
                    (0, records as u64)
                );
            });
            counted.count_total
        };
        // Patterns get their memory once.
        screened(10);
        assert_eq!(screened(1000), screened(2000), "{name}");
    }
}

/// The counter counts: a record that matches does cost something.
#[test]
fn a_record_that_matches_is_seen_to_allocate() {
    let denied = ALLOWED
        .replace("\"code\":200", "\"code\":403")
        .replace("admin", "system:anonymous");
    let bytes = request(&Value::StringValue(denied), 10);
    let screen = Screen::new(Rule::default(), 64, None);
    let counted = allocation_counter::measure(|| {
        let mut screening = screen.begin(0);
        screening.feed(&bytes).unwrap();
        assert_eq!(screening.finish().unwrap().hits.len(), 10);
    });
    assert!(counted.count_total > 10);
}

/// What a screening says that it holds is what it holds: a record that is not whole yet, and hits
/// of every kind.
#[test]
fn what_a_screening_holds_is_what_it_says() {
    let denied = ALLOWED
        .replace("\"code\":200", "\"code\":403")
        .replace("admin", "system:anonymous");
    let sources: Vec<_> = (0..5000).map(|at| format!("\"2001:db8::{at}\"")).collect();
    let many = denied.replace("\"10.1.2.3\"", &sources.join(","));
    let long = denied.replace("/api/v1/pods", &"/api".repeat(100_000));
    let short = r#"{"verb":"","user":{},"sourceIPs":[],"responseStatus":{"code":403}}"#;
    for (name, body, records) in [
        ("ordinary", denied.as_str(), 2000),
        ("many sources", &many, 200),
        ("long values", &long, 200),
        ("short", short, 5000),
    ] {
        let bytes = request(&Value::StringValue(body.to_owned()), records);
        let screen = Screen::new(Rule::default(), 64, None);
        let (mut claimed, mut most) = (0, 0);
        let counted = allocation_counter::measure(|| {
            let mut screening = screen.begin(0);
            for piece in bytes.chunks(16 * 1024) {
                screening.feed(piece).unwrap();
                most = most.max(screening.heap_bytes());
            }
            claimed = screening.heap_bytes();
            std::mem::forget(screening);
        });
        // Without what the allocator adds to each of them, which `heap_bytes` includes.
        let real = u64::try_from(counted.bytes_current).unwrap();
        let claimed = u64::try_from(claimed).unwrap();
        assert!(claimed * 4 >= real * 3, "{name}: {claimed} of {real}");
        assert!(claimed <= real * 2, "{name}: {claimed} of {real}");
        // A list that grows is counted twice for a moment.
        let most = u64::try_from(most).unwrap();
        let peak = counted.bytes_max;
        assert!(peak <= most * 2 + 64 * 1024, "{name}: {most} of {peak}");
    }
}
