//! The real Collector in front: a recording is appended to a file, `file_log` reads it, `otlp_grpc`
//! sends it with gzip, auditwatch finds, a strict HEC server takes.
//!
//! Both configurations are the ones in otel-config/, with ports and paths from the environment. And
//! the Collector behind: findings over OTLP, written to a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    logs::v1::ResourceLogs,
};
use serde_json::Value;

use crate::support::{
    corpus,
    hec::{HecEvent, HecServer, Options},
    process::{Process, free_address, now, quiet},
    sender::send,
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_mins(1);
/// Lines appended at a time, and the pause between.
const LINES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// The Collector reads every 200 ms and sends after at most 200 ms; the rest is slack for a
/// machine of two busy cores.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Scans at the very end of a log: when it is found, all before it has been read and sent.
const LAST: &str = "198.18.0.250";

/// A recording, and the scan that ends it.
fn recording(name: &str) -> Vec<String> {
    let last = (0..6).map(|at| corpus::denied(LAST, at, "/last"));
    corpus::lines(name).into_iter().chain(last).collect()
}

/// The Collector of tests/collector.
pub(crate) fn collector() -> Option<PathBuf> {
    built("tests/collector/build.sh")
}

/// A program in Go that a script of the tests builds, once and outside the tree. `None`, loudly, when
/// there is no Go to build it with and this is not CI.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment says whether this is CI"
)]
pub(crate) fn built(script: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new("bash").arg(path).output().unwrap();
    if output.status.success() {
        return Some(PathBuf::from(
            String::from_utf8(output.stdout).unwrap().trim(),
        ));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        output.status.code() == Some(3) && !ci,
        "{script} fails:\n{stderr}"
    );
    // Not a print macro: the harness hides those of tests that pass.
    let _told = writeln!(
        std::io::stderr(),
        "\n*** SKIPPED: the tests with the program of {script} need Go: {stderr}\n"
    );
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_becomes_the_golden_findings() {
    let Some(collector) = collector() else { return };
    for name in ["scenario-1", "cloud-style"] {
        chain(&collector, name).await;
    }
}

async fn chain(collector: &Path, name: &str) {
    let lines = recording(name);
    let alerts = corpus::alerts(name);
    let hec = HecServer::start(Options::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let (address, health) = (free_address(), free_address());
    let mut auditwatch = start_auditwatch(&hec, address);
    let mut sender = start_collector(collector, folder.path(), (address, health));

    let appended = append_live(&log, &lines);
    hec.wait_until(
        |events| events.iter().any(|event| source(event) == LAST),
        LONG,
    )
    .await;
    let done = now();
    sender.signal("TERM");
    sender.wait(LONG);
    auditwatch.signal("TERM");
    assert_eq!(
        auditwatch.wait(LONG).code(),
        Some(0),
        "{}",
        auditwatch.stderr()
    );

    let mut events = hec.events();
    // Scans of more than five addresses of a network are listed in one finding of it.
    let listed = members_of(&events);
    let listed: BTreeSet<_> = listed
        .iter()
        .map(String::as_str)
        .filter(|source| alerts.contains_key(*source))
        .collect();
    // Beside the scans, one address had a request that succeeds without credentials.
    events.retain(|event| source(event) != LAST && event.event["rule_id"] == SCANS);
    let openings: Vec<_> = events.iter().filter(|event| is(event, "opened")).collect();
    let mut sources: BTreeSet<_> = openings.iter().map(|event| source(event)).collect();
    assert_eq!(sources.len(), openings.len(), "{name}: one opened for each");
    sources.extend(&listed);
    assert_eq!(
        sources,
        alerts.keys().map(String::as_str).collect(),
        "{name}: each golden alert"
    );
    let due = sixth_lines(&lines);
    for event in openings {
        let line = due[source(event)];
        let waited = event
            .arrived
            .saturating_duration_since(appended[line / LINES]);
        assert!(
            waited < AT_ONCE,
            "{name}: {} took {waited:?}",
            source(event)
        );
        assert!(event.arrived < done);
    }
    let early = appended[appended.len() - 1];
    let before_the_end = events.iter().filter(|event| event.arrived < early).count();
    assert!(before_the_end > 0, "{name}: findings came only at the end");

    let mut last: BTreeMap<&str, &Value> = BTreeMap::new();
    for event in &events {
        last.insert(source(event), &event.event);
    }
    for (source, row) in &alerts {
        let Some(finding) = last.get(source.as_str()) else {
            assert!(listed.contains(source.as_str()));
            continue;
        };
        for key in [
            "alert_at",
            "count",
            "count_by_code",
            "first_time",
            "last_time",
        ] {
            assert_eq!(finding[key], row[key], "{name}: {key} of {source}");
        }
        assert_eq!(finding["cluster"], "suite");
    }
}

pub(crate) fn start_auditwatch(hec: &HecServer, address: std::net::SocketAddr) -> Process {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("otel-config/minimal.yaml");
    let process = Process::auditwatch(
        &config,
        &[
            ("AUDITWATCH_OTLP_ENDPOINT", address.to_string()),
            ("SPLUNK_HEC_TOKEN", "test-token".to_owned()),
            ("SPLUNK_HEC_URL", hec.url()),
        ],
    );
    process.wait_for("listening", LONG);
    process
}

/// The Collector with the configuration of otel-config/, its log and its queue in this folder.
pub(crate) fn start_collector(
    collector: &Path,
    folder: &Path,
    (auditwatch, health): (std::net::SocketAddr, std::net::SocketAddr),
) -> Process {
    let config =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("otel-config/splunk-otel-collector.yaml");
    Process::start(
        collector,
        &[
            "--config",
            config.to_str().unwrap(),
            "--feature-gates=stanza.synchronousLogEmitter",
        ],
        &[
            ("AUDIT_LOG", folder.join("audit.log").display().to_string()),
            (
                "OTELCOL_STORAGE",
                folder.join("storage").display().to_string(),
            ),
            ("AUDITWATCH_ENDPOINT", auditwatch.to_string()),
            ("OTELCOL_HEALTH", health.to_string()),
            ("OTELCOL_METRICS_LEVEL", "none".to_owned()),
            ("OTELCOL_FSYNC", "false".to_owned()),
            ("K8S_CLUSTER_NAME", "suite".to_owned()),
            ("K8S_NODE_NAME", "node-1".to_owned()),
        ],
    )
}

/// Appends the lines as an API server would, a few at a time; when each part was there.
fn append_live(log: &Path, lines: &[String]) -> Vec<Instant> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    lines
        .chunks(LINES)
        .map(|part| {
            file.write_all((part.join("\n") + "\n").as_bytes()).unwrap();
            let there = now();
            std::thread::sleep(PAUSE);
            there
        })
        .collect()
}

/// By address, the line with its sixth distinct refused request, in the order of the log.
fn sixth_lines(lines: &[String]) -> BTreeMap<String, usize> {
    let mut requests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut due = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let event: Value = serde_json::from_str(line).unwrap();
        let code = &event["responseStatus"]["code"];
        let nobody = event["user"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty);
        if (code != 401 && code != 403)
            || !(nobody || event["user"]["username"] == "system:anonymous")
        {
            continue;
        }
        let Some(source) = event["sourceIPs"].as_array().and_then(|all| all.last()) else {
            continue;
        };
        let source = source.as_str().unwrap().to_owned();
        let request = ["auditID", "requestReceivedTimestamp", "verb", "requestURI"]
            .map(|key| event[key].to_string())
            .concat();
        let seen = requests.entry(source.clone()).or_default();
        if seen.insert(request) && seen.len() == 6 {
            due.insert(source, at);
        }
    }
    due
}

