//! What keeps known requests and findings away, through the public interface: exclusions from the
//! screen to the engine, the filter, and both in the whole service.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use auditwatch::{
    config,
    detection::{
        Finding,
        emission::Emission,
        engine::Engine,
        exclude::{Exclusion, Exclusions, Target},
        limits::Limits,
        rule::Rule,
        screen::Screen,
    },
    processor::{
        detection::{Detection, Quiet},
        filter::Filter,
    },
    rules::{load, switches::Switches},
    service::Service,
};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use crate::support::{
    corpus::denied,
    hec::{HecServer, Options},
    otlp::{LogRecord, Request, ResourceLogs, ScopeLogs, Value, holding},
    process::{free_address, now},
    prometheus::scrape,
    props::cases,
    sender::send,
};

const LONG: Duration = Duration::from_secs(20);

/// One request with these bodies.
fn request(bodies: &[String]) -> Vec<u8> {
    let log_records = bodies.iter().map(|body| LogRecord {
        body: holding(Value::Text(body.clone().into_bytes())),
        ..LogRecord::default()
    });
    Request {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: log_records.collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

/// A refused request, `minute` minutes into a day.
fn refused(address: u8, id: usize, minute: u32, path: &str) -> String {
    let (hour, minute) = (minute / 60, minute % 60);
    format!(
        r#"{{"auditID":"a-{id}","verb":"get","requestURI":"{path}","userAgent":"curl/8",
        "user":{{"username":"system:anonymous","groups":["system:unauthenticated"]}},
        "sourceIPs":["203.0.113.{address}"],"responseStatus":{{"code":403}},
        "requestReceivedTimestamp":"2026-11-25T{hour:02}:{minute:02}:00.000000Z"}}"#
    )
}

fn exclusion(name: &str, cidr: &str) -> Exclusion {
    Exclusion {
        name: name.to_owned(),
        cidr: vec![cidr.parse().unwrap()],
        ..Exclusion::default()
    }
}

/// All states of all findings of these events, in batches of this size.
fn emissions(exclusions: &[Exclusion], events: &[String], batch: usize) -> Vec<Emission> {
    let detections = load::scans(&Rule::default());
    let limits = Limits::default();
    let exclusions = Arc::new(Exclusions::new(exclusions, &detections).unwrap());
    let screen =
        Screen::of(detections.clone(), Rule::default(), &limits, None).excluding(exclusions);
    let mut engine = Engine::new(detections, limits, None);
    let mut out = Vec::new();
    for bodies in events.chunks(batch) {
        let mut screening = screen.begin(1);
        screening.feed(&request(bodies)).unwrap();
        for hit in screening.finish().unwrap().hits {
            engine.observe(hit, &mut out);
        }
    }
    engine.drain(&mut out);
    out
}

fn of_others(emissions: Vec<Emission>, excluded: &str) -> Vec<(String, Finding)> {
    let states = emissions
        .into_iter()
        .map(|one| (one.state.as_str(), one.finding));
    let others = states.filter(|(_, finding)| finding.src_ip != excluded);
    others
        .map(|(state, finding)| (state.to_owned(), finding))
        .collect()
}

proptest! {
    #![proptest_config(cases(128))]

    /// To exclude an address changes nothing of what is found of others: no finding, no state, no
    /// id, in whatever order requests arrive and however they are batched.
    #[test]
    fn to_exclude_one_address_never_changes_findings_of_others(
        requests in vec((0_u8..4, 0_u32..600), 0..120),
        batch in 1_usize..40,
    ) {
        let events: Vec<_> = requests
            .iter()
            .enumerate()
            .map(|(id, (address, minute))| refused(*address, id, *minute, "/api"))
            .collect();
        let all = emissions(&[], &events, batch);
        let without = emissions(&[exclusion("one", "203.0.113.0/32")], &events, batch);
        prop_assert!(without.iter().all(|one| one.finding.src_ip != "203.0.113.0"));
        prop_assert_eq!(of_others(all, "203.0.113.0"), of_others(without, ""));
    }

    /// What is excluded by its path counts as if it had never been sent.
    #[test]
    fn an_excluded_path_counts_as_if_it_were_not_there(
        requests in vec((0_u8..3, 0_u32..300, any::<bool>()), 0..100),
        batch in 1_usize..40,
    ) {
        let probes = Exclusion {
            name: "probes".to_owned(),
            path: vec![auditwatch::detection::exclude::Wildcard::new("/healthz").unwrap()],
            ..Exclusion::default()
        };
        let event = |(id, (address, minute, is_probe)): (usize, &(u8, u32, bool))| {
            let path = if *is_probe { "/healthz?x=1" } else { "/api" };
            refused(*address, id, *minute, path)
        };
        let events: Vec<_> = requests.iter().enumerate().map(event).collect();
        let counts = |emissions: Vec<Emission>| {
            let mut counts = BTreeMap::new();
            for Emission { finding, .. } in emissions {
                counts.insert(finding.finding_id, (finding.count, finding.paths));
            }
            counts
        };
        let found = counts(emissions(&[probes], &events, batch));
        for (count, paths) in found.values() {
            prop_assert!(*count > 5 && paths == &["/api"]);
        }
    }
}

