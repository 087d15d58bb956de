//! The whole service with the configuration of the README, from a client to a HEC server.

use std::{path::PathBuf, time::Duration};

use auditwatch::{config, service::Service};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    corpus::denied,
    hec::{Answer, HecServer, Options},
    process::{Process, free_address, now, quiet},
    sender::{Hanging, framed_request, send},
};

/// Longer than anything takes here, shorter than anybody waits.
const LONG: Duration = Duration::from_secs(20);

fn minimal() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("otel-config/minimal.yaml")
}

/// The minimal configuration, with what `more` puts in the place of the exporter's endpoint.
async fn start(hec: &HecServer, more: &str) -> Service {
    let text = std::fs::read_to_string(minimal()).unwrap();
    let key = "endpoint: ${env:SPLUNK_HEC_URL}";
    assert!(text.contains(key));
    start_text(hec, &text.replace(key, &format!("{key}\n{more}"))).await
}

/// A configuration with the HEC server in its variables.
async fn start_text(hec: &HecServer, text: &str) -> Service {
    let env = |name: &str| match name {
        "AUDITWATCH_OTLP_ENDPOINT" => Some("127.0.0.1:0".to_owned()),
        "SPLUNK_HEC_TOKEN" => Some("test-token".to_owned()),
        "SPLUNK_HEC_URL" => Some(hec.url()),
        _ => None,
    };
    Service::start(config::parse("minimal.yaml", &quiet(text), &env).unwrap())
        .await
        .unwrap()
}

fn variables(hec: &HecServer, address: std::net::SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("AUDITWATCH_OTLP_ENDPOINT", address.to_string()),
        ("SPLUNK_HEC_TOKEN", "test-token".to_owned()),
        ("SPLUNK_HEC_URL", hec.url()),
    ]
}

fn scan(source: &str, requests: u32) -> Vec<String> {
    (0..requests)
        .map(|at| denied(source, at, &format!("/{at}")))
        .collect()
}

/// An address of a network of its own, so that no roll-up takes it as a member.
fn nth_network(n: u32) -> String {
    format!("198.18.{n}.7")
}

#[tokio::test]
async fn the_sixth_request_is_a_finding_at_once() {
    let hec = HecServer::start(Options::default()).await;
    let service = start(&hec, "").await;
    let address = service.addresses()[0].1;
    let lines = scan("203.0.113.7", 6);
    send(address, &lines[..5], None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(hec.events().is_empty(), "five requests are no finding");
    let sent = now();
    send(address, &lines[5..], None).await.unwrap();
    let events = hec.wait_for(1, LONG).await;
    assert!(
        events[0].arrived - sent < Duration::from_secs(1),
        "{:?}",
        events[0].arrived - sent
    );

    let event = &events[0];
    assert_eq!(event.sourcetype.as_deref(), Some("auditwatch:finding"));
    assert_eq!(event.time.as_deref(), Some("1795590005.000000"));
    let finding = &event.event;
    assert_eq!(finding["state"], "opened");
    assert_eq!(finding["src_ip"], "203.0.113.7");
    assert_eq!(finding["cluster"], "test");
    assert_eq!(finding["count"], 6);
    assert_eq!(finding["count_by_code"]["403"], 6);
    assert_eq!(finding["alert_at"], "2026-11-25T07:00:05.000000Z");
    assert_eq!(finding["first_time"], "2026-11-25T07:00:00.000000Z");
    assert_eq!(finding["paths"].as_array().unwrap().len(), 6);
    assert_eq!(event.fields["requestURI"][5], "/5");
    assert_eq!(event.fields["user.groups{}"][0], "system:unauthenticated");
    assert!(service.shutdown(LONG).await);
}

/// Several detections run over one pass: that of scans, a shipped rule and a file.
#[tokio::test]
async fn detections_of_rule_files_run_beside_that_of_scans() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("binding.yaml");
    let rule = "
title: A role is bound
id: 2f9e6c0a-1f0e-4b61-8f0c-7a2d5a0c9b11
logsource: {product: kubernetes, service: audit}
detection:
  selection: {verb: create, objectRef.resource|endswith: rolebindings}
  condition: selection
level: high
custom: {message: $user.username$ binds a role}
";
    std::fs::write(&file, rule).unwrap();
    let hec = HecServer::start(Options::default()).await;
    let text = std::fs::read_to_string(minimal()).unwrap();
    let with_rules = format!(
        "  detection:\n    rules: [events_deleted, {}]\n",
        file.to_str().unwrap()
    );
    assert!(text.contains("  detection:\n"));
    let service = start_text(&hec, &text.replace("  detection:\n", &with_rules)).await;
    let address = service.addresses()[0].1;
    let event = |verb: &str, resource: &str, id: u32| {
        format!(
            r#"{{"verb":"{verb}","requestURI":"/x","auditID":"r-{id}","user":{{"username":"jane"}},"sourceIPs":["192.0.2.9"],
            "objectRef":{{"resource":"{resource}"}},"responseStatus":{{"code":201}},
            "requestReceivedTimestamp":"2026-11-25T07:00:00.000000Z"}}"#
        )
    };
    let mut lines = scan("203.0.113.7", 6);
    lines.push(event("create", "clusterrolebindings", 1));
    lines.push(event("create", "pods", 2));
    lines.push(event("delete", "events", 3));
    send(address, &lines, None).await.unwrap();
    let events = hec.wait_for(3, LONG).await;
    let mut found: Vec<_> = events
        .iter()
        .map(|event| {
            let text = |key: &str| event.event[key].as_str().unwrap_or_default().to_owned();
            (text("rule_name"), text("severity"), text("src_ip"))
        })
        .collect();
    found.sort();
    let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        found[0],
        (
            "A role is bound".to_owned(),
            "high".to_owned(),
            "192.0.2.9".to_owned()
        )
    );
    assert!(
        names.contains(&"Kubernetes Scanning by Unauthenticated IP Address"),
        "{names:?}"
    );
    assert_eq!(names.len(), 3);
    let bound = events
        .iter()
        .find(|event| event.event["rule_name"] == "A role is bound");
    assert_eq!(bound.unwrap().event["message"], "jane binds a role");
}

