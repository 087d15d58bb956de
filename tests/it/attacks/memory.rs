//! The memory limit, and whether the metrics say what the process holds.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    corpus::denied,
    hec::{Answer, HecServer, Options},
    otlp_peer::{Peer, Protocol},
    process::{Process, free_address, now},
    prometheus::scrape,
    sender::{End, Hanging, client, framed_request, raw, request, send},
};

/// Longer than anything takes here, shorter than anybody waits.
const LONG: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// The service with this exporter, and what `service` adds under that key. It listens when this
/// returns.
fn start(folder: &Path, exporter: &str, service: &str) -> (Process, SocketAddr) {
    let (address, name) = (free_address(), exporter.split(':').next().unwrap());
    let config = folder.join("config.yaml");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{address}\"}}}}}}}}\n\
         processors: {{detection: }}\n\
         exporters: {{{exporter}}}\n\
         service:\n  \
           pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [{name}]}}}}\n\
         {service}\n"
    );
    std::fs::write(&config, text).unwrap();
    let process = Process::auditwatch(&config, &[]);
    process.wait_for("listening", LONG);
    (process, address)
}

/// Metrics on a free port, as a key of `service`.
const METRICS: &str = "  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: \
                       127.0.0.1, port: 0}}}}]}}\n";

/// Where a process with [`METRICS`] has them.
fn metrics_of(process: &Process) -> SocketAddr {
    let lines = process.stderr();
    let endpoint = lines.split("endpoint=http://").nth(1).unwrap();
    endpoint.split('/').next().unwrap().parse().unwrap()
}

/// The first bytes of a request whose one record of this length never ends.
fn half_a_record(bytes: usize) -> Vec<u8> {
    let mut half = framed_request(&["x".repeat(bytes)]);
    half.pop();
    half
}

/// Six requests of an address, from whose network nothing else comes.
fn scan(number: u32) -> Vec<String> {
    let [_, high, middle, low] = number.to_be_bytes();
    let source = format!("198.{middle}.{low}.{high}");
    (0..6)
        .map(|at| denied(&source, at, &format!("/api/v1/{at}")))
        .collect()
}