#[test]
fn an_excluded_scan_is_not_found_and_a_success_from_there_is() {
    let success = r#"{"auditID":"s","verb":"get","requestURI":"/metrics","userAgent":"curl/8",
        "user":{"username":"system:anonymous","groups":["system:unauthenticated"]},
        "sourceIPs":["203.0.113.7"],"responseStatus":{"code":200},
        "requestReceivedTimestamp":"2026-11-25T01:00:00.000000Z"}"#;
    let mut events: Vec<_> = (0..20).map(|id| refused(7, id, 0, "/api")).collect();
    events.push(success.to_owned());
    let found = |applies_to: Vec<Target>| {
        let switches = Switches::default();
        let detections = load::pipeline(&Rule::default(), &switches, &[]).unwrap();
        let detection = Detection::new(&Rule::default(), detections, Limits::default(), &[], None);
        let exclude = vec![Exclusion {
            applies_to,
            ..exclusion("known", "203.0.113.0/24")
        }];
        let mut detection = detection
            .unwrap()
            .quiet(Quiet {
                exclude,
                ..Quiet::default()
            })
            .unwrap();
        let mut screening = detection.screen().begin(1);
        screening.feed(&request(&events)).unwrap();
        let mut hits = screening.finish().unwrap().hits.into_iter();
        let mut found = Vec::new();
        while !hits.as_slice().is_empty() {
            found.extend(detection.observe(&mut hits, 64));
        }
        let names = found.iter().map(|one| one.detection.name().to_owned());
        names.collect::<Vec<_>>()
    };
    assert!(found(vec![Target::Forgery]).contains(&"kubernetes_scanning".to_owned()));
    assert_eq!(found(vec![]), ["anonymous_success"]);
    assert!(found(vec![Target::Scanning, Target::Success]).is_empty());
}

/// What the filter drops is gone before exporters see it, whatever made it due.
#[test]
fn a_filter_decides_about_findings_of_hits_of_time_and_of_the_end() {
    let detections = load::scans(&Rule::default());
    let quiet = Quiet {
        filter: Some(Filter::new("finding.src_ip != '203.0.113.1'").unwrap()),
        ..Quiet::default()
    };
    let mut detection = Detection::new(&Rule::default(), detections, Limits::default(), &[], None)
        .unwrap()
        .quiet(quiet)
        .unwrap();
    let events: Vec<_> = (0..44)
        .map(|id| refused(u8::try_from(id % 2).unwrap() + 1, id, 0, "/api"))
        .collect();
    let mut screening = detection.screen().begin(1);
    screening.feed(&request(&events)).unwrap();
    let mut hits = screening.finish().unwrap().hits.into_iter();
    let mut found = Vec::new();
    while !hits.as_slice().is_empty() {
        found.extend(detection.observe(&mut hits, 64));
    }
    for _hour in 0..3 {
        detection.advance(Duration::from_hours(1));
        found.extend(detection.settle(1000).0);
    }
    found.extend(detection.drain(1000).0);
    let states: Vec<_> = found.iter().map(|one| one.state.as_str()).collect();
    assert_eq!(states.first(), Some(&"opened"));
    assert_eq!(states.last(), Some(&"closed"));
    assert!(found.iter().all(|one| one.finding.src_ip == "203.0.113.2"));
    let kept = detection.kept();
    assert_eq!(kept.filter_errors, 0);
    assert_eq!(kept.filtered, u64::try_from(states.len()).unwrap());
}

