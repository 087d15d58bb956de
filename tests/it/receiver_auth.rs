//! Bearer tokens: which requests both OTLP receivers accept, and how they answer the others.

use std::{path::Path, time::Duration};

use auditwatch::{
    config,
    extension::bearer_token_auth::{BearerTokenAuth, Config},
    service::Service,
};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{
    corpus::denied,
    process::{Process, free_address, quiet},
    recorder::{Running, Setup},
    sender::{End, Hanging, framed_request, http, raw, request, send},
};

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
/// Longer than anything takes here, shorter than anybody waits.
const LONG: Duration = Duration::from_secs(20);

fn two() -> Vec<String> {
    vec![denied("192.0.2.1", 0, "/a"), denied("192.0.2.1", 1, "/b")]
}

async fn start(config: &Config) -> Running {
    Running::start(Setup {
        auth: Some(BearerTokenAuth::new(config).unwrap()),
        ..Setup::default()
    })
    .await
}

fn tokens(tokens: &[&str]) -> Config {
    Config {
        tokens: tokens.iter().map(|token| (*token).into()).collect(),
        ..Config::default()
    }
}

/// Sends two logs over gRPC with these headers.
async fn grpc(running: &Running, headers: &[(&str, &str)]) -> Status {
    let frames = vec![framed_request(&two())];
    let (status, headers) = raw(running.grpc, EXPORT, headers, frames, End::Well)
        .await
        .unwrap();
    assert_eq!(status, 200);
    Status::from_header_map(&headers).unwrap()
}

/// Sends two logs over HTTP with these headers; the status.
async fn post(running: &Running, headers: &[(&str, &str)]) -> u16 {
    let headers = [&[PROTOBUF], headers].concat();
    let body = request(&two()).encode_to_vec();
    let answer = http(running.http, "POST", "/v1/logs", &headers, body).await;
    answer.unwrap().0.as_u16()
}

#[tokio::test]
async fn only_who_has_a_token_is_let_in() {
    let running = start(&tokens(&["first", "second"])).await;
    let mut refused = 0;
    for (headers, good) in [
        (&[("authorization", "Bearer first")][..], true),
        (&[("Authorization", "bearer second")], true),
        (&[], false),
        (&[("authorization", "Bearer third")], false),
        (&[("authorization", "Bearer firs")], false),
        (&[("authorization", "Bearer ")], false),
        (&[("authorization", "Basic first")], false),
        (&[("authorization", "first")], false),
        (&[("x-token", "Bearer first")], false),
    ] {
        let status = grpc(&running, headers).await;
        let code = if good {
            Code::Ok
        } else {
            Code::Unauthenticated
        };
        assert_eq!(status.code(), code, "{headers:?}");
        let wanted = if good { 200 } else { 401 };
        assert_eq!(post(&running, headers).await, wanted, "{headers:?}");
        assert_eq!(running.take().len(), if good { 2 } else { 0 });
        refused += if good { 0 } else { 2 };
        assert_eq!(running.refused(), refused);
    }
}

/// The generated client of OpenTelemetry's crate, and a header of one's own.
#[tokio::test]
async fn the_header_and_its_word_are_settings() {
    let config = Config {
        header: "X-Audit".to_owned(),
        scheme: String::new(),
        ..tokens(&["first"])
    };
    let running = start(&config).await;
    assert_eq!(post(&running, &[("X-AUDIT", "first")]).await, 200);
    assert_eq!(
        post(&running, &[("authorization", "Bearer first")]).await,
        401
    );
    let (name, value) = BearerTokenAuth::new(&config)
        .unwrap()
        .client_header()
        .unwrap();
    let channel = Channel::from_shared(format!("http://{}", running.grpc))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = LogsServiceClient::new(channel);
    let mut with_token = tonic::Request::new(request(&two()));
    with_token
        .metadata_mut()
        .insert("x-audit", value.to_str().unwrap().parse().unwrap());
    assert_eq!(name, "x-audit");
    client.export(with_token).await.unwrap();
    let status = client.export(request(&two())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

/// What the Collector writes into its log before it drops the data.
#[tokio::test]
async fn a_refusal_says_what_to_do_and_no_token() {
    let running = start(&tokens(&["first"])).await;
    let status = grpc(&running, &[]).await;
    let message = status.message();
    assert!(
        message.contains("set auth: {authenticator: bearertokenauth}"),
        "{message}"
    );
    let status = grpc(&running, &[("authorization", "Bearer s3cret")]).await;
    let message = status.message();
    assert!(
        message.contains("is not known here") && !message.contains("s3cret"),
        "{message}"
    );

    let headers = [JSON, ("authorization", "Bearer s3cret")];
    let (status, headers, body) = http(running.http, "POST", "/v1/logs", &headers, b"{}".to_vec())
        .await
        .unwrap();
    assert_eq!(status, 401);
    assert_eq!(headers["www-authenticate"], "Bearer");
    assert_eq!(headers["content-type"], "application/json");
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], 16);
    assert!(!body["message"].as_str().unwrap().contains("s3cret"));
    let (status, headers, body) = http(running.http, "POST", "/v1/logs", &[PROTOBUF], Vec::new())
        .await
        .unwrap();
    assert_eq!(
        (status.as_u16(), &headers["content-type"]),
        (401, &PROTOBUF.1.parse().unwrap())
    );
    let body = tonic_types::pb::Status::decode(body).unwrap();
    assert_eq!(body.code, 16);
    // A client without a token does not learn which paths exist.
    let (status, _, _) = http(running.http, "GET", "/else", &[], Vec::new())
        .await
        .unwrap();
    assert_eq!(status, 401);
}

