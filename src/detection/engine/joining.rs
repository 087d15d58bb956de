//! The engine's part in joining requests that two API servers have logged.

use super::{
    super::{
        hit::Hit,
        joins::{Joins, Request},
        shard::Windows,
    },
    Engine, Setup, index,
};

impl Setup {
    /// The request that a hit is of, if its detection joins requests. The copy of one that was
    /// counted gets the label of such requests.
    pub(super) fn joinable(&self, joins: &Joins, hit: &mut Hit) -> Option<Request> {
        let program = self.programs.get(index(hit))?;
        let (label, detection) = (program.joined_label?, &program.detection);
        let (cluster, most) = (self.cluster_name(hit), self.limits.values_per_field);
        let request = Request::of(hit, cluster, detection, most)?;
        if joins.is_copy(&request) {
            hit.labels.insert(label);
        }
        Some(request)
    }
}

impl Engine {
    /// Joins a request that was counted with another log of it. If that one came first and is the
    /// copy, it gets its label now.
    pub(super) fn join(&mut self, hit: &Hit, request: Request) {
        let (setup, state) = (&self.setup, &mut self.state);
        let Some(copy) = state.joins.take(request).copy else {
            return;
        };
        let detection = index(hit);
        let Some(program) = setup.programs.get(detection) else {
            return;
        };
        let (label, context) = (program.joined_label, setup.context_of(program));
        let shard = state.shards.get_mut(setup.cluster_name(hit));
        let (Some(label), Some(shard)) = (label, shard) else {
            return;
        };
        let windows = shard.get_mut(detection).map(|of| &mut of.windows);
        if let Some(Windows::Session(sessions)) = windows {
            sessions.join_label((&copy.key, copy.place), label, &context.session());
        }
        shard.report_keys(detection, &mut state.evictions);
    }
}
