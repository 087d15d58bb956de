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

/// Before members of autonomous systems, which are kept as addresses are: by their system, then by
/// themselves. No client has such an address, for it is one of multicast.
const SYSTEM: [u8; 4] = [0xff, 0x41, 0x53, 0x4e];
/// Bits of such a member that are its system.
pub(in crate::detection) const SYSTEM_BITS: u8 = 64;

/// An address as a member of an autonomous system: one of IPv4 as itself, one of IPv6 as its network
/// of 64 bits. `None` of one that no system announces.
pub(in crate::detection) fn in_system(number: u32, octets: Octets) -> Option<Octets> {
    let [.., a, b, c, d] = octets;
    let own = if is_v4(octets) {
        [0, 0, 0, 0, a, b, c, d]
    } else {
        <[u8; 8]>::try_from(octets.get(..8)?).ok()?
    };
    let is_v6 = own.get(..4) != Some(&[0; 4]);
    let mut member = Octets::default();
    let parts = SYSTEM.into_iter().chain(number.to_be_bytes()).chain(own);
    member
        .iter_mut()
        .zip(parts)
        .for_each(|(to, from)| *to = from);
    (is_v6 != is_v4(octets)).then_some(member)
}

/// The number of the system, if it is a member of one.
pub(in crate::detection) fn system(octets: Octets) -> Option<u32> {
    let rest = octets.strip_prefix(&SYSTEM)?;
    rest.first_chunk().map(|number| u32::from_be_bytes(*number))
}

/// The address that a member of a system is, or the first one of its network; any other address
/// itself.
pub(in crate::detection) fn member(octets: Octets) -> Octets {
    if system(octets).is_none() {
        return octets;
    }
    let own = u128::from_be_bytes(octets) << SYSTEM_BITS;
    match own.checked_shr(96) {
        // The upper four of its bytes are those of an address of IPv6.
        Some(upper) if upper > 0 => own.to_be_bytes(),
        _ => (0xffff_0000_0000 | (own >> SYSTEM_BITS)).to_be_bytes(),
    }
}

/// Whether it is an address of IPv4.
pub(in crate::detection) fn is_v4(octets: Octets) -> bool {
    Ipv6Addr::from(octets).to_ipv4_mapped().is_some()
}

/// An address as text, an IPv6 one as the network of this many bits that it is counted as.
pub(in crate::detection) fn text(octets: Octets, ipv6_prefix: u8) -> String {
    let address = Ipv6Addr::from(member(octets)).to_canonical();
    let ipv6_prefix = system(octets).map_or(ipv6_prefix, |_| ipv6_prefix.min(64));
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

    /// As text, such as `198.51.100.0/24` or `AS64500`.
    pub(in crate::detection) fn text(&self) -> String {
        if let Some(number) = system(self.first) {
            return format!("AS{number}");
        }
        let bits = if is_v4(self.first) {
            self.bits.saturating_sub(MAPPED)
        } else {
            self.bits
        };
        format!("{}/{bits}", Ipv6Addr::from(self.first).to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_a_system_is_its_address() {
        for (address, shown) in [
            ("198.51.100.7", Some("198.51.100.7")),
            ("0.0.0.1", Some("0.0.0.1")),
            ("2001:db8:1:2::3", Some("2001:db8:1:2::/64")),
            ("::1", None),
        ] {
            let octets = read(address).unwrap();
            let member = in_system(64_500, octets);
            assert_eq!(member.map(|member| text(member, 128)).as_deref(), shown);
            if let Some(member) = member {
                assert_eq!(system(member), Some(64_500));
                assert_eq!(Network::of(1, member, SYSTEM_BITS).text(), "AS64500");
            }
            assert_eq!((system(octets), self::member(octets)), (None, octets));
        }
    }
}
