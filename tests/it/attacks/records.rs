//! Records that are small on the wire and large in memory.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use auditwatch::detection::{fields::AuditField, hit::Hit, rule::Rule, screen::Screen};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};
use prost::Message as _;

use crate::support::{
    corpus::denied,
    process::{Process, free_address, now},
    props::cases,
    sender::{self, Answer, End, framed},
};

const MIB: u64 = 1024 * 1024;
/// Longer than anything takes here, on a busy machine too.
const LONG: Duration = Duration::from_mins(2);
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// The real binary, with both protocols and a file of findings.
struct Target {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    folder: tempfile::TempDir,
}

impl Target {
    async fn start() -> Self {
        Self::with("").await
    }

    /// With more settings of the protocol gRPC.
    async fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (grpc, http) = (free_address(), free_address());
        let config = folder.path().join("config.yaml");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{grpc}'{more}}}, http: {{endpoint: '{http}'}}}}}}}}\n\
             processors: {{detection: }}\n\
             exporters: {{file: {{path: '{}'}}}}\n\
             service:\n  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [file]}}}}\n",
            folder.path().join("findings").display()
        );
        fs::write(&config, text).unwrap();
        let process = Process::auditwatch(&config, &[]);
        let begin = now();
        while tokio::net::TcpStream::connect(http).await.is_err() {
            assert!(begin.elapsed() < LONG, "{}", process.stderr());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let target = Self {
            process,
            grpc,
            http,
            folder,
        };
        // What any first request costs is no part of what is measured.
        target.neighbour("192.0.2.250").await;
        target
    }

    /// A scan of another sender comes out.
    async fn neighbour(&self, address: &str) {
        let lines: Vec<_> = (0..6)
            .map(|at| denied(address, at, &format!("/{at}")))
            .collect();
        sender::send(self.grpc, &lines, None).await.unwrap();
        let begin = now();
        while !self.findings().contains(&format!("\"{address}\"")) {
            assert!(begin.elapsed() < LONG, "{}", self.process.stderr());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn findings(&self) -> String {
        fs::read_to_string(self.folder.path().join("findings")).unwrap_or_default()
    }

    /// Posts a message, compressed.
    async fn post(&self, message: &[u8]) -> Answer {
        post(self.http, "application/x-protobuf", gzip(message)).await
    }

    /// Sends a message over gRPC, compressed; the status of the answer.
    async fn export(&self, message: &[u8]) -> String {
        export(self.grpc, gzip(message)).await
    }

    /// Runs something and says by how many bytes the resident memory grew at most meanwhile.
    async fn growth<T>(&self, attack: impl Future<Output = T>) -> (T, u64) {
        self.process.reset_peak();
        let before = self.process.resident();
        let done = attack.await;
        (done, self.process.peak().saturating_sub(before))
    }
}

async fn post(address: SocketAddr, kind: &str, gzip: Vec<u8>) -> Answer {
    let headers = [("content-type", kind), ("content-encoding", "gzip")];
    sender::http(address, "POST", "/v1/logs", &headers, gzip)
        .await
        .unwrap()
}

async fn export(address: SocketAddr, gzip: Vec<u8>) -> String {
    let frames = vec![framed(1, &gzip)];
    let headers = [("grpc-encoding", "gzip")];
    let answer = sender::raw(address, EXPORT, &headers, frames, End::Well).await;
    let (_, headers) = answer.unwrap();
    headers["grpc-status"].to_str().unwrap().to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A request with these bodies, in a cluster.
fn request(cluster: &str, bodies: Vec<AnyValue>) -> Vec<u8> {
    let records = bodies.into_iter().map(|body| LogRecord {
        body: Some(body),
        ..Default::default()
    });
    let attribute = KeyValue {
        key: "k8s.cluster.name".to_owned(),
        value: Some(text(cluster)),
        ..Default::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![attribute],
                ..Default::default()
            }),
            scope_logs: vec![ScopeLogs {
                log_records: records.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

fn text(text: &str) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(text.to_owned())),
    }
}

/// The line of a denied request with one member more, or another value of one.
fn line(address: &str, at: u32, member: &str) -> String {
    let line = denied(address, at, "/x");
    format!("{},{member}}}", line.strip_suffix('}').unwrap())
}

/// Fields of protobuf by hand, for what no library writes.
mod wire {
    pub(super) fn field(tag: u32, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 12);
        prost::encoding::encode_varint(u64::from(tag << 3 | 2), &mut out);
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    }

    /// A `KeyValue` with this encoded value.
    pub(super) fn pair(key: &str, value: &[u8]) -> Vec<u8> {
        [field(1, key.as_bytes()), field(2, value)].concat()
    }

    pub(super) fn text(text: &str) -> Vec<u8> {
        field(1, text.as_bytes())
    }

    /// A map of encoded pairs.
    pub(super) fn map(pairs: &[Vec<u8>]) -> Vec<u8> {
        let pairs: Vec<_> = pairs.iter().map(|pair| field(1, pair)).collect();
        field(6, &pairs.concat())
    }

    /// A list of encoded values.
    pub(super) fn list(elements: &[Vec<u8>]) -> Vec<u8> {
        let elements: Vec<_> = elements.iter().map(|value| field(1, value)).collect();
        field(5, &elements.concat())
    }

    /// A request of one record with this encoded body.
    pub(super) fn request(body: &[u8]) -> Vec<u8> {
        field(1, &field(2, &field(2, &field(5, body))))
    }
}

