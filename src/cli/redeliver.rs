//! `auditwatch redeliver FILE... --config CONFIG`: dead letters, sent again by the exporters that
//! could not deliver them.
//!
//! A file is taken away under another name first, so that a service at work begins a new one. What
//! cannot be sent, and lines that cannot be read, are written back to the file, and then the other
//! is removed. So a letter that was not sent is always in a file, and one that was sent may be in
//! one only after an interruption.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use tracing::level_filters::LevelFilter;

use super::{sources::Sources, stop::Stop};
use crate::{
    clock::{self, Instant},
    config::{self, ExporterConfig},
    detection::Finding,
    exporter::{
        Exporter,
        dead_letter::{Letter, file},
        delivery::{Batch, Cause, Observer, OnRefusal, Policy, Retry, RetryConfig, deliver},
        otlp_grpc::OtlpGrpc,
        otlp_http::OtlpHttp,
        shutdown::Shutdown,
        splunk_hec::SplunkHec,
    },
    telemetry, visible,
};

/// Send findings of dead-letter files again
#[derive(Args, Debug)]
#[command(mut_arg("config", |config| config.required(true)))]
pub(super) struct Redeliver {
    /// Dead-letter files; what cannot be sent is written back to them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    sources: Sources,

    /// How long a request is repeated before its findings are written back, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    max_elapsed_time: u64,
}

/// What became of the letters.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sent: usize,
    failed: usize,
    unread: usize,
}

/// The lines of one file.
#[derive(Default)]
struct Lines {
    all: Vec<Vec<u8>>,
    /// Of each line, whether it is to be written back.
    stays: Vec<bool>,
    /// Findings by the exporter that could not deliver them, with the number of their line.
    letters: BTreeMap<String, Vec<(usize, Arc<Finding>)>>,
}

impl Redeliver {
    /// Sends what the files hold and prints what became of it. Whether all of it was sent.
    ///
    /// # Errors
    /// When the configuration is wrong, or a file cannot be taken or written back.
    pub(super) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<bool> {
        telemetry::start(LevelFilter::WARN, false);
        let config = config::load(&self.sources.all())?;
        let exporters: BTreeMap<String, &ExporterConfig> = config
            .exporters
            .iter()
            .map(|(id, exporter)| (id.to_string(), exporter))
            .collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let mut count = Count::default();
        for path in &self.files {
            let shown = visible::path(path);
            let taken = file::take(path).with_context(|| format!("cannot take {shown}"))?;
            let mut lines = read(&taken, path, err)?;
            count.unread += lines.stays.iter().filter(|stays| **stays).count();
            let letters = std::mem::take(&mut lines.letters);
            for (id, letters) in letters {
                let most = letters.len();
                let numbers: Vec<usize> = letters.iter().map(|(line, _)| *line).collect();
                let sent = match exporters.get(&id) {
                    Some(exporter) => runtime.block_on(self.send(&id, exporter, letters)),
                    None => Err(anyhow::anyhow!(
                        "the configuration has no exporter {}",
                        visible::quotable(&id, 128)
                    )),
                };
                // The file was taken away: whatever is wrong, its lines go back.
                let failed = match sent {
                    Ok(failed) => failed,
                    Err(error) => {
                        writeln!(
                            err,
                            "auditwatch: {shown}: {error:#}, {most} findings stay in the file"
                        )?;
                        numbers
                    }
                };
                count.failed += failed.len();
                count.sent += most - failed.len();
                for line in failed {
                    if let Some(stays) = lines.stays.get_mut(line) {
                        *stays = true;
                    }
                }
            }
            let back = lines.to_write_back();
            file::give_back(path, &back)
                .and_then(|()| fs::remove_file(&taken))
                .with_context(|| {
                    let taken = visible::path(&taken);
                    format!("cannot write back to {shown}; all of its lines are still in {taken}")
                })?;
        }
        let Count {
            sent,
            failed,
            unread,
        } = count;
        writeln!(
            out,
            "{sent} findings sent, {failed} not sent, {unread} lines not read"
        )?;
        Ok(failed == 0 && unread == 0)
    }

