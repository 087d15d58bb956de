//! Did they get in: successes of sources that scan, through the screen, the watch and the engine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use auditwatch::{
    detection::{
        emission::Emission,
        engine::{Engine, EngineState, HitCounts},
        finding::FindingState,
        hit::{Hit, Role},
        limits::Limits,
        rule::Rule,
        screen::{Screen, ScreenVisitor},
        watch::{Change, Watch},
    },
    pdata::{Sink as _, Walk},
    processor::detection::Detection,
    rules::model,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::sender::request;

const SCANNER: &str = "203.0.113.91";

/// An event at this time, in milliseconds from seven o'clock.
#[expect(clippy::too_many_arguments, reason = "each is one field of the event")]
fn event(at: u64, source: &str, user: &str, verb: &str, uri: &str, code: u16) -> Value {
    let group = match user {
        "system:anonymous" => "system:unauthenticated",
        _ => "system:authenticated",
    };
    let hour = 7 + at / 3_600_000;
    let time = format!(
        "2026-11-{:02}T{:02}:{:02}:{:02}.{:03}000Z",
        25 + hour / 24,
        hour % 24,
        at / 60_000 % 60,
        at / 1000 % 60,
        at % 1000
    );
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
        "auditID": format!("{source}-{at}-{uri}"), "stage": "ResponseComplete",
        "requestURI": uri, "verb": verb,
        "user": {"username": user, "groups": [group]},
        "sourceIPs": [source], "userAgent": "curl/8.5.0",
        "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": time,
    })
}

fn denied(at: u64) -> Value {
    event(
        at,
        SCANNER,
        "system:anonymous",
        "get",
        &format!("/api/v1/secrets/{at}"),
        403,
    )
}

/// Six refused requests, one a second from this time on.
fn scan(from: u64) -> Vec<Value> {
    (0..6).map(|at| denied(from + at * 1000)).collect()
}

fn admin(at: u64) -> Value {
    event(
        at,
        SCANNER,
        "kubernetes-admin",
        "list",
        "/api/v1/namespaces",
        200,
    )
}

fn bytes(events: &[Value], cluster: &str) -> Vec<u8> {
    let texts: Vec<_> = events.iter().map(Value::to_string).collect();
    let mut request: ExportLogsServiceRequest = request(&texts);
    for resource in &mut request.resource_logs {
        let attributes = &mut resource.resource.get_or_insert_default().attributes;
        attributes.retain(|attribute| attribute.key != "k8s.cluster.name");
        attributes.push(
            serde_json::from_value(json!({
                "key": "k8s.cluster.name", "value": {"stringValue": cluster},
            }))
            .unwrap(),
        );
    }
    request.encode_to_vec()
}

/// A pipeline without its tasks.
struct Pipeline {
    detection: Detection,
    /// Arrival of the next request, in nanoseconds.
    now: u64,
}

impl Pipeline {
    fn new(rule: &Rule) -> Self {
        let detections = vec![Arc::new(model::Detection::of(rule))];
        let limits = Limits::default();
        Self {
            detection: Detection::new(rule, detections, limits, &[], None).unwrap(),
            now: 1_795_600_000_000_000_000,
        }
    }

    fn begin(&mut self) -> Walk<ScreenVisitor> {
        self.now += 1_000_000_000;
        Walk::new(self.detection.screen().visitor(self.now))
    }

    fn observe(&mut self, hits: Vec<Hit>) -> Vec<Emission> {
        let mut hits = hits.into_iter();
        let mut out = Vec::new();
        while !hits.as_slice().is_empty() {
            out.extend(self.detection.observe(&mut hits, 64));
        }
        out
    }

    /// Takes a request.
    fn send(&mut self, events: &[Value]) -> Vec<Emission> {
        self.send_from(events, "prod")
    }

    fn send_from(&mut self, events: &[Value], cluster: &str) -> Vec<Emission> {
        let mut walk = self.begin();
        walk.feed(&bytes(events, cluster)).unwrap();
        let hits = walk.finish().unwrap().into_screened().hits;
        self.observe(hits)
    }

    fn tick(&mut self, elapsed: Duration) -> Vec<Emission> {
        self.detection.advance(Duration::ZERO);
        self.detection.advance(elapsed);
        let mut out = Vec::new();
        loop {
            let (findings, is_all) = self.detection.settle(1000);
            out.extend(findings);
            if is_all {
                return out;
            }
        }
    }
}

