//! Admission before state: room for the findings of a request is found before the engine sees any of
//! its hits. So a request that is refused has changed nothing, and one that is taken is taken whole.

use tokio::task;

use super::{
    lanes::Lanes,
    submission::{FULL, SLICE},
};
use crate::{
    detection::{engine::HitCounts, hit::Hit},
    processor::detection::Detection,
    receiver::Refusal,
};

/// The room for the findings of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    /// The most findings that its hits can cause.
    findings: usize,
}

impl Reservation {
    /// Finds room in every lane. The engine task alone adds findings, so what is free stays free
    /// until it has applied the hits.
    ///
    /// # Errors
    /// When there is no room. Nothing has changed then.
    pub(super) async fn reserve(
        detection: &Detection,
        lanes: &mut Lanes,
        hits: &[Hit],
    ) -> Result<Self, Refusal> {
        let findings = bound(detection, hits).await;
        if lanes.has_room(findings) {
            Ok(Self { findings })
        } else {
            Err(FULL)
        }
    }

    /// Whether the hits can cause no finding: their request is safe once they are applied.
    pub(super) fn is_empty(self) -> bool {
        self.findings == 0
    }
}

/// The most findings that these hits can cause. Between slices of them other tasks have their turn.
async fn bound(detection: &Detection, hits: &[Hit]) -> usize {
    let mut counts = HitCounts::default();
    for some in hits.chunks(SLICE) {
        detection.count(some, &mut counts);
        if some.len() == SLICE {
            task::yield_now().await;
        }
    }
    let mut bound: usize = 0;
    while !counts.is_empty() {
        bound = bound.saturating_add(detection.bound_of(&mut counts, SLICE));
        if !counts.is_empty() {
            task::yield_now().await;
        }
    }
    bound
}
