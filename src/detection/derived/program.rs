//! The derived detections of an engine, ready to run: what each needs to know of its rule.

use std::{net::Ipv6Addr, sync::Arc};

use super::{
    key::{self, Network, Octets},
    life::{self, Arrived, Form, Pace},
    peers,
    ring::Slots,
    rollup, slow,
    table::Bounds,
};
use crate::{
    detection::{geo::Locate, limits::Limits},
    finding::ids,
    rules::{
        model::{Detection, Over},
        settings::SECOND,
    },
};

/// Part of the memory of all state that each derived detection may take.
pub(in crate::detection) const PART: usize = 8;
/// Part of that for findings and their evidence.
pub(in crate::detection) const LIVES_PART: usize = 4;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// The derived detections of an engine.
pub(in crate::detection) struct Setup {
    pub(in crate::detection) programs: Vec<Program>,
    /// The greatest lateness of them, in microseconds.
    pub(in crate::detection) lateness: i64,
    /// What knows autonomous systems, if anything does.
    systems: Option<Arc<dyn Locate>>,
}

/// A derived detection, ready to run.
pub(in crate::detection) struct Program {
    /// Its place in the list of the engine.
    pub(in crate::detection) detection: usize,
    /// The place of the one behind it.
    pub(in crate::detection) source: usize,
    pub(in crate::detection) rule: Arc<Detection>,
    /// How much of a finding is written.
    pub(in crate::detection) limits: Limits,
    pub(in crate::detection) over: Over,
    pub(in crate::detection) slots: Slots,
    pub(in crate::detection) pace: Pace,
}

impl Setup {
    pub(in crate::detection) fn of(
        detections: &[Arc<Detection>],
        limits: &Limits,
        locate: Option<&Arc<dyn Locate>>,
    ) -> Self {
        let programs = detections.iter().enumerate();
        let programs = programs.filter_map(|(at, rule)| {
            let derivation = rule.derivation.as_ref()?;
            let source = detections
                .iter()
                .position(|other| other.is_source_of(derivation))?;
            let window = rule.window.length();
            let (period, quiet, memory) = match derivation.over {
                Over::Prefix { .. } | Over::Peer { .. } => (HOUR, window, window),
                Over::Address { quiet, .. } => (DAY, quiet, window),
            };
            Some(Program {
                detection: at,
                source,
                rule: Arc::clone(rule),
                limits: limits.clone(),
                over: derivation.over,
                slots: Slots::of(window),
                pace: Pace {
                    period,
                    quiet,
                    memory,
                    lateness: rule.lateness,
                },
            })
        });
        let programs: Vec<_> = programs.collect();
        let lateness = programs.iter().map(|program| program.pace.lateness).max();
        Self {
            programs,
            lateness: lateness.unwrap_or_default(),
            systems: locate.filter(|locate| locate.has_systems()).cloned(),
        }
    }

    /// An address as a member of its autonomous system, if that is known.
    pub(in crate::detection) fn in_system(&self, octets: Octets) -> Option<Octets> {
        let systems = self.systems.as_ref()?;
        let address = Ipv6Addr::from(octets).to_canonical();
        key::in_system(systems.system(address)?, octets)
    }

    /// Whether requests and findings of a detection are of interest here.
    pub(in crate::detection) fn is_source(&self, detection: usize) -> bool {
        self.programs
            .iter()
            .any(|program| program.source == detection)
    }

    pub(in crate::detection) fn of_source(
        &self,
        detection: usize,
    ) -> impl Iterator<Item = &Program> {
        self.programs
            .iter()
            .filter(move |program| program.source == detection)
    }
}

impl Program {
    pub(in crate::detection) fn id(
        &self,
        cluster: &str,
        network: &Network,
        hit: &Arrived<'_>,
    ) -> u128 {
        let rule = &self.rule.annotations.id;
        let id = ids::native(rule, cluster, &self.name(network), hit.place);
        life::number(&id).unwrap_or_default()
    }

    /// The text of the key of a finding.
    pub(in crate::detection) fn name(&self, network: &Network) -> String {
        match self.over {
            Over::Prefix { .. } => network.text(),
            Over::Address { .. } => key::text(network.first, self.rule.hops.ipv6_prefix),
            Over::Peer { .. } => key::text(network.first, 128),
        }
    }

    pub(in crate::detection) fn form(&self) -> Form<'_> {
        Form {
            ipv6_prefix: self.rule.hops.ipv6_prefix,
            limits: &self.limits,
        }
    }

    pub(in crate::detection) fn rollup(&self, requests: u64, limits: &Limits) -> rollup::Needs {
        rollup::Needs {
            addresses: self.rule.threshold,
            requests,
            slots: self.slots,
            pace: self.pace,
            table: table(limits),
        }
    }

    pub(in crate::detection) fn slow(
        &self,
        (requests, hours): (u64, u32),
        limits: &Limits,
    ) -> slow::Needs {
        slow::Needs {
            paths: self.rule.threshold,
            requests,
            hours,
            pace: self.pace,
            table: table(limits),
        }
    }

    pub(in crate::detection) fn peers(&self, requests: u64) -> peers::Needs {
        peers::Needs {
            claims: self.rule.threshold,
            requests,
            slots: self.slots,
            pace: self.pace,
        }
    }
}

/// The bounds of the table of one derived detection.
pub(in crate::detection) fn table(limits: &Limits) -> Bounds {
    let bytes = limits.memory / PART;
    Bounds {
        entries: limits.keys,
        bytes: bytes - bytes / LIVES_PART,
    }
}
