//! The engine: an ordered log of hits and ticks, folded into windows; findings come out, in order.
//!
//! The engine has no clock and does no I/O. Time enters by two doors only: the event time of the
//! hits, and ticks that say how much time has passed. The same log of inputs gives the same
//! findings with the same ids.
//!
//! It runs any number of detections, and each counts exactly as if it ran alone. A detection has a
//! watermark in each cluster: the greatest event time of its hits, less the lateness. While no
//! hits come, ticks advance it by the time that has passed, never to a wall clock, so that replay
//! and a backlog behave as live traffic does. Findings close by the watermark; but hits are
//! forgotten only as hits of later times come in, so that a backlog after an outage finds the
//! state as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
    sync::Arc,
    time::Duration,
};

use super::{
    emission::{Draft, Emission},
    eviction::Evictions,
    geo::Locate,
    hit::Hit,
    limits::Limits,
    report::Report,
    session::Disposition,
    shard::{Context, DetectionState, Shard},
    steps,
    time::Micros,
};
use crate::rules::model::{Detection, Window};

pub use super::hit_counts::HitCounts;

/// Clusters that are kept apart at a time. Their names come from senders, so they have a bound.
const MAX_CLUSTERS: usize = 1024;
/// Part of the memory that shards may take besides their keys. Beyond it the cluster of the
/// earliest event time is evicted.
const SHARDS_PART: usize = 4;

/// What the engine has counted besides findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Hits taken.
    pub hits: u64,
    /// Hits that repeated a request that was counted before.
    pub duplicates: u64,
    /// Hits behind the watermark.
    pub late: u64,
    /// Those of them that could not be counted exactly any more and were left out.
    pub late_dropped: u64,
    /// Hits without any time.
    pub untimed: u64,
    /// Hits that were forgotten while they waited for a finding of their key to close, because
    /// more came than are kept: the next finding counts as many too few.
    pub overflow: u64,
    /// Keys evicted to stay within the limits.
    pub evicted: u64,
    /// The error bound of that: no evicted key had more hits at hand than this.
    pub evicted_hits: u64,
}

impl AddAssign for Stats {
    /// Sums, and the greater of the error bounds.
    fn add_assign(&mut self, other: Self) {
        let Self {
            hits,
            duplicates,
            late,
            late_dropped,
            untimed,
            overflow,
            evicted,
            evicted_hits,
        } = other;
        self.hits += hits;
        self.duplicates += duplicates;
        self.late += late;
        self.late_dropped += late_dropped;
        self.untimed += untimed;
        self.overflow += overflow;
        self.evicted += evicted;
        self.evicted_hits = self.evicted_hits.max(evicted_hits);
    }
}

/// Everything the engine remembers, as plain data.
#[derive(Clone, Debug, Default)]
pub struct EngineState {
    pub(super) shards: BTreeMap<Arc<str>, Box<Shard>>,
    /// The shards by their greatest event time, as it was when they were looked at last. A time
    /// may be early, never late.
    pub(super) quietest: BTreeSet<(Micros, Arc<str>)>,
    pub(super) evictions: Evictions,
    pub(super) detections: Vec<Known>,
}

/// A detection whose state is here, and what was counted for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) rule_id: String,
    /// Equal when equal settings shape the state.
    pub(super) fingerprint: String,
    pub(super) stats: Stats,
}

/// What an engine goes by.
struct Setup {
    programs: Vec<Program>,
    limits: Limits,
    locate: Option<Arc<dyn Locate>>,
}

/// One detection, ready to run.
struct Program {
    detection: Arc<Detection>,
    /// In microseconds.
    lateness: i64,
    report: Report,
}

/// Detections at work.
pub struct Engine {
    setup: Setup,
    state: EngineState,
}

impl Engine {
    /// An engine that has taken no hits. Hits name a detection by its place in this list.
    pub fn new(
        detections: impl Into<Vec<Arc<Detection>>>,
        limits: Limits,
        locate: Option<Arc<dyn Locate>>,
    ) -> Self {
        let detections: Vec<Arc<Detection>> = detections.into();
        let programs = detections.into_iter().map(|detection| {
            let lateness = match detection.window {
                // With a longer one, a scan could be found after the one that followed it.
                Window::Session { length } => detection.lateness.min(length - 1),
                Window::Tumbling { .. } => detection.lateness,
            };
            Program {
                report: Report::new(Arc::clone(&detection), lateness, locate.clone()),
                detection,
                lateness,
            }
        });
        let programs: Vec<_> = programs.collect();
        Self {
            state: EngineState {
                detections: programs.iter().map(Program::known).collect(),
                ..EngineState::default()
            },
            setup: Setup {
                programs,
                limits,
                locate,
            },
        }
    }

