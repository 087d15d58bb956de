//! Audit events as a hostile or broken sender may write them, for property tests.

use proptest::{collection::vec, prelude::*, sample::select};

use super::json::{J, map, n, s};

/// 2026-11-25T09:50:00Z, where a window of the search begins.
pub(crate) const START: i64 = 1_795_600_200_000_000;

/// When a request arrives: half an hour after the events begin, so that some are ahead of it.
pub(crate) const RECEIVED: i64 = START + 1_800_000_000;

/// A time in one of the spellings RFC 3339 allows, cut or not to the microsecond.
pub(crate) fn spell_time(micros: i64, how: usize) -> J {
    let shift: i64 = [0, 0, 0, 90, -330, 1439, -1439][how % 7];
    let local = jiff::Timestamp::from_microsecond(micros + shift * 60_000_000).unwrap();
    let local = format!("{local:.6}");
    let (date, time) = local.trim_end_matches('Z').split_once('T').unwrap();
    let (clock, fraction) = time.split_once('.').unwrap();
    let trimmed = fraction.trim_end_matches('0');
    let fraction = match how % 5 {
        0 | 1 => format!(".{fraction}"),
        2 => format!(".{fraction}999"),
        3 => format!(".{fraction}0000000000000000000000001"),
        _ if trimmed.is_empty() => String::new(),
        _ => format!(".{trimmed}"),
    };
    let zone = match (shift, how % 4) {
        (0, 0 | 1) => "Z".to_owned(),
        (0, 2) => "z".to_owned(),
        (0, _) => "-00:00".to_owned(),
        _ => {
            let sign = if shift < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", shift.abs() / 60, shift.abs() % 60)
        }
    };
    let separator = ["T", "T", "t", " "][how / 7 % 4];
    J::Time(
        format!("{date}{separator}{clock}{fraction}{zone}"),
        Some(micros),
    )
}

fn unreadable_time() -> impl Strategy<Value = J> {
    let texts = [
        "",
        "yesterday",
        "2026-11-25",
        "2026-11-25T10:00:00",
        "2026-02-30T10:00:00Z",
        "2026-11-25T10:00:00.Z",
        "2026-11-25T24:00:00Z",
        "0000-01-01T00:00:00Z",
        " 2026-11-25T10:00:00Z",
        "2026-11-25T10:00:00+1:00",
        "1795600200",
    ];
    let texts = texts.map(|text| J::Time(text.to_owned(), None));
    let others = [
        J::Null,
        n("1795600200"),
        J::Bool(true),
        map([("a", n("1"))]),
    ];
    select([texts.as_slice(), &others].concat())
}

/// Times that lie close to edges of windows of a minute and of an hour.
pub(crate) fn micros() -> impl Strategy<Value = i64> {
    let edge = select(vec![
        0,
        1,
        500_000,
        59_999_999,
        60_000_000,
        3_599_999_999,
        3_600_000_000,
    ]);
    let minutes = prop_oneof![0i64..20, 0i64..150];
    (edge, minutes).prop_map(|(edge, minutes)| START + edge + minutes * 60_000_000)
}

fn time() -> impl Strategy<Value = J> {
    prop_oneof![
        9 => (micros(), 0usize..140).prop_map(|(micros, how)| spell_time(micros, how)),
        1 => unreadable_time(),
    ]
}

/// Spellings of status codes, and what they mean.
pub(crate) const CODES: &[(&str, bool, u16)] = &[
    ("403", true, 403),
    ("403", true, 403),
    ("403", true, 403),
    ("403", true, 403),
    ("403", true, 403),
    ("403", true, 403),
    ("403", true, 403),
    ("401", true, 401),
    ("401", true, 401),
    ("403.0", true, 403),
    ("4.03e2", true, 403),
    ("4030E-1", true, 403),
    ("403", false, 403),
    ("401.", false, 401),
    ("+403", false, 403),
    ("0403", false, 403),
    ("200", true, 200),
    ("-403", true, 0),
    ("403.5", true, 0),
    ("403x", false, 0),
    (" 403", false, 0),
    ("", false, 0),
    (".403e3", false, 0),
    ("0x193", false, 0),
    ("1e999", true, 0),
    ("inf", false, 0),
];

fn code() -> impl Strategy<Value = J> {
    let spelled = CODES
        .iter()
        .map(|(text, number, _)| if *number { n(text) } else { s(text) });
    prop_oneof![
        20 => select(spelled.collect::<Vec<_>>()),
        1 => odd(),
    ]
}

/// Values of a wrong type.
fn odd() -> impl Strategy<Value = J> {
    select(vec![
        J::Null,
        J::Bool(true),
        J::Bool(false),
        n("7"),
        n("-0.50"),
        s(""),
        s("x"),
        map::<&str>([]),
        J::List(vec![]),
    ])
}

/// Elements of `sourceIPs`, and the address each of them is, if any.
pub(crate) const SOURCES: &[(&str, Option<&str>)] = &[
    ("192.0.2.1", Some("192.0.2.1")),
    ("192.0.2.2", Some("192.0.2.2")),
    ("198.51.100.7", Some("198.51.100.7")),
    ("10.20.0.5", Some("10.20.0.5")),
    (" 192.0.2.1\t", Some("192.0.2.1")),
    ("::ffff:192.0.2.1", Some("192.0.2.1")),
    ("::ffff:10.20.0.6", Some("10.20.0.6")),
    ("2001:db8::7", Some("2001:db8::7")),
    ("2001:DB8:0:0:0::7", Some("2001:db8::7")),
    ("2001:db8::7%eth0", Some("2001:db8::7")),
    ("2001:db8:0:0:ffff::1", Some("2001:db8:0:0:ffff::1")),
    ("fd00::1", Some("fd00::1")),
    ("::", Some("::")),
    ("192.0.2.01", None),
    ("192.0.2.1:443", None),
    ("private", None),
    ("", None),
    ("192.0.2.1,192.0.2.2", None),
];

