//! The `health_check` extension of a whole service, from before its start to after its end.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use auditwatch::{config, service::Service};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{
    certificates::Authority,
    corpus::denied,
    hec::{Answer, HecServer, Options},
    process::{Process, free_address, quiet},
    sender::{self, http, send},
};

/// Longer than anything takes here, shorter than anybody waits.
const LONG: Duration = Duration::from_secs(20);

/// A service with these keys of its exporter and of its health check.
fn configuration(hec: &HecServer, exporter: &str, health: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors: {{detection: }}
exporters: {{splunk_hec: {{token: test-token, endpoint: '{}', {exporter}}}}}
extensions: {{health_check: {{{health}}}}}
service:
  extensions: [health_check]
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [splunk_hec]}}}}
",
        hec.url()
    )
}

async fn start(hec: &HecServer, exporter: &str, health: &str) -> Service {
    let health = format!("endpoint: '127.0.0.1:0', {health}");
    let text = configuration(hec, exporter, &health);
    let config = config::parse("test.yaml", &quiet(&text), &|_| None).unwrap();
    Service::start(config).await.unwrap()
}

/// What it answers to GET.
async fn ask(address: SocketAddr, path: &str) -> sender::Answer {
    let answer = http(address, "GET", path, &[], Vec::new());
    timeout(LONG, answer).await.unwrap().unwrap()
}

