//! Who sends to the pipeline, and what exporters send to.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use rand::{Rng as _, rngs::StdRng};
use tokio::time::{sleep, timeout};

use super::world::World;
use crate::{
    audit::fields::AuditField,
    detection::{
        Finding,
        hit::{Hit, Identity},
        time::Micros,
    },
    exporter::{Exporter, Outcome},
    pipeline::submission::Submit,
};

/// The beginning of a window, 2026-11-25.
pub(super) const BASE: i64 = 1_795_586_400_000_000;
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;
pub(super) const CLUSTERS: [&str; 2] = ["", "b"];

/// A request of a sender, which keeps it until it is acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) hits: Vec<Hit>,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
}

/// Requests of a few addresses, in no order.
pub(super) fn requests(random: &mut StdRng) -> Vec<Request> {
    let mut id = 0;
    let many = random.random_range(4..=30);
    let keys = random.random_range(2..=8);
    let mut all: Vec<_> = (0..many)
        .map(|_| {
            let size = random.random_range(1..=6);
            let hits = (0..size).map(|_| {
                id += 1;
                let key = format!("192.0.2.{}", random.random_range(0..keys));
                let cluster = CLUSTERS[random.random_range(0..2)];
                hit(
                    random.random_range(0..2),
                    id,
                    (cluster, &key),
                    random.random_range(0..HOUR),
                )
            });
            Request {
                hits: hits.collect(),
                sent: 0,
                acknowledged: 0,
            }
        })
        .collect();
    // Two days later: all windows close.
    for (at, cluster) in CLUSTERS.iter().enumerate() {
        let hits = (0..2).map(|detection| {
            let id = 1_000_000 + u32::try_from(at).unwrap();
            hit(detection, id, (cluster, "198.51.100.1"), 48 * HOUR)
        });
        all.push(Request {
            hits: hits.collect(),
            sent: 0,
            acknowledged: 0,
        });
    }
    all
}

fn hit(detection: u32, id: u32, (cluster, key): (&str, &str), after: i64) -> Hit {
    let mut identity = [0; 16];
    identity[..4].copy_from_slice(&id.wrapping_mul(2_654_435_761).to_le_bytes());
    let values = [
        (AuditField::RequestUri, format!("/path/{}", id % 17)),
        (AuditField::Username, "system:anonymous".to_owned()),
        (AuditField::AuditId, format!("id-{id}")),
    ];
    let is_escu = detection == 1;
    Hit {
        detection,
        time: Some(Micros(BASE + after)),
        cluster: Arc::from(cluster),
        key: if is_escu {
            String::new()
        } else {
            key.to_owned()
        },
        sources: is_escu.then(|| key.to_owned()).into_iter().collect(),
        code: 403,
        texts: values.into_iter().collect(),
        identity: Identity(identity),
        ..Hit::default()
    }
}

/// One connection of a sender with a queue on disk: it has every `of`th request.
pub(super) async fn send(world: World, submit: Submit, (place, of): (usize, usize), all: bool) {
    loop {
        let (number, wait) = {
            let mut state = world.lock();
            let regular = state.requests.len() - CLUSTERS.len();
            let range = if all {
                regular..state.requests.len()
            } else {
                0..regular
            };
            let open: Vec<_> = range
                .filter(|number| number % of == place)
                .filter(|number| state.requests[*number].acknowledged == 0)
                .collect();
            if open.is_empty() {
                return;
            }
            // Not always the first: requests overtake each other.
            let at = if state.happens(70) {
                0
            } else {
                state.pick(0, u32::try_from(open.len() - 1).unwrap())
            };
            let wait = if state.happens(50) {
                0
            } else {
                state.pick(1, 300)
            };
            (open[at as usize], wait)
        };
        if wait > 0 {
            sleep(Duration::from_millis(wait.into())).await;
        }
        let (hits, patience) = {
            let mut state = world.lock();
            let patience = state.pick(1, 8000);
            let request = &mut state.requests[number];
            request.sent += 1;
            (request.hits.clone(), patience)
        };
        let answer = timeout(Duration::from_millis(patience.into()), submit.submit(hits)).await;
        let is_acknowledged = matches!(answer, Ok(Ok(_)));
        {
            let mut state = world.lock();
            if state.is_dead {
                return;
            }
            // An answer may be lost on its way: then the request is sent again.
            let is_lost = state.happens(10);
            state.requests[number].acknowledged += u64::from(is_acknowledged && !is_lost);
        }
        if !is_acknowledged {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What an exporter sends to.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoint {
    /// Findings that the exporters of all lives know to be accepted.
    pub(super) confirmed: u64,
    /// The next finding that the exporter of this life sends.
    pub(super) next: u64,
    /// Findings that arrived.
    pub(super) received: u64,
}

/// The exporter with this place.
pub(super) struct Sending(pub(super) World, pub(super) usize);

impl Exporter for Sending {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        let Self(world, place) = self;
        let (wait, arrives, answers, many) = {
            let mut state = world.lock();
            let often = state.faults.exporter;
            let fails = state.happens(often);
            let arrives = !fails || state.happens(50);
            let wait = if fails {
                state.pick(0, 200)
            } else {
                state.pick(0, 20)
            };
            let most = u32::try_from(batch.len()).unwrap();
            (wait, arrives, !fails, state.pick(1, most) as usize)
        };
        sleep(Duration::from_millis(wait.into())).await;
        let mut state = world.lock();
        if state.is_dead {
            return Outcome::retry("the process is gone");
        }
        let next = usize::try_from(state.endpoints[*place].next).unwrap();
        if arrives {
            for (at, finding) in batch.iter().enumerate().take(many) {
                if state.record.findings.get(next + at) != Some(&finding.encode_to_vec()) {
                    state.wrong(format!(
                        "finding {} is not the one of the outbox",
                        next + at
                    ));
                }
            }
            let endpoint = &mut state.endpoints[*place];
            endpoint.received = endpoint.received.max((next + many) as u64);
        }
        if answers {
            let endpoint = &mut state.endpoints[*place];
            endpoint.next += many as u64;
            endpoint.confirmed = endpoint.confirmed.max(endpoint.next);
            Outcome::Accepted(many)
        } else {
            Outcome::retry("no answer")
        }
    }
}
