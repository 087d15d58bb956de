//! The `otlp` receiver over HTTP: `POST /v1/logs`, in protobuf or JSON.
//!
//! Protobuf goes frame by frame through the decompressor into the walk, as over gRPC. JSON is read
//! whole, because its resource may come behind its records, and then takes the same way.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    request::Parts,
};
use http_body_util::Full;
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;

use super::{
    admission::Lease,
    consumer::{Accepted, Consumer},
    decompress::{Compression, Unreadable, Whole},
    reading::{LINGER, Reading, apart, compression, drain, read_into},
    rejection::Rejection,
    server::{Shared, listen},
    steps::{Received, Steps},
};
use crate::{
    extension::bearer_token_auth::BearerTokenAuth,
    http_server::{self, Before, Connections, Error, Handler, Limits, Listening, Versions},
    pdata::{Visitor, Walk, json},
    tls,
};

/// Where logs are posted to.
const PATH: &str = "/v1/logs";
/// JSON of at most this many bytes is read where it came in: that takes a few milliseconds.
const SHORT: usize = 256 * 1024;

/// Settings of the HTTP server of an `otlp` receiver.
#[derive(Clone, Debug)]
pub struct Config {
    /// `endpoint`: host and port to listen on.
    pub endpoint: String,
    /// `max_request_body_size`: most bytes of a body, also after decompression.
    pub max_request_body_size: usize,
    /// Limits of its connections.
    pub limits: Limits,
    /// `tls`; `None`: in the clear.
    pub tls: Option<tls::server::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4318".to_owned(),
            max_request_body_size: 64 * 1024 * 1024,
            limits: Limits {
                idle_timeout: Duration::from_mins(1),
                ..Limits::default()
            },
            tls: None,
        }
    }
}

/// A receiver that listens, and does not serve yet.
#[derive(Debug)]
pub struct OtlpHttp {
    listening: Listening,
    max_body: usize,
    limits: Limits,
    auth: Option<BearerTokenAuth>,
}

impl OtlpHttp {
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
        let listening = listen(before, &config.endpoint, Versions::All, tls).await?;
        Ok(Self {
            listening,
            max_body: config.max_request_body_size,
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

    /// Serves HTTP/1.1 and HTTP/2 until it is to stop, then finishes what has begun. Its
    /// connections end with it.
    pub async fn serve(self, consumer: impl Consumer, shared: Shared) {
        let logs = Logs {
            steps: Arc::new(Steps::new(
                consumer,
                shared.clone(),
                self.limits.read_timeout,
                self.auth,
            )),
            max_body: self.max_body,
        };
        let listening = self.listening.under(shared.pressure.clone());
        http_server::serve(listening, self.limits, logs, shared.ends()).await;
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

#[derive(Clone)]
struct Logs<C> {
    steps: Arc<Steps<C>>,
    max_body: usize,
}

impl<C: Consumer> Handler for Logs<C> {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        // A sender of neither may at least read JSON.
        let format = Format::of(&head.headers).unwrap_or(Format::Json);
        let rejection = match self.handle(&head, &mut body).await {
            Ok(accepted) => return success(accepted, format),
            Err(rejection) => rejection,
        };
        self.steps.rejected(&head, &rejection);
        if rejection.is_final() && head.version < Version::HTTP_2 {
            // Many clients read no answer before they have sent all. Closing on them now would
            // break their connection, and they would try again what can never be taken.
            let _drained = tokio::time::timeout(LINGER, drain(&mut body)).await;
        }
        rejected(&rejection, format)
    }
}

impl<C: Consumer> Logs<C> {
    /// The life of a request.
    async fn handle(&self, head: &Parts, body: &mut Incoming) -> Result<Accepted, Rejection> {
        let deadline = self.steps.deadline();
        let caller = self.steps.authenticate(head, deadline).await?;
        let (format, compression) = content(head)?;
        let lease = self.steps.admit(caller, head)?;
        let read = self.read(body, format, compression, lease);
        let received = deadline.within(read).await?;
        self.steps.submit(caller, received).await
    }

    /// Reads the one message of a request.
    async fn read(
        &self,
        body: &mut Incoming,
        format: Format,
        compression: Compression,
        lease: Lease,
    ) -> Result<Received<C::Visitor>, Rejection> {
        let walk = self.steps.visit();
        let (walk, lease) = match format {
            Format::Protobuf => read_into(walk, body, compression, self.max_body, lease).await?,
            Format::Json => {
                let whole = Whole::new(self.max_body);
                let (whole, lease) =
                    read_into(whole, body, compression, self.max_body, lease).await?;
                walk_json(whole.into_text(), walk, lease, self.max_body).await?
            }
        };
        Received::new(walk, lease)
    }
}

/// Walks the request that a JSON text is. Its memory is held until it is read, also when its sender
/// does not wait for that.
async fn walk_json<V: Visitor + Send + 'static>(
    text: Vec<u8>,
    walk: Walk<V>,
    mut lease: Lease,
    limit: usize,
) -> Result<(Walk<V>, Lease), Rejection> {
    // The protobuf takes about as much again, twice that at worst.
    lease.hold(text.len().saturating_mul(3))?;
    let is_short = text.len() <= SHORT;
    let turn = if is_short {
        lease.turn().await
    } else {
        lease.long_turn().await
    };
    let read = move || {
        let request = json::to_protobuf(&text).map_err(Unreadable::Json)?;
        drop(text);
        // The text is within the limit, and what it is written as may be longer.
        let limit = limit.max(request.len());
        Reading::new(Compression::Identity, walk, limit, lease)?
            .beside(request.len())
            .feed_all(&request)?
            .end()
    };
    if is_short {
        let _turn = turn;
        return read();
    }
    // Other requests do not wait for it: a large one takes a second.
    apart(turn, read).await?
}

/// Format and compression of a request, if both are supported.
fn content(head: &Parts) -> Result<(Format, Compression), Rejection> {
    if head.uri.path() != PATH {
        return Err(Rejection::Unknown {
            found: head.uri.path().to_owned(),
            known: PATH,
        });
    }
    if head.method != Method::POST {
        return Err(Rejection::Method(head.method.clone()));
    }
    let format = Format::of(&head.headers).ok_or(Rejection::ContentType(
        "application/x-protobuf or application/json",
    ))?;
    let compression = compression(&head.headers)?;
    Ok((format, compression))
}

fn success(accepted: Accepted, format: Format) -> Response<Full<Bytes>> {
    let partial_success = accepted.partial_success();
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
fn rejected(rejection: &Rejection, format: Format) -> Response<Full<Bytes>> {
    let (code, message) = (rejection.code() as i32, rejection.text());
    let body = match format {
        Format::Protobuf => tonic_types::pb::Status {
            code,
            message,
            details: Vec::new(),
        }
        .encode_to_vec(),
        Format::Json => serde_json::json!({"code": code, "message": message})
            .to_string()
            .into_bytes(),
    };
    let mut response = respond(rejection.status(), body, format);
    let headers = response.headers_mut();
    if let Some(wait) = rejection.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    if let Rejection::Unauthenticated(denied) = rejection {
        headers.insert(WWW_AUTHENTICATE, denied.challenge());
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("POST");
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

fn respond(status: StatusCode, body: Vec<u8>, format: Format) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, format.name());
    response
}
