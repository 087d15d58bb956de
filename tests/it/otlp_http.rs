//! What the OTLP/HTTP receiver answers, through a client that is not ours, and that it sees what
//! gRPC sees.

use std::io::Write as _;

use auditwatch::detection::rule::Rule;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    screen::{batch, request as mixed},
    support::{
        corpus::denied,
        json::Noise,
        props::cases,
        recorder::{Running, Setup},
        sender::{Answer, End, framed, http, http2, raw, request},
    },
};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(running: &Running, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    http(running.http, "POST", "/v1/logs", headers, body)
        .await
        .unwrap()
}

fn two() -> Vec<String> {
    vec![denied("192.0.2.1", 0, "/a"), denied("192.0.2.1", 1, "/b")]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn as_json(headers: &HeaderMap, body: &[u8]) -> Value {
    assert_eq!(headers["content-type"], "application/json");
    serde_json::from_slice(body).unwrap()
}

#[tokio::test]
async fn takes_protobuf_and_json_plain_gzip_and_zstd() {
    let running = Running::start(Setup::default()).await;
    let protobuf = request(&two()).encode_to_vec();
    let json = serde_json::to_vec(&request(&two())).unwrap();
    for (kind, bytes, empty) in [(PROTOBUF, &protobuf, ""), (JSON, &json, "{}")] {
        for (encoding, body) in [
            ("identity", bytes.clone()),
            ("gzip", gzip(bytes)),
            ("GZip", gzip(bytes)),
            ("zstd", zstd::encode_all(&bytes[..], 1).unwrap()),
        ] {
            let headers = [kind, ("content-encoding", encoding)];
            let (status, headers, body) = post(&running, &headers, body).await;
            assert_eq!(
                (status, &body[..]),
                (StatusCode::OK, empty.as_bytes()),
                "{encoding}"
            );
            assert_eq!(headers["content-type"], kind.1);
            let taken = running.take();
            assert_eq!(taken[0].hits.len(), 2);
            assert_eq!(&*taken[0].hits[0].cluster, "test");
        }
    }
    let charset = [("content-type", "application/JSON; charset=utf-8")];
    assert_eq!(
        post(&running, &charset, b"{}".to_vec()).await.0,
        StatusCode::OK
    );
    assert_eq!(
        post(&running, &[PROTOBUF], Vec::new()).await.0,
        StatusCode::OK,
        "an empty request"
    );
}

/// The JSON form is that of the specification, for every sender.
#[tokio::test]
async fn reads_json_as_the_specification_has_it() {
    let running = Running::start(Setup::default()).await;
    let base64 = "eyJyZXF1ZXN0VVJJIjoiLyIsInVzZXIiOnt9LCJzb3VyY2VJUHMiOlsiMTkyLjAuMi45Il0sInJlc3BvbnNlU3RhdHVzIjp7ImNvZGUiOjQwMX19";
    let map = |code: Value| {
        json!({"kvlistValue": {"values": [
            {"key": "requestURI", "value": {"stringValue": "/x"}},
            {"key": "user", "value": {"kvlistValue": {"values": []}}},
            {"key": "sourceIPs", "value": {"arrayValue": {"values": [{"stringValue": "192.0.2.9"}]}}},
            {"key": "responseStatus", "value": {"kvlistValue": {"values": [
                {"key": "code", "value": code}]}}},
        ]}})
    };
    let record = |body: Value, time: Value| {
        json!({"timeUnixNano": time, "observedTimeUnixNano": "1795600200000000000",
               "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174",
               "severityNumber": 9, "body": body, "notAField": {"deep": [1, 2]}, "flags": 1})
    };
    let text = json!({"stringValue": denied("192.0.2.9", 0, "/")});
    let body = json!({"resourceLogs": [{
        "scopeLogs": [{"scope": {"name": "s", "unknown": 1}, "logRecords": [
            record(text, json!("1795600200000000000")),
            record(json!({"bytesValue": base64}), json!(1_795_600_200_000_000_000_u64)),
            record(map(json!({"intValue": "401"})), json!("0")),
            record(map(json!({"intValue": 403})), json!(0)),
            record(map(json!({"doubleValue": 403.0})), json!("0")),
        ]}],
        "resource": {"attributes": [
            {"key": "k8s.cluster.name", "value": {"stringValue": "behind"}}]},
    }], "unknown": null});
    let (status, _, answer) = post(&running, &[JSON], body.to_string().into_bytes()).await;
    assert_eq!((status, &answer[..]), (StatusCode::OK, &b"{}"[..]));
    let hits = &running.take()[0].hits;
    assert_eq!(
        hits.iter().map(|hit| hit.code).collect::<Vec<_>>(),
        [403, 401, 401, 403, 403]
    );
    assert!(
        hits.iter()
            .all(|hit| hit.key == "192.0.2.9" && &*hit.cluster == "behind")
    );
}

#[tokio::test]
async fn unreadable_records_are_rejected_and_their_neighbours_are_not() {
    let running = Running::start(Setup::default()).await;
    let mut lines = two();
    lines.push("{\"responseStatus\":{\"code\":403".to_owned());
    let body = request(&lines).encode_to_vec();
    let (status, _, answer) = post(&running, &[PROTOBUF], body).await;
    let partial = ExportLogsServiceResponse::decode(&answer[..])
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!((status, partial.rejected_log_records), (StatusCode::OK, 1));
    let json = serde_json::to_vec(&request(&lines)).unwrap();
    let (_, headers, answer) = post(&running, &[JSON], json).await;
    let partial = &as_json(&headers, &answer)["partialSuccess"];
    assert_eq!(partial["rejectedLogRecords"], "1");
    assert!(
        partial["errorMessage"]
            .as_str()
            .unwrap()
            .contains("not one JSON value")
    );
    assert_eq!(running.take()[1].hits.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_for_good_and_nothing_of_it_counts() {
    let running = Running::start(Setup::default()).await;
    let protobuf = request(&two()).encode_to_vec();
    let cut = protobuf[..protobuf.len() - 1].to_vec();
    let large = vec![b' '; (1 << 20) + 1];
    let deep = [b"{\"a\":".to_vec(), vec![b'['; 100_000]].concat();
    for (name, headers, body, wanted) in [
        ("cut protobuf", vec![PROTOBUF], cut, 400),
        ("no JSON", vec![JSON], b"{".to_vec(), 400),
        ("deep JSON", vec![JSON], deep, 400),
        (
            "not UTF-8",
            vec![JSON],
            b"{\"resourceLogs\":\"\xff\"}".to_vec(),
            400,
        ),
        (
            "no gzip",
            vec![PROTOBUF, ("content-encoding", "gzip")],
            protobuf.clone(),
            400,
        ),
        ("too large", vec![JSON], large.clone(), 413),
        (
            "too large inside",
            vec![JSON, ("content-encoding", "gzip")],
            gzip(&large),
            413,
        ),
        (
            "encoding",
            vec![PROTOBUF, ("content-encoding", "snappy")],
            protobuf.clone(),
            415,
        ),
        (
            "two encodings",
            vec![
                PROTOBUF,
                ("content-encoding", "gzip"),
                ("content-encoding", "gzip"),
            ],
            gzip(&gzip(&protobuf)),
            415,
        ),
        (
            "type",
            vec![("content-type", "text/plain")],
            protobuf.clone(),
            415,
        ),
        ("no type", vec![], protobuf.clone(), 415),
    ] {
        let (status, answered, body) = post(&running, &headers, body).await;
        assert_eq!(status.as_u16(), wanted, "{name}");
        assert!(!answered.contains_key("retry-after"), "{name}");
        if headers.first() == Some(&PROTOBUF) {
            let status = tonic_types::pb::Status::decode(&body[..]).unwrap();
            assert!(status.code != 0 && !status.message.is_empty(), "{name}");
        } else {
            let status = as_json(&answered, &body);
            assert!(status["code"] != 0 && status["message"] != "", "{name}");
        }
    }
    assert_eq!(running.take(), []);
}

/// A client that reads nothing before it has sent everything hears why, and does not find its
/// connection broken, which would make it try again.
#[tokio::test]
async fn a_refusal_is_heard_however_much_was_sent() {
    let running = Running::start(Setup::default()).await;
    let body = vec![b' '; 32 << 20];
    for (head, wanted) in [
        (
            "POST /v1/logs HTTP/1.1\r\ncontent-type: application/json",
            "413",
        ),
        ("POST /v1/logs HTTP/1.1\r\ncontent-type: text/plain", "415"),
        (
            "POST /v1/traces HTTP/1.1\r\ncontent-type: application/json",
            "404",
        ),
        (
            "PUT /v1/logs HTTP/1.1\r\ncontent-type: application/json",
            "405",
        ),
    ] {
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        let head = format!(
            "{head}\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {wanted} ")),
            "{answer}"
        );
    }
    // A client that waits for 100 Continue is refused before it sends.
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    let head = "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                expect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[tokio::test]
async fn a_connection_cut_inside_a_request_changes_nothing() {
    let running = Running::start(Setup::default()).await;
    let body = request(&two()).encode_to_vec();
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    for length in [0, 100, body.len() - 1] {
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..length]).await.unwrap();
    }
    let status = post(&running, &[PROTOBUF], body).await.0;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(running.take().len(), 1);
}

