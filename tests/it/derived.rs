//! Derived detections: networks that share a scan, addresses that are slow, peers that hand over
//! claims of one client.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use auditwatch::{
    detection::{
        Finding,
        engine::{Engine, EngineState},
        fields::AuditField,
        geo::{Locate, Location},
        hit::{Hit, Identity},
        limits::Limits,
        rule::Rule,
        time::Micros,
    },
    rules::{load, model::Detection, switches::Switches},
};
use proptest::{collection::vec, prelude::*};

use crate::support::{
    hits::{SECOND, START, reordered},
    props::cases,
};

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 3600 * SECOND;

const NETWORK: &str = "Distributed Kubernetes Scanning From One Network";
const SLOW: &str = "Slow Kubernetes Scanning Over Days";
const FORGED: &str = "Forged Forwarding Headers Through One Peer";
const SCAN: &str = "Kubernetes Scanning by Unauthenticated IP Address";

fn detections() -> Vec<Arc<Detection>> {
    let rule = Rule::default();
    let mut all = load::scans(&rule);
    all.extend(load::derived(&rule, &Switches::default().derived()));
    assert_eq!(all.len(), 4);
    all
}

fn engine() -> Engine {
    Engine::new(detections(), Limits::default(), None)
}

/// A request as the screen hands it on: of this address, handed over by this peer.
fn request(id: u32, address: &str, peer: Option<&str>, uri: &str, after: i64) -> Hit {
    let mut identity = [0; 16];
    identity[..4].copy_from_slice(&id.wrapping_mul(2_654_435_761).to_le_bytes());
    let audit_id = format!("id-{id}");
    let values = [
        (AuditField::Verb, "list"),
        (AuditField::RequestUri, uri),
        (AuditField::UserAgent, "curl/8.5.0"),
        (AuditField::Username, "system:anonymous"),
        (AuditField::Groups, "system:unauthenticated"),
        (AuditField::Code, "403"),
        (AuditField::AuditId, &audit_id),
    ];
    let peer = peer.map(|peer| (AuditField::Peers, peer));
    Hit {
        time: Some(Micros(START + after)),
        cluster: Arc::from("prod"),
        key: address.to_owned(),
        code: 403,
        texts: values.into_iter().chain(peer).collect(),
        identity: Identity(identity),
        ..Hit::default()
    }
}

/// All findings of these requests, in order, with a tick of a second after each minute.
fn run(engine: &mut Engine, hits: impl IntoIterator<Item = Hit>) -> Vec<Finding> {
    let mut out = Vec::new();
    for hit in hits {
        engine.observe(hit, &mut out);
    }
    engine.tick(Duration::from_secs(1), &mut out);
    out.into_iter().map(|one| one.finding).collect()
}

fn of<'f>(findings: &'f [Finding], rule: &str) -> Vec<&'f Finding> {
    let own = findings.iter().filter(|one| one.rule_name == rule);
    own.collect()
}

fn opened<'f>(findings: &'f [Finding], rule: &str) -> Vec<&'f Finding> {
    let all = of(findings, rule).into_iter();
    all.filter(|one| one.state == "opened").collect()
}

/// Requests of many addresses in turn, some seconds apart.
fn in_turn(addresses: &[String], each: u32, step: i64) -> Vec<Hit> {
    let count = u32::try_from(addresses.len()).unwrap();
    let all = (0..each * count).map(|n| {
        let address = &addresses[(n % count) as usize];
        let uri = format!("/api/v1/namespaces/{n}/secrets");
        request(n, address, None, &uri, i64::from(n) * step)
    });
    all.collect()
}

