//! Views of a log record and its values, straight on the wire bytes.
//!
//! The views are read from bytes that were checked before; should they meet anything malformed
//! all the same, they end there instead of failing.

use std::borrow::Cow;

use super::wire::{LOG_RECORD, Malformed, Value, next_field};

/// Depth does not matter to a reader of checked bytes.
const ANY_DEPTH: u32 = u32::MAX;

/// One `LogRecord`.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `time_unix_nano`; 0 when unknown.
    pub time_unix_nano: u64,
    /// `observed_time_unix_nano`; 0 when unknown.
    pub observed_time_unix_nano: u64,
    encoded: &'a [u8],
    /// The last `body` field; `None` when there is none.
    body: Option<&'a [u8]>,
    bodies: usize,
    attributes: usize,
}

impl<'a> Record<'a> {
    /// Reads and checks one encoded record.
    pub(super) fn read(encoded: &'a [u8], budget: u32) -> Result<Self, Malformed> {
        let mut record = Self {
            time_unix_nano: 0,
            observed_time_unix_nano: 0,
            encoded,
            body: None,
            bodies: 0,
            attributes: 0,
        };
        let mut rest = encoded;
        while let Some((tag, value)) = next_field(&mut rest, budget)? {
            LOG_RECORD.check_field(tag, value, budget)?;
            match (tag, value) {
                (1, Value::Fixed64(time)) => record.time_unix_nano = u64::from_le_bytes(time),
                (11, Value::Fixed64(time)) => {
                    record.observed_time_unix_nano = u64::from_le_bytes(time);
                }
                (5, Value::Bytes(body)) => {
                    record.body = Some(body);
                    record.bodies += 1;
                }
                (6, _) => record.attributes += 1,
                _ => {}
            }
        }
        Ok(record)
    }

    /// The body.
    pub fn body(&self) -> AnyValue<'a> {
        match self.body {
            Some(body) if self.bodies == 1 => AnyValue::read(Cow::Borrowed(body)),
            Some(_) => AnyValue::read(Cow::Owned(merged(self.encoded, 5))),
            None => AnyValue::Empty,
        }
    }

    /// Whether there are attributes at all.
    pub fn has_attributes(&self) -> bool {
        self.attributes > 0
    }

    /// The attributes.
    pub fn attributes(&self) -> KeyValues<'a> {
        KeyValues {
            encoded: Cow::Borrowed(self.encoded),
            tag: 6,
        }
    }
}

