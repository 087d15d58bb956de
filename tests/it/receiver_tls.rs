//! TLS of both OTLP receivers, through clients that are not ours and by hand.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auditwatch::{
    config,
    receiver::{Limits, otlp_grpc::OtlpGrpc},
    service::Service,
    tls::Version,
};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use prost::Message as _;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{
    ClientConfig,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use crate::support::{
    certificates::{Authority, Identity},
    corpus::denied,
    process::{Process, free_address, quiet},
    recorder::{Running, Setup},
    sender::request,
};

/// Longer than anything takes here, shorter than anybody waits.
const LONG: Duration = Duration::from_secs(20);

fn two() -> Vec<String> {
    vec![denied("192.0.2.1", 0, "/a"), denied("192.0.2.1", 1, "/b")]
}

async fn start(tls: auditwatch::tls::server::Config) -> Running {
    Running::start(Setup {
        tls: Some(tls),
        ..Setup::default()
    })
    .await
}

/// Sends two logs over gRPC with TLS; whether they were taken.
async fn grpc(address: SocketAddr, tls: ClientTlsConfig) -> Result<(), String> {
    let channel = Channel::from_shared(format!("https://localhost:{}", address.port()))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
        .map_err(|error| format!("{error:?}"))?;
    LogsServiceClient::new(channel)
        .export(request(&two()))
        .await
        .map(|_| ())
        .map_err(|status| format!("{status:?}"))
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

/// Sends two logs over HTTP with TLS; the status.
async fn post(address: SocketAddr, mut tls: ClientConfig, http1: bool) -> Result<u16, String> {
    if !http1 {
        tls.alpn_protocols = vec![b"h2".to_vec()];
    }
    let mut client = reqwest::Client::builder().tls_backend_preconfigured(tls);
    if http1 {
        client = client.http1_only();
    }
    let url = format!("https://localhost:{}/v1/logs", address.port());
    let response = client
        .build()
        .unwrap()
        .post(url)
        .header("content-type", "application/x-protobuf")
        .body(request(&two()).encode_to_vec())
        .send()
        .await
        .map_err(|error| format!("{error:?}"))?;
    let version = if http1 {
        http::Version::HTTP_11
    } else {
        http::Version::HTTP_2
    };
    assert_eq!(response.version(), version);
    Ok(response.status().as_u16())
}

/// A connection with TLS and nothing in it.
async fn shake(address: SocketAddr, tls: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
}

#[tokio::test]
async fn takes_logs_over_tls() {
    let authority = Authority::new();
    let running = start(authority.server("a").config()).await;
    grpc(running.grpc, trusting(&authority)).await.unwrap();
    for versions in [&[&TLS12][..], &[&TLS13]] {
        for http1 in [false, true] {
            let tls = authority.trusting(None, versions);
            assert_eq!(post(running.http, tls, http1).await, Ok(200));
        }
    }
    assert_eq!(running.take().len(), 5);
    // gRPC is HTTP/2 alone, and says so.
    for (address, offered, chosen) in [
        (running.grpc, &["h2", "http/1.1"][..], Some("h2")),
        (running.http, &["http/1.1", "h2"], Some("h2")),
        (running.http, &["http/1.1"], Some("http/1.1")),
        (running.grpc, &[], None),
    ] {
        let mut tls = authority.trusting(None, &[&TLS13]);
        tls.alpn_protocols = offered
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let stream = shake(address, tls).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), chosen.map(str::as_bytes));
    }
    let mut tls = authority.trusting(None, &[&TLS13]);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(shake(running.grpc, tls).await.is_err());
}

#[tokio::test]
async fn a_sender_that_does_not_trust_us_sends_nothing() {
    let authority = Authority::new();
    let running = start(authority.server("a").config()).await;
    let other = Authority::new();
    assert!(grpc(running.grpc, trusting(&other)).await.is_err());
    let tls = other.trusting(None, &[&TLS13]);
    assert!(post(running.http, tls, false).await.is_err());
    assert_eq!(running.take(), []);
    // Other connections are not affected.
    grpc(running.grpc, trusting(&authority)).await.unwrap();
}

#[tokio::test]
async fn min_and_max_version_hold() {
    let authority = Authority::new();
    let server = authority.server("a");
    for (min, max, old, new) in [
        (Version::Tls12, Version::Tls13, true, true),
        (Version::Tls13, Version::Tls13, false, true),
        (Version::Tls12, Version::Tls12, true, false),
    ] {
        let running = start(auditwatch::tls::server::Config {
            min_version: min,
            max_version: max,
            ..server.config()
        })
        .await;
        for address in [running.grpc, running.http] {
            for (version, wanted) in [(&TLS12, old), (&TLS13, new)] {
                let tls = authority.trusting(None, &[version]);
                let spoken = shake(address, tls).await.is_ok();
                assert_eq!(spoken, wanted, "{min:?} to {max:?}: {version:?}");
            }
        }
    }
}

