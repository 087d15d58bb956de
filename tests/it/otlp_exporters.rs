//! The exporters `otlp_grpc` and `otlp_http` against receivers that are not ours.

use std::{io::Read as _, sync::Arc, time::Duration};

use auditwatch::{
    detection::Finding,
    exporter::{
        Exporter, Outcome,
        compression::Compression,
        otlp::{log_record, resource},
        otlp_grpc::{self, OtlpGrpc},
        otlp_http::{self, Encoding, OtlpHttp},
        queue::{QueueConfig, RetryConfig, Totals, queue, run},
    },
    extension::bearer_token_auth,
    tls::{Pem, client},
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    },
    logs::v1::LogRecord,
};
use prost::Message as _;
use rustls::version::{TLS12, TLS13};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::{
    certificates::{Authority, Texts},
    otlp_peer::{Answer, Peer, Protocol},
    tls_peers::{server, server_of_name},
};

const SECOND: Duration = Duration::from_secs(1);

fn finding(number: u32) -> Arc<Finding> {
    let at = Some(prost_types::Timestamp {
        seconds: 1_764_055_023,
        nanos: 35_818_000,
    });
    Arc::new(Finding {
        finding_id: format!("{number:032x}"),
        state: "opened".to_owned(),
        cluster: ["prod", "test"][number as usize / 2 % 2].to_owned(),
        src_ip: "203.0.113.7".to_owned(),
        alert_at: at,
        last_time: at,
        count: 6,
        ..Finding::default()
    })
}

fn findings(count: u32) -> Vec<Arc<Finding>> {
    (0..count).map(finding).collect()
}

fn headers() -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    headers.insert("x-scope", "5ecre7-scope".parse().unwrap());
    headers
}

fn grpc_config(peer: &Peer) -> otlp_grpc::Config {
    otlp_grpc::Config {
        endpoint: peer.address.to_string(),
        tls: client::Config {
            insecure: true,
            ..client::Config::default()
        },
        headers: headers(),
        ..otlp_grpc::Config::default()
    }
}

fn http_config(peer: &Peer) -> otlp_http::Config {
    otlp_http::Config {
        endpoint: format!("http://{}", peer.address),
        headers: headers(),
        ..otlp_http::Config::default()
    }
}

fn grpc(peer: &Peer) -> OtlpGrpc {
    OtlpGrpc::new(&grpc_config(peer)).unwrap()
}

fn http(peer: &Peer) -> OtlpHttp {
    OtlpHttp::new(&http_config(peer)).unwrap()
}

fn kind(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(count) => format!("accepted {count}"),
        Outcome::Partial {
            findings, rejected, ..
        } => format!("{rejected} of {findings} rejected"),
        Outcome::Retry { after: None, .. } => "retry".to_owned(),
        Outcome::Retry {
            after: Some(after), ..
        } => format!("retry after {after:?}"),
        Outcome::TooLarge { findings, .. } => format!("too large {findings}"),
        Outcome::Invalid { .. } => "invalid".to_owned(),
        Outcome::Refused { after: None, .. } => "refused".to_owned(),
        Outcome::Refused {
            after: Some(after), ..
        } => format!("refused, after {after:?}"),
    }
}

fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Partial { reason, .. }
        | Outcome::Retry { reason, .. }
        | Outcome::TooLarge { reason, .. }
        | Outcome::Invalid { reason, .. }
        | Outcome::Refused { reason, .. } => reason,
        Outcome::Accepted(count) => panic!("{count} were accepted"),
    }
}

fn records(message: &ExportLogsServiceRequest) -> Vec<&LogRecord> {
    let groups = message.resource_logs.iter();
    groups
        .flat_map(|group| &group.scope_logs)
        .flat_map(|scope| &scope.log_records)
        .collect()
}

/// That a message holds these findings, as `log_record` has them, all observed at one time.
fn assert_holds(message: &ExportLogsServiceRequest, findings: &[Arc<Finding>]) -> u64 {
    let records = records(message);
    let observed = records[0].observed_time_unix_nano;
    let wanted: Vec<_> = findings
        .iter()
        .map(|finding| log_record(finding, observed))
        .collect();
    assert_eq!(records, wanted.iter().collect::<Vec<_>>());
    for group in &message.resource_logs {
        let scope = &group.scope_logs[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, "auditwatch");
        let id = &scope.log_records[0];
        let of = findings
            .iter()
            .position(|finding| log_record(finding, observed) == *id);
        assert_eq!(group.resource, Some(resource(&findings[of.unwrap()])));
    }
    observed
}

