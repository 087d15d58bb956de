//! The receiver for the audit webhook of API servers: its protocol, and the client code of the API
//! server itself in front of it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use auditwatch::{config, service::Service};
use serde_json::{Value, json};

use crate::{
    collector::built,
    support::{
        certificates::{Authority, Identity},
        corpus::denied,
        process::{Process, free_address, now, quiet},
        sender::http,
    },
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_mins(1);
const JSON: (&str, &str) = ("content-type", "application/json");
const TOKEN: (&str, &str) = ("authorization", "Bearer s3cret");
const FALSE_TOKEN: (&str, &str) = ("authorization", "Bearer x");
const BROTLI: (&str, &str) = ("content-encoding", "br");
/// What a sender that is let in says.
const GOOD: &[(&str, &str)] = &[JSON, TOKEN];

fn config(folder: &Path, endpoint: &str, more: &str) -> String {
    quiet(&format!(
        "receivers: {{k8s_audit_webhook: {{endpoint: '{endpoint}'{more}}}}}
processors: {{detection: }}
exporters: {{file: {{path: '{}/findings'}}}}
extensions: {{bearertokenauth: {{token: s3cret}}}}
service: {{extensions: [bearertokenauth], pipelines: {{logs: {{receivers: [k8s_audit_webhook], processors: [detection], exporters: [file]}}}}}}
",
        folder.display()
    ))
}

async fn start(folder: &Path, more: &str) -> (Service, SocketAddr) {
    let text = config(folder, "127.0.0.1:0", more);
    let config = config::parse("ours.yaml", &text, &|_| None).unwrap();
    let service = Service::start(config).await.unwrap();
    let address = service.addresses()[0].1;
    (service, address)
}

/// The findings of a folder.
fn findings(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("findings")).unwrap_or_default();
    // The last line may be under way.
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn events(source: &str, seconds: std::ops::Range<u32>) -> Vec<Value> {
    seconds
        .map(|second| {
            let text = denied(source, second, &format!("/{second}"));
            let mut event: Value = serde_json::from_str(&text).unwrap();
            // What an API server posts names the kind of the list alone.
            let members = event.as_object_mut().unwrap();
            members.retain(|key, _| key != "kind" && key != "apiVersion");
            event
        })
        .collect()
}

fn list(items: &[Value]) -> Vec<u8> {
    json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items})
        .to_string()
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_opened_and_name_their_cluster_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let (service, address) = start(folder.path(), ", cluster_name: main").await;
    for (path, source) in [
        ("/audit?timeout=30s", "192.0.2.1"),
        ("/audit/", "192.0.2.2"),
        ("/audit/east?timeout=30s", "192.0.2.3"),
        ("/", "192.0.2.4"),
    ] {
        let answer = http(address, "POST", path, &[JSON], list(&events(source, 0..7))).await;
        let (status, ..) = answer.unwrap();
        assert_eq!(status, 200, "{path}");
    }
    assert!(service.shutdown(LONG).await);
    let mut found: Vec<_> = findings(folder.path())
        .iter()
        .map(|one| (one["src_ip"].clone(), one["cluster"].clone()))
        .collect();
    found.sort_by_key(|(source, _)| source.to_string());
    found.dedup();
    let wanted = [("1", "main"), ("2", "main"), ("3", "east"), ("4", "main")];
    let wanted = wanted.map(|(last, cluster)| (json!(format!("192.0.2.{last}")), json!(cluster)));
    assert_eq!(found, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_of_an_api_server_is_refused_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let more = ", max_request_body_size: 10000, auth: {authenticator: bearertokenauth}";
    let (service, address) = start(folder.path(), more).await;
    let good = list(&events("192.0.2.1", 0..1));
    let cut = good.split_at(good.len() - 1).0.to_vec();
    let large = list(&events("192.0.2.1", 0..40));
    let other = b"{\"resourceLogs\":[]}".to_vec();
    let brotli = &[JSON, TOKEN, BROTLI][..];
    for (method, path, headers, body, wanted, says) in [
        ("POST", "/audit", GOOD, &good, 200, "{}"),
        ("POST", "/audit", &[JSON], &good, 401, "Status"),
        ("POST", "/audit", &[JSON, FALSE_TOKEN], &good, 401, "Status"),
        ("POST", "/v1/logs", GOOD, &good, 404, "/audit/CLUSTER"),
        ("POST", "/audit/a/b", GOOD, &good, 404, "/audit/CLUSTER"),
        ("GET", "/audit", GOOD, &Vec::new(), 405, "POST"),
        ("POST", "/audit", &[TOKEN], &good, 415, "application/json"),
        ("POST", "/audit", brotli, &good, 415, "gzip"),
        ("POST", "/audit", GOOD, &other, 400, "EventList"),
        ("POST", "/audit", GOOD, &cut, 400, "EventList"),
        ("POST", "/audit", GOOD, &Vec::new(), 400, "EventList"),
        ("POST", "/audit", GOOD, &large, 413, "10000"),
    ] {
        let (status, _, body) = http(address, method, path, headers, body.clone())
            .await
            .unwrap();
        let body = String::from_utf8_lossy(&body);
        assert_eq!(status.as_u16(), wanted, "{method} {path}: {body}");
        assert!(body.contains(says), "{says}: {body}");
        assert!(!body.contains("s3cret"));
    }
    assert!(service.shutdown(LONG).await);
}

