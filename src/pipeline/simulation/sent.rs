//! What senders have: requests of a few addresses, each of which they keep until it is acknowledged.

use std::sync::Arc;

use rand::{Rng as _, rngs::StdRng};

use crate::detection::{
    fields::AuditField,
    hit::{Hit, Identity},
    time::Micros,
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
