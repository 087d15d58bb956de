//! `auditwatch explain`: why an address was found or was not, record by record and test by test.

mod answer;
mod page;
mod service;

use std::{
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use clap::{Args, ValueEnum};

use self::{answer::Answer, service::Service};
use super::{
    counting::Counting, reading, scan::Ended, sources::Sources, table::second, tally::Tally,
};
use crate::{
    config::{self, DetectionConfig},
    detection::{
        address,
        exclude::Exclusions,
        explain::{Explain as Gathered, Outcome, Reason, Record, Subject, Verdict},
        rule::{Rule, Semantics},
    },
    processor::gate::Gate,
    rules::{load, model::Detection},
    visible::{self, escaped},
};

/// Flags that a configuration says instead.
const INSTEAD: [&str; 8] = [
    "rules",
    "semantics",
    "threshold",
    "window",
    "window_offset",
    "codes",
    "who",
    "missing_city",
];
/// Open findings that the filter remembers.
const MOST_OPEN: usize = 1_000_000;

/// Say why an address was found or was not, record by record
#[derive(Args, Debug)]
#[command(mut_arg("config", |config| config.conflicts_with_all(INSTEAD)))]
#[command(mut_arg("set", |set| set.requires("config")))]
pub(super) struct Explain {
    /// Audit logs, one event or EventList a line, plain, gzip or zstd; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Explain the records of this source address
    #[arg(
        long,
        value_name = "ADDRESS",
        required_unless_present = "audit_id",
        value_parser = parse_address
    )]
    address: Option<IpAddr>,

    /// Explain the records of this auditID
    #[arg(long, value_name = "ID", conflicts_with = "address")]
    audit_id: Option<String>,

    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Show at most this many records that match: the first half and the last half
    #[arg(long, value_name = "N", default_value_t = 20)]
    records: usize,

    /// Explain these rules instead: files, folders, names of shipped rules; may be repeated
    #[arg(long, value_name = "FILE|DIR|NAME", conflicts_with_all = [
        "semantics", "threshold", "window", "window_offset", "codes", "who", "missing_city",
    ])]
    rules: Vec<String>,

    #[command(flatten)]
    sources: Sources,

    /// The detection processor of the configuration, where it has several
    #[arg(long, value_name = "ID", requires = "config")]
    processor: Option<String>,

    /// How to count: native or escu, exactly as the Splunk search
    #[arg(long, default_value_t = Semantics::Native)]
    semantics: Semantics,

    #[command(flatten)]
    counting: Counting,
}

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Lines for people
    Text,
    /// One JSON object
    Json,
    /// One page that needs nothing else
    Html,
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    address::locatable(text).ok_or_else(|| "expected an IPv4 or IPv6 address".to_owned())
}

impl Explain {
    /// The rule that the flags describe.
    ///
    /// # Errors
    /// When a flag is not valid with the chosen semantics, or its value is out of range.
    pub(super) fn rule(&self) -> Result<Rule, String> {
        if let Some(processor) = self.configured()? {
            return Ok(processor.rule);
        }
        let other = match self.semantics {
            Semantics::Native => Semantics::Escu,
            Semantics::Escu => Semantics::Native,
        };
        if let Some(flag) = self.counting.only_with(other) {
            return Err(format!(
                "{flag} is not valid with --semantics {}, only with {other}",
                self.semantics
            ));
        }
        self.counting.rule(self.semantics)
    }

    /// The detection processor that `--config` and `--processor` name.
    fn configured(&self) -> Result<Option<DetectionConfig>, String> {
        if self.sources.config.is_empty() {
            return Ok(None);
        }
        let config = config::load(&self.sources.all()).map_err(|error| error.to_string())?;
        let ids = config.processors.keys();
        let ids: Vec<String> = ids.map(ToString::to_string).collect();
        let mut all = config.processors.into_iter();
        let found = match &self.processor {
            Some(wanted) => all.find(|(id, _)| id.to_string() == *wanted),
            None if ids.len() == 1 => all.next(),
            None => None,
        };
        match found {
            Some((_, processor)) => Ok(Some(processor)),
            None => Err(format!(
                "--processor: name one of the detection processors of the configuration: {}",
                ids.join(", ")
            )),
        }
    }

