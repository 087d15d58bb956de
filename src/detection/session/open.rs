//! A finding that may still grow: what it holds, and when a state of it is due.

use super::params::{Params, Transition};
use crate::{
    detection::{
        dedup::DedupSet,
        evidence::Evidence,
        finding::{CloseReason, Finding, FindingState},
        hit::Place,
        hits::{Few, Kept},
        packed::{Fields, Packed},
        threshold::first_above,
        time::Micros,
    },
    rules::model::{Aggregate, Dedup, Emit},
};

/// Of the hits before an alert, when distinct values are counted: this many are kept at most.
/// Any number of hits with the values of one window may lie there.
pub(super) const MOST_BEFORE: usize = 1024;

/// A finding that may still grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Open {
    /// Time and identity of the hit that opened it: what its id is made of.
    pub(in crate::detection) opening: Place,
    /// Time of the first hit, in order of event time, that takes a window above the threshold.
    pub(in crate::detection) alert_at: Micros,
    pub(in crate::detection) evidence: Evidence,
    /// Hits up to `alert_at`, members or not: a late hit may move it back. Each window of them
    /// but the last is below the threshold, so they are few. Members are without their texts.
    pub(in crate::detection) before: Few,
    /// Time of its last hit.
    pub(in crate::detection) last: Micros,
    /// The closing watermark of the cluster when a hit last joined.
    pub(in crate::detection) joined: Micros,
    /// Count when it was last sent.
    pub(in crate::detection) sent: u64,
    /// Whether anything has changed since.
    pub(in crate::detection) is_changed: bool,
    /// Whether it was closed; it stays, for a backlog may show that more belongs to it.
    pub(in crate::detection) is_closed: bool,
    /// Requests that the key may have made before and that were forgotten when it opened.
    pub(in crate::detection) count_error: u64,
    /// Deliveries of requests that were counted before.
    pub(in crate::detection) duplicates: u64,
}

impl Open {
    /// A finding without hits.
    pub(super) fn new(opening: Place, alert_at: Micros, joined: Micros) -> Self {
        Self {
            opening,
            alert_at,
            evidence: Evidence::default(),
            before: Few::default(),
            last: alert_at,
            joined,
            sent: 0,
            is_changed: false,
            is_closed: false,
            count_error: 0,
            duplicates: 0,
        }
    }

    /// Whether a hit of this time joins it: less than a window behind its last one, or earlier.
    pub(super) fn is_joined_by(&self, time: Micros, params: &Params<'_>) -> bool {
        time < self.last.plus(params.window)
    }

    /// Most states that it can still cause when it comes to this many requests.
    pub(super) fn bound(&self, more: u64, params: &Params<'_>) -> u64 {
        // A late hit may bring in earlier ones that were no members so far.
        let outside = self.alert_at.minus(params.window);
        let earlier = self.before.partition_point(|hit| hit.time() <= outside) as u64;
        let most = self.evidence.count + earlier + more;
        u64::from(self.is_closed) + doublings(self.sent, most)
    }

    /// Closes it for this reason.
    pub(super) fn close(
        &mut self,
        reason: CloseReason,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) {
        let sent = out.len();
        self.is_closed = true;
        self.emit(FindingState::Closed, params, out);
        if let Some(closed) = out.get_mut(sent) {
            reason
                .as_str()
                .clone_into(&mut closed.evidence.close_reason);
        }
    }

    /// Whether a hit of this time belongs to this finding or to none: not to a scan of its own
    /// that would have come before.
    pub(super) fn reaches_back_to(&self, time: Micros, params: &Params<'_>) -> bool {
        let start = self.alert_at.minus(params.window);
        let mut latest = time;
        let later = self.before.partition_point(|hit| hit.time() <= time);
        for before in self.before.iter().skip(later) {
            if latest > start || before.time() >= latest.plus(params.window) {
                break;
            }
            latest = before.time();
        }
        latest > start
    }

    /// Emits this state of the finding. One that is emitted once is emitted when it opens.
    pub(super) fn emit(
        &mut self,
        state: FindingState,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) {
        self.sent = self.evidence.count;
        self.is_changed = false;
        if params.emit == Emit::Each && state != FindingState::Opened {
            return;
        }
        let mut evidence = Finding::default();
        self.evidence.write(&mut evidence);
        evidence.count_error = self.count_error;
        evidence.duplicates = self.duplicates;
        out.push(Transition {
            state,
            opening: self.opening,
            alert_at: self.alert_at,
            evidence,
        });
    }

