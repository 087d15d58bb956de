//! A glance at a record, to see whether it is a plain event: then no envelope is looked for.

use std::sync::LazyLock;

use memchr::{
    memchr2,
    memmem::{self, Finder},
};

use crate::pdata::KeyValues;

/// Bytes in which the id of an event is looked for first.
const HEAD: usize = 1024;
const ID: &[u8] = b"\"auditID\"";
/// One of these is in whatever holds an event or is counted by name: parts of keys, whatever their
/// case.
const WORDS: [&[u8]; 4] = [b"equestUR", b"erb", b"protoPayload", b"essageType"];

/// Longer beginnings are looked at each time.
const REMEMBERED: usize = 320;

static FIND_ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ID));
static FIND_FLAT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"responseStatus."));

/// The glance at the texts of one sender, whose events begin alike: what stands before the id of the
/// last one need not be looked at again.
#[derive(Debug)]
pub(crate) struct Glance {
    beginning: [u8; REMEMBERED],
    length: usize,
}

impl Default for Glance {
    fn default() -> Self {
        Self {
            beginning: [0; REMEMBERED],
            length: 0,
        }
    }
}

impl Glance {
    /// Whether the text of an object is an event, by its own keys. It need not be whole. `has_code`:
    /// the key `code` is known to be in it, as it is in no object whose members are keys with dots.
    #[inline]
    pub(crate) fn is_plain(&mut self, text: &[u8], has_code: bool) -> bool {
        if text.first() != Some(&b'{') {
            return false;
        }
        let is_flat = || !has_code && FIND_FLAT.find(text).is_some();
        let known = self.beginning.get(..self.length).unwrap_or_default();
        if !known.is_empty() && text.starts_with(known) {
            return !is_flat();
        }
        let head = text.get(..text.len().min(HEAD)).unwrap_or_default();
        // Nearly always it is here, and an object or two before it.
        if let Some(at) = FIND_ID.find(head) {
            let before = head.get(..at + ID.len() + 1).unwrap_or(head);
            let mut keys = Keys::default();
            keys.look(before);
            if keys.is_by_id {
                if let Some(place) = self.beginning.get_mut(..before.len()) {
                    place.copy_from_slice(before);
                    self.length = before.len();
                }
                return !is_flat();
            }
            if let Some(verdict) = keys.verdict {
                return verdict;
            }
        }
        let mut keys = Keys::default();
        keys.look(text);
        keys.verdict == Some(true) && !(keys.is_by_id && is_flat())
    }
}

/// The same for one text.
#[cfg(test)]
pub(crate) fn is_plain(text: &[u8]) -> bool {
    Glance::default().is_plain(text, false)
}

/// Whether a text may hold an event at all, in an envelope or not. It costs far less than to open
/// the envelopes of other logs.
pub(crate) fn may_hold(text: &[u8]) -> bool {
    WORDS.iter().any(|word| memmem::find(text, word).is_some())
        || memmem::find(text, b"\"records\"").is_some()
}

/// Whether a map is an event, by its own keys.
pub(crate) fn has_event_keys(map: &KeyValues<'_>) -> bool {
    let mut keys = Keys::default();
    map.find(|key| {
        keys.key(key);
        keys.verdict.is_some() && !keys.is_by_id
    });
    keys.verdict == Some(true) && !(keys.is_by_id && (keys.is_flat || keys.parts == 0))
}

/// The keys of an object, as far as they say what it is.
#[derive(Default)]
struct Keys {
    request: bool,
    parts: u8,
    /// The id alone says it.
    is_by_id: bool,
    /// Members of an object are keys of their own.
    is_flat: bool,
    verdict: Option<bool>,
}

impl Keys {
    #[inline]
    fn key(&mut self, key: &[u8]) {
        match key {
            b"auditID" => {
                self.is_by_id = self.verdict.is_none();
                self.verdict = Some(true);
            }
            b"requestURI" | b"verb" => self.request = true,
            b"user" => self.parts |= 1,
            b"sourceIPs" => self.parts |= 2,
            b"responseStatus" => self.parts |= 4,
            // An event has none of these.
            b"items" | b"Items" | b"records" | b"logEvents" | b"protoPayload" | b"log"
            | b"message" | b"MESSAGE" | b"event" => self.verdict = Some(false),
            _ => {
                self.is_flat |= key.starts_with(b"responseStatus.");
                return;
            }
        }
        if self.request && self.parts.count_ones() >= 2 {
            (self.verdict, self.is_by_id) = (Some(true), false);
        }
    }

    /// Looks at the keys of an object until it is known what it is.
    fn look(&mut self, text: &[u8]) {
        let (mut depth, mut at) = (0_usize, 0);
        while let Some(&byte) = text.get(at) {
            at += 1;
            match byte {
                b'"' => {
                    let begin = at;
                    let Some(end) = end_of_string(text, at) else {
                        return;
                    };
                    at = end + 1;
                    if depth == 1 && is_key(text.get(at..).unwrap_or_default()) {
                        self.key(text.get(begin..end).unwrap_or_default());
                        if self.verdict.is_some() {
                            return;
                        }
                    }
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

/// Whether a colon follows.
fn is_key(after: &[u8]) -> bool {
    match after.first() {
        Some(b':') => true,
        Some(b' ' | b'\t' | b'\r' | b'\n') => after.trim_ascii_start().first() == Some(&b':'),
        _ => false,
    }
}

/// Where the quote of a string stands.
fn end_of_string(text: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memchr2(b'"', b'\\', text.get(from..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        from = at + 2;
    }
}
