//! The rows of `scan` as a table for people.
//!
//! Everything in it was written by the sender of the requests, so control characters, terminal
//! sequences and characters that reorder text are shown escaped.

use std::{
    borrow::Borrow,
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write},
};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::assessed::Assessed;
use crate::{
    detection::{Finding, address, fields::AuditField, geo::Locate, rows::Row, time::Micros},
    visible::escaped,
};

/// What is known of addresses beside their rows: where they are, and how bad their requests are.
pub(super) type Known<'a> = (Option<&'a dyn Locate>, &'a Assessed);

/// Width where there is no terminal to ask.
const DEFAULT_WIDTH: usize = 160;
/// Narrower terminals are treated as this wide.
const MIN_WIDTH: usize = 60;
/// Columns of an address: as many as the longest IPv6 address takes.
const MAX_ADDRESS: usize = 45;
/// Findings of one address that are shown at most.
const MAX_FINDINGS: usize = 3;
/// Values of one list that are shown at most.
const MAX_VALUES: usize = 12;

/// Writes the table of these rows, which are made twice; `styled` with a bold head and quiet lists.
/// Returns how many there are; of none, nothing is written.
pub(super) fn write<I: Iterator<Item: Borrow<Row>>>(
    rows: &impl Fn() -> I,
    (locate, assessed): Known<'_>,
    (width, styled): (Option<usize>, bool),
    out: &mut dyn Write,
) -> io::Result<usize> {
    let width = width.unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH);
    let header = ["ADDRESS", "LOCATION", "COUNT", "FIRST", "LAST"];
    let mut widths = header.map(str::len);
    let mut many = 0;
    for row in rows() {
        many += 1;
        for (width, cell) in widths.iter_mut().zip(&cells(row.borrow(), locate)) {
            *width = (*width).max(cell.width());
        }
    }
    if many == 0 {
        return Ok(0);
    }
    // The location gives way first: all else has a natural size.
    let [address, location, count, first, last] = widths;
    // A source as logged may be any text.
    let address = address.min(MAX_ADDRESS);
    let others = address + count + first + last + 8;
    let widths = [
        address,
        location.min(width.saturating_sub(others).max(8)),
        count,
        first,
        last,
    ];

    let style = |code| if styled { code } else { "" };
    let (bold, dim, plain) = (style("\x1b[1m"), style("\x1b[2m"), style("\x1b[0m"));
    let head = line(&header.map(str::to_owned), widths, width);
    writeln!(out, "{bold}{head}{plain}")?;
    for row in rows() {
        let row = row.borrow();
        writeln!(out, "{}", line(&cells(row, locate), widths, width))?;
        let (address, columns) = match row {
            Row::Native(row) => (&row.src_ip, &row.seen),
            Row::Escu(row) => (&row.src_ip, &row.columns),
        };
        for finding in assessed.findings(address).iter().take(MAX_FINDINGS) {
            for (name, text) in assessment(finding) {
                let shown = fit(&text, width.saturating_sub(10));
                writeln!(out, "  {name:<6}  {shown}")?;
            }
        }
        for (name, field) in [
            ("verbs", AuditField::Verb),
            ("paths", AuditField::RequestUri),
            ("agents", AuditField::UserAgent),
        ] {
            let shown = list(columns.get(field), width.saturating_sub(10));
            writeln!(out, "{dim}  {name:<6}  {shown}{plain}")?;
        }
    }
    Ok(many)
}

/// How bad a finding is, why, what its requests look like, and whether one succeeded. Nothing for
/// one about which there is nothing to say but the severity of its rule.
fn assessment(finding: &Finding) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let is_said = !(finding.severity_reasons.is_empty()
        && finding.labels.is_empty()
        && finding.outcome.is_empty());
    if is_said {
        let mut why = escaped(&finding.severity).to_string();
        let reasons = finding.severity_reasons.iter().take(MAX_VALUES);
        for (at, reason) in reasons.enumerate() {
            why.push_str(if at == 0 { ": " } else { "; " });
            // Writing into a string cannot fail.
            let _ok = write!(why, "{}", escaped(reason));
        }
        lines.push(("level", why));
    }
    if finding.success_count > 0 {
        let of = finding.successes.first().map(|sample| {
            [&sample.verb, &sample.path, &sample.code, &sample.user]
                .map(|text| quoted(text))
                .join(" ")
        });
        let (count, of) = (finding.success_count, of.unwrap_or_default());
        let more = match count - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(("passed", format!("{of}{more}")));
    }
    if !finding.labels.is_empty() {
        let labels = finding.labels.iter().take(MAX_VALUES).map(|label| {
            let (title, example) = (quoted(&label.title), escaped(&label.example));
            format!("{title} ({}: {example})", label.count)
        });
        lines.push(("labels", labels.collect::<Vec<_>>().join(", ")));
    }
    lines
}

/// The first line of a row.
fn cells(row: &Row, locate: Option<&dyn Locate>) -> [String; 5] {
    let (source, count, first, last) = match row {
        Row::Native(row) => (&row.src_ip, row.count, row.first_time, row.last_time),
        Row::Escu(row) => (&row.src_ip, row.count, row.first_time, row.last_time),
    };
    let (country, city) = place(row, locate);
    let place: Vec<_> = [city, country].into_iter().flatten().collect();
    let place = if place.is_empty() {
        "-".to_owned()
    } else {
        place.join(", ")
    };
    [
        escaped(source).to_string(),
        escaped(&place).to_string(),
        count.to_string(),
        second(first),
        second(last),
    ]
}

