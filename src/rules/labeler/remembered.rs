//! What the tests of labels have said of the texts of the last event.
//!
//! A test of one field depends on its text alone. Requests of one source have their verb, their user
//! agent and their user in common, and an expression costs more than a comparison of texts.

use std::sync::Arc;

use super::{FieldTests, Known, Labeler};
use crate::{audit::event::Field, rules::predicate::Context};

/// Longer texts are not remembered.
const MOST_BYTES: usize = 256;
/// Labelers whose tests are remembered.
const MOST: usize = 8;

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
struct Last {
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
    pub(in crate::rules) fn heap_bytes(&self) -> usize {
        let all = self.0.iter().map(|of| {
            let texts = of.fields.iter().map(|last| last.text.capacity());
            texts.sum::<usize>() + of.fields.capacity() * size_of::<Last>()
        });
        all.sum::<usize>() + self.0.capacity() * size_of::<Of>()
    }

    /// Says what is known of an event because the last one had the same texts.
    pub(super) fn recall(
        &mut self,
        labeler: &Labeler,
        context: &Context<'_, '_>,
        known: &mut Known,
    ) {
        let of = self.of(labeler);
        for (last, field) in of.iter_mut().zip(&labeler.fields) {
            last.recall(field, context);
            known.done.extend(&last.known.done);
            known.held.extend(&last.known.held);
        }
    }

    /// Notes what the tests have said of an event.
    pub(super) fn remember(&mut self, labeler: &Labeler, known: &Known) {
        for (last, field) in self.of(labeler).iter_mut().zip(&labeler.fields) {
            if last.state != State::Other {
                last.known = Known {
                    done: known.done.and(&field.tests),
                    held: known.held.and(&field.tests),
                };
            }
        }
    }

    /// What a labeler knows; nothing at first.
    fn of(&mut self, labeler: &Labeler) -> &mut [Last] {
        let known = self
            .0
            .iter()
            .position(|of| Arc::ptr_eq(&of.labeler, &labeler.own));
        let at = known.unwrap_or_else(|| {
            if self.0.len() >= MOST {
                self.0.clear();
            }
            let fields = labeler.fields.iter().map(|_| Last::default());
            self.0.push(Of {
                labeler: Arc::clone(&labeler.own),
                fields: fields.collect(),
            });
            self.0.len() - 1
        });
        self.0.get_mut(at).map_or(&mut [], |of| &mut of.fields)
    }
}

impl Last {
    /// Keeps what is known if this event has the same text, else keeps its text.
    fn recall(&mut self, of: &FieldTests, context: &Context<'_, '_>) {
        let (mut values, mut is_same, before) = (0, false, self.state);
        let mut state = State::Other;
        let is_there = of
            .operand
            .resolve(context.event, context.hops, &mut |field: Field<'_>| {
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
    }
}
