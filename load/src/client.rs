//! Connections to what is measured.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{body::Frame, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::scenario::{Compression, Protocol, Scenario};

/// What is connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// An OTLP endpoint.
    Otlp(SocketAddr),
    /// The bare TCP sink.
    Sink(SocketAddr),
}

/// A body in pieces of 16 KiB, which is how grpc-go sends.
type Pieces = StreamBody<InPieces>;

/// A connection that sends one request after another.
pub(crate) enum Connection {
    Grpc {
        sender: conn::http2::SendRequest<Pieces>,
        uri: String,
        encoding: Option<&'static str>,
    },
    Http {
        sender: conn::http1::SendRequest<Full<Bytes>>,
        host: String,
        encoding: Option<&'static str>,
    },
    Sink(TcpStream),
}

impl Connection {
    pub(crate) async fn to(target: Target, scenario: &Scenario) -> anyhow::Result<Self> {
        let encoding = match scenario.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        };
        let (Target::Otlp(address) | Target::Sink(address)) = target;
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("nothing answers at {address}"))?;
        stream.set_nodelay(true)?;
        Ok(match (target, scenario.protocol) {
            (Target::Sink(_), _) => Self::Sink(stream),
            (Target::Otlp(_), Protocol::Grpc) => {
                let (sender, driver) = conn::http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(1 << 20)
                    .handshake(TokioIo::new(stream))
                    .await?;
                tokio::spawn(driver);
                let uri = format!(
                    "http://{address}/opentelemetry.proto.collector.logs.v1.LogsService/Export"
                );
                Self::Grpc {
                    sender,
                    uri,
                    encoding,
                }
            }
            (Target::Otlp(_), Protocol::Http) => {
                let (sender, driver) = conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(driver);
                Self::Http {
                    sender,
                    host: address.to_string(),
                    encoding,
                }
            }
        })
    }

    /// Sends a request. An error: it was not accepted whole.
    pub(crate) async fn send(&mut self, message: &Bytes) -> anyhow::Result<()> {
        match self {
            Self::Grpc {
                sender,
                uri,
                encoding,
            } => {
                let mut request = Request::post(uri.as_str())
                    .header("content-type", "application/grpc")
                    .header("te", "trailers");
                if let Some(encoding) = encoding {
                    request = request.header("grpc-encoding", *encoding);
                }
                let request = request.body(StreamBody::new(InPieces(message.clone())))?;
                sender.ready().await?;
                let answer = sender.send_request(request).await?;
                let mut headers = answer.headers().clone();
                let body = answer.into_body().collect().await?;
                headers.extend(body.trailers().cloned().unwrap_or_default());
                let status = headers
                    .get("grpc-status")
                    .context("an answer without grpc-status")?;
                ensure!(status == "0", "refused: {headers:?}");
            }
            Self::Http {
                sender,
                host,
                encoding,
            } => {
                let mut request = Request::post("/v1/logs")
                    .header("host", host.as_str())
                    .header("content-type", "application/x-protobuf");
                if let Some(encoding) = encoding {
                    request = request.header("content-encoding", *encoding);
                }
                sender.ready().await?;
                let answer = sender
                    .send_request(request.body(Full::new(message.clone()))?)
                    .await?;
                let status = answer.status();
                let _body = answer.into_body().collect().await?;
                ensure!(status.is_success(), "refused with status {status}");
            }
            Self::Sink(stream) => {
                stream.write_u32(u32::try_from(message.len())?).await?;
                stream.write_all(message).await?;
                let _done = stream.read_u8().await?;
            }
        }
        Ok(())
    }
}

/// Bytes as frames of at most 16 KiB.
pub(crate) struct InPieces(Bytes);

impl futures_core::Stream for InPieces {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        const PIECE: usize = 16 * 1024;
        let length = self.0.len().min(PIECE);
        let next = (length > 0).then(|| Ok(Frame::data(self.0.split_to(length))));
        std::task::Poll::Ready(next)
    }
}
