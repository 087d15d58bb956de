//! `auditwatch explain` and `compare`: why an address was found or was not, and what the hourly
//! search of Splunk would have found.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{
    auditwatch::{Ran, run},
    corpus::path as corpus,
};

/// A request at a minute and second of 10 h, refused with this code.
fn request(at: (u32, u32), source: &[&str], code: u16) -> Value {
    let (minute, second) = at;
    json!({
        "kind": "Event",
        "auditID": format!("id-{minute}-{second}"),
        "stage": "ResponseComplete",
        "requestURI": format!("/path/{second}"),
        "verb": "get",
        "user": if code == 401 {
            json!({})
        } else {
            json!({"username": "system:anonymous", "groups": ["system:unauthenticated"]})
        },
        "sourceIPs": source,
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": format!("2026-11-25T10:{minute:02}:{second:02}.000001Z"),
    })
}

struct Log {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn log(events: impl IntoIterator<Item = Value>) -> Log {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let lines = events.into_iter().map(|event| event.to_string() + "\n");
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    Log { folder, path }
}

fn ran(command: &str, flags: &[&str], file: &Path) -> Ran {
    let arguments = [command].into_iter().chain(flags.iter().copied());
    let arguments = arguments.map(AsRef::as_ref).chain([file.as_os_str()]);
    run(arguments.collect::<Vec<_>>())
}

fn json_of(command: &str, flags: &[&str], file: &Path) -> Value {
    let flags = [flags, &["--output", "json"]].concat();
    let ran = ran(command, &flags, file);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn a_count_below_the_threshold_is_explained_with_the_counts_around_each_record() {
    let five = (0..5).map(|second| request((0, second), &["192.0.2.1"], 403));
    let repeat = request((0, 4), &["192.0.2.1"], 403);
    let success = request((1, 0), &["192.0.2.1"], 200);
    let log = log(five.chain([repeat, success]));
    let answer = json_of("explain", &["--address", "192.0.2.1"], &log.path);
    assert_eq!(
        (&answer["count"], &answer["matching"]),
        (&json!(7), &json!(6))
    );
    let detection = &answer["detections"][0];
    assert_eq!(detection["counted"], 5);
    assert_eq!(detection["repeats"], 1);
    assert_eq!(detection["max_in_window"], 5);
    assert_eq!(detection["alert_at"], Value::Null);
    assert!(
        detection["conclusion"]
            .as_str()
            .unwrap()
            .starts_with("not found: of 5 requests"),
        "{detection}"
    );
    assert_eq!(answer["findings"], json!([]));
    let counts: Vec<_> = answer["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            let outcome = &record["outcomes"][0];
            (
                outcome["result"].as_str().unwrap().to_owned(),
                outcome["before"].as_u64(),
                outcome["after"].as_u64(),
            )
        })
        .collect();
    let mut wanted: Vec<_> = (0..5)
        .map(|n| ("counted".to_owned(), Some(n), Some(n + 1)))
        .collect();
    wanted.push(("repeat".to_owned(), None, None));
    assert_eq!(counts, wanted);
    // Each record that does not count has its reason, with a record that shows it.
    let reasons = detection["reasons"].as_array().unwrap();
    let of = |result: &str| {
        let result = result.to_owned();
        let mut reasons = reasons.iter();
        reasons.find(move |reason| reason["example"]["outcomes"][0]["result"] == result)
    };
    assert_eq!(of("repeat").unwrap()["count"], 1);
    let no_match = of("no_match").unwrap();
    assert!(
        no_match["why"]
            .as_str()
            .unwrap()
            .contains("responseStatus.code")
    );
    let tests = no_match["example"]["outcomes"][0]["tests"]
        .as_array()
        .unwrap();
    let code = &tests[0];
    assert_eq!(
        (&code["holds"], &code["values"]),
        (&json!(false), &json!(["200"]))
    );
    drop(log.folder);
}

#[test]
fn a_finding_is_explained_with_the_states_that_the_service_would_send() {
    let six = (0..6).map(|second| request((0, second), &["192.0.2.1"], 403));
    let log = log(six);
    let answer = json_of("explain", &["--address", "192.0.2.1"], &log.path);
    assert_eq!(
        answer["detections"][0]["alert_at"],
        "2026-11-25T10:00:05.000001Z"
    );
    assert_eq!(answer["findings"][0]["state"], "opened");
    assert_eq!(answer["findings"][0]["count"], 6);
    // One of its requests, by its identifier, says the same.
    let answer = json_of("explain", &["--audit-id", "id-0-3"], &log.path);
    assert_eq!(answer["count"], 1);
    let outcome = &answer["records"][0]["outcomes"][0];
    assert_eq!(
        (&outcome["before"], &outcome["after"]),
        (&json!(3), &json!(4))
    );
    assert_eq!(answer["findings"][0]["state"], "opened");
    // With a higher threshold there is nothing.
    let flags = ["--address", "192.0.2.1", "--threshold", "6"];
    assert_eq!(json_of("explain", &flags, &log.path)["findings"], json!([]));
}

#[test]
fn a_claimed_address_is_explained_as_one() {
    let forged = (0..8).map(|second| request((0, second), &["203.0.113.9", "192.0.2.1"], 403));
    let log = log(forged);
    let answer = json_of("explain", &["--address", "203.0.113.9"], &log.path);
    let detection = &answer["detections"][0];
    assert_eq!(
        (&detection["matching"], &detection["counted"]),
        (&json!(8), &json!(0))
    );
    let why = detection["reasons"][0]["why"].as_str().unwrap();
    assert!(
        why.contains("192.0.2.1") && why.contains("claimed"),
        "{why}"
    );
    // In escu semantics it counts, as in Splunk.
    let flags = ["--address", "203.0.113.9", "--semantics", "escu"];
    let answer = json_of("explain", &flags, &log.path);
    assert_eq!(answer["detections"][0]["counted"], 8);
    assert_eq!(answer["findings"][0]["state"], "opened");
}

#[test]
fn of_many_records_the_first_and_the_last_are_shown() {
    let many = (0..50).map(|second| request((0, second), &["192.0.2.1"], 403));
    let log = log(many);
    let answer = json_of(
        "explain",
        &["--address", "192.0.2.1", "--records", "4"],
        &log.path,
    );
    let seconds: Vec<_> = answer["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["fields"]["requestURI"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(seconds, ["/path/0", "/path/1", "/path/48", "/path/49"]);
    let text = ran(
        "explain",
        &["--address", "192.0.2.1", "--records", "4"],
        &log.path,
    )
    .out;
    assert!(
        text.contains("46 records in between are not shown"),
        "{text}"
    );
    assert!(
        text.contains("49 before it in its window, 50 with it"),
        "{text}"
    );
}

#[test]
fn wrong_questions_are_refused() {
    let log = log([]);
    for (flags, wanted) in [
        (&[][..], "--address"),
        (&["--address", "x"], "expected an IPv4 or IPv6 address"),
        (
            &["--address", "192.0.2.1", "--audit-id", "a"],
            "cannot be used with",
        ),
        (
            &["--address", "192.0.2.1", "--window-offset", "5m"],
            "--window-offset is not valid with --semantics native",
        ),
        (
            &["--address", "192.0.2.1", "--window", "0"],
            "--window must be longer",
        ),
        (
            &["--address", "192.0.2.1", "--rules", "none-such"],
            "none-such",
        ),
    ] {
        let ran = ran("explain", flags, &log.path);
        assert_eq!(ran.code, 2, "{flags:?}");
        assert!(ran.err.contains(wanted), "{flags:?}: {}", ran.err);
    }
    let missing = log.folder.path().join("missing");
    assert_eq!(ran("compare", &[], &missing).code, 2);
}

/// The row of an address in a comparison.
fn row<'a>(compared: &'a Value, address: &str) -> &'a Value {
    let mut rows = compared["rows"].as_array().unwrap().iter();
    rows.find(|row| row["address"] == address)
        .unwrap_or_else(|| panic!("{address} in {compared}"))
}

