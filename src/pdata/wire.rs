//! Protobuf's wire format: keys, lengths, groups; and whether bytes are a message of a schema.

use super::schema::{Schema, Wire};

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

/// A number and its length in bytes; `None` when more bytes are needed.
pub(super) type Partial<T> = Result<Option<(T, usize)>, Malformed>;

/// Reads a variable-length integer.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Partial<u64> {
    // Nearly all keys and lengths have one byte or two.
    match bytes {
        [one @ ..0x80, ..] => Ok(Some((u64::from(*one), 1))),
        [low, high @ ..0x80, ..] => Ok(Some((u64::from(low & 0x7f) | u64::from(*high) << 7, 2))),
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &[u8]) -> Partial<u64> {
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
    /// Whether the value is laid out as that of a field must be.
    fn fits(self, wire: Wire) -> bool {
        matches!(
            (self, wire),
            (Value::Varint(_), Wire::Varint)
                | (Value::Fixed64(_), Wire::Fixed64)
                | (Value::Fixed32, Wire::Fixed32)
                | (Value::Bytes(_), Wire::Bytes | Wire::Message)
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

/// Checks one field of a message of this schema, and all that is inside it. `budget` is that of the
/// message.
#[inline]
pub(super) fn check_field(
    schema: &Schema,
    number: u32,
    value: Value<'_>,
    budget: u32,
) -> Result<(), Malformed> {
    let Some(wire) = schema.wire(number) else {
        return if budget == 0 {
            Err(Malformed::TooDeep)
        } else {
            Ok(())
        };
    };
    if !value.fits(wire) {
        return Err(Malformed::WireType(number));
    }
    if let (Wire::Message, Value::Bytes(bytes)) = (wire, value)
        && let Some(schema) = schema.inner(number)
    {
        check(
            schema,
            bytes,
            budget.checked_sub(1).ok_or(Malformed::TooDeep)?,
        )?;
    }
    Ok(())
}

/// Checks a whole message of this schema, and all that is inside it.
pub(super) fn check(schema: &Schema, mut bytes: &[u8], budget: u32) -> Result<(), Malformed> {
    while let Some((number, value)) = next_field(&mut bytes, budget)? {
        check_field(schema, number, value, budget)?;
    }
    Ok(())
}
