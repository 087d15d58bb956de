//! The prefilter: rejects bodies that cannot match, without parsing them.
//!
//! It unites what is necessary for several rules. Rules that need a status code alone share a
//! filter for it; texts that others need are looked for with vector instructions where their case
//! counts, else in one pass without regard to case. Where one rule names nothing that can be looked
//! for, every body may match. It may only say "cannot match"; the reader alone decides.
//!
//! A code: the detection of scans needs a `code` of a wanted value inside `responseStatus`, so a
//! body matches only if it holds the key `"code"` followed by something that may be such a value.
//! JSON may spell any letter with an escape. So escapes are looked for as well: a body with an escape
//! of a letter that is looked for may match.

use std::{collections::BTreeSet, sync::Arc};

use aho_corasick::AhoCorasick;
use memchr::{memchr, memmem::Finder};

use super::{model::Detection, necessary::Need};
use crate::{
    audit::event::is_code,
    pdata::{AnyValue, KeyValues},
};

/// What a body may match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is the answer to a question of its own"
)]
pub(crate) struct MayMatch {
    /// By a status code.
    pub(crate) code: bool,
    /// By a text, or a rule that any event may match.
    pub(crate) text: bool,
    /// It may have a status code that is followed up.
    pub(crate) follow_up: bool,
    /// It may spell the key `sourceIPs` with escapes.
    pub(crate) hides_sources: bool,
    /// The key `code` is in it.
    pub(crate) has_code: bool,
}

impl MayMatch {
    /// Whether it may match at all.
    #[inline]
    pub(crate) fn any(self) -> bool {
        self.code || self.text
    }
}

/// What is necessary for one of several rules.
#[derive(Clone, Debug)]
pub(crate) struct Prefilter {
    codes: Option<Filter>,
    literals: Option<Literals>,
    escapes: Escapes,
    every: bool,
    /// A request of any status code may be followed up.
    follows_all: bool,
}

/// The status codes of requests that are followed up.
#[derive(Clone, Debug, Default)]
struct Followed {
    codes: BTreeSet<u16>,
    /// Requests of any code, or of none.
    all: bool,
}

impl Prefilter {
    /// The prefilter of rules that need this, each or any of it, and of what is followed up.
    fn new(need: &Need, followed: &Followed) -> Self {
        let mut every = need.every;
        let literals = if every {
            None
        } else {
            let literals = Literals::new(need);
            every = literals.is_err();
            literals.ok().flatten()
        };
        let codes = (!need.codes.is_empty() || !followed.codes.is_empty())
            .then(|| Filter::new(&need.codes, &followed.codes));
        Self {
            escapes: Escapes::new(literals.as_ref()),
            codes,
            literals,
            every,
            follows_all: followed.all,
        }
    }

    /// The prefilter of these detections, and of what they follow up.
    pub(crate) fn of(detections: &[Arc<Detection>]) -> Self {
        let needs = detections.iter().map(|detection| detection.need());
        let mut followed = Followed::default();
        for follow_up in detections.iter().filter_map(|one| one.follow_up.as_ref()) {
            match follow_up.codes() {
                Some(codes) => followed.codes.extend(codes),
                None => followed.all = true,
            }
        }
        Self::new(&needs.fold(Need::impossible(), Need::or), &followed)
    }

    /// Whether a JSON text may match.
    #[inline]
    pub(crate) fn may_match_text(&self, text: &[u8]) -> MayMatch {
        let escaped = self.escapes.of(text);
        let mut may = MayMatch {
            text: self.every || escaped.text,
            follow_up: self.follows_all,
            hides_sources: escaped.sources,
            ..MayMatch::default()
        };
        if let Some(codes) = &self.codes {
            let (wanted, followed, has_code) = codes.may_match_text(text);
            may.has_code = has_code;
            may.code = wanted || escaped.code && codes.has_wanted();
            may.follow_up |= followed || escaped.code && codes.has_followed;
        }
        if let Some(literals) = &self.literals {
            may.text = may.text || literals.may_match(text);
        }
        may
    }

    /// Whether a map may match.
    pub(crate) fn may_match_map(&self, map: &KeyValues<'_>) -> MayMatch {
        self.may_match_map_and(map, |_, _| {})
    }

