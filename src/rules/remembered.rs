//! What the tests of labels have said of the texts of the last event.
//!
//! A test of one field depends on its text alone. Requests of one source have their verb, their user
//! agent and their user in common, and an expression costs more than a comparison of texts.

use std::sync::Arc;

use crate::audit::event::Field;

/// Distinct tests of a labeler; with more, the labels are evaluated one by one.
pub(super) const MOST_TESTS: usize = 256;
/// Longer texts are not remembered.
const MOST_BYTES: usize = 256;
/// Labelers whose tests are remembered.
const MOST: usize = 8;

/// A set of tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bits([u64; MOST_TESTS / 64]);

impl Bits {
    /// Adds a test.
    pub(super) fn insert(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// Whether a test is in it.
    pub(super) fn contains(&self, at: usize) -> bool {
        let word = self.0.get(at / 64);
        word.is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Adds all of another.
    pub(super) fn extend(&mut self, other: &Self) {
        let words = self.0.iter_mut().zip(other.0);
        words.for_each(|(word, other)| *word |= other);
    }

    /// Those that are in both.
    fn and(&self, other: &Self) -> Self {
        let mut both = *self;
        let words = both.0.iter_mut().zip(other.0);
        words.for_each(|(word, other)| *word &= other);
        both
    }
}

/// What is known of one event, or of one text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Tests that were done.
    pub(super) done: Bits,
    /// Those of them that hold.
    pub(super) held: Bits,
}

impl Known {
    /// Adds what is known besides.
    pub(super) fn extend(&mut self, other: &Self) {
        self.done.extend(&other.done);
        self.held.extend(&other.held);
    }

    /// What is known of these tests.
    pub(super) fn of(&self, tests: &Bits) -> Self {
        Self {
            done: self.done.and(tests),
            held: self.held.and(tests),
        }
    }
}

/// What is known of the texts of the last event, by labeler.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Vec<Of>);

/// What one labeler knows, by field.
#[derive(Debug)]
struct Of {
    labeler: Arc<()>,
    fields: Vec<Last>,
}

/// The last text of a field.
#[derive(Debug, Default)]
pub(super) struct Last {
    state: State,
    text: Vec<u8>,
    known: Known,
}

/// What the last event had of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Something that is not remembered.
    #[default]
    Other,
    Absent,
    /// One text.
    Text,
}

impl Remembered {
    /// Bytes that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        let all = self.0.iter().map(|of| {
            let texts = of.fields.iter().map(|last| last.text.capacity());
            texts.sum::<usize>() + of.fields.capacity() * size_of::<Last>()
        });
        all.sum::<usize>() + self.0.capacity() * size_of::<Of>()
    }

    /// What is known for a labeler with this many fields; nothing at first.
    pub(super) fn of(&mut self, labeler: &Arc<()>, fields: usize) -> &mut [Last] {
        let mut known = self.0.iter();
        let known = known.position(|of| Arc::ptr_eq(&of.labeler, labeler));
        let at = known.unwrap_or_else(|| {
            if self.0.len() >= MOST {
                self.0.clear();
            }
            let mut lasts = Vec::new();
            lasts.resize_with(fields, Last::default);
            self.0.push(Of {
                labeler: Arc::clone(labeler),
                fields: lasts,
            });
            self.0.len() - 1
        });
        self.0.get_mut(at).map_or(&mut [], |of| &mut of.fields)
    }
}

impl Last {
    /// What is known of an event, to which `resolve` leads, if it has the same text in this field. Its
    /// text is kept.
    pub(super) fn recall(
        &mut self,
        resolve: impl FnOnce(&mut dyn FnMut(Field<'_>)) -> bool,
    ) -> Known {
        let (mut values, mut is_same, before) = (0, false, self.state);
        let mut state = State::Other;
        let is_there = resolve(&mut |field: Field<'_>| {
            values += 1;
            state = State::Other;
            let Field::Text(text) = field else { return };
            let text = text.as_plain().filter(|text| text.len() <= MOST_BYTES);
            let Some(text) = text.filter(|_| values == 1) else {
                return;
            };
            state = State::Text;
            is_same = before == State::Text && *self.text == *text;
            if !is_same {
                self.text.clear();
                self.text.extend_from_slice(text);
            }
        });
        if values == 0 && !is_there {
            state = State::Absent;
            is_same = before == State::Absent;
        }
        self.state = state;
        if !is_same || state == State::Other {
            self.known = Known::default();
        }
        self.known
    }

    /// Notes what the tests of this field have said of the event.
    pub(super) fn remember(&mut self, known: Known) {
        if self.state != State::Other {
            self.known = known;
        }
    }
}
