//! What others wrote, on its way to a terminal, a log or a configuration; settings that look right
//! and can never work; and a replay that was stopped.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use auditwatch::visible::is_visible;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use serde_json::{Value, json};
use tonic::Status;

use crate::support::{
    auditwatch::{command, run},
    corpus::denied,
    hec::{Answer, HecServer, Options},
    otlp_peer::{Answer as OtlpAnswer, Peer, Protocol},
    process::{Process, free_address, now},
    sender::{client, request},
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);

/// A sequence for terminals, C1 controls, DEL, marks that turn the direction, line ends of all
/// kinds, what takes no room, tags, and quotes.
const HOSTILE: &str = "a\u{1b}[31m\u{1b}]0;x\u{7}b\u{9b}2Jc\u{7f}\u{85}d\u{202e}e\u{2066}\u{200f}\u{61c}\
                       f\u{2028}\u{2029}g\u{200b}\u{feff}\u{e0041}\r\n\t\u{0}h\"\\";

/// A name of a file with such characters, and bytes that are no text.
fn hostile_name() -> OsString {
    OsStr::from_bytes(b"n\x1b[31m\n\xc2\x9b\xe2\x80\xae\xe2\x80\xa8\x7f\xffame").to_owned()
}

/// The same as messages show it.
const NAME_SHOWN: &str = r"n\u{1b}[31m\n\u{9b}\u{202e}\u{2028}\u{7f}\xffame";

#[track_caller]
fn assert_visible(text: &str) {
    let foreign: Vec<char> = text
        .chars()
        .filter(|c| *c != '\n' && !is_visible(*c))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?} in {text:?}");
}

/// An event of [`denied`] with hostile values in every place.
fn hostile_event(source: &str, at: u32) -> String {
    let mut event: Value = serde_json::from_str(&denied(source, at, HOSTILE)).unwrap();
    event["userAgent"] = json!(HOSTILE);
    event["verb"] = json!(HOSTILE);
    event["user"]["groups"] = json!(["system:unauthenticated", HOSTILE]);
    event["responseStatus"]["message"] = json!(HOSTILE);
    event["responseStatus"]["reason"] = json!(HOSTILE);
    event["sourceIPs"] = json!([HOSTILE, source]);
    event.to_string()
}

#[test]
fn no_output_of_scan_acts_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let lines: Vec<_> = (0..7).map(|at| hostile_event("203.0.113.7", at)).collect();
    fs::write(&log, lines.join("\n")).unwrap();
    for semantics in ["native", "escu"] {
        for output in ["table", "json", "ndjson", "findings", "html"] {
            let ran = run([
                OsStr::new("scan"),
                log.as_os_str(),
                OsStr::new("--semantics"),
                OsStr::new(semantics),
                OsStr::new("--output"),
                OsStr::new(output),
            ]);
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert_visible(&ran.out);
            assert_visible(&ran.err);
            // Read again, values are what was logged.
            let row: Value = match output {
                "json" => serde_json::from_str::<Value>(&ran.out).unwrap()[0].clone(),
                "ndjson" | "findings" => {
                    serde_json::from_str(ran.out.lines().next().unwrap()).unwrap()
                }
                _ => continue,
            };
            // Native rows hold numbers alone.
            if semantics == "native" && output != "findings" {
                continue;
            }
            let texts = row.as_object().unwrap().values();
            assert!(
                texts
                    .filter_map(Value::as_array)
                    .any(|list| list.contains(&json!(HOSTILE))),
                "{row}"
            );
        }
    }
}

