//! How a finding of the model grows.

use super::{
    super::super::{
        evidence::{Evidence, Paths},
        hit::Identity,
        packed::Fields,
        time::Micros,
    },
    DAY, Emit, Hits, Open, Params, TimedHit, first_above,
};

impl Open {
    /// A finding without hits.
    pub(super) fn new(opening: (Micros, Identity), alert_at: Micros, joined: Micros) -> Self {
        Self {
            opening,
            alert_at,
            evidence: Evidence::new(Paths::WithoutQuery),
            before: Hits::default(),
            last: alert_at,
            joined,
            shown: None,
            is_changed: false,
            is_closed: false,
            continues: None,
            ends_at: None,
            next_day: None,
            error: 0,
            duplicates: 0,
        }
    }

    pub(super) fn requests(&self) -> u64 {
        let next = self.next_day.as_ref();
        self.evidence.count + next.map_or(0, |next| next.requests())
    }

    /// The day that a request of this time belongs to.
    pub(super) fn part(&mut self, time: Micros) -> &mut Self {
        if self.next_day.is_none() || time < self.ends_at.unwrap() {
            return self;
        }
        self.next_day.as_mut().unwrap().part(time)
    }

    pub(super) fn last_day(&mut self) -> &mut Self {
        self.part(Micros(i64::MAX))
    }

    /// When a state is due that says what is new.
    pub(super) fn state_at(&self, params: &Params<'_>) -> Option<Micros> {
        let own = self.update_at(params).map(|(at, _)| at);
        let next = self.next_day.as_ref();
        let next = next.and_then(|next| next.state_at(params));
        [own, next].into_iter().flatten().min()
    }

    /// Whether a hit of this time belongs to this finding or to none: not to a scan of its own
    /// that would have come before.
    pub(super) fn reaches_back_to(&self, time: Micros, params: &Params<'_>) -> bool {
        let start = self.alert_at.minus(params.window);
        let mut latest = time;
        for before in self.before.iter() {
            if before.time > latest && before.time < latest.plus(params.window) {
                latest = before.time;
            }
        }
        time > start || latest > start
    }

    pub(super) fn latest(&self) -> Micros {
        self.next_day
            .as_ref()
            .map_or(self.last, |next| next.latest())
    }

    pub(super) fn quiet_at(&self, params: &Params<'_>) -> Micros {
        self.last.max(self.joined).plus(params.window)
    }

    pub(super) fn due_at(&self, params: &Params<'_>) -> Option<Micros> {
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

    pub(super) fn step_back(&mut self, at: Micros) {
        if let Some(shown) = &mut self.shown {
            shown.at = shown.at.min(at);
        }
        if let Some(next_day) = &mut self.next_day {
            next_day.step_back(at);
        }
    }

    /// Takes a hit that is less than a window behind the last one, or before it.
    pub(super) fn join(&mut self, hit: TimedHit, at: Micros, params: &Params<'_>) {
        let ends_at = self.ends_at.unwrap_or(self.alert_at.plus(DAY));
        if hit.time >= ends_at {
            self.ends_at = Some(ends_at);
            let new = Self {
                continues: Some(self.opening),
                ..Self::new(hit.place(), hit.time, at)
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
    pub(super) fn emit_growth(&mut self, at: Micros, params: &Params<'_>, emit: Emit<'_>) {
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

    pub(super) fn emit_due(
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
    pub(super) fn correct(&mut self, params: &Params<'_>) {
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
