//! The `splunk_hec` exporter and its queue against a strict HEC server.

mod ack;
mod answers;

use std::{sync::Arc, time::Duration};

use auditwatch::{
    detection::Finding,
    exporter::{
        queue::{QueueConfig, RetryConfig, Totals, queue, run},
        splunk_hec::{AckConfig, Config, Format, Risk, SplunkHec},
    },
};
use secrecy::SecretString;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::hec::{Answer, HecServer, Options};

const SOON: Duration = Duration::from_secs(10);

fn config(server: &HecServer) -> Config {
    Config {
        endpoint: server.url(),
        token: SecretString::from("test-token"),
        retry: RetryConfig {
            initial_interval: Duration::from_millis(10),
            ..RetryConfig::default()
        },
        ..Config::default()
    }
}

fn finding(number: u32) -> Arc<Finding> {
    let at = Some(prost_types::Timestamp {
        seconds: 1_764_055_023,
        nanos: 35_818_000,
    });
    Arc::new(Finding {
        finding_id: format!("{number:032x}"),
        state: "opened".to_owned(),
        cluster: "prod".to_owned(),
        src_ip: "203.0.113.7".to_owned(),
        alert_at: at,
        last_time: at,
        count: 6,
        users: vec!["system:anonymous".to_owned()],
        groups: vec!["system:unauthenticated".to_owned()],
        user_agents: vec!["a\"\n\u{1b}[31m\u{0}".to_owned()],
        ..Finding::default()
    })
}

/// Delivers this number of findings, all of which wait from the start.
async fn deliver(config: &Config, count: u32) -> Totals {
    let (queue, receiver) = queue("splunk_hec".to_owned(), QueueConfig::default());
    for number in 0..count {
        queue.try_push(finding(number)).unwrap();
    }
    drop(queue);
    let exporter = SplunkHec::new(config).unwrap();
    run(
        receiver,
        exporter,
        config.retry.clone(),
        100,
        CancellationToken::new(),
    )
    .await
}

fn numbers(server: &HecServer) -> Vec<u64> {
    let id = |event: &serde_json::Value| event["finding_id"].as_str().unwrap().to_owned();
    server
        .events()
        .iter()
        .map(|one| u64::from_str_radix(&id(&one.event), 16).unwrap())
        .collect()
}

fn statuses(server: &HecServer) -> Vec<Option<u16>> {
    server.requests().iter().map(|seen| seen.status).collect()
}

fn sent(sent: u64) -> Totals {
    Totals { sent, failed: 0 }
}

#[tokio::test]
async fn findings_arrive_as_hec_events() {
    let server = HecServer::start(Options {
        indexes: vec!["kube".to_owned()],
        ..Options::default()
    })
    .await;
    let config = Config {
        index: "kube".to_owned(),
        ..config(&server)
    };
    assert_eq!(deliver(&config, 3).await, sent(3));
    let events = server.wait_for(3, SOON).await;
    assert_eq!(numbers(&server), [0, 1, 2]);
    let first = &events[0];
    assert_eq!(first.time.as_deref(), Some("1764055023.035818"));
    assert_eq!(first.host.as_deref(), Some("prod"));
    assert_eq!(first.source.as_deref(), Some("auditwatch"));
    assert_eq!(first.sourcetype.as_deref(), Some("auditwatch:finding"));
    assert_eq!(first.index.as_deref(), Some("kube"));
    assert_eq!(
        first.event,
        serde_json::from_str::<serde_json::Value>(&finding(0).to_json()).unwrap()
    );
    assert_eq!(first.fields["user"], json!(["system:anonymous"]));
    assert_eq!(
        first.fields["user.groups{}"],
        json!(["system:unauthenticated"])
    );

    let requests = server.requests();
    assert_eq!(requests.len(), 1, "one batch, one request");
    let seen = &requests[0];
    assert_eq!(seen.uri, "/services/collector");
    assert_eq!(seen.encoding.as_deref(), Some("gzip"));
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(seen.headers["__splunk_app_name"], "auditwatch");
    assert_eq!(
        seen.headers["__splunk_app_version"],
        env!("CARGO_PKG_VERSION")
    );
    assert!(!seen.headers.contains_key("x-splunk-request-channel"));
    assert!(
        seen.headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("auditwatch/")
    );
}

#[tokio::test]
async fn plain_requests_when_asked_for() {
    let server = HecServer::start(Options::default()).await;
    let config = Config {
        disable_compression: true,
        ..config(&server)
    };
    assert_eq!(deliver(&config, 2).await, sent(2));
    assert_eq!(server.requests()[0].encoding, None);
}

#[tokio::test]
async fn trouble_that_passes_loses_and_doubles_nothing() {
    let server = HecServer::start(Options::default()).await;
    server.answer_next(vec![
        Answer::code(9).header("retry-after", "0"),
        Answer::code(26),
        Answer::new(502, "<html>Bad Gateway</html>"),
        Answer::reset(),
        Answer::new(404, ""),
        Answer::new(200, "<html>Welcome to the portal</html>"),
        Answer::code(24).storing(),
    ]);
    assert_eq!(deliver(&config(&server), 2).await, sent(2));
    assert_eq!(numbers(&server), [0, 1]);
    let wanted = [503, 429, 502, 0, 404, 200, 200].map(|status| (status != 0).then_some(status));
    assert_eq!(statuses(&server), wanted);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let server = HecServer::start(Options::default()).await;
    server.answer_next(vec![Answer::code(9).header("retry-after", "1")]);
    assert_eq!(deliver(&config(&server), 1).await, sent(1));
    let requests = server.requests();
    assert!(requests[1].arrived - requests[0].arrived >= Duration::from_millis(900));
}

