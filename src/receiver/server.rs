//! The HTTP server under both protocols: connections, their limits and their end.

use std::{
    convert::Infallible,
    error,
    future::Future,
    pin::pin,
    sync::{
        Arc,
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
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::Shared;
use crate::clock::{self, Instant};

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
/// How long the last answers may take to leave when no more time is given.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What one server allows its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: most connections at a time; more wait until one ends.
    pub max_connections: usize,
    /// `max_concurrent_streams`: most requests of one HTTP/2 connection at a time.
    pub max_concurrent_streams: u32,
    /// `read_header_timeout`: how long the headers of an HTTP/1.1 request may take.
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

/// What answers the requests of a server.
pub(super) trait Handler: Clone + Send + Sync + 'static {
    /// Body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn error::Error + Send + Sync>>> + Send + 'static;

    /// Whether the protocol needs HTTP/2.
    const ONLY_HTTP2: bool;

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
pub(super) async fn serve<H: Handler>(
    listener: TcpListener,
    limits: Limits,
    handler: H,
    shared: Shared,
) {
    let streams = Streams(TaskTracker::new());
    let server = Arc::new(builder(&limits, H::ONLY_HTTP2, streams.clone()));
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    let mut told = Told::default();
    loop {
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = shared.stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                told.cannot_accept(&error);
                sleep(BREATH).await;
                continue;
            }
        };
        if slots.available_permits() == 0 {
            told.full(limits.max_connections);
        }
        // Without it answers are only later, not wrong.
        let _set = stream.set_nodelay(true);
        let (server, handler) = (Arc::clone(&server), handler.clone());
        let (idle, stop) = (limits.idle_timeout, shared.stop.clone());
        connections.spawn(async move {
            connection(&server, stream, handler, idle, &stop).await;
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
        () = shared.cut.cancelled() => {
            let _finished = timeout(LAST_WORDS, finish).await;
        }
    }
}

fn builder(limits: &Limits, only_http2: bool, streams: Streams) -> Builder<Streams> {
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
    if only_http2 {
        server = server.http2_only();
    }
    server
}

/// Serves one connection until it ends, is idle for too long, or the server stops.
async fn connection(
    server: &Builder<Streams>,
    stream: TcpStream,
    handler: impl Handler,
    idle: Duration,
    stop: &CancellationToken,
) {
    let busy = Arc::new(Busy::default());
    let service = service_fn(|request| {
        let handler = handler.clone();
        let under_way = UnderWay::begin(&busy);
        async move {
            let response = handler.answer(request).await;
            drop(under_way);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let mut ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "connection ended");
                }
                return;
            }
            () = stop.cancelled(), if !ending => {
                connection.as_mut().graceful_shutdown();
                ending = true;
            }
            () = sleep(idle) => {
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

/// When what was told: a flood of connections shall not become a flood of log lines.
#[derive(Default)]
struct Told {
    cannot_accept: Option<Instant>,
    full: Option<Instant>,
}

impl Told {
    fn cannot_accept(&mut self, error: &std::io::Error) {
        if due(&mut self.cannot_accept) {
            warn!(%error, "cannot accept a connection, trying again");
        }
    }

    fn full(&mut self, connections: usize) {
        if due(&mut self.full) {
            warn!(
                connections,
                "as many connections as max_connections allows, more have to wait"
            );
        }
    }
}

/// Whether a minute has passed since the last time, which is now if so.
fn due(last: &mut Option<Instant>) -> bool {
    let now = clock::monotonic();
    let due = last.is_none_or(|last| now - last >= Duration::from_mins(1));
    if due {
        *last = Some(now);
    }
    due
}
