//! What an analyst has to know of a finding, in the sentences of its message: whether a request
//! succeeded and whose it was, how much was refused, why the severity is what it is, how sure the
//! count is, what is new, who takes part, and why it ended.

use std::fmt::{Display, Write as _};

use prost_types::Timestamp;

use super::{Finding, New, Sample, Severity, assess};
use crate::{
    audit::time::Micros,
    rules::settings::SECOND,
    visible::{escaped, quotable},
};

/// Characters of a summary: a sentence that would make it longer is cut, and those behind it left out.
const MOST: usize = 1000;
/// Characters of a sentence that is cut, at least.
const SHORTEST: usize = 40;
/// Characters of a path and of another value.
const MOST_PATH: usize = 120;
const MOST_VALUE: usize = 64;
/// Characters of a value that a message names itself.
pub(super) const MOST_IN_MESSAGE: usize = 256;
/// Values of one kind that are named.
const MOST_NAMED: usize = 3;
/// Reasons of the severity, besides a success.
const MOST_REASONS: usize = 2;
/// The user of a request without credentials.
const ANONYMOUS: &str = "system:anonymous";

/// The sentences, the most important first. The same finding has the same summary.
pub(crate) fn summary(finding: &Finding) -> String {
    let has_success = finding.success_count > 0;
    let all = finding.severity_reasons.iter().map(String::as_str);
    let success = all.clone().next().filter(|_| has_success);
    let reasons: Vec<&str> = all
        .skip(usize::from(has_success))
        .filter(|reason| !assess::is_plain(reason))
        .take(MOST_REASONS)
        .collect();
    let all = success
        .map(str::to_owned)
        .into_iter()
        .chain(requests(finding))
        .chain(reasons.iter().map(|reason| sentence(reason)))
        .chain(doubts(finding))
        .chain(news(finding.new.as_ref()).map(|news| format!("New: {news}.")))
        .chain(members(finding))
        .chain(others(finding, &reasons))
        .chain(end(finding));
    let mut text = String::new();
    for sentence in all {
        let sentence = escaped(&sentence).to_string();
        let length = text.chars().count() + sentence.chars().count();
        if !text.is_empty() {
            if length >= MOST {
                // The labels that it names are in no other sentence.
                let room = MOST.saturating_sub(text.chars().count() + 4);
                if room >= SHORTEST {
                    let kept: String = sentence.chars().take(room).collect();
                    text = format!("{text} {kept}...");
                }
                break;
            }
            text.push(' ');
        }
        text.push_str(&sentence);
    }
    text
}

/// The first reason of a finding with successes: who did what, with which outcome, how long after
/// the last refusal, and who else.
pub(super) fn success(finding: &Finding) -> String {
    let who = |user: &str| match user {
        "" | ANONYMOUS => "without credentials".to_owned(),
        user => format!("as {}", value(user, MOST_VALUE)),
    };
    let Some(first) = finding.successes.first() else {
        return assess::succeeded(finding.success_count);
    };
    let user = who(&first.user);
    let what = what(first);
    let mut text = match finding.success_count {
        0 | 1 => format!("A request {user} succeeded: {what}"),
        many => format!("{many} requests succeeded, the first {user}: {what}"),
    };
    if let Some(when) = when(first.time, finding).filter(|_| are_refused(finding)) {
        // Writing into a string cannot fail.
        let _ok = write!(text, ", {when}");
    }
    let mut others: Vec<String> = Vec::new();
    for sample in &finding.successes {
        let other = who(&sample.user);
        if other != user && !others.contains(&other) {
            others.push(other);
        }
    }
    if let Some(others) = several(others.iter().map(String::as_str)) {
        let _ok = write!(text, "; others {others}");
    }
    text.push('.');
    text
}

/// A request: verb, path and code.
fn what(sample: &Sample) -> String {
    let Sample {
        verb, path, code, ..
    } = sample;
    let (verb, path) = (value(verb, MOST_VALUE), value(path, MOST_PATH));
    let what = [verb, path].into_iter().filter(|part| !part.is_empty());
    let what = what.collect::<Vec<_>>().join(" ");
    match code.as_str() {
        "" => what,
        code => format!("{what} ({})", value(code, 16)),
    }
}

/// Whether all requests that count were refused for their credentials or the lack of them.
fn are_refused(finding: &Finding) -> bool {
    let mut codes = finding.count_by_code.keys();
    codes.all(|code| matches!(code.as_str(), "401" | "403"))
}

