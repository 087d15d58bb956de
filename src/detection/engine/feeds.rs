//! The engine's part in findings about feeds: it hands on what arrives and what time has passed.

use super::{
    super::{activity::Activities, coverage::Found, emission::Emission},
    Engine,
};

impl Engine {
    /// Takes what arrived of each cluster. No finding about an address depends on it. Rules about
    /// feeds are judged with the next tick; what is appended here are findings of clusters that
    /// give way to others.
    pub fn activity(&mut self, activities: &Activities, out: &mut Vec<Emission>) {
        let mut found = Vec::new();
        let coverage = &mut self.state.coverage;
        coverage.activity(activities, &self.setup.feeds, &mut found);
        self.emit_found(found, out);
    }

    /// Judges the rules about feeds, if time has passed since they were.
    pub(super) fn settle_feeds(&mut self, out: &mut Vec<Emission>) {
        let mut found = Vec::new();
        self.state.coverage.settle(&self.setup.feeds, &mut found);
        self.emit_found(found, out);
    }

    /// Closes the findings about feeds, because the process ends.
    pub(super) fn drain_feeds(&mut self, out: &mut Vec<Emission>) {
        let mut found = Vec::new();
        self.state.coverage.drain(&self.setup.feeds, &mut found);
        self.emit_found(found, out);
    }

    fn emit_found(&self, found: Vec<Found>, out: &mut Vec<Emission>) {
        for (detection, cluster, draft) in found {
            self.setup.write(detection, &cluster, vec![draft], out);
        }
    }
}
