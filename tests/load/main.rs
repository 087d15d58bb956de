//! CPU per record of two builds, in one run: both get the same requests over OTLP gRPC, in turn, and
//! the kernel says what each took.
//!
//! ```text
//! cargo test --release --test load -- BEFORE AFTER
//! ```
//!
//! `BEFORE` and `AFTER` are paths of binaries. Requests are encoded once, so that the client leaves the
//! cores to the server. Each round measures both builds with each kind of record, in an order that
//! alternates, so that whatever else the machine does meets both. Printed are the nanoseconds of
//! server CPU per record (the median over rounds), the ratio of the two with its range, and for the
//! second build how many times a plain record of the same run that is.
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
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use prost::Message as _;

use shared::{Connection, between, cpu, event};
use support::{
    corpus::denied,
    process::{Process, free_address},
    sender::{as_maps, framed, request},
};

/// Compares the CPU per record of two builds.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The binary to compare with
    before: PathBuf,

    /// The binary to compare
    after: PathBuf,

    /// How many times each kind of record is measured with each build
    #[arg(long, default_value_t = 31)]
    rounds: usize,

    /// How many records one measurement sends
    #[arg(long, default_value_t = 100_000)]
    records: usize,

    /// Measure this kind of record alone; repeatable
    #[arg(long)]
    only: Vec<String>,

    /// Fail when a ratio is above this
    #[arg(long)]
    at_most: Option<f64>,
}

/// Records of one request, as the batch processor of the Collector makes them at most.
const BATCH: usize = 1000;

/// Nothing but the path of a record is measured: no metrics, and findings go nowhere.
const CONFIG: &str = "
receivers: {otlp: {protocols: {grpc: {endpoint: '${env:GRPC}'}}}}
processors: {detection: }
exporters: {file: {path: /dev/null}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {logs: {receivers: [otlp], processors: [detection], exporters: [file]}}
";

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Events that match nothing, as text.
    Plain,
    /// The same, compressed.
    Gzip,
    /// The same, as maps.
    Map,
    /// Unauthenticated requests that were refused, of 250 addresses.
    Hits,
    /// Plain records while 1,000 addresses have an open finding and are watched for a success.
    Watched,
    /// Unauthenticated requests that were refused, each of an address of its own.
    Flood,
}

impl Kind {
    /// In the order in which they are measured: each leaves the state of the next as it should be.
    const ALL: [Self; 6] = [
        Self::Plain,
        Self::Gzip,
        Self::Map,
        Self::Hits,
        Self::Watched,
        Self::Flood,
    ];

    /// The gRPC message with this number; all are the same but those of a flood.
    fn message(self, number: usize) -> Bytes {
        let events: Vec<_> = (0..BATCH)
            .map(|at| match self {
                Self::Hits => denied(&format!("203.0.113.{}", at % 250), 0, &format!("/{at}")),
                Self::Flood => {
                    // Scattered, as forged addresses are.
                    let nth = u32::try_from(number * BATCH + at).unwrap();
                    let scattered = nth.wrapping_mul(2_654_435_761) % (1 << 29);
                    let address = std::net::Ipv4Addr::from_bits((16 << 24) + scattered);
                    denied(&address.to_string(), 0, &format!("/{at}"))
                }
                _ => event(at),
            })
            .collect();
        let mut request = request(&events);
        if self == Self::Map {
            as_maps(&mut request);
        }
        let bytes = request.encode_to_vec();
        Bytes::from(match self {
            Self::Gzip => framed(1, &compressed(&bytes)),
            _ => framed(0, &bytes),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Map => "map",
            Self::Hits => "hits",
            Self::Watched => "watched",
            Self::Flood => "flood",
        })
    }
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A build at work, and a connection to it.
struct Server {
    process: Process,
    connection: Connection,
}

impl Server {
    async fn start(binary: &Path, config: &Path) -> anyhow::Result<Self> {
        let address = free_address();
        let arguments = [
            "--config",
            config.to_str().context("a path that is no text")?,
        ];
        let process = Process::start(binary, &arguments, &[("GRPC", address.to_string())]);
        process.wait_for("listening", Duration::from_secs(20));
        Ok(Self {
            process,
            connection: Connection::to(address).await?,
        })
    }

