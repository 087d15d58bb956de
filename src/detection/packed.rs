//! What a finding learns from one hit, and the compact form in which a key keeps it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{heap, hit::Hit};

/// What evidence takes from one hit: borrowed from the hit itself, or from its packed form.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    pub(super) code: u16,
    pub(super) clamped: bool,
    pub(super) texts: Single<'a>,
    pub(super) groups: Texts<'a>,
    claimed: Texts<'a>,
    /// The source that is no mere claim: the one the hit counts for.
    own: Own,
    /// Whether texts were given up, for they were more than are kept of one key.
    pub(super) bare: bool,
}

/// The fields that have one value.
#[derive(Clone, Copy, Default)]
pub(super) struct Single<'a> {
    pub(super) code: Option<&'a str>,
    pub(super) verb: Option<&'a str>,
    pub(super) uri: Option<&'a str>,
    pub(super) agent: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    pub(super) status: Option<&'a str>,
    pub(super) audit_id: Option<&'a str>,
    pub(super) stage: Option<&'a str>,
}

/// How many they are.
const SINGLE: usize = 10;

impl<'a> Single<'a> {
    fn list(&self) -> [Option<&'a str>; SINGLE] {
        [
            self.code,
            self.verb,
            self.uri,
            self.agent,
            self.user,
            self.message,
            self.reason,
            self.status,
            self.audit_id,
            self.stage,
        ]
    }

    fn of_list(list: [Option<&'a str>; SINGLE]) -> Self {
        let [
            code,
            verb,
            uri,
            agent,
            user,
            message,
            reason,
            status,
            audit_id,
            stage,
        ] = list;
        Self {
            code,
            verb,
            uri,
            agent,
            user,
            message,
            reason,
            status,
            audit_id,
            stage,
        }
    }
}

/// Several texts.
#[derive(Clone)]
pub(super) enum Texts<'a> {
    Listed(std::slice::Iter<'a, String>),
    Packed(&'a [u8]),
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match self {
            Self::Listed(texts) => texts.next().map(String::as_str),
            Self::Packed(bytes) => read(bytes),
        }
    }
}

/// The address or network that a hit counts for.
#[derive(Clone, Copy)]
enum Own {
    Network(IpNet),
    Address(IpAddr),
    Unknown,
}

impl Own {
    fn of(key: &str) -> Self {
        if let Ok(network) = key.parse() {
            return Self::Network(network);
        }
        key.parse().map_or(Self::Unknown, Self::Address)
    }

    fn is(self, source: &str) -> bool {
        match (self, super::address::parse(source)) {
            (Self::Network(network), Some(address)) => network.contains(&address),
            (Self::Address(own), Some(address)) => own == address,
            _ => false,
        }
    }
}

impl<'a> Fields<'a> {
    pub(super) fn of(hit: &'a Hit) -> Self {
        // In escu semantics every element is a source of its own, so none is a mere claim.
        let sources: &[String] = if hit.key.is_empty() {
            &[]
        } else {
            &hit.sources
        };
        Self {
            code: hit.code,
            clamped: hit.clamped,
            texts: Single {
                code: Some(&hit.code_text),
                verb: hit.verb.as_deref(),
                uri: hit.uri.as_deref(),
                agent: hit.agent.as_deref(),
                user: hit.user.as_deref(),
                message: hit.message.as_deref(),
                reason: hit.reason.as_deref(),
                status: hit.status.as_deref(),
                audit_id: hit.audit_id.as_deref(),
                stage: hit.stage.as_deref(),
            },
            groups: Texts::Listed(hit.groups.iter()),
            claimed: Texts::Listed(sources.iter()),
            own: Own::of(&hit.key),
            bare: false,
        }
    }

    /// Addresses that the client may have written itself.
    pub(super) fn claimed(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let own = self.own;
        self.claimed.clone().filter(move |source| !own.is(source))
    }
}

/// The version of [`Packed::to_bytes`].
const VERSION: u8 = 1;

/// What evidence takes from one hit, in one block of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    code: u16,
    clamped: bool,
    /// Each text behind its length; nothing at all when they were given up.
    texts: Box<[u8]>,
}

impl Packed {
    /// `most` is how many values a finding keeps of one field: of a list longer than that no more
    /// could be kept.
    pub(super) fn of(fields: &Fields<'_>, most: usize) -> Self {
        let groups = least(fields.groups.clone(), most);
        let claimed = least(fields.claimed(), most);
        let single = fields.texts.list();
        let lists = groups.iter().chain(&claimed);
        let bytes: usize = single
            .iter()
            .flatten()
            .chain(lists)
            .map(|text| text.len() + length_bytes(text.len()))
            .sum();
        let mut texts = Vec::with_capacity(bytes + single.len() + 2 * size_of::<u64>());
        for text in single {
            match text {
                Some(text) => write(text, &mut texts),
                None => texts.push(0),
            }
        }
        write_length(groups.len(), &mut texts);
        for text in groups.iter().chain(&claimed) {
            write(text, &mut texts);
        }
        Self {
            code: fields.code,
            clamped: fields.clamped,
            texts: texts.into_boxed_slice(),
        }
    }

