//! The engine's part in joining requests that two API servers have logged.

use super::{
    super::{
        fields::AuditField,
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
    /// Joins a request that was counted with another log of it, and hands it on to derived
    /// detections, unless it is the copy. If the copy came first, it gets its label now, and derived
    /// detections forget it.
    pub(super) fn join(&mut self, hit: &Hit, request: Option<Request>) {
        let (setup, state) = (&self.setup, &mut self.state);
        let detection = index(hit);
        let cluster = setup.cluster_name(hit);
        // The peer of a copy is the API server: no proxy has handed its address over.
        let is_peer = hit.texts.all(AuditField::Peers).next().is_none();
        let may_be_copy = is_peer && request.as_ref().is_some_and(Request::may_be_copy);
        let joined = request.map(|request| state.joins.take(request));
        let joined = joined.unwrap_or_default();
        if setup.derived.is_source(detection) && !joined.is_copy {
            let how = (&setup.derived, &setup.limits);
            if may_be_copy {
                state.derived.hold(how, hit, cluster);
            } else {
                state
                    .derived
                    .observe(&setup.derived, hit, (cluster, &setup.limits));
            }
        }
        let Some(copy) = joined.copy else {
            return;
        };
        state
            .derived
            .forget(cluster, hit.detection, &copy.key, copy.place);
        let Some(program) = setup.programs.get(detection) else {
            return;
        };
        let (label, context) = (program.joined_label, setup.context_of(program));
        let shard = state.shards.get_mut(cluster);
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
