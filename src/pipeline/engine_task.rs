//! The engine task, which alone owns a pipeline's engine. It applies the hits of requests and the
//! passing of time, one after the other, and hands the findings to the exporter lanes.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    admission::Reservation,
    change::{Change, Changing},
    counters::{Counters, SourceCounters},
    lanes::{LOOK, Lanes},
    submission::{SLICE, Submission},
};
use crate::{
    clock,
    detection::{emission::Emission, time::Micros},
    memory::Pressure,
    processor::detection::Detection,
};

/// The interval of ticks.
const TICK: Duration = Duration::from_secs(1);
/// The interval at which the engine is given what arrived of each cluster. Nothing waits for it.
const ACTIVITY: Duration = Duration::from_mins(1);

/// The engine task of a pipeline.
pub struct EngineTask {
    id: String,
    detection: Detection,
    inbox: mpsc::Receiver<Submission>,
    changes: mpsc::Receiver<Changing>,
    /// A change that came while a request was taken; its exporters have the findings already.
    changing: Option<Changing>,
    lanes: Lanes,
    pressure: Pressure,
    /// The time of the last tick.
    ticked: Instant,
    /// The time of the last activity input.
    activity: Instant,
    /// Whether the detection has emitted all findings that ticks made due.
    settled: bool,
    counters: Arc<Counters>,
}

