//! Indexer acknowledgement and the health check.

use super::*;

fn with_ack(server: &HecServer) -> Config {
    Config {
        ack: AckConfig {
            enabled: true,
            poll_interval: Duration::from_millis(10),
            timeout: Duration::from_millis(500),
        },
        ..config(server)
    }
}

async fn indexing() -> HecServer {
    let options = Options {
        use_ack: true,
        ..Options::default()
    };
    HecServer::start(options).await
}

/// Requests by path, in order.
fn paths(server: &HecServer) -> Vec<String> {
    let path = |uri: &str| uri.trim_start_matches("/services/collector").to_owned();
    server
        .requests()
        .iter()
        .map(|seen| path(&seen.uri))
        .collect()
}

fn accepted(number: u64) -> Answer {
    let body = json!({"text": "Success", "code": 0, "ackId": number});
    Answer::new(200, body.to_string())
}

fn acked(number: u64, indexed: bool) -> Answer {
    Answer::new(
        200,
        json!({"acks": {number.to_string(): indexed}}).to_string(),
    )
}

#[tokio::test]
async fn what_is_indexed_is_delivered() {
    let server = indexing().await;
    assert_eq!(deliver(&with_ack(&server), 3).await, sent(3));
    assert_eq!(numbers(&server), [0, 1, 2]);
    assert_eq!(paths(&server), ["", "/ack"]);
    let requests = server.requests();
    let channel = |at: usize| requests[at].headers["x-splunk-request-channel"].clone();
    assert_eq!(channel(0), channel(1));
    let channel: uuid::Uuid = channel(0).to_str().unwrap().parse().unwrap();
    assert!(!channel.is_nil());
    assert_eq!(requests[1].encoding, None, "the question is not compressed");
}

/// The question is asked until it is answered, whatever comes in between; the events are not sent
/// again meanwhile.
#[tokio::test]
async fn asking_goes_on_through_trouble() {
    let server = indexing().await;
    server.answer_next(vec![
        accepted(7).storing(),
        acked(7, false),
        Answer::code(9),
        Answer::reset(),
        Answer::new(200, "<html>Welcome</html>"),
        acked(8, true),
        acked(7, true),
    ]);
    assert_eq!(deliver(&with_ack(&server), 2).await, sent(2));
    assert_eq!(numbers(&server), [0, 1]);
    assert_eq!(paths(&server).len(), 7);
}

#[tokio::test]
async fn what_is_not_indexed_in_time_is_sent_again_under_the_same_ids() {
    let server = indexing().await;
    server.answer_next(vec![accepted(7).storing()]);
    // The server knows of no number 7, as after a restart.
    let config = with_ack(&server);
    assert_eq!(deliver(&config, 2).await, sent(2));
    assert_eq!(numbers(&server), [0, 1, 0, 1]);
    let requests = server.requests();
    let posts: Vec<_> = requests
        .iter()
        .filter(|seen| !seen.uri.ends_with("/ack"))
        .collect();
    assert_eq!(posts.len(), 2);
    assert!(posts[1].arrived - posts[0].arrived >= Duration::from_millis(500));
}

/// A token without acknowledgement gives no number: accepted is all there will be.
#[tokio::test]
async fn a_token_that_acknowledges_nothing_is_taken_at_its_word() {
    let server = HecServer::start(Options::default()).await;
    assert_eq!(deliver(&with_ack(&server), 2).await, sent(2));
    assert_eq!(paths(&server), [""]);
}

#[tokio::test]
async fn a_token_that_wants_acknowledgement_says_so() {
    let server = indexing().await;
    let lost = Totals { sent: 0, failed: 1 };
    let mut config = config(&server);
    config.retry.enabled = false;
    assert_eq!(deliver(&config, 1).await, lost);
    assert_eq!(statuses(&server), [Some(400)]);
}

