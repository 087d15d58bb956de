//! Connections, streams and request memory: silent peers, slow peers, and more of them than there
//! is room for, always beside senders that must keep getting OK.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use auditwatch::receiver::Limits;
use bytes::Bytes;
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::{
    certificates::Authority,
    corpus::denied,
    process::{Process, free_address, now},
    prometheus::{Scrape, scrape},
    recorder::{Running, Setup},
    sender::{End, Hanging, framed, framed_request, http, raw, request},
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);
/// What a sender, a probe or a scrape may wait beside an attack: the promise is 2 s and less.
const SOON: Duration = Duration::from_secs(6);
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HALF_HEADERS: &[u8] = b"POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-ty";
const HALF_BODY: &[u8] = b"POST /v1/logs HTTP/1.1\r\nhost: a\r\n\
    content-type: application/x-protobuf\r\ncontent-length: 1000\r\n\r\n\n";

/// The binary with both protocols, health check and metrics.
struct Service {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    health: SocketAddr,
    metrics: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Service {
    /// Starts it with these keys of both protocols, of HTTP, and of the service.
    fn start(both: &str, http_keys: &str, service: &str) -> Self {
        let [grpc, http, health, metrics] = [(); 4].map(|()| free_address());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{
  grpc: {{endpoint: '{grpc}', {both}}},
  http: {{endpoint: '{http}', {both} {http_keys}}}}}}}}}
processors: {{detection: }}
exporters: {{debug: }}
extensions: {{health_check: {{endpoint: '{health}'}}, bearertokenauth: {{token: s3cret}}}}
service:
  extensions: [health_check, bearertokenauth]
  telemetry: {{metrics: {{readers: [pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {port}}}}}}}]}}}}
  {service}
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [debug]}}}}
",
            port = metrics.port(),
        );
        std::fs::write(&file, text).unwrap();
        let process = Process::auditwatch(&file, &[]);
        process.wait_for("protocol=\"http\"", LONG);
        Self {
            process,
            grpc,
            http,
            health,
            metrics,
            _folder: folder,
        }
    }

    async fn scrape(&self) -> Scrape {
        timeout(SOON, scrape(self.metrics))
            .await
            .expect("a scrape waits")
    }

    /// Connections that ended for this reason, over both protocols.
    async fn refused(&self, reason: &str) -> f64 {
        let name = "auditwatch_receiver_refused_connections";
        let scrape = self.scrape().await;
        scrape.sum(name, &[("reason", reason)]).unwrap()
    }

    /// Senders over both protocols get OK, each over a connection of its own.
    async fn takes_logs(&self) {
        for headers in [&[][..], &[("authorization", "Bearer s3cret")]] {
            let status = timeout(SOON, grpc(self.grpc, headers)).await;
            assert_eq!(status.expect("a sender waits").as_deref(), Some("0"));
        }
        let status = timeout(SOON, post(self.http)).await;
        assert_eq!(status.expect("a sender waits"), Some(200));
    }
}

fn two() -> Vec<String> {
    vec![denied("192.0.2.1", 0, "/a"), denied("192.0.2.1", 1, "/b")]
}

/// Sends logs over gRPC; the status.
async fn grpc(address: SocketAddr, headers: &[(&str, &str)]) -> Option<String> {
    let frames = vec![framed_request(&two())];
    let (_, headers) = raw(address, EXPORT, headers, frames, End::Well).await?;
    Some(headers.get("grpc-status")?.to_str().unwrap().to_owned())
}

/// Sends logs over HTTP/1.1; the status.
async fn post(address: SocketAddr) -> Option<u16> {
    let body = request(&two()).encode_to_vec();
    let answer = http(address, "POST", "/v1/logs", &[PROTOBUF], body).await?;
    Some(answer.0.as_u16())
}

