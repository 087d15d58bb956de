//! Describes records that hold no audit event, for a message to the operator. Descriptions name keys
//! and never values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    event::Field,
    json::{self, Kind},
    map,
    text::Text,
};
use crate::pdata::{AnyValue, KeyValues, Record};

/// Distinct shapes that are kept apart.
const SHAPES: usize = 8;
/// How many keys a description names, and how many characters of each.
const KEYS: usize = 6;
const KEY: usize = 32;
/// Distinct keys of one record that are counted, the first in their order.
const COUNTED: usize = 256;
/// A longer text is not looked into.
const LONG: usize = 1024 * 1024;

/// Shapes, and how many records had them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shapes {
    seen: BTreeMap<String, u64>,
}

impl Shapes {
    pub(crate) fn add(&mut self, shape: String) {
        self.count(shape, 1);
    }

    fn count(&mut self, shape: String, records: u64) {
        let shape = if self.seen.len() < SHAPES || self.seen.contains_key(&shape) {
            shape
        } else {
            "something else".to_owned()
        };
        *self.seen.entry(shape).or_default() += records;
    }

    /// Adds what was seen elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (shape, records) in &other.seen {
            self.count(shape.clone(), *records);
        }
    }
}

impl fmt::Display for Shapes {
    /// The most frequent first, each with its share.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shapes: Vec<_> = self.seen.iter().collect();
        shapes.sort_by_key(|(_, records)| std::cmp::Reverse(**records));
        let all: u64 = self.seen.values().sum();
        for (at, (shape, records)) in shapes.into_iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            let share = (records * 100 + all / 2) / all.max(1);
            write!(f, "{}% {shape}", share.max(1))?;
        }
        Ok(())
    }
}

/// Whether a record is an audit event, read in full, whatever became of the request.
pub(crate) fn is_event(record: &Record<'_>, body: &AnyValue<'_>, time_field: &str) -> bool {
    let of_map = |map: &KeyValues<'_>| map::event(map, time_field).is_audit_event();
    let in_body = match body {
        AnyValue::Text(text) | AnyValue::Bytes(text) => {
            // Without one of these it is none, and most texts have neither.
            let may = |key: &[u8]| memchr::memmem::find(text, key).is_some();
            (may(b"requestURI") || may(b"verb")) && of_text(text, time_field)
        }
        AnyValue::Map(map) => of_map(map),
        _ => false,
    };
    in_body || record.has_attributes() && of_map(&record.attributes())
}

fn of_text(text: &[u8], time_field: &str) -> bool {
    matches!(json::one(text, time_field), Ok(Some(event)) if event.is_audit_event())
}

/// What a record that is no audit event looks like.
pub(crate) fn shape(record: &Record<'_>, body: &AnyValue<'_>, time_field: &str) -> String {
    match body {
        AnyValue::Text(text) | AnyValue::Bytes(text) if text.len() > LONG => {
            "text of more than 1 MiB".to_owned()
        }
        AnyValue::Text(text) | AnyValue::Bytes(text) => text_shape(text, time_field),
        AnyValue::Map(map) => map_shape("map", map, time_field),
        AnyValue::Array(_) => "list".to_owned(),
        AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) => "single value".to_owned(),
        AnyValue::Empty if record.has_attributes() => {
            map_shape("no body and attributes", &record.attributes(), time_field)
        }
        AnyValue::Empty => "no body".to_owned(),
    }
}

/// What a text that holds no audit event looks like.
pub(crate) fn text_shape(text: &[u8], time_field: &str) -> String {
    if text.len() > LONG {
        return "text of more than 1 MiB".to_owned();
    }
    let mut is_list_of_events = false;
    let kind = json::visit(text, time_field, &mut |event| {
        is_list_of_events |= event.is_audit_event();
    });
    let what = match kind {
        Ok(Kind::List(_)) if is_list_of_events => "EventList, several audit events in one record",
        Ok(Kind::Event | Kind::List(_)) => {
            return object_shape(text.trim_ascii(), time_field);
        }
        Ok(Kind::Other) => "JSON that is no object",
        Err(_) if String::from_utf8_lossy(text).trim().is_empty() => "empty text",
        Err(_) if is_cri(text) => "text behind the time and stream of a container's log (CRI)",
        Err(_) => "text that is not JSON",
    };
    what.to_owned()
}

fn object_shape(object: &[u8], time_field: &str) -> String {
    let (mut keys, mut wrapped) = (Keys::default(), Keys::default());
    json::texts(object, |key, value| {
        let is_event = match json::field(value) {
            Field::Text(text) => of_text(text.whole().as_bytes(), time_field),
            Field::Composite(_) => of_text(value, time_field),
            Field::Absent | Field::Bool(_) => false,
        };
        if is_event {
            wrapped.add(key);
        }
        keys.add(key);
    });
    match wrapped.distinct.first() {
        Some(key) => wrapped_shape("JSON object", key),
        None => keyed_shape("JSON object", &keys),
    }
}

