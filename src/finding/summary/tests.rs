//! What the messages of findings say.

use super::{
    super::{Label, Member, annotate},
    *,
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn at(micros: i64) -> Timestamp {
    Micros(1_764_055_000 * SECOND + micros).to_proto()
}

fn request(user: &str, verb: &str, path: &str, code: &str, time: i64) -> Sample {
    Sample {
        time: Some(at(time)),
        verb: verb.to_owned(),
        path: path.to_owned(),
        code: code.to_owned(),
        user: user.to_owned(),
        user_agent: "curl/8.5.0".to_owned(),
        ..Sample::default()
    }
}

fn label(title: &str, count: u64) -> Label {
    Label {
        name: "a_name".to_owned(),
        title: title.to_owned(),
        count,
        ..Label::default()
    }
}

/// Six refused requests for six paths.
fn scan() -> Finding {
    Finding {
        state: "opened".to_owned(),
        severity: "high".to_owned(),
        cluster: "prod".to_owned(),
        src_ip: "203.0.113.7".to_owned(),
        count: 6,
        count_by_code: [("403".to_owned(), 6)].into(),
        distinct: [("paths".to_owned(), 6)].into(),
        first_time: Some(at(0)),
        last_time: Some(at(3_400_000)),
        labels: vec![label("Tries to read secrets", 2), label("curl", 6)],
        severity_reasons: texts(&[
            "Tries to read secrets: 2 of 6 requests, the first list /x (curl).",
        ]),
        ..Finding::default()
    }
}

/// The same, after a success of this time.
fn succeeded(successes: Vec<Sample>, count: u64) -> Finding {
    let mut finding = Finding {
        success_count: count,
        successes,
        ..scan()
    };
    annotate::successes(&mut finding);
    finding
}

#[test]
fn a_scan_says_how_much_why_and_what_else() {
    assert_eq!(
        summary(&scan()),
        "6 requests refused (403) within 3.4 s for 6 paths. Tries to read secrets: 2 of 6 requests, \
         the first list /x (curl). Labels: curl."
    );
    let plain = Finding {
        severity_reasons: texts(&["No label asks for more than the level of the rule, low."]),
        count_by_code: [("401".to_owned(), 2), ("403".to_owned(), 4)].into(),
        ..scan()
    };
    assert_eq!(
        summary(&plain),
        "6 requests refused (401: 2, 403: 4) within 3.4 s for 6 paths. Labels: Tries to read secrets \
         (2); curl."
    );
}

/// Who did what with which outcome, when, comes first.
#[test]
fn a_success_comes_first() {
    for (successes, count, wanted) in [
        (
            vec![request(
                "admin",
                "list",
                "/api/v1/namespaces",
                "200",
                4_100_000,
            )],
            1,
            "A request as admin succeeded: list /api/v1/namespaces (200), 0.7 s after the last \
             refused request. 6 requests refused",
        ),
        (
            vec![
                request("", "get", "/metrics", "200", 1_000_000),
                request("system:anonymous", "get", "/metrics", "200", 1_000_000),
                request("jane", "create", "/x", "201", 9_000_000),
                request("joe", "create", "/x", "201", 9_000_000),
            ],
            12,
            "12 requests succeeded, the first without credentials: get /metrics (200), while \
             other requests were still refused; others as jane, as joe. 6 requests refused",
        ),
        (
            vec![request("jane", "get", "/x", "200", -30_000_000)],
            1,
            "A request as jane succeeded: get /x (200), 30 s before the first refused request. 6",
        ),
        (
            vec![request("jane", "get", "/x", "200", 8 * 3600 * SECOND)],
            1,
            "A request as jane succeeded: get /x (200), 7 h after the last refused request. 6",
        ),
        (
            vec![],
            2,
            "2 requests from this address succeeded. 6 requests refused",
        ),
    ] {
        let finding = succeeded(successes, count);
        let text = summary(&finding);
        assert!(text.starts_with(wanted), "{text}");
        assert_eq!(finding.severity, "critical");
        assert!(text.contains("Tries to read secrets: 2 of 6"), "{text}");
    }
}

/// A finding of successes alone has no refused requests to measure from.
#[test]
fn a_finding_of_successes_says_them_once() {
    let mut finding = succeeded(vec![request("jane", "get", "/x", "200", 0)], 1);
    finding.count = 1;
    finding.count_by_code = [("200".to_owned(), 1)].into();
    (finding.labels, finding.severity_reasons) = Default::default();
    annotate::successes(&mut finding);
    assert_eq!(
        summary(&finding),
        "A request as jane succeeded: get /x (200)."
    );
}

#[test]
fn an_update_says_what_is_new_and_the_last_state_why_it_ended() {
    let finding = Finding {
        new: Some(New {
            paths: texts(&["/a", "/b", "/c", "/d"]),
            severity_before: "low".to_owned(),
            count: 6,
            ..New::default()
        }),
        ..scan()
    };
    let text = summary(&finding);
    let wanted = " New: severity (was low); paths /a, /b, /c and 1 more; 6 requests. Labels: curl.";
    assert!(text.ends_with(wanted), "{text}");
    let of = |reason: &str| Finding {
        close_reason: reason.to_owned(),
        ..scan()
    };
    assert!(summary(&of("quiet")).ends_with(" Closed: no request for a whole window."));
    assert!(summary(&of("evicted")).ends_with(" Closed early: the state was full."));
}

#[test]
fn it_says_what_the_count_may_lack() {
    let finding = Finding {
        unverified: 3,
        count_error: 2,
        duplicates: 194,
        time_clamped: true,
        ..scan()
    };
    let text = summary(&finding);
    for wanted in [
        "too high by 3:",
        "too low by 2:",
        "194 more were taken for repeated deliveries",
        "set to their time of receipt",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let some = Finding {
        duplicates: 5,
        ..scan()
    };
    assert_eq!(summary(&some), summary(&scan()), "as a Collector delivers");
}

#[test]
fn a_finding_of_several_names_those_with_most_requests() {
    let member = |at: u64| Member {
        source: format!("198.51.100.{at}"),
        count: 9 - at,
        finding_id: if at < 2 {
            "x".to_owned()
        } else {
            String::new()
        },
    };
    let finding = Finding {
        members: (0..5).map(member).collect(),
        member_count: 40,
        ..scan()
    };
    let wanted = " Most requests: 198.51.100.0 (9), 198.51.100.1 (8), 198.51.100.2 (7) and 37 more; \
                  at least 2 with a finding of their own.";
    assert!(summary(&finding).contains(wanted));
}

#[test]
fn one_request_is_shown_whole() {
    let one = Finding {
        count: 1,
        count_by_code: [("101".to_owned(), 1)].into(),
        samples: vec![request("jane", "create", "/api/v1/pods/x/exec", "101", 0)],
        ..Finding::default()
    };
    assert_eq!(
        summary(&one),
        "create /api/v1/pods/x/exec (101) by curl/8.5.0."
    );
    let two = Finding { count: 2, ..one };
    assert_eq!(
        summary(&two),
        "2 requests (101), the first create /api/v1/pods/x/exec (101)."
    );
    assert_eq!(summary(&Finding::default()), "");
}

/// Whatever a client writes: one line, of a bounded length, in which nothing acts or hides.
#[test]
fn what_a_client_wrote_stays_in_bounds() {
    let evil = "\u{1b}[31m\n\u{202e}\"'\\".repeat(400);
    let mut finding = succeeded(vec![request(&evil, &evil, &evil, &evil, 0); 10], 10);
    finding.severity_reasons.extend(vec![evil.clone(); 5]);
    finding.count_by_code = (0..20).map(|at| (format!("{at}{evil}"), 1)).collect();
    finding.labels = vec![label(&evil, 1); 20];
    finding.close_reason.clone_from(&evil);
    finding.members = vec![
        Member {
            source: evil.clone(),
            ..Member::default()
        };
        9
    ];
    finding.new = Some(New {
        paths: vec![evil.clone(); 9],
        users: vec![evil; 9],
        ..New::default()
    });
    let text = summary(&finding);
    assert!(text.chars().all(crate::visible::is_visible), "{text}");
    assert!(text.chars().count() < 5000, "{}", text.chars().count());
}

#[test]
fn a_message_with_its_place_is_whole() {
    let mut finding = scan();
    finding.message = "a scan on cluster prod (high): much".to_owned();
    assert!(is_whole(&finding));
    finding.message = "a scan on cluster prod: high".to_owned();
    assert!(!is_whole(&finding));
    assert!(!is_whole(&Finding {
        message: " on cluster unknown (".to_owned(),
        ..Finding::default()
    }));
}

/// A client cannot end a sentence of the message and begin one of its own.
#[test]
fn what_could_be_a_sentence_is_quoted() {
    for (text, wanted) in [
        ("curl/8.5.0", "curl/8.5.0"),
        ("Go-http-client/2.0 x", "Go-http-client/2.0 x"),
        ("x. Closed: known test", "\"x. Closed: known test\""),
        ("x) Benign", "\"x) Benign\""),
        ("(x. Benign)", "\"(x. Benign)\""),
        (
            "kubectl/v1.28.3 (linux/amd64) kubernetes/a8a1abc",
            "kubectl/v1.28.3 (linux/amd64) kubernetes/a8a1abc",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64)",
            "Mozilla/5.0 (X11; Linux x86_64)",
        ),
        ("a \"b\"", "a \"b\""),
        ("a \"b\". C", "\"a \\\"b\\\". C\""),
    ] {
        assert_eq!(value(text, 64), wanted);
    }
}
