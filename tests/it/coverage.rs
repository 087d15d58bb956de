//! Blind spots of clusters: what opens, updates and closes each, and what must not.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use auditwatch::{
    detection::{
        Finding,
        activity::{Activities, Activity, MAX_CLUSTERS},
        engine::{Engine, EngineState},
        hit::Hit,
        limits::Limits,
        rule::{Rule, Semantics},
        screen::{Screen, Screened},
        time::Micros,
    },
    rules::{load, model::Detection, switches::Switches},
};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use crate::support::{
    hits::{SECOND, START, drain, findings, hit, observe, tick},
    otlp::{LogRecord, Request, Resource, ResourceLogs, ScopeLogs, Value, holding, pair},
    props::cases,
};

const MINUTE: Duration = Duration::from_mins(1);

/// The detection of scans, and the rules about feeds.
fn detections() -> Vec<Arc<Detection>> {
    load::pipeline(&Rule::default(), &Switches::default(), &[]).unwrap()
}

fn engine() -> Engine {
    Engine::new(detections(), Limits::default(), None)
}

/// What arrives of a cluster: so many events at this time after the start.
fn events(events: u64, minute: i64) -> Activity {
    Activity {
        records: events,
        events,
        last: Some(Micros(START + minute * 60 * SECOND)),
        ..Activity::default()
    }
}

fn give(engine: &mut Engine, cluster: &str, activity: &Activity) -> Vec<Finding> {
    let mut all = Activities::default();
    all.add(cluster, activity);
    let mut out = Vec::new();
    engine.activity(&all, &mut out);
    findings(out)
}

/// Ticks of a minute each; the findings of the rule of this name.
fn minutes(engine: &mut Engine, minutes: u32, title: &str) -> Vec<Finding> {
    let all = (0..minutes).flat_map(|_| tick(engine, MINUTE));
    all.filter(|finding| finding.rule_name == title).collect()
}

fn states(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|one| one.state.as_str()).collect()
}

/// A measure, in whole numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "measures here are counts and whole shares"
)]
fn measure(finding: &Finding, name: &str) -> u64 {
    finding.measures[name] as u64
}

const SILENT: &str = "Audit Log Of A Cluster Is Silent";
const ONLY_401: &str = "Cluster Answers 401 And Never 403";
const CUT: &str = "Audit Events Are Cut On Their Way";
const SKEW: &str = "Event Times Of A Cluster Are Off";
const FLOOD: &str = "Flood Of Sources";
const NAMES: &str = "More Clusters Than Are Watched";

#[test]
fn a_cluster_that_falls_silent_is_found_and_talks_again() {
    let mut engine = engine();
    for minute in 0..10 {
        give(&mut engine, "prod", &events(20, minute));
        assert_eq!(minutes(&mut engine, 1, SILENT), []);
    }
    // The last minute of those ten has passed without an event already.
    assert_eq!(minutes(&mut engine, 58, SILENT), []);
    let opened = minutes(&mut engine, 1, SILENT);
    assert_eq!(states(&opened), ["opened"]);
    let one = &opened[0];
    assert_eq!((one.cluster.as_str(), one.src_ip.as_str()), ("prod", ""));
    assert_eq!((one.severity.as_str(), one.risk_score), ("medium", 40));
    assert_eq!(one.message, "no audit event from cluster prod for an hour");
    assert_eq!(measure(one, "silent_seconds"), 3600);
    assert_eq!(
        one.first_time.unwrap().seconds,
        (START + 9 * 60 * SECOND) / SECOND
    );
    // By doubling: after two, four, eight hours.
    let updated = minutes(&mut engine, 9 * 60, SILENT);
    assert_eq!(states(&updated), ["updated"; 3]);
    assert_eq!(measure(&updated[2], "silent_seconds"), 8 * 3600);
    give(&mut engine, "prod", &events(1, 620));
    let closed = minutes(&mut engine, 1, SILENT);
    assert_eq!(states(&closed), ["closed"]);
    assert_eq!(closed[0].close_reason, "quiet");
    assert_eq!(measure(&closed[0], "silent_seconds"), 10 * 3600);
    let all = [opened, updated, closed].concat();
    let ids: BTreeSet<_> = all.iter().map(|one| &one.finding_id).collect();
    assert_eq!(ids.len(), 1);
    // The next one is another.
    let again = minutes(&mut engine, 59, SILENT);
    assert_eq!(states(&again), ["opened"]);
    assert!(!ids.contains(&again[0].finding_id));
}

