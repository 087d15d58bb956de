//! The steps of a request that are the same in every protocol: authenticate, admit, submit, all of
//! them before its deadline, and the log of what was refused. To read is the protocol's own.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{
    HeaderValue, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    request::Parts,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    admission::{Lease, Origin},
    consumer::{Accepted, Consumer},
    decompress::Unreadable,
    refusal::{Holder, Reason, Refusal},
    rejection::Rejection,
    server::Shared,
};
use crate::{
    clock::{self, Instant},
    extension::bearer_token_auth::BearerTokenAuth,
    http_server::{AddressCounts, Class, Peer, address_key},
    pdata::{Visitor, Walk},
    throttle::{Detail, Line, Throttle},
};

/// What every request of a server goes through.
#[derive(Debug)]
pub(super) struct Steps<C> {
    consumer: C,
    shared: Shared,
    /// How long a request may take to come in.
    read_timeout: Duration,
    /// Who may send; `None`: every sender.
    auth: Option<BearerTokenAuth>,
    log: RefusalLog,
}

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a>(Option<&'a Peer>);

/// By when a request has to be in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline<'a> {
    at: Instant,
    /// How long that was from its beginning.
    after: Duration,
    /// The service takes nothing more in, whatever the time.
    cut: &'a CancellationToken,
}

/// A request that has arrived whole and is well-formed.
pub(super) struct Received<V> {
    visitor: V,
    /// The memory that it holds.
    lease: Lease,
}

impl<C: Consumer> Steps<C> {
    /// Steps that lead to a consumer. With `auth` they admit only senders with a token.
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
            log: RefusalLog::default(),
        }
    }

    /// By when a request that begins now has to be in.
    pub(super) fn deadline(&self) -> Deadline<'_> {
        Deadline {
            at: clock::monotonic() + self.read_timeout,
            after: self.read_timeout,
            cut: &self.shared.cut,
        }
    }

    /// Finds out who sends a request. Nothing is read of it before.
    ///
    /// # Errors
    /// When the server asks for a token and the request has none that it knows.
    pub(super) async fn authenticate<'a>(
        &self,
        head: &'a Parts,
        deadline: Deadline<'_>,
    ) -> Result<Caller<'a>, Rejection> {
        let caller = Caller::of(head);
        if let Some(auth) = &self.auth {
            deadline.within(auth.check(&head.headers)).await?;
            if let Some(peer) = caller.0 {
                peer.authenticated();
            }
        }
        Ok(caller)
    }

    /// Gives a request its share of the memory for requests. It begins with that of its headers.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn admit(&self, caller: Caller<'_>, head: &Parts) -> Result<Lease, Rejection> {
        /// What a header takes beside its name and value.
        const HEADER: usize = 64;
        let headers = head.headers.iter();
        let bytes = headers
            .map(|(name, value)| name.as_str().len() + value.len() + HEADER)
            .sum::<usize>()
            .saturating_add(head.uri.path().len());
        Ok(self.shared.admission.admit(caller.origin(), bytes)?)
    }

    /// The consumer's visitor at the start of a request that arrives now.
    pub(super) fn visit(&self) -> Walk<C::Visitor> {
        Walk::new(self.consumer.begin(clock::unix_nanos()))
    }

    /// Hands a request over. Its memory is held until the consumer is done with it.
    ///
    /// # Errors
    /// When nothing of it was taken.
    pub(super) async fn submit(
        &self,
        caller: Caller<'_>,
        received: Received<C::Visitor>,
    ) -> Result<Accepted, Rejection> {
        let Received { visitor, lease } = received;
        if let Some(peer) = caller.0 {
            peer.received();
        }
        let accepted = self.consumer.consume(visitor).await;
        drop(lease);
        Ok(accepted?)
    }

    /// Counts and logs that a request is not taken.
    pub(super) fn rejected(&self, head: &Parts, rejection: &Rejection) {
        let caller = Caller::of(head);
        if is_probe(head, rejection) {
            // Nobody loses anything, and the line of the minute is for who does.
            self.consumer.refused(Reason::Probe, caller.class());
            return;
        }
        self.consumer.refused(rejection.reason(), caller.class());
        if rejection.is_final() {
            self.log.refused_for_good(caller, rejection);
        } else {
            self.log.refused_for_now(caller, rejection);
        }
    }
}

