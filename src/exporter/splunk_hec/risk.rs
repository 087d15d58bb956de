//! Findings as risk events for Splunk's index=risk, `format: risk`. Pure.
//!
//! What Enterprise Security writes there itself is text of `key="value"` pairs under sourcetype
//! `stash`, with a key repeated for each of several values. Everything in it that came from a log
//! was written by the sender of the requests, so no value may end its quotes or its line.

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

use super::config::{Entity, Risk};
use crate::{
    detection::{
        Finding,
        address::UNKNOWN,
        fields::AuditField,
        finding::{FindingState, Severity, summary},
        time::Micros,
    },
    exporter::time,
};

/// Most values of one key: a risk event is read by people.
const MOST_VALUES: usize = 100;
/// Most reasons in the message.
const MOST_REASONS: usize = 3;
/// The analytic story of the ESCU search, and its annotation after NIST.
const STORY: &str = "Kubernetes Security";
const NIST: &str = "DE.AE";

/// Whether a state makes a risk event.
pub(super) fn makes_event(finding: &Finding) -> bool {
    score(finding).is_some()
}

/// The text of one finding; `None` for states that make none.
///
/// Scores add up, so there is one risk event when a finding opens (an escu row is always "opened"),
/// and one more for each rise in severity, with the difference. None for a finding that continues
/// another, whose risk is there already, nor for a score of 0.
pub(super) fn text(finding: &Finding, risk: &Risk) -> Option<String> {
    let Score {
        points,
        before,
        sid,
    } = score(finding)?;
    let mut pairs = Pairs::default();
    let seconds = |time: Option<prost_types::Timestamp>| {
        time.map(|time| plain_seconds(Micros::from_proto(time)))
            .unwrap_or_default()
    };
    let at = time::of_state(finding)
        .map(plain_seconds)
        .unwrap_or_default();
    let (object, object_type) = risk_object(finding, risk.entity);
    let (threat, threat_type) = threat_object(finding);
    for (key, value) in [
        ("search_name", search_name(finding, risk).as_str()),
        (
            "info_min_time",
            &seconds(finding.window_start.or(finding.first_time)),
        ),
        (
            "info_max_time",
            &seconds(finding.window_end.or(finding.last_time)),
        ),
        ("info_search_time", &at),
        ("orig_sid", &sid),
        ("risk_object", &object),
        ("risk_object_type", object_type),
        ("risk_score", &points.to_string()),
        ("risk_message", &risk_message(finding, before)),
        ("threat_object", threat),
        ("threat_object_type", threat_type),
        ("severity", &finding.severity),
        ("severity_before", before.map_or("", Severity::as_str)),
    ] {
        pairs.add(key, value);
    }
    annotations(&mut pairs, finding);
    columns(&mut pairs, finding);
    Some(format!("{at}{}", pairs.text))
}

/// What a state of a finding adds to a risk.
struct Score {
    points: u32,
    /// The severity before, if this is a rise.
    before: Option<Severity>,
    /// Equal for deliveries of one event, and for them alone.
    sid: String,
}

/// What the state adds; `None` when it adds nothing.
fn score(finding: &Finding) -> Option<Score> {
    let score = if finding.state() == Some(FindingState::Opened) {
        Score {
            points: match finding.continues.as_str() {
                "" => finding.risk_score,
                // Its risk is there already.
                _ => 0,
            },
            before: None,
            sid: finding.finding_id.clone(),
        }
    } else {
        let new = finding.new.as_ref()?;
        let before: Severity = new.severity_before.parse().ok()?;
        let is_rise = finding.severity()? > before;
        Score {
            points: if is_rise {
                finding.risk_score.saturating_sub(before.score())
            } else {
                0
            },
            before: Some(before),
            sid: format!(
                "{}-{}-{}",
                finding.finding_id, finding.severity, finding.count
            ),
        }
    };
    (score.points > 0).then_some(score)
}