/// Few events, none for an hour now and then: that is a small cluster and no blind spot.
#[test]
fn a_small_cluster_and_one_that_is_often_silent_are_no_blind_spots() {
    let mut engine = engine();
    give(&mut engine, "small", &events(99, 0));
    assert_eq!(minutes(&mut engine, 600, SILENT), []);
    // Talks each 90 minutes: found three times, then known for it.
    let mut found = Vec::new();
    for spell in 0..14 {
        give(&mut engine, "sparse", &events(200, spell * 90));
        found.extend(minutes(&mut engine, 90, SILENT));
    }
    found.retain(|one| one.state == "opened");
    assert_eq!(found.len(), 3, "{:?}", states(&found));
    // Twice the longest silence is found all the same.
    assert_eq!(states(&minutes(&mut engine, 90, SILENT)), ["opened"]);
}

fn refused(id: u32, cluster: &str, code: u16, minute: i64) -> Hit {
    Hit {
        code,
        ..hit(id, cluster, "192.0.2.1", minute * 60 * SECOND)
    }
}

#[test]
fn answers_401_alone_for_a_day_are_found_and_a_403_ends_it() {
    let tick = |engine: &mut Engine| minutes(engine, 1, ONLY_401);
    let mut engine = engine();
    for id in 0..49 {
        observe(&mut engine, &refused(id, "off", 401, i64::from(id) * 30));
        // With a 403 now and then.
        let code = if id == 20 { 403 } else { 401 };
        observe(&mut engine, &refused(id, "on", code, i64::from(id) * 30));
        // Few, or in few hours.
        if id % 4 == 0 {
            observe(&mut engine, &refused(id, "few", 401, i64::from(id) * 30));
        }
        let minute = if id == 48 { 1440 } else { i64::from(id) };
        observe(&mut engine, &refused(id, "burst", 401, minute));
        if id < 48 {
            assert_eq!(tick(&mut engine), []);
        }
    }
    let opened = tick(&mut engine);
    assert_eq!(states(&opened), ["opened"]);
    let one = &opened[0];
    assert_eq!((one.cluster.as_str(), one.count), ("off", 49));
    assert_eq!(
        (one.severity.as_str(), one.risk_score),
        ("informational", 0)
    );
    assert_eq!(one.count_by_code["401"], 49);
    assert_eq!(measure(one, "hours_without_403"), 24);
    assert_eq!(tick(&mut engine), []);
    observe(&mut engine, &refused(100, "off", 403, 1500));
    let closed = tick(&mut engine);
    assert_eq!(states(&closed), ["closed"]);
    assert_eq!(closed[0].finding_id, opened[0].finding_id);
}

#[test]
fn a_share_of_cut_events_is_found() {
    let cut = |events: u64, truncated: u64| Activity {
        truncated,
        cut_bytes: 32_766,
        ..self::events(events, 0)
    };
    let mut engine = engine();
    // Below two percent, and too few.
    give(&mut engine, "large", &cut(10_000, 199));
    give(&mut engine, "small", &cut(30, 19));
    assert_eq!(minutes(&mut engine, 1, CUT), []);
    give(&mut engine, "prod", &cut(50, 50));
    let opened = minutes(&mut engine, 1, CUT);
    assert_eq!(states(&opened), ["opened"]);
    let one = &opened[0];
    assert_eq!((one.cluster.as_str(), one.count), ("prod", 50));
    assert_eq!(
        one.message,
        "50 audit events of cluster prod were cut on their way"
    );
    assert_eq!(measure(one, "cut_bytes"), 32_766);
    assert_eq!(measure(one, "truncated_percent"), 100);
    give(&mut engine, "prod", &cut(60, 60));
    let updated = minutes(&mut engine, 1, CUT);
    assert_eq!((states(&updated), updated[0].count), (vec!["updated"], 110));
    assert_eq!(updated[0].new.as_ref().unwrap().count, 60);
    // An hour later none of them is in the window.
    let closed = minutes(&mut engine, 70, CUT);
    assert_eq!((states(&closed), closed[0].count), (vec!["closed"], 110));
}

