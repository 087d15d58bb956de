//! Lines that a container runtime has divided: the parts of a stream, put together again.
//!
//! Parts are put together only when nothing speaks against it. A line with a part that is missing
//! or may be of another line is given up and counted as cut. The rest of a line that is of no use is
//! passed over: what a stranger has made another log write at the beginning of a part is no event.

use std::collections::BTreeMap;

use super::{cut, glance::may_hold, outcome::Shape, prefix::Prefixed};

/// Streams with an incomplete line.
const MOST_STREAMS: usize = 1024;
/// Bytes of one line, and of all of them.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How API servers begin an event or a list of them. In the middle of a line it is none of it.
const BEGIN: &[u8] = br#"{"kind":"Event"#;

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pub(crate) hash: u64,
    /// No other goes by the same name.
    pub(crate) is_certain: bool,
}

/// A stream: where it comes from, and its name.
type Stream = (Source, bool);

/// The incomplete lines of streams, each with what is known of its first part.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    lines: BTreeMap<Stream, Begun<T>>,
    bytes: usize,
    given_up: u64,
}

#[derive(Debug)]
struct Begun<T> {
    /// `None` once the line is given up: the rest of it is passed over.
    text: Option<Vec<u8>>,
    first: T,
}

/// What a part of a line means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Joined {
    /// It is kept until the line ends, or passed over with a line that is given up.
    Kept,
    /// The line ends with it: the whole of it.
    Line(Vec<u8>),
    /// It is a line of its own, or part of one that is not kept.
    Alone,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            bytes: 0,
            given_up: 0,
        }
    }
}

impl<T> Parts<T> {
    /// Takes a line, or a part of one. `first` says what is to be known of a first part.
    pub(crate) fn take(
        &mut self,
        source: Source,
        line: &Prefixed<'_>,
        first: impl FnOnce() -> T,
    ) -> Joined {
        if line.shape != Shape::Cri {
            return Joined::Alone;
        }
        let stream = (source, line.stream == b"stderr");
        if self.lines.contains_key(&stream) {
            return self.go_on(stream, line);
        }
        if !line.is_part || self.lines.len() >= MOST_STREAMS {
            return Joined::Alone;
        }
        let is_of_use = may_begin(line.rest) && self.bytes + line.rest.len() <= MOST_BYTES;
        let text = is_of_use.then(|| line.rest.to_vec());
        self.bytes += text.as_ref().map_or(0, Vec::capacity);
        let first = first();
        self.lines.insert(stream, Begun { text, first });
        if is_of_use {
            Joined::Kept
        } else {
            Joined::Alone
        }
    }

    /// Takes a part of a line that has begun.
    fn go_on(&mut self, stream: Stream, line: &Prefixed<'_>) -> Joined {
        let is_other = line.rest.starts_with(BEGIN);
        let begun = self.lines.get_mut(&stream);
        let text = begun.and_then(|begun| begun.text.take());
        let had_text = text.is_some();
        let (Source { is_certain, .. }, _) = stream;
        if is_other && !line.is_part && (had_text || !is_certain) {
            // The whole line of another source that goes by the same name.
            if let Some(begun) = self.lines.get_mut(&stream) {
                begun.text = text;
            }
            return Joined::Alone;
        }
        let held = text.as_ref().map_or(0, Vec::capacity);
        self.bytes -= held;
        let text = text
            .filter(|text| !is_other && self.bytes + text.len() + line.rest.len() <= MOST_BYTES);
        self.given_up += u64::from(had_text && text.is_none());
        let text = text.map(|mut text| {
            text.extend_from_slice(line.rest);
            text
        });
        if !line.is_part {
            self.lines.remove(&stream);
            return text.map_or(Joined::Kept, Joined::Line);
        }
        self.bytes += text.as_ref().map_or(0, Vec::capacity);
        if let Some(begun) = self.lines.get_mut(&stream) {
            begun.text = text;
        }
        // Two lines have begun, and the next part may be of either.
        if is_other && had_text {
            Joined::Alone
        } else {
            Joined::Kept
        }
    }

    /// What is left of lines that have not ended.
    pub(crate) fn rest(&mut self) -> impl Iterator<Item = (T, Vec<u8>)> + use<T> {
        self.bytes = 0;
        let lines = std::mem::take(&mut self.lines).into_values();
        lines.filter_map(|begun| Some((begun.first, begun.text?)))
    }

    /// Lines that were given up since this was asked last.
    pub(crate) fn given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }

    /// What is known of the first parts of incomplete lines.
    pub(crate) fn first_parts(&mut self) -> impl Iterator<Item = &mut T> {
        self.lines.values_mut().map(|begun| &mut begun.first)
    }

    /// Whether no line is incomplete.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes on the heap, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes + self.lines.len() * 2 * size_of::<(Stream, Begun<T>)>()
    }
}

/// Whether an event may be in the line. Most lines are of other logs, and are of no use.
fn may_begin(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'{' | b'[' | b'"'))
        && (cut::begins_as_event(text) || may_hold(text))
}
