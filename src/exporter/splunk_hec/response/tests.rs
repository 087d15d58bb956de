//! Answers of HEC, and of what stands in front of it, by table.

use proptest::prelude::*;

use super::*;
use crate::exporter::text;

fn answer(status: u16, body: &str) -> Answer<'_> {
    Answer {
        status,
        body,
        events: 3,
        ..Answer::default()
    }
}

fn coded(status: u16, code: i64) -> Outcome {
    judge(&answer(
        status,
        &format!(r#"{{"text":"words","code":{code}}}"#),
    ))
}

/// The kind of an outcome, short enough for a table.
fn kind(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(count) => format!("accepted {count}"),
        Outcome::Partial { .. } => "partial".to_owned(),
        Outcome::Retry { .. } => "retry".to_owned(),
        Outcome::TooLarge { findings, .. } => format!("too large {findings}"),
        Outcome::Invalid { index, .. } => format!("invalid {index}"),
        Outcome::Refused { .. } => "refused".to_owned(),
    }
}

#[test]
fn every_documented_code_has_its_meaning() {
    for (status, code, wanted) in [
        (200, 0, "accepted 3"),
        (403, 1, "refused"),
        (401, 2, "refused"),
        (401, 3, "refused"),
        (403, 4, "refused"),
        (400, 5, "too large 3"),
        (400, 6, "too large 3"),
        (400, 7, "refused"),
        (500, 8, "retry"),
        (503, 9, "retry"),
        (400, 10, "refused"),
        (400, 11, "refused"),
        (400, 12, "too large 3"),
        (400, 13, "too large 3"),
        (400, 14, "refused"),
        (400, 15, "too large 3"),
        (400, 16, "refused"),
        (200, 17, "retry"),
        (503, 18, "retry"),
        (503, 19, "retry"),
        (503, 20, "retry"),
        (400, 21, "refused"),
        (400, 22, "refused"),
        (503, 23, "retry"),
        (200, 24, "accepted 3"),
        (200, 25, "accepted 3"),
        (429, 26, "retry"),
        (429, 27, "retry"),
    ] {
        assert_eq!(
            kind(&coded(status, code)),
            wanted,
            "HTTP {status}, code {code}"
        );
    }
}

#[test]
fn a_status_alone_is_enough() {
    for body in [
        "",
        "<html><title>x</title></html>",
        "null",
        "[]",
        "{\"code\":\"0\"}",
        "{\"code\":",
    ] {
        for (status, wanted) in [
            (200, "retry"),
            (204, "retry"),
            (301, "refused"),
            (307, "refused"),
            (400, "refused"),
            (401, "refused"),
            (403, "refused"),
            (404, "refused"),
            (405, "refused"),
            (407, "refused"),
            (408, "retry"),
            (413, "too large 3"),
            (415, "refused"),
            (429, "retry"),
            (500, "retry"),
            (501, "retry"),
            (502, "retry"),
            (503, "retry"),
            (504, "retry"),
            (599, "retry"),
            (999, "retry"),
            (100, "retry"),
        ] {
            assert_eq!(
                kind(&judge(&answer(status, body))),
                wanted,
                "HTTP {status} {body:?}"
            );
        }
    }
}

#[test]
fn the_event_at_fault_is_named_or_searched_for() {
    let body = |number: &str| {
        format!(
            r#"{{"text":"Error in handling indexed fields","code":15,"invalid-event-number":{number}}}"#
        )
    };
    for (number, events, wanted) in [
        ("0", 3, "invalid 0"),
        ("2", 3, "invalid 2"),
        ("3", 3, "too large 3"),
        ("null", 3, "too large 3"),
        ("-1", 3, "too large 3"),
        ("\"1\"", 3, "too large 3"),
        ("0", 1, "invalid 0"),
        ("7", 1, "invalid 0"),
        ("null", 1, "invalid 0"),
    ] {
        let body = body(number);
        let outcome = judge(&Answer {
            status: 400,
            body: &body,
            events,
            ..Answer::default()
        });
        assert_eq!(kind(&outcome), wanted, "number {number} of {events}");
    }
}

