//! A finding that may still grow: what it holds, and which states of it leave.
//!
//! A finding that is 24 hours old rolls over: requests from then on belong to the finding that
//! continues it, whatever the order in which they arrive. Both are open until the watermark has
//! passed that time.

use super::{
    pace::{Due, Sent, Verdict},
    params::{Params, Transition},
};
use crate::{
    detection::{
        dedup::DedupSet,
        evidence::{Evidence, Paths},
        finding::{CloseReason, Finding, FindingState, New},
        heap,
        hit::Place,
        hits::{Few, Kept},
        packed::{Fields, Packed},
        threshold::first_above,
        time::{BEGINNING, Micros},
    },
    rules::{
        model::{Aggregate, Dedup, Emit},
        settings::SECOND,
    },
};

/// Of the hits before an alert, when distinct values are counted: this many are kept at most.
/// Any number of hits with the values of one window may lie there.
pub(super) const MOST_BEFORE: usize = 1024;
/// Labels that a state names as new, at most.
const MOST_NEW_LABELS: usize = 10;
/// Event time from the alert of a finding on which another one continues it, in microseconds.
pub(super) const LONGEST: i64 = 24 * 3600 * SECOND;

/// A finding that may still grow.
#[derive(Clone, Debug)]
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
    /// What the last state of it was decided by.
    pub(in crate::detection) sent: Sent,
    /// Whether anything has changed since.
    pub(in crate::detection) is_changed: bool,
    /// Whether it was closed; it stays, for a backlog may show that more belongs to it.
    pub(in crate::detection) is_closed: bool,
    /// The hit that opened the finding which this one continues.
    pub(in crate::detection) continues: Option<Place>,
    /// From this time on hits belong to `continued`, once there is one.
    pub(in crate::detection) rolls_at: Option<Micros>,
    /// The finding that continues this one, while both are open.
    pub(in crate::detection) continued: Option<Box<Open>>,
    /// Requests that the key may have made before and that were forgotten when it opened.
    pub(in crate::detection) count_error: u64,
    /// Deliveries of requests that were counted before.
    pub(in crate::detection) duplicates: u64,
    /// How bad it is by now; `None` when that has to be looked at anew.
    pub(super) verdict: Option<Verdict>,
}

/// A state of a finding that is to be emitted.
#[derive(Clone, Copy)]
pub(super) struct State {
    name: Name,
    /// The closing watermark by now.
    at: Micros,
    /// Why it is due, if it has grown.
    due: Option<Due>,
}

/// What becomes of a finding; the first state of it says besides that it is opened.
#[derive(Clone, Copy)]
enum Name {
    Grown,
    Closed(CloseReason),
}

impl State {
    /// It has opened, or grown.
    pub(super) fn grown(at: Micros, due: Option<Due>) -> Self {
        let name = Name::Grown;
        Self { name, at, due }
    }

    /// It is over.
    pub(super) fn closed(reason: CloseReason, at: Micros) -> Self {
        let name = Name::Closed(reason);
        Self {
            name,
            at,
            due: None,
        }
    }
}

impl PartialEq for Open {
    /// By what shapes what comes of it: a verdict follows from the evidence.
    fn eq(&self, other: &Self) -> bool {
        let key = |open: &Self| {
            (
                (open.opening, open.alert_at, open.last, open.joined),
                (open.sent, open.is_changed, open.is_closed),
                (open.continues, open.rolls_at),
                (open.count_error, open.duplicates),
            )
        };
        key(self) == key(other)
            && self.evidence == other.evidence
            && self.before == other.before
            && self.continued == other.continued
    }
}

impl Eq for Open {}

impl Open {
    /// A finding without hits.
    pub(super) fn new(opening: Place, alert_at: Micros, joined: Micros) -> Self {
        Self {
            opening,
            alert_at,
            evidence: Evidence::new(Paths::WithoutQuery),
            before: Few::default(),
            last: alert_at,
            joined,
            sent: Sent::default(),
            is_changed: false,
            is_closed: false,
            continues: None,
            rolls_at: None,
            continued: None,
            count_error: 0,
            duplicates: 0,
            verdict: None,
        }
    }

    /// Requests of it and of the one that continues it.
    pub(in crate::detection) fn requests(&self) -> u64 {
        let continued = self.continued.as_ref();
        self.evidence.count + continued.map_or(0, |open| open.requests())
    }

    /// Whether a hit of this time joins it: less than a window behind its last one, or earlier.
    pub(super) fn is_joined_by(&self, time: Micros, params: &Params<'_>) -> bool {
        time < self.latest().plus(params.window)
    }

    /// A finding as it was stored.
    pub(in crate::detection) fn stored(opening: Place, evidence: Evidence) -> Self {
        Self {
            evidence,
            ..Self::new(opening, BEGINNING, BEGINNING)
        }
    }

    /// All of it as sent, when the closing watermark was that of its last hit.
    pub(in crate::detection) fn as_sent(&self, count: u64) -> Sent {
        let mut sent = Sent::default();
        let marks = self.evidence.marks();
        sent.send(self.joined, &marks, &Verdict::default(), None);
        Sent { count, ..sent }
    }