#[test]
fn times_that_are_off_for_an_hour_are_found() {
    let skewed = |late: u64, ahead: u64| {
        let mut activity = events(100, 0);
        activity.delays.events = 100;
        (activity.delays.late, activity.delays.ahead) = (late, ahead);
        activity.delays.buckets[12] = late;
        activity.delays.buckets[0] = 100 - late;
        activity
    };
    let mut engine = engine();
    let mut found = Vec::new();
    for minute in 0..130 {
        give(&mut engine, "late", &skewed(60, 0));
        give(&mut engine, "ahead", &skewed(0, 5));
        give(&mut engine, "good", &skewed(50, 4));
        // A backlog of half an hour.
        give(
            &mut engine,
            "backlog",
            &skewed(if minute < 30 { 90 } else { 10 }, 0),
        );
        found.extend(minutes(&mut engine, 1, SKEW));
    }
    let opened: Vec<_> = found.iter().filter(|one| one.state == "opened").collect();
    let clusters: Vec<_> = opened.iter().map(|one| one.cluster.as_str()).collect();
    assert_eq!(clusters, ["ahead", "late"]);
    assert_eq!(measure(opened[1], "late_percent"), 60);
    assert_eq!(measure(opened[1], "median_delay_seconds"), 2048);
    assert_eq!(measure(opened[0], "ahead_percent"), 5);
    for _ in 0..40 {
        give(&mut engine, "late", &skewed(0, 0));
        give(&mut engine, "ahead", &skewed(0, 0));
        found.extend(minutes(&mut engine, 1, SKEW));
    }
    let closed = found.iter().filter(|one| one.state == "closed").count();
    assert_eq!(closed, 2);
}

#[test]
fn a_flood_is_a_finding_with_its_networks() {
    let limits = Limits {
        keys: 500,
        ..Limits::default()
    };
    let mut engine = Engine::new(detections(), limits, None);
    let mut id = 0_u32;
    let mut flood = |engine: &mut Engine, hits: u32| {
        for _ in 0..hits {
            id += 1;
            let [_, a, b, c] = id.wrapping_mul(2_654_435_761).to_be_bytes();
            let key = if id.is_multiple_of(3) {
                format!("203.0.113.{c}")
            } else {
                format!("{}.{b}.{c}.{}", a % 100 + 1, id % 250)
            };
            observe(engine, &hit(id, "prod", &key, i64::from(id) * 1000));
        }
    };
    flood(&mut engine, 9000);
    assert_eq!(minutes(&mut engine, 2, FLOOD), []);
    flood(&mut engine, 16_000);
    let opened = minutes(&mut engine, 1, FLOOD);
    assert_eq!(states(&opened), ["opened"]);
    let one = &opened[0];
    assert_eq!(
        (one.cluster.as_str(), one.severity.as_str()),
        ("prod", "medium")
    );
    assert!(one.count > 10_000, "{}", one.count);
    assert_eq!(measure(one, "evictions"), one.count);
    assert!(one.measures["evicted_hits_bound"] >= 1.0);
    assert!(one.measures["evictions_in_window"] > 10_000.0);
    assert_eq!(one.members[0].source, "203.0.113.0/24");
    assert_eq!(
        one.message,
        format!(
            "flood of sources in cluster prod: {} were evicted",
            one.count
        )
    );
    flood(&mut engine, 40_000);
    let updated = minutes(&mut engine, 1, FLOOD);
    assert_eq!(states(&updated), ["updated"]);
    let closed = minutes(&mut engine, 15, FLOOD);
    assert_eq!(states(&closed), ["closed"]);
    assert_eq!(closed[0].finding_id, one.finding_id);
    assert!(closed[0].count > one.count);
}