#[test]
fn forty_addresses_of_a_network_with_five_requests_each_are_one_finding() {
    let v4: Vec<_> = (1..=40).map(|n| format!("198.51.100.{n}")).collect();
    let v6: Vec<_> = (1..=40).map(|n| format!("2001:db8:7:1::{n:x}")).collect();
    let by_64: Vec<_> = (1..=40).map(|n| format!("2001:db8:7:{n:x}::1")).collect();
    let by_56: Vec<_> = (1..=40).map(|n| format!("2001:db8:7:{n:x}00::1")).collect();
    for (addresses, prefix) in [
        (v4, "198.51.100.0/24"),
        (v6, "2001:db8:7:1::/64"),
        (by_64, "2001:db8:7::/56"),
        (by_56, "2001:db8:7::/48"),
    ] {
        let findings = run(&mut engine(), in_turn(&addresses, 5, 15 * SECOND));
        assert!(of(&findings, SCAN).is_empty(), "{prefix}");
        let opened = opened(&findings, NETWORK);
        assert_eq!(opened.len(), 1, "{prefix}: {opened:#?}");
        let last = of(&findings, NETWORK).pop().unwrap();
        assert_eq!((&*last.prefix, &*last.src_ip), (prefix, prefix));
        assert_eq!(last.severity, "medium");
        let count = of(&findings, NETWORK).len();
        assert!(count <= 6, "{count} states");
        // What is behind it, when it closes.
        let mut engine = engine();
        let mut findings = run(&mut engine, in_turn(&addresses, 5, 15 * SECOND));
        for _ in 0..200 {
            let mut out = Vec::new();
            engine.tick(Duration::from_mins(1), &mut out);
            findings.extend(out.into_iter().map(|one| one.finding));
        }
        let last = of(&findings, NETWORK).pop().unwrap();
        assert_eq!((&*last.state, &*last.close_reason), ("closed", "quiet"));
        assert_eq!((last.count, last.member_count), (200, 40), "{prefix}");
        assert_eq!(last.members.len(), 40);
        assert!(last.members.iter().all(|member| member.count == 5));
        assert!(last.paths.len() >= 90, "{}", last.paths.len());
        assert_eq!(last.user_agents, ["curl/8.5.0"]);
        assert!(
            last.message.starts_with("40 addresses of "),
            "{}",
            last.message
        );
    }
}

#[test]
fn five_hundred_members_that_scan_are_five_findings_and_one_of_their_network() {
    let addresses: Vec<_> = (1..=500).map(|n| format!("2001:db8:7:1::{n:x}")).collect();
    for (each, step) in [(6, SECOND), (6, 0)] {
        let mut hits = in_turn(&addresses, each, step);
        if step == 0 {
            // One address after the other.
            hits.sort_by_key(|hit| hit.key.clone());
        }
        let mut engine = engine();
        let mut findings = run(&mut engine, hits);
        for _ in 0..200 {
            let mut out = Vec::new();
            engine.tick(Duration::from_mins(1), &mut out);
            findings.extend(out.into_iter().map(|one| one.finding));
        }
        let scans: std::collections::BTreeSet<_> = of(&findings, SCAN)
            .iter()
            .map(|one| one.finding_id.clone())
            .collect();
        assert_eq!(scans.len(), 5);
        assert!(findings.len() < 40, "{} events", findings.len());
        let networks = of(&findings, NETWORK);
        let last = networks.last().unwrap();
        assert_eq!(opened(&findings, NETWORK).len(), 1);
        assert_eq!((last.member_count, last.count), (500, 3000));
        assert_eq!(last.members.len(), 100);
        let related: std::collections::BTreeSet<_> = last.related.iter().cloned().collect();
        assert_eq!(related, scans, "the single ones are linked");
        let closed = of(&findings, SCAN)
            .into_iter()
            .filter(|one| one.state == "closed");
        for scan in closed {
            assert_eq!(scan.related, std::slice::from_ref(&last.finding_id));
        }
    }
}

/// A network of one's own does not make a finding of a stranger in the wider network.
#[test]
fn a_wider_network_needs_members_in_several_narrower_ones() {
    let mut hits = in_turn(
        &(1..=40)
            .map(|n| format!("2001:db8:7:1::{n:x}"))
            .collect::<Vec<_>>(),
        5,
        SECOND,
    );
    for n in 0..4 {
        hits.push(request(
            10_000 + n,
            &format!("2001:db8:7:{n}2::1"),
            None,
            "/",
            300 * SECOND,
        ));
    }
    let findings = run(&mut engine(), hits);
    let prefixes: Vec<_> = opened(&findings, NETWORK)
        .iter()
        .map(|one| one.prefix.clone())
        .collect();
    assert_eq!(prefixes, ["2001:db8:7:1::/64"]);
    // Few addresses, few requests, or far apart: nothing.
    for (addresses, each, step) in [
        (4, 5, SECOND),
        (5, 4, SECOND),
        (20, 1, SECOND),
        (10, 5, 20 * MINUTE),
    ] {
        let addresses: Vec<_> = (1..=addresses).map(|n| format!("198.51.100.{n}")).collect();
        let findings = run(&mut engine(), in_turn(&addresses, each, step));
        assert!(
            of(&findings, NETWORK).is_empty(),
            "{} {each} {step}",
            addresses.len()
        );
    }
}

