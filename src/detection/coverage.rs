//! Blind spots: what the engine cannot see, or will not see soon, as findings about a cluster.
//!
//! Hits, activity and evictions are only counted here. Rules are judged once after each tick, so
//! that findings do not depend on how hits and records were batched, and hits cause none. Time is
//! that of ticks, apart from the time of answers 401 and 403, which is event time: nothing is
//! silent while the process is down.
//!
//! Names of clusters come from senders. So clusters and open findings have bounds, and a finding
//! says when they are reached.

mod cluster;
mod flood;
mod refusals;
mod ring;
mod state;

use std::sync::Arc;

use self::{
    cluster::{Cluster, Rule, Spot, Verdict},
    flood::Flood,
    ring::Ring,
};
pub(super) use flood::Network;

use super::{
    activity::{Activities, MAX_CLUSTERS},
    emission::{Draft, Origin},
    finding::{CloseReason, Finding, FindingState, Member, New},
    heap,
    hit::{Hit, Identity},
    time::{BEGINNING, Micros},
};
use crate::rules::{blind_spot::BlindSpotKind, model::Detection, settings::SECOND};

/// Blind spots that are open at a time, in all clusters.
const MAX_OPEN: usize = 100;
/// A cluster of which nothing came for this long is forgotten.
const FORGOTTEN: i64 = 7 * 24 * 3600 * SECOND;
/// Names of forgotten clusters that a finding shows.
const NAMES: usize = 10;
/// A finding that goes on is sent when its count has doubled, and when it has changed since this
/// long before.
const HOUR: i64 = 3600 * SECOND;
/// The same for those that say nothing new each hour.
const DAY: i64 = 24 * HOUR;

/// The rules about feeds, with their places in the list of detections.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(Vec<(usize, Rule)>);

impl Rules {
    pub(super) fn of(detections: &[Arc<Detection>]) -> Self {
        let rules = detections.iter().enumerate().filter_map(|(at, detection)| {
            let spot = detection.blind_spot?;
            let rule = Rule {
                kind: spot.kind,
                window: detection.window.length(),
                above: detection.threshold,
                percent: spot.percent,
            };
            Some((at, rule))
        });
        Self(rules.collect())
    }

    /// Whether there are none: then nothing is counted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn window_of(&self, kind: BlindSpotKind) -> Option<i64> {
        let mut rules = self.0.iter();
        rules.find_map(|(_, rule)| (rule.kind == kind).then_some(rule.window))
    }
}

/// A finding that leaves: the place of its rule, its cluster, what became of it.
pub(super) type Found = (usize, Arc<str>, Draft);

/// What is known of the feeds of all clusters.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    /// In the order of names.
    #[expect(clippy::vec_box, reason = "one that is added moves those behind it")]
    clusters: Vec<Box<Cluster>>,
    /// Where the cluster of the last hit is. Nothing depends on it but time.
    cursor: usize,
    names: Names,
    /// Whether time has passed since the rules were judged.
    is_due: bool,
}

/// Clusters beyond the bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    /// Clusters that were forgotten for others, and blind spots that were not reported.
    recent: Ring<1>,
    all: u64,
    /// The last clusters that were forgotten, with their events.
    last: Vec<(Arc<str>, u64)>,
    open: Option<Spot>,
    /// Blind spots so far.
    opened: u64,
    /// Greatest time of a record or hit of any cluster.
    time: Option<Micros>,
}

