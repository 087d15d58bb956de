//! Large messages in pieces: written one part after the other into one block of memory, and read from
//! it part by part. A message of a million keys as a value takes several times its bytes.

use prost::{
    Message,
    encoding::{
        DecodeContext, WireType, decode_key, decode_varint, encode_key, message, skip_field,
    },
};

use super::wire::StateError;

/// Bytes of a length that is filled in later: enough for any memory.
const LENGTH: usize = 5;

/// Adds a field whose bytes `write` adds.
pub(crate) fn nested(field: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(field, WireType::LengthDelimited, out);
    let at = out.len();
    out.resize(at + LENGTH, 0);
    write(out);
    let length = out.len() - at - LENGTH;
    for (place, byte) in out.iter_mut().skip(at).take(LENGTH).enumerate() {
        let more = if place + 1 < LENGTH { 0x80 } else { 0 };
        *byte = u8::try_from(length >> (7 * place) & 0x7f).unwrap_or_default() | more;
    }
}

/// Adds a message as a field.
pub(super) fn field(number: u32, message: &impl Message, out: &mut Vec<u8>) {
    message::encode(number, message, out);
}

/// The parts of a message that are one field.
pub(super) type Parts<'a> = Vec<&'a [u8]>;

/// The parts of a message that are this field, and all others as they were.
///
/// # Errors
/// When it is no message.
pub(crate) fn apart(bytes: &[u8], field: u32) -> Result<(Vec<u8>, Vec<&[u8]>), StateError> {
    let (others, [parts]) = apart_each(bytes, [field])?;
    Ok((others, parts))
}

/// The parts of a message that are each of these fields, and all others as they were.
///
/// # Errors
/// When it is no message.
pub(super) fn apart_each<const N: usize>(
    bytes: &[u8],
    fields: [u32; N],
) -> Result<(Vec<u8>, [Parts<'_>; N]), StateError> {
    let (mut others, mut parts) = (Vec::new(), [const { Vec::new() }; N]);
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest;
        let (number, kind) = decode_key(&mut rest)?;
        let mut wanted = fields.iter().zip(&mut parts);
        if kind == WireType::LengthDelimited
            && let Some((_, parts)) = wanted.find(|(field, _)| **field == number)
        {
            let length = usize::try_from(decode_varint(&mut rest)?).unwrap_or(usize::MAX);
            let part = rest.split_off(..length);
            parts.push(part.ok_or(StateError::Invalid("length"))?);
        } else {
            skip_field(kind, number, &mut rest, DecodeContext::default())?;
            let taken = before.len() - rest.len();
            others.extend_from_slice(before.get(..taken).unwrap_or_default());
        }
    }
    Ok((others, parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::state::Place;

    #[test]
    fn pieces_are_the_message() {
        let place = |time| Place {
            time: Some(time),
            identity: vec![7; 200],
        };
        let mut out = Vec::new();
        field(3, &place(1), &mut out);
        nested(2, &mut out, |out| out.extend(place(2).encode_to_vec()));
        let (others, parts) = apart(&out, 2).unwrap();
        assert_eq!(Place::decode(parts[0]), Ok(place(2)));
        let (others, parts) = apart(&others, 3).unwrap();
        assert_eq!(Place::decode(parts[0]), Ok(place(1)));
        assert!(others.is_empty());
        for cut in 1..out.len() {
            let _never_panics = apart(&out[..cut], 2);
        }
        assert!(apart(&out[..out.len() - 1], 2).is_err());
    }
}