#[tokio::test]
async fn a_finding_grows_by_doubling_and_says_the_rest_at_the_end() {
    let hec = HecServer::start(Options::default()).await;
    let service = start(&hec, "").await;
    let address = service.addresses()[0].1;
    send(address, &scan("203.0.113.7", 27), None).await.unwrap();
    // A repeated delivery changes nothing.
    send(address, &scan("203.0.113.7", 27), None).await.unwrap();
    assert!(service.shutdown(LONG).await);
    let events = hec.events();
    let states: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event.event["state"].as_str().unwrap(),
                event.event["count"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        states,
        [
            ("opened", 6),
            ("updated", 12),
            // Twenty paths are a scan by their number: the severity rises.
            ("updated", 20),
            ("closed", 27)
        ]
    );
    let ids: std::collections::BTreeSet<_> = events
        .iter()
        .map(|event| event.event["finding_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 1);
}

/// Scores of risk events add up: a finding is one of its score when it opens, and one of the
/// difference when its severity rises.
#[tokio::test]
async fn the_risk_events_of_a_finding_add_up_to_its_score() {
    let hec = HecServer::start(Options::default()).await;
    let service = start(&hec, "    format: risk\n    index: risk").await;
    let address = service.addresses()[0].1;
    let mut lines = scan("203.0.113.7", 27);
    let hostile = r#"\", risk_score=\"100"#;
    lines[2] = lines[2].replace("curl/8.5.0", hostile);
    send(address, &lines, None).await.unwrap();
    assert!(service.shutdown(LONG).await);
    let events = hec.events();
    let points = |text: &str| {
        let (_, rest) = text.split_once("risk_score=\"").unwrap();
        rest.split('"').next().unwrap().parse::<u32>().unwrap()
    };
    let all: Vec<_> = events
        .iter()
        .map(|event| points(event.event.as_str().unwrap()))
        .collect();
    // Low, and then medium with twenty paths.
    assert_eq!(all, [20, 20]);
    let text = events[0].event.as_str().unwrap();
    assert_eq!(events[0].sourcetype.as_deref(), Some("stash"));
    assert_eq!(events[0].index.as_deref(), Some("risk"));
    let name = "auditwatch - Kubernetes Scanning by Unauthenticated IP Address";
    assert_eq!(events[0].source.as_deref(), Some(name));
    assert!(
        text.starts_with(&format!("1795590005.000000, search_name=\"{name}\", ")),
        "{text}"
    );
    assert_eq!(text.matches("risk_score=\"").count(), 1, "{text}");
    assert!(
        text.contains("risk_object=\"test\", risk_object_type=\"other\""),
        "{text}"
    );
    assert!(text.contains("userAgent=\"', risk_score='100\""), "{text}");
}

/// Without room for what a request may cause, it is refused whole, in the form that makes every
/// collector send it again; then nothing is missing and nothing doubled.
#[tokio::test]
async fn without_room_senders_are_asked_to_come_again() {
    let hec = HecServer::start(Options::default()).await;
    hec.answer_next(vec![Answer::code(9); 40]);
    let retry = "    sending_queue: {queue_size: 2}\n    \
                 retry_on_failure: {initial_interval: 50ms, max_interval: 50ms}";
    let service = start(&hec, retry).await;
    let address = service.addresses()[0].1;
    let mut refused = 0;
    for n in 0..20 {
        let lines = scan(&nth_network(n), 6);
        while let Err(status) = send(address, &lines, None).await {
            assert_eq!(status.code(), Code::Unavailable);
            let wait = status
                .get_error_details()
                .retry_info()
                .unwrap()
                .retry_delay
                .unwrap();
            assert!(wait > Duration::ZERO && wait < Duration::from_mins(1));
            refused += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A request that causes no finding is never refused.
        send(address, &scan(&nth_network(100 + n), 1), None)
            .await
            .unwrap();
    }
    assert!(refused > 0, "the queue of two was never full");
    assert!(service.shutdown(LONG).await);
    let mut sources: Vec<_> = hec
        .events()
        .iter()
        .filter(|event| event.event["state"] == "opened")
        .map(|event| event.event["src_ip"].as_str().unwrap().to_owned())
        .collect();
    sources.sort();
    let mut wanted: Vec<_> = (0..20).map(nth_network).collect();
    wanted.sort();
    assert_eq!(sources, wanted);
}

/// A request with more findings than a queue can hold is taken all the same.
#[tokio::test]
async fn a_request_larger_than_the_queue_finds_its_way() {
    let hec = HecServer::start(Options::default()).await;
    let service = start(&hec, "    sending_queue: {queue_size: 3}").await;
    let address = service.addresses()[0].1;
    let lines: Vec<_> = (0..50).flat_map(|n| scan(&nth_network(n), 6)).collect();
    send(address, &lines, None).await.unwrap();
    hec.wait_for(50, LONG).await;
    assert!(service.shutdown(LONG).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_exits_with_0() {
    let hec = HecServer::start(Options::default()).await;
    let address = free_address();
    let mut process = Process::auditwatch(&minimal(), &variables(&hec, address));
    process.wait_for("listening", LONG);
    send(address, &scan("203.0.113.7", 8), None).await.unwrap();
    // Not even a sender that never ends its request holds this up.
    let half = framed_request(&scan("203.0.113.9", 6))[..100].to_vec();
    let _hanging = Hanging::start(address, half).await;
    process.signal("TERM");
    let status = process.wait(LONG);
    assert_eq!(status.code(), Some(0), "{}", process.stderr());
    let counts: Vec<_> = hec
        .events()
        .iter()
        .map(|event| event.event["count"].as_u64())
        .collect();
    assert_eq!(counts, [Some(6), Some(8)]);
}

/// When Splunk is gone, the deadline holds, and the exit code says that something was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_is_told_by_the_exit_code() {
    let hec = HecServer::start(Options::default()).await;
    hec.answer_next(vec![Answer::code(9); 1000]);
    let address = free_address();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("short.yaml");
    let text = std::fs::read_to_string(minimal()).unwrap();
    std::fs::write(
        &config,
        text.replace("\nservice:\n", "\nservice:\n  shutdown_timeout: 1s\n"),
    )
    .unwrap();
    let mut process = Process::auditwatch(&config, &variables(&hec, address));
    process.wait_for("listening", LONG);
    send(address, &scan("203.0.113.7", 6), None).await.unwrap();
    process.signal("INT");
    let begin = now();
    assert_eq!(process.wait(LONG).code(), Some(1), "{}", process.stderr());
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(
        process.stderr().contains("findings were given up"),
        "{}",
        process.stderr()
    );
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("broken.yaml");
    std::fs::write(
        &config,
        "receivers:\n  otlp:\n    protocols: {grpc: {endpont: x}}\nprocessors: {detection: }\n\
         exporters: {debug: }\nservice:\n  pipelines:\n    \
         logs: {receivers: [otlp], processors: [detection], exporters: [debgu]}\n",
    )
    .unwrap();
    let mut process = Process::auditwatch_as_it_is(&config, &[]);
    assert_eq!(process.wait(LONG).code(), Some(1));
    process.wait_for("debgu", LONG);
    let stderr = process.stderr();
    assert!(stderr.contains("broken.yaml:3:24: "), "{stderr}");
    assert!(
        stderr.contains("unknown key \"endpont\", did you mean \"endpoint\"?"),
        "{stderr}"
    );
    assert!(stderr.contains("broken.yaml:8:"), "{stderr}");
}

#[test]
fn validate_tells_all_that_is_wrong_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("broken.yaml");
    std::fs::write(
        &config,
        "receivers: {otlp: {protocols: {grpc: , htp: }}}\nexporter: {}\n",
    )
    .unwrap();
    let validate = |config: &std::path::Path| {
        std::process::Command::new(env!("CARGO_BIN_EXE_auditwatch"))
            .args(["validate", "--config", config.to_str().unwrap()])
            .envs([
                ("SPLUNK_HEC_TOKEN", "t"),
                ("SPLUNK_HEC_URL", "http://127.0.0.1:1"),
            ])
            .output()
            .unwrap()
    };
    let output = validate(&config);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("broken.yaml:1:40: ") && stderr.contains("did you mean \"http\"?"),
        "{stderr}"
    );
    assert!(stderr.contains("did you mean \"exporters\"?"), "{stderr}");
    let output = validate(&minimal());
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
    let codes = "status 401 or status 403";
    let none = "no event is looked at, the rule is about the feed";
    let anonymous = "\"system:anonymous\"";
    let wanted: Vec<_> = [
        ("kubernetes_scanning", codes),
        ("distributed_scanning", codes),
        ("low_and_slow", codes),
        ("forged_forwarding", codes),
        ("anonymous_write", anonymous),
        ("anonymous_success", anonymous),
        ("silent_cluster", none),
        ("unauthorized_only", none),
        ("truncated_events", none),
        ("clock_skew", none),
        ("flood", none),
        ("cluster_names", none),
    ]
    .iter()
    .map(|(rule, what)| {
        let prefilter = if *what == none { "" } else { "prefilter: " };
        format!("detection: rule {rule}: {prefilter}{what}")
    })
    .collect();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn print_config_shows_what_several_sources_make_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "secret-token\n").unwrap();
    let print = |set: &str| {
        let set = set.to_owned();
        std::process::Command::new(env!("CARGO_BIN_EXE_auditwatch"))
            .args(["print-config", "--config"])
            .arg(minimal())
            .args([
                "--config",
                "yaml:processors::detection::threshold: 7",
                "--set",
                &set,
            ])
            .args([
                "--set",
                &format!("exporters.splunk_hec.token=${{file:{}}}", token.display()),
            ])
            .env("SPLUNK_HEC_URL", "http://127.0.0.1:1")
            .output()
            .unwrap()
    };
    let output = print("processors.detection.window=2h");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
    for wanted in ["threshold: 7\n", "window: 2h\n", "token: \"[REDACTED]\"\n"] {
        assert!(shown.contains(wanted), "{shown}");
    }
    assert!(!shown.contains("secret-token"), "{shown}");
    let output = print("processors.detection.windw=2h");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(1), vec![]));
    assert!(
        stderr.starts_with("--set processors.detection.windw: "),
        "{stderr}"
    );
    assert!(stderr.contains("did you mean \"window\"?"), "{stderr}");
}

