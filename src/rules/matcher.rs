//! Whether a value of a field is one of those a rule names.
//!
//! Text is compared without regard to case unless the rule says `cased`: of ASCII letters, and of
//! other letters whose lower case is one letter too and not one of ASCII. So a letter of ASCII in a
//! rule is matched by a letter of ASCII alone, which the prefilter relies on. Patterns run in linear
//! time whatever is in them.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use regex::bytes;

use super::{
    compiled, necessary,
    pattern::{Comparison, Piece, Wanted},
    remembered::Remembered,
};
use crate::audit::{
    address,
    event::{Composite, Field},
    path,
    text::Text,
};

/// Memory for texts that have to be decoded, used again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    decoded: String,
    folded: String,
    pub(super) remembered: Remembered,
}

/// A longer buffer is given back after the event that needed it.
const KEPT_BYTES: usize = 64 * 1024;

impl Scratch {
    /// Bytes that it holds.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.decoded.capacity() + self.folded.capacity() + self.remembered.heap_bytes()
    }

    /// The beginning of a text, as [`Text::beginning`] has it.
    pub(crate) fn beginning<'b>(&'b mut self, text: Text<'b>, most: usize) -> &'b str {
        text.beginning(most, &mut self.decoded)
    }

    /// Gives back what an unusual event needed.
    pub(crate) fn trim(&mut self) {
        for buffer in [&mut self.decoded, &mut self.folded] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = String::new();
            }
        }
    }
}

/// Where in a value a text has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the value.
    #[default]
    Whole,
    /// `contains`
    Inside,
    /// `startswith`
    Start,
    /// `endswith`
    End,
}

/// The lower case of a letter, where both are of ASCII or neither is.
pub(crate) fn fold(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    let mut lower = letter.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) if !one.is_ascii() => one,
        _ => letter,
    }
}

/// The values that match: one is enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct OneOf {
    cased: bool,
    /// Whole texts, folded unless `cased`.
    texts: Vec<String>,
    /// Patterns in which there is more than `*`, as one.
    pattern: Option<bytes::Regex>,
    /// Whether that names letters beyond ASCII, which may have to be folded.
    is_wide: bool,
    /// `re`
    expressions: Vec<regex::Regex>,
    numbers: Vec<f64>,
    truths: Vec<bool>,
    /// Any value at all.
    any: bool,
    networks: Vec<IpNet>,
    comparisons: Vec<(Comparison, f64)>,
    /// Texts of which any value that matches holds one, in any case; `None`: there are none.
    pub(super) literals: Option<Vec<String>>,
    /// The same texts in the case of the rule, where case counts.
    pub(super) exact: Option<Vec<String>>,
    /// All that match are these numbers.
    pub(super) codes: Option<Vec<u16>>,
}

/// A pattern that is invalid or too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPattern {
    #[error("it needs more than 1 MiB when it is compiled: write a shorter one, or several rules")]
    TooLarge,
    #[error("{0}")]
    Syntax(String),
}

impl From<regex::Error> for BadPattern {
    fn from(error: regex::Error) -> Self {
        match error {
            regex::Error::CompiledTooBig(_) => Self::TooLarge,
            other => {
                // The last line of several says what it is, those above show where.
                let text = other.to_string();
                let line = text.lines().last().unwrap_or_default();
                Self::Syntax(line.trim_start_matches("error: ").to_owned())
            }
        }
    }
}

impl OneOf {
    /// A matcher of these values.
    ///
    /// # Errors
    /// When a pattern is invalid or too large.
    pub(crate) fn new(wanted: &[Wanted], cased: bool) -> Result<Self, BadPattern> {
        let mut out = Self {
            cased,
            ..Self::default()
        };
        let mut patterns = Vec::new();
        for one in wanted {
            match one {
                Wanted::Text(pieces) => out.add_text(pieces, &mut patterns),
                Wanted::Number(number) => out.numbers.push(*number),
                Wanted::Bool(truth) => out.truths.push(*truth),
                Wanted::Network(network) => out.networks.push(*network),
                Wanted::Compare(how, number) => out.comparisons.push((*how, *number)),
                Wanted::Expression {
                    text,
                    ignore_case,
                    multi_line,
                    dot_all,
                } => out.expressions.push(compiled::expression(&flagged(
                    text,
                    [(*ignore_case, "i"), (*multi_line, "m"), (*dot_all, "s")],
                ))?),
            }
        }
        if !patterns.is_empty() {
            let flags = if cased { "s-u" } else { "is-u" };
            let text = format!("(?{flags}:{})", patterns.join("|"));
            out.pattern = Some(compiled::pattern(&text)?);
        }
        out.texts.sort_unstable();
        out.texts.dedup();
        out.literals = wanted.iter().map(necessary::literal).collect();
        if cased {
            out.exact = wanted.iter().map(necessary::exact).collect();
        }
        out.codes = wanted.iter().map(necessary::code).collect();
        Ok(out)
    }