#[test]
fn a_name_of_a_file_is_shown_and_not_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("no").join(hostile_name());
    let there = folder.path().join(hostile_name());
    fs::write(&there, "no json\n{\"a\":1}\nreceivers: [\n").unwrap();
    let config_of = |path: &Path| [OsStr::new("--config"), path.as_os_str()].map(OsStr::to_owned);
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let with = |before: &[&str], path: &Path, after: &[&str]| {
        let mut all = words(before);
        all.push(path.as_os_str().to_owned());
        all.extend(words(after));
        all
    };
    let mut runs = vec![
        with(&["scan"], &absent, &[]),
        with(&["scan"], &there, &[]),
        with(&["scan", "x", "--geo-db"], &absent, &[]),
        with(&["scan", "x", "--geo-db"], &there, &[]),
        with(&["replay"], &absent, &["--output", "/dev/null"]),
        with(&["replay", "/dev/null", "--output"], &absent, &[]),
        with(
            &[
                "replay",
                "x",
                "--endpoint",
                "https://127.0.0.1:1",
                "--ca-file",
            ],
            &absent,
            &[],
        ),
        with(&["man"], &there, &[]),
        with(&["scan", "x", "--output"], &absent, &[]),
        with(&[], &absent, &[]),
    ];
    for path in [&absent, &there] {
        for command in [&[][..], &["validate"], &["print-config"]] {
            let mut all = words(command);
            all.extend(config_of(path));
            runs.push(all);
        }
    }
    for arguments in runs {
        let output = command(&arguments).output().unwrap();
        // A name that is no text cannot be one in YAML or on the screen.
        let err = String::from_utf8(output.stderr).unwrap();
        assert_visible(&err);
        assert!(
            err.contains(NAME_SHOWN) || err.contains("is not UTF-8"),
            "{arguments:?}: {err}"
        );
        assert!(!err.contains("\nname"), "{err}");
    }
}

/// A configuration with something in one of its places.
fn config(receiver: &str, detection: &str, exporter: &str, extension: &str) -> String {
    let extensions = if extension.is_empty() {
        ""
    } else {
        "extensions: [bearertokenauth]\n  "
    };
    let name = exporter.split(':').next().unwrap();
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'{receiver}}}}}}}}}
processors: {{detection: {{{detection}}}}}
exporters: {{{exporter}}}
{extension}
service:
  telemetry: {{metrics: {{level: none}}}}
  {extensions}pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [{name}]}}}}
"
    )
}

const FILE: &str = "/no/n\u{1b}[31m\n\u{9b}\u{202e}ame";
const FILE_SHOWN: &str = r"/no/n\u{1b}[31m\n\u{9b}\u{202e}ame";

#[test]
fn a_name_of_a_file_in_a_configuration_is_shown_and_not_obeyed() {
    let quoted = json!(FILE).to_string();
    let hec = |keys: &str| format!("splunk_hec: {{endpoint: 'https://a', {keys}}}");
    let inside = json!(format!("${{file:{FILE}}}"));
    for text in [
        config(
            &format!(", tls: {{cert_file: {quoted}, key_file: k}}"),
            "",
            "debug: ",
            "",
        ),
        config(
            "",
            &format!("geo: {{databases: [{quoted}]}}"),
            "debug: ",
            "",
        ),
        config("", "", &format!("file: {{path: {quoted}}}"), ""),
        config(
            "",
            "",
            &hec(&format!("token: t, tls: {{ca_file: {quoted}}}")),
            "",
        ),
        config(
            "",
            "",
            "debug: ",
            &format!("extensions: {{bearertokenauth: {{filename: {quoted}}}}}"),
        ),
        config("", "", &hec(&format!("token: {inside}")), ""),
    ] {
        assert!(told_of(&text).contains(FILE_SHOWN), "{text}");
    }
    // Names of keys, and values that are no names of anything.
    for text in [
        config("", &format!("{quoted}: 1"), "debug: ", ""),
        config("", &format!("window: {quoted}"), "debug: ", ""),
        config("", "", "debug/\u{202e}: ", ""),
        config(
            "",
            "",
            &hec(&format!("token: t, headers: {{{quoted}: x, a: {quoted}}}")),
            "",
        ),
    ] {
        told_of(&text);
    }
}

/// The errors of a configuration that cannot be started.
#[track_caller]
fn told_of(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    assert_visible(&run(["validate", "--config", config]).err);
    let started = run(["--config", config]);
    assert_visible(&started.err);
    assert_eq!(started.code, 1, "{text}\n{}", started.err);
    // Each problem is a line, which says where it stands.
    for line in started.err.lines().filter(|line| !line.contains(" INFO ")) {
        assert!(
            line.starts_with(config) || line.starts_with("auditwatch: "),
            "{line:?} of\n{}",
            started.err
        );
    }
    started.err
}

#[test]
fn a_printed_configuration_is_visible_and_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    fs::write(
        &first,
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}
processors: {{detection: {{cluster: {}}}}}
exporters: {{debug: }}
service: {{pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [debug]}}}}}}
",
            json!(HOSTILE)
        ),
    )
    .unwrap();
    let printed = |path: &PathBuf| run(["print-config", "--config", path.to_str().unwrap()]);
    let once = printed(&first);
    assert_eq!(once.code, 0, "{}", once.err);
    assert_visible(&once.out);
    fs::write(&second, &once.out).unwrap();
    assert_eq!(printed(&second).out, once.out);
}