impl Coverage {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let clusters = self.clusters.iter().map(|cluster| cluster.heap_bytes());
        let names = self.names.last.iter();
        let names = names.map(|(name, _)| heap::shared(name.len()));
        heap::list(&self.clusters)
            + heap::list(&self.names.last)
            + clusters.sum::<usize>()
            + names.sum::<usize>()
    }

    /// Takes a hit of a cluster. A cluster that is not known gets no place of another for it: its
    /// activity, which follows, says more.
    pub(super) fn hit(&mut self, cluster: &str, hit: &Hit, rules: &Rules) {
        let Some(time) = hit.time.filter(|_| !rules.is_empty()) else {
            return;
        };
        if let Some(cluster) = self.find(cluster) {
            cluster.hit(hit.code, time, rules.window_of(BlindSpotKind::Silence));
        }
    }

    /// Takes the eviction of keys of one network, or of several, of which each may have lost this
    /// many hits, for a hit of a cluster.
    pub(super) fn evicted(
        &mut self,
        cluster: &str,
        (network, keys, hits): (Option<Network>, u64, u64),
        rules: &Rules,
    ) {
        if rules.window_of(BlindSpotKind::Flood).is_some()
            && let Some(cluster) = self.find(cluster)
        {
            cluster
                .flood
                .get_or_insert_with(|| Box::new(Flood::default()))
                .take(network, keys, hits);
        }
    }

    /// Takes what arrived. Findings of clusters that give way to others are closed.
    pub(super) fn activity(&mut self, all: &Activities, rules: &Rules, out: &mut Vec<Found>) {
        if rules.is_empty() {
            return;
        }
        let window = rules.window_of(BlindSpotKind::Silence);
        for (name, activity) in all.iter() {
            self.names.time = self.names.time.max(activity.last);
            if self.find(name).is_none() {
                self.displace(rules, out);
            }
            if let Some(cluster) = self.find(name) {
                cluster.take(activity, window);
            }
        }
        if !all.beyond().is_empty() {
            self.names.take(1);
        }
    }

    /// Lets time pass, in microseconds.
    pub(super) fn advance(&mut self, elapsed: i64) {
        for cluster in &mut self.clusters {
            cluster.advance(elapsed);
        }
        self.names.recent.advance(elapsed);
        if let Some(spot) = &mut self.names.open {
            spot.since_sent = spot.since_sent.saturating_add(elapsed);
        }
        self.is_due = true;
    }

    /// Judges the rules, once after time has passed. The findings are at most [`MAX_OPEN`] that
    /// open and as many that were open.
    pub(super) fn settle(&mut self, rules: &Rules, out: &mut Vec<Found>) {
        if !std::mem::take(&mut self.is_due) {
            return;
        }
        let mut room = MAX_OPEN.saturating_sub(self.open());
        for cluster in &mut self.clusters {
            for (place, rule) in &rules.0 {
                if rule.kind == BlindSpotKind::ClusterNames {
                    continue;
                }
                let verdict = cluster.judge(rule);
                let is_open = cluster.open.iter().any(|spot| spot.kind == rule.kind);
                if verdict.begins && !is_open && room == 0 {
                    self.names.take(1);
                    continue;
                }
                let found = cluster.follow(rule, &verdict);
                if let Some(draft) = found {
                    match draft.state {
                        FindingState::Opened => room -= 1,
                        FindingState::Closed => room += 1,
                        FindingState::Updated => {}
                    }
                    out.push((*place, Arc::clone(&cluster.name), draft));
                }
            }
        }
        for (place, rule) in &rules.0 {
            if rule.kind == BlindSpotKind::ClusterNames
                && let Some(draft) = self.names.follow(rule, self.clusters.len())
            {
                out.push((*place, Arc::from(""), draft));
            }
        }
        self.forget_silent(rules, out);
    }

    /// Closes all findings, because the process ends and forgets them.
    pub(super) fn drain(&mut self, rules: &Rules, out: &mut Vec<Found>) {
        for cluster in std::mem::take(&mut self.clusters) {
            close_all(*cluster, CloseReason::Shutdown, rules, out);
        }
    }

    /// Open findings of clusters.
    fn open(&self) -> usize {
        self.clusters.iter().map(|cluster| cluster.open.len()).sum()
    }

    /// A cluster; one that is not known is added if there is room.
    fn find(&mut self, name: &str) -> Option<&mut Cluster> {
        let is_last = self.clusters.get(self.cursor);
        if is_last.is_none_or(|last| last.name.as_ref() != name) {
            let at = self
                .clusters
                .binary_search_by(|cluster| cluster.name.as_ref().cmp(name));
            self.cursor = match at {
                Ok(at) => at,
                Err(_) if self.clusters.len() >= MAX_CLUSTERS => return None,
                Err(at) => {
                    self.clusters
                        .insert(at, Box::new(Cluster::new(Arc::from(name))));
                    at
                }
            };
        }
        self.clusters
            .get_mut(self.cursor)
            .map(|cluster| &mut **cluster)
    }

    /// Forgets the weakest cluster, without a blind spot and with the fewest events, in favour of
    /// another. So names that someone invents displace each other.
    fn displace(&mut self, rules: &Rules, out: &mut Vec<Found>) {
        let clusters = self.clusters.iter().enumerate();
        let weakest =
            clusters.min_by_key(|(_, cluster)| (!cluster.open.is_empty(), cluster.events));
        let Some((at, _)) = weakest else { return };
        let cluster = self.clusters.remove(at);
        self.names.take(1);
        self.names.last.truncate(NAMES - 1);
        self.names
            .last
            .insert(0, (Arc::clone(&cluster.name), cluster.events));
        close_all(*cluster, CloseReason::Evicted, rules, out);
    }

    fn forget_silent(&mut self, rules: &Rules, out: &mut Vec<Found>) {
        if self
            .clusters
            .iter()
            .all(|cluster| cluster.silent < FORGOTTEN)
        {
            return;
        }
        let all = std::mem::take(&mut self.clusters);
        let (kept, forgotten): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|cluster| cluster.silent < FORGOTTEN);
        self.clusters = kept;
        for cluster in forgotten {
            close_all(*cluster, CloseReason::Quiet, rules, out);
        }
    }
}

