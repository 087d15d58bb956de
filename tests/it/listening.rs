//! The addresses that the service listens on: both families, as a collector listens.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use crate::support::{
    process::Process,
    prometheus,
    sender::{self, End},
};

const LONG: Duration = Duration::from_secs(20);

/// Whether this machine has IPv6 on loopback.
fn ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// A port that is free for both families.
fn free_port() -> u16 {
    let any = if ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    TcpListener::bind(any).unwrap().local_addr().unwrap().port()
}

/// What is answered on this address to a GET.
fn get(address: IpAddr, port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((address, port)).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Some(answer)
}

/// The service with receiver, health check and metrics on this host.
fn started(host: &str) -> (Process, [u16; 3]) {
    let ports = [free_port(), free_port(), free_port()];
    let [http, health, metrics] = ports;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let bare = if host.is_empty() { "0.0.0.0" } else { host };
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{host}:{http}'}}}}}}}}
processors: {{detection: }}
exporters: {{debug: }}
extensions: {{health_check: {{endpoint: '{host}:{health}'}}}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: '{bare}', port: {metrics}}}}}}}}}]}}}}
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [debug]}}}}
"
    );
    std::fs::write(&file, text).unwrap();
    let process = Process::auditwatch_as_it_is(&file, &[]);
    process.wait_for("protocol=\"http\"", LONG);
    (process, ports)
}

#[test]
fn receivers_health_and_metrics_listen_on_the_families_of_their_address() {
    for (host, four, six) in [
        ("", true, true),
        ("0.0.0.0", true, true),
        ("[::]", true, true),
        ("[127.0.0.1]", true, false),
        ("localhost", true, false),
        ("[::1]", false, true),
    ] {
        if six && !four && !ipv6() {
            continue;
        }
        let (process, [http, health, metrics]) = started(host);
        for (address, reached) in [("127.0.0.1", four), ("::1", six && ipv6())] {
            let address = address.parse().unwrap();
            for (port, path, wanted) in [
                (http, "/v1/logs", "405"),
                (health, "/", "Server available"),
                (metrics, "/metrics", "auditwatch_"),
            ] {
                let answer = get(address, port, path);
                let has = answer
                    .as_ref()
                    .is_some_and(|answer| answer.contains(wanted));
                assert_eq!(has, reached, "{host} {address} {path}: {answer:?}");
            }
        }
        drop(process);
    }
}

/// A sender of IPv4 has one address, whichever socket it comes through.
#[test]
fn a_sender_of_ipv4_is_shown_as_one() {
    let (process, [http, ..]) = started("");
    let mut stream = TcpStream::connect(("127.0.0.1", http)).unwrap();
    write!(
        stream,
        "POST /v1/logs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    process.wait_for("127.0.0.1", LONG);
    assert!(!process.stderr().contains("::ffff"), "{}", process.stderr());
}

/// What balancers ask costs no sender its line in the log, and is not what the documented alert is about.
#[tokio::test(flavor = "multi_thread")]
async fn probes_of_balancers_alarm_nobody() {
    let [grpc, http, metrics] = [free_port(), free_port(), free_port()];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}
processors: {{detection: }}
exporters: {{debug: }}
service:
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [debug]}}}}
"
    );
    std::fs::write(&file, text).unwrap();
    let process = Process::auditwatch_as_it_is(&file, &[]);
    process.wait_for("protocol=\"http\"", LONG);
    let [grpc, http, metrics] =
        [grpc, http, metrics].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));

    // A TCP connection, a byte of TLS, and HTTP/1.1 on either port.
    for address in [grpc, http] {
        for sent in [
            &b""[..],
            b"\x16",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(sent).unwrap();
            if !sent.starts_with(b"GET") {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            stream.set_read_timeout(Some(LONG)).unwrap();
            let _rest = stream.read_to_end(&mut Vec::new());
        }
    }
    let asked = sender::http(http, "HEAD", "/v1/logs", &[], Vec::new()).await;
    assert_eq!(asked.unwrap().0, 405);
    let asked = sender::http(http, "POST", "/healthcheck", &[], Vec::new()).await;
    assert_eq!(asked.unwrap().0, 404);
    for path in ["/AWS.ALB/healthcheck", "/grpc.health.v1.Health/Check"] {
        let empty = vec![sender::framed(0, b"")];
        let (_, answer) = sender::raw(grpc, path, &[], empty, End::Well)
            .await
            .unwrap();
        assert_eq!(answer["grpc-status"], "12", "{path}");
    }
    let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let export = vec![sender::framed(0, b"\x0a\x00")];
    let (_, answer) = sender::raw(grpc, path, &[], export, End::Well)
        .await
        .unwrap();
    assert_eq!(answer["grpc-status"], "12");
    sender::http(
        http,
        "POST",
        "/v1/metrics",
        &[("content-type", "application/json")],
        b"{}".to_vec(),
    )
    .await;

    process.wait_for("MetricsService", LONG);
    let seen = prometheus::scrape(metrics).await;
    let refused = |reason| {
        seen.sum(
            "auditwatch_receiver_refused_requests",
            &[("reason", reason)],
        )
    };
    assert_eq!(refused("unsupported"), Some(2.0));
    assert_eq!(refused("probe"), Some(5.0));
    assert_eq!(refused("malformed"), Some(0.0));
    let stderr = process.stderr();
    let warnings: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains("WARN"))
        .collect();
    // One for each protocol, of the exports of metrics.
    assert_eq!(warnings.len(), 2, "{stderr}");
    assert!(
        warnings.iter().all(|line| line.contains("etrics")),
        "{stderr}"
    );
}