/// Names that a sender invents: findings have a bound, one says that it is reached, and clusters with
/// events keep their place.
#[test]
fn invented_names_make_a_bounded_number_of_findings() {
    let mut engine = engine();
    give(&mut engine, "real", &events(100_000, 0));
    for number in 0..MAX_CLUSTERS - 1 {
        give(
            &mut engine,
            &format!("invented-{number:05}"),
            &events(100, 0),
        );
    }
    assert_eq!(minutes(&mut engine, 1, NAMES), []);
    let mut found = Vec::new();
    for _ in 0..3 * 60 {
        give(&mut engine, "real", &events(10, 1));
        found.extend(tick(&mut engine, MINUTE));
    }
    let opened = |title: &str| {
        let all = found.iter().filter(|one| one.state == "opened");
        all.filter(|one| one.rule_name == title).count()
    };
    assert_eq!((opened(SILENT), opened(NAMES)), (100, 1));
    // More names than there are places: each takes that of another without a finding.
    let bytes = engine.heap_bytes();
    for number in 0..5 * MAX_CLUSTERS {
        give(
            &mut engine,
            &format!("more-{number:05}-{}", "x".repeat(200)),
            &events(1, 2),
        );
    }
    assert!(engine.heap_bytes() < bytes + MAX_CLUSTERS * 500);
    let updated = minutes(&mut engine, 1, NAMES);
    assert_eq!(states(&updated), ["updated"]);
    assert_eq!(measure(&updated[0], "clusters"), 1024);
    assert!(
        updated[0].members[0].source.starts_with("more-0"),
        "{:?}",
        updated[0].members
    );
    assert_eq!(updated[0].members.len(), 10);
    // The real one is still known.
    let found = minutes(&mut engine, 70, SILENT);
    let real = found.iter().filter(|one| one.cluster == "real").count();
    assert_eq!(real, 0, "no place among the findings, though it is silent");
}

#[test]
fn blind_spots_close_at_the_end_and_are_for_native_semantics_alone() {
    let mut engine = engine();
    give(&mut engine, "prod", &events(200, 0));
    assert_eq!(states(&minutes(&mut engine, 60, SILENT)), ["opened"]);
    let end = drain(&mut engine);
    assert_eq!(states(&end), ["closed"]);
    assert_eq!(end[0].close_reason, "shutdown");
    assert_eq!(drain(&mut engine), []);

    let kinds = |rule: &Rule, blind_spots| {
        let switches = Switches {
            blind_spots,
            ..Switches::default()
        };
        let all = load::pipeline(rule, &switches, &["pod_exec".to_owned()]).unwrap();
        all.iter().filter(|one| one.blind_spot.is_some()).count()
    };
    assert_eq!(kinds(&Rule::default(), true), 6);
    assert_eq!(kinds(&Rule::default(), false), 0);
    let only_401 = Rule {
        codes: vec![401],
        ..Rule::default()
    };
    assert_eq!(kinds(&only_401, true), 5);
    let escu = Rule {
        semantics: Semantics::Escu,
        ..Rule::default()
    };
    assert_eq!(kinds(&escu, true), 0);
}

/// One input of the engine.
#[derive(Clone, Debug)]
enum Input {
    Hit(u32, usize, u16, i64),
    Activity(usize, Box<Activity>),
    Tick(u64),
}

const CLUSTERS: [&str; 3] = ["", "a", "b"];

fn input() -> impl Strategy<Value = Input> {
    let activity = (0_u64..300, 0_u64..200, 0_u64..100, 0_i64..5000).prop_map(
        |(events, truncated, off, minute)| {
            let mut activity = self::events(events + truncated, minute);
            (activity.truncated, activity.cut_bytes) = (truncated, truncated);
            activity.delays.events = events;
            activity.delays.late = off.min(events);
            activity
        },
    );
    prop_oneof![
        4 => (0_u32..5000, 0_usize..3, prop_oneof![9 => Just(401_u16), 1 => Just(403)], 0_i64..5000)
            .prop_map(|(id, cluster, code, minute)| Input::Hit(id, cluster, code, minute)),
        3 => (0_usize..3, activity).prop_map(|(cluster, activity)| Input::Activity(cluster, Box::new(activity))),
        3 => (1_u64..120).prop_map(Input::Tick),
    ]
}

fn apply(engine: &mut Engine, input: &Input) -> Vec<Finding> {
    match input {
        Input::Hit(id, cluster, code, minute) => {
            observe(engine, &refused(*id, CLUSTERS[*cluster], *code, *minute))
        }
        Input::Activity(cluster, activity) => give(engine, CLUSTERS[*cluster], activity),
        Input::Tick(minutes) => tick(engine, Duration::from_mins(*minutes)),
    }
}

/// The findings about feeds.
fn feeds(found: impl IntoIterator<Item = Finding>) -> Vec<Finding> {
    let titles = [SILENT, ONLY_401, CUT, SKEW, FLOOD, NAMES];
    let found = found.into_iter();
    found
        .filter(|one| titles.contains(&one.rule_name.as_str()))
        .collect()
}

