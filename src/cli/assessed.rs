//! What the service would say of the addresses of a log: how bad their requests are, and why.
//!
//! The rows of `scan` are counts. Severity, labels and outcome are of findings, so the service's
//! own engine reads the log beside them. Hits reach it in order of time as far as memory allows,
//! because files are read one after the other, each maybe from another API server.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use crate::{
    detection::{
        Finding,
        emission::Emission,
        engine::Engine,
        event::Event,
        finding::Severity,
        geo::Locate,
        hit::Hit,
        limits::{Bounds, Limits},
    },
    rules::{Scratch, model::Detection},
};

/// Bytes of hits that wait to be ordered by time, about.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Findings that are kept: of more, the worst.
const MOST_FINDINGS: usize = 20_000;

/// The findings of a log in the making.
pub(super) struct Assessing {
    detections: Vec<Arc<Detection>>,
    engine: Engine,
    bounds: Bounds,
    scratch: Scratch,
    /// Hits that wait, and their bytes.
    waiting: Vec<Hit>,
    bytes: usize,
    most_bytes: usize,
    found: Vec<Emission>,
    /// The latest state of each finding, by its id.
    latest: BTreeMap<String, Finding>,
}

/// The findings of a log by address.
#[derive(Debug, Default)]
pub(super) struct Assessed(BTreeMap<String, Vec<Finding>>);

impl Assessing {
    pub(super) fn new(detections: Vec<Arc<Detection>>, locate: Option<Arc<dyn Locate>>) -> Self {
        Self {
            engine: Engine::new(detections.clone(), Limits::default(), locate),
            detections,
            bounds: Bounds::from(&Limits::default()),
            scratch: Scratch::default(),
            waiting: Vec::new(),
            bytes: 0,
            most_bytes: MOST_BYTES,
            found: Vec::new(),
            latest: BTreeMap::new(),
        }
    }

    /// Takes an event if it counts.
    pub(super) fn add(&mut self, event: &Event<'_>) {
        let Self {
            detections,
            bounds,
            scratch,
            waiting,
            bytes,
            ..
        } = self;
        for (place, detection) in (0..).zip(detections.iter()) {
            event.hits(detection, scratch, bounds, &mut |mut hit| {
                hit.detection = place;
                *bytes += hit.heap_bytes();
                waiting.push(hit);
            });
        }
        if self.bytes > self.most_bytes {
            // The later half waits on, for what is still to come may belong before it.
            self.observe(self.waiting.len().div_ceil(2));
        }
    }

    /// Lets the engine see the earliest hits.
    fn observe(&mut self, most: usize) {
        self.waiting.sort_by_key(|hit| (hit.time, hit.identity));
        for hit in self.waiting.drain(..most.min(self.waiting.len())) {
            self.engine.observe(hit, &mut self.found);
            keep(&mut self.latest, &mut self.found);
        }
        self.bytes = self.waiting.iter().map(Hit::heap_bytes).sum();
    }

    /// What was found, when the log is at its end.
    pub(super) fn finish(mut self) -> Assessed {
        self.observe(usize::MAX);
        self.engine.drain(&mut self.found);
        keep(&mut self.latest, &mut self.found);
        Assessed::of(self.latest.into_values())
    }
}

/// Keeps the latest states, without the evidence that rows have too.
fn keep(latest: &mut BTreeMap<String, Finding>, found: &mut Vec<Emission>) {
    for Emission { finding, .. } in found.drain(..) {
        let digest = Finding {
            finding_id: finding.finding_id,
            severity: finding.severity,
            severity_reasons: finding.severity_reasons,
            labels: finding.labels,
            outcome: finding.outcome,
            successes: finding.successes,
            success_count: finding.success_count,
            continues: finding.continues,
            src_ip: finding.src_ip,
            first_time: finding.first_time,
            last_time: finding.last_time,
            count: finding.count,
            ..Finding::default()
        };
        latest.insert(digest.finding_id.clone(), digest);
    }
    if latest.len() > 2 * MOST_FINDINGS {
        let mut all: Vec<_> = std::mem::take(latest).into_values().collect();
        all.sort_by_key(worst_first);
        all.truncate(MOST_FINDINGS);
        latest.extend(all.into_iter().map(|one| (one.finding_id.clone(), one)));
    }
}

