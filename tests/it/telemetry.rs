//! What auditwatch says of itself, as others hear it: metrics through a scraper and through a
//! collector's service, and the log.

use std::{net::SocketAddr, sync::Mutex, time::Duration};

use auditwatch::{
    config,
    service::Service,
    telemetry::metrics::{ALL, Kind},
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::any_value,
    metrics::v1::{metric::Data, number_data_point::Value},
    trace::v1::Span,
};
use tonic::{Request, Response, Status};

use crate::support::{
    corpus::denied,
    process::{Process, free_address, now},
    prometheus::{Scrape, get, scrape},
    sender::{End, raw, send},
};

const LONG: Duration = Duration::from_secs(20);
const PULL: &str = "pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}";

/// A configuration that writes findings to a file, with this under `telemetry`.
fn config(folder: &tempfile::TempDir, grpc: &str, telemetry: &str) -> String {
    format!(
        "receivers: {{otlp/a: {{protocols: {{grpc: {{endpoint: '{grpc}'}}, \
         http: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
         processors: {{detection: }}\n\
         exporters: {{file: {{path: '{}/findings'}}}}\n\
         service:\n  telemetry: {{{telemetry}}}\n  pipelines: {{logs/x: {{receivers: [otlp/a], \
         processors: [detection], exporters: [file]}}}}\n",
        folder.path().display()
    )
}

async fn start(folder: &tempfile::TempDir, telemetry: &str) -> Service {
    let exclude = "{detection: {exclude: [{name: a, cidr: 192.0.2.1}]}}";
    let text = config(folder, "127.0.0.1:0", telemetry).replace("{detection: }", exclude);
    let config = config::parse("test.yaml", &text, &|_| None).unwrap();
    Service::start(config).await.unwrap()
}

fn scan(source: &str, requests: u32) -> Vec<String> {
    (0..requests)
        .map(|at| denied(source, at, &format!("/{at}")))
        .collect()
}

