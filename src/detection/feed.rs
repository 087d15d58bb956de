//! What the records of a request say of the feed that they come by: how many are audit events, how
//! many were cut on their way, how late they are. The screen asks for each record, so a record
//! costs no more than a few comparisons here.

use memchr::memmem;

use super::{
    activity::{Activities, Activity},
    envelope::USUAL,
    selector::SelectorMatch,
    time::Micros,
};
use crate::pdata::{AnyValue, Record};

/// Bytes of a text in which a key of an audit event is looked for.
const HEAD: usize = 4096;
/// Each of these is in audit events alone.
const CERTAIN: [&[u8]; 2] = [b"\"auditID\"", b"audit.k8s.io"];
/// Two of these together are.
const LIKELY: [&[u8]; 5] = [
    b"\"requestURI\"",
    b"\"responseStatus\"",
    b"\"sourceIPs\"",
    b"\"verb\"",
    b"\"user\"",
];

/// The feed of the resource at hand, within one request.
#[derive(Debug, Default)]
pub(super) struct Feed {
    current: Activity,
    /// Greatest time of a record, in nanoseconds since 1970.
    last: u64,
    /// Length of the last record that was cut: others are cut at the same.
    cut_at: usize,
    /// Whether the record at hand is cut, and whether it counts as an event.
    is_cut: bool,
    is_counted: bool,
    /// With a selector, cut records by its result for them.
    by_match: Vec<(SelectorMatch, u64)>,
}

/// What is plain to see of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// It begins as API servers begin an event.
    pub(super) is_usual: bool,
    /// It was cut on its way.
    pub(super) is_cut: bool,
}

/// What else is known of a resource at its end.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    /// Its cluster.
    pub(super) cluster: &'a str,
    pub(super) hits: u64,
    pub(super) unreadable: u64,
    /// A later time of a record is not believed.
    pub(super) latest: Option<Micros>,
}

impl Feed {
    /// Looks at a record.
    #[inline]
    pub(super) fn note(&mut self, record: &Record<'_>, body: &AnyValue<'_>) -> Seen {
        self.current.records += 1;
        let time = match record.time_unix_nano {
            0 => record.observed_time_unix_nano,
            time => time,
        };
        self.last = self.last.max(time);
        (self.is_cut, self.is_counted) = (false, false);
        let (AnyValue::Text(text) | AnyValue::Bytes(text)) = body else {
            return Seen {
                is_usual: false,
                is_cut: false,
            };
        };
        let is_usual = text.starts_with(USUAL);
        if is_usual {
            self.note_event();
        }
        let length = text.len();
        let is_whole = text.last() == Some(&b'}') && !is_limit(length) && length != self.cut_at;
        if !is_whole && (is_usual || is_object(text)) {
            self.look_closer(text, is_usual);
        }
        Seen {
            is_usual,
            is_cut: self.is_cut,
        }
    }

    /// The record at hand is an audit event.
    #[inline]
    pub(super) fn note_event(&mut self) {
        self.current.events += u64::from(!self.is_counted);
        self.is_counted = true;
    }

    /// The record at hand is not one event but several in a row, and each of them is counted.
    pub(super) fn note_row(&mut self) {
        self.current.events -= u64::from(self.is_counted);
        self.is_counted = false;
    }

    /// An event was found inside the record at hand.
    pub(super) fn note_found(&mut self) {
        self.current.events += 1;
    }

    /// The record at hand is a candidate that is not one JSON value; whether it was cut, which may
    /// have gone unnoticed where the cut is behind a brace.
    pub(super) fn note_unreadable(&mut self, text: &[u8]) -> bool {
        let is_new = !self.is_cut && is_object(text) && begins_as_event(text) && is_open(text);
        if is_new {
            self.cut(text.len());
        }
        is_new
    }

    /// Whether the record at hand was cut on its way.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Counts a cut record, unless it depends on the selector.
    pub(super) fn count_cut(&mut self, matched: Option<SelectorMatch>) {
        let Some(matched) = matched else {
            self.current.truncated += 1;
            return;
        };
        match self.by_match.iter_mut().find(|(of, _)| *of == matched) {
            Some((_, count)) => *count += 1,
            None => self.by_match.push((matched, 1)),
        }
    }

    /// Counts a candidate.
    pub(super) fn note_candidate(&mut self) {
        self.current.candidates += 1;
    }

    /// Takes the times of an event that was parsed; see `Delays::take`.
    pub(super) fn note_times(
        &mut self,
        event: Option<Micros>,
        observed: Option<Micros>,
        lateness: i64,
        ahead: i64,
    ) {
        if let (Some(event), Some(observed)) = (event, observed) {
            self.current.delays.take(event, observed, lateness, ahead);
        }
        self.current.last = self
            .current
            .last
            .max(event.map(|event| observed.map_or(event, |at| event.min(at.plus(ahead)))));
    }