/// The n-th of many addresses of this machine.
fn source(n: usize) -> Ipv4Addr {
    let [_, _, high, low] = u32::try_from(n + 2).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// A connection from an address, with these first bytes. `None` when there is none.
async fn from(source: Ipv4Addr, to: SocketAddr, first: &[u8]) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let connected = timeout(SOON, socket.connect(to)).await;
    let mut stream = connected.ok()?.ok()?;
    stream.write_all(first).await.ok()?;
    Some(stream)
}

/// A number of connections, with these first bytes, from one address or from one each.
async fn flood(many: usize, to: SocketAddr, first: &[u8], spread: bool) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for n in 0..many {
        let source = if spread {
            source(n)
        } else {
            Ipv4Addr::LOCALHOST
        };
        all.extend(from(source, to, first).await);
    }
    all
}

/// How many of these connections are open still.
async fn open(connections: &mut [TcpStream]) -> usize {
    let mut open = 0;
    for connection in connections {
        let mut bytes = [0; 1024];
        let ended = async {
            loop {
                match connection.read(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        open += usize::from(timeout(Duration::from_millis(1), ended).await.is_err());
    }
    open
}

/// Waits until no more than `most` of these connections are open.
async fn at_most(most: usize, connections: &mut [TcpStream]) {
    let begin = now();
    while open(connections).await > most {
        assert!(begin.elapsed() < LONG, "more than {most} stay open");
    }
}

/// 400 connections that say nothing kept all others out for ten minutes.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_give_way() {
    let service = Service::start("", "", "");
    // One connection that was there before stays.
    let mut before = Hanging::start(service.grpc, b"\0".to_vec()).await;
    assert!(before.another(framed_request(&two())).await.is_some());
    for first in [&b""[..], PREFACE, HALF_HEADERS, b"\x16\x03\x01"] {
        for to in [service.grpc, service.http] {
            let _silent = flood(410, to, first, true).await;
            service.takes_logs().await;
        }
    }
    assert!(before.another(framed_request(&two())).await.is_some());
    service.process.wait_for(
        "connection limit reached, connections without a complete request gave way, then idle \
         ones without a token",
        LONG,
    );
    assert!(service.refused("gave_way").await >= 20.0);
    let lines = service.process.stderr();
    assert!(lines.matches("gave way").count() <= 4, "{lines}");
}

/// One address holds half of the places at most, and newcomers from it get in all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_share_of_the_connections() {
    let service = Service::start("max_connections: 40,", "", "");
    for first in [&b""[..], PREFACE, HALF_HEADERS] {
        let mut silent = flood(60, service.http, first, false).await;
        at_most(20, &mut silent).await;
        service.takes_logs().await;
    }
    service.process.wait_for(
        "more connections from one address than max_connections_per_address",
        LONG,
    );
    service.process.wait_for("most_from=127.0.0.1", LONG);
    assert!(service.refused("per_address").await >= 100.0);
    // With requests that do not end there is no place for more from the address, but for others.
    let _half = flood(20, service.http, HALF_BODY, false).await;
    let other = from(source(0), service.http, &whole_post()).await;
    assert_eq!(answer(other.unwrap()).await, "HTTP/1.1 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_of_an_address_is_configured() {
    let service = Service::start(
        "max_connections: 40, max_connections_per_address: 5,",
        "",
        "",
    );
    let mut silent = flood(30, service.http, b"", false).await;
    at_most(5, &mut silent).await;
    service.takes_logs().await;
}

/// A whole request over HTTP/1.1.
fn whole_post() -> Vec<u8> {
    post_with("")
}

/// The same with more headers.
fn post_with(headers: &str) -> Vec<u8> {
    let body = request(&two()).encode_to_vec();
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: a\r\n{headers}content-type: application/x-protobuf\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// The beginning of the next answer.
async fn answer(mut stream: TcpStream) -> String {
    next_answer(&mut stream).await
}

async fn next_answer(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 4096];
    let read = timeout(SOON, stream.read(&mut bytes)).await;
    let read = read.expect("no answer").unwrap();
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    text.get(..12).unwrap_or(&text).to_owned()
}

/// Half bodies from many addresses, each of them newer than what it displaces.
#[tokio::test(flavor = "multi_thread")]
async fn half_bodies_from_many_addresses_give_way() {
    let service = Service::start("max_connections: 40,", "", "");
    let (mut half, mut n) = (Vec::new(), 0);
    for _ in 0..5 {
        for _ in 0..50 {
            n += 1;
            half.extend(from(source(n), service.http, HALF_BODY).await);
        }
        let begin = now();
        let sender = from(source(5000 + n), service.http, &whole_post()).await;
        assert_eq!(answer(sender.unwrap()).await, "HTTP/1.1 200");
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
}

/// While the flood goes on, newcomers that send at once get in, and senders stay.
#[tokio::test(flavor = "multi_thread")]
async fn newcomers_get_in_while_a_flood_goes_on() {
    let service = Service::start("max_connections: 60,", "", "");
    let mut stays = from(source(60_000), service.http, &whole_post())
        .await
        .unwrap();
    assert_eq!(next_answer(&mut stays).await, "HTTP/1.1 200");
    let (to, end) = (service.http, tokio_util::sync::CancellationToken::new());
    let attack = {
        let end = end.clone();
        async move {
            let mut held = std::collections::VecDeque::new();
            for n in 0.. {
                if end.is_cancelled() {
                    break;
                }
                held.extend(from(source(n % 3000), to, [PREFACE, &b""[..]][n % 2]).await);
                if held.len() > 100 {
                    held.pop_front();
                }
            }
        }
    };
    let senders = async {
        for n in 0..20 {
            let sender = from(source(10_000 + n), to, &whole_post()).await;
            assert_eq!(answer(sender.unwrap()).await, "HTTP/1.1 200");
            stays.write_all(&whole_post()).await.unwrap();
            assert_eq!(next_answer(&mut stays).await, "HTTP/1.1 200");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        end.cancel();
    };
    tokio::join!(attack, senders);
    assert!(service.refused("gave_way").await >= 20.0);
}

/// A sender with a token keeps its place, idle or not, whatever comes without one.
#[tokio::test(flavor = "multi_thread")]
async fn senders_with_a_token_never_give_way() {
    let auth = "max_connections: 20, auth: {authenticator: bearertokenauth},";
    let service = Service::start(auth, "", "");
    let with_token = post_with("authorization: Bearer s3cret\r\n");
    let with_token = with_token.as_slice();
    let mut stays = from(source(9000), service.http, with_token).await.unwrap();
    assert_eq!(next_answer(&mut stays).await, "HTTP/1.1 200");
    // Complete requests without a token are no way to keep a place.
    for first in [&b""[..], HALF_BODY, &whole_post()] {
        let _flood = flood(40, service.http, first, true).await;
        let sender = from(source(9001), service.http, with_token).await;
        assert_eq!(answer(sender.unwrap()).await, "HTTP/1.1 200");
        stays.write_all(with_token).await.unwrap();
        assert_eq!(next_answer(&mut stays).await, "HTTP/1.1 200");
    }
    let scrape = service.scrape().await;
    let classes = |class| {
        let labels = [("class", class), ("transport", "http")];
        scrape
            .sum("auditwatch_receiver_connections", &labels)
            .unwrap()
    };
    assert!(classes("authenticated") >= 1.0);
    assert!(classes("unfinished") <= 19.0);
    assert!(classes("anonymous").abs() < 0.5);
    let refused = scrape.sum(
        "auditwatch_receiver_refused_requests",
        &[("reason", "unauthenticated"), ("class", "anonymous")],
    );
    assert!(refused.unwrap() >= 20.0);
}

/// Sockets with TLS, before, inside and after their handshake.
#[tokio::test(flavor = "multi_thread")]
async fn silence_in_tls_gives_way() {
    let authority = Authority::new();
    let server = authority.server("a");
    let tls = format!(
        "max_connections: 20, tls: {{cert_file: '{}', key_file: '{}'}},",
        server.cert.display(),
        server.key.display()
    );
    let service = Service::start(&tls, "", "");
    let client = || {
        let mut tls = authority.trusting(None, &[&rustls::version::TLS13]);
        tls.alpn_protocols = vec![b"h2".to_vec()];
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls))
    };
    let mut held = Vec::new();
    for first in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        held.extend(flood(40, service.grpc, first, true).await);
        let stream = from(source(7000), service.grpc, b"").await.unwrap();
        let name = "localhost".try_into().unwrap();
        let shaken = timeout(SOON, client().connect(name, stream)).await;
        let stream = shaken.expect("no handshake").unwrap();
        let answer = timeout(SOON, call(stream)).await.expect("no answer");
        assert_eq!(answer.as_deref(), Some("0"));
    }
    // A handshake and then nothing.
    let mut shaken = Vec::new();
    for n in 0..30 {
        let stream = from(source(n), service.grpc, b"").await.unwrap();
        let name = "localhost".try_into().unwrap();
        shaken.push(client().connect(name, stream).await.unwrap());
    }
    let stream = from(source(7001), service.grpc, b"").await.unwrap();
    let stream = client()
        .connect("localhost".try_into().unwrap(), stream)
        .await;
    let answer = timeout(SOON, call(stream.unwrap()))
        .await
        .expect("no answer");
    assert_eq!(answer.as_deref(), Some("0"));
}

/// Sends logs over gRPC on this stream; the status.
#[expect(
    clippy::disallowed_methods,
    reason = "a client of the tests has no task tracker"
)]
async fn call(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> Option<String> {
    use http_body_util::{BodyExt as _, Full};
    let io = TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut sender, connection) = handshake.ok()?;
    tokio::spawn(connection);
    let request = Request::post(format!("http://localhost{EXPORT}"))
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from(framed_request(&two()))))
        .unwrap();
    let body = sender.send_request(request).await.ok()?.into_body();
    let trailers = body.collect().await.ok()?.trailers()?.clone();
    Some(trailers.get("grpc-status")?.to_str().unwrap().to_owned())
}

