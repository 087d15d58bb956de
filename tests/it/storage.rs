//! What was acknowledged survives the process: the real binary, ended in every way, with the strict HEC
//! server behind it.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use crate::support::{
    corpus::denied,
    hec::{HecServer, Options},
    process::{Process, free_address, now},
    sender::try_send,
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(30);

struct Setup {
    _folder: tempfile::TempDir,
    address: SocketAddr,
    config: PathBuf,
}

impl Setup {
    fn new(hec: &HecServer, detection: &str) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let config = folder.path().join("config.yaml");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\n\
             processors: {{detection: {{storage: file_storage, {detection}}}}}\n\
             exporters: {{splunk_hec: {{token: test-token, endpoint: '{}'}}}}\n\
             extensions: {{file_storage: {{directory: '{}', create_directory: true}}}}\n\
             service: {{extensions: [file_storage], pipelines: {{logs: {{receivers: [otlp], \
             processors: [detection], exporters: [splunk_hec]}}}}}}\n",
            hec.url(),
            folder.path().join("storage").display(),
        );
        std::fs::write(&config, text).unwrap();
        Self {
            _folder: folder,
            address,
            config,
        }
    }

    fn start(&self) -> Process {
        let process = Process::auditwatch(&self.config, &[]);
        process.wait_for("listening", LONG);
        process
    }

    /// Sends as a collector does: again until it is acknowledged.
    async fn send(&self, lines: &[String]) {
        let begin = now();
        while try_send(self.address, lines).await.is_err() {
            assert!(begin.elapsed() < LONG, "never acknowledged");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The states that arrived of each finding: `id/state/count`.
fn states(hec: &HecServer) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for event in hec.events() {
        let event = &event.event;
        let id = event["finding_id"].as_str().unwrap();
        let state = event["state"].as_str().unwrap();
        *all.entry(format!("{id}/{state}/{}", event["count"]))
            .or_default() += 1;
    }
    all
}

async fn until(what: &str, process: &Process, is_so: impl Fn() -> bool) {
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

/// A scan of six requests, of which the process ends after three, in each way.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_goes_on_after_the_process_ended() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec, "");
    let mut process = setup.start();
    for (at, signal) in ["TERM", "KILL", "TERM", "KILL", "KILL", "TERM"]
        .iter()
        .enumerate()
    {
        let lines: Vec<_> = (0..4)
            .map(|n| {
                denied(
                    &format!("198.{n}.100.7"),
                    u32::try_from(at).unwrap(),
                    &format!("/{at}"),
                )
            })
            .collect();
        setup.send(&lines).await;
        if at < 5 {
            process.signal(signal);
            process.wait(LONG);
            assert!(
                !process.stderr().contains("were given up"),
                "{}",
                process.stderr()
            );
            process = setup.start();
            assert!(process.stderr().contains("continues from its storage"));
        }
    }
    until("four findings", &process, || states(&hec).len() >= 4).await;
    // Ended and begun again, they open no second time.
    for signal in ["TERM", "KILL"] {
        process.signal(signal);
        process.wait(LONG);
        process = setup.start();
    }
    setup.send(&[denied("198.0.100.7", 7, "/more")]).await;
    process.signal("TERM");
    assert!(process.wait(LONG).success(), "{}", process.stderr());
    let states = states(&hec);
    let opened = states.keys().filter(|state| state.contains("/opened/6"));
    assert_eq!(opened.count(), 4, "{states:?}");
    let scans = states
        .keys()
        .filter(|state| state.contains("/opened/"))
        .count();
    assert_eq!(scans, 4, "{states:?}");
    assert!(
        !states.keys().any(|state| state.contains("/closed/")),
        "{states:?}"
    );
    assert!(states.values().all(|times| *times == 1), "{states:?}");
}

/// escu: twenty requests of one address with restarts between are one row of twenty.
#[tokio::test(flavor = "multi_thread")]
async fn an_escu_row_is_whole_after_restarts() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec, "semantics: escu");
    for signal in ["TERM", "KILL", "TERM", "KILL"] {
        let mut process = setup.start();
        for at in 0..5 {
            setup.send(&[denied("203.0.113.9", at, "/api")]).await;
        }
        process.signal(signal);
        process.wait(LONG);
    }
    let process = setup.start();
    // Hours later, the window is evaluated.
    let later = denied("203.0.113.10", 0, "/api").replace("T07:", "T11:");
    setup.send(&[later]).await;
    until("one row", &process, || !states(&hec).is_empty()).await;
    let states = states(&hec);
    assert_eq!(states.len(), 1, "{states:?}");
    assert!(
        states.keys().all(|state| state.ends_with("/20")),
        "{states:?}"
    );
    assert!(states.values().all(|times| *times == 1), "{states:?}");
}

/// `kill -9` at random moments, also while it starts: every acknowledged hit counts once, every finding
/// arrives, and a finding has one content for each state.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loop_loses_and_doubles_nothing() {
    #[expect(clippy::disallowed_methods, reason = "a setting of this test")]
    let rounds: u32 = std::env::var("KILL_ROUNDS").map_or(6, |text| text.parse().unwrap());
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec, "");
    // Of each scan, three requests are sent, and then three more; what is not acknowledged, again.
    let mut acknowledged = 0_u32;
    for round in 0..rounds {
        let mut process = Process::auditwatch(&setup.config, &[]);
        let end = now() + Duration::from_millis(u64::from(150 + round * 7919 % 700));
        while let left = end.saturating_duration_since(now())
            && !left.is_zero()
        {
            let (scan, from) = (acknowledged / 2, acknowledged % 2 * 3);
            let source = format!("198.{}.{}.7", scan / 250, scan % 250);
            let lines: Vec<_> = (from..from + 3)
                .map(|at| denied(&source, at, &format!("/{at}")))
                .collect();
            // The process is killed in the middle of what goes on.
            match tokio::time::timeout(left, try_send(setup.address, &lines)).await {
                Ok(Ok(())) => acknowledged += 1,
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(_) => break,
            }
        }
        process.signal("KILL");
        process.wait(LONG);
    }
    let process = setup.start();
    if acknowledged % 2 == 1 {
        let source = format!("198.{}.{}.7", acknowledged / 500, acknowledged / 2 % 250);
        let lines: Vec<_> = (3..6)
            .map(|at| denied(&source, at, &format!("/{at}")))
            .collect();
        setup.send(&lines).await;
        acknowledged += 1;
    }
    let scans = usize::try_from(acknowledged / 2).unwrap();
    // Hours later, all of them close, with all of their requests.
    let later = denied("192.0.2.1", 0, "/").replace("T07:", "T11:");
    setup.send(&[later]).await;
    let closed = || {
        let states = states(&hec);
        states
            .keys()
            .filter(|state| state.ends_with("/closed/6"))
            .count()
    };
    until("every finding", &process, || closed() >= scans).await;
    let states = states(&hec);
    let mut contents: BTreeMap<&str, usize> = BTreeMap::new();
    for state in states.keys() {
        let (id_and_state, _) = state.rsplit_once('/').unwrap();
        *contents.entry(id_and_state).or_default() += 1;
    }
    for kind in ["/opened", "/closed"] {
        let of: Vec<_> = contents
            .iter()
            .filter(|(id, _)| id.ends_with(kind))
            .collect();
        assert!(of.iter().all(|(_, contents)| **contents == 1), "{states:?}");
    }
    assert_eq!(closed(), scans, "{states:?}");
    assert!(scans > 0);
    println!("{rounds} rounds, {scans} scans");
}
