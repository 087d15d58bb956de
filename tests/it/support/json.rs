//! JSON as the tests mean it, and the many ways to spell it.

use std::fmt::Write as _;

/// A JSON value: numbers keep their spelling, keys may repeat, and a time knows what it means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum J {
    Null,
    Bool(bool),
    Num(String),
    Str(String),
    /// The event time that a text is, in microseconds since 1970, if it can be read.
    Time(String, Option<i64>),
    List(Vec<J>),
    Map(Vec<(String, J)>),
}

pub(crate) fn s(text: &str) -> J {
    J::Str(text.to_owned())
}

pub(crate) fn n(number: &str) -> J {
    J::Num(number.to_owned())
}

pub(crate) fn map<K: Into<String>>(members: impl IntoIterator<Item = (K, J)>) -> J {
    J::Map(
        members
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

/// Chance for spelling that does not depend on proptest, so that it costs shrinking nothing.
pub(crate) struct Noise(u64);

impl Noise {
    /// Noise 0 is silence: the plainest spelling.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `bound`; always 0 in silence.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if self.0 == 0 {
            return 0;
        }
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1)
            | 1;
        (self.0 >> 33) % bound
    }
}

impl J {
    /// The JSON text, spelled by chance.
    pub(crate) fn spell(&self, noise: &mut Noise) -> String {
        let mut out = String::new();
        self.write(&mut out, noise);
        out
    }

    fn write(&self, out: &mut String, noise: &mut Noise) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Num(number) => out.push_str(number),
            Self::Str(text) | Self::Time(text, _) => quote(text, out, noise),
            Self::List(list) => {
                out.push('[');
                for (at, value) in list.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    blank(out, noise);
                    value.write(out, noise);
                    blank(out, noise);
                }
                out.push(']');
            }
            Self::Map(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    blank(out, noise);
                    quote(key, out, noise);
                    blank(out, noise);
                    out.push(':');
                    blank(out, noise);
                    value.write(out, noise);
                    blank(out, noise);
                }
                out.push('}');
            }
        }
    }

    /// The last member of this key.
    pub(crate) fn last(&self, wanted: &str) -> Option<&J> {
        let Self::Map(members) = self else {
            return None;
        };
        members
            .iter()
            .rev()
            .find(|(key, _)| key == wanted)
            .map(|(_, value)| value)
    }

    /// The value as a field of the search: texts, numbers as spelled, truth values.
    pub(crate) fn value(&self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Num(text) | Self::Str(text) | Self::Time(text, _) => Some(text.clone()),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }
}

fn blank(out: &mut String, noise: &mut Noise) {
    if noise.below(8) == 1 {
        out.push_str([" ", "\t", "\r", "  \t "][usize::try_from(noise.below(4)).unwrap()]);
    }
}

fn quote(text: &str, out: &mut String, noise: &mut Noise) {
    out.push('"');
    // In some texts every letter may be escaped, in most none is.
    let often = noise.below(6) == 1;
    for c in text.chars() {
        let escaped = c < ' ' || c == '"' || c == '\\' || (often && noise.below(3) == 1);
        match c {
            // Half of a surrogate pair reads as the replacement character.
            '\u{fffd}' if noise.below(2) == 1 => out.push_str("\\ud83d"),
            '"' | '\\' if noise.below(2) == 0 => {
                out.push('\\');
                out.push(c);
            }
            '\n' if noise.below(2) == 1 => out.push_str("\\n"),
            '/' if escaped => out.push_str("\\/"),
            c if escaped => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    if noise.below(2) == 1 {
                        write!(out, "\\u{unit:04x}").unwrap();
                    } else {
                        write!(out, "\\u{unit:04X}").unwrap();
                    }
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