proptest! {
    #![proptest_config(cases(40))]

    /// However hits and activity are batched and ordered between two ticks, blind spots are the
    /// same; and so they are when the state is written and read.
    #[test]
    fn batches_and_restarts_change_nothing(
        inputs in vec(input(), 1..150),
        cut in 0_usize..150,
    ) {
        let (mut one, mut other) = (engine(), engine());
        let (mut found, mut others) = (Vec::new(), Vec::new());
        // Between ticks, hits in reverse, then all activity as one input.
        let mut waiting = (Vec::new(), Activities::default());
        for (at, input) in inputs.iter().enumerate() {
            found.extend(apply(&mut one, input));
            match input {
                Input::Hit(..) => waiting.0.push(input.clone()),
                Input::Activity(cluster, activity) => waiting.1.add(CLUSTERS[*cluster], activity),
                Input::Tick(_) => {
                    let (hits, activity) = std::mem::take(&mut waiting);
                    let mut out = Vec::new();
                    other.activity(&activity, &mut out);
                    others.extend(findings(out));
                    for hit in hits.iter().rev() {
                        others.extend(apply(&mut other, hit));
                    }
                    others.extend(apply(&mut other, input));
                }
            }
            if at == cut {
                let bytes = other.export().encode();
                other = engine();
                other.import(EngineState::decode(&bytes).unwrap());
                prop_assert_eq!(other.export().encode(), bytes);
            }
        }
        prop_assert_eq!(feeds(found), feeds(others));
    }

    /// A state that was damaged is refused or read, and the engine goes on.
    #[test]
    fn damaged_state_does_no_harm(inputs in vec(input(), 1..60), at: prop::sample::Index, flip: u8) {
        let mut one = engine();
        for input in &inputs {
            apply(&mut one, input);
        }
        let mut bytes = one.export().encode();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(state) = EngineState::decode(&bytes) {
            let mut other = engine();
            other.import(state);
            for input in &inputs {
                apply(&mut other, input);
            }
        }
    }
}

fn screened(bodies: &[Vec<u8>], cluster: &str) -> Screened {
    static SCREEN: LazyLock<Screen> =
        LazyLock::new(|| Screen::of(detections(), Rule::default(), &Limits::default(), None));
    let records = bodies.iter().map(|body| LogRecord {
        observed_time_unix_nano: 1_764_055_023_000_000_000,
        body: holding(Value::Text(body.clone())),
        ..Default::default()
    });
    let request = Request {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![pair("k8s.cluster.name", Value::Text(cluster.into()))],
                ..Default::default()
            }),
            scope_logs: vec![ScopeLogs {
                log_records: records.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    let mut request_of = SCREEN.begin(1_764_055_023_000_000_000);
    request_of.feed(&request.encode_to_vec()).unwrap();
    request_of.finish().unwrap()
}

/// As an API server writes it; the code comes late, and braces are everywhere.
fn audit_event(padding: usize) -> String {
    let (before, after) = (padding / 2, padding - padding / 2);
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a","stage":"ResponseComplete","requestURI":"/x?{{\"{}","verb":"list","user":{{"username":"system:anonymous","groups":["system:unauthenticated"]}},"sourceIPs":["192.0.2.1"],"requestObject":{{"a":{{"b":{{}}}},"c":"{}"}},"responseStatus":{{"metadata":{{}},"code":403}},"requestReceivedTimestamp":"2025-11-25T07:17:03.000000Z","annotations":{{"authorization.k8s.io/decision":"forbid"}}}}"#,
        "x".repeat(before),
        "}".repeat(after),
    )
}

fn counted(bodies: &[Vec<u8>]) -> (u64, u64, Screened) {
    let screened = screened(bodies, "prod");
    let (cluster, activity) = screened.activity.iter().next().unwrap();
    assert_eq!(&**cluster, "prod");
    (activity.truncated, activity.events, screened.clone())
}

