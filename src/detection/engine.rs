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

mod bounding;
mod deriving;
mod evicting;
mod feeds;
mod joining;
mod stats;
mod success;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub use self::stats::Stats;
use super::{
    coverage::{self, Coverage},
    derived,
    emission::{Draft, Emission},
    eviction::Evictions,
    evidence_log::EvidenceLog,
    follow_up::Changes,
    geo::Locate,
    hit::{Hit, Role},
    joins::Joins,
    limits::Limits,
    report::Report,
    session::Disposition,
    sessions::Outlet,
    shard::{Context, Shard},
    steps,
    time::Micros,
};
use crate::rules::model::{Detection, Window};

pub use super::hit_counts::HitCounts;

/// Everything the engine remembers, as plain data.
#[derive(Clone, Debug, Default)]
pub struct EngineState {
    pub(super) shards: BTreeMap<Arc<str>, Box<Shard>>,
    /// The shards by their greatest event time, as it was when they were looked at last. A time
    /// may be early, never late.
    pub(super) quietest: BTreeSet<(Micros, Arc<str>)>,
    pub(super) evictions: Evictions,
    pub(super) detections: Vec<Known>,
    /// The texts of hits that belong to no finding.
    pub(super) log: EvidenceLog,
    pub(super) derived: derived::State,
    pub(super) coverage: Coverage,
    /// Requests that may be logged by two API servers.
    pub(super) joins: Joins,
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
    /// Event time at which the process started to count, if it did not continue.
    started: Option<Micros>,
    derived: derived::Setup,
    /// Those of the detections that are about feeds.
    feeds: coverage::Rules,
    changes: Changes,
}