/// Addresses that findings list as members of a network.
pub(crate) fn members_of(events: &[HecEvent]) -> BTreeSet<String> {
    let lists = events
        .iter()
        .filter_map(|event| event.event["members"].as_array());
    let members = lists.flatten();
    let sources = members.map(|member| member["source"].as_str().unwrap().to_owned());
    sources.collect()
}

fn is(event: &HecEvent, state: &str) -> bool {
    event.event["state"] == state
}

/// The rule of scans.
const SCANS: &str = "f9cadf4e-df22-4f4e-a08f-9d3344c2165d";

fn source(event: &HecEvent) -> &str {
    event.event["src_ip"].as_str().unwrap()
}

/// Another collector than ours would set up: it parses the events, and sends them as JSON over
/// HTTP or with zstd over gRPC.
#[tokio::test(flavor = "multi_thread")]
async fn parsed_bodies_and_other_protocols_become_the_same_findings() {
    let Some(collector) = collector() else { return };
    for (parse_to, exporter) in [
        (
            "body",
            "otlp_http: {endpoint: 'http://HTTP', encoding: json, compression: zstd, SERIAL}",
        ),
        (
            "attributes",
            "otlp_grpc: {endpoint: GRPC, compression: zstd, tls: {insecure: true}, SERIAL}",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let ours = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, \
             http: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
             processors: {{detection: {{distributed: false}}}}\n\
             exporters: {{file: {{path: '{at}/findings'}}}}\n\
             service: {{pipelines: {{logs: {{receivers: [otlp], processors: [detection], \
             exporters: [file]}}}}}}\n"
        );
        let config = auditwatch::config::parse("ours.yaml", &quiet(&ours), &|_| None).unwrap();
        let service = auditwatch::service::Service::start(config).await.unwrap();
        let [grpc, http] = [0, 1].map(|at: usize| service.addresses()[at].1.to_string());
        // One consumer, so that the order of the log is that of the wire.
        let exporter = exporter
            .replace("SERIAL", "sending_queue: {num_consumers: 1}")
            .replace("HTTP", &http)
            .replace("GRPC", &grpc);
        let theirs = format!(
            "receivers:\n  file_log:\n    include: ['{at}/audit.log']\n    start_at: beginning\n    \
             max_log_size: 16MiB\n    operators: [{{type: json_parser, parse_to: {parse_to}}}]\n\
             exporters: {{{exporter}}}\nservice:\n  telemetry: {{metrics: {{level: none}}}}\n  \
             pipelines: {{logs: {{receivers: [file_log], exporters: [{}]}}}}\n",
            exporter.split(':').next().unwrap()
        );
        std::fs::write(folder.path().join("theirs.yaml"), theirs).unwrap();
        let lines = recording("cloud-style");
        std::fs::write(folder.path().join("audit.log"), lines.join("\n") + "\n").unwrap();
        let config = folder.path().join("theirs.yaml");
        let mut sender = Process::start(&collector, &["--config", config.to_str().unwrap()], &[]);

        let alerts = corpus::alerts("cloud-style");
        let begin = now();
        let findings =
            || std::fs::read_to_string(folder.path().join("findings")).unwrap_or_default();
        while !findings().contains(LAST) {
            assert!(begin.elapsed() < LONG, "{parse_to}\n{}", sender.stderr());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sender.signal("TERM");
        sender.wait(LONG);
        assert!(service.shutdown(LONG).await);
        let findings = findings();
        let mut last: BTreeMap<String, Value> = BTreeMap::new();
        for line in findings.lines() {
            let finding: Value = serde_json::from_str(line).unwrap();
            if finding["rule_id"] == SCANS {
                last.insert(finding["src_ip"].as_str().unwrap().to_owned(), finding);
            }
        }
        last.remove(LAST);
        assert_eq!(last.len(), alerts.len(), "{parse_to}");
        for (source, row) in &alerts {
            for key in [
                "alert_at",
                "count",
                "count_by_code",
                "first_time",
                "last_time",
            ] {
                assert_eq!(last[source][key], row[key], "{parse_to}: {key} of {source}");
            }
        }
    }
}

/// Findings sent on to a real Collector, which writes what it got as OTLP/JSON.
#[tokio::test(flavor = "multi_thread")]
async fn findings_arrive_in_the_collector_over_otlp() {
    let Some(collector) = collector() else { return };
    for exporter in [
        "otlp_grpc: {endpoint: GRPC, tls: {insecure: true}}",
        "otlp_grpc: {endpoint: GRPC, tls: {insecure: true}, compression: zstd}",
        "otlp_http: {endpoint: 'http://HTTP'}",
        "otlp_http: {endpoint: 'http://HTTP', encoding: json, compression: zstd}",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let [grpc, http] = [free_address(), free_address()].map(|address| address.to_string());
        let theirs = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{grpc}'}}, \
             http: {{endpoint: '{http}'}}}}}}}}\n\
             exporters: {{file: {{path: '{at}/theirs.json'}}}}\nservice:\n  telemetry: \
             {{metrics: {{level: none}}}}\n  pipelines: {{logs: {{receivers: [otlp], \
             exporters: [file]}}}}\n"
        );
        std::fs::write(folder.path().join("theirs.yaml"), theirs).unwrap();
        let config = folder.path().join("theirs.yaml");
        let mut receiver = Process::start(&collector, &["--config", config.to_str().unwrap()], &[]);
        receiver.wait_for("Everything is ready", LONG);

        let name = exporter.split(':').next().unwrap();
        let exporter = exporter.replace("GRPC", &grpc).replace("HTTP", &http);
        let ours = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
             processors: {{detection: {{cluster: suite}}}}\n\
             exporters: {{{exporter}, file: {{path: '{at}/findings'}}}}\n\
             service: {{pipelines: {{logs: {{receivers: [otlp], processors: [detection], \
             exporters: [{name}, file]}}}}}}\n"
        );
        let config = auditwatch::config::parse("ours.yaml", &quiet(&ours), &|_| None).unwrap();
        let service = auditwatch::service::Service::start(config).await.unwrap();
        let address = service.addresses()[0].1;
        for part in recording("cloud-style").chunks(LINES) {
            let status = send(address, part, None).await;
            assert!(status.is_ok(), "{status:?}");
        }
        assert!(service.shutdown(LONG).await);
        receiver.signal("TERM");
        receiver.wait(LONG);

        let findings = std::fs::read_to_string(folder.path().join("findings")).unwrap();
        let findings: Vec<Value> = findings
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(findings.len() > 1);
        let written = std::fs::read_to_string(folder.path().join("theirs.json")).unwrap();
        assert_same(&written, &findings, &exporter);
    }
}