    /// What was counted so far, over all detections.
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for known in &self.state.detections {
            sum += known.stats;
        }
        sum
    }

    /// What was counted so far, by detection.
    pub fn stats_by_detection(&self) -> impl Iterator<Item = Stats> {
        self.state.detections.iter().map(|known| known.stats)
    }

    /// Keys and groups tracked now.
    pub fn tracked(&self) -> usize {
        self.state.evictions.keys()
    }

    /// Bytes on the heap of all that is tracked, as the allocator counts them.
    pub fn heap_bytes(&self) -> usize {
        self.state.evictions.heap_bytes()
    }

    /// Everything the engine remembers.
    pub fn export(&self) -> EngineState {
        self.state.clone()
    }

    /// Continues from where another engine was. What it kept for detections that are not here, or
    /// not with settings that shape the state in the same way, is left out.
    pub fn import(&mut self, mut state: EngineState) {
        let mut detections: Vec<_> = self.setup.programs.iter().map(Program::known).collect();
        // For each detection of the other engine, the one here.
        let mut places = Vec::new();
        for known in &state.detections {
            let mut here = detections.iter().enumerate();
            let place = here.find_map(|(place, here)| {
                let is_same =
                    (&here.rule_id, &here.fingerprint) == (&known.rule_id, &known.fingerprint);
                (is_same && !places.contains(&Some(place))).then_some(place)
            });
            places.push(place);
            if let Some(here) = place.and_then(|place| detections.get_mut(place)) {
                here.stats = known.stats;
            }
        }
        for shard in state.shards.values_mut() {
            shard.move_detections(&places);
        }
        state.detections = detections;
        state.report();
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
        for hit in hits {
            // Findings of tumbling windows are caused by time alone.
            if let Some(program) = self.setup.program(hit)
                && matches!(program.detection.window, Window::Session { .. })
            {
                counts.add(self.setup.cluster_name(hit), index(hit), hit);
            }
        }
    }

    /// What [`Self::bound`] says of this many of the keys that were counted, which are then taken
    /// away.
    pub fn bound_of(&self, counts: &mut HitCounts<'_>, keys: usize) -> usize {
        let HitCounts { by_key, spans } = counts;
        let counted = std::iter::from_fn(|| by_key.pop_first()).take(keys);
        let bound = counted.map(|((cluster, detection, key), hits)| {
            let span = spans.get(&(cluster, detection)).copied();
            let span = span.unwrap_or_default();
            let Some(context) = self.setup.context(detection) else {
                return 0;
            };
            let shard = self.state.shards.get(cluster);
            match shard.and_then(|shard| shard.get(detection)) {
                Some(state) => state.bound(key, hits, &span, &context),
                None => DetectionState::new(detection, context.detection.window)
                    .bound(key, hits, &span, &context),
            }
        });
        usize::try_from(bound.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Brings the engine to where it can take this hit: room for its cluster, and what its time
    /// makes due. Takes at most this many steps, which are then fewer, and appends the findings
    /// they cause; whether that was all. [`Self::observe`] does what is left, however much.
    pub fn prepare(&mut self, hit: &Hit, steps: &mut usize, out: &mut Vec<Emission>) -> bool {
        let (Some(time), detection) = (hit.time, index(hit)) else {
            return true;
        };
        let name = self.setup.cluster_name(hit);
        while let Some(quietest) = self.state.cluster_to_evict(name, &self.setup.limits) {
            if !self.evict_cluster(&quietest, steps, out) {
                return false;
            }
        }
        let (setup, state) = (&self.setup, &mut self.state);
        let Some(context) = setup.context(detection) else {
            return true;
        };
        if !state.shards.contains_key(name) {
            state.add_shard(name);
        }
        let Some(shard) = state.shards.get_mut(name) else {
            return true;
        };
        let known = shard.detections.len();
        let Some(of) = shard.entry(detection, context.detection.window) else {
            return true;
        };
        of.event_time.advance_by_hit(time, context.lateness);
        let (mut drafts, before) = (Vec::new(), *steps);
        let settled = of.settle(&context, steps, &mut drafts);
        // Most hits make nothing due.
        if !settled || *steps != before || shard.detections.len() != known {
            shard.report(detection, &mut state.evictions);
            setup.emit(detection, name, drafts, out);
        }
        settled
    }

    /// Takes one hit and appends the findings it causes.
    pub fn observe(&mut self, mut hit: Hit, out: &mut Vec<Emission>) {
        let detection = index(&hit);
        let Some(Known { stats, .. }) = self.state.detections.get_mut(detection) else {
            return;
        };
        stats.hits += 1;
        hit.cut(self.setup.limits.value_bytes);
        let Some(time) = hit.time else {
            stats.untimed += 1;
            return;
        };
        let mut steps = usize::MAX;
        while !self.prepare(&hit, &mut steps, out) {}
        let (setup, state) = (&self.setup, &mut self.state);
        let name = setup.cluster_name(&hit);
        let (Some(context), Some(Known { stats, .. }), Some(shard)) = (
            setup.context(detection),
            state.detections.get_mut(detection),
            state.shards.get_mut(name),
        ) else {
            return;
        };
        let Some(of) = shard.get_mut(detection) else {
            return;
        };
        stats.late += u64::from(time < of.event_time.watermark);
        let mut drafts = Vec::new();
        match of.observe(&hit, time, &context, &mut drafts) {
            Disposition::Counted => {}
            Disposition::Overflow => stats.overflow += 1,
            Disposition::Duplicate => stats.duplicates += 1,
            Disposition::TooLate => stats.late_dropped += 1,
        }
        shard.report_keys(detection, &mut state.evictions);
        if !drafts.is_empty() {
            setup.emit(detection, name, drafts, out);
        }
        while let Some((detection, cluster)) = state.evictions.excess(&setup.limits) {
            if !setup.evict_weakest(state, detection, &cluster, out) {
                return;
            }
        }
    }

    /// Takes the passing of time and appends the findings it causes.
    pub fn tick(&mut self, elapsed: Duration, out: &mut Vec<Emission>) {
        self.advance(elapsed);
        while !self.settle(usize::MAX, out) {}
    }

    /// The state may take this many bytes from now on. What is more is evicted with the next hit.
    pub fn limit_memory(&mut self, bytes: usize) {
        self.setup.limits.memory = bytes;
    }

    /// Takes the passing of time. What it makes due is emitted by [`Self::settle`].
    pub fn advance(&mut self, elapsed: Duration) {
        let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let shards = self.state.shards.values_mut();
        for of in shards.flat_map(|shard| &mut shard.detections) {
            of.event_time.advance_by_tick(elapsed);
        }
    }

    /// Appends findings that time has made due, in about this many steps; whether that was all.
    pub fn settle(&mut self, mut steps: usize, out: &mut Vec<Emission>) -> bool {
        let (setup, state) = (&self.setup, &mut self.state);
        for shard in state.shards.values_mut() {
            for (detection, program) in setup.programs.iter().enumerate() {
                let context = setup.context_of(program);
                let Some(of) = shard.get_mut(detection) else {
                    continue;
                };
                let (mut drafts, before) = (Vec::new(), steps);
                let settled = of.settle(&context, &mut steps, &mut drafts);
                if !settled || steps != before {
                    shard.report(detection, &mut state.evictions);
                    setup.emit(detection, &shard.name, drafts, out);
                }
                if !settled {
                    return false;
                }
            }
        }
        true
    }

    /// Appends what was not emitted yet, because the process ends: open findings that changed
    /// since they were last emitted, and rows of windows that have not ended. Nothing is kept.
    pub fn drain(&mut self, out: &mut Vec<Emission>) {
        while !self.drain_some(usize::MAX, out) {}
    }

    /// The same in about this many steps; whether that was all.
    pub fn drain_some(&mut self, mut steps: usize, out: &mut Vec<Emission>) -> bool {
        loop {
            let (setup, state) = (&self.setup, &mut self.state);
            let Some(mut first) = state.shards.first_entry() else {
                return true;
            };
            let shard = first.get_mut();
            for (detection, program) in setup.programs.iter().enumerate() {
                let context = setup.context_of(program);
                let Some(of) = shard.get_mut(detection) else {
                    continue;
                };
                let mut drafts = Vec::new();
                while !of.is_empty() && steps::take(&mut steps) {
                    of.drain_first(&context, &mut drafts);
                }
                let is_drained = of.is_empty();
                shard.report(detection, &mut state.evictions);
                setup.emit(detection, &shard.name, drafts, out);
                if !is_drained {
                    return false;
                }
            }
            // Nothing is left in it to be evicted.
            let name = Arc::clone(&shard.name);
            self.evict_cluster(&name, &mut 1, out);
        }
    }

    /// Evicts a cluster, in at most this many steps; whether it is gone.
    fn evict_cluster(
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
            while !of.is_empty() && steps::take(steps) {
                let evicted = of.evict_first(&context, &mut drafts);
                setup.count_evicted(&mut state.detections, detection, evicted);
            }
            let is_gone = of.is_empty();
            shard.report(detection, &mut state.evictions);
            setup.emit(detection, name, drafts, out);
            if !is_gone {
                return false;
            }
        }
        if !steps::take(steps) {
            return false;
        }
        state.remove_shard(name);
        true
    }
}

