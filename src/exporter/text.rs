//! Text for people out of values that strangers wrote: escaped, and never longer than needed.

use std::fmt::Write as _;

use http::HeaderMap;
use secrecy::SecretString;

use crate::{
    detection::{
        Finding,
        finding::summary::{self, counted, several},
    },
    redact,
    visible::quotable,
};

/// A value in a URL of fewer letters is more likely the name of an index than a key.
const SHORTEST_IN_URL: usize = 8;

/// What no message may hold: the values of headers, and a token.
pub(super) fn secrets(headers: &HeaderMap, token: Option<SecretString>) -> Vec<SecretString> {
    let values = headers.values().filter_map(|value| value.to_str().ok());
    values.map(SecretString::from).chain(token).collect()
}

/// The values in the query of a URL, which may be keys.
pub(super) fn secrets_of_url(url: &reqwest::Url) -> Vec<SecretString> {
    url.query_pairs()
        .filter(|(_, value)| value.len() >= SHORTEST_IN_URL)
        .map(|(_, value)| SecretString::from(value.into_owned()))
        .collect()
}

/// The greatest number of characters of a receiver's message in our log.
pub(super) const EXCERPT: usize = 160;

/// The beginning of a receiver's message, in quotes, without secrets and on one line.
pub(super) fn quoted(words: &str, secrets: &[SecretString]) -> String {
    let words = redact::hidden(words, secrets);
    let words: Vec<&str> = words.split_whitespace().take(EXCERPT).collect();
    format!("\"{}\"", quotable(&words.join(" "), EXCERPT))
}

/// Characters of a message that are shown.
const MOST_MESSAGE: usize = 2048;
/// Characters of another value that are shown.
const MOST_VALUE: usize = 64;

/// One line that says what a state of a finding is about: what, where, how bad, how much, what is
/// new. A message that says all of that itself is followed by the state alone.
pub fn line(finding: &Finding) -> String {
    let subject = [&finding.message, &finding.rule_name, &finding.rule_id];
    let subject = subject.into_iter().find(|text| !text.is_empty());
    let mut line = subject.map_or_else(
        || "finding".to_owned(),
        |text| summary::own(text, MOST_MESSAGE),
    );
    let place: Vec<String> = [&finding.city, &finding.country]
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .map(|name| quotable(name, MOST_VALUE))
        .collect();
    // Writing into a string cannot fail.
    if !place.is_empty() {
        let _ok = write!(line, " ({})", place.join(", "));
    }
    if summary::is_whole(finding) {
        let _ok = write!(line, " [{}]", quotable(&finding.state, 16));
        return line;
    }
    if !finding.cluster.is_empty() {
        let _ok = write!(
            line,
            " on cluster {}",
            quotable(&finding.cluster, MOST_VALUE)
        );
    }
    line.push_str(": ");
    if !finding.severity.is_empty() {
        let _ok = write!(line, "{}, ", quotable(&finding.severity, 16));
    }
    requests(&mut line, finding);
    let state = quotable(&finding.state, 16);
    let _ok = match finding.close_reason.as_str() {
        "" => write!(line, ", {state}"),
        reason => write!(line, ", {state} ({})", quotable(reason, 16)),
    };
    if !finding.continues.is_empty() {
        let _ok = write!(line, ", continues {}", quotable(&finding.continues, 32));
    }
    if let Some(new) = summary::news(finding.new.as_ref()) {
        let _ok = write!(line, "; new: {new}");
    }
    if !finding.severity_reasons.is_empty() {
        let _ok = write!(line, "; {}", reasons(finding));
    }
    line
}

