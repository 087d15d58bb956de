//! A glance at a record, to see whether it is a plain event: then no envelope is looked for.

use std::sync::LazyLock;

use memchr::{
    memchr2,
    memmem::{self, Finder},
};

use super::survey::CARRIERS;
use crate::pdata::KeyValues;

/// Bytes in which the id of an event is looked for first.
const FIRST: usize = 1024;
const ID: &[u8] = b"\"auditID\"";
/// The value of `apiVersion` of an audit event begins so.
const VERSION: &[u8] = b"audit.k8s.io/";
/// Longer beginnings are looked at each time.
const REMEMBERED: usize = 320;

static FIND_ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ID));
static FIND_FLAT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"responseStatus."));

/// Bytes of a text that was cut in which the keys of an event are looked for.
pub(super) const HEAD: usize = 4096;
/// How an API server begins an audit event.
pub(crate) const USUAL: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/"#;
/// With these begin the keys of an event whose objects were flattened.
const FLAT: [&[u8]; 3] = [b"responseStatus.", b"user.", b"sourceIPs."];
/// One of these is in whatever holds an event or is counted by name: parts of keys, whatever their
/// case.
const WORDS: [&[u8]; 4] = [b"equestUR", b"erb", b"protoPayload", b"essageType"];

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
        let first = text.get(..text.len().min(FIRST)).unwrap_or_default();
        // Nearly always it is here, and an object or two before it.
        if let Some(at) = FIND_ID.find(first) {
            let before = first.get(..at + ID.len() + 1).unwrap_or(first);
            let keys = Keys::of(before);
            if let Some(verdict) = keys.verdict() {
                return verdict;
            }
            if keys.marks == HAS_ID | HAS_VERSION {
                if let Some(place) = self.beginning.get_mut(..before.len()) {
                    place.copy_from_slice(before);
                    self.length = before.len();
                }
                return !is_flat();
            }
        }
        Keys::of(text).are_event()
    }
}

/// The same for one text.
#[cfg(test)]
pub(crate) fn is_plain(text: &[u8]) -> bool {
    Glance::default().is_plain(text, false)
}

/// Whether a text that was cut begins as an event, by its own keys and not by those inside it.
pub(super) fn begins_as_event(text: &[u8]) -> bool {
    let head = text.get(..text.len().min(HEAD)).unwrap_or_default();
    text.starts_with(USUAL) || head.first() == Some(&b'{') && Keys::of(head).begin_event()
}

/// Whether a text may hold an event at all, in an envelope or not. It costs far less than to open
/// the envelopes of other logs.
pub(crate) fn may_hold(text: &[u8]) -> bool {
    WORDS.iter().any(|word| memmem::find(text, word).is_some())
        || memmem::find(text, b"\"records\"").is_some()
}

/// Whether a map is an event, by its own keys.
pub(crate) fn has_event_keys(map: &KeyValues<'_>) -> bool {
    Keys::of_map(map).are_event()
}

/// Whether the attributes of a record are an event. An id among them says nothing: it may be that of
/// the event in the body.
pub(crate) fn are_event(attributes: &KeyValues<'_>) -> bool {
    Keys::of_map(attributes).verdict() == Some(true)
}

const HAS_ID: u8 = 1;
const HAS_VERSION: u8 = 2;

/// The keys of an object, as far as they say what it is.
#[derive(Default)]
struct Keys {
    /// The URI or the verb, a bit each.
    request: u8,
    /// Who, from where, and how it ended, a bit each.
    parts: u8,
    /// The id, and the version of audit events, a bit each.
    marks: u8,
    /// Members of an object are keys of their own.
    is_flat: bool,
    /// There is a key that an event has not, and that may hold one.
    is_around: bool,
}

impl Keys {
    fn of(text: &[u8]) -> Self {
        let mut keys = Self::default();
        keys.look(text);
        keys
    }

    fn of_map(map: &KeyValues<'_>) -> Self {
        let mut keys = Self::default();
        map.find(|key| {
            keys.key(key);
            keys.verdict().is_some()
        });
        keys
    }

    #[inline]
    fn key(&mut self, key: &[u8]) {
        match key {
            b"auditID" => self.marks |= HAS_ID,
            b"requestURI" => self.request |= 1,
            b"verb" => self.request |= 2,
            b"user" => self.parts |= 1,
            b"sourceIPs" => self.parts |= 2,
            b"responseStatus" => self.parts |= 4,
            // An event has none of these.
            b"items" | b"Items" | b"records" | b"logEvents" | b"protoPayload" => {
                self.is_around = true;
            }
            _ if CARRIERS.contains(&key) => self.is_around = true,
            _ => self.is_flat |= FLAT.iter().any(|flat| key.starts_with(flat)),
        }
    }

    /// What is certain, whatever keys follow.
    #[inline]
    fn verdict(&self) -> Option<bool> {
        if self.request != 0 && self.parts.count_ones() >= 2 {
            return Some(true);
        }
        self.is_around.then_some(false)
    }

    /// What is known once all keys have been seen. With an id less is enough: an event without a
    /// response has no status.
    fn are_event(&self) -> bool {
        self.verdict().unwrap_or(
            (self.marks & HAS_ID != 0) && !self.is_flat && (self.request != 0 || self.parts != 0),
        )
    }

    /// What is likely when only the first keys are there.
    fn begin_event(&self) -> bool {
        self.verdict().unwrap_or(
            (self.marks & HAS_ID != 0) || self.request.count_ones() + self.parts.count_ones() > 1,
        )
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
                        let key = text.get(begin..end).unwrap_or_default();
                        self.key(key);
                        if key == b"apiVersion" && is_version(text.get(at..)) {
                            self.marks |= HAS_VERSION;
                        }
                        if self.verdict().is_some() {
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

/// Whether what follows the key of a version is one of audit events.
fn is_version(after: Option<&[u8]>) -> bool {
    let after = after.unwrap_or_default().trim_ascii_start();
    let value = after.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
    value.is_some_and(|value| {
        value
            .strip_prefix(b"\"")
            .is_some_and(|text| text.starts_with(VERSION))
    })
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
