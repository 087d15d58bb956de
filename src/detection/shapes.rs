//! What records look like that hold no audit event, for a message to whoever sends them. Keys are
//! told, values never.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::{
    event::Event,
    json::{self, Document},
    map,
};
use crate::pdata::{AnyValue, KeyValues, Record};

/// Distinct shapes that are kept apart.
const SHAPES: usize = 8;
/// Keys of one shape that are told, and letters of a key.
const KEYS: usize = 6;
const KEY: usize = 32;
/// A longer text is not looked into.
const LONG: usize = 1024 * 1024;

/// Shapes, and how many records had them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shapes {
    seen: BTreeMap<String, u64>,
}

impl Shapes {
    pub(super) fn add(&mut self, shape: String) {
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
pub(super) fn is_event(record: &Record<'_>, body: &AnyValue<'_>, time_field: &str) -> bool {
    let of_map = |map: &KeyValues<'_>| map::event(map, time_field).is_audit_event();
    let in_body = match body {
        AnyValue::Text(text) | AnyValue::Bytes(text) => {
            // Without one of these it is none, and most texts have neither.
            let may = |key: &[u8]| memchr::memmem::find(text, key).is_some();
            (may(b"requestURI") || may(b"verb"))
                && of_text(&String::from_utf8_lossy(text), time_field)
        }
        AnyValue::Map(map) => of_map(map),
        _ => false,
    };
    in_body || record.has_attributes() && of_map(&record.attributes())
}

fn of_text(text: &str, time_field: &str) -> bool {
    matches!(json::read(text, time_field), Ok(Document::Event(event)) if event.is_audit_event())
}

/// What a record that is no audit event looks like.
pub(super) fn shape(record: &Record<'_>, body: &AnyValue<'_>, time_field: &str) -> String {
    match body {
        AnyValue::Text(text) | AnyValue::Bytes(text) if text.len() > LONG => {
            "text of more than 1 MiB".to_owned()
        }
        AnyValue::Text(text) | AnyValue::Bytes(text) => {
            text_shape(&String::from_utf8_lossy(text), time_field)
        }
        AnyValue::Map(map) => map_shape("map", map, time_field),
        AnyValue::Array(_) => "list".to_owned(),
        AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) => "single value".to_owned(),
        AnyValue::Empty if record.has_attributes() => {
            map_shape("no body and attributes", &record.attributes(), time_field)
        }
        AnyValue::Empty => "no body".to_owned(),
    }
}

fn text_shape(text: &str, time_field: &str) -> String {
    if text.trim().is_empty() {
        return "empty text".to_owned();
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return if is_cri(text) {
            "text behind the time and stream of a container's log (CRI)".to_owned()
        } else {
            "text that is not JSON".to_owned()
        };
    };
    if let Ok(Document::List(events, _)) = json::read(text, time_field)
        && events.iter().any(Event::is_audit_event)
    {
        return "EventList, several audit events in one record".to_owned();
    }
    let Value::Object(object) = value else {
        return "JSON that is no object".to_owned();
    };
    let wrapped = object.iter().find(|(_, value)| match value {
        Value::String(text) => of_text(text, time_field),
        Value::Object(_) => of_text(&value.to_string(), time_field),
        _ => false,
    });
    match wrapped {
        Some((key, _)) => wrapped_shape("JSON object", key),
        None => keyed_shape("JSON object", object.into_iter().map(|(key, _)| key)),
    }
}

fn map_shape(what: &str, map: &KeyValues<'_>, time_field: &str) -> String {
    let mut keys = Vec::new();
    let mut wrapped = None;
    map.for_each(|key, value| {
        let key = String::from_utf8_lossy(key).into_owned();
        let is_event = match &value {
            AnyValue::Text(text) | AnyValue::Bytes(text) => {
                text.len() <= LONG && of_text(&String::from_utf8_lossy(text), time_field)
            }
            AnyValue::Map(map) => map::event(map, time_field).is_audit_event(),
            _ => false,
        };
        if is_event {
            wrapped.get_or_insert_with(|| key.clone());
        }
        keys.push(key);
    });
    match wrapped {
        Some(key) => wrapped_shape(what, &key),
        None => keyed_shape(what, keys.into_iter()),
    }
}

fn wrapped_shape(what: &str, key: &str) -> String {
    format!(
        "{what} that holds an audit event under the key {}",
        name(key)
    )
}

fn keyed_shape(what: &str, keys: impl Iterator<Item = String>) -> String {
    let keys: BTreeSet<_> = keys.collect();
    if keys.is_empty() {
        return format!("{what} without keys");
    }
    let told: Vec<_> = keys.iter().take(KEYS).map(|key| name(key)).collect();
    let more = match keys.len().saturating_sub(KEYS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{what} with the keys {}{more}", told.join(", "))
}

/// A key as it may stand in a message. It was written by whoever sends logs.
fn name(key: &str) -> String {
    let mut short: String = key.chars().take(KEY).collect();
    if short.len() < key.len() {
        short.push_str("...");
    }
    short.escape_debug().to_string()
}

/// `2026-11-25T07:00:00Z stdout F ...`
fn is_cri(text: &str) -> bool {
    let mut words = text.splitn(4, ' ');
    let time = words.next().is_some_and(|word| word.contains('T'));
    let stream = words
        .next()
        .is_some_and(|word| word == "stdout" || word == "stderr");
    let tag = words.next().is_some_and(|word| word == "F" || word == "P");
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
            assert_eq!(text_shape(text, "t"), wanted, "{text}");
        }
        assert!(of_text(EVENT, "t") && !of_text("{}", "t"));
        assert_eq!(name(&"x".repeat(33)).len(), 35);
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