const HOUR: Duration = Duration::from_hours(1);

fn states(emissions: &[Emission]) -> Vec<&str> {
    emissions.iter().map(|one| one.state.as_str()).collect()
}

/// Asserts that the finding says what is to be known of the success of the administrator.
fn assert_critical(emission: &Emission) {
    let finding = &emission.finding;
    assert_eq!(finding.severity, "critical", "{finding:?}");
    assert_eq!(finding.risk_score, 80);
    assert_eq!(finding.outcome, "success");
    let success = &finding.successes[0];
    assert_eq!(success.user, "kubernetes-admin");
    assert_eq!(success.verb, "list");
    assert_eq!(success.path, "/api/v1/namespaces");
    assert_eq!(success.code, "200");
    assert!(success.audit_id.starts_with(SCANNER) && success.time.is_some());
    let reason = &finding.severity_reasons[0];
    assert!(
        reason
            .starts_with("A request as kubernetes-admin succeeded: list /api/v1/namespaces (200)"),
        "{reason}"
    );
    let (message, source) = (&finding.message, &finding.src_ip);
    let place = format!(" from ip {source} on cluster prod (critical)");
    assert!(
        message.contains(&place) && message.contains(reason),
        "{message}"
    );
    let is_scan = message.starts_with("Kubernetes scanning");
    assert_eq!(message.contains(" refused"), is_scan, "{message}");
}

/// An administrator lists namespaces from the address that scanned, 0.7 seconds after its last
/// refused request.
#[test]
fn a_success_after_a_scan_makes_it_critical_at_once() {
    let mut pipeline = Pipeline::new(&Rule::default());
    let opened = pipeline.send(&scan(0));
    assert_eq!(states(&opened), ["opened"]);
    assert_eq!(
        (
            opened[0].finding.severity.as_str(),
            opened[0].finding.outcome.as_str()
        ),
        ("high", "")
    );
    let updated = pipeline.send(&[admin(5700)]);
    assert_eq!(states(&updated), ["updated"]);
    assert_critical(&updated[0]);
    assert_eq!(updated[0].finding.finding_id, opened[0].finding.finding_id);
    assert_eq!(
        (updated[0].finding.count, updated[0].finding.success_count),
        (6, 1)
    );
    // Later states say it too.
    let later = pipeline.send(&scan(60_000));
    assert_eq!(states(&later), ["updated"]);
    assert_critical(&later[0]);
    assert_eq!(
        (later[0].finding.count, later[0].finding.success_count),
        (12, 1)
    );
}

/// Wherever a success is in the request that opens the finding, or in the one before.
#[test]
fn a_success_near_the_opening_is_found_wherever_it_is() {
    for place in 0..=6 {
        let mut events = scan(10_000);
        events.insert(place, admin(9_000 + 1000 * place as u64));
        // In one request, and cut in two at each place.
        for cut in 0..=events.len() {
            let mut pipeline = Pipeline::new(&Rule::default());
            let (first, second) = events.split_at(cut);
            let mut out = pipeline.send(first);
            out.extend(pipeline.send(second));
            let last = out.last().unwrap();
            assert_critical(last);
            assert_eq!(last.finding.success_count, 1, "{place} {cut}");
        }
    }
}

#[test]
fn a_success_in_a_request_screened_at_the_same_time_is_found() {
    let mut pipeline = Pipeline::new(&Rule::default());
    // It begins before the finding opens, and ends afterwards.
    let mut late = pipeline.begin();
    late.feed(&bytes(&[admin(5000)], "prod")).unwrap();
    assert_eq!(states(&pipeline.send(&scan(0))), ["opened"]);
    let hits = late.finish().unwrap().into_screened().hits;
    assert_eq!(hits.len(), 1);
    assert_critical(&pipeline.observe(hits)[0]);

    // The hits are screened, then the success; then the hits are observed.
    let mut pipeline = Pipeline::new(&Rule::default());
    let mut first = pipeline.begin();
    first.feed(&bytes(&scan(0), "prod")).unwrap();
    let hits = first.finish().unwrap().into_screened().hits;
    assert!(pipeline.send(&[admin(5000)]).is_empty());
    let out = pipeline.observe(hits);
    assert_eq!(states(&out), ["opened", "updated"]);
    assert_critical(&out[1]);
}

