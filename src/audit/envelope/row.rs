//! JSON objects in a row, without a newline between them: what `CloudWatch` delivers through Firehose.

use super::{super::lexer::Lexer, whole::trim};

/// The first of several objects, and what is behind it.
pub(super) fn first(text: &[u8]) -> Option<(&[u8], &[u8])> {
    next(text).filter(|(_, behind)| behind.first() == Some(&b'{'))
}

/// The object that comes next, and what is behind it. Of what else is JSON none is taken: `[12]` is
/// a list, and a number in brackets that free text begins with.
pub(super) fn next(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let object = Lexer::new(text).value().ok()?;
    let behind = text.get(object.len()..)?;
    Some((object, behind.trim_ascii_start()))
}

/// Whether a text is several objects in a row.
pub(crate) fn is_row(text: &[u8]) -> bool {
    first(trim(text)).is_some()
}