/// Scrapes until a value is there.
async fn until(address: SocketAddr, name: &str, labels: &[(&str, &str)], value: f64) -> Scrape {
    let begin = now();
    loop {
        let scrape = scrape(address).await;
        if scrape.sum(name, labels) == Some(value) {
            return scrape;
        }
        assert!(
            begin.elapsed() < LONG,
            "{name} {labels:?} is {:?}, not {value}",
            scrape.sum(name, labels)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_scraper_sees_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(
        &folder,
        &format!("metrics: {{level: detailed, readers: [{PULL}]}}"),
    )
    .await;
    let (grpc, metrics) = (service.addresses()[0].1, service.metrics_addresses()[0]);
    let before = scrape(metrics).await;
    let accepted = "otelcol_receiver_accepted_log_records";
    let over = |transport| [("receiver", "otlp/a"), ("transport", transport)];
    assert_eq!(before.sum(accepted, &over("grpc")), Some(0.0));

    let mut lines = scan("203.0.113.7", 8);
    lines.push("nothing of interest".to_owned());
    lines.push(r#"{"code":403} cut"#.to_owned());
    send(grpc, &lines, None).await.unwrap();
    send(grpc, &lines[..8], None).await.unwrap();
    let metrics_of = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    raw(grpc, metrics_of, &[], vec![], End::Well).await;
    let junk = vec![vec![0, 0, 0, 0, 1, 0xff]];
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    raw(grpc, path, &[], junk, End::Well).await;

    let seen = until(
        metrics,
        "otelcol_exporter_sent_log_records",
        &[("exporter", "file")],
        1.0,
    )
    .await;
    the_counts_are_right(&seen);
    assert!(seen.sum("otelcol_process_uptime", &[]) > Some(0.0));
    assert!(seen.sum("otelcol_process_memory_rss", &[]) > Some(1e6));
    assert!(seen.sum("otelcol_process_cpu_seconds", &[]) > Some(0.0));
    let info = [
        ("service_name", "auditwatch"),
        ("service_version", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(seen.sum("target_info", &info), Some(1.0));
    the_list_is_what_is_shown(&seen);
    assert!(service.shutdown(LONG).await);
}

/// 18 records in two requests, 16 of them refused requests of one address, each of them twice.
fn the_counts_are_right(seen: &Scrape) {
    let pipeline = [("pipeline", "logs/x")];
    let processor = [("processor", "detection"), ("otel_signal", "logs")];
    let queue = [("exporter", "file"), ("data_type", "logs")];
    let over = |transport| [("receiver", "otlp/a"), ("transport", transport)];
    let [receiver, transport] = over("grpc");
    let refused = |reason| [receiver, transport, ("reason", reason)];
    let accepted = "otelcol_receiver_accepted_log_records";
    for (name, labels, wanted) in [
        (accepted, &over("grpc")[..], 17.0),
        (accepted, &over("http"), 0.0),
        ("otelcol_receiver_refused_log_records", &over("grpc"), 1.0),
        ("auditwatch_receiver_requests", &over("grpc"), 2.0),
        (
            "auditwatch_receiver_refused_requests",
            &refused("unsupported"),
            1.0,
        ),
        (
            "auditwatch_receiver_refused_requests",
            &refused("malformed"),
            1.0,
        ),
        ("auditwatch_receiver_refused_requests", &[], 2.0),
        ("otelcol_processor_incoming_items", &processor, 17.0),
        ("otelcol_processor_outgoing_items", &processor, 1.0),
        ("otelcol_exporter_send_failed_log_records", &queue[..1], 0.0),
        ("otelcol_exporter_queue_size", &queue, 0.0),
        ("otelcol_exporter_queue_capacity", &queue, 1000.0),
        ("auditwatch_screened_log_records", &pipeline, 18.0),
        ("auditwatch_candidates", &pipeline, 17.0),
        ("auditwatch_unreadable_log_records", &pipeline, 1.0),
        ("auditwatch_hits", &pipeline, 16.0),
        ("auditwatch_hits_duplicate", &pipeline, 8.0),
        ("auditwatch_tracked_keys", &pipeline, 1.0),
        ("auditwatch_evicted_keys", &pipeline, 0.0),
        (
            "auditwatch_findings",
            &[("pipeline", "logs/x"), ("state", "opened")],
            1.0,
        ),
        ("auditwatch_findings", &pipeline, 1.0),
        (
            "auditwatch_finding_lag_count",
            &[("pipeline", "logs/x"), ("state", "opened")],
            1.0,
        ),
        ("auditwatch_exporter_delivery_delay_count", &queue[..1], 1.0),
        ("auditwatch_admission_memory", &[], 0.0),
    ] {
        assert_eq!(seen.sum(name, labels), Some(wanted), "{name} {labels:?}");
    }
}

/// Every metric of the list is there, with its type, help and attributes, and no other.
fn the_list_is_what_is_shown(seen: &Scrape) {
    // A file has no dead letters: `dead_letter.rs` looks at those of an exporter that has. And there is
    // no storage: `storage_failures.rs` looks at one.
    let elsewhere = ["auditwatch_exporter_dead_letters", "auditwatch_storage_"];
    let all = ALL.iter().filter(|metric| {
        let mut elsewhere = elsewhere.iter();
        !elsewhere.any(|begin| metric.name.starts_with(begin))
    });
    let mut listed: Vec<_> = all.clone().map(|metric| metric.name).collect();
    listed.push("target_info");
    listed.sort_unstable();
    let shown: Vec<_> = seen.types.keys().map(String::as_str).collect();
    assert_eq!(shown, listed);
    for metric in all {
        let kind = match metric.kind {
            Kind::Counter | Kind::Seconds => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(seen.types[metric.name], kind, "{}", metric.name);
        assert_eq!(seen.help[metric.name], metric.description);
        let (_, labels, _) = seen
            .samples
            .iter()
            .find(|(name, ..)| name.starts_with(metric.name))
            .unwrap();
        let mut wanted: Vec<_> = metric
            .attributes
            .iter()
            .map(|name| name.replace('.', "_"))
            .collect();
        wanted.sort_unstable();
        let labels: Vec<_> = labels
            .keys()
            .filter(|name| *name != "le")
            .cloned()
            .collect();
        assert_eq!(labels, wanted, "{}", metric.name);
    }
}

#[tokio::test]
async fn only_metrics_are_served_and_names_follow_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let pull = PULL.replace(
        "port: 0",
        "port: 0, without_type_suffix: false, without_units: false",
    );
    let telemetry = format!(
        "metrics: {{level: basic, readers: [{pull}]}}, resource: {{service.name: mine, a.b: c, \
         service.version: }}"
    );
    let service = start(&folder, &telemetry).await;
    let address = service.metrics_addresses()[0];
    let (head, _) = get(address, "GET", "/").await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    let (head, _) = get(address, "POST", "/metrics").await;
    assert!(
        head.starts_with("http/1.1 405 ") && head.contains("allow: get"),
        "{head}"
    );
    let seen = scrape(address).await;
    for there in [
        "otelcol_receiver_accepted_log_records_total",
        "otelcol_process_memory_rss_bytes",
        "otelcol_process_uptime_seconds_total",
    ] {
        assert!(seen.types.contains_key(there), "{:?}", seen.types);
    }
    assert!(
        !seen
            .types
            .keys()
            .any(|name| name.starts_with("auditwatch_candidates")),
        "{:?}",
        seen.types
    );
    assert_eq!(
        seen.sum("target_info", &[("service_name", "mine"), ("a_b", "c")]),
        Some(1.0)
    );
    assert_eq!(
        seen.sum("target_info", &[("service_version", "0.1.0")]),
        None
    );
    assert!(service.shutdown(LONG).await);
}

/// A scraper that says nothing costs no other its answer, and the end does not wait for it.
#[tokio::test]
async fn silent_scrapers_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &format!("metrics: {{readers: [{PULL}]}}")).await;
    let address = service.metrics_addresses()[0];
    let _silent: Vec<_> = (0..8)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    scrape(address).await;
    let begin = now();
    assert!(service.shutdown(LONG).await);
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pull = PULL.replace("port: 0", &format!("port: {}", address.port()));
    let file = folder.path().join("taken.yaml");
    let text = config(
        &folder,
        "127.0.0.1:0",
        &format!("metrics: {{readers: [{pull}]}}"),
    );
    std::fs::write(&file, text).unwrap();
    let mut process = Process::auditwatch(&file, &[]);
    assert_eq!(process.wait(LONG).code(), Some(1));
    process.wait_for(
        &format!("cannot listen on {address} for Prometheus: "),
        LONG,
    );
    process.wait_for("level: none under service::telemetry::metrics", LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_for_prometheus_is_logged_and_level_none_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let address = free_address();
    let on = config(
        &folder,
        &address.to_string(),
        &format!("metrics: {{readers: [{PULL}]}}"),
    );
    std::fs::write(&file, &on).unwrap();
    let mut process = Process::auditwatch(&file, &[]);
    process.wait_for("listening", LONG);
    let stderr = process.stderr();
    let (_, rest) = stderr.split_once("endpoint=http://").expect(&stderr);
    let (metrics, _) = rest.split_once("/metrics").expect(&stderr);
    send(address, &scan("203.0.113.7", 6), None).await.unwrap();
    let sent = "otelcol_exporter_sent_log_records";
    until(metrics.parse().unwrap(), sent, &[], 1.0).await;
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0));

    std::fs::write(&file, on.replace("{readers:", "{level: none, readers:")).unwrap();
    let mut process = Process::auditwatch(&file, &[]);
    process.wait_for("listening", LONG);
    assert!(!process.stderr().contains("Prometheus"));
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0));
}

