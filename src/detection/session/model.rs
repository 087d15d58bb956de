//! A model of one key: the same rules over plain sorted lists of whole hits, with linear searches.
//! It is slow and large, and easy to see through; [`super::Key`] has to emit the same.

use std::collections::BTreeMap;

use super::{
    super::{
        dedup::DedupSet,
        event_time::EventTime,
        evidence::Evidence,
        hit::{Hit, Identity},
        packed::Fields,
        threshold::value,
        time::{BEGINNING, Micros},
    },
    CloseReason, Disposition, FindingState, Params,
};
use crate::rules::model::Aggregate;

/// Takes each new state of a finding.
pub(super) type Emit<'s> = &'s mut dyn FnMut(FindingState, &Open);

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
    /// Count when it was last sent.
    sent: u64,
    /// Whether anything has changed since.
    is_changed: bool,
    /// Whether it was closed; it stays, for a backlog may show that more belongs to it.
    is_closed: bool,
    /// Deliveries of requests that were counted before.
    pub(super) duplicates: u64,
    /// Why it was closed.
    pub(super) reason: Option<CloseReason>,
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
        let found: u64 = found.map(|open| open.evidence.count).sum();
        found.max(self.hits_at_hand(params))
    }

    /// Time at which the finding closes, if one is open: a window after its last hit. A finding that
    /// grows by late hits is always behind; it stays open for a window after the last of them, so that
    /// it does not close and reopen with each.
    pub(super) fn closes_at(&self, params: &Params<'_>) -> Option<Micros> {
        let open = self.open.as_ref().filter(|open| !open.is_closed)?;
        Some(
            open.last
                .plus(params.window)
                .max(open.joined.plus(params.window)),
        )
    }

    /// Greatest event time of the cluster at which the key may be forgotten: no hit on time can
    /// meet its hits then, and late ones have had their time.
    pub(super) fn expires_at(&self, params: &Params<'_>) -> Micros {
        self.arrival.max.plus(params.retention)
    }

    /// The greatest number of emissions that `hits` further hits can cause.
    pub(super) fn bound(&self, hits: u64, params: &Params<'_>) -> u64 {
        let doublings = |from: u64, to: u64| u64::from((to / from.max(1)).max(1).ilog2());
        let count = self.unassigned.len() as u64 + hits;
        let grows = |open: &Option<Box<Open>>, more: u64| {
            open.as_ref().map_or(0, |open| {
                // A late hit may bring in unassigned ones, or earlier ones that were no members so
                // far.
                let outside = open.alert_at.minus(params.window);
                let earlier = open.before.partition_point(|hit| hit.time <= outside) as u64;
                u64::from(open.is_closed)
                    + doublings(open.sent, open.evidence.count + earlier + more)
            })
        };
        let next = self.next.as_ref();
        let later = next.map_or(0, |next| next.evidence.count + next.before.len() as u64);
        let mut due = grows(&self.open, count + later) + grows(&self.next, count);
        if count > params.threshold {
            due += 1 + doublings(params.threshold + 1, count);
        }
        if next.is_some() || (count > params.threshold && self.open.is_some()) {
            due += 1;
        }
        due.min(hits)
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
            if let Some(open) = self.joined(time, params) {
                open.duplicates += 1;
            }
            return Disposition::Duplicate;
        }
        if time < arrival.watermark && !self.is_exact(time, params) {
            return Disposition::TooLate;
        }
        self.last = self.last.max(time);
        self.arrival = arrival;
        self.forget(self.last.minus(params.retention));
        let is_near = |open: &Option<Box<Open>>| {
            open.as_ref()
                .is_some_and(|open| time < open.last.plus(params.window))
        };
        let of = if is_near(&self.open) {
            &mut self.open
        } else if is_near(&self.next) {
            &mut self.next
        } else {
            &mut None
        };
        if let Some(open) = of {
            remember(&mut self.dedup, &mut self.horizon, open, &hit, params);
            open.joined = arrival.closing_watermark;
            open.join(hit, params);
            if !self.merge(params, emit) {
                self.emit_growth(emit);
            }
            return Disposition::Counted;
        }
        if self.open.as_ref().is_some_and(|open| open.is_closed) {
            self.finalize();
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

    /// Closes the finding if its window has ended before the watermark. Unassigned hits behind it may
    /// then open the next.
    pub(super) fn close(&mut self, watermark: Micros, params: &Params<'_>, emit: Emit<'_>) {
        if self.closes_at(params).is_none_or(|at| at > watermark) {
            return;
        }
        let Some(open) = &mut self.open else { return };
        open.close(CloseReason::Quiet, emit);
        if self.next.is_some() || !self.unassigned.is_empty() {
            self.finalize();
        }
        if !self.unassigned.is_empty() {
            self.open_if_due(None, params, emit);
        }
    }

    /// Emits what is pending, because no further hit may arrive.
    pub(super) fn drain(&mut self, params: &Params<'_>, emit: Emit<'_>) {
        while let Some(open) = self.open.as_mut().filter(|open| !open.is_closed) {
            if open.is_changed {
                open.emit(FindingState::Updated, emit);
            }
            // A scan that waits for the findings before it to close must not be lost.
            self.open_if_due(None, params, emit);
            if self.next.is_none() {
                return;
            }
            self.finalize();
        }
    }

    /// The finding that a hit of this time belongs to.
    fn joined(&mut self, time: Micros, params: &Params<'_>) -> Option<&mut Box<Open>> {
        let findings = [&mut self.open, &mut self.next].into_iter().flatten();
        let mut near = findings.filter(|open| time < open.last.plus(params.window));
        near.next()
    }

    /// Whether everything is still known that a hit of this time could have met.
    fn is_exact(&self, time: Micros, params: &Params<'_>) -> bool {
        let mut findings = [&self.open, &self.next].into_iter().flatten();
        let near = findings.find(|open| time < open.last.plus(params.window));
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

    /// The finding is over for good.
    fn finalize(&mut self) {
        if let Some(open) = self.open.take() {
            self.horizon = self.horizon.max(open.last);
        }
        self.open = self.next.take();
    }

    /// Opens a finding if none is open and a window of unassigned hits is above the threshold.
    /// `opening` is the hit that has just come.
    fn open_if_due(
        &mut self,
        opening: Option<(Micros, Identity)>,
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
        let mut open = Box::new(Open {
            opening: opening.unwrap_or(alert),
            alert_at: alert.0,
            evidence: Evidence::default(),
            before: Hits::default(),
            last: alert.0,
            joined: self.arrival.closing_watermark,
            sent: 0,
            is_changed: false,
            is_closed: false,
            duplicates: 0,
            reason: None,
        });
        for hit in &before {
            remember(&mut self.dedup, &mut self.horizon, &mut open, hit, params);
        }
        for member in before.iter().skip(first) {
            open.evidence
                .add(&Fields::of(&member.hit), member.place(), 1, params.limits);
        }
        open.before = Hits(before);
        open.emit(FindingState::Opened, emit);
        if self.open.is_none() {
            self.open = Some(open);
        } else {
            self.next = Some(open);
        }
        self.merge(params, emit);
        // One hit emits at most once: what it changed besides is emitted with the next.
        if opening.is_none() {
            self.emit_growth(emit);
        }
    }

    /// Emits what has come of the hits that joined the first finding that has grown enough.
    fn emit_growth(&mut self, emit: Emit<'_>) {
        for open in [&mut self.open, &mut self.next].into_iter().flatten() {
            if open.emit_growth(emit) {
                return;
            }
        }
    }

    /// Lets the next finding and unassigned hits join the finding before them as far as its last hit
    /// has come near them; whether the next is merged.
    fn merge(&mut self, params: &Params<'_>, emit: Emit<'_>) -> bool {
        let mut is_merged = false;
        if let (Some(open), Some(next)) = (&mut self.open, &mut self.next) {
            let start = next.alert_at.minus(params.window);
            while let Some(hit) = next.before.first().cloned()
                && hit.time <= start
                && hit.time < open.last.plus(params.window)
            {
                next.before.take_first(1);
                open.join(hit, params);
            }
            if next.evidence.first.unwrap() < open.last.plus(params.window) {
                open.evidence.merge(&next.evidence, params.limits);
                open.last = open.last.max(next.last);
                open.joined = open.joined.max(next.joined);
                open.duplicates += next.duplicates;
                open.is_changed = true;
                next.close(CloseReason::Merged, emit);
                is_merged = true;
            }
        }
        if is_merged {
            self.next = None;
        }
        let Some(open) = self.next.as_mut().or(self.open.as_mut()) else {
            return is_merged;
        };
        let mut near = 0;
        let mut last = open.last;
        while let Some(unassigned) = self.unassigned.get(near)
            && unassigned.time < last.plus(params.window)
        {
            last = last.max(unassigned.time);
            near += 1;
        }
        for hit in self.unassigned.take_first(near) {
            remember(&mut self.dedup, &mut self.horizon, open, &hit, params);
            open.join(hit, params);
        }
        is_merged
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

    fn close(&mut self, reason: CloseReason, emit: Emit<'_>) {
        self.is_closed = true;
        self.reason = Some(reason);
        self.emit(FindingState::Closed, emit);
        self.reason = None;
    }

    fn emit(&mut self, state: FindingState, emit: Emit<'_>) {
        self.sent = self.evidence.count;
        self.is_changed = false;
        emit(state, self);
    }

    /// Takes a hit that is less than a window behind the last one, or before it.
    fn join(&mut self, hit: TimedHit, params: &Params<'_>) {
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

    /// Says what has come of the hits that joined, if it is due; whether it is.
    fn emit_growth(&mut self, emit: Emit<'_>) -> bool {
        let is_reopened = self.is_closed && self.is_changed;
        let is_due = is_reopened || self.evidence.count >= self.sent.saturating_mul(2);
        if is_due {
            self.is_closed &= !is_reopened;
            self.emit(FindingState::Updated, emit);
        }
        is_due
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
    if forgotten.until > open.last.minus(params.retention) {
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
