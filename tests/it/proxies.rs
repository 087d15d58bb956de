//! Exporters and the proxies that the environment names.

use std::{sync::Arc, time::Duration};

use auditwatch::{
    detection::Finding,
    exporter::{Exporter as _, Outcome, otlp_grpc, otlp_http, splunk_hec},
    proxy::Proxies,
};
use secrecy::SecretString;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    hec::{HecServer, Options},
    otlp_peer::{Peer, Protocol},
};

fn proxies(variables: &[(&str, &str)]) -> Proxies {
    Proxies::of(&|name| {
        let found = variables.iter().find(|(own, _)| *own == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn batch() -> Vec<Arc<Finding>> {
    vec![Arc::new(Finding {
        finding_id: "1".to_owned(),
        state: "opened".to_owned(),
        ..Finding::default()
    })]
}

/// An address that nothing answers at, so that only a proxy can lead there.
const AWAY: &str = "192.0.2.7:8088";

/// The HEC server takes requests for others, as a proxy does.
#[tokio::test]
async fn hec_goes_through_a_proxy_unless_no_proxy_names_it() {
    let proxy = HecServer::start(Options::default()).await;
    let send = async |no_proxy: &str| {
        let config = splunk_hec::Config {
            endpoint: format!("http://{AWAY}"),
            token: SecretString::from("test-token"),
            timeout: Duration::from_millis(400),
            proxies: proxies(&[("HTTP_PROXY", &proxy.url()), ("NO_PROXY", no_proxy)]),
            ..splunk_hec::Config::default()
        };
        let mut exporter = splunk_hec::SplunkHec::new(&config).unwrap();
        exporter.send(&batch()).await
    };
    assert_eq!(send("example.com").await, Outcome::Accepted(1));
    assert_eq!(
        proxy.requests()[0].uri,
        format!("http://{AWAY}/services/collector")
    );
    proxy.forget();
    for no_proxy in ["*", AWAY, "192.0.2.7", "192.0.2.0/24"] {
        let outcome = send(no_proxy).await;
        assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    }
    assert!(proxy.requests().is_empty(), "neither finding nor token");
    assert_eq!(send("192.0.2.7:8089").await, Outcome::Accepted(1));
}

/// This machine is never behind a proxy.
#[tokio::test]
async fn loopback_is_reached_straight() {
    let (hec, proxy) = (
        HecServer::start(Options::default()).await,
        HecServer::start(Options::default()).await,
    );
    let config = splunk_hec::Config {
        endpoint: hec.url(),
        token: SecretString::from("test-token"),
        proxies: proxies(&[("HTTP_PROXY", &proxy.url())]),
        ..splunk_hec::Config::default()
    };
    let mut exporter = splunk_hec::SplunkHec::new(&config).unwrap();
    assert_eq!(exporter.send(&batch()).await, Outcome::Accepted(1));
    assert!(proxy.requests().is_empty());
}

/// A proxy that leads every `CONNECT` to one peer; what it was asked for.
async fn tunnel(listener: TcpListener, to: std::net::SocketAddr) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    stream
        .write_all(b"HTTP/1.1 200 Connected\r\n\r\n")
        .await
        .unwrap();
    let mut peer = TcpStream::connect(to).await.unwrap();
    // Ends as the client likes.
    drop(copy_bidirectional(&mut stream, &mut peer).await);
    head
}

/// As grpc-go: `HTTPS_PROXY` and `CONNECT`, with and without TLS behind it.
#[tokio::test]
async fn grpc_goes_through_a_tunnel() {
    let peer = Peer::start(Protocol::Grpc).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://us%40er:pa55@{}", listener.local_addr().unwrap());
    let mut config = otlp_grpc::Config {
        endpoint: "collector.example:4317".to_owned(),
        proxies: proxies(&[("HTTPS_PROXY", &proxy)]),
        ..otlp_grpc::Config::default()
    };
    config.tls.insecure = true;
    let sending = async {
        let mut exporter = otlp_grpc::OtlpGrpc::new(&config).unwrap();
        exporter.send(&batch()).await
    };
    let (head, outcome) = tokio::join!(tunnel(listener, peer.address), sending);
    assert_eq!(outcome, Outcome::Accepted(1));
    assert!(
        head[0].starts_with("CONNECT collector.example:4317 "),
        "{head:?}"
    );
    let authorization = head.iter().find(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("proxy-authorization: basic ")
    });
    assert!(
        authorization.is_some_and(|line| line.ends_with(" dXNAZXI6cGE1NQ==")),
        "{head:?}"
    );
    assert_eq!(peer.messages().len(), 1);
}

#[test]
fn a_proxy_that_cannot_be_used_is_an_error_without_its_password() {
    let proxies = proxies(&[
        ("HTTP_PROXY", "socks5://u:pa55word@a"),
        ("HTTPS_PROXY", "socks5://u:pa55word@a"),
    ]);
    let hec = splunk_hec::Config {
        endpoint: format!("http://{AWAY}"),
        token: SecretString::from("test-token"),
        proxies: proxies.clone(),
        ..splunk_hec::Config::default()
    };
    let http = otlp_http::Config {
        endpoint: format!("http://{AWAY}"),
        proxies: proxies.clone(),
        ..otlp_http::Config::default()
    };
    let grpc = otlp_grpc::Config {
        endpoint: AWAY.to_owned(),
        proxies,
        ..otlp_grpc::Config::default()
    };
    for error in [
        splunk_hec::SplunkHec::new(&hec).unwrap_err().to_string(),
        otlp_http::OtlpHttp::new(&http).unwrap_err().to_string(),
        otlp_grpc::OtlpGrpc::new(&grpc).unwrap_err().to_string(),
    ] {
        assert!(
            error.contains("_PROXY names a proxy that is not http"),
            "{error}"
        );
        assert!(!error.contains("pa55word"), "{error}");
    }
}
