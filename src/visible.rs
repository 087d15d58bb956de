//! Text that others wrote, shown so that nothing in it acts on a terminal and nothing hides.
//!
//! The one set of characters that are escaped wherever text leaves for people: tables, reports,
//! JSON, messages and our log.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io,
    path::Path,
};

use serde::{Serialize, Serializer as _};
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// A text with everything escaped that a terminal might obey or that cannot be seen.
pub fn escaped(text: &str) -> impl fmt::Display + '_ {
    struct Escaped<'a>(&'a str);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for c in self.0.chars() {
                if is_visible(c) {
                    f.write_char(c)?;
                } else {
                    write!(f, "{}", escape(c))?;
                }
            }
            Ok(())
        }
    }
    Escaped(text)
}

/// The name of a file, likewise; a byte that is not UTF-8 as `\xff`.
pub fn path(path: &Path) -> impl fmt::Display + '_ {
    os(path.as_os_str())
}

/// A text of the operating system, likewise.
pub fn os(text: &std::ffi::OsStr) -> impl fmt::Display + '_ {
    struct Name<'a>(&'a std::ffi::OsStr);
    impl fmt::Display for Name<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for part in self.0.as_encoded_bytes().utf8_chunks() {
                write!(f, "{}", escaped(part.valid()))?;
                for byte in part.invalid() {
                    write!(f, "\\x{byte:02x}")?;
                }
            }
            Ok(())
        }
    }
    Name(text)
}

/// How a character is written that [`is_visible`] does not let through: `\n`, `\u{202e}`.
pub fn escape(c: char) -> impl fmt::Display {
    // Not escape_debug, which lets some of them through.
    c.escape_default()
}

/// The beginning of a text, fit to stand between quotes: [`escaped`], quotes and backslashes
/// too, and cut to `most` characters of the original.
pub fn quotable(text: &str, most: usize) -> String {
    let (kept, cut) = match text.char_indices().nth(most) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), "..."),
        None => (text, ""),
    };
    let mut shown = String::with_capacity(kept.len() + cut.len());
    for c in kept.chars() {
        // Writing into a string cannot fail.
        let _ok = match c {
            '"' | '\'' | '\\' => write!(shown, "\\{c}"),
            '\0' => write!(shown, "\\0"),
            c if is_visible(c) => write!(shown, "{c}"),
            c => write!(shown, "{}", escape(c)),
        };
    }
    shown + cut
}

/// Not a control character, not one that reorders or hides text, not a line end of any kind, no
/// blank but the common one, and nothing that takes no room: two texts that differ look different.
pub fn is_visible(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
            | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Writes one JSON value on one line, as `serde_json::to_writer` does, and escapes (`\u202e`)
/// whatever in a text is not [visible](is_visible). Read again, it is the same value.
///
/// # Errors
/// As `serde_json::to_writer`.
pub fn json_to<T: Serialize + ?Sized>(to: impl io::Write, value: &T) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(to, Json(CompactFormatter)))
}

/// Writes a list of them, each value when it is made.
///
/// # Errors
/// As `serde_json::to_writer`.
pub fn json_list_to<T: Serialize>(
    to: impl io::Write,
    values: impl IntoIterator<Item = T>,
) -> serde_json::Result<()> {
    (&mut Serializer::with_formatter(to, Json(CompactFormatter))).collect_seq(values)
}

/// The same as a text.
///
/// # Errors
/// As `serde_json::to_string`.
pub fn json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(128);
    json_to(&mut bytes, value)?;
    // It is UTF-8, for it was made of texts.
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The compact form of JSON, with only visible characters in it.
struct Json(CompactFormatter);

impl Formatter for Json {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Almost always nothing is to be escaped, and then this costs one look at the bytes.
        to.write_all(escaped_json(fragment).as_bytes())
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Outside of texts, JSON is plain ASCII.
        to.write_all(escaped_json(fragment).as_bytes())
    }
}

