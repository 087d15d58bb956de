//! `auditwatch replay`: an audit log, sent over OTLP as a collector would, at the pace at which it
//! was recorded or another; or appended to a file that a collector follows.

mod count;
mod gaps;
mod otlp;
mod pace;
mod shift;
mod target;

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;

use self::{
    count::Count,
    gaps::Gaps,
    otlp::{Otlp, Protocol},
    pace::{Pace, Shift, Speed},
    target::Target,
};
use super::{
    input::{self, Line},
    progress::Progress,
    stop::Stop,
    tally::{Place, Places},
};
use crate::{clock, detection::time::Micros, exporter::delivery::RetryConfig, telemetry, visible};

/// Events that were read and are not due yet.
const AHEAD: usize = 4096;
/// How long a request waits for more events, as the batch processor of the Collector.
const BATCH_WAIT: Duration = Duration::from_millis(200);
/// Bytes of events that fill a request.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// How long the events are counted that a stopped replay does not send.
const COUNT_WAIT: Duration = Duration::from_secs(2);

/// Send an audit log as it was recorded, faster, or as if it happened now
#[derive(Args, Debug)]
pub(super) struct Replay {
    /// Audit logs, one event or EventList a line, plain, gzip or zstd; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Receiver: host:port, or https://host:port for TLS
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4317")]
    endpoint: String,

    /// Protocol of the receiver; over http the endpoint is that of port 4318
    #[arg(long, value_enum, default_value_t = Protocol::Grpc)]
    protocol: Protocol,

    /// Append the events to this file, instead of sending them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoint", "protocol", "header", "ca_file", "insecure_skip_verify", "resource_attribute"])]
    output: Option<PathBuf>,

    /// How many times as fast as recorded, such as 60, or full
    #[arg(long, value_name = "N|full", default_value = "1")]
    speed: Speed,

    /// Move the times of all events to the present, by the same amount
    #[arg(long)]
    shift_to_now: bool,

    /// Longest wait between two events, in seconds; longer ones are cut. 0: without a bound
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    max_gap: u64,

    /// Attribute of the resource, such as k8s.cluster.name=demo; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    resource_attribute: Vec<(String, String)>,

    /// Header of each request, such as Authorization="Bearer ..."; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,

    /// PEM file of the authorities to trust, instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Accept any certificate
    #[arg(long)]
    insecure_skip_verify: bool,

    /// Most events of one request
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch_size: u32,

    /// How long a request is repeated before it is given up, in seconds; 0: without end
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    max_elapsed_time: u64,
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE"),
    }
}

/// An event of the log.
struct Event {
    text: String,
    time: Option<Micros>,
}

