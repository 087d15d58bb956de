//! Names of components and pipelines: `type[/name]`, as in the Collector.
use std::{fmt, str::FromStr};

use crate::visible::is_visible;

/// The id of a component or pipeline: a type and, to tell two of one type apart, a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId {
    kind: String,
    name: Option<String>,
}

impl ComponentId {
    /// The type: `splunk_hec` of `splunk_hec/soc`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The name: `soc` of `splunk_hec/soc`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        self.name.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected type[/name]: a letter, then letters, digits and underscores; \
     the name without blanks"
)]
pub struct InvalidId;

impl FromStr for ComponentId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        let mut letters = kind.chars();
        let kind_ok = letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && kind.len() <= 63;
        let name_ok = name.is_none_or(|name| {
            // As in the Collector, which allows no separators and no control or format characters.
            let odd = |letter: char| letter == ' ' || !is_visible(letter);
            !name.is_empty() && name.chars().count() <= 1024 && !name.contains(odd)
        });
        if !(kind_ok && name_ok) {
            return Err(InvalidId);
        }
        Ok(Self {
            kind: kind.to_owned(),
            name: name.map(ToOwned::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_type_and_name() {
        for text in ["otlp", "splunk_hec/soc", "a1/x/y-z.0", "Logs/ü"] {
            assert_eq!(text.parse::<ComponentId>().unwrap().to_string(), text);
        }
        let id: ComponentId = "splunk_hec/soc".parse().unwrap();
        assert_eq!((id.kind(), id.name()), ("splunk_hec", Some("soc")));
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "/",
            "otlp/",
            "/x",
            "1a",
            "_a",
            "a-b",
            "a b",
            "a/b c",
            "a/\n",
            " a",
            "a/\u{202e}",
        ] {
            assert_eq!(text.parse::<ComponentId>(), Err(InvalidId), "{text:?}");
        }
    }
}
