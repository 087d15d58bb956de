//! A text of an event, where it lies: decoded only when it is kept, and only as far as it is kept.
//!
//! An event may hold megabytes of text of which a finding keeps a thousand bytes, and most events
//! are no hits. So a text is a view of the bytes of its record until then.

use std::{borrow::Cow, fmt::Write as _};

use sha2::{Digest, Sha256};

/// A longer text is no status code, no time and no address.
const SHORT: usize = 1024;
/// A longer key is never one that we look for.
const LONGEST_KEY: usize = 1024;

/// A text of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Text<'a>(Form<'a>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form<'a> {
    /// As it is. What is no UTF-8 reads as U+FFFD.
    Plain(&'a [u8]),
    /// What stands between the quotes of a valid JSON string with escapes.
    Escaped(&'a [u8]),
    /// A number of a parsed map, in decimal digits.
    Int(i64),
    /// Rust spells a whole double without a fraction and never with an exponent.
    Double(f64),
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::plain(text.as_bytes())
    }
}

impl<'a> Text<'a> {
    /// A text that is known beforehand.
    pub(crate) const fn fixed(text: &'static str) -> Text<'static> {
        Text(Form::Plain(text.as_bytes()))
    }

    /// Bytes as they are.
    pub(crate) fn plain(bytes: &'a [u8]) -> Self {
        Self(Form::Plain(bytes))
    }

    /// What stands between the quotes of a JSON string that has been checked.
    pub(crate) fn quoted(inner: &'a [u8], has_escapes: bool) -> Self {
        Self(if has_escapes {
            Form::Escaped(inner)
        } else {
            Form::Plain(inner)
        })
    }

    /// A whole number.
    pub(crate) fn int(number: i64) -> Self {
        Self(Form::Int(number))
    }

    /// A floating-point number.
    pub(crate) fn double(number: f64) -> Self {
        Self(Form::Double(number))
    }

    /// The bytes that it is, where they need not be decoded.
    pub(crate) fn as_plain(self) -> Option<&'a [u8]> {
        match self.0 {
            Form::Plain(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Shows it as the key of a member, to be compared with those that are known.
    pub(crate) fn as_key<T>(self, show: impl FnOnce(&[u8]) -> T) -> T {
        match self.0 {
            Form::Plain(bytes) => show(bytes),
            _ => show(self.cut(LONGEST_KEY).as_bytes()),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        matches!(self.0, Form::Plain([]) | Form::Escaped([]))
    }

    /// Whether it is this text.
    pub fn is(self, wanted: &str) -> bool {
        self.compare(wanted, |a, b| a == b)
    }

    /// Whether it is this text but for the case of ASCII letters.
    pub fn is_ignoring_case(self, wanted: &str) -> bool {
        self.compare(wanted, <[u8]>::eq_ignore_ascii_case)
    }

    fn compare(self, wanted: &str, same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        let mut rest = wanted.as_bytes();
        let mut is_same = true;
        self.decode(|piece| {
            is_same = match rest.split_at_checked(piece.len()) {
                Some((head, tail)) if same(head, piece.as_bytes()) => {
                    rest = tail;
                    true
                }
                _ => false,
            };
            is_same
        });
        is_same && rest.is_empty()
    }

    /// The whole text.
    pub fn whole(self) -> Cow<'a, str> {
        match self.0 {
            Form::Plain(bytes) => plain_text(bytes),
            _ => Cow::Owned(self.cut(usize::MAX)),
        }
    }

    /// The number that it is in a parsed map.
    pub(crate) fn number(self) -> Option<f64> {
        match self.0 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "numbers of rules are compared as doubles"
            )]
            Form::Int(number) => Some(number as f64),
            Form::Double(number) => Some(number).filter(|number| number.is_finite()),
            Form::Plain(_) | Form::Escaped(_) => None,
        }
    }

