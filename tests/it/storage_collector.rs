//! The real Collector with its queue on disk as sender: it, auditwatch and the HEC endpoint are killed in
//! turn while a log grows. Every event counts once.

use std::{fs::OpenOptions, io::Write as _, time::Duration};

use tokio::time::sleep;

use crate::{
    collector::{collector, start_collector},
    support::{
        corpus::denied,
        process::{free_address, now},
        stored::{LONG, Setup, Splunk, closed, each_once},
    },
};

/// Scans of six requests, which follow each other.
const SCANS: u32 = 240;
/// Time between two of them.
const PAUSE: Duration = Duration::from_millis(100);
/// How often something is killed, in turn.
const KILLS: u32 = 18;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the tests have no task tracker")]
async fn every_event_of_a_real_collector_counts_once() {
    let Some(binary) = collector() else { return };
    let mut splunk = Splunk::start().await;
    let setup = Setup::new(&splunk.url(), "");
    let log = setup.folder.path().join("audit.log");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .unwrap();
    // The first three requests of a scan, then those of others, then the rest.
    let writer = tokio::spawn(async move {
        let mut write = |scan: u32, from: u32| {
            let source = format!("45.{}.{}.7", scan / 250, scan % 250);
            let lines: Vec<_> = (from..from + 3)
                .map(|at| denied(&source, at, &format!("/{at}")))
                .collect();
            file.write_all((lines.join("\n") + "\n").as_bytes())
                .unwrap();
        };
        for scan in 0..SCANS + 10 {
            if scan < SCANS {
                write(scan, 0);
            }
            if scan >= 10 {
                write(scan - 10, 3);
            }
            sleep(PAUSE).await;
        }
        file
    });
    let health = free_address();
    let mut sender = start_collector(&binary, setup.folder.path(), (setup.address, health));
    let mut process = setup.start();
    for kill in 0..KILLS {
        sleep(Duration::from_millis(700 + u64::from(kill) * 7919 % 900)).await;
        match kill % 3 {
            0 => {
                process.signal("KILL");
                process.wait(LONG);
                process = setup.spawn();
            }
            1 => {
                sender.signal("KILL");
                sender.wait(LONG);
                sender = start_collector(&binary, setup.folder.path(), (setup.address, health));
            }
            _ => {
                splunk.kill().await;
                sleep(Duration::from_millis(300)).await;
                splunk.back().await;
            }
        }
    }
    let mut file = writer.await.unwrap();
    // Hours later, all of them close.
    let later = denied("192.0.2.1", 0, "/").replace("T07:", "T11:");
    file.write_all((later + "\n").as_bytes()).unwrap();
    let scans = usize::try_from(SCANS).unwrap();
    let begin = now();
    while closed(&splunk.events()) < scans {
        assert!(
            begin.elapsed() < Duration::from_mins(2),
            "{} of {scans}\n{}\n{}",
            closed(&splunk.events()),
            process.stderr(),
            sender.stderr()
        );
        sleep(Duration::from_millis(50)).await;
    }
    each_once(&splunk.events(), scans);
}
