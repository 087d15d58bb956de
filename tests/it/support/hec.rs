//! A strict HTTP Event Collector, written from what Splunk documents of the protocol and not from
//! our exporter: whatever it takes, Splunk should take. Where Splunk is lenient or its behaviour
//! is not written down, this refuses.
#![allow(dead_code, reason = "each test uses the part it needs")]
#![expect(
    clippy::disallowed_methods,
    reason = "a server of the tests has no task tracker, and stamps arrivals by the real clock"
)]

use std::{
    collections::{BTreeMap, VecDeque},
    io::Read as _,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Notify,
    task::JoinSet,
};

/// How the server is set up.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Tokens that may write.
    pub(crate) tokens: Vec<String>,
    /// Tokens that exist and are disabled.
    pub(crate) disabled_tokens: Vec<String>,
    /// Indexes the tokens may write to; empty: any.
    pub(crate) indexes: Vec<String>,
    /// Most bytes of a request, as sent and after inflation.
    pub(crate) max_content_length: usize,
    /// Whether the tokens ask for indexer acknowledgement.
    pub(crate) use_ack: bool,
    /// A balancer before this many indexers, which sticks by cookie; 0: none. Each indexer has acks
    /// of its own.
    pub(crate) indexers: usize,
    /// The first of them take events and never index them.
    pub(crate) broken_indexers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tokens: vec!["test-token".to_owned()],
            disabled_tokens: Vec::new(),
            indexes: Vec::new(),
            max_content_length: 800 * 1024 * 1024,
            use_ack: false,
            indexers: 0,
            broken_indexers: 0,
        }
    }
}

/// One event that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct HecEvent {
    /// When.
    pub(crate) arrived: Instant,
    /// The indexer that took it, behind a balancer.
    pub(crate) indexer: usize,
    /// `time` as it was written, if it was.
    pub(crate) time: Option<String>,
    /// `host`.
    pub(crate) host: Option<String>,
    /// `source`.
    pub(crate) source: Option<String>,
    /// `sourcetype`.
    pub(crate) sourcetype: Option<String>,
    /// `index`.
    pub(crate) index: Option<String>,
    /// `event`.
    pub(crate) event: Value,
    /// `fields`.
    pub(crate) fields: BTreeMap<String, Value>,
}

/// One request, whatever became of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When its last byte had arrived.
    pub(crate) arrived: Instant,
    /// The other end of its connection.
    pub(crate) peer: SocketAddr,
    /// Method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) uri: String,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// `Content-Encoding`.
    pub(crate) encoding: Option<String>,
    /// Bytes of the body as sent.
    pub(crate) bytes: usize,
    /// The status it was answered with; `None` when it was not.
    pub(crate) status: Option<u16>,
}

/// A scripted answer, given before the server behaves normally again.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// What happens after `delay`.
    pub(crate) how: How,
    /// Headers of the answer.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Body of the answer.
    pub(crate) body: String,
    /// How long the client waits for it.
    pub(crate) delay: Duration,
    /// Whether the events are taken all the same, as when an answer gets lost.
    pub(crate) stores: bool,
}

/// How a scripted answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With this status.
    Status(u16),
    /// The connection is closed without an answer.
    Reset,
    /// Never.
    Hang,
}

impl Answer {
    /// A status and a body.
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            how: How::Status(status),
            headers: Vec::new(),
            body: body.into(),
            delay: Duration::ZERO,
            stores: false,
        }
    }

    /// HEC's own words for a code, with the HTTP status that goes with it.
    pub(crate) fn code(code: u16) -> Self {
        let (status, text) = documented(code);
        Self::new(status, json!({"text": text, "code": code}).to_string())
    }

    /// Closes the connection instead.
    pub(crate) fn reset() -> Self {
        Self {
            how: How::Reset,
            ..Self::new(0, "")
        }
    }

    /// Never answers.
    pub(crate) fn hang() -> Self {
        Self {
            how: How::Hang,
            ..Self::new(0, "")
        }
    }

    /// With a header more.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// After a while.
    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// And takes the events all the same.
    pub(crate) fn storing(self) -> Self {
        Self {
            stores: true,
            ..self
        }
    }
}