/// A stranger's bytes are not waited for and take no room.
#[tokio::test]
async fn a_refusal_comes_before_the_body() {
    let running = start(&tokens(&["first"])).await;
    let mut hanging = Hanging::start(running.grpc, framed_request(&two())[..7].to_vec()).await;
    let answer = timeout(LONG, hanging.answer()).await.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-status"], "16");
    assert_eq!(running.shared.admission.granted(), 0);
    // Over HTTP/1.1 the rest is passed over for a while, so that clients that send first hear it.
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    let head = "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                content-length: 2\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(running.shared.admission.granted(), 0);
    stream.write_all(b"}").await.unwrap();
    let mut begin = [0; 12];
    timeout(LONG, stream.read_exact(&mut begin))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&begin, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_file_of_tokens_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let config = Config {
        filename: Some(path.clone()),
        ..Config::default()
    };
    let cannot = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error = BearerTokenAuth::new(&config).unwrap_err().to_string();
        assert!(
            error.starts_with("filename: ") && error.contains(path.to_str().unwrap()),
            "{error}"
        );
    };
    cannot(None);
    cannot(Some("\n\n"));
    std::fs::write(&path, "first\n\nsecond of somebody\n").unwrap();
    let running = start(&config).await;
    let first = [("authorization", "Bearer first")];
    let third = [("authorization", "Bearer third")];
    assert_eq!(post(&running, &first).await, 200);
    assert_eq!(
        post(&running, &[("authorization", "Bearer second")]).await,
        200
    );
    assert_eq!(post(&running, &third).await, 401);
    let known = async |headers: &[(&str, &str)]| {
        let wait = async {
            while post(&running, headers).await != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LONG, wait).await.expect("it is never known");
    };
    std::fs::write(&path, "third\n").unwrap();
    known(&third).await;
    assert_eq!(post(&running, &first).await, 401);
    // What is of no use changes nothing.
    std::fs::write(&path, "\n").unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(post(&running, &third).await, 200);
    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(post(&running, &third).await, 200);
    std::fs::write(&path, "first\n").unwrap();
    known(&first).await;
}

fn configuration(endpoint: &str, filename: &Path) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{
  grpc: {{endpoint: '{endpoint}', auth: {{authenticator: bearertokenauth/a}}}},
  http: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors: {{detection: }}
exporters: {{debug: }}
extensions: {{bearertokenauth/a: {{filename: '{}'}}}}
service: {{extensions: [bearertokenauth/a], pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [debug]}}}}}}
",
        filename.display()
    )
}

/// As it is configured: one protocol has a guard, the other was not given one.
#[tokio::test]
async fn a_service_asks_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let text = configuration("127.0.0.1:0", &path);
    let start = || Service::start(config::parse("test.yaml", &quiet(&text), &|_| None).unwrap());
    let error = start().await.err().map(|error| format!("{error:#}"));
    let error = error.expect("an error");
    assert!(
        error.starts_with("cannot start extension bearertokenauth/a: filename: cannot read "),
        "{error}"
    );
    std::fs::write(&path, "first").unwrap();
    let service = start().await.unwrap();
    let [(_, grpc), (_, open)] = service.addresses() else {
        panic!()
    };
    let status = send(*grpc, &two(), None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let frames = vec![framed_request(&two())];
    let headers = [("authorization", "Bearer first")];
    let (_, headers) = raw(*grpc, EXPORT, &headers, frames, End::Well)
        .await
        .unwrap();
    assert_eq!(headers["grpc-status"], "0");
    let body = request(&two()).encode_to_vec();
    let answer = http(*open, "POST", "/v1/logs", &[PROTOBUF], body).await;
    assert_eq!(answer.unwrap().0, 200);
    assert!(service.shutdown(LONG).await);
}

/// Many refusals are one line, with who and why and without what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_one_line_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let (config, path) = (folder.path().join("a.yaml"), folder.path().join("tokens"));
    let address = free_address();
    std::fs::write(&path, "first").unwrap();
    std::fs::write(&config, configuration(&address.to_string(), &path)).unwrap();
    let mut process = Process::auditwatch(&config, &[]);
    process.wait_for("listening", LONG);
    for _ in 0..5 {
        let headers = [("authorization", "Bearer s3cret")];
        let frames = vec![framed_request(&two())];
        raw(address, EXPORT, &headers, frames, End::Well)
            .await
            .unwrap();
    }
    process.wait_for("a request was refused", LONG);
    let stderr = process.stderr();
    assert_eq!(
        stderr.matches("a request was refused").count(),
        1,
        "{stderr}"
    );
    assert!(stderr.contains("peer=127.0.0.1:"), "{stderr}");
    assert!(
        !stderr.contains("s3cret") && !stderr.contains("first"),
        "{stderr}"
    );
    // A refusal for another reason has a line of its own: what was sent is lost as well.
    let headers = [
        ("authorization", "Bearer first"),
        ("grpc-encoding", "snappy"),
    ];
    for _ in 0..2 {
        let frames = vec![framed_request(&two())];
        raw(address, EXPORT, &headers, frames, End::Well)
            .await
            .unwrap();
    }
    process.wait_for("compression \"snappy\" is not supported", LONG);
    let stderr = process.stderr();
    assert_eq!(
        stderr.matches("a request was refused").count(),
        2,
        "{stderr}"
    );
    // On loopback there is no warning that others could read the traffic.
    assert!(!stderr.contains("without tls"), "{stderr}");
    // The rest of the burst is reported, at the end of the process before the minute is over.
    process.signal("TERM");
    process.wait(LONG);
    let stderr = process.stderr();
    assert_eq!(
        stderr.matches("a request was refused").count(),
        4,
        "{stderr}"
    );
    assert!(stderr.contains(" suppressed=3"), "{stderr}");
}
