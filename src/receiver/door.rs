//! What every request goes through, whatever the protocol: who sends it, time to come in, room, the
//! consumer.

use std::{future::Future, net::IpAddr, sync::Arc, time::Duration};

use http::request::Parts;
use tracing::warn;

use super::{
    Class, Consumer, Holder, Reason, Refusal, Shared,
    in_flight::{Lease, Origin},
    rejection::Rejection,
};
use crate::{
    detection::screen::Screened,
    extension::bearer_token_auth::BearerTokenAuth,
    http_server::{Peer, PeerThrottle, Repeated, Throttle, address_key},
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
    told: Arc<[Throttle; Reason::ALL.len()]>,
    /// Refusals for now that the sender or the operator can do something about.
    later: Arc<Later>,
}

#[derive(Debug, Default)]
struct Later {
    memory: PeerThrottle,
    slow: PeerThrottle,
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
            later: Arc::default(),
        }
    }

    /// Logs that a request was refused for good: its sender drops what was in it, and may log it
    /// nowhere.
    fn tell(&self, head: &Parts, rejection: &Rejection) {
        let reason = rejection.reason();
        let told = Reason::ALL.iter().zip(self.told.iter());
        let Some((_, told)) = told.into_iter().find(|(known, _)| **known == reason) else {
            return;
        };
        if let Some(unsaid) = told.pass() {
            let peer = head.extensions.get().map(Peer::address);
            warn!(
                peer = peer.map(tracing::field::display),
                reason = %rejection.text(),
                refusals_not_logged = unsaid,
                "a request was refused, senders drop what they sent then"
            );
        }
    }

    /// Logs that requests are refused for now, if there is something to do about it.
    fn tell_later(&self, head: &Parts, rejection: &Rejection) {
        let Some(peer) = head.extensions.get().map(|peer: &Peer| peer.address().ip()) else {
            return;
        };
        match rejection {
            // The task that watches the memory of the process has said so.
            Rejection::Later(Refusal::Memory {
                holder: Holder::Process,
                ..
            }) => {}
            Rejection::Later(Refusal::Memory { holder, .. }) => {
                if let Some(Repeated { count, most_from }) = self.later.memory.pass(peer) {
                    warn!(
                        requests = count,
                        %most_from,
                        holder = holder.name(),
                        "requests are refused because requests under way hold the memory they may, \
                         senders send them again: raise service::admission::request_limit_mib, or \
                         look for the sender whose requests do not end"
                    );
                }
            }
            Rejection::Slow(_) => {
                if let Some(Repeated { count, most_from }) = self.later.slow.pass(peer) {
                    warn!(
                        requests = count,
                        %most_from,
                        "requests did not come in within read_timeout, senders send them again: \
                         look at the network to the sender, or raise read_timeout"
                    );
                }
            }
            _ => {}
        }
    }

    /// A request begins to hold memory.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn enter(&self, head: &Parts) -> Result<Lease, Rejection> {
        /// What a header takes beside its name and value.
        const HEADER: usize = 64;
        let headers = head.headers.iter();
        let bytes = headers
            .map(|(name, value)| name.as_str().len() + value.len() + HEADER)
            .sum::<usize>()
            .saturating_add(head.uri.path().len());
        let peer = head.extensions.get::<Peer>();
        let origin = Origin {
            address: peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| {
                address_key(address_key(peer.address().ip()))
            }),
            connection: peer.map_or(0, Peer::connection),
        };
        Ok(self.shared.in_flight.enter(origin, bytes)?)
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
        let answer = self.take(head, receive).await;
        if let Err(rejection) = &answer {
            let class = match head.extensions.get::<Peer>() {
                Some(peer) if peer.is_authenticated() => Class::Authenticated,
                _ => Class::Anonymous,
            };
            self.consumer.refused(rejection.reason(), class);
            if rejection.is_final() {
                self.tell(head, rejection);
            } else {
                self.tell_later(head, rejection);
            }
        }
        answer
    }

    async fn take(
        &self,
        head: &Parts,
        receive: impl Future<Output = Result<(Screened, Lease), Rejection>>,
    ) -> Result<u64, Rejection> {
        let peer = head.extensions.get::<Peer>();
        let receive = async {
            if let Some(auth) = &self.auth {
                auth.check(&head.headers).await?;
                if let Some(peer) = peer {
                    peer.authenticated();
                }
            }
            receive.await
        };
        let (screened, _held) = tokio::select! {
            biased;
            received = tokio::time::timeout(self.read_timeout, receive) => {
                received.unwrap_or(Err(Rejection::Slow(self.read_timeout)))?
            }
            // Whoever has not said all by now shall hear why, instead of a connection that breaks.
            () = self.shared.cut.cancelled() => return Err(Refusal::ShuttingDown.into()),
        };
        if let Some(peer) = peer {
            peer.received();
        }
        let unreadable = screened.unreadable;
        self.consumer.consume(screened).await?;
        Ok(unreadable)
    }
}
