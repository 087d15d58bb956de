//! Which states of a finding the model emits, and what they say.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::super::{
        finding::{CloseReason, Finding, FindingState, New, Severity, assess},
        time::Micros,
    },
    Emit, Open, Params, SECOND, Shown, Transition, lists, writes,
};

impl Open {
    /// What a state would show by now.
    pub(super) fn content(
        &self,
        params: &Params<'_>,
    ) -> (Finding, Option<Severity>, BTreeSet<String>) {
        let mut finding = Finding::default();
        self.evidence.write(&mut finding, params.limits);
        finding.count_error = self.error;
        finding.duplicates = self.duplicates;
        let judged = assess::assess(params.detection, &self.evidence.seen());
        let level = params.detection.annotations.level.parse().ok();
        let severity = judged.as_ref().map(|judged| judged.severity).or(level);
        let mut labels = BTreeSet::new();
        if let Some(judged) = judged {
            labels = judged
                .labels
                .iter()
                .map(|label| label.name.clone())
                .collect();
            finding.severity = judged.severity.as_str().to_owned();
            finding.risk_score = judged.severity.score();
            finding.labels = judged.labels;
            finding.severity_reasons = judged.reasons;
        }
        (finding, severity, labels)
    }

    /// When a state is due, and whether the next one after it has to wait longer.
    pub(super) fn update_at(&self, params: &Params<'_>) -> Option<(Micros, bool)> {
        let Some(shown) = &self.shown else {
            return Some((self.joined, false));
        };
        let (now, severity, labels) = self.content(params);
        let before = &shown.last;
        let successes = (now.success_count, before.success_count);
        if severity > shown.greatest
            || now.count >= 2 * before.count
            || successes.0 > successes.1 && successes.0 >= 2 * successes.1
        {
            return Some((shown.at, false));
        }
        let agents = |finding: &Finding| finding.distinct.get("user_agents").copied();
        let is_news = now.count_by_code.len() > before.count_by_code.len()
            || writes(&now) != writes(before)
            || agents(&now) > agents(before)
            || severity != shown.severity
            || successes.0 > successes.1
            || !labels.is_subset(&shown.labels);
        if is_news {
            return Some((shown.at.plus(shown.interval), true));
        }
        self.is_changed
            .then(|| (shown.at.plus(3600 * SECOND), false))
    }

    pub(super) fn emit(
        &mut self,
        closed: Option<CloseReason>,
        is_news: bool,
        at: Micros,
        (params, emit): (&Params<'_>, Emit<'_>),
    ) {
        let (mut finding, severity, labels) = self.content(params);
        let interval = match &self.shown {
            Some(shown) if at.0 - shown.at.0 < 3600 * SECOND => {
                let longer = (2 * shown.interval).min(600 * SECOND);
                if is_news { longer } else { shown.interval }
            }
            _ => 10 * SECOND,
        };
        let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        if let Some(shown) = &self.shown {
            values.clone_from(&shown.values);
            let new = |list: usize| -> Vec<String> {
                let (name, list) = lists(&finding)[list];
                let is_new = |value: &&String| !shown.values[name].contains(*value);
                list.iter().filter(is_new).cloned().collect()
            };
            let new = New {
                paths: new(0),
                user_agents: new(1),
                verbs: new(2),
                codes: new(3),
                users: new(4),
                labels: labels.difference(&shown.labels).cloned().collect(),
                severity_before: shown
                    .severity
                    .filter(|_| shown.severity != severity)
                    .map_or("", Severity::as_str)
                    .to_owned(),
                count: finding.count - shown.last.count,
                successes: finding.success_count - shown.last.success_count,
            };
            finding.new = Some(new).filter(|new| *new != New::default());
        }
        for (name, list) in lists(&finding) {
            values.entry(name).or_default().extend(list.iter().cloned());
        }
        let state = match (&self.shown, closed) {
            (None, _) => FindingState::Opened,
            (_, None) => FindingState::Updated,
            (_, Some(reason)) => {
                finding.close_reason = reason.as_str().to_owned();
                FindingState::Closed
            }
        };
        let greatest = self.shown.as_ref().and_then(|shown| shown.greatest);
        self.shown = Some(Shown {
            last: finding.clone(),
            severity,
            greatest: severity.max(greatest),
            labels,
            values,
            at,
            interval,
        });
        self.is_changed = false;
        emit.push(Transition {
            state,
            opening: self.opening,
            alert_at: self.alert_at,
            continues: self.continues,
            evidence: finding,
        });
        if closed.is_some() && state == FindingState::Opened {
            self.emit(closed, false, at, (params, emit));
        }
    }

    pub(super) fn close(
        &mut self,
        reason: CloseReason,
        at: Micros,
        params: &Params<'_>,
        emit: Emit<'_>,
    ) {
        let next_day = self.next_day.as_ref();
        let own = next_day.map_or(reason, |_| CloseReason::RolledOver);
        self.emit(Some(own), false, at, (params, emit));
        self.is_closed = true;
        if let Some(next_day) = &mut self.next_day {
            next_day.close(reason, at, params, emit);
        }
    }
}
