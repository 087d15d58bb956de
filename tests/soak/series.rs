//! What is measured, the line through it, and how steep that may be.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use anyhow::Context as _;

use crate::support::prometheus::Scrape;

/// Seconds of an hour.
const HOUR: f64 = 3600.0;
/// A megabyte.
const MIB: f64 = 1_048_576.0;

/// One thing that is measured.
struct Kind {
    name: &'static str,
    /// What a unit of the table is worth.
    unit: f64,
    /// The most that it may grow in an hour.
    hourly: f64,
    /// The most that it may grow besides, however short the time: what allocators and pools take
    /// until they have settled, and what the beat of outages leaves in a short time.
    once: f64,
    /// Whether it grows with the state, until the first addresses are forgotten.
    fills: bool,
}

/// In the units of the table. Slopes count less twice their standard error.
const KINDS: [Kind; 10] = [
    Kind {
        name: "RSS (MiB)",
        unit: MIB,
        hourly: 4.0,
        once: 8.0,
        fills: true,
    },
    Kind {
        name: "RSS - 1.25 state",
        unit: MIB,
        hourly: 4.0,
        once: 8.0,
        fills: false,
    },
    Kind {
        name: "file descriptors",
        unit: 1.0,
        hourly: 1.0,
        once: 16.0,
        fills: false,
    },
    Kind {
        name: "threads",
        unit: 1.0,
        hourly: 0.5,
        once: 8.0,
        fills: false,
    },
    Kind {
        name: "tasks",
        unit: 1.0,
        hourly: 1.0,
        once: 32.0,
        fills: false,
    },
    Kind {
        name: "log lines",
        unit: 1.0,
        hourly: 3600.0,
        once: 60.0,
        fills: false,
    },
    Kind {
        name: "queue (findings)",
        unit: 1.0,
        hourly: 5.0,
        once: 200.0,
        fills: false,
    },
    Kind {
        name: "state (MiB)",
        unit: MIB,
        hourly: 1.0,
        once: 2.0,
        fills: true,
    },
    Kind {
        name: "requests (MiB)",
        unit: MIB,
        hourly: 1.0,
        once: 16.0,
        fills: false,
    },
    Kind {
        name: "tracked keys",
        unit: 1.0,
        hourly: 20.0,
        once: 100.0,
        fills: true,
    },
];

/// All samples of a run.
#[derive(Default)]
pub(crate) struct Samples {
    /// Hours, and the values of [`KINDS`] in their units.
    rows: Vec<(f64, [f64; KINDS.len()])>,
}

/// A line through a series, per hour.
struct Slope {
    first: f64,
    last: f64,
    hourly: f64,
    error: f64,
}

impl Samples {
    /// Takes one sample of a process.
    pub(crate) fn add(
        &mut self,
        at: Duration,
        pid: u32,
        log: &str,
        scrape: &Scrape,
    ) -> anyhow::Result<()> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
            .context("the process has ended")?;
        let of = |key: &str| -> anyhow::Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next());
            Ok(number.with_context(|| format!("no {key}"))?.parse()?)
        };
        let metric = |name: &str| scrape.sum(name, &[]).with_context(|| format!("no {name}"));
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let (resident, state) = (of("VmRSS:")? * 1024.0, metric("auditwatch_state_memory")?);
        let values = [
            resident,
            resident - 1.25 * state,
            count(files),
            of("Threads:")?,
            // Releases before it was there are measured too.
            metric("auditwatch_tasks").unwrap_or(f64::NAN),
            count(log.lines().count()),
            metric("otelcol_exporter_queue_size")?,
            state,
            metric("auditwatch_admission_memory")?,
            metric("auditwatch_tracked_keys")?,
        ];
        let mut row = [0.0; KINDS.len()];
        for ((to, value), kind) in row.iter_mut().zip(values).zip(&KINDS) {
            *to = value / kind.unit;
        }
        self.rows.push((at.as_secs_f64() / HOUR, row));
        Ok(())
    }

    /// The samples as a table for other programs.
    pub(crate) fn csv(&self) -> String {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        let mut text = format!("hours,{}\n", names.join(","));
        for (at, row) in &self.rows {
            let values: Vec<_> = row.iter().map(ToString::to_string).collect();
            let _ok = writeln!(text, "{at:.5},{}", values.join(","));
        }
        text
    }

    /// Prints the slopes. Whether all are within their bounds; while the state `fills`, those that
    /// grow with it have none.
    pub(crate) fn report(&self, fills: bool, out: &mut dyn Write) -> io::Result<bool> {
        let hours = match (self.rows.first(), self.rows.last()) {
            (Some((first, _)), Some((last, _))) if last > first => last - first,
            _ => return Ok(false),
        };
        writeln!(
            out,
            "{:<18} {:>10} {:>10} {:>12} {:>10} {:>10}",
            "", "first", "last", "per hour", "+-", "at most"
        )?;
        let mut flat = true;
        for (at, kind) in KINDS.iter().enumerate() {
            let series: Vec<_> = self
                .rows
                .iter()
                .filter_map(|(hour, row)| Some((*hour, *row.get(at)?)))
                .collect();
            let Slope {
                first,
                last,
                hourly: slope,
                error,
            } = fit(&series);
            if slope.is_nan() {
                writeln!(out, "{:<18} is not measured", kind.name)?;
                continue;
            }
            let bound = kind.hourly + kind.once / hours;
            let free = kind.fills && fills;
            let fine = free || slope - 2.0 * error <= bound;
            flat &= fine;
            let verdict = match (free, fine) {
                (true, _) => "  fills",
                (false, true) => "",
                (false, false) => "  GROWS",
            };
            writeln!(
                out,
                "{:<18} {first:>10.1} {last:>10.1} {slope:>12.1} {error:>10.1} {bound:>10.1}{verdict}",
                kind.name,
            )?;
        }
        Ok(flat)
    }
}

/// Least squares; the standard error of the slope takes samples for independent of each other.
fn fit(series: &[(f64, f64)]) -> Slope {
    let number = count(series.len());
    let mean = |of: fn(&(f64, f64)) -> f64| series.iter().map(of).sum::<f64>() / number;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| series.iter().map(|(a, b)| of(*a, *b)).sum::<f64>();
    let width = sum(&|a, _| (a - x).powi(2));
    let slope = sum(&|a, b| (a - x) * (b - y)) / width;
    let rest = sum(&|a, b| (b - y - slope * (a - x)).powi(2));
    Slope {
        first: series.first().map_or(f64::NAN, |point| point.1),
        last: series.last().map_or(f64::NAN, |point| point.1),
        hourly: slope,
        error: (rest / (number - 2.0) / width).sqrt(),
    }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
