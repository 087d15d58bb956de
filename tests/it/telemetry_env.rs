//! `OTEL_EXPORTER_OTLP_*`, as a collector sees them: the variables fill what the configuration leaves
//! open, and what the exporter reads of them on its own changes nothing.

use std::{path::Path, sync::Mutex, time::Duration};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_server::{MetricsService, MetricsServiceServer},
};
use tonic::{Request, Response, Status, codec::CompressionEncoding};

use crate::support::{
    certificates::Authority,
    otlp_peer::{Peer, Protocol},
    process::{Process, now},
    tls_peers,
};

const LONG: Duration = Duration::from_secs(20);

/// The headers of what came in.
#[derive(Default)]
struct Headers(Mutex<Vec<http::HeaderMap>>);

#[tonic::async_trait]
impl MetricsService for Headers {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        assert!(!request.into_inner().resource_metrics.is_empty());
        self.0.lock().unwrap().push(headers);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// A service that pushes with these keys, in an environment with these variables.
fn start(folder: &Path, otlp: &str, variables: &[(&str, String)]) -> Process {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
         processors: {{detection: }}\nexporters: {{file: {{path: /dev/null}}}}\n\
         service:\n  telemetry: {{metrics: {{readers: [{{periodic: {{interval: 20ms, exporter: \
         {{otlp: {otlp}}}}}}}]}}}}\n  pipelines: {{logs: {{receivers: [otlp], processors: \
         [detection], exporters: [file]}}}}\n"
    );
    let file = folder.join("a.yaml");
    std::fs::write(&file, text).unwrap();
    Process::auditwatch_as_it_is(&file, variables)
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the tests have no task tracker")]
async fn variables_say_where_and_how_metrics_are_pushed() {
    let kept = std::sync::Arc::new(Headers::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = MetricsServiceServer::from_arc(std::sync::Arc::clone(&kept))
        .accept_compressed(CompressionEncoding::Gzip);
    let server = tonic::transport::Server::builder().add_service(service);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(server.serve_with_incoming(incoming));

    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address.to_string()),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true".to_owned()),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc".to_owned()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x-token=a%20b,x-other=c".to_owned(),
        ),
    ];
    let mut process = start(folder.path(), "{headers: {X-Token: a b}}", &variables);
    process.wait_for("listening", LONG);
    let begin = now();
    while kept.0.lock().unwrap().is_empty() {
        assert!(begin.elapsed() < LONG, "nothing came: {}", process.stderr());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0));
    let headers = kept.0.lock().unwrap()[0].clone();
    for (name, value) in [
        ("x-token", "a b"),
        ("x-other", "c"),
        ("grpc-encoding", "gzip"),
    ] {
        let all: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(all, [value], "{name}");
    }
}

#[test]
fn a_contradiction_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let variable = (
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        "x-token=s3cret".to_owned(),
    );
    let otlp = "{endpoint: 'http://127.0.0.1:1/v1/metrics', headers: {x-token: an0ther}}";
    let mut process = start(folder.path(), otlp, &[variable]);
    assert_eq!(process.wait(LONG).code(), Some(1));
    process.wait_for(
        "headers::x-token and the environment variable OTEL_EXPORTER_OTLP_METRICS_HEADERS say \
         different things, remove the key or unset the variable",
        LONG,
    );
    let log = process.stderr();
    assert!(!log.contains("s3cret") && !log.contains("an0ther"), "{log}");
}

/// The authority, and our certificate with its key, come from files that variables name.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_variables_are_used_over_both_protocols() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let identity = servers.issue(&["localhost"]);
    let ours = clients.issue(&["client"]);
    let folder = tempfile::tempdir().unwrap();
    let certificate = tls_peers::write(folder.path(), "client.pem", &ours.cert);
    let key = tls_peers::write(folder.path(), "client.key", &ours.key);
    for (protocol, word, path) in [
        (
            Protocol::Grpc,
            "grpc",
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        ),
        (Protocol::Http, "http/protobuf", "/v1/metrics"),
    ] {
        let tls = tls_peers::server(&identity, Some(&clients), rustls::DEFAULT_VERSIONS);
        let peer = Peer::start_tls(protocol, tls).await;
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let endpoint = format!("https://localhost:{}", peer.address.port());
        let mut variables = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", word.to_owned()),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", text(&servers.file())),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", text(&certificate)),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", text(&key)),
        ];
        let mut process = start(folder.path(), "", &variables);
        process.wait_for("listening", LONG);
        let begin = now();
        while peer.seen().is_empty() {
            assert!(begin.elapsed() < LONG, "nothing came: {}", process.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process.signal("TERM");
        assert_eq!(process.wait(LONG).code(), Some(0));
        assert_eq!(peer.seen()[0].path, path);

        // Without our certificate the server does not answer.
        variables.truncate(3);
        let before = peer.seen().len();
        let mut process = start(folder.path(), "", &variables);
        process.wait_for("metrics could not be sent", LONG);
        process.signal("TERM");
        assert_eq!(process.wait(LONG).code(), Some(0));
        assert_eq!(peer.seen().len(), before);
    }
}
