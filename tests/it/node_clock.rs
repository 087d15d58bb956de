//! A node whose clock is nine hours ahead, and the collector on it too: a balancer spreads the requests of one
//! address over it and honest nodes.

use std::fs;

use auditwatch::{config, detection::time::Micros, service::Service};

use crate::support::{
    corpus::denied,
    process::quiet,
    sender::{client, request},
};

const SECOND: i64 = 1_000_000;
const AHEAD: i64 = 9 * 3600 * SECOND;
const LONG: std::time::Duration = std::time::Duration::from_secs(20);

/// One request each: 0 of an honest node, 1 of the node ahead, 2 of one whose collector alone is honest.
async fn scene(nodes: &[u8]) -> Vec<serde_json::Value> {
    let folder = tempfile::tempdir().unwrap();
    let findings = folder.path().join("findings");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors: {{detection: }}
exporters: {{file: {{path: '{}'}}}}
service:
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [file]}}}}
",
        findings.display()
    );
    let config = config::parse("clock.yaml", &quiet(&text), &|_| None).unwrap();
    let service = Service::start(config).await.unwrap();
    let mut client = client(service.addresses()[0].1).await;
    for (second, node) in nodes.iter().enumerate() {
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
        let event = if *node == 0 { now } else { now + AHEAD };
        let observed = if *node == 1 { now + AHEAD } else { now };
        let second = u32::try_from(second).unwrap();
        let mut line: serde_json::Value =
            serde_json::from_str(&denied("192.0.2.27", second, &format!("/{second}"))).unwrap();
        line["requestReceivedTimestamp"] = Micros(event).to_string().into();
        let mut message = request(&[line.to_string()]);
        let record = &mut message.resource_logs[0].scope_logs[0].log_records[0];
        record.observed_time_unix_nano = observed.cast_unsigned() * 1000;
        client.export(message).await.unwrap();
    }
    assert!(service.shutdown(LONG).await);
    let text = fs::read_to_string(findings).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|finding| finding["src_ip"] == "192.0.2.27")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_does_not_blind_the_other_nodes() {
    for (name, nodes, opened) in [
        ("a", &[0, 0, 0, 0, 0, 0][..], true),
        ("b", &[1, 0, 0, 0, 0, 0, 0], true),
        ("c", &[0, 0, 0, 1, 0, 0, 0], true),
        ("d", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], true),
        ("e", &[1, 0, 0, 0, 0], false),
        ("f", &[2, 0, 0, 0, 0, 0, 0], true),
    ] {
        let findings = scene(nodes).await;
        let first = findings.iter().find(|finding| finding["state"] == "opened");
        assert_eq!(first.is_some(), opened, "{name}: {findings:?}");
        let Some(first) = first else { continue };
        assert_eq!(first["count"], 6, "{name}");
        // No honest request was dropped as late.
        let last = findings.last().unwrap();
        assert_eq!(last["count"], nodes.len(), "{name}");
        let has_ahead = nodes.iter().any(|node| *node != 0);
        assert_eq!(last["time_clamped"] == true, has_ahead, "{name}");
    }
}
