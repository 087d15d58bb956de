//! A request that was counted turns out to be joined with another one.

use super::{Key, Open, Params};
use crate::detection::hit::Place;

impl Key {
    /// Gives this label to a request that was counted before. Its finding says so when time has
    /// come to it, never at once, so that hits of other keys cause no findings of this one. Whether
    /// the request is still known.
    pub(in crate::detection) fn join_label(
        &mut self,
        place: Place,
        label: usize,
        params: &Params<'_>,
    ) -> bool {
        if self.unassigned.label(place, label) {
            return true;
        }
        let Some(rest) = &mut self.rest else {
            return false;
        };
        let dedup = rest.dedup.as_ref();
        if !dedup.is_some_and(|set| set.contains(place.1)) {
            return false;
        }
        let findings = [&mut rest.open, &mut rest.next].into_iter().flatten();
        let mut of = findings.filter(|open| open.is_joined_by(place.0, params));
        of.next()
            .is_some_and(|open| open.join_label(place, label, params))
    }
}

impl Open {
    fn join_label(&mut self, place: Place, label: usize, params: &Params<'_>) -> bool {
        let rolls_at = self.rolls_at();
        if let Some(continued) = self.continued.as_mut().filter(|_| place.0 >= rolls_at) {
            return continued.join_label(place, label, params);
        }
        if self.is_closed {
            // Its last state has left.
            return false;
        }
        self.before.label(place, label);
        if place.0 > self.alert_at.minus(params.window) {
            self.evidence.label(place, label);
            self.is_changed = true;
            self.verdict = None;
            self.judge(params);
        }
        true
    }
}