#[test]
fn an_argument_that_is_wrong_is_shown_and_not_obeyed() {
    for arguments in [
        vec!["--\u{1b}[31m\u{9b}"],
        vec!["\u{1b}]0;x\u{7}"],
        vec!["scan", "--threshold", "\u{1b}[2J\n5"],
        vec!["scan", "x", "--output", "j\u{202e}son"],
        vec!["scan", "x", "--window", "\u{9b}1h"],
        vec!["scan", "x", "--trusted-proxies", "10.0.0.0/8\u{1b}[31m"],
        vec!["scan", "x", "--color", "\u{7f}"],
        vec!["replay", "x", "--header", "\u{85}=x"],
        vec!["replay", "x", "--header", "a\u{1b}b=x"],
        vec!["replay", "x", "--endpoint", "\u{1b}[31m"],
        vec!["--set", "\u{1b}[31m"],
        vec!["--config", "https://\u{1b}[31m"],
        vec!["--config", "env:\u{1b}[31m"],
        vec!["validate", "--config", "yaml:\u{1b}[31m"],
        vec!["validate", "--set", "\u{1b}[31m=1", "--config", "yaml:"],
        vec!["health", "--endpoint", "x://\u{1b}[31m"],
        vec!["health", "--endpoint", "127.0.0.1:1/\u{9b}\u{202e}"],
    ] {
        // As on a terminal, where clap would let sequences through.
        let output = command(&arguments)
            .env("CLICOLOR_FORCE", "1")
            .output()
            .unwrap();
        let err = without_colours(&String::from_utf8(output.stderr).unwrap());
        assert_visible(&err);
        assert!(!output.status.success() && !err.is_empty(), "{arguments:?}");
    }
    // What clap says with colours it says of the argument as a whole.
    let ran = run(["scan", "--thr\u{1b}[31meshold"]);
    assert!(ran.err.contains(r"--thr\u{1b}[31meshold"), "{}", ran.err);
}

/// A text without the sequences for colours and weight that clap and tracing write.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('m').unwrap();
        assert!(
            code.len() <= 2 && code.chars().all(|c| c.is_ascii_digit()),
            "{code:?} in {text:?}"
        );
        plain.push_str(rest);
    }
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_health_is_shown_and_not_obeyed() {
    let peer = Peer::start(Protocol::Http).await;
    let long = format!("{HOSTILE}{}", "x".repeat(4 << 20));
    peer.answer_next([OtlpAnswer::Http(200, vec![], long.into_bytes())]);
    let url = format!("http://{}/", peer.address);
    let asked = tokio::task::spawn_blocking(move || run(["health", "--endpoint", &url]));
    let ran = asked.await.unwrap();
    assert_visible(&ran.out);
    assert_visible(&ran.err);
    assert!(ran.out.len() < 1 << 20, "{} bytes", ran.out.len());
    assert!(ran.out.contains(r"\u{1b}[31m"), "{}", ran.out);
}

/// A request whose cluster is hostile too.
fn hostile_request(at: u32) -> ExportLogsServiceRequest {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
    let lines: Vec<_> = (0..7)
        .map(|second| hostile_event(&format!("203.0.113.{at}"), second))
        .collect();
    let mut request = request(&lines);
    let resource = request.resource_logs[0].resource.as_mut().unwrap();
    resource.attributes[0].value = Some(AnyValue {
        value: Some(Value::StringValue(HOSTILE.to_owned())),
    });
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_the_log_acts_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    for (encoding, colours, verbosity) in [
        ("console", "0", "detailed"),
        ("console", "1", "normal"),
        ("json", "0", "detailed"),
    ] {
        let hec = HecServer::start(Options::default()).await;
        let grpc = Peer::start(Protocol::Grpc).await;
        let http = Peer::start(Protocol::Http).await;
        hec.answer_next(vec![
            Answer::new(400, json!({"text": HOSTILE, "code": 6}).to_string()),
            Answer::new(503, HOSTILE),
        ]);
        grpc.answer_next([
            OtlpAnswer::Grpc(Err(Status::unavailable(HOSTILE))),
            OtlpAnswer::Grpc(Err(Status::invalid_argument(HOSTILE))),
        ]);
        http.answer_next([OtlpAnswer::Http(400, vec![], HOSTILE.as_bytes().to_vec())]);
        let address = free_address();
        let config = folder.path().join(format!("{encoding}{colours}.yaml"));
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}
processors: {{detection: }}
exporters:
  splunk_hec: {{token: test-token, endpoint: '{}', retry_on_failure: {{initial_interval: 10ms}}}}
  otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}, retry_on_failure: {{initial_interval: 10ms}}}}
  otlp_http: {{endpoint: 'http://{}', retry_on_failure: {{initial_interval: 10ms}}}}
  debug: {{verbosity: {verbosity}}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: debug, encoding: {encoding}}}}}
  pipelines:
    logs: {{receivers: [otlp], processors: [detection], exporters: [splunk_hec, otlp_grpc, otlp_http, debug]}}
