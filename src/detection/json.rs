//! Audit events from JSON text.
//!
//! Fields are captured as raw text and read one by one, so that a number keeps its spelling, a
//! field of the wrong type is absent rather than an error, and the last of duplicate keys wins.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::event::{Event, Field, Status, User};

/// What one JSON text holds.
#[derive(Debug, PartialEq)]
pub enum Document<'a> {
    /// An object: one event, whatever its kind.
    Event(Box<Event<'a>>),
    /// An object with an `items` array, such as an `EventList`: its events, and how many of the
    /// items are none.
    List(Vec<Event<'a>>, usize),
    /// Any other JSON value.
    Other,
}

/// Reads one JSON text.
///
/// # Errors
/// When it is not exactly one JSON value.
pub fn read<'a>(text: &'a str, time_field: &str) -> Result<Document<'a>, serde_json::Error> {
    let raw: &RawValue = serde_json::from_str(text)?;
    let mut items = None;
    let Some(event) = event(raw, time_field, Some(&mut items)) else {
        return Ok(Document::Other);
    };
    let Some(items) = items.and_then(elements) else {
        return Ok(Document::Event(Box::new(event)));
    };
    let all = items.len();
    let events: Vec<_> = items
        .into_iter()
        .filter_map(|item| self::event(item, time_field, None))
        .collect();
    let others = all - events.len();
    Ok(Document::List(events, others))
}

/// An object as an event; `None` when the value is no object.
fn event<'a>(
    raw: &'a RawValue,
    time_field: &str,
    mut items: Option<&mut Option<&'a RawValue>>,
) -> Option<Event<'a>> {
    let mut event = Event::default();
    let is_object = members(raw, |key, value| {
        if key == time_field.as_bytes() {
            event.time = field(value);
        }
        match key {
            b"auditID" => event.audit_id = field(value),
            b"stage" => event.stage = field(value),
            b"verb" => event.verb = field(value),
            b"requestURI" => event.uri = field(value),
            b"userAgent" => event.agent = field(value),
            b"requestReceivedTimestamp" => event.received = field(value),
            b"user" => event.user = user(value),
            b"sourceIPs" => event.sources = elements(value).map(fields),
            b"responseStatus" => event.status = status(value),
            b"items" => {
                if let Some(items) = &mut items {
                    **items = Some(value);
                }
            }
            _ => {}
        }
    });
    is_object.then_some(event)
}

fn user(raw: &RawValue) -> Option<User<'_>> {
    let mut user = User::default();
    members(raw, |key, value| match key {
        b"username" => user.name = field(value),
        b"groups" => user.groups = elements(value).map(fields).unwrap_or_default(),
        _ => {}
    })
    .then_some(user)
}

fn status(raw: &RawValue) -> Option<Status<'_>> {
    let mut status = Status::default();
    members(raw, |key, value| match key {
        b"code" => status.code = field(value),
        b"message" => status.message = field(value),
        b"reason" => status.reason = field(value),
        b"status" => status.status = field(value),
        _ => {}
    })
    .then_some(status)
}

fn fields(raw: Vec<&RawValue>) -> Vec<Field<'_>> {
    raw.into_iter().map(field).collect()
}

/// A value as a field.
fn field(raw: &RawValue) -> Field<'_> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => Field::Text(string(text)),
        Some(b't') => Field::Bool(true),
        Some(b'f') => Field::Bool(false),
        Some(b'{' | b'[') => Field::Composite(text.into()),
        Some(b'-' | b'0'..=b'9') => Field::Text(text.into()),
        _ => Field::Absent,
    }
}

/// The content of a JSON string. Half of a surrogate pair becomes U+FFFD.
fn string(quoted: &str) -> Cow<'_, str> {
    let inner = quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut bytes = Bytes::default();
    let decoded =
        DeserializeSeed::deserialize(&mut bytes, &mut serde_json::Deserializer::from_str(quoted));
    match decoded {
        Ok(()) => Cow::Owned(replace_surrogates(bytes.0)),
        // The parser has been over this text before; if it changes its mind, show the spelling.
        Err(_) => Cow::Borrowed(inner),
    }
}