    /// Opens a finding of 1,000 addresses.
    async fn open_findings(&mut self) -> anyhow::Result<()> {
        let events: Vec<_> = (0..6000)
            .map(|at| {
                let source = format!("198.{}.{}.7", 18 + at / 6 / 250, at / 6 % 250);
                denied(&source, at, &format!("/{at}"))
            })
            .collect();
        let message = Bytes::from(framed(0, &request(&events).encode_to_vec()));
        self.measure(Kind::Hits, &[message]).await?;
        Ok(())
    }

    /// Sends these messages, and returns the CPU time that took.
    async fn measure(&mut self, kind: Kind, messages: &[Bytes]) -> anyhow::Result<Duration> {
        let before = cpu(self.process.pid())?;
        for message in messages {
            let encoding = (kind == Kind::Gzip).then_some("gzip");
            self.connection
                .send(message, encoding)
                .await
                .with_context(|| kind.to_string())?;
        }
        Ok(between(&before, &cpu(self.process.pid())?))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of measurements")]
async fn compare(arguments: &Arguments) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, CONFIG)?;
    let mut before = Server::start(&arguments.before, &config).await?;
    let mut after = Server::start(&arguments.after, &config).await?;
    let times = arguments.records.div_ceil(BATCH).max(1);
    let records = (times * BATCH) as f64;
    let mut good = true;
    println!(
        "{:<12}{:>12}{:>12}{:>9}  {:<16}x plain",
        "ns a record", "before", "after", "ratio", "range"
    );
    let mut plain = None;
    let is_wanted = |kind: &Kind| {
        let name = kind.to_string();
        arguments.only.is_empty() || arguments.only.contains(&name)
    };
    for kind in Kind::ALL.into_iter().filter(is_wanted) {
        let mut number = 0;
        let mut messages = |count: usize| -> Vec<Bytes> {
            if kind != Kind::Flood {
                return vec![kind.message(0); count];
            }
            number += count;
            (number - count..number).map(|n| kind.message(n)).collect()
        };
        // What only the first requests cost.
        let first = messages(times.div_ceil(10));
        for server in [&mut before, &mut after] {
            if kind == Kind::Watched {
                server.open_findings().await?;
            }
            server.measure(kind, &first).await?;
        }
        let (mut old, mut new, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..arguments.rounds.max(1) {
            let sent = messages(times);
            let (a, b);
            if round % 2 == 0 {
                a = before.measure(kind, &sent).await?;
                b = after.measure(kind, &sent).await?;
            } else {
                b = after.measure(kind, &sent).await?;
                a = before.measure(kind, &sent).await?;
            }
            old.push(a.as_nanos() as f64 / records);
            new.push(b.as_nanos() as f64 / records);
            ratios.push(b.as_secs_f64() / a.as_secs_f64());
        }
        let [old, new, ratio] = [&mut old, &mut new, &mut ratios].map(|values| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        });
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        let range = format!("{least:.3} to {most:.3}");
        let plain = *plain.get_or_insert(new);
        println!(
            "{kind:<12}{old:>12.0}{new:>12.0}{ratio:>9.3}  {range:<16}{:>7.2}",
            new / plain
        );
        good &= arguments.at_most.is_none_or(|at_most| ratio <= at_most);
    }
    Ok(good)
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // One thread for the client, so that it leaves the others alone.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(if runtime.block_on(compare(&arguments))? {
        ExitCode::SUCCESS
    } else {
        eprintln!("a ratio is above --at-most");
        ExitCode::FAILURE
    })
}
