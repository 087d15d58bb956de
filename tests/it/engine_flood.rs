//! The engine against floods: who is displaced, what is still found, and the bound that is
//! published for it.

use std::collections::BTreeMap;

use auditwatch::detection::{
    Finding,
    engine::{Engine, EngineState},
    fields::AuditField,
    hit::Hit,
    limits::Limits,
    rule::{Rule, Semantics},
    time::Micros,
};
use proptest::{collection::vec, prelude::*};

use crate::support::{
    hits::{SECOND, START, drain, findings, hit, observe, reordered, tick},
    props::cases,
};

const SCANNER: &str = "192.0.2.1";
const HOUR: i64 = 3600 * SECOND;

fn limited(keys: usize) -> Engine {
    let limits = Limits {
        keys,
        ..Limits::default()
    };
    Engine::new(Rule::default(), limits, None)
}

fn address(n: u32) -> String {
    format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250)
}

fn states(emitted: &[Finding]) -> Vec<(&str, u64)> {
    emitted
        .iter()
        .map(|one| (one.state.as_str(), one.count))
        .collect()
}

/// Requests of one scan from one address, one each millisecond.
fn scan(first: u32, count: u32, key: &str, start: i64) -> Vec<Hit> {
    let ids = first..first + count;
    ids.map(|id| hit(id, "", key, start + i64::from(id - first) * 1000))
        .collect()
}

/// More addresses than there is room for, two requests each. A scanner that comes then is found at
/// its sixth request, and so it is hours later.
#[test]
fn a_flood_with_two_requests_each_hides_no_scanner() {
    let mut engine = limited(2000);
    for n in 0..2100 {
        for request in 0..2 {
            let id = n * 2 + request;
            observe(&mut engine, &hit(id, "", &address(n), i64::from(id) * 300));
        }
    }
    assert!(engine.stats().evicted >= 100);
    for (n, after) in [(1, 67 * SECOND), (2, 3 * HOUR), (3, 5 * HOUR)] {
        let key = format!("192.0.2.{n}");
        let mut seen = Vec::new();
        for (number, one) in (1..).zip(scan(100_000 * n, 200, &key, after)) {
            let emitted = observe(&mut engine, &one);
            let own = emitted.iter().filter(|one| one.src_ip == key);
            if own.clone().any(|one| one.state == "opened") {
                seen.push(number);
                // What may have been forgotten before is said; later nothing can have been.
                let error = own.map(|one| one.count_error).max();
                assert_eq!(error, Some(if n == 1 { 2 } else { 0 }));
            }
        }
        assert_eq!(seen, [6], "{key}");
    }
    assert_eq!(engine.stats().evicted_hits, 2);
}

/// Of twenty scanners with as many requests the one that was quiet for longest goes.
#[test]
fn an_active_scanner_stays_before_silent_ones() {
    let mut engine = limited(20);
    for n in 0..20 {
        for one in scan(n * 100, 7, &address(n), i64::from(n) * SECOND) {
            observe(&mut engine, &one);
        }
    }
    // The first one has gone on 50 seconds ago, the others are silent for half an hour.
    observe(&mut engine, &hit(99, "", &address(0), 1800 * SECOND));
    let mut closed = Vec::new();
    for n in 100..119 {
        let flood = hit(n * 100, "", &address(n), 1850 * SECOND + i64::from(n));
        closed.extend(observe(&mut engine, &flood));
        closed.extend(observe(
            &mut engine,
            &hit(n * 100 + 1, "", &address(n), 1851 * SECOND),
        ));
    }
    let closed: Vec<_> = closed.iter().map(|one| one.src_ip.as_str()).collect();
    assert!(
        !closed.is_empty() && !closed.contains(&address(0).as_str()),
        "{closed:?}"
    );
    let more = observe(&mut engine, &hit(98, "", &address(0), 1900 * SECOND));
    assert!(
        more.iter().all(|one| one.state != "opened"),
        "it is the same finding"
    );
}

/// Each cluster is guaranteed its share: a flood in one displaces its own keys.
#[test]
fn a_flood_in_one_cluster_displaces_no_key_of_another() {
    let mut engine = limited(1000);
    for n in 0..300 {
        observe(&mut engine, &hit(n, "quiet", &address(n), 0));
    }
    for n in 0..5000 {
        observe(
            &mut engine,
            &hit(n, "flooded", &address(n), i64::from(n) * 1000),
        );
    }
    assert_eq!(engine.tracked(), 1000);
    assert_eq!(engine.stats().evicted, 4300);
    // Each place was taken six times within a window, each time with the hits before.
    assert_eq!(engine.stats().evicted_hits, 7);
    for n in 0..300 {
        let mut more = (1..6).map(|request| hit(n + 1000 * request, "quiet", &address(n), 1));
        let emitted: Vec<_> = more
            .by_ref()
            .flat_map(|one| observe(&mut engine, &one))
            .collect();
        assert_eq!(states(&emitted), [("opened", 6)], "{n}");
    }
}

