//! The annotations of a detection, written into each of its findings.

use super::{Finding, GroupValue, Severity, assess, ids, message, summary};
use crate::rules::model::{Detection, GroupBy, Window};

/// The field whose elements are a group each, in a detection that groups by sources.
const SOURCES: &str = "sourceIPs";

/// Writes what the detection says into a finding that has all else: the rule, and its level unless
/// labels have decided the severity.
pub(crate) fn annotate(finding: &mut Finding, detection: &Detection) {
    let annotations = &detection.annotations;
    let semantics = match detection.window {
        Window::Session { .. } => "native",
        Window::Tumbling { .. } => "escu",
    };
    semantics.clone_into(&mut finding.semantics);
    finding.rule_id.clone_from(&annotations.id);
    finding.rule_name.clone_from(&annotations.title);
    finding.rule_version.clone_from(&annotations.version);
    if finding.severity.is_empty() {
        finding.severity.clone_from(&annotations.level);
        finding.risk_score = annotations.score;
    }
    finding.threshold = detection.threshold;
    finding.window_seconds = ids::seconds(detection.window.length());
    let technique = &annotations.technique_id;
    finding.mitre_technique_id.clone_from(technique);
    finding.mitre_technique.clone_from(&annotations.technique);
    finding.mitre_tactic.clone_from(&annotations.tactic);
    if !technique.is_empty() {
        finding.attack_techniques = vec![technique.clone()];
    }
    finding
        .config_fingerprint
        .clone_from(&detection.fingerprint);
    finding
        .false_positives
        .clone_from(&annotations.false_positives);
    finding.references.clone_from(&annotations.references);
}

/// Writes the message, from all that the finding holds: it comes last, and again when something
/// has changed.
pub(crate) fn message(finding: &mut Finding, detection: &Detection) {
    finding.message = message::render(&detection.annotations.message, finding);
}

/// A success makes a finding critical, and is its first reason: who did what, and how often.
pub(crate) fn successes(finding: &mut Finding) {
    if finding.success_count == 0 {
        return;
    }
    Severity::Critical
        .as_str()
        .clone_into(&mut finding.severity);
    finding.risk_score = Severity::Critical.score();
    let count = finding.success_count;
    let reason = summary::success(finding);
    // It says more than the reason that labels gave.
    let plain = assess::succeeded(count);
    finding.severity_reasons.retain(|reason| *reason != plain);
    finding.severity_reasons.insert(0, reason);
}

