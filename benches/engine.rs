//! What a hit costs the engine, by the order hits come in: nanoseconds a hit, and how many times
//! that of the first hits of an ordinary scan in the same run. Nothing waits for what it prints.
//!
//! `cargo bench --bench engine`, or a part of it: `cargo bench --bench engine -- million`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use auditwatch::{
    detection::{
        engine::{Engine, EngineState},
        fields::AuditField,
        hit::{Hit, Identity},
        limits::Limits,
        rule::{Rule, Semantics},
        time::Micros,
    },
    rules::{
        load,
        model::{Aggregate, Detection},
        switches::Switches,
    },
};

/// As in the program: what state takes is a matter of the allocator, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let uri = format!("/api/{id}");
    let message = format!("forbidden: User \"system:anonymous\" cannot get path \"/{id}\"");
    let audit_id = format!("c9230016-52bb-42af-90eb-{id:012}");
    let values = [
        (AuditField::Username, "system:anonymous"),
        (AuditField::Groups, "system:unauthenticated"),
        (AuditField::Code, "403"),
        (AuditField::Verb, "get"),
        (AuditField::RequestUri, &uri),
        (AuditField::UserAgent, "curl/8.5.0"),
        (AuditField::Message, &message),
        (AuditField::Reason, "Forbidden"),
        (AuditField::Status, "Failure"),
        (AuditField::AuditId, &audit_id),
        (AuditField::Stage, "ResponseComplete"),
    ];
    Hit {
        detection: 0,
        time: Some(Micros(START + after)),
        clamped: false,
        cluster: Arc::from(cluster),
        key: key.to_owned(),
        sources: vec![key.to_owned()],
        code: 403,
        texts: values.into_iter().collect(),
        identity: Identity(identity),
        ..Hit::default()
    }
}

fn engine(semantics: Semantics) -> Engine {
    let rule = Rule {
        semantics,
        ..Rule::default()
    };
    Engine::new(rule, Limits::default(), None)
}

fn limited(keys: usize) -> Engine {
    let limits = Limits {
        keys,
        ..Limits::default()
    };
    Engine::new(Rule::default(), limits, None)
}

/// Hits of one request. They are made just before they are observed, as in the program.
const REQUEST: u32 = 1000;

/// Among a million keys: hits of one that is hot, of others in no order, and of new ones.
fn million_keys(line: &dyn Fn(&str, f64)) {
    const MILLION: u32 = 1_000_000;
    let mut engine = engine(Semantics::Native);
    let mut out = Vec::new();
    for n in 0..MILLION {
        engine.observe(hit(n, "c", &address(n), i64::from(n)), &mut out);
    }
    let after = i64::from(MILLION);
    let mut measure = |what: &str, key: fn(u32) -> u32, first: u32| {
        let mut elapsed = Duration::ZERO;
        for request in (first..first + 10 * HITS).step_by(REQUEST as usize) {
            let hits = (request..request + REQUEST)
                .map(|n| hit(n, "c", &address(key(n - first)), after + i64::from(n)))
                .collect();
            let begin = Instant::now();
            feed(&mut engine, hits);
            elapsed += begin.elapsed();
        }
        line(what, elapsed.as_secs_f64() * 1e9 / f64::from(10 * HITS));
    };
    measure("a million keys: one that is hot", |_| 5, 2_000_000);
    let mixed = |n: u32| n.wrapping_mul(2_654_435_761) % MILLION;
    measure("a million keys: any of them", mixed, 3_000_000);
    measure(
        "a million keys: new ones, each displaces one",
        |n| MILLION + n,
        4_000_000,
    );
}

fn feed(engine: &mut Engine, hits: Vec<Hit>) {
    let mut out = Vec::new();
    for hit in hits {
        engine.observe(hit, &mut out);
    }
}

/// Nanoseconds a hit: the best of several runs, for others may be busy on this machine.
fn time(prepare: impl Fn() -> (Engine, Vec<Hit>)) -> f64 {
    const RUNS: u32 = 7;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let (mut engine, hits) = prepare();
        let count = u32::try_from(hits.len()).unwrap_or(u32::MAX);
        let begin = Instant::now();
        feed(&mut engine, hits);
        best = best.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(count));
    }
    best
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

fn scan(begin: i64, order: fn(u32) -> i64) -> Vec<Hit> {
    (0..HITS)
        .map(|n| hit(n, "c", "192.0.2.1", begin + order(n)))
        .collect()
}

/// An engine that counts distinct values.
fn values() -> Engine {
    let detection = Detection {
        aggregate: Aggregate::Values,
        ..Detection::of(&Rule::default())
    };
    Engine::new(vec![Arc::new(detection)], Limits::default(), None)
}

