//! `scan --rules`: what rules find in a log, as rows, a table or a page.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
};

use crate::{
    detection::rule_rows::RuleRow,
    visible::{self, escaped},
};

/// Rows of one rule that the table and the page show.
const MOST_ROWS: usize = 1000;
/// Identifiers of requests that a row of the table shows.
const MOST_AUDIT_IDS: usize = 3;

/// Rows by rule, in order of their names.
pub(super) fn by_rule(rows: &[RuleRow]) -> Vec<(&RuleRow, Vec<&RuleRow>)> {
    let mut rules: BTreeMap<(&str, &str), Vec<&RuleRow>> = BTreeMap::new();
    for row in rows {
        rules
            .entry((row.rule.as_str(), row.rule_id.as_str()))
            .or_default()
            .push(row);
    }
    let rules = rules.into_values();
    rules
        .filter_map(|rows| Some((*rows.first()?, rows)))
        .collect()
}

/// The group of a row: `user.username=jane, source.address=192.0.2.1`.
pub(super) fn group(row: &RuleRow) -> String {
    let fields = row.group.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => format!("{name}=-"),
    });
    let text = fields.collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// Writes the rows for programs: as a JSON array, or one object a line.
pub(super) fn write_json(
    rows: &[RuleRow],
    is_list: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if is_list {
        visible::json_list_to(&mut *out, rows)?;
        writeln!(out)?;
    } else {
        for row in rows {
            visible::json_to(&mut *out, row)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Writes the rows for people, by rule.
pub(super) fn write_table(rows: &[RuleRow], events: u64, out: &mut dyn Write) -> io::Result<()> {
    for (rule, rows) in by_rule(rows) {
        writeln!(
            out,
            "{} ({}, {})",
            escaped(&rule.title),
            escaped(&rule.rule),
            rule.level
        )?;
        for row in rows.iter().take(MOST_ROWS) {
            let mut line = format!(
                "  {}  {} to {}",
                row.count,
                super::table::second(row.first_time),
                super::table::second(row.last_time)
            );
            if let Some(distinct) = row.distinct {
                // Writing into a string cannot fail.
                let _ok = write!(line, "  {distinct} distinct");
            }
            writeln!(out, "{line}  {}", escaped(&group(row)))?;
            let ids = row.audit_ids.iter().take(MOST_AUDIT_IDS);
            let ids: Vec<_> = ids.map(|id| escaped(id).to_string()).collect();
            if !ids.is_empty() {
                let more = if row.audit_ids.len() > ids.len() {
                    ", ..."
                } else {
                    ""
                };
                writeln!(out, "      requests {}{more}", ids.join(", "))?;
            }
        }
        if rows.len() > MOST_ROWS {
            writeln!(
                out,
                "  and {} more; --output ndjson has all",
                rows.len() - MOST_ROWS
            )?;
        }
        writeln!(out)?;
    }
    let noun = if rows.len() == 1 { "row" } else { "rows" };
    writeln!(out, "{} {noun}, {events} events", rows.len())
}

/// The most rows of one rule on the page.
pub(super) const fn most_rows() -> usize {
    MOST_ROWS
}
