//! Session windows: the life of one key.
//!
//! A key holds the hits of the last window that belong to no finding yet (`unassigned`), and at
//! most one finding. The hit that takes a window of unassigned hits above the threshold opens a
//! finding with just the hits of that window; later hits join it as long as they are less than a
//! window behind its last one. A hit further ahead stays unassigned until the finding is closed,
//! because a late hit might still bridge the gap. The finding closes when the watermark says that
//! no hit can.
//!
//! Time is event time. The set of hits decides, not their order, wherever lateness allows; only
//! *when* a finding opens, and hence its id, follows the order of arrival. That holds as long as
//! the lateness is shorter than the window, which the engine ensures.
//!
//! Invariants: while no finding is open, no window of unassigned hits is above the threshold; a
//! request is among the unassigned hits or in the dedup set, never in both; what was forgotten
//! lies at or before `horizon`.

mod open;
mod pace;
mod params;

use super::{
    dedup::DedupSet,
    finding::CloseReason,
    heap,
    hit::{Identity, Place},
    hits::Unassigned,
    packed::Fields,
    threshold::first_above,
    time::{BEGINNING, Micros},
};
use crate::rules::model::Dedup;

pub(super) use open::Open;
use open::{State, remember};
use pace::FIRST_INTERVAL;
pub(super) use pace::Sent;
pub(super) use params::{Arrival, Disposition, Params, Transition};

/// State of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Hits that belong to no finding, by time and identity.
    pub(super) unassigned: Unassigned,
    /// Requests that are remembered besides those of unassigned hits.
    pub(super) dedup: Option<Box<DedupSet>>,
    pub(super) open: Option<Box<Open>>,
    /// Hits up to here may have been forgotten.
    pub(super) horizon: Micros,
    /// Time of the latest hit.
    pub(super) last: Micros,
    /// Greatest event time of the cluster when the last hit arrived.
    pub(super) max_event_time: Micros,
    /// The closing watermark of the cluster then.
    pub(super) closing_watermark: Micros,
    /// Hits so far, where each delivery of a request counts: it distinguishes them.
    pub(super) deliveries: u64,
}

impl Key {
    /// A key without hits, of which those up to `horizon` may have been forgotten.
    pub(super) fn new(horizon: Micros) -> Self {
        Self {
            unassigned: Unassigned::default(),
            dedup: None,
            open: None,
            horizon,
            last: BEGINNING,
            max_event_time: BEGINNING,
            closing_watermark: BEGINNING,
            deliveries: 0,
        }
    }