impl Replay {
    /// Replays the log and prints what became of it. Whether all of it was taken.
    ///
    /// # Errors
    /// When a file cannot be read, or a flag does not fit.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<bool> {
        telemetry::start(LevelFilter::WARN, false);
        let shift = self.shift()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let ended = runtime.block_on(self.replay(shift));
        // A thread that still reads standard input is not waited for.
        runtime.shutdown_background();
        let (count, took) = ended?;
        writeln!(out, "{count} in {:.1} s", took.as_secs_f64())?;
        Ok(count.is_whole())
    }

    /// By how much the times of the events are to be moved: all events are looked at first. Of
    /// standard input it is the first event that says it.
    fn shift(&self) -> anyhow::Result<Option<Shift>> {
        if !self.shift_to_now {
            return Ok(None);
        }
        if self.is_piped() {
            let slow = matches!(self.speed, Speed::Times(times) if times <= 1.0);
            if !slow {
                bail!(
                    "--shift-to-now at a --speed above 1 reads the log twice, which standard input \
                     cannot: give a file, or --speed 1"
                );
            }
            return Ok(None);
        }
        let (mut pace, mut shift) = (self.pace(), Shift::default());
        read(&self.files, |event| {
            shift.add(event.time, pace.due(event.time));
        })?;
        Ok(Some(shift))
    }

    fn is_piped(&self) -> bool {
        self.files.iter().any(|file| file == Path::new("-"))
    }

    fn pace(&self) -> Pace {
        let longest = Duration::from_secs(self.max_gap);
        // What follows a wait that is cut would lie in the future, and standard input is read once.
        let is_bound = self.max_gap > 0 && !(self.shift_to_now && self.is_piped());
        Pace::new(self.speed, is_bound.then_some(longest))
    }

    async fn replay(&self, shift: Option<Shift>) -> anyhow::Result<(Count, Duration)> {
        let (sender, mut events) = mpsc::channel(AHEAD);
        let files = self.files.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // When it stops, the channel is closed and the rest is passed over.
            read(&files, |event| drop(sender.blocking_send(event)))
        });
        let bar = bar();
        let mut target = self.target(bar.clone())?;
        let (mut pace, mut gaps) = (self.pace(), Gaps::new(bar.clone()));
        let (start, began) = (clock::monotonic(), now());
        let mut shift = shift.unwrap_or_default();
        let mut stop = Stop::listen()?;
        let mut flush_by = start;
        let mut unsent = 0;
        loop {
            let event = tokio::select! {
                () = stop.requested() => break,
                event = events.recv() => event,
            };
            let Some(Event { text, time }) = event else {
                break;
            };
            let due = pace.due(time);
            gaps.cut(due, self.max_gap);
            if self.shift_to_now && self.is_piped() && shift.from(began).is_none() {
                shift.add(time, due);
            }
            let due = start + due.after;
            if target.is_full(self.batch_size, BATCH_BYTES) || due > flush_by {
                target.flush(&mut stop).await?;
                if stop.is_requested() {
                    unsent += 1;
                    break;
                }
            }
            if due > clock::monotonic() {
                tokio::select! {
                    () = stop.requested() => {
                        unsent += 1;
                        break;
                    }
                    () = tokio::time::sleep_until(due) => {}
                }
            }
            if target.is_empty() {
                flush_by = clock::monotonic() + BATCH_WAIT;
            }
            target.push(match shift.from(began) {
                Some(by) => shift::moved(&text, by),
                None => text,
            });
            bar.inc(1);
        }
        target.flush(&mut stop).await?;
        bar.finish_and_clear();
        gaps.end();
        let mut is_all = true;
        if stop.is_requested() {
            is_all = count(&mut events, &mut unsent, &mut stop).await;
            target.unsent(unsent, is_all);
        }
        drop(events);
        if is_all {
            target.left_out(&reading.await.context("cannot read the log")??);
        }
        Ok((target.count(), clock::monotonic() - start))
    }

    fn target(&self, bar: ProgressBar) -> anyhow::Result<Target> {
        let retry = RetryConfig {
            max_elapsed_time: Duration::from_secs(self.max_elapsed_time),
            initial_interval: Duration::from_secs(1),
            ..RetryConfig::default()
        };
        if let Some(file) = &self.output {
            return Target::file(file, bar);
        }
        let otlp = Otlp::new(otlp::Config {
            endpoint: self.endpoint.clone(),
            protocol: self.protocol,
            headers: self.header.clone(),
            ca_file: self.ca_file.clone(),
            insecure_skip_verify: self.insecure_skip_verify,
            resource: self.resource_attribute.clone(),
            retry,
        })?;
        Ok(Target::otlp(otlp, bar))
    }
}

/// Counts the events that are not sent any more. Whether those are all: standard input may have no
/// end, and a log may be long.
async fn count(events: &mut mpsc::Receiver<Event>, unsent: &mut u64, stop: &mut Stop) -> bool {
    let rest = async {
        while events.recv().await.is_some() {
            *unsent += 1;
        }
    };
    tokio::select! {
        () = rest => true,
        () = stop.repeated() => false,
        () = tokio::time::sleep(COUNT_WAIT) => false,
    }
}

/// Shows each event of the files. The lines that are too long to be read.
fn read(files: &[PathBuf], mut show: impl FnMut(Event)) -> anyhow::Result<Places> {
    let mut too_long = Places::default();
    for file in files {
        let context = || format!("cannot read {}", visible::path(file));
        let lines = input::open(file, &Progress::hidden()).with_context(context)?;
        input::for_each_line(lines, |number, line| {
            let Line::Text(line) = line else {
                too_long.add(&Place { path: file, number });
                return;
            };
            let line = String::from_utf8_lossy(line);
            if line.trim().is_empty() {
                return;
            }
            for event in shift::events(&line) {
                show(Event {
                    text: event.to_owned(),
                    time: shift::time(event),
                });
            }
        })
        .with_context(context)?;
    }
    Ok(too_long)
}

fn now() -> Micros {
    Micros::from_unix_nanos(clock::unix_nanos()).unwrap_or_default()
}

/// The progress bar, on a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {pos} events, {per_sec}, {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
