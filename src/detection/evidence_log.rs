//! The evidence log: the texts of hits that belong to no finding yet, apart from what counts them.
//!
//! Most hits are never part of a finding, and their texts are most of their memory. So a key keeps
//! of such a hit only what counts it, and the number of its texts here. All keys share one budget:
//! when it is used up, the oldest texts go. Their hits still count; a finding that they join says
//! that values are missing. A flood can so displace texts, but never a count.

use super::{heap, page::PagedQueue, texts::Texts};

/// Part of the memory of all state that the log may always take.
const PART: usize = 16;
/// As long as all state takes less than this part of its memory, the log may take the rest of it.
const SPARE: usize = 2;

/// The texts of hits by their number, in the order they came.
///
/// Invariant: `bytes` is what the texts that are still here take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EvidenceLog {
    /// Texts that came before the first that is here.
    first: u64,
    texts: PagedQueue<Texts>,
    bytes: usize,
    /// Bytes that it may take.
    most: usize,
}

impl EvidenceLog {
    /// The number of a hit without texts.
    pub(super) const BARE: u64 = 0;

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes + heap::block(self.texts.capacity() * size_of::<Texts>())
    }

    /// Copies made from now on are the same memory, until it changes here.
    pub(super) fn share(&mut self) {
        self.texts.share();
    }

    /// It may take this from now on: all state `memory` bytes, of which all other takes `others`.
    pub(super) fn limit(&mut self, memory: usize, others: usize) {
        self.most = (memory / PART).max((memory / SPARE).saturating_sub(others));
        self.keep_within(self.most);
    }

    /// Takes the texts of a hit; their number.
    pub(super) fn push(&mut self, texts: &Texts) -> u64 {
        if texts.is_empty() {
            return Self::BARE;
        }
        self.bytes += texts.heap_bytes();
        self.texts.push_back(texts.clone());
        self.keep_within(self.most);
        self.first + self.texts.len() as u64
    }

    /// The texts of this number; none when they are gone.
    pub(super) fn get(&self, number: u64) -> Texts {
        let texts = self.place(number).and_then(|at| self.texts.get(at));
        texts.cloned().unwrap_or_default()
    }

    /// The same, and they are kept here no longer.
    pub(super) fn take(&mut self, number: u64) -> Texts {
        let Some(slot) = self.place(number).and_then(|at| self.texts.get_mut(at)) else {
            return Texts::default();
        };
        let texts = std::mem::take(slot);
        self.bytes = self.bytes.saturating_sub(texts.heap_bytes());
        while self.texts.get(0).is_some_and(Texts::is_empty) {
            self.texts.pop_front();
            self.first += 1;
        }
        texts
    }

    /// How many texts came before the first that is here, and how many places there are from it
    /// on.
    pub(super) fn extent(&self) -> (u64, u64) {
        (self.first, self.texts.len() as u64)
    }

    /// A log of this extent, with these texts by their numbers.
    pub(super) fn restored(
        (first, length): (u64, u64),
        texts: impl IntoIterator<Item = (u64, Texts)>,
    ) -> Self {
        /// More places than any log has: damaged state must not take all memory.
        const MOST: usize = 1 << 26;
        let mut log = Self {
            first,
            ..Self::default()
        };
        let mut sorted: Vec<_> = texts.into_iter().collect();
        sorted.sort_by_key(|(number, _)| *number);
        let end = first.saturating_add(length);
        for (number, texts) in sorted {
            let before = number.saturating_sub(1);
            if before < first || before >= end || before - first >= MOST as u64 {
                continue;
            }
            let at = usize::try_from(before - first).unwrap_or(MOST);
            if at >= log.texts.len() {
                log.resize(at);
                log.bytes += texts.heap_bytes();
                log.texts.push_back(texts);
            }
        }
        let length = usize::try_from(length).unwrap_or(MOST).min(MOST);
        log.resize(length);
        log
    }

    /// Places for this number of texts, which are given up.
    fn resize(&mut self, length: usize) {
        while self.texts.len() < length {
            self.texts.push_back(Texts::default());
        }
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(1)?.checked_sub(self.first)?).ok()
    }

    /// Gives up the oldest texts until all take at most this many bytes.
    fn keep_within(&mut self, most: usize) {
        // The places take memory as well, also those whose texts are gone.
        while self.bytes + self.texts.len() * size_of::<Texts>() > most
            && let Some(oldest) = self.texts.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(oldest.heap_bytes());
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::fields::AuditField, *};

    fn texts(length: usize) -> Texts {
        Texts::from_iter([(AuditField::RequestUri, "x".repeat(length))])
    }

    proptest! {
        /// The latest are there, within the budget, whatever was taken meanwhile.
        #[test]
        fn the_latest_texts_are_kept(
            steps in vec((0usize..300, prop::bool::weighted(0.3)), 0..200),
            most in 0usize..4000,
        ) {
            let mut log = EvidenceLog::default();
            log.limit(most * PART, usize::MAX);
            let mut model: Vec<(u64, Texts)> = Vec::new();
            for (at, (length, is_taken)) in steps.into_iter().enumerate() {
                if is_taken && !model.is_empty() {
                    let (number, texts) = model.remove(at % model.len());
                    let taken = log.take(number);
                    prop_assert!(taken.is_empty() || taken == texts);
                    prop_assert!(log.get(number).is_empty());
                } else {
                    let number = log.push(&texts(length));
                    model.push((number, texts(length)));
                }
                let present: usize = model
                    .iter()
                    .map(|(number, _)| log.get(*number).heap_bytes())
                    .sum();
                prop_assert_eq!(log.bytes, present);
                prop_assert!(present <= most);
                // What is gone is older than all that is there.
                let gone: Vec<_> = model.iter().map(|(number, _)| log.get(*number).is_empty()).collect();
                prop_assert!(gone.is_sorted_by_key(|gone| !gone));
                let all = model.iter().map(|(number, _)| (*number, log.get(*number)));
                let all = all.filter(|(_, texts)| !texts.is_empty());
                let mut restored = EvidenceLog::restored(log.extent(), all);
                restored.limit(most * PART, usize::MAX);
                prop_assert_eq!(&restored, &log);
            }
        }
    }

    #[test]
    fn a_hit_without_texts_takes_no_place() {
        let mut log = EvidenceLog::default();
        log.limit(1 << 20, 0);
        assert_eq!(log.push(&Texts::default()), EvidenceLog::BARE);
        assert!(log.get(EvidenceLog::BARE).is_empty());
        assert_eq!(log.heap_bytes(), 0);
    }
}
