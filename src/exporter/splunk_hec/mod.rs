//! Findings to Splunk, over its HTTP Event Collector (HEC).
//!
//! [`SplunkHec::send`] is the life of a request, from findings to their outcome. What is sent
//! ([`event`], [`request`]), what an answer means ([`response`]) and the form of acknowledgements
//! (`ack`) are pure functions beside it; `connection` talks HTTP. Delivery is at least once: an answer that is lost leaves open whether the events are in, so they are sent again, under
//! the same finding ids.

mod ack;
mod config;
mod connection;
mod error;
pub mod event;
pub mod request;
pub mod response;
mod risk;

pub use config::{AckConfig, Config, Entity, Format, Risk};
pub use error::Error;

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Exporter, Outcome,
    compression::{Compression, Compressor},
    shutdown::Shutdown,
};
use crate::detection::Finding;
use connection::Connection;

/// Indexer acknowledgement at work.
struct Acknowledgement {
    poll_interval: Duration,
    timeout: Duration,
    /// Whether it was logged that the token gives no acknowledgement.
    warned: bool,
    shutdown: Shutdown,
}

/// Why events that were accepted do not count as delivered.
enum Unindexed {
    /// The receiver does not say that they are indexed: they are sent again.
    Unacknowledged(String),
    /// There is no time to find out.
    ShuttingDown(String),
}

/// The `splunk_hec` exporter.
pub struct SplunkHec {
    shape: request::Shape,
    compressor: Compressor,
    connection: Connection,
    acknowledgement: Option<Acknowledgement>,
}

impl fmt::Debug for SplunkHec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplunkHec")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Exporter for SplunkHec {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        // The first findings of the batch, as the events of one request.
        let mut request = match request::first(batch, &self.shape) {
            Ok(request) => request,
            Err(outcome) => return outcome,
        };
        if request.events.is_empty() {
            // Findings whose state makes no event are done with as they are.
            return Outcome::Accepted(request.findings);
        }
        // Its body, compressed.
        let body = match self.compressor.compress(std::mem::take(&mut request.body)) {
            Ok(body) => body,
            Err(error) => {
                return Outcome::retry(format!("the request could not be compressed: {error}"));
            }
        };
        // One POST. Without an answer it is sent again.
        let answer = match self.connection.post(body).await {
            Ok(answer) => answer,
            Err(reason) => {
                self.connection.leave();
                return Outcome::retry(reason);
            }
        };
        if answer.is_lost() {
            self.connection.leave();
        }
        // What the answer says of the events, and so of the findings.
        let judged = response::judge(&self.connection.judged(&answer, request.events.len()));
        let accepted = matches!(judged, Outcome::Accepted(_));
        let outcome = request.of_findings(judged);
        if !accepted {
            return outcome;
        }
        // Accepted events are in a queue of Splunk's. With `ack` they count once they are indexed.
        match self.indexed(&answer.body).await {
            Ok(()) => outcome,
            Err(Unindexed::Unacknowledged(reason)) => {
                // Another indexer may do better.
                self.connection.leave();
                Outcome::retry(reason)
            }
            // Sending it again would keep those behind it from being sent at all.
            Err(Unindexed::ShuttingDown(reason)) => Outcome::Partial {
                findings: request.findings,
                rejected: request.findings,
                reason,
            },
        }
    }

    fn goes_out(&self, finding: &Arc<Finding>) -> bool {
        request::makes_event(finding, &self.shape)
    }

    fn attach(&mut self, shutdown: &Shutdown) {
        if let Some(acknowledgement) = &mut self.acknowledgement {
            acknowledgement.shutdown = shutdown.clone();
        }
    }
}

impl SplunkHec {
    /// Waits until what an answer accepts is indexed, if acknowledgement is asked for. The error
    /// holds the last answer. During the shutdown it waits for a third of the time that is left.
    async fn indexed(&mut self, accepted: &str) -> Result<(), Unindexed> {
        let (connection, Some(acknowledgement)) = (&mut self.connection, &mut self.acknowledgement)
        else {
            return Ok(());
        };
        let Some(number) = ack::number(accepted) else {
            if !std::mem::replace(&mut acknowledgement.warned, true) {
                tracing::warn!(
                    "HEC accepts events without an acknowledgement to come, so they count as \
                     delivered: enable indexer acknowledgement for the token, or remove ack"
                );
            }
            return Ok(());
        };
        let Acknowledgement {
            poll_interval,
            timeout,
            shutdown,
            ..
        } = &*acknowledgement;
        let mut last = "not asked yet".to_owned();
        let asking = async {
            loop {
                shutdown.pause(*poll_interval).await;
                match connection.is_indexed(number).await {
                    Ok(true) => break,
                    Ok(false) => "not yet".clone_into(&mut last),
                    // The question is asked again: the events themselves were accepted.
                    Err(reason) => {
                        last = reason;
                        connection.reconnect();
                    }
                }
            }
        };
        tokio::select! {
            asked = tokio::time::timeout(*timeout, asking) => asked.map_err(|_| {
                Unindexed::Unacknowledged(format!(
                    "accepted, but after ack::timeout ({timeout:?}) not acknowledged as indexed, \
                     last answer: {last}"
                ))
            }),
            () = shutdown.part_over(3) => Err(Unindexed::ShuttingDown(format!(
                "accepted, but not acknowledged as indexed before the shutdown, so they may be \
                 missing if an indexer fails now, last answer: {last}"
            ))),
        }
    }

    /// Checks the settings and prepares the client. Connects to nothing yet.
    ///
    /// # Errors
    /// A setting that cannot work, by its name.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let compression = if config.disable_compression {
            Compression::None
        } else {
            Compression::Gzip
        };
        Ok(Self {
            connection: Connection::new(config)?,
            compressor: Compressor::new(compression).map_err(Error::Compression)?,
            acknowledgement: config.ack.enabled.then(|| Acknowledgement {
                poll_interval: config.ack.poll_interval,
                timeout: config.ack.timeout,
                warned: false,
                shutdown: Shutdown::default(),
            }),
            shape: request::Shape {
                metadata: event::Metadata {
                    source: config.source.clone(),
                    sourcetype: config.sourcetype.clone(),
                    index: config.index.clone(),
                    host: config.host.clone(),
                },
                format: config.format.clone(),
                max_content_length: config.max_content_length_logs,
                max_event_size: config.max_event_size,
            },
        })
    }

    /// Asks HEC whether it is fit to take events, for `health_check_enabled`.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub async fn check_health(&self) -> Result<(), Error> {
        let path = self.connection.health_path();
        let health = match self.connection.health().await {
            Ok(answer) => response::health(&self.connection.judged(&answer, 0))
                .map_err(|reason| format!("{path} says {reason}")),
            Err(reason) => Err(format!(
                "{path} does not answer ({reason}): is endpoint right, and is Splunk up?"
            )),
        };
        health.map_err(Error::Unhealthy)
    }
}

#[cfg(test)]
mod tests;