/// Country and city of a row; never an empty name.
pub(super) fn place(row: &Row, locate: Option<&dyn Locate>) -> (Option<String>, Option<String>) {
    let (country, city) = match row {
        Row::Escu(row) => (row.country.clone(), row.city.clone()),
        Row::Native(row) => locate
            .and_then(|locate| locate.locate(address::locatable(&row.src_ip)?))
            .map_or((None, None), |location| (location.country, location.city)),
    };
    let named = |name: &String| !name.is_empty();
    (country.filter(named), city.filter(named))
}

/// `2026-11-25 07:17:03Z`
pub(super) fn second(time: Micros) -> String {
    let text = time.to_string();
    match text.split_once('.') {
        Some((second, _)) => second.replacen('T', " ", 1) + "Z",
        None => text,
    }
}

fn line(cells: &[String; 5], widths: [usize; 5], width: usize) -> String {
    let mut line = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = fit(cell, width);
        let padding = " ".repeat(width.saturating_sub(cell.width()));
        // Numbers stand to the right.
        let padded = if at == 2 {
            padding + &cell
        } else {
            cell + &padding
        };
        line.push_str(&padded);
        line.push_str("  ");
    }
    fit(line.trim_end(), width)
}

/// As many values as fit into a line, and how many more there are.
fn list(values: &BTreeSet<String>, width: usize) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let shown: Vec<_> = values
        .iter()
        .take(MAX_VALUES)
        .map(|value| quoted(value))
        .collect();
    let all = shown.join(", ");
    if shown.len() == values.len() && all.width() <= width {
        return all;
    }
    let mut text = String::new();
    let mut left = values.len();
    for value in &shown {
        let comma = if text.is_empty() { "" } else { ", " };
        let reserve = format!(" and {} more", left - 1).len();
        let room = width.saturating_sub(text.width() + comma.len() + reserve);
        if value.width() > room && !text.is_empty() {
            break;
        }
        text.push_str(comma);
        text.push_str(&fit(value, room));
        left -= 1;
    }
    if left > 0 {
        let _ok = write!(text, " and {left} more");
    }
    text
}

/// A value as it is shown in a list: an empty one can be seen.
fn quoted(value: &str) -> String {
    if value.is_empty() {
        "\"\"".to_owned()
    } else {
        escaped(value).to_string()
    }
}

/// A text cut to this many columns.
fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        cut.push(c);
    }
    cut + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::{
        columns::Columns,
        finding::{Label, Sample},
        rows::EscuRow,
    };

    fn table(
        rows: &[Row],
        locate: Option<&dyn Locate>,
        width: Option<usize>,
        styled: bool,
    ) -> String {
        let mut out = Vec::new();
        let assessed = Assessed::default();
        write(
            &|| rows.iter(),
            (locate, &assessed),
            (width, styled),
            &mut out,
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_known_of_a_finding_is_on_lines_of_its_own() {
        let text = |finding: &Finding| {
            let lines = assessment(finding).into_iter();
            lines
                .map(|(name, text)| format!("{name} {text}"))
                .collect::<Vec<_>>()
        };
        let plain = Finding {
            severity: "low".to_owned(),
            ..Finding::default()
        };
        assert_eq!(text(&plain), Vec::<String>::new());
        let hostile = "x\u{1b}[2J\n\u{202e}";
        let finding = Finding {
            severity: "high".to_owned(),
            severity_reasons: vec!["asks for secrets".to_owned(), hostile.to_owned()],
            outcome: "success".to_owned(),
            success_count: 3,
            successes: vec![Sample {
                verb: "get".to_owned(),
                path: hostile.to_owned(),
                code: "200".to_owned(),
                ..Sample::default()
            }],
            labels: vec![Label {
                title: "Asks for secrets".to_owned(),
                count: 4,
                example: format!("get /api/v1/secrets {hostile}"),
                ..Label::default()
            }],
            ..Finding::default()
        };
        let shown = "x\\u{1b}[2J\\n\\u{202e}";
        assert_eq!(
            text(&finding),
            [
                format!("level high: asks for secrets; {shown}"),
                format!("passed get {shown} 200 \"\" and 2 more"),
                format!("labels Asks for secrets (4: get /api/v1/secrets {shown})"),
            ]
        );
    }

    #[test]
    fn one_long_source_hides_no_other_column() {
        let row = |source: &str| {
            Row::Escu(Box::new(EscuRow {
                window_start: Micros(0),
                window_end: Micros(1),
                src_ip: source.to_owned(),
                country: Some("Aland".to_owned()),
                city: None,
                count: 77,
                columns: Columns::default(),
                first_time: Micros(0),
                last_time: Micros(0),
                detail: None,
            }))
        };
        let text = table(
            &[row("192.0.2.1"), row(&"z".repeat(200_000))],
            None,
            Some(110),
            false,
        );
        assert!(text.lines().all(|line| line.width() <= 110), "{text}");
        let shown = text
            .lines()
            .filter(|line| line.contains("77  1970-01-01 00:00:00Z"));
        assert_eq!(shown.count(), 2, "{text}");
    }

    #[test]
    fn lists_are_cut_to_the_line_and_say_how_many_more() {
        let values: BTreeSet<_> = ["/a", "/b", "/c"].map(String::from).into();
        assert_eq!(list(&values, 10), "/a, /b, /c");
        let values: BTreeSet<_> = ["/aaaa", "/bbbb", "/cccc"].map(String::from).into();
        assert_eq!(list(&values, 18), "/aaaa and 2 more");
        let long: BTreeSet<_> = ["x".repeat(50), "y".to_owned()].into();
        assert_eq!(list(&long, 21), "xxxxxxxxx… and 1 more");
        assert!(list(&long, 21).width() <= 21);
        assert_eq!(list(&BTreeSet::new(), 21), "-");
        assert_eq!(list(&[String::new()].into(), 21), "\"\"");
    }
}