/// A client that knows nothing newer than TLS 1.1 gets a fatal alert that says so.
#[tokio::test]
async fn tls_1_1_is_not_spoken() {
    let authority = Authority::new();
    let running = start(authority.server("a").config()).await;
    let body = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x13], &[1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    let mut stream = TcpStream::connect(running.grpc).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let alert = until_closed(&mut stream).await;
    assert!(
        matches!(alert[..], [21, 3, _, 0, 2, 2, 40 | 70]),
        "{alert:?}"
    );
}

/// All that comes until the other side closes.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    // A connection that is reset is closed as well.
    let _read = timeout(LONG, read).await.expect("it stays open");
    all
}

#[tokio::test]
async fn client_certificates_are_required_and_looked_at() {
    let authority = Authority::new();
    let running = start(auditwatch::tls::server::Config {
        client_ca_file: Some(authority.file()),
        ..authority.server("a").config()
    })
    .await;
    let elsewhere = Authority::new();
    let (good, stranger) = (authority.client("good"), elsewhere.client("stranger"));
    // A certificate for servers is none for clients.
    let server = authority.server("b");
    for (identity, taken) in [
        (Some(&good), true),
        (Some(&stranger), false),
        (Some(&server), false),
        (None, false),
    ] {
        let mut tls = trusting(&authority);
        if let Some(identity) = identity {
            tls = tls.identity(identity.shown());
        }
        let sent = grpc(running.grpc, tls).await;
        assert_eq!(sent.is_ok(), taken, "{sent:?}");
        for versions in [&[&TLS12][..], &[&TLS13]] {
            let tls = authority.trusting(identity, versions);
            let sent = post(running.http, tls, true).await;
            assert_eq!(sent.is_ok(), taken, "{sent:?}");
        }
    }
    assert_eq!(running.take().len(), 3);
}

#[tokio::test]
async fn what_is_no_tls_is_refused_and_told_of() {
    let authority = Authority::new();
    let running = start(authority.server("a").config()).await;
    for bytes in [
        &b"POST /v1/logs HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        for address in [running.grpc, running.http] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            until_closed(&mut stream).await;
        }
    }
    grpc(running.grpc, trusting(&authority)).await.unwrap();
}

/// Nor does one that says nothing at all, nor one that stops in the middle.
#[tokio::test]
async fn a_silent_handshake_holds_nobody_up_and_ends_with_the_server() {
    let authority = Authority::new();
    let mut running = start(authority.server("a").config()).await;
    let mut silent = Vec::new();
    for address in [running.grpc, running.http] {
        for bytes in [&b""[..], &[22, 3, 1, 2, 0]] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            silent.push(stream);
        }
    }
    grpc(running.grpc, trusting(&authority)).await.unwrap();
    let tls = authority.trusting(None, &[&TLS13]);
    assert_eq!(post(running.http, tls, false).await, Ok(200));
    running.shared.stop.cancel();
    for server in running.servers.drain(..) {
        let ends = timeout(Duration::from_secs(5), server).await;
        ends.expect("it waits for them").unwrap();
    }
    for mut stream in silent {
        until_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let authority = Authority::new();
    let running = Running::start(Setup {
        tls: Some(authority.server("a").config()),
        limits: Limits {
            read_header_timeout: Duration::from_millis(100),
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    for address in [running.grpc, running.http] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert!(until_closed(&mut silent).await.is_empty());
    }
}

/// One line a minute for each server, with what to do; none for who looks whether a port is open.
#[tokio::test(flavor = "multi_thread")]
async fn failed_handshakes_are_told_and_open_ports_warned_of() {
    let authority = Authority::new();
    let server = authority.server("a");
    let (grpc, http) = (free_address(), free_address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{
  grpc: {{endpoint: '{grpc}', tls: {{cert_file: '{cert}', key_file: '{key}', client_ca_file: '{ca}'}}}},
  http: {{endpoint: '0.0.0.0:{port}'}}}}}}}}
processors: {{detection: }}
exporters: {{debug: }}
service: {{pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [debug]}}}}}}
",
        port = http.port(),
        cert = server.cert.display(),
        key = server.key.display(),
        ca = authority.file().display(),
    );
    std::fs::write(&file, text).unwrap();
    let start = || {
        let process = Process::auditwatch(&file, &[]);
        process.wait_for("protocol=\"http\"", LONG);
        process
    };
    let failures = |process: &Process| process.stderr().matches("tls handshake failed").count();

    let process = start();
    let stderr = process.stderr();
    assert_eq!(
        stderr
            .matches("listens on all addresses without tls")
            .count(),
        1,
        "{stderr}"
    );
    drop(TcpStream::connect(grpc).await.unwrap());
    for _ in 0..3 {
        let mut stream = TcpStream::connect(grpc).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
        until_closed(&mut stream).await;
    }
    process.wait_for("what came is no TLS, turn tls on at the sender", LONG);
    assert_eq!(failures(&process), 1, "{}", process.stderr());
    drop(process);

    let process = start();
    assert!(self::grpc(grpc, trusting(&authority)).await.is_err());
    process.wait_for("the sender shows no certificate", LONG);
    assert_eq!(failures(&process), 1, "{}", process.stderr());
}