/// The metrics service of a collector, which keeps what it gets.
#[derive(Default)]
struct Kept {
    requests: Mutex<Vec<(Option<String>, ExportMetricsServiceRequest)>>,
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let token = request.metadata().get("x-token");
        let token = token.and_then(|token| token.to_str().ok().map(str::to_owned));
        let kept = (token, request.into_inner());
        self.requests.lock().unwrap().push(kept);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Kept {
    /// The value of a metric in the last request, its token and who sent it.
    fn last(&self, name: &str) -> Option<(i64, Option<String>, Vec<String>)> {
        let requests = self.requests.lock().unwrap();
        let (token, request) = requests.last()?;
        let of = &request.resource_metrics[0];
        let names = of.resource.iter().flat_map(|resource| &resource.attributes);
        let names = names.map(|pair| pair.key.clone()).collect();
        let metrics = of.scope_metrics.iter().flat_map(|scope| &scope.metrics);
        let metric = metrics.into_iter().find(|metric| metric.name == name)?;
        let Some(Data::Sum(sum)) = &metric.data else {
            panic!("{metric:?}")
        };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        let values = sum.data_points.iter().map(|point| match point.value {
            Some(Value::AsInt(value)) => value,
            other => panic!("{other:?}"),
        });
        Some((values.sum(), token.clone(), names))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the tests have no task tracker")]
async fn metrics_are_pushed_and_the_last_ones_at_the_end() {
    let kept = std::sync::Arc::new(Kept::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder()
        .add_service(MetricsServiceServer::from_arc(std::sync::Arc::clone(&kept)))
        .serve_with_incoming(incoming);
    tokio::spawn(server);

    let folder = tempfile::tempdir().unwrap();
    let telemetry = format!(
        "metrics: {{readers: [{{periodic: {{interval: 50ms, exporter: {{otlp: {{protocol: grpc, \
         endpoint: '{address}', insecure: true, headers: {{x-token: t}}}}}}}}}}]}}"
    );
    let service = start(&folder, &telemetry).await;
    assert!(service.metrics_addresses().is_empty());
    let accepted = "otelcol_receiver_accepted_log_records";
    let begin = now();
    while kept.last(accepted).is_none() {
        assert!(begin.elapsed() < LONG, "nothing came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    send(service.addresses()[0].1, &scan("203.0.113.7", 7), None)
        .await
        .unwrap();
    assert!(service.shutdown(LONG).await);
    let (count, token, names) = kept.last(accepted).unwrap();
    assert_eq!((count, token.as_deref()), (7, Some("t")));
    for name in ["service.name", "service.version", "service.instance.id"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    // The finding that only the end caused was counted before the last request.
    assert_eq!(kept.last("otelcol_exporter_sent_log_records").unwrap().0, 2);
}

/// Over HTTP, into the strict server of the tests, which takes any path.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_pushed_over_http() {
    use prost::Message as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let telemetry = format!(
        "metrics: {{readers: [{{periodic: {{interval: 20ms, exporter: {{otlp: {{\
         endpoint: 'http://{address}/v1/metrics', headers: {{X-Token: t}}}}}}}}}}]}}"
    );
    let service = start(&folder, &telemetry).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut more = [0; 4096];
        let read = stream.read(&mut more).await.unwrap();
        assert!(read > 0);
        bytes.extend_from_slice(&more[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let (_, rest) = head.split_once("content-length: ").unwrap();
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        if bytes.len() >= end + 4 + length {
            break (head, bytes[end + 4..].to_vec());
        }
    };
    assert!(head.starts_with("post /v1/metrics http/1.1"), "{head}");
    assert!(head.contains("x-token: t"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
    assert_eq!(request.resource_metrics.len(), 1);
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-type: application/x-protobuf\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    drop((stream, listener));
    assert!(service.shutdown(LONG).await);
}

/// Records that are no audit events, in several shapes, and then some that are.
#[tokio::test(flavor = "multi_thread")]
async fn records_without_audit_events_are_told_once_with_their_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let address = free_address();
    let text = config(&folder, &address.to_string(), "metrics: {level: none}");
    std::fs::write(&file, text).unwrap();
    let mut process = Process::auditwatch(&file, &[]);
    process.wait_for("listening", LONG);
    let lines: Vec<_> = (0..5000_u32)
        .map(|at| match at / 100 % 5 {
            0 => "secret text".to_owned(),
            1 => r#"{"log":"secret verb","stream":"stderr"}"#.to_owned(),
            2 => "2026-11-25T07:00:00Z stdout F secret".to_owned(),
            3 => r#"{"kind":"PodList","items":[{"verb":"secret"}]}"#.to_owned(),
            _ => r#"{"msg":"secret","level":"info"}"#.to_owned(),
        })
        .collect();
    send(address, &lines[..4999], None).await.unwrap();
    send(address, &lines, None).await.unwrap();
    assert!(!process.stderr().contains("no audit event"), "too early");
    for _ in 0..3 {
        send(address, &lines, None).await.unwrap();
    }
    process.wait_for("no audit event has come so far", LONG);
    // A scan is found all the same.
    send(address, &scan("203.0.113.7", 6), None).await.unwrap();
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0));
    let stderr = process.stderr();
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains("no audit event"))
        .collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    for shape in [
        "20% text that is not JSON",
        "20% JSON object with the keys log, stream",
        "20% text behind the time and stream of a container's log (CRI)",
        "20% JSON object with the keys items, kind",
        "20% JSON object with the keys level, msg",
        "pipeline=\"logs/x\"",
    ] {
        assert!(lines[0].contains(shape), "{shape}: {}", lines[0]);
    }
    assert!(!stderr.contains("secret"), "{stderr}");
    let findings = std::fs::read_to_string(folder.path().join("findings")).unwrap();
    assert!(findings.contains("203.0.113.7"));
}

/// One audit event among them, even one of a good request, is enough to say nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_audit_event_among_the_first_records_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let address = free_address();
    let text = config(&folder, &address.to_string(), "metrics: {level: none}");
    std::fs::write(&file, text).unwrap();
    let mut process = Process::auditwatch(&file, &[]);
    process.wait_for("listening", LONG);
    let mut lines = vec!["text".to_owned(); 12_000];
    lines[9_998] = denied("203.0.113.7", 0, "/").replace("403", "200");
    send(address, &lines, None).await.unwrap();
    send(address, &lines, None).await.unwrap();
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0));
    assert!(!process.stderr().contains("no audit event"));
}

/// The trace service of a collector, which keeps what it gets.
#[derive(Default)]
struct Spans {
    spans: Mutex<Vec<Span>>,
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().unwrap();
        for of in request.into_inner().resource_spans {
            assert!(!of.resource.unwrap().attributes.is_empty());
            spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// An attribute as text.
fn attribute(span: &Span, key: &str) -> String {
    let pair = span.attributes.iter().find(|pair| pair.key == key);
    match pair.and_then(|pair| pair.value.clone()?.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the tests have no task tracker")]
async fn requests_with_hits_and_deliveries_have_spans() {
    let kept = std::sync::Arc::new(Spans::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::from_arc(std::sync::Arc::clone(&kept)))
        .serve_with_incoming(incoming);
    tokio::spawn(server);

    let folder = tempfile::tempdir().unwrap();
    let telemetry = format!(
        "metrics: {{level: none}}, traces: {{processors: [{{batch: {{schedule_delay: 10, exporter: \
         {{otlp: {{protocol: grpc, endpoint: 'http://{address}'}}}}}}}}]}}"
    );
    let service = start(&folder, &telemetry).await;
    let ours = service.addresses()[0].1;
    send(ours, &["no hit".to_owned()], None).await.unwrap();
    send(ours, &scan("203.0.113.7", 6), None).await.unwrap();
    assert!(service.shutdown(LONG).await);

    let spans = kept.spans.lock().unwrap().clone();
    let named = |name: &str| -> Vec<Span> {
        let found = spans.iter().filter(|span| span.name == name);
        found.cloned().collect()
    };
    let one = |name: &str| -> Span {
        let found = named(name);
        assert_eq!(found.len(), 1, "{name} in {spans:?}");
        found[0].clone()
    };
    assert_eq!(spans.len(), 5, "{spans:?}");
    let request = one("receiver/otlp/a/logs");
    for (key, value) in [
        ("receiver", "otlp/a"),
        ("transport", "grpc"),
        ("pipeline", "logs/x"),
        ("records", "6"),
        ("candidates", "6"),
        ("hits", "6"),
        ("findings", "1"),
        ("outcome", "accepted"),
    ] {
        assert_eq!(attribute(&request, key), value, "{key}");
    }
    for part in ["screen", "observe"] {
        let part = one(part);
        assert_eq!(part.parent_span_id, request.span_id);
        assert_eq!(part.trace_id, request.trace_id);
        assert!(part.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(part.end_time_unix_nano <= request.end_time_unix_nano);
    }
    // The finding as it opened, and as the shutdown closed it.
    let deliveries = named("exporter/file/logs");
    assert_eq!(deliveries.len(), 2);
    for delivery in deliveries {
        assert_eq!(attribute(&delivery, "findings"), "1");
        assert_eq!(attribute(&delivery, "attempt"), "1");
        assert_eq!(attribute(&delivery, "outcome"), "accepted");
    }
}

/// An unreachable endpoint is logged once for metrics and once for spans, with no secret, and
/// holds up nothing.
#[tokio::test(flavor = "multi_thread")]
async fn telemetry_that_cannot_be_sent_is_told_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let (address, unused) = (free_address(), free_address());
    let otlp = format!("otlp: {{endpoint: 'http://{unused}/v1', headers: {{a: s3cret}}}}");
    let grpc = otlp.replace("otlp: {", "otlp: {protocol: grpc, ");
    let telemetry = format!(
        "metrics: {{readers: [{{periodic: {{interval: 10, exporter: {{{otlp}}}}}}}]}}, \
         traces: {{processors: [{{batch: {{schedule_delay: 10, exporter: {{{grpc}}}}}}}]}}"
    );
    std::fs::write(&file, config(&folder, &address.to_string(), &telemetry)).unwrap();
    let mut process = Process::auditwatch(&file, &[]);
    process.wait_for("listening", LONG);
    send(address, &scan("203.0.113.7", 6), None).await.unwrap();
    process.wait_for("metrics could not be sent; check", LONG);
    process.wait_for("spans could not be sent and are lost; check", LONG);
    tokio::time::sleep(Duration::from_millis(200)).await;
    process.signal("TERM");
    let begin = now();
    assert_eq!(process.wait(LONG).code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5));
    let stderr = process.stderr();
    // Once at the first failure, and once for the last metrics.
    assert_eq!(
        stderr.matches("metrics could not be sent").count(),
        2,
        "{stderr}"
    );
    assert!(stderr.contains("onnection refused"), "{stderr}");
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

/// A selector that selects no audit event is logged; one that selects some is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_leaves_out_everything_is_told_once() {
    for (selector, warned) in [("/elsewhere", true), ("", false)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        let address = free_address();
        let text = config(&folder, &address.to_string(), "metrics: {level: none}").replace(
            "{detection: }",
            &format!("{{detection: {{selector: {{source: ['{selector}']}}}}}}"),
        );
        let text = if warned {
            text
        } else {
            text.replace("source: ['']", "source: []")
        };
        std::fs::write(&file, text).unwrap();
        let mut process = Process::auditwatch(&file, &[]);
        process.wait_for("listening", LONG);
        let lines = vec![denied("203.0.113.7", 0, "/"); 5000];
        for _ in 0..4 {
            send(address, &lines, None).await.unwrap();
        }
        process.signal("TERM");
        assert_eq!(process.wait(LONG).code(), Some(0));
        let stderr = process.stderr();
        let count = stderr
            .matches("the selector has left out all audit events")
            .count();
        assert_eq!(count, usize::from(warned), "{stderr}");
        assert!(!stderr.contains("no audit event has come"), "{stderr}");
    }
}