#[test]
fn what_is_not_a_success_of_this_source_changes_nothing() {
    let anonymous = |verb, uri, code| event(7000, SCANNER, "system:anonymous", verb, uri, code);
    for other in [
        anonymous("get", "/healthz", 200),
        anonymous("get", "/livez/ping?verbose", 200),
        anonymous("get", "/version", 200),
        anonymous("get", "/apis/apps/v1", 200),
        anonymous("get", "/.well-known/openid-configuration", 200),
        anonymous("list", "/api/v1/pods", 404),
        event(7000, SCANNER, "jane", "list", "/api/v1/pods", 403),
        event(7000, "203.0.113.92", "jane", "list", "/api/v1/pods", 200),
    ] {
        let mut pipeline = Pipeline::new(&Rule::default());
        pipeline.send(&scan(0));
        assert!(
            pipeline.send(std::slice::from_ref(&other)).is_empty(),
            "{other}"
        );
    }
    let mut pipeline = Pipeline::new(&Rule::default());
    pipeline.send(&scan(0));
    assert!(pipeline.send_from(&[admin(7000)], "other").is_empty());
    for success in [
        anonymous("get", "/metrics", 200),
        anonymous("create", "/healthz", 201),
        anonymous("get", "/api/v1/namespaces/default/pods/a/exec", 101),
        event(7000, SCANNER, "jane", "get", "/healthz", 200),
    ] {
        let mut pipeline = Pipeline::new(&Rule::default());
        pipeline.send(&scan(0));
        let out = pipeline.send(std::slice::from_ref(&success));
        assert_eq!(states(&out), ["updated"], "{success}");
        assert_eq!(out[0].finding.severity, "critical");
    }
}

#[test]
fn many_successes_are_counted_once_each_and_sent_as_their_number_doubles() {
    let mut pipeline = Pipeline::new(&Rule::default());
    pipeline.send(&scan(0));
    let successes: Vec<_> = (0..100).map(|at| admin(6000 + at * 10)).collect();
    let mut out = pipeline.send(&successes[..50]);
    out.extend(pipeline.send(&successes));
    let counts: Vec<_> = out.iter().map(|one| one.finding.success_count).collect();
    assert_eq!(counts, [1, 2, 4, 8, 16, 32, 64]);
    assert_eq!(out[6].finding.successes.len(), 10);
    // The first ten by event time, in any order of arrival.
    let mut turned = Pipeline::new(&Rule::default());
    turned.send(&scan(0));
    let mut reverse = successes.clone();
    reverse.reverse();
    turned.send(&reverse);
    let closed = |pipeline: &mut Pipeline| {
        let out = pipeline.tick(HOUR * 2);
        assert_eq!(states(&out), ["closed"]);
        out[0].finding.clone()
    };
    let (one, other) = (closed(&mut pipeline), closed(&mut turned));
    assert_eq!(one.success_count, 100);
    assert_eq!(one, other);
}

/// After the finding is closed, successes are a finding of their own, for a day.
#[test]
fn a_success_after_the_finding_is_closed_makes_a_linked_one() {
    let mut pipeline = Pipeline::new(&Rule::default());
    let scan_id = pipeline.send(&scan(0))[0].finding.finding_id.clone();
    assert_eq!(states(&pipeline.tick(HOUR * 2)), ["closed"]);
    let out = pipeline.send(&[admin(59 * 60_000)]);
    assert_eq!(states(&out), ["opened"]);
    assert_critical(&out[0]);
    let linked = &out[0].finding;
    assert_eq!(linked.related, std::slice::from_ref(&scan_id));
    assert_ne!(linked.finding_id, scan_id);
    assert_eq!(linked.src_ip, SCANNER);
    assert_eq!(
        linked.rule_name,
        "Successful Request from a Scanning Address"
    );
    let out = pipeline.send(&(1..4).map(|at| admin(59 * 60_000 + at)).collect::<Vec<_>>());
    assert_eq!(states(&out), ["updated", "updated"]);
    assert_eq!(out[1].finding.success_count, 4);
    let out = pipeline.tick(HOUR * 2);
    assert_eq!(states(&out), ["closed"]);
    assert_eq!(out[0].finding.related, std::slice::from_ref(&scan_id));
    // A repeated delivery of one of the scan's own time is none of these.
    assert_eq!(out[0].finding.finding_id, linked.finding_id);
    // A day later it is over.
    pipeline.tick(HOUR * 24);
    assert!(pipeline.send(&[admin(59 * 60_000 + 100)]).is_empty());
    // A scan that follows is watched again.
    let later = 40 * 3_600_000;
    assert_eq!(states(&pipeline.send(&scan(later))), ["opened"]);
    assert_eq!(states(&pipeline.send(&[admin(later + 7000)])), ["updated"]);
}

