//! What every request goes through, whatever the protocol: time to come in, room, the consumer.

use std::{future::Future, time::Duration};

use super::{Consumer, Refusal, Shared, in_flight::Lease, rejection::Rejection};
use crate::detection::screen::Screened;

/// The way from a server to a consumer.
#[derive(Clone, Debug)]
pub(super) struct Door<C> {
    pub(super) consumer: C,
    pub(super) shared: Shared,
    /// How long a request may take to come in.
    pub(super) read_timeout: Duration,
}

impl<C: Consumer> Door<C> {
    /// A request begins to hold memory.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn enter(&self) -> Result<Lease, Rejection> {
        Ok(self.shared.in_flight.enter()?)
    }

    /// Lets a request come in and hands it over; how many of its records could not be read.
    ///
    /// # Errors
    /// When nothing of it was taken.
    pub(super) async fn answer(
        &self,
        receive: impl Future<Output = Result<(Screened, Lease), Rejection>>,
    ) -> Result<u64, Rejection> {
        let received = tokio::select! {
            biased;
            received = tokio::time::timeout(self.read_timeout, receive) => {
                received.unwrap_or(Err(Rejection::Slow(self.read_timeout)))
            }
            // Whoever has not said all by now shall hear why, instead of a connection that breaks.
            () = self.shared.cut.cancelled() => Err(Refusal::ShuttingDown.into()),
        };
        let (screened, _held) = match received {
            Ok(received) => received,
            Err(rejection) => {
                self.consumer.refused(rejection.reason());
                return Err(rejection);
            }
        };
        let unreadable = screened.unreadable;
        self.consumer.consume(screened).await?;
        Ok(unreadable)
    }
}
