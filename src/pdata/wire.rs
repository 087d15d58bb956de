//! Protobuf's wire format: keys, lengths, groups, and the schema of OTLP logs as a table.

/// Why bytes are no OTLP logs request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside a field or a message.
    #[error("the message ends inside a field")]
    Truncated,
    /// A variable-length integer of more than 64 bits.
    #[error("a variable-length integer is longer than 64 bits")]
    Varint,
    /// A field key with number 0, an unknown wire type or too large a number.
    #[error("invalid field key {0}")]
    Key(u64),
    /// A known field with the wrong wire type.
    #[error("field {0} has the wrong wire type")]
    WireType(u32),
    /// A field that is longer than the message around it.
    #[error("a field is longer than the message around it")]
    Length,
    /// The end of a group that was not open.
    #[error("unexpected end of a group")]
    EndGroup,
    /// Messages or groups inside each other, more than 100 deep.
    #[error("messages are nested more than 100 deep")]
    TooDeep,
}

/// Messages inside each other that `prost` reads before it gives up.
pub(super) const MAX_DEPTH: u32 = 100;

/// How a value is laid out on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// A number and its length in bytes; `None` when more bytes are needed to tell.
pub(super) type Partial<T> = Result<Option<(T, usize)>, Malformed>;

/// Reads a variable-length integer.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Partial<u64> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            // The tenth byte holds the 64th bit and nothing else.
            return if at == 9 && byte > 1 {
                Err(Malformed::Varint)
            } else {
                Ok(Some((value, at + 1)))
            };
        }
    }
    if bytes.len() < 10 {
        Ok(None)
    } else {
        Err(Malformed::Varint)
    }
}

/// Reads a field key.
#[inline]
pub(super) fn key(bytes: &[u8]) -> Partial<(u32, WireType)> {
    let Some((key, length)) = varint(bytes)? else {
        return Ok(None);
    };
    let wire_type = match key & 7 {
        0 => WireType::Varint,
        1 => WireType::Fixed64,
        2 => WireType::Bytes,
        3 => WireType::StartGroup,
        4 => WireType::EndGroup,
        5 => WireType::Fixed32,
        _ => return Err(Malformed::Key(key)),
    };
    match u32::try_from(key) {
        Ok(small) if small >> 3 != 0 => Ok(Some(((small >> 3, wire_type), length))),
        _ => Err(Malformed::Key(key)),
    }
}

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32,
    Bytes(&'a [u8]),
    Group,
}

impl Value<'_> {
    /// Whether the value is laid out as a field of this kind must be.
    fn fits(self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Value::Varint(_), Kind::Varint)
                | (Value::Fixed64(_), Kind::Fixed64)
                | (Value::Fixed32, Kind::Fixed32)
                | (Value::Bytes(_), Kind::Bytes | Kind::Message(_))
        )
    }
}

/// Takes the next field off the front of `bytes`; `None` at their end. `budget` is how many
/// levels may still be opened below the message that holds the field.
#[inline]
pub(super) fn next_field<'a>(
    bytes: &mut &'a [u8],
    budget: u32,
) -> Result<Option<(u32, Value<'a>)>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (tag, wire_type) = take(bytes, key)?;
    let value = match wire_type {
        WireType::Varint => Value::Varint(take(bytes, varint)?),
        WireType::Fixed64 => Value::Fixed64(*take_array(bytes)?),
        WireType::Fixed32 => {
            let _value: &[u8; 4] = take_array(bytes)?;
            Value::Fixed32
        }
        WireType::Bytes => Value::Bytes(take_bytes(bytes)?),
        WireType::StartGroup => {
            skip_group(bytes, tag, budget)?;
            Value::Group
        }
        WireType::EndGroup => return Err(Malformed::EndGroup),
    };
    Ok(Some((tag, value)))
}

/// The fields of bytes that were checked before: they end where anything is malformed, and how
/// deep they are does not matter.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        next_field(&mut self.0, u32::MAX).ok().flatten()
    }
}

fn take<T>(bytes: &mut &[u8], read: impl Fn(&[u8]) -> Partial<T>) -> Result<T, Malformed> {
    let (value, length) = read(bytes)?.ok_or(Malformed::Truncated)?;
    *bytes = bytes.get(length..).unwrap_or_default();
    Ok(value)
}

fn take_array<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8; N], Malformed> {
    let (value, rest) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
    *bytes = rest;
    Ok(value)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(take(bytes, varint)?).map_err(|_| Malformed::Length)?;
    let (value, rest) = bytes.split_at_checked(length).ok_or(Malformed::Length)?;
    *bytes = rest;
    Ok(value)
}

