//! A pipeline: receivers, one detection, exporters. Who is owed an answer, and which.
//!
//! Receivers screen on their own tasks and send hits to the one owner of the detection, through a
//! bounded inbox. The owner makes sure there is room for what a request may cause before it lets
//! the detection see it, so a request is refused whole or taken whole. Findings that time causes
//! wait with the owner until there is room and refuse nobody.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::{
    clock,
    detection::{
        Finding,
        hit::Hit,
        screen::{Screen, Screened, Screening},
    },
    exporter::queue::Queue,
    processor::detection::Detection,
    receiver::{Consumer, Refusal},
};

/// Requests with hits that may wait for the owner.
const INBOX: usize = 64;
/// How long a sender is asked to wait when there is no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the detection hears that time passes.
const TICK: Duration = Duration::from_secs(1);
/// Findings that may wait for room with the owner, for each exporter. With so many waiting no hits
/// are taken and time stands still, so the bound holds and nothing is lost.
const OUTBOX: usize = 65_536;
/// How often the owner looks for room while findings wait.
const LOOK: Duration = Duration::from_millis(10);

/// What came in at the front.
#[derive(Debug, Default)]
pub struct Counters {
    /// Log records of requests that were taken.
    pub accepted: AtomicU64,
    /// Requests that were refused, for now or for good.
    pub refused: AtomicU64,
    /// Records that were rejected as unreadable.
    pub rejected: AtomicU64,
    /// Records that passed the byte filter.
    pub candidates: AtomicU64,
    /// Events that count.
    pub hits: AtomicU64,
}

/// The hits of one request, and the answer its sender is owed.
#[derive(Debug)]
struct Submission {
    hits: Vec<Hit>,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

/// The way in, for receivers.
#[derive(Clone, Debug)]
pub struct Intake {
    screen: Screen,
    inbox: mpsc::Sender<Submission>,
    counters: Arc<Counters>,
}

/// The owner of a detection.
pub struct Pipeline {
    id: String,
    detection: Detection,
    inbox: mpsc::Receiver<Submission>,
    outlets: Vec<Outlet>,
    /// The answer that waits until all findings have found room: a request that causes more than
    /// a queue can hold was taken while it was empty, and none like it is until all have moved on.
    owed: Option<oneshot::Sender<Result<(), Refusal>>>,
    counters: Arc<Counters>,
}

/// The way to one exporter, and what waits for room in its queue.
struct Outlet {
    queue: Queue,
    waiting: VecDeque<Arc<Finding>>,
}

impl Outlet {
    /// Moves what waits into the queue, as far as there is room; whether nothing waits any more.
    fn push_on(&mut self) -> bool {
        while let Some(finding) = self.waiting.pop_front() {
            if let Err(finding) = self.queue.try_push(finding) {
                self.waiting.push_front(finding);
                return false;
            }
        }
        true
    }
}

impl Outlet {
    /// Waits for room for all that waits. An exporter that has ended knows nothing of it, so what
    /// is lost is told here.
    async fn drain(&mut self) {
        while let Some(finding) = self.waiting.pop_front() {
            if let Err(finding) = self.queue.push(finding).await {
                error!(
                    exporter = self.queue.id(),
                    reason = "the exporter has ended before they found room in its queue",
                    findings = 1 + self.waiting.len(),
                    first_finding_id = finding.finding_id,
                    "findings were given up"
                );
                self.waiting.clear();
            }
        }
    }
}

/// A pipeline and the way into it. It ends when every copy of the intake is gone.
pub fn pipeline(id: String, detection: Detection, queues: Vec<Queue>) -> (Intake, Pipeline) {
    let (sender, inbox) = mpsc::channel(INBOX);
    let counters = Arc::new(Counters::default());
    let intake = Intake {
        screen: detection.screen().clone(),
        inbox: sender,
        counters: Arc::clone(&counters),
    };
    let outlets = queues
        .into_iter()
        .map(|queue| Outlet {
            queue,
            waiting: VecDeque::new(),
        })
        .collect();
    (
        intake,
        Pipeline {
            id,
            detection,
            inbox,
            outlets,
            owed: None,
            counters,
        },
    )
}

impl Consumer for Intake {
    fn begin(&self) -> Screening {
        self.screen.begin(clock::unix_nanos())
    }