/// Shakes hands until the server shows a certificate of this authority.
pub(crate) async fn shown_by(address: SocketAddr, authority: &Authority) {
    let wait = async {
        while shake(address, authority.trusting(None, &[&TLS13]))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, wait).await.expect("it is never shown");
}

#[tokio::test]
async fn certificates_are_read_again() {
    let (first, second) = (Authority::new(), Authority::new());
    let server = first.server("a");
    let running = start(auditwatch::tls::server::Config {
        reload_interval: Some(Duration::from_millis(100)),
        ..server.config()
    })
    .await;
    shown_by(running.grpc, &first).await;
    // What is of no use changes nothing: half of a pair, nothing, garbage.
    let new = second.server("a");
    let copy = |from: &Identity| {
        std::fs::copy(&from.cert, &server.cert).unwrap();
        std::fs::copy(&from.key, &server.key).unwrap();
    };
    std::fs::copy(&new.cert, &server.cert).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    shown_by(running.grpc, &first).await;
    std::fs::remove_file(&server.key).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    shown_by(running.grpc, &first).await;
    copy(&new);
    shown_by(running.grpc, &second).await;
    shown_by(running.http, &second).await;
    grpc(running.grpc, trusting(&second)).await.unwrap();
    // Without the interval they are not.
    let fixed = start(server.config()).await;
    copy(&first.server("c"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    shown_by(fixed.grpc, &second).await;
}

/// Each names the setting and the file, and none shows any of a key.
#[tokio::test]
async fn what_cannot_be_used_is_told_at_the_start() {
    let authority = Authority::new();
    let (good, other) = (authority.server("good"), authority.server("other"));
    let usage = || ExtendedKeyUsagePurpose::ServerAuth;
    let old = authority.sign("old", usage(), |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let early = authority.sign("early", usage(), |params| {
        params.not_before = rcgen::date_time_ymd(2100, 1, 1);
        params.not_after = rcgen::date_time_ymd(2101, 1, 1);
    });
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let encrypted = folder.path().join("encrypted");
    std::fs::write(
        &encrypted,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let pair = |cert: &std::path::Path, key: &std::path::Path| {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        Identity { cert, key }.config()
    };
    let with_ca = |ca: &std::path::Path| auditwatch::tls::server::Config {
        client_ca_file: Some(ca.to_owned()),
        ..good.config()
    };
    for (tls, wanted) in [
        (
            pair(&absent, &good.key),
            "tls::cert_file: cannot read ABSENT: ",
        ),
        (
            pair(&good.cert, &absent),
            "tls::key_file: cannot read ABSENT: ",
        ),
        (pair(&good.key, &good.key), "tls::cert_file: "),
        (
            pair(&good.cert, &encrypted),
            "holds no unencrypted private key",
        ),
        (
            pair(&good.cert, &other.key),
            "is not the key of the first certificate in cert_file",
        ),
        (old.config(), "expired at 2021-01-01T00:00:00Z, renew it"),
        (early.config(), "is not valid before 2100-01-01T00:00:00Z"),
        (
            with_ca(&absent),
            "tls::client_ca_file: cannot read ABSENT: ",
        ),
        (with_ca(&good.key), "tls::client_ca_file: "),
    ] {
        let wanted = wanted.replace("ABSENT", absent.to_str().unwrap());
        let config = auditwatch::receiver::otlp_grpc::Config {
            endpoint: "127.0.0.1:0".to_owned(),
            tls: Some(tls),
            ..Default::default()
        };
        let error = OtlpGrpc::bind(&config).await.unwrap_err().to_string();
        assert!(error.contains(&wanted), "{error}");
    }
}

/// As it is configured, in PEM that stands in the configuration.
#[tokio::test]
async fn a_service_speaks_tls() {
    let authority = Authority::new();
    let server = authority.server("a");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0',
           tls: {{cert_pem: '${{env:CERT}}', key_pem: '${{env:KEY}}', client_ca_file: '{}'}}}}}}}}}}
processors: {{detection: }}
exporters: {{debug: }}
service: {{pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [debug]}}}}}}
",
        authority.file().display()
    );
    let env = |name: &str| {
        let file = match name {
            "CERT" => &server.cert,
            "KEY" => &server.key,
            _ => return None,
        };
        std::fs::read_to_string(file).ok()
    };
    let service = Service::start(config::parse("test.yaml", &quiet(&text), &env).unwrap())
        .await
        .unwrap();
    let address = service.addresses()[0].1;
    let tls = trusting(&authority).identity(authority.client("b").shown());
    grpc(address, tls).await.unwrap();
    assert!(grpc(address, trusting(&authority)).await.is_err());
    assert!(service.shutdown(LONG).await);
}