/// Hits with five values, in an order of their own.
fn scan_of_values(order: fn(u32) -> i64) -> Vec<Hit> {
    let mut hits = scan(0, order);
    for (n, hit) in (0_u64..).zip(&mut hits) {
        let value = n * n / 7 % 5;
        hit.identity.0[8..].copy_from_slice(&value.to_le_bytes());
    }
    hits
}

/// The first scan of an address.
fn first() -> Vec<Hit> {
    scan(0, |n| i64::from(n) * 1000)
}

/// An engine that has taken these.
fn after(hits: Vec<Hit>) -> Engine {
    let mut engine = engine(Semantics::Native);
    feed(&mut engine, hits);
    engine
}

fn address(n: u32) -> String {
    format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250)
}

/// The detection of scans with those that are derived from it.
fn with_derived() -> Engine {
    let rule = Rule::default();
    let mut all = load::scans(&rule);
    all.extend(load::derived(&rule, &Switches::default().derived()));
    Engine::new(all, Limits::default(), None)
}

/// A hit of an address that a peer has handed over.
fn handed_over(n: u32, address: &str) -> Hit {
    let mut hit = hit(n, "c", address, i64::from(n) * 1000);
    hit.texts.set(AuditField::Peers, &["10.0.0.5"]);
    hit
}

/// What derived detections add: each line without them, then with them.
fn derived(line: &dyn Fn(&str, f64)) {
    type Nth = fn(u32) -> Hit;
    let logs: [(&str, Nth); 6] = [
        ("one address", |n| {
            hit(n, "c", "192.0.2.1", i64::from(n) * 1000)
        }),
        ("addresses seen once", |n| {
            hit(n, "c", &address(n), i64::from(n))
        }),
        ("IPv6 addresses of one /48, seen once", |n| {
            let address = format!("2001:db8:7:{:x}::{n:x}", n % 50_000);
            hit(n, "c", &address, i64::from(n) * 1000)
        }),
        ("500 addresses of one /64 in turn", |n| {
            let address = format!("2001:db8:7:1::{:x}", n % 500);
            hit(n, "c", &address, i64::from(n) * 1000)
        }),
        ("five an hour of 1,000 addresses", |n| {
            hit(
                n,
                "c",
                &address(n % 1000 * 251),
                i64::from(n) * SECOND * 12 / 17,
            )
        }),
        ("one peer, a claim each", |n| {
            handed_over(n, &address(n % 5000 * 251))
        }),
    ];
    for (name, log) in logs {
        let hits = || (0..HITS).map(log).collect();
        let without = time(|| (engine(Semantics::Native), hits()));
        let with = time(|| (with_derived(), hits()));
        line(&format!("{name}, scans alone"), without);
        line(&format!("{name}, with derived detections"), with);
        println!("{:<56} {:>12.2} times", "", with / without);
    }
    // Memory of an address that is seen once.
    let mut both = [engine(Semantics::Native), with_derived()];
    for engine in &mut both {
        feed(
            engine,
            (0..100_000)
                .map(|n| hit(n, "c", &address(n * 251), 0))
                .collect(),
        );
    }
    let [without, with] = both.map(|engine| engine.heap_bytes() / engine.tracked().max(1));
    println!("bytes of an address seen once: {without}, with derived detections {with}");
}

/// A snapshot of a million keys: how long the engine stops, and what writing and reading take. Once
/// with one hit of each address, once with a finding of each.
fn snapshot() {
    const MILLION: u32 = 1_000_000;
    let spread = |n: u32| {
        let at = (16 << 24) + n.wrapping_mul(2_654_435_761) % (1 << 29);
        std::net::Ipv4Addr::from_bits(at).to_string()
    };
    for (name, keys, hits) in [("one hit", MILLION, 1), ("a finding", MILLION / 4, 12)] {
        let mut engine = with_derived();
        engine.limit_memory(4 << 30);
        let mut out = Vec::new();
        for n in 0..keys {
            for at in 0..hits {
                let id = n * hits + at;
                engine.observe(hit(id, "c", &spread(n), i64::from(id)), &mut out);
            }
            out.clear();
        }
        println!(
            "{keys} addresses with {name} each, {} tracked",
            engine.tracked()
        );
        let timed = |what: &str, begin: Instant| {
            println!("{what:<56} {:>9.1} ms", begin.elapsed().as_secs_f64() * 1e3);
        };
        let begin = Instant::now();
        engine.share();
        timed("share", begin);
        let begin = Instant::now();
        let state = engine.export();
        timed("export", begin);
        let (mut slowest, mut all) = (Duration::ZERO, Duration::ZERO);
        for n in 0..1000 {
            let one = hit(u32::MAX - n, "c", &spread(n * 7919), i64::from(keys * hits));
            let begin = Instant::now();
            engine.observe(one, &mut out);
            slowest = slowest.max(begin.elapsed());
            all += begin.elapsed();
        }
        println!(
            "1,000 hits meanwhile: each {:.1} us, slowest {:.1} ms",
            all.as_secs_f64() * 1e3,
            slowest.as_secs_f64() * 1e3
        );
        let begin = Instant::now();
        let bytes = state.encode();
        timed("encode", begin);
        println!("{} MiB", bytes.len() >> 20);
        let begin = Instant::now();
        drop(state);
        timed("drop what was shared", begin);
        drop(engine);
        let begin = Instant::now();
        let Ok(state) = EngineState::decode(&bytes) else {
            return;
        };
        timed("decode", begin);
        let mut engine = with_derived();
        engine.limit_memory(4 << 30);
        let begin = Instant::now();
        engine.import(state);
        timed("import", begin);
    }
}

