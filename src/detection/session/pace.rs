//! When a state of a finding is due: what the last one was decided by, and what is new since.
//!
//! A state is sent when the count has doubled, when something new appeared, and each hour. What is
//! new is sent at once after a pause, and then in growing intervals, so that a source that shows
//! something new with each request cannot make a state of each. A rise in severity and a success
//! go at once: there are few of them.

use crate::{
    detection::{
        evidence::{Evidence, Marks},
        finding::{
            Severity,
            assess::{self, Assessment},
        },
        hit::LabelSet,
        time::{BEGINNING, Micros},
    },
    rules::{model::Detection, settings::SECOND},
};

/// From a state to the next one with something new, in microseconds: at first, and at most.
pub(super) const FIRST_INTERVAL: i64 = 10 * SECOND;
const LAST_INTERVAL: i64 = 600 * SECOND;
/// After this long without a state, one is sent if the count has changed, and the interval is the
/// first one again.
pub(super) const HOUR: i64 = 3600 * SECOND;

/// What the last state that was sent was decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Sent {
    /// Requests; 0 before the first state.
    pub(in crate::detection) count: u64,
    pub(in crate::detection) codes: u64,
    pub(in crate::detection) write_verbs: u16,
    pub(in crate::detection) user_agents: u64,
    pub(in crate::detection) successes: u64,
    /// Labels of the finding.
    pub(in crate::detection) labels: LabelSet,
    pub(in crate::detection) severity: Option<Severity>,
    /// The greatest severity of all states.
    pub(in crate::detection) greatest: Option<Severity>,
    /// The closing watermark then.
    pub(in crate::detection) at: Micros,
    /// How long something new waits from then on, in microseconds.
    pub(in crate::detection) interval: i64,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            count: 0,
            codes: 0,
            write_verbs: 0,
            user_agents: 0,
            successes: 0,
            labels: LabelSet::default(),
            severity: None,
            greatest: None,
            at: BEGINNING,
            interval: FIRST_INTERVAL,
        }
    }
}

/// How bad a finding is by now, and until when that stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    pub(super) severity: Option<Severity>,
    /// Labels of the finding.
    pub(super) labels: LabelSet,
    /// The first numbers at which it may change.
    until: Marks,
}

/// Why a state is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Each hour, if anything has changed.
    Hour,
    /// Something is new.
    News,
    /// The count has doubled.
    Doubled,
    /// The severity has risen, or a request succeeded.
    Urgent,
}

impl Verdict {
    /// Judges what was gathered.
    pub(super) fn of(evidence: &Evidence, detection: &Detection) -> (Self, Option<Assessment>) {
        let (marks, level) = (evidence.marks(), detection.annotations.level.parse().ok());
        let is_judged = !detection.labels.is_empty() || marks.successes > 0;
        let assessment = is_judged.then(|| assess::assess(detection, &evidence.seen()));
        let assessment = assessment.flatten();
        let mut labels = LabelSet::default();
        for label in assessment.iter().flat_map(|judged| &judged.labels) {
            let mut all = detection.labels.iter();
            if let Some(place) = all.position(|known| known.name == label.name) {
                labels.insert(place);
            }
        }
        let severity = assessment.as_ref().map(|judged| judged.severity);
        let verdict = Self {
            severity: severity.or(level),
            labels,
            until: until(evidence, &marks, detection),
        };
        (verdict, assessment)
    }

    /// Whether it stands.
    pub(super) fn is_current(&self, marks: &Marks) -> bool {
        let until = &self.until;
        marks.count < until.count
            && marks.paths < until.paths
            && marks.user_agents < until.user_agents
            && marks.successes < until.successes
            && (marks.any, marks.all) == (until.any, until.all)
    }
}

