//! Sample requests: of each distinct verb and path one, those at both ends.

use super::ends::{Bytes, Ends, Entry, NOT_FIRST, NOT_LAST, Sought, Thing, When};
use crate::{
    audit::marked,
    detection::{
        fields::{self, AuditField, Row},
        finding::Sample,
        heap,
        hit::{Texts, Values},
        time::Micros,
    },
};

/// Samples of a finding.
const MOST: usize = 10;
/// A block of texts of up to this many bytes is kept as it is, for it is shared with the hit.
const SHARED: usize = 2048;

/// One request of a distinct verb and path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) verb: Box<str>,
    pub(super) path: Box<str>,
}

impl Bytes for Request {
    fn heap_bytes(&self) -> usize {
        heap::block(self.verb.len()) + heap::block(self.path.len())
    }
}

impl Thing for Request {
    fn hash(&self) -> u64 {
        Line {
            verb: &self.verb,
            path: &self.path,
        }
        .hash()
    }
}

/// The verb and the path of a request that has come.
struct Line<'l> {
    verb: &'l str,
    path: &'l str,
}

impl Line<'_> {
    fn request(&self) -> Request {
        Request {
            verb: self.verb.into(),
            path: self.path.into(),
        }
    }
}

impl Sought<Request> for Line<'_> {
    fn is(&self, request: &Request) -> bool {
        *request.path == *self.path && *request.verb == *self.verb
    }

    fn hash(&self) -> u64 {
        // There are few verbs: those that share a path and a hash are told apart.
        marked::hash(self.path)
    }
}

impl Bytes for Texts {
    fn heap_bytes(&self) -> usize {
        Texts::heap_bytes(self)
    }
}

/// The sample requests of a finding, each with the texts of its hit.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(pub(super) Ends<Request, Texts>);

impl PartialEq for Samples {
    /// By what they show: of the texts of a hit there may be more.
    fn eq(&self, other: &Self) -> bool {
        let key = |samples: &Self| -> Vec<_> {
            let entries = samples.0.sorted().into_iter();
            let entry = |entry: &Entry<Request, Texts>| {
                let detail = |texts: &Option<Texts>| texts.as_ref().map(reduced);
                (
                    entry.thing.clone(),
                    (entry.first, detail(&entry.first_detail)),
                    (entry.last, detail(&entry.last_detail)),
                )
            };
            entries.map(entry).collect()
        };
        self.0.is_full == other.0.is_full && key(self) == key(other)
    }
}

impl Eq for Samples {}

impl Samples {
    /// Takes a hit.
    pub(super) fn add(
        &mut self,
        texts: &Texts,
        values: &[Values<'_>; fields::COUNT],
        when: When,
        value_bytes: usize,
    ) {
        let text = |field: AuditField| {
            let value = values.get(field.index()).and_then(|all| all.clone().next());
            marked::shown(value.unwrap_or_default(), value_bytes).0
        };
        let (verb, path) = (text(AuditField::Verb), text(AuditField::RequestUri));
        let line = Line {
            verb: &verb,
            path: &path,
        };
        let detail = || {
            let is_small = texts.heap_bytes() <= SHARED;
            Some(if is_small {
                texts.clone()
            } else {
                reduced(texts)
            })
        };
        let own = || line.request();
        self.0.put(&line, (when, when), MOST, (own, detail));
    }

    /// Takes the samples of another finding.
    pub(super) fn merge(&mut self, other: &Self) {
        for entry in other.0.entries() {
            let line = Line {
                verb: &entry.thing.verb,
                path: &entry.thing.path,
            };
            let own = || entry.thing.clone();
            let first = || entry.first_detail.clone();
            self.0
                .put(&line, (entry.first, NOT_LAST), MOST, (own, first));
            let last = || entry.last_detail.clone();
            self.0
                .put(&line, (NOT_FIRST, entry.last), MOST, (own, last));
        }
        self.0.is_full |= other.0.is_full;
    }

    /// The samples in order of time: of each request its first, or where it is not among the first
    /// its last.
    pub(super) fn list(&self, value_bytes: usize) -> Vec<Sample> {
        let entries = self.0.entries();
        let shown = self.0.shown(MOST);
        let mut shown: Vec<_> = shown.iter().filter_map(|at| entries.get(*at)).collect();
        let place = |entry: &Entry<Request, Texts>| {
            if entry.is_first() {
                entry.first
            } else {
                entry.last
            }
        };
        shown.sort_by(|a, b| (place(a), &a.thing).cmp(&(place(b), &b.thing)));
        let samples = shown.into_iter().map(|entry| {
            let detail = entry.first_detail.as_ref();
            let detail = detail.or(entry.last_detail.as_ref());
            let mut sample = detail.map_or_else(Sample::default, |texts| {
                of(texts, place(entry).time, value_bytes)
            });
            entry.thing.verb.as_ref().clone_into(&mut sample.verb);
            entry.thing.path.as_ref().clone_into(&mut sample.path);
            sample
        });
        samples.collect()
    }
}

/// A sample of a request.
pub(super) fn of(texts: &Texts, time: Micros, value_bytes: usize) -> Sample {
    let mut sample = Sample {
        time: Some(time.to_proto()),
        ..Sample::default()
    };
    for (row, mut values) in fields::TABLE.iter().zip(texts.rows()) {
        if let Some(shown) = sample.text_mut(row.field)
            && let Some(value) = values.next()
        {
            *shown = marked::shown(value, value_bytes).0.into_owned();
        }
    }
    sample
}

/// The texts that a sample shows.
pub(super) fn sampled() -> impl Iterator<Item = &'static Row> {
    fields::TABLE.iter().filter(|row| row.sample.is_some())
}

/// Those of the texts of a hit that a sample shows.
pub(super) fn reduced(texts: &Texts) -> Texts {
    sampled()
        .filter_map(|row| Some((row.field, texts.get(row.field)?)))
        .collect()
}
