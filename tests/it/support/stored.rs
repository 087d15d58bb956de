//! A service with a storage, and an HEC endpoint that is restarted under it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use super::{
    hec::{HecEvent, HecServer, Options},
    process::{Process, free_address, now},
    sender::{http, try_send},
};

/// Longer than anything takes here.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A configuration with a storage, and its directory.
pub(crate) struct Setup {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) config: PathBuf,
}

impl Setup {
    /// With these keys of the detection.
    pub(crate) fn new(hec: &str, detection: &str) -> Self {
        Self::with(hec, detection, "")
    }

    /// With these keys of the detection and of the storage.
    pub(crate) fn with(hec: &str, detection: &str, storage: &str) -> Self {
        let (folder, address, health) =
            (tempfile::tempdir().unwrap(), free_address(), free_address());
        let config = folder.path().join("config.yaml");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\n\
             processors: {{detection: {{storage: file_storage, {detection}}}}}\n\
             exporters: {{splunk_hec: {{token: test-token, endpoint: '{hec}', \
             retry_on_failure: {{initial_interval: 200ms, max_interval: 1s}}}}}}\n\
             extensions: {{file_storage: {{directory: '{}', create_directory: true, {storage}}}, \
             health_check: {{endpoint: '{health}'}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}, logs: {{level: debug}}}}\n  \
             extensions: [file_storage, health_check]\n  pipelines: {{logs: {{receivers: [otlp], \
             processors: [detection], exporters: [splunk_hec]}}}}\n",
            folder.path().join("storage").display(),
        );
        std::fs::write(&config, text).unwrap();
        Self {
            folder,
            address,
            health,
            config,
        }
    }

    /// The directory of the storage.
    pub(crate) fn directory(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// Starts it, without waiting.
    pub(crate) fn spawn(&self) -> Process {
        Process::auditwatch(&self.config, &[])
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Process {
        let process = self.spawn();
        process.wait_for("listening", LONG);
        process
    }

    /// Sends as a collector does: again until it is acknowledged.
    pub(crate) async fn send(&self, lines: &[String]) {
        let begin = now();
        while try_send(self.address, lines).await.is_err() {
            assert!(begin.elapsed() < LONG, "never acknowledged");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What `health_check` answers.
    pub(crate) async fn health(&self) -> u16 {
        let answer = http(self.health, "GET", "/", &[], Vec::new());
        answer.await.unwrap().0.as_u16()
    }

    /// Waits until `health_check` answers this.
    pub(crate) async fn wait_for_health(&self, status: u16, process: &Process) {
        let begin = now();
        while self.health().await != status {
            assert!(
                begin.elapsed() < LONG,
                "it is never {status}\n{}",
                process.stderr()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An HEC endpoint that can be killed and comes back at its address. What it took is kept.
pub(crate) struct Splunk {
    address: SocketAddr,
    server: Option<HecServer>,
    before: Vec<HecEvent>,
}

impl Splunk {
    pub(crate) async fn start() -> Self {
        let server = HecServer::start(Options::default()).await;
        Self {
            address: server.address(),
            server: Some(server),
            before: Vec::new(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// It is killed.
    pub(crate) async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            self.before.extend(server.end().await);
        }
    }

    /// It is back.
    pub(crate) async fn back(&mut self) {
        if self.server.is_none() {
            self.server = Some(HecServer::start_at(self.address, Options::default()).await);
        }
    }

    /// Every event that arrived.
    pub(crate) fn events(&self) -> Vec<HecEvent> {
        let now = self.server.iter().flat_map(HecServer::events);
        self.before.iter().cloned().chain(now).collect()
    }
}

/// The states that arrived of each finding, and how often: `id/state/count`.
pub(crate) fn states(events: &[HecEvent]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for event in events {
        let event = &event.event;
        let id = event["finding_id"].as_str().unwrap();
        let state = event["state"].as_str().unwrap();
        *all.entry(format!("{id}/{state}/{}", event["count"]))
            .or_default() += 1;
    }
    all
}

/// The rule of scans.
const SCANS: &str = "f9cadf4e-df22-4f4e-a08f-9d3344c2165d";

/// Scans that are closed with six requests.
pub(crate) fn closed(events: &[HecEvent]) -> usize {
    let closed = events.iter().map(|event| &event.event);
    let closed = closed.filter(|event| {
        event["state"] == "closed" && event["rule_id"] == SCANS && event["count"] == 6
    });
    let ids: BTreeSet<_> = closed
        .map(|event| event["finding_id"].to_string())
        .collect();
    ids.len()
}

/// That each address that scanned with six requests has one finding of six requests, that no state of a
/// finding has two contents, and that there is no finding beside them.
pub(crate) fn each_once(events: &[HecEvent], scans: usize) {
    let mut contents: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in events.iter().map(|event| &event.event) {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        // Updates repeat: their count tells them apart.
        let state = match event["state"].as_str().unwrap() {
            "updated" => format!("updated/{}", event["count"]),
            other => other.to_owned(),
        };
        let of = contents.entry((text("finding_id"), state)).or_default();
        of.insert(event.to_string());
        if event["rule_id"] == SCANS && !text("src_ip").is_empty() {
            ids.entry(text("src_ip"))
                .or_default()
                .insert(text("finding_id"));
        }
    }
    for (state, contents) in &contents {
        assert_eq!(contents.len(), 1, "{state:?}: {contents:#?}");
    }
    for (source, ids) in &ids {
        assert_eq!(ids.len(), 1, "{source}: {ids:?}");
    }
    assert_eq!(closed(events), scans);
    assert_eq!(ids.len(), scans, "{:?}", ids.keys());
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, process: &Process, is_so: impl Fn() -> bool) {
    let begin = now();
    while !is_so() {
        assert!(
            begin.elapsed() < LONG,
            "{what}: it never came to that\n{}",
            process.stderr()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
