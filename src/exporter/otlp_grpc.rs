//! The `otlp_grpc` exporter: findings as log records to an OTLP receiver, over gRPC.
//!
//! One connection, made when it is needed and made again when it is gone. With
//! `tls::server_name_override` that name is the authority of each request, asked for in TLS and
//! looked for in the certificate, while a resolver leads it to where the endpoint is.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{CONTENT_TYPE, USER_AGENT},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, combinators::MapErr};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use tonic::{Code, Status, body::Body, codec::CompressionEncoding};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::{
    Exporter, Outcome,
    auth::Headers,
    compression::Compression,
    dead_letter,
    http_client::advised,
    otlp::{
        Warnings,
        request::{self, Observed, REQUEST_MAX},
        response,
    },
    queue::{QueueConfig, RetryConfig},
    tls_errors::{LastAdvice, Noting},
    way::Way,
};
use crate::{
    clock, deadline,
    detection::Finding,
    endpoint::{Endpoint, Host},
    extension::bearer_token_auth,
    proxy::{self, Proxies},
    tls::{self, advice::Advice},
};

/// The one method of the service for logs.
const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Most bytes of an answer, which the specification asks receivers to keep to.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Settings of one `otlp_grpc` exporter, under the Collector's key names.
#[derive(Clone, Debug)]
pub struct Config {
    /// `endpoint`: host and port, after `http://`, `https://` or `dns:///` or nothing. Required.
    pub endpoint: String,
    /// `tls`.
    pub tls: tls::client::Config,
    /// `headers` that go with every request. Their values are secrets.
    pub headers: HeaderMap,
    /// `auth::authenticator`: the extension whose first token goes with every request.
    pub auth: Option<bearer_token_auth::Config>,
    /// `compression` of requests.
    pub compression: Compression,
    /// `timeout` of one request.
    pub timeout: Duration,
    /// `sending_queue`.
    pub queue: QueueConfig,
    /// `retry_on_failure`.
    pub retry: RetryConfig,
    /// The proxies of the environment.
    pub proxies: Proxies,
    /// `dead_letter`: what becomes of findings that can never be delivered.
    pub dead_letter: dead_letter::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tls: tls::client::Config::default(),
            headers: HeaderMap::new(),
            auth: None,
            compression: Compression::Gzip,
            timeout: Duration::from_secs(5),
            queue: QueueConfig::default(),
            retry: RetryConfig::default(),
            proxies: Proxies::default(),
            dead_letter: dead_letter::Config::default(),
        }
    }
}

/// Why an exporter cannot be made of its settings. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is none.
    #[error("endpoint: {0}")]
    Endpoint(&'static str),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The proxy of the environment cannot be used.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// There is no token to send.
    #[error("auth: {0}")]
    Auth(#[from] bearer_token_auth::Error),
}

/// Host and port of an endpoint, checked against what `tls` says.
///
/// # Errors
/// What is wrong with it.
pub fn address(endpoint: &str, tls: &tls::client::Config) -> Result<String, &'static str> {
    let schemes = ["https://", "http://", "dns:///"];
    let (scheme, address) = schemes
        .iter()
        .find_map(|scheme| Some((*scheme, endpoint.strip_prefix(scheme)?)))
        .unwrap_or(("", endpoint));
    match (scheme, tls.insecure) {
        ("https://", true) => {
            return Err("https:// and tls::insecure contradict each other, remove one");
        }
        ("http://", false) => {
            return Err("http:// speaks no TLS, set tls: {insecure: true} or write https://");
        }
        _ => {}
    }
    if address.contains("://") || address.starts_with("unix:") {
        return Err("expected host:port, with https://, http://, dns:/// or nothing before it");
    }
    if address.contains('@') {
        return Err("holds a user name or password, which headers are for");
    }
    let address = Endpoint::to_dial(address).map_err(|why| why.0)?;
    match &address.host {
        Host::Name(name) if !tls::client::is_host_name(name) => {
            Err("expected host:port, such as collector:4317")
        }
        // Go connects to this machine there.
        Host::All => Err("expected the address of a host, such as 127.0.0.1:4317"),
        _ => Ok(address.to_string()),
    }
}

/// The `otlp_grpc` exporter.
pub struct OtlpGrpc {
    transport: Transport,
    origin: Uri,
    compression: Option<CompressionEncoding>,
    timeout: Duration,
    headers: Headers,
    observed: Observed,
    warnings: Warnings,
    /// Whether an attempt is under way.
    waits: bool,
}

