//! The rows of `scan` against a naive model: one pass for each question, nothing incremental.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use auditwatch::detection::{
    columns::Columns,
    fields::AuditField,
    geo::{Locate, Location},
    json::{self, Document},
    rows::{EscuRow, NativeRow, Row, Rows},
    rule::{MissingCity, Rule, Semantics, Who},
    time::Micros,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::support::{
    events::{CODES, SOURCES, event},
    json::{J, Noise, map, n, s},
    judge::judge,
    props::cases,
};

/// A database in which every kind of gap occurs.
struct Stub;

impl Locate for Stub {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        let (country, city) = match address.to_string().as_str() {
            "192.0.2.1" => (Some("Atlantis"), Some("Port")),
            "192.0.2.2" => (Some("Atlantis"), None),
            "2001:db8::7" => (None, Some("Nowhere")),
            "10.20.0.5" => (None, None),
            "fd00::1" => (Some("Lemuria"), Some("")),
            _ => return None,
        };
        Some(Location {
            country: country.map(str::to_owned),
            city: city.map(str::to_owned),
            ..Location::default()
        })
    }
}

/// What the model knows of an event that counts.
struct Counted<'a> {
    event: &'a J,
    time: Option<i64>,
    code: u16,
}

fn member<'a>(event: &'a J, outer: &str, inner: &str) -> Option<&'a J> {
    event.last(outer)?.last(inner)
}

fn elements(list: Option<&J>) -> &[J] {
    match list {
        Some(J::List(list)) => list,
        _ => &[],
    }
}

fn counted<'a>(event: &'a J, rule: &Rule) -> Option<Counted<'a>> {
    let text = member(event, "responseStatus", "code")?.value()?;
    let code = CODES.iter().find(|(spelled, ..)| *spelled == text)?.2;
    let escu = rule.semantics == Semantics::Escu;
    if code == 0
        || !(if escu {
            code == 403
        } else {
            rule.codes.contains(&code)
        })
    {
        return None;
    }
    let groups: Vec<_> = elements(member(event, "user", "groups"))
        .iter()
        .filter_map(J::value)
        .collect();
    let name = member(event, "user", "username").and_then(J::value);
    let in_group = groups
        .iter()
        .any(|group| group.eq_ignore_ascii_case("system:unauthenticated"));
    let anonymous = name.as_deref() == Some("system:anonymous");
    let nobody = name.unwrap_or_default().is_empty() && groups.is_empty();
    if !in_group && (escu || rule.who == Who::Group || !(anonymous || nobody)) {
        return None;
    }
    let time = match event.last(&rule.time_field) {
        Some(J::Time(_, micros)) => *micros,
        _ => None,
    };
    Some(Counted { event, time, code })
}

fn address(source: &str) -> Option<IpAddr> {
    let (_, address) = SOURCES.iter().find(|(text, _)| *text == source)?;
    Some(address.as_ref()?.parse().unwrap())
}

fn key(event: &J, rule: &Rule) -> String {
    let bits = |address: IpAddr, keep: u8| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) >> (32 - keep.min(32)),
        IpAddr::V6(v6) => v6.to_bits().checked_shr(128 - u32::from(keep)).unwrap_or(0),
    };
    let is_trusted = |address: IpAddr| {
        rule.trusted_proxies.iter().any(|net| {
            net.addr().is_ipv4() == address.is_ipv4()
                && bits(net.addr(), net.prefix_len()) == bits(address, net.prefix_len())
        })
    };
    let sources = elements(event.last("sourceIPs"));
    let mut found = None;
    for source in sources.iter().rev().take(16) {
        let Some(address) = source.value().and_then(|text| address(&text)) else {
            return "unknown".to_owned();
        };
        found = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    match found {
        None => "unknown".to_owned(),
        Some(IpAddr::V6(v6)) if rule.ipv6_prefix < 128 => {
            let mask = u128::MAX << (128 - rule.ipv6_prefix);
            format!(
                "{}/{}",
                std::net::Ipv6Addr::from_bits(v6.to_bits() & mask),
                rule.ipv6_prefix
            )
        }
        Some(address) => address.to_string(),
    }
}