#[test]
fn components_lists_what_a_configuration_may_name() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_auditwatch"))
        .arg("components")
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    for (section, types) in config::component_types() {
        assert!(listed.contains(&format!("\n{section}:\n")), "{listed}");
        for name in types {
            assert!(
                listed.contains(&format!("\n    - name: {name}\n")),
                "{listed}"
            );
        }
    }
}

#[test]
fn an_address_in_use_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let variables = [
        ("AUDITWATCH_OTLP_ENDPOINT", address.to_string()),
        ("SPLUNK_HEC_TOKEN", "secret-token".to_owned()),
        ("SPLUNK_HEC_URL", "http://127.0.0.1:1".to_owned()),
    ];
    let mut process = Process::auditwatch(&minimal(), &variables);
    assert_eq!(process.wait(LONG).code(), Some(1));
    process.wait_for(&format!("cannot listen on {address}"), LONG);
    assert!(!process.stderr().contains("secret-token"));
}

/// A row comes when event time has passed the end of its window by `lateness`, not before, and as
/// a risk event it says what Splunk's own would.
#[tokio::test]
async fn an_escu_row_is_one_risk_event_ten_minutes_after_its_window() {
    let hec = HecServer::start(Options::default()).await;
    let text = std::fs::read_to_string(minimal()).unwrap();
    let key = "endpoint: ${env:SPLUNK_HEC_URL}";
    let name = "ESCU - Kubernetes Scanning by Unauthenticated IP Address - Rule";
    let text = text
        .replace("\n  detection:\n", "\n  detection: {semantics: escu}\n")
        .replace(
            key,
            &format!("{key}\n    format: risk\n    search_name: {name}"),
        );
    let service = start_text(&hec, &text).await;
    let address = service.addresses()[0].1;
    // In the window from 06:50 to 07:50.
    send(address, &scan("203.0.113.7", 6), None).await.unwrap();
    let later = |time: &str| [denied("198.51.100.1", 0, "/").replace("T07:00:00", time)];
    send(address, &later("T07:59:00"), None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(hec.events().is_empty(), "the window may still grow");
    send(address, &later("T08:00:00"), None).await.unwrap();
    let events = hec.wait_for(1, LONG).await;
    let text = events[0].event.as_str().unwrap();
    assert_eq!(events[0].source.as_deref(), Some(name));
    for pair in [
        "risk_object=\"system:anonymous\", risk_object_type=\"user\", risk_score=\"20\"",
        "risk_message=\"Kubernetes scanning from ip 203.0.113.7\"",
        "info_min_time=\"1795589400.000000\", info_max_time=\"1795593000.000000\"",
        "count=\"6\"",
    ] {
        assert!(text.contains(pair), "{pair} in {text}");
    }
    assert!(service.shutdown(LONG).await);
    assert_eq!(
        hec.events().len(),
        1,
        "one address was no scan, and no row comes twice"
    );
}

/// A wrong token costs no finding while the service runs; the log says so once and what to do, not
/// finding by finding.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_one_clear_line() {
    let hec = HecServer::start(Options {
        tokens: vec!["another".to_owned()],
        ..Options::default()
    })
    .await;
    let address = free_address();
    let mut process = Process::auditwatch(&minimal(), &variables(&hec, address));
    process.wait_for("listening", LONG);
    for n in 0..20 {
        send(address, &scan(&nth_network(n), 6), None)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process.wait_for("the destination refuses findings", LONG);
    let stderr = process.stderr();
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains("refuses findings"))
        .collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(
        lines[0].contains("ERROR")
            && lines[0].contains("Splunk does not know the token, set token"),
        "{stderr}"
    );
    assert!(!stderr.contains("given up") && !stderr.contains("test-token"));
    hec.set_up(|options| options.tokens.push("test-token".to_owned()));
    process.signal("TERM");
    process.wait_for("findings are delivered again", LONG);
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    // Each was opened, and closed by the shutdown.
    assert_eq!(hec.events().len(), 40);
}