    /// Reads the logs and prints the answer.
    ///
    /// # Errors
    /// When nothing could be read or written at all.
    pub(super) fn run(
        &self,
        rule: &Rule,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<Ended> {
        let configured = self.configured().map_err(anyhow::Error::msg)?;
        let loaded = match &configured {
            Some(of) => load::pipeline(&of.rule, &of.switches, &of.rules),
            None if self.rules.is_empty() => Ok(vec![Arc::new(Detection::of(rule))]),
            None => load::load(&self.rules, rule),
        };
        let detections = match loaded {
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
        let subject = match (&self.address, &self.audit_id) {
            (Some(address), _) => Subject::Address(*address),
            (None, id) => Subject::AuditId(id.clone().unwrap_or_default()),
        };
        let databases = self.counting.databases(rule.semantics, err)?;
        let mut service = Service::new(&subject, &detections, databases);
        // Others match no record by themselves.
        let matching = detections.iter().filter(|one| one.matches_events());
        let matching: Vec<_> = matching.map(Arc::clone).collect();
        let mut gathered = Gathered::new(subject, matching.clone(), self.records);
        if let Some(of) = configured {
            gathered = gathered.excluding(Exclusions::new(&of.exclude, &matching)?);
            let exclusions = Exclusions::new(&of.exclude, &detections)?;
            let filter = of.filter.is_some();
            let gate = filter.then(|| Gate::new(of.filter, of.filter_all, MOST_OPEN));
            service = service.configured(exclusions, gate);
        }
        let mut tally = Tally::default();
        let files = (rule, true);
        reading::read(&self.files, files, &mut tally, err, &mut |place, event| {
            if event.is_audit_event() {
                gathered.add(event, || {
                    format!("{}:{}", visible::path(place.path), place.number)
                });
                service.add(event);
            }
        })?;
        let (count, matching) = (gathered.count, gathered.matching);
        let (records, summaries) = gathered.finish();
        let answer = Answer {
            address: self.address.map(|address| address.to_string()),
            audit_id: self.audit_id.clone(),
            events: tally.events,
            count,
            matching,
            detections: summaries,
            findings: service.finish(),
            records,
        };
        match self.output {
            Output::Text => write_text(&answer, out)?,
            Output::Json => {
                visible::json_to(&mut *out, &answer)?;
                writeln!(out)?;
            }
            Output::Html => {
                out.write_all(page::page(&answer, &tally.complaints()).as_bytes())?;
            }
        }
        for complaint in tally.complaints() {
            writeln!(err, "auditwatch: {complaint}")?;
        }
        out.flush()?;
        Ok(Ended {
            findings: !answer.findings.is_empty(),
            trouble: !tally.unreadable.is_empty(),
        })
    }
}

/// Writes the answer for people: the answer first, then what the service would send, then records.
fn write_text(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{}: {} records among {} events",
        escaped(&answer.subject()),
        answer.count,
        answer.events
    )?;
    for summary in &answer.detections {
        writeln!(out, "\n{}", escaped(&summary.detection))?;
        writeln!(out, "  {}", escaped(&summary.conclusion))?;
        writeln!(
            out,
            "  {} records match, {} requests count, at most {} in one window, threshold {}",
            summary.matching, summary.counted, summary.max_in_window, summary.threshold
        )?;
        for Reason {
            why,
            count,
            example,
        } in &summary.reasons
        {
            writeln!(out, "  {count} do not count: {}", escaped(why))?;
            write_request(example, "    such as ", out)?;
            for outcome in &example.outcomes {
                write_tests(outcome, out)?;
            }
        }
    }
    writeln!(out, "\nthe service would send")?;
    if answer.findings.is_empty() {
        writeln!(out, "  nothing")?;
    }
    for state in &answer.findings {
        writeln!(
            out,
            "  {}  {}  {}  {} requests  {}",
            escaped(&state.time),
            state.state,
            escaped(&state.severity),
            state.count,
            escaped(&state.rule)
        )?;
        match state.filter {
            Some("filtered") => writeln!(out, "      the filter keeps it away: it is not sent")?,
            Some("failed") => {
                writeln!(out, "      the filter fails on it: it is sent all the same")?;
            }
            _ => {}
        }
        for reason in &state.reasons {
            writeln!(out, "      {}", escaped(reason))?;
        }
    }
    let left_out = answer.left_out();
    let half = answer.records.len().div_ceil(2);
    for (at, record) in answer.records.iter().enumerate() {
        if at == half && left_out > 0 {
            writeln!(
                out,
                "\n{left_out} records in between are not shown; --records N shows more"
            )?;
        }
        writeln!(out)?;
        write_request(record, "", out)?;
        for outcome in &record.outcomes {
            write_outcome(outcome, out)?;
        }
    }
    Ok(())
}

/// Writes the lines that say which request a record is of.
fn write_request(record: &Record, indent: &str, out: &mut dyn Write) -> io::Result<()> {
    let time = record.time.map_or_else(|| "no time".to_owned(), second);
    let field = |name| record.fields.get(name).map_or("-", String::as_str);
    writeln!(
        out,
        "{indent}{}  {time}  {} {} -> {}",
        record.place,
        escaped(field("verb")),
        escaped(field("requestURI")),
        escaped(field("responseStatus.code"))
    )?;
    writeln!(
        out,
        "{:width$}  user {}, sources {}",
        "",
        escaped(field("user.username")),
        escaped(&record.sources.join(", ")),
        width = indent.len()
    )
}

fn write_outcome(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let counts = match (outcome.before, outcome.after) {
        (Some(before), Some(after)) => {
            format!(", {before} before it in its window, {after} with it")
        }
        _ => String::new(),
    };
    writeln!(
        out,
        "  {}: {}{counts}",
        escaped(&outcome.detection),
        escaped(&outcome.why)
    )
}

/// Writes each test of a record that does not match.
fn write_tests(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    if outcome.result != Verdict::NoMatch {
        return Ok(());
    }
    for test in &outcome.tests {
        let holds = if test.holds { "yes" } else { "no " };
        let values = if test.values.is_empty() {
            "no value".to_owned()
        } else {
            test.values.join(", ")
        };
        writeln!(
            out,
            "      {holds}  {}: {}",
            escaped(&test.test),
            escaped(&values)
        )?;
    }
    Ok(())
}
