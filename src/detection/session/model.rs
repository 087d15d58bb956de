//! A model of one key: the same rules over plain sorted lists of whole hits, with linear searches.
//! It is slow and large, and easy to see through; [`super::Key`] has to emit the same.

mod life;
mod states;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        dedup::DedupSet,
        event_time::EventTime,
        evidence::Evidence,
        finding::{CloseReason, Finding, Severity},
        hit::{Hit, Identity},
        packed::Fields,
        threshold::value,
        time::{BEGINNING, Micros},
    },
    Disposition, Params, Transition,
};
use crate::rules::{model::Aggregate, settings::SECOND};

/// What is emitted.
pub(super) type Emit<'s> = &'s mut Vec<Transition>;

/// From the alert on, a finding takes hits for this long.
const DAY: i64 = 24 * 3600 * SECOND;

/// A hit with its time made certain.
#[derive(Clone, Debug)]
pub(super) struct TimedHit {
    pub(super) time: Micros,
    pub(super) hit: Hit,
}

impl TimedHit {
    pub(super) fn place(&self) -> (Micros, Identity) {
        (self.time, self.hit.identity)
    }
}

/// State of one key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Hits that belong to no finding, by time and identity.
    pub(super) unassigned: Hits,
    /// Requests that are remembered besides the unassigned ones.
    dedup: DedupSet,
    open: Option<Box<Open>>,
    /// The finding of a later scan, while the first may still grow.
    next: Option<Box<Open>>,
    /// What happened up to here may have been forgotten.
    horizon: Micros,
    /// Time of the latest hit.
    last: Micros,
    /// Where the cluster was when the last hit arrived.
    arrival: EventTime,
}

/// A finding in the making.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// Time and identity of the hit that opened it: what its id is made of.
    pub(super) opening: (Micros, Identity),
    /// Time of the first hit, in order of event time, that takes a window above the threshold.
    pub(super) alert_at: Micros,
    pub(super) evidence: Evidence,
    /// Hits up to `alert_at`, members or not: a late hit may move it back.
    before: Hits,
    /// Time of its last hit.
    last: Micros,
    /// The closing watermark when a hit last joined.
    joined: Micros,
    /// What was shown, once it was.
    shown: Option<Shown>,
    /// Whether anything has changed since.
    is_changed: bool,
    /// Whether it was closed; it stays, for a backlog may show that more belongs to it.
    is_closed: bool,
    /// The opening hit of the finding before it, of which this is the next day.
    continues: Option<(Micros, Identity)>,
    /// When that next day begins, once there is one.
    ends_at: Option<Micros>,
    next_day: Option<Box<Open>>,
    /// Requests that may have been forgotten when it opened.
    error: u64,
    /// Deliveries of requests that were counted before.
    duplicates: u64,
}

/// What states of a finding have shown.
#[derive(Clone, Debug)]
struct Shown {
    last: Finding,
    severity: Option<Severity>,
    greatest: Option<Severity>,
    labels: BTreeSet<String>,
    /// All values that any state has shown, by list.
    values: BTreeMap<&'static str, BTreeSet<String>>,
    at: Micros,
    interval: i64,
}

