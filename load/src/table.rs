//! The tables: each kind of request, with the floors and peers of the same run.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::{
    batch::{self, Messages},
    client::Target,
    events::Source,
    findings, floors,
    process::{self, Process},
    run::{self, Measured},
    scenario::{Body, Compression, Protocol, Scenario},
};

/// What to measure.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The auditwatch to measure
    #[arg(long, default_value_os_t = crate::workspace().join("target/dist/auditwatch"))]
    auditwatch: PathBuf,
    /// The Collector to measure beside it (tests/collector/build.sh builds one)
    #[arg(long)]
    collector: Option<PathBuf>,
    /// How many times each kind of request is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many records one measurement sends
    #[arg(long, default_value_t = 50_000)]
    records: u64,
    /// Measure what grows as well: connections, clusters, addresses
    #[arg(long)]
    growth: bool,
    /// Share of refused requests in those kinds of requests that have none: to compare findings
    #[arg(long, default_value_t = 0.0)]
    hits: f64,
    /// Measure the kinds of requests whose name holds this alone; repeatable
    #[arg(long)]
    only: Vec<String>,
}

/// Neither metrics nor exporters are measured, except that findings are kept to be compared.
const AUDITWATCH: &str = "
receivers:
  otlp:
    protocols:
      grpc: {endpoint: GRPC, max_connections: 1100, max_connections_per_address: 1100}
      http: {endpoint: HTTP}
processors: {detection: }
exporters: {file: {path: FINDINGS}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {logs: {receivers: [otlp], processors: [detection], exporters: [file]}}
";

const COLLECTOR: &str = "
receivers:
  otlp:
    protocols:
      grpc: {endpoint: GRPC, max_recv_msg_size_mib: 64}
      http: {endpoint: HTTP, max_request_body_size: 67108864}
exporters: {nop: }
service:
  telemetry: {metrics: {level: none}}
  pipelines: {logs: {receivers: [otlp], exporters: [nop]}}
";

/// A kind of request and its name.
struct Row {
    name: &'static str,
    scenario: Scenario,
    /// Its records, as a multiple of those of the others.
    times: u64,
}

fn row(name: &'static str, change: impl FnOnce(&mut Scenario)) -> Row {
    let mut scenario = Scenario::default();
    change(&mut scenario);
    Row {
        name,
        scenario,
        times: 1,
    }
}

/// The kinds of requests; the first is an ordinary record, with which others are compared.
fn rows() -> Vec<Row> {
    vec![
        row("plain", |_| {}),
        row("plain, requests of 8,192", |one| one.batch = 8192),
        row("plain, requests of 100", |one| one.batch = 100),
        row("plain over HTTP", |one| one.protocol = Protocol::Http),
        row("bytes", |one| one.body = Body::Bytes),
        row("maps", |one| one.body = Body::Map),
        row("lists of 100 events", |one| one.body = Body::EventList),
        row("gzip", |one| one.compression = Compression::Gzip),
        row("zstd", |one| one.compression = Compression::Zstd),
        row("0.5 % hits of 10 addresses", |one| one.hits = 0.005),
        row("hits of 250 addresses", |one| {
            one.hits = 1.0;
            one.addresses = 250;
        }),
        row("flood: each hit of an own address", |one| {
            one.hits = 1.0;
            one.addresses = 0;
        }),
    ]
}

fn growing() -> Vec<Row> {
    vec![
        row("10 connections", |one| one.connections = 10),
        row("100 connections", |one| one.connections = 100),
        row("1,000 connections", |one| {
            one.connections = 1000;
            one.batch = 50;
        }),
        row("requests of 50, one connection", |one| one.batch = 50),
        row("20 clusters", |one| one.clusters = 20),
        row("200 clusters", |one| one.clusters = 200),
        Row {
            times: 20,
            ..row("flood up to a million addresses", |one| {
                one.hits = 1.0;
                one.addresses = 0;
            })
        },
    ]
}

/// What one kind of request has cost.
struct Cost {
    auditwatch: f64,
    sink: f64,
    collector: Option<f64>,
    floors: floors::Floors,
    /// The last measurement.
    last: Measured,
}

/// A program that takes OTLP.
struct Server {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    findings: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(program: &std::path::Path, config: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (grpc, http) = (process::free_address()?, process::free_address()?);
        let findings = folder.path().join("findings.ndjson");
        let config = config
            .replace("GRPC", &grpc.to_string())
            .replace("HTTP", &http.to_string())
            .replace("FINDINGS", &findings.to_string_lossy());
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config)?;
        let file = file.to_string_lossy();
        Ok(Self {
            process: Process::start(program, &["--config", &file], grpc)?,
            grpc,
            http,
            findings,
            _folder: folder,
        })
    }

    async fn measure(&self, scenario: &Scenario, messages: &Messages) -> anyhow::Result<Measured> {
        let address = match scenario.protocol {
            Protocol::Grpc => self.grpc,
            Protocol::Http => self.http,
        };
        run::measure(
            self.process.pid(),
            Target::Otlp(address),
            scenario,
            messages,
            None,
        )
        .await
    }
}

