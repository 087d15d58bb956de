//! The `detection` processor: the core, as the pipeline uses it.

mod continued;
mod logged;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tracing::warn;

use crate::{
    detection::{
        activity::Activities,
        emission::Emission,
        engine::{Engine, HitCounts, Stats},
        exclude::{Exclusion, ExclusionError, Exclusions},
        geo::Locate,
        hit::Hit,
        limits::Limits,
        rule::Rule,
        screen::Screen,
        time::Micros,
        watch::Watch,
    },
    geo::{Databases, GeoError},
    memory::Pressure,
    processor::{filter::Filter, gate::Gate},
    rules::{model, settings::Semantics},
};

pub use continued::{Ended, Known, Places};
pub use logged::{Moment, Position, SnapshotError};

/// Detections at work: their screen, which every connection gets a copy of, and their engine,
/// which the engine task owns.
pub struct Detection {
    screen: Screen,
    engine: Engine,
    /// What both know of the sources that are watched for a success.
    watch: Watch,
    /// Bytes that its state may take.
    budget: usize,
    gate: Gate,
    /// Bytes that are kept of one value.
    value_bytes: usize,
    recall: Recall,
    /// What was counted for detections of former configurations.
    ended: Stats,
}

/// What becomes of successes that happened before their address was watched.
#[derive(Debug, Default)]
enum Recall {
    /// The engine is given them at once.
    #[default]
    AtOnce,
    /// They wait here, to enter the log first.
    Later(Vec<Hit>),
    /// They are in the log already.
    Never,
}

/// What keeps known requests and findings away.
#[derive(Clone, Debug, Default)]
pub struct Quiet {
    /// Requests that do not count.
    pub exclude: Vec<Exclusion>,
    /// Which findings leave; `None`: all.
    pub filter: Option<Filter>,
    /// Whether the filter is for findings of success and forgery too.
    pub filter_all: bool,
}

/// Counters and state sizes of the detections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// The counters.
    pub stats: Stats,
    /// Keys and groups that are tracked.
    pub tracked: usize,
    /// Bytes on the heap that they take.
    pub heap_bytes: usize,
    /// States of findings that the filter kept away.
    pub filtered: u64,
    /// States of findings that left because the filter failed.
    pub filter_errors: u64,
}

impl Detection {
    /// Detections that have taken no hits. Of the settings, the selector and the time field count.
    ///
    /// # Errors
    /// When a location database cannot be read.
    pub fn new(
        settings: &Rule,
        detections: Vec<Arc<model::Detection>>,
        limits: Limits,
        databases: &[PathBuf],
        cluster: Option<&str>,
    ) -> Result<Self, GeoError> {
        let locate: Option<Arc<dyn Locate>> = if databases.is_empty() {
            None
        } else {
            let databases = Databases::open(databases)?;
            for warning in databases.warnings(settings.semantics == Semantics::Escu) {
                warn!("{warning}");
            }
            Some(Arc::new(databases))
        };
        let watch = Watch::default();
        let screen = Screen::of(detections.clone(), settings.clone(), &limits, cluster);
        Ok(Self {
            screen: screen.watching(&watch),
            budget: limits.memory,
            gate: Gate::new(None, false, limits.keys),
            value_bytes: limits.value_bytes,
            recall: Recall::default(),
            ended: Stats::default(),
            engine: Engine::new(detections, limits, locate).watched(),
            watch,
        })
    }

    /// The same detections, which have taken no hits. What is made of rules is not made again: tests make
    /// a detection some thousand times.
    #[cfg(test)]
    pub(crate) fn anew(&self) -> Self {
        let watch = Watch::default();
        let detections = self.screen.detections().to_vec();
        Self {
            screen: self.screen.clone().watching(&watch),
            budget: self.budget,
            gate: Gate::new(None, false, self.gate.most()),
            value_bytes: self.value_bytes,
            recall: Recall::default(),
            ended: Stats::default(),
            engine: Engine::new(detections, Limits::default(), None).watched(),
            watch,
        }
    }

    /// The same without known requests and findings, before it is used.
    ///
    /// # Errors
    /// When an exclusion applies to a detection that is not here.
    pub fn quiet(mut self, quiet: Quiet) -> Result<Self, ExclusionError> {
        let Quiet {
            exclude,
            filter,
            filter_all,
        } = quiet;
        let exclusions = Exclusions::new(&exclude, self.screen.detections())?;
        self.screen = self.screen.excluding(Arc::new(exclusions));
        self.gate = Gate::new(filter, filter_all, self.gate.most());
        Ok(self)
    }