/// The first numbers at which bounds of labels may change what they say.
fn until(evidence: &Evidence, marks: &Marks, detection: &Detection) -> Marks {
    let mut until = Marks {
        count: u64::MAX,
        paths: u64::MAX,
        user_agents: u64::MAX,
        successes: if marks.successes == 0 { 1 } else { u64::MAX },
        ..*marks
    };
    let sooner = |until: &mut u64, now: u64, at: Option<u64>| {
        if let Some(at) = at.filter(|at| *at > now) {
            *until = (*until).min(at);
        }
    };
    let beyond = |most: Option<u64>| most.map(|most| most.saturating_add(1));
    for (place, label) in detection.labels.iter().enumerate() {
        let bounds = &label.bounds;
        if label.is_joined {
            let joined = evidence.labelled(place);
            let most = joined.saturating_add(detection.threshold);
            sooner(&mut until.count, marks.count, beyond(Some(most)));
        }
        if let Some(least) = bounds.min_requests {
            // Each further request may have it.
            let missing = least.saturating_sub(evidence.labelled(place));
            sooner(
                &mut until.count,
                marks.count,
                Some(marks.count.saturating_add(missing)),
            );
        }
        sooner(&mut until.count, marks.count, beyond(bounds.max_requests));
        sooner(&mut until.paths, marks.paths, bounds.min_paths);
        sooner(&mut until.paths, marks.paths, beyond(bounds.max_paths));
        let agents = beyond(bounds.max_user_agents);
        sooner(&mut until.user_agents, marks.user_agents, agents);
    }
    until
}

impl Sent {
    /// When a state is due, as a closing watermark, and why; `None` when nothing has changed.
    pub(super) fn due(
        &self,
        marks: &Marks,
        verdict: &Verdict,
        is_changed: bool,
    ) -> Option<(Micros, Due)> {
        // What is not known of a state that an older version sent is nothing new.
        if self.greatest.is_some() && verdict.severity > self.greatest
            || marks.successes > 0
                && marks.successes >= self.successes.saturating_mul(2)
                && marks.successes > self.successes
        {
            Some((self.at, Due::Urgent))
        } else if marks.count >= self.count.saturating_mul(2) {
            Some((self.at, Due::Doubled))
        } else if self.has_news(marks, verdict) {
            Some((self.at.plus(self.interval), Due::News))
        } else if is_changed {
            Some((self.at.plus(HOUR), Due::Hour))
        } else {
            None
        }
    }

    fn has_news(&self, marks: &Marks, verdict: &Verdict) -> bool {
        marks.codes > self.codes
            || marks.write_verbs & !self.write_verbs != 0
            || marks.user_agents > self.user_agents
            || marks.successes > self.successes
            || verdict.labels.0 & !self.labels.0 != 0
            || self.severity.is_some() && verdict.severity != self.severity
    }

    /// Notes that a state is sent.
    pub(super) fn send(&mut self, at: Micros, marks: &Marks, verdict: &Verdict, due: Option<Due>) {
        let is_first = self.count == 0;
        let interval = if is_first || at >= self.at.plus(HOUR) {
            FIRST_INTERVAL
        } else if due == Some(Due::News) {
            self.interval.saturating_mul(2).min(LAST_INTERVAL)
        } else {
            self.interval
        };
        *self = Self {
            count: marks.count,
            codes: marks.codes,
            write_verbs: marks.write_verbs,
            user_agents: marks.user_agents,
            successes: marks.successes,
            labels: verdict.labels,
            severity: verdict.severity,
            greatest: verdict.severity.max(self.greatest),
            at,
            interval,
        };
    }