/// A denied request as a map, with these pairs besides.
fn denied_map(address: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let user = wire::map(&[
        wire::pair("username", &wire::text("system:anonymous")),
        wire::pair(
            "groups",
            &wire::list(&[wire::text("system:unauthenticated")]),
        ),
    ]);
    let status = wire::map(&[wire::pair("code", &wire::text("403"))]);
    let mut pairs = vec![
        wire::pair("verb", &wire::text("get")),
        wire::pair("user", &user),
        wire::pair("sourceIPs", &wire::list(&[wire::text(address)])),
        wire::pair("responseStatus", &status),
    ];
    pairs.extend_from_slice(more);
    wire::request(&wire::map(&pairs))
}

/// Members that are never looked at, and values that are looked at and not kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_is_not_built() {
    let target = Target::start().await;
    let objects = vec!["{}"; 1_200_000].join(",");
    let texts = vec!["\"\""; 1_200_000].join(",");
    for (name, member, most) in [
        ("items", format!("\"items\":[{objects}]"), 40),
        ("auditID", format!("\"auditID\":[{objects}]"), 40),
        (
            "depth",
            format!("\"x\":{}{}", "[".repeat(1_500_000), "]".repeat(1_500_000)),
            40,
        ),
        ("sourceIPs", format!("\"sourceIPs\":[{texts}]"), 40),
        (
            "groups",
            format!("\"user\":{{\"username\":\"\",\"groups\":[{texts}]}}"),
            40,
        ),
        (
            "long escapes",
            format!("\"userAgent\":\"{}\"", "\\u00e9".repeat(500_000)),
            40,
        ),
        ("long key", format!("\"{}\":0", "\\n".repeat(1_500_000)), 40),
    ] {
        let message = request("test", vec![text(&line("192.0.2.1", 0, &member))]);
        let (status, grew) = target.growth(target.export(&message)).await;
        assert_eq!(status, "0", "{name}");
        assert!(grew < most * MIB, "{name}: {} MiB", grew / MIB);
    }
    target.neighbour("192.0.2.99").await;
}

