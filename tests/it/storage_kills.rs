//! `kill -9` at random moments: the real binary, several senders that keep what is not acknowledged, and
//! an HEC endpoint that is killed too. `KILL_ROUNDS` says how often.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};

use crate::support::{
    corpus::denied,
    process::{Process, now},
    sender::try_send,
    stored::{LONG, Setup, Splunk, closed, each_once, until},
};

/// Connections of senders.
const SENDERS: u32 = 3;

/// Time for a start with a long log, of a build for tests on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A sender: of each scan three requests, and then three more; what is not acknowledged again.
async fn sender(address: SocketAddr, place: u32, done: Arc<AtomicBool>) -> u32 {
    let mut acknowledged = 0;
    // The second half of the last scan is sent in any case.
    while !done.load(Ordering::Relaxed) || acknowledged % 2 == 1 {
        let (scan, from) = (acknowledged / 2, acknowledged % 2 * 3);
        // Each in a network of its own.
        let source = format!("{}.{}.{}.7", 40 + place, scan / 250, scan % 250);
        let lines: Vec<_> = (from..from + 3)
            .map(|at| denied(&source, at, &format!("/{at}")))
            .collect();
        // The answer may be lost; a collector does not wait for ever.
        match timeout(Duration::from_secs(5), try_send(address, &lines)).await {
            Ok(Ok(())) => acknowledged += 1,
            _ => sleep(Duration::from_millis(2)).await,
        }
        sleep(Duration::from_millis(3)).await;
    }
    acknowledged / 2
}

/// Fills the log, so that a snapshot is made while the process runs: hits of addresses that never scan.
async fn fill(address: SocketAddr, is_wanted: Arc<AtomicBool>) {
    let agent = "x".repeat(900);
    let mut number = 0;
    loop {
        if !is_wanted.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        let lines: Vec<_> = (0..1000_u32)
            .map(|at| {
                number += 1;
                // Each request of another address in another network.
                let source = format!(
                    "{}.{}.{}.9",
                    60 + number / 62_500,
                    number / 250 % 250,
                    number % 250
                );
                denied(&source, at, &format!("/{number}")).replace("curl/8.5.0", &agent)
            })
            .collect();
        let _answer = timeout(LONG, try_send(address, &lines)).await;
    }
}

/// How a round ends the process.
async fn end(round: u32, process: &mut Process, is_filling: &AtomicBool, splunk: &mut Splunk) {
    let random = u64::from(round) * 7919;
    match round % 8 {
        // In its start.
        0 => sleep(Duration::from_millis(random % 120)).await,
        // In its shutdown: the snapshot, the cut, the last deliveries.
        1 | 2 => {
            sleep(Duration::from_millis(250 + random % 400)).await;
            process.signal("TERM");
            sleep(Duration::from_millis(random % 60)).await;
        }
        // While the HEC endpoint is away, and comes back before the process does, or after it.
        3 => {
            sleep(Duration::from_millis(150 + random % 200)).await;
            splunk.kill().await;
            sleep(Duration::from_millis(random % 300)).await;
            if random % 2 == 0 {
                splunk.back().await;
                sleep(Duration::from_millis(random % 200)).await;
            }
        }
        // In a snapshot under way, or when the log is cut behind it.
        4 if round % 64 == 4 => {
            is_filling.store(true, Ordering::Relaxed);
            let begin = now();
            while begin.elapsed() < LONG && !process.stderr().contains("state taken for a snapshot")
            {
                sleep(Duration::from_millis(2)).await;
            }
            is_filling.store(false, Ordering::Relaxed);
            sleep(Duration::from_millis(random % 200)).await;
        }
        // What was filled in is read, and ends in a snapshot: the next starts are short again.
        5 if round % 64 == 5 => {
            process.wait_for("listening", PATIENCE);
            process.signal("TERM");
            process.wait(PATIENCE);
            return;
        }
        // At any moment.
        _ => sleep(Duration::from_millis(150 + random % 700)).await,
    }
    process.signal("KILL");
    process.wait(LONG);
    splunk.back().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no task tracker, and a setting of this one"
)]
async fn a_kill_loop_loses_and_doubles_nothing() {
    let rounds: u32 = std::env::var("KILL_ROUNDS").map_or(9, |text| text.parse().unwrap());
    let mut splunk = Splunk::start().await;
    let setup = Setup::new(&splunk.url(), "");
    let done = Arc::new(AtomicBool::new(false));
    let is_filling = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..SENDERS)
        .map(|place| tokio::spawn(sender(setup.address, place, Arc::clone(&done))))
        .collect();
    let filler = tokio::spawn(fill(setup.address, Arc::clone(&is_filling)));
    let snapshots = AtomicU32::new(0);
    let begin = now();
    for round in 0..rounds {
        let mut process = setup.spawn();
        end(round, &mut process, &is_filling, &mut splunk).await;
        let stderr = process.stderr();
        assert!(!stderr.contains("damaged"), "round {round}:\n{stderr}");
        if stderr.contains("state taken for a snapshot") {
            snapshots.fetch_add(1, Ordering::Relaxed);
        }
    }
    let took = begin.elapsed();
    filler.abort();
    let process = setup.spawn();
    process.wait_for("listening", PATIENCE);
    done.store(true, Ordering::Relaxed);
    let mut scans = 0;
    for sender in senders {
        scans += timeout(LONG, sender).await.unwrap().unwrap();
    }
    let scans = usize::try_from(scans).unwrap();
    // Hours later, all of them close, with all of their requests.
    let later = denied("192.0.2.1", 0, "/").replace("T07:", "T11:");
    setup.send(&[later]).await;
    until("every finding", &process, || {
        closed(&splunk.events()) >= scans
    })
    .await;
    each_once(&splunk.events(), scans);
    assert!(scans > 0);
    println!("{rounds} rounds in {took:.0?}, {scans} scans, {snapshots:?} snapshots begun");
}
