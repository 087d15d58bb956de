//! The `detection` processor: the core, dressed for the pipeline.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    detection::{
        Finding,
        engine::{Engine, Stats},
        geo::Locate,
        hit::Hit,
        limits::Limits,
        rule::Rule,
        screen::Screen,
    },
    geo::{Databases, GeoError},
};

/// One detection: its screen, which every connection gets a copy of, and its engine, which has
/// one owner.
pub struct Detection {
    screen: Screen,
    engine: Engine,
}

/// What a detection has counted, and what it keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// What was counted so far.
    pub stats: Stats,
    /// Addresses that are tracked.
    pub tracked: usize,
    /// Bytes of memory that they hold, about.
    pub held: usize,
}

impl Detection {
    /// A detection that has seen nothing.
    ///
    /// # Errors
    /// When a location database cannot be read.
    pub fn new(
        rule: Rule,
        limits: Limits,
        databases: &[PathBuf],
        cluster: Option<&str>,
    ) -> Result<Self, GeoError> {
        let locate: Option<Arc<dyn Locate>> = if databases.is_empty() {
            None
        } else {
            Some(Arc::new(Databases::open(databases)?))
        };
        let screen = Screen::bounded(rule.clone(), &limits, cluster);
        Ok(Self {
            screen,
            engine: Engine::new(rule, limits, locate),
        })
    }

    /// The screen for a receiver.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// The most findings that these hits can cause.
    pub fn bound(&self, hits: &[Hit]) -> usize {
        self.engine.bound(hits)
    }

    /// Takes the hits of one request; the findings they cause.
    pub fn observe(&mut self, hits: Vec<Hit>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for hit in hits {
            self.engine.observe(hit, &mut findings);
        }
        findings
    }

    /// Takes the passing of time; the findings it causes.
    pub fn tick(&mut self, elapsed: Duration) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.engine.tick(elapsed, &mut findings);
        findings
    }

    /// What has not been said yet, because the service ends.
    pub fn drain(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.engine.drain(&mut findings);
        findings
    }

    /// What it has counted, and what it keeps now.
    pub fn kept(&self) -> Kept {
        Kept {
            stats: self.engine.stats(),
            tracked: self.engine.tracked(),
            held: self.engine.held(),
        }
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }
}
