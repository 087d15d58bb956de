//! What both OTLP receivers answer when there is too much of something, too slow, or too late: one
//! row for each limit, through raw clients.

use std::time::Duration;

use auditwatch::{
    config,
    receiver::{Limits, Refusal},
    service::Service,
};
use http::HeaderMap;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{
    corpus::denied,
    process::quiet,
    recorder::{Running, Setup},
    sender::{End, Hanging, framed, framed_request, http, raw, request},
};

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
/// Longer than anything takes here, shorter than anybody waits.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn two() -> Vec<String> {
    vec![denied("192.0.2.1", 0, "/a"), denied("192.0.2.1", 1, "/b")]
}

/// A message that has to be held as a whole until its end is there, without its last byte.
fn half_a_record(bytes: usize) -> Vec<u8> {
    let mut whole = request(&["x".repeat(bytes)]).encode_to_vec();
    whole.pop();
    whole
}

/// The same, as a gRPC message that says it has one byte more.
fn half_a_message(bytes: usize) -> Vec<u8> {
    let mut whole = framed_request(&["x".repeat(bytes)]);
    whole.pop();
    whole
}

/// Sends two logs over gRPC.
async fn grpc(running: &Running) -> Status {
    let frames = vec![framed_request(&two())];
    let (_, headers) = raw(running.grpc, EXPORT, &[], frames, End::Well)
        .await
        .unwrap();
    Status::from_header_map(&headers).unwrap()
}

/// Sends two logs over HTTP; status and, if any, Retry-After.
async fn post(running: &Running) -> (u16, Option<String>) {
    let body = request(&two()).encode_to_vec();
    let (status, headers, _) = http(running.http, "POST", "/v1/logs", &[PROTOBUF], body)
        .await
        .unwrap();
    (status.as_u16(), retry_after(&headers))
}

fn retry_after(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("retry-after")?;
    Some(value.to_str().unwrap().to_owned())
}

fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info()?.retry_delay
}

/// Waits until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, wait).await.expect("it never holds");
}

#[tokio::test]
async fn later_is_said_in_the_form_that_every_collector_understands() {
    for refusal in [
        Refusal::Full {
            retry_after: Duration::from_secs(7),
        },
        Refusal::ShuttingDown,
    ] {
        let running = Running::start(Setup {
            refusal: Some(refusal),
            ..Setup::default()
        })
        .await;
        let status = grpc(&running).await;
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(retry_delay(&status), Some(refusal.retry_after()));
        let seconds = refusal.retry_after().as_secs().to_string();
        assert_eq!(post(&running).await, (503, Some(seconds)));
    }
}

/// The bound is one for both receivers, and what a request held is given back however it ends.
#[tokio::test]
async fn bytes_under_way_are_bounded_over_all_connections() {
    let running = Running::start(Setup {
        admission: 700 << 10,
        ..Setup::default()
    })
    .await;
    let admission = running.shared.admission.clone();
    let hanging = Hanging::start(running.grpc, half_a_message(500 << 10)).await;
    until(|| admission.granted() > 500 << 10).await;
    // A record that must be held whole, over either protocol, has no room beside it ...
    let large = request(&["y".repeat(300 << 10)]);
    let (_, headers) = raw(
        running.grpc,
        EXPORT,
        &[],
        vec![framed(0, &large.encode_to_vec())],
        End::Well,
    )
    .await
    .unwrap();
    let status = Status::from_header_map(&headers).unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(retry_delay(&status), Some(Duration::from_secs(1)));
    let json = serde_json::to_vec(&large).unwrap();
    for (kind, body) in [(PROTOBUF, large.encode_to_vec()), (JSON, json)] {
        let (status, headers, _) = http(running.http, "POST", "/v1/logs", &[kind], body)
            .await
            .unwrap();
        let answer = (status.as_u16(), retry_after(&headers));
        assert_eq!(answer, (503, Some("1".to_owned())), "{kind:?}");
    }
    assert_eq!(running.take(), []);
    // ... but small ones do, and however large a request is, if its records are small.
    assert_eq!(grpc(&running).await.code(), Code::Ok);
    assert_eq!(post(&running).await, (200, None));
    let many = request(&vec!["z".repeat(1000); 900]).encode_to_vec();
    let pieces = many.chunks(4096);
    let mut frames = vec![framed(0, &many)[..5].to_vec()];
    frames.extend(pieces.map(<[u8]>::to_vec));
    let (_, headers) = raw(running.grpc, EXPORT, &[], frames, End::Well)
        .await
        .unwrap();
    assert_eq!(headers["grpc-status"], "0");
    drop(hanging);
    until(|| admission.granted() == 0).await;
    let (_, headers) = raw(
        running.grpc,
        EXPORT,
        &[],
        vec![framed(0, &large.encode_to_vec())],
        End::Well,
    )
    .await
    .unwrap();
    assert_eq!(headers["grpc-status"], "0");
    until(|| admission.granted() == 0).await;
}

