//! A model of one key: the same rules over plain sorted lists of whole hits, with linear searches.
//! It is slow and large, and easy to see through; [`super::Key`] has to emit the same.

mod states;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        dedup::DedupSet,
        event_time::EventTime,
        evidence::{Evidence, Paths},
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
            horizon,
            last: BEGINNING,
            arrival: EventTime::default(),
        }
    }

    /// Eviction priority: the hits at hand; a key with an open finding ranks above all others.
    pub(super) fn hits_at_hand(&self, params: &Params<'_>) -> u64 {
        match &self.open {
            Some(open) if !open.is_closed => u64::MAX,
            _ => (self.unassigned.len() as u64).min(params.threshold + 1),
        }
    }

    /// When something is due.
    pub(super) fn due_at(&self, params: &Params<'_>) -> Option<Micros> {
        self.open.as_ref()?.due_at(params)
    }

    /// Greatest event time of the cluster at which the key may be forgotten: no hit on time can
    /// meet its hits then, and late ones have had their time.
    pub(super) fn expires_at(&self, params: &Params<'_>) -> Micros {
        self.arrival.max.plus(params.retention)
    }

    /// Takes a hit. It is late when the watermark had passed it before it arrived.
    pub(super) fn observe(
        &mut self,
        hit: TimedHit,
        arrival: EventTime,
        params: &Params<'_>,
        emit: Emit<'_>,
    ) -> Disposition {
        let (time, identity) = hit.place();
        let is_unassigned = self
            .unassigned
            .iter()
            .any(|unassigned| unassigned.hit.identity == identity);
        if is_unassigned || self.dedup.contains(identity) {
            return Disposition::Duplicate;
        }
        if time < arrival.watermark && !self.is_exact(time, params) {
            return Disposition::TooLate;
        }
        self.last = self.last.max(time);
        self.arrival = arrival;
        self.forget(self.last.minus(params.retention));
        if let Some(open) = &mut self.open {
            let at = arrival.closing_watermark;
            open.step_back(at);
            if time < open.latest().plus(params.window) {
                remember(&mut self.dedup, &mut self.horizon, open, &hit, params);
                open.join(hit, at, params);
                self.merge(params);
                if let Some(open) = &mut self.open {
                    open.emit_growth(at, params, emit);
                }
                return Disposition::Counted;
            }
            if open.is_closed {
                self.finalize();
            }
        }
        self.unassigned.insert(hit);
        let is_over = self.unassigned.len() > params.limits.hits_per_key;
        if is_over {
            self.forget_first(1);
        }
        self.open_if_due(Some((time, identity)), params, emit);
        if is_over {
            Disposition::Overflow
        } else {
            Disposition::Counted
        }
    }

    /// Does one thing that is due.
    pub(super) fn settle(&mut self, watermark: Micros, params: &Params<'_>, emit: Emit<'_>) {
        if self.due_at(params).is_none_or(|at| at > watermark) {
            return;
        }
        let Some(open) = &mut self.open else { return };
        if let Some(next_day) = open
            .next_day
            .take_if(|_| open.ends_at.unwrap() <= watermark)
        {
            open.emit(
                Some(CloseReason::RolledOver),
                false,
                watermark,
                (params, emit),
            );
            self.open = Some(next_day);
        } else if open.next_day.is_none() && open.quiet_at(params) <= watermark {
            open.close(CloseReason::Quiet, open.quiet_at(params), params, emit);
            if !self.unassigned.is_empty() {
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
        if let Some(open) = self.open.as_mut().filter(|open| !open.is_closed) {
            open.close(CloseReason::Shutdown, at, params, emit);
            // A scan that waits for the finding before it to close must not be lost.
            if first_above(&self.unassigned, params).is_some() {
                self.finalize();
                self.open_if_due(None, params, emit);
                if let Some(open) = self.open.as_mut() {
                    open.close(CloseReason::Shutdown, at, params, emit);
                }
            }
        }
    }

    /// Whether everything is still known that a hit of this time could have met.
    fn is_exact(&self, time: Micros, params: &Params<'_>) -> bool {
        time.minus(params.window) >= self.horizon
            && self
                .open
                .as_ref()
                .is_none_or(|open| open.reaches_back_to(time, params))
    }

    fn forget(&mut self, until: Micros) {
        let forgotten = self
            .unassigned
            .partition_point(|unassigned| unassigned.time <= until);
        self.forget_first(forgotten);
        if let Some(open) = &mut self.open {
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

    /// The finding is over for good.
    fn finalize(&mut self) {
        if let Some(open) = self.open.take() {
            self.horizon = self.horizon.max(open.latest());
        }
    }

    /// Opens a finding if none is open and a window of unassigned hits is above the threshold.
    /// `opening` is the hit that has just come.
    fn open_if_due(
        &mut self,
        opening: Option<(Micros, Identity)>,
        params: &Params<'_>,
        emit: Emit<'_>,
    ) {
        if self.open.is_some() {
            return;
        }
        let Some((first, alert)) = first_above(&self.unassigned, params) else {
            return;
        };
        let before = self.unassigned.take_first(alert + 1);
        let Some(alert) = before.last().map(TimedHit::place) else {
            return;
        };
        let mut open = Box::new(Open {
            opening: opening.unwrap_or(alert),
            alert_at: alert.0,
            evidence: Evidence::new(Paths::WithoutQuery),
            before: Hits::default(),
            last: alert.0,
            joined: self.arrival.closing_watermark,
            shown: None,
            is_changed: false,
            is_closed: false,
            continues: None,
            ends_at: None,
            next_day: None,
        });
        for hit in &before {
            remember(&mut self.dedup, &mut self.horizon, &mut open, hit, params);
        }
        for member in before.iter().skip(first) {
            open.evidence
                .add(&Fields::of(&member.hit), member.place(), 1, params.limits);
        }
        open.before = Hits(before);
        let at = self.arrival.closing_watermark;
        open.emit(None, false, at, (params, emit));
        self.open = Some(open);
        self.merge(params);
        // One hit emits at most once: what it changed besides is emitted with the next.
        if let (Some(open), None) = (&mut self.open, opening) {
            open.emit_growth(at, params, emit);
        }
    }

    /// Lets unassigned hits join the finding as far as its last hit has come near them.
    fn merge(&mut self, params: &Params<'_>) {
        let at = self.arrival.closing_watermark;
        let Some(open) = &mut self.open else { return };
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

impl Open {
    /// Whether a hit of this time belongs to this finding or to none: not to a scan of its own
    /// that would have come before.
    fn reaches_back_to(&self, time: Micros, params: &Params<'_>) -> bool {
        let start = self.alert_at.minus(params.window);
        let mut latest = time;
        for before in self.before.iter() {
            if before.time > latest && before.time < latest.plus(params.window) {
                latest = before.time;
            }
        }
        time > start || latest > start
    }

    fn latest(&self) -> Micros {
        self.next_day
            .as_ref()
            .map_or(self.last, |next| next.latest())
    }

    fn quiet_at(&self, params: &Params<'_>) -> Micros {
        self.last.max(self.joined).plus(params.window)
    }

    fn due_at(&self, params: &Params<'_>) -> Option<Micros> {
        if self.is_closed {
            return None;
        }
        let over = match &self.next_day {
            Some(_) => self.ends_at.unwrap(),
            None => self.quiet_at(params),
        };
        let mut all = vec![over];
        all.extend(self.update_at(params).map(|(at, _)| at));
        all.extend(self.next_day.as_ref().and_then(|next| next.due_at(params)));
        all.into_iter().min()
    }

    fn step_back(&mut self, at: Micros) {
        if let Some(shown) = &mut self.shown {
            shown.at = shown.at.min(at);
        }
        if let Some(next_day) = &mut self.next_day {
            next_day.step_back(at);
        }
    }

    /// Takes a hit that is less than a window behind the last one, or before it.
    fn join(&mut self, hit: TimedHit, at: Micros, params: &Params<'_>) {
        let ends_at = self.ends_at.unwrap_or(self.alert_at.plus(DAY));
        if hit.time >= ends_at {
            self.ends_at = Some(ends_at);
            let new = Self {
                opening: hit.place(),
                alert_at: hit.time,
                evidence: Evidence::new(Paths::WithoutQuery),
                before: Hits::default(),
                last: hit.time,
                joined: at,
                shown: None,
                is_changed: false,
                is_closed: false,
                continues: Some(self.opening),
                ends_at: None,
                next_day: None,
            };
            let next_day = self.next_day.get_or_insert(Box::new(new));
            next_day.join(hit, at, params);
            return;
        }
        self.joined = at;
        if self.continues.is_some() {
            self.alert_at = self.alert_at.min(hit.time);
        }
        if hit.time > self.alert_at.minus(params.window) {
            self.evidence
                .add(&Fields::of(&hit.hit), hit.place(), 1, params.limits);
            self.last = self.last.max(hit.time);
            self.is_changed = true;
        }
        if hit.time < self.alert_at && self.before.len() < params.limits.hits_per_key {
            self.before.insert(hit);
            self.correct(params);
        }
    }

    /// Says what has come of the hits that joined, if it is due.
    fn emit_growth(&mut self, at: Micros, params: &Params<'_>, emit: Emit<'_>) {
        if self.is_closed && self.is_changed {
            self.is_closed = false;
            self.emit(None, false, at, (params, emit));
            return;
        }
        if self.is_closed
            && let Some(next_day) = self.next_day.take()
        {
            *self = *next_day;
        }
        self.emit_due(at, Some(at), params, emit);
    }

    fn emit_due(
        &mut self,
        by: Micros,
        at: Option<Micros>,
        params: &Params<'_>,
        emit: Emit<'_>,
    ) -> bool {
        if let Some((due, is_news)) = self.update_at(params).filter(|(due, _)| *due <= by) {
            let at = at.unwrap_or(due.max(self.joined));
            self.emit(None, is_news, at, (params, emit));
            return true;
        }
        let next_day = self.next_day.as_mut();
        next_day.is_some_and(|next| next.emit_due(by, at, params, emit))
    }

    /// Moves `alert_at` back if a window before it is above the threshold by now.
    fn correct(&mut self, params: &Params<'_>) {
        let Some((first, alert)) = first_above(&self.before, params) else {
            return;
        };
        let Some(time) = self.before.get(alert).map(|hit| hit.time) else {
            return;
        };
        if time >= self.alert_at {
            return;
        }
        let outside = self.alert_at.minus(params.window);
        for member in self
            .before
            .iter()
            .skip(first)
            .take_while(|hit| hit.time <= outside)
        {
            self.evidence
                .add(&Fields::of(&member.hit), member.place(), 1, params.limits);
        }
        self.alert_at = time;
        self.before.truncate(alert + 1);
        self.is_changed = true;
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