impl Names {
    fn take(&mut self, count: u64) {
        self.recent.add([count]);
        self.all = self.all.saturating_add(count);
    }

    fn follow(&mut self, rule: &Rule, clusters: usize) -> Option<Draft> {
        while self.recent.next_part(rule.window).is_some() {}
        let [recent] = self.recent.sums();
        let since = self.time.unwrap_or(BEGINNING);
        let verdict = Verdict {
            begins: recent > rule.above,
            ends: recent == 0,
            all: self.all,
            recent,
            since,
        };
        let next = Next::of(&mut self.open, &verdict, (rule.kind, self.opened))?;
        let mut finding = next.finding(since);
        let clusters = u32::try_from(clusters).map_or(f64::MAX, f64::from);
        finding.measures.insert("clusters".to_owned(), clusters);
        let members = self.last.iter().map(|(name, events)| Member {
            source: name.as_ref().to_owned(),
            count: *events,
            finding_id: String::new(),
        });
        finding.members = members.collect();
        finding.member_count = self.last.len() as u64;
        let opened = u64::from(next.state == FindingState::Opened);
        self.opened = self.opened.saturating_add(opened);
        if next.state == FindingState::Closed {
            self.last = Vec::new();
        }
        Some(next.draft(finding))
    }
}

impl Cluster {
    /// What becomes of the finding of a rule; `None` when nothing is sent.
    fn follow(&mut self, rule: &Rule, verdict: &Verdict) -> Option<Draft> {
        let at = self.open.iter().position(|spot| spot.kind == rule.kind);
        let mut open = at.map(|at| self.open.remove(at));
        let next = Next::of(&mut open, verdict, (rule.kind, self.opened));
        self.open.extend(open);
        self.open.sort_by_key(|spot| spot.kind);
        let next = next?;
        let finding = self.finding(&next);
        let opened = u64::from(next.state == FindingState::Opened);
        self.opened = self.opened.saturating_add(opened);
        if next.state == FindingState::Closed
            && rule.kind == BlindSpotKind::Flood
            && let Some(flood) = &mut self.flood
        {
            flood.forget();
        }
        Some(next.draft(finding))
    }

    fn finding(&self, next: &Next) -> Finding {
        let spot = &next.spot;
        let mut finding = next.finding(self.last);
        let mut measure = |name: &str, value: u64| {
            finding.measures.insert(name.to_owned(), float(value));
        };
        match spot.kind {
            BlindSpotKind::Silence => {
                measure("silent_seconds", spot.count);
                finding.count = 0;
                let silent = i64::try_from(spot.count).unwrap_or(i64::MAX);
                let end = spot.opening.plus(silent.saturating_mul(SECOND));
                finding.last_time = Some(end.max(Micros(0)).to_proto());
                finding.new = None;
            }
            BlindSpotKind::UnauthorizedOnly => {
                finding.count_by_code.insert("401".to_owned(), spot.count);
                let hours = self.refusals.length().max(0) / HOUR;
                measure("hours_without_403", hours.unsigned_abs());
                finding.last_time = Some(self.refusals.last.max(Micros(0)).to_proto());
            }
            BlindSpotKind::Truncation => {
                let [events, truncated] = self.cuts.sums();
                measure("cut_bytes", self.cut_bytes);
                let share = percent(truncated, events);
                finding
                    .measures
                    .insert("truncated_percent".to_owned(), share);
            }
            BlindSpotKind::ClockSkew => {
                let [events, late, ahead] = self.times.sums();
                measure("median_delay_seconds", self.median_delay());
                for (name, count) in [("late_percent", late), ("ahead_percent", ahead)] {
                    let share = percent(count, events);
                    finding.measures.insert(name.to_owned(), share);
                }
            }
            BlindSpotKind::Flood => {
                measure("evictions", spot.count);
                if let Some(flood) = &self.flood {
                    measure("evicted_hits_bound", flood.hits);
                    measure("evictions_in_window", flood.peak);
                    let members = flood.top().into_iter().map(|(network, count)| Member {
                        source: network.to_string(),
                        count,
                        finding_id: String::new(),
                    });
                    finding.members = members.collect();
                    finding.member_count = finding.members.len() as u64;
                }
            }
            BlindSpotKind::ClusterNames => {}
        }
        finding
    }
}