/// `serde_json` writes half a surrogate pair as three bytes from ED A0 80 on, which is no UTF-8.
fn replace_surrogates(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut text = String::new();
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            // Of the three bytes the first starts the replacement and the others belong to it.
            if chunk.invalid().first() == Some(&0xed) {
                text.push('\u{fffd}');
            }
        }
        text
    })
}

/// Shows each member of an object, with its key decoded; false when the value is no object.
fn members<'a>(raw: &'a RawValue, show: impl FnMut(&[u8], &'a RawValue)) -> bool {
    raw.get().starts_with('{')
        && serde_json::Deserializer::from_str(raw.get())
            .deserialize_map(Members(show))
            .is_ok()
}

/// The elements of a list; `None` when the value is no list.
fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    if !raw.get().starts_with('[') {
        return None;
    }
    serde_json::Deserializer::from_str(raw.get())
        .deserialize_seq(Elements)
        .ok()
}

struct Members<F>(F);

impl<'de, F: FnMut(&[u8], &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut key = Bytes::default();
        while map.next_key_seed(&mut key)?.is_some() {
            (self.0)(&key.0, map.next_value()?);
        }
        Ok(())
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = seq.next_element()? {
            all.push(element);
        }
        Ok(all)
    }
}

/// The bytes of a string, which need not be UTF-8: unlike a `str`, they can hold half a surrogate
/// pair, which must not make the whole event unreadable. One buffer serves all keys of an object.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl<'de> DeserializeSeed<'de> for &mut Bytes {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_bytes(self)
    }
}

impl Visitor<'_> for &mut Bytes {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<(), E> {
        self.0.clear();
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Event<'_> {
        match read(text, "requestReceivedTimestamp").unwrap() {
            Document::Event(event) => *event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_keep_their_spelling_and_wrong_types_are_absent() {
        let event = one(
            r#"{"verb": 4.030e2, "stage": true, "userAgent": null, "requestURI": {"a": 1}, "user": "x",
                "sourceIPs": ["a", null, 7, ["b"]], "responseStatus": {"code": -0, "message": "a\tb\u00e9"}}"#,
        );
        assert_eq!(event.verb.text(), Some("4.030e2"));
        assert_eq!(event.stage.text(), Some("true"));
        assert_eq!((event.agent.text(), event.uri.text()), (None, None));
        assert_eq!(event.user, None);
        let sources: Vec<_> = event
            .sources
            .as_ref()
            .unwrap()
            .iter()
            .map(Field::text)
            .collect();
        assert_eq!(sources, [Some("a"), None, Some("7"), None]);
        let status = event.status.unwrap();
        assert_eq!(
            (status.code.text(), status.message.text()),
            (Some("-0"), Some("a\tbé"))
        );
    }

    #[test]
    fn the_last_of_duplicate_keys_wins_however_it_is_spelled() {
        let event =
            one(r#"{"verb":"a","v\u0065rb":"b","user":{"username":"x"},"user":7,"\ud800":1}"#);
        assert_eq!((event.verb.text(), event.user), (Some("b"), None));
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        let event = one(r#"{"verb":"a\ud800b\udfff","stage":"\ud83d\ude00"}"#);
        assert_eq!(
            (event.verb.text(), event.stage.text()),
            (Some("a\u{fffd}b\u{fffd}"), Some("😀"))
        );
    }

    #[test]
    fn a_list_is_its_items_and_anything_else_is_other() {
        let list = read(
            r#"{"items":[{"verb":"get"},5,{"items":[]}],"kind":"EventList"}"#,
            "t",
        );
        assert!(matches!(list, Ok(Document::List(events, 1)) if events.len() == 2));
        assert!(matches!(
            read(r#"{"items":7}"#, "t"),
            Ok(Document::Event(_))
        ));
        assert!(matches!(read("[1]", "t"), Ok(Document::Other)));
        for broken in ["", "{", "{} {}", "{\"a\":\"\u{1}\"}", "\0", "\u{feff}{}"] {
            assert!(read(broken, "t").is_err(), "{broken:?}");
        }
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = format!(
            r#"{{"a":{}{},"verb":"get"}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(one(&deep).verb.text(), Some("get"));
    }
}
