//! Several detections in one engine: each counts as if it ran alone, and none displaces another.

use std::{sync::Arc, time::Duration};

use auditwatch::{
    detection::{
        Finding,
        emission::Emission,
        engine::Engine,
        finding::FindingState,
        hit::Hit,
        limits::Limits,
        rule::{Rule, Semantics},
    },
    rules::model::{Aggregate, Annotations, Dedup, Detection, Emit, GroupBy, Window},
};
use proptest::{collection::vec, prelude::*};

use crate::support::{
    hits::{SECOND, hit, tick},
    props::cases,
};

const HOUR: i64 = 3600 * SECOND;

/// A detection that counts matches by key in sessions of an hour.
fn detection(id: &str, threshold: u64) -> Detection {
    Detection {
        annotations: Annotations {
            id: id.to_owned(),
            title: format!("rule {id}"),
            level: "high".to_owned(),
            score: 60,
            ..Annotations::default()
        },
        group_by: GroupBy::Fields(vec!["user.username".to_owned()]),
        window: Window::Session { length: HOUR },
        aggregate: Aggregate::Events,
        threshold,
        dedup: Dedup::Request,
        emit: Emit::Finding,
        lateness: HOUR / 6,
        fingerprint: format!("fingerprint of {id}"),
        ..Detection::default()
    }
}

/// One of each kind.
fn detections() -> Vec<Detection> {
    let escu = Rule {
        semantics: Semantics::Escu,
        threshold: 2,
        ..Rule::default()
    };
    let tumbling = Window::Tumbling {
        length: HOUR,
        offset: 0,
    };
    vec![
        Detection::of(&Rule::default()),
        Detection::of(&escu),
        Detection {
            aggregate: Aggregate::Values,
            ..detection("values", 3)
        },
        detection("first match", 0),
        Detection {
            emit: Emit::Each,
            ..detection("each match", 0)
        },
        Detection {
            window: tumbling,
            ..detection("tumbling", 4)
        },
        Detection {
            window: tumbling,
            aggregate: Aggregate::Values,
            ..detection("tumbling values", 2)
        },
        Detection {
            dedup: Dedup::None,
            ..detection("each delivery", 5)
        },
    ]
}

fn engine(detections: &[Detection], limits: Limits) -> Engine {
    let detections: Vec<_> = detections.iter().cloned().map(Arc::new).collect();
    Engine::new(detections, limits, None)
}

/// A match of this detection, with one of a few values.
fn matched(detection: usize, id: u32, key: &str, after: i64) -> Hit {
    let mut hit = hit(id, if id.is_multiple_of(5) { "b" } else { "" }, key, after);
    hit.identity.0[8..].copy_from_slice(&u64::from(id % 6).to_le_bytes());
    Hit {
        detection: u32::try_from(detection).unwrap(),
        sources: vec![key.to_owned()],
        ..hit
    }
}

/// What is given to an engine.
#[derive(Clone, Debug)]
enum Input {
    Hit {
        detection: usize,
        id: u32,
        key: u8,
        ahead: i64,
    },
    Tick(u64),
}

fn input(detections: usize) -> impl Strategy<Value = Input> {
    let ahead = prop_oneof![8 => 0..60 * SECOND, 1 => -HOUR / 6..HOUR, 1 => HOUR..2 * HOUR];
    let hit = (0..detections, 0u32..300, 0u8..3, ahead).prop_map(|(detection, id, key, ahead)| {
        Input::Hit {
            detection,
            id,
            key,
            ahead,
        }
    });
    prop_oneof![20 => hit, 1 => (0u64..8000).prop_map(Input::Tick)]
}

/// What an engine emits for these inputs; with `only`, for the hits of that detection alone.
fn run(mut engine: Engine, inputs: &[Input], only: Option<usize>) -> Vec<Emission> {
    let mut out = Vec::new();
    let mut now = 0;
    for input in inputs {
        match input {
            Input::Hit {
                detection,
                id,
                key,
                ahead,
            } => {
                now += (*ahead).max(0);
                let key = format!("192.0.2.{key}");
                let hit = matched(*detection, *id, &key, now + (*ahead).min(0));
                match only {
                    None => engine.observe(hit, &mut out),
                    Some(only) if only == *detection => {
                        engine.observe(
                            Hit {
                                detection: 0,
                                ..hit
                            },
                            &mut out,
                        );
                    }
                    Some(_) => {}
                }
            }
            Input::Tick(seconds) => engine.tick(Duration::from_secs(*seconds), &mut out),
        }
    }
    engine.drain(&mut out);
    assert_eq!(engine.tracked(), 0);
    out
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn each_detection_counts_as_if_it_ran_alone(
        inputs in vec(input(detections().len()), 0..400),
    ) {
        let detections = detections();
        let together = run(engine(&detections, Limits::default()), &inputs, None);
        for (place, detection) in detections.iter().enumerate() {
            let alone = run(
                engine(std::slice::from_ref(detection), Limits::default()),
                &inputs,
                Some(place),
            );
            // All that one detection emits is in the order it has alone, cluster by cluster.
            for cluster in ["", "b"] {
                let is_of = |one: &&Emission| one.detection.fingerprint == detection.fingerprint && one.finding.cluster == cluster;
                let own: Vec<_> = together.iter().filter(is_of).collect();
                let wanted: Vec<_> = alone.iter().filter(is_of).collect();
                prop_assert_eq!(own, wanted, "{}", detection.annotations.id);
            }
        }
    }
}

