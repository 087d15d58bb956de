//! The intake of a pipeline: what a receiver delivers to.

use std::{
    num::NonZero,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
};

use super::{
    counters::{Counters, SourceCounters},
    feed_check::{FeedCheck, IgnoredLog},
    submission::Submit,
};
use crate::{
    detection::{
        hit::Hit,
        screen::{Screen, ScreenVisitor, Screened},
    },
    receiver::{Accepted, Class, Consumer, Reason, Refusal, RejectedRecords},
    telemetry::traces::{Kind, Span, Tracer},
};

/// Why records are rejected.
const UNREADABLE: &str = "these bodies hold a denied request but are not one JSON value; \
                          check that lines are not cut or merged on their way";

/// The entry point of a pipeline, for one receiver and protocol.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Another one after a reload.
    screen: Arc<RwLock<Screen>>,
    submit: Submit,
    counters: Arc<Counters>,
    source: Arc<SourceCounters>,
    labels: Arc<SourceLabels>,
    tracer: Tracer,
    feed_check: Arc<FeedCheck>,
    ignored: Arc<IgnoredLog>,
}

/// What spans and warnings of an intake are labelled with.
#[derive(Debug, Default)]
struct SourceLabels {
    pipeline: String,
    receiver: String,
    transport: &'static str,
}

impl Consumer for Intake {
    type Visitor = ScreenVisitor;

    fn begin(&self, received: u64) -> ScreenVisitor {
        let visitor = self.screen().visitor(received);
        match self.feed_check.records_before() {
            Some(records) => visitor.sampled(records),
            None => visitor,
        }
    }

    async fn consume(&self, visited: ScreenVisitor) -> Result<Accepted, Refusal> {
        let screen = visited.screen();
        let screened = visited.into_screened();
        self.feed_check.check(&self.labels.pipeline, &screened);
        self.ignored.add(&self.labels.pipeline, &screened);
        let mut span = self.span(&screened);
        let Screened {
            hits,
            records,
            candidates,
            unreadable,
            deselected,
            activity,
            opened,
            ..
        } = screened;
        let count = hits.len() as u64;
        let mut excluded = Vec::new();
        if !screen.exclusions().is_empty() {
            excluded.extend(hits.iter().filter_map(|hit| hit.excluded));
        }
        // Almost every request has none: nothing to observe, nothing to wait for.
        if count > 0
            && let Err(refusal) = self.observe(hits, &screen, span.as_mut()).await
        {
            self.source.refused.fetch_add(records, Ordering::Relaxed);
            return Err(refusal);
        }
        self.counters.clusters.add(&activity);
        self.counters.open(&opened);
        for (counter, more) in [
            (&self.source.requests, 1),
            (&self.source.accepted, records - unreadable),
            (&self.source.refused, unreadable),
            (&self.counters.screened, records),
            (&self.counters.rejected, unreadable),
            (&self.counters.candidates, candidates),
            (&self.counters.deselected, deselected),
            (&self.counters.hits, count),
        ] {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
        let names = screen.exclusions();
        self.counters
            .exclude(excluded.iter().filter_map(|place| names.name(*place)));
        let rejected = NonZero::new(unreadable).map(|count| RejectedRecords {
            count,
            reason: UNREADABLE,
        });
        Ok(Accepted { rejected })
    }

    fn refused(&self, reason: Reason, class: Class) {
        self.source.refuse(reason, class);
    }
}

impl Intake {
    pub(super) fn new(
        pipeline: String,
        screen: Screen,
        submit: Submit,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            screen: Arc::new(RwLock::new(screen)),
            submit,
            counters,
            source: Arc::default(),
            labels: Arc::new(SourceLabels {
                pipeline,
                ..SourceLabels::default()
            }),
            tracer: Tracer::default(),
            feed_check: Arc::default(),
            ignored: Arc::new(IgnoredLog::new()),
        }
    }

    /// What one receiver and protocol counts.
    pub fn new_source(&self) -> Arc<SourceCounters> {
        let source = Arc::new(SourceCounters::default());
        self.counters
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&source));
        source
    }

    /// An intake of its own for one receiver and protocol, with what is counted there.
    #[must_use]
    pub fn for_source(
        &self,
        receiver: String,
        transport: &'static str,
        source: &Arc<SourceCounters>,
        tracer: Tracer,
    ) -> Self {
        Self {
            source: Arc::clone(source),
            labels: Arc::new(SourceLabels {
                pipeline: self.labels.pipeline.clone(),
                receiver,
                transport,
            }),
            tracer,
            ..self.clone()
        }
    }

    /// Requests that begin from now on are screened by this one, at all receivers.
    pub(super) fn screen_with(&self, screen: Screen) {
        self.counters.exclusions(screen.exclusions().names());
        *self.screen.write().unwrap_or_else(PoisonError::into_inner) = screen;
    }

    fn screen(&self) -> Screen {
        let screen = self.screen.read().unwrap_or_else(PoisonError::into_inner);
        screen.clone()
    }

    /// What the pipeline has seen so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The span of a request that has come in, if it has hits and there are spans.
    fn span(&self, screened: &Screened) -> Option<Span> {
        if screened.hits.is_empty() || !self.tracer.is_on() {
            return None;
        }
        let SourceLabels {
            pipeline,
            receiver,
            transport,
        } = &*self.labels;
        let since = Some(screened.received);
        let mut span = self
            .tracer
            .begin(format!("receiver/{receiver}/logs"), Kind::Server, since);
        span.set("receiver", receiver.clone());
        span.set("transport", *transport);
        span.set("pipeline", pipeline.clone());
        // It is over: what remains is the observation.
        let mut screen = span.part("screen", since);
        let hits = u64::try_from(screened.hits.len()).unwrap_or(u64::MAX);
        for (key, value) in [
            ("records", screened.records),
            ("candidates", screened.candidates),
            ("unreadable", screened.unreadable),
            ("hits", hits),
        ] {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            span.set(key, value);
            screen.set(key, value);
        }
        Some(span)
    }

    /// Has the engine task observe the hits of a request, within its span.
    async fn observe(
        &self,
        hits: Vec<Hit>,
        screen: &Screen,
        span: Option<&mut Span>,
    ) -> Result<(), Refusal> {
        let part = span.as_ref().map(|span| span.part("observe", None));
        let answer = self.submit.submit(hits, screen.clone()).await;
        drop(part);
        if let Some(span) = span {
            match &answer {
                Ok(findings) => {
                    span.set("findings", i64::try_from(*findings).unwrap_or(i64::MAX));
                    span.set("outcome", "accepted");
                }
                Err(refusal) => {
                    span.set("outcome", "refused");
                    span.fail(refusal.to_string());
                }
            }
        }
        answer.map(|_findings| ())
    }
}