#[test]
fn the_search_misses_what_its_grid_cuts_and_what_it_does_not_count() {
    let cut = (0..8).map(|n| request((46 + n, n), &["192.0.2.1"], 403));
    let refused = (0..8).map(|second| request((5, second), &["192.0.2.2"], 401));
    let forged = (0..6).map(|second| request((7, second), &["192.0.2.3", "192.0.2.4"], 403));
    let twice = (0..3).map(|second| request((9, second), &["192.0.2.5"], 403));
    let log = log(cut
        .chain(refused)
        .chain(forged)
        .chain(twice.clone())
        .chain(twice));
    let compared = json_of("compare", &[], &log.path);
    let one = row(&compared, "192.0.2.1");
    assert_eq!(one["verdict"], "streaming_only");
    assert_eq!(one["streaming"]["found_at"], "2026-11-25T10:51:05.000001Z");
    let why = one["why"][0].as_str().unwrap();
    assert!(why.contains("at most 4 of 8 events fall into one"), "{why}");
    let two = row(&compared, "192.0.2.2");
    assert_eq!(two["verdict"], "streaming_only");
    assert!(
        two["why"][0]
            .as_str()
            .unwrap()
            .contains("8 of 8 requests were answered 401")
    );
    let three = row(&compared, "192.0.2.3");
    assert_eq!(three["verdict"], "search_only");
    assert!(three["why"][0].as_str().unwrap().contains("192.0.2.4"));
    // Both find the peer: the search when it runs at eleven, streaming with the sixth request.
    let four = row(&compared, "192.0.2.4");
    assert_eq!(four["verdict"], "both");
    assert_eq!(four["search"]["found_at"], "2026-11-25T11:00:00.000000Z");
    assert_eq!(four["lead_seconds"], 53 * 60 - 5 - 1);
    assert_eq!(compared["median_lead_seconds"], four["lead_seconds"]);
    // Six events that are three requests twice make a row of the search, and no scan.
    let five = row(&compared, "192.0.2.5");
    assert_eq!(five["verdict"], "search_only");
    assert!(
        five["why"][0]
            .as_str()
            .unwrap()
            .contains("6 events are 3 requests")
    );
}

