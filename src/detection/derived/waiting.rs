//! Requests that may be the second log of one: when they wait, and when they are taken.

use super::{
    State,
    key::Cluster,
    program::{LIVES_PART, PART, Setup},
};
use crate::{
    audit::time::Micros,
    detection::{
        hit::{Hit, Place},
        limits::Limits,
        steps,
    },
};

impl State {
    /// Takes a request that the detection behind has counted and that may be the second log of one,
    /// once it is known whether it is.
    pub(in crate::detection) fn hold(
        &mut self,
        (setup, limits): (&Setup, &Limits),
        hit: &Hit,
        cluster: &str,
    ) {
        let Some(number) = self.arrive(setup, hit, cluster) else {
            return;
        };
        let most = limits.memory / PART / LIVES_PART;
        for hit in self.held.hold(number, hit.clone(), most) {
            self.count(setup, &hit, (number, limits), &|_| true);
        }
    }

    /// Forgets a request that waits: it is the second log of one.
    pub(in crate::detection) fn forget(
        &mut self,
        cluster: &str,
        detection: u32,
        key: &str,
        place: Place,
    ) {
        if let Some(number) = self.numbers.get(cluster) {
            self.held.forget(*number, detection, key, place);
        }
    }

    /// Takes requests of a cluster that wait, and of which no first log has come in time; in at most
    /// this many steps, whether that was all.
    pub(super) fn release(
        &mut self,
        (setup, limits): (&Setup, &Limits),
        (cluster, now): (Cluster, Micros),
        steps: &mut usize,
    ) -> bool {
        while let Some(hit) = self.held.due(cluster, now) {
            self.count(setup, &hit, (cluster, limits), &|_| true);
            if !steps::take(steps) {
                return false;
            }
        }
        true
    }

    /// The same of all clusters, or of one.
    pub(super) fn release_due(
        &mut self,
        how: (&Setup, &Limits),
        only: Option<Cluster>,
        steps: &mut usize,
    ) -> bool {
        if self.held.is_empty() {
            return true;
        }
        let clusters = self.clusters.iter();
        let clusters = clusters.filter(|(number, _)| only.is_none_or(|only| only == **number));
        let due: Vec<_> = clusters
            .map(|(number, state)| (*number, state.now(how.0.lateness)))
            .collect();
        due.into_iter().all(|due| self.release(how, due, steps))
    }

    /// Takes all requests that wait, because the process ends; whether that was all.
    pub(in crate::detection) fn release_all(
        &mut self,
        how: (&Setup, &Limits),
        steps: &mut usize,
    ) -> bool {
        let clusters: Vec<Cluster> = self.clusters.keys().copied().collect();
        let mut clusters = clusters.into_iter();
        clusters.all(|cluster| self.release(how, (cluster, Micros(i64::MAX)), steps))
    }
}
