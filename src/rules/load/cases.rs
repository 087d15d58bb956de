//! Test events of a rule: those that must match and those that must not.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::reader::{Map, Reader, Typed, find, hint, quoted};
use crate::{
    audit::json,
    rules::{model::Label, settings::parse_proxy, severity::Severity},
    yaml::{Mark, Node, Value},
};

/// Events of one case, repetitions counted.
const MOST_EVENTS: usize = 10_000;
/// What is the number of the repetition in an event that is repeated.
const NUMBER: &str = "{n}";
/// 2026-01-01T00:00:00Z: when events without a time begin, a second apart.
const BEGIN: &str = "2026-01-01T";

/// One case: an event, or for a correlation a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Whether it must match.
    pub must_match: bool,
    /// The events as JSON text.
    pub events: Vec<String>,
    /// What it is called; may be empty.
    pub name: String,
    /// What its finding must say.
    pub expect: Option<Expect>,
    /// Its line in the file.
    pub line: usize,
    /// Proxies whose word about the next address is believed in it.
    pub trusted_proxies: Vec<IpNet>,
}

/// What the finding of a case must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The key of the finding, where the events are of several.
    pub key: Option<String>,
    /// Its severity.
    pub severity: Option<Severity>,
    /// The names of all its labels, in any order.
    pub labels: Option<Vec<String>>,
}

/// Reads `custom: tests:`.
pub(super) fn read<'d>(
    reader: &Reader<'d>,
    node: &'d Node,
    is_correlation: bool,
    labels: &[Label],
) -> Vec<Case> {
    let mut cases = Vec::new();
    let known = ["match", "no_match", "parameters", "trusted_proxies"];
    let Some(map) = reader.map(node, "tests", &known) else {
        return cases;
    };
    let mut trusted_proxies = Vec::new();
    for (proxy, mark) in map.texts("trusted_proxies") {
        match parse_proxy(&proxy) {
            Ok(proxy) => trusted_proxies.push(proxy),
            Err(_) => reader.fail(
                mark,
                "tests: trusted_proxies: expected networks or addresses, such as 10.0.0.0/8",
            ),
        }
    }
    for (key, must_match) in [("match", true), ("no_match", false)] {
        let Some(node) = map.get(key) else { continue };
        let Value::List(items) = &node.value else {
            reader.fail(node.mark, format!("tests: {key}: expected a list"));
            continue;
        };
        for item in items {
            let mut events = Vec::new();
            let (mut name, mut expect) = (String::new(), None);
            match &item.value {
                Value::Map(_) if find(item, "events").is_some() => {
                    let Some(map) = reader.map(item, "tests", &["name", "events", "expect"]) else {
                        continue;
                    };
                    name = map.text("name").unwrap_or_default();
                    expect = read_expect(&map, must_match, labels);
                    match map.get("events").map(|node| (node, &node.value)) {
                        Some((_, Value::List(nodes))) => {
                            for node in nodes {
                                add(reader, node, &mut events);
                            }
                        }
                        Some((node, _)) => reader.fail(node.mark, "events: expected a list"),
                        None => {}
                    }
                }
                Value::List(nodes) if is_correlation => {
                    for node in nodes {
                        add(reader, node, &mut events);
                    }
                }
                Value::List(_) => reader.fail(
                    item.mark,
                    "tests: a rule is tested with single events: remove the inner list",
                ),
                _ => add(reader, item, &mut events),
            }
            cases.push(Case {
                must_match,
                events,
                name,
                expect,
                line: item.mark.line,
                trusted_proxies: trusted_proxies.clone(),
            });
        }
    }
    cases
}

/// Reads `expect`.
fn read_expect(map: &Map<'_, '_>, must_match: bool, labels: &[Label]) -> Option<Expect> {
    let reader = map.reader;
    let node = map.get("expect")?;
    if !must_match {
        reader.fail(
            node.mark,
            "expect is for match, no_match makes no finding: remove it",
        );
    }
    let own = reader.map(node, "expect", &["key", "severity", "labels"])?;
    if labels.is_empty() {
        reader.fail(
            node.mark,
            "expect: this rule has no labels: remove it, or add labels",
        );
        return None;
    }
    let severity = own.word("severity", &Severity::ALL.map(Severity::as_str));
    let mut expect = Expect {
        key: own.text("key"),
        severity: severity.and_then(|word| word.parse().ok()),
        labels: None,
    };
    if own.get("labels").is_some() {
        let names = own.texts("labels");
        let known: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        for (name, mark) in &names {
            if !known.contains(&name.as_str()) {
                let hint = hint(name, &known);
                reader.fail(
                    *mark,
                    format!("expect: no label is named {}{hint}", quoted(name)),
                );
            }
        }
        expect.labels = Some(names.into_iter().map(|(name, _)| name).collect());
    }
    Some(expect)
}