fn skip_group(bytes: &mut &[u8], tag: u32, budget: u32) -> Result<(), Malformed> {
    let budget = budget.checked_sub(1).ok_or(Malformed::TooDeep)?;
    loop {
        let (inner, wire_type) = take(bytes, key)?;
        if wire_type == WireType::EndGroup {
            return if inner == tag {
                Ok(())
            } else {
                Err(Malformed::EndGroup)
            };
        }
        if budget == 0 {
            return Err(Malformed::TooDeep);
        }
        match wire_type {
            WireType::Varint => drop(take(bytes, varint)?),
            WireType::Fixed64 => drop(take_array::<8>(bytes)?),
            WireType::Fixed32 => drop(take_array::<4>(bytes)?),
            WireType::Bytes => drop(take_bytes(bytes)?),
            WireType::StartGroup => skip_group(bytes, inner, budget)?,
            WireType::EndGroup => {}
        }
    }
}

/// What a known field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Varint,
    Fixed64,
    Fixed32,
    Bytes,
    Message(&'static Schema),
}

/// The known fields of a message.
#[derive(Debug)]
pub(super) struct Schema(&'static [(u32, Kind)]);

impl Schema {
    /// What field `tag` holds; `None` when it is unknown.
    #[inline]
    pub(super) fn kind(&self, tag: u32) -> Option<Kind> {
        self.0
            .iter()
            .find(|(known, _)| *known == tag)
            .map(|(_, kind)| *kind)
    }

    /// Checks one field of a message of this schema, and all that is inside it. `budget` is that
    /// of the message.
    #[inline]
    pub(super) fn check_field(
        &self,
        tag: u32,
        value: Value<'_>,
        budget: u32,
    ) -> Result<(), Malformed> {
        let Some(kind) = self.kind(tag) else {
            return if budget == 0 {
                Err(Malformed::TooDeep)
            } else {
                Ok(())
            };
        };
        if !value.fits(kind) {
            return Err(Malformed::WireType(tag));
        }
        if let (Kind::Message(schema), Value::Bytes(bytes)) = (kind, value) {
            schema.check(bytes, budget.checked_sub(1).ok_or(Malformed::TooDeep)?)?;
        }
        Ok(())
    }

    /// Checks a whole message and all that is inside it.
    pub(super) fn check(&self, mut bytes: &[u8], budget: u32) -> Result<(), Malformed> {
        while let Some((tag, value)) = next_field(&mut bytes, budget)? {
            self.check_field(tag, value, budget)?;
        }
        Ok(())
    }
}

/// `opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest`
pub(super) static REQUEST: Schema = Schema(&[(1, Kind::Message(&RESOURCE_LOGS))]);
/// `opentelemetry.proto.logs.v1.ResourceLogs`
pub(super) static RESOURCE_LOGS: Schema = Schema(&[
    (1, Kind::Message(&RESOURCE)),
    (2, Kind::Message(&SCOPE_LOGS)),
    (3, Kind::Bytes),
]);
/// `opentelemetry.proto.logs.v1.ScopeLogs`
pub(super) static SCOPE_LOGS: Schema = Schema(&[
    (1, Kind::Message(&SCOPE)),
    (2, Kind::Message(&LOG_RECORD)),
    (3, Kind::Bytes),
]);
/// `opentelemetry.proto.logs.v1.LogRecord`
pub(super) static LOG_RECORD: Schema = Schema(&[
    (1, Kind::Fixed64),
    (2, Kind::Varint),
    (3, Kind::Bytes),
    (5, Kind::Message(&ANY_VALUE)),
    (6, Kind::Message(&KEY_VALUE)),
    (7, Kind::Varint),
    (8, Kind::Fixed32),
    (9, Kind::Bytes),
    (10, Kind::Bytes),
    (11, Kind::Fixed64),
    (12, Kind::Bytes),
]);
/// `opentelemetry.proto.resource.v1.Resource`
pub(super) static RESOURCE: Schema = Schema(&[
    (1, Kind::Message(&KEY_VALUE)),
    (2, Kind::Varint),
    (3, Kind::Message(&ENTITY_REF)),
]);
static ENTITY_REF: Schema = Schema(&[
    (1, Kind::Bytes),
    (2, Kind::Bytes),
    (3, Kind::Bytes),
    (4, Kind::Bytes),
]);
static SCOPE: Schema = Schema(&[
    (1, Kind::Bytes),
    (2, Kind::Bytes),
    (3, Kind::Message(&KEY_VALUE)),
    (4, Kind::Varint),
]);
static KEY_VALUE: Schema = Schema(&[
    (1, Kind::Bytes),
    (2, Kind::Message(&ANY_VALUE)),
    (3, Kind::Varint),
]);
static ANY_VALUE: Schema = Schema(&[
    (1, Kind::Bytes),
    (2, Kind::Varint),
    (3, Kind::Varint),
    (4, Kind::Fixed64),
    (5, Kind::Message(&ARRAY_VALUE)),
    (6, Kind::Message(&KEY_VALUE_LIST)),
    (7, Kind::Bytes),
    (8, Kind::Varint),
]);
static ARRAY_VALUE: Schema = Schema(&[(1, Kind::Message(&ANY_VALUE))]);
static KEY_VALUE_LIST: Schema = Schema(&[(1, Kind::Message(&KEY_VALUE))]);
