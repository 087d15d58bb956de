//! What a storage costs: CPU, latency, syncs, the pause of a snapshot, memory, disk, the time of a start.
//!
//! ```text
//! cargo test --release --test storage_load -- target/release/auditwatch
//! ```
//!
//! The same binary runs twice, without and with `storage`, and gets the same requests in turn. Syncs are
//! counted by `strace` where it is, in requests of their own that are not timed. The directory of the
//! storage is in `--directory`, else in that of temporary files: choose the disk that is to be measured.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "it has no task tracker and measures by the real clock"
)]

mod shared;
#[path = "../it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each program uses the part it needs"
)]
mod support;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use prost::Message as _;

use shared::{Connection, between, cpu, event};
use support::{
    corpus::denied,
    process::{Process, free_address},
    sender::{framed, request},
};

/// Measures what a storage costs.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The binary to measure
    binary: PathBuf,

    /// How many times each number of senders is measured
    #[arg(long, default_value_t = 15)]
    rounds: usize,

    /// Keys for the start, the pause and the flood
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,

    /// Measure this alone: requests, keys; repeatable
    #[arg(long)]
    only: Vec<String>,

    /// Where the storage is
    #[arg(long)]
    directory: Option<PathBuf>,

    /// Fail when the CPU per record with storage, at 0.5 % hits, is above this many times that without
    #[arg(long)]
    at_most: Option<f64>,
}

const LONG: Duration = Duration::from_mins(2);

/// Requests of one kind.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    records: usize,
    hits: usize,
    requests: usize,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "1,000 records, 0.5 % hits",
        records: 1000,
        hits: 5,
        requests: 64,
    },
    Shape {
        name: "one record, a hit",
        records: 1,
        hits: 1,
        requests: 512,
    },
];

impl Shape {
    /// A message whose hits are new: `number` tells it apart from all others.
    fn message(self, number: usize) -> Bytes {
        let events: Vec<_> = (0..self.records)
            .map(|at| {
                if at < self.hits {
                    let nth = number * self.hits + at;
                    let source = format!("203.0.{}.{}", nth / 250 % 250, nth % 250);
                    denied(&source, u32::try_from(nth / 62_500 % 3000).unwrap(), "/api")
                } else {
                    event(at)
                }
            })
            .collect();
        Bytes::from(framed(0, &request(&events).encode_to_vec()))
    }
}

/// A service at work.
struct Server {
    process: Process,
    address: SocketAddr,
    connections: Vec<Connection>,
}

impl Server {
    /// Starts it; how long that took.
    async fn start(
        binary: &Path,
        folder: &Path,
        (storage, level): (bool, &str),
    ) -> anyhow::Result<(Self, Duration)> {
        let address = free_address();
        let (key, extension, list) = if storage {
            let directory = folder.join("storage");
            (
                "storage: file_storage, ",
                format!(
                    "extensions: {{file_storage: {{directory: '{}', create_directory: true}}}}\n",
                    directory.display()
                ),
                "extensions: [file_storage], ",
            )
        } else {
            ("", String::new(), "")
        };
        let config = folder.join(format!("{storage}.yaml"));
        std::fs::write(
            &config,
            format!(
                "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\n\
                 processors: {{detection: {{{key}limits: {{memory_mib: 2048}}}}}}\n\
                 exporters: {{file: {{path: /dev/null}}}}\n{extension}\
                 service: {{{list}telemetry: {{metrics: {{level: none}}, logs: {{level: {level}}}}}, \
                 pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [file]}}}}}}\n"
            ),
        )?;
        let arguments = [
            "--config",
            config.to_str().context("a path that is no text")?,
        ];
        let begin = Instant::now();
        let process = Process::start(binary, &arguments, &[]);
        process.wait_for("listening", LONG);
        let took = begin.elapsed();
        let connections = Vec::new();
        let server = Self {
            process,
            address,
            connections,
        };
        Ok((server, took))
    }

    /// Sends these over this many connections at a time; how long each took, in order of that.
    async fn send(&mut self, messages: &[Bytes], senders: usize) -> anyhow::Result<Vec<Duration>> {
        while self.connections.len() < senders {
            self.connections.push(Connection::to(self.address).await?);
        }
        let mut tasks = Vec::new();
        for place in 0..senders {
            let mut connection = self.connections.pop().context("no connection")?;
            let own: Vec<_> = messages
                .iter()
                .skip(place)
                .step_by(senders)
                .cloned()
                .collect();
            tasks.push(tokio::spawn(async move {
                let mut times = Vec::new();
                for message in own {
                    let begin = Instant::now();
                    // As a collector: again, until it is accepted.
                    while connection.send(&message, None).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    times.push(begin.elapsed());
                }
                (connection, times)
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            let (connection, times) = task.await?;
            self.connections.push(connection);
            all.extend(times);
        }
        all.sort();
        Ok(all)
    }
}

/// Counts the syncs of a process while it is there.
struct Syncs(Child, PathBuf);

impl Syncs {
    fn of(pid: u32, folder: &Path) -> Option<Self> {
        let file = folder.join("syncs");
        let child = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-e",
                "trace=fdatasync,fsync,sync_file_range,msync",
            ])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&file)
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        std::thread::sleep(Duration::from_secs(1));
        Some(Self(child, file))
    }