fn main() {
    let native = || engine(Semantics::Native);
    // Once to warm up.
    time(|| (native(), first()));
    let floor = time(|| (native(), first()));
    let line = |what: &str, nanos: f64| {
        println!("{what:<56} {nanos:>9.0} ns  x {:>6.2}", nanos / floor);
    };
    line("first scan, ascending", floor);
    let only = std::env::args().skip(1).find(|one| !one.starts_with('-'));
    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| part == only);
    if is_wanted("orders") {
        orders(&line);
    }
    if is_wanted("million") {
        million_keys(&line);
    }
    if is_wanted("many") {
        many(&line);
    }
    if is_wanted("derived") {
        derived(&line);
    }
    if is_wanted("snapshot") {
        snapshot();
    }
}

/// Hits of one address in several orders.
fn orders(line: &dyn Fn(&str, f64)) {
    let native = || engine(Semantics::Native);
    for (name, order) in ORDERS {
        let second = time(|| {
            let mut hits = scan(HOUR + 60 * SECOND, order);
            for hit in &mut hits {
                hit.identity.0[15] ^= 1;
            }
            (after(first()), hits)
        });
        line(&format!("second scan 61 minutes later, {name}"), second);
    }
    for (name, order) in ORDERS {
        let late = time(|| {
            let ahead = hit(0, "c", "192.0.2.9", 2 * HOUR);
            (after(vec![ahead]), scan(0, order))
        });
        line(&format!("backlog behind the watermark, {name}"), late);
    }
    line(
        "the same again: repeats",
        time(|| (after(first()), first())),
    );
    let once = time(|| {
        let hits = (0..10 * HITS).map(|n| hit(n, "c", &address(n), i64::from(n)));
        (native(), hits.collect())
    });
    line("addresses seen once", once);
    let flood = time(|| {
        let hits = (0..10 * HITS).map(|n| hit(n, "c", &address(n), i64::from(n)));
        (limited(HITS as usize), hits.collect())
    });
    line("addresses seen once, nine in ten beyond the limit", flood);
}

/// Names of clusters, sources, values and ticks.
fn many(line: &dyn Fn(&str, f64)) {
    let native = || engine(Semantics::Native);
    let names = time(|| {
        let hits = (0..HITS).map(|n| hit(n, &format!("cluster {n}"), "192.0.2.1", i64::from(n)));
        (native(), hits.collect())
    });
    line("names of clusters, most beyond the limit", names);
    let groups = time(|| {
        let hits = (0..HITS / 10).map(|n| Hit {
            key: String::new(),
            sources: (0..64).map(|source| address(n * 7 + source)).collect(),
            ..hit(n, "c", "", i64::from(n))
        });
        (engine(Semantics::Escu), hits.collect())
    });
    line("escu, 64 sources: each source", groups / 64.0);
    for (name, order) in ORDERS {
        // No more values than the threshold allows, each repeated very often.
        let values = time(|| (values(), scan_of_values(order)));
        line(&format!("five values, repeated, {name}"), values);
    }
    let clusters = |n: u32| format!("cluster {}", n % 1024);
    let mut many = after(
        (0..10_240)
            .map(|n| hit(n, &clusters(n), &address(n), 0))
            .collect(),
    );
    let begin = Instant::now();
    for _ in 0..100 {
        many.tick(Duration::from_secs(1), &mut Vec::new());
    }
    let tick = begin.elapsed().as_secs_f64() * 1e9 / 102_400.0;
    line("a tick of 1024 clusters: each", tick);
}