/// A value. A field that comes twice is merged as protobuf does: concatenated.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyValue<'a> {
    /// No value.
    Empty,
    /// A text, not yet known to be UTF-8.
    Text(Cow<'a, [u8]>),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// A list.
    Array(Values<'a>),
    /// A map.
    Map(KeyValues<'a>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> AnyValue<'a> {
    /// Reads an encoded `AnyValue`.
    fn read(encoded: Cow<'a, [u8]>) -> Self {
        match encoded {
            Cow::Borrowed(bytes) => Self::fold(bytes),
            // Only repeated fields are put together, and hardly anybody repeats them.
            Cow::Owned(bytes) => AnyValue::fold(&bytes).into_owned(),
        }
    }

    fn fold(encoded: &'a [u8]) -> Self {
        let mut rest = encoded;
        let mut value = Self::Empty;
        while let Ok(Some((tag, field))) = next_field(&mut rest, ANY_DEPTH) {
            value = match (tag, field, value) {
                (1, Value::Bytes(text), _) => Self::Text(Cow::Borrowed(text)),
                (2, Value::Varint(number), _) => Self::Bool(number != 0),
                (3, Value::Varint(number), _) => Self::Int(number.cast_signed()),
                (4, Value::Fixed64(number), _) => Self::Double(f64::from_le_bytes(number)),
                (5, Value::Bytes(more), Self::Array(list)) => Self::Array(Values {
                    encoded: concatenated(list.encoded, more),
                }),
                (5, Value::Bytes(list), _) => Self::Array(Values {
                    encoded: Cow::Borrowed(list),
                }),
                (6, Value::Bytes(more), Self::Map(map)) => Self::Map(KeyValues {
                    encoded: concatenated(map.encoded, more),
                    tag: 1,
                }),
                (6, Value::Bytes(map), _) => Self::Map(KeyValues {
                    encoded: Cow::Borrowed(map),
                    tag: 1,
                }),
                (7, Value::Bytes(bytes), _) => Self::Bytes(Cow::Borrowed(bytes)),
                // A reference into a dictionary that logs do not have.
                (8, Value::Varint(_), _) => Self::Empty,
                (_, _, value) => value,
            };
        }
        value
    }

    fn into_owned<'b>(self) -> AnyValue<'b> {
        let own = |bytes: Cow<'_, [u8]>| Cow::Owned(bytes.into_owned());
        match self {
            Self::Empty => AnyValue::Empty,
            Self::Text(text) => AnyValue::Text(own(text)),
            Self::Bool(value) => AnyValue::Bool(value),
            Self::Int(number) => AnyValue::Int(number),
            Self::Double(number) => AnyValue::Double(number),
            Self::Array(list) => AnyValue::Array(Values {
                encoded: own(list.encoded),
            }),
            Self::Map(map) => AnyValue::Map(KeyValues {
                encoded: own(map.encoded),
                tag: map.tag,
            }),
            Self::Bytes(bytes) => AnyValue::Bytes(own(bytes)),
        }
    }
}

/// An `ArrayValue`.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<'a> {
    encoded: Cow<'a, [u8]>,
}

impl Values<'_> {
    /// Shows each element in order.
    pub fn for_each(&self, mut show: impl FnMut(AnyValue<'_>)) {
        let mut rest: &[u8] = &self.encoded;
        while let Ok(Some((tag, value))) = next_field(&mut rest, ANY_DEPTH) {
            if let (1, Value::Bytes(element)) = (tag, value) {
                show(AnyValue::read(Cow::Borrowed(element)));
            }
        }
    }
}

/// Repeated `KeyValue` fields: a map body, or the attributes of a record or resource.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValues<'a> {
    encoded: Cow<'a, [u8]>,
    tag: u32,
}

impl<'a> KeyValues<'a> {
    /// The attributes of an encoded `Resource`.
    pub fn of_resource(encoded: &'a [u8]) -> Self {
        Self {
            encoded: Cow::Borrowed(encoded),
            tag: 1,
        }
    }

    /// Shows each pair in order, with repeated keys.
    pub fn for_each(&self, mut show: impl FnMut(&[u8], AnyValue<'_>)) {
        let mut rest: &[u8] = &self.encoded;
        while let Ok(Some((tag, value))) = next_field(&mut rest, ANY_DEPTH) {
            let Value::Bytes(pair) = value else { continue };
            if tag != self.tag {
                continue;
            }
            let (mut key, mut value, mut values): (&[u8], &[u8], _) = (&[], &[], 0);
            let mut fields = pair;
            while let Ok(Some((tag, field))) = next_field(&mut fields, ANY_DEPTH) {
                match (tag, field) {
                    (1, Value::Bytes(text)) => key = text,
                    (2, Value::Bytes(any)) => {
                        value = any;
                        values += 1;
                    }
                    _ => {}
                }
            }
            let value = if values > 1 {
                Cow::Owned(merged(pair, 2))
            } else {
                Cow::Borrowed(value)
            };
            show(key, AnyValue::read(value));
        }
    }
}

/// All occurrences of a message field as one message.
fn merged(mut encoded: &[u8], tag: u32) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(Some((found, value))) = next_field(&mut encoded, ANY_DEPTH) {
        if let (true, Value::Bytes(part)) = (found == tag, value) {
            all.extend_from_slice(part);
        }
    }
    all
}

fn concatenated<'a>(first: Cow<'a, [u8]>, second: &[u8]) -> Cow<'a, [u8]> {
    let mut all = first.into_owned();
    all.extend_from_slice(second);
    Cow::Owned(all)
}
