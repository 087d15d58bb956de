//! From what was gathered to the finding that is sent.

use std::sync::Arc;

use super::{
    address,
    escu::GroupPlace,
    evidence::Evidence,
    finding::{Finding, FindingState, annotate::annotate},
    geo::{Locate, Location},
    ids,
    native::Open,
    rule::Rule,
};
use crate::rules::model::{Detection, Window};

/// Writes findings of one detection.
pub(super) struct Report {
    detection: Detection,
    /// How far an event may be behind and still be on time, in microseconds.
    lateness: i64,
    pub(super) locate: Option<Arc<dyn Locate>>,
}

/// A finding in the making.
struct Draft<'a> {
    cluster: &'a str,
    /// The text of what its events are grouped by.
    key: &'a str,
    state: FindingState,
    evidence: &'a Evidence,
    location: Location,
}

impl Report {
    pub(super) fn new(rule: &Rule, locate: Option<Arc<dyn Locate>>) -> Self {
        let detection = Detection::of(rule);
        let lateness = match detection.window {
            // The engine allows no more.
            Window::Session { length } => detection.lateness.min(length - 1),
            Window::Tumbling { .. } => detection.lateness,
        };
        Self {
            detection,
            lateness,
            locate,
        }
    }

    /// A state of a native finding.
    pub(super) fn native(
        &self,
        (cluster, key): (&str, &str),
        state: FindingState,
        open: &Open,
    ) -> Finding {
        let rule = &self.detection.annotations.id;
        let finding = Finding {
            finding_id: ids::native(rule, cluster, key, open.opening),
            alert_at: Some(open.alert_at.to_proto()),
            ..Finding::default()
        };
        let draft = Draft {
            cluster,
            key,
            state,
            evidence: &open.evidence,
            location: self.location(key).unwrap_or_default(),
        };
        self.complete(finding, draft)
    }

    /// The row of an escu group, if it is above the threshold.
    pub(super) fn row(
        &self,
        cluster: &str,
        ((start, group), evidence): &(GroupPlace, Evidence),
        out: &mut Vec<Finding>,
    ) {
        if evidence.count <= self.detection.threshold {
            return;
        }
        let (src_ip, (country, city)) = &**group;
        let place = (country.as_deref(), city.as_deref());
        let rule = &self.detection.annotations.id;
        let finding = Finding {
            finding_id: ids::escu(rule, cluster, src_ip, place, *start),
            window_start: Some(start.to_proto()),
            window_end: Some(start.plus(self.detection.window.length()).to_proto()),
            ..Finding::default()
        };
        let draft = Draft {
            cluster,
            key: src_ip,
            state: FindingState::Opened,
            evidence,
            location: Location {
                country: country.clone(),
                city: city.clone(),
                ..self.location(src_ip).unwrap_or_default()
            },
        };
        out.push(self.complete(finding, draft));
    }

    fn location(&self, key: &str) -> Option<Location> {
        self.locate.as_ref()?.locate(address::locatable(key)?)
    }

    /// Writes all that is left into a finding that has its id and the times of its state.
    fn complete(&self, mut finding: Finding, draft: Draft<'_>) -> Finding {
        let location = draft.location;
        draft.state.as_str().clone_into(&mut finding.state);
        draft.cluster.clone_into(&mut finding.cluster);
        finding.country = location.country;
        finding.city = location.city;
        finding.region = location.region;
        finding.country_iso_code = location.country_iso_code;
        finding.lat = location.lat;
        finding.lon = location.lon;
        draft.evidence.write(&mut finding);
        annotate(&mut finding, &self.detection, draft.key);
        finding.drilldown_search = ids::drilldown(&finding, &self.detection, self.lateness);
        finding
    }
}
