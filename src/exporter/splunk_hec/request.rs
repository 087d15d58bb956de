//! Batches as HEC requests. Pure.
//!
//! A request is the longest beginning of a batch that fits into `max_content_length_logs`; its
//! body is the events one after the other, which is how HEC takes several.

use std::sync::Arc;

use super::{
    config::Format,
    event::{self, Metadata},
    risk,
};
use crate::{
    detection::Finding,
    exporter::{Outcome, smaller},
};

/// What the configuration says about every request.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// About every event.
    pub metadata: Metadata,
    /// What the events are.
    pub format: Format,
    /// Most bytes of a body before compression; 0: no limit.
    pub max_content_length: usize,
    /// Most bytes of one event; 0: no limit.
    pub max_event_size: usize,
}

/// One request to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its body, before compression.
    pub body: Vec<u8>,
    /// How many findings from the front of the batch it holds, at least one.
    pub findings: usize,
    /// Which of them each event is of: not every state makes one.
    pub events: Vec<usize>,
}

impl Request {
    /// What an outcome, which is about events, says of the findings.
    pub fn of_findings(&self, outcome: Outcome) -> Outcome {
        let of = |event: usize| self.events.get(event).copied();
        match outcome {
            Outcome::Accepted(events) if events >= self.events.len() => {
                Outcome::Accepted(self.findings)
            }
            // What comes before the first event that was not accepted is done with.
            Outcome::Accepted(events) => Outcome::Accepted(of(events).unwrap_or(0)),
            Outcome::Invalid { index, reason } => Outcome::Invalid {
                index: of(index).unwrap_or(usize::MAX),
                reason,
            },
            Outcome::TooLarge {
                findings: 0 | 1,
                reason,
            } => match of(0) {
                Some(index) => Outcome::Invalid { index, reason },
                None => Outcome::Accepted(self.findings),
            },
            Outcome::TooLarge { reason, .. } => Outcome::TooLarge {
                findings: self.findings,
                reason,
            },
            other => other,
        }
    }
}

/// Builds the first request for `batch`.
///
/// # Errors
/// [`Outcome::Invalid`] names a finding that no request can hold; everything before it was
/// looked at in vain, for the caller is to give that one up and ask again.
pub fn first(batch: &[Arc<Finding>], shape: &Shape) -> Result<Request, Outcome> {
    let limit = |most: usize| if most == 0 { usize::MAX } else { most };
    let (most, most_of_one) = (limit(shape.max_content_length), limit(shape.max_event_size));
    let mut body = Vec::new();
    let mut findings = 0;
    let mut events = Vec::new();
    for (index, finding) in batch.iter().enumerate() {
        let Some(event) = event(finding, shape, most_of_one.min(most))
            .map_err(|reason| Outcome::Invalid { index, reason })?
        else {
            findings += 1;
            continue;
        };
        if body.len().saturating_add(event.len()) > most {
            break;
        }
        body.extend_from_slice(&event);
        events.push(index);
        findings += 1;
    }
    Ok(Request {
        body,
        findings,
        events,
    })
}

/// Whether the state of a finding makes an event.
pub fn makes_event(finding: &Finding, shape: &Shape) -> bool {
    match shape.format {
        Format::Finding => true,
        Format::Risk(_) => risk::makes_event(finding),
    }
}

