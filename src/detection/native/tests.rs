//! A key says what its model says, whatever comes in whatever order.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::{
        fields::AuditField,
        finding::FindingState,
        hit::{Hit, Identity},
        limits::Limits,
    },
    *,
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

fn hit(request: &Request, time: Micros) -> Hit {
    let mut identity = [0; 16];
    // Not in the order of the ids.
    identity[..8].copy_from_slice(&request.id.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
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
        time: Some(time),
        clamped: request.value == 7,
        cluster: Arc::from("cluster"),
        key: "192.0.2.1".to_owned(),
        sources: Vec::new(),
        code: 401 + u16::from(request.value % 2),
        texts: values.into_iter().collect(),
        identity: Identity(identity),
    }
}

/// What is said of a finding.
type Said = (FindingState, Place, Micros, Evidence);

/// What a key and its model are compared by.
fn ranks(key: &Key, terms: &Terms<'_>) -> (u64, Option<Micros>, Micros, Vec<u64>, Vec<Place>) {
    let bounds = [0, 1, 7, 1000].map(|hits| key.bound(hits, terms)).to_vec();
    let free = key.free.places().collect();
    (
        key.rank(terms),
        key.closes_at(terms),
        key.expires_at(terms),
        bounds,
        free,
    )
}

fn model_ranks(
    key: &model::Key,
    terms: &Terms<'_>,
) -> (u64, Option<Micros>, Micros, Vec<u64>, Vec<Place>) {
    let bounds = [0, 1, 7, 1000].map(|hits| key.bound(hits, terms)).to_vec();
    let free = key.free.iter().map(model::TimedHit::place).collect();
    (
        key.rank(terms),
        key.closes_at(terms),
        key.expires_at(terms),
        bounds,
        free,
    )
}

/// A key whose state is read again after each step takes what one takes that is not.
fn again(key: &Key) -> Key {
    postcard::from_bytes(&postcard::to_stdvec(key).unwrap()).unwrap()
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
    ) {
        let limits = Limits { hits_per_key, values_per_field: 6, value_bytes: 40, ..Limits::default() };
        let terms = Terms { threshold, window: WINDOW, limits: &limits, keep: 5 * WINDOW + lateness };
        let start = Micros(1_000_000);
        let (mut key, mut model) = (Key::new(BEGINNING), model::Key::new(BEGINNING));
        let (mut front, mut now) = (start, start);
        for (at, request) in requests.iter().enumerate() {
            now = now.plus(request.step);
            let time = now.plus(request.ahead);
            front = front.max(time);
            let quiet = front.minus(lateness);
            let (mut said, mut wanted): (Vec<Said>, Vec<Said>) = (Vec::new(), Vec::new());
            let mut say = |state, open: &Open| {
                said.push((state, open.opening, open.alert_at, open.evidence.clone()));
            };
            let mut want = |state, open: &model::Open| {
                wanted.push((state, open.opening, open.alert_at, open.evidence.clone()));
            };
            if request.close {
                key.close(quiet, &terms, &mut say);
                model.close(quiet, &terms, &mut want);
            }
            let arrival = Arrival { front, watermark: quiet, quiet };
            let hit = hit(request, time);
            let place = (time, hit.identity);
            let fate = key.observe((place, &Fields::of(&hit)), arrival, &terms, &mut say);
            let wanted_fate =
                model.observe(model::TimedHit { time, hit }, arrival, &terms, &mut want);
            if at + 1 == requests.len() {
                key.drain(&terms, &mut say);
                model.drain(&terms, &mut want);
            }
            prop_assert_eq!(fate, wanted_fate);
            prop_assert_eq!(said, wanted);
            prop_assert_eq!(ranks(&key, &terms), model_ranks(&model, &terms));
            if at % 50 == 0 {
                prop_assert_eq!(&again(&key), &key);
            }
        }
    }
}
