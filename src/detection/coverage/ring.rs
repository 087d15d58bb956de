//! Counts of the last window, in six parts of it.

/// Parts of a window.
pub(super) const PARTS: usize = 6;

/// `N` counts of each part of a window; the last part is the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ring<const N: usize> {
    pub(super) parts: [[u64; N]; PARTS],
    /// Microseconds since the present part began.
    pub(super) elapsed: i64,
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self {
            parts: [[0; N]; PARTS],
            elapsed: 0,
        }
    }
}

impl<const N: usize> Ring<N> {
    /// Adds to the counts of the present part.
    pub(super) fn add(&mut self, counts: [u64; N]) {
        if let Some(present) = self.parts.last_mut() {
            for (own, more) in present.iter_mut().zip(counts) {
                *own = own.saturating_add(more);
            }
        }
    }

    /// The counts of the window.
    pub(super) fn sums(&self) -> [u64; N] {
        let mut sums = [0_u64; N];
        for part in &self.parts {
            for (sum, count) in sums.iter_mut().zip(part) {
                *sum = sum.saturating_add(*count);
            }
        }
        sums
    }

    /// Whether the window has nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.iter().flatten().all(|count| *count == 0)
    }

    /// Lets time pass, in microseconds.
    pub(super) fn advance(&mut self, elapsed: i64) {
        self.elapsed = self.elapsed.saturating_add(elapsed);
    }

    /// Ends the present part if it is over: its counts. Called until there is none. Of parts that
    /// would all be empty only as many are made as a window has.
    pub(super) fn next_part(&mut self, window: i64) -> Option<[u64; N]> {
        let parts = i64::try_from(PARTS).unwrap_or(1);
        let length = (window / parts).max(1);
        if self.elapsed < length {
            return None;
        }
        self.elapsed = self.elapsed.min(length.saturating_mul(parts + 1)) - length;
        let ended = self.parts.last().copied();
        self.parts.rotate_left(1);
        if let Some(present) = self.parts.last_mut() {
            *present = [0; N];
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_leave_with_their_window() {
        let mut ring = Ring::<1>::default();
        ring.add([1]);
        for minute in 0..6 {
            assert_eq!(ring.sums(), [1], "{minute}");
            ring.advance(10);
            assert_eq!(ring.next_part(60), Some([u64::from(minute == 0)]));
            assert_eq!(ring.next_part(60), None);
        }
        assert!(ring.is_empty());
        ring.add([7]);
        ring.advance(i64::MAX);
        let mut ended = 0;
        while ring.next_part(60).is_some() {
            ended += 1;
        }
        assert_eq!((ended, ring.sums()), (7, [0]));
    }
}
