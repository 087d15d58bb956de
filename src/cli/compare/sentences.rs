//! The result of a comparison in words.

use super::side_by_side::{Compared, Verdict};

/// The result in a few sentences.
pub(super) fn summary(compared: &Compared) -> Vec<String> {
    let count = |verdict| compared.count(verdict);
    let mut lines = vec![format!(
        "{} events: both find {}, streaming alone {}, the search alone {}.",
        compared.events,
        addresses(count(Verdict::Both)),
        addresses(count(Verdict::StreamingOnly)),
        addresses(count(Verdict::SearchOnly)),
    )];
    if let Some(lead) = compared.median_lead_seconds {
        lines.push(format!(
            "Where both find an address, streaming finds it {} earlier (median).",
            minutes(lead)
        ));
    }
    lines.push(
        "The search runs each hour over the hour that ended ten minutes before, as Splunk \
         schedules it."
            .to_owned(),
    );
    lines
}

fn addresses(count: usize) -> String {
    match count {
        1 => "1 address".to_owned(),
        count => format!("{count} addresses"),
    }
}

/// A number of seconds in minutes and seconds.
pub(super) fn minutes(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}
