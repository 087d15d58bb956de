//! What the OTLP/gRPC receiver answers, through clients that are not ours and by hand.

use std::{io::Write as _, net::SocketAddr};

use auditwatch::{config, service::Service};
use tonic::{Code, codec::CompressionEncoding};

use crate::support::{
    corpus::denied,
    process::quiet,
    sender::{End, framed, framed_request, raw, request, send},
};

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// A service that writes findings to a file.
struct Running {
    service: Service,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Running {
    async fn start(limit_mib: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0', \
             max_recv_msg_size_mib: {limit_mib}}}}}}}}}\n\
             processors: {{detection: }}\n\
             exporters: {{file: {{path: '{}/findings'}}}}\n\
             service: {{pipelines: {{logs: {{receivers: [otlp], processors: [detection], \
             exporters: [file]}}}}}}\n",
            folder.path().display()
        );
        let config = config::parse("test.yaml", &quiet(&text), &|_| None).unwrap();
        let service = Service::start(config).await.unwrap();
        let address = service.addresses()[0].1;
        Self {
            service,
            address,
            folder,
        }
    }

    /// Ends the service; the sources of its findings that opened.
    async fn opened(self) -> Vec<String> {
        assert!(
            self.service
                .shutdown(std::time::Duration::from_secs(10))
                .await
        );
        let mut sources: Vec<_> = std::fs::read_to_string(self.folder.path().join("findings"))
            .unwrap_or_default()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|finding| finding["state"] == "opened")
            .map(|finding| finding["src_ip"].as_str().unwrap().to_owned())
            .collect();
        sources.sort();
        sources
    }
}

/// Six requests, which make a finding.
fn scan(source: &str) -> Vec<String> {
    (0..6)
        .map(|at| denied(source, at, &format!("/{at}")))
        .collect()
}

async fn raw_code(address: SocketAddr, headers: &[(&str, &str)], frames: Vec<Vec<u8>>) -> Code {
    let (_, headers) = raw(address, EXPORT, headers, frames, End::Well)
        .await
        .unwrap();
    Code::from_bytes(headers["grpc-status"].as_bytes())
}

#[tokio::test]
async fn takes_plain_gzip_and_zstd() {
    let running = Running::start(64).await;
    for (source, compression) in [
        ("192.0.2.1", None),
        ("192.0.2.2", Some(CompressionEncoding::Gzip)),
        ("192.0.2.3", Some(CompressionEncoding::Zstd)),
    ] {
        let answer = send(running.address, &scan(source), compression)
            .await
            .unwrap();
        assert_eq!(answer.partial_success, None);
    }
    let empty = send(running.address, &[], None).await.unwrap();
    assert_eq!(empty.partial_success, None);
    let nothing = vec![framed(0, &[])];
    assert_eq!(raw_code(running.address, &[], nothing).await, Code::Ok);
    assert_eq!(
        running.opened().await,
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    );
}

#[tokio::test]
async fn frames_may_be_cut_anywhere() {
    let running = Running::start(64).await;
    let bytes = framed_request(&scan("192.0.2.1"));
    let frames = bytes.chunks(1).map(<[u8]>::to_vec).collect();
    assert_eq!(raw_code(running.address, &[], frames).await, Code::Ok);
    assert_eq!(running.opened().await, ["192.0.2.1"]);
}

#[tokio::test]
async fn unreadable_records_are_rejected_and_their_neighbours_are_not() {
    let running = Running::start(64).await;
    let mut lines = scan("192.0.2.1");
    let whole = denied("192.0.2.2", 7, "/x");
    let code = whole.find("\"code\":403").unwrap() + 10;
    lines.insert(3, whole.split_at(code).0.to_owned());
    lines.insert(0, "a line of some other log".to_owned());
    lines.push("{\"level\":\"info\",\"code\":403} trailing".to_owned());
    lines.push(String::new());
    let partial = send(running.address, &lines, None)
        .await
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(partial.rejected_log_records, 2);
    assert!(
        partial.error_message.contains("not one JSON value"),
        "{}",
        partial.error_message
    );
    assert_eq!(running.opened().await, ["192.0.2.1"]);
}

