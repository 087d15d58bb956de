//! The texts of a hit: the values of each field of the table, in one block of memory.
//!
//! The screen writes the block once; the state of a key keeps it as it is, and evidence reads it in
//! place. Fields stand in the order of the table ([`fields::TABLE`]): one that may have a single
//! value as that value or nothing, any other as a number of values and these. What is missing at
//! the end has no values, so that a block that was kept outlives a row that is added.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    fields::{self, AuditField, Kind},
    heap,
};
use crate::audit::marked::marked;

/// The values of the fields of one event. Empty when they were given up: a block that was written
/// has at least a byte for each field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts(Arc<[u8]>);

/// The values of one field, in order.
#[derive(Clone, Default)]
pub struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        read(&mut self.0)
    }
}

impl Texts {
    /// Whether the texts were given up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value of a field.
    pub fn get(&self, field: AuditField) -> Option<&str> {
        self.all(field).next()
    }

    /// The values of a field, in order.
    pub fn all(&self, field: AuditField) -> Values<'_> {
        let mut rest = &*self.0;
        let mut found = Values::default();
        for row in fields::TABLE.iter().take(field.index() + 1) {
            found = values(row.kind, &mut rest);
        }
        found
    }

    /// Gives a field other values; of a field with a single value the first.
    pub fn set(&mut self, field: AuditField, values: &[&str]) {
        let mut writer = Writer::default();
        for (row, old) in fields::TABLE.iter().zip(self.rows()) {
            if row.field == field {
                writer.row(row.kind, values.iter().copied());
            } else {
                writer.row(row.kind, old);
            }
        }
        *self = writer.finish();
    }

    /// Cuts every value of more than `most` bytes, with a hash of the whole behind the cut, so that
    /// distinct values stay distinct. What a client can write has no bound of its own.
    pub(super) fn cut(&mut self, most: usize) {
        // A block that is no longer has no value that is.
        if self.0.len() <= most
            || !self
                .rows()
                .into_iter()
                .flatten()
                .any(|text| matches!(marked(text, most), Cow::Owned(_)))
        {
            return;
        }
        let mut writer = Writer::default();
        for (row, old) in fields::TABLE.iter().zip(self.rows()) {
            writer.row(row.kind, old.map(|text| marked(text, most)));
        }
        *self = writer.finish();
    }

    /// The block as it is kept on disk.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A block that was kept. What cannot be read of it has no values.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The values of all fields, in the order of the table.
    pub(super) fn rows(&self) -> [Values<'_>; fields::COUNT] {
        let mut rest = &*self.0;
        fields::TABLE
            .each_ref()
            .map(|row| values(row.kind, &mut rest))
    }

    /// Bytes on the heap, as if they were not shared.
    pub(super) fn heap_bytes(&self) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        heap::shared(self.0.len())
    }
}

impl<S: AsRef<str>> FromIterator<(AuditField, S)> for Texts {
    fn from_iter<I: IntoIterator<Item = (AuditField, S)>>(values: I) -> Self {
        let values: Vec<_> = values.into_iter().collect();
        let mut writer = Writer::default();
        for row in &fields::TABLE {
            let own = values.iter().filter(|(field, _)| *field == row.field);
            writer.row(row.kind, own.map(|(_, text)| text.as_ref()));
        }
        writer.finish()
    }
}

/// A block in the making. Fields are written in the order of the table.
pub(super) struct Writer(Vec<u8>);

impl Default for Writer {
    fn default() -> Self {
        /// What an ordinary event needs.
        const USUAL: usize = 512;
        Self(Vec::with_capacity(USUAL))
    }
}

impl Writer {
    /// Writes a field of this kind.
    fn row(&mut self, kind: Kind, values: impl Iterator<Item = impl AsRef<str>>) {
        match kind {
            Kind::Single => self.single(values.take(1), |text, out| out.text(text.as_ref())),
            Kind::List | Kind::Map | Kind::Claimed | Kind::Peer => {
                self.several(|writer| {
                    values.fold(0, |count, text| {
                        writer.value(|out| out.text(text.as_ref()));
                        count + 1
                    })
                });
            }
        }
    }

