//! The HTTP server under all that is asked over HTTP: receivers, health check, metrics. It has the
//! connections, with TLS or without, their limits and their end.

mod closed;
mod connection;
mod slots;
mod watch;

use std::{error, future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, rt::Executor};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    memory::{Level, Pressure},
    throttle::Throttle,
    tls::{self, server::Acceptor},
};

pub use closed::{AddressCounts, Class, CloseReason, Connections};
use connection::{Parts, Server};
use slots::{Bounds, Placed, Slot, Slots};
pub use slots::{Spare, address_key};
pub use watch::Peer;

/// How long to wait when no connection can be accepted, for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// Connections that end at a time while the process is above its hard memory limit.
const SHED: usize = 16;
/// How often it is looked whether a connection gives way by now.
const LOOK: Duration = Duration::from_millis(100);
/// How long the last answers may take to leave when no more time is given.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What one server allows its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: most connections at a time. A new one takes the place of one that has
    /// proved less; if there is none it waits.
    pub max_connections: usize,
    /// `max_connections_per_address`: most connections of one address at a time, IPv6 by its /64.
    /// `None`: half of `max_connections`.
    pub max_connections_per_address: Option<usize>,
    /// `max_concurrent_streams`: most requests of one HTTP/2 connection at a time.
    pub max_concurrent_streams: u32,
    /// How long a connection may take to its first byte.
    pub first_byte_timeout: Duration,
    /// How long a connection may take to its first complete request. While one goes on coming in,
    /// `read_timeout` counts.
    pub first_request_timeout: Duration,
    /// `read_header_timeout`: how long the headers of an HTTP/1.1 request may take from their first
    /// byte, and a TLS handshake, which has 10 s at most.
    pub read_header_timeout: Duration,
    /// `read_timeout`: how long a request may take to come in.
    pub read_timeout: Duration,
    /// `idle_timeout`, `keepalive::server_parameters::max_connection_idle`: a connection without a
    /// request for so long is closed.
    pub idle_timeout: Duration,
    /// How long an answer may take to leave.
    pub write_timeout: Duration,
    /// `keepalive::server_parameters::time`: how often an HTTP/2 peer is asked whether it is there.
    pub keepalive_time: Duration,
    /// `keepalive::server_parameters::timeout`: how long its answer may take.
    pub keepalive_timeout: Duration,
    /// Whether an HTTP/1.1 connection has more than one request.
    pub keep_alive: bool,
    /// How long connections are spared at `max_connections`.
    pub spare: Spare,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two servers and the exporters fit into the usual 1024 file descriptors.
            max_connections: 400,
            max_connections_per_address: None,
            max_concurrent_streams: 100,
            first_byte_timeout: Duration::from_secs(10),
            first_request_timeout: Duration::from_secs(30),
            read_header_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(5),
            write_timeout: Duration::from_secs(30),
            keepalive_time: Duration::from_mins(1),
            keepalive_timeout: Duration::from_secs(20),
            keep_alive: true,
            spare: Spare::default(),
        }
    }
}

impl Limits {
    /// Limits of a server that is asked briefly, such as by probes: this number of connections, each with
    /// 2 s for its request, and a new one never waits for those that ask nothing.
    pub fn brief(max_connections: usize) -> Self {
        const BRIEF: Duration = Duration::from_secs(2);
        Self {
            max_connections,
            // Probes of one node and of what else runs there have one address.
            max_connections_per_address: Some(max_connections),
            max_concurrent_streams: 10,
            first_byte_timeout: BRIEF,
            first_request_timeout: BRIEF,
            read_header_timeout: BRIEF,
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            spare: Spare::NONE,
            ..Self::default()
        }
    }

    fn bounds(&self) -> Bounds {
        let half = (self.max_connections / 2).max(1);
        Bounds {
            connections: self.max_connections,
            per_address: self.max_connections_per_address.unwrap_or(half),
            spare: self.spare,
        }
    }
}

/// A server that cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {endpoint}: {reason}")]
    Listen {
        /// The address.
        endpoint: String,
        /// Why.
        reason: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// The versions of HTTP that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone, which is what gRPC needs.
    Http2,
    /// HTTP/1.1 and HTTP/2.
    All,
}

impl Versions {
    /// Their names in a TLS handshake, the one that is liked best first.
    fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::All => &[b"h2", b"http/1.1"],
        }
    }
}

/// A server that listens, and does not serve yet.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    versions: Versions,
    tls: Option<Acceptor>,
    connections: Arc<Connections>,
    pressure: Pressure,
}

