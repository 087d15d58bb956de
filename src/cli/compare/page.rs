//! The page of `compare --output html`.

use maud::{Markup, html};

use super::{
    sentences::{minutes, summary},
    side_by_side::{Compared, MOST_ROWS, Row, Verdict},
};
use crate::cli::report::{
    document,
    shown::{Shown, number, time},
};

/// The page: the same for the same comparison.
pub(super) fn page(compared: &Compared, complaints: &[String]) -> String {
    let title = "Kubernetes API server: the hourly search and streaming";
    document(
        title,
        &html! {
            @for (at, line) in summary(compared).iter().enumerate() {
                p.lead[at == 0] { (line) }
            }
        },
        &html! {
            @for (verdict, heading) in [
                (Verdict::StreamingOnly, "Found by streaming alone"),
                (Verdict::SearchOnly, "Found by the search alone"),
                (Verdict::Both, "Found by both"),
            ] {
                @if compared.count(verdict) > 0 { (section(compared, verdict, heading)) }
            }
        },
        complaints,
    )
}

fn section(compared: &Compared, verdict: Verdict, heading: &str) -> Markup {
    let rows = compared.rows.iter().filter(|row| row.verdict == verdict);
    let all = compared.count(verdict);
    html! {
        section {
            h2 { (heading) }
            table.cards {
                thead {
                    tr {
                        th scope="col" { "Address" }
                        th scope="col" { "Streaming" }
                        th scope="col" { "Search" }
                        th.n scope="col" { "Earlier by" }
                        th scope="col" { "Why" }
                    }
                }
                tbody {
                    @for row in rows.take(MOST_ROWS) { (line(row)) }
                }
            }
            @if all > MOST_ROWS {
                p.note { (number((all - MOST_ROWS) as u64)) " more; --output json has all of them." }
            }
        }
    }
}

fn line(row: &Row) -> Markup {
    html! {
        tr {
            td data-label="Address" { (Shown(&row.address)) }
            td data-label="Streaming" {
                @if let Some(found) = &row.streaming {
                    (time(found.found_at)) ", " (number(found.count)) " requests"
                } @else { "-" }
            }
            td data-label="Search" {
                @if let Some(found) = &row.search {
                    (time(found.found_at)) ", " (number(found.count)) " events"
                } @else { "-" }
            }
            td.n data-label="Earlier by" {
                @if let Some(lead) = row.lead_seconds { (minutes(lead)) } @else { "-" }
            }
            td data-label="Why" {
                @for reason in &row.why { p { (Shown(reason)) } }
                @if row.why.is_empty() { "-" }
            }
        }
    }
}