    fn count(mut self) -> anyhow::Result<usize> {
        Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .status()?;
        self.0.wait()?;
        let text = std::fs::read_to_string(&self.1)?;
        let begun = text
            .lines()
            .filter(|line| line.contains("sync") && !line.contains("resumed"));
        Ok(begun.count())
    }
}

fn percentile(times: &[Duration], of_hundred: usize) -> f64 {
    let at = (times.len() * of_hundred / 100).min(times.len().saturating_sub(1));
    times
        .get(at)
        .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of measurements")]
async fn requests(arguments: &Arguments, folder: &Path) -> anyhow::Result<bool> {
    let mut good = true;
    let mut number = 0;
    for shape in SHAPES {
        println!(
            "\n{}\n{:<8}{:>10}{:>10}{:>8}  {:<15}{:>19}{:>19}{:>14}",
            shape.name,
            "senders",
            "ns/record",
            "storage",
            "ratio",
            "range",
            "p50/p99 ms",
            "storage",
            "syncs/request"
        );
        for senders in [1, 8, 64] {
            let mut servers = Vec::new();
            for storage in [false, true] {
                // A directory of its own: what was measured before leaves nothing behind.
                let own = tempfile::tempdir_in(folder)?;
                let (server, _) =
                    Server::start(&arguments.binary, own.path(), (storage, "info")).await?;
                servers.push((server, own, Vec::new(), Vec::new()));
            }
            let (mut ratios, many) = (Vec::new(), shape.requests);
            for round in 0..=arguments.rounds.max(1) {
                let sent: Vec<_> = (number..number + many)
                    .map(|at| shape.message(at))
                    .collect();
                number += many;
                let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
                let mut taken = [0.0; 2];
                for which in order {
                    let (server, _, times, costs) = &mut servers[which];
                    let before = cpu(server.process.pid())?;
                    let latencies = server.send(&sent, senders).await?;
                    let spent = between(&before, &cpu(server.process.pid())?);
                    taken[which] = spent.as_nanos() as f64 / (many * shape.records) as f64;
                    // The first round is for what only the first requests cost.
                    if round > 0 {
                        times.extend(latencies);
                        costs.push(taken[which]);
                    }
                }
                if round > 0 {
                    ratios.push(taken[1] / taken[0]);
                }
            }
            let syncs = match Syncs::of(servers[1].0.process.pid(), folder) {
                Some(syncs) => {
                    let sent: Vec<_> = (number..number + many)
                        .map(|at| shape.message(at))
                        .collect();
                    number += many;
                    servers[1].0.send(&sent, senders).await?;
                    format!("{:.2}", syncs.count()? as f64 / many as f64)
                }
                None => "no strace".to_owned(),
            };
            ratios.sort_by(f64::total_cmp);
            let mut shown = Vec::new();
            for (_, _, times, costs) in &mut servers {
                times.sort();
                costs.sort_by(f64::total_cmp);
                let latency = format!("{:.2}/{:.2}", percentile(times, 50), percentile(times, 99));
                shown.push((costs[costs.len() / 2], latency));
            }
            let ratio = ratios[ratios.len() / 2];
            let range = format!("{:.2} to {:.2}", ratios[0], ratios[ratios.len() - 1]);
            println!(
                "{senders:<8}{:>10.0}{:>10.0}{ratio:>8.3}  {range:<15}{:>19}{:>19}{syncs:>14}",
                shown[0].0, shown[1].0, shown[0].1, shown[1].1
            );
            if shape.records > 1 {
                good &= arguments.at_most.is_none_or(|at_most| ratio <= at_most);
            }
        }
    }
    Ok(good)
}

/// Hits of addresses, each of its own.
fn flood(number: usize) -> Bytes {
    let events: Vec<_> = (0..1000)
        .map(|at| {
            let nth = u32::try_from(number * 1000 + at).unwrap();
            let address = std::net::Ipv4Addr::from_bits(
                (16 << 24) + nth.wrapping_mul(2_654_435_761) % (1 << 29),
            );
            denied(&address.to_string(), 0, &format!("/{at}"))
        })
        .collect();
    Bytes::from(framed(0, &request(&events).encode_to_vec()))
}

/// Bytes of the files of a folder: of the log, and of all snapshots.
fn sizes(folder: &Path) -> (u64, u64) {
    let (mut log, mut snapshots) = (0, 0);
    for file in std::fs::read_dir(folder.join("storage"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let size = file.metadata().map_or(0, |data| data.len());
        if file.path().extension().is_some_and(|end| end == "redb") {
            log += size;
        } else {
            snapshots += size;
        }
    }
    (log, snapshots)
}

const MIB: u64 = 1 << 20;

/// What the log says of snapshots since this place in it.
fn pauses(stderr: &str, from: usize) -> Vec<String> {
    let lines = stderr.get(from..).unwrap_or_default().lines();
    let pauses = lines.filter(|line| line.contains("state taken for a snapshot"));
    let pauses = pauses.filter_map(|line| line.split_once("stopped"));
    pauses
        .map(|(_, rest)| {
            rest.trim_start_matches(['"', ':', '='])
                .split(['"', ',', '}', ' '])
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
async fn keys(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let own = tempfile::tempdir_in(folder)?;
    let (mut server, took) = Server::start(&arguments.binary, own.path(), (true, "debug")).await?;
    println!("\n{} keys\nstart, empty: {took:.2?}", arguments.keys);
    let done = AtomicBool::new(false);
    let watch = async {
        let mut most = (0, 0);
        while !done.load(Ordering::Relaxed) {
            let now = sizes(own.path());
            most = (most.0.max(now.0), most.1.max(now.1));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        most
    };
    let begin = Instant::now();
    let flooding = async {
        let mut slowest = Duration::ZERO;
        for number in 0..arguments.keys / 1000 {
            let times = server.send(&[flood(number)], 1).await?;
            slowest = slowest.max(times.last().copied().unwrap_or_default());
        }
        done.store(true, Ordering::Relaxed);
        anyhow::Ok(slowest)
    };
    let (slowest, most) = tokio::join!(flooding, watch);
    println!(
        "flood: {:.1?}, the slowest request of 1,000 hits took {:.1?}; at most {} MiB of log, {} MiB of snapshots; resident {} MiB",
        begin.elapsed(),
        slowest?,
        most.0 / MIB,
        most.1 / MIB,
        server.process.resident() / MIB
    );
    println!(
        "pauses under way: {:?}",
        pauses(&server.process.stderr(), 0)
    );
    // A snapshot while hits come one at a time.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let from = server.process.stderr().len();
    let resident = server.process.resident();
    server.process.reset_peak();
    for number in 0..90 {
        server.send(&[flood(number)], 1).await?;
    }
    let (mut times, begin) = (Vec::new(), Instant::now());
    let mut number = 10_000_000;
    while begin.elapsed() < Duration::from_secs(20) {
        number += 1;
        times.extend(server.send(&[SHAPES[1].message(number)], 1).await?);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times.sort();
    println!(
        "snapshot: pauses {:?}; a request of one hit: p50 {:.2} ms, p99 {:.2} ms, slowest {:.1} ms; peak of memory {} MiB, before {} MiB",
        pauses(&server.process.stderr(), from),
        percentile(&times, 50),
        percentile(&times, 99),
        times.last().map_or(0.0, |time| time.as_secs_f64() * 1000.0),
        server.process.peak() / MIB,
        resident / MIB
    );
    for signal in ["TERM", "KILL"] {
        if signal == "KILL" {
            for number in 0..40 {
                server.send(&[flood(number)], 1).await?;
            }
        }
        let begin = Instant::now();
        server.process.signal(signal);
        server.process.wait(LONG);
        let ended = begin.elapsed();
        let (log, snapshots) = sizes(own.path());
        let (next, took) = Server::start(&arguments.binary, own.path(), (true, "debug")).await?;
        server = next;
        println!(
            "{signal}: ended after {ended:.2?}, ready {took:.2?} after the start; {:.1} MiB of log, {:.1} MiB of snapshot; peak of memory of the start {} MiB",
            log as f64 / MIB as f64,
            snapshots as f64 / MIB as f64,
            server.process.peak() / MIB
        );
    }
    Ok(())
}

async fn measure(arguments: &Arguments) -> anyhow::Result<bool> {
    let directory = arguments
        .directory
        .clone()
        .unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(directory)?;
    let is_wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|one| one == name);
    let mut good = true;
    if is_wanted("requests") {
        good &= requests(arguments, folder.path()).await?;
    }
    if is_wanted("keys") {
        keys(arguments, folder.path()).await?;
    }
    Ok(good)
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    let arguments = Arguments::parse();
    // One thread for the client, so that it leaves the others alone.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(if runtime.block_on(measure(&arguments))? {
        std::process::ExitCode::SUCCESS
    } else {
        eprintln!("a ratio is above --at-most");
        std::process::ExitCode::FAILURE
    })
}
