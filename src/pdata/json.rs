//! OTLP logs in JSON, written as the protobuf that the walk reads, after the schema of both.
//!
//! One pass and no tree: a document that is all brackets takes a few times its own size, not
//! dozens of times. What senders make of the specification is taken as the Collector takes it:
//! 64-bit numbers are text or numbers, ids are hex, bytes are base64 in either alphabet, null stands
//! for the default, unknown members are ignored, and names may also be those of protobuf.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor},
};

use super::schema::{Field, Kind, REQUEST_MESSAGE, Schema};

/// The document as a whole.
static ROOT: Field = Field {
    number: 0,
    name: "",
    json: "",
    kind: Kind::Message(&REQUEST_MESSAGE),
    repeated: false,
};

/// One request, in protobuf.
///
/// # Errors
/// When the text is no JSON in UTF-8, not of the shape of a request, or more than 127 levels deep
/// where it is known.
pub fn to_protobuf(text: &[u8]) -> serde_json::Result<Vec<u8>> {
    // The strings are read as bytes, for JSON may hold half of a surrogate pair, which is no
    // reason to lose a whole request.
    let text = std::str::from_utf8(text).map_err(serde_json::Error::custom)?;
    let mut out = Vec::new();
    // At worst it is twice as long. Room that is not written to costs nothing.
    if out.try_reserve_exact(2 * text.len()).is_err() {
        out.reserve(text.len());
    }
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Slot {
        field: &ROOT,
        out: &mut out,
        place: Place::Root,
    })?;
    json.end()?;
    Ok(out)
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is the whole document.
    Root,
    /// It is that of a field, maybe with all elements of a list.
    Field,
    /// It is one element of the list of a field.
    Element,
}

/// Takes the value of a field and writes it.
struct Slot<'a> {
    field: &'static Field,
    out: &'a mut Vec<u8>,
    place: Place,
}

/// Wire types of protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;
/// Bytes of every length prefix: the length is known only after its content, so it has a fixed size.
const LENGTH: usize = 5;

impl Slot<'_> {
    fn key(&mut self, wire_type: u32) {
        let key = (self.field.number << 3) | wire_type;
        prost::encoding::encode_varint(u64::from(key), self.out);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.key(BYTES);
        prost::encoding::encode_varint(bytes.len() as u64, self.out);
        self.out.extend_from_slice(bytes);
    }

    /// Writes a text, or the value it spells. `None` if the field cannot hold it.
    fn text(&mut self, text: &[u8]) -> Option<()> {
        match self.field.kind {
            Kind::Text => self.bytes(text),
            Kind::Hex => self.bytes(&hex(text)?),
            Kind::Base64 => self.bytes(&base64(text)?),
            // Names are not allowed but common, and nothing here depends on them.
            Kind::Enum => {}
            Kind::Double => self.double(std::str::from_utf8(text).ok()?.parse().ok()?),
            _ => {
                let text = std::str::from_utf8(text).ok()?;
                let number = text.parse().ok();
                self.integer(number.or_else(|| integral(text.parse().ok()?))?)?;
            }
        }
        Some(())
    }

    fn double(&mut self, number: f64) {
        self.key(FIXED64);
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    /// Writes a whole number. `None` if the field cannot hold it.
    fn integer(&mut self, number: i128) -> Option<()> {
        match self.field.kind {
            Kind::Int64 => self.varint(i64::try_from(number).ok()?.cast_unsigned()),
            // Enums are 32 bits, but take as many bytes when negative.
            Kind::Enum => self.varint(i64::from(i32::try_from(number).ok()?).cast_unsigned()),
            Kind::Uint32 => self.varint(u64::from(u32::try_from(number).ok()?)),
            Kind::Fixed32 => {
                let number = u32::try_from(number).ok()?;
                self.key(FIXED32);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            Kind::Fixed64 => {
                let number = u64::try_from(number).ok()?;
                self.key(FIXED64);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            _ => return None,
        }
        Some(())
    }

    fn varint(&mut self, number: u64) {
        self.key(VARINT);
        prost::encoding::encode_varint(number, self.out);
    }

    /// Begins a message whose length is not known yet; the place of its length.
    fn open(&mut self) -> usize {
        self.key(BYTES);
        let at = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH]);
        at
    }

    /// Ends the message whose length is at this place.
    fn close(&mut self, at: usize) {
        let mut length = self.out.len().saturating_sub(at + LENGTH);
        let Some(place) = self.out.get_mut(at..at + LENGTH) else {
            return;
        };
        for byte in &mut *place {
            *byte = 0x80 | u8::try_from(length & 0x7f).unwrap_or_default();
            length >>= 7;
        }
        if let Some(last) = place.last_mut() {
            *last &= 0x7f;
        }
    }
}

