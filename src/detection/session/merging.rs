//! Two findings of a key become one when late hits bridge what was between them.

use super::{Open, Params};
use crate::detection::{hits::Few, time::Micros};

impl Open {
    /// Takes over the hits of the next finding that its last hit has come near, and the finding
    /// itself when those were all. Returns it then if it is merged, so that it can be closed. One
    /// that begins a day after the alert continues this one instead. All hits of a merged finding
    /// go where its first hit belongs: one that was open before this one was a day old, and went
    /// on after it, is not divided.
    pub(super) fn take_from(
        &mut self,
        place: &mut Option<Box<Self>>,
        (horizon, at): (&mut Micros, Micros),
        params: &Params<'_>,
    ) -> Option<Box<Self>> {
        let next = place.as_deref_mut()?;
        let outside = next.alert_at.minus(params.window);
        // Hits before the window of the alert are in order, and no members.
        while let Some(hit) = next.before.first()
            && hit.time() <= outside
            && self.is_joined_by(hit.time(), params)
        {
            for hit in next.before.take_first(1) {
                self.join(hit.place, &hit.packed.fields(), (horizon, at), params);
            }
        }
        let first = next.evidence.first.unwrap_or(next.alert_at);
        if !self.is_joined_by(first, params) {
            return None;
        }
        let next = place.take()?;
        self.absorb(next, params)
    }

    /// Takes over another finding, unless that continues it; returns it if it is to be closed.
    fn absorb(&mut self, mut next: Box<Self>, params: &Params<'_>) -> Option<Box<Self>> {
        if let Some(continued) = &mut self.continued {
            return continued.absorb(next, params);
        }
        let first = next.evidence.first.unwrap_or(next.alert_at);
        if first >= self.rolls_at() {
            self.rolls_at = Some(self.rolls_at());
            next.continues = Some(self.opening);
            next.alert_at = first;
            next.before = Few::default();
            self.continued = Some(next);
            return None;
        }
        self.evidence.merge(&next.evidence, params.limits);
        self.last = self.last.max(next.last);
        self.joined = self.joined.max(next.joined);
        self.duplicates += next.duplicates;
        self.count_error = self.count_error.max(next.count_error);
        if let Some(mut continued) = next.continued.take() {
            continued.continues = Some(self.opening);
            self.rolls_at = next.rolls_at;
            self.continued = Some(continued);
        }
        self.is_changed = true;
        self.verdict = None;
        self.judge(params);
        Some(next)
    }
}
