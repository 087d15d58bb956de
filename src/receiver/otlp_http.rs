//! The `otlp` receiver over HTTP: `POST /v1/logs`, in protobuf or JSON.
//!
//! Protobuf goes frame by frame through the decompressor into the screening, as over gRPC. JSON is
//! read whole, because its resource may stand behind its records, and then takes the same way.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::{debug, warn};

use super::{
    Consumer, Error,
    decompress::{Compression, Inflow, Sink, Unreadable},
    listen, otlp_json, partial_success,
};
use crate::detection::screen::Screened;

/// Where logs are posted to.
const PATH: &str = "/v1/logs";
/// How long a sender may take for the headers of a request, and for each further piece of its body.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait when no connection can be accepted, for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Settings of the HTTP server of an `otlp` receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `endpoint`: host and port to listen on.
    pub endpoint: String,
    /// `max_request_body_size`: most bytes of a body, also after decompression.
    pub max_request_body_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4318".to_owned(),
            max_request_body_size: 64 * 1024 * 1024,
        }
    }
}

/// A receiver that listens, and does not serve yet.
#[derive(Debug)]
pub struct OtlpHttp {
    listener: TcpListener,
    address: SocketAddr,
    max_body: usize,
}

impl OtlpHttp {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        let (listener, address) = listen(&config.endpoint).await?;
        Ok(Self {
            listener,
            address,
            max_body: config.max_request_body_size,
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves HTTP/1.1 and HTTP/2 until `stop`, then finishes what has begun. Its connections end
    /// with it.
    pub async fn serve(self, consumer: impl Consumer, stop: CancellationToken) {
        let logs = Logs {
            consumer,
            max_body: self.max_body,
        };
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE);
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(BREATH).await;
                        continue;
                    }
                },
            };
            // Without it answers are only later, not wrong.
            let _set = stream.set_nodelay(true);
            let logs = logs.clone();
            let service = service_fn(move |request| {
                let logs = logs.clone();
                async move { Ok::<_, Infallible>(logs.answer(request).await) }
            });
            let connection = server.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection.into_owned());
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "connection ended");
                }
            });
        }
        drop(self.listener);
        graceful.shutdown().await;
    }
}

/// The content type of a request, and so of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

impl Format {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let name = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let name = name.split(';').next().unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }
}

/// Why a request is not taken.
struct Failure {
    status: StatusCode,
    code: Code,
    message: String,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        let (status, code) = match error {
            Unreadable::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            Unreadable::Malformed(_) | Unreadable::Compression(_) | Unreadable::Json(_) => {
                (StatusCode::BAD_REQUEST, Code::InvalidArgument)
            }
        };
        Self::new(status, code, error.to_string())
    }
}

#[derive(Clone)]
struct Logs<C> {
    consumer: C,
    max_body: usize,
}

