//! Deterministic ids of findings, and the search that leads from a finding to its requests.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{Finding, GroupValue, Member};
use crate::{
    audit::{
        Identity,
        address::UNKNOWN,
        fields::{self, Kind},
        text::hex,
        time::Micros,
    },
    rules::{
        model::{Detection, Window},
        settings::SECOND,
    },
};

/// The derived field that is the trusted source address.
pub(crate) const SOURCE_ADDRESS: &str = "source.address";
/// The derived fields that say where requests come from: a finding has that value as its `src_ip`.
pub(crate) const SOURCE_FIELDS: [&str; 3] = [SOURCE_ADDRESS, "source.prefix", "source.peer"];

/// Id of a finding of a session: rule, cluster, key, and time and identity of the hit that opened
/// it.
pub(crate) fn native(rule: &str, cluster: &str, key: &str, opened: (Micros, Identity)) -> String {
    digest(&[
        rule.as_bytes(),
        cluster.as_bytes(),
        key.as_bytes(),
        &opened.0.0.to_le_bytes(),
        &opened.1.0,
    ])
}

/// Id of a row of a tumbling window: rule, cluster, `src_ip`, Country, City and start of the
/// window.
pub(crate) fn escu(
    rule: &str,
    cluster: &str,
    src_ip: &str,
    (country, city): (Option<&str>, Option<&str>),
    window_start: Micros,
) -> String {
    // Null and "" are two.
    let tag =
        |text: Option<&str>| text.map_or(b"-".to_vec(), |text| [b"+", text.as_bytes()].concat());
    digest(&[
        rule.as_bytes(),
        cluster.as_bytes(),
        src_ip.as_bytes(),
        &tag(country),
        &tag(city),
        &window_start.0.to_le_bytes(),
    ])
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize(), 16)
}

/// Seconds before and after a finding that its search covers, where it shows all activity.
const AROUND: i64 = 900;

/// A Splunk search for the events behind a finding, narrowed to its group and time, without the
/// location, which would hide addresses that no database knows. A rule may name the search for its
/// events. Otherwise it shows all activity of the group around the finding, whatever came of it: what
/// succeeded matters most. The macro `auditwatch_audit` of the add-on names the audit logs.
pub(crate) fn drilldown(finding: &Finding, detection: &Detection, lateness: i64) -> String {
    let (mut search, around) = match detection.annotations.search.as_str() {
        "" => ("`auditwatch_audit`".to_owned(), AROUND),
        search => (search.to_owned(), 0),
    };
    if around > 0 && !finding.cluster.is_empty() {
        // The name may be that of the configuration: then events have none.
        let cluster = escape(&finding.cluster);
        // Writing into a string cannot fail.
        let _ok = write!(
            search,
            r#" ("k8s.cluster.name"="{cluster}" OR NOT "k8s.cluster.name"=*)"#
        );
    }
    let (mut group, mut by) = (String::new(), Vec::new());
    for GroupValue { name, value } in &finding.group_by {
        let field = in_splunk(name);
        // Writing into a string cannot fail.
        let _ok = match value.as_deref() {
            Some(UNKNOWN) if field == SOURCES => Ok(()),
            Some(text) if field == SOURCES && is_system(text) => {
                group.push_str(&any_of(&finding.members));
                Ok(())
            }
            // Splunk does not know which of them is the trusted one: any will do.
            Some(text) => write!(group, r#" "{}"="{}""#, escape(&field), escape(text)),
            None => write!(group, r#" NOT "{}"=*"#, escape(&field)),
        };
        by.push(if field == SOURCES {
            field
        } else {
            format!("\"{}\"", escape(&field))
        });
    }
    if by.is_empty() {
        by.push(SOURCES.to_owned());
    }
    let second = |time: &Option<prost_types::Timestamp>| time.map_or(0, |time| time.seconds);
    let (earliest, latest) = match detection.window {
        Window::Tumbling { .. } => (second(&finding.window_start), second(&finding.window_end)),
        // Splunk's _time is often that of reading, some time after the event.
        Window::Session { .. } => (
            second(&finding.first_time) - around.max(60),
            second(&finding.last_time) + lateness / SECOND + around,
        ),
    };
    let values = "values(userAgent) values(user.username) values(user.groups{}) values(verb) \
                  values(requestURI) values(responseStatus.code) values(responseStatus.message) \
                  values(responseStatus.reason) values(responseStatus.status)";
    let by = by.join(" ");
    format!(
        "{search}{group} earliest={earliest} latest={latest} \
         | stats count min(_time) max(_time) {values} BY {by}"
    )
}

/// Members of a system that a search names.
const MOST_MEMBERS: usize = 50;

/// Whether the value of a group is the number of an autonomous system, such as `AS64500`.
pub(super) fn is_system(text: &str) -> bool {
    let number = text.strip_prefix("AS");
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The part of a search that finds requests of any of these.
fn any_of(members: &[Member]) -> String {
    let each = members.iter().take(MOST_MEMBERS);
    let each = each.map(|one| format!(r#""{SOURCES}"="{}""#, escape(&one.source)));
    let all: Vec<String> = each.collect();
    format!(" ({})", all.join(" OR "))
}

/// The field of `sourceIPs` in Splunk.
const SOURCES: &str = "sourceIPs{}";

/// The name in Splunk of a field that a rule groups by: its path, with `{}` behind a list.
fn in_splunk(name: &str) -> String {
    if SOURCE_FIELDS.contains(&name) {
        return SOURCES.to_owned();
    }
    let row = fields::TABLE.iter().find(|row| row.path == name);
    match row.map(|row| row.kind) {
        Some(Kind::List | Kind::Claimed) => format!("{name}{{}}"),
        _ => name.to_owned(),
    }
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