/// The same as maps, where fields may come twice as well.
#[tokio::test(flavor = "multi_thread")]
async fn maps_are_not_built_either() {
    let target = Target::start().await;
    let empties = wire::field(5, &[0x0a, 0].repeat(1_200_000));
    let texts = wire::field(5, &[0x0a, 2, 0x0a, 0].repeat(800_000));
    // Twice at each level: an empty map and the next one.
    let mut deep = wire::text(&"x".repeat(4 << 20));
    for _ in 0..28 {
        let pair = [
            wire::field(1, b"k"),
            wire::field(2, &wire::map(&[])),
            wire::field(2, &deep),
        ];
        deep = wire::map(&[pair.concat()]);
    }
    let user = wire::map(&[wire::pair("groups", &texts)]);
    let halves = [wire::field(5, &[0x0a, 0]).repeat(800_000)].concat();
    for (name, pair, most) in [
        ("auditID", wire::pair("auditID", &empties), 40),
        ("items", wire::pair("items", &empties), 40),
        ("sourceIPs", wire::pair("sourceIPs", &texts), 40),
        ("groups", wire::pair("user", &user), 40),
        ("keys twice", wire::pair("auditID", &deep), 40),
        (
            "one list in very many parts",
            wire::pair("auditID", &halves),
            40,
        ),
    ] {
        let message = denied_map("192.0.2.1", &[pair]);
        let (answer, grew) = target.growth(target.post(&message)).await;
        assert_eq!(answer.0, 200, "{name}");
        assert!(grew < most * MIB, "{name}: {} MiB", grew / MIB);
    }
    target.neighbour("192.0.2.99").await;
}

/// What is kept of a hit is what the limits say, in the engine and on the way to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hit_holds_what_is_kept_and_no_more() {
    let target = Target::start().await;
    let sources = vec!["\"::\""; 200_000].join(",");
    let before = target.process.resident();
    for at in 0..15 {
        let line = line("192.0.2.1", at, &format!("\"sourceIPs\":[{sources}]"));
        let message = request("test", vec![text(&line)]);
        assert_eq!(target.export(&message).await, "0");
    }
    let grew = target.process.resident().saturating_sub(before);
    assert!(grew < 24 * MIB, "{} MiB", grew / MIB);
    let long = "\\u00e9".repeat(100_000);
    for at in 0..15 {
        let line = line(
            "192.0.2.2",
            at,
            &format!("\"userAgent\":\"{long}\",\"auditID\":\"{long}{at}\""),
        );
        let message = request("test", vec![text(&line)]);
        assert_eq!(target.export(&message).await, "0");
    }
    let grew = target.process.resident().saturating_sub(before);
    assert!(grew < 64 * MIB, "{} MiB", grew / MIB);
    // Each was counted, for what makes them differ is beyond what is kept.
    let findings = target.findings();
    let last = findings.lines().rfind(|line| line.contains("192.0.2.2"));
    assert!(last.unwrap().contains("user_agents"), "{findings:.300}");
}

/// The name of a cluster is a value like any other.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_names_are_cut_and_stay_distinct() {
    let target = Target::start().await;
    let attack = async {
        for cluster in ["a", "b"] {
            let name = "n".repeat(8 << 20) + cluster;
            let lines = (0..20).flat_map(|address| {
                (0..6).map(move |at| {
                    text(&denied(
                        &format!("192.0.2.{address}"),
                        at,
                        &format!("/{at}"),
                    ))
                })
            });
            let message = request(&name, lines.collect());
            assert_eq!(target.export(&message).await, "0");
        }
    };
    let ((), grew) = target.growth(attack).await;
    assert!(grew < 100 * MIB, "{} MiB", grew / MIB);
    target.neighbour("192.0.2.99").await;
    let findings = target.findings();
    let clusters: std::collections::BTreeSet<_> = findings
        .split("\"cluster\":\"nnnnnnnn")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(clusters.len(), 2, "{findings:.3000}");
    assert!(clusters.iter().all(|name| name.len() < 1024));
}

/// Hits take more room than the records they are read from, within a bound.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_holds_a_few_times_its_limit_at_most() {
    let target = Target::with(", max_recv_msg_size_mib: 4").await;
    let tiny = r#"{"verb":"","user":{},"responseStatus":{"code":403}}"#;
    let message = request("test", vec![text(tiny); 65_000]);
    let (status, grew) = target.growth(target.export(&message)).await;
    assert_eq!(status, "8", "RESOURCE_EXHAUSTED: it will never be taken");
    assert!(grew < 64 * MIB, "{} MiB", grew / MIB);
    let few = request("test", vec![text(tiny); 1000]);
    assert_eq!(target.export(&few).await, "0");
    target.neighbour("192.0.2.99").await;
}

