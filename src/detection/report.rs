//! From what windows emit to the finding that is sent.

use std::sync::Arc;

use super::{
    address,
    emission::{Draft, Origin},
    finding::{Finding, annotate},
    geo::{Locate, Location},
    ids,
};
use crate::rules::model::{Detection, GroupBy};

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
        let mut finding = draft.evidence;
        draft.state.as_str().clone_into(&mut finding.state);
        cluster.clone_into(&mut finding.cluster);
        match draft.origin {
            Origin::Session {
                key,
                opening,
                alert_at,
                continues,
            } => {
                finding.finding_id = ids::native(rule, cluster, &key, opening);
                if let Some(opening) = continues {
                    finding.continues = ids::native(rule, cluster, &key, opening);
                }
                finding.alert_at = Some(alert_at.to_proto());
                annotate::group_by(&mut finding, &self.detection, &key);
                let location = self.location(&finding.src_ip);
                set_location(&mut finding, location);
            }
            Origin::Tumbling { group, end } => {
                let (country, city) = group.key.place();
                let key = &group.key.text.with(str::to_owned);
                let place = (country.as_deref(), city.as_deref());
                finding.finding_id = ids::escu(rule, cluster, key, place, group.start);
                finding.window_start = Some(group.start.to_proto());
                finding.window_end = Some(end.to_proto());
                annotate::group_by(&mut finding, &self.detection, key);
                let mut location = self.location(&finding.src_ip);
                if let GroupBy::Sources { .. } = self.detection.group_by {
                    location.country.clone_from(country);
                    location.city.clone_from(city);
                }
                set_location(&mut finding, location);
            }
        }
        annotate::annotate(&mut finding, &self.detection);
        annotate::successes(&mut finding);
        annotate::message(&mut finding, &self.detection);
        finding.drilldown_search = ids::drilldown(&finding, &self.detection, self.lateness);
        finding
    }

    fn location(&self, key: &str) -> Location {
        let location = self.locate.as_ref().zip(address::locatable(key));
        location
            .and_then(|(locate, address)| locate.locate(address))
            .unwrap_or_default()
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
