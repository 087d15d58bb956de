//! observe: an ordered log of inputs, folded into windows; findings come out, in order.
//!
//! The engine has no clock and does no I/O. Time enters by two doors only: the event time of the
//! hits, and ticks that say how much time has passed. The same log of inputs gives the same
//! findings with the same ids.
//!
//! Each cluster has its own watermark: the greatest event time seen, less the lateness. While no
//! hits come, ticks advance it by the time that has passed, never to a wall clock, so that replay
//! and a backlog behave as live traffic does. Findings close by the watermark; but what was seen
//! is forgotten only as hits of later times come in, so that a backlog after an outage finds the
//! state as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    cluster::{Cluster, step},
    finding::Finding,
    geo::Locate,
    hit::Hit,
    limits::Limits,
    native::Fate,
    packed::Fields,
    ranking::{Rank, Ranking, Slot},
    report::Report,
    rule::{Rule, Semantics},
    time::Micros,
};

/// Clusters that are kept apart at a time. Their names come from senders, so they have a bound.
const MAX_CLUSTERS: usize = 1024;
/// Part of the memory that clusters may take besides their keys; the quietest gives way.
const CLUSTERS_SHARE: usize = 4;

/// What the engine has counted besides findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Hits taken.
    pub hits: u64,
    /// Hits that repeated a request seen before (native).
    pub repeats: u64,
    /// Hits behind the watermark.
    pub late: u64,
    /// Those of them that could not be counted exactly any more and were left out.
    pub late_dropped: u64,
    /// Hits without any time.
    pub untimed: u64,
    /// Hits that were forgotten while they waited for a finding of their key to close, because
    /// more came than are kept: the next finding counts so many too few.
    pub crowded_out: u64,
    /// Keys given up to stay within the limit.
    pub evicted: u64,
    /// The error bound of that: no key given up had more hits at hand than this.
    pub evicted_hits: u64,
}

/// Everything the engine remembers, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineState {
    clusters: BTreeMap<Arc<str>, Box<Cluster>>,
    /// The clusters by their greatest event time, as it was when they were looked at last. A time
    /// may be early, never late.
    quietest: BTreeSet<(Micros, Arc<str>)>,
    /// Bytes on the heap that clusters take besides their keys.
    cluster_bytes: usize,
    ranking: Ranking,
    stats: Stats,
}

/// What an engine goes by.
struct Terms {
    rule: Rule,
    limits: Limits,
    report: Report,
}

/// One rule at work.
pub struct Engine {
    terms: Terms,
    state: EngineState,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(mut rule: Rule, limits: Limits, locate: Option<Arc<dyn Locate>>) -> Self {
        let report = Report::new(&rule, locate);
        if rule.semantics == Semantics::Native {
            // With a longer one, a scan could be found after the one that followed it.
            rule.lateness = rule.lateness.min(rule.window - 1);
        }
        Self {
            terms: Terms {
                rule,
                limits,
                report,
            },
            state: EngineState::default(),
        }
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.state.stats
    }

    /// Keys (native) or groups (escu) tracked now.
    pub fn tracked(&self) -> usize {
        self.state.ranking.len()
    }

    /// Bytes on the heap of all that is tracked, as the allocator counts them.
    pub fn heap_bytes(&self) -> usize {
        self.state.ranking.heap_bytes()
    }

    /// Everything the engine remembers.
    pub fn export(&self) -> EngineState {
        self.state.clone()
    }

    /// Goes on from where another engine of the same rule was.
    pub fn import(&mut self, state: EngineState) {
        self.state = state;
    }

    /// The most findings that these hits can cause for the keys they have, so that room can be
    /// made before they are observed. Findings that time causes are not among them.
    pub fn bound(&self, hits: &[Hit]) -> usize {
        let mut counts = HitCounts::default();
        self.count(hits, &mut counts);
        self.bound_of(&mut counts, usize::MAX)
    }