/// The state carries on: what was watched is, and successes are counted on.
#[test]
fn what_is_watched_survives_a_restart() {
    let rule = Rule::default();
    let detection = Arc::new(model::Detection::of(&rule));
    let engine = || Engine::new(vec![Arc::clone(&detection)], Limits::default(), None).watched();
    let watch = Watch::default();
    let screen = Screen::of(
        vec![Arc::clone(&detection)],
        rule.clone(),
        &Limits::default(),
        None,
    )
    .watching(&watch);
    let hits = |events: &[Value]| {
        let mut walk = Walk::new(screen.visitor(1));
        walk.feed(&bytes(events, "prod")).unwrap();
        walk.finish().unwrap().into_screened().hits
    };
    let (mut first, mut out) = (engine(), Vec::new());
    let observe = |engine: &mut Engine, events: &[Value], out: &mut Vec<Emission>| {
        for hit in hits(events) {
            engine.observe(hit, out);
        }
        watch.apply(&engine.changes());
    };
    observe(&mut first, &scan(0), &mut out);
    observe(
        &mut first,
        &[admin(5500), admin(5600), admin(5700)],
        &mut out,
    );
    let bytes = first.export().encode();
    let mut second = engine();
    second.import(EngineState::decode(&bytes).unwrap());
    assert_eq!(second.export().encode(), bytes);
    let known = second.changes();
    assert_eq!(known.len(), 1);
    assert!(known[0].is_watched && &*known[0].key == SCANNER);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    // One of them is a repeated delivery.
    let more = [admin(5700), admin(5800), admin(5900)];
    observe(&mut second, &more, &mut other);
    observe(&mut first, &more, &mut one);
    assert_eq!(one, other);
    assert_eq!(one.last().unwrap().finding.success_count, 4);
}

