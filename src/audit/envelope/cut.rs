//! Events that were cut on their way. Transports cut at a length, so the end is missing. When what
//! a finding needs stands before the cut, the event counts, without what was behind it.

use memchr::{memchr2, memmem};

use super::{super::json, glance, whole::trim};
use crate::audit::{event::Composite, fields::AuditField};

/// Levels that are open at the cut.
const MOST_LEVELS: usize = 256;
/// A longer event that was cut inside an envelope is left out.
const LONGEST: usize = 2 * 1024 * 1024;
/// The mark of the API server for events that it has shortened itself, so rules and people know it.
const MARK: &[u8] = br#","annotations":{"audit.k8s.io/truncated":"true""#;

/// Each of these is in audit events alone.
const CERTAIN: [&[u8]; 2] = [b"auditID", b"audit.k8s.io"];
/// Two of these together are.
const LIKELY: [&[u8]; 5] = [
    b"\"requestURI\"",
    b"\"responseStatus\"",
    b"\"sourceIPs\"",
    b"\"verb\"",
    b"\"user\"",
];

/// Whether the beginning of a text is that of an audit event.
pub(super) fn begins_as_event(text: &[u8]) -> bool {
    let head = text.get(..text.len().min(glance::HEAD)).unwrap_or_default();
    let has = |key: &&[u8]| memmem::find(head, key).is_some();
    text.first() == Some(&b'{')
        && head
            .get(1..64.min(head.len()))
            .is_some_and(|begin| !begin.contains(&b'\\'))
        && (CERTAIN.iter().any(has) || LIKELY.iter().filter(|key| has(key)).count() > 1)
}

/// The event that a cut text still is, if its user, source address, URI and status code survive.
/// Its annotations say that it was cut.
pub(crate) fn salvage(text: &[u8]) -> Option<Vec<u8>> {
    let text = trim(text);
    if !begins_as_event(text) {
        return None;
    }
    let mut place = Place::default();
    place.walk(text);
    if !place.is_cut() {
        return None;
    }
    let mut event = text.get(..place.complete).unwrap_or_default().to_vec();
    event.extend(place.levels_at_complete.iter().rev());
    let read = json::one(&event, "").ok().flatten()?;
    let has = |field| read.field(field).value().is_some();
    let survives = read.has_user
        && read.sources().is_some()
        && has(AuditField::RequestUri)
        && has(AuditField::Code);
    // Of two members with one key the last counts: its own annotations go with the mark.
    let own = match read.parts.annotations {
        Some(Composite::Json(own)) => own.trim_ascii().strip_prefix(b"{"),
        _ => None,
    };
    let own = own.map_or(&b"}"[..], <[u8]>::trim_ascii_start);
    let separator: &[u8] = if own == b"}" { b"" } else { b"," };
    let mark = [MARK, separator, own].concat();
    event.pop();
    event.extend(mark);
    event.push(b'}');
    survives.then_some(event)
}

/// A cut envelope, closed where it was cut: the string at its end is kept as far as it goes, and
/// an event at its end becomes a string, so that it stays one that was cut.
pub(super) fn close(text: &[u8]) -> Option<Vec<u8>> {
    if !matches!(text.first(), Some(b'{' | b'[' | b'"')) {
        return None;
    }
    let mut place = Place::default();
    place.walk(text);
    if !place.is_cut() {
        return None;
    }
    let mut closed;
    if let Some((level, from)) = place.event(text) {
        let (outer, event) = text.split_at_checked(from)?;
        closed = outer.to_vec();
        if event.len() > LONGEST {
            closed.extend_from_slice(b"null");
        } else {
            serde_json::to_writer(&mut closed, &*String::from_utf8_lossy(event)).ok()?;
        }
        closed.extend(place.levels.get(..level)?.iter().rev());
    } else if place.in_string && place.is_value {
        closed = text.get(..place.end).unwrap_or_default().to_vec();
        closed.push(b'"');
        closed.extend(place.levels.iter().rev());
    } else {
        closed = text.get(..place.complete).unwrap_or_default().to_vec();
        closed.extend(place.levels_at_complete.iter().rev());
    }
    (!closed.is_empty()).then_some(closed)
}