/// One detection, ready to run.
struct Program {
    detection: Arc<Detection>,
    /// The place of the detection of its successes.
    successes: Option<usize>,
    /// If it is one of successes, the place of the detection that it follows.
    follows: Option<usize>,
    /// In microseconds.
    lateness: i64,
    /// The label of requests that two API servers have logged.
    joined_label: Option<usize>,
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
        let derived = derived::Setup::of(&detections, &limits, locate.as_ref());
        let feeds = coverage::Rules::of(&detections);
        let programs = Setup::programs(&detections, locate.as_ref());
        Self {
            state: EngineState {
                detections: programs.iter().map(Program::known).collect(),
                joins: Joins::within(limits.memory),
                ..EngineState::default()
            },
            setup: Setup {
                programs,
                limits,
                locate,
                started: None,
                derived,
                feeds,
                changes: Changes::default(),
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
        let state = &self.state;
        state.evictions.heap_bytes()
            + state.derived.heap_bytes()
            + state.coverage.heap_bytes()
            + state.joins.heap_bytes()
    }

    /// The process starts to count at this time, without the state of another: windows that hold
    /// it are partial.
    pub fn started_at(&mut self, time: Micros) {
        self.setup.started = Some(time);
    }

    /// Makes [`Self::export`] a matter of a moment: what is most of the state is not copied then, but
    /// when it changes here, page by page, while the copy is there.
    pub fn share(&mut self) {
        for shard in self.state.shards.values_mut() {
            shard.share();
        }
        self.state.derived.share();
        self.state.log.share();
    }

    /// Everything the engine remembers.
    pub fn export(&self) -> EngineState {
        self.state.clone()
    }

    /// When the process started to count, if that matters.
    pub fn started(&self) -> Option<Micros> {
        self.setup.started
    }

    /// Everything the engine remembers, when nothing more is asked of it.
    pub fn into_state(self) -> EngineState {
        self.state
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
        state.derived.move_detections(&places);
        state.joins.move_detections(&places);
        state.joins = self.state.joins.emptied().continued(state.joins);
        state.detections = detections;
        state.report();
        self.announce(&state);
        self.state = state;
        self.setup.started = None;
    }

    /// Brings the engine to where it can take this hit: room for its cluster, and what its time
    /// makes due. Takes at most this many steps, which are then fewer, and appends the findings
    /// they cause; whether that was all. [`Self::observe`] does what is left, however much.
    pub fn prepare(&mut self, hit: &Hit, steps: &mut usize, out: &mut Vec<Emission>) -> bool {
        let (Some(time), detection) = (hit.time, index(hit)) else {
            return true;
        };
        let from = out.len();
        let is_ready = self.make_ready((hit, time, detection), steps, out);
        self.link(from, out);
        is_ready && self.settle_derived(Some(hit), steps, out)
    }

    /// Makes room for the cluster of a hit, and does what its time makes due.
    fn make_ready(
        &mut self,
        (hit, time, detection): (&Hit, Micros, usize),
        steps: &mut usize,
        out: &mut Vec<Emission>,
    ) -> bool {
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
        let mut outlet = outlet(&mut state.log, &mut drafts);
        let settled = of.settle(&context, steps, &mut outlet)
            && shard.expire_watched(detection, &context, steps);
        // Most hits make nothing due.
        if !settled || *steps != before || shard.detections.len() != known {
            shard.report(detection, &mut state.evictions);
            setup.emit(detection, (shard, &mut state.detections), drafts, out);
        }
        settled
    }

    /// Takes one hit and appends the findings it causes.
    pub fn observe(&mut self, mut hit: Hit, out: &mut Vec<Emission>) {
        let detection = index(&hit);
        if hit.role == Role::Success {
            self.observe_success(hit, out);
            return;
        }
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
        if hit.excluded.is_some() {
            // Its time counts: the findings of other keys stay as they are.
            let (setup, state) = (&self.setup, &mut self.state);
            if !hit.is_excluded_from_forgery {
                let cluster = (setup.cluster_name(&hit), &setup.limits);
                state
                    .derived
                    .observe_excluded(&setup.derived, &hit, cluster);
            }
            return;
        }
        let from = out.len();
        let (setup, state) = (&self.setup, &mut self.state);
        let request = setup.joinable(&state.joins, &mut hit);
        let name = setup.cluster_name(&hit);
        state.coverage.hit(name, &hit, &setup.feeds);
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
        let others = state.evictions.heap_bytes() - state.evictions.texts;
        state.log.limit(setup.limits.memory, others);
        let mut outlet = outlet(&mut state.log, &mut drafts);
        let disposition = of.observe(&hit, time, &context, &mut outlet);
        match disposition {
            Disposition::Counted => {}
            Disposition::Overflow => stats.overflow += 1,
            Disposition::Duplicate => stats.duplicates += 1,
            Disposition::TooLate => stats.late_dropped += 1,
        }
        shard.report_keys(detection, &mut state.evictions);
        state.evictions.texts = state.log.heap_bytes();
        if !drafts.is_empty() {
            setup.emit(detection, (shard, &mut state.detections), drafts, out);
            shard.report(detection, &mut state.evictions);
        }
        let limits = setup.limits_of_keys(state);
        while let Some((detection, cluster, measure)) = state.evictions.excess(&limits) {
            if !setup.evict_weakest(state, (detection, &cluster), measure, (name, &mut *out)) {
                break;
            }
        }
        // Derived detections see the finding that the hit has opened.
        self.link(from, out);
        if matches!(disposition, Disposition::Counted | Disposition::Overflow) {
            self.join(&hit, request);
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
        let elapsed_micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let shards = self.state.shards.values_mut();
        for of in shards.flat_map(|shard| &mut shard.detections) {
            of.event_time.advance_by_tick(elapsed_micros);
        }
        self.state.derived.advance(elapsed);
        self.state.coverage.advance(elapsed_micros);
    }

    /// Appends findings that time has made due, in about this many steps; whether that was all.
    pub fn settle(&mut self, mut steps: usize, out: &mut Vec<Emission>) -> bool {
        let from = out.len();
        let settled = self.settle_shards(&mut steps, out);
        self.link(from, out);
        settled && self.settle_derived(None, &mut steps, out)
    }

    fn settle_shards(&mut self, steps: &mut usize, out: &mut Vec<Emission>) -> bool {
        self.settle_feeds(out);
        let (setup, state) = (&self.setup, &mut self.state);
        for shard in state.shards.values_mut() {
            for (detection, program) in setup.programs.iter().enumerate() {
                let context = setup.context_of(program);
                let Some(of) = shard.get_mut(detection) else {
                    continue;
                };
                let (mut drafts, before) = (Vec::new(), *steps);
                let mut outlet = outlet(&mut state.log, &mut drafts);
                let settled = of.settle(&context, steps, &mut outlet)
                    && shard.expire_watched(detection, &context, steps);
                if !settled || *steps != before {
                    shard.report(detection, &mut state.evictions);
                    setup.emit(detection, (shard, &mut state.detections), drafts, out);
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
        let from = out.len();
        let how = (&self.setup.derived, &self.setup.limits);
        // While the findings that they may belong to are still known.
        if !self.state.derived.release_all(how, &mut steps) {
            return false;
        }
        let is_drained = self.drain_shards(&mut steps, out);
        self.link(from, out);
        if !is_drained {
            return false;
        }
        let (setup, state) = (&self.setup, &mut self.state);
        let mut emitted = Vec::new();
        let is_all = state
            .derived
            .drain(&setup.derived, &mut steps, &mut emitted);
        setup.emit_derived(emitted, out);
        if is_all {
            state.joins = state.joins.emptied();
        }
        is_all
    }

    fn drain_shards(&mut self, steps: &mut usize, out: &mut Vec<Emission>) -> bool {
        loop {
            let (setup, state) = (&self.setup, &mut self.state);
            let Some(mut first) = state.shards.first_entry() else {
                self.drain_feeds(out);
                return true;
            };
            let shard = first.get_mut();
            for (detection, program) in setup.programs.iter().enumerate() {
                let context = setup.context_of(program);
                let Some(of) = shard.get_mut(detection) else {
                    continue;
                };
                let mut drafts = Vec::new();
                let mut outlet = outlet(&mut state.log, &mut drafts);
                while !of.is_empty() && steps::take(steps) {
                    of.drain_first(&context, &mut outlet);
                }
                let is_drained = of.is_empty();
                shard.report(detection, &mut state.evictions);
                setup.emit(detection, (shard, &mut state.detections), drafts, out);
                if !is_drained {
                    return false;
                }
            }
            // Nothing is left in it to be evicted.
            let name = Arc::clone(&shard.name);
            self.state.remove_shard(&name);
        }
    }
}

impl Program {
    fn new(detection: &Arc<Detection>, locate: Option<Arc<dyn Locate>>) -> Self {
        let lateness = match detection.window {
            // With a longer one, a scan could be found after the one that followed it.
            Window::Session { length } => detection.lateness.min(length - 1),
            Window::Tumbling { .. } => detection.lateness,
        };
        Self {
            report: Report::new(Arc::clone(detection), lateness, locate),
            joined_label: detection.joined_label(),
            detection: Arc::clone(detection),
            successes: None,
            follows: None,
            lateness,
        }
    }

    fn known(&self) -> Known {
        Known {
            rule_id: self.detection.annotations.id.clone(),
            fingerprint: self.detection.fingerprint.clone(),
            stats: Stats::default(),
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
            started: self.started,
            changes: &self.changes,
        }
    }

    /// The name of a hit's cluster, cut like any value.
    fn cluster_name<'h>(&self, hit: &'h Hit) -> &'h str {
        let end = hit.cluster.floor_char_boundary(self.limits.value_bytes);
        hit.cluster.get(..end).unwrap_or_default()
    }

    /// Writes findings and appends them.
    fn emit(
        &self,
        detection: usize,
        (shard, known): (&mut Shard, &mut [Known]),
        mut drafts: Vec<Draft>,
        out: &mut Vec<Emission>,
    ) {
        let Some(program) = self.programs.get(detection).filter(|_| !drafts.is_empty()) else {
            return;
        };
        self.follow_up(program, (shard, known), detection, &mut drafts);
        self.write(detection, &shard.name, drafts, out);
    }

    /// Writes findings that need nothing of their shard.
    fn write(&self, detection: usize, cluster: &str, drafts: Vec<Draft>, out: &mut Vec<Emission>) {
        let Some(program) = self.programs.get(detection) else {
            return;
        };
        out.extend(drafts.into_iter().map(|draft| Emission {
            detection: Arc::clone(&program.detection),
            state: draft.state,
            finding: program.report.finding(cluster, draft),
        }));
    }

    /// What the keys of all detections may take: what derived detections take, and requests that wait
    /// to be joined, is not theirs.
    fn limits_of_keys(&self, state: &EngineState) -> Limits {
        let others = state.derived.heap_bytes() + state.joins.heap_bytes();
        Limits {
            memory: self.limits.memory.saturating_sub(others),
            ..self.limits.clone()
        }
    }
}

fn outlet<'a>(log: &'a mut EvidenceLog, out: &'a mut Vec<Draft>) -> Outlet<'a> {
    Outlet { log, out }
}