",
            hec.url(),
            grpc.address,
            http.address
        );
        fs::write(&config, text).unwrap();
        let variables = [
            ("CLICOLOR_FORCE", colours.to_owned()),
            ("NO_COLOR", if colours == "0" { "1" } else { "" }.to_owned()),
        ];
        let mut process = Process::auditwatch_as_it_is(&config, &variables);
        process.wait_for("listening", LONG);
        for at in 0..3 {
            client(address)
                .await
                .export(hostile_request(at))
                .await
                .unwrap();
        }
        let begin = now();
        while [hec.requests().len(), grpc.seen().len(), http.seen().len()]
            .iter()
            .any(|seen| *seen < 2)
        {
            assert!(begin.elapsed() < LONG, "{}", process.stderr());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process.signal("TERM");
        let ended = tokio::task::spawn_blocking(move || {
            process.wait(LONG);
            process.stderr()
        });
        let log = ended.await.unwrap();
        assert!(
            colours == "0" || log.contains("\u{1b}["),
            "no colours:\n{log}"
        );
        let log = without_colours(&log);
        assert_visible(&log);
        assert!(log.contains("202e") && log.contains("9b"), "{log}");
        if encoding == "json" {
            for line in log.lines() {
                serde_json::from_str::<Value>(line).unwrap();
            }
        }
    }
}

/// What is written by `display` or a derived error goes to terminals as it is.
#[test]
fn names_of_files_are_shown_through_one_function() {
    fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, files);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        if file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        for (at, line) in code.lines().enumerate() {
            let derived = line.contains("#[error(") && line.contains("{path}");
            assert!(
                !line.contains(".display()") && !derived,
                "{}:{}: {line}: show it with visible::path",
                file.display(),
                at + 1
            );
        }
    }
}

fn validated(text: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let checked = run(["validate", "--config", config]);
    if checked.code != 0 {
        // What is refused there does not start either, in the same words.
        let started = run(["--config", config]);
        assert_eq!((started.code, started.out.as_str()), (1, ""));
        assert!(started.err.contains(checked.err.trim()), "{}", started.err);
    }
    (checked.code, checked.err)
}

/// A configuration with these keys of `splunk_hec`.
fn hec(keys: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors: {{detection: }}
exporters: {{splunk_hec: {{{keys}}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [splunk_hec]}}}}
"
    )
}

#[test]
fn a_variable_without_braces_is_refused_where_it_would_be_sent_as_it_is() {
    for keys in [
        "token: $TOKEN, endpoint: 'http://a'",
        "token: t, endpoint: $URL",
        "token: t, endpoint: 'https://$HOST:8088'",
        "token: t, endpoint: 'http://a', headers: {X-A: Bearer $TOKEN}",
    ] {
        let (code, stderr) = validated(&hec(keys));
        assert_eq!(code, 1, "{keys}");
        assert!(
            stderr.contains("${env:") && !stderr.contains("TOKEN"),
            "{stderr}"
        );
    }
    for keys in [
        "token: $$TOKEN, endpoint: 'http://a'",
        "token: pa$word, endpoint: 'http://a'",
        "token: '${env:PATH:-x}', endpoint: 'http://a'",
    ] {
        let (code, stderr) = validated(&hec(keys));
        assert_eq!(code, 0, "{stderr}");
    }
}

#[test]
fn an_endpoint_of_hec_that_takes_no_events_is_refused() {
    for path in ["raw", "raw/1.0", "ack", "health", "health/1.0/"] {
        let (code, stderr) = validated(&hec(&format!(
            "token: t, endpoint: 'https://a:8088/services/collector/{path}'"
        )));
        assert_eq!(code, 1, "{path}");
        assert!(
            stderr.contains("end it with /services/collector"),
            "{stderr}"
        );
    }
    let good = "token: t, endpoint: 'https://a:8088/services/collector/event'";
    assert_eq!(validated(&hec(good)).0, 0);
}

