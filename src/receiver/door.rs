//! What every request goes through, whatever the protocol: who sends it, time to come in, room, the
//! consumer.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

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
    http_server::{AddressCounts, Peer, address_key},
    throttle::{Detail, Line, Throttle},
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
    refusals: Throttle<Reason, Refused>,
    /// Refusals for now, by who holds the memory.
    full: Throttle<&'static str, AddressCounts>,
    /// Requests that took longer than `read_timeout`.
    slow: Throttle<(), AddressCounts>,
}

/// What is logged of a request that was refused for good.
struct Refused {
    peer: Option<SocketAddr>,
    reason: String,
}

impl Detail for Refused {}

fn log_refusal(line: &Line<'_, Reason, Refused>) {
    let Refused { peer, reason } = line.detail;
    warn!(
        peer = peer.map(tracing::field::display),
        %reason,
        suppressed = line.suppressed(),
        "a request was refused, senders drop what they sent then"
    );
}

fn log_full(line: &Line<'_, &'static str, AddressCounts>) {
    warn!(
        requests = line.count,
        most_from = %line.detail.most_from(),
        holder = line.key,
        "requests are refused because requests under way hold the memory they may, senders send \
         them again: raise service::admission::request_limit_mib, or look for the sender whose \
         requests do not end"
    );
}

fn log_slow(line: &Line<'_, (), AddressCounts>) {
    warn!(
        requests = line.count,
        most_from = %line.detail.most_from(),
        "requests did not come in within read_timeout, senders send them again: look at the \
         network to the sender, or raise read_timeout"
    );
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
            refusals: Throttle::new(log_refusal),
            full: Throttle::new(log_full),
            slow: Throttle::new(log_slow),
        }
    }

    /// Logs that a request was refused for good: its sender drops what was in it, and may log it
    /// nowhere.
    fn tell(&self, head: &Parts, rejection: &Rejection) {
        let refused = Refused {
            peer: head.extensions.get().map(Peer::address),
            reason: rejection.text(),
        };
        self.refusals.log(rejection.reason(), refused);
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
                self.full.log(holder.name(), AddressCounts::once(peer));
            }
            Rejection::Slow(_) => self.slow.log((), AddressCounts::once(peer)),
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
