//! A key says what its model says, whatever comes in whatever order.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::{
        event_time::EventTime,
        evidence_log::EvidenceLog,
        fields::AuditField,
        finding::{FindingState, Severity},
        hit::{Hit, Identity, LabelSet},
        limits::Limits,
    },
    open::MOST_BEFORE,
    *,
};
use crate::rules::{
    model::{Aggregate, Detection, Emit, Label, LabelBounds, LabelKind},
    settings::{Rule, SECOND},
};

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
    /// Whether what is due is settled before it.
    close: bool,
    /// Whether it succeeds.
    succeeds: bool,
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
    (
        0u64..600,
        ahead,
        step,
        0u8..40,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.03),
    )
        .prop_map(|(id, ahead, step, value, close, succeeds)| Request {
            id,
            ahead,
            step,
            value,
            close,
            succeeds,
        })
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
        (
            AuditField::Verb,
            ["get", "list", "create", "delete"][usize::from(request.value % 4)].to_owned(),
        ),
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
    values.extend((request.value > 5).then(|| {
        (
            AuditField::UserAgent,
            "agent".repeat(9 + usize::from(request.value / 20)),
        )
    }));
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
        // Of few requests all may be benign.
        labels: LabelSet(match request.value {
            0..30 => 8 | u64::from(request.value % 2),
            30..38 => 4 | 8,
            _ => 2 | 4,
        }),
        ..Hit::default()
    }
}

/// What a key and its model are compared by.
type Listing = ((u64, u64), Option<Micros>, Micros, Vec<Place>);

fn listing(key: &Key, params: &Params<'_>) -> Listing {
    let unassigned = key.unassigned.iter().map(|hit| hit.place).collect();
    (
        (key.strength(params), key.hits_at_hand(params)),
        key.due_at(params),
        key.expires_at(params),
        unassigned,
    )
}

fn model_listing(key: &model::Key, params: &Params<'_>) -> Listing {
    let unassigned = key.unassigned.iter().map(model::TimedHit::place).collect();
    (
        (key.strength(params), key.hits_at_hand(params)),
        key.due_at(params),
        key.expires_at(params),
        unassigned,
    )
}

/// A detection with labels of all kinds, whose bounds lie where findings of these tests come.
fn labelled() -> Detection {
    let detection = Detection::of(&Rule::default());
    let label = |name: &str, kind, severity, bounds| Label {
        is_joined: false,
        name: name.to_owned(),
        kind,
        title: name.to_owned(),
        severity,
        condition: detection.parts[0].condition.clone(),
        bounds,
    };
    let none = LabelBounds::default();
    let labels = vec![
        label("tool", LabelKind::Tool, None, none),
        label("reads", LabelKind::Behaviour, Some(Severity::High), none),
        label(
            "many",
            LabelKind::Shape,
            Some(Severity::Medium),
            LabelBounds {
                min_requests: Some(4),
                min_paths: Some(3),
                ..none
            },
        ),
        label(
            "probe",
            LabelKind::Benign,
            None,
            LabelBounds {
                max_requests: Some(40),
                max_paths: Some(9),
                max_user_agents: Some(1),
                ..none
            },
        ),
    ];
    Detection {
        labels,
        ..detection
    }
}

