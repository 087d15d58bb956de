//! A key says what its model says, whatever comes in whatever order.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::{
        event_time::EventTime,
        evidence_log::EvidenceLog,
        fields::AuditField,
        finding::Finding,
        hit::{Hit, Identity},
        limits::Limits,
    },
    open::MOST_BEFORE,
    *,
};
use crate::rules::model::{Aggregate, Emit};

const WINDOW: i64 = 1000;

/// A hit of a scan.
#[derive(Clone, Debug)]
struct Request {
    id: u64,
    /// How far the time is from that of the cluster.
    ahead: i64,
    /// How much time has passed in the cluster.
    step: i64,
    value: u8,
    /// Whether what is quiet is closed before it.
    close: bool,
}

fn request() -> impl Strategy<Value = Request> {
    let ahead = prop_oneof![
        4 => Just(0),
        4 => -30..30i64,
        2 => -6 * WINDOW..0i64,
        3 => WINDOW..WINDOW + 60,
        1 => select(vec![1 - WINDOW, -WINDOW, WINDOW, WINDOW - 1]),
    ];
    let step = prop_oneof![
        20 => 0..8i64,
        2 => 0..WINDOW,
        1 => WINDOW..2 * WINDOW,
    ];
    (0u64..600, ahead, step, 0u8..40, prop::bool::weighted(0.1)).prop_map(
        |(id, ahead, step, value, close)| Request {
            id,
            ahead,
            step,
            value,
            close,
        },
    )
}

fn hit(request: &Request, time: Micros, values: u64) -> Hit {
    let mut identity = [0; 16];
    // Not in the order of the ids.
    identity[..8].copy_from_slice(&request.id.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    identity[8..].copy_from_slice(&(request.id % values).to_le_bytes());
    let of = |many: u8, name: &str| format!("{name}{}", request.value % many);
    let mut values = vec![
        (AuditField::Code, "403".to_owned()),
        (AuditField::Username, of(3, "user")),
        (AuditField::Verb, of(4, "verb")),
        (AuditField::RequestUri, of(40, "/päth/")),
        (AuditField::Message, of(20, "message")),
        (AuditField::Status, String::new()),
        (AuditField::AuditId, of(40, "id")),
        (AuditField::Stage, "ResponseComplete".to_owned()),
        (
            AuditField::ClaimedIps,
            format!("203.0.113.{}", request.value % 7),
        ),
    ];
    values.extend((0..request.value % 5).map(|n| (AuditField::Groups, format!("group{n}"))));
    values.extend((request.value > 5).then(|| (AuditField::UserAgent, "agent".repeat(9))));
    Hit {
        detection: 0,
        time: Some(time),
        clamped: request.value == 7,
        cluster: Arc::from("cluster"),
        key: "192.0.2.1".to_owned(),
        sources: Vec::new(),
        code: 401 + u16::from(request.value % 2),
        texts: values.into_iter().collect(),
        identity: Identity(identity),
        ..Hit::default()
    }
}

/// What a key and its model are compared by.
fn listing(key: &Key, params: &Params<'_>) -> (u64, Option<Micros>, Micros, Vec<u64>, Vec<Place>) {
    let bounds = [0, 1, 7, 1000].map(|hits| key.bound(hits, params)).to_vec();
    let unassigned = key.unassigned.iter().map(|hit| hit.place).collect();
    (
        key.strength(params),
        key.closes_at(params),
        key.expires_at(params),
        bounds,
        unassigned,
    )
}

fn model_listing(
    key: &model::Key,
    params: &Params<'_>,
) -> (u64, Option<Micros>, Micros, Vec<u64>, Vec<Place>) {
    let bounds = [0, 1, 7, 1000].map(|hits| key.bound(hits, params)).to_vec();
    let unassigned = key.unassigned.iter().map(model::TimedHit::place).collect();
    (
        key.strength(params),
        key.closes_at(params),
        key.expires_at(params),
        bounds,
        unassigned,
    )
}

/// What the model emits, as a key would.
fn transition(state: FindingState, open: &model::Open) -> Transition {
    let mut evidence = Finding::default();
    open.evidence.write(&mut evidence);
    evidence.duplicates = open.duplicates;
    if let Some(reason) = open.reason {
        evidence.close_reason = reason.as_str().to_owned();
    }
    Transition {
        state,
        opening: open.opening,
        alert_at: open.alert_at,
        evidence,
    }
}

fn params(threshold: u64, limits: &Limits) -> Params<'_> {
    Params {
        threshold,
        window: WINDOW,
        aggregate: Aggregate::Events,
        dedup: Dedup::Request,
        emit: Emit::Finding,
        limits,
        retention: 5 * WINDOW,
        lateness: WINDOW - 1,
    }
}

