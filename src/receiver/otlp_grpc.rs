//! The `otlp` receiver over gRPC: `LogsService/Export`, taken frame by frame.
//!
//! The method is our own, because a codec would put a whole message together before its records can
//! be looked at: here each frame of the body goes straight through the decompressor into the walk.

use std::{net::SocketAddr, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{self, CONTENT_TYPE},
    request::Parts,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use tonic::{Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    admission::Lease,
    consumer::{Accepted, Consumer},
    decompress::{Compression, Unreadable},
    reading::{Reading, next_data},
    rejection::Rejection,
    server::{Shared, listen},
    steps::{Received, Steps},
};
use crate::{
    extension::bearer_token_auth::BearerTokenAuth,
    http_server::{self, Before, Connections, Error, Handler, Limits, Listening, Versions},
    tls,
};

/// The one method of the service.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Content type of requests, maybe with `+proto` behind it, and of answers.
const GRPC: &str = "application/grpc";

/// Settings of the gRPC server of an `otlp` receiver.
#[derive(Clone, Debug)]
pub struct Config {
    /// `endpoint`: host and port to listen on.
    pub endpoint: String,
    /// `max_recv_msg_size_mib`, in bytes: the largest message, also after decompression.
    pub max_recv_msg_bytes: usize,
    /// Limits of its connections.
    pub limits: Limits,
    /// `tls`; `None`: in the clear.
    pub tls: Option<tls::server::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4317".to_owned(),
            max_recv_msg_bytes: 64 * 1024 * 1024,
            limits: Limits::default(),
            tls: None,
        }
    }
}

/// A receiver that listens, and does not serve yet.
#[derive(Debug)]
pub struct OtlpGrpc {
    listening: Listening,
    max_message: usize,
    limits: Limits,
    auth: Option<BearerTokenAuth>,
}

impl OtlpGrpc {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the address is in use or not ours, or certificates cannot be used.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        Self::bind_after(None, config).await
    }

    /// The same in the place of a server that may still serve, on its socket if the endpoint is the
    /// same.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn bind_after(before: Option<&Before>, config: &Config) -> Result<Self, Error> {
        let tls = config.tls.as_ref();
        let listening = listen(before, &config.endpoint, Versions::Http2, tls).await?;
        Ok(Self {
            listening,
            max_message: config.max_recv_msg_bytes,
            limits: config.limits.clone(),
            auth: None,
        })
    }

    /// Accepts only requests with a token of this extension.
    #[must_use]
    pub fn guarded(mut self, auth: Option<BearerTokenAuth>) -> Self {
        self.auth = auth;
        self
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// What another server needs to take its place.
    pub fn before(&self) -> Before {
        self.listening.before()
    }

    /// What becomes of its connections.
    pub fn connections(&self) -> &Arc<Connections> {
        self.listening.connections()
    }

    /// Serves HTTP/2 until it is to stop, then finishes what has begun. Its connections end with
    /// it.
    pub async fn serve(self, consumer: impl Consumer, shared: Shared) {
        let service = LogsService {
            steps: Arc::new(Steps::new(
                consumer,
                shared.clone(),
                self.limits.read_timeout,
                self.auth,
            )),
            max_message: self.max_message,
        };
        let listening = self.listening.under(shared.pressure.clone());
        http_server::serve(listening, self.limits, service, shared.ends()).await;
    }
}

/// `opentelemetry.proto.collector.logs.v1.LogsService`
#[derive(Clone)]
struct LogsService<C> {
    steps: Arc<Steps<C>>,
    max_message: usize,
}

impl<C: Consumer> Handler for LogsService<C> {
    type Body = Body;

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        match self.handle(&head, body).await {
            Ok(accepted) => success(accepted),
            Err(rejection) => {
                self.steps.rejected(&head, &rejection);
                rejected(&rejection)
            }
        }
    }
}

impl<C: Consumer> LogsService<C> {
    /// The life of a request.
    async fn handle(&self, head: &Parts, body: Incoming) -> Result<Accepted, Rejection> {
        let deadline = self.steps.deadline();
        let caller = self.steps.authenticate(head, deadline).await?;
        let compression = compression(head)?;
        let lease = self.steps.admit(caller, head)?;
        let read = self.read(body, compression, lease);
        let received = deadline.within(read).await?;
        self.steps.submit(caller, received).await
    }