    /// Bytes on the heap, with its own.
    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        let continued = self.continued.as_ref();
        heap::block(size_of::<Self>())
            + self.before.heap_bytes()
            + self.evidence.heap_bytes()
            + continued.map_or(0, |open| open.heap_bytes())
    }

    /// Time of the last hit of it and of the one that continues it.
    pub(super) fn latest(&self) -> Micros {
        let continued = self.continued.as_ref();
        continued.map_or(self.last, |open| open.latest())
    }

    /// From this time on hits belong to the finding that continues it.
    pub(super) fn rolls_at(&self) -> Micros {
        self.rolls_at.unwrap_or(self.alert_at.plus(LONGEST))
    }

    /// When something is due, as a closing watermark: a state, the close after a window without
    /// hits, or the roll-over. A finding that grows by late hits is always behind; it gets a window
    /// from the last of them, so that it does not close and reopen with each.
    pub(in crate::detection) fn due_at(&self, params: &Params<'_>) -> Option<Micros> {
        if self.is_closed {
            return None;
        }
        let update = self.update(params).map(|(at, _)| at);
        let continued = self.continued.as_ref();
        let continued = continued.and_then(|open| open.due_at(params));
        let close = Some(self.closes_at(params));
        [update, continued, close].into_iter().flatten().min()
    }

    /// When a state of it is due that says what has changed.
    pub(super) fn news_at(&self, params: &Params<'_>) -> Option<Micros> {
        if self.is_closed {
            return None;
        }
        let continued = self.continued.as_ref();
        let continued = continued.and_then(|open| open.news_at(params));
        let own = self.update(params).map(|(at, _)| at);
        own.into_iter().chain(continued).min()
    }

    /// When it closes, as things are.
    pub(super) fn closes_at(&self, params: &Params<'_>) -> Micros {
        if self.continued.is_some() {
            return self.rolls_at();
        }
        let last = self.last.plus(params.window);
        last.max(self.joined.plus(params.window))
    }

    /// When a state that says what has changed is due, and why.
    fn update(&self, params: &Params<'_>) -> Option<(Micros, Due)> {
        if self.sent.count == 0 {
            return Some((self.joined, Due::Doubled));
        }
        let marks = self.evidence.marks();
        let current = self.verdict.filter(|verdict| verdict.is_current(&marks));
        let judge = || Verdict::of(&self.evidence, params.detection).0;
        let verdict = current.unwrap_or_else(judge);
        self.sent.due(&marks, &verdict, self.is_changed)
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
    pub(super) fn emit(&mut self, state: State, params: &Params<'_>, out: &mut Vec<Transition>) {
        let State { name, at, due } = state;
        let (verdict, assessment) = Verdict::of(&self.evidence, params.detection);
        let (marks, before) = (self.evidence.marks(), self.sent);
        let state = if before.count == 0 {
            FindingState::Opened
        } else {
            match name {
                Name::Grown => FindingState::Updated,
                Name::Closed(_) => FindingState::Closed,
            }
        };
        self.verdict = Some(verdict);
        self.sent.send(at, &marks, &verdict, due);
        self.is_changed = false;
        if params.emit == Emit::Each && state != FindingState::Opened {
            return;
        }
        let mut finding = Finding::default();
        self.evidence.write(&mut finding, params.limits);
        let mut new = self.evidence.send(params.limits);
        if state != FindingState::Opened {
            new.count = marks.count - before.count;
            new.successes = marks.successes - before.successes;
            let labels = verdict.labels.iter();
            let labels = labels.filter(|place| !before.labels.contains(*place));
            let labels = labels.filter_map(|place| params.detection.labels.get(place));
            new.labels = labels.map(|label| label.name.clone()).collect();
            new.labels.sort_unstable();
            new.labels.truncate(MOST_NEW_LABELS);
            if let Some(severity) = before
                .severity
                .filter(|_| before.severity != verdict.severity)
            {
                severity.as_str().clone_into(&mut new.severity_before);
            }
            finding.new = Some(new).filter(|new| *new != New::default());
        }
        if let Some(judged) = assessment {
            judged.severity.as_str().clone_into(&mut finding.severity);
            finding.risk_score = judged.severity.score();
            finding.labels = judged.labels;
            finding.severity_reasons = judged.reasons;
        }
        finding.count_error = self.count_error;
        finding.duplicates = self.duplicates;
        if let (Name::Closed(reason), FindingState::Closed) = (name, state) {
            reason.as_str().clone_into(&mut finding.close_reason);
        }
        out.push(Transition {
            state,
            opening: self.opening,
            alert_at: self.alert_at,
            continues: self.continues,
            evidence: finding,
        });
        // Of a finding that was never sent both states are.
        if let (Name::Closed(_), FindingState::Opened) = (name, state) {
            self.emit(
                State {
                    name,
                    at,
                    due: None,
                },
                params,
                out,
            );
        }
    }

    /// Emits that it is closed, and so is the one that continues it.
    pub(super) fn close(
        &mut self,
        reason: CloseReason,
        at: Micros,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) {
        let own = match &self.continued {
            Some(_) => CloseReason::RolledOver,
            None => reason,
        };
        self.emit(State::closed(own, at), params, out);
        self.is_closed = true;
        if let Some(continued) = &mut self.continued {
            continued.close(reason, at, params, out);
        }
    }

    /// Does one thing that is due by this closing watermark; false when it is to be closed, or
    /// nothing is due. It is done as of the time at which it was due, whenever that is noticed.
    pub(super) fn settle(
        &mut self,
        by: Micros,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) -> bool {
        let closes_at = self.closes_at(params);
        if closes_at > by {
            return self.emit_due(by, None, params, out);
        }
        let Some(continued) = self.continued.take() else {
            return false;
        };
        let rolled_over = State::closed(CloseReason::RolledOver, closes_at);
        self.emit(rolled_over, params, out);
        *self = *continued;
        true
    }

    /// Notes that the closing watermark has stepped back to where it is by now, as it does when
    /// hits come in behind what ticks had made of it.
    pub(super) fn step_back(&mut self, at: Micros) {
        self.sent.at = self.sent.at.min(at);
        if let Some(continued) = &mut self.continued {
            continued.step_back(at);
        }
    }

    /// Takes a hit that is less than a window behind the last one, or before it.
    pub(super) fn join(
        &mut self,
        place: Place,
        fields: &Fields<'_>,
        (horizon, joined): (&mut Micros, Micros),
        params: &Params<'_>,
    ) {
        let (time, _) = place;
        if time >= self.rolls_at() {
            self.rolls_at = Some(self.rolls_at());
            let opening = self.opening;
            let continued = self.continued.get_or_insert_with(|| {
                let mut continued = Self::new(place, time, joined);
                continued.continues = Some(opening);
                Box::new(continued)
            });
            continued.join(place, fields, (horizon, joined), params);
            return;
        }
        self.joined = joined;
        if self.continues.is_some() {
            // Whatever is before it belongs to the finding that it continues, or is too late for
            // that.
            self.alert_at = self.alert_at.min(time);
        }
        let is_member = time > self.alert_at.minus(params.window);
        if is_member {
            self.evidence.add(fields, place, 1, params.limits);
            self.last = self.last.max(time);
            self.is_changed = true;
            self.judge(params);
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

    /// Counts a delivery of a request that was counted before.
    pub(super) fn count_duplicate(&mut self, time: Micros) {
        match &mut self.continued {
            Some(continued) if self.rolls_at.is_some_and(|at| time >= at) => {
                continued.count_duplicate(time);
            }
            _ => self.duplicates += 1,
        }
    }

    /// Takes a request that succeeded, while the finding is open. It emits at once, and later when
    /// successes have doubled.
    pub(super) fn succeed(&mut self, place: Place, fields: &Fields<'_>, params: &Params<'_>) {
        if place.0 >= self.rolls_at()
            && let Some(continued) = &mut self.continued
        {
            continued.succeed(place, fields, params);
            return;
        }
        self.evidence.add_success(fields, place);
        self.is_changed = true;
        self.judge(params);
    }

    /// Looks anew at how bad it is, if that may have changed.
    pub(super) fn judge(&mut self, params: &Params<'_>) {
        let marks = self.evidence.marks();
        if self
            .verdict
            .is_none_or(|verdict| !verdict.is_current(&marks))
        {
            self.verdict = Some(Verdict::of(&self.evidence, params.detection).0);
        }
    }

    /// Emits what has come of a hit that joined, if it is due: one state at most.
    pub(super) fn emit_growth(
        &mut self,
        at: Micros,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) {
        if self.is_closed {
            if self.is_changed {
                self.is_closed = false;
                self.emit(State::grown(at, None), params, out);
                return;
            }
            // It was closed before the one that continues it began.
            if let Some(continued) = self.continued.take() {
                *self = *continued;
            }
        }
        self.emit_due(at, Some(at), params, out);
    }

    /// Emits one state that is due by this closing watermark, at a time or when it was due; whether
    /// there was one.
    pub(super) fn emit_due(
        &mut self,
        by: Micros,
        at: Option<Micros>,
        params: &Params<'_>,
        out: &mut Vec<Transition>,
    ) -> bool {
        if let Some((time, due)) = self.update(params).filter(|(time, _)| *time <= by) {
            let at = at.unwrap_or(time.max(self.joined));
            self.emit(State::grown(at, Some(due)), params, out);
            return true;
        }
        let continued = self.continued.as_mut();
        continued.is_some_and(|open| open.emit_due(by, at, params, out))
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
        self.judge(params);
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
    if forgotten.until > open.latest().minus(params.retention) {
        open.evidence.unverified += forgotten.requests;
    }
    *horizon = (*horizon).max(forgotten.until);
}
