//! Reading the events of audit logs, with progress, and with a complaint for what cannot be read.

use std::{io::Write, path::PathBuf};

use anyhow::Context as _;

use super::{
    input::{self, Line},
    progress::Progress,
    tally::{Place, Tally},
};
use crate::{
    detection::{event::Event, rule::Rule},
    visible,
};

/// Takes an event with the line it is in.
pub(super) type Show<'s> = &'s mut dyn FnMut(&Place<'_>, &Event<'_>);

/// Shows each event of the files, in order. `progress` says whether a terminal may show how far it
/// is. A file that cannot be read is complained about and passed over.
///
/// # Errors
/// When a complaint cannot be written.
pub(super) fn read(
    files: &[PathBuf],
    (rule, progress): (&Rule, bool),
    tally: &mut Tally,
    err: &mut dyn Write,
    show: Show<'_>,
) -> anyhow::Result<()> {
    let progress = Progress::new(files, progress);
    for path in files {
        let mut last = 0;
        let read = input::open(path, &progress).and_then(|from| {
            input::for_each_line(from, |number, line| {
                let place = Place { path, number };
                match line {
                    Line::TooLong => tally.too_long(&place),
                    Line::Text(line) => {
                        tally.line(&place, line, rule, &mut |event, _rule| show(&place, event));
                    }
                }
                last = number;
            })
        });
        let place = Place { path, number: last };
        tally.end_file(&place, rule, &mut |event, _rule| show(&place, event));
        if let Err(error) = read {
            let complaint = format!("cannot read {}: {error}", visible::path(path));
            progress
                .aside(|| writeln!(err, "auditwatch: {complaint}"))
                .context("cannot write to standard error")?;
            tally.unreadable.push(complaint);
        }
    }
    progress.end();
    Ok(())
}
