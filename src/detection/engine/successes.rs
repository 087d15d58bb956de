//! The engine's part in following up: what becomes of a success of a watched key.

use super::{
    super::{
        emission::Emission,
        follow_up::Standing,
        hit::{Hit, Role},
    },
    Engine, Known, index, outlet,
};

impl Engine {
    /// Takes a success: one of an open finding joins it, one of a closed finding is a hit of the
    /// detection of successes, and others are ignored.
    pub(super) fn observe_success(&mut self, mut hit: Hit, out: &mut Vec<Emission>) {
        let detection = index(&hit);
        let (setup, state) = (&self.setup, &mut self.state);
        let (Some(time), Some(program)) = (hit.time, setup.programs.get(detection)) else {
            return;
        };
        let shard = state.shards.get_mut(setup.cluster_name(&hit));
        let (Some(successes), Some(shard), Some(Known { stats, .. })) = (
            program.successes,
            shard,
            state.detections.get_mut(detection),
        ) else {
            return;
        };
        hit.cut(setup.limits.value_bytes);
        let mut drafts = Vec::new();
        let context = setup.context_of(program);
        let mut outlet = outlet(&mut state.log, &mut drafts);
        let standing = shard.succeed(&hit, time, &context, &mut outlet);
        stats.successes += u64::from(standing != Standing::Ignored);
        setup.emit(detection, (shard, &mut state.detections), drafts, out);
        shard.report(detection, &mut state.evictions);
        if standing == Standing::Closed
            && let Ok(detection) = u32::try_from(successes)
        {
            hit.detection = detection;
            hit.role = Role::Match;
            self.observe(hit, out);
        }
    }
}
