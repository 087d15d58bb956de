//! A pipeline: receivers, one detection, exporters. Who is owed an answer, and which.
//!
//! Receivers screen on their own tasks and send hits to the one owner of the detection, through a
//! bounded inbox. The owner makes sure there is room for what a request may cause before it lets
//! the detection see it, so a request is refused whole or taken whole. Findings that time causes
//! wait with the owner until there is room and refuse nobody.

mod counters;
mod first;
mod lane;
mod ledger;

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    clock,
    detection::{
        emission::Emission,
        engine::HitCounts,
        hit::Hit,
        screen::{Screen, Screened, Screening},
    },
    exporter::queue::Queue,
    memory::Pressure,
    processor::detection::Detection,
    receiver::{Class, Consumer, Reason, Refusal},
    telemetry::traces::{Kind, Span, Tracer},
};

pub use counters::{Counters, Entry, STATES};
use first::First;
use lane::Lane;
pub use ledger::FindingBudget;
use ledger::Ledger;

/// Requests with hits that may wait for the owner.
const INBOX: usize = 64;
/// How long a sender is asked to wait when there is no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the detection hears that time passes.
const TICK: Duration = Duration::from_secs(1);
/// Steps that the owner takes before it lets others on its thread have their turn: hits taken,
/// findings closed, keys forgotten. A request may have some hundred thousand hits, and what is due
/// at one time may be as many findings.
const SLICE: usize = 64;
/// How often the owner looks for room while findings wait.
const LOOK: Duration = Duration::from_millis(10);

/// The hits of one request, and the answer its sender is owed.
#[derive(Debug)]
struct Submission {
    hits: Vec<Hit>,
    answer: oneshot::Sender<Answer>,
}

/// How many findings a request has caused, or why it has to come again.
type Answer = Result<usize, Refusal>;

/// The way in, for receivers.
#[derive(Clone, Debug)]
pub struct Intake {
    screen: Screen,
    inbox: mpsc::Sender<Submission>,
    counters: Arc<Counters>,
    entry: Arc<Entry>,
    /// Whose way it is.
    of: Arc<Of>,
    first: Arc<First>,
}

/// Who a way in belongs to, for those who look on.
#[derive(Debug, Default)]
struct Of {
    pipeline: String,
    receiver: String,
    transport: &'static str,
    tracer: Tracer,
}

/// The owner of a detection.
pub struct Pipeline {
    id: String,
    detection: Detection,
    inbox: mpsc::Receiver<Submission>,
    lanes: Vec<Lane>,
    ledger: Ledger,
    pressure: Pressure,
    /// The answer that waits until all findings have found room: a request that causes more than
    /// a queue can hold was taken while it was empty, and none like it is until all have moved on.
    owed: Option<(oneshot::Sender<Answer>, usize)>,
    /// When the detection was last told the time.
    ticked: Instant,
    /// Whether the detection has said all that time has made due.
    settled: bool,
    counters: Arc<Counters>,
}

/// A pipeline and the way into it. It ends when every copy of the intake is gone.
pub fn pipeline(
    id: String,
    detection: Detection,
    queues: Vec<Queue>,
    budget: FindingBudget,
) -> (Intake, Pipeline) {
    let (sender, inbox) = mpsc::channel(INBOX);
    let counters = Arc::new(Counters::default());
    let intake = Intake {
        screen: detection.screen().clone(),
        inbox: sender,
        counters: Arc::clone(&counters),
        entry: Arc::default(),
        of: Arc::new(Of {
            pipeline: id.clone(),
            ..Of::default()
        }),
        first: Arc::default(),
    };
    let lanes = queues.into_iter().map(Lane::new).collect();
    (
        intake,
        Pipeline {
            id,
            detection,
            inbox,
            ledger: Ledger::new(budget),
            pressure: Pressure::default(),
            lanes,
            owed: None,
            ticked: clock::monotonic(),
            settled: true,
            counters,
        },
    )
}

impl Consumer for Intake {
    fn begin(&self) -> Screening {
        let screening = self.screen.begin(clock::unix_nanos());
        match self.first.before() {
            Some(records) => screening.sampled(records),
            None => screening,
        }
    }

