//! From what windows emit to the finding that is sent.

use std::sync::Arc;

use super::{
    address,
    emission::{Draft, Origin},
    finding::Finding,
    geo::{Locate, Location},
    ids,
};
use crate::rules::model::{Detection, Window};

/// Completes the findings of one detection.
pub(super) struct Report {
    detection: Arc<Detection>,
    /// How far an event may be behind the greatest event time, in microseconds.
    lateness: i64,
    locate: Option<Arc<dyn Locate>>,
}

impl Report {
    pub(super) fn new(
        detection: Arc<Detection>,
        lateness: i64,
        locate: Option<Arc<dyn Locate>>,
    ) -> Self {
        Self {
            detection,
            lateness,
            locate,
        }
    }

    /// The finding of a cluster that a draft becomes.
    pub(super) fn finding(&self, cluster: &str, draft: Draft) -> Finding {
        let rule = &self.detection.annotations.id;
        let mut finding = Finding {
            state: draft.state.as_str().to_owned(),
            ..draft.evidence
        };
        let location = match draft.origin {
            Origin::Session {
                key,
                opening,
                alert_at,
            } => {
                finding.finding_id = ids::native(rule, cluster, &key, opening);
                finding.alert_at = Some(alert_at.to_proto());
                key.as_ref().clone_into(&mut finding.src_ip);
                self.location(&key)
            }
            Origin::Tumbling { group, end } => {
                let (source, (country, city)) = (&group.key.text, &group.key.place);
                let place = (country.as_deref(), city.as_deref());
                finding.finding_id = ids::escu(rule, cluster, source, place, group.start);
                finding.window_start = Some(group.start.to_proto());
                finding.window_end = Some(end.to_proto());
                source.as_ref().clone_into(&mut finding.src_ip);
                Location {
                    country: country.clone(),
                    city: city.clone(),
                    ..self.location(source)
                }
            }
        };
        self.set_common(cluster, location, &mut finding);
        finding.drilldown_search = ids::drilldown(&finding, &self.detection, self.lateness);
        finding
    }

    fn location(&self, key: &str) -> Location {
        let location = self.locate.as_ref().zip(address::locatable(key));
        location
            .and_then(|(locate, address)| locate.locate(address))
            .unwrap_or_default()
    }

    fn set_common(&self, cluster: &str, location: Location, finding: &mut Finding) {
        let annotations = &self.detection.annotations;
        let semantics = match self.detection.window {
            Window::Session { .. } => "native",
            Window::Tumbling { .. } => "escu",
        };
        finding.rule_id.clone_from(&annotations.id);
        finding.rule_name.clone_from(&annotations.title);
        finding.rule_version.clone_from(&annotations.version);
        semantics.clone_into(&mut finding.semantics);
        finding.severity.clone_from(&annotations.level);
        finding.risk_score = annotations.score;
        cluster.clone_into(&mut finding.cluster);
        finding.src = finding.src_ip.clone();
        finding.threshold = self.detection.threshold;
        finding.window_seconds = ids::seconds(self.detection.window.length());
        finding
            .mitre_technique_id
            .clone_from(&annotations.technique_id);
        finding.mitre_technique.clone_from(&annotations.technique);
        finding.mitre_tactic.clone_from(&annotations.tactic);
        finding
            .config_fingerprint
            .clone_from(&self.detection.fingerprint);
        finding.country = location.country;
        finding.city = location.city;
        finding.region = location.region;
        finding.country_iso_code = location.country_iso_code;
        finding.lat = location.lat;
        finding.lon = location.lon;
    }
}