    /// Its state takes no more than what is left of its budget from now on.
    pub fn keep_within(&mut self, pressure: &Pressure) {
        self.engine.limit_memory(pressure.left_of(self.budget));
    }

    /// The screen for a receiver.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Counts more hits of one request by their keys, for [`Self::bound_of`].
    pub fn count<'h>(&self, hits: &'h [Hit], counts: &mut HitCounts<'h>) {
        self.engine.count(hits, counts);
    }

    /// The most findings that the hits of this many of these keys can cause. They are taken away.
    pub fn bound_of(&self, counts: &mut HitCounts<'_>, keys: usize) -> usize {
        let remembered = |cluster: &str, detection: usize, key: &str| {
            self.watch.remembered(cluster, detection, key)
        };
        self.engine.bound_of(counts, keys, &remembered)
    }

    /// Takes some of the hits of one request, in at most this many steps; the findings they cause.
    pub fn observe(
        &mut self,
        hits: &mut std::vec::IntoIter<Hit>,
        mut steps: usize,
    ) -> Vec<Emission> {
        let mut findings = Vec::new();
        while let Some(hit) = hits.as_slice().first()
            && steps > 0
            && self.engine.prepare(hit, &mut steps, &mut findings)
            && let Some(hit) = hits.next()
        {
            self.engine.observe(hit, &mut findings);
            self.follow_up(&mut findings);
            steps = steps.saturating_sub(1);
        }
        // Preparing may have changed what is watched, too.
        self.follow_up(&mut findings);
        self.gate.pass(&mut findings);
        findings
    }

    /// Takes what arrived of each cluster; the findings of clusters that give way to others.
    pub fn activity(&mut self, activities: &Activities) -> Vec<Emission> {
        let mut findings = Vec::new();
        self.engine.activity(activities, &mut findings);
        findings
    }

    /// Tells the screen which keys are watched by now, and takes what succeeded before of those that
    /// are new. In this order, so that no success falls between.
    fn follow_up(&mut self, findings: &mut Vec<Emission>) {
        let changes = self.engine.changes();
        self.watch.apply(&changes);
        for change in changes.iter().filter(|change| change.is_watched) {
            match &mut self.recall {
                Recall::AtOnce => {
                    for hit in self.watch.recall(change) {
                        self.engine.observe(hit, findings);
                    }
                }
                Recall::Later(hits) => hits.extend(self.watch.recall(change)),
                Recall::Never => {}
            }
        }
    }

    /// The process starts to count at this time, in nanoseconds since 1970: windows that hold it are
    /// partial.
    pub fn started_at(&mut self, unix_nanos: u64) {
        if let Some(time) = Micros::from_unix_nanos(unix_nanos) {
            self.engine.started_at(time);
        }
    }

    /// Advances the time. [`Self::settle`] emits the findings that this makes due.
    pub fn advance(&mut self, elapsed: Duration) {
        self.engine.advance(elapsed);
    }

    /// The findings that time has made due, in about this many steps, and whether those were all.
    pub fn settle(&mut self, steps: usize) -> (Vec<Emission>, bool) {
        let mut findings = Vec::new();
        let settled = self.engine.settle(steps, &mut findings);
        self.follow_up(&mut findings);
        self.gate.pass(&mut findings);
        (findings, settled)
    }

    /// At shutdown, emits some of the pending findings; returns whether those were the last.
    pub fn drain(&mut self, steps: usize) -> (Vec<Emission>, bool) {
        let mut findings = Vec::new();
        let is_all = self.engine.drain_some(steps, &mut findings);
        self.gate.pass(&mut findings);
        (findings, is_all)
    }

    /// Its counters, and the present size of its state.
    pub fn kept(&self) -> Kept {
        Kept {
            stats: self.stats(),
            tracked: self.engine.tracked(),
            heap_bytes: self.engine.heap_bytes() + self.watch.heap_bytes() + self.gate.heap_bytes(),
            filtered: self.gate.filtered(),
            filter_errors: self.gate.errors(),
        }
    }

    /// The counters, summed over all detections.
    pub fn stats(&self) -> Stats {
        let mut stats = self.engine.stats();
        stats += self.ended;
        stats
    }

    /// The counters of each detection.
    pub fn stats_by_detection(&self) -> impl Iterator<Item = Stats> {
        self.engine.stats_by_detection()
    }
}
