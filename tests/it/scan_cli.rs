//! `auditwatch scan` as a command: exit codes, complaints, flags, and logs written by an attacker.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    auditwatch::{Ran, command, run},
    corpus::path as corpus,
};

/// Files of one test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// An anonymous request refused with 403 in the given second.
fn refused(second: u32, source: &str) -> Value {
    json!({
        "kind": "Event",
        "auditID": format!("id-{second}"),
        "stage": "ResponseComplete",
        "requestURI": format!("/path/{second}"),
        "verb": "get",
        "user": {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
        "sourceIPs": [source],
        "userAgent": "curl/8",
        "responseStatus": {"code": 403, "status": "Failure", "reason": "Forbidden"},
        "requestReceivedTimestamp": format!("2026-11-25T10:{:02}:{:02}.000001Z", second / 60, second % 60),
    })
}

fn log(events: impl IntoIterator<Item = Value>) -> String {
    events.into_iter().fold(String::new(), |text, event| {
        text + &event.to_string() + "\n"
    })
}

fn six(source: &str) -> String {
    log((0..6).map(|second| refused(second, source)))
}

fn scan(flags: &[&str], files: &[&Path]) -> Ran {
    let flags = flags.iter().map(AsRef::as_ref);
    let files = files.iter().map(|file| file.as_os_str());
    run(["scan".as_ref()].into_iter().chain(flags).chain(files))
}

fn rows(ran: &Ran) -> Vec<Value> {
    ran.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn findings_end_with_1_only_when_asked_for() {
    let folder = Folder::new();
    let scanned = folder.file("scanned", six("192.0.2.1"));
    let quiet = folder.file(
        "quiet",
        log((0..5).map(|second| refused(second, "192.0.2.1"))),
    );
    for output in ["table", "json", "ndjson", "findings", "html"] {
        for (file, flags, code) in [
            (&scanned, &[] as &[&str], 0),
            (&scanned, &["--fail-on-findings"], 1),
            (&quiet, &["--fail-on-findings"], 0),
            (&quiet, &["--fail-on-findings", "--threshold", "4"], 1),
        ] {
            let ran = scan(&[&["--output", output], flags].concat(), &[file]);
            assert_eq!(
                (ran.code, ran.err.as_str()),
                (code, ""),
                "{output} {flags:?}"
            );
        }
    }
    // Silent keys are no findings.
    let ran = scan(
        &["--fail-on-findings", "--all", "--output", "ndjson"],
        &[&quiet],
    );
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1));
    let ran = scan(&["--fail-on-findings", "--semantics", "escu"], &[&scanned]);
    assert_eq!(ran.code, 1);
}

/// An entry of `exclude` keeps what it matches from counting, in every output, and is counted.
#[test]
fn what_is_excluded_does_not_count() {
    let folder = Folder::new();
    let scanned = folder.file("scanned", six("192.0.2.1") + &six("10.0.0.7"));
    let entry = "{name: balancer, cidr: [10.0.0.0/28], code: [403]}";
    for (output, flags, counts) in [
        ("ndjson", &[][..], [true, true]),
        ("ndjson", &["--exclude", entry], [true, false]),
        ("findings", &["--exclude", entry], [true, false]),
        ("table", &["--exclude", entry], [true, false]),
        (
            "ndjson",
            &["--exclude", "{name: x, path: [/path/0]}"],
            [false, false],
        ),
    ] {
        let ran = scan(&[&["--output", output], flags].concat(), &[&scanned]);
        for (address, counts) in ["192.0.2.1", "10.0.0.7"].into_iter().zip(counts) {
            assert_eq!(
                ran.out.contains(address),
                counts,
                "{output} {flags:?}: {}",
                ran.out
            );
        }
        let said = ran
            .err
            .contains("auditwatch: events excluded: 6 by balancer");
        assert_eq!(said, flags.contains(&entry), "{}", ran.err);
    }
    for (flags, why) in [
        (&["--exclude", "{name: x, host: [a]}"][..], "host"),
        (&["--exclude", "{name: x}"], "needs a condition"),
        (&["--exclude", "{name: x,\n path: [/]}"], "on one line"),
        (
            &["--exclude", entry, "--semantics", "escu"],
            "--semantics escu",
        ),
    ] {
        let ran = scan(flags, &[&scanned]);
        assert!(
            ran.code != 0 && ran.err.contains(why),
            "{flags:?}: {}",
            ran.err
        );
    }
}

#[test]
fn an_unreadable_file_costs_itself_only_and_ends_with_2() {
    let folder = Folder::new();
    let good = folder.file("good", six("192.0.2.1"));
    let torn = flate2_of(&six("192.0.2.2"));
    let torn = folder.file("torn.gz", &torn[..torn.len() - 9]);
    let missing = folder.0.path().join("missing");
    for bad in [&missing, &torn, &folder.0.path().to_owned()] {
        for flags in [
            &["--output", "ndjson"] as &[&str],
            &["--output", "ndjson", "--fail-on-findings"],
        ] {
            let ran = scan(flags, &[bad, &good]);
            assert_eq!(ran.code, 2, "{bad:?}");
            assert!(ran.err.contains("cannot read"), "{}", ran.err);
            assert!(ran.err.contains(&bad.display().to_string()), "{}", ran.err);
            assert!(
                rows(&ran).iter().any(|row| row["src_ip"] == "192.0.2.1"),
                "{}",
                ran.out
            );
        }
    }
}