    /// Time of the latest hit.
    pub(super) fn last(&self) -> Micros {
        self.last
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.heap_bytes());
        let dedup = self.dedup.as_ref().map_or(0, |set| {
            heap::block(size_of::<DedupSet>()) + set.heap_bytes()
        });
        self.unassigned.heap_bytes() + dedup + open
    }

    /// Its hits at hand for the eviction priority; an open finding is above all others.
    pub(super) fn hits_at_hand(&self, params: &Params<'_>) -> u64 {
        match &self.open {
            Some(open) if !open.is_closed => u64::MAX,
            _ => (self.unassigned.len() as u64).min(params.threshold.saturating_add(1)),
        }
    }

    /// When something is due for its finding, as a closing watermark: a state, or its close.
    pub(super) fn due_at(&self, params: &Params<'_>) -> Option<Micros> {
        self.open.as_ref()?.due_at(params)
    }

    /// Greatest event time of the cluster at which the key may be forgotten: no hit on time can
    /// meet its hits then, and late ones have had their time.
    pub(super) fn expires_at(&self, params: &Params<'_>) -> Micros {
        self.max_event_time.plus(params.retention)
    }

    /// Most findings that this many further hits can cause, while the closing watermark moves on
    /// by at most `advance` microseconds, and whether successes are among the hits.
    pub(super) fn bound(
        &self,
        hits: u64,
        (advance, has_successes): (i64, bool),
        params: &Params<'_>,
    ) -> u64 {
        /// Severities above the least.
        const RISES: u64 = 4;
        if params.is_each_a_finding() {
            return hits;
        }
        let doublings = |from: u64, to: u64| u64::from((to / from.max(1)).max(1).ilog2());
        let count = self.unassigned.len() as u64 + hits;
        // Each further one needs a window without hits, or a day.
        let open = u64::from(self.open.is_some());
        let spans = (advance.max(0) / params.window.max(1)).unsigned_abs();
        let opens = count / params.threshold.saturating_add(1);
        let opens = opens.min(spans.saturating_add(1)) + 2 * open + spans.min(open * hits);
        if opens == 0 {
            return 0;
        }
        let (mut most, mut least) = (count, params.threshold.saturating_add(1));
        if let Some(open) = &self.open {
            // A late hit may bring in unassigned ones, or earlier ones that were no members so
            // far.
            most += open.evidence.count + open.before.len() as u64;
            least = 1;
        }
        let mut each = 1 + doublings(least, most);
        if has_successes {
            each += 1 + doublings(1, hits);
        }
        if has_successes || !params.detection.labels.is_empty() {
            each += RISES;
        }
        // What is new waits after each state, and a finding that is open may have waited already.
        let apart = (advance.max(0) / FIRST_INTERVAL).unsigned_abs();
        let news = Sent::most_news(opens, advance).min(apart + 2 * open);
        let all = opens.saturating_mul(each).saturating_add(news);
        // The hits up to the threshold cause nothing before a finding is open.
        let silent = params
            .threshold
            .saturating_sub(self.unassigned.len() as u64);
        let causing = if self.open.is_some() {
            hits
        } else {
            hits.saturating_sub(silent)
        };
        all.min(causing)
    }

    /// Takes a hit. It is late when the watermark had passed it before it arrived.
    pub(super) fn observe(
        &mut self,
        arrival: &Arrival<'_>,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) -> Disposition {
        let Arrival {
            place: (time, identity),
            fields,
            event_time,
        } = arrival;
        let (time, identity) = (*time, *identity);
        if params.dedup == Dedup::Request && self.is_counted(identity) {
            return Disposition::Duplicate;
        }
        if time < event_time.watermark && !self.is_exact(time, params) {
            return Disposition::TooLate;
        }
        let place = (time, self.distinct(identity, params));
        self.last = self.last.max(time);
        self.max_event_time = event_time.max;
        self.closing_watermark = event_time.closing_watermark;
        self.forget(self.last.minus(params.retention));
        if params.is_each_a_finding() {
            self.emit_match(place, fields, params, out);
            return Disposition::Counted;
        }
        if let Some(open) = &mut self.open {
            let at = event_time.closing_watermark;
            open.step_back(at);
            if time < open.latest().plus(params.window) {
                remember(&mut self.dedup, &mut self.horizon, open, place, params);
                open.join(place, fields, (&mut self.horizon, at), params);
                self.merge(params);
                if let Some(open) = &mut self.open {
                    open.emit_growth(at, params, out);
                }
                return Disposition::Counted;
            }
            if open.is_closed {
                self.finalize();
            }
        }
        let may_alert = self
            .unassigned
            .insert(place, fields, params.limits, &params.alert());
        let is_over = self.unassigned.len() > params.limits.hits_per_key;
        if is_over && let Some(first) = self.unassigned.pop_first() {
            self.horizon = self.horizon.max(first.time());
        }
        if may_alert
            && self.open.is_none()
            && let Some(alert) = self.alert_near(time, params)
        {
            self.open_with(alert, Some(place), params, out);
        }
        if is_over {
            Disposition::Overflow
        } else {
            Disposition::Counted
        }
    }

    /// Takes a request that succeeded where it should not have: the finding says so at once.
    /// `TooLate` when no finding is open that could.
    pub(super) fn succeed(
        &mut self,
        arrival: &Arrival<'_>,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) -> Disposition {
        let ((time, identity), at) = (arrival.place, arrival.event_time.closing_watermark);
        if self.is_counted(identity) {
            return Disposition::Duplicate;
        }
        let Some(open) = self.open.as_mut().filter(|open| !open.is_closed) else {
            return Disposition::TooLate;
        };
        open.step_back(at);
        let place = (time, identity);
        remember(&mut self.dedup, &mut self.horizon, open, place, params);
        open.succeed(place, &arrival.fields, params);
        open.emit_growth(at, params, out);
        Disposition::Counted
    }

    /// Does one thing that is due by this closing watermark: a state of the finding, its roll-over,
    /// or its close when no hit has joined it for a window. Unassigned hits behind it may then open
    /// the next.
    pub(super) fn settle(
        &mut self,
        closing_watermark: Micros,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) {
        if self.due_at(params).is_none_or(|at| at > closing_watermark) {
            return;
        }
        let Some(open) = &mut self.open else { return };
        if open.settle(closing_watermark, params, out) {
            return;
        }
        let closes_at = open.closes_at(params);
        open.close(CloseReason::Quiet, closes_at, params, out);
        if !self.unassigned.is_empty() {
            self.finalize();
            if let Some(alert) = self.first_alert(params) {
                self.open_with(alert, None, params, out);
            }
        }
    }

    /// Closes what is open, because no more hits may come. A scan that waits for the finding
    /// before it to close must not be lost.
    pub(super) fn drain(&mut self, params: &Params<'_>, out: &mut Vec<Transition>) {
        let at = self.closing_watermark;
        let is_open = |open: &&mut Box<Open>| !open.is_closed;
        if let Some(open) = self.open.as_mut().filter(is_open) {
            open.close(CloseReason::Shutdown, at, params, out);
            if let Some(alert) = self.first_alert(params) {
                self.finalize();
                self.open_with(alert, None, params, out);
                if let Some(open) = self.open.as_mut().filter(is_open) {
                    open.close(CloseReason::Shutdown, at, params, out);
                }
            }
        }
    }

    /// Closes a finding that is open, because its key is evicted.
    pub(super) fn evict(&mut self, params: &Params<'_>, out: &mut Vec<Transition>) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.is_closed) {
            open.close(CloseReason::Evicted, self.closing_watermark, params, out);
        }
    }

    /// Whether a request was counted before.
    fn is_counted(&self, identity: Identity) -> bool {
        let is_member = |set: &DedupSet| set.contains(identity);
        self.unassigned.contains(identity) || self.dedup.as_deref().is_some_and(is_member)
    }

    /// The identity by which a hit is kept: where each delivery counts, no two are the same. The
    /// half that is the request's changes, the value stays.
    fn distinct(&mut self, Identity(mut bytes): Identity, params: &Params<'_>) -> Identity {
        if params.dedup == Dedup::None {
            let number = self.deliveries.to_be_bytes();
            self.deliveries = self.deliveries.wrapping_add(1);
            for (byte, of_number) in bytes.iter_mut().zip(number) {
                *byte ^= of_number;
            }
        }
        Identity(bytes)
    }

    /// Whether everything is still known that a hit of this time could have met.
    fn is_exact(&self, time: Micros, params: &Params<'_>) -> bool {
        if params.is_each_a_finding() {
            return time > self.horizon;
        }
        time.minus(params.window) >= self.horizon
            && self
                .open
                .as_ref()
                .is_none_or(|open| open.reaches_back_to(time, params))
    }

    /// Forgets hits up to this time.
    fn forget(&mut self, until: Micros) {
        while let Some((time, _)) = self.unassigned.first()
            && time <= until
            && self.unassigned.pop_first().is_some()
        {
            self.horizon = self.horizon.max(time);
        }
        if let Some(open) = &mut self.open {
            let forgotten = open.before.partition_point(|hit| hit.time() <= until);
            if let Some(last) = open.before.take_first(forgotten).last() {
                self.horizon = self.horizon.max(last.time());
            }
        }
        if let Some(set) = &mut self.dedup {
            self.horizon = self.horizon.max(set.forget(until));
            if set.is_empty() {
                self.dedup = None;
            }
        }
    }

    /// The finding is over for good.
    fn finalize(&mut self) {
        if let Some(open) = self.open.take() {
            self.horizon = self.horizon.max(open.latest());
        }
    }

    /// The first hit that takes a window of unassigned hits above the threshold.
    fn first_alert(&self, params: &Params<'_>) -> Option<Place> {
        let alert = params.alert();
        first_above(self.unassigned.counted(&alert), &alert)
    }

    /// The same, when a hit of this time is the only one that can have made such a window: while
    /// no finding is open, all windows of unassigned hits are looked at as each hit comes.
    fn alert_near(&self, time: Micros, params: &Params<'_>) -> Option<Place> {
        if self.unassigned.len() as u64 <= params.threshold {
            return None;
        }
        let alert = params.alert();
        let (after, before) = (time.minus(params.window), time.plus(params.window));
        first_above(
            self.unassigned.counted_between(after, before, &alert),
            &alert,
        )
    }

    /// Emits a match that is a finding of its own.
    fn emit_match(
        &mut self,
        place: Place,
        fields: &Fields<'_>,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) {
        let mut open = Open::new(place, place.0, self.closing_watermark);
        remember(&mut self.dedup, &mut self.horizon, &mut open, place, params);
        open.evidence.add(fields, place, 1, params.limits);
        let at = self.closing_watermark;
        open.emit(State::grown(at, None), params, out);
    }

    /// Opens a finding with the window of unassigned hits that ends with `alert`. `opening` is the
    /// hit that has just come.
    fn open_with(
        &mut self,
        alert: Place,
        opening: Option<Place>,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) {
        let opening_hit = opening.unwrap_or(alert);
        let mut open = Box::new(Open::new(opening_hit, alert.0, self.closing_watermark));
        let outside = alert.0.minus(params.window);
        while let Some(place) = self.unassigned.first()
            && place <= alert
            && let Some(hit) = self.unassigned.pop_first()
        {
            remember(&mut self.dedup, &mut self.horizon, &mut open, place, params);
            if place.0 > outside {
                open.evidence
                    .add(&hit.packed.fields(), place, 1, params.limits);
            }
            open.before.push(hit);
        }
        open.before.strip_after(outside);
        open.bound_before(&mut self.horizon, params);
        self.unassigned.shrink();
        let at = self.closing_watermark;
        open.emit(State::grown(at, None), params, out);
        self.open = Some(open);
        self.merge(params);
        // One hit causes one state at most: what came with it is sent with the next.
        if let (Some(open), None) = (&mut self.open, opening) {
            open.emit_growth(at, params, out);
        }
    }

    /// Merges unassigned hits into the finding as far as its last hit has come near them.
    fn merge(&mut self, params: &Params<'_>) {
        let at = self.closing_watermark;
        let Some(open) = &mut self.open else { return };
        while let Some(place) = self.unassigned.first()
            && place.0 < open.latest().plus(params.window)
            && let Some(hit) = self.unassigned.pop_first()
        {
            remember(&mut self.dedup, &mut self.horizon, open, place, params);
            let fields = hit.packed.fields();
            open.join(place, &fields, (&mut self.horizon, at), params);
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
