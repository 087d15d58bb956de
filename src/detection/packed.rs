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
    /// Whether it may have been counted before: nothing that could tell is left, or ever was.
    pub(super) is_unverified: bool,
    /// Empty when they were given up, for the texts of all hits were more than are kept.
    pub(super) texts: &'a Texts,
}

impl<'a> Fields<'a> {
    pub(super) fn of(hit: &'a Hit) -> Self {
        Self {
            code: hit.code,
            clamped: hit.clamped,
            labels: hit.labels,
            is_unverified: hit.is_time_coarse,
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
    is_unverified: bool,
    texts: Texts,
}

/// What evidence takes from one hit, without its texts, which are in the evidence log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Brief {
    labels: LabelSet,
    /// The number of its texts, 2 flags and the code, from high to low.
    rest: u64,
}

impl Brief {
    const CODE_BITS: u32 = 10;
    const CLAMPED: u64 = 1 << Self::CODE_BITS;
    const UNVERIFIED: u64 = 2 << Self::CODE_BITS;
    const NUMBER: u32 = Self::CODE_BITS + 2;

    /// Of a hit whose texts have this number.
    pub(super) fn new(fields: &Fields<'_>, number: u64) -> Self {
        let code = u64::from(fields.code) & (Self::CLAMPED - 1);
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        let flags =
            flag(fields.clamped, Self::CLAMPED) | flag(fields.is_unverified, Self::UNVERIFIED);
        Self {
            labels: fields.labels,
            rest: (number << Self::NUMBER) | flags | code,
        }
    }

    /// Gives it a label.
    pub(super) fn label(&mut self, place: usize) {
        self.labels.insert(place);
    }

    /// The number of its texts.
    pub(super) fn number(self) -> u64 {
        self.rest >> Self::NUMBER
    }

    /// The same with these texts.
    pub(super) fn with(self, texts: Texts) -> Packed {
        Packed {
            code: u16::try_from(self.rest & (Self::CLAMPED - 1)).unwrap_or_default(),
            clamped: self.rest & Self::CLAMPED != 0,
            labels: self.labels,
            is_unverified: self.rest & Self::UNVERIFIED != 0,
            texts,
        }
    }
}

impl Packed {
    pub(super) fn of(fields: &Fields<'_>) -> Self {
        Self {
            code: fields.code,
            clamped: fields.clamped,
            labels: fields.labels,
            is_unverified: fields.is_unverified,
            texts: fields.texts.clone(),
        }
    }

    /// One without texts.
    pub(super) fn bare(fields: &Fields<'_>) -> Self {
        Self {
            code: fields.code,
            clamped: fields.clamped,
            labels: fields.labels,
            is_unverified: fields.is_unverified,
            texts: Texts::default(),
        }
    }

    /// Gives it a label.
    pub(super) fn label(&mut self, place: usize) {
        self.labels.insert(place);
    }

    /// Gives up the texts.
    pub(super) fn strip(&mut self) {
        self.texts = Texts::default();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.texts.heap_bytes()
    }

    /// Its texts.
    pub(super) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// As bytes, of which the first is the version of this form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let [low, high] = self.code.to_le_bytes();
        let flags = u8::from(self.clamped) | (u8::from(self.is_unverified) << 1);
        let mut bytes = vec![VERSION, flags, low, high];
        bytes.extend_from_slice(&self.labels.0.to_le_bytes());
        bytes.extend_from_slice(self.texts.as_bytes());
        bytes
    }

    /// Reads them again, and those of version 1, which knew no labels; `None` when they are of
    /// another version.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[version, flags, low, high], rest) = bytes.split_first_chunk()?;
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
            clamped: flags & 1 != 0,
            labels: LabelSet(labels),
            is_unverified: flags & 2 != 0,
            texts: Texts::from_bytes(texts),
        })
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            code: self.code,
            clamped: self.clamped,
            labels: self.labels,
            is_unverified: self.is_unverified,
            texts: &self.texts,
        }
    }
}
