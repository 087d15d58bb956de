//! Texts that are cut and stay distinct: behind the cut stands a hash of the whole.

use std::{borrow::Cow, fmt::Write as _, hash::Hasher as _};

use siphasher::sip::SipHasher13;

use super::text::Text;

/// Bytes of the mark behind a text that was cut: `~` and 16 hex digits.
const MARK: usize = 17;

/// Shows a text in pieces: whole, or as much of it as is kept and a mark behind it.
pub(crate) struct Marker<F> {
    most: usize,
    length: usize,
    is_cut: bool,
    /// Of a text that may be too long.
    hash: Option<SipHasher13>,
    show: F,
}

impl<F: FnMut(&str)> Marker<F> {
    /// Keeps at most `most` bytes of a text that has no more than `longest`.
    pub(crate) fn new(most: usize, longest: usize, show: F) -> Self {
        Self {
            most,
            length: 0,
            is_cut: false,
            hash: (longest > most).then(SipHasher13::new),
            show,
        }
    }

    /// Adds a text of the event.
    pub(crate) fn text(&mut self, text: Text<'_>) {
        text.decode(|piece| {
            self.piece(piece);
            true
        });
    }

    /// Adds to the text.
    pub(crate) fn piece(&mut self, piece: &str) {
        if let Some(hash) = &mut self.hash {
            hash.write(piece.as_bytes());
        }
        if self.is_cut {
            return;
        }
        let room = self.most.saturating_sub(self.length);
        self.is_cut = piece.len() > room;
        let kept = piece.get(..piece.floor_char_boundary(room));
        let kept = kept.unwrap_or_default();
        self.length += kept.len();
        (self.show)(kept);
    }

    /// Ends the text.
    pub(crate) fn finish(mut self) {
        if let Some(hash) = self.hash.filter(|_| self.is_cut) {
            (self.show)(&mark(&hash));
        }
    }
}

impl Text<'_> {
    /// Shows the text in pieces, or if it is longer than `most` bytes as much as fits and a hash
    /// of the whole behind it.
    pub(crate) fn marked(self, most: usize, mut show: impl FnMut(&str)) {
        if let Some(text) = self.as_plain().filter(|text| text.len() <= most)
            && let Ok(text) = std::str::from_utf8(text)
        {
            // As nearly all are.
            show(text);
            return;
        }
        let mut marker = Marker::new(most, self.longest(), show);
        marker.text(self);
        marker.finish();
    }
}

fn mark(hash: &SipHasher13) -> String {
    let mut mark = String::with_capacity(MARK);
    // Writing into a string cannot fail.
    let _ok = write!(mark, "~{:016x}", hash.finish());
    mark
}

/// A hash of a text that is the same in each process and version.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hash = SipHasher13::new();
    hash.write(text.as_bytes());
    hash.finish()
}

/// A text as [`Marker`] shows it; one that it has shown already stays as it is.
pub(crate) fn marked(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most || split(text, most).is_some() {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(most.saturating_add(MARK));
    let mut marker = Marker::new(most, text.len(), |piece| kept.push_str(piece));
    marker.piece(text);
    marker.finish();
    Cow::Owned(kept)
}

/// A text as a finding shows it, and whether it was cut: of at most `most` bytes with its mark, or
/// of the mark alone where that is longer.
pub(crate) fn shown(text: &str, most: usize) -> (Cow<'_, str>, bool) {
    if text.len() <= most {
        return (Cow::Borrowed(text), false);
    }
    let text = marked(text, most);
    let (kept, mark) = split(&text, most).unwrap_or((&text, ""));
    let keep = kept.floor_char_boundary(most.saturating_sub(MARK));
    let shown = kept.get(..keep).unwrap_or_default().to_owned() + mark;
    (Cow::Owned(shown), true)
}

/// What was kept of a text that was cut, and its mark; `None` when it was not cut.
fn split(text: &str, most: usize) -> Option<(&str, &str)> {
    /// Bytes that a character may have more than one.
    const REST: usize = 3;
    let (kept, mark) = text.split_at_checked(text.len().checked_sub(MARK)?)?;
    let digits = mark.strip_prefix('~')?;
    let is_hash = digits
        .bytes()
        .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let is_cut = kept.len() <= most && kept.len().saturating_add(REST) >= most;
    (is_hash && is_cut).then_some((kept, mark))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Read in pieces, decoded or whole: a text is marked in one way, and marked once.
        #[test]
        fn a_text_is_marked_in_one_way(text in "[a-zé😀 \n]{0,60}", most in 0usize..80) {
            let wanted = marked(&text, most).into_owned();
            prop_assert_eq!(wanted == text, text.len() <= most);
            prop_assert!(wanted.len() <= most + MARK);
            prop_assert_eq!(&marked(&wanted, most), &wanted);
            let quoted = serde_json::to_string(&text).unwrap();
            let inner = quoted.trim_matches('"').as_bytes();
            for view in [Text::plain(text.as_bytes()), Text::quoted(inner, true)] {
                let mut got = String::new();
                view.marked(most, |piece| got.push_str(piece));
                prop_assert_eq!(&got, &wanted);
            }
            let (shown, is_cut) = shown(&wanted, most);
            prop_assert_eq!(is_cut, text.len() > most);
            prop_assert!(shown.len() <= most.max(MARK));
            prop_assert_eq!(&shown, &super::shown(&text, most).0);
        }
    }

    #[test]
    fn texts_that_differ_behind_the_cut_stay_distinct() {
        let texts: std::collections::BTreeSet<_> = (0..200)
            .map(|n| {
                shown(&format!("/{}{n}", "x".repeat(1100)), 1024)
                    .0
                    .into_owned()
            })
            .collect();
        assert_eq!(texts.len(), 200);
        assert!(texts.iter().all(|text| text.len() == 1024));
    }
}
