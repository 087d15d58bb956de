//! Findings as risk events for Splunk's index=risk, `format: risk`. Pure.
//!
//! What Enterprise Security writes there itself is text of `key="value"` pairs under sourcetype
//! `stash`, with a key repeated for each of several values. Everything in it that came from a log
//! was written by the sender of the requests, so no value may end its quotes or its line.

use std::fmt::Write as _;

use super::config::{Entity, Risk};
use crate::{
    detection::{
        Finding, address::UNKNOWN, fields::AuditField, finding::FindingState, time::Micros,
    },
    exporter::time,
};

/// Most values of one key: a risk event is read by people.
const MOST_VALUES: usize = 100;
/// The analytic story of the ESCU search, and its annotation after NIST.
const STORY: &str = "Kubernetes Security";
const NIST: &str = "DE.AE";

/// The text of one finding; `None` for states that make none. There is one risk event for each
/// finding, when it opens (an escu row is always "opened"), and never again: scores add up.
pub(super) fn text(finding: &Finding, risk: &Risk) -> Option<String> {
    if finding.state() != Some(FindingState::Opened) {
        return None;
    }
    let mut pairs = Pairs::default();
    let seconds = |time: Option<prost_types::Timestamp>| {
        time.map(|time| plain_seconds(time::from_proto(time)))
            .unwrap_or_default()
    };
    let at = time::of_state(finding)
        .map(plain_seconds)
        .unwrap_or_default();
    let (object, object_type) = risk_object(finding, risk.entity);
    let score = finding.risk_score.to_string();
    let (threat, threat_type) = threat_object(finding);
    let message = match finding.message.as_str() {
        "" => &finding.rule_name,
        message => message,
    };
    let count = finding.count.to_string();
    let search_name = search_name(finding, risk);
    for (key, value) in [
        ("search_name", search_name.as_str()),
        (
            "info_min_time",
            &seconds(finding.window_start.or(finding.first_time)),
        ),
        (
            "info_max_time",
            &seconds(finding.window_end.or(finding.last_time)),
        ),
        ("info_search_time", &at),
        ("orig_sid", &finding.finding_id),
        ("risk_object", object),
        ("risk_object_type", object_type),
        ("risk_score", &score),
        ("risk_message", message),
        ("threat_object", threat),
        ("threat_object_type", threat_type),
        ("severity", &finding.severity),
        ("annotations.mitre_attack", &finding.mitre_technique_id),
        (
            "annotations.mitre_attack.mitre_tactic_id",
            tactic_id(&finding.mitre_tactic),
        ),
        (
            "annotations.mitre_attack.mitre_technique_id",
            &finding.mitre_technique_id,
        ),
        (
            "annotations.mitre_attack.mitre_technique",
            &finding.mitre_technique,
        ),
        (
            "annotations.mitre_attack.mitre_tactic",
            &finding.mitre_tactic,
        ),
        ("annotations.analytic_story", STORY),
        ("annotations.nist", NIST),
        ("annotations._all", &finding.mitre_technique_id),
        ("annotations._all", NIST),
        ("annotations._all", STORY),
        ("annotations._frameworks", "mitre_attack"),
        ("annotations._frameworks", "nist"),
        ("annotations._frameworks", "analytic_story"),
        ("analyticstories", STORY),
        ("contributing_events_search", &unquoted_search(finding)),
        ("cluster", &finding.cluster),
        ("src_ip", &finding.src_ip),
        ("Country", finding.country.as_deref().unwrap_or_default()),
        ("City", finding.city.as_deref().unwrap_or_default()),
        ("count", &count),
    ] {
        pairs.add(key, value);
    }
    for (key, values) in finding.columns() {
        for value in values.iter().take(MOST_VALUES) {
            pairs.add(key, value);
        }
    }
    Some(format!("{at}{}", pairs.text))
}

/// The drill-down without quotes, which no value may hold and this search can do without. Nothing
/// where it is narrowed to more than an address, as the log may write one in an escu row: unquoted,
/// its words would be those of the search.
fn unquoted_search(finding: &Finding) -> String {
    let bare = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/');
    let is_safe = |text: &str| text == UNKNOWN || text.chars().all(bare);
    let mut groups = finding.group_by.iter().map(|group| group.value.as_deref());
    if is_safe(&finding.src_ip) && groups.all(|value| value.is_some_and(is_safe)) {
        finding.drilldown_search.replace('"', "")
    } else {
        String::new()
    }
}

