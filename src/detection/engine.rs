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

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    cluster::Cluster,
    finding::Finding,
    geo::Locate,
    hit::Hit,
    limits::Limits,
    native::{Fate, TimedHit},
    ranking::{Ranking, Slot},
    report::Report,
    rule::{Rule, Semantics},
    time::Micros,
};

/// Clusters that are kept apart at a time. Their names come from senders, so they have a bound.
const MAX_CLUSTERS: usize = 1024;

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
    clusters: BTreeMap<Arc<str>, Cluster>,
    ranking: Ranking,
    stats: Stats,
}

/// One rule at work.
pub struct Engine {
    rule: Rule,
    limits: Limits,
    report: Report,
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
            rule,
            limits,
            report,
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

    /// Bytes of memory that what is tracked holds, about.
    pub fn held(&self) -> usize {
        self.state.ranking.held()
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
        if self.rule.semantics == Semantics::Escu {
            return 0;
        }
        let mut by_key: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for hit in hits {
            *by_key.entry((&hit.cluster, &hit.key)).or_default() += 1;
        }
        let new = Cluster::default();
        let terms = Cluster::terms(&self.rule, &self.limits);
        let bound = by_key.into_iter().map(|((cluster, key), hits)| {
            let cluster = self.state.clusters.get(cluster).unwrap_or(&new);
            cluster.bound(key, hits, &terms)
        });
        usize::try_from(bound.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Takes one hit and appends the findings it causes.
    pub fn observe(&mut self, mut hit: Hit, out: &mut Vec<Finding>) {
        self.state.stats.hits += 1;
        hit.cut(self.limits.value_bytes);
        let Some(time) = hit.time else {
            self.state.stats.untimed += 1;
            return;
        };
        let name = Arc::clone(&hit.cluster);
        self.make_room_for(&name, out);
        let cluster = self.state.clusters.entry(Arc::clone(&name)).or_default();
        self.state.stats.late += u64::from(time < cluster.watermark);
        cluster.advance_by_hit(time, self.rule.lateness);
        self.settle(&name, out);
        match self.rule.semantics {
            Semantics::Native => self.observe_native(&name, TimedHit { time, hit }, out),
            Semantics::Escu => self.observe_escu(&name, &hit, time),
        }
        let Limits { keys, memory, .. } = self.limits;
        while let Some(((rank, _), name, slot)) = self.state.ranking.pop_excess(keys, memory) {
            self.state.stats.evicted += 1;
            self.state.stats.evicted_hits = self
                .state
                .stats
                .evicted_hits
                .max(rank.min(self.rule.threshold + 1));
            self.evict(&name, &slot, out);
        }
    }

    /// Takes the passing of time and appends the findings it causes.
    pub fn tick(&mut self, elapsed: Duration, out: &mut Vec<Finding>) {
        let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let names: Vec<_> = self.state.clusters.keys().cloned().collect();
        for name in names {
            if let Some(cluster) = self.state.clusters.get_mut(&name) {
                cluster.advance_by_tick(elapsed);
            }
            self.settle(&name, out);
        }
    }

    /// Appends what has not been said yet, because the process ends: open findings that changed
    /// since they were last sent, and rows of windows that have not ended.
    pub fn drain(&mut self, out: &mut Vec<Finding>) {
        let Self {
            rule,
            limits,
            report,
            state,
        } = self;
        for (name, cluster) in &mut state.clusters {
            let terms = Cluster::terms(rule, limits);
            cluster.drain(&terms, &mut |key, state, open| {
                out.push(report.native(rule, (name, key), state, open));
            });
            for window in cluster.windows.take_all() {
                report.rows(rule, name, window, out);
            }
        }
        if rule.semantics == Semantics::Escu {
            state.ranking = Ranking::default();
        }
    }

    fn observe_native(&mut self, name: &Arc<str>, hit: TimedHit, out: &mut Vec<Finding>) {
        let Self {
            rule,
            limits,
            report,
            state,
        } = self;
        let Some(cluster) = state.clusters.get_mut(name) else {
            return;
        };
        let terms = Cluster::terms(rule, limits);
        let mut say = |key: &str, state, open: &_| {
            out.push(report.native(rule, (name, key), state, open));
        };
        match cluster.observe((name, &mut state.ranking), hit, &terms, &mut say) {
            Fate::Counted => {}
            Fate::Crowded => state.stats.crowded_out += 1,
            Fate::Repeat => state.stats.repeats += 1,
            Fate::TooLate => state.stats.late_dropped += 1,
        }
    }

    fn observe_escu(&mut self, name: &Arc<str>, hit: &Hit, time: Micros) {
        let Self {
            rule,
            limits,
            report,
            state,
        } = self;
        let Some(cluster) = state.clusters.get_mut(name) else {
            return;
        };
        let context = (report.locate.as_deref(), &*limits);
        let Some(touched) = cluster.windows.observe(hit, time, rule, context) else {
            state.stats.late_dropped += 1;
            return;
        };
        // Beyond the threshold a group is as precious as it gets.
        let rank = |count: u64, start| (count.min(rule.threshold + 1), start);
        for one in touched {
            let slot = Slot::Group(one.group.clone());
            let (old, new) = (rank(one.before, one.group.0), rank(one.after, one.group.0));
            if old != new {
                state.ranking.remove(old, name, slot.clone());
            }
            state.ranking.put(new, name, slot, one.held);
        }
    }

    /// Says what the watermark of a cluster makes due.
    fn settle(&mut self, name: &Arc<str>, out: &mut Vec<Finding>) {
        let Self {
            rule,
            limits,
            report,
            state,
        } = self;
        let Some(cluster) = state.clusters.get_mut(name) else {
            return;
        };
        let terms = Cluster::terms(rule, limits);
        cluster.settle(
            (name, &mut state.ranking),
            &terms,
            &mut |key, state, open| {
                out.push(report.native(rule, (name, key), state, open));
            },
        );
        if rule.semantics == Semantics::Escu {
            for (start, groups) in cluster.windows.take_due(cluster.watermark, rule) {
                for (key, evidence) in &groups {
                    let rank = (evidence.count.min(rule.threshold + 1), start);
                    state
                        .ranking
                        .remove(rank, name, Slot::Group((start, key.clone())));
                }
                report.rows(rule, name, (start, groups), out);
            }
        }
    }

    /// Gives up one key or group.
    fn evict(&mut self, name: &Arc<str>, slot: &Slot, out: &mut Vec<Finding>) {
        let Self {
            rule,
            limits,
            report,
            state,
        } = self;
        let Some(cluster) = state.clusters.get_mut(name) else {
            return;
        };
        let terms = Cluster::terms(rule, limits);
        match slot {
            Slot::Key(key) => cluster.evict(key, &terms, &mut |key, state, open| {
                out.push(report.native(rule, (name, key), state, open));
            }),
            Slot::Group(group) => cluster.windows.evict(group),
        }
    }

    /// Gives up the cluster that has been quiet longest when there are too many.
    fn make_room_for(&mut self, name: &Arc<str>, out: &mut Vec<Finding>) {
        let clusters = &self.state.clusters;
        if clusters.len() < MAX_CLUSTERS || clusters.contains_key(name) {
            return;
        }
        let quietest = clusters.iter().min_by_key(|(_, cluster)| cluster.front);
        let Some(quietest) = quietest.map(|(name, _)| Arc::clone(name)) else {
            return;
        };
        let keys = self
            .state
            .clusters
            .get(&quietest)
            .map(Cluster::key_ids)
            .unwrap_or_default();
        for (rank, key) in keys {
            self.state
                .ranking
                .remove(rank, &quietest, Slot::Key(Arc::clone(&key)));
            self.state.stats.evicted += 1;
            self.state.stats.evicted_hits = self
                .state
                .stats
                .evicted_hits
                .max(rank.0.min(self.rule.threshold + 1));
            self.evict(&quietest, &Slot::Key(key), out);
        }
        let Self {
            rule,
            report,
            state,
            ..
        } = self;
        if let Some(mut cluster) = state.clusters.remove(&quietest) {
            for (start, groups) in cluster.windows.take_all() {
                for (key, evidence) in &groups {
                    let rank = (evidence.count.min(rule.threshold + 1), start);
                    state
                        .ranking
                        .remove(rank, &quietest, Slot::Group((start, key.clone())));
                }
                report.rows(rule, &quietest, (start, groups), out);
            }
        }
    }
}