#[test]
fn few_requests_an_hour_for_days_are_found() {
    for (step, of_an_hour) in [(12 * MINUTE, 5), (12 * MINUTE + SECOND, 5)] {
        let hits = (0..of_an_hour * 72).map(|n| {
            let uri = format!("/api/v1/namespaces/{n}/secrets?limit=500");
            request(n, "198.51.100.7", None, &uri, i64::from(n) * step)
        });
        let mut engine = engine();
        let findings = run(&mut engine, hits);
        assert!(of(&findings, SCAN).is_empty());
        let states: Vec<_> = of(&findings, SLOW)
            .iter()
            .map(|one| one.state.clone())
            .collect();
        // Opened, doubled, and each day.
        assert!((3..=8).contains(&states.len()), "{states:?}");
        let first = opened(&findings, SLOW);
        assert_eq!(first.len(), 1);
        let first = first[0];
        assert_eq!(first.src_ip, "198.51.100.7");
        let begin = START / SECOND;
        let after = first.alert_at.as_ref().unwrap().seconds - begin;
        assert!(after <= 6 * 3600, "{after} s");
        assert!(first.count >= 20, "{}", first.count);
        let mut later = Vec::new();
        for _ in 0..30 {
            engine.tick(Duration::from_hours(1), &mut later);
        }
        let last = later.pop().unwrap().finding;
        assert_eq!(
            (&*last.state, last.count),
            ("closed", u64::from(of_an_hour) * 72)
        );
        let said = "Slow Kubernetes scanning from ip 198.51.100.7 on cluster prod (medium): ";
        assert!(last.message.starts_with(said), "{}", last.message);
    }
    // A burst, or what was found already, is none.
    let burst = (0..300_u32).map(|n| {
        request(
            n,
            "198.51.100.7",
            None,
            &format!("/{n}"),
            i64::from(n) * SECOND,
        )
    });
    assert!(of(&run(&mut engine(), burst), SLOW).is_empty());
    let steady =
        (0..3000_u32).map(|n| request(n, "198.51.100.7", None, "/healthz", i64::from(n) * MINUTE));
    let findings = run(&mut engine(), steady);
    let scans = opened(&findings, SCAN);
    // Each day of it is a finding that continues the one before.
    assert_eq!(
        scans.iter().filter(|one| one.continues.is_empty()).count(),
        1
    );
    assert!(of(&findings, SLOW).is_empty());
}

/// A slow scanner that pauses for more than a day is found again, as the same one.
#[test]
fn a_slow_scan_that_continues_says_so() {
    let day = |day: i64| {
        (0..40_u32).map(move |n| {
            let id = u32::try_from(day).unwrap() * 1000 + n;
            let after = day * 24 * HOUR + i64::from(n) * 12 * MINUTE;
            request(id, "198.51.100.7", None, &format!("/{n}"), after)
        })
    };
    let findings = run(&mut engine(), day(0).chain(day(2)));
    let opened = opened(&findings, SLOW);
    assert_eq!(opened.len(), 2);
    assert_eq!(opened[1].continues, opened[0].finding_id);
}

