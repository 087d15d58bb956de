//! Lines behind a prefix: that of a container runtime (CRI), of journald, of syslog, of klog.

use memchr::memchr;

use super::{super::time::Micros, head::is_head, outcome::Shape};

/// A longer prefix is none.
const LONGEST: usize = 512;

/// A line without its prefix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prefixed<'a> {
    pub(crate) shape: Shape,
    /// In nanoseconds since 1970.
    pub(crate) time: Option<u64>,
    /// Of a container: the stream that it was written to.
    pub(crate) stream: &'a [u8],
    /// Another part of the line follows.
    pub(crate) is_part: bool,
    pub(crate) rest: &'a [u8],
}

/// Takes the prefix off a text that does not begin as JSON does.
pub(crate) fn split(text: &[u8]) -> Option<Prefixed<'_>> {
    cri(text).or_else(|| {
        let begin = text.get(..text.len().min(LONGEST)).unwrap_or_default();
        let (before, rest) = text.split_at_checked(memchr(b'{', begin)?)?;
        is_head(before).then(|| Prefixed {
            shape: Shape::Prefix,
            time: first_word(before).and_then(nanos),
            stream: b"",
            is_part: false,
            rest,
        })
    })
}

/// `2026-11-25T07:00:00.123456789Z stdout F {...}`
fn cri(text: &[u8]) -> Option<Prefixed<'_>> {
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    let mut words = text.splitn(4, |byte| *byte == b' ');
    let time = words.next().filter(|word| word.len() <= 64)?;
    let stream = words.next()?;
    let tags = words.next()?;
    let rest = words.next()?;
    // There may be more tags behind the first, after a colon.
    let is_part = match tags.split(|byte| *byte == b':').next() {
        Some(b"F") => false,
        Some(b"P") => true,
        _ => return None,
    };
    matches!(stream, b"stdout" | b"stderr").then(|| Prefixed {
        shape: Shape::Cri,
        time: nanos(time),
        stream,
        is_part,
        rest,
    })
}

fn first_word(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| *byte == b' ').next()
}

fn nanos(word: &[u8]) -> Option<u64> {
    let time = Micros::parse(std::str::from_utf8(word).ok()?)?;
    u64::try_from(time.0).ok()?.checked_mul(1000)
}
