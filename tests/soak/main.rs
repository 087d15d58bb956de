//! Hours of ordinary operation, to see what grows: the real binary between senders and a HEC
//! server, with outages, reconnects and slow scrapes.
//!
//! Each second it looks at the process and at its metrics. After a warm-up it fits a line through
//! each series, prints the slopes per hour with their standard errors, and fails when one is above
//! its bound. CONTRIBUTING.md says how to run it, `series.rs` what the bounds are.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "it has no task tracker and measures by the real clock"
)]

mod series;
mod traffic;

/// Peers and helpers of the integration tests.
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each program uses the part it needs"
)]
#[path = "../it/support/mod.rs"]
mod support;

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;

use series::Samples;
use support::{
    hec::{HecServer, Options},
    process::{Process, free_address},
    prometheus::{Scrape, scrape},
};

/// Runs auditwatch under ordinary traffic and reports what grows.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// How long until it is measured, in seconds; default: half of it, at most ten minutes
    #[arg(long)]
    warm_up: Option<u64>,

    /// The binary; default: the one built with this program
    #[arg(long, default_value = env!("CARGO_BIN_EXE_auditwatch"))]
    binary: PathBuf,

    /// Length of a window in seconds, of which addresses are kept for five; default: a hundredth of
    /// the time, from 3 to 60
    #[arg(long)]
    window: Option<u64>,

    /// New findings a second
    #[arg(long, default_value_t = 12)]
    rate: u32,

    /// Send findings without gzip
    #[arg(long)]
    disable_compression: bool,

    /// Write each sample to this file, as CSV
    #[arg(long)]
    samples: Option<PathBuf>,
}

/// Addresses are forgotten after five windows and the lateness, when their cluster goes on.
const CONFIG: &str = "
receivers:
  otlp: {protocols: {grpc: {endpoint: '${env:GRPC}'}, http: {endpoint: '${env:HTTP}'}}}
processors:
  detection: {window: '${env:WINDOW}', lateness: 1s}
exporters:
  splunk_hec:
    token: test-token
    endpoint: ${env:HEC}
    timeout: 2s
    disable_compression: ${env:PLAIN}
    retry_on_failure: {initial_interval: 200ms, max_interval: 2s, max_elapsed_time: 0}
extensions:
  health_check: {endpoint: '${env:HEALTH}'}
service:
  extensions: [health_check]
  telemetry:
    metrics:
      level: detailed
      readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: '${env:METRICS}'}}}}]
  pipelines:
    logs: {receivers: [otlp], processors: [detection], exporters: [splunk_hec]}
";

/// Windows for which an address is kept, and one for what is late and for clusters that take turns.
const KEPT: u64 = 6;

/// Where the service listens.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
    health: SocketAddr,
    metrics: SocketAddr,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new();
    let ended = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(soak(&arguments)));
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _told = writeln!(std::io::stderr(), "soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything stayed flat.
async fn soak(arguments: &Arguments) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("soak.yaml");
    std::fs::write(&config, CONFIG)?;
    let addresses = Addresses {
        grpc: free_address(),
        http: free_address(),
        health: free_address(),
        metrics: free_address(),
    };
    let window = arguments
        .window
        .unwrap_or_else(|| (arguments.seconds / 100).clamp(3, 60));
    let hec = HecServer::start(Options::default()).await;
    let variables = [
        ("GRPC", addresses.grpc.to_string()),
        ("HTTP", addresses.http.to_string()),
        ("HEALTH", addresses.health.to_string()),
        ("METRICS", addresses.metrics.port().to_string()),
        ("HEC", hec.url()),
        ("WINDOW", window.to_string()),
        ("PLAIN", arguments.disable_compression.to_string()),
    ];
    let mut process = start(&arguments.binary, &config, &variables)?;
    let mut traffic = traffic::start(addresses, arguments.rate);
    let samples = sample(arguments, addresses.metrics, &process, &hec).await;
    traffic.abort_all();
    let samples = samples?;
    let mut out = std::io::stdout().lock();
    if let Some(path) = &arguments.samples {
        std::fs::write(path, samples.csv()).context("cannot write the samples")?;
    }
    let flat = samples.report(arguments.seconds < KEPT * window, &mut out)?;
    let last = scrape(addresses.metrics).await;
    writeln!(out, "{}", totals(&last, &hec))?;
    process.signal("TERM");
    let status = process.wait(Duration::from_mins(1));
    writeln!(out, "it ended with {status}")?;
    Ok(flat && status.success())
}

fn start(binary: &Path, config: &Path, variables: &[(&str, String)]) -> anyhow::Result<Process> {
    ensure!(binary.is_file(), "there is no {}", binary.display());
    let config = config.to_str().context("the path is not UTF-8")?;
    let process = Process::start(binary, &["--config", config], variables);
    process.wait_for("protocol=\"http\"", Duration::from_secs(30));
    Ok(process)
}

/// Looks once a second, and breaks and mends the HEC server on the way.
async fn sample(
    arguments: &Arguments,
    metrics: SocketAddr,
    process: &Process,
    hec: &HecServer,
) -> anyhow::Result<Samples> {
    let warm_up = arguments
        .warm_up
        .unwrap_or_else(|| (arguments.seconds / 2).min(600));
    ensure!(
        warm_up + 10 <= arguments.seconds,
        "--seconds leaves less than ten after the warm-up"
    );
    let mut samples = Samples::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let begin = Instant::now();
    for second in 0..arguments.seconds {
        ticks.tick().await;
        traffic::disturb(hec, second);
        if second % 10 == 9 {
            hec.forget();
        }
        let scrape = scrape(metrics).await;
        // Seconds since the start of the measurement, and what there is then.
        let log = process.stderr();
        let at = begin.elapsed();
        if second >= warm_up {
            samples.add(at, process.pid(), &log, &scrape)?;
        }
        if second % 600 == 599 {
            let rss = process.resident() >> 20;
            writeln!(std::io::stdout(), "{} min: {rss} MiB", (second + 1) / 60)?;
        }
    }
    Ok(samples)
}

/// What was done in the time.
fn totals(last: &Scrape, hec: &HecServer) -> String {
    let of = |name: &str| last.sum(name, &[]).unwrap_or(f64::NAN);
    hec.forget();
    format!(
        "records {}, findings opened {}, sent {}, given up {}, repeated requests {}",
        of("otelcol_receiver_accepted_log_records"),
        last.sum("auditwatch_findings", &[("state", "opened")])
            .unwrap_or(f64::NAN),
        of("otelcol_exporter_sent_log_records"),
        of("otelcol_exporter_send_failed_log_records"),
        of("auditwatch_exporter_retries"),
    )
}
