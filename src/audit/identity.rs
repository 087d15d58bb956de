//! What makes two deliveries one request, hashed from the fields where they lie.
//!
//! A list or an object where a text belongs is part of it too. It is hashed so that JSON text and
//! the map that a collector makes of it are one, however the text is spelled and its keys are
//! ordered. That needs the keys of an object side by side, so it has a bound; beyond that, the
//! spelling counts.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    event::{Composite, Field},
    json,
    text::Text,
};
use crate::pdata::AnyValue;

/// Elements and members of a composite value that are hashed whatever their spelling.
const MOST_NODES: usize = 1024;
/// Bytes of JSON text of such a one.
const MOST_BYTES: usize = 64 * 1024;
/// Levels of such a one.
const MOST_LEVELS: usize = 32;

/// A SHA-256 digest.
type Hash = [u8; 32];

/// 128 bits that are equal for two deliveries of one request. Senders cannot make them equal for two
/// requests.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity(pub [u8; 16]);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::text::hex(&self.0, 16))
    }
}

/// The identity that these fields make.
pub(crate) fn of(fields: [&Field<'_>; 4]) -> Identity {
    let mut hash = Sha256::new();
    for field in fields {
        add(&mut hash, field);
    }
    let digest: Hash = hash.finalize().into();
    let mut identity = [0; 16];
    identity
        .iter_mut()
        .zip(digest)
        .for_each(|(to, from)| *to = from);
    Identity(identity)
}

fn add(hash: &mut Sha256, field: &Field<'_>) {
    let (kind, text) = match field {
        Field::Absent => (0u8, Text::from("")),
        Field::Text(text) => (1, *text),
        Field::Bool(true) => (2, Text::from("true")),
        Field::Bool(false) => (2, Text::from("false")),
        Field::Composite(value) => {
            hash.update([3]);
            hash.update(composite(*value));
            return;
        }
    };
    hash.update([kind]);
    text.hash_into(hash);
}

fn composite(value: Composite<'_>) -> Hash {
    let mut left = MOST_NODES;
    let plain = match value {
        Composite::Json(raw) if raw.len() > MOST_BYTES => None,
        Composite::Json(raw) => of_json(raw, MOST_LEVELS, &mut left),
        Composite::Otlp(value) => of_otlp(value, MOST_LEVELS, &mut left),
    };
    plain.unwrap_or_else(|| {
        let mut hash = Sha256::new();
        match value {
            Composite::Json(raw) => {
                hash.update(b"j");
                hash.update(raw);
            }
            Composite::Otlp(value) => {
                hash.update(b"o");
                as_it_comes(value, &mut hash);
            }
        }
        hash.finalize().into()
    })
}

/// Hash of a value of one of these kinds: `s`tring, `n`umber, `l`iteral.
fn leaf(kind: u8, text: Text<'_>) -> Hash {
    let mut hash = Sha256::new();
    hash.update([kind]);
    text.hash_into(&mut hash);
    hash.finalize().into()
}

/// A number however it is spelled; what no double can hold stands for itself.
fn number(spelled: &str) -> Hash {
    match serde_json::from_str::<serde_json::Number>(spelled) {
        Ok(number) => leaf(b'n', Text::from(number.to_string().as_str())),
        Err(_) => leaf(b'n', Text::from(spelled)),
    }
}

const NULL: Text<'static> = Text::fixed("null");

/// A list from the hashes of its elements; `None` beyond a bound.
struct ListHash(Option<Sha256>);

impl ListHash {
    fn new() -> Self {
        Self(Some(Sha256::new().chain_update(b"[")))
    }

    fn add(&mut self, element: Option<Hash>) {
        self.0 = match (self.0.take(), element) {
            (Some(hash), Some(element)) => Some(hash.chain_update(element)),
            _ => None,
        };
    }

    fn finish(self) -> Option<Hash> {
        self.0.map(|hash| hash.finalize().into())
    }
}

/// An object from the hashes of its keys and values; `None` beyond a bound.
struct MapHash(Option<Vec<(Hash, Hash)>>);

impl MapHash {
    fn new() -> Self {
        Self(Some(Vec::new()))
    }

    fn add(&mut self, key: Text<'_>, value: Option<Hash>) {
        match (&mut self.0, value) {
            (Some(pairs), Some(value)) => pairs.push((leaf(b's', key), value)),
            _ => self.0 = None,
        }
    }

    fn finish(self) -> Option<Hash> {
        let mut pairs = self.0?;
        // The last of equal keys wins: a stable sort leaves them in their order.
        pairs.sort_by_key(|(key, _)| *key);
        let mut hash = Sha256::new().chain_update(b"{");
        let mut pairs = pairs.iter().peekable();
        while let Some((key, value)) = pairs.next() {
            if pairs.peek().is_none_or(|(next, _)| next != key) {
                hash.update(key);
                hash.update(value);
            }
        }
        Some(hash.finalize().into())
    }
}

/// Takes one of the nodes that are left.
fn take(left: &mut usize) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

fn of_json(raw: &[u8], levels: usize, left: &mut usize) -> Option<Hash> {
    let levels = levels.checked_sub(1)?;
    Some(match raw.first() {
        Some(b'"') => leaf(b's', json::string(raw)),
        Some(b'-' | b'0'..=b'9') => number(std::str::from_utf8(raw).unwrap_or_default()),
        Some(b'[') => {
            let mut list = ListHash::new();
            json::elements(raw, |element| {
                list.add(take(left).and_then(|()| of_json(element, levels, left)));
            });
            list.finish()?
        }
        Some(b'{') => {
            let mut map = MapHash::new();
            json::texts(raw, |key, value| {
                let value = take(left).and_then(|()| of_json(value, levels, left));
                map.add(key, value);
            });
            map.finish()?
        }
        _ => leaf(b'l', Text::plain(raw)),
    })
}

fn of_otlp(value: AnyValue<'_>, levels: usize, left: &mut usize) -> Option<Hash> {
    let levels = levels.checked_sub(1)?;
    Some(match value {
        AnyValue::Text(text) => leaf(b's', Text::plain(text)),
        AnyValue::Bool(value) => leaf(b'l', Text::from(if value { "true" } else { "false" })),
        AnyValue::Int(whole) => number(&whole.to_string()),
        // A whole double was a whole number, and is spelled as one. What is no number in JSON
        // came from none.
        AnyValue::Double(double) if double.is_finite() => number(&double.to_string()),
        AnyValue::Double(_) | AnyValue::Bytes(_) | AnyValue::Empty => leaf(b'l', NULL),
        AnyValue::Array(elements) => {
            let mut list = ListHash::new();
            elements.for_each(|element| {
                list.add(take(left).and_then(|()| of_otlp(element, levels, left)));
            });
            list.finish()?
        }
        AnyValue::Map(members) => {
            let mut map = MapHash::new();
            members.for_each(|key, value| {
                let value = take(left).and_then(|()| of_otlp(value, levels, left));
                map.add(Text::plain(key), value);
            });
            map.finish()?
        }
    })
}

/// Adds a value to a hash in the order in which it comes. Its depth is bounded by the walk.
fn as_it_comes(value: AnyValue<'_>, hash: &mut Sha256) {
    let mut bytes = |kind: u8, bytes: &[u8]| {
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match value {
        AnyValue::Empty => bytes(b'0', &[]),
        AnyValue::Text(text) => bytes(b's', text),
        AnyValue::Bytes(text) => bytes(b'b', text),
        AnyValue::Bool(value) => bytes(b'l', &[u8::from(value)]),
        AnyValue::Int(number) => bytes(b'i', &number.to_le_bytes()),
        AnyValue::Double(number) => bytes(b'd', &number.to_le_bytes()),
        AnyValue::Array(list) => {
            hash.update(b"[");
            list.for_each(|element| as_it_comes(element, hash));
            hash.update(b"]");
        }
        AnyValue::Map(map) => {
            hash.update(b"{");
            map.for_each(|key, value| {
                as_it_comes(AnyValue::Text(key), hash);
                as_it_comes(value, hash);
            });
            hash.update(b"}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Identity {
        let field = json::field(text.as_bytes());
        of([&field, &Field::Absent, &Field::Absent, &Field::Absent])
    }

    #[test]
    fn spelling_does_not_matter_within_the_bound() {
        let plain = json(r#"{"a":[1,2.5,"é"],"b":{"c":null}}"#);
        for same in [
            r#"{"b":{"c":null},"a":[1,2.5,"é"]}"#,
            r#"{ "a" : [ 1 , 25e-1 , "\u00e9" ] , "b":{"c":1,"c":null}}"#,
            r#"{"\u0061":[1,2.5,"é"],"b":{"c":null}}"#,
        ] {
            assert_eq!(json(same), plain, "{same}");
        }
        for other in [
            r#"{"a":[1,2.5,"é"],"b":{"c":false}}"#,
            r#"{"a":[1,2.5,"é"],"b":{}}"#,
            r#"{"a":[2.5,1,"é"],"b":{"c":null}}"#,
            r#"{"a":["1",2.5,"é"],"b":{"c":null}}"#,
            r#"[{"a":[1,2.5,"é"],"b":{"c":null}}]"#,
            r#""{}""#,
            "[]",
            "{}",
        ] {
            assert_ne!(json(other), plain, "{other}");
        }
        assert_ne!(json("[]"), json("{}"));
        assert_ne!(json("[[],[]]"), json("[[[]]]"));
    }

    #[test]
    fn beyond_the_bound_the_spelling_counts() {
        let list = |elements: usize, blank: &str| format!("[{blank}{}1]", "1,".repeat(elements));
        assert_eq!(json(&list(500, "")), json(&list(500, " ")));
        assert_ne!(json(&list(5000, "")), json(&list(5000, " ")));
        assert_eq!(json(&list(5000, "")), json(&list(5000, "")));
        assert_ne!(json(&list(5000, "")), json(&list(5001, "")));
        let deep = |blank: &str| format!("{}{blank}{}", "[".repeat(5000), "]".repeat(5000));
        assert_ne!(json(&deep("")), json(&deep(" ")));
        let long = |blank: &str| format!("[\"{}\"{blank}]", "x".repeat(MOST_BYTES));
        assert_ne!(json(&long("")), json(&long(" ")));
    }
}
