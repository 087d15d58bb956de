//! An aggregated API server logs again what the API server has logged for its client: such requests
//! lower the finding of the API server's address, and hide none.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use auditwatch::{
    detection::{
        Finding,
        engine::{Engine, EngineState},
        fields::AuditField,
        hit::{Hit, Identity, LabelSet},
        limits::Limits,
        rule::Rule,
        time::Micros,
    },
    rules::{load, model::Detection, switches::Switches},
};
use proptest::{collection::vec, prelude::*};

use crate::support::{
    hits::{SECOND, START, after, reordered},
    props::cases,
};

const SERVER: &str = "10.128.0.5";
const CLIENT: &str = "198.51.100.7";

fn detections() -> Vec<Arc<Detection>> {
    load::scans(&Rule::default())
}

fn engine() -> Engine {
    Engine::new(detections(), Limits::default(), None)
}

/// With the detections that take what the one of scans has counted.
fn deriving() -> Engine {
    let rule = Rule::default();
    let mut all = detections();
    all.extend(load::derived(&rule, &Switches::default().derived()));
    Engine::new(all, Limits::default(), None)
}

/// A request under this audit id, as the screen hands it on.
fn request(id: u32, key: &str, claims: &[&str], after: i64) -> Hit {
    let mut identity = [0; 16];
    let number = id.wrapping_mul(2_654_435_761);
    identity[..4].copy_from_slice(&number.to_le_bytes());
    let last = key.bytes().fold(0_u8, u8::wrapping_add);
    identity[4] = last;
    let (audit_id, uri) = (
        format!("id-{id}"),
        format!("/api/v1/namespaces/{id}/secrets"),
    );
    let values = [
        (AuditField::Verb, "list"),
        (AuditField::RequestUri, uri.as_str()),
        (AuditField::UserAgent, "curl/8.5.0"),
        (AuditField::Username, "system:anonymous"),
        (AuditField::Groups, "system:unauthenticated"),
        (AuditField::Code, "403"),
        (AuditField::AuditId, audit_id.as_str()),
    ];
    let claims = claims.iter().map(|claim| (AuditField::ClaimedIps, *claim));
    Hit {
        time: Some(Micros(START + after)),
        cluster: Arc::from("prod"),
        key: key.to_owned(),
        code: 403,
        texts: values.into_iter().chain(claims).collect(),
        identity: Identity(identity),
        // The first is `reads_secrets`.
        labels: LabelSet(1),
        ..Hit::default()
    }
}

/// A request in the log of the API server, and in that of the aggregated one.
fn pair(id: u32, after: i64) -> [Hit; 2] {
    [
        request(id, CLIENT, &[], after),
        request(id, SERVER, &[CLIENT], after + SECOND / 100),
    ]
}

fn run(engine: &mut Engine, hits: impl IntoIterator<Item = Hit>) -> Vec<Finding> {
    let mut out = Vec::new();
    for hit in hits {
        engine.observe(hit, &mut out);
    }
    engine.drain(&mut out);
    out.into_iter().map(|one| one.finding).collect()
}

/// What the last state of each address says: requests, severity, labels with their requests, why.
type Content = BTreeMap<String, (u64, String, Vec<(String, u64, i64, String)>, Vec<String>)>;

fn content(findings: &[Finding]) -> Content {
    let all = findings.iter().map(|one| {
        let labels = one.labels.iter().map(|label| {
            let first = after(label.first_time);
            (
                label.name.clone(),
                label.count,
                first,
                label.example.clone(),
            )
        });
        let said = (
            one.count,
            one.severity.clone(),
            labels.collect(),
            one.severity_reasons.clone(),
        );
        (one.src_ip.clone(), said)
    });
    all.collect()
}

fn severity(findings: &[Finding], address: &str) -> String {
    content(findings)[address].1.clone()
}

#[test]
fn requests_that_are_logged_twice_lower_the_finding_of_the_server_and_hide_none() {
    let pairs = (0..20).flat_map(|id| pair(id, i64::from(id) * SECOND));
    let findings = run(&mut engine(), pairs);
    let content = content(&findings);
    let (count, severity, labels, reasons) = &content[SERVER];
    assert_eq!((*count, severity.as_str()), (20, "informational"));
    assert!(labels.iter().any(|(name, count, first, example)| {
        let is_empty = example.is_empty();
        name == "aggregated_api_server" && *count == 20 && *first == SECOND / 100 && is_empty
    }));
    assert!(labels.iter().any(|(name, ..)| name == "reads_secrets"));
    assert_eq!(
        reasons[..],
        [
            "An aggregated API server logs requests again that the API server has logged for their \
             clients: 20 of 20 requests, with the audit id, verb and path of one that is counted for \
             its client."
        ]
    );
    let of_client = &content[CLIENT];
    assert_eq!((of_client.0, of_client.1.as_str()), (20, "high"));
    // Opened like any other.
    let opened = findings
        .iter()
        .filter(|one| one.state == "opened" && one.src_ip == SERVER);
    assert_eq!(opened.count(), 1);
}

