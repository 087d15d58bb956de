//! What a pipeline counts of each cluster: totals for metrics, and what the engine has not been
//! given yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::detection::activity::{Activities, Activity};

/// Clusters that metrics show by name. Names come from senders, and each is a series for as long as
/// the process runs.
const NAMED: usize = 100;
/// All others together.
const OTHER: &str = "other";
/// A cluster without a name.
const UNNAMED: &str = "unknown";

/// Totals of one cluster since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterTotals {
    /// Log records that were accepted.
    pub records: u64,
    /// Hits.
    pub hits: u64,
    /// Audit events that were cut on their way.
    pub truncated: u64,
    /// Time of the last record, in seconds since 1970.
    pub last_event: u64,
}

/// The activity of the clusters of a pipeline.
#[derive(Debug, Default)]
pub struct Clusters(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By the name that metrics show. The first clusters have names of their own.
    totals: BTreeMap<Arc<str>, ClusterTotals>,
    pending: Activities,
}

impl Clusters {
    /// Adds what arrived with a request that was taken.
    pub(super) fn add(&self, activities: &Activities) {
        if activities.is_empty() {
            return;
        }
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (cluster, activity) in activities.iter() {
            inner.total(cluster, activity);
        }
        if !activities.beyond().is_empty() {
            inner.total(OTHER, activities.beyond());
        }
        inner.pending.merge(activities);
    }

    /// What arrived since this was called last.
    pub(super) fn take(&self) -> Activities {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut inner.pending)
    }

    /// The totals, by the name that metrics show.
    pub fn totals(&self) -> Vec<(Arc<str>, ClusterTotals)> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let totals = inner.totals.iter();
        totals
            .map(|(name, totals)| (Arc::clone(name), *totals))
            .collect()
    }
}

impl Inner {
    fn total(&mut self, cluster: &str, activity: &Activity) {
        let name = if cluster.is_empty() { UNNAMED } else { cluster };
        let is_full = self.totals.len() >= NAMED;
        let name = if is_full && !self.totals.contains_key(name) {
            OTHER
        } else {
            name
        };
        if !self.totals.contains_key(name) {
            self.totals
                .insert(Arc::from(name), ClusterTotals::default());
        }
        let Some(totals) = self.totals.get_mut(name) else {
            return;
        };
        totals.records += activity.records;
        totals.hits += activity.hits;
        totals.truncated += activity.truncated;
        let last = activity.last.map_or(0, |last| last.0.div_euclid(1_000_000));
        totals.last_event = totals.last_event.max(u64::try_from(last).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::time::Micros;

    #[test]
    fn the_first_clusters_have_names_and_nothing_is_lost() {
        let clusters = Clusters::default();
        for number in 0..500_u64 {
            let mut one = Activities::default();
            let activity = Activity {
                records: 2,
                truncated: 1,
                last: Some(Micros(1_764_055_023_999_999)),
                ..Activity::default()
            };
            one.add(&format!("c{number}"), &activity);
            one.add("", &activity);
            clusters.add(&one);
        }
        let totals = clusters.totals();
        assert_eq!(totals.len(), NAMED + 1);
        let of = |name: &str| totals.iter().find(|(own, _)| &**own == name).unwrap().1;
        assert_eq!(of("c0").records, 2);
        assert_eq!(of("c0").last_event, 1_764_055_023);
        assert_eq!(of(UNNAMED).truncated, 500);
        assert_eq!(of(OTHER).records, 2 * (500 - 99));
        let sum: u64 = totals.iter().map(|(_, totals)| totals.records).sum();
        assert_eq!(sum, 2000);
        assert_eq!(clusters.take().iter().count(), 501);
        assert!(clusters.take().is_empty());
    }
}
