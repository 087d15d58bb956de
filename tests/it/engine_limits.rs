//! The engine under pressure: the passing of time, floods of addresses, and bounds of what is kept.

use std::time::Duration;

use auditwatch::detection::{
    Finding, engine::Engine, fields::AuditField, hit::Hit, limits::Limits, rule::Rule,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::support::{
    hits::{Log, SECOND, all, drain, engine, hit, lateness, log, observe, rule, tick},
    props::cases,
};

const SCANNER: &str = "192.0.2.1";
const HOUR: Duration = Duration::from_hours(1);

fn states(emitted: &[Finding]) -> Vec<(&str, u64)> {
    emitted
        .iter()
        .map(|one| (one.state.as_str(), one.count))
        .collect()
}

/// One request a second.
fn scan(seconds: std::ops::Range<u32>) -> Vec<Hit> {
    seconds
        .map(|second| hit(second, "", SCANNER, i64::from(second) * SECOND))
        .collect()
}

#[test]
fn ticks_close_a_finding_of_an_idle_cluster_only() {
    let mut engine = engine(&Rule::default());
    let emitted: Vec<_> = scan(0..7)
        .iter()
        .flat_map(|hit| observe(&mut engine, hit))
        .collect();
    assert_eq!(states(&emitted), [("opened", 6)]);
    // Hits came before the first tick: it says nothing about quiet.
    assert_eq!(tick(&mut engine, 10 * HOUR), []);
    // Now the watermark, ten minutes behind the hits, moves by just the time that passes.
    let to_close = Duration::from_mins(70);
    let before = to_close.saturating_sub(Duration::from_secs(1));
    // An hour has passed meanwhile, and the count has changed.
    assert_eq!(states(&tick(&mut engine, before)), [("updated", 7)]);
    assert_eq!(tick(&mut engine, Duration::ZERO), []);
    let emitted = tick(&mut engine, Duration::from_secs(1));
    assert_eq!(states(&emitted), [("closed", 7)]);
    assert_eq!(tick(&mut engine, 10 * HOUR), []);
    assert_eq!(drain(&mut engine), []);
}

#[test]
fn ticks_between_hits_do_not_move_the_watermark() {
    let mut engine = engine(&Rule::default());
    let mut emitted = Vec::new();
    for second in 0..10 {
        emitted.extend(observe(
            &mut engine,
            &hit(second, "", SCANNER, i64::from(second) * SECOND),
        ));
        emitted.extend(tick(&mut engine, 2 * HOUR));
    }
    assert_eq!(states(&emitted), [("opened", 6)]);
    assert_eq!(engine.stats().late, 0);
    // Another cluster that is busy does not keep this one from becoming idle.
    emitted.clear();
    for second in 0..3 {
        emitted.extend(observe(
            &mut engine,
            &hit(second, "other", SCANNER, i64::from(second)),
        ));
        emitted.extend(tick(&mut engine, HOUR));
    }
    assert_eq!(states(&emitted), [("updated", 10), ("closed", 10)]);
}

#[test]
fn a_backlog_after_hours_of_silence_is_still_found() {
    for key in [SCANNER, "198.51.100.9"] {
        let mut engine = engine(&Rule::default());
        let mut emitted: Vec<_> = scan(0..3)
            .iter()
            .flat_map(|hit| observe(&mut engine, hit))
            .collect();
        for _ in 0..5 {
            emitted.extend(tick(&mut engine, 2 * HOUR));
        }
        for second in 3..9 {
            let mut late = hit(second, "", SCANNER, i64::from(second) * SECOND);
            key.clone_into(&mut late.key);
            emitted.extend(observe(&mut engine, &late));
        }
        let seen = if key == SCANNER { 9 } else { 6 };
        emitted.extend(drain(&mut engine));
        assert_eq!(states(&emitted)[0], ("opened", 6), "{key}");
        assert_eq!(emitted.last().unwrap().count, seen, "{key}");
        let stats = engine.stats();
        assert_eq!((stats.late, stats.late_dropped), (6, 0));
    }
}

#[test]
fn a_backlog_goes_on_with_the_finding_that_silence_had_closed() {
    let mut engine = engine(&Rule::default());
    let mut emitted: Vec<_> = scan(0..6)
        .iter()
        .flat_map(|hit| observe(&mut engine, hit))
        .collect();
    tick(&mut engine, HOUR);
    emitted.extend(tick(&mut engine, 3 * HOUR));
    assert_eq!(states(&emitted), [("opened", 6), ("closed", 6)]);
    let again: Vec<_> = scan(6..8)
        .iter()
        .flat_map(|hit| observe(&mut engine, hit))
        .collect();
    assert_eq!(states(&again), [("updated", 7)]);
    assert_eq!(again[0].finding_id, emitted[0].finding_id);
    // A redelivery of what the closed finding held is recognised, and does not reopen it.
    tick(&mut engine, HOUR);
    assert_eq!(states(&tick(&mut engine, 3 * HOUR)), [("closed", 8)]);
    assert!(
        scan(0..8)
            .iter()
            .all(|hit| observe(&mut engine, hit).is_empty())
    );
    assert_eq!(engine.stats().duplicates, 8);
}

#[test]
fn hits_that_no_state_can_judge_are_counted_and_left_out() {
    let mut engine = engine(&Rule::default());
    let far = hit(0, "", "198.51.100.9", 6 * 3600 * SECOND);
    assert!(observe(&mut engine, &hit(1, "", SCANNER, 0)).is_empty());
    assert!(observe(&mut engine, &far).is_empty());
    for late in scan(2..12) {
        assert!(observe(&mut engine, &late).is_empty());
    }
    let mut untimed = hit(99, "", SCANNER, 0);
    untimed.time = None;
    assert!(observe(&mut engine, &untimed).is_empty());
    let stats = engine.stats();
    assert_eq!(
        (stats.hits, stats.late, stats.late_dropped, stats.untimed),
        (13, 10, 10, 1)
    );
}

fn limited(keys: usize) -> Engine {
    let limits = Limits {
        keys,
        ..Limits::default()
    };
    Engine::new(Rule::default(), limits, None)
}

#[test]
fn a_flood_of_one_shot_addresses_cannot_push_out_a_scanner() {
    let mut engine = limited(50);
    let mut emitted = Vec::new();
    let mut id = 1000;
    let mut after = 0;
    // Even the second request is more than any address of the flood has.
    for second in [0, 1] {
        emitted.extend(observe(
            &mut engine,
            &hit(second, "", SCANNER, i64::from(second)),
        ));
    }
    for second in 2..20 {
        for _ in 0..100 {
            id += 1;
            after += SECOND / 10;
            let one = hit(
                id,
                "",
                &format!("10.0.{}.{}", id / 250 % 250, id % 250),
                after,
            );
            emitted.extend(observe(&mut engine, &one));
            assert!(engine.tracked() <= 50);
        }
        emitted.extend(observe(&mut engine, &hit(second, "", SCANNER, after)));
    }
    emitted.extend(drain(&mut engine));
    let last = emitted.last().unwrap();
    assert_eq!((states(&emitted)[0], last.count), (("opened", 6), 20));
    assert!(emitted.iter().all(|one| one.finding_id == last.finding_id));
    let stats = engine.stats();
    assert_eq!(stats.evicted, 1800 - 49);
    // An address that came again and again with one request may have lost one each time that the
    // flood went once through the table.
    assert!((30..=40).contains(&stats.evicted_hits), "{stats:?}");
    assert!(engine.tracked() <= 50);
}

#[test]
fn the_error_bound_is_the_most_hits_a_lost_key_had() {
    let mut engine = limited(10);
    let mut id = 0;
    for address in 0..40 {
        for _ in 0..3 {
            id += 1;
            let key = format!("10.0.0.{address}");
            assert!(observe(&mut engine, &hit(id, "", &key, i64::from(id) * SECOND)).is_empty());
        }
    }
    let stats = engine.stats();
    assert!(stats.evicted >= 30, "{stats:?}");
    // Each address has three requests when it goes, and there were thirty in a table of ten.
    assert!((9..=15).contains(&stats.evicted_hits), "{stats:?}");
}

#[test]
fn an_open_finding_that_has_to_give_way_is_closed_aloud() {
    let mut engine = limited(2);
    let mut emitted = Vec::new();
    let mut id = 0;
    for address in 0..4 {
        for _ in 0..7 {
            id += 1;
            let key = format!("10.0.0.{address}");
            emitted.extend(observe(
                &mut engine,
                &hit(id, "", &key, i64::from(id) * SECOND),
            ));
        }
    }
    // Each address that comes is found, and the one that was quiet for longest goes.
    let of = |state: &str| -> Vec<_> {
        let of = emitted.iter().filter(|one| one.state == state);
        of.map(|one| (one.src_ip.as_str(), one.count)).collect()
    };
    let opened: Vec<_> = (0..4).map(|n| (format!("10.0.0.{n}"), 6)).collect();
    let opened: Vec<_> = opened
        .iter()
        .map(|(ip, count)| (ip.as_str(), *count))
        .collect();
    assert_eq!(of("opened"), opened);
    assert_eq!(of("closed"), [("10.0.0.0", 7), ("10.0.0.1", 7)]);
    let closed: Vec<_> = emitted.iter().filter(|one| one.state == "closed").collect();
    assert!(closed.iter().all(|one| one.close_reason == "evicted"));
    assert_eq!(engine.tracked(), 2);
}

/// With few identities kept, duplicates cannot be recognised any more; the finding says so.
#[test]
fn hits_of_one_key_have_a_bound() {
    let size = |hits: u32| {
        let limits = Limits {
            hits_per_key: 40,
            ..Limits::default()
        };
        let mut engine = Engine::new(Rule::default(), limits, None);
        let mut last = None;
        for id in 0..hits {
            last = observe(&mut engine, &hit(id, "", SCANNER, i64::from(id) * 1000))
                .pop()
                .or(last);
        }
        let repeat = hit(hits - 1, "", SCANNER, i64::from(hits - 1) * 1000);
        assert!(observe(&mut engine, &repeat).is_empty());
        assert_eq!(engine.stats().duplicates, 1, "the latest are remembered");
        let size = engine.export().encode().len();
        last = drain(&mut engine).pop().or(last);
        let last = last.unwrap();
        assert_eq!(last.count, u64::from(hits));
        assert!(
            last.unverified >= u64::from(hits) - 40,
            "{}",
            last.unverified
        );
        assert!(last.unverified < u64::from(hits));
        size
    };
    // More than wait to be joined: neither number grows what is kept.
    let (few, many) = (size(10_000), size(20_000));
    assert!(many < few + few / 10, "{few} {many}");
}

#[test]
fn values_of_one_field_have_a_bound_and_both_ends_stay() {
    let limits = Limits {
        values_per_field: 3,
        value_bytes: 30,
        ..Limits::default()
    };
    let mut engine = Engine::new(Rule::default(), limits, None);
    let mut emitted = Vec::new();
    for second in 0..50 {
        let mut hit = hit(second, "", SCANNER, i64::from(second) * SECOND);
        let uri = format!("/{:02}{}", 99 - second, "é".repeat(5000));
        let claimed = hit.texts.get(AuditField::ClaimedIps).unwrap().to_owned();
        hit.texts.set(AuditField::RequestUri, &[&uri]);
        hit.texts.set(AuditField::Verb, &["get"]);
        let claims = ["x".repeat(1 << 20), claimed];
        hit.texts.set(
            AuditField::ClaimedIps,
            &claims.each_ref().map(String::as_str),
        );
        emitted.extend(observe(&mut engine, &hit));
    }
    emitted.extend(drain(&mut engine));
    let last = emitted.last().unwrap();
    assert_eq!(last.count, 50);
    let starts: Vec<_> = last
        .paths
        .iter()
        .map(|path| path.get(..3).unwrap())
        .collect();
    assert_eq!(starts, ["/50", "/98", "/99"]);
    assert!(last.paths.iter().all(|path| path.len() <= 30));
    assert_eq!((last.distinct["paths"], last.estimated.len()), (50, 0));
    assert_eq!(last.verbs, ["get"]);
    assert_eq!(
        last.truncated,
        ["paths", "user_agents", "messages", "claimed_ips"]
    );
    assert!(last.samples.len() <= 10);
    assert!(last.to_json().len() < 5000, "{}", last.to_json());
    assert!(last.claimed_ips.iter().all(|claimed| claimed.len() <= 30));
}

proptest! {
    #![proptest_config(cases(150))]

    /// Room for this number of findings is enough for a batch whose times share a window.
    #[test]
    fn no_batch_causes_more_than_its_bound(
        threshold in 0u64..7,
        requests in vec((0u32..150, 0usize..3, 0i64..3600), 0..300),
        cuts in vec(1usize..120, 1..10),
    ) {
        let rule = Rule { threshold, ..Rule::default() };
        let mut engine = engine(&rule);
        let keys = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let hits: Vec<_> = requests
            .into_iter()
            .map(|(id, key, second)| hit(id * 3 + u32::try_from(key).unwrap(), "", keys[key], second * SECOND))
            .collect();
        let mut rest = hits.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            let bound = engine.bound(batch);
            // A hit that opens a finding or merges two makes two states.
            prop_assert!(bound <= 2 * batch.len());
            let mut emitted: Vec<_> = batch.iter().flat_map(|hit| observe(&mut engine, hit)).collect();
            // Time may make something due for other keys.
            emitted.retain(|one| batch.iter().any(|hit| hit.key == one.src_ip));
            prop_assert!(emitted.len() <= bound, "{} > {bound}: {:?}", emitted.len(), states(&emitted));
        }
    }

    /// Ticks may close a finding early, but what belongs to it in the end is the same.
    #[test]
    fn ticks_do_not_change_what_belongs_together(
        (rule, Log(hits)) in rule().prop_flat_map(|rule| { let log = log(&rule); (Just(rule), log) }),
        ticks in vec((any::<Index>(), 0u64..8000), 0..6),
    ) {
        let counts = |emitted: Vec<Finding>| {
            let mut last: std::collections::BTreeMap<_, _> = std::collections::BTreeMap::new();
            for one in emitted {
                last.insert(one.finding_id.clone(), one);
            }
            let mut counts: Vec<_> = last
                .into_values()
                .filter(|one| one.close_reason != "merged")
                .map(|one| {
                    let samples: Vec<_> = one.samples.into_iter().map(|sample| sample.audit_id).collect();
                    (one.cluster, one.src_ip, one.alert_at.map(|at| (at.seconds, at.nanos)), one.count, one.paths, samples)
                })
                .collect();
            counts.sort();
            counts
        };
        let wanted = counts(all(engine(&rule), &hits));
        let mut engine = engine(&rule);
        let mut emitted = Vec::new();
        for (at, hit) in hits.iter().enumerate() {
            for (place, seconds) in &ticks {
                if place.index(hits.len()) == at {
                    // Twice, for the first only ends the busy time.
                    emitted.extend(tick(&mut engine, Duration::from_secs(*seconds)));
                    emitted.extend(tick(&mut engine, Duration::from_secs(*seconds)));
                }
            }
            emitted.extend(observe(&mut engine, hit));
        }
        emitted.extend(drain(&mut engine));
        prop_assert!(lateness(&rule) < rule.window);
        prop_assert_eq!(counts(emitted), wanted);
        prop_assert_eq!(engine.stats().late_dropped, 0);
    }
}

