//! A pipeline: receivers, one detection, exporters.
//!
//! Receivers screen on their own tasks. What they find goes, in this order:
//!
//! 1. [`Intake`]: the consumer of a receiver. A request without hits is answered at once, the hits of
//!    another go to the engine task, through a bounded inbox.
//! 2. `admission`: makes sure that there is room for all findings that the hits can cause, before the
//!    engine sees one of them. So a request is taken whole or refused whole.
//! 3. [`EngineTask`] owns the engine. It applies hits and ticks and gets findings.
//! 4. `lanes`: one for each exporter, with its queue and the pending findings that wait for room in
//!    it. Findings that time causes wait here too, and refuse no request.

mod admission;
mod change;
mod clusters;
mod counters;
mod durable;
mod engine_task;
mod feed_check;
mod intake;
mod lanes;
mod ledger;
mod outbox;
mod pace;
mod recovery;
#[cfg(test)]
mod simulation;
mod submission;

use std::sync::Arc;

pub use change::{Change, Control, PipelineEnded};
pub use clusters::{ClusterTotals, Clusters};
pub use counters::{Counters, STATES, SourceCounters};
pub use durable::{DurableTask, Kept};
pub use engine_task::EngineTask;
pub use intake::Intake;
use lanes::Lanes;
pub use ledger::FindingBudget;
pub use recovery::{RecoverError, Recovered, recover};

use tokio::sync::mpsc;

use crate::{
    exporter::queue::{Queue, Shutdown},
    processor::detection::Detection,
};

/// A pipeline: its control, which has its intake, and its engine task, which ends when they and every
/// copy of the intake are gone.
pub fn pipeline(
    id: String,
    detection: Detection,
    queues: Vec<Queue>,
    budget: FindingBudget,
) -> (Control, EngineTask) {
    let (control, inbox, changes, counters) = entrance(&id, &detection);
    let lanes = Lanes::new(queues, budget);
    let task = EngineTask::new(id, detection, (inbox, changes), lanes, counters);
    (control, task)
}

/// The same with inputs and findings in a storage, from which `recovered` was read.
pub fn durable_pipeline(
    id: String,
    recovered: Recovered,
    queues: Vec<Queue>,
    kept: Kept,
    (ending, budget): (Shutdown, FindingBudget),
) -> (Control, DurableTask) {
    let (control, inbox, changes, counters) = entrance(&id, recovered.detection());
    let lanes = outbox::Lanes::new(queues, recovered.storage(), (ending, budget));
    let task = DurableTask::new(id, recovered, (inbox, changes), lanes, (counters, kept));
    (control, task)
}

/// Where requests and changes of a pipeline come in.
fn entrance(
    id: &str,
    detection: &Detection,
) -> (
    Control,
    mpsc::Receiver<submission::Submission>,
    mpsc::Receiver<change::Changing>,
    Arc<Counters>,
) {
    let (submit, inbox) = submission::inbox();
    let counters = Arc::new(Counters::default());
    let screen = detection.screen().clone();
    counters.exclusions(screen.exclusions().names());
    let intake = Intake::new(id.to_owned(), screen, submit, Arc::clone(&counters));
    let (control, changes) = change::control(&intake);
    (control, inbox, changes, counters)
}
