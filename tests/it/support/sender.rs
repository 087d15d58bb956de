//! Senders: the generated client of OpenTelemetry's own crate, and requests made by hand.
#![expect(
    clippy::disallowed_methods,
    reason = "a client of the tests has no task tracker"
)]

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
    },
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message as _;
use tonic::{Status, codec::CompressionEncoding, transport::Channel};

/// A client of the service.
pub(crate) async fn client(address: SocketAddr) -> LogsServiceClient<Channel> {
    LogsServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap()
}

/// Sends these lines as string bodies.
pub(crate) async fn send(
    address: SocketAddr,
    lines: &[String],
    compression: Option<CompressionEncoding>,
) -> Result<ExportLogsServiceResponse, Status> {
    let mut client = client(address).await;
    if let Some(compression) = compression {
        client = client.send_compressed(compression);
    }
    client
        .export(request(lines))
        .await
        .map(tonic::Response::into_inner)
}

/// The same to a service that may be away.
pub(crate) async fn try_send(address: SocketAddr, lines: &[String]) -> Result<(), Status> {
    let mut client = LogsServiceClient::connect(format!("http://{address}"))
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    client.export(request(lines)).await.map(drop)
}

/// Lines as the records of a cluster named `test`.
pub(crate) fn request(lines: &[String]) -> ExportLogsServiceRequest {
    let text = |text: &str| {
        Some(AnyValue {
            value: Some(Value::StringValue(text.to_owned())),
        })
    };
    let log_records = lines
        .iter()
        .map(|line| LogRecord {
            body: text(line),
            ..Default::default()
        })
        .collect();
    let attribute = KeyValue {
        key: "k8s.cluster.name".to_owned(),
        value: text("test"),
        ..Default::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![attribute],
                ..Default::default()
            }),
            scope_logs: vec![ScopeLogs {
                log_records,
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

/// A gRPC message: flag, length, bytes.
pub(crate) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

/// The encoded request of [`request`], framed.
pub(crate) fn framed_request(lines: &[String]) -> Vec<u8> {
    framed(0, &request(lines).encode_to_vec())
}

/// How a request made by hand ends.
pub(crate) enum End {
    /// As it should.
    Well,
    /// The connection is cut inside the body.
    Cut,
}

/// Sends frames of bytes to a path with these headers; status code, headers and trailers of the
/// answer. `None` when there was none.
pub(crate) async fn raw(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    frames: Vec<Vec<u8>>,
    end: End,
) -> Option<(http::StatusCode, HeaderMap)> {
    let mut sender = connect(address).await;
    let frames = frames
        .into_iter()
        .map(|frame| Ok(Frame::data(Bytes::from(frame))));
    let cut = match end {
        End::Well => None,
        End::Cut => Some(Err(std::io::Error::other("cut"))),
    };
    let body = StreamBody::new(tokio_stream::iter(frames.chain(cut)));
    let mut request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(body).unwrap())
        .await
        .ok()?;
    let status = response.status();
    let mut all = response.headers().clone();
    let body = response.into_body().collect().await.ok()?;
    all.extend(body.trailers().cloned().unwrap_or_default());
    Some((status, all))
}

type Piece = Result<Frame<Bytes>, std::io::Error>;
type Stream = StreamBody<tokio_stream::wrappers::ReceiverStream<Piece>>;

/// A connection with HTTP/2.
async fn connect<B>(address: SocketAddr) -> SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + Unpin + 'static,
{
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

/// A request with one message, by another method or of another type than gRPC's.
pub(crate) async fn http2(
    address: SocketAddr,
    method: &str,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> Option<(http::StatusCode, HeaderMap)> {
    let mut sender = connect(address).await;
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .header("content-type", kind)
        .body(StreamBody::new(tokio_stream::iter([Ok(Frame::data(
            Bytes::from(body),
        ))])))
        .unwrap();
    let response = sender.send_request(request).await.ok()?;
    let (status, mut headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.ok()?;
    headers.extend(body.trailers().cloned().unwrap_or_default());
    Some((status, headers))
}

/// A request over gRPC that has begun and never ends, until this is dropped.
pub(crate) struct Hanging {
    body: tokio::sync::mpsc::Sender<Piece>,
    answer: tokio::task::JoinHandle<Option<Response<Incoming>>>,
    connection: SendRequest<Stream>,
    address: SocketAddr,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Hanging {
    /// Sends the first bytes of a request.
    pub(crate) async fn start(address: SocketAddr, first: Vec<u8>) -> Self {
        let mut connection = connect(address).await;
        let (body, frames) = tokio::sync::mpsc::channel(1);
        let request = Self::request(address, frames);
        let answer = connection.send_request(request);
        let this = Self {
            body,
            answer: tokio::spawn(async move { answer.await.ok() }),
            connection,
            address,
        };
        this.send(first).await;
        this
    }

    fn request(address: SocketAddr, frames: tokio::sync::mpsc::Receiver<Piece>) -> Request<Stream> {
        Request::post(format!(
            "http://{address}/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        ))
        .header("content-type", "application/grpc")
        .body(StreamBody::new(
            tokio_stream::wrappers::ReceiverStream::new(frames),
        ))
        .unwrap()
    }

    /// Sends more of it.
    pub(crate) async fn send(&self, bytes: Vec<u8>) {
        let bytes = Ok(Frame::data(Bytes::from(bytes)));
        self.body.send(bytes).await.unwrap();
        // The bytes are on their way when the channel has room again.
        drop(self.body.reserve().await.unwrap());
    }

    /// What it is answered, if anything. Dropping the future changes nothing.
    pub(crate) async fn answer(&mut self) -> Option<Response<Incoming>> {
        (&mut self.answer).await.unwrap()
    }

    /// Sends a whole request over the same connection.
    pub(crate) async fn another(&mut self, bytes: Vec<u8>) -> Option<Response<Incoming>> {
        let (body, frames) = tokio::sync::mpsc::channel(1);
        let bytes = Ok(Frame::data(Bytes::from(bytes)));
        body.send(bytes).await.unwrap();
        drop(body);
        self.connection
            .send_request(Self::request(self.address, frames))
            .await
            .ok()
    }
}

/// Status, headers and body of an HTTP answer.
pub(crate) type Answer = (http::StatusCode, HeaderMap, Bytes);

/// Sends an HTTP/1.1 request.
pub(crate) async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Option<Answer> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = http_body_util::Full::new(Bytes::from(body));
    let response = sender
        .send_request(request.body(body).unwrap())
        .await
        .ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    Some((
        status,
        headers,
        response.into_body().collect().await.ok()?.to_bytes(),
    ))
}

/// Text bodies as the maps that a JSON parser of the Collector makes of them.
pub(crate) fn as_maps(request: &mut ExportLogsServiceRequest) {
    for of_resource in &mut request.resource_logs {
        for of_scope in &mut of_resource.scope_logs {
            for record in &mut of_scope.log_records {
                if let Some(AnyValue {
                    value: Some(Value::StringValue(text)),
                }) = &record.body
                {
                    record.body = Some(any(&serde_json::from_str(text).unwrap()));
                }
            }
        }
    }
}

fn any(value: &serde_json::Value) -> AnyValue {
    let value = match value {
        serde_json::Value::Null => None,
        serde_json::Value::Bool(value) => Some(Value::BoolValue(*value)),
        // As Go reads numbers.
        serde_json::Value::Number(value) => Some(Value::DoubleValue(value.as_f64().unwrap())),
        serde_json::Value::String(value) => Some(Value::StringValue(value.clone())),
        serde_json::Value::Array(values) => Some(Value::ArrayValue(ArrayValue {
            values: values.iter().map(any).collect(),
        })),
        serde_json::Value::Object(pairs) => Some(Value::KvlistValue(KeyValueList {
            values: pairs
                .iter()
                .map(|(key, value)| KeyValue {
                    key: key.clone(),
                    value: Some(any(value)),
                    ..Default::default()
                })
                .collect(),
        })),
    };
    AnyValue { value }
}
