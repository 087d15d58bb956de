//! The `k8s_audit_webhook` receiver: what an API server posts to its audit webhook.
//!
//! An API server posts an `EventList` in JSON to the URL of its kubeconfig and waits for the status
//! alone: each 2xx is a success, after all else it sends the same list again, a few times. The list
//! becomes one log record, which the consumer opens as it opens any envelope. The last segment of
//! the path may name the cluster, because an API server can send no header of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    request::Parts,
};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{
    admission::Lease,
    consumer::{Accepted, Consumer},
    decompress::{Compression, Whole},
    reading::{LINGER, Reading, apart, compression, drain, read_into},
    refusal::Refusal,
    rejection::Rejection,
    server::{Shared, listen},
    steps::{Received, Steps},
};
use crate::{
    extension::bearer_token_auth::BearerTokenAuth,
    http_server::{self, Before, Connections, Error, Handler, Limits, Listening, Versions},
    pdata::{Visitor, Walk, record_of},
    tls,
};

/// Where lists are posted to. The name of a cluster may follow.
const PATHS: &str = "/, /audit and /audit/CLUSTER";
const NO_LIST: &str = "the body is no EventList of audit.k8s.io/v1: point the audit webhook of an API server \
     here, and send other logs over otlp";
/// A list of at most this many bytes is read where it came in.
const SHORT: usize = 256 * 1024;

/// Settings of a `k8s_audit_webhook` receiver.
#[derive(Clone, Debug)]
pub struct Config {
    /// `endpoint`: host and port to listen on.
    pub endpoint: String,
    /// `cluster_name`: the cluster of lists whose path names none.
    pub cluster_name: String,
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
            endpoint: "127.0.0.1:9443".to_owned(),
            cluster_name: String::new(),
            // An API server waits 30 seconds for an answer, and shortens no list by itself.
            max_request_body_size: 64 * 1024 * 1024,
            limits: Limits {
                idle_timeout: Duration::from_mins(2),
                ..Limits::default()
            },
            tls: None,
        }
    }
}

/// A receiver that listens, and does not serve yet.
#[derive(Debug)]
pub struct K8sAuditWebhook {
    listening: Listening,
    cluster: Arc<str>,
    max_body: usize,
    limits: Limits,
    auth: Option<BearerTokenAuth>,
}

impl K8sAuditWebhook {
    /// Starts to listen, in the place of a server that may still serve, on its socket if the endpoint
    /// is the same.
    ///
    /// # Errors
    /// When the address is in use or not ours, or certificates cannot be used.
    pub async fn bind_after(before: Option<&Before>, config: &Config) -> Result<Self, Error> {
        let tls = config.tls.as_ref();
        let listening = listen(before, &config.endpoint, Versions::All, tls).await?;
        Ok(Self {
            listening,
            cluster: Arc::from(config.cluster_name.as_str()),
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

    /// Serves HTTP/1.1 and HTTP/2 until it is to stop, then finishes what has begun. Its connections
    /// end with it.
    pub async fn serve(self, consumer: impl Consumer, shared: Shared) {
        let lists = Lists {
            steps: Arc::new(Steps::new(
                consumer,
                shared.clone(),
                self.limits.read_timeout,
                self.auth,
            )),
            cluster: self.cluster,
            max_body: self.max_body,
        };
        let listening = self.listening.under(shared.pressure.clone());
        http_server::serve(listening, self.limits, lists, shared.ends()).await;
    }
}

#[derive(Clone)]
struct Lists<C> {
    steps: Arc<Steps<C>>,
    cluster: Arc<str>,
    max_body: usize,
}

impl<C: Consumer> Handler for Lists<C> {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        let rejection = match self.handle(&head, &mut body).await {
            Ok(_accepted) => return respond(StatusCode::OK, "{}".to_owned()),
            Err(rejection) => rejection,
        };
        self.steps.rejected(&head, &rejection);
        if rejection.is_final() && head.version < Version::HTTP_2 {
            // Its client reads no answer before it has sent all.
            let _drained = tokio::time::timeout(LINGER, drain(&mut body)).await;
        }
        rejected(&rejection)
    }
}

impl<C: Consumer> Lists<C> {
    /// The life of a request.
    async fn handle(&self, head: &Parts, body: &mut Incoming) -> Result<Accepted, Rejection> {
        let deadline = self.steps.deadline();
        let caller = self.steps.authenticate(head, deadline).await?;
        let (cluster, compression) = self.content(head)?;
        let lease = self.steps.admit(caller, head)?;
        let read = self.read(body, cluster, compression, lease);
        let received = deadline.within(read).await?;
        self.steps.submit(caller, received).await
    }

    /// The cluster that a request is of, and its compression, if all that it says is supported.
    fn content<'h>(&'h self, head: &'h Parts) -> Result<(&'h str, Compression), Rejection> {
        let path = head.uri.path();
        let unknown = || Rejection::Unknown {
            found: path.to_owned(),
            known: PATHS,
        };
        let rest = if path == "/" {
            // The URL of a kubeconfig may have no path.
            ""
        } else {
            path.strip_prefix("/audit").ok_or_else(unknown)?
        };
        let cluster = match rest.strip_prefix('/') {
            None if rest.is_empty() => None,
            Some(name) if !name.contains('/') => Some(name).filter(|name| !name.is_empty()),
            _ => return Err(unknown()),
        };
        if head.method != Method::POST {
            return Err(Rejection::Method(head.method.clone()));
        }
        let content_type = head.headers.get(CONTENT_TYPE);
        let is_json = content_type
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                let name = value.split(';').next().unwrap_or_default().trim();
                name.eq_ignore_ascii_case("application/json")
            });
        if !is_json {
            return Err(Rejection::ContentType("application/json"));
        }
        Ok((
            cluster.unwrap_or(&self.cluster),
            compression(&head.headers)?,
        ))
    }

    /// Reads the list of a request.
    async fn read(
        &self,
        body: &mut Incoming,
        cluster: &str,
        compression: Compression,
        lease: Lease,
    ) -> Result<Received<C::Visitor>, Rejection> {
        let walk = self.steps.visit();
        let whole = Whole::new(self.max_body);
        let (whole, lease) = read_into(whole, body, compression, self.max_body, lease).await?;
        let (walk, lease) = visit(whole.into_text(), cluster, walk, lease).await?;
        Received::new(walk, lease)
    }
}