/// A second scan a good hour after the first, before that can be closed, is found at its sixth
/// request. No request is forgotten.
#[test]
fn a_second_scan_opens_before_the_first_is_closed() {
    let limits = Limits {
        hits_per_key: 20,
        ..Limits::default()
    };
    let mut engine = Engine::new(Rule::default(), limits, None);
    let at = |id: u32, second: i64| hit(id, "", SCANNER, second * SECOND);
    let mut emitted: Vec<_> = (0..6)
        .flat_map(|id| observe(&mut engine, &at(id, id.into())))
        .collect();
    // The next scan begins a good hour later and within the lateness.
    let next = 3606;
    for id in 100..150 {
        emitted.extend(observe(&mut engine, &at(id, next + i64::from(id - 100))));
    }
    let second = [
        ("opened", 6),
        ("updated", 12),
        ("updated", 24),
        ("updated", 48),
    ];
    assert_eq!(states(&emitted)[0], ("opened", 6));
    assert_eq!(states(&emitted)[1..], second);
    assert_ne!(emitted[0].finding_id, emitted[1].finding_id);
    assert_eq!(engine.stats().overflow, 0);
    emitted.clear();
    emitted.extend(observe(
        &mut engine,
        &hit(999, "", "192.0.2.9", 4300 * SECOND),
    ));
    assert_eq!(states(&emitted), [("closed", 6)]);
    assert_eq!(emitted[0].close_reason, "quiet");
}