#[test]
fn trust_in_every_address_is_refused_unless_it_is_meant() {
    let config = |keys: &str| {
        hec("token: t, endpoint: 'http://a'")
            .replace("detection: }", &format!("detection: {{{keys}}}}}"))
    };
    for proxies in ["0.0.0.0/0", "'::/0'", "'0.0.0.0/1,128.0.0.0/1'"] {
        let (code, stderr) = validated(&config(&format!("trusted_proxies: {proxies}")));
        assert_eq!(code, 1, "{proxies}");
        assert!(stderr.contains("allow_all: true"), "{stderr}");
        let meant = format!("trusted_proxies: {proxies}, allow_all: true");
        assert_eq!(validated(&config(&meant)).0, 0);
    }
    assert_eq!(validated(&config("trusted_proxies: 10.0.0.0/8")).0, 0);
    let scan = ["scan", "/dev/null", "--trusted-proxies", "0.0.0.0/0"];
    let refused = run(scan);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("--allow-all"), "{}", refused.err);
    assert_eq!(run([&scan[..], &["--allow-all"]].concat()).code, 0);
}

#[test]
fn an_inline_key_that_can_never_work_is_an_error_and_a_file_a_note() {
    let tls = |tls: &str| hec(&format!("token: t, endpoint: 'https://a', tls: {{{tls}}}"));
    for (keys, wanted) in [
        ("cert_file: c, key_pem: s3cret", "key_pem: holds no"),
        (
            "cert_file: c, key_pem: '-----BEGIN ENCRYPTED PRIVATE KEY-----'",
            "key_pem: is encrypted",
        ),
        ("cert_pem: x, key_file: k", "cert_pem: holds no"),
        ("ca_pem: x", "ca_pem: holds no"),
    ] {
        let (code, stderr) = validated(&tls(keys));
        assert_eq!(code, 1, "{keys}");
        assert!(
            stderr.contains(wanted) && !stderr.contains("s3cret"),
            "{stderr}"
        );
    }
    let (code, stderr) = validated(&tls("cert_file: c, key_file: k"));
    assert_eq!(code, 0);
    assert!(stderr.starts_with("note: "), "{stderr}");
}

/// Lines of a log whose second half is due in an hour.
fn slow_log(folder: &Path) -> PathBuf {
    let event = |minute: u32| {
        json!({"requestReceivedTimestamp": format!("2026-11-25T1{}:00:0{}.000000Z", minute / 4, minute % 4)})
            .to_string()
    };
    let log = folder.join("log");
    let lines: Vec<_> = (0..8).map(event).collect();
    fs::write(&log, lines.join("\n")).unwrap();
    log
}

#[test]
fn a_replay_that_is_stopped_says_what_was_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let log = slow_log(folder.path());
    for signal in ["INT", "TERM"] {
        let out = folder.path().join(signal);
        let mut child = command([
            OsStr::new("replay"),
            log.as_os_str(),
            OsStr::new("--output"),
            out.as_os_str(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let begin = now();
        while fs::read_to_string(&out).unwrap_or_default().lines().count() < 4 {
            assert!(begin.elapsed() < LONG, "nothing was written");
            std::thread::sleep(Duration::from_millis(20));
        }
        let killed = std::process::Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        let begin = now();
        while child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < LONG, "still running");
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = child.wait_with_output().unwrap();
        let summary = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{summary}{stderr}");
        assert!(
            summary.starts_with("4 events sent, 0 rejected, 0 given up, 4 not sent in "),
            "{summary}"
        );
        assert!(stderr.contains("4 events were not sent"), "{stderr}");
    }
}

/// Standard input has no end to wait for: all that came was sent, and that is well.
#[test]
fn a_replay_of_standard_input_that_is_stopped_has_nothing_left() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut child = command([
        OsStr::new("replay"),
        OsStr::new("-"),
        OsStr::new("--output"),
        out.as_os_str(),
        OsStr::new("--speed"),
        OsStr::new("full"),
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"{\"a\":1}\n").unwrap();
    let begin = now();
    while fs::metadata(&out).map_or(true, |about| about.len() == 0) {
        // It is written with what comes after it, or when it is stopped.
        if begin.elapsed() > Duration::from_secs(1) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "{\"a\":1}\n");
    drop(stdin);
}
