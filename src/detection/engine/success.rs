//! Successes in the engine: where one belongs, and what findings say of them.

use std::sync::Arc;

use super::{Engine, EngineState, Known, Program, Setup, index, outlet};
use crate::{
    detection::{
        emission::{Draft, Emission},
        follow_up::{Changes, Standing},
        geo::Locate,
        hit::{Hit, Role},
        shard::Shard,
        watch::Change,
    },
    rules::model::Detection,
};

impl Engine {
    /// Keeps [`Self::changes`] for a screen, which must ask for them after each call.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.setup.changes = Changes::kept();
        self
    }

    /// The keys that are watched from now on or no longer, since this was asked last.
    pub fn changes(&mut self) -> Vec<Change> {
        self.setup.changes.take()
    }

    /// Takes a success: one of an open finding joins it, one of a closed finding is a hit of the
    /// detection of successes, and others are ignored.
    pub(super) fn observe_success(&mut self, mut hit: Hit, out: &mut Vec<Emission>) {
        if hit.excluded.is_some() {
            return;
        }
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

    /// Says that the keys of this state are watched from now on, and its own no longer.
    pub(super) fn announce(&mut self, state: &EngineState) {
        for shard in self.state.shards.values_mut() {
            shard.forget_watched(&self.setup.changes);
        }
        for shard in state.shards.values() {
            shard.announce_watched(&self.setup.changes);
        }
    }
}

impl Setup {
    /// These detections, and behind them those of their successes: hits name detections by their
    /// places.
    pub(super) fn programs(
        detections: &[Arc<Detection>],
        locate: Option<&Arc<dyn Locate>>,
    ) -> Vec<Program> {
        let program = |detection: &Arc<Detection>| Program::new(detection, locate.cloned());
        let mut programs: Vec<_> = detections.iter().map(program).collect();
        for (place, detection) in detections.iter().enumerate() {
            if let Some(follow_up) = &detection.follow_up {
                let successes = programs.len();
                if let Some(followed) = programs.get_mut(place) {
                    followed.successes = Some(successes);
                }
                programs.push(Program {
                    follows: Some(place),
                    ..program(&follow_up.detection)
                });
            }
        }
        programs
    }

    /// Writes into findings of a detection what is known of successes.
    pub(super) fn follow_up(
        &self,
        program: &Program,
        (shard, known): (&mut Shard, &mut [Known]),
        detection: usize,
        drafts: &mut [Draft],
    ) {
        if program.successes.is_some() {
            let gone = shard.follow_up(detection, drafts, &self.context_of(program));
            if let Some(Known { stats, .. }) = known.get_mut(detection) {
                stats.unwatched += gone;
            }
        }
        let scan = program.follows;
        if let Some((place, scan)) = scan.and_then(|at| Some((at, self.programs.get(at)?))) {
            shard.refer(place, &scan.detection.annotations.id, drafts);
        }
    }
}
