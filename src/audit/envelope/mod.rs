//! Envelopes: what senders put around audit events, opened.
//!
//! A plain event never comes here: the screen looks at it as it is. A record that is none may hold
//! one event or several inside an envelope, and envelopes inside each other. `Opener` takes off
//! one layer after the other and shows each event that it finds, with the time and the cluster
//! that its envelope names. Each shape has a file of its own. Nothing is collected: the items of a
//! list are shown one by one, and what had to be decoded is released before the next.
//!
//! Time and memory have bounds, whatever the input: a byte is decoded at most once a layer, there
//! are few layers, and together they hold no more than a fixed number of bytes.

mod aks;
mod carrier;
mod cloudwatch;
mod cut;
mod flat;
mod gke;
mod glance;
mod head;
mod list;
mod node;
mod outcome;
mod parts;
mod prefix;
mod respelled;
mod row;
mod shape;
mod survey;
mod whole;
mod written;

use std::borrow::Cow;

pub use self::outcome::{Outcome, Reason, Shape};
pub(crate) use self::{
    cut::salvage,
    glance::{Glance, USUAL, are_event, has_event_keys, may_hold},
    node::Node,
    parts::{Joined, Parts, Source},
    prefix::{Prefixed, split},
    row::is_row,
};
use self::{
    shape::{Opening, Within},
    survey::Survey,
    whole::{checked, trim},
};
use super::{
    event::Event,
    json::{self, NotJson},
    lexer::Lexer,
    map,
    time::Micros,
};
use crate::pdata::AnyValue;

/// Layers that are taken off one record.
const MOST_LAYERS: u8 = 8;
/// Bytes that the decoded layers of one record hold together.
pub(crate) const MOST_DECODED: usize = 16 * 1024 * 1024;

/// An event that was inside an envelope.
#[derive(Clone, Debug)]
pub(crate) struct Found<'a> {
    /// The event as the body of a record: JSON text or a map.
    pub(crate) body: AnyValue<'a>,
    /// The time that its envelope names, in nanoseconds since 1970.
    pub(crate) time: Option<u64>,
    /// The cluster that its envelope names.
    pub(crate) cluster: Option<&'a str>,
}

impl Found<'_> {
    /// The event, if it can be read; its time is that of its envelope if it has none.
    pub(crate) fn event<'e>(&'e self, time_field: &str, time: &'e mut String) -> Option<Event<'e>> {
        let mut event = match &self.body {
            AnyValue::Text(text) | AnyValue::Bytes(text) => {
                json::one(text, time_field).ok().flatten()?
            }
            AnyValue::Map(map) => map::event(map, time_field),
            _ => return None,
        };
        if event.time().is_none()
            && let Some(of_envelope) = self.time.and_then(Micros::from_unix_nanos)
        {
            *time = of_envelope.to_string();
            event.set_time(time);
        }
        Some(event)
    }
}

/// Takes envelopes off and shows the events in them.
pub(crate) struct Opener<'s> {
    show: &'s mut dyn FnMut(&Found<'_>),
    /// What was found, and what was passed over.
    pub(crate) outcome: Outcome,
    decoded: usize,
}