/// Shows a list to the visitor as the one record of a request. Its memory is held until it is read,
/// also when its sender does not wait for that.
async fn visit<V: Visitor + Send + 'static>(
    text: Vec<u8>,
    cluster: &str,
    walk: Walk<V>,
    mut lease: Lease,
) -> Result<(Walk<V>, Lease), Rejection> {
    // Once more as a record.
    lease.hold(text.len().saturating_mul(2))?;
    let is_short = text.len() <= SHORT;
    let turn = if is_short {
        lease.turn().await
    } else {
        lease.long_turn().await
    };
    let cluster = cluster.to_owned();
    let read = move || {
        if !is_list(&text) {
            return Err(Rejection::Framing(NO_LIST.to_owned()));
        }
        let request = record_of(&text, &cluster);
        drop(text);
        Reading::new(Compression::Identity, walk, request.len(), lease)?
            .beside(request.len())
            .feed_all(&request)?
            .end()
    };
    if is_short {
        let _turn = turn;
        return read();
    }
    apart(turn, read).await?
}

/// Whether a text is an object with items. What is in them is looked at later.
fn is_list(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let has_items = || memchr::memmem::find(text, b"\"items\"").is_some();
    text.first() == Some(&b'{') && has_items() && is_whole(text)
}

/// Whether an object ends with the text, and not before or never.
fn is_whole(text: &[u8]) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(found) = memchr::memchr3(b'"', b'{', b'}', text.get(at..).unwrap_or_default()) {
        at += found + 1;
        match text.get(at - 1) {
            Some(b'{') => depth += 1,
            Some(b'}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at == text.len();
                }
            }
            _ => match end_of_string(text, at) {
                Some(end) => at = end,
                None => return false,
            },
        }
    }
    false
}

/// Where a string ends, behind its quote.
fn end_of_string(text: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', text.get(from..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        from = at + 2;
    }
}

fn rejected(rejection: &Rejection) -> Response<Full<Bytes>> {
    // Of requests that come too fast the sender is told so; to wait for a queue is another thing.
    let status = match rejection {
        Rejection::Later(Refusal::Memory { .. }) => StatusCode::TOO_MANY_REQUESTS,
        other => other.status(),
    };
    let message = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": rejection.text(), "code": status.as_u16(),
    });
    let mut response = respond(status, message.to_string());
    let headers = response.headers_mut();
    if let Some(wait) = rejection.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    if let Rejection::Unauthenticated(denied) = rejection {
        headers.insert(WWW_AUTHENTICATE, denied.challenge());
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn respond(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