/// A probe must not wait for those that say nothing, however many, nor a scrape.
#[tokio::test(flavor = "multi_thread")]
async fn probes_and_scrapes_do_not_wait_for_silent_peers() {
    let service = Service::start("", "", "");
    for (to, path) in [(service.health, "/"), (service.metrics, "/metrics")] {
        let get = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        for (spread, first) in [
            (false, &b""[..]),
            (false, b"GET / HT"),
            (true, b""),
            (true, PREFACE),
            // Answered, and then nothing.
            (false, get.as_bytes()),
        ] {
            let _silent = flood(120, to, first, spread).await;
            let begin = now();
            for _ in 0..3 {
                let probe = http(to, "GET", path, &[], Vec::new());
                let (status, ..) = timeout(SOON, probe).await.expect("it waits").unwrap();
                assert_eq!(status, 200, "{path}");
            }
            assert!(begin.elapsed() < SOON, "{path}: {:?}", begin.elapsed());
        }
        // Headers have 2 s.
        let mut silent = from(source(1), to, b"GET").await.unwrap();
        let mut bytes = Vec::new();
        let ended = timeout(SOON, silent.read_to_end(&mut bytes)).await;
        let _ended = ended.expect("it stays open");
    }
}

/// HTTP/1.1 stays open between two requests as long as `idle_timeout` says, and headers have
/// `read_header_timeout` from their first byte.
#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_is_a_matter_of_the_idle_timeout() {
    let service = Service::start("", "read_header_timeout: 1s, idle_timeout: 1m,", "");
    let mut stream = from(source(0), service.http, &whole_post()).await.unwrap();
    assert_eq!(next_answer(&mut stream).await, "HTTP/1.1 200");
    tokio::time::sleep(Duration::from_millis(3500)).await;
    stream.write_all(&whole_post()).await.unwrap();
    assert_eq!(next_answer(&mut stream).await, "HTTP/1.1 200");
    stream.write_all(b"POST /v1").await.unwrap();
    let mut bytes = Vec::new();
    let ended = timeout(LONG, stream.read_to_end(&mut bytes)).await;
    let _ended = ended.expect("it stays open");
    assert!(service.refused("slow_headers").await >= 1.0);
    service
        .process
        .wait_for("headers took longer than read_header_timeout", LONG);
}

