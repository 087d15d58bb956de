//! Exporter lanes: the queue of each exporter, the pending findings that wait for room in it, and the
//! answer that waits for them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{
    ledger::{FindingBudget, Ledger},
    submission::Ack,
};
use crate::{detection::Finding, exporter::queue::Queue};

/// How often the engine task looks for room while findings are pending.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Most pending findings of a lane. At this number no hits are taken and no tick is given, so the bound
/// holds and no finding is lost.
const MAX_PENDING: usize = if cfg!(test) { 64 } else { 65_536 };

/// The lanes of all exporters of a pipeline.
pub(super) struct Lanes {
    all: Vec<Lane>,
    ledger: Ledger,
    /// The answer that waits until no finding is pending: a request that causes more than a queue can
    /// hold was taken while it was empty, and none like it is taken until all of them have moved on.
    pending_ack: Option<PendingAck>,
}

struct PendingAck {
    ack: Ack,
    /// Findings that its request has caused.
    findings: usize,
}

impl Lanes {
    /// A lane for each of these queues. Their findings share a budget with those of other pipelines.
    pub(super) fn new(queues: Vec<Queue>, budget: FindingBudget) -> Self {
        Self {
            all: queues.into_iter().map(Lane::new).collect(),
            ledger: Ledger::new(budget),
            pending_ack: None,
        }
    }

    /// Findings go to these queues from now on. What is pending for another one still goes there.
    pub(super) fn change(&mut self, queues: Vec<Queue>) {
        for lane in &mut self.all {
            lane.is_leaving = true;
        }
        for queue in queues {
            match self
                .all
                .iter_mut()
                .find(|lane| lane.queue.id() == queue.id())
            {
                Some(lane) => lane.is_leaving = false,
                None => self.all.push(Lane::new(queue)),
            }
        }
        self.flush_pending();
    }

    /// The lanes that findings are added to.
    fn staying(&self) -> impl Iterator<Item = &Lane> {
        self.all.iter().filter(|lane| !lane.is_leaving)
    }

    /// Adds a finding to every lane.
    pub(super) fn add(&mut self, finding: &Arc<Finding>) {
        self.ledger.add(finding);
        for lane in self.all.iter_mut().filter(|lane| !lane.is_leaving) {
            lane.pending.push_back(Arc::clone(finding));
        }
    }

    /// Whether every queue has room for this number of findings.
    pub(super) fn has_room(&mut self, findings: usize) -> bool {
        if self.is_full() {
            return false;
        }
        findings == 0 || self.staying().all(|lane| lane.has_room(findings))
    }

    /// Whether nothing may be added: one lane is full, or the budget is.
    pub(super) fn is_full(&mut self) -> bool {
        !self.ledger.has_room() || self.staying().any(Lane::is_full)
    }

    /// Moves pending findings into the queues, as far as there is room, and sends the answer that
    /// waits for that; whether no finding is pending any more.
    pub(super) fn flush_pending(&mut self) -> bool {
        let mut is_flushed = true;
        for lane in &mut self.all {
            is_flushed &= lane.flush_pending() || lane.is_leaving;
        }
        self.all
            .retain(|lane| !lane.is_leaving || !lane.pending.is_empty());
        if is_flushed && let Some(PendingAck { ack, findings }) = self.pending_ack.take() {
            ack.send(Ok(findings));
        }
        is_flushed
    }

    /// Answers a request that has caused `findings` when none is pending any more, maybe at once.
    pub(super) fn ack_when_flushed(&mut self, ack: Ack, findings: usize) {
        if self.flush_pending() {
            ack.send(Ok(findings));
        } else {
            self.pending_ack = Some(PendingAck { ack, findings });
        }
    }

    /// Waits until there is room for more findings, unless no more may come in or an exporter has
    /// ended.
    pub(super) async fn wait_for_room(&mut self, cut: &CancellationToken) {
        self.flush_pending();
        while self.is_full() && !cut.is_cancelled() && !self.all.iter().any(Lane::is_closed) {
            tokio::time::sleep(LOOK).await;
            self.flush_pending();
        }
    }

    /// Waits until every queue has its findings, or its exporter has ended. Lanes move on side by
    /// side: none waits for the queue of another that hangs.
    pub(super) async fn drain(&mut self) {
        while !self.flush_pending() || !self.all.iter().all(|lane| lane.pending.is_empty()) {
            for lane in self.all.iter_mut().filter(|lane| lane.is_closed()) {
                lane.give_up();
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// An exporter's queue and its pending findings.
struct Lane {
    queue: Queue,
    pending: VecDeque<Arc<Finding>>,
    /// Nothing more is added, and it goes when nothing is pending.
    is_leaving: bool,
}

impl Lane {
    fn new(queue: Queue) -> Self {
        Self {
            queue,
            pending: VecDeque::new(),
            is_leaving: false,
        }
    }

    /// Whether nothing may be added.
    fn is_full(&self) -> bool {
        self.pending.len() >= MAX_PENDING
    }

    /// Whether there is room for this number of findings. More than the queue can ever hold find room
    /// when it is empty; the others are then pending.
    fn has_room(&self, findings: usize) -> bool {
        self.pending.is_empty() && self.queue.free() >= findings.min(self.queue.capacity())
    }

    /// Moves pending findings into the queue, as far as there is room; whether none is pending any
    /// more.
    fn flush_pending(&mut self) -> bool {
        while let Some(finding) = self.pending.pop_front() {
            if let Err(finding) = self.queue.try_push(finding) {
                self.pending.push_front(finding);
                return false;
            }
        }
        // After a flood it need not keep room for the next.
        self.pending.shrink_to(1024);
        true
    }

    /// Whether the exporter has ended.
    fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Gives up pending findings. An exporter that has ended knows nothing of them, so the loss is
    /// logged here.
    fn give_up(&mut self) {
        let Some(finding) = self.pending.front() else {
            return;
        };
        error!(
            exporter = self.queue.id(),
            reason = "the exporter has ended before they found room in its queue",
            findings = self.pending.len(),
            first_finding_id = finding.finding_id,
            "findings were given up"
        );
        self.queue.lost(self.pending.len());
        self.pending.clear();
    }
}
