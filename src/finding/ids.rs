//! Deterministic ids of findings, and the search that leads from a finding to its requests.

use sha2::{Digest, Sha256};

use super::Finding;
use crate::{
    audit::{Identity, text::hex, time::Micros},
    detection::rule::{RULE_ID, Rule, SECOND, Semantics, Who},
};

/// Id of a native finding: rule, cluster, key, and time and identity of the hit that opened it.
pub(crate) fn native(cluster: &str, key: &str, opened: (Micros, Identity)) -> String {
    digest(&[
        cluster.as_bytes(),
        key.as_bytes(),
        &opened.0.0.to_le_bytes(),
        &opened.1.0,
    ])
}

/// Id of an escu row: rule, cluster, `src_ip`, Country, City and start of the window.
pub(crate) fn escu(
    cluster: &str,
    src_ip: &str,
    (country, city): (Option<&str>, Option<&str>),
    window_start: Micros,
) -> String {
    // Null and "" are two.
    let tag =
        |text: Option<&str>| text.map_or(b"-".to_vec(), |text| [b"+", text.as_bytes()].concat());
    digest(&[
        cluster.as_bytes(),
        src_ip.as_bytes(),
        &tag(country),
        &tag(city),
        &window_start.0.to_le_bytes(),
    ])
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in [RULE_ID.as_bytes()].iter().chain(parts) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize(), 16)
}

/// A Splunk search for the requests behind a finding: the ESCU search narrowed to the address and
/// the time, without the location, which would hide addresses that no database knows.
pub(crate) fn drilldown(finding: &Finding, rule: &Rule) -> String {
    let who = match (rule.semantics, rule.who) {
        (Semantics::Escu, _) | (_, Who::Group) => {
            r#""user.groups{}"="system:unauthenticated""#.to_owned()
        }
        (Semantics::Native, Who::Any) => concat!(
            r#"("user.groups{}"="system:unauthenticated" OR "user.username"="system:anonymous""#,
            r#" OR NOT "user.username"=*)"#
        )
        .to_owned(),
    };
    let codes: Vec<_> = rule
        .wanted_codes()
        .iter()
        .map(|code| format!(r#""responseStatus.code"={code}"#))
        .collect();
    let codes = if codes.len() == 1 {
        codes.concat()
    } else {
        format!("({})", codes.join(" OR "))
    };
    let source = if finding.src_ip == crate::audit::address::UNKNOWN {
        String::new()
    } else {
        format!(r#" "sourceIPs{{}}"="{}""#, escape(&finding.src_ip))
    };
    let second = |time: &Option<prost_types::Timestamp>| time.map_or(0, |time| time.seconds);
    let (earliest, latest) = match rule.semantics {
        Semantics::Escu => (second(&finding.window_start), second(&finding.window_end)),
        // Splunk's _time is often that of reading, some time after the event.
        Semantics::Native => (
            second(&finding.first_time) - 60,
            second(&finding.last_time) + rule.lateness / SECOND,
        ),
    };
    let values = "values(userAgent) values(user.username) values(user.groups{}) values(verb) \
                  values(requestURI) values(responseStatus.code) values(responseStatus.message) \
                  values(responseStatus.reason) values(responseStatus.status)";
    format!(
        "`kube_audit` {who} {codes}{source} earliest={earliest} latest={latest} \
         | stats count min(_time) max(_time) {values} BY sourceIPs{{}}"
    )
}

/// A text inside double quotes of a search: the log writes it, so it must not end them.
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => vec![' '],
            c => vec![c],
        })
        .collect()
}

/// A number of microseconds in seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "a window is far shorter than 2^52 microseconds"
)]
pub(crate) fn seconds(micros: i64) -> f64 {
    micros as f64 / SECOND as f64
}