    /// The whole text; what has to be decoded is written into `buffer`, which is emptied first.
    pub(crate) fn decoded<'b>(self, buffer: &'b mut String) -> &'b str
    where
        'a: 'b,
    {
        if let Form::Plain(bytes) = self.0
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return text;
        }
        buffer.clear();
        self.decode(|piece| {
            buffer.push_str(piece);
            true
        });
        buffer
    }

    /// The beginning of the text: `most` bytes, and a little more if it is longer. What has to be
    /// copied is written into `buffer`, which is emptied first.
    pub(crate) fn beginning<'b>(self, most: usize, buffer: &'b mut String) -> &'b str
    where
        'a: 'b,
    {
        if let Form::Plain(bytes) = self.0
            && bytes.len() <= most
        {
            return self.decoded(buffer);
        }
        buffer.clear();
        self.pieces(most, |piece| buffer.push_str(piece));
        buffer
    }

    /// The whole text if it is no longer than a status code, a time or an address may be.
    pub fn short(self) -> Option<Cow<'a, str>> {
        let text = match self.0 {
            Form::Plain(bytes) if bytes.len() <= SHORT => plain_text(bytes),
            Form::Plain(_) => return None,
            _ => Cow::Owned(self.cut(SHORT)),
        };
        (text.len() <= SHORT).then_some(text)
    }

    /// The text, or if it is longer than `most` bytes as much of it as shows that: `most` and one
    /// character more.
    pub fn cut(self, most: usize) -> String {
        let mut out = String::new();
        self.pieces(most, |piece| out.push_str(piece));
        // It grew in steps.
        if out.capacity() > out.len() + out.len() / 8 + 8 {
            out.shrink_to_fit();
        }
        out
    }

    /// The same, shown in pieces.
    pub(crate) fn pieces(self, most: usize, mut show: impl FnMut(&str)) {
        let enough = most.saturating_add(1);
        let text = match self.0 {
            // What is behind the cut need not be looked at. A character that is broken by this
            // one lies behind it too.
            Form::Plain(bytes) => {
                Self::plain(bytes.get(..enough.saturating_add(8)).unwrap_or(bytes))
            }
            _ => self,
        };
        let mut length = 0;
        text.decode(|piece| {
            let end = piece.ceil_char_boundary(enough.saturating_sub(length));
            let piece = piece.get(..end).unwrap_or(piece);
            show(piece);
            length += piece.len();
            length <= most
        });
    }

    /// Bytes of the text at most, without a look at them.
    pub(crate) fn longest(self) -> usize {
        /// The digits of a double.
        const DIGITS: usize = 400;
        match self.0 {
            // A byte that is no text is three as U+FFFD; what is escaped is never longer.
            Form::Plain(bytes) | Form::Escaped(bytes) => bytes.len().saturating_mul(3),
            Form::Int(_) | Form::Double(_) => DIGITS,
        }
    }

    /// Adds its length and all of it to a hash.
    pub(crate) fn hash_into(self, hash: &mut Sha256) {
        if let Form::Plain(bytes) = self.0
            && std::str::from_utf8(bytes).is_ok()
        {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
            return;
        }
        let mut length = 0_u64;
        self.decode(|piece| {
            length += piece.len() as u64;
            true
        });
        hash.update(length.to_le_bytes());
        self.decode(|piece| {
            hash.update(piece);
            true
        });
    }

    /// Shows the text in pieces until one is not wanted any more.
    pub(crate) fn decode(self, mut show: impl FnMut(&str) -> bool) {
        match self.0 {
            Form::Plain(bytes) => {
                lossy(bytes, &mut show);
            }
            Form::Escaped(mut rest) => {
                while let Some(at) = memchr::memchr(b'\\', rest) {
                    let (run, escape) = rest.split_at_checked(at).unwrap_or((rest, &[]));
                    let (letter, length) = unescape(escape);
                    rest = escape.get(length..).unwrap_or_default();
                    if !lossy(run, &mut show) || !show(letter.encode_utf8(&mut [0; 4])) {
                        return;
                    }
                }
                lossy(rest, &mut show);
            }
            Form::Int(number) => drop(show(&number.to_string())),
            Form::Double(number) => drop(show(&number.to_string())),
        }
    }
}