/// Whether a request that is not taken asked only whether somebody is there: a health check of a
/// balancer, a gRPC health check, a scanner. A request that carries telemetry is none of these.
fn is_probe(head: &Parts, rejection: &Rejection) -> bool {
    let is_question = matches!(
        rejection,
        Rejection::Unknown { .. }
            | Rejection::Method(_)
            | Rejection::ContentType(_)
            | Rejection::Unauthenticated(_)
    );
    if !is_question || head.method.is_safe() {
        return is_question;
    }
    let length = head.headers.get(CONTENT_LENGTH);
    let is_empty = match length {
        Some(length) => length == "0",
        None => head.version < Version::HTTP_2 && !head.headers.contains_key(TRANSFER_ENCODING),
    };
    let kind = head
        .headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let is_grpc = kind.starts_with(b"application/grpc");
    is_empty || is_grpc && !head.uri.path().starts_with("/opentelemetry.")
}

impl<'a> Caller<'a> {
    fn of(head: &'a Parts) -> Self {
        Self(head.extensions.get())
    }

    fn origin(self) -> Origin {
        Origin {
            address: self.0.map_or(IpAddr::from([0, 0, 0, 0]), |peer| {
                address_key(peer.address().ip())
            }),
            connection: self.0.map_or(0, Peer::connection),
        }
    }

    fn class(self) -> Class {
        match self.0 {
            Some(peer) if peer.is_authenticated() => Class::Authenticated,
            _ => Class::Anonymous,
        }
    }
}

impl Deadline<'_> {
    /// Waits for a step of the request until the deadline.
    ///
    /// # Errors
    /// When the step failed, took too long, or the service takes nothing more in.
    pub(super) async fn within<T, E: Into<Rejection>>(
        self,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Rejection> {
        tokio::select! {
            biased;
            done = tokio::time::timeout_at(self.at, step) => match done {
                Ok(done) => done.map_err(E::into),
                Err(_late) => Err(Rejection::Slow(self.after)),
            },
            // The sender hears why, instead of a connection that breaks.
            () = self.cut.cancelled() => Err(Refusal::ShuttingDown.into()),
        }
    }
}

impl<V: Visitor> Received<V> {
    /// A request whose bytes have all come.
    ///
    /// # Errors
    /// When it ended too early.
    pub(super) fn new(walk: Walk<V>, lease: Lease) -> Result<Self, Rejection> {
        let visitor = walk.finish().map_err(Unreadable::Malformed)?;
        Ok(Self { visitor, lease })
    }
}

/// Refusals in our log, a line a minute for each kind.
#[derive(Debug)]
struct RefusalLog {
    /// For good, by their reason.
    for_good: Throttle<Reason, Refused>,
    /// For now, by what holds the memory.
    memory: Throttle<&'static str, AddressCounts>,
    /// For now, because they took too long.
    slow: Throttle<(), AddressCounts>,
}

/// What is logged of a request that was refused for good.
struct Refused {
    peer: Option<SocketAddr>,
    reason: String,
}

impl Detail for Refused {}

impl Default for RefusalLog {
    fn default() -> Self {
        Self {
            for_good: Throttle::new(log_refusal),
            memory: Throttle::new(log_memory),
            slow: Throttle::new(log_slow),
        }
    }
}

impl RefusalLog {
    /// Logs that a request was refused for good: its sender drops what was in it, and may log it
    /// nowhere.
    fn refused_for_good(&self, caller: Caller<'_>, rejection: &Rejection) {
        let refused = Refused {
            peer: caller.0.map(Peer::address),
            reason: rejection.text(),
        };
        self.for_good.log(rejection.reason(), refused);
    }

    /// Logs that requests are refused for now, if there is something to do about it.
    fn refused_for_now(&self, caller: Caller<'_>, rejection: &Rejection) {
        let Some(peer) = caller.0.map(|peer| peer.address().ip()) else {
            return;
        };
        match rejection {
            // The task that watches the memory of the process logs this one.
            Rejection::Later(Refusal::Memory {
                holder: Holder::Process,
                ..
            }) => {}
            Rejection::Later(Refusal::Memory { holder, .. }) => {
                self.memory.log(holder.name(), AddressCounts::once(peer));
            }
            Rejection::Slow(_) => self.slow.log((), AddressCounts::once(peer)),
            _ => {}
        }
    }
}

fn log_refusal(line: &Line<'_, Reason, Refused>) {
    let Refused { peer, reason } = line.detail;
    warn!(
        peer = peer.map(tracing::field::display),
        %reason,
        suppressed = line.suppressed(),
        "a request was refused, senders drop what they sent then"
    );
}

fn log_memory(line: &Line<'_, &'static str, AddressCounts>) {
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
