//! The engine in escu semantics: the windows of the search, evaluated when Splunk would.

use std::{net::IpAddr, sync::Arc, time::Duration};

use auditwatch::detection::{
    Finding,
    engine::{Engine, EngineState},
    geo::{Locate, Location},
    hit::Hit,
    limits::Limits,
    rows::{EscuRow, Row, Rows},
    rule::{Rule, Semantics},
    time::Micros,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::support::{
    hits::{Log, SECOND, START, after, drain, hit, observe, tick},
    props::cases,
};

struct Stub;

impl Locate for Stub {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        let city = match address.to_string().as_str() {
            "192.0.2.1" => Some("Port".to_owned()),
            "192.0.2.2" => None,
            _ => return None,
        };
        Some(Location {
            country: Some("Atlantis".to_owned()),
            city,
            country_iso_code: Some("AT".to_owned()),
            ..Location::default()
        })
    }
}

fn rule(threshold: u64) -> Rule {
    Rule {
        semantics: Semantics::Escu,
        threshold,
        ..Rule::default()
    }
}

fn engine(rule: &Rule, limits: Limits, located: bool) -> Engine {
    let locate = located.then(|| Arc::new(Stub) as Arc<dyn Locate>);
    Engine::new(rule.clone(), limits, locate)
}

fn named(id: u32, sources: &[&str], after: i64) -> Hit {
    Hit {
        sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        key: String::new(),
        ..hit(id, "", "", after)
    }
}

/// Hits in order, over several windows.
fn log() -> impl Strategy<Value = Log> {
    let source = select(vec![
        "192.0.2.1",
        "192.0.2.2",
        "198.51.100.9",
        "private",
        "",
    ]);
    let gap = prop_oneof![
        20 => 0..400 * SECOND,
        1 => select(vec![3600 * SECOND, 3_599_999_999, 2 * 3600 * SECOND]),
    ];
    vec((0u32..200, vec(source, 0..4), gap), 0..80).prop_map(|requests| {
        let mut after = 0;
        let hit = |(id, sources, gap): (u32, Vec<&str>, i64)| {
            after += gap;
            named(id, &sources, after)
        };
        Log(requests.into_iter().map(hit).collect())
    })
}

/// A finding as a row of `scan`.
fn row(finding: &Finding) -> EscuRow {
    let micros = |time| Micros(START + after(time));
    EscuRow {
        window_start: micros(finding.window_start),
        window_end: micros(finding.window_end),
        src_ip: finding.src_ip.clone(),
        country: finding.country.clone(),
        city: finding.city.clone(),
        count: finding.count,
        columns: finding
            .lists()
            .filter(|list| list.row.escu.is_some())
            .flat_map(|list| {
                list.values
                    .iter()
                    .map(move |value| (list.row.field, value.clone()))
            })
            .collect(),
        first_time: micros(finding.first_time),
        last_time: micros(finding.last_time),
        detail: None,
    }
}

fn rows(hits: &[Hit], rule: &Rule, located: bool) -> Vec<EscuRow> {
    let locate: Option<&dyn Locate> = if located { Some(&Stub) } else { None };
    let mut rows = Rows::default();
    for hit in hits {
        rows.add(hit, rule, locate);
    }
    let rows = rows.finish(rule, false).into_iter();
    rows.map(|row| match row {
        Row::Escu(row) => *row,
        Row::Native(_) => unreachable!(),
    })
    .collect()
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn findings_are_the_rows_each_once_when_its_window_is_over(
        Log(hits) in log(),
        threshold in 0u64..6,
        located in any::<bool>(),
        minutes in vec(0i64..10, 1..20),
        restart in any::<prop::sample::Index>(),
    ) {
        let rule = rule(threshold);
        let wanted = rows(&hits, &rule, located);
        // As a log comes in: in order, or in an order not further behind than the lateness.
        let mut shuffled: Vec<_> = hits
            .iter()
            .zip(minutes.iter().cycle())
            .map(|(hit, minutes)| (hit.time.unwrap().plus(minutes * 60 * SECOND), hit.clone()))
            .collect();
        shuffled.sort_by_key(|(arrival, _)| *arrival);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(_, hit)| hit).collect();
        for hits in [hits, shuffled] {
            let mut engine = engine(&rule, Limits::default(), located);
            let mut emitted = Vec::new();
            let mut watermark = Micros(i64::MIN);
            for (at, hit) in hits.iter().enumerate() {
                if at == restart.index(hits.len()) {
                    let state = EngineState::decode(&engine.export().encode()).unwrap();
                    prop_assert_eq!(&state, &engine.export());
                    engine = self::engine(&rule, Limits::default(), located);
                    engine.import(state);
                }
                prop_assert_eq!(engine.bound(std::slice::from_ref(hit)), 0);
                let before = watermark;
                watermark = watermark.max(hit.time.unwrap().minus(rule.lateness));
                for finding in observe(&mut engine, hit) {
                    let end = row(&finding).window_end;
                    prop_assert!(before < end && end <= watermark);
                    emitted.push(finding);
                }
            }
            for finding in drain(&mut engine) {
                prop_assert!(row(&finding).window_end > watermark);
                emitted.push(finding);
            }
            prop_assert_eq!(engine.stats().late_dropped, 0);
            prop_assert_eq!(engine.tracked(), 0);
            prop_assert!(emitted.iter().all(|finding| finding.state == "opened"));
            let ids: std::collections::BTreeSet<_> = emitted.iter().map(|finding| &finding.finding_id).collect();
            prop_assert_eq!(ids.len(), emitted.len());
            let got: Vec<_> = emitted.iter().map(row).collect();
            prop_assert_eq!(got, wanted.clone());
        }
    }
}