    /// Counts more hits of one request by their keys, for [`Self::bound_of`].
    pub fn count<'h>(&self, hits: &'h [Hit], counts: &mut HitCounts<'h>) {
        if self.terms.rule.semantics == Semantics::Escu {
            return;
        }
        for hit in hits {
            let key = (self.terms.cluster_name(hit), hit.key.as_str());
            *counts.0.entry(key).or_default() += 1;
        }
    }

    /// What [`Self::bound`] says of so many of the keys that were counted, which are then taken
    /// away.
    pub fn bound_of(&self, counts: &mut HitCounts<'_>, keys: usize) -> usize {
        let new = Cluster::default();
        let terms = Cluster::terms(&self.terms.rule, &self.terms.limits);
        let counted = std::iter::from_fn(|| counts.0.pop_first()).take(keys);
        let bound = counted.map(|((cluster, key), hits)| {
            let cluster = self.state.clusters.get(cluster).map_or(&new, |known| known);
            cluster.bound(key, hits, &terms)
        });
        usize::try_from(bound.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Brings the engine to where it can take this hit: room for its cluster, and what its time
    /// makes due. Takes at most so many steps, which are then fewer, and appends the findings they
    /// cause; whether that was all. [`Self::observe`] does what is left, however much that is.
    pub fn prepare(&mut self, hit: &Hit, steps: &mut usize, out: &mut Vec<Finding>) -> bool {
        let Some(time) = hit.time else {
            return true;
        };
        let name = self.terms.cluster_name(hit);
        while let Some(quietest) = self.state.crowded_by(name, &self.terms.limits) {
            if !self.evict_cluster(&quietest, steps, out) {
                return false;
            }
        }
        let (terms, state) = (&self.terms, &mut self.state);
        let (name, cluster) = match state.clusters.get_key_value(name) {
            // The name of a hit may have been read anew with each request.
            Some((name, _)) => (Arc::clone(name), None),
            None => (Arc::from(name), Some(Box::<Cluster>::default())),
        };
        if let Some(cluster) = cluster {
            state.quietest.insert((cluster.front, Arc::clone(&name)));
            state.clusters.insert(Arc::clone(&name), cluster);
        }
        let Some(cluster) = state.clusters.get_mut(&name) else {
            return true;
        };
        cluster.advance_by_hit(time, terms.rule.lateness);
        let settled = terms.settle((&name, cluster), &mut state.ranking, steps, out);
        state.count_cluster(&name);
        settled
    }

    /// Takes one hit and appends the findings it causes.
    pub fn observe(&mut self, mut hit: Hit, out: &mut Vec<Finding>) {
        self.state.stats.hits += 1;
        hit.cut(self.terms.limits.value_bytes);
        let Some(time) = hit.time else {
            self.state.stats.untimed += 1;
            return;
        };
        let mut steps = usize::MAX;
        while !self.prepare(&hit, &mut steps, out) {}
        let (terms, state) = (&self.terms, &mut self.state);
        let known = state.clusters.get_key_value(terms.cluster_name(&hit));
        let Some((name, cluster)) = known else {
            return;
        };
        state.stats.late += u64::from(time < cluster.watermark);
        let name = Arc::clone(name);
        match terms.rule.semantics {
            Semantics::Native => terms.observe_native(state, &name, (&hit, time), out),
            Semantics::Escu => terms.observe_escu(state, &name, (&hit, time)),
        }
        let Limits { keys, memory, .. } = terms.limits;
        while let Some((rank, name, slot)) = state.ranking.pop_excess(keys, memory) {
            terms.evict(state, (&name, rank, &slot), out);
        }
    }

    /// Takes the passing of time and appends the findings it causes.
    pub fn tick(&mut self, elapsed: Duration, out: &mut Vec<Finding>) {
        self.advance(elapsed);
        while !self.settle(usize::MAX, out) {}
    }

    /// The state may take so many bytes from now on. What is more is evicted with the next hit.
    pub fn limit_memory(&mut self, bytes: usize) {
        self.terms.limits.memory = bytes;
    }

    /// Takes the passing of time. What it makes due is said by [`Self::settle`].
    pub fn advance(&mut self, elapsed: Duration) {
        let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        for cluster in self.state.clusters.values_mut() {
            cluster.advance_by_tick(elapsed);
        }
    }

    /// Appends findings that time has made due, in about so many steps; whether that was all.
    pub fn settle(&mut self, mut steps: usize, out: &mut Vec<Finding>) -> bool {
        let (terms, state) = (&self.terms, &mut self.state);
        let mut settled = true;
        for (name, cluster) in &mut state.clusters {
            settled = terms.settle((name, cluster), &mut state.ranking, &mut steps, out);
            let (before, now) = cluster.count_bytes(name);
            state.cluster_bytes = (state.cluster_bytes + now).saturating_sub(before);
            state.ranking.resize((before, now));
            if !settled {
                break;
            }
        }
        settled
    }

    /// Appends what has not been said yet, because the process ends: open findings that changed
    /// since they were last sent, and rows of windows that have not ended. Nothing is kept.
    pub fn drain(&mut self, out: &mut Vec<Finding>) {
        while !self.drain_some(usize::MAX, out) {}
    }

    /// The same in about so many steps; whether that was all.
    pub fn drain_some(&mut self, mut steps: usize, out: &mut Vec<Finding>) -> bool {
        loop {
            let (terms, state) = (&self.terms, &mut self.state);
            let Some(mut entry) = state.clusters.first_entry() else {
                return true;
            };
            let name = Arc::clone(entry.key());
            let cluster = entry.get_mut();
            while let Some((rank, key)) = cluster.first_key() {
                if !step(&mut steps) {
                    return false;
                }
                state
                    .ranking
                    .remove(rank, &name, Slot::Key(Arc::clone(&key)));
                let bounds = Cluster::terms(&terms.rule, &terms.limits);
                cluster.drain(
                    &key,
                    &mut state.ranking,
                    &bounds,
                    &mut |key, state, open| {
                        let finding = terms.report.native((&name, key), state, open);
                        out.push(finding);
                    },
                );
            }
            while !cluster.windows.is_empty() {
                if !step(&mut steps) {
                    return false;
                }
                let group = cluster
                    .windows
                    .take_first((&name, &mut state.ranking), &terms.rule);
                if let Some(group) = group {
                    terms.report.row(&name, &group, out);
                }
            }
            // Nothing is left in it to be given up.
            self.evict_cluster(&name, &mut 1, out);
        }
    }

    /// Gives up a cluster, in so many steps; whether it is gone.
    fn evict_cluster(
        &mut self,
        name: &Arc<str>,
        steps: &mut usize,
        out: &mut Vec<Finding>,
    ) -> bool {
        let (terms, state) = (&self.terms, &mut self.state);
        while let Some(cluster) = state.clusters.get_mut(name) {
            if !step(steps) {
                return false;
            }
            if let Some((rank, key)) = cluster.first_key() {
                let slot = Slot::Key(key);
                state.ranking.remove(rank, name, slot.clone());
                terms.evict(state, (name, rank, &slot), out);
            } else if cluster.windows.is_empty() {
                state.quietest.remove(&(cluster.front, Arc::clone(name)));
                let (before, _) = cluster.count_bytes(name);
                state.ranking.resize((before, 0));
                state.cluster_bytes = state.cluster_bytes.saturating_sub(before);
                state.clusters.remove(name);
            } else if let Some(group) = cluster
                .windows
                .take_first((name, &mut state.ranking), &terms.rule)
            {
                let (_, evidence) = &group;
                terms.count_evicted(&mut state.stats, evidence.count);
                terms.report.row(name, &group, out);
            }
        }
        true
    }
}

/// Hits of one request, by cluster and key.
#[derive(Debug, Default)]
pub struct HitCounts<'h>(BTreeMap<(&'h str, &'h str), u64>);

impl HitCounts<'_> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl EngineState {
    /// The cluster that has been quiet longest, if one has to give way to another of this name.
    fn crowded_by(&mut self, name: &str, limits: &Limits) -> Option<Arc<str>> {
        let is_full = self.clusters.len() >= MAX_CLUSTERS && !self.clusters.contains_key(name);
        let is_large =
            self.clusters.len() > 1 && self.cluster_bytes > limits.memory / CLUSTERS_SHARE;
        if !is_full && !is_large {
            return None;
        }
        while let Some((listed, name)) = self.quietest.pop_first() {
            let Some(front) = self.clusters.get(&name).map(|cluster| cluster.front) else {
                continue;
            };
            self.quietest.insert((front, Arc::clone(&name)));
            if front == listed {
                return Some(name);
            }
        }
        None
    }

    /// Counts anew what a cluster takes besides its keys.
    fn count_cluster(&mut self, name: &str) {
        if let Some(cluster) = self.clusters.get_mut(name) {
            let (before, now) = cluster.count_bytes(name);
            self.cluster_bytes = (self.cluster_bytes + now).saturating_sub(before);
            self.ranking.resize((before, now));
        }
    }
}

