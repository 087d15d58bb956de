//! Evidence as it is written into the state of the engine (`proto/auditwatch/v1/state.proto`).

use super::{
    Evidence, Paths,
    ends::{Entry, NOT_FIRST, NOT_LAST, When},
    labelled::LabelState,
    listed,
    samples::{self, Request},
    sketch::Sketch,
    values::{Many, ValueSet},
};
use crate::{
    detection::{
        fields::AuditField,
        hit::{Identity, LabelSet, Texts},
        time::Micros,
        wire::{self, StateError},
    },
    proto::state as proto,
};

/// A time at one end as it is written; none for what is not there.
fn place(when: When, none: When) -> Option<proto::Place> {
    let mut identity = [0; 16];
    let tie = when.tie.to_be_bytes();
    identity
        .iter_mut()
        .zip(tie)
        .for_each(|(to, from)| *to = from);
    let place = wire::place((when.time, Identity(identity)));
    place.filter(|_| when != none)
}

fn read_place(place: Option<proto::Place>, none: When) -> Result<When, StateError> {
    match place {
        Some(place) => Ok(wire::read_place(Some(place))?.into()),
        None => Ok(none),
    }
}

impl Evidence {
    /// As it is written into the state of the engine.
    pub(in crate::detection) fn to_state(&self) -> proto::EvidenceState {
        let codes = self.by_code.iter().map(|(code, count)| proto::CodeCount {
            code: (*code).into(),
            count: *count,
        });
        let fields = listed().zip(&self.sets);
        let fields = fields.filter(|(_, set)| !set.ends.entries().is_empty() || set.is_truncated());
        let samples = self.samples.0.sorted().into_iter();
        let successes = self.first_successes.iter();
        proto::EvidenceState {
            count: self.count,
            codes: codes.collect(),
            first: self.first.map(|time| time.0),
            last: self.last.map(|time| time.0),
            is_clamped: self.clamped,
            unverified: self.unverified,
            fields: fields.map(|((_, name), set)| field(name, set)).collect(),
            samples: samples.map(sample).collect(),
            samples_truncated: self.samples.0.is_full,
            labels: self.labels.each.iter().map(label).collect(),
            all_labels: self.labels.all.map(|all| all.0),
            write_verbs: self.write_verbs.into(),
            successes: self.successes,
            first_successes: successes
                .map(|(when, detail)| proto::SampleState {
                    place: place(*when, NOT_FIRST),
                    texts: texts(Some(detail)),
                    ..proto::SampleState::default()
                })
                .collect(),
        }
    }

    /// As it is read from the state of an engine. Fields that are not known are left out.
    pub(in crate::detection) fn from_state(
        state: proto::EvidenceState,
        paths: Paths,
    ) -> Result<Self, StateError> {
        let mut evidence = Self {
            paths,
            count: state.count,
            first: state.first.map(Micros),
            last: state.last.map(Micros),
            clamped: state.is_clamped,
            unverified: state.unverified,
            write_verbs: u16::try_from(state.write_verbs).unwrap_or_default(),
            successes: state.successes,
            ..Self::default()
        };
        for code in state.codes {
            let value = u16::try_from(code.code).map_err(|_| StateError::Invalid("status code"))?;
            evidence.count_code(value, code.count);
        }
        for field in state.fields {
            let mut sets = listed().zip(&mut evidence.sets);
            if let Some((_, set)) = sets.find(|((_, name), _)| *name == field.name) {
                *set = read_field(field)?;
            }
        }
        for sample in state.samples {
            evidence.samples.0.restore(read_sample(sample)?);
        }
        evidence.samples.0.is_full = state.samples_truncated;
        for label in state.labels {
            evidence.labels.restore(read_label(label)?);
        }
        // A version that knew no labels has written none of requests that may have had some.
        let unknown = (state.count > 0).then(LabelSet::default);
        evidence.labels.all = state.all_labels.map(LabelSet).or(unknown);
        for success in state.first_successes {
            let when = read_place(success.place, NOT_FIRST)?;
            evidence
                .first_successes
                .push((when, read_texts(success.texts)));
        }
        Ok(evidence)
    }
}