    async fn consume(&self, screened: Screened) -> Result<(), Refusal> {
        let Screened {
            hits,
            records,
            candidates,
            unreadable,
            deselected: _,
        } = screened;
        let count = hits.len() as u64;
        // Almost every request ends here: nothing to observe, nothing to wait for.
        if count > 0
            && let Err(refusal) = self.submit(hits).await
        {
            self.refused();
            return Err(refusal);
        }
        for (counter, more) in [
            (&self.counters.accepted, records - unreadable),
            (&self.counters.rejected, unreadable),
            (&self.counters.candidates, candidates),
            (&self.counters.hits, count),
        ] {
            counter.fetch_add(more, Ordering::Relaxed);
        }
        Ok(())
    }

    fn refused(&self) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Intake {
    async fn submit(&self, hits: Vec<Hit>) -> Result<(), Refusal> {
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
    /// Runs until every intake is gone, or `cut` says that no more shall come in, and what was left
    /// to say has found room.
    pub async fn run(mut self, cut: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticked = clock::monotonic();
        loop {
            let waiting = !self.push_on();
            tokio::select! {
                submission = self.inbox.recv() => match submission {
                    Some(submission) => self.take(submission),
                    None => break,
                },
                _ = ticks.tick(), if !self.is_full() => {
                    let now = clock::monotonic();
                    let findings = self.detection.tick(now - ticked);
                    ticked = now;
                    self.send(findings);
                }
                () = tokio::time::sleep(LOOK), if waiting => {}
                // What is in the inbox already is still taken.
                () = cut.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
            }
        }
        let findings = self.detection.drain();
        self.send(findings);
        // Nobody waits for the queue of another that hangs.
        self.push_on();
        for outlet in &mut self.outlets {
            outlet.drain().await;
        }
        self.push_on();
        self.sum_up();
    }

    /// Takes a request whole or refuses it whole.
    fn take(&mut self, Submission { hits, answer }: Submission) {
        let bound = self.detection.bound(&hits);
        if !self.has_room(bound) {
            // A sender that is gone will send again all the same.
            let _sent = answer.send(Err(Refusal::Full {
                retry_after: RETRY_AFTER,
            }));
            return;
        }
        let findings = self.detection.observe(hits);
        self.send(findings);
        if bound > 0 && !self.push_on() {
            self.owed = Some(answer);
        } else {
            // What the request itself caused is queued. What time has made due meanwhile may
            // wait, but that holds nobody up.
            let _sent = answer.send(Ok(()));
        }
    }

    /// Whether every queue has room for so many findings. More than a queue can ever hold find
    /// room when it is empty; the rest then waits here, with the answer.
    fn has_room(&self, findings: usize) -> bool {
        if findings == 0 {
            return !self.is_full();
        }
        self.outlets.iter().all(|outlet| {
            outlet.waiting.is_empty()
                && outlet.queue.free() >= findings.min(outlet.queue.capacity())
        })
    }

    /// Whether so many findings wait that nothing may be added.
    fn is_full(&self) -> bool {
        self.outlets
            .iter()
            .any(|outlet| outlet.waiting.len() >= OUTBOX)
    }

    /// Hands findings to every exporter.
    fn send(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            debug!(
                pipeline = self.id,
                id = finding.finding_id,
                state = finding.state,
                src_ip = finding.src_ip,
                count = finding.count,
                "finding"
            );
            let finding = Arc::new(finding);
            for outlet in &mut self.outlets {
                outlet.waiting.push_back(Arc::clone(&finding));
            }
        }
    }

    /// Moves on what waits and answers who is owed an answer for it; whether nothing waits any more.
    fn push_on(&mut self) -> bool {
        let mut all = true;
        for outlet in &mut self.outlets {
            all &= outlet.push_on();
        }
        if all && let Some(answer) = self.owed.take() {
            let _sent = answer.send(Ok(()));
        }
        all
    }

    fn sum_up(&self) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = self.detection.stats();
        info!(
            pipeline = self.id,
            accepted_log_records = count(&self.counters.accepted),
            rejected_log_records = count(&self.counters.rejected),
            refused_requests = count(&self.counters.refused),
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
