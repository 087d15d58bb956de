//! The engine after silence: what a backlog does to findings that ticks had closed, and how much
//! room it needs.

use std::{collections::BTreeMap, time::Duration};

use auditwatch::detection::{Finding, engine::Engine, hit::Hit, rule::Rule};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::support::{
    hits::{SECOND, after, drain, engine, hit, observe, rule, tick},
    props::cases,
};

const KEYS: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

/// Time without hits; the first tick only ends the busy time.
fn silence(engine: &mut Engine, length: Duration) -> Vec<Finding> {
    let mut out = tick(engine, Duration::ZERO);
    out.extend(tick(engine, length));
    out
}

fn scan(ids: std::ops::Range<u32>, start: i64) -> Vec<Hit> {
    let first = ids.start;
    ids.map(|id| hit(id, "", KEYS[0], (start + i64::from(id - first)) * SECOND))
        .collect()
}

fn states(emitted: &[Finding]) -> Vec<(&str, u64)> {
    emitted
        .iter()
        .map(|one| (one.state.as_str(), one.count))
        .collect()
}

/// A scan that goes on for hours begins right behind one that is not closed yet: it is found at its
/// sixth request.
#[test]
fn a_scan_behind_one_that_is_not_closed_opens_at_once() {
    let mut engine = engine(&Rule::default());
    let mut emitted: Vec<_> = scan(0..6, 0)
        .iter()
        .flat_map(|hit| observe(&mut engine, hit))
        .collect();
    let first = emitted[0].finding_id.clone();
    let mut opened_after = None;
    for hit in scan(6..7206, 3700) {
        let now = observe(&mut engine, &hit);
        if now.iter().any(|one| one.state == "opened") {
            assert_eq!(opened_after, None);
            opened_after = Some((hit.time.unwrap().0 - after_start(0)) / SECOND);
        }
        emitted.extend(now);
    }
    assert_eq!(opened_after, Some(3700 + 5));
    emitted.extend(drain(&mut engine));
    let last = emitted.last().unwrap();
    assert_ne!(last.finding_id, first);
    assert_eq!((last.count, after(last.first_time)), (7200, 3700 * SECOND));
}

fn after_start(after: i64) -> i64 {
    crate::support::hits::START + after
}

/// Each scan of a backlog is emitted at its own event times, not when the silence ends, and none
/// is lost when its key is forgotten.
#[test]
fn scans_of_a_backlog_are_told_by_its_own_times() {
    let mut engine = engine(&Rule::default());
    let mut emitted: Vec<_> = scan(0..7, 0)
        .iter()
        .flat_map(|hit| observe(&mut engine, hit))
        .collect();
    emitted.extend(silence(&mut engine, Duration::from_hours(100)));
    assert_eq!(states(&emitted), [("opened", 6), ("closed", 7)]);
    emitted.clear();
    // The first scan goes on; three more follow, each hours later, and then one of another address.
    let mut backlog = scan(7..27, 10);
    for more in 1..4u32 {
        backlog.extend(scan(more * 100..more * 100 + 11, i64::from(more) * 9000));
    }
    backlog.push(hit(999, "", KEYS[1], 80_000 * SECOND));
    for hit in &backlog {
        emitted.extend(observe(&mut engine, hit));
    }
    let scan = [("opened", 6), ("closed", 11)];
    let mut wanted = vec![("updated", 8), ("updated", 16), ("closed", 27)];
    wanted.extend([scan, scan, scan].concat());
    assert_eq!(states(&emitted), wanted);
    assert_eq!(engine.stats().late_dropped, 0);
    assert_eq!(drain(&mut engine), []);
}

/// A backlog that arrives in bursts does not close and reopen its finding at every pause.
#[test]
fn pauses_in_a_backlog_do_not_make_a_finding_flap() {
    let mut engine = engine(&Rule::default());
    let mut emitted: Vec<_> = scan(0..6, 0)
        .iter()
        .flat_map(|hit| observe(&mut engine, hit))
        .collect();
    emitted.extend(silence(&mut engine, Duration::from_hours(10)));
    for hit in scan(6..106, 6) {
        emitted.extend(observe(&mut engine, &hit));
        emitted.extend(silence(&mut engine, Duration::from_secs(30)));
    }
    let wanted = [
        ("opened", 6),
        ("closed", 6),
        ("updated", 7),
        ("updated", 14),
        ("updated", 28),
        ("updated", 56),
    ];
    assert_eq!(states(&emitted), wanted);
}

