//! Scans made to be expensive for the engine.

use std::{net::SocketAddr, path::Path, time::Duration};

use opentelemetry_proto::tonic::{
    collector::logs::v1::logs_service_client::LogsServiceClient,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use serde_json::Value;

use crate::support::{
    process::{Process, free_address, now},
    prometheus::scrape,
    sender::{client, request},
};

const LONG: Duration = Duration::from_mins(1);
const MIB: u64 = 1 << 20;

/// The service with findings in a file and metrics, and these limits.
struct Started {
    process: Process,
    folder: tempfile::TempDir,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Started {
    fn new(limits: &str, rule: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (address, metrics) = (free_address(), free_address());
        let at = folder.path().display();
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\n\
             processors: {{detection: {{{rule}limits: {{{limits}}}}}}}\n\
             exporters: {{file: {{path: '{at}/findings'}}}}\n\
             service:\n  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: \
             {{host: 127.0.0.1, port: {}}}}}}}}}]}}}}\n  \
             pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [file]}}}}\n",
            metrics.port()
        );
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let process = Process::auditwatch_as_it_is(&file, &[]);
        process.wait_for("listening", LONG);
        Self {
            process,
            folder,
            address,
            metrics,
        }
    }

    async fn metric(&self, name: &str) -> f64 {
        let scrape = scrape(self.metrics).await;
        scrape.sum(name, &[]).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The findings so far.
    fn findings(&self) -> Vec<Value> {
        findings(&self.folder.path().join("findings"))
    }

    /// Waits for a state of the finding of an address.
    async fn found(&self, source: &str, state: &str) -> Value {
        let begin = now();
        loop {
            let is_it = |one: &Value| one["src_ip"] == source && one["state"] == state;
            if let Some(one) = self.findings().into_iter().rfind(is_it) {
                return one;
            }
            assert!(
                begin.elapsed() < LONG,
                "{source} {state}: {:?}",
                self.findings()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn client(&self) -> LogsServiceClient<tonic::transport::Channel> {
        client(self.address)
            .await
            .max_encoding_message_size(256 << 20)
    }

    /// Sends these lines as one request, and waits for the answer.
    async fn send(&self, lines: &[String]) {
        self.client().await.export(request(lines)).await.unwrap();
    }
}

fn findings(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be half written.
    let lines = text
        .lines()
        .map_while(|line| serde_json::from_str(line).ok());
    lines.collect()
}

/// A refused request of an address, this number of seconds after a day began.
fn refused(source: &str, id: usize, seconds: f64, message: &str) -> String {
    let (minutes, seconds) = ((seconds / 60.0).floor(), seconds % 60.0);
    format!(
        r#"{{"auditID":"{id}","requestURI":"/{id}","user":{{"groups":["system:unauthenticated"]}},"sourceIPs":["{source}"],"responseStatus":{{"code":403,"message":"{message}"}},"requestReceivedTimestamp":"2026-11-25T{:02}:{:02}:{seconds:09.6}Z"}}"#,
        (minutes / 60.0).floor(),
        minutes % 60.0
    )
}

/// Many of them from one address, evenly over 100 seconds.
fn scan(source: &str, requests: std::ops::Range<usize>, begin: f64, message: &str) -> Vec<String> {
    let step = 100.0 / f64::from(u32::try_from(requests.len()).unwrap());
    requests
        .enumerate()
        .map(|(at, id)| {
            let after = f64::from(u32::try_from(at).unwrap()) * step;
            refused(source, id, begin + after, message)
        })
        .collect()
}

/// The first scan goes into a finding; the second, an hour and a minute later, has to wait until
/// that is closed, and cost fifty times as much a hit: a full message kept the detection busy
/// for half a minute, and everybody else waiting.
#[tokio::test]
async fn a_second_scan_an_hour_later_costs_what_the_first_did() {
    const HITS: usize = 24_000;
    const HOUR: f64 = 100.0 + 3660.0;
    // The more may wait, the dearer it was.
    let service = Started::new("hits_per_key: 100000", "");
    let took = async |lines: Vec<String>| {
        let begin = now();
        service.send(&lines).await;
        begin.elapsed()
    };
    let message = "m".repeat(100);
    let first = took(scan("192.0.2.1", 0..HITS, 0.0, &message)).await;
    // Another client is found meanwhile, though it sends while the second scan is taken.
    let second = async { took(scan("192.0.2.1", HITS..2 * HITS, HOUR, &message)).await };
    let other = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        service.send(&scan("192.0.2.2", 0..6, HOUR, "")).await;
        service.found("192.0.2.2", "opened").await
    };
    let (second, other) = tokio::join!(second, other);
    assert_eq!(other["count"], 6);
    assert!(
        second < 3 * first + Duration::from_secs(3),
        "first {first:?}, second {second:?}"
    );
    // Time goes on: the first is closed, and the second found.
    service
        .send(&[refused("192.0.2.3", 0, HOUR + 3000.0, "")])
        .await;
    let hits = u64::try_from(HITS).unwrap();
    assert_eq!(service.found("192.0.2.1", "closed").await["count"], hits);
    service
        .send(&[refused("192.0.2.3", 1, HOUR + 6000.0, "")])
        .await;
    let begin = now();
    while !service.findings().iter().any(|one| {
        one["src_ip"] == "192.0.2.1"
            && one["state"] == "closed"
            && one["first_time"].as_str().unwrap() > "2026-11-25T01:02"
            && one["count"] == hits
    }) {
        assert!(begin.elapsed() < LONG, "{:?}", service.findings());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(service.metric("auditwatch_hits_overflow").await == 0.0);
}

/// A second scan of very many requests opens at once, and takes little, for its texts are bounded
/// too.
#[tokio::test]
async fn a_second_scan_has_a_bound_in_bytes() {
    const MEMORY: u64 = 32;
    const HITS: usize = 11_000;
    let service = Started::new(&format!("memory_mib: {MEMORY}"), "");
    service.send(&scan("192.0.2.1", 0..6, 0.0, "")).await;
    let before = service.process.resident();
    service.process.reset_peak();
    for part in 0..4 {
        let requests = part * HITS / 4..(part + 1) * HITS / 4;
        let message = "m".repeat(1500);
        let begin = 3760.0 + 100.0 * f64::from(u32::try_from(part).unwrap());
        service
            .send(&scan(
                "192.0.2.1",
                requests.start + 6..requests.end + 6,
                begin,
                &message,
            ))
            .await;
    }
    // Ten million bytes of messages came before the first scan was closed.
    let state = service.metric("auditwatch_state_memory").await;
    assert!(state < 6.0 * 1024.0 * 1024.0, "{state}");
    let overflow = service.metric("auditwatch_hits_overflow").await;
    assert!(overflow < 0.5, "{overflow}");
    let grown = service.process.peak().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    service.send(&[refused("192.0.2.3", 0, 7000.0, "")]).await;
    service.send(&[refused("192.0.2.3", 1, 9500.0, "")]).await;
    let begin = now();
    while !service
        .findings()
        .iter()
        .any(|one| one["src_ip"] == "192.0.2.1" && one["count"].as_u64() > Some(10_000))
    {
        assert!(begin.elapsed() < LONG, "the second scan is counted whole");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Names of clusters come from senders: their number, their length and what is kept for them have
/// bounds.
#[tokio::test]
async fn a_flood_of_cluster_names_stays_within_the_memory() {
    const MEMORY: u64 = 16;
    let service = Started::new(&format!("memory_mib: {MEMORY}"), "");
    service.send(&scan("192.0.2.1", 0..6, 0.0, "")).await;
    let before = service.process.resident();
    for batch in 0..4 {
        let mut all = request(&[]);
        let resource = all.resource_logs.remove(0).resource.unwrap();
        for n in 0..1000 {
            let n = batch * 1000 + n;
            let mut resource = resource.clone();
            let name = format!("{n}{}", "n".repeat(4000));
            let name = request(&[name]).resource_logs[0].scope_logs[0].log_records[0].clone();
            resource.attributes[0].value = name.body;
            let log_records: Vec<LogRecord> = request(&scan("192.0.2.9", 0..2, 0.0, ""))
                .resource_logs
                .remove(0)
                .scope_logs
                .remove(0)
                .log_records;
            all.resource_logs.push(ResourceLogs {
                resource: Some(resource),
                scope_logs: vec![ScopeLogs {
                    log_records,
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            });
        }
        service.client().await.export(all).await.unwrap();
    }
    let state = service.metric("auditwatch_state_memory").await;
    assert!(state > 1e6 && state < 16e6 * 1.05, "{state}");
    let evicted = service.metric("auditwatch_evicted_keys").await;
    assert!(evicted > 2900.0, "{evicted}");
    let grown = service.process.resident().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
}

/// Whatever a flood is made of, state stays within its memory, and an address that scans is found
/// beside it.
#[tokio::test]
async fn a_flood_of_addresses_stays_within_the_memory() {
    const MEMORY: u64 = 4;
    let service = Started::new(&format!("memory_mib: {MEMORY}"), "");
    let long = "m".repeat(600);
    service.send(&scan("192.0.2.1", 0..5, 0.0, "")).await;
    let before = service.process.resident();
    for batch in 0..6_usize {
        let lines: Vec<_> = (0..5000)
            .map(|n| {
                let n = batch * 5000 + n;
                let source = format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250);
                let message = if n % 3 == 0 { long.as_str() } else { "" };
                refused(&source, n, 10.0, message)
            })
            .collect();
        service.send(&lines).await;
    }
    let state = service.metric("auditwatch_state_memory").await;
    assert!(state > 3e6 && state <= 4.0 * 1024.0 * 1024.0, "{state}");
    let evicted = service.metric("auditwatch_evicted_keys").await;
    assert!(evicted > 1000.0, "{evicted}");
    let grown = service.process.resident().saturating_sub(before);
    assert!(grown < 48 * MIB, "{} MiB", grown / MIB);
    service.send(&scan("192.0.2.1", 5..6, 20.0, "")).await;
    assert_eq!(service.found("192.0.2.1", "opened").await["count"], 6);
}
