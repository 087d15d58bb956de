//! Text for people out of values that strangers wrote: escaped, and never longer than needed.

use std::fmt::Write as _;

use http::HeaderMap;
use secrecy::SecretString;

use crate::{detection::Finding, redact, visible::quotable};

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
const MOST_MESSAGE: usize = 512;

/// One line that summarizes a finding.
pub fn summary(finding: &Finding) -> String {
    let subject = [&finding.message, &finding.rule_name, &finding.rule_id];
    let subject = subject.into_iter().find(|text| !text.is_empty());
    let mut line =
        subject.map_or_else(|| "finding".to_owned(), |text| quotable(text, MOST_MESSAGE));
    let place: Vec<String> = [&finding.city, &finding.country]
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .map(|name| quotable(name, 64))
        .collect();
    // Writing into a string cannot fail.
    if !place.is_empty() {
        let _ok = write!(line, " ({})", place.join(", "));
    }
    if !finding.cluster.is_empty() {
        let _ok = write!(line, " on cluster {}", quotable(&finding.cluster, 64));
    }
    let requests = if finding.count == 1 {
        "request"
    } else {
        "requests"
    };
    let _ok = write!(line, ": {} {requests}", finding.count);
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
    if !codes.is_empty() {
        let _ok = write!(line, " ({})", codes.join(", "));
    }
    if finding.value_count > 0 {
        let (count, field) = (finding.value_count, quotable(&finding.value_field, 64));
        let _ok = write!(line, ", {count} distinct values of {field}");
    }
    let _ok = write!(line, ", {}", quotable(&finding.state, 16));
    line
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
            summary(&samples::by_user()),
            "eve reads secrets on cluster prod: 6 requests (6 with 200), opened"
        );
        assert_eq!(summary(&Finding::default()), "finding: 0 requests, ");
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
            summary(&finding),
            "Kubernetes scanning from ip 203.0.113.7\\n\\u{1b}[31m (Germany) on cluster prod: \
             6 requests refused (6 with 403), opened"
        );
    }
}