impl fmt::Debug for OtlpGrpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpGrpc")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl OtlpGrpc {
    /// Checks the settings and prepares the client. Connects to nothing yet.
    ///
    /// # Errors
    /// A setting that cannot work, by its name.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let address = address(config.endpoint.trim(), &config.tls).map_err(Error::Endpoint)?;
        let (host, port) = address.rsplit_once(':').unwrap_or((&address, "4317"));
        let (scheme, rustls) = if config.tls.insecure {
            // Its certificates are not used.
            let unused = tls::client::Config {
                insecure_skip_verify: true,
                ..tls::client::Config::default()
            };
            ("http", unused.build()?)
        } else {
            ("https", config.tls.build()?)
        };
        let server_name = config
            .tls
            .server_name_override
            .as_deref()
            .filter(|_| !config.tls.insecure);
        let origin = format!("{scheme}://{}:{port}", server_name.unwrap_or(host));
        let origin = origin
            .parse()
            .map_err(|_| Error::Endpoint("is no address that requests can be sent to"))?;
        let proxy = match server_name {
            // It would look for the name itself.
            Some(_) => None,
            // As grpc-go: HTTPS_PROXY, with and without TLS.
            None => config
                .proxies
                .of_host(true, host, port.parse().unwrap_or_default())?,
        };
        let way = Way::new(host, proxy.as_ref(), config.timeout / 2)?;
        let advice = LastAdvice::default();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(rustls)
            .https_or_http()
            .enable_http2()
            .wrap_connector(way);
        let mut headers = config.headers.clone();
        let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(agent));
        Ok(Self {
            transport: Transport::new(Noting::new(connector, advice.clone()), advice),
            headers: Headers::new(headers, &config.headers, config.auth.as_ref())?,
            origin,
            compression: match config.compression {
                Compression::Gzip => Some(CompressionEncoding::Gzip),
                Compression::Zstd => Some(CompressionEncoding::Zstd),
                Compression::None => None,
            },
            timeout: config.timeout,
            observed: Observed::default(),
            warnings: Warnings::default(),
            waits: false,
        })
    }

    /// Sends one request, which holds this number of records, once, and says how it ended.
    pub async fn export(&mut self, message: ExportLogsServiceRequest, records: usize) -> Outcome {
        let (headers, secrets) = self.headers.now().await;
        if std::mem::replace(&mut self.waits, true) {
            // The attempt before was dropped while it waited, as one that is late.
            self.transport = self.transport.anew();
        }
        self.transport.headers = headers;
        let answer = deadline::within(self.timeout, "the answer", self.attempt(message)).await;
        self.waits = false;
        match answer {
            Ok(Ok(answer)) => {
                let partial = answer.partial_success.as_ref();
                let judged = response::accepted(partial, records, &secrets);
                self.warnings.log(judged.warning);
                judged.outcome
            }
            Ok(Err(status)) => {
                if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
                    // Another connection may lead to a server that is well.
                    self.transport = self.transport.anew();
                }
                response::grpc(&status, records, &secrets)
            }
            Err(_) => {
                // A connection whose other end is gone without a word would be used again for
                // many minutes.
                self.transport = self.transport.anew();
                Outcome::retry(format!("no answer within timeout ({:?})", self.timeout))
            }
        }
    }

    async fn attempt(
        &self,
        message: ExportLogsServiceRequest,
    ) -> Result<ExportLogsServiceResponse, Status> {
        let mut client = tonic::client::Grpc::with_origin(self.transport.clone(), self.origin.clone())
                .max_decoding_message_size(ANSWER_MAX)
                // grpc-go, and so the Collector, compresses its answer as the request was.
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd);
        if let Some(encoding) = self.compression {
            client = client.send_compressed(encoding);
        }
        let mut request = tonic::Request::new(message);
        // The receiver may end the request then; our own clock counts too.
        request.set_timeout(self.timeout);
        let path = PathAndQuery::from_static(PATH);
        let answer = client.unary(request, path, ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }
}

impl Exporter for OtlpGrpc {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        let times = self.observed.times(batch, clock::unix_nanos());
        let request = request::first(batch, &times, REQUEST_MAX);
        self.export(request.message, request.findings).await
    }
}

type Connector = Noting<HttpsConnector<Way>>;

