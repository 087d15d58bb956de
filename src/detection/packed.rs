//! What a finding learns from one hit, and the compact form in which a key keeps it.

use serde::{Deserialize, Serialize};

use super::{
    hit::{Hit, LabelSet},
    texts::Texts,
};

/// What evidence takes from one hit: borrowed from the hit itself, or from its packed form.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) code: u16,
    pub(super) clamped: bool,
    pub(super) labels: LabelSet,
    /// Empty when they were given up, for they were more than are kept of one key.
    pub(super) texts: &'a Texts,
}

impl<'a> Fields<'a> {
    pub(super) fn of(hit: &'a Hit) -> Self {
        Self {
            code: hit.code,
            clamped: hit.clamped,
            labels: hit.labels,
            texts: &hit.texts,
        }
    }
}

/// The version of [`Packed::to_bytes`].
const VERSION: u8 = 2;

/// What evidence takes from one hit. The texts are those of the hit, not a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    code: u16,
    clamped: bool,
    labels: LabelSet,
    texts: Texts,
}

impl Packed {
    pub(super) fn of(fields: &Fields<'_>) -> Self {
        Self {
            code: fields.code,
            clamped: fields.clamped,
            labels: fields.labels,
            texts: fields.texts.clone(),
        }
    }

    /// One without texts.
    pub(super) fn bare(fields: &Fields<'_>) -> Self {
        Self {
            code: fields.code,
            clamped: fields.clamped,
            labels: fields.labels,
            texts: Texts::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        self.texts.is_empty()
    }

    /// Gives up the texts.
    pub(super) fn strip(&mut self) {
        self.texts = Texts::default();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.texts.heap_bytes()
    }

    /// As bytes, of which the first is the version of this form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let [low, high] = self.code.to_le_bytes();
        let mut bytes = vec![VERSION, u8::from(self.clamped), low, high];
        bytes.extend_from_slice(&self.labels.0.to_le_bytes());
        bytes.extend_from_slice(self.texts.as_bytes());
        bytes
    }

    /// Reads them again, and those of version 1, which knew no labels; `None` when they are of
    /// another version.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[version, clamped, low, high], rest) = bytes.split_first_chunk()?;
        let (labels, texts) = match version {
            1 => (0, rest),
            VERSION => {
                let (labels, texts) = rest.split_first_chunk()?;
                (u64::from_le_bytes(*labels), texts)
            }
            _ => return None,
        };
        Some(Self {
            code: u16::from_le_bytes([low, high]),
            clamped: clamped != 0,
            labels: LabelSet(labels),
            texts: Texts::from_bytes(texts),
        })
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            code: self.code,
            clamped: self.clamped,
            labels: self.labels,
            texts: &self.texts,
        }
    }
}
