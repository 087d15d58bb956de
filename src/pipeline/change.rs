//! A change of the settings of a running pipeline: what the engine task is given, and what it answers.

use tokio::sync::{mpsc, oneshot};

use super::intake::Intake;
use crate::{exporter::queue::Queue, processor::detection::Detection};

/// Other settings for a pipeline.
pub struct Change {
    /// The detection, which has taken no hits; `None`: it stays.
    pub detection: Option<Box<Detection>>,
    /// The queues of all its exporters from now on.
    pub queues: Vec<Queue>,
}

/// A change under way.
pub(super) struct Changing {
    pub(super) change: Change,
    done: oneshot::Sender<Vec<String>>,
}

impl Changing {
    /// The change, and where the names of the detections go whose windows begin anew.
    pub(super) fn into_parts(self) -> (Change, oneshot::Sender<Vec<String>>) {
        (self.change, self.done)
    }
}

/// Changes a running pipeline.
#[derive(Debug)]
pub struct Control {
    changes: mpsc::Sender<Changing>,
    intake: Intake,
}

/// The pipeline has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipelineEnded;

/// What changes the pipeline of this intake, and where its changes arrive.
pub(super) fn control(intake: &Intake) -> (Control, mpsc::Receiver<Changing>) {
    let (changes, receiver) = mpsc::channel(1);
    let intake = intake.clone();
    (Control { changes, intake }, receiver)
}

impl Control {
    /// The intake of the pipeline.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Applies a change between two requests. Names of the detections whose windows begin anew.
    ///
    /// # Errors
    /// When the pipeline has ended.
    pub async fn apply(&self, change: Change) -> Result<Vec<String>, PipelineEnded> {
        let screen = change.detection.as_ref().map(|one| one.screen().clone());
        let (done, answer) = oneshot::channel();
        let changing = Changing { change, done };
        let sent = self.changes.send(changing).await;
        sent.map_err(|_ended| PipelineEnded)?;
        let begun = answer.await.map_err(|_ended| PipelineEnded)?;
        // Only now: hits that the new screen finds name detections of the new engine.
        if let Some(screen) = screen {
            self.intake.screen_with(screen);
        }
        Ok(begun)
    }
}
