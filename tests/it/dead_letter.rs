//! Findings that Splunk can never take: kept whole, and sent again by `auditwatch redeliver`.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use auditwatch::{
    config,
    detection::Finding,
    exporter::{
        dead_letter::{self, DeadLetters},
        queue::{QueueConfig, RetryConfig, Totals, queue, run},
        splunk_hec::{Config, SplunkHec},
    },
    service::Service,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{
    auditwatch::{self as binary, Ran},
    corpus::denied,
    hec::{Answer, HecServer, Options},
    prometheus::scrape,
    sender::send,
};

struct Setup {
    hec: HecServer,
    folder: tempfile::TempDir,
    letters: PathBuf,
    config: String,
}

impl Setup {
    async fn new() -> Self {
        let hec = HecServer::start(Options::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let letters = folder.path().join("dead.ndjson");
        let config = folder.path().join("config.yaml");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
             processors: {{detection: {{}}}}\n\
             exporters: {{splunk_hec: {{token: test-token, endpoint: '{}',\n  \
             retry_on_failure: {{initial_interval: 10ms}}, dead_letter: {{path: '{}'}}}}}}\n\
             service: {{pipelines: {{logs: {{receivers: [otlp], processors: [detection], \
             exporters: [splunk_hec]}}}}}}\n",
            hec.url(),
            letters.display()
        );
        fs::write(&config, text).unwrap();
        Self {
            config: config.to_str().unwrap().to_owned(),
            hec,
            folder,
            letters,
        }
    }

    /// Delivers this number of findings, all of which wait from the start.
    async fn deliver(&self, count: u32) -> Totals {
        let config = Config {
            endpoint: self.hec.url(),
            token: SecretString::from("test-token"),
            retry: RetryConfig {
                initial_interval: Duration::from_millis(10),
                ..RetryConfig::default()
            },
            dead_letter: dead_letter::Config {
                path: self.letters.clone(),
                ..dead_letter::Config::default()
            },
            ..Config::default()
        };
        let (queue, receiver) = queue("splunk_hec".to_owned(), QueueConfig::default());
        for number in 0..count {
            queue.try_push(finding(number)).unwrap();
        }
        drop(queue);
        let exporter = SplunkHec::new(&config).unwrap();
        let exporter = DeadLetters::new("splunk_hec", exporter, &config.dead_letter).unwrap();
        let token = CancellationToken::new();
        run(receiver, exporter, config.retry.clone(), 100, token).await
    }

    fn redeliver(&self, more: &[&str]) -> Ran {
        let mut arguments = vec!["redeliver", self.letters.to_str().unwrap(), "--config"];
        arguments.push(&self.config);
        arguments.extend(more);
        tokio::task::block_in_place(|| binary::run(&arguments))
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.letters).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn arrived(&self) -> Vec<String> {
        let events = self.hec.events();
        events.iter().map(|one| id(&one.event)).collect()
    }

    /// Whether nothing is left of a redelivery under way.
    fn is_tidy(&self) -> bool {
        let mut names = fs::read_dir(self.folder.path()).unwrap();
        names.all(|name| {
            let name = name.unwrap().file_name();
            ["dead.ndjson", "config.yaml"].contains(&name.to_str().unwrap())
        })
    }
}

fn id(event: &Value) -> String {
    event["finding_id"].as_str().unwrap().to_owned()
}

fn finding(number: u32) -> Arc<Finding> {
    let at = Some(prost_types::Timestamp {
        seconds: 1_764_055_023,
        nanos: 35_818_000,
    });
    Arc::new(Finding {
        finding_id: format!("f{number}"),
        state: "opened".to_owned(),
        cluster: "prod".to_owned(),
        alert_at: at,
        last_time: at,
        count: 6,
        count_by_code: [("403".to_owned(), 6)].into(),
        user_agents: vec!["a\"\n\u{1b}[31m\u{0}".to_owned()],
        ..Finding::default()
    })
}