/// What the event says found it: Splunk's risk rules count distinct ones.
pub(super) fn search_name(finding: &Finding, risk: &Risk) -> String {
    if risk.search_name.is_empty() {
        format!("auditwatch - {}", finding.rule_name)
    } else {
        risk.search_name.clone()
    }
}

/// What the risk is put on, and its type in Splunk.
fn risk_object(finding: &Finding, entity: Option<Entity>) -> (&str, &'static str) {
    let preferred = entity.unwrap_or(if finding.is_row() {
        Entity::User
    } else {
        Entity::SrcIp
    });
    let user = || user(finding).map(|user| (user, "user"));
    let address = || named(&finding.src_ip).map(|address| (address, "system"));
    let cluster = || named(&finding.cluster).map(|cluster| (cluster, "other"));
    let chosen = match preferred {
        // Failed authentication has no user.
        Entity::User => user().or_else(address),
        Entity::Cluster => cluster().or_else(address),
        Entity::SrcIp => address(),
    };
    // A rule may group by anything.
    chosen
        .or_else(user)
        .or_else(cluster)
        .unwrap_or((UNKNOWN, "other"))
}

/// The user of the requests: the one they are grouped by, or the first.
fn user(finding: &Finding) -> Option<&str> {
    let mut groups = finding.group_by.iter();
    let group = groups.find(|group| group.name == AuditField::Username.path());
    let group = group.and_then(|group| group.value.as_deref());
    group
        .or(finding.users.first().map(String::as_str))
        .and_then(named)
}

/// The address behind the requests; of a rule that does not group by it, nothing.
fn threat_object(finding: &Finding) -> (&str, &'static str) {
    named(&finding.src_ip).map_or(("", ""), |address| (address, "ip_address"))
}

fn named(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The identifier of an ATT&CK tactic, which findings name in words. Nothing for other words.
fn tactic_id(name: &str) -> &'static str {
    const TACTICS: [(&str, &str); 14] = [
        ("Reconnaissance", "TA0043"),
        ("Resource Development", "TA0042"),
        ("Initial Access", "TA0001"),
        ("Execution", "TA0002"),
        ("Persistence", "TA0003"),
        ("Privilege Escalation", "TA0004"),
        ("Defense Evasion", "TA0005"),
        ("Credential Access", "TA0006"),
        ("Discovery", "TA0007"),
        ("Lateral Movement", "TA0008"),
        ("Collection", "TA0009"),
        ("Command and Control", "TA0011"),
        ("Exfiltration", "TA0010"),
        ("Impact", "TA0040"),
    ];
    let known = TACTICS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map_or("", |(_, id)| id)
}

