//! Nothing waits without an end: every call that waits for a peer, a file or a pipe has a deadline.
//!
//! This reads the sources. A call that waits stands in one statement with its deadline, or it is
//! listed here with what ends it. A new one of either kind makes this fail until a reviewer has
//! thought about it.

use std::{collections::BTreeSet, fs, path::Path};

use crate::floors::{production, sources};

/// Calls that wait for a peer, a file or a pipe.
const WAITS: &[&str] = &[
    ".accept()",
    ".connect(",
    "lookup_host(",
    ".read(&",
    ".read_to_end(",
    ".read_exact(",
    "fs::read(",
    ".write_all(",
    ".flush()",
    ".send().await",
    ".send()\n",
    "spawn_blocking(",
    ".frame()",
    ".chunk()",
    ".collect().await",
    ".writable()",
    ".export(",
    "File::open(",
    "OpenOptions::new()",
    "read_to_string(",
    "fs::metadata(",
];

/// What gives a call a deadline when it stands in the same statement.
const DEADLINES: &[&str] = &["deadline::within(", " timeout(", "time::timeout("];

/// Calls whose deadline is elsewhere: file, call, and what ends the wait.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("deadline.rs", "spawn_blocking(", "this is the wrapper"),
    (
        "http_server/accepting.rs",
        ".accept()",
        "it calls accept, which looks up each 100 ms",
    ),
    // Requests that come in.
    (
        "receiver/reading.rs",
        ".frame()",
        "the deadline of the request, in steps.rs",
    ),
    ("receiver/reading.rs", "spawn_blocking(", "it only computes"),
    // Requests that go out: the client gives each exchange its time, body and all.
    (
        "exporter/splunk_hec/connection.rs",
        ".send().await",
        "timeout of the client",
    ),
    (
        "exporter/dead_letter/file.rs",
        ".read_exact(",
        "the thread that writes letters, in dead_letter.rs",
    ),
    (
        "exporter/dead_letter/file.rs",
        ".write_all(",
        "the thread that writes letters, in dead_letter.rs",
    ),
    (
        "exporter/dead_letter/file.rs",
        "OpenOptions::new()",
        "the thread that writes letters, in dead_letter.rs",
    ),
    (
        "exporter/dead_letter/file.rs",
        "fs::metadata(",
        "the thread that writes letters, in dead_letter.rs",
    ),
    (
        "cli/redeliver.rs",
        "fs::read(",
        "a signal: it is at the start",
    ),
    (
        "exporter/otlp_http.rs",
        ".send().await",
        "timeout of the client",
    ),
    (
        "exporter/http_client.rs",
        ".chunk()",
        "timeout of the client",
    ),
    (
        "telemetry/otlp.rs",
        ".send().await",
        "timeout of the client",
    ),
    ("telemetry/otlp.rs", ".chunk()", "timeout of the client"),
    (
        "telemetry/otlp.rs",
        ".export(",
        "it goes to Target::send, which has the timeout",
    ),
    (
        "telemetry/traces.rs",
        ".export(",
        "it goes to Target::send, which has the timeout",
    ),
    (
        "telemetry/otlp.rs",
        "fs::read(",
        "a signal: it is at the start",
    ),
    (
        "exporter/otlp_grpc.rs",
        ".export(",
        "it calls export, which has the timeout",
    ),
    (
        "exporter/otlp_http.rs",
        ".export(",
        "it calls export, which has the timeout",
    ),
    (
        "cli/replay/otlp.rs",
        ".export(",
        "it calls the exporters' own, which have the timeout",
    ),
    ("cli/health.rs", ".send().await", "timeout of the client"),
    // Files that are read or written by a thread, which is waited for with a deadline.
    (
        "exporter/file/lines.rs",
        ".read_exact(",
        "the attempt, in file.rs",
    ),
    (
        "exporter/file/lines.rs",
        ".write_all(",
        "the attempt, in file.rs",
    ),
    (
        "exporter/file/lines.rs",
        "OpenOptions::new()",
        "the attempt, in file.rs",
    ),
    (
        "exporter/file/lines.rs",
        "File::open(",
        "the attempt, in file.rs",
    ),
    (
        "exporter/file/lines.rs",
        "fs::metadata(",
        "the attempt, in file.rs",
    ),
    (
        "exporter/file/pipe.rs",
        "OpenOptions::new()",
        "it opens without waiting",
    ),
    (
        "exporter/file/pipe.rs",
        ".writable()",
        "the attempt, in file.rs",
    ),
    (
        "exporter/file/lines.rs",
        ".flush()",
        "the attempt, in file.rs",
    ),
    (
        "extension/bearer_token_auth.rs",
        ".read_to_end(",
        "reload.rs, or the start's own deadline",
    ),
    (
        "extension/bearer_token_auth.rs",
        "File::open(",
        "reload.rs, or the start's own deadline",
    ),
    (
        "tls.rs",
        "fs::read(",
        "reload.rs, or the start's own deadline",
    ),
    (
        "rules/load/sources.rs",
        "fs::metadata(",
        "rules are read before anything starts",
    ),
    (
        "rules/load/sources.rs",
        "fs::read(",
        "rules are read before anything starts, and only files that are no pipes",
    ),
    (
        "telemetry/output.rs",
        ".write_all(",
        "the thread of the log is waited for with a limit",
    ),
    (
        "telemetry/output.rs",
        ".flush()",
        "the thread of the log is waited for with a limit",
    ),
    (
        "telemetry/escaped.rs",
        ".write_all(",
        "it hands on to the output, which has the limit",
    ),
    (
        "telemetry/escaped.rs",
        ".flush()",
        "it hands on to the output, which has the limit",
    ),
    ("memory.rs", "read_to_string(", "files of the kernel"),
    (
        "telemetry/process.rs",
        "read_to_string(",
        "files of the kernel",
    ),
    (
        "config/env.rs",
        "File::open(",
        "a signal: nothing is started yet",
    ),
    (
        "config/env.rs",
        ".read_to_end(",
        "a signal: nothing is started yet",
    ),
    (
        "visible.rs",
        ".write_all(",
        "it hands on to a writer that is listed here",
    ),
    (
        "visible.rs",
        ".flush()",
        "it hands on to a writer that is listed here",
    ),
    (
        "pipeline/durable.rs",
        ".flush()",
        "it writes to the storage, with the timeout of the storage",
    ),
    (
        "processor/detection/continued.rs",
        ".export(",
        "it copies the state of the engine",
    ),
    (
        "cli/changes.rs",
        "fs::metadata(",
        "it runs on a thread that is waited for with a limit",
    ),
    (
        "service/files.rs",
        "fs::metadata(",
        "who looks at the files has the deadline",
    ),
    (
        "processor/detection/logged.rs",
        ".export(",
        "it copies the state of the engine",
    ),
    ("storage/contract.rs", "fs::read(", "a test"),
    (
        "storage/snapshot_file.rs",
        "File::open(",
        "the thread that reads and writes is waited for with a limit",
    ),
    (
        "storage/snapshot_file.rs",
        "OpenOptions::new()",
        "the thread that writes is waited for with a limit",
    ),
    (
        "storage/snapshot_file.rs",
        ".read_to_end(",
        "the thread that reads is waited for with a limit",
    ),
    (
        "storage/snapshot_file.rs",
        ".write_all(",
        "the thread that writes is waited for with a limit",
    ),
    // A command waits for who runs it, as others do, and ends with a signal.
    ("cli/input.rs", "File::open(", "a signal"),
    ("cli/progress.rs", "fs::metadata(", "a signal"),
    ("cli/replay/target.rs", "OpenOptions::new()", "a signal"),
    ("config/files.rs", "File::open(", "it is a regular file"),
    ("config/files.rs", "fs::metadata(", "a signal"),
    ("cli/print_config.rs", ".write_all(", "a signal"),
    ("cli/pages.rs", ".write_all(", "a signal"),
    ("cli/scan.rs", ".write_all(", "a signal"),
    ("cli/compare/mod.rs", ".write_all(", "a signal"),
    ("cli/compare/mod.rs", ".flush()", "a signal"),
    ("cli/explain/mod.rs", ".write_all(", "a signal"),
    ("cli/explain/mod.rs", ".flush()", "a signal"),
    ("cli/scan.rs", ".flush()", "a signal"),
    (
        "cli/replay/mod.rs",
        "spawn_blocking(",
        "a signal: the reader is not waited for",
    ),
    (
        "cli/replay/target.rs",
        ".write_all(",
        "a signal: the thread is not waited for",
    ),
];