#[test]
fn health_is_what_hec_itself_says() {
    for (status, body, wanted) in [
        (200, r#"{"text":"HEC is healthy","code":17}"#, None),
        (200, r#"{"text":"near capacity","code":24}"#, None),
        (200, "<html>Welcome</html>", Some("something else")),
        (200, "", Some("something else")),
        (302, "", Some("redirects")),
        (
            400,
            r#"{"text":"Invalid token","code":21}"#,
            Some("set token"),
        ),
        (
            400,
            r#"{"text":"Token disabled","code":22}"#,
            Some("enable it"),
        ),
        (
            401,
            r#"{"text":"Token is required","code":2}"#,
            Some("header"),
        ),
        (
            403,
            r#"{"text":"Invalid token","code":4}"#,
            Some("set token"),
        ),
        (404, "", Some("health_path")),
        (503, r#"{"text":"queues are full","code":18}"#, Some("busy")),
        (503, r#"{"text":"both","code":20}"#, Some("busy")),
        (
            503,
            r#"{"text":"shutting down","code":23}"#,
            Some("not ready"),
        ),
        (502, "<html>", Some("not ready")),
        (405, "", Some("health_path")),
    ] {
        let message = health(&answer(status, body)).err();
        assert_eq!(
            message.is_some(),
            wanted.is_some(),
            "{status} {body}: {message:?}"
        );
        if let (Some(message), Some(wanted)) = (message, wanted) {
            assert!(message.starts_with(&format!("HTTP {status}")), "{message}");
            assert!(message.contains(wanted), "{message}");
        }
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    for (header, wanted) in [
        ("17", Some(17)),
        (" 0 ", Some(0)),
        ("99999999", Some(3600)),
        ("Tue, 25 Nov 2025 07:17:33 GMT", Some(30)),
        ("Tue, 25 Nov 2025 07:16:33 GMT", Some(0)),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("99999999999999999999999", None),
    ] {
        let answer = Answer {
            status: 503,
            retry_after: Some(header),
            now: 1_764_055_023,
            ..answer(503, "")
        };
        let Outcome::Retry { after, .. } = judge(&answer) else {
            panic!("{header}")
        };
        assert_eq!(after.map(|after| after.as_secs()), wanted, "{header}");
    }
}

#[test]
fn reasons_say_what_was_said_and_what_to_do() {
    let reason = |outcome| match outcome {
        Outcome::Refused { reason, .. } | Outcome::Retry { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let wrong = judge(&answer(403, r#"{"text":"Invalid token","code":4}"#));
    let wrong = reason(wrong);
    assert!(
        wrong.starts_with("HTTP 403, code 4 \"Invalid token\": "),
        "{wrong}"
    );
    assert!(wrong.contains("set token"), "{wrong}");
    let page = reason(judge(&answer(
        502,
        "<html>\n  <h1>Bad \x1b[31mGateway</h1>",
    )));
    assert_eq!(
        page,
        "HTTP 502 with a body that starts \"<html> <h1>Bad \\u{1b}[31mGateway</h1>\""
    );
    let huge = reason(judge(&answer(502, &"x".repeat(64 * 1024))));
    assert!(huge.len() < 300, "{huge}");
}

#[test]
fn a_token_that_comes_back_is_not_repeated() {
    let token = "5ecre7";
    let page = format!(
        "{} Authorization: Splunk {token}",
        "x".repeat(text::EXCERPT - 27)
    );
    for body in [
        page,
        format!(r#"{{"code":4,"text":"unknown token {token}"}}"#),
    ] {
        let outcome = judge(&Answer {
            secrets: &[token.into()],
            ..answer(403, &body)
        });
        let Outcome::Refused { reason, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(
            !reason.contains("5ec") && reason.contains("[hid"),
            "{reason}"
        );
    }
    // Even a secret that is part of every reply does not change what the reply means.
    assert_eq!(
        judge(&Answer {
            secrets: &["code".into()],
            ..answer(200, r#"{"code":0}"#)
        }),
        Outcome::Accepted(3)
    );
}

/// What a proxy or Splunk itself repeats of a request, whatever the status.
fn hostile(token: &str) -> impl Strategy<Value = (u16, String)> + use<> {
    let percent: Vec<String> = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let echo = serde_json::to_string(&format!("Splunk {token}")).unwrap();
    let bodies = [
        format!(r#"{{"code":4,"text":{echo}}}"#),
        format!(r#"{{"code":6,"text":"no","invalid-event-number":{echo}}}"#),
        format!("<html>Authorization: Splunk {token}</html>"),
        format!("<a href=/login?token={}>again</a>", percent.concat()),
        format!("{{\"headers\":{{\"authorization\":{echo}}}}}"),
        echo,
    ];
    (100..=599_u16, proptest::sample::select(bodies.to_vec()))
}

proptest! {
    #[test]
    fn no_judgement_shows_the_token(
        (token, (status, body)) in "[!-~]{4,36}"
            .prop_filter("words of ours", |token| !"HTTP code text html Splunk".contains(token.as_str()))
            .prop_flat_map(|token| (Just(token.clone()), hostile(&token)))
    ) {
        let answer = Answer { secrets: &[token.as_str().into()], ..answer(status, &body) };
        let message = format!("{:?} {:?} {}", judge(&answer), health(&answer), describe(&answer));
        let word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        for (at, _) in message.match_indices(&token) {
            let (before, rest) = message.split_at(at);
            let (_, after) = rest.split_at(token.len());
            // One of few letters may be part of a word of ours.
            prop_assert!(
                token.len() < 8 && (word(before.chars().next_back()) || word(after.chars().next())),
                "{message}"
            );
        }
    }

    #[test]
    fn no_short_token_spoils_a_judgement(
        status in 100..=599_u16, body in "[a-z <>{}\"]{0,60}", token in "[te ]",
    ) {
        let without = answer(status, &body);
        let with = Answer { secrets: &[token.as_str().into()], ..without };
        prop_assert_eq!(judge(&with), judge(&without));
        prop_assert_eq!(describe(&with), describe(&without));
    }
}