fn blaming(code: u16, number: u64) -> Answer {
    let body = json!({"text": "at fault test-token", "code": code, "invalid-event-number": number});
    Answer::new(400, body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_splunk_can_never_take_is_kept_and_sent_again() {
    let setup = Setup::new().await;
    // An outage around it: what is at fault costs no other, and no other is sent twice.
    setup.hec.answer_next(vec![
        Answer::code(9),
        blaming(6, 1),
        Answer::code(4),
        blaming(15, 2),
        Answer::new(404, "<html>"),
    ]);
    let totals = setup.deliver(6).await;
    assert_eq!(totals, Totals { sent: 4, failed: 2 });
    assert_eq!(setup.arrived(), ["f0", "f2", "f4", "f5"]);
    let lines = setup.lines();
    let letters: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(letters.len(), 2);
    for (letter, number) in letters.iter().zip([1, 3]) {
        assert_eq!(letter["exporter"], "splunk_hec");
        assert_eq!(letter["reason"], "invalid");
        let answer = letter["answer"].as_str().unwrap();
        assert!(answer.starts_with("HTTP 400, code "), "{answer}");
        assert!(answer.contains("at fault [hidden]"), "{answer}");
        let whole: Value = serde_json::from_str(&finding(number).to_json()).unwrap();
        assert_eq!(letter["finding"], whole);
    }

    let output = setup.redeliver(&[]);
    assert_eq!(output.code, 0, "{}", output.err);
    assert_eq!(
        output.out,
        "2 findings sent, 0 not sent, 0 lines not read\n"
    );
    assert_eq!(setup.arrived(), ["f0", "f2", "f4", "f5", "f1", "f3"]);
    let again = setup.hec.events().pop().unwrap();
    let whole: Value = serde_json::from_str(&finding(3).to_json()).unwrap();
    assert_eq!(again.event, whole);
    assert!(setup.lines().is_empty() && setup.is_tidy());
    // There is nothing to send any more.
    assert_eq!(setup.redeliver(&[]).code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sent_again_stays_in_the_file() {
    let setup = Setup::new().await;
    setup.hec.answer_next(vec![blaming(12, 0), blaming(12, 0)]);
    assert_eq!(setup.deliver(2).await.failed, 2);
    let mut text = fs::read_to_string(&setup.letters).unwrap();
    let other = text.lines().next().unwrap().replace("splunk_hec", "gone/x");
    text.push_str("no letter\n");
    text.push_str(&other);
    fs::write(&setup.letters, &text).unwrap();

    // The token is wrong: nothing is sent, and nothing waits for it.
    setup.hec.answer_next(vec![Answer::code(4)]);
    let output = setup.redeliver(&[]);
    assert_eq!(output.code, 1, "{}", output.err);
    let stderr = &output.err;
    for wanted in [
        "dead.ndjson:3: no dead letter (",
        "has no exporter gone/x, 1 findings stay",
        "2 findings were not sent: HTTP 403, code 4",
    ] {
        assert!(stderr.contains(wanted), "{wanted}: {stderr}");
    }
    assert_eq!(
        output.out,
        "0 findings sent, 3 not sent, 1 lines not read\n"
    );
    let mut stayed = setup.lines();
    let mut wanted: Vec<_> = text.lines().map(str::to_owned).collect();
    stayed.sort();
    wanted.sort();
    assert_eq!(stayed, wanted);
    assert!(setup.is_tidy());

    // Well again, but for one finding.
    setup.hec.answer_next(vec![blaming(12, 1)]);
    let output = setup.redeliver(&[]);
    assert_eq!(output.code, 1, "{}", output.err);
    assert_eq!(setup.arrived(), ["f0"]);
    assert_eq!(setup.lines().len(), 3);
    assert!(setup.is_tidy());
}

/// An exporter that cannot be made, such as one whose certificates are not there, costs no letter.
#[tokio::test(flavor = "multi_thread")]
async fn letters_of_an_exporter_that_cannot_start_stay_in_the_file() {
    let setup = Setup::new().await;
    setup.hec.answer_next(vec![blaming(12, 0)]);
    assert_eq!(setup.deliver(1).await.failed, 1);
    let before = setup.lines();
    let output = setup.redeliver(&[
        "--set",
        "exporters.splunk_hec.endpoint=https://127.0.0.1:1",
        "--set",
        "exporters.splunk_hec.tls.ca_file=/nowhere.pem",
    ]);
    assert_eq!(output.code, 1, "{}", output.err);
    let wanted = "cannot use exporter splunk_hec";
    assert!(output.err.contains(wanted), "{}", output.err);
    assert_eq!(setup.lines(), before);
    assert!(setup.is_tidy());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_is_an_error() {
    let setup = Setup::new().await;
    let output = setup.redeliver(&[]);
    assert_eq!(output.code, 2, "{}", output.err);
    let stderr = &output.err;
    assert!(stderr.contains("cannot take"), "{stderr}");
    fs::write(&setup.letters, "").unwrap();
    let output = setup.redeliver(&["--set", "exporters.splunk_hec.token=''"]);
    assert_eq!(output.code, 2, "{}", output.err);
    assert_eq!(setup.redeliver(&[]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_is_in_the_file() {
    let setup = Setup::new().await;
    let pull = "{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}";
    let telemetry = format!("service: {{telemetry: {{metrics: {{readers: [{pull}]}}}}, ");
    let text = fs::read_to_string(&setup.config).unwrap();
    let text = text.replace("service: {", &telemetry);
    let config = config::parse("test.yaml", &text, &|_| None).unwrap();
    let service = Service::start(config).await.unwrap();
    setup.hec.answer_next(vec![blaming(6, 0)]);
    let lines: Vec<_> = (0..6)
        .map(|at| denied("203.0.113.7", at, &format!("/{at}")))
        .collect();
    send(service.addresses()[0].1, &lines, None).await.unwrap();
    let exporter = [("exporter", "splunk_hec")];
    let written = async {
        loop {
            let seen = scrape(service.metrics_addresses()[0]).await;
            if seen.sum("auditwatch_exporter_dead_letters", &exporter) == Some(1.0) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), written).await;
    let seen = seen.expect("a letter is counted");
    let failed = seen.sum("auditwatch_exporter_dead_letters_failed", &exporter);
    assert_eq!(failed, Some(0.0));
    assert_eq!(setup.lines().len(), 1);
    assert!(service.shutdown(Duration::from_secs(20)).await);
}