/// HTTP/2 without TLS, known by its first bytes.
#[tokio::test]
async fn takes_http2_as_well() {
    let running = Running::start(Setup::default()).await;
    let body = request(&two()).encode_to_vec();
    let (status, headers) = http2(running.http, "POST", "/v1/logs", PROTOBUF.1, body)
        .await
        .unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], PROTOBUF.1);
    assert_eq!(running.take()[0].hits.len(), 2);
}

#[tokio::test]
async fn there_is_one_method_and_one_path() {
    let running = Running::start(Setup::default()).await;
    let (status, headers, _) = http(running.http, "GET", "/v1/logs", &[PROTOBUF], Vec::new())
        .await
        .unwrap();
    assert_eq!(
        (status.as_u16(), &headers["allow"]),
        (405, &"POST".parse().unwrap())
    );
    let (status, _, _) = http(running.http, "POST", "/v1/traces", &[PROTOBUF], Vec::new())
        .await
        .unwrap();
    assert_eq!(status.as_u16(), 404);
}

proptest! {
    #![proptest_config(cases(60))]

    /// The same logs give the same hits, over gRPC, in protobuf and JSON over HTTP, and straight
    /// through the screen.
    #[test]
    fn sees_what_the_screen_sees(
        batches in vec(batch(), 1..3),
        seed in any::<u64>(),
    ) {
        let rule = Rule::default();
        let (protobuf, hits) = mixed(&batches, &rule, &mut Noise::new(seed));
        let message = ExportLogsServiceRequest::decode(&protobuf[..]).unwrap();
        let json = serde_json::to_vec(&message).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let taken = runtime.block_on(async {
            let running = Running::start(Setup::default()).await;
            let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
            let frames = vec![framed(0, &protobuf)];
            raw(running.grpc, path, &[], frames, End::Well).await;
            post(&running, &[PROTOBUF], protobuf).await;
            post(&running, &[JSON], json).await;
            running.take()
        });
        prop_assert_eq!(taken.len(), 3);
        for screened in &taken {
            prop_assert_eq!(&screened.hits, &hits);
        }
    }
}