/// That keys were evicted does not make the late hits of others too late: a scan from the backlog
/// of another API server is found.
#[test]
fn a_late_scan_is_found_although_keys_were_evicted() {
    let mut engine = limited(50);
    for n in 0..20_000 {
        observe(
            &mut engine,
            &hit(n, "", &address(n), HOUR + i64::from(n) * 1000),
        );
    }
    let behind = HOUR - 25 * 60 * SECOND;
    let emitted: Vec<_> = scan(50_000, 20, SCANNER, behind)
        .iter()
        .flat_map(|one| observe(&mut engine, one))
        .collect();
    assert_eq!(states(&emitted), [("opened", 6), ("updated", 12)]);
    assert_eq!(engine.stats().late_dropped, 0);
    // Whether they were counted before its key was evicted is not known.
    let last = drain(&mut engine).pop().unwrap();
    assert_eq!((last.count, last.unverified), (20, 20));
}

/// Texts of a flood displace texts of others, but no count: the finding says that some are missing.
#[test]
fn a_flood_of_long_texts_costs_texts_and_no_count() {
    let limits = Limits {
        memory: 2 << 20,
        ..Limits::default()
    };
    let mut engine = Engine::new(Rule::default(), limits, None);
    let mut emitted = Vec::new();
    for one in &scan(0, 5, SCANNER, 0) {
        emitted.extend(observe(&mut engine, one));
    }
    for n in 0..3000 {
        let mut flood = hit(1000 + n, "", &address(n), SECOND + i64::from(n));
        let uri = format!("/{n}{}", "x".repeat(100_000));
        flood.texts.set(AuditField::RequestUri, &[&uri]);
        observe(&mut engine, &flood);
        assert!(engine.heap_bytes() <= 2 << 20, "{}", engine.heap_bytes());
    }
    assert_eq!(engine.stats().evicted, 0);
    for one in &scan(5, 2, SCANNER, 2 * SECOND) {
        emitted.extend(observe(&mut engine, one));
    }
    assert_eq!(states(&emitted), [("opened", 6)]);
    assert!(emitted[0].truncated.contains(&"paths".to_owned()));
    assert_eq!(emitted[0].paths.len(), 1);
}

/// A sender that cuts times to seconds makes one request of many: each delivery counts then, and
/// the finding says that they were not checked.
#[test]
fn requests_with_cut_times_each_count() {
    let mut engine = limited(100);
    let mut emitted = Vec::new();
    for n in 0..200 {
        let same = Hit {
            is_time_coarse: true,
            ..hit(7, "", SCANNER, n / 100 * SECOND)
        };
        emitted.extend(observe(&mut engine, &same));
    }
    assert_eq!(states(&emitted)[0], ("opened", 6));
    let last = drain(&mut engine).pop().unwrap();
    assert_eq!((last.count, last.unverified), (200, 200));
}

fn escu() -> Rule {
    Rule {
        semantics: Semantics::Escu,
        ..Rule::default()
    }
}

fn named(id: u32, sources: Vec<String>, after: i64) -> Hit {
    Hit {
        sources,
        ..hit(id, "", "", after)
    }
}

/// One address that names 63 forged ones twice each in every request does not displace a scanner.
#[test]
fn forged_sources_hide_no_scanner_of_escu() {
    let limits = Limits {
        keys: 10_000,
        memory: 8 << 20,
        ..Limits::default()
    };
    let mut engine = Engine::new(escu(), limits, None);
    let mut emitted = Vec::new();
    for n in 0..600 {
        let forged = (0..63).flat_map(|at| [address(n * 63 + at), address(n * 63 + at)]);
        let sources = forged.chain(["203.0.113.9".to_owned()]).collect();
        emitted.extend(observe(&mut engine, &named(n, sources, i64::from(n) * 200)));
        assert!(engine.heap_bytes() <= 8 << 20, "{}", engine.heap_bytes());
    }
    for n in 0..200 {
        let one = named(10_000 + n, vec![SCANNER.to_owned()], SECOND + i64::from(n));
        emitted.extend(observe(&mut engine, &one));
    }
    emitted.extend(drain(&mut engine));
    let rows: BTreeMap<_, _> = emitted
        .iter()
        .map(|one| (one.src_ip.as_str(), one))
        .collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[SCANNER].count, 200);
    assert_eq!(rows["203.0.113.9"].count, 600);
}