impl Program {
    fn known(&self) -> Known {
        Known {
            rule_id: self.detection.annotations.id.clone(),
            fingerprint: self.detection.fingerprint.clone(),
            stats: Stats::default(),
        }
    }
}

impl EngineState {
    /// Makes the eviction order anew from what the shards keep.
    pub(super) fn report(&mut self) {
        self.evictions = Evictions::default();
        for shard in self.shards.values_mut() {
            shard.report_all(&mut self.evictions);
        }
    }

    /// The cluster of the earliest event time, if one has to give way to another of this name.
    fn cluster_to_evict(&mut self, name: &str, limits: &Limits) -> Option<Arc<str>> {
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

    fn add_shard(&mut self, name: &str) {
        let name: Arc<str> = Arc::from(name);
        let shard = Box::new(Shard::new(Arc::clone(&name)));
        self.quietest
            .insert((shard.max_event_time(), Arc::clone(&name)));
        self.shards.insert(name, shard);
    }

    /// Forgets a shard without keys.
    fn remove_shard(&mut self, name: &Arc<str>) {
        if let Some(shard) = self.shards.remove(name) {
            // If it is listed earlier, the place is given up when it is looked at.
            self.quietest
                .remove(&(shard.max_event_time(), Arc::clone(name)));
            self.evictions.resize((shard.bytes.0, 0));
        }
    }
}

/// The detection a hit is of.
fn index(hit: &Hit) -> usize {
    hit.detection as usize
}

impl Setup {
    fn program(&self, hit: &Hit) -> Option<&Program> {
        self.programs.get(index(hit))
    }