impl<'de> DeserializeSeed<'de> for Slot<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Slot<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.field.kind {
            _ if self.field.repeated && self.place == Place::Field => "a list",
            Kind::Text => "a text",
            Kind::Hex => "hex digits",
            Kind::Base64 => "base64",
            Kind::Bool => "true or false",
            Kind::Int64
            | Kind::Uint32
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Enum
            | Kind::Index => "a whole number",
            Kind::Double => "a number",
            Kind::Message(_) => "an object",
        };
        match self.place {
            Place::Root => f.write_str(what),
            Place::Field | Place::Element => write!(f, "{what} in {}", self.field.json),
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        match self.field.kind {
            _ if self.field.repeated && self.place == Place::Field => value.deserialize_seq(self),
            Kind::Message(_) => value.deserialize_map(self),
            Kind::Text | Kind::Hex | Kind::Base64 => value.deserialize_bytes(self),
            _ => value.deserialize_any(self),
        }
    }

    fn visit_none<E: Error>(mut self) -> Result<(), E> {
        if self.place == Place::Element && matches!(self.field.kind, Kind::Message(_)) {
            let at = self.open();
            self.close(at);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.field.repeated || self.place != Place::Field {
            return Err(Error::invalid_type(Unexpected::Seq, &self));
        }
        loop {
            let element = Slot {
                field: self.field,
                out: &mut *self.out,
                place: Place::Element,
            };
            if list.next_element_seed(element)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let Kind::Message(schema) = self.field.kind else {
            return Err(Error::invalid_type(Unexpected::Map, &self));
        };
        let at = (self.place != Place::Root).then(|| self.open());
        while let Some(found) = map.next_key_seed(Name(schema))? {
            match found {
                Some(field) => map.next_value_seed(Slot {
                    field,
                    out: &mut *self.out,
                    place: Place::Field,
                })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if let Some(at) = at {
            self.close(at);
        }
        Ok(())
    }

    fn visit_bytes<E: Error>(mut self, text: &[u8]) -> Result<(), E> {
        self.text(text)
            .ok_or_else(|| E::invalid_value(Unexpected::Bytes(text), &self))
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.text(text.as_bytes())
            .ok_or_else(|| E::invalid_value(Unexpected::Str(quoted(text)), &self))
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        if !matches!(self.field.kind, Kind::Bool) {
            return Err(E::invalid_type(Unexpected::Bool(value), &self));
        }
        self.varint(u64::from(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.number(i128::from(number), Unexpected::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.number(i128::from(number), Unexpected::Signed(number))
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<(), E> {
        if matches!(self.field.kind, Kind::Double) {
            self.double(number);
            return Ok(());
        }
        integral(number)
            .and_then(|number| self.integer(number))
            .ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

impl Slot<'_> {
    /// Writes a number that is spelled as a whole one.
    fn number<E: Error>(mut self, number: i128, found: Unexpected<'_>) -> Result<(), E> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a double that is spelled as a whole number is the nearest double"
        )]
        let double = number as f64;
        if matches!(self.field.kind, Kind::Double) {
            self.double(double);
            return Ok(());
        }
        self.integer(number)
            .ok_or_else(|| E::invalid_value(found, &self))
    }
}

/// Finds the field of a name, if it is known and logs may have it.
struct Name(&'static Schema);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        let is_named = |field: &&Field| {
            let is_index = matches!(field.kind, Kind::Index);
            !is_index && (field.json.as_bytes() == name || field.name.as_bytes() == name)
        };
        Ok(self.0.fields.iter().find(is_named))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        self.visit_bytes(name.as_bytes())
    }
}

/// The part of a text that a message quotes: the text may be as long as a request.
fn quoted(text: &str) -> &str {
    const MOST: usize = 64;
    text.get(..text.floor_char_boundary(MOST)).unwrap_or(text)
}

/// The whole number that a number is, if it is one: `4.03e2` is 403.
fn integral(number: f64) -> Option<i128> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and within the range of 64 bits, either sign"
    )]
    let whole = number as i128;
    (number.fract() == 0.0 && number.abs() <= 18_446_744_073_709_551_616.0).then_some(whole)
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

/// Bytes in either alphabet, with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&byte| byte != b'=');
    let text = text.get(..end.map_or(0, |end| end + 1))?;
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for &byte in group {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        // Three letters hold two bytes, two hold one, and one alone holds none.
        let [_, high, middle, low] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        match group.len() {
            4 => out.extend_from_slice(&[high, middle, low]),
            3 => out.extend_from_slice(&[high, middle]),
            2 => out.push(high),
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;