/// That what the Collector wrote, read by types that are not ours, is these findings in order.
fn assert_same(written: &str, findings: &[Value], exporter: &str) {
    let groups: Vec<ResourceLogs> = written
        .lines()
        .flat_map(|line| {
            let request: ExportLogsServiceRequest = serde_json::from_str(line).unwrap();
            request.resource_logs
        })
        .collect();
    let mut records = groups.iter().flat_map(|group| {
        let records = group.scope_logs.iter().flat_map(|scope| &scope.log_records);
        records.map(move |record| (group.resource.as_ref().unwrap(), record))
    });
    for finding in findings {
        let (resource, record) = records.next().expect(exporter);
        let text = |key: &str| finding[key].as_str().unwrap();
        assert_eq!(
            record.event_name,
            format!("auditwatch.finding.{}", text("state"))
        );
        let severity = match text("severity") {
            "informational" => (9, "INFO"),
            "low" => (13, "WARN"),
            "medium" => (15, "WARN3"),
            "high" => (17, "ERROR"),
            _ => (21, "FATAL"),
        };
        assert_eq!(
            (record.severity_number, record.severity_text.as_str()),
            severity
        );
        assert!(record.observed_time_unix_nano > 0 && record.time_unix_nano > 0);
        let body = plain(record.body.as_ref().unwrap());
        let begin = format!("Kubernetes scanning from ip {}", text("src_ip"));
        let body = body.as_str().unwrap();
        let is_said = text("rule_id") != SCANS || body.starts_with(&begin);
        assert!(is_said && body.contains(text("state")), "{body}");
        assert_eq!(
            members(&resource.attributes)["k8s.cluster.name"],
            finding["cluster"]
        );
        let attributes = members(&record.attributes);
        for (key, value) in finding.as_object().unwrap() {
            let name = match key.as_str() {
                "cluster" => continue,
                "rule_id" => "security_rule.uuid",
                "rule_name" => "security_rule.name",
                "rule_version" => "security_rule.version",
                "src_ip" => "client.address",
                other => &format!("auditwatch.finding.{other}"),
            };
            assert_eq!(attributes[name], *value, "{exporter}: {key}");
        }
    }
    assert!(records.next().is_none(), "{exporter}: more than was sent");
}

/// A value as JSON would have it.
fn plain(value: &AnyValue) -> Value {
    use any_value::Value::{
        ArrayValue, BoolValue, DoubleValue, IntValue, KvlistValue, StringValue,
    };
    match value.value.as_ref().unwrap() {
        StringValue(text) => text.as_str().into(),
        BoolValue(value) => (*value).into(),
        IntValue(number) => (*number).into(),
        DoubleValue(number) => (*number).into(),
        ArrayValue(list) => list.values.iter().map(plain).collect(),
        KvlistValue(list) => members(&list.values),
        other => panic!("{other:?}"),
    }
}

fn members(list: &[KeyValue]) -> Value {
    list.iter()
        .map(|one| (one.key.clone(), plain(one.value.as_ref().unwrap())))
        .collect()
}