/// The server. Stops when dropped, with all its connections.
#[derive(Debug)]
pub(crate) struct HecServer {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for HecServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HecServer {
    /// Starts on a free port of this machine.
    pub(crate) async fn start(options: Options) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), options).await
    }

    /// Starts at an address, to come back where another one was.
    pub(crate) async fn start_at(address: SocketAddr, options: Options) -> Self {
        Self::listen(address, options, None).await
    }

    /// Starts on a free port of this machine, with TLS.
    pub(crate) async fn start_tls(tls: rustls::ServerConfig) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        Self::listen(address, Options::default(), Some(tls)).await
    }

    async fn listen(
        address: SocketAddr,
        options: Options,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            options: Mutex::new(options),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self {
            address,
            scheme,
            shared,
            task,
        }
    }

    /// It dies, with its connections; what it took.
    pub(crate) async fn end(mut self) -> Vec<HecEvent> {
        self.task.abort();
        let _ended = (&mut self.task).await;
        self.events()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint to configure, without a path.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Every event accepted so far, in order.
    pub(crate) fn events(&self) -> Vec<HecEvent> {
        self.shared.state().events.clone()
    }

    /// Every request so far, in order.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.state().requests.clone()
    }

    /// Changes how it is set up from now on.
    pub(crate) fn set_up(&self, change: impl FnOnce(&mut Options)) {
        let mut options = self.shared.options.lock();
        change(options.as_deref_mut().unwrap());
    }

    /// Waits until a request was answered with this status.
    pub(crate) async fn wait_for_answer(&self, status: u16, timeout: Duration) {
        let answered = async {
            loop {
                let mut changed = std::pin::pin!(self.shared.changed.notified());
                changed.as_mut().enable();
                let mut requests = self.requests().into_iter();
                if requests.any(|seen| seen.status == Some(status)) {
                    return;
                }
                changed.await;
            }
        };
        let seen = tokio::time::timeout(timeout, answered).await;
        assert!(seen.is_ok(), "no answer {status} within {timeout:?}");
    }

    /// Forgets events and requests; how many of each there were.
    pub(crate) fn forget(&self) -> (usize, usize) {
        let mut state = self.shared.state();
        let counts = (state.events.len(), state.requests.len());
        state.events = Vec::new();
        state.requests = Vec::new();
        counts
    }

    /// Answers the next requests by script, whatever they hold.
    pub(crate) fn answer_next(&self, answers: Vec<Answer>) {
        self.shared.state().script.extend(answers);
    }

    /// Waits until this number of events has arrived, and returns them.
    pub(crate) async fn wait_for(&self, events: usize, timeout: Duration) -> Vec<HecEvent> {
        self.wait_until(|all| all.len() >= events, timeout).await
    }

    /// Waits until the accepted events are as wanted, and returns them.
    pub(crate) async fn wait_until(
        &self,
        wanted: impl Fn(&[HecEvent]) -> bool,
        timeout: Duration,
    ) -> Vec<HecEvent> {
        let met = async {
            loop {
                // Registered before looking, so that nothing is missed in between.
                let mut changed = std::pin::pin!(self.shared.changed.notified());
                changed.as_mut().enable();
                let events = self.events();
                if wanted(&events) {
                    return events;
                }
                changed.await;
            }
        };
        let Ok(events) = tokio::time::timeout(timeout, met).await else {
            let events = self.events();
            let statuses: Vec<_> = self.requests().iter().map(|seen| seen.status).collect();
            panic!(
                "not as wanted within {timeout:?}: {} events, requests answered {statuses:?}, \
                 events {events:#?}",
                events.len()
            );
        };
        events
    }
}

#[derive(Debug)]
struct Shared {
    options: Mutex<Options>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<HecEvent>,
    requests: Vec<Seen>,
    script: VecDeque<Answer>,
    /// Next ack id and those not yet asked for, by indexer and channel.
    acks: BTreeMap<(usize, uuid::Uuid), (u64, Vec<u64>)>,
    /// The indexer that the balancer chooses next.
    next_indexer: usize,
}

impl Shared {
    /// How it is set up now.
    fn options(&self) -> Options {
        let options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        options.clone()
    }