/// Events as senders, and those who hide behind them, may write them.
fn spelled() -> impl Strategy<Value = String> {
    let source = select(vec![
        r#"["203.0.113.91"]"#,
        r#"["9.9.9.9", "203.0.113.91"]"#,
        r#"["203.0.113.91","10.0.0.7"]"#,
        r#"["2001:db8:0:1::7"]"#,
        r#"["2001:db8:0:2::7"]"#,
        r#"["::ffff:203.0.113.91"]"#,
        r#"["198.51.100.1"]"#,
        r#"["203.0.113.\u0039\u0031"]"#,
        r#"[" 203.0.113.91 "]"#,
        "[]",
        "null",
        r#"["x"]"#,
        "7",
        r#"["203.0.113.91",null]"#,
        r#"["a]","203.0.113.91"]"#,
    ]);
    let key = select(vec![
        "sourceIPs",
        r"source\u0049Ps",
        r"\u0073ourceIPs",
        "sourceips",
    ]);
    let code = select(vec![
        "200", "201", "101", "\"200\"", "2.00e2", "200.5", "404", "403", " 200 ", "null",
    ]);
    let user = select(vec![
        r#"{"username":"jane","groups":["system:authenticated"]}"#,
        r#"{"username":"system:anonymous","groups":["system:unauthenticated"]}"#,
        r#"{"username":"\u0073ystem:anonymous"}"#,
        "{}",
    ]);
    let verb = select(vec!["get", "create", "list"]);
    let uri = select(vec![
        "/healthz",
        "/metrics",
        "/api",
        "/api/v1/pods?limit=5\\u0026a=b",
    ]);
    let other = select(vec![
        "",
        r#","requestObject":{"sourceIPs":["203.0.113.91"]}"#,
        r#","requestObject":{"code":200}"#,
        r#","sourceIPs":["203.0.113.91"]"#,
        r#","annotations":{"a":"\"sourceIPs\":[1]\n\t\\"}"#,
    ]);
    let status = select(vec!["code", r"cod\u0065"]);
    (source, key, (code, status), user, verb, uri, (other, any::<bool>())).prop_map(
        |(source, key, (code, status), user, verb, uri, (other, first))| {
            let sources = format!(r#""{key}":{source}"#);
            let rest = format!(
                r#""verb":"{verb}","requestURI":"{uri}","user":{user},"responseStatus":{{"{status}":{code}}}"#
            );
            if first {
                format!("{{{sources},{rest}{other}}}")
            } else {
                format!("{{{rest}{other},{sources}}}")
            }
        },
    )
}

/// A detection of scans, and a rule that any event may match, so that all are parsed.
fn all_parsed(rule: &Rule) -> Vec<Arc<model::Detection>> {
    let text = "
title: All
logsource: {product: kubernetes, service: audit}
detection: {selection: {verb: nothing}, condition: not selection}
level: low
";
    let all = auditwatch::rules::load::load_text("all.yaml", text, rule).unwrap();
    let mut detections = vec![Arc::new(model::Detection::of(rule))];
    detections.extend(all.detections());
    detections
}

proptest! {
    /// The successes of watched sources are those that a full parse finds.
    #[test]
    fn no_success_of_a_watched_source_is_missed(
        events in vec(spelled(), 1..8),
        watched in vec(select(vec!["203.0.113.91", "10.0.0.7", "2001:db8:0:1::7", "2001:db8:0:1::/64", "unknown"]), 1..3),
        proxies in any::<bool>(),
        ipv6_prefix in select(vec![128, 64]),
        as_map in any::<bool>(),
    ) {
        let rule = Rule {
            trusted_proxies: if proxies { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() },
            ipv6_prefix,
            ..Rule::default()
        };
        let mut request = request(&events);
        if as_map {
            crate::support::sender::as_maps(&mut request);
        }
        let bytes = request.encode_to_vec();
        let found = |detections: Vec<Arc<model::Detection>>| {
            let watch = Watch::default();
            let changes: Vec<_> = watched.iter().map(|address| Change {
                cluster: Arc::from("test"),
                detection: 0,
                key: Arc::from(*address),
                address: Arc::from(*address),
                is_watched: true,
            }).collect();
            watch.apply(&changes);
            let screen = Screen::of(detections, rule.clone(), &Limits::default(), None).watching(&watch);
            // Whatever is due for the memory is read anyway: here nothing is.
            let mut walk = Walk::new(screen.visitor(1));
            walk.feed(&bytes).unwrap();
            let hits = walk.finish().unwrap().into_screened().hits;
            hits.into_iter().filter(|hit| hit.role == Role::Success).collect::<Vec<_>>()
        };
        let wanted = found(all_parsed(&rule));
        prop_assert_eq!(found(vec![Arc::new(model::Detection::of(&rule))]), wanted);
    }

    /// Findings are what the log of inputs says, whatever the slices; no more than the bound.
    #[test]
    fn hits_cause_no_more_than_their_bound(
        inputs in vec((0u64..40, any::<bool>(), 0u64..4000), 1..60),
        ticks in vec((0usize..60, 0u64..3), 0..4),
    ) {
        let rule = Rule { window: 600_000_000, ..Rule::default() };
        let mut pipeline = Pipeline::new(&rule);
        let mut seen: BTreeMap<String, FindingState> = BTreeMap::new();
        for (number, (at, is_success, offset)) in inputs.iter().enumerate() {
            for (_, hours) in ticks.iter().filter(|(place, _)| *place == number) {
                pipeline.tick(HOUR * u32::try_from(*hours).unwrap());
            }
            let at = at * 30_000 + offset;
            let event = if *is_success { admin(at) } else { denied(at) };
            let mut walk = pipeline.begin();
            walk.feed(&bytes(&[event], "prod")).unwrap();
            let hits = walk.finish().unwrap().into_screened().hits;
            let mut counts = HitCounts::default();
            pipeline.detection.count(&hits, &mut counts);
            let bound = pipeline.detection.bound_of(&mut counts, usize::MAX);
            let due = pipeline.observe(hits);
            // What time makes due is not among them.
            let caused = due.iter().filter(|one| one.state != FindingState::Closed);
            prop_assert!(caused.count() <= bound + 1, "{:?}", states(&due));
            for one in due {
                seen.insert(one.finding.finding_id.clone(), one.state);
                let is_critical = one.finding.severity == "critical";
                prop_assert_eq!(is_critical, one.finding.success_count > 0);
            }
        }
    }
}
