//! From the sixth request of an address to the arrival of its finding at Splunk HEC, under load.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    batch,
    client::{Connection, Target},
    events::Source,
    hec::Hec,
    process::{self, Process},
    run,
    scenario::Scenario,
};

/// What to measure.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The auditwatch to measure
    #[arg(long, default_value_os_t = crate::workspace().join("target/dist/auditwatch"))]
    auditwatch: PathBuf,
    /// How many addresses scan, one after the other
    #[arg(long, default_value_t = 500)]
    scans: u32,
    /// Records a second beside them; by default 80 % of what one core can take
    #[arg(long)]
    rate: Option<u64>,
    /// Measure with a storage in this directory
    #[arg(long)]
    storage: Option<PathBuf>,
}

const CONFIG: &str = "
receivers: {otlp: {protocols: {grpc: {endpoint: GRPC}}}}
processors: {detection: {STORAGE}}
exporters: {splunk_hec: {endpoint: 'http://HEC', token: load, disable_compression: true}}
service:
  telemetry: {metrics: {level: none}}
  EXTENSIONS
  pipelines: {logs: {receivers: [otlp], processors: [detection], exporters: [splunk_hec]}}
";

/// Requests that make a finding.
const REQUESTS: usize = 6;

/// Measures and prints; whether all scans were found.
pub(crate) async fn print(options: &Options) -> anyhow::Result<bool> {
    let (hec, hec_address) = Hec::start().await?;
    let (folder, grpc) = (tempfile::tempdir()?, process::free_address()?);
    let mut config = CONFIG
        .replace("GRPC", &grpc.to_string())
        .replace("HEC", &hec_address.to_string());
    config = match &options.storage {
        Some(directory) => format!(
            "extensions: {{file_storage: {{directory: '{}', create_directory: true}}}}{}",
            directory.display(),
            config
                .replace("STORAGE", "storage: file_storage")
                .replace("EXTENSIONS", "extensions: [file_storage]")
        ),
        None => config.replace("STORAGE", "").replace("EXTENSIONS", ""),
    };
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config)?;
    let file = file.to_str().context("a path that is no text")?;
    let process = Process::start(&options.auditwatch, &["--config", file], grpc)?;
    let scenario = Scenario::default();
    let messages = batch::messages(&mut Source::new(&scenario), &scenario, 100_000);
    let target = Target::Otlp(grpc);
    let alone = run::measure(process.pid(), target, &scenario, &messages, None).await?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate"
    )]
    let rate = options.rate.unwrap_or((0.8e9 / alone.nanos()) as u64);
    let pid = process.pid();
    let load = tokio::spawn(async move {
        loop {
            run::measure(pid, target, &scenario, &messages, Some(rate)).await?;
        }
        #[expect(unreachable_code, reason = "the type of an error")]
        anyhow::Ok(())
    });
    let mut connection = Connection::to(target, &scenario).await?;
    let mut source = Source::new(&scenario);
    let (mut sent, mut lost) = (Vec::new(), 0);
    for scan in 0..options.scans {
        let address = Ipv4Addr::from_bits(0xc612_0000 + (scan << 8) + 7);
        let events: Vec<_> = (0..REQUESTS).map(|_| source.of(address)).collect();
        let message = batch::message(&events, &scenario);
        sent.push((address, Instant::now()));
        connection.send(&message).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.abort();
    let mut taken = Vec::new();
    for (address, at) in sent {
        match hec.arrived(&format!("\"{address}\"")) {
            Some(arrived) => taken.push(arrived.saturating_duration_since(at)),
            None => lost += 1,
        }
    }
    taken.sort_unstable();
    let of = |percent: usize| {
        taken
            .get(taken.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    println!("records a second beside   {rate}");
    println!("scans, not found          {}, {lost}", options.scans);
    println!(
        "p50, p99, most            {:.2?}, {:.2?}, {:.2?}",
        of(50),
        of(99),
        taken.last().copied().unwrap_or_default()
    );
    Ok(lost == 0)
}