#[tokio::test]
async fn a_token_and_an_index_are_waited_for_until_they_are_right() {
    let server = HecServer::start(Options {
        disabled_tokens: vec!["test-token".to_owned()],
        indexes: vec!["main".to_owned()],
        ..Options::default()
    })
    .await;
    let config = Config {
        index: "kube".to_owned(),
        ..config(&server)
    };
    let mending = async {
        let answered = |wanted| server.wait_for_answer(wanted, SOON);
        answered(403).await;
        server.set_up(|options| options.disabled_tokens.clear());
        answered(400).await;
        server.set_up(|options| options.indexes.push("kube".to_owned()));
    };
    let (totals, ()) = tokio::join!(deliver(&config, 3), mending);
    assert_eq!(totals, sent(3));
    assert_eq!(numbers(&server), [0, 1, 2], "each once");
}

/// `retry_on_failure: {enabled: false}` and a `max_elapsed_time` are the operator's own words.
#[tokio::test]
async fn who_wants_no_retry_gets_none() {
    let server = HecServer::start(Options::default()).await;
    for (status, retry) in [
        (
            403,
            RetryConfig {
                enabled: false,
                ..RetryConfig::default()
            },
        ),
        (
            503,
            RetryConfig {
                initial_interval: Duration::from_millis(10),
                max_interval: Duration::from_millis(10),
                max_elapsed_time: Duration::from_millis(100),
                ..RetryConfig::default()
            },
        ),
    ] {
        server.answer_next(vec![Answer::new(status, ""); 50]);
        let config = Config {
            retry,
            ..config(&server)
        };
        assert_eq!(deliver(&config, 2).await, Totals { sent: 0, failed: 2 });
    }
    assert!(numbers(&server).is_empty());
}

#[tokio::test]
async fn what_is_too_large_is_split() {
    let size = finding(0).to_json().len() * 5;
    let server = HecServer::start(Options {
        max_content_length: size,
        ..Options::default()
    })
    .await;
    assert_eq!(deliver(&config(&server), 9).await, sent(9));
    assert_eq!(numbers(&server), (0..9).collect::<Vec<_>>());
    assert_eq!(statuses(&server)[0], Some(413));
}

#[tokio::test]
async fn our_own_limit_splits_before_sending_and_resends_only_what_failed() {
    let server = HecServer::start(Options::default()).await;
    server.answer_next(vec![Answer::code(0).storing(), Answer::code(9)]);
    let size = finding(0).to_json().len() * 5;
    let config = Config {
        max_content_length_logs: size,
        ..config(&server)
    };
    assert_eq!(deliver(&config, 9).await, sent(9));
    assert_eq!(numbers(&server), (0..9).collect::<Vec<_>>(), "none twice");
    assert!(server.requests().len() >= 4);
}

#[tokio::test]
async fn the_event_at_fault_is_dropped_alone() {
    let server = HecServer::start(Options::default()).await;
    let fault =
        json!({"text": "Error in handling indexed fields", "code": 15, "invalid-event-number": 2});
    server.answer_next(vec![Answer::new(400, fault.to_string())]);
    assert_eq!(
        deliver(&config(&server), 4).await,
        Totals { sent: 3, failed: 1 }
    );
    assert_eq!(numbers(&server), [0, 1, 3]);
}

#[tokio::test]
async fn a_hanging_server_is_left_after_the_time_out() {
    let server = HecServer::start(Options::default()).await;
    server.answer_next(vec![
        Answer::hang(),
        Answer::code(0).after(Duration::from_secs(30)).storing(),
    ]);
    let config = Config {
        timeout: Duration::from_millis(200),
        ..config(&server)
    };
    assert_eq!(deliver(&config, 1).await, sent(1));
    // The second answer came too late although the event was in: sent again, under the same id.
    assert_eq!(numbers(&server), [0, 0]);
}

#[tokio::test]
async fn redirects_do_not_carry_the_token_away() {
    let server = HecServer::start(Options::default()).await;
    let elsewhere = HecServer::start(Options::default()).await;
    let location = format!("{}/services/collector", elsewhere.url());
    server.answer_next(vec![Answer::new(307, "").header("location", &location)]);
    assert_eq!(deliver(&config(&server), 1).await, sent(1));
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_server_that_comes_back_gets_what_waited() {
    let server = HecServer::start(Options::default()).await;
    let (config, address) = (config(&server), server.address());
    drop(server);
    let back = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        HecServer::start_at(address, Options::default()).await
    };
    let (totals, server) = tokio::join!(deliver(&config, 3), back);
    assert_eq!(totals, sent(3));
    assert_eq!(numbers(&server), [0, 1, 2]);
}

/// A state that makes no risk event is done with, and was not sent.
#[tokio::test]
async fn what_makes_no_event_is_not_counted_as_sent() {
    let server = HecServer::start(Options::default()).await;
    let config = Config {
        format: Format::Risk(Risk::default()),
        ..config(&server)
    };
    let (queue, receiver) = queue("splunk_hec".to_owned(), QueueConfig::default());
    for state in ["opened", "updated", "closed"] {
        let mut one = Finding::clone(&finding(1));
        state.clone_into(&mut one.state);
        "high".clone_into(&mut one.severity);
        one.risk_score = 40;
        queue.try_push(Arc::new(one)).unwrap();
    }
    drop(queue);
    let exporter = SplunkHec::new(&config).unwrap();
    let token = CancellationToken::new();
    let totals = run(receiver, exporter, config.retry.clone(), 100, token).await;
    assert_eq!(totals, sent(1));
    assert_eq!(server.events().len(), 1);
}
