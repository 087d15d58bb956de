//! The selector: which log records are looked at at all, as the macro `kube_audit` decides in
//! Splunk.
//!
//! Splunk knows records by source, sourcetype and index. The Splunk OpenTelemetry Collector carries
//! them as attributes of a record or its resource, the record's first, as its `splunk_hec` exporter
//! reads them. Without a selector the body alone decides: what looks like an audit event is one.

use crate::pdata::{AnyValue, KeyValues};

/// What the attributes of selected records hold. Keys that hold no pattern do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Patterns for `com.splunk.source`.
    pub source: Vec<Pattern>,
    /// Patterns for `com.splunk.sourcetype`.
    pub sourcetype: Vec<Pattern>,
    /// Patterns for `com.splunk.index`.
    pub index: Vec<Pattern>,
}

/// A text in which `*` stands for any text. As in a Splunk search, the case of letters (of ASCII)
/// does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern.
    pub fn new(text: &str) -> Self {
        Self(text.to_ascii_lowercase())
    }

    /// Whether a text is like this.
    ///
    /// ```
    /// use auditwatch::detection::selector::Pattern;
    ///
    /// let pattern = Pattern::new("/var/log/kube*/audit*.log");
    /// assert!(pattern.matches(b"/var/log/Kubernetes/audit.log"));
    /// assert!(!pattern.matches(b"/var/log/kubernetes/audit.log.1"));
    /// ```
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut parts = self.0.as_bytes().split(|byte| *byte == b'*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text
            .split_at_checked(first.len())
            .filter(|(head, _)| head.eq_ignore_ascii_case(first))
            .map(|(_, rest)| rest)
        else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        // The earliest place for each part leaves the most to those that follow.
        for part in parts {
            let Some(at) = find(rest, part) else {
                return false;
            };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.len()
            .checked_sub(last.len())
            .and_then(|at| rest.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(last))
    }
}

/// Where a part in lower case begins in a text in any case. The text is not copied, for it may be
/// as long as a request.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    let Some(first) = part.first() else {
        return Some(0);
    };
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), text).find(|at| {
        text.get(*at..)
            .and_then(|rest| rest.get(..part.len()))
            .is_some_and(|here| here.eq_ignore_ascii_case(part))
    })
}

/// The result of evaluating the selector on the attributes of one record or resource: for each key
/// whether a pattern matches, `None` where the key is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SelectorMatch([Option<bool>; 3]);

impl SelectorMatch {
    /// This result, completed by `other` where a key is absent.
    pub(crate) fn or(self, other: Self) -> Self {
        let Self([source, sourcetype, index]) = self;
        let Self([other_source, other_sourcetype, other_index]) = other;
        Self([
            source.or(other_source),
            sourcetype.or(other_sourcetype),
            index.or(other_index),
        ])
    }
}

impl Selector {
    /// Whether the body alone decides.
    pub fn is_empty(&self) -> bool {
        self.keys().iter().all(|(_, patterns)| patterns.is_empty())
    }

    /// The settings by name, for the fingerprint of the rule.
    pub(crate) fn settings(&self) -> [(&'static str, Vec<String>); 3] {
        let texts = |patterns: &[Pattern]| patterns.iter().map(|one| one.0.clone()).collect();
        [
            ("source", texts(&self.source)),
            ("sourcetype", texts(&self.sourcetype)),
            ("index", texts(&self.index)),
        ]
    }

    fn keys(&self) -> [(&'static [u8], &[Pattern]); 3] {
        [
            (b"com.splunk.source", &self.source),
            (b"com.splunk.sourcetype", &self.sourcetype),
            (b"com.splunk.index", &self.index),
        ]
    }

    /// Evaluates the selector on these attributes.
    pub(crate) fn evaluate(&self, attributes: &KeyValues<'_>) -> SelectorMatch {
        let mut matched = SelectorMatch::default();
        attributes.for_each(|name, value| {
            for ((key, patterns), matched) in self.keys().into_iter().zip(&mut matched.0) {
                if name == key {
                    let is_like = |text| patterns.iter().any(|pattern| pattern.matches(text));
                    *matched = Some(matches!(value, AnyValue::Text(text) if is_like(text)));
                }
            }
        });
        matched
    }

    /// Whether a record is selected. Its own attributes take precedence over those of its resource.
    pub(crate) fn selects(&self, record: SelectorMatch, resource: SelectorMatch) -> bool {
        let matched = record.0.into_iter().zip(resource.0);
        self.keys()
            .into_iter()
            .zip(matched)
            .all(|((_, patterns), (own, inherited))| {
                patterns.is_empty() || own.or(inherited).unwrap_or(false)
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, wanted) in [
            ("kubernetes", "kubernetes", true),
            ("kubernetes", "Kubernetes", true),
            ("KUBE:*", "kube:apiserver-audit", true),
            ("kubernetes", "kubernetes2", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b*", "abc", true),
            ("a*b*c", "abbc", true),
            ("a*bc*c", "abc", false),
            ("**", "x", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(text.as_bytes()),
                wanted,
                "{pattern} {text}"
            );
        }
    }

    /// The meaning of a pattern, tried letter by letter.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            ([letter, pattern @ ..], [other, text @ ..]) => letter == other && naive(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_letter_by_letter(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let wanted = naive(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Pattern::new(&pattern).matches(text.as_bytes()), wanted);
        }
    }
}
