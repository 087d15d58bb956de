//! JSON that is written for events of another schema.

use std::borrow::Cow;

use super::node::Node;
use crate::pdata::AnyValue;

/// Levels of a value of OTLP that are written. Requests have no more.
const MOST_LEVELS: u8 = 64;

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            is_empty: true,
        }
    }

    fn key(&mut self, key: &[u8]) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        text(key, self.out);
        self.out.push(b':');
        self.out
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        text(value.as_bytes(), self.key(key.as_bytes()));
    }

    pub(super) fn node(&mut self, key: &[u8], value: Node<'_>) {
        node(value, self.key(key));
    }

    /// A member that is an object.
    pub(super) fn object(&mut self, key: &str, write: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object::new(self.key(key.as_bytes()));
        write(&mut object);
        object.end();
    }

    /// A member that is written elsewhere.
    pub(super) fn raw(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.key(key.as_bytes()));
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }
}

/// Writes a value as JSON.
pub(super) fn node(value: Node<'_>, out: &mut Vec<u8>) {
    match value {
        Node::Json(raw) => out.extend_from_slice(raw),
        Node::Otlp(value) => otlp(value, out, 0),
    }
}

/// Writes a text as a JSON string.
pub(super) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    // Writing into memory cannot fail.
    let _ok = serde_json::to_writer(out, &*text);
}

fn otlp(value: AnyValue<'_>, out: &mut Vec<u8>, level: u8) {
    match value {
        AnyValue::Text(bytes) | AnyValue::Bytes(bytes) => text(bytes, out),
        AnyValue::Bool(true) => out.extend_from_slice(b"true"),
        AnyValue::Bool(false) => out.extend_from_slice(b"false"),
        AnyValue::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        AnyValue::Double(number) if number.is_finite() => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
        AnyValue::Array(list) if level < MOST_LEVELS => {
            out.push(b'[');
            let mut is_first = true;
            list.for_each(|element| {
                if !std::mem::take(&mut is_first) {
                    out.push(b',');
                }
                otlp(element, out, level + 1);
            });
            out.push(b']');
        }
        AnyValue::Map(map) if level < MOST_LEVELS => {
            out.push(b'{');
            let mut is_first = true;
            map.for_each(|key, value| {
                if !std::mem::take(&mut is_first) {
                    out.push(b',');
                }
                text(key, out);
                out.push(b':');
                otlp(value, out, level + 1);
            });
            out.push(b'}');
        }
        _ => out.extend_from_slice(b"null"),
    }
}
