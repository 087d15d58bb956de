//! The rows of a scan as the report shows them, the worst first, then the busiest.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use maud::{Markup, html};

use super::{input::Report, shown::Shown};
use crate::{
    cli::table,
    detection::{
        Finding,
        columns::Columns,
        finding::Severity,
        rows::{Detail, Row},
        time::Micros,
    },
};

/// One row, of either semantics.
pub(super) struct Entry<'a> {
    pub(super) address: &'a str,
    pub(super) country: Option<String>,
    pub(super) city: Option<String>,
    pub(super) count: u64,
    pub(super) by_code: BTreeMap<u16, u64>,
    pub(super) first: Micros,
    pub(super) last: Micros,
    /// Native: when it was above the threshold, and the most in a window.
    pub(super) alert: Option<Micros>,
    pub(super) most: Option<u64>,
    /// Escu: start and end of the window.
    pub(super) window: Option<(Micros, Micros)>,
    pub(super) columns: &'a Columns,
    pub(super) detail: Option<&'a Detail>,
    /// What the service would say of it, the worst first; none below the threshold.
    pub(super) findings: &'a [Finding],
}

impl Entry<'_> {
    /// Whether it is above the threshold.
    pub(super) fn alerts(&self) -> bool {
        self.alert.is_some() || self.window.is_some()
    }

    /// The greatest severity of its findings.
    pub(super) fn severity(&self) -> Option<Severity> {
        self.findings.first()?.severity()
    }

    /// Whether a request of it succeeded.
    pub(super) fn has_success(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.success_count > 0)
    }

    /// Time and code of each request.
    pub(super) fn times(&self) -> &[(Micros, u16)] {
        self.detail.map_or(&[], |detail| &detail.times)
    }
}

/// All rows of a report.
pub(super) fn entries<'a>(report: &Report<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<_> = report.rows.iter().map(|row| entry(row, report)).collect();
    // Stable: equally bad and busy ones stay in the order of the rows.
    entries.sort_by_key(|entry| Reverse((entry.severity(), entry.count)));
    entries
}

fn entry<'a>(row: &'a Row, report: &Report<'a>) -> Entry<'a> {
    let (country, city) = table::place(row, report.locate);
    match row {
        Row::Native(row) => Entry {
            address: &row.src_ip,
            country,
            city,
            count: row.count,
            by_code: row.count_by_code.clone(),
            first: row.first_time,
            last: row.last_time,
            alert: row.alert_at,
            most: Some(row.max_in_window),
            window: None,
            columns: &row.seen,
            detail: row.detail.as_deref(),
            findings: report.assessed.findings(&row.src_ip),
        },
        Row::Escu(row) => Entry {
            address: &row.src_ip,
            country,
            city,
            count: row.count,
            // All that counts in these semantics.
            by_code: BTreeMap::from([(403, row.count)]),
            first: row.first_time,
            last: row.last_time,
            alert: None,
            most: None,
            window: Some((row.window_start, row.window_end)),
            columns: &row.columns,
            detail: row.detail.as_deref(),
            findings: &[],
        },
    }
}

/// Numbers over all entries.
#[derive(Default)]
pub(super) struct Totals {
    /// Addresses above the threshold.
    pub(super) above: u64,
    /// Addresses in all.
    pub(super) addresses: u64,
    /// Requests of all entries.
    pub(super) requests: u64,
    /// The same by code.
    pub(super) by_code: BTreeMap<u16, u64>,
    /// First and last request.
    pub(super) span: Option<(Micros, Micros)>,
    /// Addresses by severity.
    pub(super) by_severity: BTreeMap<Severity, u64>,
    /// Addresses with a request that succeeded.
    pub(super) with_success: u64,
}

pub(super) fn totals(entries: &[Entry<'_>]) -> Totals {
    let mut totals = Totals::default();
    let distinct = |alerting: bool| {
        let addresses = entries
            .iter()
            .filter(|entry| !alerting || entry.alerts())
            .map(|entry| entry.address);
        addresses.collect::<BTreeSet<_>>().len() as u64
    };
    (totals.above, totals.addresses) = (distinct(true), distinct(false));
    for entry in entries {
        totals.requests += entry.count;
        if let Some(severity) = entry.severity() {
            *totals.by_severity.entry(severity).or_default() += 1;
        }
        totals.with_success += u64::from(entry.has_success());
        for (code, count) in &entry.by_code {
            *totals.by_code.entry(*code).or_default() += count;
        }
        let (first, last) = totals.span.unwrap_or((entry.first, entry.last));
        totals.span = Some((first.min(entry.first), last.max(entry.last)));
    }
    totals
}

/// City and country, or that they are not known.
pub(super) fn place(entry: &Entry<'_>) -> Markup {
    html! {
        @match (&entry.city, &entry.country) {
            (Some(city), Some(country)) => { (Shown(city)) ", " (Shown(country)) }
            (Some(name), None) | (None, Some(name)) => { (Shown(name)) }
            (None, None) => { span.quiet { "unknown" } }
        }
    }
}