/// With the state of the process before, a window in which auditwatch was restarted has one row
/// with all requests. Without it, the row says that it is not whole.
#[test]
fn a_window_with_a_restart_is_whole_with_state_and_else_partial() {
    let requests = |ids: std::ops::Range<u32>| -> Vec<Hit> {
        ids.map(|id| named(id, vec![SCANNER.to_owned()], i64::from(id) * SECOND))
            .collect()
    };
    let end = |engine: &mut Engine| {
        let mut emitted = tick(engine, std::time::Duration::ZERO);
        emitted.extend(tick(engine, std::time::Duration::from_hours(2)));
        emitted
    };
    let mut before = Engine::new(escu(), Limits::default(), None);
    for one in &requests(0..10) {
        observe(&mut before, one);
    }
    let state = EngineState::decode(&before.export().encode()).unwrap();
    for with_state in [true, false] {
        let mut engine = Engine::new(escu(), Limits::default(), None);
        engine.started_at(Micros(START + 9 * SECOND));
        if with_state {
            engine.import(state.clone());
        }
        for one in &requests(10..20) {
            observe(&mut engine, one);
        }
        let rows = end(&mut engine);
        let rows: Vec<_> = rows.iter().map(|one| (one.count, one.is_partial)).collect();
        let wanted = if with_state { (20, false) } else { (10, true) };
        assert_eq!(rows, [wanted]);
    }
    // What is drained in the middle of a window is partial as well.
    let rows = drain(&mut before);
    assert_eq!((rows[0].count, rows[0].is_partial), (10, true));
    // A window after the start is whole.
    let mut engine = Engine::new(escu(), Limits::default(), None);
    engine.started_at(Micros(START - SECOND));
    for one in &requests(0..10) {
        observe(&mut engine, one);
    }
    assert!(!end(&mut engine)[0].is_partial);
}

/// The most requests of a key in one window.
fn most_in_window(times: &mut [i64], window: i64) -> u64 {
    times.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for at in 0..times.len() {
        while times[first] <= times[at] - window {
            first += 1;
        }
        most = most.max(at + 1 - first);
    }
    most as u64
}

proptest! {
    #![proptest_config(cases(100))]

    /// Against exact state: a key with more requests in a window than the threshold and the
    /// published bound is found, whatever the others do. And what is found has passed the
    /// threshold by itself, however many others came.
    #[test]
    fn the_published_bound_holds_and_nothing_is_made_up(
        keys in 1usize..12,
        threshold in 0u64..6,
        steps in vec((0u32..40, 1u32..8, 0i64..60, 0u8..4), 1..120),
        delays in prop_oneof![Just(vec![0]), vec(any::<u32>(), 1..20)],
    ) {
        let rule = Rule { threshold, ..Rule::default() };
        let limits = Limits { keys, ..Limits::default() };
        let mut engine = Engine::new(rule.clone(), limits, None);
        let (mut hits, mut now, mut id) = (Vec::new(), 0, 0);
        for (key, repeats, gap, kind) in steps {
            // A few keys come again and again, the others are a flood.
            let key = if kind == 0 { key % 3 } else { 100 + key };
            for _ in 0..repeats {
                now += gap * SECOND;
                id += 1;
                hits.push(hit(id, "", &address(key), now));
            }
        }
        let hits = reordered(&hits, &delays, rule.lateness);
        let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut out = Vec::new();
        for one in hits {
            times.entry(one.key.clone()).or_default().push(one.time.unwrap().0);
            engine.observe(one, &mut out);
            prop_assert!(engine.tracked() <= keys);
        }
        engine.drain(&mut out);
        let bound = engine.stats().evicted_hits;
        let found = findings(out);
        for (key, times) in &mut times {
            let most = most_in_window(times, rule.window);
            let is_found = found.iter().any(|one| one.src_ip == *key);
            prop_assert!(is_found || most <= threshold + bound, "{key}: {most} > {threshold} + {bound}");
            prop_assert!(!is_found || most > threshold, "{key}: {most}");
        }
        let counted = found.iter().all(|one| one.count <= times[&one.src_ip].len() as u64);
        prop_assert!(counted);
    }
}