/// The order of findings: by severity, then by requests, then by time.
fn worst_first(finding: &Finding) -> impl Ord + use<> {
    let first = finding.first_time.unwrap_or_default();
    (
        Reverse((finding.severity(), finding.count)),
        (first.seconds, first.nanos),
        finding.finding_id.clone(),
    )
}

impl Assessed {
    /// Findings by address, the worst first.
    pub(super) fn of(findings: impl Iterator<Item = Finding>) -> Self {
        let mut by_address: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
        for finding in findings {
            let of_address = by_address.entry(finding.src_ip.clone()).or_default();
            of_address.push(finding);
        }
        for findings in by_address.values_mut() {
            findings.sort_by_key(worst_first);
        }
        Self(by_address)
    }

    /// The findings of an address, the worst first.
    pub(super) fn findings(&self, address: &str) -> &[Finding] {
        self.0.get(address).map_or(&[], Vec::as_slice)
    }

    /// The greatest severity of an address.
    pub(super) fn severity(&self, address: &str) -> Option<Severity> {
        self.findings(address).first()?.severity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{audit::json, rules::settings::Rule};

    /// Twenty refused requests of each of three addresses, in the course of ten hours.
    fn log() -> Vec<String> {
        let event = |at: usize| {
            let address = at % 3;
            let minute = 10 * at;
            format!(
                r#"{{"auditID":"{at}","verb":"get","requestURI":"/{at}",
                "user":{{"groups":["system:unauthenticated"]}},"sourceIPs":["192.0.2.{address}"],
                "responseStatus":{{"code":403}},
                "requestReceivedTimestamp":"2026-11-25T{:02}:{:02}:00Z"}}"#,
                minute / 60,
                minute % 60
            )
        };
        (0..60).map(event).collect()
    }

    fn assessed(lines: &[String], most_bytes: usize) -> Assessed {
        let rule = Rule {
            threshold: 1,
            ..Rule::default()
        };
        let mut assessing = Assessing::new(vec![Arc::new(Detection::of(&rule))], None);
        assessing.most_bytes = most_bytes;
        for line in lines {
            let event = json::one(line.as_bytes(), "requestReceivedTimestamp");
            assessing.add(&event.unwrap().unwrap());
        }
        assessing.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Files in any order: what is said of an address is the same.
        #[test]
        fn the_order_of_the_log_does_not_matter(
            lines in Just(log()).prop_shuffle(),
        ) {
            let wanted = assessed(&log(), MOST_BYTES).0;
            prop_assert_eq!(wanted.len(), 3);
            prop_assert_eq!(assessed(&lines, MOST_BYTES).0, wanted);
        }
    }

    /// However little may wait, what comes in order is assessed as a whole.
    #[test]
    fn few_bytes_are_enough_for_a_log_in_order() {
        let wanted = assessed(&log(), MOST_BYTES).0;
        for most in [0, 1, 10_000] {
            assert_eq!(assessed(&log(), most).0, wanted, "{most}");
        }
    }

    #[test]
    fn of_very_many_findings_the_worst_are_kept() {
        let mut latest = BTreeMap::new();
        let finding = |at: usize| Finding {
            finding_id: format!("{at:032x}"),
            severity: if at == 7 { "critical" } else { "low" }.to_owned(),
            paths: vec!["/".to_owned()],
            ..Finding::default()
        };
        let detection = Arc::new(Detection::default());
        for at in 0..=2 * MOST_FINDINGS {
            let emission = Emission {
                detection: Arc::clone(&detection),
                state: crate::detection::finding::FindingState::Opened,
                finding: finding(at),
            };
            keep(&mut latest, &mut vec![emission]);
        }
        assert_eq!(latest.len(), MOST_FINDINGS);
        let worst = &latest[&format!("{:032x}", 7)];
        assert_eq!(worst.severity(), Some(Severity::Critical));
        assert!(worst.paths.is_empty(), "rows have the evidence");
    }
}
