//! JSON that is written for events of another schema, in bounded memory: what is decoded for it
//! may become several times as long.

use std::{fmt, io};

use serde::{Serialize, Serializer};

use super::node::Node;
use crate::pdata::AnyValue;

/// Levels of a value of OTLP that are written. Requests have no more.
const MOST_LEVELS: u8 = 64;

/// Writes an object; `None` when it would be longer than `most` bytes.
pub(super) fn object(most: usize, write: impl FnOnce(&mut Object<'_>)) -> Option<Vec<u8>> {
    let mut out = Output {
        bytes: Vec::new(),
        most,
        is_over: false,
    };
    let mut object = Object::new(&mut out);
    write(&mut object);
    object.end();
    (!out.is_over).then_some(out.bytes)
}

/// What has been written. Once it is too long, nothing is kept and nothing is added.
pub(super) struct Output {
    bytes: Vec<u8>,
    most: usize,
    is_over: bool,
}

impl Output {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let length = self.bytes.len().saturating_add(bytes.len());
        if self.is_over || length > self.most {
            self.give_up();
            return;
        }
        let capacity = self.bytes.capacity();
        if length > capacity {
            // Twice as much, but never more than may be written.
            let wanted = capacity.saturating_mul(2).min(self.most).max(length);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes while this many bytes are held elsewhere. They count as if they were written.
    pub(super) fn holding(&mut self, held: usize, write: impl FnOnce(&mut Self)) {
        if held > self.most.saturating_sub(self.bytes.len()) {
            self.give_up();
            return;
        }
        self.most -= held;
        write(self);
        self.most += held;
    }

    fn give_up(&mut self) {
        self.is_over = true;
        self.bytes = Vec::new();
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        if self.is_over {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Output,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn new(out: &'o mut Output) -> Self {
        out.push(b"{");
        Self {
            out,
            is_empty: true,
        }
    }

    fn key(&mut self, key: &[u8]) -> &mut Output {
        if !self.is_empty {
            self.out.push(b",");
        }
        self.is_empty = false;
        text(key, self.out);
        self.out.push(b":");
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
    pub(super) fn raw(&mut self, key: &str, write: impl FnOnce(&mut Output)) {
        write(self.key(key.as_bytes()));
    }

    fn end(self) {
        self.out.push(b"}");
    }
}

/// Writes a value as JSON.
pub(super) fn node(value: Node<'_>, out: &mut Output) {
    match value {
        Node::Json(raw) => out.push(raw),
        Node::Otlp(value) => otlp(value, out, 0),
    }
}

/// Writes a text as a JSON string.
pub(super) fn text(bytes: &[u8], out: &mut Output) {
    // It fails only when it becomes too long, which the output remembers.
    let _ok = serde_json::to_writer(out, &Lossy(bytes));
}

/// A text that is written piece by piece. What is no UTF-8 reads as U+FFFD.
struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            out.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                out.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn otlp(value: AnyValue<'_>, out: &mut Output, level: u8) {
    match value {
        AnyValue::Text(bytes) | AnyValue::Bytes(bytes) => text(bytes, out),
        AnyValue::Bool(true) => out.push(b"true"),
        AnyValue::Bool(false) => out.push(b"false"),
        AnyValue::Int(number) => out.push(number.to_string().as_bytes()),
        AnyValue::Double(number) if number.is_finite() => {
            out.push(number.to_string().as_bytes());
        }
        AnyValue::Array(list) if level < MOST_LEVELS => {
            out.push(b"[");
            let mut is_first = true;
            list.for_each(|element| {
                if !std::mem::take(&mut is_first) {
                    out.push(b",");
                }
                otlp(element, out, level + 1);
            });
            out.push(b"]");
        }
        AnyValue::Map(map) if level < MOST_LEVELS => {
            out.push(b"{");
            let mut is_first = true;
            map.for_each(|key, value| {
                if !std::mem::take(&mut is_first) {
                    out.push(b",");
                }
                text(key, out);
                out.push(b":");
                otlp(value, out, level + 1);
            });
            out.push(b"}");
        }
        _ => out.push(b"null"),
    }
}
