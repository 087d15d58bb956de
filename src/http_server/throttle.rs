//! Log throttles of servers: what peers cause again and again makes one line a minute.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::address::address_key;
use crate::clock::{self, Instant};

/// How often one thing is logged at most.
const PERIOD: Duration = Duration::from_mins(1);
/// Addresses that are counted at a time to find the one that causes most.
const ADDRESSES: usize = 32;

/// Limits the lines about what may happen often to one a minute: a flood of connections does not
/// become a flood of lines.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<(Option<Instant>, u64)>);

impl Throttle {
    /// It happened. If a line is due, the number of those that were suppressed before it.
    pub fn pass(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, suppressed) = &mut *state;
        let now = clock::monotonic();
        if last.is_some_and(|last| now - last < PERIOD) {
            *suppressed += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(suppressed))
    }
}

/// Limits the lines about what peers may cause often: one a minute, with their count and the address
/// that causes most.
#[derive(Debug, Default)]
pub struct PeerThrottle(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    last: Option<Instant>,
    count: u64,
    /// The most frequent addresses: those that cause more than one in [`ADDRESSES`] are here.
    addresses: BTreeMap<IpAddr, u64>,
}

/// What happened since the last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// How often, this time included.
    pub count: u64,
    /// The address that caused it most often.
    pub most_from: IpAddr,
}

impl PeerThrottle {
    /// An address has caused it once more. `Some` if a line is due.
    pub fn pass(&self, address: IpAddr) -> Option<Repeated> {
        // A sender with one address of a network has all of them.
        let address = address_key(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.count += 1;
        counts.add(address);
        let now = clock::monotonic();
        if counts.last.is_some_and(|last| now - last < PERIOD) {
            return None;
        }
        let most = counts.addresses.iter().max_by_key(|(_, count)| **count);
        let most_from = most.map_or(address, |(most, _)| *most);
        let count = counts.count;
        *counts = Counts {
            last: Some(now),
            ..Counts::default()
        };
        Some(Repeated { count, most_from })
    }
}

impl Counts {
    /// Counts an address (Misra and Gries): few counters, and frequent addresses keep theirs.
    fn add(&mut self, address: IpAddr) {
        if let Some(count) = self.addresses.get_mut(&address) {
            *count += 1;
        } else if self.addresses.len() < ADDRESSES {
            self.addresses.insert(address, 1);
        } else {
            self.addresses.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_a_minute_names_the_address_with_the_most() {
        let throttle = PeerThrottle::default();
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let first = throttle.pass(address(1));
        assert_eq!(
            first,
            Some(Repeated {
                count: 1,
                most_from: address(1)
            })
        );
        for n in 0..200 {
            assert_eq!(throttle.pass(address(n)), None);
            assert_eq!(throttle.pass(address(7)), None);
        }
        tokio::time::advance(PERIOD).await;
        assert_eq!(
            throttle.pass(address(1)),
            Some(Repeated {
                count: 401,
                most_from: address(7)
            })
        );
        assert_eq!(throttle.pass(address(1)), None);
    }
}