/// A late request between two scans makes one of them, whatever came first.
#[test]
fn a_late_request_that_bridges_two_scans_merges_them() {
    let mut engine = engine(&Rule::default());
    let mut emitted: Vec<_> = scan(0..6)
        .iter()
        .chain(&scan(3606..3620))
        .flat_map(|hit| observe(&mut engine, hit))
        .collect();
    let first = emitted[0].finding_id.clone();
    let second = emitted[1].finding_id.clone();
    emitted.clear();
    emitted.extend(observe(&mut engine, &hit(9999, "", SCANNER, 3600 * SECOND)));
    assert_eq!(states(&emitted), [("closed", 14), ("updated", 21)]);
    assert_eq!(
        (&emitted[0].finding_id, emitted[0].close_reason.as_str()),
        (&second, "merged")
    );
    let last = drain(&mut engine);
    assert_eq!(states(&last), [("closed", 21)]);
    assert!(
        [&emitted[1], &last[0]]
            .iter()
            .all(|one| one.finding_id == first)
    );
    assert_eq!(engine.stats().late_dropped, 0);
}

#[test]
fn a_flood_of_long_values_finds_an_end_and_pushes_out_no_scanner() {
    let limits = Limits {
        memory: 1 << 20,
        ..Limits::default()
    };
    let mut engine = Engine::new(Rule::default(), limits, None);
    let mut emitted = Vec::new();
    let mut at = |id: u32, key: &str, engine: &mut Engine| {
        let mut hit = hit(id, "", key, i64::from(id) * 1000);
        let uri = format!("/{id}{}", "x".repeat(100_000));
        hit.texts.set(AuditField::RequestUri, &[&uri]);
        hit.texts
            .set(AuditField::UserAgent, &["y".repeat(100_000).as_str()]);
        emitted.extend(observe(engine, &hit));
    };
    for id in 0..6 {
        at(id, SCANNER, &mut engine);
    }
    for id in 6..3000 {
        // Each tries three times: more than the threshold would be a scan of its own.
        at(id, &format!("2001:db8::{:x}", id / 3), &mut engine);
        assert!(engine.heap_bytes() <= 1 << 20, "{}", engine.heap_bytes());
    }
    at(3000, SCANNER, &mut engine);
    // Texts go, and no key has to.
    assert_eq!((engine.stats().evicted, engine.tracked()), (0, 999));
    let last = drain(&mut engine);
    assert_eq!(states(&emitted), [("opened", 6)]);
    assert_eq!((last[0].src_ip.as_str(), last[0].count), (SCANNER, 7));
}

