//! One connection: its TLS handshake, its requests, its deadlines and its end.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    closed::{Class, CloseReason, Connections},
    handler::Handler,
    limits::Limits,
    listening::Versions,
    slots::Slot,
    watch::{Answering, End, Times, Watch},
};
use crate::{
    clock::Instant,
    throttle::{Detail, Throttle},
    tls::{self, server::Acceptor},
};

/// What a stream may send ahead: enough for line rate over a real round trip.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// What a connection may send ahead. All of it may have to be kept while requests wait for the
/// processor, and half of it is what many small frames may cost.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Most bytes of the headers of a request. A bearer token of Kubernetes has about 1 KiB.
const HEADER_BYTES: u32 = 16 * 1024;
/// Most headers of a request over HTTP/1.1.
const HEADERS: usize = 100;
/// Most bytes that a connection with HTTP/1.1 reads ahead, headers of a request included.
const READ_AHEAD: usize = 64 * 1024;
/// How long a TLS handshake may take, if `read_header_timeout` is not shorter.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an idle connection that gives way is asked to end before it is closed.
const GIVING_WAY: Duration = Duration::from_millis(250);

/// Starts what hyper wants started, so that the end of the server can wait for it.
#[derive(Clone)]
pub(super) struct Streams(pub(super) TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// What the connections of a server share.
pub(super) struct Server {
    builder: Builder<Streams>,
    tls: Option<Acceptor>,
    times: Times,
    handshake: Duration,
    stop: CancellationToken,
    connections: Arc<Connections>,
    /// Handshakes that failed.
    handshakes: Throttle<(), FailedHandshake>,
}

/// What is logged of a handshake that failed.
struct FailedHandshake {
    peer: SocketAddr,
    reason: String,
}

impl Detail for FailedHandshake {}

/// What a server is made of, beside its limits.
pub(super) struct Parts {
    pub(super) versions: Versions,
    pub(super) tls: Option<Acceptor>,
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<Connections>,
    pub(super) streams: Streams,
    pub(super) stop: CancellationToken,
}

fn builder(limits: &Limits, versions: Versions, streams: Streams) -> Builder<Streams> {
    let mut server = Builder::new(streams);
    server
        .http1()
        .timer(TokioTimer::new())
        // It would also run between two requests, so it is `Watch` that measures it.
        .header_read_timeout(None)
        .keep_alive(limits.keep_alive)
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
    match versions {
        Versions::Http1 => server.http1_only(),
        Versions::Http2 => server.http2_only(),
        Versions::All => server,
    }
}

/// Why the loop over a connection continues.
enum Event {
    Ended(Result<(), Box<dyn std::error::Error + Send + Sync>>),
    Due(End),
    Changed,
    Stop,
    GaveWay,
}

impl Server {
    pub(super) fn new(limits: &Limits, parts: Parts) -> Self {
        let Parts {
            versions,
            tls,
            address,
            connections,
            streams,
            stop,
        } = parts;
        Self {
            builder: builder(limits, versions, streams),
            tls,
            times: Times {
                first_byte: limits.first_byte_timeout,
                first_request: limits.first_request_timeout,
                headers: limits.read_header_timeout,
                idle: limits.idle_timeout,
                write: limits.write_timeout,
            },
            handshake: limits.read_header_timeout.min(HANDSHAKE),
            stop,
            connections,
            handshakes: Throttle::new(move |line| {
                let FailedHandshake { peer, reason } = line.detail;
                warn!(
                    endpoint = %address,
                    %peer,
                    reason,
                    suppressed = line.suppressed(),
                    "tls handshake failed"
                );
            }),
        }
    }

    /// Serves one connection, after its handshake if there is to be one.
    pub(super) async fn connected(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        slot: Slot,
        handler: impl Handler,
    ) {
        let watch = Arc::new(Watch::new(self.times, slot.place().clone()));
        let Some(tls) = &self.tls else {
            return self.serve(stream, peer, (slot, watch), handler).await;
        };
        let handshake = tokio::select! {
            // No request has come yet, so no answer is due.
            () = self.stop.cancelled() => return,
            () = slot.gave_way().cancelled() => return,
            handshake = timeout(self.handshake, tls.accept(stream)) => handshake,
        };
        match handshake {
            Ok(Ok(stream)) => {
                watch.shook_hands();
                if stream.get_ref().1.peer_certificates().is_some() {
                    // Only one of an authority in `client_ca_file` comes so far.
                    watch.authenticated();
                }
                self.serve(stream, peer, (slot, watch), handler).await;
            }
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
        self.connections
            .close(CloseReason::Handshake, Class::Unfinished, peer.ip());
        self.handshakes.log((), FailedHandshake { peer, reason });
    }

    /// Serves one connection until it ends, its time is over, it gives way, or the server stops.
    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        (slot, watch): (Slot, Arc<Watch>),
        handler: impl Handler,
    ) {
        let service = service_fn(|mut request: Request<Incoming>| {
            let handler = handler.clone();
            let (running, peer) = watch.begin(peer);
            request.extensions_mut().insert(peer);
            async move {
                let response = handler.answer(request).await;
                let answering = running.answered();
                Ok::<_, Infallible>(response.map(|body| Answer {
                    body,
                    _answering: answering,
                }))
            }
        });
        let stream = Watched {
            stream,
            watch: Arc::clone(&watch),
        };
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut alarm = Alarm::default();
        let mut ending = false;
        loop {
            let event = tokio::select! {
                biased;
                event = poll_fn(|context| {
                    if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                        return Poll::Ready(Event::Ended(ended));
                    }
                    // What it has just read or written moves its deadline.
                    alarm.poll(context, watch.due()).map(Event::Due)
                }) => event,
                () = watch.changed.notified() => Event::Changed,
                () = self.stop.cancelled(), if !ending => Event::Stop,
                () = slot.gave_way().cancelled() => Event::GaveWay,
            };
            match event {
                Event::Changed => {}
                Event::Ended(ended) => {
                    if let Err(error) = ended {
                        debug!(%error, "connection ended");
                    }
                    return;
                }
                Event::Stop | Event::Due(End::Ask(_)) => {
                    if let Event::Due(End::Ask(Some(reason))) = event {
                        watch.close(reason);
                    }
                    connection.as_mut().graceful_shutdown();
                    watch.ending();
                    ending = true;
                }
                Event::Due(End::Close(reason)) => return watch.close(reason),
                Event::Due(End::Leave) => {
                    debug!(%peer, "connection left, it was asked to end and does not");
                    return;
                }
                Event::GaveWay => {
                    if watch.is_finished() {
                        connection.as_mut().graceful_shutdown();
                        let _ended = timeout(GIVING_WAY, connection).await;
                    }
                    return;
                }
            }
        }
    }
}

/// Wakes a connection at its deadline, which moves often and rarely comes.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn poll(&mut self, context: &mut Context<'_>, due: Option<(Instant, End)>) -> Poll<End> {
        let Some((at, end)) = due else {
            return Poll::Pending;
        };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        // Set to an earlier time it only looks again too soon.
        if at < sleep.deadline() {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= at {
                // It stays ready, so it is for whatever is due next.
                self.0 = None;
                return Poll::Ready(end);
            }
            sleep.as_mut().reset(at);
        }
    }
}

/// A stream whose bytes are noted.
struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    /// Records whether written bytes are still buffered.
    fn wrote<T>(&self, written: Poll<T>, is_all: bool) -> Poll<T> {
        if written.is_pending() || is_all {
            self.watch.wrote(written.is_pending());
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(bytes) = buffer
            .filled()
            .get(before..)
            .filter(|bytes| !bytes.is_empty())
        {
            self.watch.read(bytes);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(written, false)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.wrote(written, false)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(flushed, true)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.wrote(ended, true)
    }
}

/// The body of an answer, which is noted until it has left.
struct Answer<B> {
    body: B,
    _answering: Answering,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
