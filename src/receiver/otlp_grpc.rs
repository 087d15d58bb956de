//! The `otlp` receiver over gRPC: `LogsService/Export`, taken frame by frame.
//!
//! tonic's server does HTTP/2, limits and routing. The method itself is ours, because a codec
//! would put a whole message together before anybody could look at it: here each frame of the
//! body goes straight through the decompressor into the screening.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    Consumer, Error, Refusal,
    decompress::{Compression, Inflow, Unreadable},
    listen, partial_success,
};
use crate::detection::screen::{Screened, Screening};

/// Name of the service and its one method.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// What a stream may send ahead: enough for line rate over a real round trip.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// What a connection may send ahead.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Settings of the gRPC server of an `otlp` receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `endpoint`: host and port to listen on.
    pub endpoint: String,
    /// `max_recv_msg_size_mib`, in bytes: the largest message, also after decompression.
    pub max_recv_msg_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4317".to_owned(),
            max_recv_msg_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A receiver that listens, and does not serve yet.
#[derive(Debug)]
pub struct OtlpGrpc {
    listener: TcpListener,
    address: SocketAddr,
    max_message: usize,
}

impl OtlpGrpc {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        let (listener, address) = listen(&config.endpoint).await?;
        Ok(Self {
            listener,
            address,
            max_message: config.max_recv_msg_bytes,
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then finishes what has begun.
    ///
    /// # Errors
    /// When the server fails for good.
    pub async fn serve(
        self,
        consumer: impl Consumer,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let service = LogsService {
            consumer,
            max_message: self.max_message,
        };
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(std::time::Duration::from_mins(1)))
            .add_service(service)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(self.listener).with_nodelay(Some(true)),
                stop.cancelled_owned(),
            )
            .await?;
        Ok(())
    }
}

/// `opentelemetry.proto.collector.logs.v1.LogsService`
#[derive(Clone)]
struct LogsService<C> {
    consumer: C,
    max_message: usize,
}

impl<C> NamedService for LogsService<C> {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl<C: Consumer> tower_service::Service<Request<Body>> for LogsService<C> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

impl<C: Consumer> LogsService<C> {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let screened = match self.receive(request).await {
            Ok(screened) => screened,
            Err(status) => {
                self.consumer.refused();
                let mut response = status.into_http();
                response.headers_mut().insert(
                    "grpc-accept-encoding",
                    HeaderValue::from_static(Compression::OFFERED),
                );
                return response;
            }
        };
        let unreadable = screened.unreadable;
        match self.consumer.consume(screened).await {
            Ok(()) => success(unreadable),
            Err(refusal) => refused(refusal).into_http(),
        }
    }

    /// Screens a request as its frames come in.
    async fn receive(&self, request: Request<Body>) -> Result<Screened, Status> {
        let (head, mut body) = request.into_parts();
        if head.uri.path() != EXPORT {
            return Err(Status::unimplemented(format!(
                "there is no method {}, only {EXPORT}",
                head.uri.path()
            )));
        }
        let compression = compression(&head.headers)?;
        let mut message = MessageReader::new(compression, self.max_message);
        while let Some(frame) = body.frame().await {
            // Whoever cut the connection hears no answer; nothing of the request counts.
            let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                message.feed(data, || self.consumer.begin())?;
            }
        }
        message.finish()
    }
}

/// The compression named by the request.
fn compression(headers: &HeaderMap) -> Result<Compression, Status> {
    let name = headers
        .get("grpc-encoding")
        .map_or(&b""[..], HeaderValue::as_bytes);
    Compression::from_name(name).ok_or_else(|| {
        Status::unimplemented(format!(
            "compression {:?} is not supported, use one of {}",
            String::from_utf8_lossy(name),
            Compression::OFFERED
        ))
    })
}

/// One length-prefixed gRPC message, whatever the frames it comes in.
struct MessageReader {
    compression: Compression,
    limit: usize,
    prefix: BytesMut,
    /// The message and how many of its bytes are still to come.
    message: Option<(Inflow<Screening>, usize)>,
}

/// Compression flag and length.
const PREFIX: usize = 5;

impl MessageReader {
    fn new(compression: Compression, limit: usize) -> Self {
        Self {
            compression,
            limit,
            prefix: BytesMut::with_capacity(PREFIX),
            message: None,
        }
    }

    fn feed(&mut self, mut data: Bytes, begin: impl FnOnce() -> Screening) -> Result<(), Status> {
        if self.message.is_none() {
            let missing = PREFIX - self.prefix.len();
            self.prefix.put(data.split_to(missing.min(data.len())));
            let Ok(prefix) = <[u8; PREFIX]>::try_from(&self.prefix[..]) else {
                return Ok(());
            };
            let [flag, length @ ..] = prefix;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > self.limit {
                return Err(too_large(length, self.limit));
            }
            let compression = match flag {
                0 => Compression::Identity,
                1 if self.compression != Compression::Identity => self.compression,
                _ => {
                    return Err(Status::invalid_argument(format!(
                        "the message has compression flag {flag}, which its grpc-encoding does not allow"
                    )));
                }
            };
            let inflow = Inflow::new(compression, begin(), self.limit)
                .map_err(|error| unreadable(&error))?;
            self.message = Some((inflow, length));
        }
        let Some((inflow, missing)) = &mut self.message else {
            return Ok(());
        };
        if data.len() > *missing {
            return Err(Status::invalid_argument(
                "there are bytes behind the message",
            ));
        }
        *missing -= data.len();
        inflow.feed(&data).map_err(|error| unreadable(&error))
    }

    fn finish(self) -> Result<Screened, Status> {
        match self.message {
            Some((inflow, 0)) => inflow
                .finish()
                .and_then(|screening| Ok(screening.finish()?))
                .map_err(|error| unreadable(&error)),
            _ => Err(Status::invalid_argument(
                "the request ended inside its message",
            )),
        }
    }
}

fn unreadable(error: &Unreadable) -> Status {
    let code = match error {
        // Without RetryInfo: the Collector then gives the request up instead of sending it again.
        Unreadable::TooLarge(_) => Code::ResourceExhausted,
        Unreadable::Malformed(_) | Unreadable::Compression(_) | Unreadable::Json(_) => {
            Code::InvalidArgument
        }
    };
    Status::new(code, error.to_string())
}

fn too_large(length: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "the message of {length} bytes is larger than {limit} bytes: \
         raise max_recv_msg_size_mib or send smaller batches"
    ))
}

/// Try again later, in the one form that every Collector understands.
fn refused(refusal: Refusal) -> Status {
    Status::with_error_details(
        Code::Unavailable,
        refusal.to_string(),
        ErrorDetails::with_retry_info(Some(refusal.retry_after())),
    )
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
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}