/// Adds an event, or `{event: ..., repeat: N}`.
fn add<'d>(reader: &Reader<'d>, node: &'d Node, events: &mut Vec<String>) {
    let (event, repeat) = match find(node, "event") {
        Some(event) => {
            let Some(map) = reader.map(node, "tests", &["event", "repeat"]) else {
                return;
            };
            let count = map.get("repeat").map_or(Some(1), |node| {
                let number = reader.scalar(node)?.text().parse::<usize>().ok();
                number.filter(|number| (1..=MOST_EVENTS).contains(number))
            });
            let Some(count) = count else {
                reader.fail(
                    node.mark,
                    format!("tests: repeat: expected a whole number from 1 to {MOST_EVENTS}"),
                );
                return;
            };
            (event, count)
        }
        None => (node, 1),
    };
    if events.len() + repeat > MOST_EVENTS {
        reader.fail(
            node.mark,
            format!("tests: more than {MOST_EVENTS} events in one case"),
        );
        return;
    }
    for number in 0..repeat {
        let at = events.len();
        match text(reader, event, at) {
            Ok(event) if repeat > 1 => events.push(event.replace(NUMBER, &number.to_string())),
            Ok(event) => events.push(event),
            Err((mark, text)) => {
                reader.fail(mark, text);
                return;
            }
        }
    }
}

/// An event as JSON: a text is JSON already, a map is written as such.
fn text(reader: &Reader<'_>, node: &Node, at: usize) -> Result<String, (Mark, String)> {
    let out = match &node.value {
        Value::Scalar(text) => text.clone(),
        Value::Map(entries) => {
            let mut out = String::from("{");
            for (name, own) in [
                ("auditID", format!("test-{at}")),
                ("requestReceivedTimestamp", time(at)),
            ] {
                if entries.iter().all(|(key, _)| key.name != name) {
                    let _ok = write!(out, "\"{name}\":\"{own}\",");
                }
            }
            for (key, node) in entries {
                write_text(&key.name, &mut out);
                out.push(':');
                write_value(reader, node, &mut out);
                out.push(',');
            }
            out.pop();
            out.push('}');
            out
        }
        Value::Null | Value::List(_) => String::new(),
    };
    match json::one(out.as_bytes(), "requestReceivedTimestamp") {
        Ok(Some(_)) => Ok(out),
        _ => Err((
            node.mark,
            "tests: expected an audit event: a map, or JSON text".to_owned(),
        )),
    }
}

fn time(at: usize) -> String {
    format!(
        "{BEGIN}{:02}:{:02}:{:02}.000000Z",
        at / 3600 % 24,
        at / 60 % 60,
        at % 60
    )
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn write_value(reader: &Reader<'_>, node: &Node, out: &mut String) {
    match &node.value {
        Value::List(items) => {
            out.push('[');
            for item in items {
                write_value(reader, item, out);
                out.push(',');
            }
            if !items.is_empty() {
                out.pop();
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (key, node) in entries {
                write_text(&key.name, out);
                out.push(':');
                write_value(reader, node, out);
                out.push(',');
            }
            if !entries.is_empty() {
                out.pop();
            }
            out.push('}');
        }
        Value::Null | Value::Scalar(_) => match reader.scalar(node).map(|one| one.value) {
            None | Some(Typed::Null) => out.push_str("null"),
            Some(Typed::Bool(value)) => out.push_str(if value { "true" } else { "false" }),
            Some(Typed::Number(_, text))
                if serde_json::from_str::<serde_json::Number>(&text).is_ok() =>
            {
                out.push_str(&text);
            }
            Some(Typed::Number(_, text) | Typed::Text(text)) => write_text(&text, out),
        },
    }
}
