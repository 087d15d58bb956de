//! What an answer of an OTLP receiver means. Pure.
//!
//! The tables are those of the OTLP specification for clients, but for one thing. Where it says not
//! to retry, the findings are at fault only if the receiver says so; else an operator can mend it,
//! and they wait.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse,
};
use prost::Message as _;
use secrecy::SecretString;
use serde::Deserialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    exporter::{
        Outcome,
        http_client::{RETRY_AFTER_MAX, retry_after},
        text::quoted,
    },
    redact,
};

/// What an answer means, and what the receiver wants to be known beside that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What becomes of the findings.
    pub outcome: Outcome,
    /// A warning of a receiver that took everything.
    pub warning: Option<String>,
}

impl From<Outcome> for Judged {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            warning: None,
        }
    }
}

/// Judges the acceptance of a request with this number of findings.
pub fn accepted(
    partial: Option<&ExportLogsPartialSuccess>,
    findings: usize,
    secrets: &[SecretString],
) -> Judged {
    let Some(partial) = partial else {
        return Outcome::Accepted(findings).into();
    };
    let text = quoted(&partial.error_message, secrets);
    match usize::try_from(partial.rejected_log_records) {
        Ok(rejected) if rejected > 0 => Outcome::Partial {
            findings,
            rejected: rejected.min(findings),
            reason: format!(
                "the receiver rejects {rejected} of {findings} findings and does not say which: \
                 {text}"
            ),
        }
        .into(),
        _ => Judged {
            outcome: Outcome::Accepted(findings),
            warning: (!partial.error_message.is_empty()).then_some(text),
        },
    }
}

/// Judges a status of gRPC that is not OK, in answer to a request with this number of findings.
pub fn grpc(status: &Status, findings: usize, secrets: &[SecretString]) -> Outcome {
    use std::error::Error as _;

    if status.source().is_some() {
        // There was no answer. The end of a connection may carry text of its own, though.
        return Outcome::retry(redact::hidden(status.message(), secrets));
    }
    let summary = format!(
        "{} {}",
        name(status.code()),
        quoted(status.message(), secrets)
    );
    let after = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .map(|delay| delay.min(RETRY_AFTER_MAX));
    let hint = match status.code() {
        // What receivers made with tonic call a message that is too large.
        Code::OutOfRange if is_of_size(status.message()) => {
            return Outcome::TooLarge {
                findings,
                reason: format!("{summary}: the receiver takes no message of this size"),
            };
        }
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => return retry(summary, after),
        Code::ResourceExhausted if after.is_some() => return retry(summary, after),
        // One alone that is not called too large is refused for want of room or of a quota.
        Code::ResourceExhausted if findings > 1 || is_of_size(status.message()) => {
            return Outcome::TooLarge {
                findings,
                reason: format!("{summary}: too large, or the receiver has no room for it"),
            };
        }
        Code::ResourceExhausted => {
            "the receiver has no room or a quota is used up, raise its limits"
        }
        Code::Unauthenticated => {
            "the receiver does not know us, set headers or a client certificate"
        }
        Code::PermissionDenied => "we may not send there, check headers and the receiver's rights",
        Code::Unimplemented => {
            "the receiver takes no logs or not this compression, check endpoint and compression"
        }
        Code::InvalidArgument => return at_fault(&summary, findings),
        _ => "look into the receiver's log",
    };
    refused(&summary, hint, after)
}

/// An answer over HTTP, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// Status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'a str,
    /// `Retry-After`: seconds or an HTTP date.
    pub retry_after: Option<&'a str>,
    /// The beginning of the body.
    pub body: &'a [u8],
    /// Findings in the request that is answered.
    pub findings: usize,
    /// The wall clock, in seconds since 1970.
    pub now: i64,
    /// What no message may hold.
    pub secrets: &'a [SecretString],
}