#[tokio::test]
async fn a_start_fails_while_hec_is_not_healthy() {
    let hec = HecServer::start(Options::default()).await;
    let text = std::fs::read_to_string(minimal()).unwrap();
    let key = "endpoint: ${env:SPLUNK_HEC_URL}";
    let text = text.replace(key, &format!("{key}\n    health_check_enabled: true"));
    let env = |name: &str| match name {
        "AUDITWATCH_OTLP_ENDPOINT" => Some("127.0.0.1:0".to_owned()),
        "SPLUNK_HEC_TOKEN" => Some("test-token".to_owned()),
        "SPLUNK_HEC_URL" => Some(hec.url()),
        _ => None,
    };
    let start = || async {
        let config = config::parse("minimal.yaml", &quiet(&text), &env).unwrap();
        Service::start(config).await
    };
    hec.answer_next(vec![Answer::code(20)]);
    let error = start().await.err().map(|error| format!("{error:#}"));
    let error = error.expect("an error");
    assert!(
        error.starts_with("cannot start exporter splunk_hec: health_check_enabled: ")
            && error.contains("try again later"),
        "{error}"
    );
    assert!(start().await.unwrap().shutdown(LONG).await);
}

/// Findings that a tick causes wait for room and refuse no request.
#[tokio::test]
async fn findings_of_time_hold_nobody_up() {
    let hec = HecServer::start(Options::default()).await;
    let service = start(&hec, "    sending_queue: {queue_size: 1}").await;
    let address = service.addresses()[0].1;
    for n in 0..8 {
        send(address, &scan(&nth_network(n), 6), None)
            .await
            .unwrap();
    }
    hec.wait_for(8, LONG).await;
    // From here on nothing goes out. An hour later all eight scans close, far more than fit.
    hec.answer_next((0..100).map(|_| Answer::code(9)).collect());
    for second in 0..3 {
        let lines = [denied("198.51.100.1", second, "/").replace("T07:", "T09:")];
        let sent = tokio::time::timeout(LONG, send(address, &lines, None));
        sent.await.expect("an answer").unwrap();
    }
}

