//! Hints for a word that is none of the known ones: a key or component type of the Collector,
//! a typing mistake, or something else.
use std::fmt;

/// Most letters of a word that are compared: without a bound a hostile file costs its length
/// squared.
const COMPARED: usize = 64;

/// The reason for a key that only the Collector has, where there is no better one.
pub(crate) const ABSENT: &str = "not available in this version";

/// A key that only the Collector has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    pub(crate) key: &'static str,
    pub(crate) advice: Advice,
    /// The values with which it may stay, because nothing is different here then. None of them: any,
    /// for the key has no effect here, which is noted. `None`: it may not stay.
    pub(crate) kept: Option<&'static [&'static str]>,
}

/// The advice for such a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Remove it, for this reason. Without a value it may stay.
    Remove(&'static str),
    /// Do this instead.
    Use(&'static str),
}

impl Advice {
    /// Why the key has no effect.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Remove(why) | Self::Use(why) => why,
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(why) => write!(f, "{why}, remove it"),
            Self::Use(what) => f.write_str(what),
        }
    }
}

/// What a word may have meant. Shown, it follows the word in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Suggestion<'a, T> {
    /// Another system has this word; this is the hint for it.
    Hint(T),
    /// It is nearly this one.
    Meant(&'a str),
    /// It is like none of these.
    Known(&'a [&'a str]),
}

impl<'a, T> Suggestion<'a, T> {
    /// The suggestion for a word that is none of the `known` ones. `hint` is its hint, if it has one.
    pub(crate) fn of(word: &str, known: &'a [&'a str], hint: Option<T>) -> Self {
        match (hint, nearest(word, known)) {
            (Some(hint), _) => Self::Hint(hint),
            (None, Some(meant)) => Self::Meant(meant),
            (None, None) => Self::Known(known),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Suggestion<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hint(hint) => write!(f, ": {hint}"),
            Self::Meant(word) => write!(f, ", did you mean {word:?}?"),
            Self::Known(known) => write!(f, ", known: {}", known.join(", ")),
        }
    }
}

/// The known word that was meant, case ignored, if one is near enough.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: String = word.to_lowercase().chars().take(COMPARED).collect();
    let distances = known
        .iter()
        .map(|known| (strsim::levenshtein(&word, &known.to_lowercase()), *known));
    // A third of a word mistyped is about as much as still shows which word was meant.
    distances
        .min()
        .filter(|(wrong, nearest)| *wrong <= nearest.len().div_ceil(3).min(3))
        .map(|(_, nearest)| nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_by_hint_nearness_or_list() {
        let known = ["window", "window_offset", "who"];
        let shown = |word, hint| Suggestion::of(word, &known, hint).to_string();
        assert_eq!(shown("windw", None), ", did you mean \"window\"?");
        assert_eq!(shown("WINDOW", None), ", did you mean \"window\"?");
        let advice = Advice::Remove("ask who");
        assert_eq!(shown("how", Some(advice)), ": ask who, remove it");
        assert_eq!(shown("zzz", None), ", known: window, window_offset, who");
        let hostile = "w".repeat(100_000);
        assert_eq!(
            Suggestion::<Advice>::of(&hostile, &known, None),
            Suggestion::Known(&known)
        );
    }
}
