//! Views of a log record and its values, straight on the wire bytes.
//!
//! The views are read from bytes that were checked before; should they meet anything malformed
//! all the same, they end there instead of failing. They own nothing: a message field that comes
//! twice is one message, as protobuf merges it, and is walked part by part where it lies.

use super::{
    schema,
    wire::{Fields, Malformed, Value, check_field, next_field},
};

/// One `LogRecord`.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `time_unix_nano`; 0 when unknown.
    pub time_unix_nano: u64,
    /// `observed_time_unix_nano`; 0 when unknown.
    pub observed_time_unix_nano: u64,
    encoded: &'a [u8],
    /// The last `body` field, or `None` if the record has no body.
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
            check_field(&schema::LOG_RECORD_MESSAGE, tag, value, budget)?;
            match (tag, value) {
                (schema::TIME, Value::Fixed64(time)) => {
                    record.time_unix_nano = u64::from_le_bytes(time);
                }
                (schema::OBSERVED_TIME, Value::Fixed64(time)) => {
                    record.observed_time_unix_nano = u64::from_le_bytes(time);
                }
                (schema::BODY, Value::Bytes(body)) => {
                    record.body = Some(body);
                    record.bodies += 1;
                }
                (schema::ATTRIBUTES, _) => record.attributes += 1,
                _ => {}
            }
        }
        Ok(record)
    }

    /// A record without body and attributes.
    pub fn empty() -> Self {
        Self {
            time_unix_nano: 0,
            observed_time_unix_nano: 0,
            encoded: &[],
            body: None,
            bodies: 0,
            attributes: 0,
        }
    }

    /// The body.
    pub fn body(&self) -> AnyValue<'a> {
        match self.body {
            Some(body) if self.bodies == 1 => AnyValue::read(Message::whole(body)),
            Some(_) => AnyValue::read(Message::parts(self.encoded, schema::BODY)),
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
            list: List::One(self.encoded),
            tag: schema::ATTRIBUTES,
        }
    }
}

/// A message: bytes that are one, or all fields of a tag in the bytes of another, which count as
/// one message, concatenated.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Message<'a> {
    bytes: &'a [u8],
    part: Option<u32>,
}

impl<'a> Message<'a> {
    fn whole(bytes: &'a [u8]) -> Self {
        Self { bytes, part: None }
    }

    fn parts(bytes: &'a [u8], tag: u32) -> Self {
        Self {
            bytes,
            part: Some(tag),
        }
    }

    /// Its fields, if it is whole: nearly always.
    fn plain(self) -> Option<Fields<'a>> {
        self.part.is_none().then_some(Fields(self.bytes))
    }

    /// Its fields, whole or not.
    fn fields(self) -> impl Iterator<Item = (u32, Value<'a>)> {
        let (whole, outer) = match self.part {
            None => (self.bytes, &[][..]),
            Some(_) => (&[][..], self.bytes),
        };
        let parts = Fields(outer).filter_map(move |(tag, value)| match value {
            Value::Bytes(part) if Some(tag) == self.part => Some(Fields(part)),
            _ => None,
        });
        Fields(whole).chain(parts.flatten())
    }
}

/// The fields of an `ArrayValue` or `KeyValueList`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum List<'a> {
    /// It came once.
    One(&'a [u8]),
    /// It came several times: all fields of this tag in the value around it, from this one on.
    Merged {
        value: Message<'a>,
        tag: u32,
        from: usize,
    },
}

impl<'a> List<'a> {
    fn fields(self) -> impl Iterator<Item = (u32, Value<'a>)> {
        let (one, value, wanted, from) = match self {
            Self::One(bytes) => (bytes, Message::whole(&[]), 0, 0),
            Self::Merged { value, tag, from } => (&[][..], value, tag, from),
        };
        let parts = value
            .fields()
            .skip(from)
            .filter_map(move |(tag, value)| match value {
                Value::Bytes(part) if tag == wanted => Some(Fields(part)),
                _ => None,
            });
        Fields(one).chain(parts.flatten())
    }

    /// The bytes of all of it, if it came once.
    fn encoded(self) -> Option<&'a [u8]> {
        match self {
            Self::One(bytes) => Some(bytes),
            Self::Merged { .. } => None,
        }
    }
}