    /// Ends a resource: adds what it had to the activity of its cluster. Of the cut records that
    /// depend on the selector those count that `selects` names.
    pub(super) fn end(
        &mut self,
        resource: &Ended<'_>,
        selects: impl Fn(SelectorMatch) -> bool,
        all: &mut Activities,
    ) {
        let mut activity = std::mem::take(&mut self.current);
        for (matched, count) in self.by_match.drain(..) {
            activity.truncated += if selects(matched) { count } else { 0 };
        }
        activity.hits = resource.hits;
        activity.records = activity.records.saturating_sub(resource.unreadable);
        let last = Micros::from_unix_nanos(std::mem::take(&mut self.last));
        // A sender may write any time.
        let last = last.map(|last| resource.latest.map_or(last, |latest| last.min(latest)));
        activity.last = activity.last.max(last);
        all.add(resource.cluster, &activity);
    }

    #[cold]
    fn look_closer(&mut self, text: &[u8], is_usual: bool) {
        let trimmed = trim(text);
        let ends_as_object = trimmed.last() == Some(&b'}');
        if ends_as_object && !is_limit(text.len()) && text.len() != self.cut_at {
            return;
        }
        if (is_usual || begins_as_event(trimmed)) && (!ends_as_object || is_open(trimmed)) {
            self.cut(text.len());
        }
    }

    fn cut(&mut self, length: usize) {
        // What was cut counts among the events.
        self.note_event();
        self.is_cut = true;
        self.cut_at = length;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.current.cut_bytes = self.current.cut_bytes.max(length);
    }
}

/// Whether parts that carry logs cut them at this length or a few bytes more: a character is not
/// divided. Only such a text is looked through when its end looks well.
fn is_limit(length: usize) -> bool {
    // Syslog, container runtimes, Splunk, Lucene, journald, CloudWatch, the file_log receiver.
    matches!(
        length,
        1020..=1024
            | 2044..=2048
            | 4092..=4096
            | 8188..=8192
            | 9996..=10_000
            | 16_380..=16_384
            | 32_762..=32_768
            | 49_148..=49_152
            | 65_532..=65_536
            | 99_996..=100_000
            | 131_068..=131_072
            | 262_118..=262_144
            | 524_284..=524_288
            | 1_048_572..=1_048_576
    )
}

/// Without white space around it and without a byte order mark.
fn trim(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.trim_ascii()
}

/// Whether a text begins as a JSON object does.
fn is_object(text: &[u8]) -> bool {
    match text.first() {
        Some(b'{') => true,
        Some(b' ' | b'\t' | b'\r' | b'\n' | 0xef) => trim(text).first() == Some(&b'{'),
        _ => false,
    }
}

/// Whether the beginning of a text is that of an audit event.
fn begins_as_event(text: &[u8]) -> bool {
    let head = text.get(..text.len().min(HEAD)).unwrap_or_default();
    let has = |key: &&[u8]| memmem::find(head, key).is_some();
    CERTAIN.iter().any(has) || LIKELY.iter().filter(|key| has(key)).count() > 1
}

/// Whether the text of a JSON object ends within it.
fn is_open(text: &[u8]) -> bool {
    let mut depth: usize = 0;
    let mut rest = text;
    while let Some(at) = memchr::memchr3(b'"', b'{', b'}', rest) {
        let (byte, after) = (rest.get(at), rest.get(at + 1..).unwrap_or_default());
        rest = after;
        match byte {
            Some(b'{') => depth += 1,
            Some(b'}') => depth = depth.saturating_sub(1),
            _ => match end_of_string(rest) {
                Some(end) => rest = rest.get(end..).unwrap_or_default(),
                None => return true,
            },
        }
    }
    depth > 0
}

/// Where a string ends, behind its quote.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', text.get(from..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        from = at + 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event() -> String {
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "a", "verb": "list",
            "requestURI": "/api/v1/pods?a=\"}{\\", "sourceIPs": ["192.0.2.1"],
            "user": {"groups": ["system:unauthenticated"]}, "responseStatus": {"code": 403},
            "annotations": {"authorization.k8s.io/decision": "forbid"},
        })
        .to_string()
    }

    proptest! {
        /// However many bytes of an event are left, it is open; and whole it is not.
        #[test]
        fn a_prefix_of_an_event_is_open(cut in 1usize..1000) {
            let event = event();
            let cut = event.floor_char_boundary(cut.min(event.len() - 1)).max(1);
            prop_assert!(is_open(&event.as_bytes()[..cut]));
            prop_assert!(!is_open(event.as_bytes()));
        }

        #[test]
        fn any_text_is_looked_at(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _open = (is_open(&text), begins_as_event(&text), is_object(&text));
        }
    }

    #[test]
    fn a_beginning_is_told_from_other_logs() {
        let event = event();
        for (text, wanted) in [
            (event.as_str(), true),
            (r#"{"verb":"get","requestURI":"/x"#, true),
            (r#"{"requestURI":"/x","status":200"#, false),
            (r#"{"level":"info","msg":"a"#, false),
            ("{", false),
        ] {
            assert_eq!(begins_as_event(text.as_bytes()), wanted, "{text}");
        }
        for (text, wanted) in [
            ("{}", true),
            (" \n{", true),
            ("\u{feff}{", true),
            ("a{", false),
        ] {
            assert_eq!(is_object(text.as_bytes()), wanted, "{text}");
        }
    }
}
