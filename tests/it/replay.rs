//! `auditwatch replay` and `auditwatch health`, as their users run them.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use auditwatch::{
    config::{self, Config},
    detection::time::Micros,
    service::Service,
};

use crate::support::{
    corpus,
    process::{Process, quiet},
};

const LONG: Duration = Duration::from_secs(20);

fn auditwatch(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auditwatch"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn config(findings: &Path) -> Config {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors: {{detection: }}
exporters: {{file: {{path: '{}'}}}}
extensions: {{health_check: {{endpoint: '127.0.0.1:0'}}}}
service:
  extensions: [health_check]
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [file]}}}}
",
        findings.display()
    );
    config::parse("replay.yaml", &quiet(&text), &|_| None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_sent_over_both_protocols_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let findings = dir.path().join("findings");
    let service = Service::start(config(&findings)).await.unwrap();
    let log = corpus::path("kube-hunter.ndjson.gz").display().to_string();
    for ((_, address), (protocol, cluster)) in service
        .addresses()
        .to_vec()
        .into_iter()
        .zip([("grpc", "one"), ("http", "two")])
    {
        let log = log.clone();
        let replayed = tokio::task::spawn_blocking(move || {
            auditwatch(&[
                "replay",
                &log,
                "--endpoint",
                &address.to_string(),
                "--protocol",
                protocol,
                "--speed",
                "full",
                "--shift-to-now",
                "--resource-attribute",
                &format!("k8s.cluster.name={cluster}"),
            ])
        });
        let output = replayed.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let summary = stdout(&output);
        assert!(
            summary.starts_with("1311 events sent, 0 rejected, 0 given up in "),
            "{summary}"
        );
    }
    let (_, health) = service.extension_addresses()[0].clone();
    let ready = tokio::task::spawn_blocking(move || {
        auditwatch(&["health", "--endpoint", &health.to_string()])
    });
    let ready = ready.await.unwrap();
    assert!(
        ready.status.success() && stdout(&ready).contains("Server available"),
        "{ready:?}"
    );
    assert!(service.shutdown(LONG).await);
    let gone = auditwatch(&["health", "--endpoint", "http://127.0.0.1:1/"]);
    assert_eq!(gone.status.code(), Some(1));
    let findings = fs::read_to_string(findings).unwrap();
    let recent = Micros(i64::try_from(unix_micros()).unwrap() - 300_000_000);
    for cluster in ["one", "two"] {
        let mut of_cluster = findings
            .lines()
            .filter(|line| line.contains(&format!("\"{cluster}\"")));
        let last: serde_json::Value =
            serde_json::from_str(of_cluster.next_back().unwrap()).unwrap();
        assert_eq!(last["count"], 19);
        // Its times were moved: it has just ended.
        assert!(Micros::parse(last["last_time"].as_str().unwrap()).unwrap() > recent);
    }
}

fn unix_micros() -> u128 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()
}

#[test]
fn lines_are_appended_in_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let (log, out) = (dir.path().join("log"), dir.path().join("out"));
    let event = |second: u32| {
        format!(
            "{{\"requestReceivedTimestamp\":\"2026-11-25T10:00:{second:02}.000000Z\",\"n\":{second}}}"
        )
    };
    fs::write(&log, format!("{}\n\n{}\nno event\n", event(0), event(40))).unwrap();
    fs::write(&out, "there before\n").unwrap();
    let began = auditwatch::clock::monotonic();
    let (log, out_path) = (log.display().to_string(), out.display().to_string());
    let output = auditwatch(&["replay", &log, "--output", &out_path, "--speed", "40"]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).starts_with("3 events sent"), "{output:?}");
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "40 s at forty times the speed"
    );
    let wanted = format!("there before\n{}\n{}\nno event\n", event(0), event(40));
    assert_eq!(fs::read_to_string(&out).unwrap(), wanted);
}