    /// Reads the one length-prefixed message of a request, whatever the frames it comes in.
    async fn read(
        &self,
        mut body: Incoming,
        compression: Compression,
        lease: Lease,
    ) -> Result<Received<C::Visitor>, Rejection> {
        let (prefix, first) = read_prefix(&mut body).await?;
        let (compression, length) = self.message(compression, prefix)?;
        let walk = self.steps.visit();
        let mut reading = Reading::new(compression, walk, self.max_message, lease)?;
        let mut missing = length;
        let mut data = Some(first);
        while let Some(piece) = data {
            let Some(left) = missing.checked_sub(piece.len()) else {
                return Err(Rejection::Framing(
                    "there are bytes behind the message".to_owned(),
                ));
            };
            missing = left;
            reading = reading.feed(piece).await?;
            data = next_data(&mut body).await?;
        }
        if missing > 0 {
            return Err(ended_inside());
        }
        let (walk, lease) = reading.finish().await?;
        Received::new(walk, lease)
    }

    /// Compression and length of a message, by its prefix.
    fn message(
        &self,
        compression: Compression,
        [flag, length @ ..]: [u8; PREFIX],
    ) -> Result<(Compression, usize), Rejection> {
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.max_message {
            return Err(Unreadable::TooLarge(self.max_message).into());
        }
        match flag {
            0 => Ok((Compression::Identity, length)),
            1 if compression != Compression::Identity => Ok((compression, length)),
            _ => Err(Rejection::Framing(format!(
                "the message has compression flag {flag}, which its grpc-encoding does not allow"
            ))),
        }
    }
}

/// Compression flag and length.
const PREFIX: usize = 5;

/// Reads what is before the message; the bytes behind it that came with it.
async fn read_prefix(body: &mut Incoming) -> Result<([u8; PREFIX], Bytes), Rejection> {
    let mut prefix = BytesMut::with_capacity(PREFIX);
    while let Some(mut data) = next_data(body).await? {
        let missing = PREFIX.saturating_sub(prefix.len());
        prefix.put(data.split_to(missing.min(data.len())));
        if let Ok(prefix) = <[u8; PREFIX]>::try_from(&prefix[..]) {
            return Ok((prefix, data));
        }
    }
    Err(ended_inside())
}

fn ended_inside() -> Rejection {
    Rejection::Framing("the request ended inside its message".to_owned())
}

/// Whether the content is gRPC's, with messages in protobuf.
fn is_grpc(headers: &HeaderMap) -> bool {
    let name = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let Some(rest) = name.and_then(|name| name.strip_prefix(GRPC.as_bytes())) else {
        return false;
    };
    let rest = rest.strip_prefix(b"+proto").unwrap_or(rest);
    rest.is_empty() || rest.starts_with(b";")
}

/// The compression of the messages of a request, if it is supported.
fn compression(head: &Parts) -> Result<Compression, Rejection> {
    if head.method != Method::POST {
        return Err(Rejection::Method(head.method.clone()));
    }
    if !is_grpc(&head.headers) {
        return Err(Rejection::ContentType(GRPC));
    }
    if head.uri.path() != EXPORT {
        return Err(Rejection::Unknown {
            found: head.uri.path().to_owned(),
            known: EXPORT,
        });
    }
    let name = head
        .headers
        .get("grpc-encoding")
        .map_or(&b""[..], HeaderValue::as_bytes);
    Compression::from_name(name)
        .ok_or_else(|| Rejection::Compression(String::from_utf8_lossy(name).into_owned()))
}

/// The answer to what is not taken; `RetryInfo` is the one form of "later" that every Collector
/// understands.
fn rejected(rejection: &Rejection) -> Response<Body> {
    let (code, message) = (rejection.code(), rejection.text());
    let status = match rejection.retry_after() {
        Some(wait) => {
            Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(wait)))
        }
        None => Status::new(code, message),
    };
    let mut response = status.into_http();
    // What is not gRPC at all gets the status of HTTP too.
    match rejection {
        Rejection::Method(_) => {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let allowed = HeaderValue::from_static("POST");
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        Rejection::ContentType(_) => *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => {}
    }
    response.headers_mut().insert(
        "grpc-accept-encoding",
        HeaderValue::from_static(Compression::OFFERED),
    );
    response
}

fn success(accepted: Accepted) -> Response<Body> {
    let message = ExportLogsServiceResponse {
        partial_success: accepted.partial_success(),
    };
    let length = message.encoded_len();
    let mut body = BytesMut::with_capacity(PREFIX + length);
    body.put_u8(0);
    body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows as needed, which is the only way encoding could fail.
    let _encoded = message.encode(&mut body);
    let trailers = HeaderMap::from_iter([(
        header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(body.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    response
}
