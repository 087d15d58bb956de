//! OTLP receivers that are not ours: gRPC by tonic and the published service, HTTP by hand.
#![allow(dead_code, reason = "each test uses the part it needs")]
#![expect(
    clippy::disallowed_methods,
    reason = "a server of the tests has no task tracker"
)]

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_server::{LogsService, LogsServiceServer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, codec::CompressionEncoding};
use tower_service::Service as _;

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Of gRPC the `:authority`, of HTTP the `Host`.
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// Over HTTP, before decompression.
    pub(crate) body: Bytes,
}

/// A scripted answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Grpc(Result<ExportLogsServiceResponse, Status>),
    Http(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// None, ever.
    Hang,
    /// The connection ends.
    Cut,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<ExportLogsServiceRequest>,
    seen: Vec<Seen>,
    script: VecDeque<Answer>,
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// A receiver. Stops when dropped, with all its connections.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

impl Peer {
    /// Starts on a free port of this machine.
    pub(crate) async fn start(protocol: Protocol) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), protocol, None).await
    }

    pub(crate) async fn start_tls(protocol: Protocol, mut tls: rustls::ServerConfig) -> Self {
        if protocol == Protocol::Grpc {
            tls.alpn_protocols = vec![b"h2".to_vec()];
        }
        Self::start_at("127.0.0.1:0".parse().unwrap(), protocol, Some(tls)).await
    }

    /// Starts at an address, to come back where another one was.
    pub(crate) async fn start_at(
        address: SocketAddr,
        protocol: Protocol,
        tls: Option<rustls::ServerConfig>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::default();
        let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let task = tokio::spawn(accept(listener, protocol, tls, shared.clone()));
        Self {
            address,
            shared,
            task,
        }
    }

    /// Answers the next requests by script, then well.
    pub(crate) fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state().script.extend(answers);
    }

    /// What gRPC requests held.
    pub(crate) fn messages(&self) -> Vec<ExportLogsServiceRequest> {
        self.shared.state().messages.clone()
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }
}

async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    tls: Option<TlsAcceptor>,
    shared: Shared,
) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, protocol, shared).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, protocol, shared).await;
                    }
                }
            }
        });
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed by script")]
struct Closed;

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocol: Protocol,
    shared: Shared,
) {
    let stream = TokioIo::new(stream);
    // Clients go away as they like.
    match protocol {
        Protocol::Grpc => {
            let server = LogsServiceServer::new(Logs(shared.clone()))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                // The Collector's default.
                .max_decoding_message_size(4 * 1024 * 1024);
            let service = service_fn(move |request: Request<Incoming>| {
                let authority = request.uri().authority().map(ToString::to_string);
                note(&shared, authority, &request, Bytes::new());
                // What is no gRPC at all.
                let other = shared
                    .state()
                    .script
                    .pop_front_if(|one| matches!(one, Answer::Http(..)));
                let mut server = server.clone();
                async move {
                    match other {
                        Some(answer) => Ok(written(answer).map(tonic::body::Body::new)),
                        None => server.call(request).await,
                    }
                }
            });
            drop(
                http2::Builder::new(TokioExecutor::new())
                    .serve_connection(stream, service)
                    .await,
            );
        }
        Protocol::Http => {
            let service = service_fn(move |request| http(shared.clone(), request));
            drop(
                http1::Builder::new()
                    .serve_connection(stream, service)
                    .await,
            );
        }
    }
}

fn note<B>(shared: &Shared, authority: Option<String>, request: &Request<B>, body: Bytes) {
    shared.state().seen.push(Seen {
        authority: authority.unwrap_or_default(),
        path: request.uri().path().to_owned(),
        headers: request.headers().clone(),
        body,
    });
}

async fn http(shared: Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let host = head
        .headers
        .get("host")
        .map(|host| host.to_str().unwrap().to_owned());
    note(&shared, host, &Request::from_parts(head, ()), body);
    let answer = shared.state().script.pop_front();
    match answer {
        None => Ok(Response::new(Full::default())),
        Some(answer @ Answer::Http(..)) => Ok(written(answer)),
        Some(Answer::Hang) => std::future::pending().await,
        Some(_) => Err(Closed),
    }
}

/// An answer over HTTP.
fn written(answer: Answer) -> Response<Full<Bytes>> {
    let Answer::Http(status, headers, body) = answer else {
        panic!("{answer:?}")
    };
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(name, value);
    }
    answer.body(Full::from(body)).unwrap()
}

struct Logs(Shared);

#[tonic::async_trait]
impl LogsService for Logs {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        self.0.state().messages.push(request.into_inner());
        let answer = self.0.state().script.pop_front();
        match answer {
            None => Ok(tonic::Response::new(ExportLogsServiceResponse::default())),
            Some(Answer::Grpc(answer)) => answer.map(tonic::Response::new),
            _ => std::future::pending().await,
        }
    }
}
