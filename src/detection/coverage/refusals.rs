//! Answers 401 and 403 of one cluster, by the hour of their event time. The order of arrival does
//! not matter.

use std::collections::BTreeMap;

use super::super::time::{BEGINNING, Micros};
use crate::rules::settings::SECOND;

const HOUR: i64 = 3600 * SECOND;
/// Hours whose answers are kept.
const HOURS: i64 = 25;

/// The answers of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusals {
    /// Numbers of answers 401, by hour since 1970.
    pub(super) unauthorized: BTreeMap<i64, u64>,
    /// Answers 401 in all.
    pub(super) all: u64,
    /// The first and the last answer 401.
    pub(super) first: Micros,
    pub(super) last: Micros,
    /// The last answer 403.
    pub(super) forbidden: Micros,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            unauthorized: BTreeMap::new(),
            all: 0,
            first: Micros(i64::MAX),
            last: BEGINNING,
            forbidden: BEGINNING,
        }
    }
}

impl Refusals {
    /// Takes a hit.
    pub(super) fn take(&mut self, code: u16, time: Micros) {
        match code {
            403 => self.forbidden = self.forbidden.max(time),
            401 => {
                self.all = self.all.saturating_add(1);
                self.first = self.first.min(time);
                self.last = self.last.max(time);
                let newest = self.last.0.div_euclid(HOUR);
                let hour = time.0.div_euclid(HOUR);
                if hour > newest - HOURS {
                    let count = self.unauthorized.entry(hour).or_default();
                    *count = count.saturating_add(1);
                }
                while let Some(oldest) = self.unauthorized.first_entry()
                    && *oldest.key() <= newest - HOURS
                {
                    oldest.remove();
                }
            }
            _ => {}
        }
    }

    /// Since when all answers were 401.
    pub(super) fn since(&self) -> Micros {
        self.forbidden.max(self.first)
    }

    /// How long all answers have been 401, in microseconds.
    pub(super) fn length(&self) -> i64 {
        self.last.0.saturating_sub(self.since().0)
    }

    /// Answers 401 of the last day behind the last 403, and in how many hours they came.
    pub(super) fn unauthorized(&self) -> (u64, usize) {
        let forbidden = self.forbidden.0.div_euclid(HOUR);
        let hours = self.unauthorized.range(forbidden.saturating_add(1)..);
        let sum = hours.clone().map(|(_, count)| count);
        (
            sum.fold(0, |sum, count| sum.saturating_add(*count)),
            hours.count(),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_matter(
            hits in proptest::collection::vec((0_i64..200_000, any::<bool>()), 1..60),
            seed in any::<u64>(),
        ) {
            let mut shuffled = hits.clone();
            shuffled.sort_by_key(|(time, code)| {
                (time.cast_unsigned() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(*code)
            });
            let [one, two] = [&hits, &shuffled].map(|hits| {
                let mut all = Refusals::default();
                for (seconds, is_forbidden) in hits {
                    let code = if *is_forbidden { 403 } else { 401 };
                    all.take(code, Micros(seconds * SECOND));
                }
                all
            });
            prop_assert_eq!(one, two);
        }
    }
}