fn flate2_of(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    member.write_all(text.as_bytes()).unwrap();
    member.finish().unwrap()
}

#[test]
fn lines_that_are_no_json_are_counted_with_the_first_numbers() {
    let folder = Folder::new();
    let mut text = six("192.0.2.1");
    text.push_str("\n   \n");
    for _ in 0..7 {
        text.push_str("{\"torn\":\n");
    }
    text.push_str("[1]\n\"text\"\n");
    text.push_str("{\"items\":[5,{}]}\n{} {}");
    let file = folder.file("log", &text);
    let ran = scan(&["--output", "ndjson"], &[&file]);
    assert_eq!((ran.code, rows(&ran).len()), (0, 1));
    let name = file.display();
    let first: Vec<_> = (9..14).map(|line| format!("{name}:{line}")).collect();
    assert!(
        ran.err.contains(&format!(
            "skipped 8 lines that are not JSON: {}, ...",
            first.join(", ")
        )),
        "{}",
        ran.err
    );
    let others: Vec<_> = (16..19).map(|line| format!("{name}:{line}")).collect();
    assert!(ran.err.contains("skipped 3 lines"), "{}", ran.err);
    assert!(ran.err.contains(&others.join(", ")), "{}", ran.err);
}

#[test]
fn flags_that_mean_nothing_are_refused_by_name() {
    let folder = Folder::new();
    let file = folder.file("log", six("192.0.2.1"));
    let geo = corpus("test-geo.mmdb").display().to_string();
    for (flag, line) in [
        ("--codes", "--semantics escu --codes 403"),
        ("--who", "--semantics escu --who group"),
        (
            "--trusted-proxies",
            "--semantics escu --trusted-proxies 10.0.0.0/8",
        ),
        ("--ipv6-prefix", "--semantics escu --ipv6-prefix 64"),
        ("--ipv6-prefix", "--semantics escu --ipv6-prefix 128"),
        ("--all", "--semantics escu --all"),
        ("--window-offset", "--window-offset 50m"),
        ("--window-offset", "--window-offset 0"),
        ("--missing-city", "--geo-db GEO --missing-city drop"),
        ("--geo-db", "--semantics escu --missing-city drop"),
        ("--all", "--output findings --all"),
        ("--window", "--window 0"),
        ("--window", "--window soon"),
        ("--window", "--window=-1h"),
        ("--window", "--window 9223372036854775807"),
        ("--trusted-proxies", "--trusted-proxies 10.0.0.1/8"),
        ("--trusted-proxies", "--trusted-proxies proxy"),
        ("--ipv6-prefix", "--ipv6-prefix 0"),
        ("--ipv6-prefix", "--ipv6-prefix 129"),
        ("--codes", "--codes 4o3"),
        ("--who", "--who nobody"),
        ("--threshold", "--threshold=-1"),
    ] {
        let flags: Vec<_> = line
            .split(' ')
            .map(|word| if word == "GEO" { geo.as_str() } else { word })
            .collect();
        let ran = scan(&flags, &[&file]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line}");
        assert!(ran.err.contains(flag), "{line}: {}", ran.err);
    }
    assert_eq!(scan(&[], &[]).code, 2);
}

#[test]
fn a_database_that_is_none_ends_with_2_before_anything_is_read() {
    let folder = Folder::new();
    let file = folder.file("log", six("192.0.2.1"));
    let bad = folder.file("bad.mmdb", "not a database");
    for path in [bad, folder.0.path().join("missing.mmdb")] {
        let flag = path.display().to_string();
        let ran = scan(&["--geo-db", &flag], &[&file]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""));
        assert!(ran.err.contains(&flag), "{}", ran.err);
    }
}