/// 401 counts together with 403 unless it has a threshold of its own.
#[test]
fn failed_authentication_may_have_a_threshold_of_its_own() {
    let found = |threshold_401, codes: &[u16]| {
        let rule = Rule {
            threshold_401,
            ..Rule::default()
        };
        let detections = load::scans(&rule);
        let screen = Screen::of(detections.clone(), rule, &Limits::default(), None);
        let mut engine = Engine::new(detections, Limits::default(), None);
        let events: Vec<_> = codes
            .iter()
            .enumerate()
            .map(|(id, code)| {
                refused(1, id, 0, "/api").replace("\"code\":403", &format!("\"code\":{code}"))
            })
            .collect();
        let mut screening = screen.begin(1);
        screening.feed(&request(&events)).unwrap();
        let mut out = Vec::new();
        for hit in screening.finish().unwrap().hits {
            engine.observe(hit, &mut out);
        }
        let ids = out.iter().map(|one| one.finding.finding_id.clone());
        let distinct: std::collections::BTreeSet<_> = ids.collect();
        let names = out.iter().map(|one| one.detection.name().to_owned());
        let mut names: Vec<_> = names.collect();
        names.dedup();
        assert!(names.len() <= distinct.len() || distinct.is_empty());
        names
    };
    let of = |parts: &[(u16, usize)]| -> Vec<u16> {
        let parts = parts
            .iter()
            .flat_map(|(code, times)| std::iter::repeat_n(*code, *times));
        parts.collect()
    };
    let (scan, failures) = ("kubernetes_scanning", "kubernetes_scanning_401");
    assert_eq!(found(None, &of(&[(401, 3), (403, 3)])), [scan]);
    assert!(found(Some(20), &of(&[(401, 20), (403, 5)])).is_empty());
    assert_eq!(found(Some(20), &of(&[(401, 21)])), [failures]);
    assert_eq!(found(Some(20), &of(&[(403, 6)])), [scan]);
    assert_eq!(found(Some(0), &of(&[(401, 1), (403, 5)])), [failures]);
    assert_eq!(
        found(Some(20), &of(&[(403, 6), (401, 21)])),
        [scan, failures]
    );
}

/// The whole service: what is excluded and filtered is counted by name, and success is sent.
#[tokio::test]
async fn what_is_kept_away_is_counted() {
    let hec = HecServer::start(Options::default()).await;
    let metrics = free_address();
    let text = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors:
  detection:
    exclude:
      - {{name: prober, cidr: 203.0.113.7}}
      - {{name: old, cidr: 203.0.113.8, expires: 2020-01-01T00:00:00Z}}
    filter: finding.src_ip != '203.0.113.9' && (finding.src_ip != '203.0.113.8' || finding.users[7] == '')
exporters: {{splunk_hec: {{token: test-token, endpoint: '{}'}}}}
service:
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {}}}}}}}}}]}}}}
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [splunk_hec]}}}}
",
        hec.url(),
        metrics.port()
    );
    let config = config::parse("test.yaml", &text, &|_| None).unwrap();
    let service = Service::start(config).await.unwrap();
    let mut lines = Vec::new();
    for address in ["203.0.113.7", "203.0.113.8", "203.0.113.9", "203.0.113.10"] {
        lines.extend((0..6).map(|at| denied(address, at, &format!("/{at}"))));
    }
    send(service.addresses()[0].1, &lines, None).await.unwrap();
    let events = hec.wait_for(2, LONG).await;
    let mut found: Vec<_> = events
        .iter()
        .map(|event| {
            event.event["src_ip"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, ["203.0.113.10", "203.0.113.8"]);
    let begin = now();
    loop {
        let seen = scrape(metrics).await;
        let sum = |name: &str, labels: &[(&str, &str)]| seen.sum(name, labels);
        let counts = [
            sum("auditwatch_excluded_hits", &[("exclude", "prober")]),
            sum("auditwatch_excluded_hits", &[("exclude", "old")]),
            sum("auditwatch_filtered_findings", &[("pipeline", "logs")]),
            sum("auditwatch_filter_errors", &[("pipeline", "logs")]),
            sum("auditwatch_hits", &[("pipeline", "logs")]),
        ];
        if counts == [6.0, 0.0, 1.0, 1.0, 24.0].map(Some) {
            break;
        }
        assert!(begin.elapsed() < LONG, "{counts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(service.shutdown(LONG).await);
}
