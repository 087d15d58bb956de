//! What the service would send of the subject, had it taken the log in this order.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use serde::Serialize;

use crate::{
    detection::{
        emission::Emission,
        engine::Engine,
        event::Event,
        exclude::Exclusions,
        explain::Subject,
        fields::AuditField,
        finding::Finding,
        geo::Locate,
        limits::{Bounds, Limits},
        time::Micros,
    },
    processor::gate::{Decided, Gate},
    rules::{Scratch, model::Detection},
};

/// States of findings that are kept.
const MOST_STATES: usize = 1000;
/// Keys that are kept of records with the auditID.
const MOST_KEYS: usize = 1000;

/// One state of one finding, as it would be sent.
#[derive(Clone, Debug, Serialize)]
pub(in crate::cli) struct Emitted {
    /// Event time of this state: of the alert, else of the last request.
    pub(super) time: String,
    /// opened, updated or closed.
    pub(super) state: String,
    /// Identifier of the finding.
    pub(super) finding_id: String,
    /// The rule, for people.
    pub(super) rule: String,
    /// Its severity.
    pub(super) severity: String,
    /// Why it has that severity.
    pub(super) reasons: Vec<String>,
    /// Requests so far.
    pub(super) count: u64,
    /// What the filter of the configuration says: `kept`, `filtered`, or `failed`, which keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) filter: Option<&'static str>,
    /// Why it was closed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) close_reason: String,
}

/// An engine as the service has it.
pub(super) struct Service {
    engine: Engine,
    detections: Vec<Arc<Detection>>,
    wanted: Wanted,
    states: Vec<Emitted>,
    scratch: Scratch,
    exclusions: Exclusions,
    gate: Option<Gate>,
}

/// Whose findings are wanted.
enum Wanted {
    Address(IpAddr),
    /// Those of the keys that records with this auditID count for.
    AuditId(String, BTreeSet<String>),
}

impl Service {
    pub(super) fn new(
        subject: &Subject,
        detections: &[Arc<Detection>],
        locate: Option<Arc<dyn Locate>>,
    ) -> Self {
        Self {
            engine: Engine::new(detections.to_vec(), Limits::default(), locate),
            detections: detections.to_vec(),
            wanted: match subject {
                Subject::Address(address) => Wanted::Address(*address),
                Subject::AuditId(id) => Wanted::AuditId(id.clone(), BTreeSet::new()),
            },
            states: Vec::new(),
            scratch: Scratch::default(),
            exclusions: Exclusions::default(),
            gate: None,
        }
    }

    /// With the exclusions and the filter of a configuration.
    pub(super) fn configured(mut self, exclusions: Exclusions, gate: Option<Gate>) -> Self {
        self.exclusions = exclusions;
        self.gate = gate;
        self
    }

    /// Takes an audit event.
    pub(super) fn add(&mut self, event: &Event<'_>) {
        let bounds = Bounds::from(&Limits::default());
        let mut found = Vec::new();
        for (place, detection) in (0..).zip(&self.detections) {
            event.hits(detection, &mut self.scratch, &bounds, &mut |mut hit| {
                hit.detection = place;
                self.exclusions.mark(event, detection, &mut hit);
                if let Wanted::AuditId(id, keys) = &mut self.wanted
                    && keys.len() < MOST_KEYS
                    && hit.texts.get(AuditField::AuditId) == Some(id)
                {
                    let sources = hit.sources.iter();
                    keys.extend(sources.cloned().chain([hit.key.clone()]));
                }
                self.engine.observe(hit, &mut found);
            });
        }
        self.keep(found);
    }

    /// The states in order.
    pub(super) fn finish(mut self) -> Vec<Emitted> {
        let mut found = Vec::new();
        self.engine.drain(&mut found);
        self.keep(found);
        self.states
    }

    fn keep(&mut self, found: Vec<Emission>) {
        for emission in found {
            let filter = self.gate.as_mut().map(|gate| match gate.decide(&emission) {
                Decided::Kept => "kept",
                Decided::Filtered => "filtered",
                Decided::Failed => "failed",
            });
            let Emission { finding, .. } = emission;
            if self.states.len() < MOST_STATES && self.wanted.is(&finding) {
                self.states.push(Emitted {
                    filter,
                    ..emitted(finding)
                });
            }
        }
    }
}

impl Wanted {
    /// Whether a finding is one of these.
    fn is(&self, finding: &Finding) -> bool {
        match self {
            Self::Address(wanted) => match finding.src_ip.parse::<ipnet::IpNet>() {
                Ok(network) => network.contains(wanted),
                Err(_) => crate::detection::address::locatable(&finding.src_ip) == Some(*wanted),
            },
            Self::AuditId(_, keys) => {
                let values = finding.group_by.iter();
                let mut values = values.filter_map(|group| group.value.as_ref());
                keys.contains(&finding.src_ip) || values.any(|value| keys.contains(value))
            }
        }
    }
}

fn emitted(finding: Finding) -> Emitted {
    let at = if finding.state == "opened" {
        finding.alert_at.or(finding.window_end)
    } else {
        finding.last_time
    };
    let time = at.or(finding.last_time).and_then(|time| {
        let seconds = time.seconds.checked_mul(1_000_000)?;
        Some(Micros(seconds.checked_add(i64::from(time.nanos) / 1000)?))
    });
    Emitted {
        time: time.map_or_else(String::new, crate::cli::table::second),
        state: finding.state,
        finding_id: finding.finding_id,
        rule: finding.rule_name,
        severity: finding.severity,
        reasons: finding.severity_reasons,
        count: finding.count,
        filter: None,
        close_reason: finding.close_reason,
    }
}
