//! What a report is made from.

use std::path::PathBuf;

use crate::{
    cli::{assessed::Assessed, tally::Tally},
    detection::{geo::Locate, rows::Row, rule::Rule, time::Micros},
};

/// The input of a report.
pub(in crate::cli) struct Report<'a> {
    pub(in crate::cli) rule: &'a Rule,
    /// Whether the rows hold addresses below the threshold too.
    pub(in crate::cli) all: bool,
    /// Rows with their details.
    pub(in crate::cli) rows: &'a [Row],
    /// How bad their requests are.
    pub(in crate::cli) assessed: &'a Assessed,
    pub(in crate::cli) locate: Option<&'a dyn Locate>,
    pub(in crate::cli) files: &'a [PathBuf],
    pub(in crate::cli) tally: &'a Tally,
    /// First and last time of all events of the log.
    pub(in crate::cli) span: Option<(Micros, Micros)>,
}