fn params<'a>(threshold: u64, limits: &'a Limits, detection: &'a Detection) -> Params<'a> {
    Params {
        detection,
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
fn evidence_log() -> EvidenceLog {
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
        cases: ProptestConfig::default().cases / 8,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_key_is_as_its_model(
        requests in vec(request(), 0..500),
        threshold in select(vec![0u64, 1, 5, 30]),
        hits_per_key in select(vec![40usize, 100, 10_000]),
        (window, lateness) in select(vec![0, WINDOW / 6, WINDOW - 1, WINDOW]).prop_flat_map(|lateness| {
            let window = select(vec![WINDOW, 600 * SECOND, 12 * 3600 * SECOND]);
            window.prop_map(move |window| (window, (window / WINDOW * lateness).min(window - 1)))
        }),
        values in select(vec![None, Some(1), Some(4), Some(7), Some(50), Some(600)]),
        is_evicted in any::<bool>(),
    ) {
        let detection = labelled();
        let limits = Limits { hits_per_key, values_per_field: 6, value_bytes: 40, ..Limits::default() };
        let params = Params {
            aggregate: values.map_or(Aggregate::Events, |_| Aggregate::Values),
            window,
            retention: 5 * window + lateness,
            lateness,
            ..params(threshold, &limits, &detection)
        };
        let scale = window / WINDOW;
        let start = Micros(1_000_000);
        let (mut key, mut model) = (Key::new(BEGINNING), model::Key::new(BEGINNING));
        let (mut max, mut now, mut log) = (start, start, evidence_log());
        for (number, request) in requests.iter().enumerate() {
            now = now.plus(request.step * scale);
            let time = now.plus(request.ahead * scale);
            let advance = time.0 - max.0;
            max = max.max(time);
            let event_time = at(max, lateness);
            let (mut emitted, mut wanted) = (Vec::new(), Vec::new());
            let mut sink = Sink { log: &mut log, out: &mut emitted };
            while request.close && key.due_at(&params).is_some_and(|at| at <= event_time.closing_watermark) {
                key.settle(event_time.closing_watermark, &params, &mut sink);
                model.settle(event_time.closing_watermark, &params, &mut wanted);
                prop_assert_eq!(key.due_at(&params), model.due_at(&params));
            }
            let (bound, settled) = (key.bound(1, (advance, false), &params), sink.out.len());
            let hit = hit(request, time, values.unwrap_or(1));
            let error = u64::from(request.value % 4);
            let arrival = Arrival { error, ..arrival(&hit, &event_time) };
            let timed = model::TimedHit { time, hit: hit.clone() };
            let (disposition, wanted_disposition) = if request.succeeds {
                let at = event_time.closing_watermark;
                let disposition = key.succeed(&arrival, &params, &mut sink);
                (disposition, model.succeed(&timed, at, &params, &mut wanted))
            } else {
                let disposition = key.observe(&arrival, &params, &mut sink);
                prop_assert!((sink.out.len() - settled) as u64 <= bound);
                (disposition, model.observe((timed, error), event_time, &params, &mut wanted))
            };
            prop_assert!(sink.out.len() - settled <= 2, "one hit causes two states at most");
            if number + 1 == requests.len() && is_evicted {
                key.evict(&params, &mut sink);
                model.evict(&params, &mut wanted);
            } else if number + 1 == requests.len() {
                key.drain(&params, &mut sink);
                model.drain(&params, &mut wanted);
            }
            prop_assert_eq!(disposition, wanted_disposition);
            prop_assert_eq!(emitted, wanted);
            prop_assert_eq!(listing(&key, &params), model_listing(&model, &params));
        }
    }
}

/// Takes hits at these times with these values; what was emitted.
fn observe(key: &mut Key, hits: &[(i64, u64)], params: &Params<'_>) -> Vec<Transition> {
    let (mut emitted, mut log) = (Vec::new(), evidence_log());
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
            succeeds: false,
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
        let (limits, detection) = (Limits::default(), labelled());
        let params = Params {
            aggregate: Aggregate::Values,
            ..params(threshold, &limits, &detection)
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
    let (limits, detection) = (Limits::default(), labelled());
    let params = Params {
        dedup: Dedup::None,
        ..params(5, &limits, &detection)
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
    let (limits, detection) = (Limits::default(), labelled());
    let params = Params {
        emit: Emit::Each,
        ..params(0, &limits, &detection)
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
    assert_eq!((key.hits_at_hand(&params), key.due_at(&params)), (0, None));
    let mut late = Vec::new();
    let mut sink = Sink {
        log: &mut evidence_log(),
        out: &mut late,
    };
    key.drain(&params, &mut sink);
    assert_eq!(late, []);
}

/// A success emits a state at once, however short ago the last one was; further ones when they have
/// doubled. One delivery of it is as good as two.
#[test]
fn a_success_goes_at_once() {
    let (limits, detection) = (Limits::default(), labelled());
    let params = params(5, &limits, &detection);
    let mut key = Key::new(BEGINNING);
    let hits: Vec<_> = (0..6).map(|n| (n, 1)).collect();
    assert_eq!(observe(&mut key, &hits, &params).len(), 1);
    let mut succeed = |id: u64| {
        let request = Request {
            id,
            ahead: 0,
            step: 0,
            value: 6,
            close: false,
            succeeds: false,
        };
        let hit = hit(&request, Micros(7), 1);
        let event_time = at(Micros(WINDOW), WINDOW - 1);
        let mut emitted = Vec::new();
        let mut sink = Sink {
            log: &mut evidence_log(),
            out: &mut emitted,
        };
        let disposition = key.succeed(&arrival(&hit, &event_time), &params, &mut sink);
        (disposition, emitted)
    };
    let (disposition, emitted) = succeed(1_000);
    assert_eq!(disposition, Disposition::Counted);
    let [one] = emitted.as_slice() else {
        panic!("{emitted:?}")
    };
    assert_eq!(one.state, FindingState::Updated);
    let finding = &one.evidence;
    assert_eq!(
        (finding.outcome.as_str(), finding.success_count),
        ("success", 1)
    );
    assert_eq!((finding.count, finding.successes.len()), (6, 1));
    assert_eq!(finding.new.as_ref().unwrap().successes, 1);
    assert_eq!(succeed(1_000), (Disposition::Duplicate, vec![]));
    let counts: Vec<_> = (1_001..1_020).map(|id| succeed(id).1.len()).collect();
    let sent: Vec<_> = (2..).zip(counts).filter(|(_, sent)| *sent > 0).collect();
    assert_eq!(sent, [(2, 1), (4, 1), (8, 1), (16, 1)]);
}