impl<'s> Opener<'s> {
    pub(crate) fn new(show: &'s mut dyn FnMut(&Found<'_>)) -> Self {
        Self {
            show,
            outcome: Outcome::default(),
            decoded: 0,
        }
    }

    /// Opens the body of a record or its attributes.
    pub(crate) fn open(&mut self, body: AnyValue<'_>) {
        self.value(body, Within::default());
    }

    /// Opens a text, such as a line of a file.
    pub(crate) fn open_text(&mut self, text: &[u8], time: Option<u64>) {
        self.text(text, Within::default().at(time));
    }

    fn value(&mut self, value: AnyValue<'_>, within: Within<'_>) {
        match value {
            AnyValue::Text(text) | AnyValue::Bytes(text) => self.text(text, within),
            AnyValue::Empty => self.outcome.ignore(Reason::Empty),
            other => self.node(Node::Otlp(other), within),
        }
    }

    /// Opens a text of any kind.
    fn text(&mut self, text: &[u8], within: Within<'_>) {
        if within.layer > MOST_LAYERS {
            self.outcome.ignore(Reason::TooDeep);
            return;
        }
        let text = trim(text);
        match text.first() {
            None => self.outcome.ignore(Reason::Empty),
            Some(b'{') => self.object(text, within),
            Some(b'"') => match checked(text) {
                Ok(()) => self.within(Shape::Encoded, |opener| {
                    opener.decode(Node::Json(text), within.deeper());
                }),
                Err(NotJson) => self.broken(text, within),
            },
            Some(b'[') => match checked(text) {
                Ok(()) => self.node(Node::Json(text), within),
                Err(NotJson) => self.broken(text, within),
            },
            Some(_) => match split(text) {
                Some(Prefixed {
                    shape, time, rest, ..
                }) => self.within(shape, |opener| {
                    opener.text(rest, within.deeper().at(time));
                }),
                None => self.outcome.ignore(Reason::NoJson),
            },
        }
    }

    /// Opens the text of an object.
    fn object(&mut self, text: &[u8], within: Within<'_>) {
        let mut survey = Survey::default();
        let mut lexer = Lexer::new(text);
        let read = lexer
            .members(|key, value| key.as_key(|key| survey.member(key, Node::Json(value))))
            .and_then(|()| lexer.end());
        match read {
            Ok(()) => self.decide(&survey, Node::Json(text), within),
            Err(NotJson) => self.broken(text, within),
        }
    }

    /// Opens a value that has been checked.
    fn open_node(&mut self, node: Node<'_>, within: Within<'_>) {
        if within.layer > MOST_LAYERS {
            self.outcome.ignore(Reason::TooDeep);
            return;
        }
        let mut survey = Survey::default();
        if node.members(|key, value| survey.member(key, value)) {
            self.decide(&survey, node, within);
        } else if node.is_list() {
            self.within(Shape::List, |opener| {
                node.elements(|element| opener.node(element, within.deeper()));
            });
        } else if node.is_text() {
            self.decode(node, within.deeper());
        } else {
            self.outcome.ignore(Reason::NoEvent);
        }
    }

    /// Opens the text that a string is.
    fn decode(&mut self, node: Node<'_>, within: Within<'_>) {
        let size = node.text_bytes();
        if self.decoded.saturating_add(size) > MOST_DECODED {
            self.outcome.ignore(Reason::TooLarge);
            return;
        }
        match node.text() {
            Some(Cow::Borrowed(text)) => self.text(text, within),
            Some(Cow::Owned(text)) => {
                self.decoded += size;
                self.text(&text, within);
                self.decoded -= size;
            }
            None => self.outcome.ignore(Reason::NoEvent),
        }
    }

    /// An object is an event, or one of the envelopes.
    fn decide(&mut self, survey: &Survey<'_>, node: Node<'_>, within: Within<'_>) {
        if survey.is_event() && survey.items.is_none() {
            self.found(node.body(), within);
        } else if let Some(items) = survey.items {
            self.within(Shape::EventList, |opener| list::open(opener, items, within));
        } else if let Some(events) = survey.log_events {
            self.within(Shape::CloudWatch, |opener| {
                cloudwatch::open(opener, survey, events, within);
            });
        } else if let Some(records) = survey.records {
            self.within(Shape::Aks, |opener| {
                records.elements(|record| aks::open(opener, record, within));
            });
        } else if survey.is_aks() {
            self.within(Shape::Aks, |opener| aks::open(opener, node, within));
        } else if let Some(payload) = survey.proto_payload {
            self.within(Shape::Gke, |opener| {
                gke::open(opener, node, payload, within);
            });
        } else if survey.is_respelled() {
            let event = respelled::event(node, self.left());
            self.within(Shape::Respelled, |opener| opener.written(event, within));
        } else if survey.is_flat() {
            let event = flat::event(node, self.left());
            self.within(Shape::Flat, |opener| opener.written(event, within));
        } else {
            self.within(Shape::Carrier, |opener| {
                carrier::open(opener, survey, within);
            });
        }
    }

    /// Opens objects in a row, one after the other; false when there are not several.
    fn row(&mut self, text: &[u8], within: Within<'_>) -> bool {
        let Some((first, mut rest)) = row::first(text) else {
            return false;
        };
        self.open_node(Node::Json(first), within);
        while let Some((object, behind)) = row::next(rest) {
            self.open_node(Node::Json(object), within);
            rest = behind;
        }
        // The last of them may be cut.
        if !rest.is_empty() {
            self.broken(rest, within);
        }
        true
    }

    /// What is not one JSON value: several, an event that was cut, or an envelope that was.
    fn broken(&mut self, text: &[u8], within: Within<'_>) {
        if self.row(text, within) {
            return;
        }
        if self.decoded.saturating_add(text.len()) > MOST_DECODED {
            self.outcome.ignore(Reason::TooLarge);
            return;
        }
        if let Some(event) = salvage(text) {
            self.outcome.cut += 1;
            self.found(Some(AnyValue::Text(&event)), within);
            return;
        }
        let before = self.outcome;
        if !glance::begins_as_event(text)
            && let Some(closed) = cut::close(text)
        {
            if self.decoded.saturating_add(closed.len()) > MOST_DECODED {
                self.outcome.ignore(Reason::TooLarge);
                return;
            }
            self.decoded += closed.len();
            self.text(&closed, within.deeper());
            self.decoded -= closed.len();
            if (self.outcome.events, self.outcome.cut) != (before.events, before.cut) {
                return;
            }
        } else if !cut::begins_as_event(text) {
            self.outcome.ignore(Reason::NoJson);
        }
        if cut::begins_as_event(text) {
            self.outcome = before;
            self.outcome.cut += 1;
            self.outcome.ignore(Reason::Cut);
        }
    }

    fn found(&mut self, body: Option<AnyValue<'_>>, within: Within<'_>) {
        let Some(body) = body else {
            self.outcome.ignore(Reason::NoEvent);
            return;
        };
        self.outcome.events += 1;
        (self.show)(&Found {
            body,
            time: within.time,
            cluster: within.cluster,
        });
    }

    /// Counts an envelope of this shape, if events are in it.
    fn within(&mut self, shape: Shape, open: impl FnOnce(&mut Self)) {
        let before = self.outcome.events;
        open(self);
        if self.outcome.events > before {
            self.outcome.envelope(shape);
        }
    }
}

impl Opening for Opener<'_> {
    fn node(&mut self, node: Node<'_>, within: Within<'_>) {
        self.open_node(node, within);
    }

    fn left(&self) -> usize {
        MOST_DECODED.saturating_sub(self.decoded)
    }

    fn written(&mut self, event: Option<Vec<u8>>, within: Within<'_>) {
        match event {
            Some(event) => self.found(Some(AnyValue::Text(&event)), within),
            None => self.outcome.ignore(Reason::TooLarge),
        }
    }

    fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

#[cfg(test)]
mod tests;