/// Asks until the status is this one.
async fn until(address: SocketAddr, status: u16) {
    let wait = async {
        while ask(address, "/").await.0.as_u16() != status {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = timeout(LONG, wait).await;
    waited.unwrap_or_else(|_| panic!("it is never {status}"));
}

fn scan(source: &str) -> Vec<String> {
    (0..6)
        .map(|at| denied(source, at, &format!("/{at}")))
        .collect()
}

#[tokio::test]
async fn answers_as_the_collector_does() {
    let hec = HecServer::start(Options::default()).await;
    let service = start(&hec, "", "").await;
    let address = service.extension_addresses()[0].1;
    let (status, headers, body) = ask(address, "/").await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/json");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["status"], "Server available");
    let since: jiff::Timestamp = body["upSince"].as_str().unwrap().parse().unwrap();
    assert!(since.as_second() > 1_700_000_000, "{body}");
    assert!(body["uptime"].as_str().unwrap().ends_with('s'), "{body}");
    assert_eq!(ask(address, "/?verbose").await.0, 200);
    for (method, path, wanted) in [
        ("HEAD", "/", 200),
        ("POST", "/", 405),
        ("DELETE", "/", 405),
        ("GET", "/healthz", 200),
        ("POST", "/healthz", 405),
    ] {
        let (status, headers, body) = http(address, method, path, &[], Vec::new()).await.unwrap();
        assert_eq!(status.as_u16(), wanted, "{method} {path}");
        assert_eq!(headers.contains_key("allow"), wanted == 405);
        assert_eq!(body.is_empty(), method == "HEAD");
    }
    assert!(service.shutdown(LONG).await);
}

#[tokio::test]
async fn is_not_ready_while_findings_do_not_get_through() {
    let hec = HecServer::start(Options::default()).await;
    let retry = "retry_on_failure: {initial_interval: 100ms, max_interval: 100ms}";
    let service = start(&hec, retry, "").await;
    let (otlp, health) = (service.addresses()[0].1, service.extension_addresses()[0].1);
    hec.answer_next(vec![Answer::code(9); 5]);
    send(otlp, &scan("203.0.113.1"), None).await.unwrap();
    until(health, 503).await;
    let (_, _, body) = ask(health, "/").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    if body["status"] == "Server not available" {
        assert_eq!(body["upSince"], "0001-01-01T00:00:00Z");
        assert_eq!(body["uptime"], "");
    }
    until(health, 200).await;
    assert_eq!(hec.events().len(), 1);
    // One finding that is of no use says nothing of the exporter ...
    hec.answer_next(vec![Answer::code(6)]);
    send(otlp, &scan("203.0.113.2"), None).await.unwrap();
    until_asked(&hec, 7).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ask(health, "/").await.0, 200);
    // ... a token that is does, until something gets through.
    hec.answer_next(vec![Answer::code(4)]);
    send(otlp, &scan("203.0.113.3"), None).await.unwrap();
    until(health, 503).await;
    send(otlp, &scan("203.0.113.4"), None).await.unwrap();
    until(health, 200).await;
    assert!(service.shutdown(LONG).await);
}

async fn until_asked(hec: &HecServer, times: usize) {
    let wait = async {
        while hec.requests().len() < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, wait)
        .await
        .expect("waiting for the requests timed out");
}

#[tokio::test]
async fn bodies_and_path_are_settings() {
    let hec = HecServer::start(Options::default()).await;
    let health = "path: /up, response_body: {healthy: 'all is well', unhealthy: 'it is not'}";
    let retry = "retry_on_failure: {initial_interval: 1h, max_interval: 1h, max_elapsed_time: 0}";
    let service = start(&hec, retry, health).await;
    let (otlp, health) = (service.addresses()[0].1, service.extension_addresses()[0].1);
    assert_eq!(ask(health, "/").await.0, 404);
    let (status, headers, body) = ask(health, "/up").await;
    assert_eq!((status.as_u16(), &body[..]), (200, &b"all is well"[..]));
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    hec.answer_next(vec![Answer::code(9)]);
    send(otlp, &scan("203.0.113.1"), None).await.unwrap();
    let wait = async {
        while ask(health, "/up").await.0 == 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, wait).await.unwrap();
    let (status, _, body) = ask(health, "/up").await;
    assert_eq!((status.as_u16(), &body[..]), (503, &b"it is not"[..]));
    service.shutdown(Duration::from_millis(100)).await;
}

/// From before anything else is in place until after all has left.
#[tokio::test(flavor = "multi_thread")]
async fn answers_while_the_service_starts_and_drains() {
    let hec = HecServer::start(Options::default()).await;
    let health = free_address();
    let text = configuration(
        &hec,
        "health_check_enabled: true, timeout: 3s",
        &format!("endpoint: '{health}'"),
    );
    let config = config::parse("test.yaml", &quiet(&text), &|_| None).unwrap();
    hec.answer_next(vec![Answer::hang()]);
    {
        // The exporter asks HEC whether it is healthy, and waits.
        let mut starting = Box::pin(Service::start(config.clone()));
        let asked = async {
            loop {
                if tokio::net::TcpStream::connect(health).await.is_ok() {
                    return ask(health, "/").await.0;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            _ = &mut starting => panic!("it starts without an answer"),
            status = timeout(LONG, asked) => assert_eq!(status.unwrap(), 503),
        }
        assert!(timeout(LONG, starting).await.unwrap().is_err());
    }
    let wait = async {
        while std::net::TcpStream::connect(health).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let closed = timeout(LONG, wait).await;
    closed.expect("it answers after the start has failed");

    let service = Service::start(config).await.unwrap();
    assert_eq!(ask(health, "/").await.0, 200);
    // One finding is on its way and takes its time.
    hec.answer_next(vec![Answer::hang()]);
    send(service.addresses()[0].1, &scan("203.0.113.1"), None)
        .await
        .unwrap();
    let mut draining = Box::pin(service.shutdown(LONG));
    tokio::select! {
        _ = &mut draining => panic!("nothing is waited for"),
        () = until(health, 503) => {}
    }
    drop(draining);
}

/// As an orchestrator sees it: the process, and nothing after it.
#[tokio::test(flavor = "multi_thread")]
async fn the_reference_starts_and_answers() {
    let hec = HecServer::start(Options::default()).await;
    let (otlp, health) = (free_address(), free_address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auditwatch.yaml");
    let reference = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("otel-config/auditwatch.yaml");
    let text = std::fs::read_to_string(reference)
        .unwrap()
        .replacen("127.0.0.1:4317", &otlp.to_string(), 1)
        .replacen("127.0.0.1:4318", "127.0.0.1:0", 1)
        .replacen("127.0.0.1:13133", &health.to_string(), 1);
    std::fs::write(&file, text).unwrap();
    let variables = [
        ("SPLUNK_HEC_TOKEN", "test-token".to_owned()),
        ("SPLUNK_HEC_URL", hec.url()),
        ("AUDITWATCH_TOKEN", "s3cret".to_owned()),
    ];
    let mut process = Process::auditwatch(&file, &variables);
    process.wait_for("listening", LONG);
    until(health, 200).await;
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    assert!(!process.stderr().contains("s3cret"));
}

#[tokio::test]
async fn answers_over_tls() {
    let hec = HecServer::start(Options::default()).await;
    let authority = Authority::new();
    let server = authority.server("a");
    let tls = format!(
        "tls: {{cert_file: '{}', key_file: '{}'}}",
        server.cert.display(),
        server.key.display()
    );
    let service = start(&hec, "", &tls).await;
    let address = service.extension_addresses()[0].1;
    let tls = authority.trusting(None, &[&rustls::version::TLS13]);
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls);
    let url = format!("https://localhost:{}/", address.port());
    let answer = client.build().unwrap().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(service.shutdown(LONG).await);
}