/// Writes the values of `group_by` into the finding of a key.
pub(crate) fn group_by(finding: &mut Finding, detection: &Detection, key: &str) {
    let of = |name: &str, value| GroupValue {
        name: name.to_owned(),
        value,
    };
    let source = match &detection.group_by {
        GroupBy::Sources { .. } => {
            finding.group_by = vec![of(SOURCES, Some(key.to_owned()))];
            Some(key.to_owned())
        }
        GroupBy::Fields(_) => {
            let values = detection.group(key).into_iter();
            finding.group_by = values.map(|(name, value)| of(&name, value)).collect();
            let source = finding.group_by.iter();
            let mut source =
                source.filter(|group| ids::SOURCE_FIELDS.contains(&group.name.as_str()));
            source.next().and_then(|group| group.value.clone())
        }
    };
    // An autonomous system is no address: it is in `prefix`.
    if let Some(source) = source.filter(|source| !ids::is_system(source)) {
        finding.src.clone_from(&source);
        finding.src_ip = source;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::time::Micros,
        rules::{
            model::{Aggregate, Annotations, Dedup, Emit},
            settings::{Rule, SECOND, Semantics},
        },
    };

    /// A rule that no part of the code has heard of.
    fn any() -> Detection {
        Detection {
            annotations: Annotations {
                id: "0a5b1c9e-7f0d-4f55-9c5c-2f8d3b8e6a11".to_owned(),
                title: "Secrets are read".to_owned(),
                version: "3".to_owned(),
                level: "high".to_owned(),
                score: 60,
                message: "$user.username$ reads $objectRef.resource$ $count$ times".to_owned(),
                technique_id: "T1552.007".to_owned(),
                technique: "Container API".to_owned(),
                tactic: "Credential Access".to_owned(),
                false_positives: vec!["An operator that restarts".to_owned()],
                references: vec!["https://attack.mitre.org/techniques/T1552/007/".to_owned()],
                ..Annotations::default()
            },
            group_by: GroupBy::Fields(vec!["user.username".to_owned(), "user.groups".to_owned()]),
            window: Window::Session {
                length: 600 * SECOND,
            },
            aggregate: Aggregate::Events,
            threshold: 9,
            dedup: Dedup::Request,
            emit: Emit::Finding,
            lateness: 60 * SECOND,
            fingerprint: "00".to_owned(),
            ..Detection::default()
        }
    }

    #[test]
    fn a_finding_of_any_rule_says_what_the_rule_says() {
        let detection = any();
        let mut finding = Finding {
            cluster: "prod".to_owned(),
            count: 12,
            resources: vec!["secrets".to_owned()],
            first_time: Some(Micros(1_000_000_000).to_proto()),
            last_time: Some(Micros(1_060_000_000).to_proto()),
            ..Finding::default()
        };
        let key = crate::rules::group::encode(&[Some("eve \"x\""), None]);
        group_by(&mut finding, &detection, &key);
        annotate(&mut finding, &detection);
        message(&mut finding, &detection);
        assert_eq!(finding.message, "eve \"x\" reads secrets 12 times");
        assert_eq!((finding.src_ip.as_str(), finding.src.as_str()), ("", ""));
        let groups: Vec<_> = finding
            .group_by
            .iter()
            .map(|group| (group.name.as_str(), group.value.as_deref()))
            .collect();
        assert_eq!(
            groups,
            [("user.username", Some("eve \"x\"")), ("user.groups", None)]
        );
        assert_eq!(finding.severity(), Some(Severity::High));
        assert_eq!((finding.risk_score, finding.threshold), (60, 9));
        assert_eq!(finding.attack_techniques, ["T1552.007"]);
        assert_eq!(finding.window_seconds.to_bits(), 600f64.to_bits());
        let search = ids::drilldown(&finding, &detection, detection.lateness);
        assert!(
            search.starts_with(
                "`auditwatch_audit` (\"k8s.cluster.name\"=\"prod\" OR NOT \"k8s.cluster.name\"=*) \
                 \"user.username\"=\"eve \\\"x\\\"\" NOT \"user.groups{}\"=* earliest=100 latest=2020 \
                 | stats count"
            ),
            "{search}"
        );
        assert!(
            search.ends_with(" BY \"user.username\" \"user.groups{}\""),
            "{search}"
        );
    }

    /// The search of a native scan shows all that the address did, that of an ESCU row the events
    /// that it counts.
    #[test]
    fn the_search_behind_a_scan() {
        for (semantics, wanted) in [
            (
                Semantics::Native,
                "`auditwatch_audit` \"sourceIPs{}\"=\"192.0.2.1\" earliest=-900 latest=1500",
            ),
            (
                Semantics::Escu,
                "`kube_audit` \"user.groups{}\"=\"system:unauthenticated\" \
                 \"responseStatus.code\"=403 \"sourceIPs{}\"=\"192.0.2.1\" earliest=0 latest=0",
            ),
        ] {
            let detection = Detection::of(&Rule {
                semantics,
                ..Rule::default()
            });
            let mut finding = Finding {
                count: 6,
                count_by_code: [("403".to_owned(), 6)].into(),
                ..Finding::default()
            };
            group_by(&mut finding, &detection, "192.0.2.1");
            annotate(&mut finding, &detection);
            message(&mut finding, &detection);
            assert_eq!(finding.src_ip, "192.0.2.1");
            let message = match semantics {
                Semantics::Native => {
                    "Kubernetes scanning from ip 192.0.2.1 on cluster unknown (low): 6 requests \
                     refused (403)."
                }
                Semantics::Escu => "Kubernetes scanning from ip 192.0.2.1",
            };
            assert_eq!(finding.message, message);
            let wanted = format!(
                "{wanted} | stats count min(_time) max(_time) values(userAgent) \
                 values(user.username) values(user.groups{{}}) values(verb) values(requestURI) \
                 values(responseStatus.code) values(responseStatus.message) \
                 values(responseStatus.reason) values(responseStatus.status) BY sourceIPs{{}}"
            );
            assert_eq!(
                ids::drilldown(&finding, &detection, detection.lateness),
                wanted
            );
        }
    }
}
