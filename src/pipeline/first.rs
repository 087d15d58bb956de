//! The first records of a pipeline: whether they are what they should be. Somebody who sends the
//! wrong logs, or the right ones in a wrong shape, would otherwise wait for findings for ever.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tracing::warn;

use crate::detection::{
    screen::{SAMPLED, Screened},
    shapes::Shapes,
};

/// What is known of the first records.
#[derive(Debug, Default)]
pub(super) struct First {
    /// An audit event has come, or it was told that none has. Nothing more is looked at.
    known: AtomicBool,
    records: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    shapes: Shapes,
    unselected: u64,
}

impl First {
    /// How many records came before, as long as it is of interest what they look like.
    pub(super) fn before(&self) -> Option<u64> {
        (!self.known.load(Ordering::Relaxed)).then(|| self.records.load(Ordering::Relaxed))
    }

    /// Takes what a request held. Warns once, when enough have come and none is an audit event.
    pub(super) fn saw(&self, pipeline: &str, screened: &Screened) {
        if self.known.load(Ordering::Relaxed) {
            return;
        }
        if screened.events > 0 {
            self.known.store(true, Ordering::Relaxed);
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.shapes.merge(&screened.shapes);
        seen.unselected += screened.unselected;
        let records =
            screened.records + self.records.fetch_add(screened.records, Ordering::Relaxed);
        // Whoever is told is told once, however many requests come at the same time.
        if records < SAMPLED || self.known.swap(true, Ordering::Relaxed) {
            return;
        }
        if seen.unselected > 0 {
            warn!(
                pipeline,
                records,
                audit_events = seen.unselected,
                "the selector has left out all audit events so far, so nothing can be found: \
                 compare it with what your collector sets, or remove it"
            );
        } else {
            warn!(
                pipeline,
                records,
                shapes = %seen.shapes,
                "no audit event has come so far, so nothing can be found: send the audit log of \
                 the API server, one event a record, as body (JSON text or map) or attributes"
            );
        }
    }
}
