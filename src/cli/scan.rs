//! `auditwatch scan`: what a log holds, without a service.

use std::{
    cell::Cell,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    sync::Arc,
};

use clap::{Args, ColorChoice, ValueEnum};

use super::{
    assessed::Assessing,
    counting::Counting,
    excluding::Excluding,
    matches, reading,
    report::{self, Report},
    table,
    tally::Tally,
};
use crate::{
    detection::{
        engine::Engine,
        event::Event,
        geo::Locate,
        limits::{Bounds, Limits},
        rows::{Row, Rows},
        rule::{Rule, Semantics},
        rule_rows::{RuleRow, RuleRows},
        time::Micros,
    },
    rules::{Scratch, load, model::Detection},
    visible,
};

/// Read audit logs and report who scanned.
#[derive(Args, Debug)]
pub struct Scan {
    /// Audit logs, one event or envelope of events a line, plain or compressed (gzip, zstd, bzip2,
    /// xz); - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// Run these rules instead: files, folders, names of shipped rules; may be repeated
    #[arg(long, value_name = "FILE|DIR|NAME", conflicts_with_all = [
        "semantics", "threshold", "window", "window_offset", "codes", "who", "geo_db", "missing_city", "all",
    ])]
    rules: Vec<String>,

    /// How to count: native or escu, exactly as the Splunk search
    #[arg(long, default_value_t = Semantics::Native)]
    semantics: Semantics,

    #[command(flatten)]
    counting: Counting,

    /// Do not count what this entry of `exclude` of the configuration names (native), such as
    /// "{name: probes, path: [/healthz]}"; may be repeated
    #[arg(long, value_name = "ENTRY", conflicts_with = "rules")]
    exclude: Vec<String>,

    /// Also the addresses that stay below the threshold (native)
    #[arg(long)]
    all: bool,

    /// Exit with 1 when there are findings
    #[arg(long)]
    fail_on_findings: bool,

    /// Whether the table is coloured; auto asks the terminal and the variable `NO_COLOR`
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people
    Table,
    /// The rows as a JSON array
    Json,
    /// The rows, one JSON object a line
    Ndjson,
    /// What the service would export for this log, one JSON object a line
    Findings,
    /// A report for people: one page that needs nothing else
    Html,
}

impl Scan {
    /// The rule the flags describe.
    ///
    /// # Errors
    /// When a flag is not valid with the chosen semantics, or its value is out of range.
    pub fn rule(&self) -> Result<Rule, String> {
        let other = match self.semantics {
            Semantics::Native => Semantics::Escu,
            Semantics::Escu => Semantics::Native,
        };
        let all = (self.all && other == Semantics::Native).then_some("--all");
        if let Some(flag) = self.counting.only_with(other).or(all) {
            return Err(format!(
                "{flag} is not valid with --semantics {}, only with {other}",
                self.semantics
            ));
        }
        if !self.exclude.is_empty() && self.semantics == Semantics::Escu {
            return Err(
                "--exclude is not valid with --semantics escu, only with native".to_owned(),
            );
        }
        if self.all && self.output == Output::Findings {
            return Err(
                "--all is not valid with --output findings: a finding is above the threshold"
                    .to_owned(),
            );
        }
        let rule = self.counting.rule(self.semantics)?;
        Excluding::new(&self.exclude, &rule)?;
        Ok(rule)
    }

