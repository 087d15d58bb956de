//! What the engine says its state takes, against the memory that the process took for it: a binary
//! of its own, because it looks at the memory of the whole process.
#![cfg(test)]

use std::sync::Arc;

use auditwatch::detection::{
    engine::Engine,
    fields::AuditField,
    hit::{Hit, Identity},
    limits::Limits,
    rule::{Rule, Semantics},
    time::Micros,
};

/// As in the program: what state takes is a matter of the allocator, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECOND: i64 = 1_000_000;
/// 2026-11-25T09:50:00Z
const START: i64 = 1_795_600_200 * SECOND;
const MIB: usize = 1 << 20;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().unwrap() * 1024
}

/// An ordinary request of this address, this number of microseconds after the start.
fn hit(id: u64, cluster: &str, key: &str, after: i64) -> Hit {
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&id.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    let uri = format!("/api/v1/namespaces/n{}/pods", id % 50);
    let audit_id = format!("c9230016-52bb-42af-90eb-{id:012}");
    let values = [
        (AuditField::Username, "system:anonymous"),
        (AuditField::Groups, "system:unauthenticated"),
        (AuditField::Code, "403"),
        (AuditField::Verb, "get"),
        (AuditField::RequestUri, &uri),
        (AuditField::UserAgent, "curl/8.5.0"),
        (
            AuditField::Message,
            "forbidden: User \"system:anonymous\" cannot get path \"/\"",
        ),
        (AuditField::Reason, "Forbidden"),
        (AuditField::Status, "Failure"),
        (AuditField::AuditId, &audit_id),
        (AuditField::Stage, "ResponseComplete"),
        (AuditField::ClaimedIps, "203.0.113.9"),
    ];
    Hit {
        detection: 0,
        time: Some(Micros(START + after)),
        clamped: false,
        cluster: Arc::from(cluster),
        key: key.to_owned(),
        sources: Vec::new(),
        code: 403,
        texts: values.into_iter().collect(),
        identity: Identity(identity),
        ..Hit::default()
    }
}

/// The hit with other values of these fields.
fn with(mut hit: Hit, values: &[(AuditField, String)]) -> Hit {
    for (field, value) in values {
        hit.texts.set(*field, &[value]);
    }
    hit
}

fn address(n: u64) -> String {
    format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250)
}

fn limits() -> Limits {
    Limits {
        keys: 10_000_000,
        memory: 256 * MIB,
        ..Limits::default()
    }
}

fn engine(semantics: Semantics, limits: Limits) -> Engine {
    let rule = Rule {
        semantics,
        ..Rule::default()
    };
    Engine::new(rule, limits, None)
}

