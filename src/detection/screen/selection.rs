//! What the selector says of records. Attributes of a resource may follow its records on the wire, so
//! what depends on it waits for the end of the resource.

use super::{
    super::{hit::Hit, selector::SelectorMatch},
    ScreenVisitor,
};
use crate::pdata::Record;

impl ScreenVisitor {
    /// The selector's result for a record.
    pub(super) fn matched(&self, record: &Record<'_>) -> SelectorMatch {
        let matched = self.lines.matched;
        matched.unwrap_or_else(|| self.screen.rule.selector.evaluate(&record.attributes()))
    }

    /// Counts a candidate that cannot be read.
    pub(super) fn reject(&mut self, record: &Record<'_>) {
        let selector = &self.screen.rule.selector;
        if selector.is_empty() {
            self.out.unreadable += 1;
        } else {
            let matched = self.matched(record);
            *self.broken.entry(matched).or_default() += 1;
        }
    }

    /// Removes the hits that the selector excludes. This waits for the end of the resource, whose
    /// attributes may follow its records on the wire.
    pub(super) fn select(&mut self) {
        let selector = &self.screen.rule.selector;
        if selector.is_empty() {
            return;
        }
        let resource = self.resource;
        // In place: a second list would hold as much as the first.
        let mut kept = self.resource_hits;
        for (at, matched) in (kept..self.out.hits.len()).zip(self.matches.drain(..)) {
            if selector.selects(matched, resource) {
                self.out.hits.swap(kept, at);
                kept += 1;
            } else {
                self.out.deselected += 1;
                let held = self.out.hits.get(at).map_or(0, Hit::heap_bytes);
                self.hit_bytes = self.hit_bytes.saturating_sub(held);
            }
        }
        self.out.hits.truncate(kept);
        for (matched, records) in std::mem::take(&mut self.broken) {
            if selector.selects(matched, resource) {
                self.out.unreadable += records;
            }
        }
        for (matched, records) in std::mem::take(&mut self.sampled) {
            if selector.selects(matched, resource) {
                self.out.events += records;
                self.sample = None;
            } else {
                self.out.unselected += records;
            }
        }
    }

    /// Counts a record that was cut on its way. With a selector that waits for the end of the
    /// resource.
    #[cold]
    pub(super) fn count_cut(&mut self, record: &Record<'_>) {
        let selector = &self.screen.rule.selector;
        let matched = (!selector.is_empty()).then(|| self.matched(record));
        self.feed.count_cut(matched);
    }
}
