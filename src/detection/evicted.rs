//! What was evicted in a cluster: how many keys, and the networks that most of them were in.
//!
//! A flood of addresses comes from networks that an operator can block. So evictions are counted by
//! /24 and /64, in a table of fixed size: a network that is not in it takes the place of the one
//! with the fewest evictions, and its count, which is an upper bound then.

use std::{fmt, net::IpAddr};

use super::stats::ClusterEvictions;

/// Networks that are counted at a time.
const NETWORKS: usize = 32;

/// The network of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Network {
    /// The first 24 bits.
    V4([u8; 3]),
    /// The first 64 bits.
    V6([u8; 8]),
}

/// An evicted key, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evicted(pub(super) Option<Network>);

impl Evicted {
    /// Of a key with this text.
    pub(super) fn of(key: &str) -> Self {
        let address = key.split('/').next().unwrap_or(key);
        Self(match address.parse() {
            Ok(IpAddr::V4(address)) => address.octets().first_chunk().copied().map(Network::V4),
            Ok(IpAddr::V6(address)) => address.octets().first_chunk().copied().map(Network::V6),
            Err(_) => None,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6(first) => {
                let mut bytes = [0; 16];
                bytes
                    .iter_mut()
                    .zip(first)
                    .for_each(|(to, from)| *to = *from);
                write!(f, "{}/64", std::net::Ipv6Addr::from(bytes))
            }
        }
    }
}

/// Evictions of one cluster since it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EvictionCount {
    /// Keys that were evicted.
    pub(super) keys: u64,
    /// The greatest error bound of them.
    pub(super) bound: u64,
    /// Networks with the evictions counted for them.
    pub(super) networks: Vec<(Network, u64)>,
}

impl EvictionCount {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        super::heap::list(&self.networks)
    }

    /// Counts keys that were evicted.
    pub(super) fn add(&mut self, key: Option<Evicted>, keys: u64, bound: u64) {
        self.keys += keys;
        self.bound = self.bound.max(bound);
        let Some(Evicted(Some(network))) = key else {
            return;
        };
        let mut known = self.networks.iter_mut();
        if let Some((_, count)) = known.find(|(known, _)| *known == network) {
            *count += keys;
            return;
        }
        if self.networks.len() < NETWORKS {
            self.networks.push((network, keys));
            return;
        }
        let fewest = self.networks.iter_mut().min_by_key(|(_, count)| *count);
        if let Some((known, count)) = fewest {
            *known = network;
            *count += keys;
        }
    }

    /// What is published of it, with the networks with the most evictions.
    pub(super) fn published(&self, networks: usize) -> ClusterEvictions {
        ClusterEvictions {
            keys: self.keys,
            bound: self.bound,
            networks: self.top(networks),
        }
    }

    /// The networks with the most evictions, and those.
    pub(super) fn top(&self, most: usize) -> Vec<(String, u64)> {
        let mut networks = self.networks.clone();
        networks.sort_unstable_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        let top = networks.into_iter().take(most);
        top.map(|(network, count)| (network.to_string(), count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_with_many_evictions_stay() {
        let mut count = EvictionCount::default();
        for n in 0..2000 {
            for key in [
                format!("10.{}.{}.1", n / 250, n % 250),
                format!("192.0.2.{}", n % 250),
                format!("2001:db8:0:1::{n:x}"),
            ] {
                count.add(Some(Evicted::of(&key)), 1, 1);
            }
            count.add(Some(Evicted::of("unknown")), 1, 2);
        }
        assert_eq!((count.keys, count.bound), (8000, 2));
        assert_eq!(count.networks.len(), NETWORKS);
        let top = count.top(2);
        let names: Vec<_> = top.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["192.0.2.0/24", "2001:db8:0:1::/64"]);
        assert!(top.iter().all(|(_, count)| *count >= 2000));
    }
}
