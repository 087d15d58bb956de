//! Evictions of one cluster: how many in the last window, and the networks of the keys.

use std::{fmt, net::IpAddr};

use super::ring::Ring;

/// Networks whose evictions are counted at a time.
const NETWORKS: usize = 64;
/// Networks that a finding names.
const NAMED: usize = 10;

/// The network of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detection) enum Network {
    /// The first 24 bits of an IPv4 address.
    V4([u8; 3]),
    /// The first 48 bits of an IPv6 address.
    V6([u8; 6]),
    /// The key is no address.
    None,
}

impl Network {
    /// The network of a key, which may be an address or a network.
    pub(in crate::detection) fn of(key: &str) -> Self {
        let address = key.split_once('/').map_or(key, |(address, _)| address);
        match address.parse() {
            Ok(IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            Ok(IpAddr::V6(address)) => {
                let octets = address.octets();
                Self::V6(octets.first_chunk().copied().unwrap_or_default())
            }
            Err(_) => Self::None,
        }
    }

    /// As bytes: 3, 6 or none.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::V4(bytes) => bytes.to_vec(),
            Self::V6(bytes) => bytes.to_vec(),
            Self::None => Vec::new(),
        }
    }

    /// Reads them again.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.len() {
            0 => Some(Self::None),
            3 => bytes.try_into().ok().map(Self::V4),
            6 => bytes.try_into().ok().map(Self::V6),
            _ => None,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6(bytes) => {
                let mut segments = [0_u16; 8];
                let (pairs, _) = bytes.as_chunks::<2>();
                for (segment, pair) in segments.iter_mut().zip(pairs) {
                    *segment = u16::from_be_bytes(*pair);
                }
                write!(f, "{}/48", std::net::Ipv6Addr::from(segments))
            }
            Self::None => f.write_str("no address"),
        }
    }
}

/// Evictions of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) network: Network,
    pub(super) count: u64,
    /// Those of them that may have been of another network, whose place it took.
    pub(super) error: u64,
}

/// The evictions of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flood {
    /// Evictions.
    pub(super) recent: Ring<1>,
    /// Evictions in all.
    pub(super) all: u64,
    /// The most in one window since the flood began.
    pub(super) peak: u64,
    /// The most hits that a key had.
    pub(super) hits: u64,
    /// The networks with most evictions since the flood began, in any order.
    pub(super) networks: Vec<Counted>,
    /// Parts of the window since there were as many as in a flood.
    pub(super) calm: u32,
}

impl Flood {
    /// Takes the eviction of keys of one network, or of several, of which each may have lost this
    /// many hits.
    pub(super) fn take(&mut self, network: Option<Network>, keys: u64, hits: u64) {
        self.recent.add([keys]);
        self.all = self.all.saturating_add(keys);
        self.hits = self.hits.max(hits);
        let Some(network) = network else { return };
        if let Some(known) = self.networks.iter_mut().find(|one| one.network == network) {
            known.count = known.count.saturating_add(keys);
            return;
        }
        let full = self.networks.len() >= NETWORKS;
        let weakest = self.networks.iter_mut().min_by_key(|one| one.count);
        match weakest {
            Some(weakest) if full => {
                *weakest = Counted {
                    network,
                    count: weakest.count.saturating_add(keys),
                    error: weakest.count,
                };
            }
            _ => {
                self.networks.reserve_exact(1);
                self.networks.push(Counted {
                    network,
                    count: keys,
                    error: 0,
                });
            }
        }
    }

    /// The networks with most evictions, each with how many it had at least.
    pub(super) fn top(&self) -> Vec<(Network, u64)> {
        let sure = self.networks.iter();
        let sure = sure.map(|one| (one.network, one.count - one.error));
        let mut top: Vec<_> = sure.filter(|(_, count)| *count > 1).collect();
        top.sort_by_key(|(network, count)| (std::cmp::Reverse(*count), *network));
        top.truncate(NAMED);
        top
    }

    /// Forgets what it knows of a flood that is over.
    pub(super) fn forget(&mut self) {
        self.networks = Vec::new();
        (self.peak, self.hits) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_networks_and_heavy_ones_are_found_among_many() {
        for (key, wanted) in [
            ("192.0.2.7", "192.0.2.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("2001:db8:1:2::/64", "2001:db8:1::/48"),
            ("unknown", "no address"),
            ("[\"a\"]", "no address"),
        ] {
            let network = Network::of(key);
            assert_eq!(network.to_string(), wanted);
            assert_eq!(Network::from_bytes(&network.to_bytes()), Some(network));
        }
        let mut flood = Flood::default();
        for number in 0..20_000_u32 {
            let [_, a, b, c] = number.wrapping_mul(2_654_435_761).to_be_bytes();
            flood.take(Some(Network::V4([a, b, c])), 1, 1);
            if number % 10 == 0 {
                flood.take(Some(Network::of("203.0.113.9")), 1, 3);
            }
        }
        let top = flood.top();
        assert_eq!(top[0].0, Network::of("203.0.113.9"));
        assert!((1500..=2000).contains(&top[0].1), "{top:?}");
        assert_eq!((flood.all, flood.hits), (22_000, 3));
        assert_eq!(flood.networks.len(), NETWORKS);
    }
}
