//! What is refused, and in which words. Connections are tested in `tests/it/splunk_hec_tls.rs`.

use rcgen::{CertificateParams, KeyPair};
use secrecy::SecretString;

use super::*;

fn text(pem: &str) -> Pem {
    Pem::Text(SecretString::from(pem))
}

/// A certificate that signs itself, and its key.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn what_cannot_be_used_is_named_and_no_key_is_shown() {
    let ((cert, key), (_, other)) = (pair(), pair());
    let absent = tempfile::tempdir().unwrap().path().join("absent.pem");
    let base = Config::default;
    for (config, wanted) in [
        (
            Config {
                ca: Some(Pem::File(absent.clone())),
                ..base()
            },
            "tls::ca_file: cannot read",
        ),
        (
            Config {
                ca: Some(text("nothing")),
                ..base()
            },
            "tls::ca_pem: the text holds no certificate in PEM (BEGIN CERTIFICATE)",
        ),
        (
            Config {
                cert: Some(text(&cert)),
                ..base()
            },
            "tls: a client certificate and its key go together",
        ),
        (
            Config {
                cert: Some(text(&key)),
                key: Some(text(&key)),
                ..base()
            },
            "tls::cert_pem: the text holds no certificate",
        ),
        (
            Config {
                cert: Some(text(&cert)),
                key: Some(text(&cert)),
                ..base()
            },
            "tls::key_pem: the text holds no unencrypted private key",
        ),
        (
            Config {
                cert: Some(text(&cert)),
                key: Some(Pem::File(absent)),
                ..base()
            },
            "tls::key_file: cannot read",
        ),
        (
            Config {
                cert: Some(text(&cert)),
                key: Some(text(&other)),
                ..base()
            },
            "tls: the client certificate and its key cannot be used together: ",
        ),
        (
            Config {
                server_name_override: Some("192.0.2.1".to_owned()),
                ..base()
            },
            "tls: server_name_override is no host name",
        ),
        (
            Config {
                min_version: Version::Tls13,
                max_version: Version::Tls12,
                ..base()
            },
            "tls: no version to speak",
        ),
    ] {
        for error in [config.check().unwrap_err(), config.build().unwrap_err()] {
            let message = error.to_string();
            assert!(message.starts_with(wanted), "{message}");
            // A chain of causes is printed as well; no cause repeats another.
            assert!(std::error::Error::source(&error).is_none(), "{message}");
            assert!(!message.contains("PRIVATE KEY-") && !format!("{config:?}").contains("MI"));
        }
    }
}

#[test]
fn what_can_be_used_is() {
    let (cert, key) = pair();
    let config = Config {
        ca: Some(text(&cert)),
        cert: Some(text(&cert)),
        key: Some(text(&key)),
        ..Config::default()
    };
    config.check().unwrap();
    assert!(
        config
            .build()
            .unwrap()
            .client_auth_cert_resolver
            .has_certs()
    );
    let both = Config {
        include_system_ca_certs_pool: true,
        ..config
    };
    both.build().unwrap();
    let any = Config {
        insecure_skip_verify: true,
        ..Config::default()
    };
    assert!(!any.build().unwrap().client_auth_cert_resolver.has_certs());
    let none = Config {
        insecure: true,
        server_name_override: Some(String::new()),
        ..Config::default()
    };
    none.check().unwrap();
}