    fn context(&self, detection: usize) -> Option<Context<'_>> {
        Some(self.context_of(self.programs.get(detection)?))
    }

    fn context_of<'a>(&'a self, program: &'a Program) -> Context<'a> {
        Context {
            detection: &program.detection,
            lateness: program.lateness,
            limits: &self.limits,
            locate: self.locate.as_deref(),
        }
    }

    /// The name of a hit's cluster, cut like any value.
    fn cluster_name<'h>(&self, hit: &'h Hit) -> &'h str {
        let end = hit.cluster.floor_char_boundary(self.limits.value_bytes);
        hit.cluster.get(..end).unwrap_or_default()
    }

    /// Writes findings and appends them.
    fn emit(&self, detection: usize, cluster: &str, drafts: Vec<Draft>, out: &mut Vec<Emission>) {
        let Some(program) = self.programs.get(detection) else {
            return;
        };
        out.extend(drafts.into_iter().map(|draft| Emission {
            detection: Arc::clone(&program.detection),
            state: draft.state,
            finding: program.report.finding(cluster, draft),
        }));
    }

    /// Evicts the key of the lowest priority; whether there was one.
    fn evict_weakest(
        &self,
        state: &mut EngineState,
        detection: usize,
        cluster: &Arc<str>,
        out: &mut Vec<Emission>,
    ) -> bool {
        let (Some(context), Some(shard)) = (self.context(detection), state.shards.get_mut(cluster))
        else {
            return false;
        };
        let Some(of) = shard.get_mut(detection) else {
            return false;
        };
        let mut drafts = Vec::new();
        let evicted = of.evict_weakest(&context, &mut drafts);
        shard.report(detection, &mut state.evictions);
        self.count_evicted(&mut state.detections, detection, evicted);
        self.emit(detection, cluster, drafts, out);
        evicted.is_some()
    }

    fn count_evicted(&self, known: &mut [Known], detection: usize, hits: Option<u64>) {
        if let (Some(Known { stats, .. }), Some(program), Some(hits)) =
            (known.get_mut(detection), self.programs.get(detection), hits)
        {
            let most = program.detection.threshold.saturating_add(1);
            stats.evicted += 1;
            stats.evicted_hits = stats.evicted_hits.max(hits.min(most));
        }
    }
}