/// The event of a finding, of at most `most` bytes: what is too large loses evidence, not itself.
/// `None` when its state makes no event.
fn event(finding: &Finding, shape: &Shape, most: usize) -> Result<Option<Vec<u8>>, String> {
    let no_json = |error| format!("the finding has no JSON form: {error}");
    let mut event = match &shape.format {
        Format::Finding => event::encode(finding, &shape.metadata),
        Format::Risk(settings) => {
            let Some(text) = risk::text(finding, settings) else {
                return Ok(None);
            };
            // As Splunk's own: the source of a risk event is the search that found it.
            let source = match shape.metadata.source.as_str() {
                "" => risk::search_name(finding, settings),
                source => source.to_owned(),
            };
            let metadata = Metadata {
                source,
                ..shape.metadata.clone()
            };
            event::encode_risk(finding, &text, &metadata)
        }
    }
    .map_err(no_json)?;
    let mut smaller = None;
    while event.len() > most {
        let next = match shape.format {
            Format::Finding => {
                // A column is there twice, as a field too: half as much may be enough.
                let excess = event.len().saturating_sub(most) / 2;
                smaller::without(smaller.as_ref().unwrap_or(finding), excess)
            }
            // The text of a risk has a bound of its own, far below.
            Format::Risk(_) => None,
        };
        let Some(next) = next else {
            return Err(format!(
                "the event of {} bytes is larger than max_event_size and \
                 max_content_length_logs allow ({most}): raise them, and Splunk's own limit with them",
                event.len(),
            ));
        };
        event = event::encode(&next, &shape.metadata).map_err(no_json)?;
        smaller = Some(next);
    }
    Ok(Some(event))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::exporter::samples;

    fn ids(body: &[u8]) -> Vec<u64> {
        serde_json::Deserializer::from_slice(body)
            .into_iter::<Value>()
            .map(|event| {
                let event = event.unwrap();
                u64::from_str_radix(event["event"]["finding_id"].as_str().unwrap(), 16).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_request_holds_what_fits() {
        let batch = samples::findings(5);
        let size = event::encode(&batch[0], &Metadata::default())
            .unwrap()
            .len();
        for (limit, held) in [(0, 5), (5 * size, 5), (5 * size - 1, 4), (size, 1)] {
            let shape = Shape {
                max_content_length: limit,
                ..Shape::default()
            };
            let request = first(&batch, &shape).unwrap();
            assert_eq!(request.findings, held, "{limit}");
            assert_eq!(ids(&request.body), (0..held as u64).collect::<Vec<_>>());
            assert!(limit == 0 || request.body.len() <= limit);
        }
    }

    #[test]
    fn what_no_request_can_hold_is_invalid() {
        let mut batch = samples::findings(3);
        let size = event::encode(&batch[0], &Metadata::default())
            .unwrap()
            .len();
        let mut large = Finding::clone(&batch[1]);
        large.drilldown_search = "x".repeat(size);
        batch[1] = Arc::new(large);
        for (max_content_length, max_event_size) in [(0, size), (size, 0), (2 * size, size)] {
            let shape = Shape {
                max_content_length,
                max_event_size,
                ..Shape::default()
            };
            let Err(Outcome::Invalid { index, reason }) = first(&batch, &shape) else {
                panic!("{shape:?}")
            };
            assert_eq!(index, 1);
            assert!(reason.contains("max_event_size"), "{reason}");
        }
        let shape = Shape {
            max_content_length: size,
            ..Shape::default()
        };
        assert!(matches!(
            first(&batch[1..], &shape),
            Err(Outcome::Invalid { index: 0, .. })
        ));
    }

    #[test]
    fn what_is_too_large_loses_evidence_and_says_so() {
        let mut finding = Finding::clone(&samples::opened(1));
        finding.paths = (0..64).map(|n| format!("/{n:099}")).collect();
        let batch = [Arc::new(finding)];
        let shape = |max_event_size| Shape {
            max_event_size,
            ..Shape::default()
        };
        let whole = first(&batch, &shape(0)).unwrap().body.len();
        for most in [whole - 1, whole / 3, 1000] {
            let body = first(&batch, &shape(most)).unwrap().body;
            let event: Value = serde_json::from_slice(&body).unwrap();
            assert!(
                body.len() <= most && body.len() > most / 4,
                "{most} {}",
                body.len()
            );
            // The largest list alone.
            assert_eq!(
                event["event"]["truncated"],
                serde_json::json!(["paths"]),
                "{most}"
            );
            assert_eq!(event["event"]["verbs"], serde_json::json!(["get"]));
            assert_eq!(event["event"]["count"], 6);
        }
    }
}
