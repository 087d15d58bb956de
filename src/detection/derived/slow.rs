//! Addresses that send few requests in an hour, for days: 64 bytes each.
//!
//! An address is kept by the hours in which it had requests, by the requests of each day, and by
//! sketches of its paths. What belongs to a finding of the detection behind is not looked at: it
//! was found. The weakest gives way, which is one of the fewest hours. So an address that was there
//! in more than one hour is displaced only by addresses that were, too; to displace it before that
//! takes more new addresses in an hour than the table holds.

use super::{
    key::{Key, Network, Octets},
    life::{Arrived, Life, Pace},
    lives::Lives,
    table::{Bounds, Entry, Table},
};
use crate::{
    audit::{fields::AuditField, time::Micros},
    rules::settings::SECOND,
};

/// In microseconds.
const HOUR: i64 = 3600 * SECOND;
/// Hours that are kept: seven days.
const HOURS: u32 = 168;
const DAYS: usize = 7;
/// Bits of a sketch of paths.
const BITS: u32 = 48;
/// Hours that one of the two sketches is for: together they never cover more than seven days.
const SKETCH_HOURS: u32 = HOURS / 2;
/// Evidence is gathered from this many distinct hours on.
const GATHER: u32 = 2;

/// An address. The fields are bytes, so that they take 64 of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Address {
    pub(in crate::detection) octets: Octets,
    pub(in crate::detection) cluster: u32,
    /// The latest hour with a request, since 1970.
    pub(in crate::detection) hour: u32,
    /// A bit for each hour: the lowest is the latest.
    pub(in crate::detection) hours: [u8; 21],
    /// Requests of the last days, up to 255 each: the day of the latest hour first.
    pub(in crate::detection) days: [u8; DAYS],
    /// Sketches of paths: of the present half of seven days, and of the one before.
    pub(in crate::detection) paths: [[u8; 6]; 2],
}

const _: () = assert!(size_of::<Address>() == 64);

impl Entry for Address {
    fn key(&self) -> Key {
        Key {
            cluster: self.cluster,
            octets: self.octets,
        }
    }

    fn cluster(&self) -> u32 {
        self.cluster
    }