/// Live, the rows of the Splunk search: each once, when its window is over, the rest at the end.
#[tokio::test]
async fn escu_semantics_send_each_row_once() {
    let hec = HecServer::start(Options::default()).await;
    let text = std::fs::read_to_string(minimal()).unwrap();
    let text = text.replace("\n  detection:\n", "\n  detection: {semantics: escu}\n");
    assert!(text.contains("semantics: escu"));
    let service = start_text(&hec, &text).await;
    let address = service.addresses()[0].1;
    for lines in crate::support::corpus::lines("scenario-1-stretched").chunks(100) {
        send(address, lines, None).await.unwrap();
    }
    // All windows but the last are over already.
    let golden = crate::support::corpus::path("scenario-1-stretched.escu.json");
    let golden: Vec<serde_json::Value> = std::fs::read_to_string(golden)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = golden
        .iter()
        .map(|row| row["window_start"].as_str().unwrap())
        .max()
        .unwrap();
    let over = golden
        .iter()
        .filter(|row| row["window_start"] != last)
        .count();
    assert!(over > 0);
    hec.wait_for(over, LONG).await;
    assert!(service.shutdown(LONG).await);
    let row = |row: &serde_json::Value, columns: [&str; 3]| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        // The service bounds what it keeps of one value, with a hash of the whole behind it.
        let cut = |value: &serde_json::Value| value.as_str().unwrap().chars().take(1007).collect();
        let values: [Vec<String>; 3] =
            columns.map(|column| row[column].as_array().unwrap().iter().map(cut).collect());
        (
            text("window_start"),
            text("window_end"),
            text("src_ip"),
            row["count"].as_u64(),
            values,
        )
    };
    let mut rows: Vec<_> = hec
        .events()
        .iter()
        .map(|event| {
            assert_eq!(event.event["state"], "opened");
            let odd = event.event["src_ip"] == "198.51.100.82";
            assert_eq!(
                event.event["truncated"] == serde_json::json!(["paths"]),
                odd
            );
            row(&event.event, ["paths", "verbs", "codes"])
        })
        .collect();
    rows.sort();
    let wanted: Vec<_> = golden
        .iter()
        .map(|r| row(r, ["requestURI", "verb", "responseStatus.code"]))
        .collect();
    assert_eq!(rows.len(), wanted.len());
    for (row, wanted) in rows.iter().zip(&wanted) {
        assert_eq!(row, wanted);
    }
}