/// Streams of headers alone, over many connections of one address, filled the memory of all.
#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::disallowed_methods,
    reason = "a client of the tests has no task tracker"
)]
async fn streams_of_headers_leave_room_for_others() {
    let admission = "admission: {request_limit_mib: 8}";
    let service = Service::start("", "", admission);
    let mut held = Vec::new();
    for _ in 0..40 {
        let stream = TcpStream::connect(service.grpc).await.unwrap();
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        for _ in 0..100 {
            let (body, frames) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, String>>(1);
            let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
            let request = Request::post(format!("http://{}{EXPORT}", service.grpc))
                .header("content-type", "application/grpc")
                .body(StreamBody::new(frames))
                .unwrap();
            let answer = sender.send_request(request);
            held.push((body, tokio::spawn(answer)));
        }
        held.retain(|(_, answer)| !answer.is_finished());
    }
    service
        .process
        .wait_for("requests are refused because requests under way hold", LONG);
    // From another connection of the same address, and from another address.
    service.takes_logs().await;
    let other = from(source(1), service.http, &whole_post()).await;
    assert_eq!(answer(other.unwrap()).await, "HTTP/1.1 200");
    let scrape = service.scrape().await;
    let held_now = scrape.sum("auditwatch_admission_memory", &[]).unwrap();
    assert!(held_now <= 6.0 * 1024.0 * 1024.0, "{held_now}");
}