/// How many requests, how they ended, and what they look like.
fn requests(line: &mut String, finding: &Finding) {
    line.push_str(&counted(finding.count, "request", "requests"));
    let mut codes = finding.count_by_code.keys().peekable();
    if codes.peek().is_some() && codes.all(|code| matches!(code.as_str(), "401" | "403")) {
        line.push_str(" refused");
    }
    let codes: Vec<String> = finding
        .count_by_code
        .iter()
        .take(4)
        .map(|(code, count)| format!("{count} with {}", quotable(code, 16)))
        .collect();
    // Writing into a string cannot fail.
    if !codes.is_empty() {
        let _ok = write!(line, " ({})", codes.join(", "));
    }
    if finding.value_count > 0 {
        let (count, field) = (
            finding.value_count,
            quotable(&finding.value_field, MOST_VALUE),
        );
        let _ok = write!(line, ", {count} distinct values of {field}");
    }
    if finding.success_count > 0 {
        let _ok = write!(line, ", {} succeeded", finding.success_count);
    }
    if finding.member_count > 0 {
        let members = counted(finding.member_count, "member", "members");
        let _ok = match finding.prefix.as_str() {
            "" => write!(line, ", {members}"),
            prefix => write!(line, ", {members} of {}", quotable(prefix, MOST_VALUE)),
        };
    }
    let labels = finding.labels.iter().map(|label| label.name.as_str());
    if let Some(labels) = several(labels) {
        let _ok = write!(line, ", {labels}");
    }
}

/// Why the severity is what it is.
pub(super) fn reasons(finding: &Finding) -> String {
    several(finding.severity_reasons.iter().map(String::as_str)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::samples;

    #[test]
    fn secrets_are_taken_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-short", "1"), ("x-a", "s3cret"), ("x-b", "s3cret-too")] {
            headers.insert(name, value.parse().unwrap());
        }
        let secrets = secrets(&headers, Some("t0ken".into()));
        assert_eq!(
            redact::hidden("1 s3cret-too s3cret t0ken", &secrets),
            "1 [hidden] [hidden] [hidden]"
        );
        assert_eq!(quoted(" a\n\ts3cret  b", &secrets), "\"a [hidden] b\"");
        assert_eq!(
            quoted(&"x".repeat(200), &[]).len(),
            EXCERPT + "\"...\"".len()
        );
    }

    #[test]
    fn a_summary_says_what_the_rule_says() {
        assert_eq!(
            line(&samples::by_user()),
            "eve reads secrets on cluster prod: high, 6 requests (6 with 200), opened"
        );
        assert_eq!(line(&Finding::default()), "finding: 0 requests, ");
    }

    #[test]
    fn a_summary_is_one_line() {
        let finding = Finding {
            message: "Kubernetes scanning from ip 203.0.113.7\n\x1b[31m".to_owned(),
            state: "opened".to_owned(),
            cluster: "prod".to_owned(),
            country: Some("Germany".to_owned()),
            city: Some(String::new()),
            count: 6,
            count_by_code: [("403".to_owned(), 6)].into(),
            ..Finding::default()
        };
        assert_eq!(
            line(&finding),
            "Kubernetes scanning from ip 203.0.113.7\\n\\u{1b}[31m (Germany) on cluster prod: \
             6 requests refused (6 with 403), opened"
        );
    }

    /// In one line: how bad, what is new, the outcome, labels, what it continues, why it was closed.
    #[test]
    fn a_summary_says_what_matters() {
        let rich = samples::rich();
        assert_eq!(
            line(&rich),
            "Kubernetes scanning from ip 203.0.113.7 on cluster prod: critical, 6 requests refused \
             (6 with 403), 2 succeeded, reads_secrets, uses_curl, updated, \
             continues 00000000000000000000000000000009; new: severity (was low); 1 success; \
             labels reads_secrets; codes 401; verbs create; \
             paths /api/v1/secrets, /api/v1/pods, /metrics and 1 more; user agents curl/8.5.0; \
             users eve; 3 requests; 2 requests succeeded, 4 requests for secrets"
        );
        let rolled_up = Finding {
            state: "closed".to_owned(),
            close_reason: "quiet".to_owned(),
            ..samples::rolled_up()
        };
        assert_eq!(
            line(&rolled_up),
            "Distributed scanning from 198.51.100.0/24 on cluster prod: medium, 200 requests \
             refused (200 with 403), 40 members of 198.51.100.0/24, closed (quiet)"
        );
    }

    /// Whatever a stranger writes into any field: one line, and not longer than its bounds allow.
    #[test]
    fn no_field_of_a_summary_ends_the_line() {
        let hostile = "x\n\x1b[31m\u{202e}\"".repeat(1000);
        let line = line(&samples::hostile(&hostile));
        assert!(line.chars().all(crate::visible::is_visible), "{line}");
        assert!(line.len() < 32 * 1024, "{}", line.len());
    }
}
