//! The texts of hits in the state: each hit is written with its own, and the evidence log is made
//! anew of them.

use std::cell::Cell;

use super::super::{
    evidence_log::EvidenceLog,
    hit::Texts,
    hits::{Kept, Slim},
    packed::Brief,
};

/// The evidence log, of which the texts of hits are written, and the first of them. Texts that no
/// hit has any more are not.
pub(super) struct Written<'a> {
    log: &'a EvidenceLog,
    first: Cell<u64>,
}

impl<'a> Written<'a> {
    pub(super) fn of(log: &'a EvidenceLog) -> Self {
        Self {
            log,
            first: Cell::new(u64::MAX),
        }
    }

    pub(super) fn texts(&self, number: u64) -> Texts {
        let texts = self.log.get(number);
        if !texts.is_empty() {
            self.first.set(self.first.get().min(number));
        }
        texts
    }

    /// The extent of what was written.
    pub(super) fn extent(&self) -> (u64, u64) {
        let (before, places) = self.log.extent();
        let end = before + places;
        let before = end.min(self.first.get().saturating_sub(1));
        (before, end - before)
    }
}

/// Texts of hits as they are read, by their numbers.
pub(super) struct ReadTexts {
    extent: (u64, u64),
    texts: Vec<(u64, Texts)>,
}

impl ReadTexts {
    pub(super) fn new(before: u64, places: u64) -> Self {
        Self {
            extent: (before, places),
            texts: Vec::new(),
        }
    }

    /// Takes a hit with its texts. Those of state without numbers get the next ones.
    pub(super) fn take(&mut self, hit: &Kept, number: u64) -> Slim {
        let texts = hit.packed.texts();
        let mut number = number;
        if number == EvidenceLog::BARE && !texts.is_empty() {
            self.extent.1 += 1;
            number = self.extent.0 + self.extent.1;
        }
        let brief = Brief::new(&hit.packed.fields(), number);
        if !texts.is_empty() {
            self.texts.push((number, texts.clone()));
        }
        Slim {
            place: hit.place,
            brief,
        }
    }

    pub(super) fn log(self) -> EvidenceLog {
        EvidenceLog::restored(self.extent, self.texts)
    }
}