/// Very many requests that take long to read, over many connections of one address. A probe, a scrape
/// and a sender of another address do not wait for all of them.
#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::disallowed_methods,
    reason = "a client of the tests has no task tracker"
)]
async fn a_flood_of_slow_requests_leaves_turns_to_others() {
    let service = Service::start("", "", "");
    // Records of maps with nothing but empty pairs: small on their way, and each pair is looked at.
    let pairs = wire_field(1, &[]).repeat(8000);
    let record = wire_field(2, &wire_field(5, &wire_field(6, &pairs)));
    let message = wire_field(1, &wire_field(2, &record.repeat(16)));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&message).unwrap();
    let frame = Bytes::from(framed(1, &gzip.finish().unwrap()));
    let begin = now();
    let mut flood = Vec::new();
    for _ in 0..15 {
        let stream = TcpStream::connect(service.grpc).await.unwrap();
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        for _ in 0..6 {
            let request = Request::post(format!("http://{}{EXPORT}", service.grpc))
                .header("content-type", "application/grpc")
                .header("grpc-encoding", "gzip")
                .body(http_body_util::Full::new(frame.clone()))
                .unwrap();
            flood.push(tokio::spawn(sender.send_request(request)));
        }
    }
    let (mut slowest, mut rounds) = (Duration::ZERO, 0);
    while flood.iter().any(|answer| !answer.is_finished()) {
        let mut sent = now();
        let mut took = || {
            slowest = slowest.max(sent.elapsed());
            sent = now();
        };
        let probe = http(service.health, "GET", "/", &[], Vec::new()).await;
        assert_eq!(probe.unwrap().0, 200);
        took();
        service.scrape().await;
        took();
        let stream = from(source(1), service.grpc, b"").await.unwrap();
        assert_eq!(call(stream).await.as_deref(), Some("0"));
        took();
        rounds += 1;
    }
    let all = begin.elapsed();
    assert!(
        rounds > 3,
        "the flood is over at once, or nothing else had its turn: {all:?}"
    );
    assert!(
        slowest < all / 6 + Duration::from_millis(300),
        "{slowest:?} of {all:?}, {rounds} rounds"
    );
}