    /// The same, and shows each member of it.
    pub(crate) fn may_match_map_and<'a>(
        &self,
        map: &KeyValues<'a>,
        mut see: impl FnMut(&'a [u8], &AnyValue<'a>),
    ) -> MayMatch {
        let mut may = MayMatch {
            text: self.every,
            follow_up: self.follows_all,
            ..MayMatch::default()
        };
        if let Some(codes) = &self.codes {
            let (wanted, followed) = codes.may_match_map(map, see);
            may.code = wanted;
            may.follow_up |= followed;
        } else {
            map.for_each(|key, value| see(key, &value));
        }
        if let Some(literals) = &self.literals {
            may.text = may.text || literals.may_match_map(map);
        }
        may
    }
}

/// Texts of which one is necessary.
#[derive(Clone, Debug)]
enum Literals {
    /// In any case.
    Any(AhoCorasick, Vec<String>),
    /// In this case, few of them.
    Exact(Vec<(Finder<'static>, String)>),
}

/// More texts than these are looked for in one pass.
const MOST_FINDERS: usize = 3;

impl Literals {
    /// `None` when there are none.
    ///
    /// # Errors
    /// When there are too many for an automaton.
    fn new(need: &Need) -> Result<Option<Self>, ()> {
        if need.literals.is_empty() && need.exact.len() <= MOST_FINDERS {
            let finder = |text: &String| (Finder::new(text).into_owned(), text.clone());
            let finders: Vec<_> = need.exact.iter().map(finder).collect();
            return Ok((!finders.is_empty()).then_some(Self::Exact(finders)));
        }
        let texts: Vec<_> = need.literals.iter().chain(&need.exact).cloned().collect();
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&texts)
            .map_err(|_too_many| ())?;
        Ok(Some(Self::Any(automaton, texts)))
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let (any, exact) = match self {
            Self::Any(_, texts) => (texts.as_slice(), &[][..]),
            Self::Exact(finders) => (&[][..], finders.as_slice()),
        };
        let exact = exact.iter().map(|(_, text)| text.as_str());
        any.iter().map(String::as_str).chain(exact)
    }

    #[inline]
    fn may_match(&self, text: &[u8]) -> bool {
        match self {
            Self::Any(automaton, _) => automaton.is_match(text),
            Self::Exact(finders) => finders.iter().any(|(one, _)| one.find(text).is_some()),
        }
    }

    fn may_match_map(&self, map: &KeyValues<'_>) -> bool {
        // What is no text may look like one: then it may match.
        if let Some(encoded) = map.encoded() {
            return self.may_match(encoded);
        }
        let mut may = false;
        map.for_each(|key, value| {
            may = may || self.may_match(key) || self.may_match_value(&value);
        });
        may
    }

    fn may_match_value(&self, value: &AnyValue<'_>) -> bool {
        match value {
            AnyValue::Text(text) => self.may_match(text),
            AnyValue::Map(map) => self.may_match_map(map),
            AnyValue::Array(list) => {
                let mut may = false;
                list.for_each(|element| may = may || self.may_match_value(&element));
                may
            }
            _ => false,
        }
    }
}

/// Letters of ASCII, a bit each.
type Letters = u128;

/// These letters.
const fn letters(text: &[u8]) -> Letters {
    let mut letters = 0;
    let mut rest = text;
    while let [byte, behind @ ..] = rest {
        letters |= 1 << (*byte & 0x7f);
        rest = behind;
    }
    letters
}

/// Which of what is looked for may be spelled with escapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Escaped {
    /// The key `code`.
    code: bool,
    /// A text.
    text: bool,
    /// The key `sourceIPs`.
    sources: bool,
}

/// Looks for escapes of the letters that are looked for.
#[derive(Clone, Debug)]
struct Escapes {
    /// Letters of the texts.
    texts: Letters,
    /// Whether a slash is among them, which has an escape of its own.
    has_slash: bool,
    unicode: Finder<'static>,
    slash: Finder<'static>,
}

/// Backslashes that are looked at one by one. In a text of more of them most are of other escapes.
const FEW: usize = 4;