#[test]
fn who_cannot_send_says_so() {
    // No server listens there; a port that was free may have become another test's.
    let address = "127.0.0.1:1".to_owned();
    let log = corpus::path("kube-hunter.ndjson.gz").display().to_string();
    let output = auditwatch(&[
        "replay",
        &log,
        "--endpoint",
        &address,
        "--speed",
        "full",
        "--batch-size",
        "2000",
        "--max-elapsed-time",
        "1",
        "--header",
        "Authorization=Bearer s3cret-token",
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).starts_with("0 events sent, 0 rejected, 1311 given up"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("given up") && !stderr.contains("s3cret"),
        "{stderr}"
    );
    for (arguments, wanted) in [
        (vec!["replay", "no/such.log"], "cannot read no/such.log"),
        (
            vec!["replay", "-", "--speed", "full", "--shift-to-now"],
            "reads the log twice",
        ),
        (
            vec!["replay", "-", "--speed", "60", "--shift-to-now"],
            "reads the log twice",
        ),
        (vec!["replay", "a", "--endpoint", "a"], "host:port"),
        (
            vec!["replay", "a", "--speed", "0"],
            "expected full, or a number",
        ),
        (
            vec!["replay", "a", "--header", "a b=c"],
            "no name of a header",
        ),
        (
            vec!["replay", "a", "--output", "b", "--endpoint", "c:1"],
            "cannot be used with",
        ),
    ] {
        let output = auditwatch(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(wanted), "{stderr}");
    }
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_never_a_success() {
    // Reader and sender end at about the same time, so once is not enough.
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let cut = dir.path().join("cut.gz");
    let log = fs::read(corpus::path("kube-hunter.ndjson.gz")).unwrap();
    fs::write(&cut, &log[..log.len() / 2]).unwrap();
    let cut = cut.display().to_string();
    for _ in 0..20 {
        for log in ["no/such.log", &cut] {
            let output = auditwatch(&["replay", log, "--output", &out, "--speed", "full"]);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
        }
    }
}

#[test]
fn a_line_that_is_too_long_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let line = vec![b'x'; 64 * 1024 * 1024 + 1];
    fs::write(&log, [b"one\n", &line[..], b"\nthree\n"].concat()).unwrap();
    let (log, out) = (
        log.display().to_string(),
        dir.path().join("out").display().to_string(),
    );
    let output = auditwatch(&["replay", &log, "--output", &out, "--speed", "full"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let summary = stdout(&output);
    assert!(
        summary.starts_with("2 events sent, 0 rejected, 0 given up, 1 too long in "),
        "{summary}"
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains(&format!("skipped 1 line longer than 64 MiB: {log}:2")),
        "{stderr}"
    );
    assert_eq!(fs::read_to_string(out).unwrap(), "one\nthree\n");
}

#[test]
fn who_is_told_to_stop_does_not_try_for_ever() {
    let log = corpus::path("kube-hunter.ndjson.gz").display().to_string();
    for signal in ["INT", "TERM"] {
        let mut replay = Process::start(
            Path::new(env!("CARGO_BIN_EXE_auditwatch")),
            &[
                "replay",
                &log,
                "--endpoint",
                "127.0.0.1:1",
                "--speed",
                "full",
                "--max-elapsed-time",
                "0",
            ],
            &[],
        );
        replay.wait_for("trying again", LONG);
        replay.signal(signal);
        assert_eq!(replay.wait(LONG).code(), Some(1), "{}", replay.stderr());
        assert!(
            replay.stderr().contains("events were given up"),
            "{}",
            replay.stderr()
        );
    }
}

/// The rows of a scan that say what was counted, without times.
fn counted(log: &str) -> Vec<String> {
    let output = auditwatch(&["scan", log, "--all", "--output", "ndjson"]);
    assert!(output.status.success(), "{output:?}");
    let rows = stdout(&output);
    let rows = rows.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        ["src_ip", "count", "max_in_window", "count_by_code"]
            .map(|key| row[key].to_string())
            .join(" ")
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    rows
}

/// Requests of several stages, and lines that are read twice, are the same requests when their times are moved.
#[test]
fn a_shift_keeps_the_identity_of_requests() {
    let dir = tempfile::tempdir().unwrap();
    let log = corpus::case("replay-shift-stages.ndjson");
    let log = log.display().to_string();
    let wanted = counted(&log);
    for speed in ["0.5", "1", "60", "100", "full"] {
        let out = dir.path().join(speed).display().to_string();
        let output = auditwatch(&[
            "replay",
            &log,
            "--speed",
            speed,
            "--shift-to-now",
            "--output",
            &out,
        ]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(counted(&out), wanted, "{speed}");
        let ids = |file: &str| {
            let text = fs::read_to_string(file).unwrap();
            let ids = text.lines().map(|line| {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                event["auditID"].to_string()
            });
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(&out), ids(&log), "the order of the log, at {speed}");
    }
}

/// An event of a node before its first answer of NTP does not hold up the others for years.
#[test]
fn a_long_gap_is_cut_with_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let (log, out) = (dir.path().join("log"), dir.path().join("out"));
    let event = |time: &str| format!("{{\"requestReceivedTimestamp\":\"{time}\"}}\n");
    let text = event("2000-01-01T00:00:00.000000Z") + &event("2026-11-25T10:00:00.000000Z");
    fs::write(&log, text).unwrap();
    let (log, out) = (log.display().to_string(), out.display().to_string());
    for shift in [&[][..], &["--shift-to-now"]] {
        let arguments = ["replay", &log, "--output", &out, "--max-gap", "1"];
        let output = auditwatch(&[&arguments[..], shift].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.contains("a wait of 9825 days, was cut to 1 s (--max-gap)"),
            "{stderr}"
        );
    }
}

/// Who is stopped before the end of the log exits with 1, also where nothing is known to be left.
#[test]
fn a_replay_that_is_stopped_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let (log, out) = (dir.path().join("log"), dir.path().join("out"));
    let event = |second: u32| {
        format!("{{\"requestReceivedTimestamp\":\"2026-11-25T10:00:{second:02}.000000Z\"}}\n")
    };
    fs::write(&log, event(0) + &event(25)).unwrap();
    let (log, out) = (log.display().to_string(), out.display().to_string());
    let mut replay = Process::start(
        Path::new(env!("CARGO_BIN_EXE_auditwatch")),
        &["replay", &log, "--output", &out],
        &[],
    );
    while fs::read_to_string(&out).map_or(true, |text| text.is_empty()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    replay.signal("TERM");
    assert_eq!(replay.wait(LONG).code(), Some(1), "{}", replay.stderr());
    assert!(
        replay.stderr().contains("1 events were not sent"),
        "{}",
        replay.stderr()
    );
}