/// A field of protobuf with these bytes.
fn wire_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

/// Connections that do nothing do not hold up the end.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_hold_up_the_end() {
    let mut service = Service::start("", "", "");
    let mut all = Vec::new();
    for to in [service.grpc, service.http, service.health, service.metrics] {
        for first in [&b""[..], PREFACE, HALF_HEADERS] {
            all.extend(flood(3, to, first, false).await);
        }
    }
    let begin = now();
    service.process.signal("TERM");
    assert_eq!(service.process.wait(LONG).code(), Some(0));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    for connection in &mut all {
        let mut bytes = Vec::new();
        let ended = timeout(SOON, connection.read_to_end(&mut bytes)).await;
        let _ended = ended.expect("it stays open");
    }
}

/// Requests that are answered and never read, and streams that are cancelled as soon as they begin.
#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_and_cancelled_streams_cost_no_other() {
    let service = Service::start("max_connections: 40,", "", "");
    let deaf = std::thread::scope(|scope| {
        let deaf = scope.spawn(|| {
            // Pipelined until neither side takes more.
            let mut stream = std::net::TcpStream::connect(service.http).unwrap();
            stream
                .set_write_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            let get = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
            let mut written = 0;
            while written < 64 << 20 {
                match stream.write(&get) {
                    Ok(bytes) => written += bytes,
                    Err(_) => return (stream, true),
                }
            }
            (stream, false)
        });
        deaf.join().unwrap()
    });
    assert!(
        deaf.1,
        "answers are kept for a peer that does not read them"
    );
    service.takes_logs().await;
    service.process.reset_peak();
    let begin = service.process.resident();
    let cancelled = from(source(0), service.grpc, &cancelled_streams(2000)).await;
    at_most(0, &mut [cancelled.unwrap()]).await;
    service.takes_logs().await;
    assert!(service.process.peak() < begin + (64 << 20));
}

/// HTTP/2: streams that are reset right behind their headers.
fn cancelled_streams(many: u32) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    for n in 0..many {
        let stream = (2 * n + 1).to_be_bytes();
        // :method POST, :scheme http, :path /, by the static table of HPACK.
        bytes.extend([0, 0, 3, 1, 4]);
        bytes.extend(stream);
        bytes.extend([0x83, 0x86, 0x84]);
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(stream);
        bytes.extend(8_u32.to_be_bytes());
    }
    bytes
}

/// Requests that decompress to a hundred times their size, each read in one turn, held up all others
/// and the end of the service.
#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::disallowed_methods,
    reason = "a client of the tests has no task tracker"
)]
async fn requests_that_cost_much_get_a_turn_like_others() {
    let mut service = Service::start("", "", "shutdown_timeout: 10s");
    let lines: Vec<_> = (0..20_000)
        .map(|n| {
            format!(
                "{{\"n\":{n},\"text\":\"{}\"}}",
                "a line of a log ".repeat(100)
            )
        })
        .collect();
    let whole = request(&lines).encode_to_vec();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&whole).unwrap();
    let packed = Bytes::from(framed(1, &packed.finish().unwrap()));
    let mut held = Vec::new();
    for _ in 0..5 {
        let stream = TcpStream::connect(service.grpc).await.unwrap();
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        for _ in 0..2 {
            let request = Request::post(format!("http://{}{EXPORT}", service.grpc))
                .header("content-type", "application/grpc")
                .header("grpc-encoding", "gzip")
                .body(http_body_util::Full::new(packed.clone()))
                .unwrap();
            held.push(tokio::spawn(sender.send_request(request)));
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.takes_logs().await;
    service.process.signal("TERM");
    service.process.wait(LONG);
}

/// Receivers with shorter times than anybody would configure.
async fn impatient(change: impl FnOnce(&mut Limits)) -> Running {
    let mut limits = Limits::default();
    change(&mut limits);
    Running::start(Setup {
        limits,
        ..Setup::default()
    })
    .await
}

const SHORT: Duration = Duration::from_millis(300);

/// All that comes until the other side closes.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ended = timeout(LONG, stream.read_to_end(&mut bytes)).await;
    // A connection that is reset is closed as well.
    let _ended = ended.expect("it stays open");
    bytes
}

