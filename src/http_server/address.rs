//! Which addresses count as one peer.

use std::net::{IpAddr, Ipv6Addr};

/// The part of an address that counts as one sender: IPv6 by its /64, IPv4 in IPv6 as IPv4.
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}