impl EngineTask {
    pub(super) fn new(
        id: String,
        detection: Detection,
        (inbox, changes): (mpsc::Receiver<Submission>, mpsc::Receiver<Changing>),
        lanes: Lanes,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            id,
            detection,
            inbox,
            changes,
            changing: None,
            lanes,
            pressure: Pressure::default(),
            ticked: clock::monotonic(),
            activity: clock::monotonic(),
            settled: true,
            counters,
        }
    }

    /// Keeps less while the process takes more memory than it may.
    #[must_use]
    pub fn under(mut self, pressure: Pressure) -> Self {
        self.pressure = pressure;
        self
    }

    /// Runs until every intake is gone, or `cut` says that no more shall come in, and the remaining
    /// findings have found room.
    pub async fn run(mut self, cut: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.ticked = clock::monotonic();
        self.activity = self.ticked;
        self.detection.started_at(clock::unix_nanos());
        loop {
            if let Some(changing) = self.changing.take() {
                self.change(changing, &cut).await;
            }
            let is_full = self.lanes.is_full();
            let waits = !self.lanes.flush_pending() || is_full;
            tokio::select! {
                submission = self.inbox.recv() => match submission {
                    Some(submission) => self.take(submission, &cut).await,
                    None => break,
                },
                _ = ticks.tick(), if !is_full => self.tick(),
                Some(changing) = self.changes.recv() => self.change(changing, &cut).await,
                () = task::yield_now(), if !self.settled && !is_full => self.settle(),
                () = tokio::time::sleep(LOOK), if waits => {}
                // What is in the inbox already is still taken.
                () = cut.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
            }
        }
        self.drain().await;
        self.log_summary();
    }

    /// Takes a request whole or refuses it whole. Between slices of it other tasks have their turn,
    /// findings go out, and time goes on. When its findings fill the budget it waits for room.
    async fn take(&mut self, submission: Submission, cut: &CancellationToken) {
        let (hits, ack) = submission.placed(&self.detection);
        let reserved = Reservation::reserve(&self.detection, &mut self.lanes, &hits).await;
        let reservation = match reserved {
            Ok(reservation) => reservation,
            Err(refusal) => return ack.send(Err(refusal)),
        };
        let mut count = 0;
        let mut hits = hits.into_iter();
        loop {
            let findings = self.detection.observe(&mut hits, SLICE);
            count += findings.len();
            self.emit(findings);
            self.publish();
            if hits.as_slice().is_empty() {
                break;
            }
            self.wait_for_room(cut).await;
            task::yield_now().await;
            let is_due = clock::monotonic().saturating_duration_since(self.ticked) >= TICK;
            if is_due && !self.lanes.is_full() {
                self.tick();
            }
        }
        if reservation.is_empty() {
            // Findings that time has made due meanwhile may be pending. The request is safe without
            // them.
            ack.send(Ok(count));
        } else {
            self.lanes.ack_when_flushed(ack, count);
        }
    }

    /// Waits until there is room for the findings of a request that was begun. Exporters that change
    /// meanwhile do so at once: one that is removed may be what it waits for.
    async fn wait_for_room(&mut self, cut: &CancellationToken) {
        loop {
            tokio::select! {
                biased;
                Some(changing) = self.changes.recv(), if self.changing.is_none() => {
                    self.lanes.change(changing.change.queues.clone());
                    self.changing = Some(changing);
                }
                () = self.lanes.wait_for_room(cut) => return,
            }
        }
    }

    /// Goes on with other settings.
    async fn change(&mut self, changing: Changing, cut: &CancellationToken) {
        let (Change { detection, queues }, done) = changing.into_parts();
        // First: an exporter that is gone must not hold up what follows.
        self.lanes.change(queues);
        let mut begun = Vec::new();
        if let Some(detection) = detection {
            let now = Micros::from_unix_nanos(clock::unix_nanos()).unwrap_or_default();
            let before = std::mem::replace(&mut self.detection, *detection);
            begun = self.detection.begun_since(&before.known());
            let mut ended = self.detection.continue_from(before, now);
            while let Some(of) = &mut ended {
                self.lanes.wait_for_room(cut).await;
                let (findings, is_all) = of.drain(SLICE);
                self.emit(findings);
                if is_all {
                    break;
                }
                task::yield_now().await;
            }
            self.settled = false;
        }
        self.publish();
        // Who asked may be gone.
        let _sent = done.send(begun);
    }

    /// Gives the detection the time that has passed.
    fn tick(&mut self) {
        let now = clock::monotonic();
        if now.saturating_duration_since(self.activity) >= ACTIVITY {
            self.activity = now;
            let findings = self.detection.activity(&self.counters.clusters.take());
            self.emit(findings);
        }
        self.detection
            .advance(now.saturating_duration_since(self.ticked));
        self.ticked = now;
        self.settle();
    }

    /// Emits some of the findings that time has made due. The others follow when there is room.
    fn settle(&mut self) {
        self.detection.keep_within(&self.pressure);
        let (findings, settled) = self.detection.settle(SLICE);
        self.settled = settled;
        self.emit(findings);
        self.publish();
    }

    /// Emits all findings that remain, and waits until every exporter has taken them or has ended.
    async fn drain(&mut self) {
        let never = CancellationToken::new();
        while !self.settled {
            self.lanes.wait_for_room(&never).await;
            self.settle();
            task::yield_now().await;
        }
        loop {
            self.lanes.wait_for_room(&never).await;
            let (findings, is_all) = self.detection.drain(SLICE);
            self.emit(findings);
            if is_all {
                break;
            }
            task::yield_now().await;
        }
        self.lanes.drain().await;
    }

    /// Hands findings to every exporter.
    fn emit(&mut self, emissions: Vec<Emission>) {
        let now = clock::unix_nanos();
        for emission in emissions {
            let Emission {
                detection,
                state,
                finding,
            } = emission;
            debug!(
                pipeline = self.id,
                id = finding.finding_id,
                state = state.as_str(),
                src_ip = finding.src_ip,
                count = finding.count,
                "finding"
            );
            // A blind spot has no event that it could be late for.
            let now = detection.blind_spot.is_none().then_some(now);
            self.counters.found(state, &finding, now);
            self.lanes.add(&Arc::new(finding));
        }
    }

    /// Publishes what the detection has counted, for metrics.
    fn publish(&self) {
        *self
            .counters
            .detection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = self.detection.kept();
    }

    fn log_summary(&self) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = self.detection.stats();
        let counters = &self.counters;
        info!(
            pipeline = self.id,
            accepted_log_records = counters.over_sources(|source| count(&source.accepted)),
            rejected_log_records = count(&counters.rejected),
            refused_requests = counters.over_sources(SourceCounters::all_refused_requests),
            candidates = count(&counters.candidates),
            hits = count(&counters.hits),
            duplicates = stats.duplicates,
            late = stats.late,
            late_dropped = stats.late_dropped,
            evicted = stats.evicted,
            "pipeline stopped"
        );
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::{
        detection::{
            hit::{Hit, Identity},
            limits::Limits,
            rule::Rule,
        },
        exporter::queue::{self, QueueConfig},
        pipeline::{change::control, intake::Intake, ledger::FindingBudget, submission::inbox},
    };

    /// A request that waits for an exporter which delivers nothing goes on when that is removed.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_room_holds_up_no_change() {
        let rule = Rule {
            threshold: 0,
            ..Rule::default()
        };
        let detections: Vec<_> = rule.clone().into();
        let detection = Detection::new(&rule, detections, Limits::default(), &[], None).unwrap();
        let (queue, _never_read) = queue::queue("dead".to_owned(), QueueConfig { queue_size: 4 });
        let lanes = Lanes::new(vec![queue], FindingBudget::new(usize::MAX));
        let (submit, inbox) = inbox();
        let (name, counters) = ("logs".to_owned(), Arc::new(Counters::default()));
        let screen = detection.screen().clone();
        let intake = Intake::new(
            name.clone(),
            screen.clone(),
            submit.clone(),
            Arc::clone(&counters),
        );
        let (control, changes) = control(&intake);
        let task = EngineTask::new(name, detection, (inbox, changes), lanes, counters);
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run(CancellationToken::new()));
        let hits = (0_u128..300).map(|number| Hit {
            time: Some(Micros(1_795_586_400_000_000)),
            key: format!("192.0.2.{number}"),
            identity: Identity(number.to_be_bytes()),
            ..Hit::default()
        });
        let hits = hits.collect();
        let mut sending = JoinSet::new();
        sending.spawn(async move { submit.submit(hits, screen).await });
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(sending.try_join_next().is_none(), "it did not wait");
        let change = Change {
            detection: None,
            queues: Vec::new(),
        };
        let limit = Duration::from_secs(10);
        let changed = tokio::time::timeout(limit, control.apply(change)).await;
        assert_eq!(changed, Ok(Ok(Vec::new())));
        let answer = sending.join_next().await.unwrap().unwrap();
        assert!(answer.is_ok(), "{answer:?}");
    }
}