    /// Most states with something new, of this many findings of a key one after the other, while
    /// the closing watermark moves on by so many microseconds.
    pub(super) fn most_news(findings: u64, advance: i64) -> u64 {
        /// Intervals that are shorter than the last one, with the state before the first of them
        /// and the one that was due already.
        const SHORT: u64 = 8;
        // After an hour of silence there may be as many short ones again; between them, six long
        // ones in an hour.
        let hours = advance.max(0) / HOUR + 1;
        findings
            .saturating_mul(SHORT)
            .saturating_add(hours.unsigned_abs().saturating_mul(SHORT + 6))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn sent(at: i64, interval: i64) -> Sent {
        Sent {
            count: 100,
            user_agents: 1,
            severity: Some(Severity::Low),
            greatest: Some(Severity::Low),
            at: Micros(at * SECOND),
            interval: interval * SECOND,
            ..Sent::default()
        }
    }

    fn verdict(severity: Severity) -> Verdict {
        Verdict {
            severity: Some(severity),
            ..Verdict::default()
        }
    }

    fn marks(count: u64, user_agents: u64) -> Marks {
        Marks {
            count,
            user_agents,
            ..Marks::default()
        }
    }

    /// Something new with each request: after 10 s, then 20, 40 and so on up to ten minutes; after
    /// an hour of silence at once, and the next after 10 s.
    #[test]
    fn intervals_double_up_to_ten_minutes() {
        let mut sent = sent(0, 10);
        let verdict = verdict(Severity::Low);
        let (mut times, mut agents) = (Vec::new(), 1);
        while times.len() < 9 {
            agents += 1;
            let (at, due) = sent.due(&marks(101, agents), &verdict, true).unwrap();
            assert_eq!(due, Due::News);
            times.push(at.0 / SECOND);
            sent.send(at, &marks(101, agents), &verdict, Some(due));
        }
        assert_eq!(times, [10, 30, 70, 150, 310, 630, 1230, 1830, 2430]);
        let later = Micros((2430 + 3600) * SECOND);
        sent.send(later, &marks(101, agents + 1), &verdict, Some(Due::News));
        assert_eq!(sent.interval, FIRST_INTERVAL);
    }

    #[test]
    fn each_reason_has_its_time() {
        let (before, none) = (sent(1000, 40), verdict(Severity::Low));
        let due = |marks, verdict: &Verdict, is_changed| before.due(&marks, verdict, is_changed);
        let at = |seconds: i64, why| Some((Micros(seconds * SECOND), why));
        assert_eq!(due(marks(100, 1), &none, false), None);
        assert_eq!(due(marks(101, 1), &none, true), at(4600, Due::Hour));
        assert_eq!(due(marks(101, 2), &none, true), at(1040, Due::News));
        assert_eq!(due(marks(200, 1), &none, true), at(1000, Due::Doubled));
        let worse = verdict(Severity::High);
        assert_eq!(due(marks(101, 1), &worse, true), at(1000, Due::Urgent));
        for (field, wanted) in [
            (
                Marks {
                    codes: 1,
                    ..marks(101, 1)
                },
                at(1040, Due::News),
            ),
            (
                Marks {
                    write_verbs: 8,
                    ..marks(101, 1)
                },
                at(1040, Due::News),
            ),
            (
                Marks {
                    successes: 1,
                    ..marks(101, 1)
                },
                at(1000, Due::Urgent),
            ),
        ] {
            assert_eq!(due(field, &none, true), wanted);
        }
        let seen = Sent {
            successes: 4,
            ..before
        };
        let more = |successes| {
            let marks = Marks {
                successes,
                ..marks(101, 1)
            };
            seen.due(&marks, &none, true)
        };
        assert_eq!(
            (more(4), more(5)),
            (at(4600, Due::Hour), at(1040, Due::News))
        );
        assert_eq!(more(8), at(1000, Due::Urgent));
    }

    proptest! {
        /// However the watermark moves, and whatever is new: there are no more states than that.
        #[test]
        fn news_are_no_more_than_their_bound(steps in vec(0i64..4000, 0..300)) {
            let (mut sent, mut now, mut count) = (sent(0, 10), 0, 0);
            for (agents, step) in (2..).zip(steps) {
                now += step;
                let (at, due) = sent.due(&marks(101, agents), &verdict(Severity::Low), true).unwrap();
                if at.0 <= now * SECOND {
                    sent.send(Micros(now * SECOND), &marks(101, agents), &verdict(Severity::Low), Some(due));
                    count += 1;
                }
                prop_assert!(count <= Sent::most_news(1, now * SECOND), "{count} in {now} s");
            }
        }
    }
}
