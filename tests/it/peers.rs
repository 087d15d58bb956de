//! What other rules say of the recordings, beside ours: the table of docs/peers.md is true.

use std::collections::{BTreeMap, BTreeSet};

use auditwatch::detection::time::Micros;
use serde_json::Value;

use crate::support::corpus;

/// What each says of one recording, in the columns of the table.
#[derive(Debug, PartialEq, Eq)]
struct Verdicts([usize; 7]);

/// The events of a recording, with those of its lists.
fn events(name: &str) -> Vec<Value> {
    let lines = corpus::lines(name).into_iter();
    let all = lines.flat_map(|line| {
        let mut line: Value = serde_json::from_str(&line).unwrap();
        match line["items"].take() {
            Value::Array(items) => items,
            _ => vec![line],
        }
    });
    all.collect()
}

fn is_refused(event: &Value) -> bool {
    matches!(event["responseStatus"]["code"].as_u64(), Some(401 | 403))
}

/// Addresses of the rows that the ESCU search gives, as the oracle has written them.
fn escu(name: &str) -> usize {
    let rows = std::fs::read_to_string(corpus::path(&format!("{name}.escu.json"))).unwrap();
    let rows = rows
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let addresses: BTreeSet<_> = rows.map(|row| row["src_ip"].to_string()).collect();
    addresses.len()
}

/// Addresses whose bucket overflows: `k8s-audit-api-server-bruteforce` of `CrowdSec`, a leaky bucket
/// by the first of `sourceIPs` that holds five and loses one in ten seconds.
fn crowdsec(events: &[Value]) -> usize {
    let mut refused: Vec<(Micros, &str)> = events
        .iter()
        .filter(|event| is_refused(event))
        .filter_map(|event| {
            let time = Micros::parse(event["requestReceivedTimestamp"].as_str()?)?;
            Some((time, event["sourceIPs"][0].as_str()?))
        })
        .collect();
    refused.sort();
    let (full, each) = (50_000_000, 10_000_000);
    let mut rooms: BTreeMap<&str, (i64, Micros)> = BTreeMap::new();
    let mut overflowed = BTreeSet::new();
    for (time, source) in refused {
        let (room, last) = rooms.entry(source).or_insert((full, time));
        *room = full.min(*room + time.0 - last.0);
        *last = time;
        if *room >= each {
            *room -= each;
        } else {
            overflowed.insert(source);
        }
    }
    overflowed.len()
}

/// Events that `Anonymous Request Allowed` of Falco matches.
fn falco(events: &[Value]) -> usize {
    let matches = |event: &&Value| {
        let uri = event["requestURI"].as_str().unwrap_or_default();
        let path = uri.split_once('?').map_or(uri, |(path, _)| path);
        event["stage"] == "ResponseComplete"
            && event["user"]["username"] == "system:anonymous"
            && event["annotations"]["authorization.k8s.io/decision"] == "allow"
            && !matches!(path, "/healthz" | "/livez" | "/readyz")
    };
    events.iter().filter(matches).count()
}

/// Events that `k8s-audit-anonymous-access` of `CrowdSec` matches.
fn anonymous_access(events: &[Value]) -> usize {
    let matches = |event: &&Value| {
        let user = event["user"]["username"].as_str();
        let resource = event["objectRef"]["resource"].as_str();
        matches!(user, Some("system:anonymous" | "system:unauthenticated"))
            && !matches!(resource, Some("healthz" | "livez" | "readyz"))
    };
    events.iter().filter(matches).count()
}

fn verdicts(name: &str) -> Verdicts {
    let events = events(name);
    Verdicts([
        events.len(),
        corpus::alerts(name).len(),
        escu(name),
        events.iter().filter(|event| is_refused(event)).count(),
        crowdsec(&events),
        anonymous_access(&events),
        falco(&events),
    ])
}

#[test]
fn the_table_of_peers_is_true() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/peers.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<_> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let numbers = cells[1..].iter().map(|cell| cell.parse().unwrap());
            let numbers: Vec<usize> = numbers.collect();
            let name = cells[0].trim_matches('`').to_owned();
            (name, Verdicts(numbers.try_into().unwrap()))
        })
        .collect();
    let mut wanted = BTreeSet::new();
    for entry in std::fs::read_dir(corpus::path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        wanted.extend(name.strip_suffix(".ndjson.gz").map(str::to_owned));
    }
    let named: BTreeSet<_> = rows.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(named, wanted, "a row for each recording");
    for (name, row) in rows {
        assert_eq!(row, verdicts(&name), "{name}");
    }
}

/// What the page says of single addresses of `scenario-1`.
#[test]
fn the_differences_that_the_page_names_are_there() {
    let alerts = corpus::alerts("scenario-1");
    let rows = std::fs::read_to_string(corpus::path("scenario-1.escu.json")).unwrap();
    let escu: BTreeSet<String> = rows
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| row["src_ip"].as_str().unwrap().to_owned())
        .collect();
    for only_ours in ["198.51.100.60", "198.51.100.61"] {
        assert!(alerts.contains_key(only_ours) && !escu.contains(only_ours));
    }
    // Addresses that a client has claimed, and addresses of two events for each request.
    for only_escu in [
        "10.0.0.99",
        "192.0.2.200",
        "203.0.113.222",
        "192.0.2.50",
        "192.0.2.51",
    ] {
        assert!(!alerts.contains_key(only_escu) && escu.contains(only_escu));
    }
    let rotating = ["203.0.113.66", "203.0.113.67", "203.0.113.68"];
    let events = events("scenario-1");
    for source in rotating {
        assert!(alerts.contains_key(source));
        let own = events
            .iter()
            .filter(|event| is_refused(event) && event["sourceIPs"][0] == source);
        assert_eq!(own.count(), 0, "{source} is never the first source");
    }
}
