//! `auditwatch compare`: what Splunk's hourly search finds in a log, what streaming finds, when
//! each does, and why the search misses what it misses.

mod page;
mod sentences;
mod side_by_side;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use self::{
    sentences::{minutes, summary},
    side_by_side::{Compared, MOST_ROWS, SideBySide},
};
use super::{counting::Counting, reading, scan::Ended, table::second, tally::Tally};
use crate::{
    detection::rule::{Rule, Semantics},
    visible::{self, escaped},
};

/// Compare the hourly search of Splunk with streaming, on your own log
#[derive(Args, Debug)]
pub(super) struct Compare {
    /// Audit logs, one event or EventList a line, plain, gzip or zstd; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Settings of streaming; threshold and window hold for the search too
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

impl Compare {
    /// The rules of streaming and of the search that the flags describe.
    ///
    /// # Errors
    /// When a value is out of range.
    pub(super) fn rules(&self) -> Result<(Rule, Rule), String> {
        Ok((
            self.counting.rule(Semantics::Native)?,
            self.counting.rule(Semantics::Escu)?,
        ))
    }

    /// Reads the logs and prints the comparison; whether all was read.
    ///
    /// # Errors
    /// When nothing could be read or written at all.
    pub(super) fn run(
        &self,
        (streaming, search): (Rule, Rule),
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<Ended> {
        let databases = self.counting.databases(Semantics::Escu, err)?;
        let mut both = SideBySide::new(streaming, search, databases);
        let mut tally = Tally::default();
        let rule = both.streaming().clone();
        reading::read(
            &self.files,
            (&rule, true),
            &mut tally,
            err,
            &mut |_, event| {
                both.add(event);
            },
        )?;
        (tally.untimed, tally.left_out) = both.missing();
        let compared = both.finish(tally.events);
        match self.output {
            Output::Text => write_text(&compared, out)?,
            Output::Json => {
                visible::json_to(&mut *out, &compared)?;
                writeln!(out)?;
            }
            Output::Html => {
                out.write_all(page::page(&compared, &tally.complaints()).as_bytes())?;
            }
        }
        for complaint in tally.complaints() {
            writeln!(err, "auditwatch: {complaint}")?;
        }
        out.flush()?;
        Ok(Ended {
            findings: !compared.rows.is_empty(),
            trouble: !tally.unreadable.is_empty(),
        })
    }
}

/// Writes the comparison for people: an address, and below it who finds it when, and why not.
fn write_text(compared: &Compared, out: &mut dyn Write) -> io::Result<()> {
    for row in compared.rows.iter().take(MOST_ROWS) {
        writeln!(out, "{}", escaped(&row.address))?;
        match &row.streaming {
            Some(found) => writeln!(
                out,
                "  streaming  {}  {} requests, at most {} in a window",
                second(found.found_at),
                found.count,
                found.max_in_window
            )?,
            None => writeln!(out, "  streaming  does not find it")?,
        }
        match &row.search {
            Some(found) => {
                let later = row
                    .lead_seconds
                    .map_or(String::new(), |lead| format!(", {} later", minutes(lead)));
                writeln!(
                    out,
                    "  search     {}  {} events in its first row{later}",
                    second(found.found_at),
                    found.count
                )?;
            }
            None => writeln!(out, "  search     does not find it")?,
        }
        for reason in &row.why {
            writeln!(out, "    {}", escaped(reason))?;
        }
    }
    if compared.rows.len() > MOST_ROWS {
        let more = compared.rows.len() - MOST_ROWS;
        writeln!(out, "and {more} more addresses; --output json has all")?;
    }
    if !compared.rows.is_empty() {
        writeln!(out)?;
    }
    for line in summary(compared) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