/// The lists in which a state names what is new.
fn lists(finding: &Finding) -> [(&'static str, &Vec<String>); 5] {
    [
        ("paths", &finding.paths),
        ("user_agents", &finding.user_agents),
        ("verbs", &finding.verbs),
        ("codes", &finding.codes),
        ("users", &finding.users),
    ]
}

fn writes(finding: &Finding) -> BTreeSet<&String> {
    let verbs = finding.verbs.iter();
    verbs
        .filter(|verb| {
            ["create", "update", "patch", "delete", "deletecollection"].contains(&verb.as_str())
        })
        .collect()
}

impl Key {
    /// A key without hits, in a place where what happened up to `horizon` may have been forgotten.
    pub(super) fn new(horizon: Micros) -> Self {
        Self {
            unassigned: Hits::default(),
            dedup: DedupSet::default(),
            open: None,
            next: None,
            horizon,
            last: BEGINNING,
            arrival: EventTime::default(),
        }
    }

    /// Hits that are in no finding.
    pub(super) fn hits_at_hand(&self, params: &Params<'_>) -> u64 {
        (self.unassigned.len() as u64).min(params.threshold + 1)
    }

    /// Requests of open findings, else the hits at hand.
    pub(super) fn strength(&self, params: &Params<'_>) -> u64 {
        let findings = [&self.open, &self.next].into_iter().flatten();
        let found = findings.filter(|open| !open.is_closed);
        let found: u64 = found.map(|open| open.requests()).sum();
        found.max(self.hits_at_hand(params))
    }

    /// When something is due: of the first finding a state or its end, of the next a state.
    pub(super) fn due_at(&self, params: &Params<'_>) -> Option<Micros> {
        let first = self.open.as_ref().and_then(|open| open.due_at(params));
        let next = self.next.as_ref().and_then(|next| next.state_at(params));
        [first, next].into_iter().flatten().min()
    }

    /// Greatest event time of the cluster at which the key may be forgotten: no hit on time can
    /// meet its hits then, and late ones have had their time.
    pub(super) fn expires_at(&self, params: &Params<'_>) -> Micros {
        self.arrival.max.plus(params.retention)
    }

    /// Takes a hit, of which this many before it may have been forgotten. It is late when the
    /// watermark had passed it before it arrived.
    pub(super) fn observe(
        &mut self,
        (hit, error): (TimedHit, u64),
        arrival: EventTime,
        params: &Params<'_>,
        emit: Emit<'_>,
    ) -> Disposition {
        let (time, identity) = hit.place();
        if self.is_known(identity) {
            if let Some(open) = self.joined(time, params) {
                open.part(time).duplicates += 1;
            }
            return Disposition::Duplicate;
        }
        if time < arrival.watermark && !self.is_exact(time, params) {
            return Disposition::TooLate;
        }
        self.last = self.last.max(time);
        self.arrival = arrival;
        let at = arrival.closing_watermark;
        for open in self.findings() {
            open.step_back(at);
        }
        self.forget(self.last.minus(params.retention));
        let of = [&mut self.open, &mut self.next].into_iter().flatten();
        let mut of = of.filter(|open| time < open.latest().plus(params.window));
        if let Some(open) = of.next() {
            drop(of);
            remember(&mut self.dedup, &mut self.horizon, open, &hit, params);
            open.join(hit, at, params);
            self.merge(params, emit);
            self.emit_growth(params, emit);
            return Disposition::Counted;
        }
        drop(of);
        if self.open.as_ref().is_some_and(|open| open.is_closed) {
            self.finalize();
        }
        self.unassigned.insert(hit);
        let is_over = self.unassigned.len() > params.limits.hits_per_key;
        if is_over {
            self.forget_first(1);
        }
        self.open_if_due(Some(((time, identity), error)), params, emit);
        if is_over {
            Disposition::Overflow
        } else {
            Disposition::Counted
        }
    }

    /// Takes a request that succeeded: of the finding that a hit of its time belongs to, else of
    /// the last one.
    pub(super) fn succeed(
        &mut self,
        hit: &TimedHit,
        at: Micros,
        params: &Params<'_>,
        emit: Emit<'_>,
    ) -> Disposition {
        if self.is_known(hit.hit.identity) {
            return Disposition::Duplicate;
        }
        let is_open = |open: &Option<Box<Open>>| open.as_ref().is_some_and(|open| !open.is_closed);
        let is_near = self
            .open
            .as_ref()
            .is_some_and(|open| hit.time < open.latest().plus(params.window));
        let of = if is_open(&self.next) && !(is_open(&self.open) && is_near) {
            &mut self.next
        } else if is_open(&self.open) {
            &mut self.open
        } else {
            &mut None
        };
        let Some(open) = of else {
            return Disposition::TooLate;
        };
        open.step_back(at);
        remember(&mut self.dedup, &mut self.horizon, open, hit, params);
        let part = open.part(hit.time);
        part.evidence
            .add_success(&Fields::of(&hit.hit), hit.place());
        part.is_changed = true;
        open.emit_growth(at, params, emit);
        Disposition::Counted
    }

    fn is_known(&self, identity: Identity) -> bool {
        let mut unassigned = self.unassigned.iter();
        unassigned.any(|hit| hit.hit.identity == identity) || self.dedup.contains(identity)
    }

    fn findings(&mut self) -> impl Iterator<Item = &mut Box<Open>> {
        [&mut self.open, &mut self.next].into_iter().flatten()
    }

    /// Does one thing that is due.
    pub(super) fn settle(&mut self, watermark: Micros, params: &Params<'_>, emit: Emit<'_>) {
        let is_due = |at: Option<Micros>| at.is_some_and(|at| at <= watermark);
        let Some(open) = &mut self.open else { return };
        if !is_due(open.due_at(params)) {
            if let Some(next) = &mut self.next
                && is_due(next.state_at(params))
            {
                assert!(next.emit_due(watermark, None, params, emit));
            }
        } else if let Some(next_day) = open
            .next_day
            .take_if(|_| open.ends_at.unwrap() <= watermark)
        {
            let ended = open.ends_at.unwrap();
            open.emit(Some(CloseReason::RolledOver), false, ended, (params, emit));
            self.open = Some(next_day);
        } else if open.next_day.is_none() && open.quiet_at(params) <= watermark {
            open.close(CloseReason::Quiet, open.quiet_at(params), params, emit);
            if self.next.is_some() || !self.unassigned.is_empty() {
                self.finalize();
                self.open_if_due(None, params, emit);
            }
        } else {
            assert!(open.emit_due(watermark, None, params, emit));
        }
    }

    /// Emits what is pending, because no further hit may arrive.
    pub(super) fn drain(&mut self, params: &Params<'_>, emit: Emit<'_>) {
        let at = self.arrival.closing_watermark;
        while let Some(open) = self.open.as_mut().filter(|open| !open.is_closed) {
            open.close(CloseReason::Shutdown, at, params, emit);
            if self.next.is_none() && first_above(&self.unassigned, params).is_none() {
                return;
            }
            // A scan that waits for the finding before it to close must not be lost.
            self.finalize();
            if self.open.is_none() {
                self.open_if_due(None, params, emit);
            }
        }
    }

    /// Emits what is pending, because the key is evicted.
    pub(super) fn evict(&mut self, params: &Params<'_>, emit: Emit<'_>) {
        let at = self.arrival.closing_watermark;
        for open in self.findings().filter(|open| !open.is_closed) {
            open.close(CloseReason::Evicted, at, params, emit);
        }
    }

    /// The finding that a hit of this time belongs to.
    fn joined(&mut self, time: Micros, params: &Params<'_>) -> Option<&mut Box<Open>> {
        let mut near = self
            .findings()
            .filter(|open| time < open.latest().plus(params.window));
        near.next()
    }

    /// Whether everything is still known that a hit of this time could have met.
    fn is_exact(&self, time: Micros, params: &Params<'_>) -> bool {
        let mut findings = [&self.open, &self.next].into_iter().flatten();
        let near = findings.find(|open| time < open.latest().plus(params.window));
        time.minus(params.window) >= self.horizon
            && near.is_none_or(|open| open.reaches_back_to(time, params))
    }

    fn forget(&mut self, until: Micros) {
        let forgotten = self
            .unassigned
            .partition_point(|unassigned| unassigned.time <= until);
        self.forget_first(forgotten);
        for open in [&mut self.open, &mut self.next].into_iter().flatten() {
            let forgotten = open.before.partition_point(|hit| hit.time <= until);
            if let Some(last) = open.before.take_first(forgotten).last() {
                self.horizon = self.horizon.max(last.time);
            }
        }
        self.horizon = self.horizon.max(self.dedup.forget(until));
    }

    fn forget_first(&mut self, count: usize) {
        if let Some(last) = self.unassigned.take_first(count).last() {
            self.horizon = self.horizon.max(last.time);
        }
    }

    /// The first finding is over for good.
    fn finalize(&mut self) {
        if let Some(open) = self.open.take() {
            self.horizon = self.horizon.max(open.latest());
        }
        self.open = self.next.take();
    }

    /// Opens a finding if one of the two places is free and a window of unassigned hits is above
    /// the threshold. `opening` is the hit that has just come, with its error.
    fn open_if_due(
        &mut self,
        opening: Option<((Micros, Identity), u64)>,
        params: &Params<'_>,
        emit: Emit<'_>,
    ) {
        if self.open.is_some() && self.next.is_some() {
            return;
        }
        let Some((first, alert)) = first_above(&self.unassigned, params) else {
            return;
        };
        let before = self.unassigned.take_first(alert + 1);
        let Some(alert) = before.last().map(TimedHit::place) else {
            return;
        };
        let (place, error) = opening.unwrap_or((alert, 0));
        let at = self.arrival.closing_watermark;
        let mut open = Box::new(Open {
            error,
            ..Open::new(place, alert.0, at)
        });
        for hit in &before {
            remember(&mut self.dedup, &mut self.horizon, &mut open, hit, params);
        }
        for member in before.iter().skip(first) {
            open.evidence
                .add(&Fields::of(&member.hit), member.place(), 1, params.limits);
        }
        open.before = Hits(before);
        open.emit(None, false, at, (params, emit));
        let free = if self.open.is_none() {
            &mut self.open
        } else {
            &mut self.next
        };
        *free = Some(open);
        self.merge(params, emit);
        if let Some(open) = self.next.as_mut().or(self.open.as_mut()) {
            open.emit_growth(at, params, emit);
        }
    }

    /// Says what has come of the hits that joined, if it is due, of one of its findings.
    fn emit_growth(&mut self, params: &Params<'_>, emit: Emit<'_>) {
        let at = self.arrival.closing_watermark;
        let sent = emit.len();
        for open in self.findings() {
            if emit.len() == sent {
                open.emit_growth(at, params, emit);
            }
        }
    }

    /// Lets the next finding and unassigned hits join the finding before them as far as its last
    /// hit has come near them.
    fn merge(&mut self, params: &Params<'_>, emit: Emit<'_>) {
        let at = self.arrival.closing_watermark;
        if let (Some(open), Some(next)) = (&mut self.open, &mut self.next) {
            let start = next.alert_at.minus(params.window);
            while let Some(hit) = next.before.first().cloned()
                && hit.time <= start
                && hit.time < open.latest().plus(params.window)
            {
                next.before.take_first(1);
                open.join(hit, at, params);
            }
            let first = next.evidence.first.unwrap();
            if first < open.latest().plus(params.window) {
                let mut next = self.next.take().unwrap();
                let last = open.last_day();
                let ends_at = last.ends_at.unwrap_or(last.alert_at.plus(DAY));
                if first >= ends_at {
                    // It is the next day of the first.
                    last.ends_at = Some(ends_at);
                    next.alert_at = first;
                    next.continues = Some(last.opening);
                    next.before = Hits::default();
                    last.next_day = Some(next);
                } else {
                    last.evidence.merge(&next.evidence, params.limits);
                    last.last = last.last.max(next.last);
                    last.joined = last.joined.max(next.joined);
                    last.duplicates += next.duplicates;
                    last.error = last.error.max(next.error);
                    last.is_changed = true;
                    if let Some(mut day) = next.next_day.take() {
                        day.continues = Some(last.opening);
                        last.ends_at = next.ends_at;
                        last.next_day = Some(day);
                    }
                    next.close(CloseReason::Merged, at, params, emit);
                }
            }
        }
        let Some(open) = self.next.as_mut().or(self.open.as_mut()) else {
            return;
        };
        let mut near = 0;
        let mut last = open.latest();
        while let Some(unassigned) = self.unassigned.get(near)
            && unassigned.time < last.plus(params.window)
        {
            last = last.max(unassigned.time);
            near += 1;
        }
        for hit in self.unassigned.take_first(near) {
            remember(&mut self.dedup, &mut self.horizon, open, &hit, params);
            open.join(hit, at, params);
        }
    }
}

/// Remembers a request that belongs to a finding, and what had to be forgotten for it.
fn remember(
    dedup: &mut DedupSet,
    horizon: &mut Micros,
    open: &mut Open,
    hit: &TimedHit,
    params: &Params<'_>,
) {
    let forgotten = dedup.insert(hit.hit.identity, hit.time, params.limits.hits_per_key);
    if forgotten.until > open.latest().minus(params.retention) {
        open.evidence.unverified += forgotten.requests;
    }
    *horizon = (*horizon).max(forgotten.until);
}

/// The first hit, in order of event time, that takes a window above the threshold: its index, and
/// that of the first hit in its window.
fn first_above(hits: &[TimedHit], params: &Params<'_>) -> Option<(usize, usize)> {
    let mut first = 0;
    let mut values: BTreeMap<u64, u64> = BTreeMap::new();
    for (at, hit) in hits.iter().enumerate() {
        *values.entry(value(hit.hit.identity)).or_default() += 1;
        // Two hits share a window when they differ by less than its length.
        while let Some(old) = hits.get(first)
            && old.time <= hit.time.minus(params.window)
        {
            let count = values.entry(value(old.hit.identity)).or_default();
            *count -= 1;
            if *count == 0 {
                values.remove(&value(old.hit.identity));
            }
            first += 1;
        }
        let counted = match params.aggregate {
            Aggregate::Events => at + 1 - first,
            Aggregate::Values => values.len(),
        };
        if counted as u64 > params.threshold {
            return Some((first, at));
        }
    }
    None
}

/// Hits by time and identity.
#[derive(Clone, Debug, Default)]
pub(super) struct Hits(Vec<TimedHit>);

impl std::ops::Deref for Hits {
    type Target = [TimedHit];

    fn deref(&self) -> &[TimedHit] {
        &self.0
    }
}

impl Hits {
    fn insert(&mut self, hit: TimedHit) {
        let at = self.0.partition_point(|other| other.place() < hit.place());
        self.0.insert(at, hit);
    }

    fn take_first(&mut self, count: usize) -> Vec<TimedHit> {
        let later = self.0.split_off(count.min(self.0.len()));
        std::mem::replace(&mut self.0, later)
    }

    fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }
}
