//! Answers of receivers, and of what stands in front of them, by table.

use tonic_types::ErrorDetails;

use super::*;

/// The kind of an outcome, short enough for a table.
fn kind(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(count) => format!("accepted {count}"),
        Outcome::Partial {
            findings, rejected, ..
        } => format!("{rejected} of {findings} rejected"),
        Outcome::Retry { after: None, .. } => "retry".to_owned(),
        Outcome::Retry {
            after: Some(after), ..
        } => format!("retry after {after:?}"),
        Outcome::TooLarge { findings, .. } => format!("too large {findings}"),
        Outcome::Invalid { .. } => "invalid".to_owned(),
        Outcome::Refused { after: None, .. } => "refused".to_owned(),
        Outcome::Refused {
            after: Some(after), ..
        } => format!("refused, after {after:?}"),
    }
}

fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Partial { reason, .. }
        | Outcome::Retry { reason, .. }
        | Outcome::TooLarge { reason, .. }
        | Outcome::Invalid { reason, .. }
        | Outcome::Refused { reason, .. } => reason,
        Outcome::Accepted(count) => panic!("{count} were accepted"),
    }
}

#[test]
fn every_code_of_grpc_has_its_meaning() {
    let waiting = |code| {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        Status::with_error_details(code, "words", details)
    };
    for (code, bare, with_retry_info) in [
        (Code::Cancelled, "retry", "retry after 7s"),
        (Code::Unknown, "refused", "refused, after 7s"),
        (Code::InvalidArgument, "too large 3", "too large 3"),
        (Code::DeadlineExceeded, "retry", "retry after 7s"),
        (Code::NotFound, "refused", "refused, after 7s"),
        (Code::AlreadyExists, "refused", "refused, after 7s"),
        (Code::PermissionDenied, "refused", "refused, after 7s"),
        (Code::ResourceExhausted, "too large 3", "retry after 7s"),
        (Code::FailedPrecondition, "refused", "refused, after 7s"),
        (Code::Aborted, "retry", "retry after 7s"),
        (Code::OutOfRange, "retry", "retry after 7s"),
        (Code::Unimplemented, "refused", "refused, after 7s"),
        (Code::Internal, "refused", "refused, after 7s"),
        (Code::Unavailable, "retry", "retry after 7s"),
        (Code::DataLoss, "retry", "retry after 7s"),
        (Code::Unauthenticated, "refused", "refused, after 7s"),
    ] {
        let outcome = grpc(&Status::new(code, "words"), 3, &[]);
        assert_eq!(kind(&outcome), bare, "{code:?}");
        let message = reason(outcome);
        let named = format!("{} \"words\"", name(code));
        assert!(message.starts_with(&named), "{message}");
        assert_eq!(
            kind(&grpc(&waiting(code), 3, &[])),
            with_retry_info,
            "{code:?}"
        );
    }
    let long = ErrorDetails::with_retry_info(Some(Duration::from_hours(99)));
    let long = Status::with_error_details(Code::Unavailable, "", long);
    assert_eq!(kind(&grpc(&long, 3, &[])), "retry after 3600s");
}

#[test]
fn what_no_server_said_is_tried_again() {
    let mut status = Status::internal("broken by s3cret");
    status.set_source(std::sync::Arc::new(std::io::Error::other("x")));
    let outcome = grpc(&status, 3, &["s3cret".into()]);
    assert_eq!(outcome, Outcome::retry("broken by [hidden]"));
}

#[test]
fn a_partial_success_is_a_loss_or_a_warning() {
    let judged = |rejected, message: &str| {
        let partial = ExportLogsPartialSuccess {
            rejected_log_records: rejected,
            error_message: message.to_owned(),
        };
        let judged = accepted(Some(&partial), 3, &["s3cret".into()]);
        (kind(&judged.outcome), judged.warning)
    };
    assert_eq!(judged(0, ""), ("accepted 3".to_owned(), None));
    let warning = Some("\"slow [hidden]\\u{1b}\"".to_owned());
    assert_eq!(
        judged(0, "slow s3cret\x1b"),
        ("accepted 3".to_owned(), warning.clone())
    );
    assert_eq!(
        judged(-1, "slow s3cret\x1b"),
        ("accepted 3".to_owned(), warning)
    );
    assert_eq!(judged(2, "x"), ("2 of 3 rejected".to_owned(), None));
    assert_eq!(judged(9, "x"), ("3 of 3 rejected".to_owned(), None));
}