/// Seconds since 1970 with six digits after the point; nothing before that.
fn plain_seconds(time: Micros) -> String {
    let micros = time.0.max(0);
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[derive(Default)]
struct Pairs {
    text: String,
}

impl Pairs {
    /// Adds `, key="value"`; nothing for an empty value.
    fn add(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        // Writing into a string cannot fail.
        let _ok = write!(self.text, ", {key}=\"{}\"", quotable(value));
    }
}

/// A value that stays inside its quotes and on its line.
fn quotable(value: &str) -> String {
    let mut text: String = value
        .chars()
        .map(|c| match c {
            '"' => '\'',
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => ' ',
            c => c,
        })
        .collect();
    if text.ends_with('\\') {
        // It would escape the quote behind it.
        text.push(' ');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exporter::samples;

    /// Reads the pairs as Splunk's extraction for `stash` does: by commas and equals signs, with
    /// quotes, and a backslash in front of a quote taking its meaning.
    fn read(text: &str) -> Vec<(String, String)> {
        read_with(text, true)
    }

    /// The same, with backslashes that take the meaning of quotes or do not: what is not written
    /// down about Splunk's reader must not matter.
    fn read_with(text: &str, escapes: bool) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let (_, mut rest) = text.split_once(", ").unwrap();
        while !rest.is_empty() {
            let (key, after) = rest.split_once("=\"").unwrap();
            let mut escaped = false;
            let end = after
                .char_indices()
                .find(|(_, c)| {
                    let ends = *c == '"' && !escaped;
                    escaped = escapes && *c == '\\' && !escaped;
                    ends
                })
                .unwrap()
                .0;
            let (value, after) = after.split_at(end);
            pairs.push((key.to_owned(), value.to_owned()));
            let after = after.strip_prefix('"').unwrap();
            rest = after.strip_prefix(", ").unwrap_or_default();
            assert!(after.is_empty() || !rest.is_empty(), "{after}");
        }
        pairs
    }

    fn risk() -> Risk {
        Risk::default()
    }

    fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Vec<&'a str> {
        pairs
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    #[test]
    fn an_opened_finding_is_one_risk_event_and_no_other_state_is() {
        let finding = Finding {
            mitre_technique_id: "T1046".to_owned(),
            ..(*samples::opened(1)).clone()
        };
        let event = text(&finding, &risk()).unwrap();
        assert!(event.starts_with("1764055023.035818, search_name=\"auditwatch - Kubernetes Scanning by Unauthenticated IP Address\", "), "{event}");
        let pairs = read(&event);
        for (key, wanted) in [
            ("risk_object", finding.src_ip.as_str()),
            ("risk_object_type", "system"),
            ("risk_score", finding.risk_score.to_string().as_str()),
            ("threat_object", &finding.src_ip),
            ("threat_object_type", "ip_address"),
            ("orig_sid", &finding.finding_id),
            ("annotations.mitre_attack", "T1046"),
        ] {
            assert_eq!(value(&pairs, key), [wanted], "{key}");
        }
        assert_eq!(
            value(&pairs, "risk_message"),
            [format!("Kubernetes scanning from ip {}", finding.src_ip)]
        );
        assert_eq!(value(&pairs, "verb"), finding.verbs);
        for state in ["updated", "closed"] {
            let finding = Finding {
                state: state.to_owned(),
                ..finding.clone()
            };
            assert_eq!(text(&finding, &risk()), None);
        }
    }

    #[test]
    fn the_risk_is_put_on_whom_the_search_or_the_setting_says() {
        let native = Finding {
            state: "opened".to_owned(),
            semantics: "native".to_owned(),
            src_ip: "192.0.2.1".to_owned(),
            cluster: "prod".to_owned(),
            users: vec!["system:anonymous".to_owned()],
            ..Finding::default()
        };
        let escu = Finding {
            semantics: "escu".to_owned(),
            ..native.clone()
        };
        let without_user = Finding {
            users: vec![],
            cluster: String::new(),
            ..native.clone()
        };
        for (finding, entity, wanted) in [
            (&native, None, ("192.0.2.1", "system")),
            (&escu, None, ("system:anonymous", "user")),
            (&native, Some(Entity::User), ("system:anonymous", "user")),
            (&escu, Some(Entity::SrcIp), ("192.0.2.1", "system")),
            (&native, Some(Entity::Cluster), ("prod", "other")),
            (&without_user, Some(Entity::User), ("192.0.2.1", "system")),
            (
                &without_user,
                Some(Entity::Cluster),
                ("192.0.2.1", "system"),
            ),
        ] {
            let pairs = read(&text(finding, &Risk { entity, ..risk() }).unwrap());
            assert_eq!(value(&pairs, "risk_object"), [wanted.0]);
            assert_eq!(value(&pairs, "risk_object_type"), [wanted.1]);
        }
    }

    proptest! {
        /// No value of a log writes a field: what is read back is what was meant, pair by pair,
        /// by either reader.
        #[test]
        fn no_value_writes_a_field(
            agents in prop::collection::vec(hostile(), 1..4),
            paths in prop::collection::vec(hostile(), 1..4),
            (src_ip, cluster, user) in (hostile(), hostile(), hostile()),
        ) {
            let finding = |agents, paths, src_ip: String, cluster, user| Finding {
                message: format!("Kubernetes scanning from ip {src_ip}"),
                user_agents: agents, paths, src_ip, cluster, users: vec![user],
                ..(*samples::opened(1)).clone()
            };
            let words = |values: &Vec<String>| vec!["x".to_owned(); values.len()];
            let x = || "x".to_owned();
            let clean = finding(words(&agents), words(&paths), x(), x(), x());
            let event = text(
                &finding(agents.clone(), paths.clone(), src_ip.clone(), cluster.clone(), user.clone()),
                &risk(),
            ).unwrap();
            let got = read(&event);
            prop_assert_eq!(&read_with(&event, false), &got);
            let keys = |pairs: &[(String, String)]| -> Vec<String> {
                pairs.iter().map(|(key, _)| key.clone()).collect()
            };
            prop_assert_eq!(keys(&got), keys(&read(&text(&clean, &risk()).unwrap())));
            for (key, meant) in [
                ("userAgent", &agents),
                ("requestURI", &paths),
                ("src_ip", &vec![src_ip.clone()]),
                ("risk_object", &vec![src_ip.clone()]),
                ("threat_object", &vec![src_ip.clone()]),
                ("risk_message", &vec![format!("Kubernetes scanning from ip {src_ip}")]),
                ("cluster", &vec![cluster]),
                ("user", &vec![user]),
            ] {
                let meant: Vec<String> = meant.iter().map(|value| harmless(value)).collect();
                // A blank may stand behind a backslash that would be the last of a value.
                let got: Vec<String> = value(&got, key)
                    .into_iter()
                    .map(|value| value.strip_suffix("\\ ").map_or_else(|| value.to_owned(), |rest| format!("{rest}\\")))
                    .collect();
                let meant: Vec<String> = meant
                    .into_iter()
                    .map(|value| value.strip_suffix("\\ ").map_or(value.clone(), |rest| format!("{rest}\\")))
                    .collect();
                prop_assert_eq!(got, meant, "{}", key);
            }
        }
    }

    /// Half of the letters are those that could do harm. (As one expression, regex-syntax would
    /// melt both halves into one class, in which these are never met.)
    fn hostile() -> impl Strategy<Value = String> {
        let harmful: Vec<char> = "\"\\,= \r\n\t\0\u{7f}\u{85}\u{2028}\u{2029}"
            .chars()
            .collect();
        let letter = prop_oneof![prop::sample::select(harmful), any::<char>()];
        prop::collection::vec(letter, 1..20).prop_map(String::from_iter)
    }

    /// What a value may become, from the words of the contract and not from the code.
    fn harmless(value: &str) -> String {
        let blank = |c| matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}');
        value.replace('"', "'").replace(blank, " ")
    }

    /// The risk of a rule that groups by no address is put on what there is, in its own words.
    #[test]
    fn a_finding_of_any_rule_is_a_risk_event() {
        let pairs = read(&text(&samples::by_user(), &risk()).unwrap());
        for (key, wanted) in [
            ("search_name", &["auditwatch - Secrets are read"] as &[&str]),
            ("risk_object", &["eve"]),
            ("risk_object_type", &["user"]),
            ("risk_message", &["eve reads secrets"]),
            ("threat_object", &[]),
            ("threat_object_type", &[]),
            ("annotations.mitre_attack.mitre_tactic_id", &["TA0006"]),
            // A name that others choose would be words of the search.
            ("contributing_events_search", &[]),
            ("src_ip", &[]),
            ("objectRef.resource", &["secrets"]),
        ] {
            assert_eq!(value(&pairs, key), wanted, "{key}");
        }
        let without_user = Finding {
            users: vec![],
            group_by: vec![],
            ..samples::by_user()
        };
        let no_one = Finding {
            cluster: String::new(),
            ..without_user.clone()
        };
        for (finding, wanted) in [
            (&without_user, ("prod", "other")),
            (&no_one, ("unknown", "other")),
        ] {
            for entity in [None, Some(Entity::User), Some(Entity::Cluster)] {
                assert_eq!(risk_object(finding, entity), wanted, "{entity:?}");
            }
        }
        let named = Risk {
            search_name: "one".to_owned(),
            ..risk()
        };
        assert_eq!(search_name(&no_one, &named), "one");
    }

    #[test]
    fn the_search_behind_it_works_without_quotes_or_is_left_out() {
        let finding = |src_ip: &str| Finding {
            src_ip: src_ip.to_owned(),
            drilldown_search: format!(
                r#"`kube_audit` "user.groups{{}}"="a:b" "sourceIPs{{}}"="{src_ip}""#
            ),
            ..(*samples::opened(1)).clone()
        };
        let search = |src_ip: &str| -> Vec<String> {
            let pairs = read(&text(&finding(src_ip), &risk()).unwrap());
            let found = value(&pairs, "contributing_events_search");
            found.into_iter().map(str::to_owned).collect()
        };
        assert_eq!(
            search("2001:db8::/64"),
            ["`kube_audit` user.groups{}=a:b sourceIPs{}=2001:db8::/64"]
        );
        assert_eq!(search("unknown").len(), 1);
        for hostile in ["1.2.3.4 OR index=*", "*", "1.2.3.4|delete", "a b"] {
            assert!(search(hostile).is_empty(), "{hostile}");
        }
    }
}
