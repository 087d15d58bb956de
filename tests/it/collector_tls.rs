//! The real Collector in front, over TLS, with a certificate and a token of its own.

use std::{path::Path, time::Duration};

use auditwatch::{config, service::Service};

use crate::{
    collector::collector,
    support::{
        certificates::{Authority, Identity},
        corpus::denied,
        process::{Process, now, quiet},
    },
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_mins(1);

async fn service(folder: &Path, authority: &Authority, server: &Identity) -> Service {
    let door = format!(
        "endpoint: '127.0.0.1:0', auth: {{authenticator: bearertokenauth}}, \
         tls: {{cert_file: '{}', key_file: '{}', client_ca_file: '{}'}}",
        server.cert.display(),
        server.key.display(),
        authority.file().display()
    );
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{{door}}}, http: {{{door}}}}}}}}}
processors: {{detection: }}
exporters: {{file: {{path: '{}/findings'}}}}
extensions: {{bearertokenauth: {{token: first}}}}
service: {{extensions: [bearertokenauth], pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [file]}}}}}}
",
        folder.display()
    );
    let config = config::parse("ours.yaml", &quiet(&text), &|_| None).unwrap();
    Service::start(config).await.unwrap()
}

/// A Collector that reads a log of one scan and sends it so.
fn sender(collector: &Path, folder: &Path, exporter: &str) -> Process {
    let at = folder.display();
    let name = exporter.split(':').next().unwrap();
    let text = format!(
        "receivers: {{file_log: {{include: ['{at}/audit.log'], start_at: beginning}}}}
exporters: {{{exporter}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [file_log], exporters: [{name}]}}}}
"
    );
    let config = folder.join("theirs.yaml");
    std::fs::write(&config, text).unwrap();
    let lines: Vec<_> = (0..6)
        .map(|at| denied("192.0.2.250", at, "/last"))
        .collect();
    std::fs::write(folder.join("audit.log"), lines.join("\n") + "\n").unwrap();
    Process::start(collector, &["--config", config.to_str().unwrap()], &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_with_certificate_and_token_is_let_in() {
    let Some(collector) = collector() else { return };
    let authority = Authority::new();
    let (server, client) = (authority.server("server"), authority.client("client"));
    for protocol in ["otlp_grpc", "otlp_http"] {
        for (token, good) in [("first", true), ("s3cret", false)] {
            let folder = tempfile::tempdir().unwrap();
            let service = service(folder.path(), &authority, &server).await;
            let [grpc, http] = [0, 1].map(|at: usize| service.addresses()[at].1.port());
            let endpoint = match protocol {
                "otlp_grpc" => format!("localhost:{grpc}"),
                _ => format!("https://localhost:{http}"),
            };
            let exporter = format!(
                "{protocol}: {{endpoint: '{endpoint}', headers: {{authorization: 'Bearer {token}'}}, \
                 tls: {{ca_file: '{}', cert_file: '{}', key_file: '{}'}}}}",
                authority.file().display(),
                client.cert.display(),
                client.key.display()
            );
            let mut sender = sender(&collector, folder.path(), &exporter);
            let findings =
                || std::fs::read_to_string(folder.path().join("findings")).unwrap_or_default();
            // A wrong token is final for a Collector; what to do stands in its log.
            let over = || {
                if good {
                    findings().contains("192.0.2.250")
                } else {
                    sender.stderr().contains("is not known here")
                }
            };
            let begin = now();
            while !over() {
                assert!(begin.elapsed() < LONG, "{protocol}\n{}", sender.stderr());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(good || findings().is_empty());
            sender.signal("TERM");
            sender.wait(LONG);
            assert!(service.shutdown(LONG).await);
        }
    }
}
