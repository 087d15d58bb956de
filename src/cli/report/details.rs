//! The requests of each address, in sections that open on a click.

use maud::{Markup, html};

use super::{
    assessment,
    entry::{Entry, place},
    samples::samples,
    shown::{Shown, counted, number, time},
};
use crate::detection::{fields::AuditField, rows::Detail};

/// Addresses with a section of their own, at most.
const MOST: usize = 500;
/// Bytes of all sections together, about: values are an attacker's, and there may be many.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Lists with more values than this are laid out in columns.
const FEW_VALUES: usize = 8;
/// Up to this number of sections are open from the start.
const FEW: usize = 2;

/// A section for each entry, as many as there is room for.
pub(super) fn sections(entries: &[Entry<'_>]) -> Vec<Markup> {
    let mut bytes = 0;
    (0..MOST)
        .zip(entries)
        .map_while(|(at, entry)| {
            let section = (bytes < MOST_BYTES).then(|| detail(at, entry, entries.len() <= FEW))?;
            bytes += section.0.len();
            Some(section)
        })
        .collect()
}

fn detail(at: usize, entry: &Entry<'_>, open: bool) -> Markup {
    html! {
        details id={ "a" (at + 1) } open[open] {
            summary {
                span.address { (Shown(entry.address)) }
                span.meta {
                    (assessment::badge(entry))
                    (counted(entry.count, "request", "requests")) ", "
                    (counted(entry.columns.get(AuditField::RequestUri).len() as u64, "path", "paths")) ", "
                    @if let Some((start, _)) = entry.window { "window from " (time(start)) }
                    @else { (time(entry.first)) }
                }
            }
            (assessment::findings(entry))
            dl.lists {
                div { dt { "Location" } dd { (place(entry)) } }
                div { dt { "Time" } dd {
                    (time(entry.first)) " to " (time(entry.last))
                    @if let Some((start, end)) = entry.window {
                        ", window " (time(start)) " to " (time(end))
                    }
                } }
                div { dt { "By code" } dd {
                    @for (at, (code, count)) in entry.by_code.iter().enumerate() {
                        @if at > 0 { ", " }
                        (code) ": " (number(*count))
                    }
                } }
                @if let Some(detail) = entry.detail { (lists(entry, detail)) }
            }
            @if let Some(detail) = entry.detail {
                (samples("Sample requests: the first of each verb and path", &detail.seen.samples))
            }
        }
    }
}

/// The distinct values, and how many there are beyond those that are shown.
fn lists(entry: &Entry<'_>, detail: &Detail) -> Markup {
    let seen = &detail.seen;
    html! {
        @for list in seen.lists() {
            @if let Some(heading) = list.row.heading {
                (values(
                    heading,
                    list.values,
                    // Rows count only what the search has columns for.
                    entry.columns.get(list.row.field).len().max(list.values.len()),
                    seen.truncated.iter().any(|cut| cut == list.name),
                ))
            }
        }
    }
}

fn values(name: &str, values: &[String], distinct: usize, cut: bool) -> Markup {
    html! {
        @if !values.is_empty() {
            div {
                dt {
                    (name)
                    @if distinct > 1 { span.quiet { " (" (number(distinct as u64)) ")" } }
                }
                dd {
                    ul.many[values.len() > FEW_VALUES] data-list=(name) {
                        @for value in values { li { (Shown(value)) } }
                    }
                    @if values.len() < distinct {
                        p.note { "The " (number(values.len() as u64)) " seen first." }
                    }
                    @else if cut { p.note { "Not all of it: values are cut, or there were more." } }
                }
            }
        }
    }
}