/// Findings that are lost with an exporter that hangs are logged, and other exporters are not
/// affected.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_exporter_costs_no_other_its_last_states() {
    let hec = HecServer::start(Options::default()).await;
    hec.answer_next(vec![Answer::hang(); 10]);
    let address = free_address();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("two.yaml");
    let file = folder.path().join("findings");
    let text = std::fs::read_to_string(minimal())
        .unwrap()
        .replace("\nservice:\n", "    sending_queue: {queue_size: 2}\n  file: {path: FILE}\n\nservice:\n  shutdown_timeout: 2s\n")
        .replace("FILE", file.to_str().unwrap())
        .replace("exporters: [splunk_hec]", "exporters: [splunk_hec, file]");
    std::fs::write(&config, text).unwrap();
    let mut process = Process::auditwatch(&config, &variables(&hec, address));
    process.wait_for("listening", LONG);
    for n in 0..3 {
        // The first is on its way and hangs, the others fill the queue.
        send(address, &scan(&format!("203.0.113.{n}"), 6), None)
            .await
            .unwrap();
        while hec.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(1), "{}", process.stderr());
    let findings = std::fs::read_to_string(&file).unwrap();
    assert_eq!(findings.matches("\"state\":\"opened\"").count(), 3);
    assert_eq!(
        findings.matches("\"close_reason\":\"shutdown\"").count(),
        3,
        "{findings}"
    );
    assert!(
        process.stderr().contains("findings=3"),
        "{}",
        process.stderr()
    );
    assert!(
        process.stderr().contains("before they found room"),
        "{}",
        process.stderr()
    );
}