/// The connection under gRPC. An error of its own is a status with a source, which none that a
/// server sends has.
#[derive(Clone)]
struct Transport {
    client: Client<Connector, Body>,
    connector: Connector,
    advice: LastAdvice,
    /// Those of the next request.
    headers: HeaderMap,
}

impl Transport {
    fn new(connector: Connector, advice: LastAdvice) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .build(connector.clone());
        Self {
            client,
            connector,
            advice,
            headers: HeaderMap::new(),
        }
    }

    /// The same without its connections.
    fn anew(&self) -> Self {
        Self::new(self.connector.clone(), self.advice.clone())
    }
}

type Answered = http::Response<MapErr<Incoming, fn(hyper::Error) -> Status>>;
type Answering = Pin<Box<dyn Future<Output = Result<Answered, Status>> + Send>>;

impl Service<http::Request<Body>> for Transport {
    type Response = Answered;
    type Error = Status;
    type Future = Answering;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Answering {
        request.headers_mut().extend(self.headers.clone());
        let answer = self.client.request(request);
        let advice = self.advice.clone();
        // That of a connection before is no longer true.
        advice.take();
        Box::pin(async move {
            let broken: fn(hyper::Error) -> Status = |error| unanswered(error, None);
            let answer = answer
                .await
                .map_err(|error| unanswered(error, advice.take()))?;
            if !is_grpc(answer.headers()) {
                return Err(of_http(answer.status()));
            }
            Ok(answer.map(|body| body.map_err(broken)))
        })
    }
}

/// A proxy's friendly 200.
#[derive(Debug, thiserror::Error)]
#[error("what answers there does not speak gRPC, is endpoint right?")]
struct NotGrpc;

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
        || headers.contains_key("grpc-status")
}

/// The status of an answer that is not gRPC at all, by the table of its specification.
fn of_http(status: http::StatusCode) -> Status {
    let code = match status.as_u16() {
        200 => return unanswered(NotGrpc, None),
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("HTTP {status}"))
}

/// A status for want of an answer; `advice` is what the connection says of it, if anything.
fn unanswered(
    error: impl std::error::Error + Send + Sync + 'static,
    advice: Option<Advice>,
) -> Status {
    let advice = advice.or_else(|| Advice::of(&error));
    let mut status = Status::unavailable(advised(&error, advice));
    status.set_source(Arc::new(error));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_the_collector_does() {
        let secure = tls::client::Config::default();
        let insecure = tls::client::Config {
            insecure: true,
            ..tls::client::Config::default()
        };
        for (endpoint, tls, wanted) in [
            ("collector:4317", &secure, Ok("collector:4317")),
            ("https://collector:4317", &secure, Ok("collector:4317")),
            ("dns:///a.example:1", &insecure, Ok("a.example:1")),
            ("http://127.0.0.1:4317", &insecure, Ok("127.0.0.1:4317")),
            ("[::1]:4317", &secure, Ok("[::1]:4317")),
            ("[192.0.2.9]:4317", &secure, Ok("192.0.2.9:4317")),
            ("[fe80::1%eth0]:4317", &secure, Err("zone")),
            ("0.0.0.0:4317", &secure, Err("127.0.0.1:4317")),
            ("http://a:1", &secure, Err("tls: {insecure: true}")),
            ("https://a:1", &insecure, Err("contradict")),
            ("a", &secure, Err("host:port")),
            ("a:0", &secure, Err("port from 1")),
            ("a:1/x", &secure, Err("port from 1")),
            (":4317", &secure, Err("host:port")),
            ("::1:4317", &secure, Err("brackets")),
            ("[x]:1", &secure, Err("between the brackets")),
            ("unix:///x:1", &secure, Err("dns:///")),
            ("a b:1", &secure, Err("host:port")),
        ] {
            match (address(endpoint, tls), wanted) {
                (Ok(address), Ok(wanted)) => assert_eq!(address, wanted),
                (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{endpoint}: {why}"),
                other => panic!("{endpoint}: {other:?}"),
            }
        }
    }

    #[test]
    fn no_header_is_printed() {
        let mut config = Config {
            endpoint: "a:1".to_owned(),
            ..Config::default()
        };
        config.tls.insecure = true;
        let mut value = HeaderValue::from_static("5ecret");
        value.set_sensitive(true);
        config.headers.insert("x-token", value);
        let exporter = OtlpGrpc::new(&config).unwrap();
        assert!(!format!("{config:?} {exporter:?}").contains("5ecret"));
    }
}