    /// By hours, by requests, by time.
    fn strength(&self) -> (u64, u64, u64) {
        (
            self.distinct_hours().into(),
            self.requests(),
            self.hour.into(),
        )
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Address {
    fn new(hit: &Arrived<'_>, hour: u32) -> Self {
        Self {
            octets: hit.octets,
            cluster: hit.cluster,
            hour,
            hours: [0; 21],
            days: [0; DAYS],
            paths: [[0; 6]; 2],
        }
    }

    /// Hours of the last seven days with a request.
    fn distinct_hours(&self) -> u32 {
        self.hours.iter().map(|byte| byte.count_ones()).sum()
    }

    /// The beginning of the earliest of these hours.
    fn first(&self) -> Micros {
        let mut back = (0_u32..HOURS).rev();
        let earliest = back.find(|back| {
            let byte = self.hours.get((back / 8) as usize);
            byte.is_some_and(|byte| byte & (1 << (back % 8)) != 0)
        });
        let hour = self.hour.saturating_sub(earliest.unwrap_or_default());
        Micros(i64::from(hour).saturating_mul(HOUR))
    }

    /// Requests of the last days, at most seven.
    fn requests(&self) -> u64 {
        self.days.iter().copied().map(u64::from).sum()
    }

    /// Distinct paths of the last seven days, estimated.
    fn distinct_paths(&self) -> u64 {
        let [present, before] = self.paths.map(bits);
        let seen = (present | before).count_ones();
        let empty = f64::from(BITS.saturating_sub(seen).max(1));
        let bits = f64::from(BITS);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        let count = (bits * (bits / empty).ln()).round() as u64;
        count
    }

    /// Takes a request of this hour.
    fn add(&mut self, hour: u32, path: u64) {
        if hour > self.hour {
            self.advance(hour);
        }
        let back = self.hour.saturating_sub(hour);
        if let Some(byte) = self.hours.get_mut((back / 8) as usize) {
            *byte |= 1 << (back % 8);
        }
        let days = (self.hour / 24).saturating_sub(hour / 24);
        if let Some(count) = self.days.get_mut(days as usize) {
            *count = count.saturating_add(1);
        }
        let halves = (self.hour / SKETCH_HOURS).saturating_sub(hour / SKETCH_HOURS);
        if let Some(sketch) = self.paths.get_mut(halves as usize) {
            let bits = bits(*sketch) | 1 << (path % u64::from(BITS));
            *sketch = bytes(bits);
        }
    }

    /// Moves on to an hour.
    fn advance(&mut self, hour: u32) {
        let by = hour - self.hour;
        self.shift_hours(by);
        let days = (hour / 24 - self.hour / 24) as usize;
        if days < DAYS {
            self.days.rotate_right(days);
        }
        self.days.iter_mut().take(days).for_each(|count| *count = 0);
        let [present, _] = self.paths;
        match hour / SKETCH_HOURS - self.hour / SKETCH_HOURS {
            0 => {}
            1 => self.paths = [[0; 6], present],
            _ => self.paths = [[0; 6]; 2],
        }
        self.hour = hour;
    }

    fn shift_hours(&mut self, by: u32) {
        if by >= HOURS {
            self.hours = [0; 21];
            return;
        }
        let (bytes, bits) = ((by / 8) as usize, by % 8);
        self.hours.rotate_right(bytes);
        self.hours.iter_mut().take(bytes).for_each(|byte| *byte = 0);
        let mut carry = 0;
        for byte in &mut self.hours {
            let wide = u16::from(*byte) << bits | carry;
            let [low, high] = wide.to_le_bytes();
            (*byte, carry) = (low, high.into());
        }
    }
}

/// A sketch as a number.
fn bits(sketch: [u8; 6]) -> u64 {
    let mut bytes = [0; 8];
    for (byte, of_sketch) in bytes.iter_mut().zip(sketch) {
        *byte = of_sketch;
    }
    u64::from_le_bytes(bytes)
}

fn bytes(bits: u64) -> [u8; 6] {
    let mut sketch = [0; 6];
    for (byte, of_bits) in sketch.iter_mut().zip(bits.to_le_bytes()) {
        *byte = of_bits;
    }
    sketch
}

/// A fixed hash of a path without its query.
pub(in crate::detection) fn path_of(hit: &Arrived<'_>) -> u64 {
    let uri = hit
        .fields
        .texts
        .get(AuditField::RequestUri)
        .unwrap_or_default();
    let path = uri.split_once('?').map_or(uri, |(path, _)| path);
    hash(path)
}

/// A fixed hash of a text.
pub(in crate::detection) fn hash(text: &str) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16
}

/// What makes an address qualify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Needs {
    /// More distinct paths than this,
    pub(in crate::detection) paths: u64,
    /// or at least this many requests,
    pub(in crate::detection) requests: u64,
    /// in at least this many distinct hours.
    pub(in crate::detection) hours: u32,
    pub(in crate::detection) pace: Pace,
    pub(in crate::detection) table: Bounds,
}

/// The addresses of all clusters.
#[derive(Clone, Debug, Default)]
pub(in crate::detection) struct Slow {
    pub(in crate::detection) addresses: Table<Address>,
    pub(in crate::detection) lives: Lives,
}

