//! The strict server is strict.

use super::*;

#[test]
fn is_strict_about_what_it_takes() {
    let options = Options {
        indexes: vec!["main".to_owned()],
        ..Options::default()
    };
    let number = |body: &str| match parse(body.as_bytes(), &options) {
        Ok(events) => format!("{} taken", events.len()),
        Err(reply) => {
            let reply: Value = serde_json::from_str(&reply.body).unwrap();
            format!(
                "code {} event {}",
                reply["code"], reply["invalid-event-number"]
            )
        }
    };
    for (body, wanted) in [
        (
            r#"{"event":"a"}{"event":{"b":1},"time":1.5,"fields":{"x":["y"],"z":1}}"#,
            "2 taken",
        ),
        (
            r#"{"event":"a","index":"main"} {"event":"a","time":"17.123456"}"#,
            "code 6 event 1",
        ),
        (r#"[{"event":"a"}]"#, "code 6 event 0"),
        (r#"{"event":"a"},{"event":"b"}"#, "code 6 event 1"),
        (r#"{"event":"a"}{"event":"b""#, "code 6 event 1"),
        (r#"{"event":"a","time":1.7e9}"#, "code 6 event 0"),
        (r#"{"event":"a","time":-1}"#, "code 6 event 0"),
        (r#"{"event":"a","tiem":1}"#, "code 6 event 0"),
        (r#"{"event":"a","host":1}"#, "code 6 event 0"),
        (r#"{"event":"a"}{"host":"h"}"#, "code 12 event 1"),
        (r#"{"event":" "}"#, "code 13 event 0"),
        (r#"{"event":null}"#, "code 13 event 0"),
        (r#"{"event":"a","index":"other"}"#, "code 7 event 0"),
        (r#"{"event":"a","fields":{"x":{"y":1}}}"#, "code 15 event 0"),
        (r#"{"event":"a","fields":{"x":[]}}"#, "code 15 event 0"),
        (r#"{"event":"a","fields":{"x":[1]}}"#, "code 15 event 0"),
        (r#"{"event":"a","fields":{"x":null}}"#, "code 15 event 0"),
        (r#"{"event":"a","fields":null}"#, "code 15 event 0"),
    ] {
        assert_eq!(number(body), wanted, "{body}");
    }
}

/// Status and body of the answer to a request by a client that is not our exporter.
async fn ask(server: &HecServer, line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (method, path) = line.split_once(' ').unwrap();
    let url = format!("{}{path}", server.url());
    let mut request = client
        .request(method.parse().unwrap(), url)
        .body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    format!("{status} {}", answer.text().await.unwrap())
}

#[tokio::test]
async fn asks_for_a_token() {
    let server = HecServer::start(Options::default()).await;
    for (token, wanted) in [
        (None, r#"401 {"code":2"#),
        (Some("Bearer test-token"), r#"401 {"code":3"#),
        (Some("Splunk other"), r#"403 {"code":4"#),
        (Some("Splunk test-token"), r#"200 {"code":0"#),
    ] {
        let headers: Vec<_> = token
            .map(|token| ("authorization", token))
            .into_iter()
            .collect();
        let line = "POST /services/collector/event";
        let answer = ask(&server, line, &headers, r#"{"event":"x"}"#).await;
        assert!(answer.starts_with(wanted), "{token:?}: {answer}");
    }
    let answer = ask(
        &server,
        "POST /services/collector?token=test-token",
        &[],
        "{}",
    )
    .await;
    assert!(answer.starts_with(r#"400 {"code":16"#), "{answer}");
    assert_eq!(server.wait_for(1, Duration::from_secs(5)).await.len(), 1);
}

#[tokio::test]
async fn knows_its_paths_and_encodings() {
    let server = HecServer::start(Options::default()).await;
    for (line, encoding, body, wanted) in [
        (
            "GET /services/collector/health",
            "",
            "",
            r#"200 {"code":17"#,
        ),
        ("GET /services/collector", "", "", r#"405 {"code":405"#),
        ("POST /elsewhere", "", "{}", r#"404 {"code":404"#),
        (
            "POST /services/collector/ack",
            "",
            "{}",
            r#"400 {"code":14"#,
        ),
        ("POST /services/collector", "", " ", r#"400 {"code":5"#),
        (
            "POST /services/collector",
            "gzip",
            "x",
            "400 <!doctype html>",
        ),
        (
            "POST /services/collector",
            "zstd",
            "x",
            "415 <!doctype html>",
        ),
    ] {
        let mut headers = vec![("authorization", "Splunk test-token")];
        if !encoding.is_empty() {
            headers.push(("content-encoding", encoding));
        }
        let answer = ask(&server, line, &headers, body).await;
        assert!(answer.starts_with(wanted), "{line}: {answer}");
    }
    assert!(server.events().is_empty());
}

#[tokio::test]
async fn acknowledges_by_channel_and_once() {
    let server = HecServer::start(Options {
        use_ack: true,
        ..Options::default()
    })
    .await;
    let token = ("authorization", "Splunk test-token");
    let channel = (
        "x-splunk-request-channel",
        "0d2f4b0e-2a51-4b8e-9d9c-0f3a1f6f2c11",
    );
    let post = "POST /services/collector";
    let event = r#"{"event":"x"}"#;
    let ack = "POST /services/collector/ack";
    let asked = r#"{"acks":[0,1]}"#;
    for (line, headers, body, wanted) in [
        (post, vec![token], event, r#"400 {"code":10"#),
        (
            post,
            vec![token, ("x-splunk-request-channel", "x")],
            event,
            r#"400 {"code":11"#,
        ),
        (
            post,
            vec![token, channel],
            event,
            r#"200 {"ackId":0,"code":0"#,
        ),
        (
            ack,
            vec![token, channel],
            asked,
            r#"200 {"acks":{"0":true,"1":false}}"#,
        ),
        (
            ack,
            vec![token, channel],
            asked,
            r#"200 {"acks":{"0":false,"1":false}}"#,
        ),
    ] {
        let answer = ask(&server, line, &headers, body).await;
        assert!(answer.starts_with(wanted), "{line}: {answer}");
    }
}
