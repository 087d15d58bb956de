//! The condition of a rule: selections joined by `and`, `or`, `not` and `N of`.

use std::collections::BTreeMap;

use super::reader::{hint, quoted};
use crate::{
    audit::event::Field,
    rules::{
        matcher::{OneOf, Scratch},
        pattern::{self, Wanted},
        predicate::Condition,
    },
};

/// Bytes of a condition.
const MOST_BYTES: usize = 8192;
/// Parentheses and `not` within each other.
const MOST_DEPTH: usize = 64;
/// Tests that a condition may hold, a selection counted each time it is named.
const MOST_PARTS: usize = 20_000;

/// The selections of a rule by their names.
pub(super) type Selections = BTreeMap<String, Condition>;

/// Reads a condition.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(super) fn read(text: &str, selections: &Selections) -> Result<Condition, String> {
    if text.len() > MOST_BYTES {
        return Err(format!("is longer than {MOST_BYTES} bytes: split the rule"));
    }
    let words = words(text)?;
    let mut parser = Parser {
        words: &words,
        at: 0,
        depth: 0,
        parts: 0,
        selections,
    };
    let condition = parser.any()?;
    match parser.next() {
        None => Ok(condition),
        Some(")") => Err("a closing parenthesis without an opening one: remove it".to_owned()),
        Some(word) => Err(format!(
            "expected and, or, or the end, found {}",
            quoted(word)
        )),
    }
}

fn words(text: &str) -> Result<Vec<&str>, String> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '*' | '?');
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if matches!(first, '(' | ')') {
            1
        } else if first == '|' {
            return Err(
                "an aggregation behind | is Sigma 1: count in a correlation (type: event_count \
                 or value_count)"
                    .to_owned(),
            );
        } else {
            return Err(format!(
                "unexpected {}: write names of selections, and, or, not, 1 of, all of, parentheses",
                quoted(&first.to_string())
            ));
        };
        let (word, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        words.push(word);
        rest = behind.trim_start();
    }
    if words.is_empty() {
        return Err("is empty: name a selection".to_owned());
    }
    Ok(words)
}

struct Parser<'t, 's> {
    words: &'t [&'t str],
    at: usize,
    depth: usize,
    parts: usize,
    selections: &'s Selections,
}

impl<'t> Parser<'t, '_> {
    fn peek(&self) -> Option<&'t str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'t str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let is_there = self
            .peek()
            .is_some_and(|word| word.eq_ignore_ascii_case(wanted));
        self.at += usize::from(is_there);
        is_there
    }

    fn any(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.all()?];
        while self.eat("or") {
            parts.push(self.all()?);
        }
        Ok(joined(parts, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.one()?];
        while self.eat("and") {
            parts.push(self.one()?);
        }
        Ok(joined(parts, Condition::All))
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(format!(
                "more than {MOST_DEPTH} parentheses and not within each other: split the rule"
            ));
        }
        let condition = if self.eat("not") {
            Condition::Not(Box::new(self.one()?))
        } else if self.eat("(") {
            let inner = self.any()?;
            if !self.eat(")") {
                return Err("a parenthesis is not closed".to_owned());
            }
            inner
        } else {
            self.operand()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn operand(&mut self) -> Result<Condition, String> {
        let Some(word) = self.next() else {
            return Err("ends where the name of a selection is expected".to_owned());
        };
        let is_of = self.peek().is_some_and(|of| of.eq_ignore_ascii_case("of"));
        let lower = word.to_ascii_lowercase();
        if is_of {
            self.at += 1;
            let Some(pattern) = self.next() else {
                return Err(format!(
                    "{word} of: write a pattern such as selection_*, or them"
                ));
            };
            let parts = self.named(pattern)?;
            return match lower.as_str() {
                "all" => Ok(joined(parts, Condition::All)),
                "any" | "1" => Ok(joined(parts, Condition::Any)),
                number => match number.parse::<usize>() {
                    Ok(0) => Err("0 of is always so: write not 1 of".to_owned()),
                    Ok(least) if least > parts.len() => Err(format!(
                        "{least} of {pattern}: there are only {} of them",
                        parts.len()
                    )),
                    Ok(least) => Ok(Condition::Some(least, parts)),
                    Err(_) => Err(format!(
                        "{} of: expected a number, all or any",
                        quoted(word)
                    )),
                },
            };
        }
        if matches!(lower.as_str(), "and" | "or" | "of" | "near" | ")") {
            return Err(format!("the name of a selection is missing before {word}"));
        }
        if lower == "them" {
            return Err("them: write 1 of them or all of them".to_owned());
        }
        if self
            .peek()
            .is_some_and(|next| next.eq_ignore_ascii_case("near"))
        {
            return Err(
                "near is Sigma 1: write a correlation of type temporal over two rules".to_owned(),
            );
        }
        if let Some(selection) = self.selections.get(word) {
            let selection = selection.clone();
            self.grow(&selection)?;
            return Ok(selection);
        }
        if word.contains(['*', '?']) {
            return Err(format!("{word}: write 1 of {word} or all of {word}"));
        }
        Err(self.unknown(word))
    }

    /// The selections that a pattern names.
    fn named(&mut self, pattern: &str) -> Result<Vec<Condition>, String> {
        let is_named = |name: &str| {
            if pattern.eq_ignore_ascii_case("them") {
                !name.starts_with('_')
            } else {
                is_like(pattern, name)
            }
        };
        let selections = self.selections;
        let parts: Vec<_> = selections
            .iter()
            .filter(|(name, _)| is_named(name))
            .map(|(_, condition)| condition.clone())
            .collect();
        for part in &parts {
            self.grow(part)?;
        }
        if parts.is_empty() {
            return Err(self.unknown(pattern));
        }
        Ok(parts)
    }

    /// Keeps what a hostile condition makes of large selections within a bound.
    fn grow(&mut self, condition: &Condition) -> Result<(), String> {
        self.parts += size(condition);
        if self.parts > MOST_PARTS {
            return Err(format!(
                "holds more than {MOST_PARTS} tests: split the rule"
            ));
        }
        Ok(())
    }

    fn unknown(&self, word: &str) -> String {
        let known: Vec<&str> = self.selections.keys().map(String::as_str).collect();
        format!(
            "no selection is named {}{}",
            quoted(word),
            hint(word, &known)
        )
    }
}

fn size(condition: &Condition) -> usize {
    match condition {
        Condition::Test(_) => 1,
        Condition::Not(part) => size(part),
        Condition::All(parts) | Condition::Any(parts) | Condition::Some(_, parts) => {
            1 + parts.iter().map(size).sum::<usize>()
        }
    }
}

pub(super) fn joined(
    mut parts: Vec<Condition>,
    join: fn(Vec<Condition>) -> Condition,
) -> Condition {
    match parts.len() {
        1 => parts.pop().unwrap_or(Condition::constant(false)),
        _ => join(parts),
    }
}

/// Whether a name is like a pattern, in which `*` is any text and `?` any letter.
fn is_like(pattern: &str, name: &str) -> bool {
    let pattern = OneOf::new(&[Wanted::Text(pattern::pieces(pattern))], true);
    pattern.is_ok_and(|one| one.matches(&Field::Text(name.into()), &mut Scratch::default()))
}