proptest! {
    #![proptest_config(cases(200))]

    /// Room for this number of findings is enough for any batch in order whose times share a window,
    /// whatever came before; findings that are due to time alone are not among them. Out of order
    /// a batch may close a finding by its own times and then go on with it: one more than that.
    #[test]
    fn no_batch_causes_more_than_its_bound_whatever_came_before(
        rule in rule(),
        before in vec((0usize..3, 0u32..1000, 0i64..4000), 0..60),
        silences in vec((any::<Index>(), 0u64..20_000), 0..3),
        batches in vec((0i64..4000, vec((0usize..3, 0u32..1000, 0i64..1000), 1..60)), 1..5),
    ) {
        let mut engine = engine(&rule);
        // Times in thousandths of a window.
        let hit = |key: usize, id: u32, part: i64| {
            let id = id * 3 + u32::try_from(key).unwrap();
            hit(id, "", KEYS[key], rule.window / 1000 * part)
        };
        let mut early: Vec<_> = before.iter().map(|(key, id, part)| hit(*key, *id, *part)).collect();
        early.sort_by_key(|hit| hit.time);
        for (at, one) in early.iter().enumerate() {
            observe(&mut engine, one);
            for (place, seconds) in &silences {
                if place.index(early.len()) == at {
                    silence(&mut engine, Duration::from_secs(*seconds));
                }
            }
        }
        for (start, batch) in batches {
            let mut batch: Vec<_> = batch
                .into_iter()
                .map(|(key, id, part)| hit(key, id, start + part * 999 / 1000))
                .collect();
            batch.sort_by_key(|hit| hit.time);
            let bound = engine.bound(&batch);
            // A hit that opens a finding or merges two makes two states.
            prop_assert!(bound <= 2 * batch.len());
            let mut caused = 0;
            for one in &batch {
                // What time alone causes: the same moment, seen by an engine to which a request
                // of another address comes.
                let mut other = self::engine(&rule);
                other.import(engine.export());
                let mut probe = one.clone();
                probe.key = "probe".to_owned();
                probe.identity.0 = [255; 16];
                let of_probe = |emitted: Vec<Finding>| emitted.into_iter().filter(|emitted| emitted.src_ip != "probe").count();
                let by_time = of_probe(observe(&mut other, &probe));
                let own = of_probe(observe(&mut engine, one)) - by_time;
                // The states of two findings that it merges.
                prop_assert!(own <= 2, "one hit says {own} things");
                caused += own;
            }
            prop_assert!(caused <= bound, "{caused} > {bound}");
        }
    }

    /// However a log is interrupted by silence, the last state of each finding says how many
    /// requests belong to it, and no finding is emitted after it was given up.
    #[test]
    fn nothing_is_left_unsaid(
        rule in rule(),
        parts in vec((0usize..3, 0i64..700), 0..120),
        silences in vec((any::<Index>(), 0u64..20_000), 0..6),
    ) {
        let mut engine = engine(&rule);
        let (mut time, mut emitted) = (0, Vec::new());
        let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
        for (at, (key, part)) in parts.iter().enumerate() {
            time += rule.window / 1000 * part;
            *sent.entry(KEYS[*key]).or_default() += 1;
            emitted.extend(observe(&mut engine, &hit(u32::try_from(at).unwrap(), "", KEYS[*key], time)));
            for (place, seconds) in &silences {
                if place.index(parts.len()) == at {
                    emitted.extend(silence(&mut engine, Duration::from_secs(*seconds)));
                }
            }
        }
        emitted.extend(drain(&mut engine));
        let last: BTreeMap<_, _> = emitted.iter().map(|one| (&one.finding_id, one)).collect();
        let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
        for one in last.values().filter(|one| one.close_reason != "merged") {
            *counted.entry(&one.src_ip).or_default() += one.count;
        }
        for (key, counted) in &counted {
            prop_assert!(*counted <= sent[key]);
            // With no threshold every request belongs to some finding.
            prop_assert!(rule.threshold > 0 || *counted == sent[key]);
        }
        prop_assert_eq!(engine.stats().late_dropped, 0);
        prop_assert!(rule.threshold > 0 || counted.len() == sent.len());
    }
}
