//! What requests under way hold in memory, over all connections of all receivers, and its bound.
//!
//! A request asks before it holds more: what its decoder, its longest record so far and its hits
//! take, not the bytes that went through. So large requests are as welcome as their records are
//! small, and a thousand senders that stop in the middle cannot fill the memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::Refusal;

/// What any request holds: its task, its stream, its headers.
const BASE: usize = 16 * 1024;
/// Leases grow and shrink by so much at a time, so that few frames touch what all share.
const STEP: usize = 16 * 1024;
/// How long a sender is asked to wait when there is no room.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bytes that requests under way may hold together. Copies share one bound.
#[derive(Clone, Debug)]
pub struct InFlight {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: usize,
    held: AtomicUsize,
}

impl InFlight {
    /// Room for so many bytes. One request alone may hold more, else it could never be taken.
    pub fn new(limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit,
                held: AtomicUsize::new(0),
            }),
        }
    }

    /// What is held now.
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// A request begins.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn enter(&self) -> Result<Lease, Refusal> {
        let mut lease = Lease {
            shared: Arc::clone(&self.shared),
            held: 0,
        };
        lease.hold(0)?;
        Ok(lease)
    }
}

/// What one request holds, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    held: usize,
}

impl Lease {
    /// The request holds so many bytes now, beside what every request holds.
    ///
    /// # Errors
    /// When there is no room for more.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let wanted = bytes
            .checked_next_multiple_of(STEP)
            .unwrap_or(usize::MAX)
            .saturating_add(BASE);
        if wanted <= self.held {
            self.shared
                .held
                .fetch_sub(self.held - wanted, Ordering::Relaxed);
            self.held = wanted;
            return Ok(());
        }
        let own = self.held;
        let grown = |all: usize| {
            let others = all.saturating_sub(own);
            let all = others.saturating_add(wanted);
            (others == 0 || all <= self.shared.limit).then_some(all)
        };
        self.shared
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown)
            .map_err(|_full| Refusal::Memory {
                retry_after: RETRY_AFTER,
            })?;
        self.held = wanted;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_share_a_bound_and_give_back_what_they_held() {
        let in_flight = InFlight::new(4 * BASE);
        let mut one = in_flight.enter().unwrap();
        let mut other = in_flight.enter().unwrap();
        one.hold(2 * STEP).unwrap();
        assert_eq!(in_flight.held(), 4 * BASE);
        assert!(other.hold(1).is_err());
        assert!(in_flight.enter().is_err());
        // Whoever was refused holds what it held before.
        assert_eq!(in_flight.held(), 4 * BASE);
        one.hold(STEP).unwrap();
        other.hold(STEP).unwrap();
        drop(one);
        assert_eq!(in_flight.held(), 2 * BASE);
        drop(other);
        assert_eq!(in_flight.held(), 0);
    }

    #[test]
    fn one_request_alone_may_hold_more() {
        let in_flight = InFlight::new(1);
        let mut lease = in_flight.enter().unwrap();
        lease.hold(100 * STEP).unwrap();
        assert!(in_flight.enter().is_err());
        lease.hold(usize::MAX).unwrap();
        drop(lease);
        assert_eq!(in_flight.held(), 0);
        assert!(in_flight.enter().is_ok());
    }
}
