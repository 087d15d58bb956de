//! Lines that a container runtime has divided: the parts of a stream, put together again.

use std::collections::BTreeMap;

use super::{cut, prefix::Prefixed};

/// Streams with an incomplete line.
const MOST_STREAMS: usize = 64;
/// Bytes of one line, and of all of them.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A stream: where it comes from, and its name.
type Stream = (u64, bool);

/// The incomplete lines of streams.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    lines: BTreeMap<Stream, Vec<u8>>,
    bytes: usize,
}

/// What a part of a line means.
#[derive(Debug, PartialEq)]
pub(crate) enum Joined {
    /// It is kept until the line ends.
    Kept,
    /// The line ends with it: the whole of it.
    Line(Vec<u8>),
    /// It is a line of its own, or part of one that is not kept.
    Alone,
}

impl Parts {
    /// Takes a line, or a part of one.
    pub(crate) fn take(&mut self, source: u64, line: &Prefixed<'_>) -> Joined {
        let stream = (source, line.stream == b"stderr");
        if !line.is_part {
            let Some(mut begun) = self.lines.remove(&stream) else {
                return Joined::Alone;
            };
            self.bytes -= begun.capacity();
            begun.extend_from_slice(line.rest);
            return Joined::Line(begun);
        }
        let has_begun = self.lines.contains_key(&stream);
        // Most lines are of other logs, and are of no use.
        let is_wanted =
            has_begun || self.lines.len() < MOST_STREAMS && cut::begins_as_event(line.rest);
        if !is_wanted || self.bytes + line.rest.len() > MOST_BYTES {
            return Joined::Alone;
        }
        let begun = self.lines.entry(stream).or_default();
        self.bytes -= begun.capacity();
        begun.extend_from_slice(line.rest);
        self.bytes += begun.capacity();
        Joined::Kept
    }

    /// What is left of lines that have not ended.
    pub(crate) fn rest(&mut self) -> impl Iterator<Item = Vec<u8>> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.lines).into_values()
    }

    /// Whether no line is incomplete.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes on the heap, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes + self.lines.len() * 2 * size_of::<(Stream, Vec<u8>)>()
    }
}
