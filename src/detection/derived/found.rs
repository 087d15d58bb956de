//! The open findings of the detection that others are derived from: which address has one, and
//! whether it was sent.

use super::key::{Key, Network};
use crate::detection::{heap, sorted::Sorted};

/// An open finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Finding {
    pub(in crate::detection) id: u128,
    /// Whether it is only listed in the finding of its network, and not sent.
    pub(in crate::detection) is_listed: bool,
}

/// Bytes on the heap of each, and those of a list of few.
pub(in crate::detection) const ENTRY: usize = heap::entry(size_of::<(Key, Finding)>());
pub(in crate::detection) const LEAST: usize = heap::tree(1, size_of::<(Key, Finding)>());

/// Open findings by address. There are as many as keys with open findings.
#[derive(Clone, Debug, Default)]
pub(in crate::detection) struct Found(pub(in crate::detection) Sorted<Key, Finding>);

impl Found {
    pub(in crate::detection) fn get(&self, key: &Key) -> Option<&Finding> {
        self.0.get(key)
    }

    /// Those of a network that were sent, at most this many.
    pub(in crate::detection) fn sent_in(
        &self,
        network: &Network,
        most: usize,
    ) -> impl Iterator<Item = u128> + '_ {
        /// Open findings that are looked at: those that are not sent may be many.
        const LOOKED_AT: usize = 256;
        let last = Key {
            octets: network.last(),
            ..network.key()
        };
        let behind = self.0.from(&network.key()).take(LOOKED_AT);
        let inside = behind.take_while(move |(key, _)| *key <= last);
        let sent = inside.filter(|(_, finding)| !finding.is_listed);
        sent.map(|(_, finding)| finding.id).take(most)
    }
}