#[tokio::test]
async fn findings_arrive_over_grpc_as_log_records() {
    for (compression, name) in [
        (Compression::None, None),
        (Compression::Gzip, Some("gzip")),
        (Compression::Zstd, Some("zstd")),
    ] {
        let peer = Peer::start(Protocol::Grpc).await;
        let config = otlp_grpc::Config {
            compression,
            ..grpc_config(&peer)
        };
        let mut exporter = OtlpGrpc::new(&config).unwrap();
        let batch = findings(5);
        assert_eq!(exporter.send(&batch).await, Outcome::Accepted(5));
        let message = &peer.messages()[0];
        assert_eq!(message.resource_logs.len(), 3, "prod, test, prod");
        assert!(assert_holds(message, &batch) > 0);
        let seen = &peer.seen()[0];
        let header = |name| seen.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("x-scope"), Some("5ecre7-scope"));
        assert_eq!(header("grpc-encoding"), name);
        assert!(header("user-agent").unwrap().starts_with("auditwatch/"));
        assert!(header("grpc-timeout").is_some());
        assert_eq!(seen.authority, peer.address.to_string());
    }
}

#[tokio::test]
async fn findings_arrive_over_http_as_log_records() {
    for (encoding, kind) in [
        (Encoding::Proto, "application/x-protobuf"),
        (Encoding::Json, "application/json"),
    ] {
        for (compression, name) in [
            (Compression::None, None),
            (Compression::Gzip, Some("gzip")),
            (Compression::Zstd, Some("zstd")),
        ] {
            let peer = Peer::start(Protocol::Http).await;
            let config = otlp_http::Config {
                encoding,
                compression,
                ..http_config(&peer)
            };
            let mut exporter = OtlpHttp::new(&config).unwrap();
            let batch = findings(5);
            assert_eq!(exporter.send(&batch).await, Outcome::Accepted(5));
            let seen = &peer.seen()[0];
            let header = |name| seen.headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(
                (seen.path.as_str(), header("content-type")),
                ("/v1/logs", Some(kind))
            );
            assert_eq!(header("x-scope"), Some("5ecre7-scope"));
            assert_eq!(header("content-encoding"), name);
            let mut body = Vec::new();
            match compression {
                Compression::None => body.extend_from_slice(&seen.body),
                Compression::Gzip => {
                    flate2::read::GzDecoder::new(&*seen.body)
                        .read_to_end(&mut body)
                        .unwrap();
                }
                Compression::Zstd => body = zstd::stream::decode_all(&*seen.body).unwrap(),
            }
            let message = match encoding {
                Encoding::Proto => ExportLogsServiceRequest::decode(&*body).unwrap(),
                Encoding::Json => serde_json::from_slice(&body).unwrap(),
            };
            assert!(assert_holds(&message, &batch) > 0);
        }
    }
}

#[tokio::test]
async fn every_status_of_grpc_becomes_its_outcome() {
    let peer = Peer::start(Protocol::Grpc).await;
    let mut exporter = grpc(&peer);
    let batch = findings(3);
    for code in (1..=16).map(Code::from) {
        for wait in [None, Some(7 * SECOND)] {
            let details = match wait {
                None => ErrorDetails::new(),
                wait => ErrorDetails::with_retry_info(wait),
            };
            let status = Status::with_error_details(code, "no 5ecre7-scope", details);
            peer.answer_next([Answer::Grpc(Err(status))]);
            let outcome = exporter.send(&batch).await;
            let wanted = match (code, wait) {
                (Code::ResourceExhausted, None) | (Code::InvalidArgument, _) => "too large 3",
                (
                    Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss,
                    None,
                ) => "retry",
                (
                    Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
                    | Code::ResourceExhausted,
                    Some(_),
                ) => "retry after 7s",
                (_, None) => "refused",
                (_, Some(_)) => "refused, after 7s",
            };
            assert_eq!(kind(&outcome), wanted, "{code:?} {wait:?}");
            let message = reason(outcome);
            assert!(message.contains("\"no [hidden]\""), "{message}");
        }
    }
    // All of them were attempts at the same findings, observed when they were first sent.
    let messages = peer.messages();
    assert!(messages.iter().all(|message| *message == messages[0]));
    assert_eq!(exporter.send(&batch).await, Outcome::Accepted(3));
}