impl Escapes {
    fn new(literals: Option<&Literals>) -> Self {
        let mut texts = 0;
        let mut has_slash = false;
        for text in literals.into_iter().flat_map(Literals::texts) {
            has_slash |= text.contains('/');
            texts |= letters(text.to_ascii_lowercase().as_bytes())
                | letters(text.to_ascii_uppercase().as_bytes());
        }
        Self {
            texts,
            has_slash,
            unicode: Finder::new(b"\\u00"),
            slash: Finder::new(b"\\/"),
        }
    }

    #[inline]
    fn of(&self, text: &[u8]) -> Escaped {
        match memchr(b'\\', text) {
            None => Escaped::default(),
            Some(at) => self.from(text.get(at..).unwrap_or_default()),
        }
    }

    /// The same for a text that begins with a backslash.
    fn from(&self, mut text: &[u8]) -> Escaped {
        let mut found = Escaped::default();
        for _ in 0..FEW {
            self.look(text, &mut found);
            // What follows a backslash is part of its escape.
            text = text.get(2..).unwrap_or_default();
            match memchr(b'\\', text) {
                None => return found,
                Some(at) => text = text.get(at..).unwrap_or_default(),
            }
        }
        for at in self.unicode.find_iter(text) {
            self.look(text.get(at..).unwrap_or_default(), &mut found);
        }
        if self.has_slash && self.slash.find(text).is_some() {
            found.text = true;
        }
        found
    }

    /// Adds what a text that begins with a backslash escapes.
    fn look(&self, text: &[u8], found: &mut Escaped) {
        match text {
            [b'\\', b'/', ..] => found.text |= self.has_slash,
            [b'\\', b'u', b'0', b'0', high, low, ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    return;
                };
                let Some(letter) = Letters::checked_shl(1, high * 16 + low) else {
                    return;
                };
                found.code |= const { letters(b"code") } & letter != 0;
                found.sources |= const { letters(b"sourceIPs") } & letter != 0;
                found.text |= self.texts & letter != 0;
            }
            _ => {}
        }
    }
}

/// The filter for a set of status codes.
#[derive(Clone, Debug)]
struct Filter {
    codes: Vec<u16>,
    has_followed: bool,
    /// By code: whether it is wanted, and whether it is followed up.
    table: Vec<(bool, bool)>,
    key: Finder<'static>,
}

/// Codes that have a place in the table.
const CODES: u16 = 1000;

impl Filter {
    fn new(codes: &[u16], followed: &BTreeSet<u16>) -> Self {
        let row = |code| (codes.contains(&code), followed.contains(&code));
        Self {
            codes: codes.to_vec(),
            has_followed: !followed.is_empty(),
            table: (0..CODES).map(row).collect(),
            key: Finder::new(b"\"code\""),
        }
    }

    fn has_wanted(&self) -> bool {
        !self.codes.is_empty()
    }

    /// Whether a JSON text may have a wanted code, and one that is followed up.
    #[inline]
    fn may_match_text(&self, text: &[u8]) -> (bool, bool, bool) {
        let (mut wanted, mut followed, mut has_code) = (false, false, false);
        for at in self.key.find_iter(text) {
            has_code = true;
            let value = text.get(at + b"\"code\"".len()..).unwrap_or_default();
            let (is_wanted, is_followed) = match value {
                // As nearly all are spelled.
                [
                    b':',
                    a @ b'1'..=b'9',
                    b @ b'0'..=b'9',
                    c @ b'0'..=b'9',
                    b',' | b'}',
                    ..,
                ] => {
                    let digits = [a, b, c].map(|digit| usize::from(digit - b'0'));
                    let [a, b, c] = digits;
                    let row = self.table.get(a * 100 + b * 10 + c);
                    row.copied().unwrap_or_default()
                }
                _ => self.unusual(value),
            };
            wanted |= is_wanted;
            followed |= is_followed;
            if wanted {
                break;
            }
        }
        (wanted, followed, has_code)
    }

