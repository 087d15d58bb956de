//! Which labels the requests of a finding have, whatever the order of arrival.

use super::ends::When;
use crate::{
    audit::marked::shown,
    detection::{
        fields::{self, AuditField},
        heap,
        hit::{LabelSet, Values},
        time::Micros,
    },
    finding::assess,
};

/// Bytes of the verb, the path and the user agent of an example that are kept.
const EXAMPLE: [(AuditField, usize); 3] = [
    (AuditField::Verb, 32),
    (AuditField::RequestUri, 160),
    (AuditField::UserAgent, 80),
];

/// What is known of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelState {
    /// Its place in the detection.
    pub(super) place: usize,
    /// Requests that have it.
    pub(super) requests: u64,
    /// Event time of the first of them.
    pub(super) first: Micros,
    /// The first of them whose texts were kept.
    pub(super) example: Option<(When, Box<str>)>,
}

/// The labels of all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labelled {
    /// By place, in order.
    pub(super) each: Vec<LabelState>,
    /// Those that at least one request has.
    pub(super) any: LabelSet,
    /// Those that every request has; `None` before the first request.
    pub(super) all: Option<LabelSet>,
    /// Bytes on the heap of the examples.
    texts: usize,
}

impl Labelled {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        heap::list(&self.each) + self.texts
    }

    /// Takes a hit with these labels.
    pub(super) fn add(
        &mut self,
        labels: LabelSet,
        when: When,
        times: u64,
        values: Option<&[Values<'_>; fields::COUNT]>,
    ) {
        self.any.0 |= labels.0;
        self.all = Some(LabelSet(self.all.map_or(labels.0, |all| all.0 & labels.0)));
        for place in labels.iter() {
            self.add_label(place, when, times);
            let Some(label) = self.get_mut(place) else {
                continue;
            };
            if let Some(values) = values
                && label
                    .example
                    .as_ref()
                    .is_none_or(|(first, _)| when < *first)
            {
                let example = (when, example(values));
                self.set_example(place, Some(example));
            }
        }
    }

    /// Notes that one more of the requests has a label. Whether all have it stays as it was noted.
    pub(super) fn label(&mut self, place: usize, time: Micros) {
        self.any.insert(place);
        self.add_label(place, When { time, tie: 0 }, 1);
    }

    fn add_label(&mut self, place: usize, when: When, requests: u64) {
        match self.each.binary_search_by_key(&place, |label| label.place) {
            Ok(at) => {
                if let Some(label) = self.each.get_mut(at) {
                    label.requests += requests;
                    label.first = label.first.min(when.time);
                }
            }
            Err(at) => {
                self.each.reserve_exact(1);
                let label = LabelState {
                    place,
                    requests,
                    first: when.time,
                    example: None,
                };
                self.each.insert(at, label);
            }
        }
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut LabelState> {
        let at = self.each.binary_search_by_key(&place, |label| label.place);
        self.each.get_mut(at.ok()?)
    }

    fn set_example(&mut self, place: usize, example: Option<(When, Box<str>)>) {
        let bytes = |example: &Option<(When, Box<str>)>| {
            example
                .as_ref()
                .map_or(0, |(_, text)| heap::block(text.len()))
        };
        if let Some(label) = self.get_mut(place) {
            let now = bytes(&example);
            let old = std::mem::replace(&mut label.example, example);
            self.texts = (self.texts + now).saturating_sub(bytes(&old));
        }
    }

    /// Takes the labels of other requests.
    pub(super) fn merge(&mut self, other: &Self) {
        for label in &other.each {
            self.restore(label.clone());
        }
        self.all = match (self.all, other.all) {
            (Some(own), Some(other)) => Some(LabelSet(own.0 & other.0)),
            (own, other) => own.or(other),
        };
    }

    /// Takes what is known of one label of other requests.
    pub(super) fn restore(&mut self, label: LabelState) {
        self.any.insert(label.place);
        let when = When {
            time: label.first,
            tie: 0,
        };
        self.add_label(label.place, when, label.requests);
        let Some(own) = self.get_mut(label.place) else {
            return;
        };
        let is_earlier = match (&own.example, &label.example) {
            (Some(own), Some(other)) => other < own,
            (None, other) => other.is_some(),
            (Some(_), None) => false,
        };
        if is_earlier {
            self.set_example(label.place, label.example);
        }
    }
}

/// Verb, path and user agent of a request, on one line.
fn example(values: &[Values<'_>; fields::COUNT]) -> Box<str> {
    let mut example = String::new();
    for (field, most) in EXAMPLE {
        let value = values.get(field.index()).and_then(|all| all.clone().next());
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            if !example.is_empty() {
                example.push(' ');
            }
            example.push_str(&assess::word(&shown(value, most).0));
        }
    }
    example.into()
}
