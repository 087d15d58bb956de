//! What the labels of a detection cost for each hit: making a hit of a parsed event, with the
//! labels of the detection of scans and without. `cargo bench --bench labels`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::{hint::black_box, time::Instant};

use auditwatch::{
    detection::{
        json::{self, Document},
        limits::Bounds,
        rule::Rule,
    },
    rules::{Scratch, model::Detection},
};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: u32 = 15;
const EVENTS: u32 = 20_000;
/// As the service keeps them.
const BOUNDS: Bounds = Bounds {
    value_bytes: 1024,
    source_ips: 64,
    values: 100,
};

/// Events by name: verb, URI by number, user agent, code, object.
type Kind = (&'static str, fn(u32) -> [String; 5]);

const KINDS: [Kind; 6] = [
    ("health probe, curl", |_| {
        event("get", "/healthz", "curl/8.5.0", "403", "")
    }),
    ("random path, curl", |n| {
        let path = format!("/{:x}/{:x}", mixed(n), mixed(n + 1));
        event("get", &path, "curl/8.5.0", "403", "")
    }),
    ("list secrets, browser", |n| {
        let path = format!("/api/v1/namespaces/n{n}/secrets?limit=500");
        let object =
            r#""objectRef":{"resource":"secrets","namespace":"default","apiVersion":"v1"},"#;
        event(
            "list",
            &path,
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
            "403",
            object,
        )
    }),
    ("401, client-go", |n| {
        let path = format!("/api/v1/pods?allowWatchBookmarks=true&resourceVersion={n}&watch=true");
        let object = r#""objectRef":{"resource":"pods","apiVersion":"v1"},"#;
        event(
            "watch",
            &path,
            "controller/v0.1 (linux/amd64) kubernetes/abcdef0",
            "401",
            object,
        )
    }),
    ("1 KiB random URI and agent", |n| {
        let words: Vec<_> = (0..64)
            .map(|at| format!("{:016x}", mixed(n * 64 + at)))
            .collect();
        let text = words.concat();
        event("get", &format!("/{text}"), &text, "403", "")
    }),
    ("1 KiB of dots and slashes", |n| {
        let text = "/..%2f%2e./secret".repeat(60);
        event("get", &format!("/{text}{n}"), &text, "403", "")
    }),
];

fn mixed(n: u32) -> u64 {
    (u64::from(n) + 1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(17)
}

fn event(verb: &str, uri: &str, agent: &str, code: &str, object: &str) -> [String; 5] {
    [verb, uri, agent, code, object].map(str::to_owned)
}

fn text([verb, uri, agent, code, object]: &[String; 5], n: u32) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{n}","stage":"ResponseComplete","requestURI":"{uri}","verb":"{verb}","user":{{"username":"system:anonymous","groups":["system:unauthenticated"]}},"sourceIPs":["203.0.113.7"],"userAgent":"{agent}",{object}"responseStatus":{{"metadata":{{}},"status":"Failure","reason":"Forbidden","code":{code}}},"requestReceivedTimestamp":"2026-11-25T07:17:03.035818Z","stageTimestamp":"2026-11-25T07:17:03.036818Z","annotations":{{"authorization.k8s.io/decision":"forbid"}}}}"#
    )
}

/// Nanoseconds an event, parsing left out: the best of several runs.
fn time(detection: &Detection, texts: &[String]) -> f64 {
    let mut best = f64::INFINITY;
    let mut scratch = Scratch::default();
    let events: Vec<_> = texts
        .iter()
        .filter_map(|text| match json::read(text, "requestReceivedTimestamp") {
            Ok(Document::Event(event)) => Some(event),
            _ => None,
        })
        .collect();
    for _ in 0..RUNS {
        let begin = Instant::now();
        for event in &events {
            event.hits(detection, &mut scratch, &BOUNDS, &mut |hit| {
                black_box(hit);
            });
        }
        best = best.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(EVENTS));
    }
    best
}

fn main() {
    let with = Detection::of(&Rule::default());
    let without = Detection {
        labels: Vec::new(),
        ..with.clone()
    };
    let begin = Instant::now();
    let loaded = Detection::of(&Rule::default());
    println!(
        "loading the rule with {} labels: {:.1} ms",
        loaded.labels.len(),
        begin.elapsed().as_secs_f64() * 1e3
    );
    for (name, kind) in KINDS {
        let texts: Vec<_> = (0..EVENTS).map(|n| text(&kind(n), n)).collect();
        let (before, after) = (time(&without, &texts), time(&with, &texts));
        println!(
            "{name:<28} {before:>7.0} ns a hit without labels, {after:>7.0} with: {:>6.0} more",
            after - before
        );
    }
}
