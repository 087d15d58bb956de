//! The feed check: whether the first records of a pipeline are audit events. A sender of the wrong
//! logs, or of the right ones in a wrong shape, would otherwise wait for findings that never come.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::warn;

use crate::{
    detection::{
        screen::{SAMPLED, Screened},
        shapes::Shapes,
    },
    throttle::{Detail, Limits, Line, Throttle},
};

/// How often the log says what is ignored.
const PERIOD: Duration = Duration::from_mins(30);

/// What is ignored, in the log: now and then, with a sample of it.
#[derive(Debug)]
pub(super) struct IgnoredLog(Throttle<String, Ignored>);

/// Records that were ignored.
struct Ignored {
    records: u64,
    shapes: Shapes,
}

impl Detail for Ignored {
    fn join(&mut self, later: Self) {
        self.records += later.records;
        self.shapes.merge(&later.shapes);
    }
}

impl IgnoredLog {
    pub(super) fn new() -> Self {
        let limits = Limits {
            period: PERIOD,
            ..Limits::default()
        };
        Self(Throttle::with(
            limits,
            |line: &Line<'_, String, Ignored>| {
                let pipeline = line.key.map_or("others", String::as_str);
                let Ignored { records, shapes } = line.detail;
                warn!(
                        pipeline,
                        records,
                        sample = %shapes,
                        "records are ignored, because they are no events of audit.k8s.io; \
                     auditwatch_ignored_records counts them by reason, docs/feeds.md says what is read"
                );
            },
        ))
    }

    /// Takes what was ignored of a request.
    pub(super) fn add(&self, pipeline: &str, screened: &Screened) {
        let records = screened.opened.all_ignored();
        if records > 0 {
            let shapes = screened.ignored.clone();
            self.0.log(pipeline.to_owned(), Ignored { records, shapes });
        }
    }
}

/// The check on the first records of a pipeline.
#[derive(Debug, Default)]
pub(super) struct FeedCheck {
    /// Done: an audit event arrived, or the warning was logged.
    done: AtomicBool,
    records: AtomicU64,
    sample: Mutex<Sample>,
}

#[derive(Debug, Default)]
struct Sample {
    shapes: Shapes,
    unselected: u64,
}

impl FeedCheck {
    /// How many records came before, as long as the check is not done.
    pub(super) fn records_before(&self) -> Option<u64> {
        (!self.done.load(Ordering::Relaxed)).then(|| self.records.load(Ordering::Relaxed))
    }

    /// Checks the records of a request. Warns once, when enough records arrived without an audit event.
    pub(super) fn check(&self, pipeline: &str, screened: &Screened) {
        if self.done.load(Ordering::Relaxed) {
            return;
        }
        if screened.events > 0 {
            self.done.store(true, Ordering::Relaxed);
            return;
        }
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        sample.shapes.merge(&screened.shapes);
        sample.unselected += screened.unselected;
        let records =
            screened.records + self.records.fetch_add(screened.records, Ordering::Relaxed);
        // One warning, however many requests come at the same time.
        if records < SAMPLED || self.done.swap(true, Ordering::Relaxed) {
            return;
        }
        if sample.unselected > 0 {
            warn!(
                pipeline,
                records,
                audit_events = sample.unselected,
                "the selector has left out all audit events so far, so nothing can be found: \
                 compare it with what your collector sets, or remove it"
            );
        } else {
            warn!(
                pipeline,
                records,
                shapes = %sample.shapes,
                "no audit event has come so far, so nothing can be found: send the audit log of \
                 the API server, one event a record, as body (JSON text or map) or attributes"
            );
        }
    }
}