/// The types of the HTTP/2 frames that came.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [high, middle, low, kind, rest @ ..] = bytes {
        types.push(*kind);
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        let behind = 5 + usize::try_from(length).unwrap();
        bytes = rest.get(behind..).unwrap_or_default();
    }
    types
}

#[tokio::test]
async fn silence_ends_at_the_first_byte_and_the_first_request() {
    const GOAWAY: u8 = 7;
    let running = impatient(|limits| {
        limits.first_byte_timeout = SHORT;
        limits.first_request_timeout = 2 * SHORT;
    })
    .await;
    for to in [running.grpc, running.http] {
        let mut silent = TcpStream::connect(to).await.unwrap();
        until_closed(&mut silent).await;
        // HTTP/2 without a request is asked to end, so that a client connects again.
        let mut preface = TcpStream::connect(to).await.unwrap();
        preface.write_all(PREFACE).await.unwrap();
        let answer = until_closed(&mut preface).await;
        assert!(frames(&answer).contains(&GOAWAY), "{answer:?}");
    }
    // Headers that come byte by byte, and a body that stalls.
    let mut slow = TcpStream::connect(running.http).await.unwrap();
    let begin = now();
    for byte in b"POST /v1/logs HTTP/1.1".iter().cycle() {
        if slow.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert!(begin.elapsed() < LONG, "it goes on");
        tokio::time::sleep(SHORT / 10).await;
    }
    let mut half = TcpStream::connect(running.http).await.unwrap();
    half.write_all(HALF_BODY).await.unwrap();
    until_closed(&mut half).await;
    let hanging = Hanging::start(running.grpc, framed_request(&two())[..9].to_vec()).await;
    let mut hanging = hanging;
    let answer = timeout(LONG, hanging.answer()).await;
    assert!(answer.expect("it stays open").is_none());
}

/// What goes on coming has the time that `read_timeout` gives it.
#[tokio::test]
async fn a_slow_first_request_may_end() {
    let running = impatient(|limits| limits.first_request_timeout = 2 * SHORT).await;
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    let whole = whole_post();
    let (first, rest) = whole.split_at(whole.len() - 12);
    stream.write_all(first).await.unwrap();
    for byte in rest {
        tokio::time::sleep(SHORT / 2).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(next_answer(&mut stream).await, "HTTP/1.1 200");
}

/// A peer that takes no answers: a window of nothing, or a socket that it does not read.
#[tokio::test]
async fn answers_that_are_not_read_end_the_connection() {
    let running = impatient(|limits| limits.write_timeout = SHORT).await;
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    let mut deaf = TcpStream::connect(running.http).await.unwrap();
    deaf.write_all(settings).await.unwrap();
    // POST / without a body: 404 with one.
    deaf.write_all(b"\0\0\x03\x01\x05\0\0\0\x01\x83\x86\x84")
        .await
        .unwrap();
    until_closed(&mut deaf).await;
    let mut deaf = TcpStream::connect(running.http).await.unwrap();
    let get = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
    let begin = now();
    while let Ok(written) = timeout(LONG, deaf.write_all(&get)).await {
        if written.is_err() {
            return;
        }
        assert!(begin.elapsed() < LONG, "it goes on");
    }
    panic!("it stays open");
}