/// What a hit or a tick makes due may be said in slices: the findings are the same, in the same
/// order.
#[test]
fn slices_say_what_the_whole_says() {
    let limits = || Limits {
        keys: 3000,
        ..Limits::default()
    };
    let mut whole = Engine::new(Rule::default(), limits(), None);
    let mut sliced = Engine::new(Rule::default(), limits(), None);
    let (mut emitted, mut parts) = (Vec::new(), Vec::new());
    let mut prepared = 0;
    for id in 0..9000 {
        // Findings in more clusters than are kept, some quiet for a while.
        let cluster = format!("cluster {}", id / 7 % 1200);
        let after = i64::from(id) * SECOND * if id > 8000 { 30 } else { 1 };
        let hit = hit(id, &cluster, SCANNER, after);
        whole.observe(hit.clone(), &mut emitted);
        while !sliced.prepare(&hit, &mut 1, &mut parts) {
            prepared += 1;
        }
        sliced.observe(hit, &mut parts);
        if id % 1000 == 0 {
            whole.tick(HOUR, &mut emitted);
            whole.tick(HOUR, &mut emitted);
            for _ in 0..2 {
                sliced.advance(HOUR);
                while !sliced.settle(1, &mut parts) {
                    prepared += 1;
                }
            }
        }
        assert_eq!(emitted, parts, "{id}");
        emitted.clear();
        parts.clear();
    }
    assert!(prepared > 1000, "{prepared}");
    assert!(whole.stats().evicted > 100, "{:?}", whole.stats());
    assert_eq!(whole.stats(), sliced.stats());
    assert_eq!(whole.heap_bytes(), sliced.heap_bytes());
}
