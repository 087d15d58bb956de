//! What an intake hands to the engine task, and the answer that comes back.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::{
    detection::{hit::Hit, screen::Screen},
    processor::detection::{Detection, Places},
    receiver::Refusal,
};

/// Requests with hits that may wait for the engine task.
const INBOX: usize = 64;
/// How long a sender is asked to wait when there is no room, and how long a request waits for room
/// in the inbox.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Steps that the engine task takes before other tasks on its thread have their turn: hits taken,
/// findings closed, keys forgotten. A request may have some hundred thousand hits, and as many findings
/// may be due at one time.
pub(super) const SLICE: usize = 64;
/// There is no room now.
pub(super) const FULL: Refusal = Refusal::Full {
    retry_after: RETRY_AFTER,
};

/// How many findings a request has caused, or why its sender shall send it again.
pub(super) type Answer = Result<usize, Refusal>;

/// The hits of one request, and where its answer goes.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) hits: Vec<Hit>,
    /// What found them.
    pub(super) screen: Screen,
    pub(super) ack: Ack,
}

impl Submission {
    /// The hits as they name the detections here: the configuration may have been loaded again since
    /// they were found.
    pub(super) fn placed(self, detection: &Detection) -> (Vec<Hit>, Ack) {
        let Self { hits, screen, ack } = self;
        if screen.is(detection.screen()) {
            return (hits, ack);
        }
        let places = Places::between_screens(&screen, detection.screen());
        (places.moved(hits), ack)
    }
}

/// The answer that a sender waits for.
#[derive(Debug)]
pub(super) struct Ack(oneshot::Sender<Answer>);

impl Ack {
    /// Answers. A sender that is gone sends its request again, whatever the answer.
    pub(super) fn send(self, answer: Answer) {
        let _sent = self.0.send(answer);
    }
}

/// The intakes' side of the inbox.
#[derive(Clone, Debug)]
pub(super) struct Submit(mpsc::Sender<Submission>);

/// The inbox of an engine task.
pub(super) fn inbox() -> (Submit, mpsc::Receiver<Submission>) {
    let (sender, inbox) = mpsc::channel(INBOX);
    (Submit(sender), inbox)
}

impl Submit {
    /// Hands over the hits of a request and waits for the answer.
    pub(super) async fn submit(&self, hits: Vec<Hit>, screen: Screen) -> Answer {
        let (ack, answer) = oneshot::channel();
        let submission = Submission {
            hits,
            screen,
            ack: Ack(ack),
        };
        match tokio::time::timeout(RETRY_AFTER, self.0.send(submission)).await {
            Ok(Ok(())) => answer.await.unwrap_or(Err(Refusal::ShuttingDown)),
            Ok(Err(_closed)) => Err(Refusal::ShuttingDown),
            Err(_full) => Err(FULL),
        }
    }
}
