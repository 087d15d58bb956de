//! The text of a key in little memory: there may be a million of them, and most are addresses.

use std::{
    cmp::Ordering,
    fmt::{self, Write as _},
    hash::BuildHasher as _,
    net::Ipv6Addr,
};

use super::{
    heap,
    key_table::{Name, Seeds},
};

/// Bytes of a text that needs no memory of its own: an IPv4 address has 15 at most.
const SHORT: usize = 22;
/// Bytes of the longest text of an IPv6 address without a zone or an IPv4 part.
const LONGEST_IP6: usize = 39;

/// The text of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyText {
    /// Its length and its bytes.
    Short(u8, [u8; SHORT]),
    /// An IPv6 address whose canonical text it is.
    Ip6([u8; 16]),
    Long(Box<str>),
}

impl KeyText {
    /// Shows the text.
    pub(super) fn with<T>(&self, show: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Short(length, bytes) => {
                let text = bytes.get(..usize::from(*length)).unwrap_or_default();
                show(std::str::from_utf8(text).unwrap_or_default())
            }
            Self::Ip6(address) => show(Buffer::of((*address).into()).as_str()),
            Self::Long(text) => show(text),
        }
    }

    /// Whether it is this text.
    pub(super) fn is(&self, text: &str) -> bool {
        self.with(|own| own == text)
    }

    /// The hash of a text with these seeds.
    pub(super) fn hash_of(text: &str, seeds: &Seeds) -> u64 {
        seeds.hash_one(text)
    }
}

impl From<&str> for KeyText {
    fn from(text: &str) -> Self {
        if let Ok(length @ 0..=22) = u8::try_from(text.len()) {
            let mut bytes = [0; SHORT];
            bytes
                .iter_mut()
                .zip(text.bytes())
                .for_each(|(to, from)| *to = from);
            return Self::Short(length, bytes);
        }
        if text.len() <= LONGEST_IP6
            && let Ok(address) = text.parse::<Ipv6Addr>()
            && Buffer::of(address).as_str() == text
        {
            return Self::Ip6(address.octets());
        }
        Self::Long(text.into())
    }
}

impl Ord for KeyText {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Self::Short(length, bytes), Self::Short(others, other)) = (self, other) {
            let text = bytes.get(..usize::from(*length));
            return text.cmp(&other.get(..usize::from(*others)));
        }
        self.with(|own| other.with(|other| own.cmp(other)))
    }
}

impl PartialOrd for KeyText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Name for KeyText {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Short(..) | Self::Ip6(_) => 0,
            Self::Long(text) => heap::block(text.len()),
        }
    }

    fn hash(&self, seeds: &Seeds) -> u64 {
        self.with(|text| Self::hash_of(text, seeds))
    }

    fn prefix(&self) -> u128 {
        self.with(|text| {
            let mut first = [0; 16];
            let bytes = first.iter_mut().zip(text.bytes());
            bytes.for_each(|(to, from)| *to = from);
            u128::from_be_bytes(first)
        })
    }
}

/// A text without memory of its own.
struct Buffer {
    bytes: [u8; 48],
    length: usize,
}

impl Buffer {
    fn of(address: Ipv6Addr) -> Self {
        let mut buffer = Self {
            bytes: [0; 48],
            length: 0,
        };
        // The longest is shorter than the buffer.
        let _fits = write!(buffer, "{address}");
        buffer
    }

    fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_need_no_memory_of_their_own() {
        for text in [
            "",
            "192.0.2.1",
            "255.255.255.255",
            "2001:db8::/64",
            "2001:db8:1111:2222:3333:4444:5555:6666",
            "fe80::1:2:3:4",
        ] {
            let key = KeyText::from(text);
            assert_eq!(key.heap_bytes(), 0, "{text}");
            assert!(key.is(text), "{text}");
        }
        // The text counts, not the address: another spelling is another key.
        let other = KeyText::from("2001:0db8:1111:2222:3333:4444:5555:6666");
        assert!(other.is("2001:0db8:1111:2222:3333:4444:5555:6666"));
        assert!(!other.is("2001:db8:1111:2222:3333:4444:5555:6666"));
        assert!(size_of::<KeyText>() <= 24);
    }

    proptest! {
        #[test]
        fn a_text_comes_back_and_keeps_its_order(
            one in prop_oneof!["\\PC{0,40}", any::<Ipv6Addr>().prop_map(|one| one.to_string())],
            other in prop_oneof!["\\PC{0,40}", any::<Ipv6Addr>().prop_map(|one| one.to_string())],
        ) {
            let (a, b) = (KeyText::from(one.as_str()), KeyText::from(other.as_str()));
            prop_assert!(a.is(&one));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            prop_assert!(a.prefix() == b.prefix() || a.prefix().cmp(&b.prefix()) == one.cmp(&other));
            prop_assert_eq!(a == b, one == other);
            let seeds = Seeds::default();
            prop_assert_eq!(a.hash(&seeds), KeyText::hash_of(&one, &seeds));
        }
    }
}