/// OTLP/JSON: what it is written as is held within three times its length, and no answer quotes it.
#[tokio::test(flavor = "multi_thread")]
async fn json_holds_a_few_times_its_length() {
    let target = Target::start().await;
    let records = |records: &str| {
        format!("{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{records}]}}]}}]}}")
    };
    let long = records(&format!(
        "{{\"timeUnixNano\":\"{}\"}}",
        "\u{200b}".repeat(4 << 20)
    ));
    let empties = records(&vec!["{}"; 1_000_000].join(","));
    for (name, body, status) in [("long", long, 400), ("empties", empties, 200)] {
        let length = body.len() as u64;
        let body = gzip(body.as_bytes());
        let attack = post(target.http, "application/json", body);
        let (answer, grew) = target.growth(attack).await;
        assert_eq!(answer.0, status, "{name}");
        assert!(answer.2.len() < 1000, "{name}");
        assert!(grew < 3 * length + 20 * MIB, "{name}: {} MiB", grew / MIB);
    }
    target.neighbour("192.0.2.99").await;
}

/// Requests that take long, several at once: others are answered meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_work_holds_up_nobody() {
    let target = Target::start().await;
    let objects = vec!["{}"; 1_000_000].join(",");
    let long = request(
        "test",
        vec![text(&line(
            "192.0.2.1",
            0,
            &format!("\"items\":[{objects}]"),
        ))],
    );
    // Empty records, two bytes each.
    let many = wire::field(1, &wire::field(2, &[0x12, 0].repeat(1_500_000)));
    for (name, message) in [("a long record", long), ("many records", many)] {
        let message = gzip(&message);
        let begin = now();
        let heavy: Vec<_> = (0..6)
            .map(|_| {
                #[expect(clippy::disallowed_methods, reason = "the tests have no task tracker")]
                tokio::spawn(export(target.grpc, message.clone()))
            })
            .collect();
        let mut slowest = Duration::ZERO;
        while heavy.iter().any(|task| !task.is_finished()) {
            let sent = now();
            sender::send(target.grpc, &[denied("192.0.2.7", 0, "/")], None)
                .await
                .unwrap();
            slowest = slowest.max(sent.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for task in heavy {
            assert_eq!(task.await.unwrap(), "0", "{name}");
        }
        let all = begin.elapsed();
        assert!(
            // Who has to wait for them waits for nearly all of it.
            slowest < all / 3 + Duration::from_millis(100),
            "{name}: {slowest:?} of {all:?}"
        );
    }
}

/// A JSON value, and the same as a collector's parser leaves it.
fn carried(value: &serde_json::Value) -> Vec<u8> {
    match value {
        serde_json::Value::Null => Vec::new(),
        serde_json::Value::Bool(value) => vec![0x10, u8::from(*value)],
        serde_json::Value::Number(number) => {
            [&[0x21][..], &number.as_f64().unwrap().to_le_bytes()].concat()
        }
        serde_json::Value::String(text) => wire::text(text),
        serde_json::Value::Array(list) => wire::list(&list.iter().map(carried).collect::<Vec<_>>()),
        serde_json::Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| wire::pair(key, &carried(value)));
            wire::map(&pairs.collect::<Vec<_>>())
        }
    }
}