impl<C: Consumer> Logs<C> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let format = Format::of(request.headers());
        let screened = match self.receive(request, format).await {
            Ok(screened) => screened,
            Err(failure) => {
                self.consumer.refused();
                return failed(failure, format.unwrap_or(Format::Json));
            }
        };
        let (unreadable, format) = (screened.unreadable, format.unwrap_or(Format::Json));
        match self.consumer.consume(screened).await {
            Ok(()) => success(unreadable, format),
            Err(refusal) => failed(
                Failure {
                    retry_after: Some(refusal.retry_after()),
                    ..Failure::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        Code::Unavailable,
                        refusal.to_string(),
                    )
                },
                format,
            ),
        }
    }

    async fn receive(
        &self,
        request: Request<Incoming>,
        format: Option<Format>,
    ) -> Result<Screened, Failure> {
        let (head, body) = request.into_parts();
        if head.uri.path() != PATH {
            let message = format!("there is no {}, only {PATH}", head.uri.path());
            return Err(Failure::new(
                StatusCode::NOT_FOUND,
                Code::Unimplemented,
                message,
            ));
        }
        if head.method != Method::POST {
            let message = format!("{} is not supported, use POST", head.method);
            return Err(Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::Unimplemented,
                message,
            ));
        }
        let unsupported = |message: String| {
            Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::Unimplemented,
                message,
            )
        };
        let format = format.ok_or_else(|| {
            unsupported(
                "the content type is not supported, use application/x-protobuf or application/json"
                    .to_owned(),
            )
        })?;
        let compression = compression(&head.headers).ok_or_else(|| {
            unsupported(format!(
                "the content encoding is not supported, use one of {}",
                Compression::OFFERED
            ))
        })?;
        match format {
            Format::Protobuf => {
                let screening = self.read(body, compression, self.consumer.begin()).await?;
                Ok(screening.finish().map_err(Unreadable::Malformed)?)
            }
            Format::Json => {
                let text = self.read(body, compression, Vec::new()).await?;
                let request = otlp_json::read(&text).map_err(Unreadable::Json)?;
                let mut screening = self.consumer.begin();
                screening
                    .feed(&request.encode_to_vec())
                    .map_err(Unreadable::Malformed)?;
                Ok(screening.finish().map_err(Unreadable::Malformed)?)
            }
        }
    }

    /// Reads a body, frame by frame, into a sink.
    async fn read<S: Sink>(
        &self,
        mut body: Incoming,
        compression: Compression,
        sink: S,
    ) -> Result<S, Failure> {
        let mut inflow = Inflow::new(compression, sink, self.max_body)?;
        let mut received = 0_usize;
        loop {
            let Ok(frame) = tokio::time::timeout(PATIENCE, body.frame()).await else {
                return Err(Failure::new(
                    StatusCode::REQUEST_TIMEOUT,
                    Code::DeadlineExceeded,
                    "the body did not come in time",
                ));
            };
            let Some(frame) = frame else { break };
            // Whoever cut the connection hears no answer; nothing of the request counts.
            let frame = frame.map_err(|error| {
                Failure::new(StatusCode::BAD_REQUEST, Code::Cancelled, error.to_string())
            })?;
            if let Ok(data) = frame.into_data() {
                received = received.saturating_add(data.len());
                if received > self.max_body {
                    return Err(Unreadable::TooLarge(self.max_body).into());
                }
                inflow.feed(&data)?;
            }
        }
        Ok(inflow.finish()?)
    }
}

/// The one compression of a body; `None` when there is another, or more than one.
fn compression(headers: &HeaderMap) -> Option<Compression> {
    let mut named = headers.get_all(CONTENT_ENCODING).iter();
    let name = named.next().map_or(&b""[..], HeaderValue::as_bytes);
    Compression::from_name(name).filter(|_| named.next().is_none())
}

fn success(unreadable: u64, format: Format) -> Response<Full<Bytes>> {
    let partial_success = partial_success(unreadable);
    let body = match (format, partial_success) {
        (Format::Protobuf, partial_success) => {
            ExportLogsServiceResponse { partial_success }.encode_to_vec()
        }
        (Format::Json, None) => b"{}".to_vec(),
        // 64-bit numbers are text in OTLP's JSON.
        (Format::Json, Some(partial)) => serde_json::json!({"partialSuccess": {
            "rejectedLogRecords": partial.rejected_log_records.to_string(),
            "errorMessage": partial.error_message,
        }})
        .to_string()
        .into_bytes(),
    };
    respond(StatusCode::OK, body, format)
}

/// An error carries a `google.rpc.Status` in the content type of the request.
fn failed(failure: Failure, format: Format) -> Response<Full<Bytes>> {
    let code = failure.code as i32;
    let body = match format {
        Format::Protobuf => tonic_types::pb::Status {
            code,
            message: failure.message,
            details: Vec::new(),
        }
        .encode_to_vec(),
        Format::Json => serde_json::json!({"code": code, "message": failure.message})
            .to_string()
            .into_bytes(),
    };
    let mut response = respond(failure.status, body, format);
    let headers = response.headers_mut();
    if let Some(wait) = failure.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    if failure.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn respond(status: StatusCode, body: Vec<u8>, format: Format) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, format.name());
    response
}