/// A flood of addresses that are seen once does not displace one that was there in several hours.
#[test]
fn a_flood_does_not_hide_a_slow_scanner() {
    let limits = Limits {
        keys: 300,
        memory: 1 << 20,
        ..Limits::default()
    };
    let mut engine = Engine::new(detections(), limits, None);
    let mut out = Vec::new();
    let mut id = 0;
    for n in 0..60_u32 {
        let at = i64::from(n) * 12 * MINUTE;
        let uri = format!("/{n}");
        engine.observe(
            request(1_000_000 + n, "198.51.100.7", None, &uri, at),
            &mut out,
        );
        // From the second hour on it is stronger than the flood.
        let flood = if n < 10 { 0 } else { 300 };
        for one in 0..flood {
            id += 1;
            let address = format!("10.{}.{}.{}", id >> 16 & 255, id >> 8 & 255, id & 255);
            engine.observe(
                request(id, &address, None, "/", at + i64::from(one)),
                &mut out,
            );
        }
        assert!(
            engine.heap_bytes() <= (1 << 20) + (64 << 10),
            "{}",
            engine.heap_bytes()
        );
    }
    let findings: Vec<_> = out.into_iter().map(|one| one.finding).collect();
    let slow = opened(&findings, SLOW);
    assert_eq!(slow.len(), 1);
    assert_eq!(slow[0].src_ip, "198.51.100.7");
}

/// Requests through a peer that claim these addresses in turn.
fn claims(victims: &[&str], peer: &str, requests: u32) -> Vec<Hit> {
    let all = (0..requests).map(|n| {
        let victim = victims[n as usize % victims.len()];
        let uri = format!("/api/v1/namespaces/{n}/secrets");
        request(n, victim, Some(peer), &uri, i64::from(n) * SECOND)
    });
    all.collect()
}

