//! Requests one by one, as a table.

use maud::{Markup, html};

use super::shown::{Shown, time};
use crate::detection::{finding::Sample, time::Micros};

/// Requests one by one.
pub(super) fn samples(caption: &str, samples: &[Sample]) -> Markup {
    html! {
        @if !samples.is_empty() {
            table.cards.samples {
                caption { (caption) }
                thead {
                    tr {
                        th scope="col" { "Time" }
                        th scope="col" { "Code" }
                        th scope="col" { "Verb" }
                        th scope="col" { "Path" }
                        th scope="col" { "User" }
                        th scope="col" { "User agent" }
                        th scope="col" { "Audit id" }
                    }
                }
                tbody { @for sample in samples { (request(sample)) } }
            }
        }
    }
}

fn request(sample: &Sample) -> Markup {
    let at = sample.time.map(Micros::from_proto).unwrap_or_default();
    html! {
        tr {
            td data-label="Time" { (time(at)) }
            td data-label="Code" { (Shown(&sample.code)) }
            td data-label="Verb" { (Shown(&sample.verb)) }
            td.text data-label="Path" { (Shown(&sample.path)) }
            td.text data-label="User" { (Shown(&sample.user)) }
            td.text data-label="User agent" { (Shown(&sample.user_agent)) }
            td.text data-label="Audit id" { (Shown(&sample.audit_id)) }
        }
    }
}