/// Twenty indexers behind a balancer that sticks by cookie: each batch is posted once, and asked for
/// where it was posted.
#[tokio::test]
async fn questions_go_where_the_events_went() {
    let server = HecServer::start(Options {
        use_ack: true,
        indexers: 20,
        ..Options::default()
    })
    .await;
    let size = finding(0).to_json().len() * 5;
    let config = Config {
        // Several posts.
        max_content_length_logs: size,
        ..with_ack(&server)
    };
    assert_eq!(deliver(&config, 9).await, sent(9));
    assert_eq!(numbers(&server), (0..9).collect::<Vec<_>>());
    let requests = server.requests();
    assert!(requests.len() >= 4);
    // Later posts on the channel stay with the indexer, and so does the channel.
    assert!(server.events().iter().all(|event| event.indexer == 0));
    let channel = &requests[0].headers["x-splunk-request-channel"];
    assert!(
        requests
            .iter()
            .all(|seen| seen.headers["x-splunk-request-channel"] == *channel)
    );
}

/// Four of eight indexers never index: what counts as delivered is in the index of another one.
#[tokio::test]
async fn an_indexer_that_never_indexes_is_left() {
    let server = HecServer::start(Options {
        use_ack: true,
        indexers: 8,
        broken_indexers: 4,
        ..Options::default()
    })
    .await;
    let mut config = with_ack(&server);
    config.ack.timeout = Duration::from_millis(100);
    assert_eq!(deliver(&config, 3).await, sent(3));
    let events = server.events();
    let indexed = events.iter().filter(|event| event.indexer >= 4);
    assert_eq!(indexed.count(), 3, "each once");
    assert_eq!(
        events.len(),
        5 * 3,
        "one post to each that does not, at most"
    );
}

/// A gateway that says that its server is away may know another one: nothing leads back to it.
#[tokio::test]
async fn after_a_gateways_error_everything_is_new() {
    for status in [408, 502, 503, 504] {
        let server = indexing().await;
        let failed = Answer::new(status, "").header("set-cookie", "node=gone; Path=/");
        server.answer_next(vec![failed]);
        assert_eq!(deliver(&with_ack(&server), 1).await, sent(1));
        let requests = server.requests();
        assert_ne!(requests[0].peer, requests[1].peer, "{status}");
        assert!(!requests[1].headers.contains_key("cookie"));
        let channel = |at: usize| &requests[at].headers["x-splunk-request-channel"];
        assert_ne!(channel(0), channel(1));
        assert_eq!(channel(1), channel(2));
        assert_eq!(requests[1].peer, requests[2].peer, "well again: kept");
    }
}

async fn health(config: &Config) -> Result<(), String> {
    let exporter = SplunkHec::new(config).unwrap();
    exporter
        .check_health()
        .await
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn health_is_asked_for_where_it_is_told() {
    let server = HecServer::start(Options::default()).await;
    let mut config = config(&server);
    config.endpoint = format!("{}/services/collector/event", server.url());
    assert_eq!(health(&config).await, Ok(()));
    config.health_path = "/services/collector/health/1.0".to_owned();
    assert_eq!(health(&config).await, Ok(()));
    let requests = server.requests();
    assert_eq!(requests[0].uri, "/services/collector/health");
    assert_eq!(requests[0].method, http::Method::GET);
    assert_eq!(requests[0].headers["authorization"], "Splunk test-token");
    assert!(!requests[0].headers.contains_key("content-encoding"));

    server.answer_next(vec![Answer::code(18)]);
    let error = health(&config).await.unwrap_err();
    assert_eq!(
        error,
        "health_check_enabled: /services/collector/health/1.0 says HTTP 503, code 18 \
         \"HEC is unhealthy, queues are full\": HEC is there but busy, try again later"
    );
    config.health_path = "/nowhere".to_owned();
    let error = health(&config).await.unwrap_err();
    assert!(error.contains("is health_path right?"), "{error}");
    drop(server);
    let error = health(&config).await.unwrap_err();
    assert!(
        error.contains("/nowhere does not answer (") && error.ends_with("is Splunk up?"),
        "{error}"
    );
}
