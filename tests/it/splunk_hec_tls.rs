//! The `splunk_hec` exporter over TLS, with certificates made on the spot.

use std::sync::Arc;

use auditwatch::{
    detection::Finding,
    exporter::{
        Exporter as _, Outcome,
        splunk_hec::{Config, SplunkHec},
    },
    tls::{Pem, Version, client},
};
use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use secrecy::SecretString;

use crate::support::{
    certificates::{Authority, Texts},
    hec::HecServer,
    tls_peers::{server, server_of_name, write},
};

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn text(pem: &str) -> Pem {
    Pem::Text(SecretString::from(pem))
}

fn trusting(authority: &Authority) -> client::Config {
    client::Config {
        ca: Some(text(&authority.pem())),
        ..client::Config::default()
    }
}

fn config(endpoint: String, tls: client::Config) -> Config {
    Config {
        endpoint,
        token: SecretString::from("test-token"),
        tls,
        ..Config::default()
    }
}

async fn send(config: &Config) -> Outcome {
    let finding = Finding {
        finding_id: "1".to_owned(),
        state: "opened".to_owned(),
        ..Finding::default()
    };
    let mut exporter = SplunkHec::new(config).unwrap();
    exporter.send(&[Arc::new(finding)]).await
}

async fn reason(server: &HecServer, tls: client::Config) -> String {
    match send(&config(server.url(), tls)).await {
        Outcome::Retry { reason, .. } => {
            assert!(server.requests().is_empty());
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_authority_that_is_set_is_trusted_and_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let identity = authority.issue(&["127.0.0.1", "localhost"]);
    let hec = HecServer::start_tls(server(&identity, None, &BOTH)).await;
    let refused = reason(&hec, trusting(&other)).await;
    assert!(
        refused.contains("UnknownIssuer")
            && refused.ends_with(
                ": set tls::ca_file to the authority that signed the server's certificate"
            ),
        "{refused}"
    );
    let folder = tempfile::tempdir().unwrap();
    let both = format!("{}\n{}", other.pem(), authority.pem());
    let from_file = client::Config {
        ca: Some(Pem::File(write(folder.path(), "ca.pem", &both))),
        ..client::Config::default()
    };
    let by_name = hec.url().replace("127.0.0.1", "localhost");
    for config in [
        config(hec.url(), trusting(&authority)),
        config(by_name, from_file),
    ] {
        assert_eq!(send(&config).await, Outcome::Accepted(1));
    }
    assert_eq!(hec.events().len(), 2);
}

#[tokio::test]
async fn any_certificate_is_taken_when_that_is_asked_for() {
    let identity = Authority::new().issue(&["elsewhere.example"]);
    let hec = HecServer::start_tls(server(&identity, None, &BOTH)).await;
    let any = client::Config {
        insecure_skip_verify: true,
        ..client::Config::default()
    };
    assert_eq!(send(&config(hec.url(), any)).await, Outcome::Accepted(1));
}

#[tokio::test]
async fn another_name_is_asked_for_and_looked_for() {
    let authority = Authority::new();
    let identity = authority.issue(&["splunk.example"]);
    let hec = HecServer::start_tls(server(&identity, None, &BOTH)).await;
    let refused = reason(&hec, trusting(&authority)).await;
    assert!(refused.contains("tls::server_name_override"), "{refused}");
    drop(hec);

    // This server answers clients that ask for its name, and only those.
    let hec = HecServer::start_tls(server_of_name("splunk.example", &identity)).await;
    let named = |name: &str| client::Config {
        server_name_override: Some(name.to_owned()),
        ..trusting(&authority)
    };
    reason(&hec, named("other.example")).await;
    for host in ["127.0.0.1", "localhost"] {
        let endpoint = hec.url().replace("127.0.0.1", host);
        let outcome = send(&config(endpoint, named("splunk.example"))).await;
        assert_eq!(outcome, Outcome::Accepted(1), "{host}");
    }
    let hosts: Vec<_> = hec
        .requests()
        .iter()
        .map(|seen| seen.headers["host"].to_str().unwrap().to_owned())
        .collect();
    let port = hec.address().port();
    assert_eq!(
        hosts,
        [format!("127.0.0.1:{port}"), format!("localhost:{port}")]
    );
}

#[tokio::test]
async fn a_server_may_want_to_know_who_it_is() {
    let authority = Authority::new();
    let (identity, client) = (authority.issue(&["127.0.0.1"]), authority.issue(&["us"]));
    let stranger = Authority::new().issue(&["us"]);
    let with = |Texts { cert, key }: &Texts| client::Config {
        cert: Some(text(cert)),
        key: Some(text(key)),
        ..trusting(&authority)
    };
    for versions in [&BOTH[..], &[&TLS12]] {
        let hec = HecServer::start_tls(server(&identity, Some(&authority), versions)).await;
        let refused = reason(&hec, trusting(&authority)).await;
        assert!(refused.contains("tls::cert_file"), "{refused}");
        let refused = reason(&hec, with(&stranger)).await;
        assert!(refused.contains("tls::cert_file"), "{refused}");
        let outcome = send(&config(hec.url(), with(&client))).await;
        assert_eq!(outcome, Outcome::Accepted(1));
    }
}

#[tokio::test]
async fn versions_are_those_that_are_set() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"]);
    for (spoken, version) in [(&TLS12, Version::Tls13), (&TLS13, Version::Tls12)] {
        let hec = HecServer::start_tls(server(&identity, None, &[spoken])).await;
        let only = client::Config {
            min_version: version,
            max_version: version,
            ..trusting(&authority)
        };
        let refused = reason(&hec, only).await;
        assert!(refused.contains("tls::min_version"), "{refused}");
        let outcome = send(&config(hec.url(), trusting(&authority))).await;
        assert_eq!(outcome, Outcome::Accepted(1));
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_as_such() {
    let hec = HecServer::start(crate::support::hec::Options::default()).await;
    let config = config(
        hec.url().replace("http://", "https://"),
        trusting(&Authority::new()),
    );
    let Outcome::Retry { reason, .. } = send(&config).await else {
        panic!()
    };
    assert!(reason.contains("does not speak TLS"), "{reason}");
}

#[tokio::test]
async fn headers_of_ones_own_arrive_and_are_hidden() {
    let hec = HecServer::start(crate::support::hec::Options::default()).await;
    let mut config = config(hec.url(), client::Config::default());
    config
        .headers
        .insert("x-scope", "5ecre7-scope".parse().unwrap());
    hec.answer_next(vec![crate::support::hec::Answer::new(
        403,
        "no 5ecre7-scope here",
    )]);
    let Outcome::Refused { reason, .. } = send(&config).await else {
        panic!()
    };
    assert!(reason.contains("no [hidden] here"), "{reason}");
    assert_eq!(send(&config).await, Outcome::Accepted(1));
    let seen = hec.requests();
    assert!(
        seen.iter()
            .all(|seen| seen.headers["x-scope"] == "5ecre7-scope")
    );
}