/// Judges an answer over HTTP.
pub fn http(answer: &Answer<'_>) -> Judged {
    if (200..=299).contains(&answer.status) {
        return match acceptance(answer) {
            Some(response) => accepted(
                response.partial_success.as_ref(),
                answer.findings,
                answer.secrets,
            ),
            None => Outcome::retry(format!(
                "{}: that is no answer of an OTLP receiver, does something else answer there?",
                summary(answer)
            ))
            .into(),
        };
    }
    let summary = summary(answer);
    let after = answer
        .retry_after
        .and_then(|text| retry_after(text, answer.now));
    let hint = match answer.status {
        408 | 429 | 502..=504 => return retry(summary, after).into(),
        413 => {
            return Outcome::TooLarge {
                findings: answer.findings,
                reason: format!("{summary}: the receiver takes no request of this size"),
            }
            .into();
        }
        300..=399 => {
            "redirects are not followed because headers would travel with them, set endpoint to \
             where it leads"
        }
        400 if message(answer).is_some() => return at_fault(&summary, answer.findings).into(),
        400 => "that is no answer of an OTLP receiver, is endpoint right, and is it http or https?",
        401 => "the receiver does not know us, set headers or a client certificate",
        403 => "we may not send there, check headers and the receiver's rights",
        404 => "is endpoint right? /v1/logs is appended to it, logs_endpoint is taken as it is",
        405 => "is endpoint that of an OTLP receiver?",
        415 => "the receiver does not take this form, set encoding or compression to another",
        _ => "look into the receiver's log",
    };
    refused(&summary, hint, after).into()
}

/// The message of a 2xx answer; `None` when it is not from an OTLP receiver. The body may be empty.
fn acceptance(answer: &Answer<'_>) -> Option<ExportLogsServiceResponse> {
    if answer.body.is_empty() {
        return Some(ExportLogsServiceResponse::default());
    }
    match form(answer) {
        Some(Form::Proto) => ExportLogsServiceResponse::decode(answer.body).ok(),
        Some(Form::Json) => {
            let reply: Reply = serde_json::from_slice(answer.body).ok()?;
            let partial = reply
                .partial_success
                .map(|partial| ExportLogsPartialSuccess {
                    rejected_log_records: partial.rejected.as_ref().map_or(0, count),
                    error_message: partial.message.unwrap_or_default(),
                });
            Some(ExportLogsServiceResponse {
                partial_success: partial,
            })
        }
        None => None,
    }
}

#[derive(Deserialize)]
struct Reply {
    #[serde(rename = "partialSuccess")]
    partial_success: Option<Partial>,
}

#[derive(Deserialize)]
struct Partial {
    #[serde(rename = "rejectedLogRecords")]
    rejected: Option<serde_json::Value>,
    #[serde(rename = "errorMessage")]
    message: Option<String>,
}

/// A 64-bit number of OTLP/JSON: a text, or a number all the same.
fn count(value: &serde_json::Value) -> i64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    text.or_else(|| value.as_i64()).unwrap_or(0)
}

enum Form {
    Proto,
    Json,
}

fn form(answer: &Answer<'_>) -> Option<Form> {
    let kind = answer.content_type.split(';').next().unwrap_or_default();
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" | "application/protobuf" => Some(Form::Proto),
        "application/json" => Some(Form::Json),
        _ => None,
    }
}

/// Status and text of an answer, made safe for a log.
fn summary(answer: &Answer<'_>) -> String {
    let status = answer.status;
    match message(answer) {
        Some(message) if !message.is_empty() => {
            format!("HTTP {status} {}", quoted(&message, answer.secrets))
        }
        _ if answer.body.is_empty() => format!("HTTP {status} without a body"),
        _ => format!(
            "HTTP {status} with a body that starts {}",
            quoted(&String::from_utf8_lossy(answer.body), answer.secrets)
        ),
    }
}

/// What an OTLP receiver says of an error; `None` when something else answers.
fn message(answer: &Answer<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorBody {
        message: String,
    }
    match form(answer)? {
        Form::Proto if answer.body.is_empty() => None,
        Form::Proto => tonic_types::Status::decode(answer.body)
            .ok()
            .map(|status| status.message),
        Form::Json => serde_json::from_slice(answer.body)
            .ok()
            .map(|body: ErrorBody| body.message),
    }
}

/// Whether a receiver complains of the size of a message, in the words of gRPC libraries.
fn is_of_size(message: &str) -> bool {
    ["larger than", "too large", "exceeds"]
        .iter()
        .any(|words| message.contains(words))
}

/// Some finding is wrong, and the answer does not say which: halving the request finds it and saves
/// the others.
fn at_fault(summary: &str, findings: usize) -> Outcome {
    let reason = format!("{summary}: the receiver does not understand the finding");
    if findings == 1 {
        Outcome::Invalid { index: 0, reason }
    } else {
        Outcome::TooLarge { findings, reason }
    }
}

fn retry(reason: String, after: Option<Duration>) -> Outcome {
    Outcome::Retry { reason, after }
}

/// Nothing is wrong with the findings: what the hint says is for an operator to mend.
fn refused(summary: &str, hint: &str, after: Option<Duration>) -> Outcome {
    Outcome::Refused {
        reason: format!("{summary}: {hint}"),
        after,
    }
}

/// A code as it is written in the specification.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