/// The answer must be one that senders send again after: 408 is not.
#[tokio::test]
async fn a_request_that_does_not_come_in_time_is_asked_to_come_again() {
    let running = Running::start(Setup {
        limits: Limits {
            read_timeout: SHORT,
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let mut hanging = Hanging::start(running.grpc, half_a_message(100)).await;
    let answer = timeout(LONG, hanging.answer()).await.unwrap().unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(retry_delay(&status).is_some());

    let body = half_a_record(100);
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {}\r\n\r\n",
        body.len() + 1
    );
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let text = rest_of(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("\r\nretry-after: 1\r\n"), "{text}");
    assert_eq!(running.take(), []);
    until(|| running.shared.admission.granted() == 0).await;
}

/// All that comes until the other side closes.
async fn rest_of(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    // A connection that is reset is closed as well.
    let _read = timeout(LONG, read).await.expect("it stays open");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn connections_that_ask_for_nothing_are_closed() {
    let running = Running::start(Setup {
        limits: Limits {
            idle_timeout: SHORT,
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    // HTTP/2 with nothing but its preface and empty settings.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (address, first) in [
        (running.grpc, &b""[..]),
        (running.grpc, preface),
        (running.http, b""),
        (running.http, preface),
        (running.http, b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        rest_of(&mut stream).await;
    }
    // A request is no idleness, however long it takes.
    let mut hanging = Hanging::start(running.grpc, half_a_message(100)).await;
    tokio::time::sleep(5 * SHORT).await;
    hanging.send(half_a_message(100)).await;
    let answer = timeout(LONG, hanging.answer()).await.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-status"], "3", "behind the message");
}

#[tokio::test]
async fn headers_must_come_in_time_and_be_small() {
    let running = Running::start(Setup {
        limits: Limits {
            read_header_timeout: SHORT,
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    stream
        .write_all(b"POST /v1/logs HTTP/1.1\r\nho")
        .await
        .unwrap();
    rest_of(&mut stream).await;

    let large = "x".repeat(100 << 10);
    let (status, _, _) = http(
        running.http,
        "POST",
        "/v1/logs",
        &[PROTOBUF, ("large", &large)],
        Vec::new(),
    )
    .await
    .unwrap();
    assert_eq!(status.as_u16(), 431);
    let many: Vec<_> = (0..200).map(|n| format!("h{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "v")).collect();
    let (status, _, _) = http(running.http, "POST", "/v1/logs", &many, Vec::new())
        .await
        .unwrap();
    assert_eq!(status.as_u16(), 431);
    let frames = vec![framed_request(&two())];
    let answer = raw(
        running.grpc,
        EXPORT,
        &[("large", &large)],
        frames,
        End::Well,
    )
    .await;
    assert!(answer.is_none_or(|(status, _)| status.as_u16() == 431));
    assert_eq!(running.take(), []);
}

#[tokio::test]
async fn a_peer_that_is_gone_without_a_word_is_noticed() {
    let running = Running::start(Setup {
        limits: Limits {
            keepalive_time: SHORT,
            keepalive_timeout: SHORT,
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let mut stream = TcpStream::connect(running.grpc).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    // It answers no ping.
    rest_of(&mut stream).await;
    // A client that answers them stays connected.
    let mut hanging = Hanging::start(running.grpc, half_a_message(100)).await;
    let wait = timeout(6 * SHORT, hanging.answer());
    assert!(wait.await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_until_one_ends() {
    let running = Running::start(Setup {
        limits: Limits {
            max_connections: 1,
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let hanging = Hanging::start(running.grpc, half_a_message(100)).await;
    until(|| running.shared.admission.granted() > 0).await;
    let mut second = Box::pin(grpc(&running));
    assert!(timeout(3 * SHORT, &mut second).await.is_err());
    // Each server has its own bound.
    assert_eq!(post(&running).await, (200, None));
    drop(hanging);
    assert_eq!(timeout(LONG, second).await.unwrap().code(), Code::Ok);
}

#[tokio::test]
async fn requests_of_a_connection_beyond_the_bound_wait_until_one_ends() {
    let running = Running::start(Setup {
        limits: Limits {
            max_concurrent_streams: 1,
            read_timeout: 6 * SHORT,
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let mut hanging = Hanging::start(running.grpc, half_a_message(100)).await;
    let second = framed_request(&two());
    let mut second = Box::pin(hanging.another(second));
    assert!(timeout(2 * SHORT, &mut second).await.is_err());
    let answer = timeout(LONG, &mut second).await.unwrap().unwrap();
    drop(second);
    assert_eq!(answer.status(), 200);
    assert!(hanging.answer().await.is_some(), "it got no answer");
    assert_eq!(running.take().len(), 1);
}

/// A request that is not finished when the service stops gets an answer; it is not cut off.
#[tokio::test]
async fn requests_that_are_cut_by_the_shutdown_are_asked_to_come_again() {
    let mut running = Running::start(Setup::default()).await;
    let mut hanging = Hanging::start(running.grpc, half_a_message(100)).await;
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    let head = "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    until(|| running.shared.admission.granted() >= 64 << 10).await;
    running.shared.stop.cancel();
    // No new request is admitted, but those that have begun may end ...
    until(|| std::net::TcpStream::connect(running.http).is_err()).await;
    assert!(timeout(SHORT, hanging.answer()).await.is_err());
    // ... until there is no more time.
    running.shared.cut.cancel();
    let answer = timeout(LONG, hanging.answer()).await.unwrap().unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(retry_delay(&status), Some(Duration::from_secs(5)));
    let text = rest_of(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("\r\nretry-after: 5\r\n"), "{text}");
    assert!(text.contains("shutting down"), "{text}");
    for server in running.servers.drain(..) {
        timeout(LONG, server).await.expect("it goes on").unwrap();
    }
    assert_eq!(running.take(), []);
}

/// The bound of the configuration is that of all receivers of the service.
#[tokio::test]
async fn the_receivers_of_a_service_share_one_bound() {
    let text = "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}, \
                http: {endpoint: '127.0.0.1:0'}}}}\n\
                processors: {detection: }\n\
                exporters: {debug: }\n\
                service: {admission: {request_limit_mib: 1}, pipelines: {logs: \
                {receivers: [otlp], processors: [detection], exporters: [debug]}}}\n";
    let config = config::parse("test.yaml", &quiet(text), &|_| None).unwrap();
    let service = Service::start(config).await.unwrap();
    let [(_, grpc), (_, http_address)] = service.addresses() else {
        panic!()
    };
    let body = request(&["x".repeat(900 << 10)]);
    let json = serde_json::to_vec(&body).unwrap();
    let mut refused = false;
    for attempt in 1..=20 {
        let hanging = Hanging::start(*grpc, half_a_message(900 << 10)).await;
        // Its bytes need a moment to come in; if they come behind the other's, it is refused itself.
        tokio::time::sleep(attempt * Duration::from_millis(20)).await;
        let answer = http(*http_address, "POST", "/v1/logs", &[JSON], json.clone()).await;
        drop(hanging);
        refused = answer.unwrap().0.as_u16() == 503;
        if refused {
            break;
        }
    }
    assert!(refused);
    assert!(service.shutdown(LONG).await);
}

#[tokio::test]
async fn grpc_is_posted_and_of_its_own_type() {
    let running = Running::start(Setup::default()).await;
    let stream = TcpStream::connect(running.grpc).await.unwrap();
    for (method, kind, status, code) in [
        ("POST", "application/grpc", 200, "0"),
        ("POST", "application/grpc+proto", 200, "0"),
        ("POST", "application/grpc;charset=utf-8", 200, "0"),
        ("GET", "application/grpc", 405, "12"),
        ("POST", "application/grpc+json", 415, "12"),
        ("POST", "application/grpcweb", 415, "12"),
        ("POST", "application/x-protobuf", 415, "12"),
    ] {
        let answer = crate::support::sender::http2(
            running.grpc,
            method,
            EXPORT,
            kind,
            framed_request(&two()),
        )
        .await
        .unwrap();
        assert_eq!(answer.0.as_u16(), status, "{method} {kind}");
        assert_eq!(answer.1["grpc-status"], code, "{method} {kind}");
    }
    drop(stream);
    assert_eq!(running.take().len(), 3);
}