#[test]
fn the_table_shows_terminal_sequences_escaped_and_says_how_many_more() {
    let folder = Folder::new();
    let text = log((0..40).map(|second| {
        let mut event = refused(second, "192.0.2.1");
        event["userAgent"] = json!("\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}evil");
        event["verb"] = json!("g\u{1b}[31met");
        event
    }));
    let file = folder.file("log", text);
    let ran = scan(&[], &[&file]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let harmless = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(ran.out.chars().all(harmless), "{:?}", ran.out);
    assert!(
        ran.out
            .contains(r"\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}evil"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains(r"g\u{1b}[31met"), "{}", ran.out);
    let paths = ran
        .out
        .lines()
        .find(|line| line.trim_start().starts_with("paths"))
        .unwrap();
    let shown = paths.matches("/path/").count();
    assert!(shown > 1, "{paths}");
    assert!(
        paths.ends_with(&format!(" and {} more", 40 - shown)),
        "{paths}"
    );
    // In escu semantics the address itself is the attacker's.
    let hostile = folder.file("hostile", six("1\u{1b}[2J\u{2028}"));
    let ran = scan(&["--semantics", "escu"], &[&hostile]);
    assert!(ran.out.contains(r"1\u{1b}[2J\u{2028}"), "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for output in ["table", "json", "ndjson", "findings", "html"] {
        let mut args = vec!["scan", "--output", output];
        if output != "findings" {
            args.push("--all");
        }
        let file = corpus("scenario-1.ndjson.gz");
        let mut child = command(&args)
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{output}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{output}");
    }
}

/// Lines as an attacker, or a broken sender, may have put them into a log.
fn hostile_log() -> Vec<u8> {
    let mut log = Vec::new();
    let mut add = |line: &[u8]| {
        log.extend_from_slice(line);
        log.push(b'\n');
    };
    // One request that names the same address 349,001 times.
    let mut event = refused(0, "");
    event["sourceIPs"] = Value::Array(vec![json!("::"); 349_001]);
    let line = event.to_string();
    assert!(line.len() > 1_740_000);
    add(line.as_bytes());
    // One audit id of 200 KB, delivered six times.
    event = refused(1, "198.51.100.1");
    event["auditID"] = json!("x".repeat(200_000));
    for _ in 0..6 {
        add(event.to_string().as_bytes());
    }
    add(br#"{"kind":0}"#);
    add(br#"{"kind":0,"responseStatus":{"code":403},"user":0,"sourceIPs":0,"verb":0}"#);
    for second in 0..6 {
        event = refused(second, "198.51.100.2");
        event["requestReceivedTimestamp"] = Value::Null;
        add(event.to_string().as_bytes());
        event["requestReceivedTimestamp"] = json!("yesterday");
        add(event.to_string().as_bytes());
    }
    add(&[0; 3]);
    add(b"{\"verb\":\"a\0b\"}");
    for second in 0..6 {
        event = refused(second, "192.0.2.9");
        event["userAgent"] = json!("nul:\u{0};BAD");
        let line = event.to_string();
        let (before, after) = line.split_once("BAD").unwrap();
        add(&[before.as_bytes(), b"\xff\xed\xa0\x80", after.as_bytes()].concat());
    }
    for (second, source) in ["", "private", "192.0.2.1:443", "<script>", "1.2.3", "::1::"]
        .into_iter()
        .enumerate()
    {
        add(refused(u32::try_from(second).unwrap(), source)
            .to_string()
            .as_bytes());
    }
    log
}

#[test]
fn a_hostile_log_gives_sane_native_rows() {
    let folder = Folder::new();
    let file = folder.file("log", hostile_log());
    let ran = scan(&["--output", "ndjson", "--all"], &[&file]);
    assert_eq!(ran.code, 0);
    let counts: Vec<_> = rows(&ran)
        .iter()
        .map(|row| {
            (
                row["src_ip"].as_str().unwrap().to_owned(),
                row["count"].as_u64().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("192.0.2.9", 6),
        ("198.51.100.1", 1),
        ("::", 1),
        ("unknown", 6),
    ];
    assert_eq!(
        counts,
        wanted.map(|(source, count)| (source.to_owned(), count))
    );
    // The event of kind 0 counts (nobody asked, 403), but has no time either.
    assert!(ran.err.contains("left out 13 events"), "{}", ran.err);
    assert!(
        ran.err.contains("skipped 2 lines that are not JSON"),
        "{}",
        ran.err
    );
}

#[test]
fn a_hostile_log_gives_the_rows_splunk_would_give() {
    let folder = Folder::new();
    let file = folder.file("log", hostile_log());
    let ran = scan(&["--output", "ndjson", "--semantics", "escu"], &[&file]);
    assert_eq!(ran.code, 0);
    let rows = rows(&ran);
    let counts: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["src_ip"].as_str().unwrap(),
                row["count"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        counts,
        [("192.0.2.9", 6), ("198.51.100.1", 6), ("::", 349_001)]
    );
    assert_eq!(
        rows[0]["userAgent"],
        json!(["nul:\u{0};\u{fffd}\u{fffd}\u{fffd}\u{fffd}"])
    );
}

#[test]
fn what_the_service_would_export_survives_a_hostile_log() {
    let folder = Folder::new();
    let file = folder.file("log", hostile_log());
    for semantics in ["native", "escu"] {
        let ran = scan(
            &["--output", "findings", "--semantics", semantics],
            &[&file],
        );
        assert_eq!(ran.code, 0);
        assert!(ran.out.len() < 20_000, "{} bytes", ran.out.len());
        for finding in rows(&ran) {
            // At the end of the log what is open is closed.
            assert!(finding["state"] == "opened" || finding["close_reason"] == "shutdown");
            assert_eq!(finding["semantics"], semantics);
        }
    }
}
