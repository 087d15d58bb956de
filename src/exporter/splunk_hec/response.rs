//! What an answer of HEC means. Pure.
//!
//! Splunk's replies carry a code in JSON, but a proxy between may answer in HTML or not at
//! all. Only a reply that says so itself is taken for acceptance: a proxy's friendly 200 is not.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use crate::exporter::{Outcome, http_client, text::quoted};

/// An answer, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`: seconds or an HTTP date.
    pub retry_after: Option<&'a str>,
    /// The first 64 KiB of the body: JSON, HTML, nothing.
    pub body: &'a str,
    /// Events in the request that is answered.
    pub events: usize,
    /// The wall clock, in seconds since 1970.
    pub now: i64,
    /// The token and other secrets: some proxies repeat the request in their error pages.
    pub secrets: &'a [SecretString],
}

/// HEC's own reply.
#[derive(Debug, Default, Deserialize)]
struct Reply {
    code: Option<i64>,
    text: Option<String>,
    #[serde(rename = "invalid-event-number")]
    invalid_event_number: Option<serde_json::Value>,
}

/// Judges an answer to a request with events.
pub fn judge(answer: &Answer<'_>) -> Outcome {
    let reply: Reply = serde_json::from_str(answer.body).unwrap_or_default();
    let summary = summary(answer, &reply);
    if matches!(reply.code, Some(8 | 9 | 18..=20 | 23 | 26 | 27)) {
        // Busy or shutting down, whatever the status; 18 to 20 are what health checks call it.
        return retry(answer, summary);
    }
    match (answer.status, reply.code) {
        // 24 and 25: accepted, but a queue is nearly full. The next answer will show.
        (200..=299, Some(0 | 24 | 25)) => Outcome::Accepted(answer.events),
        (200..=299, _) => retry(
            answer,
            format!("{summary}: that is no answer of Splunk's, does something else answer there?"),
        ),
        (300..=399, _) => refused(
            answer,
            &summary,
            "redirects are not followed because the token would travel with them, set endpoint \
             to where it leads",
        ),
        (400, Some(5 | 6 | 12 | 13 | 15)) => invalid(answer, &reply, summary),
        (400, Some(7)) => refused(
            answer,
            &summary,
            "add the index to those the token may write to, or set another index",
        ),
        (400, Some(10 | 11)) => refused(
            answer,
            &summary,
            "the token asks for indexer acknowledgement, set ack: {enabled: true} or use a token \
             without (useACK = 0)",
        ),
        (400, Some(14)) => refused(
            answer,
            &summary,
            "the token gives no acknowledgement, set useACK for it or remove ack",
        ),
        (400, Some(16)) => refused(
            answer,
            &summary,
            "remove the token from the query of endpoint, it travels in a header",
        ),
        (400, Some(21)) => refused(answer, &summary, token_hint(Some(4))),
        (400, Some(22)) => refused(answer, &summary, token_hint(Some(1))),
        (401 | 403, code) => refused(answer, &summary, token_hint(code)),
        // A rolling restart answers it for a while.
        (404, _) => refused(
            answer,
            &summary,
            "is HEC enabled, and is the path of endpoint right?",
        ),
        (413, _) => Outcome::TooLarge {
            findings: answer.events,
            reason: format!("{summary}: lower max_content_length_logs to what the receiver takes"),
        },
        (415, _) => refused(
            answer,
            &summary,
            "set disable_compression if something in between wants it",
        ),
        (..=199 | 408 | 429 | 500.., _) => retry(answer, summary),
        (400..=499, _) => refused(
            answer,
            &summary,
            "the request is not understood there, check endpoint",
        ),
    }
}

/// Judges what a health check was answered: well, or what is wrong and what to do about it.
pub fn health(answer: &Answer<'_>) -> Result<(), String> {
    let reply: Reply = serde_json::from_str(answer.body).unwrap_or_default();
    let hint = match (answer.status, reply.code) {
        (200..=299, Some(0 | 17 | 24 | 25)) => return Ok(()),
        (_, Some(18..=20)) => "HEC is there but busy, try again later",
        (_, Some(21)) => token_hint(Some(4)),
        (_, Some(22)) => token_hint(Some(1)),
        (401 | 403, code) => token_hint(code),
        (404, _) => "is HEC enabled, and is health_path right?",
        (200..=299, _) => "that is no answer of Splunk's, does something else answer there?",
        (300..=399, _) => "redirects are not followed, set endpoint to where it leads",
        (500.., _) => "Splunk or a proxy before it is not ready, try again later",
        _ => "check endpoint and health_path",
    };
    Err(format!("{}: {hint}", summary(answer, &reply)))
}

/// Status and text of an unexpected answer, made safe for a log.
pub(super) fn describe(answer: &Answer<'_>) -> String {
    summary(
        answer,
        &serde_json::from_str(answer.body).unwrap_or_default(),
    )
}

fn token_hint(code: Option<i64>) -> &'static str {
    match code {
        Some(1) => "the token is disabled, enable it in Splunk or set another token",
        Some(2 | 3) => "the token did not arrive as one, is something removing the header?",
        Some(4) => "Splunk does not know the token, set token to one that is enabled",
        _ => "access was refused, check token and the proxies between",
    }
}

/// One event is at fault. Splunk mostly says which; when it does not, halving the request finds it
/// in few requests and saves the others.
fn invalid(answer: &Answer<'_>, reply: &Reply, summary: String) -> Outcome {
    // A number that is none does not spoil the rest of the reply.
    let number = reply
        .invalid_event_number
        .as_ref()
        .and_then(serde_json::Value::as_u64);
    match number.and_then(|number| usize::try_from(number).ok()) {
        Some(index) if index < answer.events => Outcome::Invalid {
            index,
            reason: summary,
        },
        _ if answer.events == 1 => Outcome::Invalid {
            index: 0,
            reason: summary,
        },
        _ => Outcome::TooLarge {
            findings: answer.events,
            reason: summary,
        },
    }
}

fn retry(answer: &Answer<'_>, reason: String) -> Outcome {
    Outcome::Retry {
        reason,
        after: retry_after(answer),
    }
}

/// Nothing is wrong with the events: what the hint says is for an operator to mend.
fn refused(answer: &Answer<'_>, summary: &str, hint: &str) -> Outcome {
    Outcome::Refused {
        reason: format!("{summary}: {hint}"),
        after: retry_after(answer),
    }
}

/// Status and text of the answer, made safe for a log.
fn summary(answer: &Answer<'_>, reply: &Reply) -> String {
    let status = answer.status;
    match (reply.code, &reply.text) {
        (Some(code), Some(text)) => {
            format!(
                "HTTP {status}, code {code} {}",
                quoted(text, answer.secrets)
            )
        }
        (Some(code), None) => format!("HTTP {status}, code {code}"),
        (None, _) if answer.body.trim().is_empty() => format!("HTTP {status} without a body"),
        (None, _) => {
            format!(
                "HTTP {status} with a body that starts {}",
                quoted(answer.body, answer.secrets)
            )
        }
    }
}

fn retry_after(answer: &Answer<'_>) -> Option<Duration> {
    http_client::retry_after(answer.retry_after?, answer.now)
}

#[cfg(test)]
mod tests;
