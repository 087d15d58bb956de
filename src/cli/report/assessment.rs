//! How bad the requests of an address are, why, what they look like, and whether one succeeded.

use maud::{Markup, html};

use super::{
    entry::Entry,
    samples::samples,
    shown::{Shown, counted, number, time},
};
use crate::detection::{
    finding::{Finding, Label, Severity},
    time::Micros,
};

/// Findings of one address that are shown, at most.
const MOST_FINDINGS: usize = 3;
/// Addresses that are named at the top of the page, at most.
const MOST_WORST: usize = 5;
/// Reasons that are shown in the table of addresses, at most.
const MOST_REASONS: usize = 1;

/// The severity of an address as a word, or nothing.
pub(super) fn badge(entry: &Entry<'_>) -> Markup {
    html! {
        @if let Some(severity) = entry.severity() {
            (word(severity)) " "
            @if entry.has_success() { span.severity.critical { "request succeeded" } " " }
        }
    }
}

/// What to look at first: addresses of medium severity or worse, with why.
pub(super) fn worst(entries: &[Entry<'_>], linked: usize) -> Markup {
    let is_bad = |entry: &Entry<'_>| entry.severity() >= Some(Severity::Medium);
    let bad = entries.iter().take_while(|entry| is_bad(entry));
    let more = bad.clone().count().saturating_sub(MOST_WORST);
    html! {
        @if entries.first().is_some_and(is_bad) {
            ol.worst {
                @for (at, entry) in bad.enumerate().take(MOST_WORST) {
                    li {
                        @if at < linked { a.address href={ "#a" (at + 1) } { (Shown(entry.address)) } }
                        @else { span.address { (Shown(entry.address)) } }
                        " " (short(entry))
                    }
                }
            }
            @if more > 0 { p.note { "and " (number(more as u64)) " more of medium severity or worse" } }
        }
    }
}

/// The same with its first reason.
pub(super) fn short(entry: &Entry<'_>) -> Markup {
    html! {
        (badge(entry))
        @for reason in entry.findings.iter().take(1).flat_map(|one| &one.severity_reasons).take(MOST_REASONS) {
            span.reason { (Shown(reason)) }
        }
    }
}

/// Each severity has a class of its own: no text of others is one.
fn word(severity: Severity) -> Markup {
    html! {
        @match severity {
            Severity::Critical => span.severity.critical { "critical" },
            Severity::High => span.severity.high { "high" },
            Severity::Medium => span.severity.medium { "medium" },
            Severity::Low => span.severity.low { "low" },
            Severity::Informational => span.severity.informational { "informational" },
        }
    }
}

/// What the service would say of the address.
pub(super) fn findings(entry: &Entry<'_>) -> Markup {
    let findings = entry.findings;
    html! {
        @for finding in findings.iter().take(MOST_FINDINGS).filter(|finding| is_said(finding)) {
            (one(finding, findings.len() > 1))
        }
        @if findings.len() > MOST_FINDINGS {
            p.note.more {
                (counted((findings.len() - MOST_FINDINGS) as u64, "more finding", "more findings"))
                " of this address; --output findings has all of them."
            }
        }
    }
}

/// Whether there is anything to say of a finding but the severity of its rule.
fn is_said(finding: &Finding) -> bool {
    let Finding {
        severity_reasons,
        labels,
        success_count,
        continues,
        ..
    } = finding;
    !(severity_reasons.is_empty() && labels.is_empty() && continues.is_empty())
        || *success_count > 0
}

fn one(finding: &Finding, is_one_of_several: bool) -> Markup {
    html! {
        dl.lists.finding {
            @if is_one_of_several {
                div { dt { "Finding" } dd {
                    @if let (Some(first), Some(last)) = (finding.first_time, finding.last_time) {
                        (time(Micros::from_proto(first))) " to " (time(Micros::from_proto(last))) ", "
                    }
                    (counted(finding.count, "request", "requests"))
                    @if !finding.continues.is_empty() { ", continues the one before" }
                } }
            }
            div { dt { "Severity" } dd {
                @if let Some(severity) = finding.severity() { (word(severity)) }
                @if !finding.severity_reasons.is_empty() {
                    ul data-list="Reasons" { @for reason in &finding.severity_reasons { li { (Shown(reason)) } } }
                }
            } }
            @if finding.success_count > 0 {
                div { dt { "Outcome" } dd {
                    span.severity.critical { (counted(finding.success_count, "request", "requests")) " succeeded" }
                } }
            }
            @if !finding.labels.is_empty() {
                div { dt { "Labels" span.quiet { " (" (finding.labels.len()) ")" } } dd {
                    ul data-list="Labels" { @for label in &finding.labels { li { (labelled(label)) } } }
                } }
            }
        }
        (samples("Requests that succeeded", &finding.successes))
    }
}

fn labelled(label: &Label) -> Markup {
    html! {
        (Shown(&label.title)) " "
        span.quiet {
            "(" (Shown(&label.kind)) ", "
            (number(label.count)) @if label.count == 1 { " request" } @else { " requests" }
            ")"
        }
        @if !label.example.is_empty() { ": " code { (Shown(&label.example)) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{assessed::Assessed, report, tally::Tally},
        detection::{
            columns::Columns,
            finding::Sample,
            rows::{NativeRow, Row},
            rule::Rule,
            time::Micros,
        },
    };

    fn row(address: &str, count: u64) -> Row {
        Row::Native(Box::new(NativeRow {
            src_ip: address.to_owned(),
            alert_at: Some(Micros(6_000_000)),
            max_in_window: count,
            count,
            count_by_code: [(403, count)].into(),
            first_time: Micros(1_000_000),
            last_time: Micros(9_000_000),
            seen: Columns::default(),
            detail: None,
        }))
    }

    fn page(rows: &[Row], findings: &[Finding]) -> String {
        report::page(&report::Report {
            rule: &Rule::default(),
            all: false,
            rows,
            assessed: &Assessed::of(findings.iter().cloned()),
            locate: None,
            files: &[],
            tally: &Tally::default(),
            span: None,
        })
    }

    fn finding(address: &str, severity: &str) -> Finding {
        Finding {
            finding_id: format!("{address} {severity}"),
            src_ip: address.to_owned(),
            severity: severity.to_owned(),
            ..Finding::default()
        }
    }

    fn bad(text: &str) -> Finding {
        Finding {
            severity_reasons: vec![format!("4 requests for secrets{text}")],
            outcome: "success".to_owned(),
            success_count: 2,
            successes: vec![Sample {
                path: format!("/metrics{text}"),
                user: format!("eve{text}"),
                ..Sample::default()
            }],
            labels: vec![Label {
                title: format!("Asks for secrets{text}"),
                kind: format!("behaviour{text}"),
                example: format!("list /api/v1/secrets curl{text}"),
                count: 4,
                ..Label::default()
            }],
            ..finding("192.0.2.9", "critical")
        }
    }

    #[test]
    fn the_worst_comes_first_with_its_reasons_labels_and_outcome() {
        let rows = [row("192.0.2.1", 900), row("192.0.2.9", 7)];
        let page = page(&rows, &[finding("192.0.2.1", "low"), bad("")]);
        let (top, _) = page.split_once("<main>").unwrap();
        assert!(
            top.contains("href=\"#a1\"><bdi>192.0.2.9</bdi></a>"),
            "{top}"
        );
        assert!(
            !top.contains("192.0.2.1<"),
            "a low one is not named at the top"
        );
        let (_, addresses) = page.split_once("<h2 id=\"addresses\">").unwrap();
        let at = |text: &str| addresses.find(text).unwrap_or_else(|| panic!("{text}"));
        assert!(at("192.0.2.9") < at("192.0.2.1"), "severity before count");
        for part in [
            "<span class=\"severity critical\">critical</span>",
            "<span class=\"reason\"><bdi>4 requests for secrets</bdi></span>",
            "2 requests succeeded",
            "Requests that succeeded",
            "<bdi>/metrics</bdi>",
            "<bdi>eve</bdi>",
            "<bdi>Asks for secrets</bdi>",
            "4 requests)",
            "<code><bdi>list /api/v1/secrets curl</bdi></code>",
        ] {
            at(part);
        }
        assert!(page.contains("<dt>Severity critical</dt><dd>1</dd>"));
        assert!(page.contains("<dt>With a success</dt>"));
    }

    #[test]
    fn a_page_without_findings_has_no_column_for_them() {
        let page = page(&[row("192.0.2.1", 9)], &[]);
        assert!(!page.contains("Severity"), "{page}");
    }

    #[test]
    fn what_a_stranger_wrote_is_text() {
        let hostile = "</code><script>alert(1)</script>\" onclick=\"x\u{202e}\0";
        let page = page(&[row("192.0.2.9", 7)], &[bad(hostile)]);
        for alive in ["<script", "onclick=\"", "\u{202e}", "\0"] {
            assert!(!page.contains(alive), "{alive:?}");
        }
        assert!(page.matches("&lt;script&gt;").count() >= 6);
    }
}