/// The log of the aggregated API server comes first: its finding is lowered when the other comes,
/// and sent again then.
#[test]
fn a_finding_that_was_sent_is_lowered() {
    let mut engine = engine();
    let mut out = Vec::new();
    for copies in [true, false] {
        for id in 0..20 {
            let [original, copy] = pair(id, i64::from(id) * SECOND);
            engine.observe(if copies { copy } else { original }, &mut out);
        }
    }
    let before = out.len();
    for _ in 0..60 {
        engine.tick(Duration::from_secs(10), &mut out);
    }
    let states: Vec<_> = out[before..].iter().map(|one| &one.finding).collect();
    let lowered = states.iter().find(|one| one.src_ip == SERVER).unwrap();
    assert_eq!(
        (lowered.state.as_str(), lowered.severity.as_str()),
        ("updated", "informational")
    );
    let new = lowered.new.as_ref().unwrap();
    assert_eq!(new.severity_before, "high");
    assert_eq!(new.labels, ["aggregated_api_server"]);
}

#[test]
fn what_is_not_joined_counts() {
    let pairs = || (0..20).flat_map(|id| pair(id, i64::from(id) * SECOND));
    let own = |count: u32| {
        (100..100 + count).map(|id| request(id, SERVER, &[CLIENT], i64::from(id) * SECOND))
    };
    // As many as the threshold, and one more.
    let findings = run(&mut engine(), pairs().chain(own(5)));
    assert_eq!(severity(&findings, SERVER), "informational");
    let findings = run(&mut engine(), pairs().chain(own(6)));
    assert_eq!(severity(&findings, SERVER), "high");
    // Copies of what does not count: excluded, or of another cluster, or more than a minute apart.
    let other: [fn(&mut Hit); 4] = [
        |hit| hit.excluded = Some(0),
        |hit| hit.cluster = Arc::from("other"),
        |hit| hit.time = hit.time.map(|time| time.plus(60 * SECOND + SECOND / 100)),
        |hit| hit.is_time_coarse = true,
    ];
    for change in other {
        let hits = pairs().map(|mut hit| {
            if hit.key == CLIENT {
                change(&mut hit);
            }
            hit
        });
        let findings = run(&mut engine(), hits);
        assert_eq!(severity(&findings, SERVER), "high");
    }
}

/// A delivery that is repeated is no second original.
#[test]
fn a_request_is_joined_with_one_other() {
    let original = || request(1, CLIENT, &[], 0);
    let copies = (0..8).map(|at| {
        let mut copy = request(1, SERVER, &[CLIENT], i64::from(at) * SECOND);
        copy.identity.0[7] = at;
        copy
    });
    let hits = (0..8).map(|_| original()).chain(copies);
    let findings = run(&mut engine(), hits);
    assert_eq!(severity(&findings, SERVER), "high");
}

/// A client that repeats its audit id has as many joined as were made at its own address.
#[test]
fn requests_under_one_audit_id_are_joined_one_by_one() {
    for (originals, wanted) in [(14_u8, "high"), (15, "informational")] {
        let mut hits = Vec::new();
        for at in 0..20 {
            for (key, claims) in [(CLIENT, &[][..]), (SERVER, &[CLIENT][..])] {
                let mut hit = request(1, key, claims, i64::from(at) * SECOND);
                hit.identity.0[7] = at;
                hits.extend((key == SERVER || at < originals).then_some(hit));
            }
        }
        let findings = run(&mut engine(), hits);
        assert_eq!(severity(&findings, SERVER), wanted, "{originals}");
    }
}

/// Two that claim each other lower none of the two; nor do three in a circle.
#[test]
fn addresses_that_claim_each_other_are_not_lowered() {
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    for many in [2, 3] {
        let mut hits = Vec::new();
        for id in 0..20 {
            for at in 0..many {
                let claimed = addresses[(at + 1) % many];
                hits.push(request(
                    id,
                    addresses[at],
                    &[claimed],
                    i64::from(id) * SECOND,
                ));
            }
        }
        let findings = run(&mut engine(), hits);
        for address in &addresses[..many] {
            assert_eq!(severity(&findings, address), "high", "{address}");
        }
    }
}