/// Bytes as text. Nearly all are, and to see that is faster than to look for where they are not.
fn plain_text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Shows bytes as text; whether more of it is wanted.
fn lossy(bytes: &[u8], show: &mut impl FnMut(&str) -> bool) -> bool {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.is_empty() || show(text);
    }
    bytes.utf8_chunks().all(|chunk| {
        (chunk.valid().is_empty() || show(chunk.valid()))
            && (chunk.invalid().is_empty() || show("\u{fffd}"))
    })
}

/// The character of the escape at the front, and the bytes it takes. Half of a surrogate pair is
/// U+FFFD.
fn unescape(escape: &[u8]) -> (char, usize) {
    let plain = match escape.get(1) {
        Some(b'u') => None,
        Some(b'b') => Some('\u{8}'),
        Some(b'f') => Some('\u{c}'),
        Some(b'n') => Some('\n'),
        Some(b'r') => Some('\r'),
        Some(b't') => Some('\t'),
        Some(other) => Some(char::from(*other)),
        None => Some('\\'),
    };
    if let Some(plain) = plain {
        return (plain, 2);
    }
    let first = unit(escape.get(2..)).unwrap_or(0xfffd);
    let second = || match escape.get(6..) {
        Some([b'\\', b'u', second @ ..]) => unit(Some(second)),
        _ => None,
    };
    if let 0xd800..=0xdbff = first
        && let Some(second @ 0xdc00..=0xdfff) = second()
    {
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or('\u{fffd}'), 12);
    }
    (char::from_u32(first).unwrap_or('\u{fffd}'), 6)
}

/// The UTF-16 unit that four hex digits at the front are.
fn unit(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits?.get(..4)?.iter();
    digits.copied().try_fold(0, |unit, digit| {
        Some(unit << 4 | char::from(digit).to_digit(16)?)
    })
}

/// A name that senders choose, of at most `most` bytes, or of a few more than that if the limit is
/// lower than a hash is long. Of a longer one a hash of the whole stands behind the cut, so that two
/// that differ are two.
pub(crate) fn bounded(name: &[u8], most: usize) -> Cow<'_, str> {
    const HASH: usize = 8;
    if name.len() <= most
        && let Ok(name) = std::str::from_utf8(name)
    {
        return Cow::Borrowed(name);
    }
    let text = Text::plain(name);
    let cut = text.cut(most);
    if cut.len() <= most {
        return Cow::Owned(cut);
    }
    let mut hash = Sha256::new();
    text.hash_into(&mut hash);
    let hash = hex(&hash.finalize(), HASH);
    let keep = cut.floor_char_boundary(most.saturating_sub(2 * HASH + 1));
    Cow::Owned(format!("{}~{hash}", cut.get(..keep).unwrap_or_default()))
}

