//! What tables of derived detections are keyed by: a cluster, and an address or network.

use std::net::{IpAddr, Ipv6Addr};

use crate::audit::address;

/// An address; one of IPv4 as the IPv6 address it is mapped to.
pub(in crate::detection) type Octets = [u8; 16];

/// Number of a cluster. Numbers are never given twice, so what is left of a cluster that is gone
/// belongs to no other.
pub(in crate::detection) type Cluster = u32;

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detection) struct Key {
    pub(in crate::detection) cluster: Cluster,
    pub(in crate::detection) octets: Octets,
}

/// A network of a cluster: its first address, and the bits that are its own, of 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detection) struct Network {
    pub(in crate::detection) cluster: Cluster,
    pub(in crate::detection) first: Octets,
    pub(in crate::detection) bits: u8,
}

/// The bits of a mapped address before those of IPv4.
pub(in crate::detection) const MAPPED: u8 = 96;

/// The address of the text of a key; `None` when it is none.
pub(in crate::detection) fn read(key: &str) -> Option<Octets> {
    Some(match address::locatable(key)? {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

/// Whether it is an address of IPv4.
pub(in crate::detection) fn is_v4(octets: Octets) -> bool {
    Ipv6Addr::from(octets).to_ipv4_mapped().is_some()
}

/// An address as text, an IPv6 one as the network of this many bits that it is counted as.
pub(in crate::detection) fn text(octets: Octets, ipv6_prefix: u8) -> String {
    let address = Ipv6Addr::from(octets).to_canonical();
    match address {
        IpAddr::V6(_) if ipv6_prefix < 128 => format!("{address}/{ipv6_prefix}"),
        _ => address.to_string(),
    }
}

impl Network {
    /// The network of this many bits that an address is in.
    pub(in crate::detection) fn of(cluster: Cluster, octets: Octets, bits: u8) -> Self {
        let mask = u128::MAX
            .checked_shl(128_u32.saturating_sub(bits.into()))
            .unwrap_or_default();
        Self {
            cluster,
            first: (u128::from_be_bytes(octets) & mask).to_be_bytes(),
            bits,
        }
    }

    /// Its last address.
    pub(in crate::detection) fn last(&self) -> Octets {
        let rest = u128::MAX.checked_shr(self.bits.into()).unwrap_or_default();
        (u128::from_be_bytes(self.first) | rest).to_be_bytes()
    }

    /// Whether an address is in it.
    pub(in crate::detection) fn contains(&self, octets: Octets) -> bool {
        (self.first..=self.last()).contains(&octets)
    }

    /// Its entry in a table.
    pub(in crate::detection) fn key(&self) -> Key {
        Key {
            cluster: self.cluster,
            octets: self.first,
        }
    }

    /// As text, such as `198.51.100.0/24`.
    pub(in crate::detection) fn text(&self) -> String {
        let bits = if is_v4(self.first) {
            self.bits.saturating_sub(MAPPED)
        } else {
            self.bits
        };
        format!("{}/{bits}", Ipv6Addr::from(self.first).to_canonical())
    }
}