    /// Whether a map may have them.
    fn may_match_map<'a>(
        &self,
        map: &KeyValues<'a>,
        mut see: impl FnMut(&'a [u8], &AnyValue<'a>),
    ) -> (bool, bool) {
        let (mut wanted, mut followed) = (false, false);
        map.for_each(|key, value| {
            see(key, &value);
            if let (b"responseStatus", AnyValue::Map(status)) = (key, value) {
                status.for_each_of(b"code", |code| {
                    let (is_wanted, is_followed) = self.value(&code);
                    wanted |= is_wanted;
                    followed |= is_followed;
                });
            }
        });
        (wanted, followed)
    }

    fn value(&self, value: &AnyValue<'_>) -> (bool, bool) {
        // Of an integral number that has a place in the table.
        let of = |number: f64| {
            let is_code = (0.0..f64::from(CODES)).contains(&number) && number.fract() == 0.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is a code"
            )]
            let code = is_code.then_some(number as usize);
            self.table.get(code?).copied()
        };
        match value {
            AnyValue::Int(number) => {
                let row = usize::try_from(*number).ok();
                let row = row.and_then(|code| self.table.get(code));
                row.copied().unwrap_or_default()
            }
            // A number between two codes may be followed up.
            AnyValue::Double(number) => of(*number).unwrap_or((false, self.has_followed)),
            AnyValue::Text(_) => (self.has_wanted(), self.has_followed),
            _ => (false, false),
        }
    }

    /// The same for what follows a key, however it is spelled.
    #[cold]
    fn unusual(&self, after_key: &[u8]) -> (bool, bool) {
        let is_wanted = self.has_wanted() && self.may_be_wanted(after_key);
        (is_wanted, self.may_be_followed(after_key))
    }

    /// Whether what follows the key is any value: it is followed up then.
    fn may_be_followed(&self, after_key: &[u8]) -> bool {
        let value = after_key.trim_ascii_start().strip_prefix(b":");
        let value = value.map(<[u8]>::trim_ascii_start);
        self.has_followed
            && value
                .and_then(<[u8]>::first)
                .is_some_and(|first| matches!(first, b'"' | b'-' | b'0'..=b'9'))
    }

    /// Whether what follows the key may be a wanted value.
    fn may_be_wanted(&self, after_key: &[u8]) -> bool {
        let Some(value) = after_key.trim_ascii_start().strip_prefix(b":") else {
            return false;
        };
        let value = value.trim_ascii_start();
        match value.first() {
            Some(b'"') => {
                let inner = value.get(1..).unwrap_or_default();
                let end = memchr(b'"', inner).unwrap_or(inner.len());
                let inner = inner.get(..end).unwrap_or_default();
                inner.contains(&b'\\') || self.reads_as_wanted(inner)
            }
            Some(b'-' | b'0'..=b'9') => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let end = value
                    .iter()
                    .position(|byte| !is_part(byte))
                    .unwrap_or(value.len());
                self.reads_as_wanted(value.get(..end).unwrap_or_default())
            }
            _ => false,
        }
    }

    fn reads_as_wanted(&self, number: &[u8]) -> bool {
        std::str::from_utf8(number)
            .is_ok_and(|number| self.codes.iter().any(|code| is_code(number, *code)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_every_spelling_and_rejects_other_codes() {
        let filter = Prefilter::new(&Need::codes(&[401, 403]), &Followed::default());
        for text in [
            r#"{"responseStatus":{"code":403}}"#,
            "{\"responseStatus\":{\"code\" \t\r\n: 4.03e2}}",
            r#"{"responseStatus":{"code":"+401"}}"#,
            r#"{"responseStatus":{"code":"\u003403"}}"#,
            r#"{"responseStatus":{"\u0063ode":403}}"#,
            r#"{"code":200,"x":{"code":401}}"#,
            r#"{"code":403"#,
        ] {
            assert!(filter.may_match_text(text.as_bytes()).code, "{text}");
        }
        for text in [
            r#"{"responseStatus":{"code":200}}"#,
            r#"{"responseStatus":{"code":4030}}"#,
            r#"{"responseStatus":{"code":"AccessDenied"}}"#,
            r#"{"responseStatus":{"code":null,"reason":"403"}}"#,
            r#"{"requestURI":"/api\u0026code=403"}"#,
            "",
        ] {
            assert!(!filter.may_match_text(text.as_bytes()).code, "{text}");
        }
    }
}
