//! The screen against a full parse of every record: the byte filter may only say "cannot match".

use auditwatch::detection::{
    event::Event,
    fields::AuditField,
    hit::Hit,
    json::{self, Document},
    rule::{Rule, SECOND, Semantics, Who, parse_proxy},
    screen::{Screen, Screened},
    time::Micros,
};
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message as _;

use crate::support::{
    corpus,
    events::{RECEIVED, event},
    json::{J, Noise, map, n, s},
    judge::judge,
    otlp::{
        self, KeyValueList, LogRecord, Request, Resource, ResourceLogs, ScopeLogs, holding, pair,
    },
    props::cases,
};

/// Where a record holds what.
#[derive(Clone, Debug)]
enum Form {
    Text(J),
    Bytes(J),
    Map(J),
    /// The attributes hold the event; the body is a line of some other log, or absent.
    Attributes(J, Option<&'static str>),
    /// Both hold one; the body's counts.
    Both(J, J),
    /// A body that is no event.
    Foreign(String),
}

#[derive(Clone, Debug)]
struct Entry {
    form: Form,
    time: Option<i64>,
    observed: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Batch {
    cluster: Option<&'static str>,
    resource_last: bool,
    entries: Vec<Entry>,
}

fn form() -> impl Strategy<Value = Form> {
    let foreign = select(vec![
        "",
        "a line",
        "[1]",
        "null",
        "{\"code\":403}",
        "{\"items\":[]}",
        "403",
    ]);
    prop_oneof![
        6 => event().prop_map(Form::Text),
        2 => event().prop_map(Form::Bytes),
        4 => event().prop_map(|event| Form::Map(parsed(&event))),
        3 => (event(), prop::option::of(foreign.clone()))
            .prop_map(|(event, body)| Form::Attributes(parsed(&event), body)),
        2 => (event(), event()).prop_map(|(body, event)| Form::Both(body, parsed(&event))),
        1 => foreign.prop_map(|text| Form::Foreign(text.to_owned())),
    ]
}

pub(crate) fn batch() -> impl Strategy<Value = Batch> {
    let around = || prop::option::of((-4000i64..4000).prop_map(|s| RECEIVED + s * SECOND));
    let entry = (form(), around(), around()).prop_map(|(form, time, observed)| Entry {
        form,
        time,
        observed,
    });
    let cluster = prop::option::of(select(vec!["a", "b", ""]));
    (cluster, any::<bool>(), vec(entry, 0..6)).prop_map(|(cluster, resource_last, entries)| Batch {
        cluster,
        resource_last,
        entries,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let codes = select(vec![vec![401, 403], vec![403], vec![401], vec![200, 403]]);
    let proxies = select(vec![
        vec![],
        vec!["10.20.0.0/24"],
        vec!["10.0.0.0/8", "fd00::/8"],
    ]);
    let field = select(vec!["requestReceivedTimestamp", "stageTimestamp"]);
    (
        any::<bool>(),
        codes,
        any::<bool>(),
        proxies,
        select(vec![128u8, 64]),
        field,
    )
        .prop_map(|(escu, codes, group, proxies, ipv6_prefix, field)| Rule {
            semantics: if escu {
                Semantics::Escu
            } else {
                Semantics::Native
            },
            codes,
            who: if group { Who::Group } else { Who::Any },
            trusted_proxies: proxies
                .iter()
                .map(|net| parse_proxy(net).unwrap())
                .collect(),
            ipv6_prefix,
            time_field: field.to_owned(),
            ..Rule::default()
        })
}

/// A JSON value as a collector's parser leaves it: numbers are doubles.
fn parsed(value: &J) -> J {
    match value {
        J::Num(text) => {
            let number: f64 = text.parse().unwrap();
            n(&(if number.is_finite() { number } else { 7.0 }).to_string())
        }
        J::List(list) => J::List(list.iter().map(parsed).collect()),
        J::Map(members) => J::Map(
            members
                .iter()
                .map(|(key, value)| (key.clone(), parsed(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The same as OTLP carries it; by chance a whole number as one.
pub(crate) fn carried(value: &J, noise: &mut Noise) -> Option<otlp::AnyValue> {
    holding(match value {
        J::Null => return None,
        J::Bool(value) => otlp::Value::Bool(*value),
        J::Num(text) => match text.parse() {
            Ok(number) if noise.below(2) == 1 && text != "-0" => otlp::Value::Int(number),
            _ => otlp::Value::Double(text.parse().unwrap()),
        },
        J::Str(text) | J::Time(text, _) => otlp::Value::Text(text.clone().into_bytes()),
        J::List(list) => otlp::Value::Array(otlp::ArrayValue {
            values: list
                .iter()
                .map(|value| carried(value, noise).unwrap_or_default())
                .collect(),
        }),
        J::Map(_) => otlp::Value::Map(KeyValueList {
            values: members(value, noise),
        }),
    })
}

fn members(value: &J, noise: &mut Noise) -> Vec<otlp::KeyValue> {
    let J::Map(members) = value else {
        return Vec::new();
    };
    let pairs = members.iter().map(|(key, value)| otlp::KeyValue {
        key: key.clone().into_bytes(),
        value: carried(value, noise),
        key_strindex: 0,
    });
    pairs.collect()
}

/// The record, and the texts that hold what its body and its attributes hold.
fn record(entry: &Entry, noise: &mut Noise) -> (LogRecord, Option<String>, Option<String>) {
    let text = |text: &str| holding(otlp::Value::Text(text.as_bytes().to_vec()));
    let nanos = |time: Option<i64>| time.map_or(0, |time| time.cast_unsigned() * 1000 + 7);
    let mut record = LogRecord {
        time_unix_nano: nanos(entry.time),
        observed_time_unix_nano: nanos(entry.observed),
        attributes: vec![pair(
            "log.file.path",
            otlp::Value::Text(b"/audit.log".to_vec()),
        )],
        ..Default::default()
    };
    let (body, attributes) = match &entry.form {
        Form::Text(event) => {
            let spelled = event.spell(noise);
            record.body = text(&spelled);
            (Some(spelled), None)
        }
        Form::Bytes(event) => {
            let spelled = event.spell(noise);
            record.body = holding(otlp::Value::Bytes(spelled.clone().into_bytes()));
            (Some(spelled), None)
        }
        Form::Map(event) => {
            record.body = carried(event, noise);
            (Some(event.spell(noise)), None)
        }
        Form::Attributes(event, body) => {
            record.body = body.and_then(text);
            record.attributes.extend(members(event, noise));
            (body.map(str::to_owned), Some(event.spell(noise)))
        }
        Form::Both(body, event) => {
            let spelled = body.spell(noise);
            record.body = text(&spelled);
            record.attributes.extend(members(event, noise));
            (Some(spelled), Some(event.spell(noise)))
        }
        Form::Foreign(body) => {
            record.body = text(body);
            (Some(body.clone()), None)
        }
    };
    (record, body, attributes)
}

/// An audit event in a text, read in full.
fn full<'t>(text: &'t str, rule: &Rule) -> Option<Event<'t>> {
    match json::read(text, &rule.time_field) {
        Ok(Document::Event(event)) => Some(*event).filter(Event::is_audit_event),
        _ => None,
    }
}

/// The hit of a record by a full parse.
fn wanted(entry: &Entry, held: (Option<&str>, Option<&str>), rule: &Rule) -> Option<Hit> {
    let event = held
        .0
        .and_then(|body| full(body, rule))
        .or_else(|| held.1.and_then(|attributes| full(attributes, rule)))?;
    let mut hit = judge(&event, rule)?;
    let now = entry.observed.unwrap_or(RECEIVED).min(RECEIVED);
    let time = hit.time.map(|time| time.0).or(entry.time).unwrap_or(now);
    hit.clamped = time > now + 300 * SECOND;
    hit.time = Some(Micros(if hit.clamped { now } else { time }));
    Some(hit)
}

/// The bytes of a request, and the hits a full parse of it gives.
pub(crate) fn request(batches: &[Batch], rule: &Rule, noise: &mut Noise) -> (Vec<u8>, Vec<Hit>) {
    let mut bytes = Vec::new();
    let mut hits = Vec::new();
    for batch in batches {
        let mut scope = ScopeLogs::default();
        for entry in &batch.entries {
            let (record, body, attributes) = record(entry, noise);
            scope.log_records.push(record);
            if let Some(mut hit) = wanted(entry, (body.as_deref(), attributes.as_deref()), rule) {
                hit.cluster = batch.cluster.unwrap_or_default().into();
                hits.push(hit);
            }
        }
        let resource = batch.cluster.map(|cluster| Resource {
            attributes: vec![pair(
                "k8s.cluster.name",
                otlp::Value::Text(cluster.as_bytes().to_vec()),
            )],
            ..Default::default()
        });
        let group = otlp::group(resource, scope, batch.resource_last);
        prost::encoding::bytes::encode(1, &group, &mut bytes);
    }
    (bytes, hits)
}

fn screen(rule: &Rule, bytes: &[u8], cut: usize) -> Screened {
    let received = RECEIVED.cast_unsigned() * 1000;
    let mut screening = Screen::new(rule.clone(), usize::MAX, None).begin(received);
    for piece in bytes.chunks(cut) {
        screening.feed(piece).unwrap();
    }
    screening.finish().unwrap()
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn the_screen_is_a_full_parse(
        batches in vec(batch(), 1..4),
        rule in rule(),
        seed in any::<u64>(),
        cut in 1usize..400,
    ) {
        let (bytes, hits) = request(&batches, &rule, &mut Noise::new(seed));
        let whole = screen(&rule, &bytes, usize::MAX);
        prop_assert_eq!(&whole.hits, &hits);
        prop_assert_eq!(whole.unreadable, 0);
        let records: usize = batches.iter().map(|batch| batch.entries.len()).sum();
        prop_assert_eq!(whole.records, records as u64);
        prop_assert_eq!(screen(&rule, &bytes, cut), whole);
    }

    #[test]
    fn nothing_comes_out_of_a_request_that_ends_badly(
        batch in batch(),
        rule in rule(),
        cut in any::<prop::sample::Index>(),
    ) {
        let (bytes, _) = request(&[batch], &rule, &mut Noise::new(0));
        let cut = cut.index(bytes.len());
        let mut screening = Screen::new(rule, usize::MAX, None).begin(0);
        let ended = screening.feed(&bytes[..cut]).and_then(|()| screening.finish());
        prop_assert!(ended.is_err() || cut == 0);
    }
}

fn one(body: &str) -> Screened {
    let record = LogRecord {
        body: holding(otlp::Value::Text(body.as_bytes().to_vec())),
        ..Default::default()
    };
    let scope = ScopeLogs {
        log_records: vec![record],
        ..Default::default()
    };
    let group = ResourceLogs {
        scope_logs: vec![scope],
        ..Default::default()
    };
    screen(
        &Rule::default(),
        &Request {
            resource_logs: vec![group],
        }
        .encode_to_vec(),
        1000,
    )
}

/// Only candidates that are not JSON are unreadable; all other records are ignored.
#[test]
fn only_candidates_can_be_unreadable() {
    let event = corpus::denied("192.0.2.1", 0, "/");
    assert_eq!((one(&event).hits.len(), one(&event).unreadable), (1, 0));
    let code = event.find("\"code\":403").unwrap() + 10;
    for length in 0..event.len() {
        let screened = one(event.split_at(length).0);
        // An event that was cut counts when all that a finding needs stands before the cut.
        let counts = !screened.hits.is_empty();
        assert!(!counts || length > code, "{length}");
        assert!(counts || length < event.len() - 1, "{length}");
        let is_unreadable = length >= code && !counts;
        assert_eq!(screened.unreadable, u64::from(is_unreadable), "{length}");
    }
    for foreign in ["", "a line", "{\"a\":", "[1,2", "\u{0}", "{\"code\":200,"] {
        assert_eq!(one(foreign).unreadable, 0, "{foreign}");
    }
    let two = one(&format!("{event}{event}"));
    assert_eq!(
        (two.hits.len(), two.unreadable),
        (2, 0),
        "two events in one record"
    );
}

/// Text that is no UTF-8 costs a replacement character, not the request.
#[test]
fn invalid_utf8_is_replaced() {
    let event = corpus::denied("192.0.2.1", 0, "/x").into_bytes();
    let at = event.windows(2).position(|two| two == b"/x").unwrap();
    let mut broken = event;
    broken[at + 1] = 0xff;
    let record = LogRecord {
        body: holding(otlp::Value::Text(broken)),
        ..Default::default()
    };
    let scope = ScopeLogs {
        log_records: vec![record],
        ..Default::default()
    };
    let group = ResourceLogs {
        scope_logs: vec![scope],
        ..Default::default()
    };
    let bytes = Request {
        resource_logs: vec![group],
    }
    .encode_to_vec();
    let screened = screen(&Rule::default(), &bytes, 1000);
    let uri = screened.hits[0].texts.get(AuditField::RequestUri);
    assert_eq!(uri, Some("/\u{fffd}"));
}

/// A name that is configured is that of records that have none.
#[test]
fn a_cluster_may_be_configured_and_sources_are_cut_from_the_left() {
    let event = map([
        ("requestURI", s("/")),
        ("user", map::<&str>([])),
        (
            "sourceIPs",
            J::List((0..9).map(|at| s(&format!("192.0.2.{at}"))).collect()),
        ),
        ("responseStatus", map([("code", n("401"))])),
    ]);
    let entry = Entry {
        form: Form::Text(event),
        time: None,
        observed: None,
    };
    let batch = Batch {
        cluster: None,
        resource_last: false,
        entries: vec![entry],
    };
    let rule = Rule::default();
    let (bytes, _) = request(&[batch], &rule, &mut Noise::new(0));
    let mut screening = Screen::new(rule, 2, Some("own")).begin(0);
    screening.feed(&bytes).unwrap();
    let hits = screening.finish().unwrap().hits;
    assert_eq!(&*hits[0].cluster, "own");
    let claimed: Vec<_> = hits[0].texts.all(AuditField::ClaimedIps).collect();
    assert_eq!(claimed, ["192.0.2.7"]);
    assert_eq!(hits[0].key, "192.0.2.8");
    assert_eq!(hits[0].time, None, "no time is known");
}