impl Slow {
    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        self.addresses.heap_bytes() + self.lives.heap_bytes()
    }

    /// Takes a request that belongs to no finding yet.
    pub(in crate::detection) fn observe(
        &mut self,
        hit: &Arrived<'_>,
        needs: &Needs,
        name: impl Fn(&Network) -> u128,
    ) {
        let key = Key {
            cluster: hit.cluster,
            octets: hit.octets,
        };
        let hour = hit.place.0.0.div_euclid(HOUR).max(0);
        let hour = u32::try_from(hour).unwrap_or(u32::MAX);
        let path = path_of(hit);
        let look = |address: &mut Address| {
            address.add(hour, path);
            *address
        };
        let address = if let Some(address) = self.addresses.change(key, look) {
            address
        } else {
            let mut address = Address::new(hit, hour);
            address.add(hour, path);
            self.addresses.insert(address, needs.table);
            address
        };
        let hours = address.distinct_hours();
        if hours < GATHER {
            return;
        }
        let network = Network::of(hit.cluster, hit.octets, 128);
        if self.lives.get(&network).is_none() {
            let mut life = Life::new(hit.place);
            life.count = address.requests().saturating_sub(1);
            life.first = life.first.min(address.first());
            self.lives.insert(network, life, &needs.pace);
        }
        let paths = address.distinct_paths();
        let are_enough = paths > needs.paths || address.requests() >= needs.requests;
        let qualifies = are_enough && hours >= needs.hours;
        self.lives.change(&network, &needs.pace, |life| {
            life.wake(hit.place);
            life.add(hit);
            life.values = life.values.max(paths);
            if qualifies && !life.is_open() {
                life.count = life.count.max(address.requests());
                life.first = life.first.min(address.first());
                life.open(hit, name(&network));
            }
        });
    }

    /// Forgets what was gathered of an address, whose requests are found by now.
    pub(in crate::detection) fn forget(&mut self, key: Key) {
        self.addresses.remove(key);
        let network = Network::of(key.cluster, key.octets, 128);
        if self.lives.get(&network).is_some_and(|life| !life.is_open()) {
            self.lives.remove(&network);
        }
    }

    /// Links an open finding with another one of its address.
    pub(in crate::detection) fn relate(&mut self, key: Key, id: u128, pace: &Pace) -> Option<u128> {
        let network = Network::of(key.cluster, key.octets, 128);
        self.lives.get(&network).filter(|life| life.is_open())?;
        self.lives.change(&network, pace, |life| {
            life.relate(id);
            life.id
        })
    }

    /// Removes some of the addresses without requests for seven days.
    pub(in crate::detection) fn sweep(
        &mut self,
        bounds: Bounds,
        now: impl Fn(u32) -> Option<Micros>,
    ) {
        self.addresses.sweep(bounds, |address| {
            let last = i64::from(address.hour.saturating_add(HOURS)).saturating_mul(HOUR);
            now(address.cluster).is_none_or(|now| now.0 > last)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn address(hour: u32) -> Address {
        Address {
            octets: [0; 16],
            cluster: 0,
            hour,
            hours: [0; 21],
            days: [0; DAYS],
            paths: [[0; 6]; 2],
        }
    }

    proptest! {
        /// In any order, hours are those of the last seven days, and requests never more than
        /// there were in them.
        #[test]
        fn hours_and_requests_are_those_of_seven_days(
            requests in vec((0u32..500, 0u64..100), 1..80),
        ) {
            let begin = 480_000;
            let mut one = address(begin + requests[0].0);
            let mut other = address(begin + requests[requests.len() - 1].0);
            for (hour, path) in &requests {
                one.add(begin + hour, *path);
            }
            for (hour, path) in requests.iter().rev() {
                other.add(begin + hour, *path);
            }
            prop_assert_eq!(one.hour, other.hour);
            let newest = requests.iter().map(|(hour, _)| *hour).max().unwrap();
            let inside: Vec<_> = requests.iter().filter(|(hour, _)| newest - hour < HOURS).collect();
            let hours: BTreeSet<_> = inside.iter().map(|(hour, _)| *hour).collect();
            prop_assert!(one.distinct_hours() as usize <= hours.len());
            prop_assert!(one.requests() <= inside.len() as u64);
            let in_order: Vec<_> = {
                let mut sorted = requests.clone();
                sorted.sort_unstable();
                sorted
            };
            let mut ordered = address(begin + in_order[0].0);
            for (hour, path) in in_order {
                ordered.add(begin + hour, path);
            }
            prop_assert_eq!(ordered.distinct_hours() as usize, hours.len());
        }
    }

    #[test]
    fn distinct_paths_are_estimated_within_a_tenth_or_so() {
        for count in [1_u64, 5, 10, 15, 20, 25] {
            let mut one = address(480_000);
            for n in 0..count {
                one.add(480_000, hash(&format!("/api/v1/namespaces/{n}/secrets")));
            }
            let paths = one.distinct_paths();
            assert!(paths.abs_diff(count) <= 1 + count / 6, "{count}: {paths}");
        }
    }
}
