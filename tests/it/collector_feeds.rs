//! Feeds of clouds with the real Collector and the configurations of otel-config/feeds.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::{
    collector::{built, collector, members_of, start_auditwatch},
    support::{
        corpus::{self, denied},
        hec::{HecEvent, HecServer, Options},
        process::{Process, free_address},
    },
};

const LONG: Duration = Duration::from_mins(1);
const HUB: &str = "insights-logs-kube-audit";
const PASSWORD: &str = "Endpoint=sb://hub/;SharedAccessKey=c2VjcmV0";

/// A broker with messages, killed when dropped.
struct EventHub {
    child: Child,
    address: String,
}

impl EventHub {
    fn start(program: &Path, messages: &[String]) -> Self {
        let mut child = Command::new(program)
            .args([HUB, PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut address).unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(messages.join("\n").as_bytes()).unwrap();
        Self {
            child,
            address: address.trim().to_owned(),
        }
    }
}

impl Drop for EventHub {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// An event as the diagnostic settings of AKS export it.
fn exported(event: &str, category: &str) -> serde_json::Value {
    json!({
        "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
        "category": category, "ccpNamespace": "6512f0c9e4b0a70001a3c4de",
        "resourceId": "/SUBSCRIPTIONS/0000/RESOURCEGROUPS/PROD/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/PROD",
        "properties": {"log": format!("{event}\n"), "stream": "stdout", "pod": "kube-apiserver-7d9f-x2x"},
        "time": "2026-11-25T07:00:00.0000000Z", "Cloud": "AzureCloud", "Environment": "prod",
        "UnderlayClass": "hcp-underlay", "UnderlayName": "hcp-underlay-westeurope-cx-1",
    })
}

/// The messages of an Event Hub: each with many records, most of them of other kinds.
fn messages(events: &[String]) -> Vec<String> {
    let record = |(at, event): (usize, &String)| {
        let other =
            json!({"category": "kube-scheduler", "properties": {"log": "I1125 07:00:00 no event"}});
        let admin = exported(
            &denied("198.51.100.99", u32::try_from(at).unwrap(), "/admin"),
            "guard",
        );
        [exported(event, "kube-audit"), other, admin]
    };
    let all: Vec<_> = events.iter().enumerate().flat_map(record).collect();
    let messages = all
        .chunks(50)
        .map(|records| json!({ "records": records }).to_string());
    messages.collect()
}

/// AKS: the envelopes of an Event Hub, read by the Kafka receiver with otel-config/feeds/aks-kafka.yaml.
#[tokio::test(flavor = "multi_thread")]
async fn the_event_hub_of_aks_is_read_with_the_configuration_that_is_shipped() {
    let (Some(collector), Some(hub)) = (collector(), built("tests/eventhub/build.sh")) else {
        return;
    };
    let name = "scenario-1";
    let hub = EventHub::start(&hub, &messages(&corpus::lines(name)));
    let hec = HecServer::start(Options::default()).await;
    let address = free_address();
    let _auditwatch = start_auditwatch(&hec, address);
    let folder = tempfile::tempdir().unwrap();
    let _sender = start(&collector, folder.path(), &hub.address, address);

    let golden: BTreeSet<String> = corpus::alerts(name).into_keys().collect();
    hec.wait_until(|events| golden.is_subset(&sources(events)), LONG)
        .await;
    let found = sources(&hec.events());
    // Of another category, though it looks like an event.
    assert!(!found.contains("198.51.100.99"));
    assert!(
        hec.events()
            .iter()
            .all(|event| event.event["cluster"] == "prod")
    );
}

/// Addresses with a finding, or listed in one of their network.
fn sources(events: &[HecEvent]) -> BTreeSet<String> {
    let mut sources: BTreeSet<String> = members_of(events).into_iter().collect();
    let own = events
        .iter()
        .filter_map(|event| event.event["src_ip"].as_str());
    sources.extend(own.map(str::to_owned));
    sources
}

fn start(
    collector: &Path,
    folder: &Path,
    broker: &str,
    auditwatch: std::net::SocketAddr,
) -> Process {
    let feeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("otel-config/feeds");
    let of = |name: &str| feeds.join(name).display().to_string();
    let files: [String; 2] = [of("aks-kafka.yaml"), of("to-auditwatch.yaml")];
    // Where the broker of the test differs: its address, and no TLS.
    let broker = format!("yaml:receivers::kafka/aks::brokers: ['{broker}']");
    let mut arguments = Vec::new();
    for config in [
        files[0].as_str(),
        files[1].as_str(),
        broker.as_str(),
        "yaml:receivers::kafka/aks::tls::insecure: true",
        "yaml:service::telemetry::metrics::level: none",
    ] {
        arguments.extend(["--config", config]);
    }
    let storage: PathBuf = folder.join("storage");
    Process::start(
        collector,
        &arguments,
        &[
            ("OTELCOL_STORAGE", storage.display().to_string()),
            ("AUDITWATCH_ENDPOINT", auditwatch.to_string()),
            ("K8S_CLUSTER_NAME", "prod".to_owned()),
            ("EVENT_HUB_NAMESPACE", "hub".to_owned()),
            ("EVENT_HUB", HUB.to_owned()),
            ("EVENT_HUB_CONNECTION", PASSWORD.to_owned()),
        ],
    )
}
