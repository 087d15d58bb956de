//! The page of `scan --rules --output html`: a section for each rule that found something.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    STYLE, policy,
    shown::{Shown, counted, number, time},
};
use crate::{cli::matches, detection::rule_rows::RuleRow};

/// The page: the same for the same rows.
pub(in crate::cli) fn page(rows: &[RuleRow], events: u64, complaints: &[String]) -> String {
    let rules = matches::by_rule(rows);
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
                title { "auditwatch: " (counted(rows.len() as u64, "row", "rows")) " of rules" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Kubernetes audit log: what rules found" }
                    p.lead {
                        (counted(rules.len() as u64, "rule", "rules")) " found "
                        strong { (counted(rows.len() as u64, "group", "groups")) }
                        " of requests among " (counted(events, "event", "events")) "."
                    }
                }
                main {
                    @for (rule, rows) in &rules { (section(rule, rows)) }
                }
                footer {
                    @for complaint in complaints { p.warning { (Shown(complaint)) } }
                    p { "auditwatch " (env!("CARGO_PKG_VERSION")) }
                }
            }
        }
    };
    page.into_string()
}

fn section(rule: &RuleRow, rows: &[&RuleRow]) -> Markup {
    html! {
        section {
            h2 { (Shown(&rule.title)) }
            p { "Level " (Shown(&rule.level)) ", rule " (Shown(&rule.rule)) ", " code { (Shown(&rule.rule_id)) } }
            table.cards {
                thead {
                    tr {
                        th scope="col" { "Group" }
                        th.n scope="col" { "Requests" }
                        th scope="col" { "First" }
                        th scope="col" { "Last" }
                        th scope="col" { "Above its condition" }
                    }
                }
                tbody {
                    @for row in rows.iter().take(matches::most_rows()) {
                        tr {
                            td data-label="Group" { (Shown(&matches::group(row))) }
                            td.n data-label="Requests" { (number(row.count)) }
                            td data-label="First" { (time(row.first_time)) }
                            td data-label="Last" { (time(row.last_time)) }
                            td data-label="Above its condition" { (time(row.alert_at)) }
                        }
                    }
                }
            }
            @if rows.len() > matches::most_rows() {
                p.note { (number((rows.len() - matches::most_rows()) as u64)) " more; --output json has all of them." }
            }
        }
    }
}