fn sources() -> impl Strategy<Value = J> {
    let known = SOURCES.iter().map(|(text, _)| s(text)).collect::<Vec<_>>();
    let element = prop_oneof![20 => select(known.clone()), 1 => odd()];
    prop_oneof![
        14 => select(known[..2].to_vec()).prop_map(|one| J::List(vec![one])),
        8 => vec(element, 0..5).prop_map(J::List),
        1 => select(known).prop_map(|one| J::List(vec![one; 18])),
        1 => odd(),
        1 => Just(s("192.0.2.1")),
    ]
}

fn group() -> impl Strategy<Value = J> {
    let texts = [
        "system:unauthenticated",
        "SYSTEM:Unauthenticated",
        "system:authenticated",
        "",
        "system:unauthenticated ",
        "system:unauthent\u{131}cated",
        "devs",
    ];
    prop_oneof![10 => select(texts.map(s).to_vec()), 1 => odd()]
}

fn user() -> impl Strategy<Value = J> {
    let names = [
        "system:anonymous",
        "System:Anonymous",
        "",
        "admin",
        "\u{fffd}😀\"",
    ];
    let name = prop_oneof![6 => select(names.map(s).to_vec()), 1 => odd()];
    let groups = prop_oneof![
        6 => Just(J::List(vec![s("system:unauthenticated")])),
        6 => vec(group(), 0..3).prop_map(J::List),
        1 => odd(),
        1 => Just(s("system:unauthenticated")),
    ];
    let member = prop_oneof![
        name.prop_map(|name| ("username".to_owned(), name)),
        groups.prop_map(|groups| ("groups".to_owned(), groups)),
        odd().prop_map(|uid| ("uid".to_owned(), uid)),
    ];
    prop_oneof![
        14 => Just(map([("username", s("system:anonymous")), ("groups", J::List(vec![s("system:unauthenticated")]))])),
        8 => vec(member, 0..4).prop_map(J::Map),
        1 => odd(),
    ]
}

fn text() -> impl Strategy<Value = J> {
    let texts = [
        "get",
        "list",
        "/api",
        "/api?x=1&y=\"2\"",
        "a\\b\u{0}\n\u{7f}",
        "é😀\u{fffd}\u{fffd}",
        "\u{fffd}",
    ];
    prop_oneof![8 => select(texts.map(s).to_vec()), 2 => odd()]
}

fn status() -> impl Strategy<Value = J> {
    let member = prop_oneof![
        4 => code().prop_map(|code| ("code".to_owned(), code)),
        1 => (select(vec!["message", "reason", "status", "Code", "metadata"]), text())
            .prop_map(|(key, value)| (key.to_owned(), value)),
    ];
    prop_oneof![
        20 => vec(member, 1..5).prop_map(J::Map),
        1 => odd(),
    ]
}

/// One member of an event under one of the keys that matter, or one that looks like it.
fn member() -> impl Strategy<Value = (String, J)> {
    let key = |key: &'static str| move |value| (key.to_owned(), value);
    let bait = select(vec![
        map([
            ("groups", J::List(vec![s("system:unauthenticated")])),
            ("code", n("403")),
        ]),
        map([
            ("user", map([("username", s("system:anonymous"))])),
            ("responseStatus", map([("code", n("403"))])),
        ]),
    ]);
    prop_oneof![
        time().prop_map(key("requestReceivedTimestamp")),
        time().prop_map(key("stageTimestamp")),
        status().prop_map(key("responseStatus")),
        user().prop_map(key("user")),
        sources().prop_map(key("sourceIPs")),
        text().prop_map(key("auditID")),
        text().prop_map(key("verb")),
        text().prop_map(key("requestURI")),
        text().prop_map(key("userAgent")),
        text().prop_map(key("stage")),
        odd().prop_map(key("kind")),
        bait.clone().prop_map(key("impersonatedUser")),
        bait.clone().prop_map(key("requestObject")),
        bait.prop_map(key("User")),
    ]
}

/// One event, most of the time with all that makes it count.
pub(crate) fn event() -> impl Strategy<Value = J> {
    let plain = (time(), code(), sources(), user(), 0u32..12, text()).prop_map(
        |(time, code, sources, user, uri, agent)| {
            vec![
                ("requestReceivedTimestamp".to_owned(), time.clone()),
                ("stageTimestamp".to_owned(), time),
                ("auditID".to_owned(), s("id")),
                ("verb".to_owned(), s("get")),
                ("requestURI".to_owned(), s(&format!("/{uri}"))),
                ("userAgent".to_owned(), agent),
                ("sourceIPs".to_owned(), sources),
                ("user".to_owned(), user),
                ("responseStatus".to_owned(), map([("code", code)])),
            ]
        },
    );
    let plain = (plain, vec(member(), 0..3)).prop_map(|(mut members, more)| {
        members.extend(more);
        members
    });
    prop_oneof![5 => plain.prop_shuffle(), 1 => vec(member(), 0..12)].prop_map(J::Map)
}