    /// The indexer for a request: that of its cookie, else the next one.
    fn indexer(&self, headers: &HeaderMap) -> usize {
        let indexers = self.options().indexers;
        if indexers == 0 {
            return 0;
        }
        let cookie = header(headers, "cookie").and_then(|all| all.strip_prefix("AWSALB="));
        if let Some(own) = cookie.and_then(|own| own.parse::<usize>().ok()) {
            return own % indexers;
        }
        let mut state = self.state();
        let next = state.next_indexer;
        state.next_indexer += 1;
        next % indexers
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    shared: Arc<Shared>,
) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                None => serve(stream, peer, shared).await,
                // A client that fails in the TLS handshake has sent no request.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, peer, shared).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr, shared: Arc<Shared>) {
    let service = service_fn(move |request| handle(Arc::clone(&shared), peer, request));
    // Clients go away as they like.
    drop(
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed by script")]
struct Closed;

type Answered = Result<Response<Full<Bytes>>, Closed>;

async fn handle(shared: Arc<Shared>, peer: SocketAddr, request: Request<Incoming>) -> Answered {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Err(Closed);
    };
    let body = body.to_bytes();
    let scripted = shared.state().script.pop_front();
    let indexer = shared.indexer(&head.headers);
    let normally = scripted
        .as_ref()
        .is_none_or(|answer| answer.stores)
        .then(|| normal(&shared, indexer, &head, &body));
    let status = match &scripted {
        Some(Answer {
            how: How::Status(status),
            ..
        }) => Some(*status),
        Some(_) => None,
        None => normally.as_ref().map(|reply| reply.status),
    };
    shared.state().requests.push(Seen {
        arrived: Instant::now(),
        peer,
        method: head.method.clone(),
        uri: head.uri.to_string(),
        encoding: header(&head.headers, "content-encoding").map(str::to_owned),
        headers: head.headers,
        bytes: body.len(),
        status,
    });
    shared.changed.notify_waiters();
    if let Some(answer) = scripted {
        return act(answer).await;
    }
    let reply = normally.ok_or(Closed)?;
    let mut headers = vec![("content-type", reply.kind.to_owned())];
    if shared.options().indexers > 0 {
        headers.push(("set-cookie", format!("AWSALB={indexer}; Path=/")));
    }
    Ok(respond(reply.status, &headers, reply.body))
}

async fn act(answer: Answer) -> Answered {
    tokio::time::sleep(answer.delay).await;
    match answer.how {
        How::Status(status) => Ok(respond(status, &answer.headers, answer.body)),
        How::Reset => Err(Closed),
        How::Hang => std::future::pending().await,
    }
}

fn respond(status: u16, headers: &[(&'static str, String)], body: String) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Full::new(Bytes::from(body))).unwrap()
}

/// An answer of the protocol.
#[derive(Debug)]
struct Reply {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            kind: "application/json; charset=UTF-8",
            body: body.to_string(),
        }
    }

    fn code(code: u16) -> Self {
        let (status, text) = documented(code);
        Self::json(status, &json!({"text": text, "code": code}))
    }

    /// About the event with this number, counted from 0.
    fn event(code: u16, number: usize) -> Self {
        let (status, text) = documented(code);
        Self::json(
            status,
            &json!({"text": text, "code": code, "invalid-event-number": number}),
        )
    }

    /// What the web server before HEC answers.
    fn html(status: u16, title: &str) -> Self {
        let body = format!(
            "<!doctype html><html><head><title>{status} {title}</title></head>\
             <body><h1>{title}</h1></body></html>\r\n"
        );
        Self {
            status,
            kind: "text/html; charset=UTF-8",
            body,
        }
    }
}

/// HTTP status and words of each code of HEC.
fn documented(code: u16) -> (u16, &'static str) {
    match code {
        0 => (200, "Success"),
        1 => (403, "Token disabled"),
        2 => (401, "Token is required"),
        3 => (401, "Invalid authorization"),
        4 => (403, "Invalid token"),
        5 => (400, "No data"),
        6 => (400, "Invalid data format"),
        7 => (400, "Incorrect index"),
        8 => (500, "Internal server error"),
        9 => (503, "Server is busy"),
        10 => (400, "Data channel is missing"),
        11 => (400, "Invalid data channel"),
        12 => (400, "Event field is required"),
        13 => (400, "Event field cannot be blank"),
        14 => (400, "ACK is disabled"),
        15 => (400, "Error in handling indexed fields"),
        16 => (400, "Query string authorization is not enabled"),
        17 => (200, "HEC is healthy"),
        18 => (503, "HEC is unhealthy, queues are full"),
        19 => (503, "HEC is unhealthy, ack service unavailable"),
        20 => (
            503,
            "HEC is unhealthy, queues are full, ack service unavailable",
        ),
        21 => (400, "Invalid token"),
        22 => (400, "Token disabled"),
        23 => (503, "Server is shutting down"),
        24 => (200, "Queue is approaching capacity"),
        25 => (200, "Ack service is approaching capacity"),
        26 => (429, "Queue is at capacity"),
        27 => (429, "Ack service channel is at capacity"),
        other => panic!("HEC has no code {other}"),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// How HEC behaves when it is well.
fn normal(shared: &Shared, indexer: usize, head: &http::request::Parts, body: &Bytes) -> Reply {
    let path = head.uri.path().strip_prefix("/services/collector");
    match (path, &head.method) {
        (Some("/health" | "/health/1.0"), &Method::GET) => Reply::code(17),
        (Some("" | "/event" | "/event/1.0"), &Method::POST) => {
            collect(shared, indexer, head, body).unwrap_or_else(|refused| refused)
        }
        (Some("/ack"), &Method::POST) => {
            acknowledge(shared, indexer, head, body).unwrap_or_else(|refused| refused)
        }
        (Some("" | "/event" | "/event/1.0" | "/ack" | "/health" | "/health/1.0"), _) => {
            Reply::json(405, &json!({"text": "Method Not Allowed", "code": 405}))
        }
        _ => Reply::json(
            404,
            &json!({"text": "The requested URL was not found on this server.", "code": 404}),
        ),
    }
}

/// Takes all events of a request, or none of them.
fn collect(
    shared: &Shared,
    indexer: usize,
    head: &http::request::Parts,
    body: &Bytes,
) -> Result<Reply, Reply> {
    let options = shared.options();
    authorize(&options, head)?;
    let channel = if options.use_ack {
        Some(channel(head)?)
    } else {
        None
    };
    let body = inflated(&options, head, body)?;
    let mut events = parse(&body, &options)?;
    for event in &mut events {
        event.indexer = indexer;
    }
    let mut state = shared.state();
    state.events.extend(events);
    let Some(channel) = channel else {
        return Ok(Reply::code(0));
    };
    let (next, waiting) = state.acks.entry((indexer, channel)).or_default();
    let id = *next;
    *next += 1;
    if indexer >= options.broken_indexers {
        waiting.push(id);
    }
    Ok(Reply::json(
        200,
        &json!({"text": "Success", "code": 0, "ackId": id}),
    ))
}

/// Answers which requests of a channel are indexed, each once.
fn acknowledge(
    shared: &Shared,
    indexer: usize,
    head: &http::request::Parts,
    body: &Bytes,
) -> Result<Reply, Reply> {
    #[derive(Deserialize)]
    struct Asked {
        acks: Vec<u64>,
    }
    let options = shared.options();
    authorize(&options, head)?;
    if !options.use_ack {
        return Err(Reply::code(14));
    }
    let channel = channel(head)?;
    let asked: Asked = serde_json::from_slice(body).map_err(|_| Reply::code(6))?;
    let mut state = shared.state();
    let waiting = &mut state.acks.entry((indexer, channel)).or_default().1;
    let mut answer = serde_json::Map::new();
    for id in asked.acks {
        let known = waiting.iter().position(|waiting| *waiting == id);
        known.map(|at| waiting.remove(at));
        answer.insert(id.to_string(), known.is_some().into());
    }
    Ok(Reply::json(200, &json!({"acks": answer})))
}

fn authorize(options: &Options, head: &http::request::Parts) -> Result<(), Reply> {
    if head
        .uri
        .query()
        .is_some_and(|query| query.split('&').any(|pair| pair.starts_with("token=")))
    {
        return Err(Reply::code(16));
    }
    if head.headers.get_all("authorization").iter().count() > 1 {
        return Err(Reply::code(3));
    }
    let sent = header(&head.headers, "authorization").ok_or_else(|| Reply::code(2))?;
    let token = sent.strip_prefix("Splunk ").ok_or_else(|| Reply::code(3))?;
    let is = |tokens: &[String]| tokens.iter().any(|one| one == token);
    if is(&options.disabled_tokens) {
        return Err(Reply::code(1));
    }
    if is(&options.tokens) {
        Ok(())
    } else {
        Err(Reply::code(4))
    }
}

fn channel(head: &http::request::Parts) -> Result<uuid::Uuid, Reply> {
    let in_query = head.uri.query().and_then(|query| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("channel="))
    });
    let sent = header(&head.headers, "x-splunk-request-channel").or(in_query);
    sent.ok_or_else(|| Reply::code(10))?
        .parse()
        .map_err(|_| Reply::code(11))
}

fn inflated(
    options: &Options,
    head: &http::request::Parts,
    body: &Bytes,
) -> Result<Vec<u8>, Reply> {
    let too_large = || Reply::html(413, "Content-Length of the request is too large");
    let most = options.max_content_length;
    if body.len() > most {
        return Err(too_large());
    }
    let body = match header(&head.headers, "content-encoding") {
        None => body.to_vec(),
        Some("gzip") => {
            let mut inflated = Vec::new();
            let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
            flate2::read::GzDecoder::new(body.as_ref())
                .take(limit)
                .read_to_end(&mut inflated)
                .map_err(|_| Reply::html(400, "Bad Request"))?;
            inflated
        }
        Some(_) => return Err(Reply::html(415, "Unsupported Media Type")),
    };
    if body.len() > most {
        return Err(too_large());
    }
    if body.trim_ascii().is_empty() {
        Err(Reply::code(5))
    } else {
        Ok(body)
    }
}

/// The envelope. A key that HEC does not know is refused, so that a misspelt one shows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(default)]
    time: Option<Box<RawValue>>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    sourcetype: Option<String>,
    #[serde(default)]
    index: Option<String>,
    #[serde(default, deserialize_with = "present")]
    event: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    fields: Option<Value>,
}