fn field(name: &str, set: &ValueSet) -> proto::FieldState {
    let values = set
        .ends
        .sorted()
        .into_iter()
        .map(|entry| proto::ValueState {
            text: entry.thing.to_string(),
            first: place(entry.first, NOT_FIRST),
            last: place(entry.last, NOT_LAST),
            is_sent: entry.is_sent,
        });
    let many = set.many.as_ref();
    let (mut hashes, mut registers) = (Vec::new(), Vec::new());
    match many.map(|many| &many.sketch) {
        Some(Sketch::Exact(exact)) => hashes.clone_from(exact),
        Some(Sketch::Estimate { registers: all, .. }) => registers = all.to_vec(),
        None => {}
    }
    proto::FieldState {
        name: name.to_owned(),
        values: values.collect(),
        is_truncated: set.ends.is_full,
        is_cut: set.is_cut,
        hashes,
        registers,
        gone: many.map(|many| many.gone.clone()).unwrap_or_default(),
    }
}

fn read_field(field: proto::FieldState) -> Result<ValueSet, StateError> {
    let mut set = ValueSet::default();
    for value in field.values {
        let first = read_place(value.first, NOT_FIRST)?;
        let last = read_place(value.last, NOT_LAST)?;
        set.ends.restore(Entry {
            thing: value.text.into(),
            first,
            last,
            first_detail: (first != NOT_FIRST).then_some(()),
            last_detail: (last != NOT_LAST).then_some(()),
            is_sent: value.is_sent,
        });
    }
    set.ends.is_full = field.is_truncated;
    set.is_cut = field.is_cut;
    let sketch = if !field.registers.is_empty() {
        Some(Sketch::of(field.registers.into()))
    } else if !field.hashes.is_empty() {
        let mut sketch = Sketch::default();
        field.hashes.iter().for_each(|hash| sketch.insert(*hash));
        Some(sketch)
    } else {
        None
    };
    set.many = sketch.map(|sketch| {
        Box::new(Many {
            sketch,
            gone: field.gone,
        })
    });
    Ok(set)
}

fn texts(detail: Option<&Texts>) -> Vec<proto::SampleText> {
    let rows = samples::sampled();
    let texts = rows.filter_map(|row| {
        Some(proto::SampleText {
            name: row.sample?.to_owned(),
            text: detail?.get(row.field)?.to_owned(),
        })
    });
    texts.collect()
}

fn read_texts(texts: Vec<proto::SampleText>) -> Texts {
    let field = |name: &str| -> Option<AuditField> {
        let mut rows = samples::sampled();
        let row = rows.find(|row| row.sample == Some(name))?;
        Some(row.field)
    };
    texts
        .into_iter()
        .filter_map(|text| Some((field(&text.name)?, text.text)))
        .collect()
}

fn sample(entry: &Entry<Request, Texts>) -> proto::SampleState {
    proto::SampleState {
        place: place(entry.first, NOT_FIRST),
        verb: entry.thing.verb.to_string(),
        path: entry.thing.path.to_string(),
        texts: texts(entry.first_detail.as_ref()),
        last: place(entry.last, NOT_LAST),
        last_texts: texts(entry.last_detail.as_ref()),
    }
}

fn read_sample(state: proto::SampleState) -> Result<Entry<Request, Texts>, StateError> {
    let first = read_place(state.place, NOT_FIRST)?;
    let last = read_place(state.last, NOT_LAST)?;
    Ok(Entry {
        thing: Request {
            verb: state.verb.into(),
            path: state.path.into(),
        },
        first,
        last,
        first_detail: (first != NOT_FIRST).then(|| read_texts(state.texts)),
        last_detail: (last != NOT_LAST).then(|| read_texts(state.last_texts)),
        is_sent: false,
    })
}

fn label(label: &LabelState) -> proto::LabelState {
    let example = label.example.as_ref();
    proto::LabelState {
        place: u32::try_from(label.place).unwrap_or(u32::MAX),
        requests: label.requests,
        first: Some(label.first.0),
        example_place: example.and_then(|(when, _)| place(*when, NOT_FIRST)),
        example: example.map_or_else(String::new, |(_, text)| text.to_string()),
    }
}

fn read_label(state: proto::LabelState) -> Result<LabelState, StateError> {
    let place = usize::try_from(state.place).unwrap_or(usize::MAX);
    if place >= LabelSet::MOST {
        return Err(StateError::Invalid("label"));
    }
    let when = read_place(state.example_place, NOT_FIRST)?;
    Ok(LabelState {
        place,
        requests: state.requests,
        first: wire::micros(state.first),
        example: (when != NOT_FIRST).then(|| (when, state.example.into())),
    })
}
