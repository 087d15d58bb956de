//! What was acknowledged survives the process: the real binary, ended in every way, with the strict HEC
//! server behind it.

use crate::support::{
    corpus::denied,
    hec::{HecServer, Options},
    stored::{LONG, Setup, until},
};

/// The states that arrived of each finding: `id/state/count`.
fn states(hec: &HecServer) -> std::collections::BTreeMap<String, usize> {
    crate::support::stored::states(&hec.events())
}

/// A scan of six requests, of which the process ends after three, in each way.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_goes_on_after_the_process_ended() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec.url(), "");
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
    let setup = Setup::new(&hec.url(), "semantics: escu");
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