/// The line for people. Native: with the cluster, which is what is at risk, and with why the
/// severity is what it is, unless the message says both. Escu: that of the search, to the letter.
fn risk_message(finding: &Finding, before: Option<Severity>) -> String {
    let mut message = match finding.message.as_str() {
        "" => finding.rule_name.clone(),
        message => message.to_owned(),
    };
    if finding.is_row() || summary::is_whole(finding) {
        return message;
    }
    if !finding.cluster.is_empty() {
        let cluster = format!(" on cluster {}", finding.cluster);
        if !message.contains(&cluster) {
            message.push_str(&cluster);
        }
    }
    let mut why = Vec::new();
    if let Some(before) = before {
        why.push(format!("{}, was {}", finding.severity, before.as_str()));
    }
    why.extend(finding.severity_reasons.iter().take(MOST_REASONS).cloned());
    if !why.is_empty() {
        // Writing into a string cannot fail.
        let _ok = write!(message, ": {}", why.join("; "));
    }
    message
}

/// What Enterprise Security knows of the rule.
fn annotations(pairs: &mut Pairs, finding: &Finding) {
    for (key, value) in [
        (
            "annotations.mitre_attack",
            finding.mitre_technique_id.as_str(),
        ),
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
    ] {
        pairs.add(key, value);
    }
}

/// What the requests had in them, under the names of the search where it has such.
fn columns(pairs: &mut Pairs, finding: &Finding) {
    let number = |number: u64| match number {
        0 => String::new(),
        number => number.to_string(),
    };
    for (key, value) in [
        ("finding_id", finding.finding_id.as_str()),
        ("cluster", &finding.cluster),
        ("src_ip", &finding.src_ip),
        ("prefix", &finding.prefix),
        ("Country", finding.country.as_deref().unwrap_or_default()),
        ("City", finding.city.as_deref().unwrap_or_default()),
        ("count", &finding.count.to_string()),
        ("outcome", &finding.outcome),
        ("success_count", &number(finding.success_count)),
        ("member_count", &number(finding.member_count)),
    ] {
        pairs.add(key, value);
    }
    pairs.add_all("severity_reasons", finding.severity_reasons.iter());
    pairs.add_all("labels", finding.labels.iter().map(|label| &label.name));
    pairs.add_all(
        "members",
        finding.members.iter().map(|member| &member.source),
    );
    for (key, values) in finding.columns() {
        pairs.add_all(key, values.iter());
    }
}

/// The drill-down without quotes, which no value may hold and this search can do without. Nothing
/// where it is narrowed to more than an address and a cluster of plain letters, as the log may write
/// one in an escu row: unquoted, its words would be those of the search.
fn unquoted_search(finding: &Finding) -> String {
    let bare = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/');
    let is_safe = |text: &str| text == UNKNOWN || text.chars().all(bare);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_word = |text: &str| !is_operator(text) && text.chars().all(plain);
    let mut groups = finding.group_by.iter().map(|group| group.value.as_deref());
    if is_safe(&finding.src_ip)
        && is_word(&finding.cluster)
        && groups.all(|value| value.is_some_and(is_safe))
    {
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

/// Whether Splunk reads a word without quotes as an operator.
fn is_operator(word: &str) -> bool {
    ["AND", "OR", "NOT", "IN"].contains(&word)
}

/// What the risk is put on, and its type in Splunk.
fn risk_object(finding: &Finding, entity: Option<Entity>) -> (Cow<'_, str>, &'static str) {
    let user = || user(finding).map(|user| (user.into(), "user"));
    let address = || named(&finding.src_ip).map(|_| (qualified(finding), "system"));
    let cluster = || named(&finding.cluster).map(|cluster| (cluster.into(), "other"));
    let chosen = match entity {
        // Failed authentication has no user.
        Some(Entity::User) => user().or_else(address),
        None if finding.is_row() => user().or_else(address),
        Some(Entity::SrcIp) => address(),
        // A rule that groups by no address but by a user is about that user.
        None if finding.src_ip.is_empty() && finding.prefix.is_empty() => grouped_user(finding)
            .map(|user| (user.into(), "user"))
            .or_else(cluster),
        Some(Entity::Cluster) | None => cluster().or_else(address),
    };
    // A rule may group by anything.
    chosen
        .or_else(user)
        .or_else(cluster)
        .unwrap_or((UNKNOWN.into(), "other"))
}

/// The address as a name that is one in all clusters. A private one, and a text that is no address,
/// names another machine in each cluster: they get the name of the cluster behind them, or the
/// scores of unlike machines would add up.
fn qualified(finding: &Finding) -> Cow<'_, str> {
    let address = finding.src_ip.as_str();
    if finding.cluster.is_empty() || is_global(address) {
        address.into()
    } else {
        format!("{address}@{}", finding.cluster).into()
    }
}

/// Whether a text is an address, or a network, that is the same machine, or network, everywhere.
fn is_global(text: &str) -> bool {
    let network = text.parse().map(|net: ipnet::IpNet| net.addr());
    network
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok())
        .is_some_and(|address| !is_private(address.to_canonical()))
}