#[test]
fn forged_addresses_are_a_finding_on_the_peer_that_hands_them_over() {
    let many: Vec<String> = (0..200).map(|n| format!("198.51.{n}.9")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let some = &many[..10];
    let one = &many[..1];
    // X-Real-Ip of the client through a listed proxy, and a pod inside a listed network: each
    // claim once, a few often, one alone.
    for (victims, severity) in [
        (&many[..], "medium"),
        (some, "medium"),
        (one, "informational"),
    ] {
        let mut engine = engine();
        let mut findings = run(&mut engine, claims(victims, "10.3.4.5", 200));
        let mut rest = Vec::new();
        engine.drain(&mut rest);
        findings.extend(rest.into_iter().map(|one| one.finding));
        let opened = opened(&findings, FORGED);
        assert_eq!(opened.len(), 1, "{} victims", victims.len());
        let last = of(&findings, FORGED).pop().unwrap();
        assert_eq!(last.src_ip, "10.3.4.5");
        assert_eq!(last.peers, ["10.3.4.5"]);
        assert_eq!(last.member_count, victims.len() as u64);
        assert_eq!((&*last.severity, last.count), (severity, 200));
        assert!(!last.severity_reasons.is_empty());
        // The findings of the victims name the peer.
        for scan in of(&findings, SCAN) {
            assert_eq!(scan.peers, ["10.3.4.5"]);
        }
    }
}

#[test]
fn a_proxy_with_real_clients_is_told_apart() {
    // Ten clients with a few 401 each, and agents of their own: lowered.
    let mut hits = Vec::new();
    for n in 0..40_u32 {
        let client = n % 10;
        let mut hit = request(
            n,
            &format!("198.51.100.{client}"),
            Some("10.0.0.5"),
            "/api",
            i64::from(n) * SECOND,
        );
        hit.texts
            .set(AuditField::UserAgent, &[&format!("kubectl/v1.{client}")]);
        hits.push(hit);
    }
    let findings = run(&mut engine(), hits);
    let forged = of(&findings, FORGED);
    assert!(
        forged
            .iter()
            .all(|one| one.severity == "informational" && one.risk_score == 0),
        "{forged:#?}"
    );
    // One that scans behind a proxy with other clients: its finding alone.
    let mut hits = vec![request(9000, "203.0.113.1", Some("10.0.0.5"), "/api", 0)];
    hits.extend(claims(&["198.51.100.7"], "10.0.0.5", 100));
    let findings = run(&mut engine(), hits);
    assert_eq!(opened(&findings, SCAN).len(), 1);
    assert!(of(&findings, FORGED).is_empty());
}

/// Addresses of 198.51.0.0/16 and `2001:db8::/32` are of one autonomous system.
struct Systems;

impl Locate for Systems {
    fn locate(&self, _: IpAddr) -> Option<Location> {
        None
    }

    fn system(&self, address: IpAddr) -> Option<u32> {
        let is_own = match address {
            IpAddr::V4(address) => address.octets()[..2] == [198, 51],
            IpAddr::V6(address) => address.segments()[..2] == [0x2001, 0xdb8],
        };
        is_own.then_some(64_500)
    }

    fn has_systems(&self) -> bool {
        true
    }
}

fn knowing_systems() -> Engine {
    Engine::new(detections(), Limits::default(), Some(Arc::new(Systems)))
}

/// Many networks of one autonomous system share a scan: one finding of the system, if a database
/// knows it.
#[test]
fn an_autonomous_system_is_a_network() {
    let v4: Vec<_> = (0..40).map(|n| format!("198.51.{n}.7")).collect();
    let v6: Vec<_> = (0..24).map(|n| format!("2001:db8:{n:x}::1")).collect();
    for (addresses, each, member) in [(&v4, 2, "198.51.0.7"), (&v6, 4, "2001:db8::/64")] {
        let hits = in_turn(addresses, each, SECOND);
        let mut engine = knowing_systems();
        let findings = run(&mut engine, hits.clone());
        let found = of(&findings, NETWORK);
        let first = found.first().unwrap();
        assert_eq!(
            (first.prefix.as_str(), first.src_ip.as_str()),
            ("AS64500", "")
        );
        // Its clients may know nothing of each other.
        assert_eq!(first.severity, "low");
        assert!(first.member_count >= 17);
        let begin = format!("{} addresses of AS64500 share a scan", first.member_count);
        assert!(first.message.starts_with(&begin), "{}", first.message);
        let search = &first.drilldown_search;
        assert!(
            search.contains(&format!("(\"sourceIPs{{}}\"=\"{member}\" OR ")),
            "{search}"
        );
        let mut out = Vec::new();
        engine.drain(&mut out);
        let findings: Vec<_> = out.into_iter().map(|one| one.finding).collect();
        let last = of(&findings, NETWORK).pop().unwrap();
        let all = addresses.len() as u64;
        assert_eq!(
            (last.member_count, last.count),
            (all, all * u64::from(each))
        );
        assert!(last.members.iter().any(|one| one.source == member));
        assert_eq!(
            of(&run(&mut self::engine(), hits), NETWORK),
            Vec::<&Finding>::new()
        );
    }
}

/// What one narrower network explains is no finding of its system, nor are few addresses, nor ones
/// that a client makes up in the form of members.
#[test]
fn an_autonomous_system_is_found_only_for_itself() {
    let one: Vec<_> = (0..20).map(|n| format!("198.51.100.{n}")).collect();
    let beside = ["198.51.7.1".to_owned(), "198.51.8.1".to_owned()];
    // The network is found before others of the system come.
    let mut hits = in_turn(&one, 3, SECOND);
    hits.extend(in_turn(&beside, 3, SECOND).into_iter().map(|mut hit| {
        hit.time = hit.time.map(|time| Micros(time.0 + MINUTE));
        hit.identity.0[9] = 1;
        hit
    }));
    let of_one = run(&mut knowing_systems(), hits);
    let prefixes: Vec<_> = opened(&of_one, NETWORK)
        .iter()
        .map(|one| &*one.prefix)
        .collect();
    assert_eq!(prefixes, ["198.51.100.0/24"]);
    let few: Vec<_> = (0..4).map(|n| format!("198.51.{n}.7")).collect();
    let others: Vec<_> = (0..9).map(|n| format!("203.0.{n}.7")).collect();
    let forged: Vec<_> = (1..9)
        .map(|n| format!("ff41:534e:0:fbf4:{n:x}::1"))
        .collect();
    for addresses in [few, others, forged] {
        let findings = run(&mut knowing_systems(), in_turn(&addresses, 5, SECOND));
        assert_eq!(
            of(&findings, NETWORK),
            Vec::<&Finding>::new(),
            "{addresses:?}"
        );
    }
}

fn any_log() -> impl Strategy<Value = Vec<Hit>> {
    let address = prop_oneof![
        (0u8..9).prop_map(|n| format!("198.51.100.{n}")),
        (0u8..3, 0u8..4).prop_map(|(net, n)| format!("2001:db8:7:{net:x}::{n:x}")),
        Just("unknown".to_owned()),
    ];
    let peer =
        prop_oneof![2 => Just(None), 1 => Just(Some("10.0.0.5")), 1 => Just(Some("10.0.0.6"))];
    let gap = prop_oneof![20 => 0i64..60, 4 => 0i64..1800, 1 => 0i64..90_000];
    vec((address, peer, 0u8..30, gap, any::<bool>()), 1..250).prop_map(|all| {
        let mut after = 0;
        let mut hits = Vec::new();
        for (id, (address, peer, path, gap, other)) in (0_u32..).zip(all) {
            after += gap * SECOND;
            let mut hit = request(id, &address, peer, &format!("/{path}"), after);
            if other {
                hit.cluster = Arc::from("b");
            }
            hits.push(hit);
        }
        hits
    })
}

proptest! {
    #![proptest_config(cases(60))]

    /// An engine that continues from the bytes of another one does just as that one does.
    #[test]
    fn exported_state_continues(log in any_log(), cut in 0usize..250) {
        let mut whole = knowing_systems();
        let mut cut_engine = knowing_systems();
        let (mut of_whole, mut of_cut) = (Vec::new(), Vec::new());
        let cut = cut.min(log.len());
        for (at, hit) in log.into_iter().enumerate() {
            if at == cut {
                let bytes = cut_engine.export().encode();
                let state = EngineState::decode(&bytes).unwrap();
                prop_assert_eq!(state.encode(), bytes);
                cut_engine = knowing_systems();
                cut_engine.import(state);
            }
            whole.observe(hit.clone(), &mut of_whole);
            cut_engine.observe(hit, &mut of_cut);
        }
        prop_assert_eq!(whole.export().encode(), cut_engine.export().encode());
        whole.drain(&mut of_whole);
        cut_engine.drain(&mut of_cut);
        prop_assert_eq!(&of_whole, &of_cut);
    }

    /// Hits cause no findings of derived detections, so the bound of an engine is that of the
    /// detection behind; and no finding names what has not passed its conditions itself.
    #[test]
    fn findings_have_what_their_rule_asks_for(log in any_log()) {
        let mut engine = engine();
        let mut out = Vec::new();
        for hit in log.clone() {
            let mut steps = usize::MAX;
            engine.prepare(&hit, &mut steps, &mut out);
            let bound = engine.bound(std::slice::from_ref(&hit));
            let before = out.len();
            engine.observe(hit, &mut out);
            prop_assert!(out.len() - before <= bound);
        }
        engine.drain(&mut out);
        let findings: Vec<_> = out.into_iter().map(|one| one.finding).collect();
        for one in of(&findings, NETWORK) {
            prop_assert!(one.count > 20 && one.member_count >= 5, "{one:#?}");
            let of_members: u64 = one.members.iter().map(|member| member.count).sum();
            prop_assert_eq!(of_members, one.count);
        }
        for one in of(&findings, FORGED) {
            prop_assert!(one.member_count > 5 || one.severity == "informational");
        }
        let mut opened: BTreeMap<&str, u32> = BTreeMap::new();
        for one in findings.iter().filter(|one| one.state == "opened") {
            *opened.entry(&one.finding_id).or_default() += 1;
        }
        prop_assert!(opened.values().all(|count| *count == 1));
    }
}

/// What a finding says in its last state, whatever states came before.
type Last = (u64, u64, String, Vec<String>, Vec<(String, u64)>);

/// The last state of each finding of derived detections, by rule, cluster, what it is about and id.
fn last_states(findings: &[Finding]) -> BTreeMap<[String; 4], Last> {
    let derived = findings.iter().filter(|one| one.rule_name != SCAN);
    let all = derived.map(|one| {
        let about = format!("{}{}", one.prefix, one.src_ip);
        let key = [&one.rule_name, &one.cluster, &about, &one.finding_id].map(String::clone);
        let members = one.members.iter();
        let members = members.map(|member| (member.source.clone(), member.count));
        let mut members: Vec<_> = members.collect();
        members.sort();
        let severity = one.severity.clone();
        (
            key,
            (
                one.count,
                one.member_count,
                severity,
                one.paths.clone(),
                members,
            ),
        )
    });
    all.collect()
}

/// The same without what the order of arrival decides: ids, and paths, which are gathered from the
/// second address or hour on.
fn whatever_order(findings: &[Finding]) -> BTreeMap<[String; 3], Last> {
    let all = last_states(findings).into_iter();
    let all = all.map(
        |([rule, cluster, about, _], (count, members, severity, _, each))| {
            (
                [rule, cluster, about],
                (count, members, severity, Vec::new(), each),
            )
        },
    );
    all.collect()
}

fn drained(hits: &[Hit], ticks: &[u64]) -> Vec<Finding> {
    let mut engine = engine();
    let mut out = Vec::new();
    let mut ticks = ticks.iter().cycle();
    for hit in hits {
        engine.observe(hit.clone(), &mut out);
        // A tick after some of them: what is between two is a batch.
        if let Some(seconds) = ticks.next().and_then(|tick| tick.checked_sub(1)) {
            engine.tick(Duration::from_secs(seconds), &mut out);
        }
    }
    engine.drain(&mut out);
    out.into_iter().map(|one| one.finding).collect()
}

/// Few requests of several addresses of an IPv4 network and of an IPv6 /64, within a window: no
/// address is a finding by itself.
fn few_each() -> impl Strategy<Value = Vec<Hit>> {
    let address = (0u8..14, any::<bool>()).prop_map(|(n, is_v4)| {
        if is_v4 {
            format!("198.51.100.{n}")
        } else {
            format!("2001:db8:7::{n:x}")
        }
    });
    vec((address, 0u8..30, 0i64..40), 1..80).prop_map(|all| {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut after = 0;
        let mut hits = Vec::new();
        for (id, (address, path, gap)) in (0_u32..).zip(all) {
            let count = counts.entry(address.clone()).or_default();
            *count += 1;
            after += gap * SECOND;
            if *count <= 5 {
                hits.push(request(id, &address, None, &format!("/{path}"), after));
            }
        }
        hits
    })
}

/// A few requests of some addresses in each hour for two days.
fn slow_each() -> impl Strategy<Value = Vec<Hit>> {
    let hours = vec((0u8..3, 0u8..30, 0i64..3600), 0..4);
    vec(hours, 1..48).prop_map(|hours| {
        let mut hits = Vec::new();
        for (hour, requests) in (0_i64..).zip(hours) {
            for (n, path, second) in requests {
                let id = u32::try_from(hits.len()).unwrap();
                let after = hour * HOUR + second * SECOND;
                let address = format!("192.0.{n}.7");
                hits.push(request(id, &address, None, &format!("/{path}"), after));
            }
        }
        hits.sort_by_key(|hit| (hit.time, hit.identity));
        hits
    })
}

/// Up to five requests each of up to sixteen claims through one peer, by one user agent.
fn claims_each() -> impl Strategy<Value = Vec<Hit>> {
    vec((0u8..16, 0u8..30, 0i64..40), 1..60).prop_map(|all| {
        let mut counts = [0_u8; 16];
        let mut after = 0;
        let mut hits = Vec::new();
        for (id, (n, path, gap)) in (0_u32..).zip(all) {
            counts[usize::from(n)] += 1;
            after += gap * SECOND;
            if counts[usize::from(n)] <= 5 {
                let address = format!("192.{n}.2.1");
                let peer = Some("10.0.0.5");
                hits.push(request(id, &address, peer, &format!("/{path}"), after));
            }
        }
        hits
    })
}

proptest! {
    #![proptest_config(cases(60))]

    /// However a log is cut into batches, with ticks between them: in the end the findings are the
    /// same, with the same ids.
    #[test]
    fn batches_change_no_finding(log in any_log(), ticks in vec(0u64..3, 1..20)) {
        let wanted = last_states(&drained(&log, &[0]));
        prop_assert_eq!(last_states(&drained(&log, &ticks)), wanted);
    }

    /// In any order within lateness: the same networks, slow addresses and peers have findings, with
    /// the same requests and members, as docs/detections.md promises.
    #[test]
    fn the_order_within_lateness_changes_no_verdict(
        log in prop_oneof![few_each(), slow_each(), claims_each()],
        delays in vec(any::<u32>(), 40),
        ticks in vec(0u64..3, 1..20),
    ) {
        let wanted = whatever_order(&drained(&log, &[0]));
        let other = reordered(&log, &delays, 10 * MINUTE);
        prop_assert_eq!(whatever_order(&drained(&other, &ticks)), wanted);
    }
}