impl Terms {
    /// The name of a hit's cluster, cut like any value.
    fn cluster_name<'h>(&self, hit: &'h Hit) -> &'h str {
        let end = hit.cluster.floor_char_boundary(self.limits.value_bytes);
        hit.cluster.get(..end).unwrap_or_default()
    }

    fn observe_native(
        &self,
        state: &mut EngineState,
        name: &Arc<str>,
        (hit, time): (&Hit, Micros),
        out: &mut Vec<Finding>,
    ) {
        let Some(cluster) = state.clusters.get_mut(name) else {
            return;
        };
        let terms = Cluster::terms(&self.rule, &self.limits);
        let mut say = |key: &str, state, open: &_| {
            out.push(self.report.native((name, key), state, open));
        };
        let hit = (hit.key.as_str(), (time, hit.identity), &Fields::of(hit));
        match cluster.observe((name, &mut state.ranking), hit, &terms, &mut say) {
            Fate::Counted => {}
            Fate::Crowded => state.stats.crowded_out += 1,
            Fate::Repeat => state.stats.repeats += 1,
            Fate::TooLate => state.stats.late_dropped += 1,
        }
    }

    fn observe_escu(&self, state: &mut EngineState, name: &Arc<str>, hit: (&Hit, Micros)) {
        let Some(cluster) = state.clusters.get_mut(name) else {
            return;
        };
        let context = (self.report.locate.as_deref(), &self.limits);
        let ranking = (name, &mut state.ranking);
        if !cluster.windows.observe(ranking, hit, &self.rule, context) {
            state.stats.late_dropped += 1;
        }
    }

    /// Says what the watermark of a cluster makes due, in so many steps; whether that was all.
    fn settle(
        &self,
        (name, cluster): (&Arc<str>, &mut Cluster),
        ranking: &mut Ranking,
        steps: &mut usize,
        out: &mut Vec<Finding>,
    ) -> bool {
        let terms = Cluster::terms(&self.rule, &self.limits);
        let settled = cluster.settle((name, ranking), &terms, steps, &mut |key, state, open| {
            out.push(self.report.native((name, key), state, open));
        });
        if !settled || self.rule.semantics == Semantics::Native {
            return settled;
        }
        let watermark = cluster.watermark;
        while let Some(group) = cluster
            .windows
            .take_due(watermark, (name, ranking), &self.rule)
        {
            self.report.row(name, &group, out);
            if !step(steps) {
                return false;
            }
        }
        true
    }

    /// Gives up one key or group, which is in the ranking no more.
    fn evict(
        &self,
        state: &mut EngineState,
        (name, rank, slot): (&Arc<str>, Rank, &Slot),
        out: &mut Vec<Finding>,
    ) {
        self.count_evicted(&mut state.stats, rank.0);
        let Some(cluster) = state.clusters.get_mut(name) else {
            return;
        };
        match slot {
            Slot::Key(key) => cluster.evict(key, &mut state.ranking, &mut |key, state, open| {
                out.push(self.report.native((name, key), state, open));
            }),
            Slot::Group(group) => cluster.windows.evict(group, &mut state.ranking),
        }
        state.count_cluster(name);
    }

    fn count_evicted(&self, stats: &mut Stats, hits: u64) {
        stats.evicted += 1;
        stats.evicted_hits = stats.evicted_hits.max(hits.min(self.rule.threshold + 1));
    }
}