/// Closes all findings of a cluster that is forgotten.
fn close_all(mut cluster: Cluster, reason: CloseReason, rules: &Rules, out: &mut Vec<Found>) {
    for spot in std::mem::take(&mut cluster.open) {
        let rule = rules.0.iter().find(|(_, rule)| rule.kind == spot.kind);
        let Some((place, _)) = rule else { continue };
        let next = Next {
            state: FindingState::Closed,
            reason: Some(reason),
            grown: 0,
            spot,
        };
        let finding = cluster.finding(&next);
        out.push((*place, Arc::clone(&cluster.name), next.draft(finding)));
    }
}

/// The next state of a finding.
#[derive(Clone, Copy)]
struct Next {
    state: FindingState,
    reason: Option<CloseReason>,
    /// What was counted since it was sent.
    grown: u64,
    spot: Spot,
}

impl Next {
    /// What follows from a verdict for a blind spot that is open or not; of one that opens, its kind
    /// and its number.
    fn of(
        open: &mut Option<Spot>,
        verdict: &Verdict,
        (kind, number): (BlindSpotKind, u64),
    ) -> Option<Self> {
        let Some(spot) = open else {
            if !verdict.begins {
                return None;
            }
            let spot = *open.insert(Spot {
                kind,
                opening: verdict.since,
                number,
                base: verdict.all.saturating_sub(verdict.recent),
                count: verdict.recent,
                sent: verdict.recent,
                since_sent: 0,
            });
            return Some(Self {
                state: FindingState::Opened,
                reason: None,
                grown: 0,
                spot,
            });
        };
        spot.count = spot.count.max(verdict.all.saturating_sub(spot.base));
        let grown = spot.count.saturating_sub(spot.sent);
        let interval = match kind {
            BlindSpotKind::Silence | BlindSpotKind::UnauthorizedOnly => DAY,
            _ => HOUR,
        };
        let is_due = spot.count >= spot.sent.max(1).saturating_mul(2)
            || grown > 0 && spot.since_sent >= interval;
        if !verdict.ends && !is_due {
            return None;
        }
        (spot.sent, spot.since_sent) = (spot.count, 0);
        let mut next = Self {
            state: FindingState::Updated,
            reason: None,
            grown,
            spot: *spot,
        };
        if verdict.ends {
            (next.state, next.reason) = (FindingState::Closed, Some(CloseReason::Quiet));
            *open = None;
        }
        Some(next)
    }

    fn finding(&self, last: Micros) -> Finding {
        let time = |time: Micros| Some(time.max(Micros(0)).to_proto());
        let reason = self.reason.map(CloseReason::as_str);
        Finding {
            count: self.spot.count,
            first_time: time(self.spot.opening),
            last_time: time(last.max(self.spot.opening)),
            close_reason: reason.unwrap_or_default().to_owned(),
            new: (self.grown > 0).then(|| New {
                count: self.grown,
                ..New::default()
            }),
            ..Finding::default()
        }
    }

    /// The finding as it leaves. Its id follows from its rule, its cluster, the time at which it
    /// begins and its number.
    fn draft(self, evidence: Finding) -> Draft {
        let number = u128::from(self.spot.number) << u64::BITS;
        Draft {
            state: self.state,
            origin: Origin::Session {
                key: Arc::from("[]"),
                opening: (self.spot.opening, Identity(number.to_be_bytes())),
                alert_at: self.spot.opening.max(Micros(0)),
                continues: None,
            },
            evidence,
        }
    }
}

fn percent(part: u64, all: u64) -> f64 {
    float(part.saturating_mul(100)) / float(all.max(1))
}

/// A count as a measure.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts stay below 2^53, and a measure is for people"
)]
fn float(count: u64) -> f64 {
    count as f64
}