/// When a request succeeded, seen from those that were refused.
fn when(time: Option<Timestamp>, finding: &Finding) -> Option<String> {
    let micros = |time: Option<Timestamp>| time.map(Micros::from_proto);
    let (time, first) = (micros(time)?, micros(finding.first_time)?);
    let last = micros(finding.last_time)?;
    Some(if time >= last {
        format!("{} after the last refused request", span(last, time))
    } else if time < first {
        format!("{} before the first refused request", span(time, first))
    } else {
        "while other requests were still refused".to_owned()
    })
}

/// A length of time as people say it.
fn span(from: Micros, to: Micros) -> String {
    let micros = to.0.saturating_sub(from.0).max(0);
    let seconds = micros / SECOND;
    match seconds {
        0 if micros < SECOND / 10 => "less than 0.1 s".to_owned(),
        0..10 => format!("{seconds}.{} s", micros % SECOND / (SECOND / 10)),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How many requests, how they ended, in what time, for how many paths; without labels and
/// members, which say more, the first of them.
fn requests(finding: &Finding) -> Option<String> {
    let are_said = finding.success_count >= finding.count && !are_refused(finding);
    if finding.count == 0 || finding.count_by_code.is_empty() || are_said {
        return None;
    }
    let speaks =
        finding.labels.is_empty() && finding.members.is_empty() && finding.success_count == 0;
    let first = finding.samples.iter().filter(|_| speaks);
    let first = first.min_by_key(|sample| sample.time.map(Micros::from_proto));
    if let (1, Some(only)) = (finding.count, first) {
        let agent = match only.user_agent.as_str() {
            "" => String::new(),
            agent => format!(" by {}", value(agent, MOST_VALUE)),
        };
        return Some(format!("{}{agent}.", what(only)));
    }
    let mut text = counted(finding.count, "request", "requests");
    let codes = &finding.count_by_code;
    if are_refused(finding) {
        text.push_str(" refused");
    }
    // Of a derived finding, evidence may begin after the first requests.
    let are_all = codes.values().sum::<u64>() == finding.count;
    let codes: Vec<String> = codes
        .iter()
        .take(4)
        .map(|(code, count)| match codes.len() {
            2.. if are_all => format!("{}: {count}", value(code, 16)),
            _ => value(code, 16),
        })
        .collect();
    // Writing into a string cannot fail.
    let _ok = write!(text, " ({})", codes.join(", "));
    if let Some((from, to)) = finding.first_time.zip(finding.last_time)
        && finding.count > 1
    {
        let _ok = write!(
            text,
            " within {}",
            span(Micros::from_proto(from), Micros::from_proto(to))
        );
    }
    let paths = finding.distinct.get("paths").copied().unwrap_or_default();
    if paths > 1 {
        let about = finding.estimated.iter().any(|list| list == "paths");
        let about = if about { "about " } else { "" };
        let _ok = write!(text, " for {about}{paths} paths");
    }
    let field = finding.value_field.as_str();
    if finding.value_count > 0 && !matches!(field, "" | "source.address" | "requestURI") {
        let (count, field) = (finding.value_count, value(field, MOST_VALUE));
        let _ok = write!(text, ", {count} distinct values of {field}");
    }
    if let Some(first) = first {
        let _ok = write!(text, ", the first {}", what(first));
    }
    text.push('.');
    Some(text)
}

/// What the count may lack or have too much of, and times that are not what was logged.
fn doubts(finding: &Finding) -> impl Iterator<Item = String> + use<> {
    let Finding {
        unverified,
        count_error,
        duplicates,
        count,
        time_clamped,
        ..
    } = *finding;
    let high = (unverified > 0).then(|| {
        format!("The count may be too high by {unverified}: repeats could not be told from new requests.")
    });
    let low = (count_error > 0)
        .then(|| format!("The count may be too low by {count_error}: the state was full before."));
    // Some are normal: a Collector delivers again what was not acknowledged.
    let repeats = (duplicates > 0 && duplicates >= count).then(|| {
        format!(
            "{duplicates} more were taken for repeated deliveries: if senders reuse audit ids, the \
             count is too low."
        )
    });
    let clamped = time_clamped.then(|| {
        "Some event times lay in the future and were set to their time of receipt.".to_owned()
    });
    [high, low, repeats, clamped].into_iter().flatten()
}

/// What is new in a state, or nothing.
pub(crate) fn news(new: Option<&New>) -> Option<String> {
    let new = new?;
    let mut parts = Vec::new();
    if !new.severity_before.is_empty() {
        parts.push(format!(
            "severity (was {})",
            value(&new.severity_before, 16)
        ));
    }
    if new.successes > 0 {
        parts.push(counted(new.successes, "success", "successes"));
    }
    for (name, values) in [
        ("labels", &new.labels),
        ("codes", &new.codes),
        ("verbs", &new.verbs),
        ("paths", &new.paths),
        ("user agents", &new.user_agents),
        ("users", &new.users),
    ] {
        if let Some(values) = several(values.iter().map(String::as_str)) {
            parts.push(format!("{name} {values}"));
        }
    }
    if new.count > 0 {
        parts.push(counted(new.count, "request", "requests"));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Who takes part in a finding of several.
fn members(finding: &Finding) -> Option<String> {
    let named = finding.members.iter().take(MOST_NAMED);
    let named: Vec<String> = named
        .map(|member| format!("{} ({})", value(&member.source, MOST_VALUE), member.count))
        .collect();
    if named.is_empty() {
        return None;
    }
    let more = finding.member_count.saturating_sub(named.len() as u64);
    let mut text = format!("Most requests: {}", named.join(", "));
    // Writing into a string cannot fail.
    if more > 0 {
        let _ok = write!(text, " and {more} more");
    }
    let own = finding.members.iter();
    let own = own.filter(|member| !member.finding_id.is_empty()).count();
    if own > 0 {
        let _ok = write!(text, "; at least {own} with a finding of their own");
    }
    text.push('.');
    Some(text)
}

/// Labels that no reason has named: what the requests look like besides.
fn others(finding: &Finding, reasons: &[&str]) -> Option<String> {
    let others: Vec<String> = finding
        .labels
        .iter()
        .filter(|label| {
            let is_named = |reason: &&str| reason.starts_with(&label.title);
            !reasons.iter().any(is_named)
        })
        .map(
            |label| match (label.title.as_str(), label.count == finding.count) {
                ("", _) => label.name.clone(),
                (title, true) => title.to_owned(),
                (title, false) => format!("{title} ({})", label.count),
            },
        )
        .collect();
    let shown: Vec<&str> = others.iter().take(MOST_NAMED).map(String::as_str).collect();
    let more = others.len().saturating_sub(MOST_NAMED);
    (!shown.is_empty()).then(|| match more {
        0 => format!("Labels: {}.", shown.join("; ")),
        more => format!("Labels: {}; and {more} more.", shown.join("; ")),
    })
}

/// Why it was closed, or what it goes on with.
fn end(finding: &Finding) -> Option<String> {
    Some(
        match finding.close_reason.as_str() {
            "" if finding.continues.is_empty() => return None,
            "" => "It continues an earlier finding.",
            "quiet" => "Closed: no request for a whole window.",
            "rolled_over" => "Closed after 24 h: the next finding continues it.",
            "merged" => "Closed: it is part of the finding before it.",
            "evicted" => "Closed early: the state was full.",
            "shutdown" => "Closed early: auditwatch was ended.",
            reason => return Some(format!("Closed: {}.", value(reason, MOST_VALUE))),
        }
        .to_owned(),
    )
}

/// How the message of a shipped rule says where a finding is and how bad. What has it, says all.
pub(crate) fn place(cluster: &str, severity: impl Display) -> String {
    let cluster = if cluster.is_empty() { UNKNOWN } else { cluster };
    format!(
        " on cluster {} ({severity}",
        value(cluster, MOST_IN_MESSAGE)
    )
}

/// A cluster without a name.
pub(super) const UNKNOWN: &str = "unknown";

/// Whether a message says what a finding is about, so that nothing is to be added for people.
pub(crate) fn is_whole(finding: &Finding) -> bool {
    let place = place(&finding.cluster, &finding.severity);
    finding.severity.parse::<Severity>().is_ok() && finding.message.contains(&place)
}

/// A text with a full stop, which reasons may lack.
fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    format!("{text}{end}")
}

/// A value, cut, in which nothing acts or hides.
pub(crate) fn value(text: &str, most: usize) -> String {
    if assess::is_prose(text) {
        return format!("\"{}\"", quotable(text, most));
    }
    own(text, most)
}

/// A text of ours, or of a rule, cut. Nothing in it is invisible.
pub(crate) fn own(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", escaped(text.get(..end).unwrap_or_default())),
        None => escaped(text).to_string(),
    }
}

/// The first values, and how many more there are; `None` of none.
pub(crate) fn several<'a>(values: impl ExactSizeIterator<Item = &'a str>) -> Option<String> {
    let more = values.len().saturating_sub(MOST_NAMED);
    let shown: Vec<String> = values
        .take(MOST_NAMED)
        .map(|text| value(text, MOST_VALUE))
        .collect();
    let shown = shown.join(", ");
    match more {
        _ if shown.is_empty() => None,
        0 => Some(shown),
        more => Some(format!("{shown} and {more} more")),
    }
}

/// `1 request`, `12 requests`
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