#[tokio::test]
async fn malformed_requests_are_invalid_and_nothing_of_them_counts() {
    let running = Running::start(64).await;
    let good = framed_request(&scan("192.0.2.1"));
    let message = &good[5..];
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let packed = gzip(message);
    let mut damaged = packed.clone();
    let end = damaged.len() - 6;
    damaged[end] ^= 0xff;
    for (name, headers, frames) in [
        (
            "cut protobuf",
            &[][..],
            vec![framed(0, &message[..message.len() - 1])],
        ),
        (
            "no protobuf",
            &[][..],
            vec![framed(0, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")],
        ),
        (
            "wrong wire type",
            &[][..],
            vec![framed(0, &[message, &[0x08, 0x01]].concat())],
        ),
        ("no message", &[][..], vec![]),
        ("half a prefix", &[][..], vec![good[..3].to_vec()]),
        (
            "shorter than it says",
            &[][..],
            vec![good[..good.len() - 1].to_vec()],
        ),
        ("longer than it says", &[][..], vec![good.clone(), vec![0]]),
        (
            "compressed, but by what?",
            &[][..],
            vec![framed(1, &packed)],
        ),
        ("unknown flag", &[][..], vec![framed(2, message)]),
        (
            "no gzip",
            &[("grpc-encoding", "gzip")][..],
            vec![framed(1, message)],
        ),
        (
            "cut gzip",
            &[("grpc-encoding", "gzip")][..],
            vec![framed(1, &packed[..packed.len() - 9])],
        ),
        (
            "damaged gzip",
            &[("grpc-encoding", "gzip")][..],
            vec![framed(1, &damaged)],
        ),
        (
            "no zstd",
            &[("grpc-encoding", "zstd")][..],
            vec![framed(1, message)],
        ),
        (
            "cut zstd",
            &[("grpc-encoding", "zstd")][..],
            vec![framed(1, &zstd::encode_all(message, 1).unwrap()[..40])],
        ),
    ] {
        assert_eq!(
            raw_code(running.address, headers, frames).await,
            Code::InvalidArgument,
            "{name}"
        );
    }
    assert_eq!(running.opened().await, [""; 0]);
}

#[tokio::test]
async fn a_connection_cut_inside_a_request_changes_nothing() {
    let running = Running::start(64).await;
    let bytes = framed_request(&scan("192.0.2.1"));
    for length in [3, 100, bytes.len() - 1, bytes.len()] {
        raw(
            running.address,
            EXPORT,
            &[],
            vec![bytes[..length].to_vec()],
            End::Cut,
        )
        .await;
    }
    assert_eq!(
        raw_code(
            running.address,
            &[],
            vec![framed_request(&scan("192.0.2.2"))]
        )
        .await,
        Code::Ok
    );
    assert_eq!(running.opened().await, ["192.0.2.2"]);
}

#[tokio::test]
async fn too_large_is_final_before_and_after_decompression() {
    let running = Running::start(1).await;
    let filler = vec!["x".repeat(600 * 1024); 2];
    let lines = [scan("192.0.2.1"), filler].concat();
    for compression in [
        None,
        Some(CompressionEncoding::Gzip),
        Some(CompressionEncoding::Zstd),
    ] {
        let status = send(running.address, &lines, compression)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{compression:?}");
        // With RetryInfo the Collector would repeat it without end.
        assert!(status.details().is_empty());
    }
    // Just the prefix is enough to refuse it.
    let frames = vec![vec![0, 0x7f, 0xff, 0xff, 0xff]];
    assert_eq!(
        raw_code(running.address, &[], frames).await,
        Code::ResourceExhausted
    );
    assert_eq!(running.opened().await, [""; 0]);
}

#[tokio::test]
async fn unknown_compression_and_methods_are_unimplemented() {
    let running = Running::start(64).await;
    let bytes = framed_request(&scan("192.0.2.1"));
    let snappy = [("grpc-encoding", "snappy")];
    let (_, headers) = raw(
        running.address,
        EXPORT,
        &snappy,
        vec![bytes.clone()],
        End::Well,
    )
    .await
    .unwrap();
    assert_eq!(headers["grpc-status"], "12");
    assert_eq!(headers["grpc-accept-encoding"], "identity,gzip,zstd");
    for path in [
        "/opentelemetry.proto.collector.logs.v1.LogsService/Import",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ] {
        let (_, headers) = raw(running.address, path, &[], vec![bytes.clone()], End::Well)
            .await
            .unwrap();
        assert_eq!(headers["grpc-status"], "12", "{path}");
    }
    assert_eq!(running.opened().await, [""; 0]);
}

/// Hostile values cost at most themselves.
#[tokio::test]
async fn hostile_values_cost_only_themselves() {
    let running = Running::start(64).await;
    let forged = format!(
        r#"{{"auditID":"{}","requestURI":"/","verb":"get","user":{{}},"sourceIPs":[{}"192.0.2.9"],"responseStatus":{{"code":401}},"requestReceivedTimestamp":null}}"#,
        "a".repeat(200_000),
        "\"::\",".repeat(349_001)
    );
    let hostile = [
        forged,
        r#"{"kind":0}"#.to_owned(),
        "\0\0\0".to_owned(),
        "[".repeat(100_000),
        r#"{"responseStatus":{"code":403},"user":[],"sourceIPs":{},"verb":7}"#.to_owned(),
        "null".to_owned(),
    ];
    let mut lines = scan("192.0.2.1");
    for (at, line) in hostile.into_iter().enumerate() {
        lines.insert(at, line);
    }
    let answer = send(running.address, &lines, Some(CompressionEncoding::Gzip))
        .await
        .unwrap();
    assert_eq!(answer.partial_success, None);
    // The request as a whole is taken again: repeats change nothing.
    let mut again = request(&lines);
    again.resource_logs.extend(request(&lines).resource_logs);
    let mut client = crate::support::sender::client(running.address).await;
    client.export(again).await.unwrap();
    assert_eq!(running.opened().await, ["192.0.2.1"]);
}
