//! The engine's part in derived detections: it hands on what was counted, and links findings.

use super::{
    super::{derived::Emitted, emission::Emission, finding::annotate, hit::Hit},
    Engine, Setup, index,
};

impl Engine {
    /// Links the findings from this place on with those of derived detections.
    pub(super) fn link(&mut self, from: usize, out: &mut Vec<Emission>) {
        self.state.derived.link(&self.setup.derived, from, out);
    }

    /// Appends the findings of derived detections that are due, in the cluster of this hit or in
    /// all; whether that was all.
    pub(super) fn settle_derived(
        &mut self,
        hit: Option<&Hit>,
        steps: &mut usize,
        out: &mut Vec<Emission>,
    ) -> bool {
        let (setup, state) = (&self.setup, &mut self.state);
        if hit.is_some_and(|hit| !setup.derived.is_source(index(hit))) {
            return true;
        }
        let hit = hit.and_then(|hit| Some((setup.cluster_name(hit), hit.time?)));
        let mut emitted = Vec::new();
        let how = (&setup.derived, &setup.limits);
        let settled = state.derived.settle(how, hit, steps, &mut emitted);
        setup.emit_derived(emitted, out);
        settled
    }
}

impl Setup {
    /// Writes findings of derived detections and appends them.
    pub(super) fn emit_derived(&self, emitted: Vec<Emitted>, out: &mut Vec<Emission>) {
        for one in emitted {
            let from = out.len();
            self.write(one.detection, &one.cluster, vec![one.draft], out);
            for emission in out.iter_mut().skip(from) {
                if let Some(severity) = one.severity {
                    emission.finding.set_severity(severity);
                }
                if let (Some(before), Some(new)) = (one.before, &mut emission.finding.new) {
                    before.as_str().clone_into(&mut new.severity_before);
                }
                // It names the severity.
                annotate::message(&mut emission.finding, &emission.detection);
            }
        }
    }
}
