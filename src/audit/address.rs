//! The one address a request is counted for, in native semantics.
//!
//! `sourceIPs` is what the client claimed in X-Forwarded-For and X-Real-Ip, then the peer of the
//! connection. Only what stands to the right of the first untrusted hop can be believed, so the
//! list is walked from the right over the trusted proxies.

use std::{fmt, net::IpAddr};

use ipnet::{IpNet, Ipv6Net};

use super::event::Field;

/// The key of requests that name no usable address.
pub const UNKNOWN: &str = "unknown";

/// Elements of `sourceIPs` that are looked at, from the right. No real chain is longer; a forged
/// one may have hundreds of thousands.
pub(crate) const MAX_HOPS: usize = 16;

/// Reads an address: trimmed, without zone, an IPv4-mapped one as IPv4.
pub fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .split_once('%')
        .map_or(text, |(address, _zone)| address);
    address
        .parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// What an event is counted for. Shown, it is a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trusted {
    /// An address, as [`parse`] reads it.
    Address(IpAddr),
    /// The IPv6 network it is in, of less than 128 bits.
    Network(Ipv6Net),
    /// Of a request that names no usable address.
    Unknown,
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Unknown => f.write_str(UNKNOWN),
        }
    }
}

impl Trusted {
    /// Whether an element of `sourceIPs` is this.
    pub(crate) fn is(self, source: &str) -> bool {
        match (self, parse(source)) {
            (Self::Address(own), Some(address)) => own == address,
            (Self::Network(network), Some(IpAddr::V6(address))) => network.contains(&address),
            _ => false,
        }
    }
}

/// The address (or network) an event is counted for.
pub(crate) fn trusted(sources: &[Field<'_>], proxies: &[IpNet], ipv6_prefix: u8) -> Trusted {
    let mut found = None;
    for source in sources.iter().rev().take(MAX_HOPS) {
        let Some(address) = (match source {
            Field::Text(text) => text.short().and_then(|text| parse(&text)),
            _ => None,
        }) else {
            return Trusted::Unknown;
        };
        found = Some(address);
        if !proxies.iter().any(|net| net.contains(&address)) {
            break;
        }
    }
    match found {
        None => Trusted::Unknown,
        Some(IpAddr::V6(address)) if ipv6_prefix < 128 => Ipv6Net::new(address, ipv6_prefix)
            .map_or(Trusted::Address(address.into()), |network| {
                Trusted::Network(network.trunc())
            }),
        Some(address) => Trusted::Address(address),
    }
}

/// The address to look a key or a logged source up by: that of a network is its first.
pub fn locatable(text: &str) -> Option<IpAddr> {
    parse(
        text.split_once('/')
            .map_or(text, |(address, _prefix)| address),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(sources: &[&str], trusted: &[&str], prefix: u8) -> String {
        let sources: Vec<_> = sources.iter().map(|s| Field::Text((*s).into())).collect();
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        super::trusted(&sources, &trusted, prefix).to_string()
    }

    #[test]
    fn walks_from_the_right_over_trusted_hops() {
        let chain = ["9.9.9.9", "198.51.100.9", "10.0.0.2", "10.0.0.1"];
        assert_eq!(key_of(&chain, &[], 128), "10.0.0.1");
        assert_eq!(
            key_of(&chain, &["10.0.0.0/8", "fd00::/8"], 128),
            "198.51.100.9"
        );
        assert_eq!(
            key_of(
                &["10.0.0.3", "fd00::1", "10.0.0.1"],
                &["10.0.0.0/8", "fd00::/8"],
                128
            ),
            "10.0.0.3"
        );
        let long: Vec<_> = (1..=20).map(|i| format!("10.0.0.{i}")).collect();
        let long: Vec<_> = long.iter().map(String::as_str).collect();
        assert_eq!(key_of(&long, &["10.0.0.0/8"], 128), "10.0.0.5");
        assert_eq!(key_of(&["x", "10.0.0.1"], &["10.0.0.0/8"], 128), UNKNOWN);
    }

    #[test]
    fn addresses_are_canonical() {
        for (text, wanted) in [
            ("::ffff:192.0.2.1", "192.0.2.1"),
            (" 2001:DB8:0::1%eth0 ", "2001:db8::1"),
            ("::1.2.3.4", "::102:304"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            ("", UNKNOWN),
            ("x", UNKNOWN),
            ("192.0.2.01", UNKNOWN),
            ("192.0.2.1:443", UNKNOWN),
            ("private", UNKNOWN),
        ] {
            assert_eq!(key_of(&[text], &[], 128), wanted, "{text}");
        }
        assert_eq!(key_of(&[], &[], 128), UNKNOWN);
        assert_eq!(key_of(&["2001:db8:0:1:f::"], &[], 64), "2001:db8:0:1::/64");
        assert_eq!(key_of(&["::ffff:192.0.2.1"], &[], 64), "192.0.2.1");
    }
}
