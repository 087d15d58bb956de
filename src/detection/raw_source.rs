//! The source address of an event whose record is not parsed.
//!
//! What is read here is what the reader of events would say, or that it may say something else: a
//! record whose address is not plain to see has to be parsed.

use memchr::{memchr, memmem::Finder};

use super::{
    address::{self, MAX_HOPS},
    event::Field,
    text::Text,
};
use crate::{
    audit::map,
    pdata::{AnyValue, KeyValues},
    rules::derived::{self, Hops},
};

/// A longer list of sources is left to the parser.
const MOST_BYTES: usize = 1024;

/// The list of sources of an event, as far as it is plain to see. An event without one may carry an
/// object that has one: its address is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawSources<'a> {
    /// There is none: the address is unknown.
    None,
    /// The text between its brackets.
    List(&'a [u8]),
    /// It may be anything.
    Unclear,
}

/// Finds the list of sources in JSON texts.
#[derive(Clone, Debug)]
pub(super) struct SourceFinder(Finder<'static>);

impl Default for SourceFinder {
    fn default() -> Self {
        Self(Finder::new(KEY))
    }
}

const KEY: &[u8] = b"\"sourceIPs\"";

impl SourceFinder {
    /// The first list of sources of a text: that of the event, as API servers write it.
    pub(super) fn first<'t>(&self, text: &'t [u8]) -> RawSources<'t> {
        match self.0.find(text) {
            None => RawSources::None,
            Some(at) => list(text.get(at + KEY.len()..).unwrap_or_default()),
        }
    }

    /// The same, sure to be that of the event.
    pub(super) fn only<'t>(&self, text: &'t [u8], hides_sources: bool) -> RawSources<'t> {
        if hides_sources {
            return RawSources::Unclear;
        }
        let mut found = self.0.find_iter(text);
        let Some(first) = found.next() else {
            return RawSources::None;
        };
        if found.next().is_some() {
            return RawSources::Unclear;
        }
        list(text.get(first + KEY.len()..).unwrap_or_default())
    }
}

/// The list behind a key.
fn list(after_key: &[u8]) -> RawSources<'_> {
    let value = after_key.trim_ascii_start().strip_prefix(b":");
    let inner = value.and_then(|value| value.trim_ascii_start().strip_prefix(b"["));
    let Some(inner) = inner else {
        return RawSources::Unclear;
    };
    let inner = inner.get(..inner.len().min(MOST_BYTES)).unwrap_or_default();
    let list = memchr(b']', inner).and_then(|end| inner.get(..end));
    match list {
        Some(list) if memchr(b'\\', list).is_none() => RawSources::List(list),
        _ => RawSources::Unclear,
    }
}

/// The key of the address that events with this list count for; `None` when it is not plain to see.
pub(super) fn address_of(list: &[u8], hops: &Hops) -> Option<String> {
    let mut fields = [Field::Absent; MAX_HOPS];
    let mut count = 0;
    if !list.trim_ascii().is_empty() {
        // From the right, as far as proxies are passed over.
        for element in list.rsplit(|byte| *byte == b',') {
            let text = element
                .trim_ascii()
                .strip_prefix(b"\"")?
                .strip_suffix(b"\"")?;
            if memchr(b'"', text).is_some() || text.iter().any(|byte| !(b' '..0x7f).contains(byte))
            {
                return None;
            }
            count += 1;
            if let Some(place) = fields.get_mut(MAX_HOPS - count) {
                *place = Field::Text(Text::plain(text));
            }
            if count == MAX_HOPS {
                break;
            }
        }
    }
    let fields = fields.get(MAX_HOPS - count..).unwrap_or_default();
    Some(address::trusted(fields, &hops.trusted_proxies, hops.ipv6_prefix).to_string())
}

/// The list of sources of an event that is a map, as its reader says.
pub(super) fn sources_in<'a>(map: &KeyValues<'a>) -> Option<AnyValue<'a>> {
    let mut sources = None;
    map.for_each_of(b"sourceIPs", |value| sources = Some(value));
    sources
}

/// The key of the address that events with these sources count for.
pub(super) fn address_of_value(sources: Option<AnyValue<'_>>, hops: &Hops) -> String {
    let list = sources.and_then(|sources| map::field(sources).list());
    derived::trusted_in(list.unwrap_or_default(), hops).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::audit::json;

    /// What the reader of events says.
    fn read(text: &str, hops: &Hops) -> String {
        let event = json::one(text.as_bytes(), "t").unwrap().unwrap();
        derived::trusted(&event, hops).to_string()
    }

    /// What is plain to see.
    fn seen(text: &str, hops: &Hops) -> Option<String> {
        match SourceFinder::default().only(text.as_bytes(), text.contains("\\u00")) {
            RawSources::None => address_of(b"", hops),
            RawSources::List(list) => address_of(list, hops),
            RawSources::Unclear => None,
        }
    }

    proptest! {
        /// What is plain to see is what the reader says, unless it says that the address is unknown.
        #[test]
        fn says_what_the_reader_says(
            elements in vec(select(vec![
                r#""203.0.113.7""#, r#""10.0.0.1""#, r#""10.0.0.2""#, r#""2001:db8::7""#, r#"" 192.0.2.1 ""#,
                r#""::ffff:192.0.2.1""#, r#""a]b""#, r#""a,b""#, r#""a\"b""#, r#""[::1]""#, "null", "7", "{}",
                r#"["x"]"#, r#""192.0.2\u002e9""#, r#""""#, r#""é""#, r#""fe80::1%eth0""#,
            ]), 0..20),
            before in select(vec![
                "", r#""sourceIPs":["192.0.2.3"],"#, r#""source\u0049Ps":["192.0.2.3"],"#,
                r#""requestObject":{"sourceIPs":["192.0.2.3"]},"#, r#""userAgent":"\"sourceIPs\":[1]","#,
            ]),
            space in select(vec!["", " ", "\n\t"]),
            own in select(vec!["sourceIPs", "sourceips"]),
            proxies in any::<bool>(),
            ipv6_prefix in select(vec![128, 64]),
        ) {
            let hops = Hops {
                trusted_proxies: if proxies { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() },
                ipv6_prefix,
            };
            let list = elements.join(&format!("{space},{space}"));
            let text = format!(r#"{{{before}"verb":"get","{own}"{space}:{space}[{space}{list}{space}]}}"#);
            if let Some(seen) = seen(&text, &hops) {
                let read = read(&text, &hops);
                // The list may be in an object that the event carries; it has none itself then.
                prop_assert!(seen == read || read == address::UNKNOWN, "{}: {} {}", text, seen, read);
            }
        }
    }

    #[test]
    fn plain_lists_are_plain_to_see() {
        let hops = Hops::default();
        for (list, wanted) in [
            (r#"["192.0.2.1"]"#, Some("192.0.2.1")),
            (r#"["192.0.2.1", "2001:DB8::1"]"#, Some("2001:db8::1")),
            ("[]", Some("unknown")),
            (r#"["x"]"#, Some("unknown")),
            ("null", None),
            (r#"["192.0.2.1",7]"#, None),
        ] {
            let text = format!(r#"{{"sourceIPs":{list}}}"#);
            assert_eq!(seen(&text, &hops).as_deref(), wanted, "{text}");
        }
        assert_eq!(seen("{}", &hops).as_deref(), Some("unknown"));
    }
}
