//! What every request goes through, whatever the protocol: who sends it, time to come in, room, the
//! consumer.

use std::{future::Future, sync::Arc, time::Duration};

use http::request::Parts;
use tracing::warn;

use super::{
    Consumer, Reason, Refusal, Shared,
    in_flight::{Lease, RETRY_AFTER},
    rejection::Rejection,
};
use crate::{
    detection::screen::Screened,
    extension::bearer_token_auth::BearerTokenAuth,
    http_server::{Peer, Seldom},
    memory::Level,
};

/// The way from a server to a consumer.
#[derive(Clone, Debug)]
pub(super) struct Door<C> {
    pub(super) consumer: C,
    pub(super) shared: Shared,
    /// How long a request may take to come in.
    pub(super) read_timeout: Duration,
    /// Who stands at it.
    auth: Option<BearerTokenAuth>,
    /// Refusals for good, by their reason.
    told: Arc<[Seldom; Reason::ALL.len()]>,
}

impl<C: Consumer> Door<C> {
    /// A door to a consumer, guarded if `auth` is there.
    pub(super) fn new(
        consumer: C,
        shared: Shared,
        read_timeout: Duration,
        auth: Option<BearerTokenAuth>,
    ) -> Self {
        Self {
            consumer,
            shared,
            read_timeout,
            auth,
            told: Arc::default(),
        }
    }

    /// Says that a request was refused for good: its sender drops what was in it, and may say so
    /// nowhere.
    fn tell(&self, head: &Parts, rejection: &Rejection) {
        let reason = rejection.reason();
        let told = Reason::ALL.iter().zip(self.told.iter());
        let Some((_, told)) = told.into_iter().find(|(known, _)| **known == reason) else {
            return;
        };
        if let Some(unsaid) = told.worth_a_line() {
            let peer = head.extensions.get().map(|Peer(address)| *address);
            warn!(
                peer = peer.map(tracing::field::display),
                reason = %rejection.text(),
                refusals_not_logged = unsaid,
                "a request was refused, senders drop what they sent then"
            );
        }
    }

    /// A request begins to hold memory.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn enter(&self) -> Result<Lease, Rejection> {
        if self.shared.pressure.level() > Level::Normal {
            return Err(Refusal::Memory {
                retry_after: RETRY_AFTER,
            }
            .into());
        }
        Ok(self.shared.in_flight.enter()?)
    }

    /// Lets a request come in and hands it over; how many of its records could not be read. Nothing
    /// is received of it before it is known who sends it.
    ///
    /// # Errors
    /// When nothing of it was taken.
    pub(super) async fn answer(
        &self,
        head: &Parts,
        receive: impl Future<Output = Result<(Screened, Lease), Rejection>>,
    ) -> Result<u64, Rejection> {
        let receive = async {
            if let Some(auth) = &self.auth {
                auth.check(&head.headers).await?;
            }
            receive.await
        };
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
                if rejection.is_final() {
                    self.tell(head, &rejection);
                }
                return Err(rejection);
            }
        };
        let unreadable = screened.unreadable;
        self.consumer.consume(screened).await?;
        Ok(unreadable)
    }
}
