//! Who sends to the pipeline, and what exporters send to.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::time::{sleep, timeout};

use super::{sent::CLUSTERS, world::World};
use crate::{
    detection::{Finding, screen::Screen},
    exporter::{Exporter, Outcome},
    pipeline::submission::Submit,
};

/// One connection of a sender with a queue on disk: it has every `of`th request.
pub(super) async fn send(
    world: World,
    (submit, screen): (Submit, Screen),
    (place, of): (usize, usize),
    all: bool,
) {
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
        let answer = timeout(
            Duration::from_millis(patience.into()),
            submit.submit(hits, screen.clone()),
        )
        .await;
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