#[tokio::test]
async fn answers_over_http_become_their_outcomes() {
    let peer = Peer::start(Protocol::Http).await;
    let elsewhere = Peer::start(Protocol::Http).await;
    let mut exporter = http(&peer);
    let batch = findings(3);
    let proto = ("content-type", "application/x-protobuf".to_owned());
    let status = tonic_types::Status {
        code: 14,
        message: "no 5ecre7-scope".to_owned(),
        details: Vec::new(),
    }
    .encode_to_vec();
    let location = ("location", format!("http://{}/v1/logs", elsewhere.address));
    for (status, headers, body, wanted, message) in [
        (
            503,
            vec![proto.clone()],
            status,
            "retry",
            "HTTP 503 \"no [hidden]\"",
        ),
        (
            429,
            vec![("retry-after", "9".to_owned())],
            vec![],
            "retry after 9s",
            "HTTP 429",
        ),
        (
            502,
            vec![],
            b"<html>".to_vec(),
            "retry",
            "a body that starts \"<html>\"",
        ),
        (504, vec![], vec![], "retry", "HTTP 504"),
        (
            200,
            vec![],
            b"<html>".to_vec(),
            "retry",
            "no answer of an OTLP receiver",
        ),
        (413, vec![], vec![], "too large 3", "HTTP 413"),
        (400, vec![], vec![], "refused", "HTTP 400"),
        (408, vec![], vec![], "retry", "HTTP 408"),
        (401, vec![], vec![], "refused", "set headers"),
        (403, vec![], vec![], "refused", "check headers"),
        (404, vec![], vec![], "refused", "/v1/logs is appended"),
        (500, vec![], vec![], "refused", "HTTP 500"),
        (
            307,
            vec![location],
            vec![],
            "refused",
            "redirects are not followed",
        ),
    ] {
        peer.answer_next([Answer::Http(status, headers, body)]);
        let outcome = exporter.send(&batch).await;
        assert_eq!(kind(&outcome), wanted, "{status}");
        let reason = reason(outcome);
        assert!(reason.contains(message), "{reason}");
    }
    assert!(elsewhere.seen().is_empty());
    peer.answer_next([Answer::Cut]);
    assert_eq!(kind(&exporter.send(&batch).await), "retry");
    let bodies: Vec<_> = peer.seen().into_iter().map(|seen| seen.body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

fn partial(rejected: i64) -> ExportLogsServiceResponse {
    ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: rejected,
            error_message: "too old".to_owned(),
        }),
    }
}

async fn deliver(exporter: impl Exporter, batch: Vec<Arc<Finding>>) -> Totals {
    let (queue, receiver) = queue("otlp".to_owned(), QueueConfig::default());
    for finding in batch {
        queue.try_push(finding).unwrap();
    }
    drop(queue);
    let retry = RetryConfig {
        initial_interval: Duration::from_millis(10),
        ..RetryConfig::default()
    };
    run(receiver, exporter, retry, 512, CancellationToken::new()).await
}

#[tokio::test]
async fn what_a_receiver_rejects_is_lost_and_not_sent_again() {
    let wanted = Totals { sent: 3, failed: 2 };
    let peer = Peer::start(Protocol::Grpc).await;
    peer.answer_next([Answer::Grpc(Ok(partial(2)))]);
    assert_eq!(deliver(grpc(&peer), findings(5)).await, wanted);
    assert_eq!(peer.messages().len(), 1);

    let peer = Peer::start(Protocol::Http).await;
    let kind = ("content-type", "application/x-protobuf".to_owned());
    peer.answer_next([Answer::Http(200, vec![kind], partial(2).encode_to_vec())]);
    assert_eq!(deliver(http(&peer), findings(5)).await, wanted);
    assert_eq!(peer.seen().len(), 1);

    let peer = Peer::start(Protocol::Grpc).await;
    peer.answer_next([Answer::Grpc(Ok(partial(0)))]);
    let all = Totals { sent: 5, failed: 0 };
    assert_eq!(deliver(grpc(&peer), findings(5)).await, all);
}

