//! How many findings hits can cause, so that room can be made before they are observed.

use super::{
    super::{
        hit::{Hit, Role},
        hit_counts::HitCounts,
        shard::DetectionState,
    },
    Engine, index,
};
use crate::rules::model::Window;

impl Engine {
    /// The most findings that these hits can cause for the keys they have, so that room can be
    /// made before they are observed. Findings that time causes are not among them.
    pub fn bound(&self, hits: &[Hit]) -> usize {
        let mut counts = HitCounts::default();
        self.count(hits, &mut counts);
        self.bound_of(&mut counts, usize::MAX, &|_, _, _| 0)
    }

    /// Counts more hits of one request by their keys, for [`Self::bound_of`].
    pub fn count<'h>(&self, hits: &'h [Hit], counts: &mut HitCounts<'h>) {
        for hit in hits {
            if hit.role == Role::Success {
                counts.succeed(self.setup.cluster_name(hit), index(hit));
                continue;
            }
            // Findings of tumbling windows are caused by time alone.
            if let Some(program) = self.setup.program(hit)
                && matches!(program.detection.window, Window::Session { .. })
            {
                counts.add(self.setup.cluster_name(hit), index(hit), hit);
            }
        }
    }

    /// What [`Self::bound`] says of this many of the keys that were counted, which are then taken
    /// away. `remembered` says how many successes will follow when a finding opens of this cluster,
    /// detection and key: each time that their number has doubled they cause a state.
    pub fn bound_of(
        &self,
        counts: &mut HitCounts<'_>,
        keys: usize,
        remembered: &dyn Fn(&str, usize, &str) -> usize,
    ) -> usize {
        let successes = std::mem::take(&mut counts.successes);
        let HitCounts { by_key, spans, .. } = counts;
        let counted = std::iter::from_fn(|| by_key.pop_first()).take(keys);
        let bound = counted.map(|((cluster, detection, key), hits)| {
            let span = spans.get(&(cluster, detection)).copied();
            let span = span.unwrap_or_default();
            let Some(context) = self.setup.context(detection) else {
                return 0;
            };
            let shard = self.state.shards.get(cluster);
            let bound = match shard.and_then(|shard| shard.get(detection)) {
                Some(state) => state.bound(key, hits, &span, &context),
                None => DetectionState::new(detection, context.detection.window)
                    .bound(key, hits, &span, &context),
            };
            match bound {
                0 => 0,
                _ => bound + doublings(remembered(cluster, detection, key)),
            }
        });
        let bound = usize::try_from(bound.sum::<u64>()).unwrap_or(usize::MAX);
        bound.saturating_add(successes)
    }
}

/// How many of this many successes cause a state: each time that their number has doubled.
fn doublings(successes: usize) -> u64 {
    successes
        .checked_ilog2()
        .map_or(0, |doubled| u64::from(doubled) + 1)
}