    fn add_text(&mut self, pieces: &[Piece], patterns: &mut Vec<String>) {
        let fold = |letter| if self.cased { letter } else { fold(letter) };
        let letters: Option<String> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Letter(letter) => Some(fold(*letter)),
                Piece::One | Piece::Any => None,
            })
            .collect();
        match letters {
            Some(text) => self.texts.push(text),
            None if pieces.iter().all(|piece| *piece == Piece::Any) => self.any = true,
            None => {
                let is_wide =
                    |piece: &Piece| matches!(piece, Piece::Letter(one) if !one.is_ascii());
                self.is_wide |= pieces.iter().any(is_wide);
                patterns.push(expression(pieces, self.cased));
            }
        }
    }

    /// The expressions that say all of it of a text as it is, for a set that looks for many at once;
    /// `None` when there is more to it.
    ///
    /// Where case is ignored, a text is folded before. Folding makes no letter one of ASCII, so a
    /// pattern without others does not need that.
    pub(crate) fn expressions(&self) -> Option<Vec<&str>> {
        let has_more = self.any
            || (self.is_wide && !self.cased)
            || !self.texts.is_empty()
            || !self.numbers.is_empty()
            || !self.truths.is_empty()
            || !self.networks.is_empty()
            || !self.comparisons.is_empty();
        let pattern = self.pattern.iter().map(bytes::Regex::as_str);
        let all = self.expressions.iter().map(regex::Regex::as_str);
        (!has_more).then(|| all.chain(pattern).collect())
    }

    /// Whether a value is one of these.
    pub(crate) fn matches(&self, field: &Field<'_>, scratch: &mut Scratch) -> bool {
        if self.any && *field != Field::Absent {
            return true;
        }
        let Some(text) = field.value() else {
            return false;
        };
        let truth = |truth: &bool| text.is_ignoring_case(if *truth { "true" } else { "false" });
        (!self.texts.is_empty() && self.is_text(text))
            || self.truths.iter().any(truth)
            || self.is_number(text)
            || self.is_in_network(text)
            || self.fits_pattern(text, scratch)
    }

    fn is_text(&self, text: Text<'_>) -> bool {
        let mut texts = self.texts.iter();
        if self.cased {
            texts.any(|wanted| text.is(wanted))
        } else {
            texts.any(|wanted| is_folded(text, wanted))
        }
    }

    /// The whole numbers from 0 to `most` that match; `None` when anything else may match.
    pub(super) fn whole_numbers(&self, most: u16) -> Option<BTreeSet<u16>> {
        let is_of_numbers = self.texts.is_empty()
            && self.pattern.is_none()
            && self.expressions.is_empty()
            && self.truths.is_empty()
            && self.networks.is_empty()
            && !self.any;
        let matches = |number: &u16| self.has_number(f64::from(*number));
        is_of_numbers.then(|| (0..=most).filter(matches).collect())
    }

    fn has_number(&self, number: f64) -> bool {
        let equals = |wanted: &f64| wanted.total_cmp(&number).is_eq();
        self.numbers.iter().any(equals)
            || self.comparisons.iter().any(|(how, bound)| match how {
                Comparison::Less => number < *bound,
                Comparison::LessOrEqual => number <= *bound,
                Comparison::Greater => number > *bound,
                Comparison::GreaterOrEqual => number >= *bound,
            })
    }

    fn is_number(&self, text: Text<'_>) -> bool {
        if self.numbers.is_empty() && self.comparisons.is_empty() {
            return false;
        }
        let spelled = || text.short().as_deref().and_then(number);
        let number = text.number().or_else(spelled);
        number.is_some_and(|number| self.has_number(number))
    }

    /// Whether an address is in one of these networks, if they are all that is looked for.
    pub(super) fn has_address(&self, address: IpAddr) -> Option<bool> {
        let has_more = self.any
            || !self.texts.is_empty()
            || self.pattern.is_some()
            || !self.expressions.is_empty()
            || !self.numbers.is_empty()
            || !self.truths.is_empty()
            || !self.comparisons.is_empty();
        let mut networks = self.networks.iter();
        (!has_more).then(|| networks.any(|network| network.contains(&address)))
    }

    fn is_in_network(&self, text: Text<'_>) -> bool {
        if self.networks.is_empty() {
            return false;
        }
        let address = text.short().and_then(|text| address::parse(&text));
        address.is_some_and(|address| self.networks.iter().any(|net| net.contains(&address)))
    }

    fn fits_pattern(&self, text: Text<'_>, scratch: &mut Scratch) -> bool {
        if self.pattern.is_none() && self.expressions.is_empty() {
            return false;
        }
        let Scratch {
            decoded, folded, ..
        } = scratch;
        let text = text.decoded(decoded);
        if self.expressions.iter().any(|one| one.is_match(text)) {
            return true;
        }
        let Some(pattern) = &self.pattern else {
            return false;
        };
        if self.cased || text.is_ascii() {
            return pattern.is_match(text.as_bytes());
        }
        folded.clear();
        folded.extend(text.chars().map(fold));
        pattern.is_match(folded.as_bytes())
    }
}