/// A shape of state: an engine, and how it is filled.
type Shape = (&'static str, Semantics, fn(u64) -> Hit, u64);

/// Addresses that were seen once, with values as they are.
fn one_shot(n: u64) -> Hit {
    hit(n, "test", &address(n), n.cast_signed() * 1000)
}

/// The same with values as long as they are kept, and longer.
fn long_values(n: u64) -> Hit {
    let long = |mark: char, length: usize| format!("{n}{}", mark.to_string().repeat(length));
    let values = [
        (AuditField::RequestUri, long('u', 3000)),
        (AuditField::UserAgent, long('a', 1500)),
        (AuditField::Message, long('m', 1200)),
        (AuditField::Username, long('n', 700)),
    ];
    with(one_shot(n), &values)
}

/// A scan that is found, and then one an hour later, before the first is closed: 10,000 requests of
/// each address.
fn second_scans(n: u64) -> Hit {
    let (scanner, at) = (n % 240, (n / 240).cast_signed());
    let after = if at < 6 { at } else { 61 * 60 * SECOND + at };
    hit(n, "test", &address(scanner), after)
}

/// Findings with a hundred values of most fields.
fn findings(n: u64) -> Hit {
    let of = |what: &str| format!("{what}-of-a-hundred-{}{}", n / 600, "-".repeat(150));
    let values = [
        (AuditField::RequestUri, of("/path")),
        (AuditField::UserAgent, of("agent")),
        (AuditField::Username, of("user")),
        (AuditField::Message, of("a message")),
        (AuditField::ClaimedIps, address(n)),
    ];
    with(hit(n, "test", &address(n % 600), n.cast_signed()), &values)
}

/// Groups of escu semantics, several to an event.
fn groups(n: u64) -> Hit {
    Hit {
        sources: (0..5).map(|source| address(n * 5 + source)).collect(),
        ..hit(n, "test", "", n.cast_signed())
    }
}

/// As many clusters as there may be, each with keys of its own.
fn clusters(n: u64) -> Hit {
    let name = format!("cluster-{}.example.org", n % 1024);
    hit(n, &name, &address(n / 1024), n.cast_signed())
}

/// The setting of the allocator for how long it keeps what is free. It keeps it for a while, which
/// is no state.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// What was freed would be taken again, so one comes after the other, and nothing beside them.
#[test]
#[expect(clippy::disallowed_methods, reason = "a setting of the allocator")]
fn state_takes_what_it_says_and_little() {
    if std::env::var_os(PURGE_DELAY).is_none() {
        let mut same = std::process::Command::new(std::env::current_exe().unwrap());
        same.args([
            "--exact",
            "state_takes_what_it_says_and_little",
            "--nocapture",
        ]);
        let status = same.env(PURGE_DELAY, "0").status().unwrap();
        assert!(status.success(), "see above");
        return;
    }
    let _filled = what_state_is_said_to_take_is_what_it_takes();
    a_one_shot_address_takes_at_most_200_bytes();
}

/// The memory of the process grows by what the engine says, within a quarter; the engines.
fn what_state_is_said_to_take_is_what_it_takes() -> Vec<Engine> {
    use Semantics::{Escu, Native};
    let shapes: [Shape; 6] = [
        ("one-shot addresses", Native, one_shot, 300_000),
        ("long values", Native, long_values, 300_000),
        ("second scans", Native, second_scans, 240 * 10_000),
        ("findings", Native, findings, 600 * 100),
        ("escu groups", Escu, groups, 80_000),
        ("clusters", Native, clusters, 160 * 1024),
    ];
    // What was freed would be taken again, so all stay.
    let mut filled = Vec::new();
    let mut wrong = Vec::new();
    for (name, semantics, make, hits) in shapes {
        let before = resident();
        // The allocator gives back what is free of a thread that has ended: tables that grow beside
        // each other leave as much free as they take.
        let fill = || {
            let (mut engine, mut out) = (engine(semantics, limits()), Vec::new());
            for n in 0..hits {
                engine.observe(make(n), &mut out);
                out.clear();
            }
            engine
        };
        let engine = std::thread::scope(|scope| scope.spawn(fill).join()).unwrap();
        let (grown, counted) = (resident().saturating_sub(before), engine.heap_bytes());
        let stats = engine.stats();
        let line = format!(
            "{name}: grown by {} MiB, counted {} MiB, {}, {} tracked, {stats:?}",
            grown / MIB,
            counted / MIB,
            format_args!("ratio {}/100", grown * 100 / counted.max(1)),
            engine.tracked()
        );
        assert_eq!((stats.evicted, stats.overflow), (0, 0), "{line}");
        if counted < 50 * MIB || grown * 100 > counted * 125 || counted * 100 > grown * 125 {
            wrong.push(line.clone());
        }
        println!("{line}");
        filled.push(engine);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    filled
}

/// A million addresses that were seen once take at most 200 bytes each, with the texts that are
/// kept of them, and none is evicted with the default limits.
fn a_one_shot_address_takes_at_most_200_bytes() {
    const MILLION: u64 = 1_000_000;
    let mut engine = engine(Semantics::Native, Limits::default());
    let mut out = Vec::new();
    let before = resident();
    for n in 0..MILLION {
        engine.observe(one_shot(n), &mut out);
    }
    let grown = resident().saturating_sub(before) as u64;
    assert_eq!((engine.tracked(), engine.stats().evicted), (1_000_000, 0));
    assert!(
        engine.heap_bytes() <= 200_000_000,
        "{}",
        engine.heap_bytes()
    );
    assert!(grown <= 200 * MILLION, "{grown}");
}
