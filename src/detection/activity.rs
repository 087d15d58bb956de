//! What arrives of each cluster, counted: for metrics, and for rules about the feed of a cluster.
//!
//! The screen counts it for each request. The pipeline adds requests up and hands the sums to the
//! engine, at most once a minute. Nothing waits for them.

use std::{ops::AddAssign, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{heap, time::Micros};
use crate::rules::settings::SECOND;

/// Clusters whose activity is kept apart. Their names come from senders, so they have a bound.
pub const MAX_CLUSTERS: usize = 1024;

/// What arrived of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Log records that were accepted.
    pub records: u64,
    /// Records that look like audit events, cut ones among them. Of records in an unusual form only
    /// a sample is looked at.
    pub events: u64,
    /// Records that the prefilter let through.
    pub candidates: u64,
    /// Events that match a detection.
    pub hits: u64,
    /// Records that begin as an audit event and end in the middle of it.
    pub truncated: u64,
    /// The greatest length of one of them, in bytes.
    pub cut_bytes: u64,
    /// The greatest time of a record, at most five minutes ahead of its arrival.
    pub last: Option<Micros>,
    /// How long events took to arrive.
    pub delays: Delays,
}

/// From the times of events to those at which they were observed, for events that were parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// Events with both times.
    pub events: u64,
    /// Those that took longer than the lateness allows.
    pub late: u64,
    /// Those that were so far ahead that their time was set back.
    pub ahead: u64,
    /// By the logarithm of the seconds they took: below one (or ahead), below two, below four, ...
    pub buckets: [u64; Delays::BUCKETS],
}

impl Activity {
    /// Whether nothing arrived.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.events == 0 && self.truncated == 0
    }
}

impl AddAssign<&Self> for Activity {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            records,
            events,
            candidates,
            hits,
            truncated,
            cut_bytes,
            last,
            delays,
        } = other;
        self.records += records;
        self.events += events;
        self.candidates += candidates;
        self.hits += hits;
        self.truncated += truncated;
        self.cut_bytes = self.cut_bytes.max(*cut_bytes);
        self.last = self.last.max(*last);
        self.delays += delays;
    }
}

impl Delays {
    /// The last bucket is for events that took 2^16 seconds, 18 hours, or longer.
    pub const BUCKETS: usize = 18;

    /// Takes one event: its time, when it was observed, how much later that may be, and how much
    /// earlier, in microseconds.
    pub fn take(&mut self, event: Micros, observed: Micros, lateness: i64, ahead: i64) {
        let delay = observed.0.saturating_sub(event.0);
        self.events += 1;
        self.late += u64::from(delay > lateness);
        self.ahead += u64::from(delay < -ahead);
        let seconds = u64::try_from(delay / SECOND).unwrap_or(0);
        let bucket = (u64::BITS - seconds.leading_zeros()) as usize;
        let bucket = bucket.min(Self::BUCKETS - 1);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
    }

    /// About the seconds that half of the events exceeded: the lower bound of its bucket.
    pub fn median_seconds(&self) -> u64 {
        let all: u64 = self.buckets.iter().sum();
        let mut below = 0;
        for (bucket, count) in (0_u32..).zip(&self.buckets) {
            below += count;
            if below * 2 > all {
                return bucket
                    .checked_sub(1)
                    .map_or(0, |power| 1_u64.checked_shl(power).unwrap_or(0));
            }
        }
        0
    }
}

impl AddAssign<&Self> for Delays {
    fn add_assign(&mut self, other: &Self) {
        self.events += other.events;
        self.late += other.late;
        self.ahead += other.ahead;
        for (own, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += others;
        }
    }
}

/// The activity of several clusters, at most [`MAX_CLUSTERS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activities {
    /// In the order of names.
    clusters: Vec<(Arc<str>, Box<Activity>)>,
    /// That of all clusters beyond the bound.
    beyond: Activity,
}

impl Activities {
    /// Adds what arrived of a cluster.
    pub fn add(&mut self, cluster: &str, activity: &Activity) {
        if activity.is_empty() {
            return;
        }
        match self.place(cluster) {
            Ok(at) => {
                if let Some((_, known)) = self.clusters.get_mut(at) {
                    **known += activity;
                }
            }
            Err(_) if self.clusters.len() >= MAX_CLUSTERS => self.beyond += activity,
            Err(at) => {
                if self.clusters.is_empty() {
                    // Most requests are of one cluster.
                    self.clusters.reserve_exact(1);
                }
                self.clusters
                    .insert(at, (Arc::from(cluster), Box::new(activity.clone())));
            }
        }
    }

    /// Adds those of another request.
    pub fn merge(&mut self, other: &Self) {
        for (cluster, activity) in other.iter() {
            self.add(cluster, activity);
        }
        self.beyond += &other.beyond;
    }

    /// Each cluster with what arrived of it, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Activity)> {
        let clusters = self.clusters.iter();
        clusters.map(|(cluster, activity)| (cluster, &**activity))
    }

    /// The same with what arrived of all clusters beyond the bound.
    pub(super) fn with_beyond(mut self, beyond: Activity) -> Self {
        self.beyond = beyond;
        self
    }

    /// What arrived of all clusters beyond the bound.
    pub fn beyond(&self) -> &Activity {
        &self.beyond
    }

    /// Whether nothing arrived.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.beyond.is_empty()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let clusters = self.clusters.iter();
        let names = clusters.map(|(name, _)| heap::shared(name.len()));
        heap::list(&self.clusters)
            + names.sum::<usize>()
            + self.clusters.len() * heap::block(size_of::<Activity>())
    }

    fn place(&self, cluster: &str) -> Result<usize, usize> {
        self.clusters
            .binary_search_by(|(name, _)| name.as_ref().cmp(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_a_median_and_say_what_is_late_or_ahead() {
        let mut delays = Delays::default();
        assert_eq!(delays.median_seconds(), 0);
        let observed = Micros(1_764_055_023 * SECOND);
        for (seconds, late, ahead, median) in [
            (0, 0, 0, 0),
            (5, 0, 0, 4),
            (-301, 0, 1, 0),
            (600, 0, 1, 4),
            (601, 1, 1, 4),
            (1_000_000, 2, 1, 512),
        ] {
            let event = observed.minus(seconds * SECOND);
            delays.take(event, observed, 600 * SECOND, 300 * SECOND);
            assert_eq!((delays.late, delays.ahead), (late, ahead), "{seconds}");
            assert_eq!(delays.median_seconds(), median, "{seconds}");
        }
        assert_eq!(delays.events, 6);
        assert_eq!(delays.buckets.iter().sum::<u64>(), 6);
    }

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let mut all = Activities::default();
        let one = Activity {
            records: 1,
            ..Activity::default()
        };
        for number in 0..MAX_CLUSTERS + 10 {
            all.add(&format!("c{number:06}"), &one);
        }
        all.add("c000003", &one);
        assert_eq!(all.iter().count(), MAX_CLUSTERS);
        assert_eq!(all.beyond().records, 10);
        let sum: u64 = all.iter().map(|(_, activity)| activity.records).sum();
        assert_eq!(sum, MAX_CLUSTERS as u64 + 1);
        assert!(all.iter().is_sorted_by_key(|(name, _)| Arc::clone(name)));
        let mut twice = all.clone();
        twice.merge(&all);
        assert_eq!(twice.beyond().records, 20);
        assert!(all.heap_bytes() > MAX_CLUSTERS * size_of::<Activity>());
    }
}