/// Sends scans one by one, each when the finding before it was delivered, so that each is a request
/// of the exporter. How many bytes the process grows by for each, once it is warm.
async fn growth(process: &Process, address: SocketAddr, delivered: impl Fn() -> usize) -> u64 {
    const WARM: u32 = 30;
    const SCANS: u32 = 120;
    let mut client = client(address).await;
    let mut before = 0;
    for number in 0..WARM + SCANS {
        if number == WARM {
            before = process.resident();
        }
        client.export(request(&scan(number))).await.unwrap();
        let begin = now();
        while delivered() <= usize::try_from(number).unwrap() {
            assert!(begin.elapsed() < LONG, "{}", process.stderr());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    process.resident().saturating_sub(before) / u64::from(SCANS)
}

/// What a finding may cost at most, its address's state included. A compressor that is made anew
/// for each request cost 270 KB with glibc's allocator.
const PER_FINDING: u64 = 60 * 1024;

#[tokio::test]
async fn findings_to_splunk_leave_nothing_behind() {
    let (folder, hec) = (
        tempfile::tempdir().unwrap(),
        HecServer::start(Options::default()).await,
    );
    let exporter = format!(
        "splunk_hec: {{token: test-token, endpoint: \"{}\"}}",
        hec.url()
    );
    let (process, address) = start(folder.path(), &exporter, "");
    let growth = growth(&process, address, || hec.events().len()).await;
    assert!(growth < PER_FINDING, "{growth} bytes a finding");
}

#[tokio::test]
async fn findings_over_otlp_leave_nothing_behind() {
    let peer = Peer::start(Protocol::Grpc).await;
    let folder = tempfile::tempdir().unwrap();
    let exporter = format!(
        "otlp_grpc: {{endpoint: \"{}\", compression: gzip, tls: {{insecure: true}}}}",
        peer.address
    );
    let (process, address) = start(folder.path(), &exporter, "");
    let growth = growth(&process, address, || peer.messages().len()).await;
    assert!(growth < PER_FINDING, "{growth} bytes a finding");
}

/// Above the soft limit new requests are refused in the form that senders repeat, while requests are
/// what exceeds, and taken again when those have ended.
#[tokio::test(flavor = "multi_thread")]
async fn above_the_soft_limit_senders_are_asked_to_come_later() {
    let folder = tempfile::tempdir().unwrap();
    // The process alone takes some 60 MiB in a debug build, most of it pages of its binary.
    let limit = "  memory: {limit_mib: 165, spike_limit_mib: 60, check_interval: 2s}\n  \
                 admission: {request_limit_mib: 90, queue_limit_mib: 10}";
    let (process, address) = start(folder.path(), "debug:", limit);
    process.wait_for("memory limits", LONG);
    send(address, &scan(1), None).await.unwrap();

    // Half a record has to be held until its end comes.
    let hanging = Hanging::start(address, half_a_record(62 << 20)).await;
    process.wait_for("memory is above the soft limit", LONG);
    let begin = now();
    let refused = loop {
        match send(address, &scan(2), None).await {
            Err(status) => break status,
            Ok(_) => assert!(begin.elapsed() < LONG, "{}", process.stderr()),
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let details = refused.get_error_details();
    assert!(details.retry_info().is_some(), "{refused:?}");

    drop(hanging);
    let begin = now();
    while send(address, &scan(3), None).await.is_err() {
        assert!(begin.elapsed() < LONG, "{}", process.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process.wait_for("memory is below the soft limit again", LONG);
    let lines = process
        .stderr()
        .matches("memory is above the soft limit")
        .count();
    assert_eq!(lines, 1, "{}", process.stderr());
    assert!(process.peak() < 220 * MIB, "{}", process.peak());
}

/// Six requests of an address with texts as long as they are kept.
fn heavy_scan(number: u32) -> Vec<String> {
    let long = |what: &str, at: usize| format!("/{number}/{at}/{what}/{}", "x".repeat(1000));
    scan(number)
        .iter()
        .enumerate()
        .map(|(at, line)| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            for field in ["requestURI", "userAgent", "auditID"] {
                event[field] = long(field, at).into();
            }
            for field in ["message", "reason", "status"] {
                event["responseStatus"][field] = long(field, at).into();
            }
            event.to_string()
        })
        .collect()
}

/// Findings that no exporter can deliver fill their budget and no more, requests that may cause more
/// are refused for now, and the metric says what the process holds.
#[tokio::test(flavor = "multi_thread")]
async fn pending_findings_have_a_budget_of_real_memory() {
    const BUDGET: u64 = 48 * MIB;
    let (folder, hec) = (
        tempfile::tempdir().unwrap(),
        HecServer::start(Options::default()).await,
    );
    hec.answer_next(vec![Answer::hang(); 100]);
    let exporter = format!(
        "splunk_hec: {{token: test-token, endpoint: \"{}\", sending_queue: {{queue_size: 100000}}}}",
        hec.url()
    );
    let service =
        format!("{METRICS}  memory: {{limit_mib: 512}}\n  admission: {{queue_limit_mib: 48}}");
    let (process, address) = start(folder.path(), &exporter, &service);
    let metrics = metrics_of(&process);

    let mut client = client(address).await;
    for number in 0..20 {
        client.export(request(&heavy_scan(number))).await.unwrap();
    }
    let before = process.resident();
    // Each finding is of an address of its own, which is tracked too.
    let held = async || {
        let scrape = scrape(metrics).await;
        let held = |name| scrape.sum(name, &[]).unwrap();
        (
            held("auditwatch_queue_memory"),
            held("auditwatch_state_memory"),
        )
    };
    let (queue_before, state_before) = held().await;
    let mut number = 20;
    let refused = loop {
        match client.export(request(&heavy_scan(number))).await {
            Ok(_) => number += 1,
            Err(status) => break status,
        }
        assert!(number < 10_000, "never refused:\n{}", process.stderr());
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let (queue, state) = held().await;
    let grown = process.resident().saturating_sub(before);
    let (queue, state) = (queue - queue_before, state - state_before);
    println!("findings hold {queue}, state {state} by the metrics, the process grew by {grown}");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (grown, budget) = (grown as f64, BUDGET as f64);
    let ratio = grown / (queue + state);
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
    assert!(
        (0.9 * budget..1.1 * budget).contains(&(queue + queue_before)),
        "{queue}"
    );
    assert!(process.peak() < 512 * MIB, "{}", process.peak());
    // A request without hits passes.
    send(address, &["{}".to_owned()], None).await.unwrap();
}

/// Above the hard limit no connection is taken, and one is again when the request has ended.
#[tokio::test(flavor = "multi_thread")]
async fn above_the_hard_limit_connections_are_refused_too() {
    let folder = tempfile::tempdir().unwrap();
    let limit = "  memory: {limit_mib: 100, spike_limit_percentage: 0, check_interval: 2s}\n  \
                 admission: {request_limit_mib: 80, queue_limit_mib: 10}";
    let (process, address) = start(folder.path(), "debug:", limit);
    send(address, &scan(1), None).await.unwrap();
    let hanging = Hanging::start(address, half_a_record(62 << 20)).await;
    process.wait_for("memory is above the soft limit", LONG);
    let is_refused = async || {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            return true;
        };
        let read = timeout(Duration::from_millis(200), stream.read(&mut [0; 64])).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    };
    let begin = now();
    while !is_refused().await {
        assert!(begin.elapsed() < LONG, "{}", process.stderr());
    }
    process.wait_for("above its hard memory limit", LONG);
    drop(hanging);
    let begin = now();
    while is_refused().await {
        assert!(begin.elapsed() < LONG, "{}", process.stderr());
    }
    send(address, &scan(2), None).await.unwrap();
}

/// What the metric says of requests is what the process holds for them.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_charged_for_real_memory() {
    let folder = tempfile::tempdir().unwrap();
    let service = format!("{METRICS}  memory: {{limit_mib: 1024}}");
    let (process, address) = start(folder.path(), "debug:", &service);
    let metrics = metrics_of(&process);
    let held = async || {
        let held = scrape(metrics).await;
        held.sum("auditwatch_admission_memory", &[]).unwrap()
    };
    // What a connection and a thread set up once is no part of a request.
    let whole = vec!["x".repeat(20 << 20)];
    send(address, &whole, None).await.unwrap();
    assert!(held().await < 1.0);
    let before = process.resident();
    let mut hanging = Vec::new();
    for _ in 0..4 {
        hanging.push(Hanging::start(address, half_a_record(36 << 20)).await);
    }
    let begin = now();
    while held().await < 144.0 * 1024.0 * 1024.0 {
        assert!(begin.elapsed() < LONG, "{}", held().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let grown = process.resident().saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let ratio = grown as f64 / held().await;
    println!(
        "requests hold {} by the metric, the process grew by {grown}",
        held().await
    );
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
}

/// A request that takes the process above the soft limit while it comes in is the one that is refused,
/// and others go on.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_that_exceeds_is_the_one_that_ends() {
    let folder = tempfile::tempdir().unwrap();
    let limit = "  memory: {limit_mib: 160, spike_limit_mib: 70, check_interval: 10ms}\n  \
                 admission: {request_limit_mib: 90, queue_limit_mib: 10}";
    let (process, address) = start(folder.path(), "debug:", limit);
    let whole = framed_request(&["x".repeat(60 << 20)]);
    let frames = whole.chunks(1 << 20).map(<[u8]>::to_vec).collect();
    let answer = raw(address, EXPORT, &[], frames, End::Well).await;
    // The answer may be lost with what was still to be sent.
    if let Some((_, headers)) = answer {
        assert_eq!(headers["grpc-status"], "14", "{headers:?}");
    }
    process.wait_for("memory is above the soft limit", LONG);
    assert!(process.peak() < 130 * MIB, "{}", process.peak());
    let begin = now();
    while send(address, &scan(1), None).await.is_err() {
        assert!(begin.elapsed() < LONG, "{}", process.stderr());
    }
}
