//! JSON text, checked and cut into raw values, without building any of them.
//!
//! What is valid is what `serde_json` takes, with two differences: text that is no UTF-8 is let
//! through inside strings, and nothing is copied, so that a document takes a bit for each level of
//! nesting and no other memory, whatever is in it. There may be a million levels.

use super::text::Text;

/// The bytes are not exactly one JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not exactly one JSON value")]
pub struct NotJson;

/// Levels of nesting.
const MOST_LEVELS: usize = 1 << 20;

/// A place in a text.
pub(crate) struct Lexer<'a> {
    rest: &'a [u8],
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// Passes over blanks; the byte behind them.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        while let Some((first, rest)) = self.rest.split_first() {
            match first {
                b' ' | b'\n' | b'\r' | b'\t' => self.rest = rest,
                other => return Some(*other),
            }
        }
        None
    }

    #[inline]
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Skips blanks and this byte, if it follows.
    #[inline]
    fn eat(&mut self, wanted: u8) -> Result<(), NotJson> {
        if self.peek() != Some(wanted) {
            return Err(NotJson);
        }
        self.skip(1);
        Ok(())
    }

    /// Makes sure that nothing follows.
    pub(crate) fn end(&mut self) -> Result<(), NotJson> {
        self.peek().map_or(Ok(()), |_more| Err(NotJson))
    }

    /// The next value, as it is spelled, whatever is in it.
    pub(crate) fn value(&mut self) -> Result<&'a [u8], NotJson> {
        let first = self.peek().ok_or(NotJson)?;
        let begin = self.rest;
        if matches!(first, b'{' | b'[') {
            self.nested(first)?;
        } else {
            self.scalar(first)?;
        }
        Ok(begin
            .get(..begin.len() - self.rest.len())
            .unwrap_or_default())
    }

    /// Shows each member of the object that comes next.
    pub(crate) fn members(
        &mut self,
        mut show: impl FnMut(Text<'a>, &'a [u8]),
    ) -> Result<(), NotJson> {
        self.eat(b'{')?;
        if self.peek() == Some(b'}') {
            self.skip(1);
            return Ok(());
        }
        loop {
            self.eat(b'"')?;
            let (key, has_escapes) = self.string()?;
            self.eat(b':')?;
            show(Text::quoted(key, has_escapes), self.value()?);
            match self.peek() {
                Some(b',') => self.skip(1),
                Some(b'}') => {
                    self.skip(1);
                    return Ok(());
                }
                _ => return Err(NotJson),
            }
        }
    }

    /// Shows each element of the list that comes next.
    pub(crate) fn elements(&mut self, mut show: impl FnMut(&'a [u8])) -> Result<(), NotJson> {
        self.eat(b'[')?;
        if self.peek() == Some(b']') {
            self.skip(1);
            return Ok(());
        }
        loop {
            show(self.value()?);
            match self.peek() {
                Some(b',') => self.skip(1),
                Some(b']') => {
                    self.skip(1);
                    return Ok(());
                }
                _ => return Err(NotJson),
            }
        }
    }

    /// Passes over a list or an object.
    fn nested(&mut self, first: u8) -> Result<(), NotJson> {
        let mut levels = Levels::default();
        let mut next = first;
        loop {
            // Here stands a value.
            let opened = match next {
                b'{' => {
                    self.skip(1);
                    levels.push(true)?;
                    self.peek() == Some(b'}')
                }
                b'[' => {
                    self.skip(1);
                    levels.push(false)?;
                    self.peek() == Some(b']')
                }
                scalar => {
                    self.scalar(scalar)?;
                    true
                }
            };
            // An empty list ends like one behind its last value.
            if opened && !self.close(&mut levels)? {
                return Ok(());
            }
            if levels.is_object {
                self.eat(b'"')?;
                self.string()?;
                self.eat(b':')?;
            }
            next = self.peek().ok_or(NotJson)?;
        }
    }

    /// Behind a value: passes over the ends of what ends here, and the comma behind them; whether
    /// another value follows.
    fn close(&mut self, levels: &mut Levels) -> Result<bool, NotJson> {
        loop {
            match (levels.is_object, self.peek()) {
                (_, Some(b',')) => {
                    self.skip(1);
                    return Ok(true);
                }
                (true, Some(b'}')) | (false, Some(b']')) => {
                    self.skip(1);
                    if !levels.pop() {
                        return Ok(false);
                    }
                }
                _ => return Err(NotJson),
            }
        }
    }

    /// Passes over a string, a number or a literal.
    #[inline]
    fn scalar(&mut self, first: u8) -> Result<(), NotJson> {
        let literal: &[u8] = match first {
            b'"' => {
                self.skip(1);
                return self.string().map(drop);
            }
            b'-' | b'0'..=b'9' => return self.number(),
            b't' => b"true",
            b'f' => b"false",
            b'n' => b"null",
            _ => return Err(NotJson),
        };
        self.rest = self.rest.strip_prefix(literal).ok_or(NotJson)?;
        Ok(())
    }

    /// Passes over a string whose quote has been read: what is in it, and whether escapes are.
    #[inline]
    fn string(&mut self) -> Result<(&'a [u8], bool), NotJson> {
        let begin = self.rest;
        let mut has_escapes = false;
        loop {
            let stop = plain(self.rest);
            let rest = self.rest.get(stop..).unwrap_or_default();
            match rest {
                [b'"', behind @ ..] => {
                    let inner = begin.get(..begin.len() - rest.len());
                    self.rest = behind;
                    return Ok((inner.unwrap_or_default(), has_escapes));
                }
                [b'\\', b'u', digits @ ..] => {
                    let digits = digits.get(..4).ok_or(NotJson)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return Err(NotJson);
                    }
                    self.rest = rest.get(6..).unwrap_or_default();
                }
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    behind @ ..,
                ] => self.rest = behind,
                // A control character, or the end.
                _ => return Err(NotJson),
            }
            has_escapes = true;
        }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if let Some(rest) = self.rest.strip_prefix(b"-") {
            self.rest = rest;
        }
        match self.rest.first() {
            Some(b'0') => self.skip(1),
            _ => self.digits()?,
        }
        if let Some(rest) = self.rest.strip_prefix(b".") {
            self.rest = rest;
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            if let [b'+' | b'-', rest @ ..] = rest {
                self.rest = rest;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Passes over digits, at least one.
    fn digits(&mut self) -> Result<(), NotJson> {
        let is_digit = |byte: &u8| byte.is_ascii_digit();
        let end = self.rest.iter().position(|byte| !is_digit(byte));
        let end = end.unwrap_or(self.rest.len());
        self.skip(end);
        if end == 0 { Err(NotJson) } else { Ok(()) }
    }
}

/// How many bytes at the front are letters of a string: not its end, no escape, no control
/// character. Eight at a time, as `serde_json` does it.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let mut at = 0;
    let mut rest = bytes;
    while let Some((eight, behind)) = rest.split_first_chunk::<8>() {
        let letters = u64::from_le_bytes(*eight);
        // The lowest byte that is marked is one that is meant: borrows only reach upwards.
        let below = |letters: u64, bound: u64| letters.wrapping_sub(ONES * bound) & !letters;
        let control = below(letters, 0x20);
        let quote = below(letters ^ (ONES * u64::from(b'"')), 1);
        let escape = below(letters ^ (ONES * u64::from(b'\\')), 1);
        let found = (control | quote | escape) & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
        rest = behind;
    }
    let is_other = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    at + rest.iter().position(is_other).unwrap_or(rest.len())
}