/// A flood makes the engine forget who waits: the finding comes, and is not lowered.
#[test]
fn a_flood_costs_the_lowering_and_no_finding() {
    let originals = (0..20).map(|id| request(id, CLIENT, &[], 0));
    let copies = (0..20).map(|id| request(id, SERVER, &[CLIENT], SECOND));
    let flood = (1000_u32..60_000).map(|id| {
        let [a, b, c, d] = id.to_be_bytes();
        request(id, &format!("2001:db8::{a:x}{b:x}:{c:x}{d:x}"), &[], 0)
    });
    let findings = run(&mut engine(), originals.chain(flood).chain(copies));
    assert_eq!(severity(&findings, SERVER), "high");
}

/// API servers of one network, and their clients of many: each pair is one request of a client.
fn servers(pairs: u32, step: i64) -> Vec<[Hit; 2]> {
    let pair = |id: u32| {
        let client = format!("198.{}.{}.7", 18 + id % 2, id % 250);
        let server = format!("10.128.0.{}", id % 6);
        let after = i64::from(id) * step;
        [
            request(id, &client, &[], after),
            request(id, &server, &[&client], after + SECOND / 100),
        ]
    };
    (0..pairs).map(pair).collect()
}

fn derived(findings: &[Finding]) -> Vec<&Finding> {
    let scan = &detections()[0].annotations.id;
    findings.iter().filter(|one| one.rule_id != *scan).collect()
}

/// Derived detections count what is logged twice for its client alone, whichever log comes first.
#[test]
fn api_servers_that_log_requests_of_many_clients_again_share_no_scan() {
    for copies_first in [false, true] {
        for (pairs, step) in [(60, SECOND), (100, 7200 * SECOND)] {
            let mut engine = deriving();
            let hits = servers(pairs, step)
                .into_iter()
                .flat_map(|[original, copy]| {
                    if copies_first {
                        [copy, original]
                    } else {
                        [original, copy]
                    }
                });
            let findings = run(&mut engine, hits);
            let found = derived(&findings);
            let about: Vec<_> = found.iter().map(|one| &one.message).collect();
            assert!(found.is_empty(), "{copies_first} {pairs}: {about:#?}");
        }
    }
}

/// Whoever names another client, or takes its audit id, hides nothing: what has no request of its
/// own that counts for that client is counted, a minute later at most.
#[test]
fn claims_and_audit_ids_of_others_hide_no_distributed_scan() {
    let forged = |reuses: bool| {
        (0..60).map(move |id| {
            let server = format!("203.0.113.{}", id % 6);
            let id_of = if reuses { 0 } else { id };
            let mut hit = request(id_of, &server, &[CLIENT], i64::from(id) * SECOND);
            hit.identity.0[8..12].copy_from_slice(&id.to_le_bytes());
            hit
        })
    };
    // One original, before or after all that claim to be its copies.
    let original = |after| request(0, CLIENT, &[], after);
    for (name, hits) in [
        ("claims", forged(false).collect::<Vec<_>>()),
        ("one id", forged(true).collect()),
        (
            "before",
            [original(0)].into_iter().chain(forged(true)).collect(),
        ),
        (
            "after",
            forged(true).chain([original(59 * SECOND)]).collect(),
        ),
    ] {
        let mut engine = deriving();
        let mut out = Vec::new();
        for hit in hits {
            engine.observe(hit, &mut out);
        }
        for _ in 0..13 {
            engine.tick(Duration::from_secs(5), &mut out);
        }
        let findings: Vec<_> = out.into_iter().map(|one| one.finding).collect();
        let found = derived(&findings);
        let network = found.iter().find(|one| one.prefix == "203.0.113.0/24");
        let network = network.unwrap_or_else(|| panic!("{name}: {found:#?}"));
        assert_eq!(network.member_count, 6, "{name}");
        let last = found.iter().rfind(|one| one.prefix == "203.0.113.0/24");
        assert!(last.is_some_and(|one| one.count >= 21), "{name}");
    }
}

/// Requests of a few addresses wait, as API servers are few: a distributed scan whose requests all
/// name other clients is found while it goes on, and few of its addresses are sent alone.
#[test]
fn claims_of_many_addresses_end_the_waiting() {
    let mut engine = deriving();
    let mut out = Vec::new();
    for id in 0..1200 {
        let address = format!("203.0.113.{}", id / 6);
        let after = i64::from(id) * SECOND / 60;
        engine.observe(request(id, &address, &[CLIENT], after), &mut out);
    }
    let mut findings = out.iter().map(|one| &one.finding);
    let alone = findings.clone().filter(|one| one.prefix.is_empty()).count();
    assert!(findings.any(|one| one.prefix == "203.0.113.0/24"));
    assert!(alone < 40, "{alone}");
}

