//! The HTTP server under both protocols and the health check: connections, with TLS or without,
//! their limits and their end.

use std::{
    convert::Infallible,
    error,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    clock::{self, Instant},
    tls::{self, server::Acceptor},
};

/// What a stream may send ahead: enough for line rate over a real round trip.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// What a connection may send ahead.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Most bytes of the headers of a request. A bearer token of Kubernetes has about 1 KiB.
const HEADER_BYTES: u32 = 16 * 1024;
/// Most headers of a request over HTTP/1.1.
const HEADERS: usize = 100;
/// Most bytes that a connection with HTTP/1.1 reads ahead, headers of a request included.
const READ_AHEAD: usize = 64 * 1024;
/// How long to wait when no connection can be accepted, for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// How long a TLS handshake may take, if `read_header_timeout` is not shorter.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the last answers may take to leave when no more time is given.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What one server allows its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: most connections at a time; more wait until one ends.
    pub max_connections: usize,
    /// `max_concurrent_streams`: most requests of one HTTP/2 connection at a time.
    pub max_concurrent_streams: u32,
    /// `read_header_timeout`: how long the headers of an HTTP/1.1 request may take, and a TLS
    /// handshake, which has 10 s at most.
    pub read_header_timeout: Duration,
    /// `read_timeout`: how long a request may take to come in.
    pub read_timeout: Duration,
    /// `idle_timeout`, `keepalive::server_parameters::max_connection_idle`: a connection without a
    /// request for so long, or up to twice that, is closed.
    pub idle_timeout: Duration,
    /// `keepalive::server_parameters::time`: how often an HTTP/2 peer is asked whether it is there.
    pub keepalive_time: Duration,
    /// `keepalive::server_parameters::timeout`: how long its answer may take.
    pub keepalive_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two servers and the exporters fit into the usual 1024 file descriptors.
            max_connections: 400,
            max_concurrent_streams: 100,
            read_header_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(5),
            keepalive_time: Duration::from_mins(1),
            keepalive_timeout: Duration::from_secs(20),
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
    /// HTTP/2 alone, which is what gRPC needs.
    Http2,
    /// HTTP/1.1 and HTTP/2.
    All,
}

impl Versions {
    /// Their names in a TLS handshake, the one that is liked best first.
    fn alpn(self) -> &'static [&'static [u8]] {
        match self {
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
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
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

/// Who sent a request; each has it among its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What answers the requests of a server.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn error::Error + Send + Sync>>> + Send + 'static;

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
    } = listening;
    let streams = Streams(TaskTracker::new());
    let server = Arc::new(Server {
        builder: builder(&limits, versions, streams.clone()),
        tls,
        address,
        idle: limits.idle_timeout,
        handshake: limits.read_header_timeout.min(HANDSHAKE),
        stop: ends.stop.clone(),
        handshakes: Seldom::default(),
    });
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    let (cannot_accept, full) = (Seldom::default(), Seldom::default());
    loop {
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = ends.stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if cannot_accept.worth_a_line().is_some() {
                    warn!(%error, "cannot accept a connection, trying again");
                }
                sleep(BREATH).await;
                continue;
            }
        };
        if slots.available_permits() == 0 && full.worth_a_line().is_some() {
            warn!(
                connections = limits.max_connections,
                "as many connections as max_connections allows, more have to wait"
            );
        }
        // Without it answers are only later, not wrong.
        let _set = stream.set_nodelay(true);
        let (server, handler) = (Arc::clone(&server), handler.clone());
        connections.spawn(async move {
            server.connected(stream, peer, handler).await;
            drop(slot);
        });
    }
    drop(listener);
    streams.0.close();
    let mut finish = pin!(async {
        while connections.join_next().await.is_some() {}
        streams.0.wait().await;
    });
    tokio::select! {
        () = &mut finish => {}
        () = ends.cut.cancelled() => {
            let _finished = timeout(LAST_WORDS, finish).await;
        }
    }
}

fn builder(limits: &Limits, versions: Versions, streams: Streams) -> Builder<Streams> {
    let mut server = Builder::new(streams);
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.read_header_timeout)
        .max_headers(HEADERS)
        .max_buf_size(READ_AHEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(limits.keepalive_time)
        .keep_alive_timeout(limits.keepalive_timeout);
    if versions == Versions::Http2 {
        server = server.http2_only();
    }
    server
}

/// What the connections of a server share.
struct Server {
    builder: Builder<Streams>,
    tls: Option<Acceptor>,
    address: SocketAddr,
    idle: Duration,
    handshake: Duration,
    stop: CancellationToken,
    /// Handshakes that failed.
    handshakes: Seldom,
}

impl Server {
    /// Serves one connection, after its handshake if there is to be one.
    async fn connected(&self, stream: TcpStream, peer: SocketAddr, handler: impl Handler) {
        let Some(tls) = &self.tls else {
            return self.connection(stream, peer, handler).await;
        };
        let handshake = tokio::select! {
            // Nothing was asked for yet, so nothing is owed.
            () = self.stop.cancelled() => return,
            handshake = timeout(self.handshake, tls.accept(stream)) => handshake,
        };
        match handshake {
            Ok(Ok(stream)) => self.connection(stream, peer, handler).await,
            Ok(Err(error)) => self.no_handshake(peer, tls::server::why(&error)),
            Err(_) => {
                let slow = format!("it did not end within {:?}", self.handshake);
                self.no_handshake(peer, Some(slow));
            }
        }
    }

    fn no_handshake(&self, peer: SocketAddr, reason: Option<String>) {
        let Some(reason) = reason else {
            debug!(%peer, "connection ended before its tls handshake");
            return;
        };
        debug!(%peer, reason, "tls handshake failed");
        if let Some(unsaid) = self.handshakes.worth_a_line() {
            warn!(
                endpoint = %self.address,
                %peer,
                reason,
                failures_not_logged = unsaid,
                "tls handshake failed"
            );
        }
    }

    /// Serves one connection until it ends, is idle for too long, or the server stops.
    async fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        handler: impl Handler,
    ) {
        let busy = Arc::new(Busy::default());
        let service = service_fn(|mut request: Request<Incoming>| {
            let handler = handler.clone();
            let under_way = UnderWay::begin(&busy);
            request.extensions_mut().insert(Peer(peer));
            async move {
                let response = handler.answer(request).await;
                drop(under_way);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut ending = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(%error, "connection ended");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !ending => {
                    connection.as_mut().graceful_shutdown();
                    ending = true;
                }
                () = sleep(self.idle) => {
                    if busy.was() {
                        continue;
                    }
                    if ending {
                        debug!("connection left, it was asked to end and does not");
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    ending = true;
                }
            }
        }
    }
}

/// Whether a connection has requests.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    begun: AtomicBool,
}

impl Busy {
    /// Whether there was a request since this was last asked.
    fn was(&self) -> bool {
        self.begun.swap(false, Ordering::Relaxed) || self.now.load(Ordering::Relaxed) > 0
    }
}

/// A request, until it is dropped.
struct UnderWay(Arc<Busy>);

impl UnderWay {
    fn begin(busy: &Arc<Busy>) -> Self {
        busy.begun.store(true, Ordering::Relaxed);
        busy.now.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(busy))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A thing to log that may happen often: a flood of connections shall not become a flood of lines.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// It happened. If it is to be told, how often it was not before.
    pub fn worth_a_line(&self) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *told;
        let now = clock::monotonic();
        if last.is_some_and(|last| now - last < Duration::from_mins(1)) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}