    /// One without texts.
    pub(super) fn bare(fields: &Fields<'_>) -> Self {
        Self {
            code: fields.code,
            clamped: fields.clamped,
            texts: Box::default(),
        }
    }

    pub(super) fn is_bare(&self) -> bool {
        self.texts.is_empty()
    }

    /// Gives up the texts.
    pub(super) fn strip(&mut self) {
        self.texts = Box::default();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        heap::block(self.texts.len())
    }

    /// As bytes, of which the first is the version of this form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let [low, high] = self.code.to_le_bytes();
        let mut bytes = vec![VERSION, u8::from(self.clamped), low, high];
        bytes.extend_from_slice(&self.texts);
        bytes
    }

    /// Reads them again; `None` when they are of another version.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, clamped, low, high], texts) = bytes.split_first_chunk()? else {
            return None;
        };
        Some(Self {
            code: u16::from_le_bytes([low, high]),
            clamped: clamped != 0,
            texts: texts.into(),
        })
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        let mut rest = &*self.texts;
        let single = std::array::from_fn(|_| read(&mut rest));
        let count = read_length(&mut rest).unwrap_or_default();
        let mut groups = rest;
        for _ in 0..count {
            let _group = read(&mut rest);
        }
        let groups = groups
            .split_off(..groups.len() - rest.len())
            .unwrap_or_default();
        let claimed = rest;
        Fields {
            code: self.code,
            clamped: self.clamped,
            texts: Single::of_list(single),
            groups: Texts::Packed(groups),
            claimed: Texts::Packed(claimed),
            own: Own::Unknown,
            bare: self.is_bare(),
        }
    }
}

/// The distinct texts in order, at most one more than `most`, so that it shows that there are more.
fn least<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let mut texts: Vec<_> = texts.collect();
    if texts.len() > 1 {
        texts.sort_unstable();
        texts.dedup();
        texts.truncate(most.saturating_add(1));
    }
    texts
}

fn write(text: &str, out: &mut Vec<u8>) {
    // Zero stands for no text.
    write_length(text.len() + 1, out);
    out.extend_from_slice(text.as_bytes());
}

/// Seven bits a byte, the lowest first (LEB128).
fn write_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        if length == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn length_bytes(length: usize) -> usize {
    (usize::BITS - (length + 1).leading_zeros()).div_ceil(7) as usize
}

fn read_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    let mut shift = 0;
    loop {
        let byte = *bytes.split_off_first()?;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(length);
        }
        shift += 7;
    }
}

/// The next text, or `None` when there is none in its place.
fn read<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = read_length(bytes)?.checked_sub(1)?;
    let text = bytes.split_off(..length)?;
    Some(std::str::from_utf8(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    impl Default for Fields<'_> {
        fn default() -> Self {
            Self {
                code: 0,
                clamped: false,
                texts: Single::default(),
                groups: Texts::Packed(&[]),
                claimed: Texts::Packed(&[]),
                own: Own::Unknown,
                bare: false,
            }
        }
    }

    proptest! {
        /// What was packed is there again.
        #[test]
        fn texts_come_back(
            code in any::<u16>(),
            single in vec(option::of(prop_oneof!["\\PC{0,9}", Just("ä".repeat(9000))]), SINGLE),
            groups in vec("[a-c]{0,2}", 0..9),
            claimed in vec("[a-c]{0,2}", 0..9),
            most in 0usize..9,
        ) {
            let list: Vec<_> = single.iter().map(Option::as_deref).collect();
            let fields = Fields {
                code,
                texts: Single::of_list(list.clone().try_into().unwrap()),
                groups: Texts::Listed(groups.iter()),
                claimed: Texts::Listed(claimed.iter()),
                ..Fields::default()
            };
            let packed = Packed::of(&fields, most);
            prop_assert_eq!(Packed::from_bytes(&packed.to_bytes()), Some(packed.clone()));
            let read = packed.fields();
            prop_assert!(!packed.is_bare() && !read.bare && read.code == code);
            prop_assert_eq!(read.texts.list().to_vec(), list);
            for (read, texts) in [(read.groups.clone(), &groups), (read.claimed, &claimed)] {
                let mut wanted = texts.clone();
                if texts.len() > 1 {
                    wanted.sort();
                    wanted.dedup();
                    wanted.truncate(most + 1);
                }
                prop_assert_eq!(read.collect::<Vec<_>>(), wanted);
            }
            let bare = Packed::bare(&fields);
            prop_assert!(bare.is_bare() && bare.fields().bare && bare.heap_bytes() == 0);
        }
    }
}
