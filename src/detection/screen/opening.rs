//! The screen's look at records that are no plain events in the usual form: what is inside an
//! envelope is screened as if it had come alone, and what holds no event is counted.

use std::sync::atomic::Ordering;

use super::{
    super::{
        envelope::{self, Found, Joined, Opener, Outcome, Reason},
        rule::Rule,
        shapes,
    },
    MayMatch, Read, SAMPLED, SHAPED, ScreenVisitor,
};
use crate::{
    pdata::{AnyValue, Record},
    rules::prefilter,
};

/// Of ignored records the shape of one in this many is described.
const DESCRIBED: u64 = 1000;

impl ScreenVisitor {
    /// Looks at a record that does not begin as API servers begin an event and was not read as one.
    pub(super) fn unusual(
        &mut self,
        record: &Record<'_>,
        body: &AnyValue<'_>,
        (read, may): (Read, MayMatch),
    ) {
        let is_row = read == Read::Row;
        if is_row {
            self.feed.note_row();
        }
        let is_event = !is_row && self.is_event(record, body, may);
        if is_event {
            self.feed.note_event();
        }
        let is_found = !is_event && self.open(record, body);
        if !is_found && read == Read::Broken {
            self.reject(record);
        }
    }

    /// Whether a record is an event, by the keys of its body or its attributes.
    fn is_event(&mut self, record: &Record<'_>, body: &AnyValue<'_>, may: MayMatch) -> bool {
        let in_body = match body {
            AnyValue::Text(text @ [b'{', ..]) | AnyValue::Bytes(text @ [b'{', ..]) => {
                self.glance.is_plain(text, may.body.has_code)
            }
            AnyValue::Text(text) | AnyValue::Bytes(text) => {
                let text = text.trim_ascii_start();
                self.glance.is_plain(text, may.body.has_code)
            }
            AnyValue::Map(map) => envelope::has_event_keys(map),
            _ => false,
        };
        in_body || record.has_attributes() && envelope::are_event(&record.attributes())
    }

    /// Opens the envelopes of a record; whether an event was in them.
    #[cold]
    fn open(&mut self, record: &Record<'_>, body: &AnyValue<'_>) -> bool {
        let whole = match body {
            AnyValue::Text(text) | AnyValue::Bytes(text) => match self.join(record, text) {
                Joined::Kept => return true,
                Joined::Line(line) => Some(line),
                Joined::Alone => None,
            },
            _ => None,
        };
        let joined = whole.as_deref().map(AnyValue::Text);
        let body = joined.as_ref().unwrap_or(body);
        let mut show = |found: &Found<'_>| self.found(record, found);
        let mut opener = Opener::new(&mut show);
        if may_hold(body) {
            opener.open(*body);
        } else {
            opener.outcome.ignore(reason(body));
        }
        let mut outcome = opener.outcome;
        if outcome.events == 0 && record.has_attributes() {
            opener.outcome = Outcome::default();
            opener.open(AnyValue::Map(record.attributes()));
            // What a record was ignored for is counted once.
            if opener.outcome.events > 0 || matches!(body, AnyValue::Empty) {
                outcome = opener.outcome;
            }
        }
        self.opened(record, &outcome);
        if outcome.events == 0 {
            self.describe(record, body);
        }
        outcome.events > 0
    }

    /// Counts what was in a record.
    pub(super) fn opened(&mut self, record: &Record<'_>, outcome: &Outcome) {
        self.out.opened.add(outcome);
        for _ in 0..outcome.cut.saturating_sub(u64::from(self.feed.is_cut())) {
            self.count_cut(record);
        }
    }

    /// Screens an event that was inside an envelope.
    pub(super) fn found(&mut self, record: &Record<'_>, found: &Found<'_>) {
        let mut record = *record;
        record.time_unix_nano = found.time.unwrap_or(record.time_unix_nano);
        match found.cluster {
            Some(name) if !self.is_named() => {
                self.of_cluster(name.as_bytes(), true, |screen| {
                    screen.screen_found(&record, found);
                });
            }
            _ => self.screen_found(&record, found),
        }
    }

    fn screen_found(&mut self, record: &Record<'_>, found: &Found<'_>) {
        self.feed.note_found();
        let may = MayMatch {
            body: self.may_match(&found.body),
            attributes: prefilter::MayMatch::default(),
        };
        self.read(record, &found.body, may);
    }

    /// Describes one of many ignored records.
    fn describe(&mut self, record: &Record<'_>, body: &AnyValue<'_>) {
        let number = self.screen.ignored.fetch_add(1, Ordering::Relaxed);
        // One of a request at most: a description takes memory.
        if number.is_multiple_of(DESCRIBED) && self.out.ignored == shapes::Shapes::default() {
            let shape = shapes::shape(record, body, &self.screen.rule.time_field);
            self.out.ignored.add(shape);
        }
    }

    #[cold]
    pub(super) fn sample(&mut self, record: &Record<'_>, body: &AnyValue<'_>, number: u64) {
        self.sample = Some(number + 1).filter(|next| *next < SAMPLED);
        let Rule {
            time_field,
            selector,
            ..
        } = &self.screen.rule;
        if shapes::is_event(record, body, time_field) || self.out.opened.events > 0 {
            if selector.is_empty() {
                self.out.events += 1;
                self.sample = None;
            } else {
                let matched = selector.evaluate(&record.attributes());
                *self.sampled.entry(matched).or_default() += 1;
            }
        } else if number.is_multiple_of(SHAPED) {
            self.out.shapes.add(shapes::shape(record, body, time_field));
        }
    }
}

/// Whether a body may hold an event.
fn may_hold(body: &AnyValue<'_>) -> bool {
    match body {
        AnyValue::Text(text) | AnyValue::Bytes(text) => envelope::may_hold(text),
        AnyValue::Map(map) => map.encoded().is_none_or(envelope::may_hold),
        AnyValue::Array(list) => list.encoded().is_none_or(envelope::may_hold),
        _ => false,
    }
}

/// Why a body that can hold no event is ignored.
fn reason(body: &AnyValue<'_>) -> Reason {
    match body {
        AnyValue::Empty => Reason::Empty,
        AnyValue::Text(text) | AnyValue::Bytes(text) => match text.trim_ascii_start().first() {
            None => Reason::Empty,
            Some(b'{' | b'[' | b'"') => Reason::NoEvent,
            Some(_) => Reason::NoJson,
        },
        _ => Reason::NoEvent,
    }
}