fn map_shape(what: &str, map: &KeyValues<'_>, time_field: &str) -> String {
    let mut keys = Keys::default();
    let mut wrapped = None;
    map.for_each(|key, value| {
        let is_event = match &value {
            AnyValue::Text(text) | AnyValue::Bytes(text) => {
                text.len() <= LONG && of_text(text, time_field)
            }
            AnyValue::Map(map) => map::event(map, time_field).is_audit_event(),
            _ => false,
        };
        if is_event {
            wrapped.get_or_insert(key);
        }
        keys.add(Text::plain(key));
    });
    match wrapped {
        Some(key) => wrapped_shape(what, &short(Text::plain(key))),
        None => keyed_shape(what, &keys),
    }
}

/// The distinct keys of one record: the first in their order, however many there are.
#[derive(Default)]
struct Keys {
    distinct: BTreeSet<String>,
    /// Whether there are more.
    full: bool,
}

impl Keys {
    fn add(&mut self, key: Text<'_>) {
        self.distinct.insert(short(key));
        if self.distinct.len() > COUNTED {
            self.distinct.pop_last();
            self.full = true;
        }
    }
}

/// A key, cut a little above the length that a description shows, so that the cut is visible.
fn short(key: Text<'_>) -> String {
    key.cut(4 * KEY)
}

fn wrapped_shape(what: &str, key: &str) -> String {
    format!(
        "{what} that holds an audit event under the key {}",
        name(key)
    )
}

fn keyed_shape(what: &str, keys: &Keys) -> String {
    let distinct = &keys.distinct;
    if distinct.is_empty() {
        return format!("{what} without keys");
    }
    let names: Vec<_> = distinct.iter().take(KEYS).map(|key| name(key)).collect();
    let more = match distinct.len().saturating_sub(KEYS) {
        more if keys.full => format!(" and more than {more} more"),
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{what} with the keys {}{more}", names.join(", "))
}

/// A key, made safe for a message: the sender of the logs chose its text.
fn name(key: &str) -> String {
    let mut short: String = key.chars().take(KEY).collect();
    if short.len() < key.len() {
        short.push_str("...");
    }
    short.escape_debug().to_string()
}

/// `2026-11-25T07:00:00Z stdout F ...`
fn is_cri(text: &[u8]) -> bool {
    let mut words = text.splitn(4, |byte| *byte == b' ');
    let time = words.next().is_some_and(|word| word.contains(&b'T'));
    let stream = words
        .next()
        .is_some_and(|word| word == b"stdout" || word == b"stderr");
    let tag = words
        .next()
        .is_some_and(|word| word == b"F" || word == b"P");
    time && stream && tag
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"verb":"get","user":{"username":"u"},"sourceIPs":["192.0.2.1"]}"#;

    #[test]
    fn names_the_shape_of_a_text() {
        let string = serde_json::to_string(EVENT).unwrap();
        let keys: Vec<_> = (0..9).map(|at| format!("\"k{at}\":\"secret\"")).collect();
        for (text, wanted) in [
            ("", "empty text"),
            ("I1125 listening", "text that is not JSON"),
            (
                "2026-11-25T07:00:00.1Z stdout F {}",
                "text behind the time and stream of a container's log (CRI)",
            ),
            ("[1]", "JSON that is no object"),
            ("{}", "JSON object without keys"),
            (
                r#"{"b":1,"a\n\u001b[1m":"secret"}"#,
                r"JSON object with the keys a\n\u{1b}[1m, b",
            ),
            (
                &format!("{{{}}}", keys.join(",")),
                "JSON object with the keys k0, k1, k2, k3, k4, k5 and 3 more",
            ),
            (
                &format!(r#"{{"log":{string}}}"#),
                "JSON object that holds an audit event under the key log",
            ),
            (
                &format!(r#"{{"x":1,"event":{EVENT}}}"#),
                "JSON object that holds an audit event under the key event",
            ),
            (
                &format!(r#"{{"kind":"EventList","items":[{EVENT}]}}"#),
                "EventList, several audit events in one record",
            ),
            (
                r#"{"kind":"PodList","items":[{"metadata":{}}]}"#,
                "JSON object with the keys items, kind",
            ),
        ] {
            assert_eq!(text_shape(text.as_bytes(), "t"), wanted, "{text}");
        }
        assert!(of_text(EVENT.as_bytes(), "t") && !of_text(b"{}", "t"));
        assert_eq!(name(&"x".repeat(33)).len(), 35);
    }

    #[test]
    fn very_many_keys_are_not_all_kept() {
        let keys: Vec<_> = (0..5000).map(|at| format!("\"k{at:04}\":0")).collect();
        assert_eq!(
            text_shape(format!("{{{}}}", keys.join(",")).as_bytes(), "t"),
            "JSON object with the keys k0000, k0001, k0002, k0003, k0004, k0005 and more than 250 more"
        );
    }

    #[test]
    fn shapes_have_shares_and_a_bound() {
        let mut shapes = Shapes::default();
        shapes.add("b".to_owned());
        shapes.add("a".to_owned());
        let mut other = Shapes::default();
        other.add("b".to_owned());
        shapes.merge(&other);
        assert_eq!(shapes.to_string(), "67% b; 33% a");
        for at in 0..100 {
            shapes.add(format!("{at}"));
        }
        assert_eq!(shapes.seen.len(), SHAPES + 1);
        assert_eq!(shapes.seen["something else"], 94);
    }
}
