//! A single value: a text, and what it may be read as. A value that cannot be used is reported
//! with its place, and shown unless it may be a secret.
use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use secrecy::SecretString;

use super::{forms::alternatives, id::ComponentId, read::Reader};
use crate::yaml::Mark;

/// A text at a place, its variables replaced.
#[derive(Clone)]
pub(crate) struct Value<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) path: String,
    pub(super) mark: Mark,
    pub(crate) text: String,
    /// The variables it came from, ready to follow a message.
    pub(super) from: String,
    /// Whether it may be a secret in the wrong place.
    pub(super) hidden: bool,
}

impl Value<'_> {
    /// Reports an error without showing the value.
    pub(crate) fn fail(&self, message: impl Display) {
        self.reader.fail(
            self.mark,
            &self.path,
            format_args!("{message}{}", self.from),
        );
    }

    /// Reports what was expected, and shows the value unless it may be a secret.
    pub(crate) fn expected(&self, what: impl Display) {
        if self.hidden {
            self.fail(format_args!("{what}, got something else"));
        } else {
            self.fail(format_args!("{what}, got {}", shown(&self.text)));
        }
    }

    /// Says why it will not do, in words that may show it, or what was expected if it may be a
    /// secret.
    pub(crate) fn refuse(&self, why: impl Display, expected: impl Display) {
        if self.hidden {
            self.expected(expected);
        } else {
            self.fail(why);
        }
    }

    pub(crate) fn number<T>(&self, noun: &str, range: &RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let number = self
            .text
            .parse()
            .ok()
            .filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            self.expected(format_args!("expected a {noun} from {least} to {most}"));
        }
        number
    }

    pub(crate) fn duration(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        self.within(go_duration(&self.text), range)
    }

    /// A duration, or a plain number of seconds.
    pub(crate) fn span(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let seconds = self.text.parse().ok().map(Duration::from_secs);
        self.within(seconds.or_else(|| go_duration(&self.text)), range)
    }

    /// A duration, or a plain number of milliseconds.
    pub(crate) fn millis(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let millis = self.text.parse().ok().map(Duration::from_millis);
        self.within(millis.or_else(|| go_duration(&self.text)), range)
    }

    fn within(
        &self,
        found: Option<Duration>,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let Some(duration) = found else {
            self.expected("expected a duration such as 300ms, 5s or 1h30m");
            return None;
        };
        if !range.contains(&duration) {
            let (least, most) = (go_text(*range.start()), go_text(*range.end()));
            self.expected(format_args!("expected a duration from {least} to {most}"));
            return None;
        }
        Some(duration)
    }

    /// One of the words of a table, case ignored.
    pub(super) fn choice<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let found = words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(&self.text));
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.expected(format_args!("expected {}", alternatives(&words)));
        }
        found.map(|(_, value)| *value)
    }

    /// One of these words.
    pub(super) fn word(&self, words: &[&'static str]) -> Option<&'static str> {
        let found = words.iter().find(|word| **word == self.text).copied();
        if found.is_none() {
            self.expected(format_args!("expected {}", alternatives(words)));
        }
        found
    }

    pub(crate) fn parse<T: FromStr<Err: Display>>(&self) -> Option<T> {
        self.text.parse().map_err(|error| self.expected(error)).ok()
    }

    pub(crate) fn id(&self) -> Option<ComponentId> {
        self.parse()
    }

    /// The text, which may not be empty.
    pub(crate) fn filled(&self) -> Option<String> {
        if self.text.trim().is_empty() {
            self.fail("must not be empty");
            return None;
        }
        Some(self.text.clone())
    }

    /// A secret that is fit for a header. No message shows any of it.
    pub(crate) fn secret(&self) -> Option<SecretString> {
        let text = self.filled()?;
        if !text.chars().all(|letter| letter.is_ascii_graphic()) {
            self.fail("holds a blank, a line end or another character no token has");
            return None;
        }
        Some(text.into())
    }
}

/// A value as it may stand in a message: quoted, on one line, not too long.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    format!("{short:?}")
}

/// A duration as Go writes it: `300ms`, `5s`, `1h30m`, and `0`, the one number without a unit.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    // jiff reads words, blanks, signs and ISO 8601 too, which the Collector does not.
    let go = |letter: char| letter.is_ascii_digit() || ".hmsnuµ".contains(letter);
    if !text.chars().all(go) {
        return None;
    }
    let duration: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(duration).ok()
}

/// The same, written.
pub(crate) fn go_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds, duration.subsec_nanos()) {
        (0, 0) => "0s".to_owned(),
        (seconds, 0) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, 0) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{duration:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_as_go_writes_them() {
        for (text, wanted) in [
            ("300ms", Some(Duration::from_millis(300))),
            ("5s", Some(Duration::from_secs(5))),
            ("1h30m", Some(Duration::from_mins(90))),
            ("1.5h", Some(Duration::from_mins(90))),
            ("2us", Some(Duration::from_micros(2))),
            ("2µs", Some(Duration::from_micros(2))),
            ("7ns", Some(Duration::from_nanos(7))),
            ("0", Some(Duration::ZERO)),
            ("0s", Some(Duration::ZERO)),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("5 s", None),
            ("PT5S", None),
            ("5sec", None),
            ("1d", None),
            ("h", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(go_duration(text), wanted, "{text}");
        }
    }

    #[test]
    fn writes_durations_as_go_does() {
        for text in ["0s", "1s", "90s", "2m", "1h", "300ms", "1.5s", "1µs"] {
            assert_eq!(go_text(go_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn shows_values_short_and_on_one_line() {
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert_eq!(shown(&"x".repeat(61)).len(), 65);
    }
}
