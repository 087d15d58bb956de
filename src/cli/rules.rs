//! `auditwatch rules`: list the shipped rules, check rule files, run their tests.

use std::{fmt::Write as _, io::Write};

use clap::{Args, Subcommand};

use crate::{
    detection::{cases, rule::Rule},
    rules::{
        blind_spot::BlindSpot,
        load::{self, Loaded, LoadedRule, Mode, Problem},
        model::{Aggregate, Cost, Dedup, Detection, Emit, GroupBy, Window},
        shipped,
    },
    visible,
};

/// Texts of a prefilter that are named.
const MOST_LITERALS: usize = 8;

/// List, check and test detection rules
#[derive(Args, Debug)]
pub(super) struct Rules {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the rules that come with auditwatch
    List,
    /// Print the file of a shipped rule
    Show {
        /// Name, identifier or title of the rule
        name: String,
    },
    /// Check rules, and say what each became
    Check {
        /// Rule files, folders, or names of shipped rules
        #[arg(required = true, value_name = "FILE|DIR|NAME")]
        rules: Vec<String>,
    },
    /// Try rules on the test events in their files
    Test {
        /// Rule files, folders, or names of shipped rules
        #[arg(required = true, value_name = "FILE|DIR|NAME")]
        rules: Vec<String>,
    },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    /// A test failed.
    Failed,
    /// A rule is wrong.
    Wrong,
}

impl Rules {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// When nothing can be written.
    pub(super) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ended> {
        let settings = Rule::default();
        match &self.command {
            Command::List => list(&settings, out, err),
            Command::Show { name } => show(name, out, err),
            Command::Check { rules } => match load::load_in(Mode::Look, rules, &settings) {
                Ok(loaded) => check(&loaded, out),
                Err(problems) => print_problems(&problems, err),
            },
            Command::Test { rules } => match load::load_in(Mode::Look, rules, &settings) {
                Ok(loaded) => test(&loaded, &settings, out, err),
                Err(problems) => print_problems(&problems, err),
            },
        }
    }
}

/// Prints problems, one a line.
fn print_problems(problems: &[Problem], err: &mut dyn Write) -> anyhow::Result<Ended> {
    for problem in problems {
        writeln!(err, "{problem}")?;
    }
    Ok(Ended::Wrong)
}

fn list(settings: &Rule, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ended> {
    let mut lines = Vec::new();
    // One by one: the two detections of scans are one rule to Splunk, and have one identifier.
    for name in load::shipped_names() {
        let loaded = match load::load_in(Mode::Look, &[name], settings) {
            Ok(loaded) => loaded,
            Err(problems) => return print_problems(&problems, err),
        };
        for rule in loaded.rules.iter().filter(|rule| rule.reports) {
            let annotations = &rule.detection.annotations;
            let cost = match rule.detection.cost() {
                Cost::Prefilter { .. } => "prefilter",
                Cost::EveryEvent => "every event",
                Cost::Feed => "none",
            };
            lines.push([
                rule.detection.name().to_owned(),
                annotations.level.clone(),
                cost.to_owned(),
                annotations.id.clone(),
                annotations.title.clone(),
            ]);
        }
    }
    let head = ["NAME", "LEVEL", "COST", "ID", "TITLE"].map(str::to_owned);
    let mut widths = [0; 5];
    for line in lines.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.len());
        }
    }
    for line in [&head].into_iter().chain(&lines) {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths) {
            // Writing into a string cannot fail.
            let _ok = write!(text, "{cell:<width$}  ");
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(Ended::Well)
}