/// An expression with those of these flags that are on: in its text, so that it may be part of a set.
fn flagged(text: &str, flags: [(bool, &str); 3]) -> String {
    let on: String = flags
        .into_iter()
        .filter_map(|(is_on, flag)| is_on.then_some(flag))
        .collect();
    if on.is_empty() {
        return text.to_owned();
    }
    format!("(?{on}:{text})")
}

/// A wildcard pattern as a regular expression over bytes.
fn expression(pieces: &[Piece], cased: bool) -> String {
    use std::fmt::Write as _;
    let (start, pieces) = match pieces {
        [Piece::Any, rest @ ..] => ("", rest),
        all => (r"\A", all),
    };
    let (pieces, end) = match pieces {
        [rest @ .., Piece::Any] => (rest, ""),
        all => (all, r"\z"),
    };
    let mut out = format!("(?:{start}");
    for piece in pieces {
        match piece {
            Piece::Any => out.push_str(".*?"),
            // One character of UTF-8.
            Piece::One => out.push_str(r"(?:[\x00-\x7f]|[\xc2-\xf4][\x80-\xbf]{1,3})"),
            Piece::Letter(letter) => {
                let letter = if cased { *letter } else { fold(*letter) };
                let mut bytes = [0; 4];
                for byte in letter.encode_utf8(&mut bytes).bytes() {
                    if byte.is_ascii_alphanumeric() {
                        out.push(char::from(byte));
                    } else {
                        // Writing into a string cannot fail.
                        let _ok = write!(out, r"\x{byte:02x}");
                    }
                }
            }
        }
    }
    out.push_str(end);
    out.push(')');
    out
}

/// Whether a text is this one, which is folded.
fn is_folded(text: Text<'_>, folded: &str) -> bool {
    if folded.is_ascii() {
        // No other letter folds to one of ASCII.
        return text.is_ignoring_case(folded);
    }
    let mut wanted = folded.chars();
    let mut same = true;
    text.decode(|piece| {
        same = piece
            .chars()
            .all(|letter| wanted.next() == Some(fold(letter)));
        same
    });
    same && wanted.next().is_none()
}

