//! Requests of the last window in few bytes: counts by slots of time.
//!
//! A window is cut into at most 16 slots. That many slots in a row never cover more than a window,
//! so what is found in them shares a window; of what shares a window but lies in one slot more, up
//! to a sixteenth of the window is missed. Slots commute: the order of arrival changes nothing.

use std::ops::RangeInclusive;

use crate::{audit::time::Micros, rules::settings::SECOND};

/// Slots that are kept: those of a window, and some more for requests that come late.
pub(in crate::detection) const KEPT: usize = 20;
/// Slots of a window, at most.
const MOST: u32 = 16;
/// Slots beyond those.
const LATE: u32 = 4;
const _: () = assert!(KEPT == (MOST + LATE) as usize);

/// How time is cut into slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Slots {
    /// Length of one, in microseconds.
    length: i64,
    /// How many of them are a window.
    span: u32,
}

impl Slots {
    pub(in crate::detection) fn of(window: i64) -> Self {
        let most = i64::from(MOST);
        let length = window.saturating_add(most - 1).div_euclid(most).max(SECOND);
        let span = window.div_euclid(length).clamp(1, most);
        Self {
            length,
            span: u32::try_from(span).unwrap_or(1),
        }
    }

    /// The slot of a time.
    pub(in crate::detection) fn slot(&self, Micros(time): Micros) -> u32 {
        let slot = time.div_euclid(self.length);
        u32::try_from(slot.max(0)).unwrap_or(u32::MAX)
    }

    /// The last slots of the windows that hold a slot, where nothing is later than `newest`.
    /// Later requests are seen as far as the slots reach that are kept for late ones.
    pub(in crate::detection) fn ends(&self, slot: u32, newest: u32) -> RangeInclusive<u32> {
        let ahead = LATE.min(self.span.saturating_sub(1));
        slot..=newest.min(slot.saturating_add(ahead)).max(slot)
    }
}

/// Requests by slot, up to 255 each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::detection) struct Ring {
    /// The slot of the first count.
    pub(in crate::detection) newest: u32,
    /// The newest first.
    pub(in crate::detection) counts: [u8; KEPT],
}

impl Ring {
    /// Adds a request.
    pub(in crate::detection) fn add(&mut self, slot: u32) {
        if slot > self.newest {
            let by = (slot - self.newest) as usize;
            if by < KEPT {
                self.counts.rotate_right(by);
            }
            self.counts.iter_mut().take(by).for_each(|count| *count = 0);
            self.newest = slot;
        }
        let back = (self.newest - slot) as usize;
        if let Some(count) = self.counts.get_mut(back) {
            *count = count.saturating_add(1);
        }
    }

    /// Requests in the window that ends with this slot.
    pub(in crate::detection) fn sum(&self, end: u32, slots: &Slots) -> u64 {
        let begin = end.saturating_sub(slots.span.saturating_sub(1));
        if self.newest < begin {
            return 0;
        }
        let from = self.newest.saturating_sub(end) as usize;
        let to = ((self.newest - begin) as usize).saturating_add(1).min(KEPT);
        let counts = self.counts.get(from.min(to)..to).unwrap_or_default();
        counts.iter().copied().map(u64::from).sum()
    }

    /// Whether nothing of it can share a window with a request of this slot or a later one.
    pub(in crate::detection) fn is_over(&self, slot: u32) -> bool {
        slot.saturating_sub(self.newest) as usize >= KEPT
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// What is in the slots of a window is less than a window apart, in any order of arrival.
        #[test]
        fn slots_are_sound(
            window in prop_oneof![1..100 * SECOND, Just(3600 * SECOND)],
            times in vec(0i64..1000 * SECOND, 1..30),
        ) {
            let slots = Slots::of(window);
            let (mut ring, mut reversed) = (Ring::default(), Ring::default());
            let at = |time: &i64| slots.slot(Micros(*time + 1_795_600_200 * SECOND));
            for time in &times {
                ring.add(at(time));
            }
            for time in times.iter().rev() {
                reversed.add(at(time));
            }
            prop_assert_eq!(ring, reversed);
            for end in times.iter().map(at) {
                let inside: Vec<_> = times
                    .iter()
                    .filter(|time| (end.saturating_sub(slots.span - 1)..=end).contains(&at(time)))
                    .collect();
                let apart = *inside.iter().max().unwrap() - *inside.iter().min().unwrap();
                prop_assert!(apart < window.max(SECOND), "{} {}", apart, window);
                prop_assert!(ring.sum(end, &slots) <= inside.len() as u64);
                if end == ring.newest {
                    prop_assert_eq!(ring.sum(end, &slots), inside.len() as u64);
                }
            }
        }
    }
}