fn answer<'a>(status: u16, content_type: &'a str, body: &'a [u8]) -> Answer<'a> {
    Answer {
        status,
        content_type,
        body,
        findings: 3,
        ..Answer::default()
    }
}

const PROTO: &str = "application/x-protobuf";
const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html";

#[test]
fn every_status_of_http_has_its_meaning() {
    for (status, wanted) in [
        (204, "accepted 3"),
        (301, "refused"),
        (308, "refused"),
        (400, "refused"),
        (401, "refused"),
        (403, "refused"),
        (404, "refused"),
        (405, "refused"),
        (408, "retry"),
        (413, "too large 3"),
        (415, "refused"),
        (429, "retry"),
        (500, "refused"),
        (501, "refused"),
        (502, "retry"),
        (503, "retry"),
        (504, "retry"),
        (505, "refused"),
    ] {
        let outcome = http(&answer(status, "", b"")).outcome;
        assert_eq!(kind(&outcome), wanted, "{status}");
        if status > 299 {
            let message = reason(outcome);
            assert!(
                message.starts_with(&format!("HTTP {status} without a body")),
                "{message}"
            );
        }
    }
    let waiting = Answer {
        retry_after: Some("9"),
        ..answer(503, "", b"")
    };
    assert_eq!(kind(&http(&waiting).outcome), "retry after 9s");
}

#[test]
fn only_a_receivers_own_words_are_an_acceptance() {
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 2,
            error_message: "too old".to_owned(),
        }),
    }
    .encode_to_vec();
    let in_json = br#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}"#;
    for (kind_of_body, body, wanted) in [
        (PROTO, &b""[..], "accepted 3"),
        ("", b"", "accepted 3"),
        (JSON, b"{}", "accepted 3"),
        (JSON, br#"{"partialSuccess":null,"x":1}"#, "accepted 3"),
        (
            JSON,
            br#"{"partialSuccess":{"rejectedLogRecords":2}}"#,
            "2 of 3 rejected",
        ),
        (JSON, br#"{"partialSuccess":{}}"#, "accepted 3"),
        (JSON, in_json, "2 of 3 rejected"),
        (PROTO, &partial, "2 of 3 rejected"),
        (PROTO, b"<html>", "retry"),
        (JSON, b"<html>", "retry"),
        (HTML, b"<html>", "retry"),
        ("", b"OK", "retry"),
    ] {
        let outcome = http(&answer(200, kind_of_body, body)).outcome;
        assert_eq!(kind(&outcome), wanted, "{kind_of_body} {body:?}");
    }
    let message = reason(http(&answer(200, JSON, in_json)).outcome);
    assert_eq!(
        message,
        "the receiver rejects 2 of 3 findings and does not say which: \"too old\""
    );
}

#[test]
fn reasons_are_the_receivers_words_safe_and_short() {
    let status = tonic_types::Status {
        code: 3,
        message: "bad\x1b s3cret".to_owned(),
        details: Vec::new(),
    }
    .encode_to_vec();
    let secrets = ["s3cret".into()];
    for (status, kind, body, wanted) in [
        (
            400,
            PROTO,
            &status[..],
            "HTTP 400 \"bad\\u{1b} [hidden]\": ",
        ),
        (
            400,
            JSON,
            br#"{"code":3,"message":"bad s3cret"}"#,
            "HTTP 400 \"bad [hidden]\": ",
        ),
        (
            404,
            HTML,
            b"<html>\n s3cret",
            "HTTP 404 with a body that starts \"<html> [hidden]\": is endpoint right?",
        ),
        (
            403,
            JSON,
            b"[1]",
            "HTTP 403 with a body that starts \"[1]\": ",
        ),
    ] {
        let answer = Answer {
            secrets: &secrets,
            ..answer(status, kind, body)
        };
        let message = reason(http(&answer).outcome);
        assert!(message.starts_with(wanted), "{message}");
    }
    let huge = reason(http(&answer(502, HTML, &vec![b'x'; 64 * 1024])).outcome);
    assert!(huge.len() < 300, "{huge}");
}
