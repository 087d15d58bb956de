//! Session windows: the life of one key.
//!
//! A key holds the hits of the last window that belong to no finding yet (`unassigned`), and at
//! most two findings. The hit that takes a window of unassigned hits above the threshold opens
//! a finding with just the hits of that window; later hits join it as long as they are less than
//! a window behind its last one. Hits further ahead are a scan of their own: they open the next
//! finding. Until the first is closed, a late hit may still bridge the gap. Then the next is closed
//! as merged, and the first takes what it holds. The first closes when the watermark says that no
//! hit can join it, and the next takes its place.
//!
//! Time is event time. The set of hits decides, not their order, wherever lateness allows; only
//! *when* a finding opens, and hence its id, follows the order of arrival. That holds as long as
//! the lateness is shorter than the window, which the engine ensures.
//!
//! A key that never has a second hit is the usual one, and there may be a million of them: what
//! only others need is in `rest`.
//!
//! Invariants: while one of the two places is free, no window of unassigned hits is above the
//! threshold; hits of the first finding are earlier than those of the next, and these earlier than
//! unassigned ones; a request is among the unassigned hits or in the dedup set, never in both;
//! what was forgotten lies at or before `horizon`.

mod bound;
mod joining;
mod merging;
mod open;
mod pace;
mod params;
mod rest;

use super::{
    evidence_log::EvidenceLog,
    finding::CloseReason,
    hit::{Identity, Place},
    hits::{Kept, Slim, Unassigned},
    packed::{Brief, Fields},
    threshold::first_above,
    time::{BEGINNING, Micros},
};
use crate::rules::model::Dedup;

pub(super) use open::Open;
use open::{State, remember};
pub(super) use pace::Sent;
pub(super) use params::{Arrival, Disposition, Params, Sink, Transition};
pub(super) use rest::Rest;

/// State of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Hits that belong to no finding, by time and identity.
    pub(super) unassigned: Unassigned,
    /// Hits up to here may have been forgotten.
    pub(super) horizon: Micros,
    /// Greatest event time of the cluster when the last hit arrived.
    pub(super) max_event_time: Micros,
    pub(super) rest: Option<Box<Rest>>,
}

impl Key {
    /// A key without hits, of which those up to `horizon` may have been forgotten.
    pub(super) fn new(horizon: Micros) -> Self {
        Self {
            unassigned: Unassigned::default(),
            horizon,
            max_event_time: BEGINNING,
            rest: None,
        }
    }

    /// Time of the latest hit.
    pub(super) fn last(&self) -> Micros {
        let last = self.rest.as_ref().map_or(BEGINNING, |rest| rest.last);
        last.max(self.unassigned.last())
    }

    /// What only some keys have.
    fn rest(&mut self) -> &mut Rest {
        let last = self.last();
        self.rest.get_or_insert_with(|| {
            Box::new(Rest {
                last,
                ..Rest::default()
            })
        })
    }

    fn open(&self) -> Option<&Open> {
        self.rest.as_ref()?.open.as_deref()
    }

    fn next(&self) -> Option<&Open> {
        self.rest.as_ref()?.next.as_deref()
    }