/// An API server, as far as its audit webhook goes.
struct Sender {
    child: Child,
    events: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Sender {
    fn start(program: &Path, mode: &str, kubeconfig: &Path) -> Self {
        let mut child = Command::new(program)
            .args([mode, kubeconfig.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            events: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn send(&mut self, source: &str, seconds: std::ops::Range<u32>) {
        for second in seconds {
            let event = denied(source, second, &format!("/{second}"));
            writeln!(self.events, "{event}").unwrap();
        }
    }

    /// Waits until all were sent; what became of them.
    fn flush(&mut self) -> String {
        writeln!(self.events, "flush").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn kubeconfig(folder: &Path, port: u16, authority: &Authority, client: &Identity) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default",
        "clusters": [{"name": "auditwatch", "cluster": {
            "server": format!("https://localhost:{port}/audit/prod"), "certificate-authority": authority.file()}}],
        "users": [{"name": "api-server", "user": {
            "token": "s3cret", "client-certificate": client.cert, "client-key": client.key}}],
        "contexts": [{"name": "default", "context": {"cluster": "auditwatch", "user": "api-server"}}],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

#[test]
fn the_client_of_the_api_server_sends_in_every_mode_and_through_a_restart() {
    let Some(program) = built("tests/webhook/build.sh") else {
        return;
    };
    let authority = Authority::new();
    let (server, client) = (authority.server("server"), authority.client("client"));
    for mode in ["batch", "blocking"] {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let more = format!(
            ", auth: {{authenticator: bearertokenauth}}, tls: {{cert_file: '{}', key_file: '{}', client_ca_file: '{}'}}",
            server.cert.display(),
            server.key.display(),
            authority.file().display()
        );
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, config(folder.path(), &address.to_string(), &more)).unwrap();
        let run = || {
            let process = Process::auditwatch_as_it_is(&path, &[]);
            process.wait_for("listening", LONG);
            process
        };
        let mut auditwatch = run();
        let kubeconfig = kubeconfig(folder.path(), address.port(), &authority, &client);
        let mut sender = Sender::start(&program, mode, &kubeconfig);
        sender.send("192.0.2.7", 0..10);
        assert_eq!(
            sender.flush(),
            "flushed taken=10 lost=0",
            "{mode}: {}",
            auditwatch.stderr()
        );
        // While it is down, the client tries again.
        auditwatch.signal("TERM");
        assert_eq!(
            auditwatch.wait(LONG).code(),
            Some(0),
            "{}",
            auditwatch.stderr()
        );
        let text = std::thread::scope(|scope| {
            let sent = scope.spawn(|| {
                sender.send("192.0.2.8", 20..30);
                sender.flush()
            });
            std::thread::sleep(Duration::from_secs(1));
            auditwatch = run();
            sent.join().unwrap()
        });
        assert_eq!(
            text,
            "flushed taken=20 lost=0",
            "{mode}: {}",
            auditwatch.stderr()
        );
        auditwatch.signal("TERM");
        assert_eq!(
            auditwatch.wait(LONG).code(),
            Some(0),
            "{}",
            auditwatch.stderr()
        );
        let begin = now();
        for source in ["192.0.2.7", "192.0.2.8"] {
            let found = |one: &Value| one["src_ip"] == source && one["cluster"] == "prod";
            assert!(
                findings(folder.path()).iter().any(found),
                "{mode} {source}, {:?}",
                begin.elapsed()
            );
        }
    }
}