    /// Writes a field that has one value or none.
    pub(super) fn single<T>(
        &mut self,
        mut value: impl Iterator<Item = T>,
        write: impl FnOnce(T, &mut Value<'_>),
    ) {
        match value.next() {
            Some(value) => self.value(|out| write(value, out)),
            None => self.0.push(0),
        }
    }

    /// Writes a field that has any number of values; `write` writes each and says how many.
    pub(super) fn several(&mut self, write: impl FnOnce(&mut Self) -> usize) {
        let at = self.reserve();
        let count = write(self);
        self.set(at, count);
    }

    /// Writes one value.
    pub(super) fn value(&mut self, write: impl FnOnce(&mut Value<'_>)) {
        let at = self.reserve();
        let before = self.0.len();
        write(&mut Value(&mut self.0));
        let length = self.0.len() - before;
        // Zero is no value.
        self.set(at, length + 1);
    }

    /// The block.
    pub(super) fn finish(self) -> Texts {
        Texts(Arc::from(self.0))
    }

    /// Room for a number that is known later: one byte, for nearly all are small.
    fn reserve(&mut self) -> usize {
        self.0.push(0);
        self.0.len() - 1
    }

    fn set(&mut self, at: usize, number: usize) {
        match (u8::try_from(number), self.0.get_mut(at)) {
            (Ok(small @ ..=0x7f), Some(place)) => *place = small,
            _ => drop(self.0.splice(at..=at, digits(number))),
        }
    }
}

/// A value in the making.
pub(super) struct Value<'w>(&'w mut Vec<u8>);

impl Value<'_> {
    /// Adds to it.
    pub(super) fn text(&mut self, piece: &str) {
        self.0.extend_from_slice(piece.as_bytes());
    }
}

/// Reads the values of a field of this kind, which come next.
fn values<'a>(kind: Kind, rest: &mut &'a [u8]) -> Values<'a> {
    let count = match kind {
        Kind::Single => 1,
        _ => read_number(rest).unwrap_or_default(),
    };
    let begin = *rest;
    for _ in 0..count {
        if rest.is_empty() {
            break;
        }
        let _value = read_bytes(rest);
    }
    Values(begin.get(..begin.len() - rest.len()).unwrap_or_default())
}

/// A number, seven bits a byte, the lowest first (LEB128).
fn digits(number: usize) -> impl Iterator<Item = u8> {
    let mut rest = Some(number);
    std::iter::from_fn(move || {
        let number = rest?;
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        rest = Some(number >> 7).filter(|rest| *rest != 0);
        Some(if rest.is_some() { low | 0x80 } else { low })
    })
}

#[inline]
fn read_number(bytes: &mut &[u8]) -> Option<usize> {
    if let [small @ ..=0x7f, rest @ ..] = *bytes {
        // As nearly all are.
        *bytes = rest;
        return Some(usize::from(*small));
    }
    let mut number = 0;
    let mut shift = 0;
    loop {
        let byte = *bytes.split_off_first()?;
        number |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

/// The next value, or `None` when there is none in its place.
fn read<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let text = read_bytes(bytes)?;
    Some(std::str::from_utf8(text).unwrap_or_default())
}

/// The same, not checked to be text: where the next value begins needs no look at this one.
fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = read_number(bytes)?.checked_sub(1)?;
    let Some(text) = bytes.split_off(..length) else {
        // Broken: what follows is no value either.
        *bytes = &[];
        return None;
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// What was written is there again, field by field, cut or not.
        #[test]
        fn values_come_back(
            values in vec(vec(prop_oneof!["\\PC{0,9}", Just("ä".repeat(9000))], 0..200), fields::COUNT),
            most in 0usize..20_000,
        ) {
            let pairs = fields::TABLE.iter().zip(&values);
            let mut texts: Texts = pairs
                .flat_map(|(row, values)| values.iter().map(|text| (row.field, text)))
                .collect();
            prop_assert!(!texts.is_empty());
            let wanted = |row: &fields::Row| -> Vec<&String> {
                let values = values[row.field.index()].iter();
                values.take(if row.kind == Kind::Single { 1 } else { usize::MAX }).collect()
            };
            for (row, read) in fields::TABLE.iter().zip(texts.rows()) {
                prop_assert_eq!(read.collect::<Vec<_>>(), wanted(row));
                prop_assert_eq!(texts.get(row.field), wanted(row).first().map(|text| text.as_str()));
            }
            texts.cut(most);
            for (row, read) in fields::TABLE.iter().zip(texts.rows()) {
                for (read, whole) in read.zip(wanted(row)) {
                    prop_assert_eq!(read, marked(whole, most));
                }
            }
            let before = texts.clone();
            texts.set(AuditField::Groups, &["a", "", "b"]);
            for (row, (old, new)) in fields::TABLE.iter().zip(before.rows().into_iter().zip(texts.rows())) {
                let new: Vec<_> = new.collect();
                if row.field == AuditField::Groups {
                    prop_assert_eq!(new, ["a", "", "b"]);
                } else {
                    prop_assert_eq!(new, old.collect::<Vec<_>>());
                }
            }
        }
    }

    /// A block of a version that knew fewer fields, or one that is broken, is read without harm.
    #[test]
    fn what_is_missing_at_the_end_has_no_values() {
        let texts: Texts = fields::TABLE
            .iter()
            .map(|row| (row.field, row.path))
            .collect();
        for length in 0..texts.0.len() {
            let cut = Texts(Arc::from(&texts.0[..length]));
            let read: Vec<_> = cut.rows().into_iter().flatten().collect();
            let whole: Vec<_> = texts.rows().into_iter().flatten().collect();
            assert!(whole.starts_with(&read), "{length}");
        }
        let broken = Texts(Arc::from([0xff; 40]));
        assert_eq!(broken.rows().into_iter().flatten().count(), 0);
    }
}