    fn open_mut(&mut self) -> Option<&mut Open> {
        self.rest.as_mut()?.open.as_deref_mut()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.heap_bytes());
        self.unassigned.heap_bytes() + rest
    }

    /// Its strength against eviction: the requests of an open finding, else the hits at hand, at
    /// most one more than the threshold.
    pub(super) fn strength(&self, params: &Params<'_>) -> u64 {
        let open = self.rest.iter().flat_map(|rest| rest.findings());
        let open = open.filter(|open| !open.is_closed);
        let found = open.map(Open::requests).sum::<u64>();
        found.max(self.hits_at_hand(params))
    }

    /// Its hits that belong to no finding, at most one more than the threshold: what is lost with
    /// it.
    pub(super) fn hits_at_hand(&self, params: &Params<'_>) -> u64 {
        (self.unassigned.len() as u64).min(params.threshold.saturating_add(1))
    }

    /// When something is due for its findings, as a closing watermark: a state, or the close of
    /// the first. The next is not closed before it.
    pub(super) fn due_at(&self, params: &Params<'_>) -> Option<Micros> {
        let first = self.open().and_then(|open| open.due_at(params));
        let next = self.next().and_then(|next| next.news_at(params));
        first.into_iter().chain(next).min()
    }

    /// Greatest event time of the cluster at which the key may be forgotten: no hit on time can
    /// meet its hits then, and late ones have had their time.
    pub(super) fn expires_at(&self, params: &Params<'_>) -> Micros {
        self.max_event_time.plus(params.retention)
    }

    /// The closing watermark of the cluster when the last hit arrived.
    fn closing_watermark(&self, params: &Params<'_>) -> Micros {
        self.max_event_time.minus(params.lateness)
    }

    /// Takes a hit. It is late when the watermark had passed it before it arrived.
    pub(super) fn observe(
        &mut self,
        arrival: &Arrival<'_>,
        params: &Params<'_>,
        sink: &mut Sink<'_>,
    ) -> Disposition {
        let Arrival {
            place: (time, identity),
            fields,
            event_time,
            ..
        } = arrival;
        let (time, identity) = (*time, *identity);
        let is_distinct = arrival.is_distinct && params.dedup == Dedup::Request;
        if is_distinct && self.is_counted(identity) {
            self.count_duplicate(time, params);
            return Disposition::Duplicate;
        }
        if time < event_time.watermark && !self.is_exact(time, params) {
            return Disposition::TooLate;
        }
        let identity = if is_distinct {
            identity
        } else {
            self.distinct(identity)
        };
        let place = (time, identity);
        let last = self.last().max(time);
        if let Some(rest) = &mut self.rest {
            rest.last = last;
        }
        self.max_event_time = event_time.max;
        let at = event_time.closing_watermark;
        if let Some(rest) = &mut self.rest {
            for open in [&mut rest.open, &mut rest.next].into_iter().flatten() {
                open.step_back(at);
            }
        }
        self.forget(last.minus(params.retention), sink);
        if params.is_each_a_finding() {
            self.emit_match(place, fields, params, sink);
            return Disposition::Counted;
        }
        if self.join(place, fields, params, sink) {
            return Disposition::Counted;
        }
        self.keep(place, arrival, params, sink)
    }

    /// Lets a hit join the finding that it belongs to, if there is one.
    fn join(
        &mut self,
        place: Place,
        fields: &Fields<'_>,
        params: &Params<'_>,
        sink: &mut Sink<'_>,
    ) -> bool {
        let joined = self.closing_watermark(params);
        let Some(rest) = &mut self.rest else {
            return false;
        };
        let Rest {
            dedup, open, next, ..
        } = &mut **rest;
        let mut findings = [open, next].into_iter().flatten();
        let Some(open) = findings.find(|one| one.is_joined_by(place.0, params)) else {
            return false;
        };
        drop(findings);
        remember(dedup, &mut self.horizon, open, place, params);
        open.join(place, fields, (&mut self.horizon, joined), params);
        self.merge(params, sink);
        self.emit_growth(params, sink);
        true
    }

    /// Keeps a hit that belongs to no finding. It may open one.
    fn keep(
        &mut self,
        place: Place,
        arrival: &Arrival<'_>,
        params: &Params<'_>,
        sink: &mut Sink<'_>,
    ) -> Disposition {
        if self.open().is_some_and(|open| open.is_closed) {
            self.finalize();
        }
        let number = sink.log.push(arrival.fields.texts);
        let brief = Brief::new(&arrival.fields, number);
        let may_alert = self
            .unassigned
            .insert(Slim { place, brief }, &params.alert());
        let is_over = self.unassigned.len() > params.limits.hits_per_key;
        if is_over && let Some(first) = self.unassigned.pop_first() {
            let first = first.take(sink.log);
            self.horizon = self.horizon.max(first.time());
        }
        let is_unchecked = self.rest.as_ref().is_some_and(|rest| rest.is_unchecked);
        if (may_alert || is_unchecked)
            && self.has_room()
            && let Some(alert) = self.alert_near(place.0, is_unchecked, params)
        {
            self.open_with(alert, Some((place, arrival.error)), params, sink);
        }
        if let Some(rest) = &mut self.rest {
            rest.is_unchecked = false;
        }
        if is_over {
            Disposition::Overflow
        } else {
            Disposition::Counted
        }
    }

    /// Whether a finding can open.
    fn has_room(&self) -> bool {
        self.open().is_none() || self.next().is_none()
    }

    /// Takes a request that succeeded where it should not have: the finding says so at once.
    /// `TooLate` when no finding is open that could.
    pub(super) fn succeed(
        &mut self,
        arrival: &Arrival<'_>,
        params: &Params<'_>,
        sink: &mut Sink<'_>,
    ) -> Disposition {
        let ((time, identity), at) = (arrival.place, arrival.event_time.closing_watermark);
        if self.is_counted(identity) {
            return Disposition::Duplicate;
        }
        let Some(rest) = &mut self.rest else {
            return Disposition::TooLate;
        };
        let Rest {
            dedup, open, next, ..
        } = &mut **rest;
        let findings = [open, next].into_iter().flatten();
        let mut of = None;
        for open in findings.filter(|open| !open.is_closed) {
            // Of the last one if it is behind all: the scan may have ended with it.
            let is_joined = open.is_joined_by(time, params);
            of = Some(open);
            if is_joined {
                break;
            }
        }
        let Some(open) = of else {
            return Disposition::TooLate;
        };
        open.step_back(at);
        let place = (time, identity);
        remember(dedup, &mut self.horizon, open, place, params);
        open.succeed(place, &arrival.fields, params);
        open.emit_growth(at, params, sink.out);
        Disposition::Counted
    }

    /// Does one thing that is due by this closing watermark: a state of a finding, its roll-over,
    /// or the close of the first when no hit has joined it for a window. The next takes its place,
    /// or unassigned hits behind it may open one.
    pub(super) fn settle(
        &mut self,
        closing_watermark: Micros,
        params: &Params<'_>,
        sink: &mut Sink<'_>,
    ) {
        if self.due_at(params).is_none_or(|at| at > closing_watermark) {
            return;
        }
        let Some(rest) = &mut self.rest else { return };
        let first = rest.open.as_deref_mut();
        let is_due = |open: &&mut Open| {
            open.due_at(params)
                .is_some_and(|at| at <= closing_watermark)
        };
        let Some(open) = first.filter(is_due) else {
            if let Some(next) = &mut rest.next {
                next.emit_due(closing_watermark, None, params, sink.out);
            }
            return;
        };
        if open.settle(closing_watermark, params, sink.out) {
            return;
        }
        let closes_at = open.closes_at(params);
        open.close(CloseReason::Quiet, closes_at, params, sink.out);
        if self.next().is_some() {
            self.finalize();
        }
        if !self.unassigned.is_empty() {
            if self.open().is_some_and(|open| open.is_closed) {
                self.finalize();
            }
            if let Some(alert) = self.first_alert(params) {
                self.open_with(alert, None, params, sink);
            }
        }
    }

    /// Closes what is open, because no more hits may come. A scan that waits for the finding
    /// before it to close must not be lost.
    pub(super) fn drain(&mut self, params: &Params<'_>, sink: &mut Sink<'_>) {
        loop {
            let at = self.closing_watermark(params);
            let Some(open) = self.open_mut().filter(|open| !open.is_closed) else {
                return;
            };
            open.close(CloseReason::Shutdown, at, params, sink.out);
            if self.next().is_some() {
                self.finalize();
            } else if let Some(alert) = self.first_alert(params) {
                self.finalize();
                self.open_with(alert, None, params, sink);
            } else {
                return;
            }
        }
    }

    /// Closes findings that are open, because their key is evicted.
    pub(super) fn evict(&mut self, params: &Params<'_>, sink: &mut Sink<'_>) {
        let at = self.closing_watermark(params);
        if let Some(rest) = &mut self.rest {
            for open in [&mut rest.open, &mut rest.next].into_iter().flatten() {
                if !open.is_closed {
                    open.close(CloseReason::Evicted, at, params, sink.out);
                }
            }
        }
        self.release(sink.log);
    }

    /// Gives up the texts of its hits, because it is forgotten.
    pub(super) fn release(&self, log: &mut EvidenceLog) {
        for hit in self.unassigned.iter() {
            drop(hit.take(log));
        }
    }

    /// Whether a request was counted before.
    fn is_counted(&self, identity: Identity) -> bool {
        let dedup = self.rest.as_ref().and_then(|rest| rest.dedup.as_deref());
        self.unassigned.contains(identity) || dedup.is_some_and(|set| set.contains(identity))
    }

    /// Counts a duplicate for the finding that its request belongs to.
    fn count_duplicate(&mut self, time: Micros, params: &Params<'_>) {
        if let Some(rest) = &mut self.rest {
            let findings = [&mut rest.open, &mut rest.next].into_iter().flatten();
            let mut of = findings.filter(|open| open.is_joined_by(time, params));
            if let Some(open) = of.next() {
                open.count_duplicate(time);
            }
        }
    }

    /// The identity by which a hit is kept where each delivery counts: no two are the same. The
    /// half that is the request's changes, the value stays.
    fn distinct(&mut self, Identity(mut bytes): Identity) -> Identity {
        if self.rest.is_none() && self.unassigned.is_empty() {
            return Identity(bytes);
        }
        let rest = self.rest();
        // The first has the number 0.
        rest.deliveries = rest.deliveries.wrapping_add(1);
        for (byte, of_number) in bytes.iter_mut().zip(rest.deliveries.to_be_bytes()) {
            *byte ^= of_number;
        }
        Identity(bytes)
    }

    /// Whether everything is still known that a hit of this time could have met.
    fn is_exact(&self, time: Micros, params: &Params<'_>) -> bool {
        if params.is_each_a_finding() {
            return time > self.horizon;
        }
        let mut findings = self.rest.iter().flat_map(|rest| rest.findings());
        let of = findings.find(|open| open.is_joined_by(time, params));
        time.minus(params.window) >= self.horizon
            && of.is_none_or(|open| open.reaches_back_to(time, params))
    }

    /// Forgets hits up to this time.
    fn forget(&mut self, until: Micros, sink: &mut Sink<'_>) {
        while let Some((time, _)) = self.unassigned.first()
            && time <= until
            && let Some(hit) = self.unassigned.pop_first()
        {
            drop(hit.take(sink.log));
            self.horizon = self.horizon.max(time);
        }
        let Some(rest) = &mut self.rest else { return };
        for open in [&mut rest.open, &mut rest.next].into_iter().flatten() {
            let forgotten = open.before.partition_point(|hit| hit.time() <= until);
            if let Some(last) = open.before.take_first(forgotten).last() {
                self.horizon = self.horizon.max(last.time());
            }
        }
        if let Some(set) = &mut rest.dedup {
            self.horizon = self.horizon.max(set.forget(until));
            if set.is_empty() {
                rest.dedup = None;
            }
        }
    }

    /// The first finding is over for good; the next takes its place.
    fn finalize(&mut self) {
        if let Some(rest) = &mut self.rest
            && let Some(open) = rest.open.take()
        {
            self.horizon = self.horizon.max(open.latest());
            rest.open = rest.next.take();
        }
    }

    /// The first hit that takes a window of unassigned hits above the threshold.
    fn first_alert(&self, params: &Params<'_>) -> Option<Place> {
        let alert = params.alert();
        first_above(self.unassigned.counted(&alert), &alert)
    }

    /// The same, when a hit of this time is the only one that can have made such a window: while
    /// a finding can open, all windows of unassigned hits are looked at as each hit comes.
    /// Where they were not, all are now.
    fn alert_near(&self, time: Micros, is_unchecked: bool, params: &Params<'_>) -> Option<Place> {
        if self.unassigned.len() as u64 <= params.threshold {
            return None;
        }
        if is_unchecked {
            return self.first_alert(params);
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
        sink: &mut Sink<'_>,
    ) {
        let at = self.closing_watermark(params);
        let mut open = Open::new(place, place.0, at);
        let mut horizon = self.horizon;
        let rest = self.rest();
        rest.last = rest.last.max(place.0);
        remember(&mut rest.dedup, &mut horizon, &mut open, place, params);
        self.horizon = horizon;
        open.evidence.add(fields, place, 1, params.limits);
        open.emit(State::grown(at, None), params, sink.out);
    }

    /// Opens a finding with the window of unassigned hits that ends with `alert`. `opening` is the
    /// hit that has just come, with the hits that may have been forgotten before it.
    fn open_with(
        &mut self,
        alert: Place,
        opening: Option<(Place, u64)>,
        params: &Params<'_>,
        sink: &mut Sink<'_>,
    ) {
        let (opening_hit, error) = opening.unwrap_or((alert, 0));
        let joined = self.closing_watermark(params);
        let mut open = Box::new(Open::new(opening_hit, alert.0, joined));
        open.count_error = error;
        let outside = alert.0.minus(params.window);
        self.rest();
        let Some(rest) = &mut self.rest else { return };
        while let Some(place) = self.unassigned.first()
            && place <= alert
            && let Some(hit) = self.unassigned.pop_first()
        {
            let hit = hit.take(sink.log);
            remember(&mut rest.dedup, &mut self.horizon, &mut open, place, params);
            if place.0 > outside {
                open.evidence
                    .add(&hit.packed.fields(), place, 1, params.limits);
            }
            open.before.push(hit);
        }
        open.before.strip_after(outside);
        open.bound_before(&mut self.horizon, params);
        self.unassigned.shrink();
        open.emit(State::grown(joined, None), params, sink.out);
        if rest.open.is_none() {
            rest.open = Some(open);
        } else {
            rest.next = Some(open);
        }
        self.merge(params, sink);
        let opened = self.rest.as_mut().and_then(|rest| rest.last_finding());
        if let Some(open) = opened {
            open.emit_growth(joined, params, sink.out);
        }
    }

    /// Emits what has come of the hits that joined its findings, if it is due: one state at most.
    fn emit_growth(&mut self, params: &Params<'_>, sink: &mut Sink<'_>) {
        let at = self.closing_watermark(params);
        let Some(rest) = &mut self.rest else { return };
        for open in [&mut rest.open, &mut rest.next].into_iter().flatten() {
            let sent = sink.out.len();
            open.emit_growth(at, params, sink.out);
            if sink.out.len() > sent {
                return;
            }
        }
    }

    /// Merges into each finding what its last hit has come near: the next finding into the first,
    /// unassigned hits into the one before them.
    fn merge(&mut self, params: &Params<'_>, sink: &mut Sink<'_>) {
        let at = self.closing_watermark(params);
        let Some(rest) = &mut self.rest else { return };
        let Rest {
            dedup,
            open,
            next,
            is_unchecked,
            ..
        } = &mut **rest;
        if let Some(open) = open.as_mut()
            && next.is_some()
        {
            let merged = open.take_from(next, (&mut self.horizon, at), params);
            if let Some(mut merged) = merged {
                merged.close(CloseReason::Merged, at, params, sink.out);
            }
            *is_unchecked |= next.is_none();
        }
        let Some(open) = next.as_deref_mut().or(open.as_deref_mut()) else {
            return;
        };
        while let Some(place) = self.unassigned.first()
            && open.is_joined_by(place.0, params)
            && let Some(hit) = self.unassigned.pop_first()
        {
            let Kept { packed, .. } = hit.take(sink.log);
            remember(dedup, &mut self.horizon, open, place, params);
            open.join(place, &packed.fields(), (&mut self.horizon, at), params);
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