/// All that an engine emits for these hits, the end included.
fn emitted(detection: Detection, hits: impl IntoIterator<Item = Hit>) -> Vec<Finding> {
    let mut engine = engine(&[detection], Limits::default());
    let mut out = Vec::new();
    for hit in hits {
        engine.observe(hit, &mut out);
    }
    engine.drain(&mut out);
    crate::support::hits::findings(out)
}

#[test]
fn a_finding_names_its_rule() {
    let findings = emitted(detection("x", 0), [matched(0, 1, "alice", 0)]);
    let [one, _closed] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert_eq!(
        (one.rule_id.as_str(), one.rule_name.as_str()),
        ("x", "rule x")
    );
    assert_eq!((one.severity.as_str(), one.risk_score), ("high", 60));
    assert_eq!((one.threshold, one.count), (0, 1));
    assert_eq!(one.config_fingerprint, "fingerprint of x");
    // A rule without a search of its own leads to all events of its group.
    let search = r#"`auditwatch_audit` "user.username"="alice" earliest="#;
    assert!(
        one.drilldown_search.starts_with(search),
        "{}",
        one.drilldown_search
    );
    let other = emitted(detection("y", 0), [matched(0, 1, "alice", 0)]);
    assert_ne!(one.finding_id, other[0].finding_id);
}

#[test]
fn distinct_values_are_counted_and_repeats_of_one_are_not() {
    let values = |threshold| Detection {
        aggregate: Aggregate::Values,
        ..detection("values", threshold)
    };
    // Six values, each fifty times, in a minute.
    let hits = || {
        (1..300)
            .filter(|id| id % 5 != 0)
            .map(|id| matched(0, id, "alice", i64::from(id)))
    };
    assert_eq!(emitted(values(6), hits()), []);
    let findings = emitted(values(5), hits());
    assert_eq!(findings[0].state, "opened");
    // The sixth value is that of request 11, which is the ninth: each fifth is left out.
    assert_eq!(findings[0].count, 9);
    assert_eq!(findings.last().unwrap().count, hits().count() as u64);
    let tumbling = |threshold| Detection {
        window: Window::Tumbling {
            length: HOUR,
            offset: 0,
        },
        ..values(threshold)
    };
    assert_eq!(emitted(tumbling(6), hits()), []);
    assert_eq!(emitted(tumbling(5), hits())[0].count, hits().count() as u64);
}

#[test]
fn tumbling_windows_group_by_fields_and_count_a_request_once() {
    let tumbling = Detection {
        window: Window::Tumbling {
            length: HOUR,
            offset: 0,
        },
        ..detection("tumbling", 2)
    };
    let hits: Vec<_> = [1, 2, 3, 3, 2, 1, 4]
        .map(|id| matched(0, id, "alice", 0))
        .into();
    let findings = emitted(tumbling.clone(), hits.clone());
    assert_eq!((findings.len(), findings[0].count), (1, 4));
    let each = Detection {
        dedup: Dedup::None,
        ..tumbling
    };
    assert_eq!(emitted(each, hits)[0].count, 7);
}

/// With a threshold of zero each key has an open finding from its first match. Such a flood takes
/// the place of its own kind, and of no key that gathers hits for another detection.
#[test]
fn a_flood_of_findings_of_one_detection_displaces_itself() {
    let limits = Limits {
        keys: 100,
        ..Limits::default()
    };
    let detections = [detection("scan", 5), detection("first match", 0)];
    let mut engine = engine(&detections, limits);
    let mut out = Vec::new();
    let scanners = 40;
    for request in 0..6 {
        for scanner in 0..scanners {
            let id = request * 1000 + scanner;
            engine.observe(
                Hit {
                    cluster: "".into(),
                    ..matched(0, id, &format!("scanner {scanner}"), 0)
                },
                &mut out,
            );
        }
        for flood in 0..300 {
            let id = 100_000 + request * 1000 + flood;
            engine.observe(
                Hit {
                    cluster: "".into(),
                    ..matched(1, id, &format!("user {id}"), 0)
                },
                &mut out,
            );
        }
        assert!(engine.tracked() <= 100);
    }
    let scans = out
        .iter()
        .filter(|one| one.detection.annotations.id == "scan");
    let states: Vec<_> = scans.map(|one| one.state).collect();
    assert_eq!(states, vec![FindingState::Opened; scanners as usize]);
    let evicted: Vec<_> = engine
        .stats_by_detection()
        .map(|stats| stats.evicted)
        .collect();
    assert_eq!(evicted, [0, 6 * 300 - 60]);
    // One that is alone may have all the room there is.
    let first = engine.tracked();
    assert_eq!((first, tick(&mut engine, Duration::ZERO).len()), (100, 0));
}