    /// Sends findings by one exporter. The lines of those that stay.
    async fn send(
        &self,
        id: &str,
        exporter: &ExporterConfig,
        letters: Vec<(usize, Arc<Finding>)>,
    ) -> anyhow::Result<Vec<usize>> {
        let context = || format!("cannot use exporter {id}");
        match exporter {
            ExporterConfig::SplunkHec(config) => {
                let exporter = SplunkHec::new(config).with_context(context)?;
                self.deliver(exporter, &config.retry, letters).await
            }
            ExporterConfig::OtlpGrpc(config) => {
                let exporter = OtlpGrpc::new(config).with_context(context)?;
                self.deliver(exporter, &config.retry, letters).await
            }
            ExporterConfig::OtlpHttp(config) => {
                let exporter = OtlpHttp::new(config).with_context(context)?;
                self.deliver(exporter, &config.retry, letters).await
            }
            // They have no dead letters.
            ExporterConfig::File(_) | ExporterConfig::Debug(_) => {
                Ok(letters.into_iter().map(|(line, _)| line).collect())
            }
        }
    }

    async fn deliver(
        &self,
        mut exporter: impl Exporter,
        retry: &RetryConfig,
        letters: Vec<(usize, Arc<Finding>)>,
    ) -> anyhow::Result<Vec<usize>> {
        let shutdown = Shutdown::default();
        exporter.attach(&shutdown);
        let policy = Policy {
            retry: RetryConfig {
                max_elapsed_time: Duration::from_secs(self.max_elapsed_time),
                ..retry.clone()
            },
            // Somebody sits before it.
            on_refusal: OnRefusal::GiveUp,
            shutdown: shutdown.clone(),
        };
        let mut batch = Batch::default();
        let mut staying = Staying::default();
        for (line, finding) in letters {
            staying.lines.insert(Arc::as_ptr(&finding), line);
            batch.push(finding, clock::monotonic());
        }
        let mut stop = Stop::listen()?;
        {
            let mut delivery = pin!(deliver(&mut batch, &mut exporter, &policy, &mut staying));
            let ended = tokio::select! {
                () = &mut delivery => true,
                () = stop.requested() => false,
            };
            if !ended {
                shutdown.finish();
                let ended = tokio::select! {
                    () = &mut delivery => true,
                    () = stop.repeated() => false,
                };
                if !ended {
                    shutdown.abandon();
                    delivery.await;
                }
            }
        }
        Ok(staying.failed)
    }
}

/// Notes which findings were not sent.
#[derive(Default)]
struct Staying {
    lines: BTreeMap<*const Finding, usize>,
    failed: Vec<usize>,
}

impl Staying {
    fn add(&mut self, findings: &[Arc<Finding>], reason: &str) {
        let lines = findings
            .iter()
            .filter_map(|finding| self.lines.get(&Arc::as_ptr(finding)));
        self.failed.extend(lines);
        tracing::warn!("{} findings were not sent: {reason}", findings.len());
    }
}

impl Observer<Arc<Finding>> for Staying {
    fn accepted(&mut self, _since: &[Instant], _out: usize) {}

    fn partly_accepted(&mut self, findings: &[Arc<Finding>], _rejected: usize, reason: String) {
        // It is not known which, so all of them stay.
        self.add(findings, &reason);
    }

    fn given_up(&mut self, findings: &[Arc<Finding>], _cause: Cause, reason: String) {
        self.add(findings, &reason);
    }

    fn retrying(&mut self, retry: Retry<'_>) {
        let seconds = retry.wait.as_secs_f64();
        tracing::warn!("{}, trying again in {seconds:.1} s", retry.reason);
    }
}

/// Reads the lines of a file; `name` is what it was called. A line that cannot be read is named, and
/// stays.
fn read(taken: &Path, name: &Path, err: &mut dyn Write) -> anyhow::Result<Lines> {
    let shown = visible::path(name);
    let text = fs::read(taken).with_context(|| format!("cannot read {}", visible::path(taken)))?;
    let mut lines = Lines::default();
    let whole = text.split(|byte| *byte == b'\n');
    for (at, line) in whole.enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let number = lines.all.len();
        lines.all.push(line.to_vec());
        match serde_json::from_slice::<Letter<Finding>>(line) {
            Ok(letter) => {
                let letters = lines.letters.entry(letter.exporter).or_default();
                letters.push((number, Arc::new(letter.finding)));
                lines.stays.push(false);
            }
            Err(error) => {
                writeln!(
                    err,
                    "auditwatch: {shown}:{}: no dead letter ({error}), it stays in the file",
                    at + 1
                )?;
                lines.stays.push(true);
            }
        }
    }
    Ok(lines)
}

impl Lines {
    fn to_write_back(&self) -> Vec<u8> {
        let mut back = Vec::new();
        for (line, stays) in self.all.iter().zip(&self.stays) {
            if *stays {
                back.extend_from_slice(line);
                back.push(b'\n');
            }
        }
        back
    }
}