/// Rows of the comparison are those of `scan` in both semantics.
#[test]
fn both_sides_of_a_recording_are_those_of_scan() {
    for name in [
        "scenario-1",
        "kube-hunter",
        "anonymous-auth-off",
        "webhook-1",
    ] {
        let file = corpus(&format!("{name}.ndjson.gz"));
        let compared = json_of("compare", &[], &file);
        let scanned = |semantics| {
            let flags = ["--semantics", semantics];
            let rows = json_of("scan", &flags, &file);
            let rows = rows.as_array().unwrap().iter();
            rows.map(|row| row["src_ip"].as_str().unwrap().to_owned())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let found = |side: &str| {
            let rows = compared["rows"].as_array().unwrap().iter();
            rows.filter(|row| !row[side].is_null())
                .map(|row| row["address"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(scanned("native"), found("streaming"), "{name}");
        assert_eq!(scanned("escu"), found("search"), "{name}");
    }
}

/// What an attacker writes is shown, and does nothing.
#[test]
fn pages_are_one_file_without_a_script() {
    let evil = "/<script>alert(1)</script>\u{1b}[2J";
    let events = (0..6).map(|second| {
        let mut event = request((0, second), &["192.0.2.1"], 403);
        event["requestURI"] = json!(evil);
        event["auditID"] = json!(format!("<b>{second}"));
        event
    });
    let log = log(events);
    for (command, flags) in [
        (
            "explain",
            &["--address", "192.0.2.1", "--output", "html"][..],
        ),
        ("compare", &["--output", "html"]),
    ] {
        let page = ran(command, flags, &log.path).out;
        assert!(
            page.starts_with("<!DOCTYPE html>") && page.contains("192.0.2.1"),
            "{command}"
        );
        assert!(
            !page.contains("<script") && !page.contains('\u{1b}'),
            "{command}"
        );
        assert!(page.contains("default-src 'none'"), "{command}");
    }
    let text = ran("explain", &["--address", "192.0.2.1"], &log.path).out;
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// With the configuration of a service: which exclusion leaves a request out, and what the filter
/// says of a finding.
#[test]
fn exclusions_and_the_filter_of_a_configuration_are_explained() {
    let log = log((0..12).map(|second| request((0, second), &["192.0.2.1"], 403)));
    let config = |keys: &str| {
        format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: {{}}}}}}}}, processors: {{detection: {{{keys}}}}}, \
             exporters: {{debug: {{}}}}, service: {{pipelines: {{logs: {{receivers: [otlp], \
             processors: [detection], exporters: [debug]}}}}}}}}"
        )
    };
    let explained = |keys: &str| {
        let config = config(keys);
        let flags = [
            "--address",
            "192.0.2.1",
            "--config",
            config.as_str(),
            "--output",
            "json",
        ];
        let ran = ran("explain", &flags, &log.path);
        let answer: Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
        answer
    };
    let answer = explained("exclude: [{name: probes, cidr: 192.0.2.0/24, reason: known}]");
    assert_eq!(answer["findings"], json!([]));
    let reason = &answer["detections"][0]["reasons"][0];
    assert_eq!(
        (&reason["why"], &reason["count"]),
        (
            &json!("it matches, but exclude \"probes\" leaves it out: known"),
            &json!(12)
        )
    );
    for (filter, verdict) in [
        ("finding.count > 100", "filtered"),
        ("finding.count > 1", "kept"),
    ] {
        let answer = explained(&format!("filter: '{filter}'"));
        assert_eq!(answer["findings"][0]["state"], "opened");
        assert_eq!(answer["findings"][0]["filter"], verdict);
    }
    let flags = [
        "--address",
        "192.0.2.1",
        "--config",
        "x.yaml",
        "--threshold",
        "3",
    ];
    assert_eq!(ran("explain", &flags, &log.path).code, 2);
}