#[test]
fn an_idle_window_is_evaluated_by_ticks_and_then_closed_for_good() {
    let mut engine = engine(&rule(5), Limits::default(), true);
    let mut emitted = Vec::new();
    for id in 0..6 {
        emitted.extend(observe(
            &mut engine,
            &named(id, &["192.0.2.2"], i64::from(id) * SECOND),
        ));
    }
    emitted.extend(tick(&mut engine, Duration::ZERO));
    // The last hit is five seconds into the window of an hour, the watermark ten minutes behind.
    emitted.extend(tick(&mut engine, Duration::from_secs(3600 + 600 - 6)));
    assert_eq!(emitted, []);
    emitted.extend(tick(&mut engine, Duration::from_secs(1)));
    assert_eq!(emitted.len(), 1);
    let place = (emitted[0].country.as_deref(), emitted[0].city.as_deref());
    assert_eq!((emitted[0].count, place), (6, (Some("Atlantis"), Some(""))));
    assert_eq!(emitted[0].country_iso_code.as_deref(), Some("AT"));
    assert!(observe(&mut engine, &named(9, &["192.0.2.2"], 10 * SECOND)).is_empty());
    assert_eq!(engine.stats().late_dropped, 1);
    assert_eq!(drain(&mut engine), []);
}

#[test]
fn a_redelivery_counts_again_as_it_does_in_splunk() {
    let mut engine = engine(&rule(5), Limits::default(), false);
    for _ in 0..3 {
        let hit = named(0, &["192.0.2.1", "192.0.2.1"], 0);
        assert!(observe(&mut engine, &hit).is_empty());
    }
    let emitted = drain(&mut engine);
    assert_eq!(emitted.len(), 1);
    assert_eq!((emitted[0].count, engine.stats().duplicates), (6, 0));
    assert_eq!(
        (emitted[0].country.as_deref(), emitted[0].alert_at),
        (None, None)
    );
    assert!(emitted[0].claimed_ips.is_empty());
}

#[test]
fn a_flood_of_sources_cannot_push_out_a_scanner() {
    let limits = Limits {
        keys: 50,
        ..Limits::default()
    };
    let mut engine = engine(&rule(5), limits, false);
    let mut emitted = Vec::new();
    for id in 0..2 {
        emitted.extend(observe(&mut engine, &named(id, &["192.0.2.1"], 0)));
    }
    for id in 2..10 {
        let flood: Vec<_> = (0..300)
            .map(|at| format!("10.{id}.{}.{}", at / 250, at % 250))
            .collect();
        let flood: Vec<_> = flood.iter().map(String::as_str).collect();
        emitted.extend(observe(
            &mut engine,
            &named(id, &flood, i64::from(id) * SECOND),
        ));
        emitted.extend(observe(
            &mut engine,
            &named(id, &["192.0.2.1"], i64::from(id) * SECOND),
        ));
        assert!(engine.tracked() <= 50);
    }
    emitted.extend(drain(&mut engine));
    let counts: Vec<_> = emitted
        .iter()
        .map(|one| (one.src_ip.as_str(), one.count))
        .collect();
    assert_eq!(counts, [("192.0.2.1", 10)]);
    let stats = engine.stats();
    assert_eq!(stats.evicted, 8 * 300 - 49);
    // A source that was named in each event of the flood may have lost one each time.
    assert!((7..=8).contains(&stats.evicted_hits), "{stats:?}");
}
