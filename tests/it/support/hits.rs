//! Hits for the engine, and the orders in which they may arrive.

use std::{sync::Arc, time::Duration};

use auditwatch::detection::{
    Finding,
    emission::Emission,
    engine::Engine,
    fields::AuditField,
    hit::{Hit, Identity},
    limits::Limits,
    rule::Rule,
    time::Micros,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// 2026-11-25T09:50:00Z
pub(crate) const START: i64 = 1_795_600_200_000_000;
pub(crate) const SECOND: i64 = 1_000_000;

/// A request of this key, `after` microseconds from the start. Everything else follows from `id`.
pub(crate) fn hit(id: u32, cluster: &str, key: &str, after: i64) -> Hit {
    let mut identity = [0; 16];
    // Not in the order of the ids.
    identity[..4].copy_from_slice(&id.wrapping_mul(2_654_435_761).to_le_bytes());
    let code = if id.is_multiple_of(3) { 401 } else { 403 };
    let of = |many: u32, name: &str| format!("{name}{}", id % many);
    // In escu semantics every address is a source, and none a mere claim.
    let mut claimed = vec![(AuditField::ClaimedIps, format!("203.0.113.{}", id % 4))];
    claimed.extend((key == "unknown").then(|| (AuditField::ClaimedIps, key.to_owned())));
    claimed.retain(|_| !key.is_empty());
    let values = [
        (AuditField::Verb, of(3, "verb")),
        (AuditField::RequestUri, of(17, "/path/")),
        (AuditField::UserAgent, of(5, "agent")),
        (AuditField::Username, of(2, "user")),
        (AuditField::Groups, "system:unauthenticated".to_owned()),
        (AuditField::Code, code.to_string()),
        (AuditField::Message, of(4, "message")),
        (AuditField::Status, "Failure".to_owned()),
        (AuditField::AuditId, format!("id-{id}")),
        (AuditField::Stage, "ResponseComplete".to_owned()),
    ];
    Hit {
        detection: 0,
        time: Some(Micros(START + after)),
        clamped: id % 50 == 49,
        cluster: Arc::from(cluster),
        key: key.to_owned(),
        sources: Vec::new(),
        code,
        texts: values.into_iter().chain(claimed).collect(),
        identity: Identity(identity),
        ..Hit::default()
    }
}

/// Window, lateness and threshold of a rule.
pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let spans = select(vec![
        (3600 * SECOND, 600 * SECOND),
        (60 * SECOND, 20 * SECOND),
        (60 * SECOND, 60 * SECOND - 1),
        (10 * SECOND, 600 * SECOND),
        (10 * SECOND, 0),
    ]);
    (spans, 0u64..7).prop_map(|((window, lateness), threshold)| Rule {
        window,
        lateness,
        threshold,
        ..Rule::default()
    })
}

/// The lateness the engine uses: never as long as a window.
pub(crate) fn lateness(rule: &Rule) -> i64 {
    rule.lateness.min(rule.window - 1)
}

/// Hits, shown by what matters of them.
#[derive(Clone)]
pub(crate) struct Log(pub(crate) Vec<Hit>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |hit: &Hit| {
            (
                hit.cluster.clone(),
                hit.key.clone(),
                hit.texts.get(AuditField::AuditId).map(str::to_owned),
                hit.time.map(|time| time.0 - START),
            )
        };
        f.debug_list().entries(self.0.iter().map(show)).finish()
    }
}

/// Hits of several keys in two clusters, several scans each, in order of event time.
pub(crate) fn log(rule: &Rule) -> impl Strategy<Value = Log> + use<> {
    let (window, lateness) = (rule.window, lateness(rule));
    let gap = prop_oneof![
        2 => Just(0),
        12 => 0..=window / 6,
        2 => 0..=window,
        2 => select(vec![window - 1, window, window + 1, lateness, window + lateness]),
        1 => window..=3 * window,
    ];
    let key = select(vec![
        ("", "192.0.2.1"),
        ("", "192.0.2.2"),
        ("", "unknown"),
        ("b", "192.0.2.1"),
    ]);
    vec((key, 0..=window, vec(gap, 0..30)), 1..5).prop_map(|walks| {
        let mut hits = Vec::new();
        for ((cluster, key), start, gaps) in walks {
            let mut after = start;
            for gap in gaps {
                after += gap;
                hits.push(hit(u32::try_from(hits.len()).unwrap(), cluster, key, after));
            }
        }
        hits.sort_by_key(|hit| (hit.time, hit.identity));
        Log(hits)
    })
}

/// The same hits in an order in which none is further behind than the lateness.
pub(crate) fn reordered(hits: &[Hit], delays: &[u32], lateness: i64) -> Vec<Hit> {
    let mut hits: Vec<_> = hits
        .iter()
        .zip(delays.iter().cycle())
        .map(|(hit, delay)| {
            let delay = i128::from(lateness) * i128::from(*delay) / i128::from(u32::MAX);
            (
                hit.time.unwrap().plus(i64::try_from(delay).unwrap()),
                hit.clone(),
            )
        })
        .collect();
    hits.sort_by_key(|(arrival, _)| *arrival);
    hits.into_iter().map(|(_, hit)| hit).collect()
}

pub(crate) fn engine(rule: &Rule) -> Engine {
    Engine::new(rule.clone(), Limits::default(), None)
}

/// The findings that were emitted, each in the state it says.
pub(crate) fn findings(emissions: Vec<Emission>) -> Vec<Finding> {
    let finding = |one: Emission| {
        assert_eq!(one.state.as_str(), one.finding.state);
        one.finding
    };
    emissions.into_iter().map(finding).collect()
}

/// The findings that the passing of time causes.
pub(crate) fn tick(engine: &mut Engine, elapsed: Duration) -> Vec<Finding> {
    let mut out = Vec::new();
    engine.tick(elapsed, &mut out);
    findings(out)
}

pub(crate) fn observe(engine: &mut Engine, hit: &Hit) -> Vec<Finding> {
    let mut out = Vec::new();
    engine.observe(hit.clone(), &mut out);
    findings(out)
}

pub(crate) fn drain(engine: &mut Engine) -> Vec<Finding> {
    let mut out = Vec::new();
    engine.drain(&mut out);
    findings(out)
}

/// Everything an engine says of these hits, with the last words.
pub(crate) fn all(mut engine: Engine, hits: &[Hit]) -> Vec<Finding> {
    let mut out: Vec<_> = hits
        .iter()
        .flat_map(|hit| observe(&mut engine, hit))
        .collect();
    out.extend(drain(&mut engine));
    out
}

/// A time of a finding in microseconds after the start.
pub(crate) fn after(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.unwrap();
    time.seconds * SECOND + i64::from(time.nanos) / 1000 - START
}
