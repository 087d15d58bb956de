//! The prefilter: rejects bodies that cannot match, without parsing them.
//!
//! It unites what is necessary for several rules. Rules that need a status code alone share a
//! [`Filter`] for it; texts that others need are looked for in one pass, without regard to case.
//! Where one rule names nothing that can be looked for, every body may match. It may only say
//! "cannot match"; the reader alone decides.
//!
//! A code: both semantics of the detection of scans need a `code` of a wanted value inside `responseStatus`, so a body matches only
//! if it holds the key `"code"` followed by something that may be such a value. JSON may spell a
//! key with escapes; each letter of this one then starts with `\u006`, and a body that holds those
//! bytes is read in full.

use std::sync::Arc;

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;

use super::{model::Detection, necessary::Need};
use crate::{
    audit::event::is_code,
    pdata::{AnyValue, KeyValues},
};

/// What a body may match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MayMatch {
    /// By a status code.
    pub(crate) code: bool,
    /// By a text, or a rule that any event may match.
    pub(crate) text: bool,
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
    every: bool,
}

impl Prefilter {
    /// The prefilter of rules that need this, each or any of it.
    pub(crate) fn new(need: &Need) -> Self {
        let mut every = need.every;
        let literals = if need.literals.is_empty() || every {
            None
        } else {
            let literals = Literals::new(&need.literals);
            every = literals.is_none();
            literals
        };
        Self {
            codes: (!need.codes.is_empty()).then(|| Filter::new(&need.codes)),
            literals,
            every,
        }
    }

    /// The prefilter of these detections.
    pub(crate) fn of(detections: &[Arc<Detection>]) -> Self {
        let needs = detections.iter().map(|detection| detection.need());
        Self::new(&needs.fold(Need::impossible(), Need::or))
    }

    /// Whether a JSON text may match.
    #[inline]
    pub(crate) fn may_match_text(&self, text: &[u8]) -> MayMatch {
        MayMatch {
            code: self
                .codes
                .as_ref()
                .is_some_and(|codes| codes.may_match_text(text)),
            text: self.every
                || self
                    .literals
                    .as_ref()
                    .is_some_and(|literals| literals.may_match_text(text)),
        }
    }

    /// Whether a map may match.
    pub(crate) fn may_match_map(&self, map: &KeyValues<'_>) -> MayMatch {
        MayMatch {
            code: self
                .codes
                .as_ref()
                .is_some_and(|codes| codes.may_match_map(map)),
            text: self.every
                || self
                    .literals
                    .as_ref()
                    .is_some_and(|literals| literals.may_match_map(map)),
        }
    }
}

/// Texts of which one is necessary.
#[derive(Clone, Debug)]
struct Literals {
    automaton: AhoCorasick,
    /// Beginning of the escape of an ASCII character, and which of them are in the texts.
    escape: Finder<'static>,
    letters: u128,
    /// The other escape of a slash, where one is in the texts.
    slash: Option<Finder<'static>>,
}

impl Literals {
    /// `None` when there are too many for an automaton.
    fn new(literals: &[String]) -> Option<Self> {
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(literals)
            .ok()?;
        let mut letters = 0;
        for byte in literals.iter().flat_map(|literal| literal.bytes()) {
            for byte in [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()] {
                letters |= 1_u128.checked_shl(u32::from(byte)).unwrap_or_default();
            }
        }
        let has_slash = literals.iter().any(|literal| literal.contains('/'));
        Some(Self {
            automaton,
            escape: Finder::new(b"\\u00"),
            letters,
            slash: has_slash.then(|| Finder::new(b"\\/")),
        })
    }

    fn may_match_text(&self, text: &[u8]) -> bool {
        self.automaton.is_match(text)
            || self
                .escape
                .find_iter(text)
                .any(|at| self.is_letter(text, at))
            || self
                .slash
                .as_ref()
                .is_some_and(|slash| slash.find(text).is_some())
    }

    /// Whether the escape at this place is of a letter of the texts.
    fn is_letter(&self, text: &[u8], at: usize) -> bool {
        let digits = text.get(at + 4..at + 6).unwrap_or_default();
        let code = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        code.and_then(|code| self.letters.checked_shr(code))
            .is_some_and(|letters| letters & 1 == 1)
    }

    fn may_match_map(&self, map: &KeyValues<'_>) -> bool {
        let mut may = false;
        map.for_each(|key, value| {
            may = may || self.automaton.is_match(key) || self.may_match_value(&value);
        });
        may
    }

    fn may_match_value(&self, value: &AnyValue<'_>) -> bool {
        match value {
            AnyValue::Text(text) => self.automaton.is_match(text),
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

/// The filter for a set of status codes.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    codes: Vec<u16>,
    key: Finder<'static>,
    escape: Finder<'static>,
}

impl Filter {
    pub(crate) fn new(codes: &[u16]) -> Self {
        Self {
            codes: codes.to_vec(),
            key: Finder::new(b"\"code\""),
            escape: Finder::new(b"\\u006"),
        }
    }

    /// Whether a JSON text may match.
    #[inline]
    pub(crate) fn may_match_text(&self, text: &[u8]) -> bool {
        self.key
            .find_iter(text)
            .any(|at| self.may_be_wanted(text.get(at + b"\"code\"".len()..).unwrap_or_default()))
            || self.escape.find(text).is_some()
    }

    /// Whether a map may match.
    pub(crate) fn may_match_map(&self, map: &KeyValues<'_>) -> bool {
        let mut may = false;
        map.for_each(|key, value| {
            if let (b"responseStatus", AnyValue::Map(status)) = (key, value) {
                status.for_each(|key, value| may |= key == b"code" && self.may_be_value(&value));
            }
        });
        may
    }

    fn may_be_value(&self, value: &AnyValue<'_>) -> bool {
        match value {
            AnyValue::Int(number) => self.codes.iter().any(|code| i64::from(*code) == *number),
            AnyValue::Double(number) => self
                .codes
                .iter()
                .any(|code| f64::from(*code).total_cmp(number).is_eq()),
            AnyValue::Text(_) => true,
            _ => false,
        }
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
                let end = memchr::memchr(b'"', inner).unwrap_or(inner.len());
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
        let filter = Filter::new(&[401, 403]);
        for text in [
            r#"{"responseStatus":{"code":403}}"#,
            "{\"responseStatus\":{\"code\" \t\r\n: 4.03e2}}",
            r#"{"responseStatus":{"code":"+401"}}"#,
            r#"{"responseStatus":{"code":"\u003403"}}"#,
            r#"{"responseStatus":{"\u0063ode":403}}"#,
            r#"{"code":200,"x":{"code":401}}"#,
            r#"{"code":403"#,
        ] {
            assert!(filter.may_match_text(text.as_bytes()), "{text}");
        }
        for text in [
            r#"{"responseStatus":{"code":200}}"#,
            r#"{"responseStatus":{"code":4030}}"#,
            r#"{"responseStatus":{"code":"AccessDenied"}}"#,
            r#"{"responseStatus":{"code":null,"reason":"403"}}"#,
            r#"{"requestURI":"/api\u0026code=403"}"#,
            "",
        ] {
            assert!(!filter.may_match_text(text.as_bytes()), "{text}");
        }
    }
}