fn show(name: &str, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ended> {
    let Some(shipped) = shipped::named(name) else {
        writeln!(
            err,
            "auditwatch: no shipped rule is named {:?}; auditwatch rules list shows them",
            visible::escaped(name).to_string()
        )?;
        return Ok(Ended::Wrong);
    };
    write!(out, "{}", shipped.text)?;
    Ok(Ended::Well)
}

fn check(loaded: &Loaded, out: &mut dyn Write) -> anyhow::Result<Ended> {
    for rule in &loaded.rules {
        writeln!(
            out,
            "{}:{}: {}",
            visible::escaped(&rule.file),
            rule.line,
            visible::escaped(&described(rule))
        )?;
    }
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let many = loaded.rules.iter().filter(|rule| rule.reports).count();
    let noun = if many == 1 {
        "rule makes"
    } else {
        "rules make"
    };
    writeln!(out, "{many} {noun} findings")?;
    Ok(Ended::Well)
}

/// What a rule became, in one line.
fn described(rule: &LoadedRule) -> String {
    let detection = &rule.detection;
    let annotations = &detection.annotations;
    if !rule.reports {
        return format!(
            "{:?} ({}), counted by a correlation alone; {}",
            annotations.title,
            detection.name(),
            cost(&detection.cost())
        );
    }
    format!(
        "{:?} ({}), level {}, score {}: {}; {}",
        annotations.title,
        detection.name(),
        annotations.level,
        annotations.score,
        counting(detection),
        cost(&detection.cost())
    )
}

/// How a detection counts.
fn counting(detection: &Detection) -> String {
    if let Some(BlindSpot { kind, percent }) = detection.blind_spot {
        let percent = match percent {
            0 => String::new(),
            percent => format!(", from {percent} %"),
        };
        return format!(
            "blind spot {}, above {}{percent}, within {:#}, by cluster",
            kind.as_str(),
            detection.threshold,
            jiff::SignedDuration::from_micros(detection.window.length())
        );
    }
    let what = match (detection.aggregate, detection.parts.as_slice()) {
        (Aggregate::Events, _) => "matches".to_owned(),
        (Aggregate::Values, [part, ..]) => match part.value_name() {
            Some(field) => format!("distinct values of {field}"),
            None => "distinct rules".to_owned(),
        },
        (Aggregate::Values, []) => "values".to_owned(),
    };
    let names = match &detection.group_by {
        GroupBy::Fields(names) => names.join(", "),
        GroupBy::Sources { .. } => "sourceIPs, location".to_owned(),
    };
    let group = if names.is_empty() {
        "cluster".to_owned()
    } else {
        format!("cluster, {names}")
    };
    let length = format!(
        "{:#}",
        jiff::SignedDuration::from_micros(detection.window.length())
    );
    let window = match detection.window {
        Window::Session { .. } => format!("any {length}"),
        Window::Tumbling { .. } => format!("fixed windows of {length}"),
    };
    let dedup = match detection.dedup {
        Dedup::Request => "",
        Dedup::None => ", repeats counted",
    };
    let labels = match detection.labels.len() {
        0 => String::new(),
        1 => ", 1 label".to_owned(),
        many => format!(", {many} labels"),
    };
    match detection.emit {
        Emit::Each => format!("each match is a finding, by {group}{labels}"),
        Emit::Finding => format!(
            "more than {} {what} within {window} by {group}{dedup}{labels}",
            detection.threshold
        ),
    }
}

/// What looking for matches costs.
pub(super) fn cost(cost: &Cost) -> String {
    match cost {
        Cost::EveryEvent => "every event is parsed: no text or status code is necessary".to_owned(),
        Cost::Feed => "no event is looked at, the rule is about the feed".to_owned(),
        Cost::Prefilter { codes, literals } => {
            let codes = codes.iter().map(|code| format!("status {code}"));
            let shown = literals
                .iter()
                .take(MOST_LITERALS)
                .map(|text| format!("{text:?}"));
            let mut all: Vec<String> = codes.chain(shown).collect();
            if literals.len() > MOST_LITERALS {
                all.push(format!("{} more", literals.len() - MOST_LITERALS));
            }
            if all.is_empty() {
                return "prefilter: no event can match".to_owned();
            }
            format!("prefilter: {}", all.join(" or "))
        }
    }
}

fn test(
    loaded: &Loaded,
    settings: &Rule,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Ended> {
    let (mut tried, mut failed) = (0, 0);
    for rule in &loaded.rules {
        tried += rule.cases.len();
        for failure in cases::run(rule, &settings.time_field) {
            failed += 1;
            writeln!(
                err,
                "{}:{}: {}: {}",
                visible::escaped(&rule.file),
                failure.line,
                visible::escaped(rule.detection.name()),
                visible::escaped(&failure.text)
            )?;
        }
        // A rule about the feed has no events that could be its tests.
        if rule.reports && rule.cases.is_empty() && rule.detection.blind_spot.is_none() {
            writeln!(
                out,
                "note: {}:{}: {} has no tests",
                visible::escaped(&rule.file),
                rule.line,
                visible::escaped(rule.detection.name())
            )?;
        }
    }
    let noun = if tried == 1 { "case" } else { "cases" };
    writeln!(out, "{tried} {noun}, {failed} failed")?;
    Ok(if failed == 0 {
        Ended::Well
    } else {
        Ended::Failed
    })
}
