//! What a filter may say, what is refused, and how long it takes.

use std::time::Instant;

use prost_types::Timestamp;

use super::*;
use crate::detection::finding::Label;

fn finding() -> Finding {
    Finding {
        finding_id: "0a".repeat(16),
        src_ip: "203.0.113.90".to_owned(),
        cluster: "prod".to_owned(),
        severity: "low".to_owned(),
        risk_score: 20,
        count: 12,
        window_seconds: 3600.0,
        paths: vec!["/api".to_owned(), "/healthz".to_owned()],
        codes: vec!["403".to_owned()],
        count_by_code: [("403".to_owned(), 12)].into(),
        first_time: Some(Timestamp {
            seconds: 1_764_055_023,
            nanos: 0,
        }),
        labels: vec![Label {
            name: "curl".to_owned(),
            ..Label::default()
        }],
        ..Finding::default()
    }
}

fn keeps(source: &str) -> Result<bool, EvaluationError> {
    let filter = Filter::new(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    filter.keeps(&finding())
}

#[test]
fn a_filter_may_ask_for_all_fields() {
    for (source, wanted) in [
        ("true", true),
        ("finding.count > 11", true),
        (
            "finding.count > 11.5 && finding.window_seconds == 3600",
            true,
        ),
        ("finding.src_ip.startsWith('203.0.113.')", true),
        ("finding.src_ip in ['203.0.113.90', '203.0.113.91']", true),
        (
            "finding.cluster == \"lab\" || finding.severity != 'low'",
            false,
        ),
        ("finding.paths.all(p, p.startsWith('/healthz'))", false),
        (
            "finding.paths.exists(p, p == '/api') && '403' in finding.codes",
            true,
        ),
        (
            "finding.paths.filter(p, p.contains('api')).size() == 1",
            true,
        ),
        ("finding.paths.map(p, p + '/')[0] == '/api/'", true),
        ("finding.paths.exists_one(p, size(p) > 4)", true),
        ("finding.count_by_code['403'] == finding.count", true),
        ("!('401' in finding.count_by_code)", true),
        (
            "finding.labels.exists(l, l.name == 'curl' && l.title == '')",
            true,
        ),
        ("finding.src_ip.matches(r'^203\\.0\\.113\\.\\d+$')", true),
        ("finding.paths.exists(p, p.matches('^/health'))", true),
        ("finding.first_time < '2026-01-01T00:00:00Z'", true),
        // Fields without a value.
        (
            "finding.users == [] && finding.user_agents.size() == 0",
            true,
        ),
        ("finding.country == null && finding.lat == null", true),
        ("finding.country == 'Germany'", false),
        (
            "finding.new.paths.size() == 0 && finding.outcome == ''",
            true,
        ),
        (
            "finding.successes.size() == 0 && !finding.time_clamped",
            true,
        ),
        (
            "finding.count > 100 ? finding.severity == 'low' : true",
            true,
        ),
    ] {
        assert_eq!(keeps(source), Ok(wanted), "{source}");
    }
}

/// What cannot be meant, and the error.
const REFUSED: &[(&str, &str)] = &[
    ("", "character 1: "),
    ("finding.count >", "character 16: "),
    ("finding.count > 5 5", "character 19: "),
    (
        "finding.scr_ip == 'a'",
        "character 8: unknown field \"scr_ip\", did you mean \"src_ip\"?",
    ),
    (
        "true &&\n  finding.nope",
        "character 10 of line 2: unknown field \"nope\", known: ",
    ),
    (
        "finding.labels.exists(l, l.nam == 'a')",
        "unknown field \"nam\", did you mean \"name\"?",
    ),
    (
        "finding.new.path.size() > 0",
        "unknown field \"path\", did you mean \"paths\"?",
    ),
    (
        "src_ip == 'a'",
        "character 1: unknown name \"src_ip\", write finding.src_ip",
    ),
    (
        "event.count > 5",
        "character 1: unknown name \"event\", the finding is called finding",
    ),
    (
        "finding.src_ip.startswith('a')",
        "unknown function \"startswith\", did you mean \"startsWith\"?",
    ),
    ("timestamp('a') == 1", "unknown function \"timestamp\""),
    ("finding.count == '5'", "compares a number with text"),
    ("finding.severity > 20", "compares text with a number"),
    ("403 in finding.codes", "looks for a number among text"),
    ("'a' in finding.src_ip", "in needs a list, this is text"),
    (
        "finding.count",
        "a filter needs true or false, this is a number",
    ),
    (
        "finding.severity",
        "a filter needs true or false, this is text",
    ),
    (
        "finding.paths && true",
        "&&, || and ! needs true or false, this is a list",
    ),
    (
        "finding.paths.startsWith('/')",
        "startsWith needs text, this is a list",
    ),
    (
        "finding.src_ip.all(p, true)",
        "goes over a list, and this is text",
    ),
    (
        "finding.src_ip.matches(finding.message)",
        "matches needs a pattern in quotes",
    ),
    (
        "finding.src_ip.matches('(')",
        "the pattern is invalid: unclosed group",
    ),
    (
        "finding.src_ip.matches('(a{1000}){1000}')",
        "the pattern is invalid: ",
    ),
    ("has(finding.country)", "has() is always true here"),
    ("finding.src_ip.x == 'a'", "text has no field \"x\""),
    (
        "finding.src_ip.startsWith()",
        "startsWith is for 2 values, 1 are given",
    ),
    ("size(finding.count) > 1", "size is for text and lists"),
    ("b'a' == b'a'", "a finding has no bytes"),
    (
        "finding.paths.all(a, finding.paths.all(b, finding.paths.all(c, a + b == c)))",
        "more than 2 loops",
    ),
];

#[test]
fn what_cannot_be_meant_is_an_error_with_its_place() {
    for (source, wanted) in REFUSED {
        let error = Filter::new(source).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{source}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

/// The parser of the library takes much stack, and some texts are made to use it up.
#[test]
fn what_is_too_complex_is_refused_and_ends_nothing() {
    let deep = [
        ("(", ")"),
        ("[", "]"),
        ("!", ""),
        ("-", ""),
        ("1+", ""),
        ("true?", ":1"),
        ("size(", ")"),
    ];
    for (open, close) in deep {
        for times in [10, 31, 60, 500, 900, 3000] {
            let source = format!("{}1{}", open.repeat(times), close.repeat(times));
            let _answer = Filter::new(&source);
        }
    }
    let long = [".a".repeat(900), "[0]".repeat(300), ".a()".repeat(300)];
    for chain in long {
        let error = Filter::new(&format!("finding{chain}"))
            .unwrap_err()
            .to_string();
        assert!(!error.is_empty());
    }
    let many = vec!["finding.count > 1"; 150].join(" && ");
    assert_eq!(keeps(&many), Ok(true));
    for (source, wanted) in [
        ("(".repeat(33), "too complex from here on"),
        ("x".repeat(5000), "at most 4096 bytes"),
    ] {
        let error = Filter::new(&source).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn what_fails_for_a_value_is_an_error() {
    for source in [
        "finding.users[0] == 'a'",
        "finding.count / 0 == 1",
        "finding.country.startsWith('G')",
        "finding.count_by_code['500'] > 1",
        "int(finding.src_ip) == 1",
        "finding.count + 9223372036854775807 > 1",
        "finding.labels[1].name == ''",
        "finding.count_by_code['403'] - 9223372036854775807 * 2 > 1",
    ] {
        let Ok(filter) = Filter::new(source) else {
            panic!("{source}: {}", Filter::new(source).unwrap_err());
        };
        assert!(
            matches!(filter.keeps(&finding()), Err(EvaluationError::Value(_))),
            "{source}: {:?}",
            filter.keeps(&finding())
        );
    }
    let truth = Filter::new("finding.count > 1 ? finding.country : finding.lat");
    assert_eq!(
        truth.unwrap().keeps(&finding()),
        Err(EvaluationError::NoTruth)
    );
}

/// A client writes the values of a finding; it must not make the filter take long.
#[test]
fn the_time_of_a_filter_is_bounded() {
    let sources = [
        "finding.paths.all(p, finding.paths.exists(q, p + q == finding.message))",
        "finding.paths.map(p, finding.paths.map(q, p + q)).size() > 0",
        "(finding.paths + finding.paths).all(p, p.matches('(a|b)*c$'))",
        "finding.paths.all(p, p.contains('x') || p.endsWith('y'))",
    ];
    for (count, bytes) in [
        (10, 10),
        (100, 1024),
        (2000, 64),
        (100_000, 8),
        (20, 200_000),
    ] {
        let paths = (0..count).map(|at| format!("/{at}{}", "x".repeat(bytes)));
        let large = Finding {
            paths: paths.collect(),
            ..finding()
        };
        for source in sources {
            let filter = Filter::new(source).unwrap();
            #[expect(clippy::disallowed_methods, reason = "the time is what is tested")]
            let begin = Instant::now();
            let answer = filter.keeps(&large);
            // Most of it is what the debug build of the library takes.
            let took = begin.elapsed();
            assert!(took.as_secs() < 5, "{count} of {bytes}, {source}: {took:?}");
            if count > 50_000 {
                assert!(
                    matches!(answer, Err(EvaluationError::TooCostly { longest }) if longest == count)
                );
            }
        }
    }
}