/// RFC 1918, shared by a carrier's customers (RFC 6598), link-local, loopback, unspecified, ULA.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || (a == 100 && (64..128).contains(&b))
                || a == 0
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

/// The user of the requests: the one they are grouped by, or the first.
fn user(finding: &Finding) -> Option<&str> {
    let first = || finding.users.first().map(String::as_str).and_then(named);
    grouped_user(finding).or_else(first)
}

/// The user that the requests are grouped by.
fn grouped_user(finding: &Finding) -> Option<&str> {
    let mut groups = finding.group_by.iter();
    let group = groups.find(|group| group.name == AuditField::Username.path())?;
    group.value.as_deref().and_then(named)
}

/// The address or the network behind the requests; of a rule that does not group by it, nothing.
/// Members of a roll-up are none: claimed addresses are among them, which may be victims.
fn threat_object(finding: &Finding) -> (&str, &'static str) {
    named(&finding.src_ip)
        .or_else(|| named(&finding.prefix))
        .map_or(("", ""), |address| (address, "ip_address"))
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

    /// Adds the key for each of the values, for as many as are read.
    fn add_all<'a>(&mut self, key: &str, values: impl Iterator<Item = &'a String>) {
        for value in values.take(MOST_VALUES) {
            self.add(key, value);
        }
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

    /// A finding with this severity, as labels make it.
    fn graded(severity: Severity) -> Finding {
        Finding {
            severity: severity.as_str().to_owned(),
            risk_score: severity.score(),
            mitre_technique_id: "T1046".to_owned(),
            ..(*samples::opened(1)).clone()
        }
    }

    #[test]
    fn an_opened_finding_is_one_risk_event() {
        let finding = graded(Severity::Low);
        let event = text(&finding, &risk()).unwrap();
        assert!(event.starts_with("1764055023.035818, search_name=\"auditwatch - Kubernetes Scanning by Unauthenticated IP Address\", "), "{event}");
        let pairs = read(&event);
        for (key, wanted) in [
            ("risk_object", "prod"),
            ("risk_object_type", "other"),
            ("risk_score", "20"),
            (
                "risk_message",
                "Kubernetes scanning from ip 203.0.113.7 on cluster prod",
            ),
            ("threat_object", &finding.src_ip),
            ("threat_object_type", "ip_address"),
            ("orig_sid", &finding.finding_id),
            ("severity", "low"),
            ("cluster", "prod"),
            ("annotations.mitre_attack", "T1046"),
        ] {
            assert_eq!(value(&pairs, key), [wanted], "{key}");
        }
        assert_eq!(value(&pairs, "verb"), finding.verbs);
        for state in ["updated", "closed"] {
            let finding = Finding {
                state: state.to_owned(),
                ..finding.clone()
            };
            assert_eq!(text(&finding, &risk()), None);
        }
    }

    /// The scores of a finding add up to the score of its greatest severity, in whatever steps it
    /// came there.
    #[test]
    fn each_rise_in_severity_adds_the_difference() {
        use Severity::{Critical, High, Informational, Low, Medium};
        for steps in [
            &[Low] as &[Severity],
            &[Low, Low, Critical],
            &[Low, Medium, Medium, High, Critical],
            &[Informational, Informational, Low, High],
            &[Informational],
            &[Critical, Low],
        ] {
            let mut sum = 0;
            let mut sids = std::collections::BTreeSet::new();
            let mut events = 0;
            let mut before: Option<Severity> = None;
            for (severity, count) in steps.iter().zip(6..) {
                let mut finding = Finding {
                    count,
                    ..graded(*severity)
                };
                if let Some(before) = before {
                    finding.state = "updated".to_owned();
                    finding.new = Some(crate::detection::finding::New {
                        severity_before: if before == *severity {
                            String::new()
                        } else {
                            before.as_str().to_owned()
                        },
                        count: 1,
                        ..Default::default()
                    });
                }
                before = Some(*severity);
                // A second delivery is the same event.
                assert_eq!(text(&finding, &risk()), text(&finding, &risk()));
                if let Some(event) = text(&finding, &risk()) {
                    let pairs = read(&event);
                    sum += value(&pairs, "risk_score")[0].parse::<u32>().unwrap();
                    sids.insert(value(&pairs, "orig_sid")[0].to_owned());
                    events += 1;
                }
            }
            let greatest = steps.iter().max().unwrap().score();
            assert_eq!(sum, greatest, "{steps:?}");
            assert_eq!(sids.len(), events, "each event has an id of its own");
        }
    }

    #[test]
    fn a_rise_says_from_where_and_why() {
        let event = text(&samples::rich(), &risk()).unwrap();
        let pairs = read(&event);
        for (key, wanted) in [
            ("risk_score", &["60"] as &[&str]),
            ("orig_sid", &["00000000000000000000000000000001-critical-6"]),
            ("finding_id", &["00000000000000000000000000000001"]),
            (
                "risk_message",
                &[
                    "Kubernetes scanning from ip 203.0.113.7 on cluster prod: critical, was low; \
                   2 requests succeeded; 4 requests for secrets",
                ],
            ),
            ("severity_before", &["low"]),
            ("outcome", &["success"]),
            ("success_count", &["2"]),
            ("labels", &["reads_secrets", "uses_curl"]),
            (
                "severity_reasons",
                &["2 requests succeeded", "4 requests for secrets"],
            ),
        ] {
            assert_eq!(value(&pairs, key), wanted, "{key}");
        }
    }

    #[test]
    fn a_continued_and_an_informational_finding_add_nothing() {
        let continued = Finding {
            continues: "00000000000000000000000000000009".to_owned(),
            ..graded(Severity::High)
        };
        assert_eq!(text(&continued, &risk()), None);
        assert_eq!(text(&graded(Severity::Informational), &risk()), None);
    }

    #[test]
    fn a_roll_up_is_one_threat_and_its_members_are_none() {
        let pairs = read(&text(&samples::rolled_up(), &risk()).unwrap());
        for (key, wanted) in [
            ("risk_object", "prod"),
            ("threat_object", "198.51.100.0/24"),
            ("threat_object_type", "ip_address"),
            ("member_count", "40"),
        ] {
            assert_eq!(value(&pairs, key), [wanted], "{key}");
        }
        assert_eq!(value(&pairs, "members").len(), 40);
    }

    #[test]
    fn the_risk_is_put_on_what_the_search_or_the_setting_says() {
        let native = Finding {
            state: "opened".to_owned(),
            semantics: "native".to_owned(),
            src_ip: "192.0.2.1".to_owned(),
            cluster: "prod".to_owned(),
            users: vec!["system:anonymous".to_owned()],
            ..graded(Severity::Low)
        };
        let escu = Finding {
            semantics: "escu".to_owned(),
            ..native.clone()
        };
        let without = Finding {
            users: vec![],
            cluster: String::new(),
            ..native.clone()
        };
        for (finding, entity, wanted) in [
            (&native, None, ("prod", "other")),
            (&escu, None, ("system:anonymous", "user")),
            (&native, Some(Entity::User), ("system:anonymous", "user")),
            (&native, Some(Entity::SrcIp), ("192.0.2.1", "system")),
            (&escu, Some(Entity::SrcIp), ("192.0.2.1", "system")),
            (&escu, Some(Entity::Cluster), ("prod", "other")),
            (&without, None, ("192.0.2.1", "system")),
            (&without, Some(Entity::User), ("192.0.2.1", "system")),
            (&without, Some(Entity::Cluster), ("192.0.2.1", "system")),
        ] {
            let pairs = read(&text(finding, &Risk { entity, ..risk() }).unwrap());
            assert_eq!(value(&pairs, "risk_object"), [wanted.0]);
            assert_eq!(value(&pairs, "risk_object_type"), [wanted.1]);
        }
        // ESCU's own words for ESCU's rows.
        let pairs = read(&text(&escu, &risk()).unwrap());
        assert_eq!(
            value(&pairs, "risk_message"),
            ["Kubernetes scanning from ip 203.0.113.7"]
        );
    }

    /// What is about a cluster as a whole is put on it, whatever user is in the evidence.
    #[test]
    fn a_blind_spot_is_put_on_its_cluster() {
        let finding = Finding {
            users: vec!["system:anonymous".to_owned()],
            ..samples::blind_spot()
        };
        let pairs = read(&text(&finding, &risk()).unwrap());
        assert_eq!(value(&pairs, "risk_object"), ["prod"]);
        assert_eq!(value(&pairs, "threat_object"), Vec::<&str>::new());
    }

    /// Six clusters with a prober at one private address are six machines: whatever the setting,
    /// none of their risk objects adds up to 120.
    #[test]
    fn one_private_address_in_six_clusters_is_six_risk_objects() {
        for address in [
            "10.20.0.5",
            "172.31.255.1",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "127.0.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::5",
            "fd00:0:0:1::/64",
            "10.0.0.0/8",
            "::ffff:10.0.0.1",
            "unknown",
            "not an address",
        ] {
            for entity in [None, Some(Entity::SrcIp), Some(Entity::Cluster)] {
                let objects: std::collections::BTreeSet<_> = (0..6)
                    .map(|cluster| {
                        let finding = Finding {
                            src_ip: address.to_owned(),
                            cluster: format!("cluster-{cluster}"),
                            ..graded(Severity::Low)
                        };
                        let event = text(&finding, &Risk { entity, ..risk() }).unwrap();
                        value(&read(&event), "risk_object")[0].to_owned()
                    })
                    .collect();
                assert_eq!(objects.len(), 6, "{address} {entity:?}");
            }
        }
        // A public one is one machine everywhere.
        for address in [
            "203.0.113.7",
            "100.128.0.1",
            "172.32.0.1",
            "2001:db8::/64",
            "2001:db8::1",
            "::ffff:203.0.113.7",
        ] {
            let finding = Finding {
                src_ip: address.to_owned(),
                ..graded(Severity::Low)
            };
            assert_eq!(qualified(&finding), address);
        }
    }

    proptest! {
        /// Nothing in any field of a finding writes a pair.
        #[test]
        fn no_field_writes_a_pair(hostile in hostile()) {
            let keys = |finding: &Finding, escapes| -> Vec<String> {
                let event = text(finding, &risk()).unwrap();
                read_with(&event, escapes).into_iter().map(|(key, _)| key).collect()
            };
            let with = |text: &str| Finding {
                continues: String::new(),
                ..samples::hostile(text)
            };
            let plain = with("x");
            let hostile = with(&hostile);
            for escapes in [true, false] {
                let keys = keys(&hostile, escapes);
                let wanted = text(&plain, &risk()).unwrap();
                let wanted: Vec<_> = read(&wanted).into_iter().map(|(key, _)| key).collect();
                // The search behind it is left out where a group is not plain.
                let others = |keys: Vec<String>| -> Vec<String> {
                    let is_search = |key: &String| key == "contributing_events_search";
                    keys.into_iter().filter(|key| !is_search(key)).collect()
                };
                prop_assert_eq!(others(keys), others(wanted));
            }
        }

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
                ..graded(Severity::Low)
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
                ("risk_object", &vec![cluster.clone()]),
                ("threat_object", &vec![src_ip.clone()]),
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
            ("risk_message", &["eve reads secrets on cluster prod"]),
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
                let (object, kind) = risk_object(finding, entity);
                assert_eq!((object.as_ref(), kind), wanted, "{entity:?}");
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
            ..graded(Severity::Low)
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
        for (cluster, is_there) in [
            ("prod-eu_1.example", true),
            ("prod OR index=*", false),
            ("*", false),
            ("OR", false),
            ("`delete`", false),
        ] {
            let finding = Finding {
                cluster: cluster.to_owned(),
                ..finding("192.0.2.1")
            };
            assert_ne!(unquoted_search(&finding).is_empty(), is_there, "{cluster}");
        }
    }
}
