//! From what was gathered to the finding that is sent.

use std::sync::Arc;

use super::{
    address,
    escu::GroupPlace,
    evidence::Evidence,
    finding::Finding,
    geo::{Locate, Location},
    ids,
    native::{Open, State},
    rule::{RISK_SCORE, RULE_ID, RULE_NAME, RULE_VERSION, Rule},
};

/// Writes findings of one rule.
pub(super) struct Report {
    fingerprint: String,
    pub(super) locate: Option<Arc<dyn Locate>>,
}

impl Report {
    pub(super) fn new(rule: &Rule, locate: Option<Arc<dyn Locate>>) -> Self {
        Self {
            fingerprint: rule.fingerprint(),
            locate,
        }
    }

    /// A state of a native finding.
    pub(super) fn native(
        &self,
        rule: &Rule,
        (cluster, key): (&str, &str),
        state: State,
        open: &Open,
    ) -> Finding {
        let mut finding = Finding {
            finding_id: ids::native(cluster, key, open.opening),
            alert_at: Some(open.alert_at.to_proto()),
            ..self.common(rule, (cluster, key), state, &open.evidence)
        };
        set_location(&mut finding, self.location(key).unwrap_or_default());
        finding.drilldown_search = ids::drilldown(&finding, rule);
        finding
    }

    /// The row of an escu group, if it is above the threshold.
    pub(super) fn row(
        &self,
        rule: &Rule,
        cluster: &str,
        ((start, group), evidence): &(GroupPlace, Evidence),
        out: &mut Vec<Finding>,
    ) {
        if evidence.count <= rule.threshold {
            return;
        }
        let (src_ip, (country, city)) = &**group;
        let place = (country.as_deref(), city.as_deref());
        let mut finding = Finding {
            finding_id: ids::escu(cluster, src_ip, place, *start),
            window_start: Some(start.to_proto()),
            window_end: Some(start.plus(rule.window).to_proto()),
            ..self.common(rule, (cluster, src_ip), State::Opened, evidence)
        };
        let location = self.location(src_ip).unwrap_or_default();
        set_location(
            &mut finding,
            Location {
                country: country.clone(),
                city: city.clone(),
                ..location
            },
        );
        finding.drilldown_search = ids::drilldown(&finding, rule);
        out.push(finding);
    }

    fn location(&self, key: &str) -> Option<Location> {
        self.locate.as_ref()?.locate(address::locatable(key)?)
    }

    fn common(
        &self,
        rule: &Rule,
        (cluster, src_ip): (&str, &str),
        state: State,
        evidence: &Evidence,
    ) -> Finding {
        let mut finding = Finding {
            state: state.name().to_owned(),
            rule_id: RULE_ID.to_owned(),
            rule_name: RULE_NAME.to_owned(),
            rule_version: RULE_VERSION.to_owned(),
            semantics: rule.semantics.to_string(),
            severity: "low".to_owned(),
            risk_score: RISK_SCORE,
            cluster: cluster.to_owned(),
            src_ip: src_ip.to_owned(),
            src: src_ip.to_owned(),
            threshold: rule.threshold,
            window_seconds: ids::seconds(rule.window),
            mitre_technique_id: "T1046".to_owned(),
            mitre_technique: "Network Service Discovery".to_owned(),
            mitre_tactic: "Discovery".to_owned(),
            config_fingerprint: self.fingerprint.clone(),
            ..Finding::default()
        };
        evidence.write(&mut finding);
        finding
    }
}

fn set_location(finding: &mut Finding, location: Location) {
    finding.country = location.country;
    finding.city = location.city;
    finding.region = location.region;
    finding.country_iso_code = location.country_iso_code;
    finding.lat = location.lat;
    finding.lon = location.lon;
}