fn composite() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(serde_json::Value::from),
        (-1e3..1e3).prop_map(|number: f64| serde_json::Value::from(number + 0.5_f64.powi(20))),
        "[a-c\"\\\\é😀]{0,6}".prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            btree_map("[a-c\"]{0,3}", inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// The hit of a request of one record.
fn hit(bytes: &[u8]) -> Hit {
    let mut screening = Screen::new(Rule::default(), 64, None).begin(1);
    screening.feed(bytes).unwrap();
    screening.finish().unwrap().hits.remove(0)
}

proptest! {
    #![proptest_config(cases(200))]

    /// Two deliveries are one request, as JSON text and as a map, whatever stands in the place of
    /// an audit id; and the reading of a map in two parts is that of one.
    #[test]
    fn identity_is_that_of_the_value(value in composite(), other in composite()) {
        let as_text = |value: &serde_json::Value| {
            let event = serde_json::json!({
                "verb": "get", "user": {"username": "system:anonymous"}, "sourceIPs": ["192.0.2.1"],
                "responseStatus": {"code": 403}, "auditID": value,
            });
            hit(&request("", vec![text(&event.to_string())]))
        };
        let as_map = |encoded: &[u8]| hit(&denied_map("192.0.2.1", &[wire::pair("auditID", encoded)]));
        let mapped = as_map(&carried(&value));
        prop_assert_eq!(as_text(&value).identity, mapped.identity);
        let audit_id = |hit: &Hit| hit.texts.get(AuditField::AuditId).map(str::to_owned);
        prop_assert_eq!(audit_id(&as_text(&value)), audit_id(&mapped));
        prop_assert_eq!(value == other, as_text(&value).identity == as_text(&other).identity);
        if let serde_json::Value::Object(map) = &value {
            let parts = map.iter().map(|(key, value)| wire::map(&[wire::pair(key, &carried(value))]));
            let parts = parts.collect::<Vec<_>>().concat();
            let parts = if parts.is_empty() { wire::map(&[]) } else { parts };
            prop_assert_eq!(as_map(&parts).identity, mapped.identity);
        }
    }
}

/// The most resident memory of a run of `scan`, and what it wrote.
fn scan(arguments: &[&str], log: &Path, out: &Path) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_auditwatch"))
        .arg("scan")
        .args(arguments)
        .arg(log)
        .stdin(Stdio::null())
        .stdout(fs::File::create(out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let kilobytes = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes =
            kilobytes.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or_default() * 1024);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    peak
}

/// A log that names very many addresses, each with all that an event says.
#[test]
fn scan_shares_what_addresses_have_in_common() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let out = folder.path().join("out");
    let lines = |same: bool| {
        let mut file = std::io::BufWriter::new(fs::File::create(&log).unwrap());
        for at in 0..10 {
            let part = if same { 0 } else { at };
            let sources: Vec<_> = (0..70_000)
                .map(|source| format!("\"10.{part}.{}.{}\"", source / 256, source % 256))
                .collect();
            let member = format!("\"sourceIPs\":[{}]", sources.join(","));
            writeln!(file, "{}", line("192.0.2.1", at, &member)).unwrap();
        }
    };
    lines(false);
    let peak = scan(&["--semantics", "escu", "--output", "json"], &log, &out);
    assert!(peak < 200 * MIB, "distinct: {} MiB", peak / MIB);
    assert_eq!(fs::read_to_string(&out).unwrap(), "[]\n");
    lines(true);
    let peak = scan(&["--semantics", "escu"], &log, &out);
    assert!(peak < 200 * MIB, "the same: {} MiB", peak / MIB);
    let text = fs::read_to_string(&out).unwrap();
    let rows = text.lines().filter(|line| line.contains("10.0.")).count();
    assert_eq!(rows, 70_000);
}

/// A log of very many addresses that asked once, and one line that is a list of millions.
#[test]
fn scan_keeps_little_of_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let out = folder.path().join("out");
    let mut file = std::io::BufWriter::new(fs::File::create(&log).unwrap());
    for at in 0..40_000 {
        let address = format!("10.{}.{}.{}", at >> 16, at >> 8 & 255, at & 255);
        writeln!(file, "{}", denied(&address, at, "/x")).unwrap();
    }
    let objects = vec!["{}"; 1_000_000].join(",");
    writeln!(file, "{{\"items\":[{objects}]}}").unwrap();
    drop(file);
    let peak = scan(&["--all", "--output", "json"], &log, &out);
    assert!(peak < 75 * MIB, "{} MiB", peak / MIB);
    let text = fs::read_to_string(&out).unwrap();
    assert_eq!(text.matches("\"src_ip\"").count(), 40_000);
}
