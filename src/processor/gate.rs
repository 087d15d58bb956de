//! The gate: which findings leave a processor, by its filter.
//!
//! The first state of a finding that leaves decides for those that follow: a consumer that has seen
//! a finding sees it close. So the gate remembers the ids of open findings that have left. When
//! there is no more room for ids, later states of all findings leave unasked until all that are
//! remembered have closed.

use tracing::warn;

use super::filter::Filter;
use crate::{
    detection::{emission::Emission, finding::FindingState, sorted::Sorted},
    rules::{
        model::{Emit, Window},
        switches::Purpose,
    },
};

/// `outcome` of a finding with a request that succeeded.
const SUCCESS: &str = "success";
/// Bytes that a remembered id takes, with what its page keeps free.
const ID_BYTES: usize = 2 * size_of::<u128>();

/// What became of one state of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It leaves.
    Kept,
    /// It does not.
    Filtered,
    /// The filter said nothing about it, so it leaves.
    Failed,
}

/// The filter of a processor, and what it has let through.
#[derive(Debug, Default)]
pub struct Gate {
    filter: Option<Filter>,
    /// Whether findings of success and forgery are asked about too.
    all: bool,
    /// Ids that are remembered at most.
    most: usize,
    left: Sorted<u128, ()>,
    /// There was no room for an id since this was empty.
    has_overflowed: bool,
    filtered: u64,
    errors: u64,
}

impl Gate {
    /// A gate with this filter, which remembers at most `most` open findings. `all`: success and
    /// forgery are filtered too.
    pub fn new(filter: Option<Filter>, all: bool, most: usize) -> Self {
        Self {
            filter,
            all,
            most,
            ..Self::default()
        }
    }

    /// Ids that it remembers at most.
    pub fn most(&self) -> usize {
        self.most
    }

    /// States that did not leave.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// States about which the filter said nothing.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Bytes on the heap of what it remembers.
    pub fn heap_bytes(&self) -> usize {
        self.left.len() * ID_BYTES
    }

    /// Ids of open findings that have left, in their order, and whether there were more.
    pub(super) fn remembered(&self) -> (Sorted<u128, ()>, bool) {
        (self.left.clone(), self.has_overflowed)
    }

    /// What it remembers is copied from now on when it changes, page by page.
    pub fn share(&mut self) {
        self.left.share();
    }

    /// Takes over what another gate remembered.
    pub fn remember_all(&mut self, ids: impl IntoIterator<Item = u128>, has_overflowed: bool) {
        for id in ids {
            self.left.insert(id, ());
        }
        self.has_overflowed = has_overflowed;
    }

    /// Takes over what another gate remembered and counted.
    pub fn continue_from(&mut self, other: &Self) {
        self.left.clone_from(&other.left);
        self.has_overflowed = other.has_overflowed;
        self.filtered += other.filtered;
        self.errors += other.errors;
    }

    /// Takes away what does not leave.
    pub fn pass(&mut self, emissions: &mut Vec<Emission>) {
        emissions.retain(|emission| self.decide(emission) != Decided::Filtered);
    }

    /// Decides about the next state of a finding.
    pub fn decide(&mut self, emission: &Emission) -> Decided {
        let id = u128::from_str_radix(&emission.finding.finding_id, 16).ok();
        let Some(filter) = &self.filter else {
            // A later configuration may have one.
            if let Some(id) = id {
                self.remember(id, emission);
            }
            return Decided::Kept;
        };
        let has_left = id.is_none_or(|id| self.left.get(&id).is_some()) || self.has_overflowed;
        let is_first = emission.state == FindingState::Opened;
        let decided = if !is_first && has_left || !self.all && is_protected(emission) {
            Decided::Kept
        } else {
            match filter.keeps(&emission.finding) {
                Ok(true) => Decided::Kept,
                Ok(false) => Decided::Filtered,
                Err(error) => {
                    warn!(
                        rule = emission.detection.name(),
                        id = emission.finding.finding_id,
                        error = %error,
                        "the filter failed, the finding is kept: correct filter"
                    );
                    Decided::Failed
                }
            }
        };
        match decided {
            Decided::Filtered => self.filtered += 1,
            Decided::Failed => self.errors += 1,
            Decided::Kept => {}
        }
        if decided != Decided::Filtered
            && let Some(id) = id
        {
            self.remember(id, emission);
        }
        decided
    }

    fn remember(&mut self, id: u128, emission: &Emission) {
        let detection = &emission.detection;
        let has_one_state =
            detection.emit == Emit::Each || matches!(detection.window, Window::Tumbling { .. });
        if emission.state == FindingState::Closed {
            self.left.remove(&id);
            if self.left.len() == 0 {
                self.has_overflowed = false;
            }
        } else if !has_one_state && self.left.get(&id).is_none() {
            if self.left.len() < self.most {
                self.left.insert(id, ());
            } else {
                self.has_overflowed = true;
            }
        }
    }
}

/// Whether a finding leaves unless the filter is for all.
fn is_protected(emission: &Emission) -> bool {
    let purpose = Purpose::of(&emission.detection);
    matches!(purpose, Purpose::Success | Purpose::Forgery) || emission.finding.outcome == SUCCESS
}

#[cfg(test)]
mod tests;