/// Which of the levels around a place are objects: a bit for each.
#[derive(Default)]
struct Levels {
    /// Whether the innermost one is an object.
    is_object: bool,
    depth: usize,
    /// The levels around it, the nearest lowest.
    near: u64,
    /// More of them, 64 in each.
    far: Vec<u64>,
}

impl Levels {
    fn push(&mut self, is_object: bool) -> Result<(), NotJson> {
        if self.depth >= MOST_LEVELS {
            return Err(NotJson);
        }
        // The outermost level has none around it.
        if self.depth > 0 {
            if self.depth > 1 && (self.depth - 1).is_multiple_of(64) {
                self.far.push(self.near);
            }
            self.near = self.near << 1 | u64::from(self.is_object);
        }
        self.is_object = is_object;
        self.depth += 1;
        Ok(())
    }

    /// Leaves the innermost level; whether there is one around it.
    fn pop(&mut self) -> bool {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            return false;
        }
        self.is_object = self.near & 1 == 1;
        self.near >>= 1;
        if self.depth > 1 && (self.depth - 1).is_multiple_of(64) {
            self.near = self.far.pop().unwrap_or_default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn ours(text: &[u8]) -> Option<&[u8]> {
        let mut lexer = Lexer::new(text);
        let value = lexer.value().ok()?;
        lexer.end().ok()?;
        Some(value)
    }

    fn theirs(text: &str) -> Option<&[u8]> {
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        Some(raw.get().as_bytes())
    }

    proptest! {
        /// The verdict of `serde_json` on whatever looks a little like JSON.
        #[test]
        fn judges_as_serde_json(pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", " ", "\n", "\t", "1", "0", "-",
            "-0", ".", ".5", "e", "E+1", "true", "false", "null", "nul", "\\", "\\n", "\"\\u00e9\"",
            "\\u12", "\u{1}", "\u{7f}", "é", "\"12345678\"", "[]", "{}", "[{}]", "\"k\":[1]",
        ]), 0..14)) {
            let text = pieces.concat();
            prop_assert_eq!(ours(text.as_bytes()), theirs(&text), "{}", text);
        }

        /// Valid documents, and the same with a byte changed.
        #[test]
        fn judges_documents_as_serde_json(
            value in document(),
            at in any::<prop::sample::Index>(),
            byte in 0u8..128,
        ) {
            let text = value.to_string();
            prop_assert_eq!(ours(text.as_bytes()), Some(text.as_bytes()));
            let mut broken = text.into_bytes();
            let at = at.index(broken.len());
            broken[at] = byte;
            if let Ok(text) = std::str::from_utf8(&broken) {
                prop_assert_eq!(ours(&broken), theirs(text), "{}", text);
            }
        }

        /// Levels are remembered however deep they are.
        #[test]
        fn levels_close_as_they_opened(kinds in prop::collection::vec(any::<bool>(), 0..400)) {
            let open = kinds.iter().map(|object| if *object { "{\"a\":" } else { "[" });
            let close = kinds.iter().rev().map(|object| if *object { "}" } else { "]" });
            let text: String = open.chain(["1"]).chain(close).collect();
            prop_assert_eq!(ours(text.as_bytes()), Some(text.as_bytes()));
            if let Some(at) = kinds.len().checked_sub(1) {
                let other = if kinds[0] { "]" } else { "}" };
                let wrong = format!("{}{other}", text.split_at(text.len() - 1).0);
                prop_assert_eq!(ours(wrong.as_bytes()), None, "{}", at);
            }
        }
    }

    fn document() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            (-1e300..1e300).prop_map(serde_json::Value::from),
            "\\PC{0,20}".prop_map(serde_json::Value::from),
            "[\"\\\\\n\u{1}a]{0,9}".prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-c\"]{0,3}", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    #[test]
    fn levels_have_a_bound() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(ours(deep(MOST_LEVELS).as_bytes()).is_some());
        assert!(ours(deep(MOST_LEVELS + 1).as_bytes()).is_none());
    }

    #[test]
    fn strings_need_not_be_utf8() {
        assert!(ours(b"{\"a\":\"\xff\"}").is_some());
        assert!(ours(b"{\"a\":\xff}").is_none());
    }
}
