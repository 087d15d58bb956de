//! Settings, and what must never be printed. Deliveries are tested in `tests/it/splunk_hec.rs`.

use std::time::Duration;

use secrecy::SecretString;

use super::{connection::endpoint, *};
use crate::{exporter::samples, tls};

const SECRET: &str = "5ecre7-token";

fn config(endpoint: &str) -> Config {
    Config {
        endpoint: endpoint.to_owned(),
        token: SecretString::from(SECRET),
        ..Config::default()
    }
}

fn error(config: &Config) -> String {
    SplunkHec::new(config).unwrap_err().to_string()
}

#[test]
fn endpoints_get_the_path_of_hec() {
    for (written, meant) in [
        (
            "https://splunk:8088",
            "https://splunk:8088/services/collector",
        ),
        ("http://splunk/", "http://splunk/services/collector"),
        (
            " https://splunk:8088/services/collector ",
            "https://splunk:8088/services/collector",
        ),
        ("https://proxy/hec/event", "https://proxy/hec/event"),
        (
            "https://[::1]:8088?channel=x#y",
            "https://[::1]:8088/services/collector?channel=x",
        ),
    ] {
        assert_eq!(endpoint(written).unwrap().as_str(), meant);
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (endpoint, hint) in [
        ("", "is no URL"),
        ("splunk", "is no URL"),
        ("splunk:8088", "http://"),
        ("ftp://splunk", "http://"),
        ("https://", "is no URL"),
        ("https://user:pa55word@splunk", "user name or password"),
    ] {
        let error = error(&config(endpoint));
        assert!(
            error.starts_with("endpoint: ") && error.contains(hint),
            "{endpoint}: {error}"
        );
        assert!(!error.contains("pa55word"), "{error}");
    }
    let mut bad = config("https://splunk");
    bad.token = SecretString::from(" \n");
    assert!(error(&bad).starts_with("token: is empty"));
    bad.token = SecretString::from(format!("{SECRET}\n{SECRET}"));
    assert!(error(&bad).starts_with("token: "));
    assert!(!error(&bad).contains(SECRET));
    let mut bad = config("https://splunk");
    bad.timeout = Duration::ZERO;
    assert!(error(&bad).starts_with("timeout: "));
    let folder = tempfile::tempdir().unwrap();
    let mut bad = config("https://splunk");
    bad.tls.ca = Some(tls::Pem::File(folder.path().join("absent.pem")));
    let whole = format!(
        "{:#}",
        anyhow::Error::from(SplunkHec::new(&bad).unwrap_err())
    );
    assert_eq!(whole.matches("os error").count(), 1, "{whole}");
    assert!(whole.contains("absent.pem"), "{whole}");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    bad.tls.ca = Some(tls::Pem::File(empty));
    assert!(error(&bad).contains("holds no certificate"));
}

#[test]
fn the_token_is_never_printed() {
    let config = config("http://127.0.0.1:9?token=query-5ecret");
    let exporter = SplunkHec::new(&config).unwrap();
    for text in [format!("{exporter:?}"), format!("{:?}", config.token)] {
        assert!(
            !text.contains(SECRET) && !text.contains("query-5ecret"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn errors_of_the_network_hold_no_secret() {
    // Nothing listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{free}/services/collector?token=query-5ecret");
    let mut exporter = SplunkHec::new(&config(&url)).unwrap();
    let outcome = exporter.send(&samples::findings(1)).await;
    let Outcome::Retry {
        reason,
        after: None,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert!(
        !reason.contains(SECRET) && !reason.contains("query-5ecret"),
        "{reason}"
    );
    assert!(reason.to_lowercase().contains("refused"), "{reason}");
}
