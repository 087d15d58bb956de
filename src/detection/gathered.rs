//! What is remembered of the requests behind a row in the making: little, as long as they are few.

use std::{collections::HashSet, sync::Arc};

use super::{
    evidence::Evidence,
    finding::Finding,
    hit::{Hit, Identity},
    limits::Limits,
    packed::Fields,
    time::Micros,
};

/// The number of requests that are kept unmerged, at most, before their evidence is gathered: most
/// addresses never have more, and their texts are shared.
const FEW: usize = 16;
/// Identities up to this number are a list.
const SHORT: usize = 16;

/// Identities of requests.
pub(super) enum Identities {
    /// In order.
    Few(Vec<Identity>),
    Many(HashSet<Identity>),
}

impl Identities {
    /// Whether it is new.
    pub(super) fn insert(&mut self, identity: Identity) -> bool {
        match self {
            Self::Many(many) => many.insert(identity),
            Self::Few(few) => {
                let Err(at) = few.binary_search(&identity) else {
                    return false;
                };
                if few.len() < SHORT {
                    few.insert(at, identity);
                } else {
                    let many = few.drain(..).chain([identity]);
                    *self = Self::Many(many.collect());
                }
                true
            }
        }
    }
}

/// The requests behind a row in the making.
pub(super) enum Gathered {
    /// As they are, as long as there are few.
    Few(Vec<(Micros, Arc<Hit>)>),
    /// Time and code of all, and what they have shown.
    Many(Vec<(Micros, u16)>, Box<Evidence>),
}

impl Gathered {
    fn add(&mut self, time: Micros, hit: &Arc<Hit>) {
        if let Self::Few(few) = self {
            if few.len() < FEW {
                few.push((time, Arc::clone(hit)));
                return;
            }
            let evidence = Box::new(evidence(few));
            *self = Self::Many(self.times(), evidence);
        }
        if let Self::Many(times, evidence) = self {
            times.push((time, hit.code));
            add_to(evidence, hit, time);
        }
    }

    pub(super) fn times(&self) -> Vec<(Micros, u16)> {
        match self {
            Self::Few(few) => few.iter().map(|(time, hit)| (*time, hit.code)).collect(),
            Self::Many(times, _) => times.clone(),
        }
    }

    pub(super) fn write(&self, seen: &mut Finding) {
        match self {
            Self::Few(few) => evidence(few).write(seen, &Limits::default()),
            Self::Many(_, evidence) => evidence.write(seen, &Limits::default()),
        }
    }
}

fn add_to(evidence: &mut Evidence, hit: &Hit, time: Micros) {
    let seen = (time, hit.identity);
    evidence.add(&Fields::of(hit), seen, 1, &Limits::default());
}

fn evidence(few: &[(Micros, Arc<Hit>)]) -> Evidence {
    let mut evidence = Evidence::default();
    for (time, hit) in few {
        add_to(&mut evidence, hit, *time);
    }
    evidence
}

/// Adds a request, if it is to be remembered.
pub(super) fn add(gathered: &mut Option<Box<Gathered>>, time: Micros, hit: Option<&Arc<Hit>>) {
    if let Some(hit) = hit {
        gathered
            .get_or_insert_with(|| Box::new(Gathered::Few(Vec::new())))
            .add(time, hit);
    }
}
