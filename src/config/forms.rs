//! The forms of values: how each is read and checked, how a default is written, and what the
//! documents call it.
use std::{
    fmt::{Display, Write as _},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::{
    read::Section,
    settings::{Settings, Shown},
    value::{Value, go_text},
};

/// How a key is read and shown.
pub(crate) trait Form {
    /// The type of the value that is read.
    type Value;

    /// Reads the key of a section. What is not given, or wrong, leaves the value as it is.
    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut Self::Value);

    /// What the documents call a value: `whole number, 1 to 128`.
    fn describe(&self) -> String;

    /// A value as YAML.
    fn shown(&self, value: &Self::Value) -> Shown;
}

/// A form of single values that a text is read as.
pub(crate) trait Single {
    /// The value that the text means.
    type Value;

    /// Reads a text. It reports what is wrong.
    fn parse(&self, value: &Value<'_>) -> Option<Self::Value>;

    /// As [`Form::describe`].
    fn describe(&self) -> String;

    /// A value as YAML.
    fn text(&self, value: &Self::Value) -> String;
}

/// A single value that a key must have, or has by default.
macro_rules! single_forms {
    ($([$($generic:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generic)*> Form for $type {
            type Value = <Self as Single>::Value;

            fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut Self::Value) {
                if let Some(value) = section.value(key).and_then(|value| self.parse(&value)) {
                    *slot = value;
                }
            }

            fn describe(&self) -> String {
                Single::describe(self)
            }

            fn shown(&self, value: &Self::Value) -> Shown {
                Shown::Value(self.text(value))
            }
        }
    )*};
}

single_forms! {
    [T: FromStr + PartialOrd + Display] Number<T>,
    [] Float,
    [T: Mebibytes] Mib<T>,
    [] Time,
    [] Millis,
    [] Span,
    [] Boolean,
    [] Text,
    [] Filled,
    [T: Copy + PartialEq + 'static] OneOf<T>,
    [T: FromStr<Err: Display> + Display] Word<T>,
}

/// A single value, or none by default.
pub(crate) struct Unset<F>(pub(crate) F);

impl<F: Single> Form for Unset<F> {
    type Value = Option<F::Value>;

    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut Self::Value) {
        if let Some(value) = section.value(key).and_then(|value| self.0.parse(&value)) {
            *slot = Some(value);
        }
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn shown(&self, value: &Self::Value) -> Shown {
        let text = value.as_ref().map(|value| self.0.text(value));
        Shown::Value(text.unwrap_or_default())
    }
}

/// A whole number within bounds.
pub(crate) struct Number<T>(pub(crate) RangeInclusive<T>);

impl<T: FromStr + PartialOrd + Display> Single for Number<T> {
    type Value = T;

    fn parse(&self, value: &Value<'_>) -> Option<T> {
        value.number("whole number", &self.0)
    }

    fn describe(&self) -> String {
        format!("whole number, {} to {}", self.0.start(), self.0.end())
    }

    fn text(&self, value: &T) -> String {
        value.to_string()
    }
}

/// A number within bounds, which may have a fraction.
pub(crate) struct Float(pub(crate) RangeInclusive<f64>);

impl Single for Float {
    type Value = f64;

    fn parse(&self, value: &Value<'_>) -> Option<f64> {
        value.number("number", &self.0)
    }

    fn describe(&self) -> String {
        format!("number, {} to {}", self.0.start(), self.0.end())
    }

    fn text(&self, value: &f64) -> String {
        value.to_string()
    }
}

/// Bytes, written in MiB, up to this many MiB.
pub(crate) struct Mib<T>(pub(crate) T);

/// A number of bytes that is written in MiB.
pub(crate) trait Mebibytes: FromStr + PartialOrd + Display + Copy {
    const ONE: Self;
    fn to_bytes(self) -> Self;
    fn to_mib(self) -> Self;
}

macro_rules! mebibytes {
    ($($type:ty),*) => {$(
        impl Mebibytes for $type {
            const ONE: Self = 1;

            fn to_bytes(self) -> Self {
                self * 1024 * 1024
            }

            fn to_mib(self) -> Self {
                self / (1024 * 1024)
            }
        }
    )*};
}

mebibytes!(usize, u64);

impl<T: Mebibytes> Single for Mib<T> {
    type Value = T;

    fn parse(&self, value: &Value<'_>) -> Option<T> {
        let mib = value.number("whole number", &(T::ONE..=self.0));
        mib.map(T::to_bytes)
    }

    fn describe(&self) -> String {
        format!("MiB, 1 to {}", self.0)
    }

    fn text(&self, value: &T) -> String {
        value.to_mib().to_string()
    }
}

/// A duration within bounds.
pub(crate) struct Time(pub(crate) RangeInclusive<Duration>);

impl Single for Time {
    type Value = Duration;

    fn parse(&self, value: &Value<'_>) -> Option<Duration> {
        value.duration(&self.0)
    }

    fn describe(&self) -> String {
        format!("duration, {}", bounds(&self.0))
    }

    fn text(&self, value: &Duration) -> String {
        go_text(*value)
    }
}

fn bounds(range: &RangeInclusive<Duration>) -> String {
    format!("{} to {}", go_text(*range.start()), go_text(*range.end()))
}

/// A duration within bounds, or a plain number of milliseconds.
pub(crate) struct Millis(pub(crate) RangeInclusive<Duration>);

impl Single for Millis {
    type Value = Duration;

    fn parse(&self, value: &Value<'_>) -> Option<Duration> {
        value.millis(&self.0)
    }

    fn describe(&self) -> String {
        format!("duration or milliseconds, {}", bounds(&self.0))
    }

    fn text(&self, value: &Duration) -> String {
        go_text(*value)
    }
}

/// A span of event time in microseconds within bounds: a duration, or a plain number of seconds as
/// Splunk users write it.
pub(crate) struct Span(pub(crate) RangeInclusive<Duration>);

impl Single for Span {
    type Value = i64;

    fn parse(&self, value: &Value<'_>) -> Option<i64> {
        let span = value.span(&self.0)?;
        i64::try_from(span.as_micros()).ok()
    }

    fn describe(&self) -> String {
        format!("duration or seconds, {}", bounds(&self.0))
    }

    fn text(&self, value: &i64) -> String {
        go_text(Duration::from_micros(
            u64::try_from(*value).unwrap_or_default(),
        ))
    }
}

/// `true` or `false`.
pub(crate) struct Boolean;

impl Single for Boolean {
    type Value = bool;

    fn parse(&self, value: &Value<'_>) -> Option<bool> {
        value.choice(&[("true", true), ("false", false)])
    }

    fn describe(&self) -> String {
        "true or false".to_owned()
    }

    fn text(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// A text, which may be empty.
pub(crate) struct Text;

impl Single for Text {
    type Value = String;

    fn parse(&self, value: &Value<'_>) -> Option<String> {
        Some(value.text.clone())
    }

    fn describe(&self) -> String {
        "text".to_owned()
    }

    fn text(&self, value: &String) -> String {
        plain(value)
    }
}

/// A text as YAML: quoted where it is empty or could be read as something else.
pub(crate) fn plain(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.trim() == text
        && !text.starts_with(|first: char| "[]{},&*!|>'\"%@`#?-".contains(first))
        && !text.contains(": ")
        && !text.contains(" #");
    if is_plain {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}

/// A text that is not empty.
pub(crate) struct Filled;

impl Single for Filled {
    type Value = String;

    fn parse(&self, value: &Value<'_>) -> Option<String> {
        value.filled()
    }

    fn describe(&self) -> String {
        "text".to_owned()
    }

    fn text(&self, value: &String) -> String {
        plain(value)
    }
}

/// One of these words, case ignored.
pub(crate) struct OneOf<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Single for OneOf<T> {
    type Value = T;

    fn parse(&self, value: &Value<'_>) -> Option<T> {
        value.choice(self.0)
    }

    fn describe(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        alternatives(&words)
    }

    fn text(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, meant)| meant == value);
        found.map_or(String::new(), |(word, _)| (*word).to_owned())
    }
}

/// `a, b or c`.
pub(crate) fn alternatives(words: &[&str]) -> String {
    match words {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => words.join(", "),
    }
}

/// A word that its type reads; these are the words.
pub(crate) struct Word<T: 'static>(pub(crate) &'static [T]);

impl<T: FromStr<Err: Display> + Display> Single for Word<T> {
    type Value = T;

    fn parse(&self, value: &Value<'_>) -> Option<T> {
        value.parse()
    }

    fn describe(&self) -> String {
        let words: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        alternatives(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn text(&self, value: &T) -> String {
        value.to_string()
    }
}

/// A list, or a text with commas, whose elements this reads.
pub(crate) struct ListOf<T> {
    /// What an element is called.
    pub(crate) of: &'static str,
    /// Reads one. It reports what is wrong.
    pub(crate) parse: fn(&Value<'_>) -> Option<T>,
    /// Writes one.
    pub(crate) text: fn(&T) -> String,
}

impl<T> Form for ListOf<T> {
    type Value = Vec<T>;

    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut Vec<T>) {
        if let Some(values) = section.values(key) {
            *slot = values.iter().filter_map(self.parse).collect();
        }
    }

    fn describe(&self) -> String {
        format!("list of {}", self.of)
    }

    fn shown(&self, value: &Vec<T>) -> Shown {
        let items: Vec<_> = value.iter().map(self.text).collect();
        Shown::Value(format!("[{}]", items.join(", ")))
    }
}

/// A value with a reader of its own.
pub(crate) struct Own<T> {
    /// What a value is called.
    pub(crate) form: &'static str,
    /// Reads the key. It reports what is wrong.
    pub(crate) read: fn(&Section<'_>, &'static str) -> Option<T>,
    /// Writes a value as YAML; empty: none.
    pub(crate) text: fn(&T) -> String,
}

impl<T> Form for Own<T> {
    type Value = T;

    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut T) {
        if let Some(value) = (self.read)(section, key) {
            *slot = value;
        }
    }

    fn describe(&self) -> String {
        self.form.to_owned()
    }

    fn shown(&self, value: &T) -> Shown {
        Shown::Value((self.text)(value))
    }
}

/// A path; an empty text means no path.
pub(crate) struct OptionalPath;

impl Form for OptionalPath {
    type Value = Option<PathBuf>;

    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut Self::Value) {
        if section.get(key).is_some() {
            *slot = section.path(key);
        }
    }

    fn describe(&self) -> String {
        "path".to_owned()
    }

    fn shown(&self, _: &Self::Value) -> Shown {
        Shown::Value(String::new())
    }
}

/// A key whose value the reader of another key takes: only its form is described here.
pub(crate) struct ReadBy(pub(crate) &'static str);

impl Form for ReadBy {
    type Value = ();

    fn read(&self, _: &Section<'_>, _: &'static str, (): &mut ()) {}

    fn describe(&self) -> String {
        self.0.to_owned()
    }

    fn shown(&self, (): &()) -> Shown {
        Shown::Value(String::new())
    }
}

/// The keys of a section within.
pub(crate) struct Part<S: 'static>(pub(crate) &'static Settings<S>);

impl<S> Form for Part<S> {
    type Value = S;

    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut S) {
        let inside = section.section(key, &self.0.table);
        self.0.fill(&inside, slot);
    }

    fn describe(&self) -> String {
        String::new()
    }

    fn shown(&self, value: &S) -> Shown {
        Shown::Keys(self.0.entries(value))
    }
}

/// A list of sections, each with one key of these. It is read by a function of its own.
pub(crate) struct Elements<S: 'static>(pub(crate) &'static Settings<S>);

impl<S> Form for Elements<S> {
    type Value = S;

    fn read(&self, _: &Section<'_>, _: &'static str, _: &mut S) {}

    fn describe(&self) -> String {
        String::new()
    }

    fn shown(&self, value: &S) -> Shown {
        Shown::Elements(self.0.entries(value))
    }
}

/// A list of sections, all with these keys.
pub(crate) struct Items<S: 'static>(pub(crate) &'static Settings<S>);

impl<S> Form for Items<S> {
    type Value = Vec<S>;

    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut Vec<S>) {
        if let Some(items) = section.items(key) {
            *slot = items.into_iter().map(|item| self.0.at(item)).collect();
        }
    }

    fn describe(&self) -> String {
        String::new()
    }

    fn shown(&self, _: &Vec<S>) -> Shown {
        Shown::Items(self.0.entries(&(self.0.default)()))
    }
}

/// Writes a list of texts as YAML.
pub(crate) fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = "[".to_owned();
    for (index, value) in values.into_iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // Writing into a string cannot fail.
        let _ok = write!(text, "{comma}{value}");
    }
    text.push(']');
    text
}