    /// Reads the logs and prints the result; returns the number of findings and whether all was read.
    ///
    /// # Errors
    /// When nothing could be read or written at all.
    pub fn run(
        &self,
        rule: &Rule,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<Ended> {
        if !self.rules.is_empty() {
            return self.run_rules(rule, out, err);
        }
        let databases = self.counting.databases(rule.semantics, err)?;
        let locate = databases.as_deref();
        let mut tally = Tally::default();
        let findings = if self.output == Output::Findings {
            let detections = vec![Arc::new(Detection::of(rule))];
            let sinks = Sinks {
                out,
                err,
                tally: &mut tally,
            };
            self.findings(rule, &detections, databases, sinks)?
        } else {
            let html = self.output == Output::Html;
            let mut rows = if html {
                Rows::detailed()
            } else {
                Rows::default()
            };
            let mut span = None;
            let mut assessing = self.assessing(rule);
            self.read(rule, &mut tally, err, &mut |event, rule| {
                if html {
                    widen(&mut span, event);
                }
                rows.add_event(event, rule, locate);
                if let Some(assessing) = &mut assessing {
                    assessing.add(event);
                }
            })?;
            (tally.untimed, tally.left_out) = (rows.untimed, rows.left_out);
            let assessed = assessing.map(Assessing::finish).unwrap_or_default();
            if html {
                let rows = rows.busiest(rule, self.all, report::MOST_ROWS, |row| match row {
                    Row::Native(row) => assessed.severity(&row.src_ip),
                    Row::Escu(_) => None,
                });
                let report = Report {
                    rule,
                    all: self.all,
                    rows: &rows,
                    assessed: &assessed,
                    locate,
                    files: &self.files,
                    tally: &tally,
                    span,
                };
                out.write_all(report::page(&report).as_bytes())?;
                rows.iter().filter(|row| alerts(row)).count()
            } else {
                self.print((&rows, rule), (locate, &assessed), &tally, out)?
            }
        };
        end(findings, &tally, out, err)
    }

    /// What says how bad it is, where people read it and it is not always the same.
    fn assessing(&self, rule: &Rule) -> Option<Assessing> {
        let is_read = matches!(self.output, Output::Html | Output::Table);
        (is_read && rule.semantics == Semantics::Native)
            .then(|| Assessing::new(vec![Arc::new(Detection::of(rule))], None))
    }

    /// Runs rules over the logs and prints what they find.
    fn run_rules(
        &self,
        rule: &Rule,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<Ended> {
        let detections = match load::load(&self.rules, rule) {
            Ok(detections) => detections,
            Err(problems) => {
                for problem in problems {
                    writeln!(err, "{problem}")?;
                }
                return Ok(Ended {
                    findings: false,
                    trouble: true,
                });
            }
        };
        let mut tally = Tally::default();
        let found = if self.output == Output::Findings {
            let databases = self.counting.databases(rule.semantics, err)?;
            let sinks = Sinks {
                out,
                err,
                tally: &mut tally,
            };
            self.findings(rule, &detections, databases, sinks)?
        } else {
            let mut rows = RuleRows::new(detections);
            self.read(rule, &mut tally, err, &mut |event, _rule| {
                rows.add_event(event);
            })?;
            (tally.untimed, tally.left_out) = (rows.untimed, rows.left_out);
            let rows = rows.finish();
            self.print_rule_rows(&rows, &tally, out)?;
            rows.len()
        };
        end(found, &tally, out, err)
    }

    /// Prints the rows of rules.
    fn print_rule_rows(
        &self,
        rows: &[RuleRow],
        tally: &Tally,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        match self.output {
            Output::Table => matches::write_table(rows, tally.events, out)?,
            Output::Json => matches::write_json(rows, true, out)?,
            Output::Ndjson | Output::Findings => matches::write_json(rows, false, out)?,
            Output::Html => {
                let page = report::rules::page(rows, tally.events, &tally.complaints());
                out.write_all(page.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Lets the service's engine read the log and prints what it would export.
    fn findings(
        &self,
        rule: &Rule,
        detections: &[Arc<Detection>],
        databases: Option<Arc<dyn Locate>>,
        Sinks { out, err, tally }: Sinks<'_>,
    ) -> anyhow::Result<usize> {
        let bounds = Bounds::from(&Limits::default());
        let mut engine = Engine::new(detections.to_vec(), Limits::default(), databases);
        let mut scratch = Scratch::default();
        let mut found = Vec::new();
        let mut count = 0;
        let mut failed = Ok(());
        self.read(rule, tally, err, &mut |event, _rule| {
            if !event.is_audit_event() {
                return;
            }
            for (place, detection) in (0..).zip(detections) {
                event.hits(detection, &mut scratch, &bounds, &mut |mut hit| {
                    hit.detection = place;
                    engine.observe(hit, &mut found);
                });
            }
            count += found.len();
            for emission in found.drain(..) {
                if failed.is_ok() {
                    failed = writeln!(out, "{}", emission.finding.to_json());
                }
            }
        })?;
        failed?;
        engine.drain(&mut found);
        count += found.len();
        for emission in found {
            writeln!(out, "{}", emission.finding.to_json())?;
        }
        tally.untimed = engine.stats().untimed;
        Ok(count)
    }

    /// Shows each event of the logs, in order.
    fn read(
        &self,
        rule: &Rule,
        tally: &mut Tally,
        err: &mut dyn Write,
        show: &mut dyn FnMut(&Event<'_>, &Rule),
    ) -> anyhow::Result<()> {
        // Findings are printed while the log is read.
        let busy = self.output == Output::Findings && io::stdout().is_terminal();
        let excluding = Excluding::new(&self.exclude, rule).map_err(anyhow::Error::msg)?;
        let Some(mut excluding) = excluding else {
            return reading::read(&self.files, (rule, !busy), tally, err, &mut |_, event| {
                show(event, rule);
            });
        };
        reading::read(&self.files, (rule, !busy), tally, err, &mut |_, event| {
            if !excluding.excludes(event) {
                show(event, rule);
            }
        })?;
        writeln!(err, "auditwatch: {}", excluding.sentence())?;
        Ok(())
    }

    /// Prints the rows; how many of them are above the threshold.
    fn print(
        &self,
        (rows, rule): (&Rows, &Rule),
        known: table::Known<'_>,
        tally: &Tally,
        out: &mut dyn Write,
    ) -> anyhow::Result<usize> {
        // Each row is made when it is printed: all at once they may hold very much.
        let above = Cell::new(0);
        let counted = || {
            rows.rows(rule, self.all).inspect(|row| {
                above.set(above.get() + usize::from(alerts(row)));
            })
        };
        match self.output {
            Output::Table => {
                self.print_table(&|| rows.rows(rule, self.all), known, tally, out)?;
                return Ok(rows.rows(rule, self.all).filter(alerts).count());
            }
            Output::Json => {
                visible::json_list_to(&mut *out, counted())?;
                writeln!(out)?;
            }
            Output::Ndjson | Output::Findings | Output::Html => {
                for row in counted() {
                    visible::json_to(&mut *out, &row)?;
                    writeln!(out)?;
                }
            }
        }
        Ok(above.get())
    }

    fn print_table<I: Iterator<Item = Row>>(
        &self,
        rows: &impl Fn() -> I,
        known: table::Known<'_>,
        tally: &Tally,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let above = format!(
            "more than {} requests in one window",
            self.counting.threshold
        );
        let width = io::stdout()
            .is_terminal()
            .then(terminal_size::terminal_size)
            .flatten()
            .map(|(width, _)| usize::from(width.0));
        let styled = match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
            }
        };
        let many = table::write(rows, known, (width, styled), out)?;
        if many == 0 {
            writeln!(out, "no address with {above} among {} events", tally.events)?;
            return Ok(());
        }
        let rows = if many == 1 { "row" } else { "rows" };
        let above = if self.all {
            String::new()
        } else {
            format!(" with {above}")
        };
        writeln!(out, "\n{many} {rows}{above}, {} events", tally.events)?;
        Ok(())
    }
}

/// Says what was left out, and how the scan ended.
fn end(
    findings: usize,
    tally: &Tally,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Ended> {
    for complaint in tally.complaints() {
        writeln!(err, "auditwatch: {complaint}")?;
    }
    let foreign = tally.foreign();
    if let Some(foreign) = &foreign {
        writeln!(err, "auditwatch: {foreign}")?;
    }
    out.flush()?;
    Ok(Ended {
        findings: findings > 0,
        trouble: !tally.unreadable.is_empty() || foreign.is_some(),
    })
}

/// Whether a row is above the threshold.
fn alerts(row: &Row) -> bool {
    !matches!(row, Row::Native(row) if row.alert_at.is_none())
}

/// Where results and complaints are written.
struct Sinks<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// What was read and what could not be.
    tally: &'a mut Tally,
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether there is anything above the threshold.
    pub findings: bool,
    /// Whether a file could not be read, or what was read is no audit log.
    pub trouble: bool,
}

/// Takes the time of an event into the time that the log covers.
fn widen(span: &mut Option<(Micros, Micros)>, event: &Event<'_>) {
    if let Some(time) = event.time() {
        let (first, last) = span.unwrap_or((time, time));
        *span = Some((first.min(time), last.max(time)));
    }
}

impl Scan {
    /// The exit code: 2 on trouble, 1 for findings if asked for, else 0.
    pub fn exit_code(&self, ended: Ended) -> u8 {
        match ended {
            Ended { trouble: true, .. } => 2,
            Ended { findings: true, .. } if self.fail_on_findings => 1,
            _ => 0,
        }
    }
}