/// More than may wait: the oldest are counted at once, and memory has its bound.
#[test]
fn a_flood_of_requests_that_wait_ends_the_waiting() {
    let mut engine = deriving();
    let mut out = Vec::new();
    let before = engine.heap_bytes();
    for id in 0..20_000 {
        let address = format!("203.0.113.{}", id % 200);
        engine.observe(request(id, &address, &[CLIENT], 0), &mut out);
    }
    assert!(
        engine.heap_bytes() - before < 64 * 1024 * 1024,
        "{}",
        engine.heap_bytes()
    );
    engine.observe(request(20_000, "203.0.113.1", &[CLIENT], 1), &mut out);
    let findings: Vec<_> = out.into_iter().map(|one| one.finding).collect();
    assert!(
        derived(&findings)
            .iter()
            .any(|one| one.prefix == "203.0.113.0/24")
    );
}

proptest! {
    #![proptest_config(cases(100))]

    /// An engine that continues from the bytes of another holds back the same requests.
    #[test]
    fn what_waits_is_kept(
        steps in vec((0_i64..20, any::<bool>(), any::<bool>(), 0_u64..30), 1..80),
        cut in 0_usize..80,
    ) {
        let (mut whole, mut parts) = (deriving(), deriving());
        let (mut of_whole, mut of_parts) = (Vec::new(), Vec::new());
        let mut at = 0;
        for (id, (gap, is_first, is_pair, tick)) in (0_u32..).zip(steps) {
            at += gap * SECOND;
            let server = format!("10.128.0.{}", id % 6);
            let mut hits = vec![request(id, &server, &[CLIENT], at)];
            hits.extend(is_pair.then(|| request(id, CLIENT, &[], at)));
            if is_first {
                hits.reverse();
            }
            if cut == id as usize {
                let bytes = parts.export().encode();
                let state = EngineState::decode(&bytes).unwrap();
                prop_assert_eq!(state.encode(), bytes);
                parts = deriving();
                parts.import(state);
            }
            for (engine, out) in [(&mut whole, &mut of_whole), (&mut parts, &mut of_parts)] {
                for hit in &hits {
                    engine.observe(hit.clone(), out);
                }
                engine.tick(Duration::from_secs(tick), out);
            }
        }
        prop_assert_eq!(whole.export().encode(), parts.export().encode());
        whole.drain(&mut of_whole);
        parts.drain(&mut of_parts);
        prop_assert_eq!(&of_whole, &of_parts);
    }

    /// Whichever log comes first, and however ticks come between: in the end the findings say the
    /// same. An engine that continues from the bytes of another does just as that one does.
    #[test]
    fn the_order_of_the_two_logs_does_not_matter(
        steps in vec((0_i64..40, 0_i64..3, any::<bool>(), any::<bool>()), 1..60),
        delays in vec(any::<u32>(), 40),
        ticks in vec(0_u64..8, 40),
        cut in 0_usize..120,
    ) {
        let (mut hits, mut at) = (Vec::new(), 0);
        for (id, (gap, delay, is_pair, is_other)) in (0_u32..).zip(steps) {
            at += gap * SECOND;
            let client = if is_other { "203.0.113.9" } else { CLIENT };
            if is_pair {
                hits.push(request(id, client, &[], at));
            }
            hits.push(request(id, SERVER, &[client], at + delay * SECOND));
        }
        hits.sort_by_key(|hit| (hit.time, hit.identity));
        let wanted = content(&run(&mut engine(), hits.clone()));
        let hits = reordered(&hits, &delays, 600 * SECOND);
        let (mut whole, mut parts) = (engine(), engine());
        let (mut of_whole, mut of_parts) = (Vec::new(), Vec::new());
        for (at, (hit, tick)) in hits.iter().zip(ticks.iter().cycle()).enumerate() {
            if at == cut {
                let bytes = parts.export().encode();
                let state = EngineState::decode(&bytes).unwrap();
                prop_assert_eq!(state.encode(), bytes);
                parts = engine();
                parts.import(state);
            }
            for (engine, out) in [(&mut whole, &mut of_whole), (&mut parts, &mut of_parts)] {
                // What a hit causes is within what was said before.
                let mut steps = usize::MAX;
                engine.prepare(hit, &mut steps, out);
                let bound = engine.bound(std::slice::from_ref(hit));
                let before = out.len();
                engine.observe(hit.clone(), out);
                prop_assert!(out.len() - before <= bound);
                engine.tick(Duration::from_secs(*tick), out);
            }
        }
        prop_assert_eq!(whole.export().encode(), parts.export().encode());
        whole.drain(&mut of_whole);
        parts.drain(&mut of_parts);
        prop_assert_eq!(&of_whole, &of_parts);
        let findings: Vec<_> = of_whole.into_iter().map(|one| one.finding).collect();
        prop_assert_eq!(content(&findings), wanted);
    }
}