/// The first `bytes` bytes in lower-case hex digits.
pub(crate) fn hex(digest: &[u8], bytes: usize) -> String {
    digest
        .iter()
        .take(bytes)
        .fold(String::with_capacity(2 * bytes), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ok = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content of a JSON string as `serde_json` reads it, with U+FFFD for halves of pairs.
    fn wanted(quoted: &[u8]) -> String {
        let text = String::from_utf8_lossy(quoted);
        let bytes: serde_bytes_of::Bytes = serde_json::from_str(&text).unwrap();
        let mut out = String::new();
        for chunk in bytes.0.utf8_chunks() {
            out.push_str(chunk.valid());
            if chunk.invalid().first() == Some(&0xed) {
                out.push('\u{fffd}');
            }
        }
        out
    }

    /// `serde_json` lets half of a pair through into bytes alone.
    mod serde_bytes_of {
        use std::fmt;

        use serde::de::{Deserialize, Deserializer, Visitor};

        pub(crate) struct Bytes(pub(crate) Vec<u8>);

        impl<'de> Deserialize<'de> for Bytes {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Copy;
                impl Visitor<'_> for Copy {
                    type Value = Bytes;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                        Ok(Bytes(bytes.to_vec()))
                    }
                }
                from.deserialize_bytes(Copy)
            }
        }
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let escapes = [
            "\\n",
            "\\\\",
            "\\\"",
            "\\/",
            "\\u0041",
            "\\u00e9",
            "\\ud83d",
            "\\uDE00",
            "\\ud83d\\ude00",
            "\\ud83d\\ud83d\\ude00",
            "\\b\\f\\r\\t",
            "\\uFFFD",
        ];
        prop_oneof![
            prop::sample::select(escapes.map(|text| text.as_bytes().to_vec()).to_vec()),
            "[a-zé😀 ]{0,9}".prop_map(String::into_bytes),
            prop::collection::vec(128u8.., 0..4),
        ]
    }

    proptest! {
        /// Decoded with a bound is decoded whole and then cut, for every form and bound.
        #[test]
        fn cut_is_the_whole_cut(pieces in prop::collection::vec(piece(), 0..12), most in 0usize..60) {
            let inner = pieces.concat();
            let whole = wanted(&[b"\"", &inner[..], b"\""].concat());
            for text in [Text::quoted(&inner, true), Text::plain(whole.as_bytes())] {
                let mut cut = whole.clone();
                if cut.len() > most {
                    cut.truncate(cut.ceil_char_boundary(most + 1));
                }
                prop_assert_eq!(text.cut(most), cut);
                prop_assert_eq!(&text.whole(), &whole);
                prop_assert!(text.is(&whole) && text.is_ignoring_case(&whole.to_ascii_uppercase()));
                let longer = whole.clone() + "x";
                prop_assert!(!text.is(&longer));
                prop_assert_eq!(text.is_empty(), whole.is_empty());
                let mut hash = Sha256::new();
                text.hash_into(&mut hash);
                let mut same = Sha256::new();
                Text::from(&*whole).hash_into(&mut same);
                prop_assert_eq!(hash.finalize(), same.finalize());
            }
            let lossy = String::from_utf8_lossy(&inner);
            let mut cut = lossy.to_string();
            if cut.len() > most {
                cut.truncate(cut.ceil_char_boundary(most + 1));
            }
            prop_assert_eq!(Text::plain(&inner).cut(most), cut);
        }
    }

    #[test]
    fn numbers_are_spelled_and_long_texts_are_not_short() {
        assert_eq!(Text::int(-7).whole(), "-7");
        assert_eq!(Text::double(403.0).whole(), "403");
        assert_eq!(Text::double(0.5).cut(1), "0.");
        assert_eq!(Text::from("x").short().as_deref(), Some("x"));
        let long = "x".repeat(SHORT + 1);
        assert_eq!(Text::from(&*long).short(), None);
        assert_eq!(Text::quoted(b"\\u0041", true).short().as_deref(), Some("A"));
        assert_eq!(
            Text::quoted("\\n".repeat(SHORT + 1).as_bytes(), true).short(),
            None
        );
        assert_eq!(Text::plain(&[0xff; SHORT]).short(), None);
    }

    #[test]
    fn long_names_are_cut_and_stay_distinct() {
        let (a, b) = ("n".repeat(5000) + "a", "n".repeat(5000) + "b");
        let (a, b) = (bounded(a.as_bytes(), 1024), bounded(b.as_bytes(), 1024));
        assert_eq!((a.len(), b.len()), (1024, 1024));
        assert_ne!(a, b);
        assert!(a.starts_with("nnn") && a.contains("n~"));
        assert_eq!(bounded(b"prod", 4), "prod");
        assert_eq!(bounded(b"\xff", 4), "\u{fffd}");
        assert_eq!(bounded(b"production", 4).len(), 17);
        assert!(bounded("é".repeat(600).as_bytes(), 1024).len() <= 1024);
    }
}
