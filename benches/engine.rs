//! What a hit costs the engine, by the order hits come in: nanoseconds a hit, and how many times
//! that of the first hits of an ordinary scan in the same run. Nothing waits for what it prints.
//!
//! `cargo bench --bench engine`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use auditwatch::detection::{
    engine::Engine,
    hit::{Hit, Identity},
    limits::Limits,
    rule::{Rule, Semantics},
    time::Micros,
};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;
/// 2026-11-25T09:50:00Z
const START: i64 = 1_795_600_200 * SECOND;
/// Hits of one measurement: more than are kept of an address.
const HITS: u32 = 20_000;

fn hit(id: u32, cluster: &str, key: &str, after: i64) -> Hit {
    let mut identity = [0; 16];
    let mixed = u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    identity[..8].copy_from_slice(&mixed.to_le_bytes());
    let text = |text: &str| Some(text.to_owned());
    Hit {
        time: Some(Micros(START + after)),
        clamped: false,
        cluster: Arc::from(cluster),
        key: key.to_owned(),
        sources: vec![key.to_owned()],
        code: 403,
        code_text: "403".to_owned(),
        user: text("system:anonymous"),
        groups: vec!["system:unauthenticated".to_owned()],
        verb: text("get"),
        uri: Some(format!("/api/{id}")),
        agent: text("curl/8.5.0"),
        message: Some(format!(
            "forbidden: User \"system:anonymous\" cannot get path \"/{id}\""
        )),
        reason: text("Forbidden"),
        status: text("Failure"),
        audit_id: Some(format!("c9230016-52bb-42af-90eb-{id:012}")),
        stage: text("ResponseComplete"),
        identity: Identity(identity),
    }
}

fn engine(semantics: Semantics) -> Engine {
    let rule = Rule {
        semantics,
        ..Rule::default()
    };
    Engine::new(rule, Limits::default(), None)
}

/// Nanoseconds a hit.
fn time(engine: &mut Engine, hits: Vec<Hit>) -> f64 {
    let count = u32::try_from(hits.len()).unwrap_or(u32::MAX);
    let mut out = Vec::new();
    let begin = Instant::now();
    for hit in hits {
        engine.observe(hit, &mut out);
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

/// Where the hits of a second scan lie in time, by the order they come in.
type Order = (&'static str, fn(u32) -> i64);

const ORDERS: [Order; 5] = [
    ("ascending", |n| i64::from(n) * 1000),
    ("descending", |n| i64::from(HITS - n) * 1000),
    ("random", |n| i64::from(n.wrapping_mul(7919) % HITS) * 1000),
    ("all at one time", |_| 0),
    ("from both ends", |n| {
        i64::from(if n % 2 == 0 { n } else { 2 * HITS - n }) * 500
    }),
];

fn main() {
    let key = "192.0.2.1";
    let scan = |begin: i64, order: fn(u32) -> i64| -> Vec<Hit> {
        (0..HITS)
            .map(|n| hit(n, "c", key, begin + order(n)))
            .collect()
    };
    let first = || scan(0, |n| i64::from(n) * 1000);
    let again = |mut hits: Vec<Hit>| {
        for hit in &mut hits {
            hit.identity.0[15] ^= 1;
        }
        hits
    };
    // Once to warm up.
    time(&mut engine(Semantics::Native), first());
    let floor = time(&mut engine(Semantics::Native), first());
    let line = |what: &str, nanos: f64| {
        println!("{what:<56} {nanos:>9.0} ns  x {:>6.2}", nanos / floor);
    };
    line("first scan, ascending", floor);
    for (name, order) in ORDERS {
        let mut engine = engine(Semantics::Native);
        time(&mut engine, first());
        let second = time(&mut engine, again(scan(HOUR + 60 * SECOND, order)));
        line(&format!("second scan 61 minutes later, {name}"), second);
    }
    for (name, order) in ORDERS {
        let mut engine = engine(Semantics::Native);
        time(&mut engine, vec![hit(0, "c", "192.0.2.9", 2 * HOUR)]);
        let late = time(&mut engine, scan(0, order));
        line(
            &format!("backlog an hour behind the watermark, {name}"),
            late,
        );
    }
    let mut one = engine(Semantics::Native);
    time(&mut one, first());
    line("the same again: repeats", time(&mut one, first()));
    let addresses = |n: u32| format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250);
    let one_shot = (0..10 * HITS).map(|n| hit(n, "c", &addresses(n), i64::from(n)));
    line(
        "addresses seen once, half beyond the limit",
        time(&mut engine(Semantics::Native), one_shot.collect()),
    );
    let names = (0..HITS).map(|n| hit(n, &format!("cluster {n}"), key, i64::from(n)));
    line(
        "names of clusters, most beyond the limit",
        time(&mut engine(Semantics::Native), names.collect()),
    );
    let groups = (0..HITS / 10).map(|n| Hit {
        key: String::new(),
        sources: (0..64).map(|source| addresses(n * 7 + source)).collect(),
        ..hit(n, "c", "", i64::from(n))
    });
    let groups = time(&mut engine(Semantics::Escu), groups.collect());
    line("escu, 64 sources: each source", groups / 64.0);
    let mut many = engine(Semantics::Native);
    let hits = (0..10_240).map(|n| hit(n, &format!("cluster {}", n % 1024), &addresses(n), 0));
    time(&mut many, hits.collect());
    let begin = Instant::now();
    for _ in 0..100 {
        many.tick(Duration::from_secs(1), &mut Vec::new());
    }
    line(
        "a tick of 1024 clusters: each",
        begin.elapsed().as_secs_f64() * 1e9 / 102_400.0,
    );
}
