//! Texts before they are opened.

use super::super::{json::NotJson, lexer::Lexer};

/// Makes sure that a text is exactly one JSON value.
pub(super) fn checked(text: &[u8]) -> Result<(), NotJson> {
    let mut lexer = Lexer::new(text);
    lexer.value()?;
    lexer.end()
}

/// Without white space around it and without a byte order mark.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    text.strip_prefix(b"\xef\xbb\xbf")
        .map_or(text, <[u8]>::trim_ascii_start)
}
