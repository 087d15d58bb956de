//! What gives way when there is too much: keys, and whole clusters.

use std::sync::Arc;

use super::{
    super::{
        emission::Emission, eviction::Evictions, key_table::Measure, limits::Limits,
        sessions::Loss, shard::Shard, steps,
    },
    Engine, EngineState, Known, Setup, outlet,
};

/// Clusters that are kept apart at a time. Their names come from senders, so they have a bound.
const MAX_CLUSTERS: usize = 1024;
/// Part of the memory that shards may take besides their keys. Beyond it the cluster of the
/// earliest event time is evicted.
const SHARDS_PART: usize = 4;

impl Engine {
    /// Evicts a cluster, in at most this many steps; whether it is gone.
    pub(super) fn evict_cluster(
        &mut self,
        name: &Arc<str>,
        steps: &mut usize,
        out: &mut Vec<Emission>,
    ) -> bool {
        let (setup, state) = (&self.setup, &mut self.state);
        let Some(shard) = state.shards.get_mut(name) else {
            return true;
        };
        for (detection, program) in setup.programs.iter().enumerate() {
            let context = setup.context_of(program);
            let Some(of) = shard.get_mut(detection) else {
                continue;
            };
            let mut drafts = Vec::new();
            let mut outlet = outlet(&mut state.log, &mut drafts);
            while !of.is_empty() && steps::take(steps) {
                let evicted = of.evict_first(&context, &mut outlet);
                count_evicted(&mut state.detections, detection, evicted.as_ref());
            }
            let is_gone = of.is_empty();
            shard.report(detection, &mut state.evictions);
            setup.emit(detection, (shard, &mut state.detections), drafts, out);
            if !is_gone {
                return false;
            }
        }
        if !steps::take(steps) {
            return false;
        }
        let mut emitted = Vec::new();
        state
            .derived
            .remove_cluster(&setup.derived, name, &mut emitted);
        setup.emit_derived(emitted, out);
        shard.forget_watched(&setup.changes);
        state.remove_shard(name);
        true
    }
}

impl EngineState {
    /// Makes the eviction order anew from what the shards keep.
    pub(in crate::detection) fn report(&mut self) {
        self.evictions = Evictions::default();
        for shard in self.shards.values_mut() {
            shard.report_all(&mut self.evictions);
        }
    }

    /// The cluster of the earliest event time, if one has to give way to another of this name.
    pub(super) fn cluster_to_evict(&mut self, name: &str, limits: &Limits) -> Option<Arc<str>> {
        let is_full = self.shards.len() >= MAX_CLUSTERS && !self.shards.contains_key(name);
        let is_large =
            self.shards.len() > 1 && self.evictions.besides.0 > limits.memory / SHARDS_PART;
        if !is_full && !is_large {
            return None;
        }
        while let Some((listed, name)) = self.quietest.pop_first() {
            let Some(time) = self.shards.get(&name).map(|shard| shard.max_event_time()) else {
                continue;
            };
            self.quietest.insert((time, Arc::clone(&name)));
            if time == listed {
                return Some(name);
            }
        }
        None
    }

    pub(super) fn add_shard(&mut self, name: &str) {
        let name: Arc<str> = Arc::from(name);
        let shard = Box::new(Shard::new(Arc::clone(&name)));
        self.quietest
            .insert((shard.max_event_time(), Arc::clone(&name)));
        self.shards.insert(name, shard);
    }

    /// Forgets a shard without keys.
    pub(super) fn remove_shard(&mut self, name: &Arc<str>) {
        if let Some(shard) = self.shards.remove(name) {
            // If it is listed earlier, the place is given up when it is looked at.
            self.quietest
                .remove(&(shard.max_event_time(), Arc::clone(name)));
            self.evictions.resize((shard.bytes.0, 0));
        }
    }
}

impl Setup {
    /// Evicts the key of the lowest priority, for a hit of the cluster that is named; whether there
    /// was one.
    pub(super) fn evict_weakest(
        &self,
        state: &mut EngineState,
        (detection, cluster): (usize, &Arc<str>),
        measure: Measure,
        (hit_of, out): (&str, &mut Vec<Emission>),
    ) -> bool {
        let (Some(context), Some(shard)) = (self.context(detection), state.shards.get_mut(cluster))
        else {
            return false;
        };
        let Some(of) = shard.get_mut(detection) else {
            return false;
        };
        let mut drafts = Vec::new();
        let mut outlet = outlet(&mut state.log, &mut drafts);
        let evicted = of.evict_weakest(measure, &context, &mut outlet);
        count_evicted(&mut state.detections, detection, evicted.as_ref());
        if let Some(loss) = &evicted {
            let lost = (loss.network, loss.keys, loss.bound);
            state.coverage.evicted(hit_of, lost, &self.feeds);
        }
        shard.report(detection, &mut state.evictions);
        state.evictions.texts = state.log.heap_bytes();
        self.emit(detection, (shard, &mut state.detections), drafts, out);
        evicted.is_some()
    }
}

fn count_evicted(known: &mut [Known], detection: usize, evicted: Option<&Loss>) {
    if let (Some(Known { stats, .. }), Some(loss)) = (known.get_mut(detection), evicted) {
        stats.evicted += loss.keys;
        stats.evicted_hits = stats.evicted_hits.max(loss.bound);
    }
}