/// The row of the issue: 50 events cut at 32,766 bytes, the code behind the cut.
#[test]
fn events_cut_by_their_transport_are_counted() {
    let event = audit_event(40_000);
    let cut = event.as_bytes()[..32_766].to_vec();
    let (truncated, events, screened) = counted(&vec![cut; 50]);
    assert_eq!((truncated, events), (50, 50));
    assert_eq!(
        (
            screened.hits.len(),
            screened.candidates,
            screened.unreadable
        ),
        // Each is looked at for `anonymous_success`, and none is rejected.
        (0, 50, 0)
    );
    // Whole ones are not, whatever their length and what follows them.
    for padding in 31_000..34_000 {
        if padding % 7 == 0 || (32_300..32_400).contains(&padding) {
            let mut event = audit_event(padding).into_bytes();
            event.extend_from_slice(if padding % 2 == 0 { b"" } else { b" \n" });
            let (truncated, events, screened) = counted(&[event]);
            assert_eq!(
                (truncated, events, screened.hits.len()),
                (0, 1, 1),
                "{padding}"
            );
        }
    }
    // Other logs are none of it, and lines of an event that was divided are no beginnings.
    for text in ["{", "{\"level\":\"info\",\"msg\":\"x", "x\"}}", "[1", ""] {
        let (truncated, events, _) = counted(&[text.as_bytes().to_vec(), b"x".to_vec()]);
        assert_eq!((truncated, events), (0, 0), "{text}");
    }
}

/// Wherever an event is cut. Where the cut is behind a brace, it takes a length at which transports
/// cut, or another event that was cut there.
#[test]
fn a_cut_is_seen_wherever_it_is() {
    let event = audit_event(100).into_bytes();
    for end in 50..event.len() {
        let cut = event[..end].to_vec();
        let (truncated, ..) = counted(std::slice::from_ref(&cut));
        let is_behind_the_code = end > 560;
        if cut.last() != Some(&b'}') || is_behind_the_code {
            assert_eq!(truncated, 1, "{}", String::from_utf8_lossy(&cut));
        }
        // One of the same length before it, cut within a text.
        let mut other = audit_event(2000).into_bytes();
        other.truncate(end);
        let (truncated, ..) = counted(&[other.clone(), cut.clone()]);
        if other.last() != Some(&b'}') {
            assert_eq!(truncated, 2, "{}", String::from_utf8_lossy(&cut));
        }
    }
    // 32,766 bytes, each with another end.
    for padding in 32_000..34_000 {
        let mut cut = audit_event(padding).into_bytes();
        if cut.len() > 32_766 {
            cut.truncate(32_766);
            assert_eq!(counted(&[cut]).0, 1, "{padding}");
        }
    }
}

/// In other forms a feed is known by what its keys are, in a sample.
#[test]
fn events_are_known_in_every_form() {
    let event = audit_event(0);
    let value: serde_json::Value = serde_json::from_str(&event).unwrap();
    let mut sorted = value.clone();
    sorted.as_object_mut().unwrap().remove("kind");
    let forms = [
        event.clone(),
        format!(" \n{event}"),
        format!("{event}\r\n"),
        sorted.to_string(),
        serde_json::to_string_pretty(&value).unwrap(),
    ];
    for form in forms {
        let (truncated, events, screened) = counted(&vec![form.clone().into_bytes(); 100]);
        assert_eq!(
            (truncated, events, screened.hits.len()),
            (0, 100, 100),
            "{form}"
        );
        let (_, activity) = screened.activity.iter().next().unwrap();
        assert_eq!(
            (activity.records, activity.candidates, activity.hits),
            (100, 100, 100)
        );
        assert_eq!(activity.last, Some(Micros(1_764_055_023_000_000)));
        assert_eq!((activity.delays.events, activity.delays.late), (100, 0));
        let cut = form.as_bytes()[..form.len() - 30].to_vec();
        assert_eq!(counted(&vec![cut; 3]).0, 3, "{form}");
    }
}

/// What a sender writes as the time of a record has no effect beyond five minutes.
#[test]
fn the_time_of_a_record_is_not_believed_if_it_is_ahead() {
    let record = LogRecord {
        time_unix_nano: u64::MAX,
        body: holding(Value::Text(b"x".to_vec())),
        ..Default::default()
    };
    let request = Request {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![record],
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    let screen = Screen::new(Rule::default(), 64, None);
    let mut screening = screen.begin(1_764_055_023_000_000_000);
    screening.feed(&request.encode_to_vec()).unwrap();
    let screened = screening.finish().unwrap();
    let (_, activity) = screened.activity.iter().next().unwrap();
    assert_eq!(activity.last, Some(Micros(1_764_055_323_000_000)));
}