/// Distinguishes null from absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Reads objects that follow each other. An array of them is not the documented form.
fn parse(body: &[u8], options: &Options) -> Result<Vec<HecEvent>, Reply> {
    let arrived = Instant::now();
    let mut events = Vec::new();
    for (number, text) in serde_json::Deserializer::from_slice(body)
        .into_iter::<Box<RawValue>>()
        .enumerate()
    {
        let malformed = || Reply::event(6, number);
        let text = text.map_err(|_| malformed())?;
        if !text.get().starts_with('{') {
            return Err(malformed());
        }
        let envelope: Envelope = serde_json::from_str(text.get()).map_err(|_| malformed())?;
        let time = envelope.time.map(|time| time.get().to_owned());
        if time.as_deref().is_some_and(|time| !is_plain_decimal(time)) {
            return Err(malformed());
        }
        let event = envelope.event.ok_or_else(|| Reply::event(12, number))?;
        if event.is_null() || event.as_str().is_some_and(|text| text.trim().is_empty()) {
            return Err(Reply::event(13, number));
        }
        if envelope
            .index
            .as_ref()
            .is_some_and(|index| !may_write(options, index))
        {
            return Err(Reply::event(7, number));
        }
        events.push(HecEvent {
            arrived,
            indexer: 0,
            time,
            host: envelope.host,
            source: envelope.source,
            sourcetype: envelope.sourcetype,
            index: envelope.index,
            event,
            fields: flat(envelope.fields).ok_or_else(|| Reply::event(15, number))?,
        });
    }
    Ok(events)
}

fn may_write(options: &Options, index: &str) -> bool {
    options.indexes.is_empty() || options.indexes.iter().any(|one| one == index)
}

/// Digits, and more of them after a point if there is one: no sign, no exponent.
fn is_plain_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

/// Indexed fields: one level, and lists of text only.
fn flat(fields: Option<Value>) -> Option<BTreeMap<String, Value>> {
    let Some(fields) = fields else {
        return Some(BTreeMap::new());
    };
    let Value::Object(fields) = fields else {
        return None;
    };
    let fine = |value: &Value| match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => true,
        Value::Array(list) => !list.is_empty() && list.iter().all(Value::is_string),
        Value::Null | Value::Object(_) => false,
    };
    fields
        .values()
        .all(fine)
        .then(|| fields.into_iter().collect())
}

#[cfg(test)]
mod tests;