/// A value. A field that comes twice is merged as protobuf does: concatenated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AnyValue<'a> {
    /// No value.
    Empty,
    /// A text, not yet known to be UTF-8.
    Text(&'a [u8]),
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
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    /// Reads an `AnyValue`: the last of its fields is the value, and lists and maps that follow
    /// each other are one.
    #[inline]
    fn read(message: Message<'a>) -> Self {
        match message.plain() {
            Some(fields) => Self::fold(message, fields),
            None => Self::fold(message, message.fields()),
        }
    }

    #[inline]
    fn fold(message: Message<'a>, fields: impl Iterator<Item = (u32, Value<'a>)>) -> Self {
        let mut value = Self::Empty;
        // Where the list or map begins that the value is so far.
        let mut begin = 0;
        for (at, (tag, field)) in fields.enumerate() {
            let merged = List::Merged {
                value: message,
                tag,
                from: begin,
            };
            value = match (tag, field, value) {
                (schema::STRING, Value::Bytes(text), _) => Self::Text(text),
                (schema::BOOL, Value::Varint(number), _) => Self::Bool(number != 0),
                (schema::INT, Value::Varint(number), _) => Self::Int(number.cast_signed()),
                (schema::DOUBLE, Value::Fixed64(number), _) => {
                    Self::Double(f64::from_le_bytes(number))
                }
                (schema::ARRAY, Value::Bytes(_), Self::Array(_)) => {
                    Self::Array(Values { list: merged })
                }
                (schema::MAP, Value::Bytes(_), Self::Map(_)) => Self::Map(KeyValues {
                    list: merged,
                    tag: schema::VALUES,
                }),
                (schema::ARRAY, Value::Bytes(bytes), _) => {
                    begin = at;
                    Self::Array(Values {
                        list: List::One(bytes),
                    })
                }
                (schema::MAP, Value::Bytes(bytes), _) => {
                    begin = at;
                    Self::Map(KeyValues {
                        list: List::One(bytes),
                        tag: schema::VALUES,
                    })
                }
                (schema::BYTES, Value::Bytes(bytes), _) => Self::Bytes(bytes),
                // A reference into a dictionary that logs do not have.
                (schema::STRING_INDEX, Value::Varint(_), _) => Self::Empty,
                (_, _, value) => value,
            };
        }
        value
    }
}

/// An `ArrayValue`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values<'a> {
    list: List<'a>,
}

impl<'a> Values<'a> {
    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = AnyValue<'a>> + use<'a> {
        let elements = self.list.fields().filter_map(|(tag, value)| match value {
            Value::Bytes(element) if tag == schema::VALUES => Some(element),
            _ => None,
        });
        elements.map(|element| AnyValue::read(Message::whole(element)))
    }

    /// Shows each element in order.
    pub fn for_each(&self, show: impl FnMut(AnyValue<'a>)) {
        self.iter().for_each(show);
    }

    /// The bytes that all of it is encoded in; `None` when they are not in one place.
    pub(crate) fn encoded(&self) -> Option<&'a [u8]> {
        self.list.encoded()
    }
}

/// Repeated `KeyValue` fields: a map body, or the attributes of a record or resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyValues<'a> {
    list: List<'a>,
    tag: u32,
}

impl<'a> KeyValues<'a> {
    /// The attributes of an encoded `Resource`.
    pub fn of_resource(encoded: &'a [u8]) -> Self {
        Self {
            list: List::One(encoded),
            tag: schema::RESOURCE_ATTRIBUTES,
        }
    }

    /// Shows each pair in order, with repeated keys.
    pub fn for_each(&self, mut show: impl FnMut(&'a [u8], AnyValue<'a>)) {
        self.for_each_pair(|encoded| {
            let (key, value) = pair(encoded);
            show(key, AnyValue::read(value));
        });
    }

    /// Shows the value of each pair with this key, in order. Of others no more than the key is read.
    pub(crate) fn for_each_of(&self, wanted: &[u8], mut show: impl FnMut(AnyValue<'a>)) {
        self.for_each_pair(|encoded| {
            let (key, value) = pair(encoded);
            if key == wanted {
                show(AnyValue::read(value));
            }
        });
    }

    fn for_each_pair(&self, mut show: impl FnMut(&'a [u8])) {
        let mut field = |(tag, value): (u32, Value<'a>)| {
            if let (true, Value::Bytes(pair)) = (tag == self.tag, value) {
                show(pair);
            }
        };
        match self.list {
            List::One(bytes) => Fields(bytes).for_each(&mut field),
            List::Merged { .. } => self.list.fields().for_each(&mut field),
        }
    }

    /// Shows each key in order until one is what is looked for.
    pub(crate) fn find(&self, mut is_it: impl FnMut(&'a [u8]) -> bool) {
        let mut found = |(tag, value): (u32, Value<'a>)| match value {
            Value::Bytes(pair) if tag == self.tag => is_it(self::pair(pair).0),
            _ => false,
        };
        let _found = match self.list {
            List::One(bytes) => Fields(bytes).any(&mut found),
            List::Merged { .. } => self.list.fields().any(&mut found),
        };
    }

    /// The bytes that all of it is encoded in; `None` when they are not in one place, or others are
    /// among them, as those of a record are among its attributes. Every text is there as it is.
    pub(crate) fn encoded(&self) -> Option<&'a [u8]> {
        self.list.encoded().filter(|_| self.tag == schema::VALUES)
    }
}

/// The key of a `KeyValue` and its value, which is not read.
#[inline]
fn pair(pair: &[u8]) -> (&[u8], Message<'_>) {
    let (mut key, mut value, mut values): (&[u8], &[u8], _) = (&[], &[], 0);
    for (tag, field) in Fields(pair) {
        match (tag, field) {
            (schema::KEY, Value::Bytes(text)) => key = text,
            (schema::VALUE, Value::Bytes(any)) => {
                value = any;
                values += 1;
            }
            _ => {}
        }
    }
    let value = if values > 1 {
        Message::parts(pair, schema::VALUE)
    } else {
        Message::whole(value)
    };
    (key, value)
}