/// Measures and prints; whether the findings were those that should have been.
pub(crate) async fn print(options: &Options) -> anyhow::Result<bool> {
    println!(
        "| requests of 1,000 records | ns a record | x plain | x sink | Collector, ns | x Collector | copy | find | inflate | p50 | p99 | peak MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut all = rows();
    if options.growth {
        all.extend(growing());
    }
    let is_wanted = |row: &Row| {
        options.only.is_empty()
            || options
                .only
                .iter()
                .any(|part| row.name.contains(part.as_str()))
    };
    let (mut plain, mut is_good) = (None, true);
    for mut row in all.into_iter().filter(is_wanted) {
        row.scenario.hits = row.scenario.hits.max(options.hits);
        let (cost, wrong) = cost(options, &row).await?;
        let plain = *plain.get_or_insert(cost.auditwatch);
        println!("{}", line(row.name, &cost, plain));
        if let Some(wrong) = wrong {
            is_good = false;
            println!("\n{}: {wrong:#}\n", row.name);
        }
    }
    Ok(is_good)
}

fn line(name: &str, cost: &Cost, plain: f64) -> String {
    let some = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    format!(
        "| {name} | {:.0} | {:.2} | {:.1} | {} | {} | {:.0} | {:.0} | {} | {:.1?} | {:.1?} | {} |",
        cost.auditwatch,
        cost.auditwatch / plain,
        cost.auditwatch / cost.sink,
        some(cost.collector.map(|nanos| format!("{nanos:.0}"))),
        some(
            cost.collector
                .map(|nanos| format!("{:.2}", cost.auditwatch / nanos))
        ),
        cost.floors.copy,
        cost.floors.find,
        some((cost.floors.inflate > 0.0).then(|| format!("{:.0}", cost.floors.inflate))),
        cost.last.latency(50),
        cost.last.latency(99),
        cost.last.peak >> 20,
    )
}

/// What one kind of request costs, and what is wrong with the findings.
async fn cost(options: &Options, row: &Row) -> anyhow::Result<(Cost, Option<anyhow::Error>)> {
    let scenario = &row.scenario;
    let listen = process::free_address()?;
    let sink = Process::start(
        &std::env::current_exe()?,
        &["sink", &listen.to_string()],
        listen,
    )?;
    let auditwatch = Server::start(&options.auditwatch, AUDITWATCH)?;
    let collector = options.collector.as_deref();
    let collector = collector
        .map(|program| Server::start(program, COLLECTOR))
        .transpose()?;
    let mut source = Source::new(scenario);
    let records = options.records * row.times;
    // What only the first requests cost is not measured.
    let mut messages = batch::messages(&mut source, scenario, records / 10);
    let mut costs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut last = None;
    let floors = floors::measure(&messages, scenario.batch, scenario.compression)?;
    for round in 0..=options.rounds {
        let bare =
            run::measure(sink.pid(), Target::Sink(listen), scenario, &messages, None).await?;
        let measured = auditwatch.measure(scenario, &messages).await?;
        let peer = match &collector {
            Some(collector) => Some(collector.measure(scenario, &messages).await?.nanos()),
            None => None,
        };
        if round > 0 {
            costs.entry("sink").or_default().push(bare.nanos());
            costs
                .entry("auditwatch")
                .or_default()
                .push(measured.nanos());
            costs.entry("collector").or_default().extend(peer);
        }
        last = Some(measured);
        if round < options.rounds {
            messages = batch::messages(&mut source, scenario, records);
        }
    }
    let findings = auditwatch.findings.clone();
    let Server {
        process, _folder, ..
    } = auditwatch;
    process.end()?;
    let wrong = findings::check(&findings, &source.expected()).err();
    let mut median = |name| costs.get_mut(name).and_then(|costs| median(costs));
    let cost = Cost {
        auditwatch: median("auditwatch").unwrap_or_default(),
        sink: median("sink").unwrap_or_default(),
        collector: median("collector"),
        floors,
        last: last.unwrap_or_else(|| unreachable!("there is a round")),
    };
    Ok((cost, wrong))
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