    /// Takes a hit that is less than a window behind the last one, or before it.
    pub(super) fn join(
        &mut self,
        place: Place,
        fields: &Fields<'_>,
        horizon: &mut Micros,
        params: &Params<'_>,
    ) {
        let (time, _) = place;
        let is_member = time > self.alert_at.minus(params.window);
        if is_member {
            self.evidence.add(fields, place, 1, params.limits);
            self.last = self.last.max(time);
            self.is_changed = true;
        }
        if time < self.alert_at && self.before.len() < params.limits.hits_per_key {
            let packed = if is_member {
                Packed::bare(fields)
            } else {
                Packed::of(fields)
            };
            self.before.insert(Kept { place, packed });
            self.correct(params);
            self.bound_before(horizon, params);
        }
    }

    /// Takes over the hits of the next finding that its last hit has come near; whether those were
    /// all, so that the two are one.
    pub(super) fn take_from(
        &mut self,
        next: &mut Self,
        horizon: &mut Micros,
        params: &Params<'_>,
    ) -> bool {
        let outside = next.alert_at.minus(params.window);
        // Hits before the window of the alert are in order, and no members.
        while let Some(hit) = next.before.first()
            && hit.time() <= outside
            && self.is_joined_by(hit.time(), params)
        {
            for hit in next.before.take_first(1) {
                self.join(hit.place, &hit.packed.fields(), horizon, params);
            }
        }
        let first = next.evidence.first.unwrap_or(next.alert_at);
        if !self.is_joined_by(first, params) {
            return false;
        }
        self.evidence.merge(&next.evidence, params.limits);
        self.last = self.last.max(next.last);
        self.joined = self.joined.max(next.joined);
        self.duplicates += next.duplicates;
        self.is_changed = true;
        true
    }

    /// Emits what has come of the hits that joined, if it is due.
    pub(super) fn emit_growth(&mut self, params: &Params<'_>, out: &mut Vec<Transition>) {
        if self.is_closed && self.is_changed {
            self.is_closed = false;
            self.emit(FindingState::Updated, params, out);
        } else if self.evidence.count >= self.sent.saturating_mul(2) {
            self.emit(FindingState::Updated, params, out);
        }
    }

    /// Moves `alert_at` back if a window before it is above the threshold by now.
    pub(super) fn correct(&mut self, params: &Params<'_>) {
        let places = self.before.iter().map(|hit| hit.place);
        let Some(alert) = first_above(places, &params.alert()) else {
            return;
        };
        let (time, _) = alert;
        if time >= self.alert_at {
            return;
        }
        let first = time.minus(params.window);
        let outside = self.alert_at.minus(params.window);
        let members = self.before.iter();
        for member in members.filter(|hit| hit.time() > first && hit.time() <= outside) {
            self.evidence
                .add(&member.packed.fields(), member.place, 1, params.limits);
        }
        self.alert_at = time;
        let kept = self.before.partition_point(|hit| hit.place <= alert);
        self.before.truncate(kept);
        self.before.strip_after(first);
        self.is_changed = true;
    }

    /// Forgets the earliest of very many hits before the alert. Late hits near them are too late
    /// then.
    pub(super) fn bound_before(&mut self, horizon: &mut Micros, params: &Params<'_>) {
        let excess = self.before.len().saturating_sub(MOST_BEFORE);
        if params.aggregate == Aggregate::Values
            && excess > 0
            && let Some(last) = self.before.take_first(excess).last()
        {
            *horizon = (*horizon).max(last.time());
        }
    }
}

/// How often a number doubles until it is another one.
pub(super) fn doublings(from: u64, to: u64) -> u64 {
    u64::from((to / from.max(1)).max(1).ilog2())
}

/// Remembers a request that belongs to a finding, and what had to be forgotten for it.
pub(super) fn remember(
    dedup: &mut Option<Box<DedupSet>>,
    horizon: &mut Micros,
    open: &mut Open,
    (time, identity): Place,
    params: &Params<'_>,
) {
    if params.dedup == Dedup::None {
        return;
    }
    let set = dedup.get_or_insert_default();
    let forgotten = set.insert(identity, time, params.limits.hits_per_key);
    if forgotten.until > open.last.minus(params.retention) {
        open.evidence.unverified += forgotten.requests;
    }
    *horizon = (*horizon).max(forgotten.until);
}