#[tokio::test]
async fn a_receiver_that_comes_back_is_found_again() {
    let peer = Peer::start(Protocol::Grpc).await;
    let (address, mut exporter) = (peer.address, grpc(&peer));
    assert_eq!(exporter.send(&findings(1)).await, Outcome::Accepted(1));
    drop(peer);
    // It may take a moment until the connection is known to be gone.
    loop {
        let message = reason(exporter.send(&findings(1)).await);
        if message.contains("Connection refused") {
            break;
        }
    }
    let peer = Peer::start_at(address, Protocol::Grpc, None).await;
    assert_eq!(exporter.send(&findings(1)).await, Outcome::Accepted(1));
    assert_eq!(peer.messages().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_tried_again() {
    let peer = Peer::start(Protocol::Grpc).await;
    let config = otlp_grpc::Config {
        timeout: SECOND,
        ..grpc_config(&peer)
    };
    let mut exporter = OtlpGrpc::new(&config).unwrap();
    peer.answer_next([Answer::Hang]);
    let outcome = exporter.send(&findings(1)).await;
    assert_eq!(kind(&outcome), "retry", "{outcome:?}");
    assert_eq!(exporter.send(&findings(1)).await, Outcome::Accepted(1));

    let peer = Peer::start(Protocol::Http).await;
    let config = otlp_http::Config {
        timeout: SECOND,
        ..http_config(&peer)
    };
    let mut exporter = OtlpHttp::new(&config).unwrap();
    peer.answer_next([Answer::Hang]);
    assert_eq!(kind(&exporter.send(&findings(1)).await), "retry");
    assert_eq!(exporter.send(&findings(1)).await, Outcome::Accepted(1));
}

/// What speaks no gRPC takes nothing, and findings are kept while it may only be half there.
#[tokio::test]
async fn what_is_no_receiver_accepts_nothing() {
    let peer = Peer::start(Protocol::Http).await;
    let outcome = grpc(&peer).send(&findings(1)).await;
    assert_eq!(kind(&outcome), "retry", "{outcome:?}");
    // What stands between may answer in its own way.
    let peer = Peer::start(Protocol::Grpc).await;
    let mut exporter = grpc(&peer);
    let html = ("content-type", "text/html".to_owned());
    for (status, wanted, message) in [
        (200, "retry", "does not speak gRPC"),
        (502, "retry", "UNAVAILABLE"),
        (404, "refused", "UNIMPLEMENTED"),
    ] {
        peer.answer_next([Answer::Http(status, vec![html.clone()], b"<html>".to_vec())]);
        let outcome = exporter.send(&findings(1)).await;
        assert_eq!(kind(&outcome), wanted, "{outcome:?}");
        assert!(reason(outcome).contains(message), "{status}");
    }
    assert_eq!(exporter.send(&findings(1)).await, Outcome::Accepted(1));
    // Accepts connections and ends them.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = otlp_grpc::Config {
        endpoint: listener.local_addr().unwrap().to_string(),
        ..grpc_config(&peer)
    };
    let mut exporter = OtlpGrpc::new(&config).unwrap();
    let batch = findings(1);
    let closing = async {
        loop {
            drop(listener.accept().await);
        }
    };
    let outcome = tokio::select! {
        () = closing => unreachable!(),
        outcome = exporter.send(&batch) => outcome,
    };
    assert_eq!(kind(&outcome), "retry", "{outcome:?}");
}

/// Receivers on grpc-go take 4 MiB by default; so does the one here.
#[tokio::test]
async fn large_batches_go_in_requests_that_receivers_take() {
    let peer = Peer::start(Protocol::Grpc).await;
    let batch: Vec<_> = (0..100)
        .map(|number| {
            let mut finding = (*finding(number)).clone();
            finding.paths = (0..100)
                .map(|at| format!("/{number}/{at}/{}", "x".repeat(1000)))
                .collect();
            Arc::new(finding)
        })
        .collect();
    let totals = deliver(grpc(&peer), batch.clone()).await;
    assert_eq!(
        totals,
        Totals {
            sent: 100,
            failed: 0
        }
    );
    let messages = peer.messages();
    assert_eq!(messages.len(), 3, "about 10 MB");
    let ids = |record: &LogRecord| {
        let id = record
            .attributes
            .iter()
            .find(|one| one.key == "log.record.uid");
        format!("{:?}", id.unwrap().value)
    };
    let arrived: Vec<_> = messages
        .iter()
        .flat_map(|one| records(one))
        .map(ids)
        .collect();
    let wanted: Vec<_> = batch.iter().map(|one| ids(&log_record(one, 0))).collect();
    assert_eq!(arrived, wanted);
}

fn trusting(authority: &Authority) -> client::Config {
    client::Config {
        ca: Some(Pem::Text(authority.pem().into())),
        ..client::Config::default()
    }
}

/// The outcome of one finding sent with these settings of TLS.
async fn over_tls(peer: &Peer, protocol: Protocol, tls: client::Config) -> Outcome {
    let batch = findings(1);
    match protocol {
        Protocol::Grpc => {
            let config = otlp_grpc::Config {
                tls,
                ..grpc_config(peer)
            };
            OtlpGrpc::new(&config).unwrap().send(&batch).await
        }
        Protocol::Http => {
            let config = otlp_http::Config {
                tls,
                endpoint: format!("https://{}", peer.address),
                ..http_config(peer)
            };
            OtlpHttp::new(&config).unwrap().send(&batch).await
        }
    }
}

#[tokio::test]
async fn tls_is_as_it_is_set() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"]);
    let client = authority.issue(&["us"]);
    let with = |Texts { cert, key }: &Texts| client::Config {
        cert: Some(Pem::Text(cert.as_str().into())),
        key: Some(Pem::Text(key.as_str().into())),
        ..trusting(&authority)
    };
    for protocol in [Protocol::Grpc, Protocol::Http] {
        for versions in [&[&TLS13, &TLS12][..], &[&TLS12]] {
            let peer = Peer::start_tls(protocol, server(&identity, None, versions)).await;
            let outcome = over_tls(&peer, protocol, trusting(&authority)).await;
            assert_eq!(outcome, Outcome::Accepted(1), "{protocol:?}");
            let any = client::Config {
                insecure_skip_verify: true,
                ..client::Config::default()
            };
            let outcome = over_tls(&peer, protocol, any).await;
            assert_eq!(outcome, Outcome::Accepted(1), "{protocol:?}");
            let message = reason(over_tls(&peer, protocol, trusting(&Authority::new())).await);
            assert!(message.contains("set tls::ca_file"), "{message}");

            let clients = server(&identity, Some(&authority), versions);
            let peer = Peer::start_tls(protocol, clients).await;
            let message = reason(over_tls(&peer, protocol, trusting(&authority)).await);
            assert!(message.contains("tls::cert_file"), "{message}");
            assert!(peer.seen().is_empty());
            let outcome = over_tls(&peer, protocol, with(&client)).await;
            assert_eq!(outcome, Outcome::Accepted(1), "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn another_name_is_asked_for_and_looked_for() {
    let authority = Authority::new();
    let identity = authority.issue(&["collector.example"]);
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let tls = server_of_name("collector.example", &identity);
        let peer = Peer::start_tls(protocol, tls).await;
        let outcome = over_tls(&peer, protocol, trusting(&authority)).await;
        assert_eq!(kind(&outcome), "retry");
        let named = client::Config {
            server_name_override: Some("collector.example".to_owned()),
            ..trusting(&authority)
        };
        let outcome = over_tls(&peer, protocol, named).await;
        assert_eq!(outcome, Outcome::Accepted(1), "{protocol:?}");
        let port = peer.address.port();
        let wanted = match protocol {
            Protocol::Grpc => format!("collector.example:{port}"),
            Protocol::Http => format!("127.0.0.1:{port}"),
        };
        assert_eq!(peer.seen()[0].authority, wanted);
    }
}

#[tokio::test]
async fn the_token_of_an_extension_goes_with_requests() {
    let auth = Some(bearer_token_auth::Config {
        tokens: vec!["5ecre7-token".into()],
        ..bearer_token_auth::Config::default()
    });
    let peer = Peer::start(Protocol::Grpc).await;
    let config = otlp_grpc::Config {
        auth: auth.clone(),
        ..grpc_config(&peer)
    };
    let status = Status::unauthenticated("who is Bearer 5ecre7-token or 5ecre7-token");
    peer.answer_next([Answer::Grpc(Err(status))]);
    let outcome = OtlpGrpc::new(&config).unwrap().send(&findings(1)).await;
    let message = reason(outcome);
    assert!(
        message.contains("who is Bearer [hidden] or [hidden]"),
        "{message}"
    );
    assert_eq!(
        peer.seen()[0].headers["authorization"],
        "Bearer 5ecre7-token"
    );

    let peer = Peer::start(Protocol::Http).await;
    let config = otlp_http::Config {
        auth,
        ..http_config(&peer)
    };
    let outcome = OtlpHttp::new(&config).unwrap().send(&findings(1)).await;
    assert_eq!(outcome, Outcome::Accepted(1));
    assert_eq!(
        peer.seen()[0].headers["authorization"],
        "Bearer 5ecre7-token"
    );
}
