//! `scan --output html`: what a scan found as one page, for people.
//!
//! The page holds the rows of `--output json`, no findings: rows hold for the log as a whole in any
//! order, name an address once, and so the page says the same numbers as the other outputs. Lists
//! and sample requests are chosen and bounded as those of a finding.
//!
//! The page asks nothing of the network and has no script, and its policy forbids both. What others
//! wrote enters it through [`shown`].

mod assessment;
mod details;
mod entry;
mod input;
pub(super) mod rules;
mod samples;
pub(super) mod shown;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

pub(super) use self::input::Report;
use self::{
    entry::{Entry, Totals, entries, place, totals},
    shown::{Shown, counted, number, time},
};
use crate::{
    detection::{
        rule::{MissingCity, Rule, Semantics, Who},
        time::Micros,
    },
    rules::model::{Annotations, Detection},
};

const STYLE: &str = include_str!("style.css");
const TITLE: &str = "Kubernetes API server: scanning without authentication";
/// Rows of the table of addresses, at most.
pub(super) const MOST_ROWS: usize = 5000;
/// Rows of the table of locations, at most.
const MOST_PLACES: usize = 500;
/// Files that are named, at most.
const MOST_FILES: usize = 50;
/// Codes with a column of their own.
const MOST_CODES: usize = 4;

/// The page: the same for the same report.
pub(super) fn page(report: &Report<'_>) -> String {
    let entries = entries(report);
    let totals = totals(&entries);
    let details = details::sections(&entries);
    let linked = details.len();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex, nofollow";
                title { "auditwatch: " (counted(totals.above, "scanning address", "scanning addresses")) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (TITLE) }
                    (summary(report, &entries, &totals))
                    (assessment::worst(&entries, linked))
                }
                main {
                    @if !entries.is_empty() {
                        (timeline::section(&entries, linked))
                        (addresses(report, &entries, &totals, linked))
                        (tried(&details, entries.len(), !totals.by_severity.is_empty()))
                        (places(report, &entries))
                    }
                    (rule(report.rule))
                }
                (about(report))
            }
        }
    };
    page.into_string()
}

/// A page of another command in the style of the report.
pub(super) fn document(
    title: &str,
    lead: &Markup,
    content: &Markup,
    complaints: &[String],
) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex, nofollow";
                title { "auditwatch: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    (lead)
                }
                main { (content) }
                footer {
                    @for complaint in complaints { p.warning { (Shown(complaint)) } }
                    p { "auditwatch " (env!("CARGO_PKG_VERSION")) }
                }
            }
        }
    };
    page.into_string()
}

/// Nothing but the style of this page.
fn policy() -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'")
}

fn window(rule: &Rule) -> String {
    format!("{:#}", jiff::SignedDuration::from_micros(rule.window))
}

fn summary(report: &Report<'_>, entries: &[Entry<'_>], totals: &Totals) -> Markup {
    let files = report.files.len() as u64;
    html! {
        p.lead {
            @if totals.above == 0 { "No address" }
            @else { strong { (counted(totals.above, "address", "addresses")) } }
            @if totals.above > 1 { " were" } @else { " was" }
            " refused more than " (counted(report.rule.threshold, "time", "times"))
            " within " (window(report.rule)) " without being authenticated."
            @if report.all && totals.addresses > totals.above {
                " " (number(totals.addresses - totals.above)) " more stayed below."
            }
        }
        p {
            "Read: " (counted(report.tally.events, "event", "events"))
            " of " (counted(files, "file", "files"))
            @if let Some((first, last)) = report.span {
                ", from " (time(first)) " to " (time(last))
            }
            "."
            @if report.rule.semantics == Semantics::Escu && !entries.is_empty() {
                " " (counted(entries.len() as u64, "row", "rows"))
                ", one for each address, place and window."
            }
        }
        @if !report.tally.unreadable.is_empty() {
            p.warning { "Not everything could be read, see the end of this page." }
        }
        @if let Some((first, last)) = totals.span { (facts(totals, first, last)) }
    }
}

fn facts(totals: &Totals, first: Micros, last: Micros) -> Markup {
    html! {
        dl.facts {
            @if totals.with_success > 0 {
                div { dt { "With a success" } dd.critical { (number(totals.with_success)) } }
            }
            @for (severity, count) in totals.by_severity.iter().rev() {
                div { dt { "Severity " (severity.as_str()) } dd { (number(*count)) } }
            }
            div { dt { "Addresses" } dd id="addresses-total" { (number(totals.addresses)) } }
            div { dt { "Requests" } dd id="requests-total" { (number(totals.requests)) } }
            @for (code, count) in &totals.by_code {
                div { dt { "Refused with " (code) } dd { (number(*count)) } }
            }
            div { dt { "First request" } dd { (time(first)) } }
            div { dt { "Last request" } dd { (time(last)) } }
        }
    }
}