/// A number as JSON or Splunk spells it; not `inf`, `nan` or `.5`.
pub(crate) fn number(text: &str) -> Option<f64> {
    // As status codes are spelled.
    const CODE: usize = 9;
    if !text.is_empty() && text.len() <= CODE && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u32>().ok().map(f64::from);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Whether a field has a value: not an object or a list in which nothing is.
pub(crate) fn is_value(field: &Field<'_>) -> bool {
    match field {
        Field::Absent => false,
        Field::Text(_) | Field::Bool(_) => true,
        Field::Composite(value) => !is_empty(*value),
    }
}

fn is_empty(value: Composite<'_>) -> bool {
    path::is_empty(value)
}

/// Whether one text is at a place of the other.
pub(crate) fn is_at(place: Place, whole: &str, part: &str, cased: bool) -> bool {
    let same = |a: char, b: char| a == b || (!cased && fold(a) == fold(b));
    let begins = |text: &str| {
        let mut letters = text.chars();
        part.chars()
            .all(|wanted| letters.next().is_some_and(|letter| same(letter, wanted)))
    };
    match place {
        Place::Whole => begins(whole) && whole.chars().count() == part.chars().count(),
        Place::Start => begins(whole),
        Place::End => {
            let mut letters = whole.chars().rev();
            part.chars()
                .rev()
                .all(|wanted| letters.next().is_some_and(|letter| same(letter, wanted)))
        }
        Place::Inside => {
            part.is_empty()
                || whole
                    .char_indices()
                    .any(|(at, _)| begins(whole.get(at..).unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::pattern::pieces;

    fn one(text: &str, cased: bool) -> OneOf {
        OneOf::new(&[Wanted::Text(pieces(text))], cased).unwrap()
    }

    fn fits(pattern: &str, cased: bool, text: &str) -> bool {
        one(pattern, cased).matches(&Field::Text(text.into()), &mut Scratch::default())
    }

    #[test]
    fn wildcards_and_escapes() {
        for (pattern, text, wanted) in [
            ("pods", "PODS", true),
            ("pods", "pods ", false),
            ("pod*", "pods", true),
            ("*od*", "pods", true),
            ("p?ds", "pöds", true),
            ("p?ds", "pds", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            (r"a\\*", r"a\b", true),
            (r"a\b", r"A\B", true),
            (r"a\\b", r"a\b", true),
            ("ä*", "Äpfel", true),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "a\nxbyyc", true),
            ("a.c", "abc", false),
            ("k", "\u{212a}", false),
            ("*k*", "\u{212a}", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, false, text), wanted, "{pattern} {text:?}");
        }
        assert!(!fits("pods", true, "Pods") && fits("po*", true, "pods"));
        assert!(!fits("Po*", true, "pods"));
    }

    proptest! {
        /// A pattern of the regular expression is what a plain matcher says.
        #[test]
        fn patterns_match_as_a_naive_matcher(
            pattern in "[abAé*?]{0,6}",
            text in "[abABéÉ\n]{0,7}",
            cased in any::<bool>(),
        ) {
            fn naive(pattern: &[Piece], text: &[char], cased: bool) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, None) => true,
                    (Some((Piece::Any, rest)), _) => (0..=text.len())
                        .any(|at| naive(rest, &text[at..], cased)),
                    (Some((Piece::One, rest)), Some((_, behind))) => naive(rest, behind, cased),
                    (Some((Piece::Letter(a), rest)), Some((b, behind))) => {
                        (a == b || (!cased && fold(*a) == fold(*b))) && naive(rest, behind, cased)
                    }
                    (None, Some(_)) | (Some(_), None) => false,
                }
            }
            let letters: Vec<char> = text.chars().collect();
            prop_assert_eq!(
                fits(&pattern, cased, &text),
                naive(&pieces(&pattern), &letters, cased)
            );
        }
    }

    #[test]
    fn numbers_truth_and_networks() {
        let mut scratch = Scratch::default();
        let number = OneOf::new(&[Wanted::Number(403.0)], false).unwrap();
        let truth = OneOf::new(&[Wanted::Bool(true)], false).unwrap();
        let network = Wanted::Network("10.0.0.0/8".parse().unwrap());
        let network = OneOf::new(&[network], false).unwrap();
        let less = OneOf::new(&[Wanted::Compare(Comparison::Less, 5.0)], false).unwrap();
        let mut fits =
            |one: &OneOf, text: &str| one.matches(&Field::Text(text.into()), &mut scratch);
        assert!(fits(&number, "4.03e2") && fits(&number, "+403.0") && !fits(&number, "404"));
        assert!(fits(&truth, "True") && !fits(&truth, "1"));
        assert!(fits(&network, "::ffff:10.1.2.3") && !fits(&network, "11.0.0.1"));
        assert!(fits(&less, "4.9") && !fits(&less, "5") && !fits(&less, "x"));
        assert!(truth.matches(&Field::Bool(true), &mut Scratch::default()));
        assert!(!truth.matches(&Field::Bool(false), &mut Scratch::default()));
    }

    #[test]
    fn a_pattern_that_would_take_too_much_is_refused() {
        let wanted = Wanted::Expression {
            text: "(a{1000}){1000}".to_owned(),
            ignore_case: false,
            multi_line: false,
            dot_all: false,
        };
        assert_eq!(
            OneOf::new(&[wanted], false).unwrap_err(),
            BadPattern::TooLarge
        );
    }
}