fn columns(events: &[&Counted<'_>]) -> Columns {
    let values = |outer: &str, inner: &str| -> BTreeSet<String> {
        let value = |event: &J| {
            if inner.is_empty() {
                event.last(outer)?.value()
            } else {
                member(event, outer, inner)?.value()
            }
        };
        events
            .iter()
            .filter_map(|counted| value(counted.event))
            .collect()
    };
    let groups = events
        .iter()
        .flat_map(|counted| elements(member(counted.event, "user", "groups")))
        .filter_map(J::value)
        .collect();
    [
        (AuditField::UserAgent, values("userAgent", "")),
        (AuditField::Username, values("user", "username")),
        (AuditField::Groups, groups),
        (AuditField::Verb, values("verb", "")),
        (AuditField::RequestUri, values("requestURI", "")),
        (AuditField::Code, values("responseStatus", "code")),
        (AuditField::Message, values("responseStatus", "message")),
        (AuditField::Reason, values("responseStatus", "reason")),
        (AuditField::Status, values("responseStatus", "status")),
    ]
    .into_iter()
    .flat_map(|(field, values)| values.into_iter().map(move |value| (field, value)))
    .collect()
}

fn times(events: &[&Counted<'_>]) -> Vec<i64> {
    events.iter().map(|counted| counted.time.unwrap()).collect()
}

fn native(counted: &[Counted<'_>], rule: &Rule) -> Vec<Row> {
    // A request is what was asked, when, under which audit id, and by whom.
    let identity = |counted: &Counted<'_>| {
        let fields = ["auditID", "requestReceivedTimestamp", "verb", "requestURI"];
        let part = |field| match counted.event.last(field) {
            None | Some(J::Null) => "absent".to_owned(),
            Some(J::Num(text) | J::Str(text) | J::Time(text, _)) => format!("text {text}"),
            Some(other) => format!("other {}", other.spell(&mut Noise::new(0))),
        };
        (fields.map(part), key(counted.event, rule))
    };
    let mut keys: BTreeMap<String, Vec<&Counted<'_>>> = BTreeMap::new();
    let mut seen = Vec::new();
    for one in counted {
        let identity = identity(one);
        if !seen.contains(&identity) {
            keys.entry(identity.1.clone()).or_default().push(one);
            seen.push(identity);
        }
    }
    let row = |(src_ip, events): (String, Vec<&Counted<'_>>)| {
        let times = times(&events);
        // How many share the window that ends with this time.
        let sharing = |end: i64| {
            times
                .iter()
                .filter(|time| **time <= end && end - **time < rule.window)
                .count() as u64
        };
        let above = times.iter().filter(|time| sharing(**time) > rule.threshold);
        let codes: BTreeSet<u16> = events.iter().map(|counted| counted.code).collect();
        let of_code = |code| events.iter().filter(|counted| counted.code == code).count() as u64;
        Row::Native(Box::new(NativeRow {
            src_ip,
            alert_at: above.min().copied().map(Micros),
            max_in_window: times.iter().map(|time| sharing(*time)).max().unwrap(),
            count: times.len() as u64,
            count_by_code: codes
                .into_iter()
                .map(|code| (code, of_code(code)))
                .collect(),
            first_time: Micros(*times.iter().min().unwrap()),
            last_time: Micros(*times.iter().max().unwrap()),
            seen: columns(&events),
            detail: None,
        }))
    };
    keys.into_iter().map(row).collect()
}

fn escu(counted: &[Counted<'_>], rule: &Rule, located: bool) -> Vec<Row> {
    let place = |source: &str| {
        if !located {
            return Some((None, None));
        }
        let location = Stub.locate(address(source)?)?;
        let country = location.country.unwrap_or_default();
        let city = location.city.unwrap_or_default();
        let drop = rule.missing_city == MissingCity::Drop;
        let gone = city.is_empty() && (country.is_empty() || drop);
        (!gone).then_some((Some(country), Some(city)))
    };
    let start = |time: i64| {
        let into =
            (i128::from(time) - i128::from(rule.window_offset)).rem_euclid(i128::from(rule.window));
        time - i64::try_from(into).unwrap()
    };
    // The search, literally: one line for each element of sourceIPs, then stats ... BY.
    let mut groups: BTreeMap<_, Vec<&Counted<'_>>> = BTreeMap::new();
    for one in counted {
        for source in elements(one.event.last("sourceIPs"))
            .iter()
            .filter_map(J::value)
        {
            if let Some((country, city)) = place(&source) {
                let group = (start(one.time.unwrap()), source, country, city);
                groups.entry(group).or_default().push(one);
            }
        }
    }
    let row = |((start, src_ip, country, city), events): (_, Vec<&Counted<'_>>)| {
        Row::Escu(Box::new(EscuRow {
            window_start: Micros(start),
            window_end: Micros(start + rule.window),
            src_ip,
            country,
            city,
            count: events.len() as u64,
            columns: columns(&events),
            first_time: Micros(*times(&events).iter().min().unwrap()),
            last_time: Micros(*times(&events).iter().max().unwrap()),
            detail: None,
        }))
    };
    groups
        .into_iter()
        .filter(|(_, events)| events.len() as u64 > rule.threshold)
        .map(row)
        .collect()
}

/// What the model says of these lines: untimed events, and all rows.
fn model(lines: &[J], rule: &Rule, located: bool) -> (u64, Vec<Row>) {
    let events = lines.iter().flat_map(|line| match line.last("items") {
        Some(J::List(items)) => items.iter().collect(),
        _ => vec![line],
    });
    let all: Vec<_> = events.filter_map(|event| counted(event, rule)).collect();
    let count = all.len() as u64;
    let timed: Vec<_> = all
        .into_iter()
        .filter(|counted| counted.time.is_some())
        .collect();
    let untimed = count - timed.len() as u64;
    let rows = match rule.semantics {
        Semantics::Native => native(&timed, rule),
        Semantics::Escu => escu(&timed, rule, located),
    };
    (untimed, rows)
}

/// What `Rows` says of the same lines.
fn rows(lines: &[String], rule: &Rule, located: bool, all: bool) -> (u64, Vec<Row>) {
    let locate: Option<&dyn Locate> = if located { Some(&Stub) } else { None };
    let mut rows = Rows::default();
    for line in lines {
        let events = match json::read(line, &rule.time_field).unwrap() {
            Document::Event(event) => vec![*event],
            Document::List(events, _) => events,
            Document::Other => vec![],
        };
        for hit in events.iter().filter_map(|event| judge(event, rule)) {
            rows.add(&hit, rule, locate);
        }
    }
    (rows.untimed, rows.finish(rule, all))
}

fn rule() -> impl Strategy<Value = Rule> {
    let of_both = (
        prop::bool::ANY,
        0u64..5,
        select(vec![1, 1_000_000, 60_000_000, 3_600_000_000, i64::MAX / 4]),
        select(vec![
            "requestReceivedTimestamp",
            "requestReceivedTimestamp",
            "stageTimestamp",
        ]),
    );
    let of_native = (
        select(vec![vec![401, 403], vec![403], vec![401], vec![200, 403]]),
        prop::bool::ANY,
        select(vec![
            "",
            "10.20.0.0/24",
            "10.20.0.5,fd00::/8",
            "0.0.0.0/0",
            "::/0,192.0.2.0/31",
        ]),
        select(vec![128, 128, 64, 127, 1]),
    );
    let of_escu = (
        select(vec![0, 3_000_000_000, 1, -7, 7_200_000_001]),
        prop::bool::ANY,
    );
    (of_both, of_native, of_escu).prop_map(
        |(
            (escu, threshold, window, time_field),
            (codes, group, trusted, prefix),
            (offset, drop),
        )| Rule {
            semantics: if escu {
                Semantics::Escu
            } else {
                Semantics::Native
            },
            threshold,
            window,
            window_offset: offset,
            time_field: time_field.to_owned(),
            codes,
            who: if group { Who::Group } else { Who::Any },
            trusted_proxies: trusted
                .split(',')
                .filter(|net| !net.is_empty())
                .map(|net| auditwatch::detection::rule::parse_proxy(net).unwrap())
                .collect(),
            ipv6_prefix: prefix,
            missing_city: if drop {
                MissingCity::Drop
            } else {
                MissingCity::Empty
            },
            ..Rule::default()
        },
    )
}

/// A line: an event, a list of them, or something that is almost a list.
fn line() -> impl Strategy<Value = J> {
    let list = (vec(event(), 0..6), prop::bool::ANY).prop_map(|(mut items, rubbish)| {
        if rubbish {
            items.push(n("5"));
            items.insert(0, J::List(vec![s("x")]));
            items.push(map([("items", J::List(items.clone()))]));
        }
        map([
            ("kind", s("EventList")),
            ("items", n("1")),
            ("items", J::List(items)),
        ])
    });
    let almost = event().prop_map(|event| {
        let J::Map(mut members) = event else {
            unreachable!()
        };
        members.push(("items".to_owned(), J::List(vec![event_of_nothing()])));
        members.push(("items".to_owned(), J::Null));
        J::Map(members)
    });
    prop_oneof![12 => event(), 1 => list, 1 => almost]
}

fn event_of_nothing() -> J {
    map([("verb", s("get"))])
}

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn rows_equal_the_naive_model_in_any_order_of_lines(
        (lines, shuffled) in vec(line(), 0..60)
            .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
        again in vec(any::<prop::sample::Index>(), 0..12),
        rule in rule(),
        located in any::<bool>(),
        noise in any::<u64>(),
    ) {
        let mut noise = Noise::new(noise);
        for mut lines in [lines, shuffled] {
            // Repeated deliveries, spelled otherwise.
            for index in &again {
                if !lines.is_empty() {
                    lines.push(index.get(&lines).clone());
                }
            }
            let spelled: Vec<_> = lines.iter().map(|line| line.spell(&mut noise)).collect();
            let (untimed, wanted) = model(&lines, &rule, located);
            let got = rows(&spelled, &rule, located, true);
            prop_assert_eq!((got.0, &got.1), (untimed, &wanted));
            let alerting: Vec<_> = wanted
                .into_iter()
                .filter(|row| !matches!(row, Row::Native(row) if row.alert_at.is_none()))
                .collect();
            prop_assert_eq!(rows(&spelled, &rule, located, false).1, alerting);
        }
    }
}

/// The generator is worth something only if what it makes alerts often enough.
#[test]
fn generated_logs_hold_rows_of_both_kinds() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut alerts, mut escu) = (0, 0);
    for _ in 0..40 {
        let lines = vec(line(), 40).new_tree(&mut runner).unwrap().current();
        let native = Rule::default();
        alerts += model(&lines, &native, false)
            .1
            .iter()
            .filter(|row| matches!(row, Row::Native(row) if row.alert_at.is_some()))
            .count();
        let rule = Rule {
            semantics: Semantics::Escu,
            threshold: 2,
            ..native
        };
        escu += model(&lines, &rule, true).1.len();
    }
    assert!(alerts > 5 && escu > 5, "{alerts} {escu}");
}