/// A log that gives up nothing.
fn log() -> EvidenceLog {
    let mut log = EvidenceLog::default();
    log.limit(usize::MAX, 0);
    log
}

fn arrival<'a>(hit: &'a Hit, event_time: &'a EventTime) -> Arrival<'a> {
    Arrival {
        place: (hit.time.unwrap(), hit.identity),
        fields: Fields::of(hit),
        event_time,
        is_distinct: true,
        error: 0,
    }
}

/// Event time that has come to where all hits up to here are on time.
fn at(max: Micros, lateness: i64) -> EventTime {
    let mut event_time = EventTime::default();
    event_time.advance_by_hit(max, lateness);
    event_time
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_key_is_as_its_model(
        requests in vec(request(), 0..500),
        threshold in select(vec![0u64, 1, 5, 30]),
        hits_per_key in select(vec![40usize, 100, 10_000]),
        lateness in select(vec![0, WINDOW / 6, WINDOW - 1]),
        values in select(vec![None, Some(1), Some(4), Some(7), Some(50), Some(600)]),
    ) {
        let limits = Limits { hits_per_key, values_per_field: 6, value_bytes: 40, ..Limits::default() };
        let params = Params {
            aggregate: values.map_or(Aggregate::Events, |_| Aggregate::Values),
            retention: 5 * WINDOW + lateness,
            lateness,
            ..params(threshold, &limits)
        };
        let start = Micros(1_000_000);
        let (mut key, mut model) = (Key::new(BEGINNING), model::Key::new(BEGINNING));
        let (mut max, mut now) = (start, start);
        let mut log = log();
        for (number, request) in requests.iter().enumerate() {
            now = now.plus(request.step);
            let time = now.plus(request.ahead);
            max = max.max(time);
            let event_time = at(max, lateness);
            let (mut emitted, mut wanted) = (Vec::new(), Vec::new());
            let mut want = |state, open: &model::Open| wanted.push(transition(state, open));
            let mut sink = Sink { log: &mut log, out: &mut emitted };
            if request.close {
                key.close(event_time.closing_watermark, &params, &mut sink);
                model.close(event_time.closing_watermark, &params, &mut want);
            }
            let hit = hit(request, time, values.unwrap_or(1));
            let disposition = key.observe(&arrival(&hit, &event_time), &params, &mut sink);
            let timed = model::TimedHit { time, hit };
            let wanted_disposition = model.observe(timed, event_time, &params, &mut want);
            if number + 1 == requests.len() {
                key.drain(&params, &mut sink);
                model.drain(&params, &mut want);
            }
            prop_assert_eq!(disposition, wanted_disposition);
            prop_assert_eq!(emitted, wanted);
            prop_assert_eq!(listing(&key, &params), model_listing(&model, &params));
        }
    }
}

/// Takes hits at these times with these values; what was emitted.
fn observe(key: &mut Key, hits: &[(i64, u64)], params: &Params<'_>) -> Vec<Transition> {
    let mut emitted = Vec::new();
    let mut log = log();
    for (number, (time, value)) in hits.iter().enumerate() {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9E37_79B9).to_be_bytes());
        identity[8..].copy_from_slice(&value.to_le_bytes());
        let request = Request {
            id: 0,
            ahead: 0,
            step: 0,
            value: 0,
            close: false,
        };
        let hit = Hit {
            identity: Identity(identity),
            ..hit(&request, Micros(*time), 1)
        };
        let event_time = at(Micros(WINDOW), WINDOW - 1);
        let mut sink = Sink {
            log: &mut log,
            out: &mut emitted,
        };
        key.observe(&arrival(&hit, &event_time), params, &mut sink);
    }
    emitted
}