    async fn consume(&self, screened: Screened) -> Result<(), Refusal> {
        self.first.saw(&self.of.pipeline, &screened);
        let mut span = self.span(&screened);
        let Screened {
            hits,
            records,
            candidates,
            unreadable,
            deselected,
            ..
        } = screened;
        let count = hits.len() as u64;
        // Almost every request ends here: nothing to observe, nothing to wait for.
        if count > 0
            && let Err(refusal) = self.submit(hits, span.as_mut()).await
        {
            self.entry.refused.fetch_add(records, Ordering::Relaxed);
            return Err(refusal);
        }
        for (counter, more) in [
            (&self.entry.requests, 1),
            (&self.entry.accepted, records - unreadable),
            (&self.entry.refused, unreadable),
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
        Ok(())
    }

    fn refused(&self, reason: Reason, class: Class) {
        self.entry.refuse(reason, class);
    }
}

impl Intake {
    /// A way in of its own, for one receiver and protocol, and what is counted there.
    pub fn entry(
        &self,
        receiver: String,
        transport: &'static str,
        tracer: Tracer,
    ) -> (Self, Arc<Entry>) {
        let entry = Arc::new(Entry::default());
        self.counters
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&entry));
        let intake = Self {
            entry: Arc::clone(&entry),
            of: Arc::new(Of {
                pipeline: self.of.pipeline.clone(),
                receiver,
                transport,
                tracer,
            }),
            ..self.clone()
        };
        (intake, entry)
    }

    /// What the pipeline has seen so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The span of a request that has come in, if it has hits and there are spans.
    fn span(&self, screened: &Screened) -> Option<Span> {
        if screened.hits.is_empty() || !self.of.tracer.is_on() {
            return None;
        }
        let Of {
            receiver,
            transport,
            tracer,
            pipeline,
        } = &*self.of;
        let since = Some(screened.received);
        let mut span = tracer.begin(format!("receiver/{receiver}/logs"), Kind::Server, since);
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

    async fn submit(&self, hits: Vec<Hit>, span: Option<&mut Span>) -> Result<(), Refusal> {
        let part = span.as_ref().map(|span| span.part("observe", None));
        let answer = self.observed(hits).await;
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

    async fn observed(&self, hits: Vec<Hit>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let submission = Submission { hits, answer };
        match tokio::time::timeout(RETRY_AFTER, self.inbox.send(submission)).await {
            Ok(Ok(())) => answered.await.unwrap_or(Err(Refusal::ShuttingDown)),
            Ok(Err(_closed)) => Err(Refusal::ShuttingDown),
            Err(_full) => Err(Refusal::Full {
                retry_after: RETRY_AFTER,
            }),
        }
    }
}

impl Pipeline {
    /// Keeps less while the process takes more memory than it may.
    #[must_use]
    pub fn under(mut self, pressure: Pressure) -> Self {
        self.pressure = pressure;
        self
    }

    /// Runs until every intake is gone, or `cut` says that no more shall come in, and what was left
    /// to say has found room.
    pub async fn run(mut self, cut: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.ticked = clock::monotonic();
        loop {
            let is_full = self.is_full();
            let waiting = !self.push_on() || is_full;
            tokio::select! {
                submission = self.inbox.recv() => match submission {
                    Some(submission) => self.take(submission, &cut).await,
                    None => break,
                },
                _ = ticks.tick(), if !is_full => self.tick(),
                () = tokio::task::yield_now(), if !self.settled && !is_full => self.settle(),
                () = tokio::time::sleep(LOOK), if waiting => {}
                // What is in the inbox already is still taken.
                () = cut.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
            }
        }
        self.finish().await;
        self.sum_up();
    }

    /// Says what has not been said, and waits until every exporter has taken it or has ended.
    async fn finish(&mut self) {
        let never = CancellationToken::new();
        while !self.settled {
            self.room(&never).await;
            self.settle();
            tokio::task::yield_now().await;
        }
        loop {
            self.room(&never).await;
            let (findings, is_all) = self.detection.drain(SLICE);
            self.send(findings);
            if is_all {
                break;
            }
            tokio::task::yield_now().await;
        }
        // Lanes move on side by side: none waits for the queue of another that hangs.
        while !self.push_on() {
            for lane in self.lanes.iter_mut().filter(|lane| lane.is_closed()) {
                lane.give_up();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until there is room for more findings, unless no more may come in or an exporter has
    /// ended.
    async fn room(&mut self, cut: &CancellationToken) {
        self.push_on();
        while self.is_full() && !cut.is_cancelled() && !self.lanes.iter().any(Lane::is_closed) {
            tokio::time::sleep(LOOK).await;
            self.push_on();
        }
    }

    /// Lets the detection know how much time has passed.
    fn tick(&mut self) {
        let now = clock::monotonic();
        self.detection
            .advance(now.saturating_duration_since(self.ticked));
        self.ticked = now;
        self.settle();
    }

    /// Says some of what time has made due. The rest comes when there is room for it.
    fn settle(&mut self) {
        self.detection.keep_within(&self.pressure);
        let (findings, settled) = self.detection.settle(SLICE);
        self.settled = settled;
        self.send(findings);
        self.publish();
    }

    /// Takes a request whole or refuses it whole. Between slices of it others have their turn,
    /// findings go out, and time goes on. When its findings fill the budget it waits for room.
    async fn take(&mut self, Submission { hits, answer }: Submission, cut: &CancellationToken) {
        let bound = self.bound(&hits).await;
        if !self.has_room(bound) {
            // A sender that is gone will send again all the same.
            let _sent = answer.send(Err(Refusal::Full {
                retry_after: RETRY_AFTER,
            }));
            return;
        }
        let mut count = 0;
        let mut hits = hits.into_iter();
        loop {
            let findings = self.detection.observe(&mut hits, SLICE);
            count += findings.len();
            self.send(findings);
            self.publish();
            if hits.as_slice().is_empty() {
                break;
            }
            self.room(cut).await;
            tokio::task::yield_now().await;
            let is_due = clock::monotonic().saturating_duration_since(self.ticked) >= TICK;
            if is_due && !self.is_full() {
                self.tick();
            }
        }
        if bound > 0 && !self.push_on() {
            self.owed = Some((answer, count));
        } else {
            // What the request itself caused is queued. What time has made due meanwhile may
            // wait, but that holds nobody up.
            let _sent = answer.send(Ok(count));
        }
    }

    /// The most findings that these hits can cause.
    async fn bound(&self, hits: &[Hit]) -> usize {
        let mut counts = HitCounts::default();
        for some in hits.chunks(SLICE) {
            self.detection.count(some, &mut counts);
            if some.len() == SLICE {
                tokio::task::yield_now().await;
            }
        }
        let mut bound: usize = 0;
        while !counts.is_empty() {
            bound = bound.saturating_add(self.detection.bound_of(&mut counts, SLICE));
            if !counts.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        bound
    }

    /// Whether every queue has room for so many findings.
    fn has_room(&mut self, findings: usize) -> bool {
        if self.is_full() {
            return false;
        }
        findings == 0 || self.lanes.iter().all(|lane| lane.has_room(findings))
    }

    /// Whether so many findings wait that nothing may be added.
    fn is_full(&mut self) -> bool {
        !self.ledger.has_room() || self.lanes.iter().any(Lane::is_full)
    }

    /// Lets others see what the detection has counted.
    fn publish(&self) {
        *self
            .counters
            .detection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = self.detection.kept();
    }

    /// Hands findings to every exporter.
    fn send(&mut self, emissions: Vec<Emission>) {
        let now = clock::unix_nanos();
        for Emission { state, finding, .. } in emissions {
            debug!(
                pipeline = self.id,
                id = finding.finding_id,
                state = state.as_str(),
                src_ip = finding.src_ip,
                count = finding.count,
                "finding"
            );
            self.counters.found(state, &finding, now);
            let finding = Arc::new(finding);
            self.ledger.add(&finding);
            for lane in &mut self.lanes {
                lane.add(Arc::clone(&finding));
            }
        }
    }

    /// Moves on what waits and answers who is owed an answer for it; whether nothing waits any more.
    fn push_on(&mut self) -> bool {
        let mut all = true;
        for lane in &mut self.lanes {
            all &= lane.flush_pending();
        }
        if all && let Some((answer, count)) = self.owed.take() {
            let _sent = answer.send(Ok(count));
        }
        all
    }

    fn sum_up(&self) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = self.detection.stats();
        info!(
            pipeline = self.id,
            accepted_log_records = self.counters.over_entries(|entry| count(&entry.accepted)),
            rejected_log_records = count(&self.counters.rejected),
            refused_requests = self.counters.over_entries(Entry::all_refused_requests),
            candidates = count(&self.counters.candidates),
            hits = count(&self.counters.hits),
            repeats = stats.repeats,
            late = stats.late,
            late_dropped = stats.late_dropped,
            evicted = stats.evicted,
            "pipeline stopped"
        );
    }
}
