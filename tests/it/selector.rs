//! The selector of a rule, over what records and their resources say of source, sourcetype, index.

use auditwatch::detection::{
    rule::Rule,
    screen::{Screen, Screened},
    selector::{Pattern, Selector},
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::support::{
    otlp::{self, KeyValue, LogRecord, Resource, ScopeLogs, holding, pair},
    props::cases,
};

const HIT: &str = r#"{"verb":"get","requestURI":"/","sourceIPs":["192.0.2.1"],"user":{"username":
"system:anonymous"},"responseStatus":{"code":403}}"#;
const BROKEN: &str = r#"{"responseStatus":{"code":403}"#;

/// What an attribute holds; `Other` is no text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Nothing,
    Text(&'static str),
    Other,
}

#[derive(Clone, Debug)]
struct Group {
    resource: [Held; 3],
    resource_last: bool,
    records: Vec<([Held; 3], bool)>,
}

fn held() -> impl Strategy<Value = Held> {
    use Held::{Nothing, Other, Text};
    select(vec![
        Nothing,
        Nothing,
        Text("kubernetes"),
        Text("Kube/audit.log"),
        Text("x"),
        Other,
    ])
}

fn three() -> impl Strategy<Value = [Held; 3]> {
    [held(), held(), held()]
}

fn groups() -> impl Strategy<Value = Vec<Group>> {
    let group = (three(), any::<bool>(), vec((three(), any::<bool>()), 0..5));
    let group = group.prop_map(|(resource, resource_last, records)| Group {
        resource,
        resource_last,
        records,
    });
    vec(group, 1..4)
}

fn patterns() -> impl Strategy<Value = Vec<&'static str>> {
    select(vec![
        vec![],
        vec!["KUBERNETES"],
        vec!["*audit*", "y"],
        vec!["*"],
    ])
}

fn attributes(held: [Held; 3]) -> Vec<KeyValue> {
    let names = [
        "com.splunk.source",
        "com.splunk.sourcetype",
        "com.splunk.index",
    ];
    let pairs = names
        .into_iter()
        .zip(held)
        .filter_map(|(name, held)| match held {
            Held::Nothing => None,
            Held::Text(text) => Some(pair(name, otlp::Value::Text(text.into()))),
            Held::Other => Some(pair(name, otlp::Value::Int(7))),
        });
    pairs.collect()
}

fn encoded(groups: &[Group]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for group in groups {
        let log_records = group.records.iter().map(|(held, broken)| LogRecord {
            body: holding(otlp::Value::Text(if *broken { BROKEN } else { HIT }.into())),
            attributes: attributes(*held),
            ..Default::default()
        });
        let scope = ScopeLogs {
            log_records: log_records.collect(),
            ..Default::default()
        };
        let resource = Resource {
            attributes: attributes(group.resource),
            ..Default::default()
        };
        let group = otlp::group(Some(resource), scope, group.resource_last);
        prost::encoding::bytes::encode(1, &group, &mut bytes);
    }
    bytes
}

/// Whether one key lets a record through, as the text of the documentation has it.
fn lets_through(patterns: &[&str], own: Held, inherited: Held) -> bool {
    let held = if own == Held::Nothing { inherited } else { own };
    match (patterns, held) {
        ([], _) => true,
        (patterns, Held::Text(text)) => patterns.iter().any(|pattern| match *pattern {
            "*" => true,
            "*audit*" => text.contains("audit"),
            exact => exact.eq_ignore_ascii_case(text),
        }),
        _ => false,
    }
}

fn screened(selector: Selector, bytes: &[u8], cut: usize) -> Screened {
    let rule = Rule {
        selector,
        ..Rule::default()
    };
    let mut screening = Screen::new(rule, 64, None).begin(1);
    for piece in bytes.chunks(cut) {
        screening.feed(piece).unwrap();
    }
    screening.finish().unwrap()
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn records_are_selected_by_their_attributes_or_those_of_their_resource(
        groups in groups(),
        wanted in [patterns(), patterns(), patterns()],
        cut in 1usize..200,
    ) {
        let own = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
        let selector = Selector {
            source: own(&wanted[0]),
            sourcetype: own(&wanted[1]),
            index: own(&wanted[2]),
        };
        let (mut hits, mut deselected, mut unreadable) = (0, 0, 0);
        for group in &groups {
            for (held, broken) in &group.records {
                let selected = (0..3)
                    .all(|key| lets_through(&wanted[key], held[key], group.resource[key]));
                match (broken, selected) {
                    (true, true) => unreadable += 1,
                    (true, false) => {}
                    (false, true) => hits += 1,
                    (false, false) => deselected += 1,
                }
            }
        }
        let bytes = encoded(&groups);
        let found = screened(selector.clone(), &bytes, usize::MAX);
        prop_assert_eq!((found.hits.len(), found.deselected), (hits, deselected));
        prop_assert_eq!(found.unreadable, unreadable);
        prop_assert_eq!(screened(selector, &bytes, cut), found);
    }
}
