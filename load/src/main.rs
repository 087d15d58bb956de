//! The load tool: CPU per audit log record of auditwatch and its peers, beside floors of the same run.
//!
//! ```text
//! cargo build --profile dist
//! cargo run --release -p auditwatch-load -- table
//! ```
//!
//! prints the tables of docs/performance.md. `send` loads any OTLP endpoint, and says what a process
//! on this machine has taken for it.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a tool that measures: it reads the clock, starts its own tasks, prints, and divides counts"
)]

mod batch;
mod client;
mod events;
mod findings;
mod floors;
mod hec;
mod latency;
mod process;
mod run;
mod scenario;
mod table;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// Measures what audit log records cost
#[derive(Debug, Parser)]
#[command(name = "auditwatch-load", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure auditwatch, the Collector and the floors in turn, and print the tables
    Table(table::Options),
    /// Measure how long after the sixth request of an address its finding reaches Splunk HEC
    Latency(latency::Options),
    /// Send records to an OTLP endpoint, and say what a process has taken for them
    Send(Send),
    /// Read what is sent over bare TCP, and drop it
    #[command(hide = true)]
    Sink {
        /// The address to listen on
        listen: SocketAddr,
    },
}

/// What to send, where to.
#[derive(Args, Debug)]
struct Send {
    /// The OTLP endpoint
    #[arg(long, default_value = "127.0.0.1:4317")]
    endpoint: SocketAddr,
    /// The process whose CPU time and memory are measured
    #[arg(long)]
    pid: u32,
    #[command(flatten)]
    scenario: scenario::Scenario,
    /// How many records to send
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Records a second at most
    #[arg(long)]
    rate: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let what = Arguments::parse().what;
    if let What::Sink { listen } = what {
        floors::sink(listen)?;
        return Ok(ExitCode::SUCCESS);
    }
    // One thread, so that the sender leaves the other cores to what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(async {
            match what {
                What::Table(options) => table::print(&options).await,
                What::Latency(options) => latency::print(&options).await,
                What::Send(send) => send_to(&send).await,
                What::Sink { .. } => Ok(true),
            }
        })
        .map(|is_good| {
            if is_good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        })
}

async fn send_to(send: &Send) -> anyhow::Result<bool> {
    let mut source = events::Source::new(&send.scenario);
    let messages = batch::messages(&mut source, &send.scenario, send.records);
    let target = client::Target::Otlp(send.endpoint);
    let measured = run::measure(send.pid, target, &send.scenario, &messages, send.rate).await?;
    println!("{measured}");
    Ok(true)
}

/// The folder of the workspace, whose builds are measured if no other is named.
fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
