//! How many distinct values there were: exact while they are few, then estimated.

/// Hashes that are kept one by one.
const EXACT: usize = 512;
/// Bits of a hash that choose a register.
const BITS: u32 = 10;
/// Registers of the estimate. Its standard error is 1.04 / sqrt(1024), about 3 %.
const REGISTERS: usize = 1 << BITS;

/// The hashes of distinct values, or a summary of them. It depends on the values alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sketch {
    /// In order.
    Exact(Vec<u64>),
    /// `HyperLogLog`: of the hashes of each register, the most leading zeros, and one.
    Estimate {
        registers: Box<[u8]>,
        /// How many registers have each rank.
        ranks: Ranks,
        /// What follows from them.
        count: u64,
    },
}

/// A number of registers for each rank.
type Ranks = [u16; RANKS];

/// Ranks of a register: one more than the most zeros, and that of an empty one.
const RANKS: usize = 64 - BITS as usize + 2;

impl Default for Sketch {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Sketch {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Exact(hashes) => crate::detection::heap::list(hashes),
            Self::Estimate { registers, .. } => crate::detection::heap::block(registers.len()),
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Estimate { count, .. } => *count,
        }
    }

    pub(super) fn is_estimate(&self) -> bool {
        matches!(self, Self::Estimate { .. })
    }

    /// Takes the hash of a value.
    pub(super) fn insert(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                let Err(at) = hashes.binary_search(&hash) else {
                    return;
                };
                if hashes.len() < EXACT {
                    hashes.insert(at, hash);
                    return;
                }
                let mut registers = vec![0; REGISTERS].into_boxed_slice();
                for hash in hashes.iter().copied().chain([hash]) {
                    raise(&mut registers, hash);
                }
                *self = Self::of(registers);
            }
            Self::Estimate {
                registers,
                ranks,
                count,
            } => {
                if let Some((before, now)) = raise(registers, hash) {
                    let [before, now] = [before, now].map(usize::from);
                    if let Some(number) = ranks.get_mut(before) {
                        *number = number.saturating_sub(1);
                    }
                    if let Some(number) = ranks.get_mut(now) {
                        *number = number.saturating_add(1);
                    }
                    *count = estimate(ranks);
                }
            }
        }
    }

    /// A summary of these registers; of another number of them the first.
    pub(super) fn of(registers: Box<[u8]>) -> Self {
        let mut registers = registers.into_vec();
        registers.resize(REGISTERS, 0);
        let ranks = ranks(&registers);
        Self::Estimate {
            count: estimate(&ranks),
            ranks,
            registers: registers.into_boxed_slice(),
        }
    }

    /// Takes all values of another.
    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Exact(hashes)) => hashes.iter().for_each(|hash| self.insert(*hash)),
            (Self::Exact(hashes), Self::Estimate { registers, .. }) => {
                let mut registers = registers.clone();
                for hash in hashes {
                    raise(&mut registers, *hash);
                }
                *self = Self::of(registers);
            }
            (
                Self::Estimate {
                    registers,
                    ranks: of,
                    count,
                },
                Self::Estimate {
                    registers: others, ..
                },
            ) => {
                for (own, other) in registers.iter_mut().zip(others) {
                    *own = (*own).max(*other);
                }
                *of = ranks(registers);
                *count = estimate(of);
            }
        }
    }
}

/// Notes a hash; the rank of its register before and now, if that has changed.
fn raise(registers: &mut [u8], hash: u64) -> Option<(u8, u8)> {
    let register = usize::try_from(hash >> (u64::BITS - BITS)).unwrap_or_default();
    let zeros = (hash << BITS).leading_zeros().min(u64::BITS - BITS) + 1;
    let zeros = u8::try_from(zeros).unwrap_or(u8::MAX);
    let register = registers.get_mut(register)?;
    let before = *register;
    *register = before.max(zeros);
    (before < zeros).then_some((before, zeros))
}

/// How many registers have each rank. One that none can have, as only damage makes it, counts as none.
fn ranks(registers: &[u8]) -> Ranks {
    let mut ranks = [0; RANKS];
    for rank in registers {
        if let Some(number) = ranks.get_mut(usize::from(*rank)) {
            *number += 1;
        }
    }
    ranks
}

/// The estimate of Otmar Ertl ("New cardinality estimation algorithms for `HyperLogLog` sketches",
/// arXiv:1702.01284, section 4), which needs no corrections by measured tables.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate is a rounded positive number"
)]
fn estimate(ranks: &Ranks) -> u64 {
    let all = REGISTERS as f64;
    let [empty, ranks @ .., full] = ranks;
    let mut sum = all * tau(1.0 - f64::from(*full) / all);
    for number in ranks.iter().rev() {
        sum = 0.5 * (sum + f64::from(*number));
    }
    sum += all * sigma(f64::from(*empty) / all);
    (all * all / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::marked::hash;

    fn sketch(values: impl IntoIterator<Item = u32>) -> Sketch {
        let mut sketch = Sketch::default();
        for value in values {
            sketch.insert(hash(&format!("/path/{value}")));
        }
        sketch
    }

    #[test]
    fn few_are_counted_and_many_estimated() {
        for count in [0, 1, 100, 200, 512] {
            let sketch = sketch((0..count).chain(0..count));
            assert_eq!(sketch.count(), u64::from(count));
            assert!(!sketch.is_estimate());
        }
        let mut errors = Vec::new();
        for count in [513_u32, 700, 1_000, 2_000, 3_000, 5_000, 20_000, 200_000] {
            let sketch = sketch(0..count);
            assert!(sketch.is_estimate());
            let error = f64::from(u32::try_from(sketch.count()).unwrap()) / f64::from(count) - 1.0;
            assert!(error.abs() < 0.1, "{count}: {error}");
            errors.push(error * error);
            assert!(sketch.heap_bytes() <= 1100);
        }
        let mean = errors.iter().sum::<f64>() / 8.0;
        assert!(mean.sqrt() < 0.05, "{mean}");
    }

    proptest! {
        /// Order and repeats do not matter, and two parts make the whole.
        #[test]
        fn merged_is_all_in_one(
            (one, other) in (0u32..2000, 0u32..2000),
            shared in 0u32..600,
        ) {
            let all = sketch((0..one).chain(1_000_000..1_000_000 + other).chain(2_000_000..2_000_000 + shared));
            let mut merged = sketch((2_000_000..2_000_000 + shared).chain(0..one).rev());
            merged.merge(&sketch((1_000_000..1_000_000 + other).chain(2_000_000..2_000_000 + shared)));
            prop_assert_eq!(merged, all);
        }
    }
}
