//! The memory of pending findings, over all pipelines and queues, and its bound.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::detection::Finding;

/// The bytes that findings may hold until every exporter is done with them. Copies share one bound.
#[derive(Clone, Debug)]
pub struct FindingBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    bytes: AtomicUsize,
}

impl FindingBudget {
    /// Room for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit,
            bytes: AtomicUsize::new(0),
        }))
    }

    /// Bytes that findings hold now.
    pub fn heap_bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.heap_bytes() >= self.0.limit
    }
}

/// The findings of one pipeline that exporters are not done with, oldest first. Exporters deliver
/// them in this order, so those that are done with are always the first.
#[derive(Debug)]
pub(super) struct Ledger {
    budget: FindingBudget,
    pending: VecDeque<(Weak<Finding>, usize)>,
}

impl Ledger {
    pub(super) fn new(budget: FindingBudget) -> Self {
        Self {
            budget,
            pending: VecDeque::new(),
        }
    }

    /// Records a finding that goes to the exporters now.
    pub(super) fn add(&mut self, finding: &Arc<Finding>) {
        let bytes = finding.heap_bytes();
        self.budget.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.pending.push_back((Arc::downgrade(finding), bytes));
    }

    /// Removes the findings that every exporter is done with; returns whether there is room for more.
    pub(super) fn has_room(&mut self) -> bool {
        while let Some((finding, bytes)) = self.pending.front()
            && finding.strong_count() == 0
        {
            self.budget.0.bytes.fetch_sub(*bytes, Ordering::Relaxed);
            self.pending.pop_front();
        }
        !self.budget.is_full()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let bytes = self.pending.iter().map(|(_, bytes)| bytes).sum();
        self.budget.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(path_bytes: usize) -> Arc<Finding> {
        Arc::new(Finding {
            paths: vec!["x".repeat(path_bytes)],
            ..Finding::default()
        })
    }

    #[test]
    fn room_comes_back_when_every_exporter_is_done() {
        let budget = FindingBudget::new(10_000);
        let mut ledger = Ledger::new(budget.clone());
        let first = finding(6_000);
        ledger.add(&first);
        assert!(ledger.has_room());
        assert!(
            (6_000..8_000).contains(&budget.heap_bytes()),
            "{}",
            budget.heap_bytes()
        );
        let (second, other_exporter) = (finding(6_000), Arc::clone(&first));
        ledger.add(&second);
        assert!(!ledger.has_room());
        drop(first);
        assert!(!ledger.has_room());
        drop(other_exporter);
        assert!(ledger.has_room());
        let mut other_pipeline = Ledger::new(budget.clone());
        let third = finding(6_000);
        other_pipeline.add(&third);
        assert!(!ledger.has_room());
        drop(other_pipeline);
        assert!(ledger.has_room());
        drop(second);
        assert!(ledger.has_room());
        assert_eq!(budget.heap_bytes(), 0);
    }
}