/// The codes with a column: the most frequent, in order.
fn columns(totals: &Totals) -> BTreeSet<u16> {
    let mut codes: Vec<_> = totals.by_code.iter().collect();
    codes.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), **code));
    codes
        .iter()
        .take(MOST_CODES)
        .map(|(code, _)| **code)
        .collect()
}

/// What is behind each address; not all have room.
fn tried(details: &[Markup], all: usize, assessed: bool) -> Markup {
    html! {
        section aria-labelledby="tried" {
            h2 id="tried" { "What each tried" }
            @for detail in details { (detail) }
            @if details.len() < all { (foremost(details.len(), all, assessed)) }
        }
    }
}

fn foremost(shown: usize, all: usize, assessed: bool) -> Markup {
    html! {
        p.note {
            @if assessed { "The worst and busiest " } @else { "The busiest " }
            (number(shown as u64)) " of " (number(all as u64))
            " rows; --output json has all of them."
        }
    }
}

fn addresses(report: &Report<'_>, entries: &[Entry<'_>], totals: &Totals, linked: usize) -> Markup {
    let codes = columns(totals);
    let others = totals.by_code.len() > codes.len();
    let escu = report.rule.semantics == Semantics::Escu;
    let assessed = !totals.by_severity.is_empty();
    html! {
        section aria-labelledby="addresses" {
            h2 id="addresses" { "Addresses" }
            table.cards {
                thead {
                    tr {
                        th scope="col" { "Address" }
                        @if assessed { th scope="col" { "Severity" } }
                        th scope="col" { "Location" }
                        th.n scope="col" { "Requests" }
                        @for code in &codes { th.n scope="col" { (code) } }
                        @if others { th.n scope="col" { "Other" } }
                        th scope="col" { "First" }
                        th scope="col" { "Last" }
                        @if escu { th scope="col" { "Window from" } }
                        @else {
                            th scope="col" { "Above since" }
                            th.n scope="col" { "Most in " (window(report.rule)) }
                        }
                    }
                }
                tbody {
                    @for (at, entry) in entries.iter().enumerate().take(MOST_ROWS) {
                        (address((at < linked).then_some(at), entry, (&codes, others), assessed))
                    }
                }
            }
            @if entries.len() > MOST_ROWS { (foremost(MOST_ROWS, entries.len(), assessed)) }
        }
    }
}

fn address(
    at: Option<usize>,
    entry: &Entry<'_>,
    (codes, others): (&BTreeSet<u16>, bool),
    assessed: bool,
) -> Markup {
    let rest = entry
        .by_code
        .iter()
        .filter(|(code, _)| !codes.contains(code));
    html! {
        tr {
            th.address scope="row" {
                @if let Some(at) = at { a href={ "#a" (at + 1) } { (Shown(entry.address)) } }
                @else { (Shown(entry.address)) }
            }
            @if assessed { td data-label="Severity" { (assessment::short(entry)) } }
            td.place data-label="Location" { (place(entry)) }
            td.n data-label="Requests" { (number(entry.count)) }
            @for code in codes {
                td.n.quiet[!entry.by_code.contains_key(code)] data-label=(code) {
                    (number(entry.by_code.get(code).copied().unwrap_or(0)))
                }
            }
            @if others { td.n data-label="Other" { (number(rest.map(|(_, count)| count).sum())) } }
            td data-label="First" { (time(entry.first)) }
            td data-label="Last" { (time(entry.last)) }
            @if let Some((start, _)) = entry.window {
                td data-label="Window from" { (time(start)) }
            } @else {
                td data-label="Above since" {
                    @if let Some(alert) = entry.alert { (time(alert)) }
                    @else { span.quiet { "below" } }
                }
                td.n data-label="Most in window" { (number(entry.most.unwrap_or(0))) }
            }
        }
    }
}

