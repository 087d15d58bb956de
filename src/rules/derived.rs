//! Fields that follow from an event: the trusted source address and what is around it.

use std::{fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::audit::{
    address::{self, Trusted},
    event::{Event, Field, List},
};

/// Whose word about the next address is believed, and how much of an IPv6 address counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hops {
    /// Proxies whose word is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bits of an IPv6 address that count, 1 to 128.
    pub ipv6_prefix: u8,
}

impl Default for Hops {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            ipv6_prefix: 128,
        }
    }
}

/// A field that follows from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derived {
    /// `source.address`: the address, or IPv6 network, of the nearest hop that is not a trusted
    /// proxy; `unknown` when there is none.
    Address,
    /// `source.prefix`: its network of 24 (IPv4) or 64 (IPv6) bits.
    Prefix,
    /// `source.peer`: the peer that handed `source.address` over; nothing where that is the peer
    /// itself.
    Peer,
    /// `source.claimed`: the other elements of `sourceIPs`, which a client can write.
    Claimed,
}

impl fmt::Display for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "source.address",
            Self::Prefix => "source.prefix",
            Self::Peer => "source.peer",
            Self::Claimed => "source.claimed",
        })
    }
}

impl Derived {
    /// The names of all.
    pub(crate) const NAMES: [&str; 4] = [
        "source.address",
        "source.prefix",
        "source.peer",
        "source.claimed",
    ];

    /// The derived field of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "source.address" => Self::Address,
            "source.prefix" => Self::Prefix,
            "source.peer" => Self::Peer,
            "source.claimed" => Self::Claimed,
            _ => return None,
        })
    }

    /// Shows each of its values.
    pub(crate) fn resolve(self, event: &Event<'_>, hops: &Hops, show: &mut dyn FnMut(&str)) {
        let own = trusted(event, hops);
        match self {
            Self::Address => show(&own.to_string()),
            Self::Prefix => show(&prefix(&own.to_string())),
            Self::Peer => {
                if let Some(peer) = peer(event, own) {
                    show(&peer.to_string());
                }
            }
            Self::Claimed => event.for_each_source(&mut |source: &str| {
                if !own.is(source) {
                    show(source);
                }
            }),
        }
    }
}

/// The address an event is counted for.
pub(crate) fn trusted(event: &Event<'_>, hops: &Hops) -> Trusted {
    trusted_in(event.sources().unwrap_or_default(), hops)
}

/// The address that an event with these sources is counted for.
pub(crate) fn trusted_in(sources: List<'_>, hops: &Hops) -> Trusted {
    // The last elements of the list, the oldest of them at `oldest`.
    let mut last = [Field::Absent; address::MAX_HOPS];
    let mut count = 0;
    sources.for_each(|source| {
        if let Some(place) = last.get_mut(count % address::MAX_HOPS) {
            *place = source;
        }
        count += 1;
    });
    if count > address::MAX_HOPS {
        last.rotate_left(count % address::MAX_HOPS);
    }
    let last = last.get(..count.min(address::MAX_HOPS)).unwrap_or_default();
    address::trusted(last, &hops.trusted_proxies, hops.ipv6_prefix)
}

/// The peer that handed over the address an event is counted for: the last element of `sourceIPs`,
/// which no client can write, when it is another address.
pub(crate) fn peer(event: &Event<'_>, own: Trusted) -> Option<IpAddr> {
    let mut last = Field::Absent;
    event
        .sources()
        .unwrap_or_default()
        .for_each(|source| last = source);
    let Field::Text(text) = last else {
        return None;
    };
    let text = text.short()?;
    let peer = address::parse(&text)?;
    (own != Trusted::Unknown && !own.is(&text)).then_some(peer)
}

fn prefix(key: &str) -> String {
    let network = match address::locatable(key) {
        Some(IpAddr::V4(address)) => Ipv4Net::new(address, 24).map(IpNet::V4).ok(),
        Some(IpAddr::V6(address)) => Ipv6Net::new(address, 64).map(IpNet::V6).ok(),
        None => None,
    };
    network.map_or_else(|| key.to_owned(), |network| network.trunc().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::json;

    fn values(derived: Derived, sources: &str, hops: &Hops) -> Vec<String> {
        let text = format!(r#"{{"verb":"get","sourceIPs":[{sources}]}}"#);
        let event = json::one(text.as_bytes(), "t").unwrap().unwrap();
        let mut found = Vec::new();
        derived.resolve(&event, hops, &mut |text| found.push(text.to_owned()));
        found
    }

    #[test]
    fn what_follows_from_the_sources() {
        let none = Hops::default();
        let proxy = Hops {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ipv6_prefix: 64,
        };
        let chain = r#""9.9.9.9","198.51.100.9","10.0.0.1""#;
        assert_eq!(values(Derived::Address, chain, &none), ["10.0.0.1"]);
        assert_eq!(values(Derived::Address, chain, &proxy), ["198.51.100.9"]);
        assert_eq!(values(Derived::Prefix, chain, &proxy), ["198.51.100.0/24"]);
        assert_eq!(
            values(Derived::Claimed, chain, &proxy),
            ["9.9.9.9", "10.0.0.1"]
        );
        let six = r#""2001:db8:0:1:f::""#;
        assert_eq!(values(Derived::Address, six, &proxy), ["2001:db8:0:1::/64"]);
        assert_eq!(values(Derived::Prefix, six, &none), ["2001:db8:0:1::/64"]);
        assert_eq!(values(Derived::Claimed, six, &proxy), [""; 0]);
        assert_eq!(values(Derived::Prefix, "", &none), ["unknown"]);
        let many: Vec<_> = (0..50).map(|at| format!("\"192.0.2.{at}\"")).collect();
        let all = Hops {
            trusted_proxies: vec!["192.0.2.0/24".parse().unwrap()],
            ipv6_prefix: 128,
        };
        assert_eq!(
            values(Derived::Address, &many.join(","), &all),
            ["192.0.2.34"]
        );
    }
}