/// However often values are repeated, and in whatever order: few hits decide about a window, and
/// one more value is found.
#[test]
fn repeated_values_leave_few_hits_to_look_at() {
    type Order = (u64, fn(i64) -> (i64, u64));
    let orders: [Order; 5] = [
        (1, |n| (n % WINDOW, 0)),
        (3, |n| (n % WINDOW, n.cast_unsigned() % 3)),
        (3, |n| (WINDOW - 1 - n % WINDOW, n.cast_unsigned() % 3)),
        (3, |n| (n * 619 % WINDOW, n.cast_unsigned() * 7 / 5 % 3)),
        // One value from the left, then the others from the right.
        (3, |n| match n {
            0..5000 => (n % WINDOW, 0),
            _ => (WINDOW - 1 - n % WINDOW, 1 + n.cast_unsigned() % 2),
        }),
    ];
    for (threshold, order) in orders {
        let limits = Limits::default();
        let params = Params {
            aggregate: Aggregate::Values,
            ..params(threshold, &limits)
        };
        let mut key = Key::new(BEGINNING);
        let hits: Vec<_> = (0..9_000).map(order).collect();
        assert_eq!(observe(&mut key, &hits, &params), []);
        assert_eq!(key.unassigned.len(), 9_000);
        let looked_at = key.unassigned.counted(&params.alert()).count() as u64;
        assert!(looked_at <= threshold * 4, "{looked_at}");
        let emitted = observe(&mut key, &[(WINDOW - 1, 9)], &params);
        assert_eq!(emitted.len(), 1);
        assert!(emitted[0].evidence.count > threshold);
        assert!(key.open().unwrap().before.len() <= MOST_BEFORE);
    }
}

/// Where each delivery counts, one and the same event counts as often as it comes.
#[test]
fn deliveries_count_each_without_dedup() {
    let limits = Limits::default();
    let params = Params {
        dedup: Dedup::None,
        ..params(5, &limits)
    };
    let mut key = Key::new(BEGINNING);
    let mut emitted = Vec::new();
    for _ in 0..12 {
        emitted.extend(observe(&mut key, &[(7, 1)], &params));
    }
    let states: Vec<_> = emitted
        .iter()
        .map(|one| (one.state, one.evidence.count))
        .collect();
    assert_eq!(
        states,
        [(FindingState::Opened, 6), (FindingState::Updated, 12)]
    );
    assert!(key.rest.unwrap().dedup.is_none());
}

/// With a threshold of zero and each match a finding, each request makes one, whatever the order,
/// and a key keeps no more of it than its identity.
#[test]
fn each_match_is_a_finding() {
    let limits = Limits::default();
    let params = Params {
        emit: Emit::Each,
        ..params(0, &limits)
    };
    let mut key = Key::new(BEGINNING);
    let hits: Vec<_> = (0..10).map(|n| (n * 619 % WINDOW, 1)).collect();
    let emitted = observe(&mut key, &hits, &params);
    assert_eq!(emitted.len(), hits.len());
    for (one, (time, _)) in emitted.iter().zip(&hits) {
        let wanted = (FindingState::Opened, Micros(*time), Micros(*time), 1);
        assert_eq!(
            (one.state, one.opening.0, one.alert_at, one.evidence.count),
            wanted
        );
    }
    assert_eq!(observe(&mut key, &hits, &params), []);
    assert_eq!((key.strength(&params), key.closes_at(&params)), (0, None));
    let mut late = Vec::new();
    let mut sink = Sink {
        log: &mut log(),
        out: &mut late,
    };
    key.drain(&params, &mut sink);
    assert_eq!(late, []);
}
