//! The state of the engine as bytes: what another version wrote, and what is refused.

use std::{sync::Arc, time::Duration};

use auditwatch::{
    detection::{
        engine::{Engine, EngineState},
        hit::Hit,
        limits::Limits,
        rule::{Rule, Semantics},
        state::StateError,
    },
    proto::state as proto,
    rules::model::{Aggregate, Dedup, Detection},
};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use crate::support::{
    hits::{SECOND, drain, hit, observe, tick},
    props::cases,
};

const FIXTURE: &str = "tests/data/state/v1.bin";

fn detections() -> Vec<Arc<Detection>> {
    let scan = Detection::of(&Rule::default());
    let escu = Detection::of(&Rule {
        semantics: Semantics::Escu,
        ..Rule::default()
    });
    let values = Detection {
        aggregate: Aggregate::Values,
        threshold: 3,
        fingerprint: "values".to_owned(),
        ..scan.clone()
    };
    let deliveries = Detection {
        dedup: Dedup::None,
        fingerprint: "deliveries".to_owned(),
        ..scan.clone()
    };
    [scan, escu, values, deliveries].map(Arc::new).into()
}

fn engine(detections: Vec<Arc<Detection>>) -> Engine {
    Engine::new(detections, Limits::default(), None)
}

fn matched(detection: u32, id: u32, key: u32, after: i64) -> Hit {
    let mut hit = hit(
        id,
        ["", "b"][id as usize % 2],
        &format!("192.0.2.{key}"),
        after,
    );
    hit.identity.0[8..].copy_from_slice(&u64::from(id % 7).to_le_bytes());
    Hit {
        detection,
        sources: vec!["203.0.113.9".to_owned(), hit.key.clone()],
        ..hit
    }
}

/// Scans that are open, that wait and that are over, windows that have ended and not.
fn hits() -> Vec<Hit> {
    let mut hits = Vec::new();
    for id in 0..400_u32 {
        let after = i64::from(id) * 40 * SECOND + if id > 200 { 3700 * SECOND } else { 0 };
        hits.push(matched(id % 4, id, id % 3, after));
    }
    // One ahead of all others: those after it have to wait.
    for id in 400..500 {
        hits.push(matched(id % 4, id, 1, 24_000 * SECOND + i64::from(id)));
    }
    hits
}

/// What the first version wrote is read, and continues as the state of today does.
/// `UPDATE_FIXTURE=1` writes it, which is for a new major version alone.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the environment says whether to write the fixture"
)]
fn state_of_the_first_version_is_read() {
    let mut engine = engine(detections());
    for hit in hits() {
        observe(&mut engine, &hit);
    }
    if std::env::var_os("UPDATE_FIXTURE").is_some() {
        std::fs::write(FIXTURE, engine.export().encode()).unwrap();
    }
    let bytes = std::fs::read(FIXTURE).unwrap();
    let state = EngineState::decode(&bytes).unwrap();
    let mut old = self::engine(detections());
    old.import(state);
    assert_eq!(old.stats(), engine.stats());
    assert_eq!(old.tracked(), engine.tracked());
    let ids = |findings: Vec<auditwatch::detection::Finding>| -> Vec<_> {
        findings
            .into_iter()
            .map(|one| (one.finding_id, one.state, one.count))
            .collect()
    };
    let mut emitted = 0;
    for minutes in [0, 30, 120] {
        let elapsed = Duration::from_mins(minutes);
        let wanted = ids(tick(&mut engine, elapsed));
        emitted += wanted.len();
        assert_eq!(ids(tick(&mut old, elapsed)), wanted);
    }
    let wanted = ids(drain(&mut engine));
    emitted += wanted.len();
    assert!(emitted >= 5, "{emitted}");
    assert_eq!(ids(drain(&mut old)), wanted);
}

#[test]
fn later_versions_are_refused_and_fields_that_are_not_known_are_ignored() {
    let mut engine = engine(detections());
    for hit in hits() {
        observe(&mut engine, &hit);
    }
    let bytes = engine.export().encode();
    let decoded = || proto::EngineState::decode(bytes.as_slice()).unwrap();
    let mut newer = decoded();
    newer.version = 2;
    let refused = EngineState::decode(&newer.encode_to_vec()).unwrap_err();
    assert_eq!(refused, StateError::Newer { found: 2 });
    assert_eq!(
        refused.to_string(),
        "the state has version 2, this program reads up to 1: use the later version, or start \
         without the state"
    );
    let mut newer = decoded();
    newer.shards[0].version = 3;
    let refused = EngineState::decode(&newer.encode_to_vec()).unwrap_err();
    assert_eq!(refused, StateError::Newer { found: 3 });
    // Field 1000 with a text, as a later minor version may write it.
    let mut more = bytes.clone();
    more.extend([0xc2, 0x3e, 3, b'n', b'e', b'w']);
    assert_eq!(EngineState::decode(&more).unwrap(), engine.export());
    // Damaged bytes are an error or a state, whatever they are.
    for at in (0..bytes.len()).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        let _any = EngineState::decode(&damaged);
        let _cut = EngineState::decode(&bytes[..at]);
    }
}

/// The state of a detection is found by its rule and what shapes its state, wherever it is in the
/// list; that of others is left out.
#[test]
fn state_goes_to_the_detection_it_is_of() {
    let mut engine = engine(detections());
    for hit in hits() {
        observe(&mut engine, &hit);
    }
    let state = engine.export();
    let mut wanted: Vec<_> = drain(&mut engine);
    let mut list = detections();
    list.reverse();
    list.pop();
    let mut other = self::engine(list);
    other.import(EngineState::decode(&state.encode()).unwrap());
    let gone = detections()[0].fingerprint.clone();
    let mut findings = drain(&mut other);
    wanted.retain(|one| one.config_fingerprint != gone);
    assert!(!wanted.is_empty());
    for list in [&mut wanted, &mut findings] {
        list.sort_by(|a, b| (&a.finding_id, a.count).cmp(&(&b.finding_id, b.count)));
    }
    assert_eq!(findings, wanted);
}

proptest! {
    #![proptest_config(cases(60))]

    /// Written and read at any time, the engine continues as if nothing had happened.
    #[test]
    fn state_that_was_read_continues_the_same(
        inputs in vec((0u32..4, 0u32..400, 0u32..3, -600i64..900), 0..300),
        cut in 0usize..300,
    ) {
        let mut one = engine(detections());
        let mut other = engine(detections());
        let mut now = 0;
        for (at, (detection, id, key, ahead)) in inputs.into_iter().enumerate() {
            now += ahead.max(0) / 20;
            let hit = matched(detection, id, key, (now + ahead) * SECOND);
            prop_assert_eq!(observe(&mut one, &hit), observe(&mut other, &hit));
            if at == cut {
                let bytes = other.export().encode();
                other = engine(detections());
                other.import(EngineState::decode(&bytes).unwrap());
                prop_assert_eq!(other.export().encode(), bytes);
            }
        }
        prop_assert_eq!(one.stats(), other.stats());
        prop_assert_eq!(one.export().encode(), other.export().encode());
        prop_assert_eq!(drain(&mut one), drain(&mut other));
    }
}
