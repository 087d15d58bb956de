//! The `otlp` receiver over gRPC: `LogsService/Export`, taken frame by frame.
//!
//! The method is our own, because a codec would put a whole message together before anybody could
//! look at it: here each frame of the body goes straight through the decompressor into the
//! screening.

use std::{net::SocketAddr, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{self, CONTENT_TYPE},
    request::Parts,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use tonic::{Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    Connections, Consumer, Error, Limits, Shared,
    decompress::{Compression, Unreadable},
    door::Door,
    in_flight::Lease,
    listen, partial_success,
    reading::Reading,
    rejection::Rejection,
};
use crate::{
    detection::screen::{Screened, Screening},
    extension::bearer_token_auth::BearerTokenAuth,
    http_server::{self, Handler, Listening, Versions},
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
    /// What connections are allowed.
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
        let tls = config.tls.as_ref();
        let listening = listen(&config.endpoint, Versions::Http2, tls).await?;
        Ok(Self {
            listening,
            max_message: config.max_recv_msg_bytes,
            limits: config.limits.clone(),
            auth: None,
        })
    }

    /// Lets in only who has a token of this extension.
    #[must_use]
    pub fn guarded(mut self, auth: Option<BearerTokenAuth>) -> Self {
        self.auth = auth;
        self
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// What becomes of its connections.
    pub fn connections(&self) -> &Arc<Connections> {
        self.listening.connections()
    }

    /// Serves HTTP/2 until it is to stop, then finishes what has begun. Its connections end with
    /// it.
    pub async fn serve(self, consumer: impl Consumer, shared: Shared) {
        let service = LogsService {
            door: Door::new(
                consumer,
                shared.clone(),
                self.limits.read_timeout,
                self.auth,
            ),
            max_message: self.max_message,
        };
        let listening = self.listening.under(shared.pressure.clone());
        http_server::serve(listening, self.limits, service, shared.ends()).await;
    }
}

/// `opentelemetry.proto.collector.logs.v1.LogsService`
#[derive(Clone)]
struct LogsService<C> {
    door: Door<C>,
    max_message: usize,
}

impl<C: Consumer> Handler for LogsService<C> {
    type Body = Body;

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let answer = self.door.answer(&head, self.receive(&head, body)).await;
        match answer {
            Ok(unreadable) => success(unreadable),
            Err(rejection) => rejected(&rejection),
        }
    }
}

impl<C: Consumer> LogsService<C> {
    /// Screens a request as its frames come in.
    async fn receive(
        &self,
        head: &Parts,
        mut body: Incoming,
    ) -> Result<(Screened, Lease), Rejection> {
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
        let compression = compression(&head.headers)?;
        let mut message = MessageReader::new(compression, self.max_message, self.door.enter(head)?);
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                message.feed(data, || self.door.consumer.begin()).await?;
            }
        }
        message.finish().await
    }
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

/// The compression named by the request.
fn compression(headers: &HeaderMap) -> Result<Compression, Rejection> {
    let name = headers
        .get("grpc-encoding")
        .map_or(&b""[..], HeaderValue::as_bytes);
    Compression::from_name(name)
        .ok_or_else(|| Rejection::Compression(String::from_utf8_lossy(name).into_owned()))
}

/// One length-prefixed gRPC message, whatever the frames it comes in.
struct MessageReader {
    compression: Compression,
    limit: usize,
    prefix: BytesMut,
    message: Progress,
}

/// How far a message has come.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each request, and nearly always it is the large one"
)]
enum Progress {
    /// It has not begun: what will hold its memory.
    Awaited(Lease),
    /// It has begun, and so many of its bytes are still to come.
    Begun(Reading<Screening>, usize),
    /// It cannot be read.
    Failed,
}

/// Compression flag and length.
const PREFIX: usize = 5;

impl MessageReader {
    fn new(compression: Compression, limit: usize, lease: Lease) -> Self {
        Self {
            compression,
            limit,
            prefix: BytesMut::with_capacity(PREFIX),
            message: Progress::Awaited(lease),
        }
    }

    async fn feed(
        &mut self,
        mut data: Bytes,
        begin: impl FnOnce() -> Screening,
    ) -> Result<(), Rejection> {
        let (reading, missing) = match std::mem::replace(&mut self.message, Progress::Failed) {
            Progress::Begun(reading, missing) => (reading, missing),
            Progress::Failed => return Ok(()),
            Progress::Awaited(lease) => {
                let missing = PREFIX - self.prefix.len();
                self.prefix.put(data.split_to(missing.min(data.len())));
                let Ok(prefix) = <[u8; PREFIX]>::try_from(&self.prefix[..]) else {
                    self.message = Progress::Awaited(lease);
                    return Ok(());
                };
                let (compression, length) = self.head(prefix)?;
                let reading = Reading::new(compression, begin(), self.limit, lease)?;
                (reading, length)
            }
        };
        let Some(missing) = missing.checked_sub(data.len()) else {
            return Err(Rejection::Framing(
                "there are bytes behind the message".to_owned(),
            ));
        };
        self.message = Progress::Begun(reading.feed(data).await?, missing);
        Ok(())
    }

    /// Compression and length of the message.
    fn head(&self, [flag, length @ ..]: [u8; PREFIX]) -> Result<(Compression, usize), Rejection> {
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(Unreadable::TooLarge(self.limit).into());
        }
        match flag {
            0 => Ok((Compression::Identity, length)),
            1 if self.compression != Compression::Identity => Ok((self.compression, length)),
            _ => Err(Rejection::Framing(format!(
                "the message has compression flag {flag}, which its grpc-encoding does not allow"
            ))),
        }
    }

    async fn finish(self) -> Result<(Screened, Lease), Rejection> {
        let Progress::Begun(reading, 0) = self.message else {
            return Err(Rejection::Framing(
                "the request ended inside its message".to_owned(),
            ));
        };
        let (screening, lease) = reading.finish().await?;
        let screened = screening.finish().map_err(Unreadable::Malformed)?;
        Ok((screened, lease))
    }
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
    // What is not gRPC at all is told in terms of HTTP too.
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

fn success(unreadable: u64) -> Response<Body> {
    let message = ExportLogsServiceResponse {
        partial_success: partial_success(unreadable),
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