/// JSON in which all that is not visible is escaped. Line ends outside of texts stay.
pub(crate) fn escaped_json(json: &str) -> Cow<'_, str> {
    if json.is_ascii() && !json.contains('\x7f') {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' || is_visible(c) {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing into a string cannot fail.
            let _ok = write!(text, "\\u{unit:04x}");
        }
    }
    Cow::Owned(text)
}

/// Lines of which each is visible: what others wrote in them neither acts nor hides.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    kept(text, |c| c == '\n')
}

/// A text that is escaped but for what is visible and what `keep` lets through.
pub(crate) fn kept(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let stays = |c: char| is_visible(c) || keep(c);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) {
            shown.push(c);
        } else {
            let _ok = write!(shown, "{}", escape(c));
        }
    }
    Cow::Owned(shown)
}

/// Writes [`lines`] to something that may be a terminal.
pub(crate) struct Writer<W>(pub(crate) W);

impl<W: io::Write> io::Write for Writer<W> {
    /// Takes whole texts, as `write!` hands them over.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(lines(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, io::Write as _, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_might_obey() {
        let hostile = "a\u{1b}[2J\u{7}\r\n\t\u{9b}31m\u{202e}\u{2028}é\u{200b}";
        let shown = escaped(hostile).to_string();
        assert_eq!(
            shown,
            r"a\u{1b}[2J\u{7}\r\n\t\u{9b}31m\u{202e}\u{2028}é\u{200b}"
        );
    }

    #[test]
    fn what_stands_between_quotes_cannot_end_them() {
        let line = quotable("a\x1b[2Jb\r\nc\u{9b}d\u{202e}e\u{2028}f\0é", 100);
        assert_eq!(line, "a\\u{1b}[2Jb\\r\\nc\\u{9b}d\\u{202e}e\\u{2028}f\\0é");
        assert_eq!(quotable("ééé", 2), "éé...");
        assert_eq!(quotable("éé", 2), "éé");
        assert_eq!(quotable("a\"b'c\\", 9), r#"a\"b\'c\\"#);
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        for c in "\0\u{a0}\u{3000}\u{3164}\u{fe0f}\u{e0101}\u{2066}\u{feff}".chars() {
            assert!(!is_visible(c), "{c:?}");
        }
        for c in " azAZ09<>&\"'`éЖ中א\u{301}🦀".chars() {
            assert!(is_visible(c), "{c:?}");
        }
    }

    #[test]
    fn json_is_the_same_and_visible() {
        let hostile = "a\"\\\u{1b}\u{7f}\u{9b}\u{202e}\u{2066}\u{200b}\u{2028}\u{e0041}é🦀\n";
        let value = serde_json::json!({ hostile: [hostile, 1.5, null, true] });
        let text = json(&value).unwrap();
        assert!(text.chars().all(is_visible), "{text}");
        assert!(text.contains(r"\u007f\u009b\u202e\u2066\u200b\u2028\udb40\udc41é🦀\n"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
        let raw = serde_json::value::RawValue::from_string(format!("\"{}\"", "\u{202e}")).unwrap();
        assert_eq!(json(&raw).unwrap(), "\"\\u202e\"");
        assert_eq!(json("plain").unwrap(), "\"plain\"");
    }

    #[test]
    fn names_of_files_are_one_line_and_lose_nothing() {
        let name = OsStr::from_bytes(b"a\x1b[31m\n\xffb\xc2\x9b\xe2\x80\xae");
        assert_eq!(
            path(Path::new(name)).to_string(),
            r"a\u{1b}[31m\n\xffb\u{9b}\u{202e}"
        );
    }

    #[test]
    fn lines_stay_lines() {
        let mut out = Vec::new();
        let second = "two\u{202e}\r";
        write!(Writer(&mut out), "one\u{1b}[2J\n{second}\n").unwrap();
        assert_eq!(out, b"one\\u{1b}[2J\ntwo\\u{202e}\\r\n");
        assert!(matches!(lines("plain é\n"), Cow::Borrowed(_)));
    }
}