/// Where a text ends, in terms of JSON.
#[derive(Default)]
struct Place {
    /// The brackets that close what is open.
    levels: Vec<u8>,
    /// Where each of them was opened.
    begins: Vec<usize>,
    /// Behind the last member or element that is complete, and what is open there.
    complete: usize,
    levels_at_complete: Vec<u8>,
    /// Whether the text ends in a string, and whether that is a value.
    in_string: bool,
    is_value: bool,
    /// Where what is whole of that string ends.
    end: usize,
    is_over: bool,
}

impl Place {
    fn is_cut(&self) -> bool {
        !self.is_over && (self.in_string || !self.levels.is_empty())
    }

    /// The outermost event that is open at the cut: how many levels are around it, and where it
    /// begins.
    fn event(&self, text: &[u8]) -> Option<(usize, usize)> {
        let mut levels = (0..).zip(self.begins.iter().copied());
        levels.find(|(_, begin)| text.get(*begin..).is_some_and(glance::begins_as_event))
    }

    /// Looks at the structure of a text, without a check of what is between.
    fn walk(&mut self, text: &[u8]) {
        let mut at = 0;
        self.is_value = true;
        while let Some(&byte) = text.get(at) {
            match byte {
                b'"' => match end_of_string(text, at + 1) {
                    Ok(end) => {
                        at = end;
                        // A key is worth nothing without its value.
                        if self.is_value {
                            self.completed(at);
                        }
                    }
                    Err(whole) => {
                        (self.in_string, self.end) = (true, whole);
                        return;
                    }
                },
                b'{' | b'[' => {
                    if self.levels.len() == MOST_LEVELS {
                        self.is_over = true;
                        return;
                    }
                    self.levels.push(if byte == b'{' { b'}' } else { b']' });
                    self.begins.push(at);
                    self.is_value = byte == b'[';
                    at += 1;
                    self.completed(at);
                }
                b'}' | b']' => {
                    self.levels.pop();
                    self.begins.pop();
                    at += 1;
                    if self.levels.is_empty() {
                        self.is_over = true;
                        return;
                    }
                    self.completed(at);
                }
                b',' => {
                    self.completed(at);
                    self.is_value = self.levels.last() == Some(&b']');
                    at += 1;
                }
                b':' => {
                    self.is_value = true;
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    fn completed(&mut self, at: usize) {
        self.complete = at;
        // Most of it stays as it was.
        self.levels_at_complete.clone_from(&self.levels);
    }
}

/// Where a string ends, behind its quote; else where what is whole of it ends.
fn end_of_string(text: &[u8], mut from: usize) -> Result<usize, usize> {
    loop {
        let rest = text.get(from..).unwrap_or_default();
        let Some(at) = memchr2(b'"', b'\\', rest) else {
            return Err(whole(text));
        };
        let at = from + at;
        if text.get(at) == Some(&b'"') {
            return Ok(at + 1);
        }
        let length = if text.get(at + 1) == Some(&b'u') {
            6
        } else {
            2
        };
        if at + length > text.len() {
            return Err(at);
        }
        from = at + length;
    }
}

/// Where the last whole character ends.
fn whole(text: &[u8]) -> usize {
    let from = text.len().saturating_sub(4);
    let tail = text.get(from..).unwrap_or_default();
    let mut end = text.len();
    for (at, byte) in tail.iter().enumerate().rev() {
        let length = match byte {
            0xf0.. => 4,
            0xe0.. => 3,
            0xc0.. => 2,
            0x80.. => continue,
            _ => 1,
        };
        if from + at + length > text.len() {
            end = from + at;
        }
        break;
    }
    end
}
