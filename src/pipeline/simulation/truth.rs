//! What must be true of all that was sent, written and delivered.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::{sent::BASE, world::State};
use crate::{
    detection::{
        Finding,
        input::Input,
        limits::Limits,
        rule::{Rule, Semantics},
        time::Micros,
    },
    processor::detection::Detection,
};

/// A window with more hits than this makes a finding.
const THRESHOLD: u64 = 3;

thread_local! {
    static DETECTION: Detection = first_detection();
}

/// The detections: one that counts a request once, and one that counts deliveries.
pub(super) fn detection() -> Detection {
    DETECTION.with(Detection::anew)
}

fn first_detection() -> Detection {
    let rule = |semantics| Rule {
        semantics,
        threshold: THRESHOLD,
        window: 6 * 3600 * 1_000_000,
        window_offset: 0,
        lateness: 3600 * 1_000_000,
        ..Rule::default()
    };
    let mut detections = Vec::new();
    for semantics in [Semantics::Native, Semantics::Escu] {
        detections.append(&mut rule(semantics).into());
    }
    let settings = Rule::default();
    Detection::new(&settings, detections, Limits::default(), &[], None).unwrap()
}

type Key = (String, String);

/// What is known of an address.
#[derive(Debug, Default)]
struct Truth {
    distinct: u64,
    acknowledged: u64,
    sent: u64,
}

pub(super) fn check(state: &State) -> Result<(), String> {
    let findings: Vec<_> = state
        .record
        .findings
        .iter()
        .map(|bytes| Finding::decode(bytes.as_slice()).unwrap())
        .collect();
    replayed(state)?;
    for endpoint in &state.endpoints {
        if endpoint.received != findings.len() as u64 {
            return Err(format!(
                "of {} findings arrived {endpoint:?}",
                findings.len()
            ));
        }
    }
    contents(&findings)?;
    counts(state, &findings)
}

/// The log from its beginning, without a crash, gives the findings of the outbox.
fn replayed(state: &State) -> Result<(), String> {
    let mut detection = detection();
    detection.follow_log(false);
    detection.started_at_time(Micros(BASE - 3_600_000_000));
    let mut number = 0;
    for entry in &state.record.entries {
        for emission in detection.apply(Input::decode(entry).unwrap()) {
            let kept = state.record.findings.get(number);
            if kept != Some(&emission.finding.encode_to_vec()) {
                let json = |bytes: &Vec<u8>| Finding::decode(bytes.as_slice()).unwrap().to_json();
                return Err(format!(
                    "finding {number} of the outbox is not that of the log:\n{:?}\n{:?}",
                    kept.map(json),
                    emission.finding.to_json()
                ));
            }
            number += 1;
        }
    }
    if number == state.record.findings.len() {
        Ok(())
    } else {
        let outbox = state.record.findings.len();
        Err(format!(
            "the log has {number} findings, the outbox {outbox}"
        ))
    }
}

/// A state of a finding has one content: those that repeat (updates) tell each other apart by counts.
fn contents(findings: &[Finding]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for finding in findings {
        let state = (&finding.finding_id, &finding.state, finding.count);
        if !seen.insert(state) {
            return Err(format!("twice: {state:?}"));
        }
    }
    Ok(())
}

/// Every hit counts: once, or as often as it was delivered.
fn counts(state: &State, findings: &[Finding]) -> Result<(), String> {
    let mut truth: BTreeMap<(bool, Key), Truth> = BTreeMap::new();
    for request in &state.requests {
        for hit in &request.hits {
            let is_escu = hit.detection == 1;
            let source = if is_escu { &hit.sources[0] } else { &hit.key };
            let key = (hit.cluster.to_string(), source.clone());
            let sent = truth.entry((is_escu, key)).or_default();
            sent.distinct += 1;
            sent.acknowledged += request.acknowledged;
            sent.sent += request.sent;
        }
    }
    let mut found: BTreeMap<(bool, Key), BTreeSet<(&str, u64)>> = BTreeMap::new();
    for finding in findings {
        let key = (finding.cluster.clone(), finding.src_ip.clone());
        let is_row = finding.is_row();
        if is_row || finding.state == "closed" {
            let all = found.entry((is_row, key)).or_default();
            all.insert((&finding.finding_id, finding.count));
        }
    }
    for ((is_escu, key), sent) in &truth {
        let all = found.remove(&(*is_escu, key.clone())).unwrap_or_default();
        let counted: Vec<_> = all.iter().map(|(_, count)| *count).collect();
        let is_right = match (*is_escu, &*counted) {
            (false, []) => sent.distinct <= THRESHOLD,
            (false, [count]) => *count == sent.distinct && sent.distinct > THRESHOLD,
            (true, []) => sent.acknowledged <= THRESHOLD,
            (true, [count]) => (sent.acknowledged..=sent.sent).contains(count),
            _ => false,
        };
        if !is_right {
            return Err(format!(
                "{key:?} (escu: {is_escu}): {sent:?}, found {all:?}"
            ));
        }
    }
    if let Some(more) = found.first_key_value() {
        return Err(format!("of nothing that was sent: {more:?}"));
    }
    Ok(())
}