fn places(report: &Report<'_>, entries: &[Entry<'_>]) -> Markup {
    if report.locate.is_none() {
        return html! {
            section aria-labelledby="locations" {
                h2 id="locations" { "Locations" }
                p.note { "No location database was given (--geo-db), so no address has a location." }
            }
        };
    }
    let mut places: BTreeMap<_, (BTreeSet<&str>, u64)> = BTreeMap::new();
    for entry in entries {
        let (addresses, requests) = places.entry((&entry.country, &entry.city)).or_default();
        addresses.insert(entry.address);
        *requests += entry.count;
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by_key(|(_, (_, requests))| std::cmp::Reverse(*requests));
    let name = |name: &Option<String>| {
        html! {
            @if let Some(name) = name { (Shown(name)) } @else { span.quiet { "unknown" } }
        }
    };
    html! {
        section aria-labelledby="locations" {
            h2 id="locations" { "Locations" }
            table.narrow {
                thead {
                    tr {
                        th scope="col" { "Country" }
                        th scope="col" { "City" }
                        th.n scope="col" { "Addresses" }
                        th.n scope="col" { "Requests" }
                    }
                }
                tbody {
                    @for ((country, city), (addresses, requests)) in places.iter().take(MOST_PLACES) {
                        tr {
                            td { (name(country)) }
                            td { (name(city)) }
                            td.n { (number(addresses.len() as u64)) }
                            td.n { (number(*requests)) }
                        }
                    }
                }
            }
            @if places.len() > MOST_PLACES {
                p.note { "The busiest " (MOST_PLACES) " of " (number(places.len() as u64)) " places." }
            }
        }
    }
}

fn rule(rule: &Rule) -> Markup {
    let codes: Vec<_> = rule.wanted_codes().iter().map(u16::to_string).collect();
    let Annotations { title, version, .. } = Detection::of(rule).annotations;
    html! {
        section aria-labelledby="rule" {
            h2 id="rule" { "Rule" }
            dl.facts {
                div.wide { dt { "Rule" } dd { (title) ", version " (version) } }
                div { dt { "Semantics" } dd { (rule.semantics) } }
                div { dt { "Threshold" } dd { "more than " (number(rule.threshold)) } }
                div { dt { "Window" } dd {
                    (window(rule))
                    @if rule.semantics == Semantics::Escu {
                        ", from " (format!("{:#}", jiff::SignedDuration::from_micros(rule.window_offset)))
                    } @else { ", sliding" }
                } }
                div { dt { "Codes" } dd { (codes.join(", ")) } }
                (settings(rule))
                div.wide { dt { "MITRE ATT&CK" } dd { "T1046 Network Service Discovery (Discovery)" } }
            }
            p.note {
                @match rule.semantics {
                    Semantics::Native => {
                        "Each request counts once, for one address: the last hop that is no trusted "
                        "proxy. User agents, audit ids and claimed addresses are written by the client: "
                        "evidence, never proof."
                    }
                    Semantics::Escu => {
                        "As the Splunk search counts: every event, repeats too, for each address that it "
                        "lists, forged ones too. User agents and audit ids are written by the client: "
                        "evidence, never proof."
                    }
                }
            }
        }
    }
}

/// What only one of the semantics has, where it differs from the default.
fn settings(rule: &Rule) -> Markup {
    let default = Rule::default();
    let proxies: Vec<_> = rule
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    html! {
        @if rule.semantics == Semantics::Native {
            div { dt { "Who" } dd {
                @match rule.who {
                    Who::Any => "any unauthenticated",
                    Who::Group => "group system:unauthenticated",
                }
            } }
        }
        @if !proxies.is_empty() {
            div.wide { dt { "Trusted proxies" } dd { (Shown(&proxies.join(", "))) } }
        }
        @if rule.ipv6_prefix != default.ipv6_prefix {
            div { dt { "IPv6 prefix" } dd { "/" (rule.ipv6_prefix) } }
        }
        @if rule.missing_city == MissingCity::Drop {
            div { dt { "Missing city" } dd { "no row" } }
        }
        @if rule.time_field != default.time_field {
            div { dt { "Time field" } dd { (Shown(&rule.time_field)) } }
        }
    }
}

/// Where all this is from, and what is not in it.
fn about(report: &Report<'_>) -> Markup {
    let left_out = report.tally.complaints();
    let unreadable = &report.tally.unreadable;
    html! {
        footer {
            h2 { "About this report" }
            @if !(unreadable.is_empty() && left_out.is_empty()) {
                ul.warning {
                    @for line in unreadable.iter().take(MOST_FILES).chain(&left_out) {
                        li { (Shown(line)) }
                    }
                    @if unreadable.len() > MOST_FILES {
                        li { "and " (unreadable.len() - MOST_FILES) " more files that cannot be read" }
                    }
                }
            }
            p {
                "Read from: "
                @for (at, file) in report.files.iter().enumerate().take(MOST_FILES) {
                    @if at > 0 { ", " }
                    code { (Shown(&file.to_string_lossy())) }
                }
                @if report.files.len() > MOST_FILES {
                    " and " (report.files.len() - MOST_FILES) " more"
                }
                "."
            }
            p {
                "auditwatch " (env!("CARGO_PKG_VERSION")) ", rule " code { (Detection::of(report.rule).annotations.id) }
                ", configuration fingerprint " code { (report.rule.fingerprint()) }
                ". Times are in UTC. Characters that cannot be seen are shown as "
                span.mark { "\\u{…}" } "."
            }
        }
    }
}