/// The statement that a place of a text is in, roughly: from the end of the one before.
fn statement(text: &str, at: usize) -> String {
    let (before, after) = text.split_at(at);
    let before = before.rsplit([';', '}']).next().unwrap_or_default();
    let after = after.split(';').next().unwrap_or_default();
    format!("{before}{after}")
}

/// The calls of a text that wait and have no deadline beside them.
fn bare(text: &str) -> BTreeSet<&'static str> {
    WAITS
        .iter()
        .filter(|call| {
            text.match_indices(**call).any(|(at, _)| {
                let statement = statement(text, at);
                !DEADLINES.iter().any(|limit| statement.contains(limit))
            })
        })
        .copied()
        .collect()
}

#[test]
fn every_wait_has_a_deadline() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut unused: BTreeSet<_> = ELSEWHERE
        .iter()
        .map(|(file, call, _)| (*file, *call))
        .collect();
    for file in sources() {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        for call in bare(&production(&file, &fs::read_to_string(&file).unwrap())) {
            let listed = ELSEWHERE
                .iter()
                .find(|(file, known, _)| (*file, *known) == (name, call));
            match listed {
                Some((file, call, _)) => drop(unused.remove(&(*file, *call))),
                None => wrong.push(format!(
                    "{name}: {call:?} waits without a deadline beside it"
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unused.is_empty(), "listed, but not there: {unused:?}");
}

/// The checker itself.
#[test]
fn a_deadline_counts_in_its_own_statement_only() {
    let text = "let a = deadline::within(LIMIT, \"a\", x.accept()).await;\n\
                let b = y.frame().await;\nlet c = timeout(LIMIT, async { z.write_all(b).await }).await;\n\
                z.flush().await;";
    assert_eq!(bare(text), [".flush()", ".frame()"].into());
}