impl Listening {
    /// Listens on an address; port 0 is one that is free.
    ///
    /// # Errors
    /// When the address is in use or not ours, or certificates cannot be used.
    pub async fn bind(
        endpoint: &str,
        versions: Versions,
        tls: Option<&tls::server::Config>,
    ) -> Result<Self, Error> {
        let tls = tls
            .map(|config| Acceptor::new(config, versions.alpn()))
            .transpose()?;
        let failed = |reason| Error::Listen {
            endpoint: endpoint.to_owned(),
            reason,
        };
        let listener = TcpListener::bind(endpoint).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            versions,
            tls,
            connections: Arc::new(Connections::new(address)),
            pressure: Pressure::default(),
        })
    }

    /// Takes no connections while the process is above its hard memory limit.
    #[must_use]
    pub fn under(mut self, pressure: Pressure) -> Self {
        self.pressure = pressure;
        self
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What becomes of its connections, for metrics.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }
}

/// When a server ends.
#[derive(Clone, Debug)]
pub struct Ends {
    /// No more connections; what has begun may end.
    pub stop: CancellationToken,
    /// What has not ended by now is left.
    pub cut: CancellationToken,
}

/// What answers the requests of a server.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Starts what hyper wants started, so that the end of the server can wait for it.
#[derive(Clone)]
struct Streams(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// Serves until `stop`, then finishes what has begun, until `cut`. Connections end with it.
pub async fn serve<H: Handler>(listening: Listening, limits: Limits, handler: H, ends: Ends) {
    let Listening {
        listener,
        address,
        versions,
        tls,
        connections,
        pressure,
    } = listening;
    let streams = Streams(TaskTracker::new());
    let slots = Arc::new(Slots::new(limits.bounds(), Arc::clone(&connections)));
    let parts = Parts {
        versions,
        tls,
        address,
        connections: Arc::clone(&connections),
        streams: streams.clone(),
        stop: ends.stop.clone(),
    };
    let server = Arc::new(Server::new(&limits, parts));
    let mut accepting = Accepting {
        listener,
        slots,
        connections,
        pressure,
        limit: limits.max_connections,
        waiting: None,
        errors: Throttle::new(|line| {
            let suppressed = line.suppressed();
            warn!(error = %line.detail, suppressed, "cannot accept a connection, trying again");
        }),
    };
    let mut tasks = JoinSet::new();
    loop {
        let (stream, peer, slot) = tokio::select! {
            () = ends.stop.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            // It may be dropped at any time: a connection that waits for a place is kept.
            accepted = accepting.next() => accepted,
        };
        // Without it answers are only later, not wrong.
        let _set = stream.set_nodelay(true);
        let (server, handler) = (Arc::clone(&server), handler.clone());
        tasks.spawn(async move { server.connected(stream, peer, slot, handler).await });
        // In a flood the new connection is looked at before it may have to give way.
        yield_now().await;
    }
    drop(accepting);
    streams.0.close();
    let mut finish = pin!(async {
        while tasks.join_next().await.is_some() {}
        streams.0.wait().await;
    });
    tokio::select! {
        () = &mut finish => {}
        () = ends.cut.cancelled() => {
            let _finished = timeout(LAST_WORDS, finish).await;
        }
    }
}

/// Takes connections and gives them their places.
struct Accepting {
    listener: TcpListener,
    slots: Arc<Slots>,
    connections: Arc<Connections>,
    pressure: Pressure,
    limit: usize,
    /// The connection that waits for a place; more wait with the kernel.
    waiting: Option<(TcpStream, SocketAddr)>,
    /// Connections that cannot be accepted.
    errors: Throttle<(), String>,
}

impl Accepting {
    /// The next connection that has a place.
    async fn next(&mut self) -> (TcpStream, SocketAddr, Slot) {
        loop {
            let waits = self.waiting.is_some();
            let (stream, peer) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => self.accept().await,
            };
            if self.pressure.level() == Level::Hard {
                self.connections
                    .close(CloseReason::Memory, Class::Unfinished, peer.ip());
                let _set = stream.set_zero_linger();
                continue;
            }
            match self.slots.place(peer.ip()) {
                Placed::Yes(slot) => return (stream, peer, slot),
                Placed::Refused => {
                    // Closed with a reset, which leaves nothing behind here.
                    let _set = stream.set_zero_linger();
                }
                Placed::Full => {
                    self.waiting = Some((stream, peer));
                    if !waits {
                        self.connections.waits(peer.ip(), self.limit);
                    }
                    let _changed = timeout(LOOK, self.slots.changed.notified()).await;
                }
            }
        }
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = timeout(LOOK, self.listener.accept()).await;
            if self.pressure.level() == Level::Hard {
                // What they sent ahead is held for them, and charged to no request.
                for _ in 0..SHED {
                    self.slots.shed(CloseReason::Memory);
                }
            }
            let Ok(accepted) = accepted else { continue };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => {
                    self.errors.log((), error.to_string());
                    // Most often there are too few file descriptors.
                    self.slots.shed(CloseReason::GaveWay);
                    sleep(BREATH).await;
                }
            }
        }
    }
}
