//! The page of `explain --output html`.

use maud::{Markup, html};

use super::answer::Answer;
use crate::{
    cli::report::{
        document,
        shown::{Shown, counted, number, time},
    },
    detection::explain::{Outcome, Record, Summary, Verdict},
};

/// The page: the same for the same answer.
pub(super) fn page(answer: &Answer, complaints: &[String]) -> String {
    document(
        "Kubernetes API server: why an address was found or was not",
        &html! {
            p.lead { strong { (Shown(&answer.subject())) } ": "
                (counted(answer.count, "record", "records")) " among "
                (counted(answer.events, "event", "events")) "." }
        },
        &html! {
            @for summary in &answer.detections { (detection(summary)) }
            (service(answer))
            (records(answer))
        },
        complaints,
    )
}

fn detection(summary: &Summary) -> Markup {
    html! {
        section {
            h2 { (Shown(&summary.detection)) }
            p.lead { (Shown(&summary.conclusion)) }
            p {
                (counted(summary.matching, "record matches", "records match")) ", "
                (counted(summary.counted, "request counts", "requests count")) ", at most "
                (number(summary.max_in_window)) " in one window; the threshold is "
                (number(summary.threshold)) "."
            }
            @if !summary.reasons.is_empty() {
                table.cards {
                    thead {
                        tr {
                            th.n scope="col" { "Records" }
                            th scope="col" { "Do not count because" }
                            th scope="col" { "Such as" }
                        }
                    }
                    tbody {
                        @for reason in &summary.reasons {
                            tr {
                                td.n data-label="Records" { (number(reason.count)) }
                                td data-label="Do not count because" {
                                    (Shown(&reason.why))
                                    @for outcome in &reason.example.outcomes { (tests(outcome)) }
                                }
                                td data-label="Such as" { (request(&reason.example)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn service(answer: &Answer) -> Markup {
    html! {
        section {
            h2 { "What the service would send" }
            @if answer.findings.is_empty() { p { "Nothing." } }
            @else {
                table.cards {
                    thead {
                        tr {
                            th scope="col" { "Time" }
                            th scope="col" { "State" }
                            th scope="col" { "Severity" }
                            th.n scope="col" { "Requests" }
                            th scope="col" { "Why" }
                        }
                    }
                    tbody {
                        @for state in &answer.findings {
                            tr {
                                td data-label="Time" { (Shown(&state.time)) }
                                td data-label="State" { (Shown(&state.state)) " " (state.close_reason)
                                    @if let Some(filter) = state.filter { ", filter: " (filter) } }
                                td data-label="Severity" { (Shown(&state.severity)) }
                                td.n data-label="Requests" { (number(state.count)) }
                                td data-label="Why" {
                                    @for reason in &state.reasons { p { (Shown(reason)) } }
                                    @if state.reasons.is_empty() { "-" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn records(answer: &Answer) -> Markup {
    let left_out = answer.left_out();
    html! {
        section {
            h2 { "Records" }
            @if left_out > 0 {
                p.note {
                    "The first and the last are shown; " (number(left_out))
                    " in between are not. --records N shows more."
                }
            }
            table.cards {
                thead {
                    tr {
                        th scope="col" { "Request" }
                        th scope="col" { "What became of it" }
                    }
                }
                tbody { @for record in &answer.records { (line(record)) } }
            }
        }
    }
}

fn line(record: &Record) -> Markup {
    html! {
        tr {
            td data-label="Request" { (request(record)) }
            td data-label="What became of it" {
                @for outcome in &record.outcomes {
                    p {
                        (Shown(&outcome.detection)) ": " (Shown(&outcome.why))
                        @if let (Some(before), Some(after)) = (outcome.before, outcome.after) {
                            ", " (number(before)) " before it in its window, "
                            (number(after)) " with it"
                        }
                    }
                }
            }
        }
    }
}

/// Which request a record is of.
fn request(record: &Record) -> Markup {
    let field = |name| record.fields.get(name).map_or("-", String::as_str);
    html! {
        p {
            @if let Some(at) = record.time { (time(at)) " " }
            (Shown(field("verb"))) " " (Shown(field("requestURI"))) " "
            (Shown(field("responseStatus.code")))
        }
        p {
            "user " (Shown(field("user.username"))) ", sources "
            (Shown(&record.sources.join(", "))) ", " (Shown(&record.place))
        }
    }
}

/// Each test of a record that does not match.
fn tests(outcome: &Outcome) -> Markup {
    html! {
        @if outcome.result == Verdict::NoMatch {
            ul {
                @for test in &outcome.tests {
                    li {
                        @if test.holds { "yes: " } @else { "no: " }
                        (Shown(&test.test)) ": "
                        @if test.values.is_empty() { "no value" }
                        @else { (Shown(&test.values.join(", "))) }
                    }
                }
            }
        }
    }
}
