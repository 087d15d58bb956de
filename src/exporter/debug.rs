//! Findings to our own log, for people who set things up.

use std::{fmt::Write as _, sync::Arc};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

use super::{Exporter, Outcome, otlp, text};
use crate::{detection::Finding, visible};

/// Most characters of one value.
const VALUE_MAX: usize = 4096;

/// Settings of one `debug` exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `verbosity`.
    pub verbosity: Verbosity,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// A count for each batch.
    Basic,
    /// A line for each finding.
    #[default]
    Normal,
    /// The OTLP log record, a line for each attribute.
    Detailed,
}

/// The `debug` exporter.
#[derive(Debug)]
pub struct Debug {
    verbosity: Verbosity,
}

impl Debug {
    /// An exporter that logs as much as `config` says.
    pub fn new(config: &Config) -> Self {
        Self {
            verbosity: config.verbosity,
        }
    }
}

impl Exporter for Debug {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        if self.verbosity == Verbosity::Basic {
            tracing::info!(target: "auditwatch::debug", findings = batch.len(), "findings");
        }
        for finding in batch {
            let lines = match self.verbosity {
                Verbosity::Basic => continue,
                Verbosity::Normal => normal(finding),
                Verbosity::Detailed => detailed(finding),
            };
            tracing::info!(target: "auditwatch::debug", "{lines}");
        }
        Outcome::Accepted(batch.len())
    }
}

fn normal(finding: &Finding) -> String {
    format!(
        "{} [{}]",
        text::line(finding),
        visible::quotable(&finding.finding_id, 64)
    )
}

fn detailed(finding: &Finding) -> String {
    let record = otlp::log_record(finding, 0);
    let resource = otlp::resource(finding);
    // Writing into a string cannot fail.
    let mut lines = format!("{}\n", visible::quotable(&record.event_name, VALUE_MAX));
    let _ok = writeln!(lines, "  time_unix_nano: {}", record.time_unix_nano);
    let _ok = writeln!(lines, "  severity_number: {}", record.severity_number);
    let _ok = writeln!(lines, "  body: {}", value(record.body.as_ref()));
    lines.push_str("  resource:\n");
    attributes(&mut lines, &resource.attributes);
    lines.push_str("  attributes:\n");
    attributes(&mut lines, &record.attributes);
    lines.truncate(lines.trim_end().len());
    lines
}

fn attributes(lines: &mut String, attributes: &[KeyValue]) {
    for attribute in attributes {
        let name = visible::quotable(&attribute.key, VALUE_MAX);
        let _ok = writeln!(lines, "    {name}: {}", value(attribute.value.as_ref()));
    }
}

fn value(any: Option<&AnyValue>) -> String {
    let joined = |values: Vec<String>| values.join(", ");
    match any.and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(string)) => format!("\"{}\"", visible::quotable(string, VALUE_MAX)),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            format!(
                "[{}]",
                joined(list.values.iter().map(|one| value(Some(one))).collect())
            )
        }
        Some(Value::KvlistValue(map)) => {
            let entry = |one: &KeyValue| {
                format!(
                    "{}: {}",
                    visible::quotable(&one.key, VALUE_MAX),
                    value(one.value.as_ref())
                )
            };
            format!("{{{}}}", joined(map.values.iter().map(entry).collect()))
        }
        Some(Value::BytesValue(bytes)) => format!("{} bytes", bytes.len()),
        Some(Value::StringValueStrindex(_)) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::samples;

    #[test]
    fn a_line_for_each_finding() {
        assert_eq!(
            normal(&samples::opened(1)),
            "Kubernetes scanning from ip 203.0.113.7 on cluster prod: 6 requests refused \
             (6 with 403), opened [00000000000000000000000000000001]"
        );
    }

    #[test]
    fn every_attribute_has_a_line() {
        let finding = samples::full().1;
        let lines = detailed(&finding);
        let record = otlp::log_record(&finding, 0);
        for attribute in record
            .attributes
            .iter()
            .chain(&otlp::resource(&finding).attributes)
        {
            let start = format!("    {}: ", attribute.key);
            assert!(
                lines.lines().any(|line| line.starts_with(&start)),
                "{start}\n{lines}"
            );
        }
        assert!(
            lines.contains("[\"value of verbs\", \"value of verbs\"]"),
            "{lines}"
        );
        assert!(
            lines.contains("samples: [{time: \"2025-11-25T07:17:03.035818Z\", "),
            "{lines}"
        );
    }

    #[test]
    fn a_terminal_is_told_nothing_by_a_stranger() {
        let hostile = "x\x1b]0;owned\x07\r\n    state: \"closed\"\u{202e}".to_owned();
        let finding = Finding {
            finding_id: hostile.clone(),
            state: hostile.clone(),
            src_ip: hostile.clone(),
            cluster: hostile.clone(),
            paths: vec![hostile.clone()],
            count_by_code: [(hostile.clone(), 1)].into(),
            ..Finding::default()
        };
        assert!(!normal(&finding).chars().any(char::is_control));
        let honest = Finding {
            finding_id: "x".to_owned(),
            state: "x".to_owned(),
            src_ip: "x".to_owned(),
            cluster: "x".to_owned(),
            paths: vec!["x".to_owned()],
            count_by_code: [("x".to_owned(), 1)].into(),
            ..Finding::default()
        };
        let lines = detailed(&finding);
        assert_eq!(
            lines.lines().count(),
            detailed(&honest).lines().count(),
            "{lines}"
        );
        assert!(
            !lines.lines().any(|line| line.chars().any(char::is_control)),
            "{lines}"
        );
        assert!(!lines.contains('\u{202e}'));

        // In every field there is: as many lines as of a plain one.
        let everywhere = detailed(&samples::hostile(&hostile));
        let plain = detailed(&samples::hostile("x"));
        assert_eq!(everywhere.lines().count(), plain.lines().count());
        assert!(
            everywhere
                .chars()
                .all(|c| c == '\n' || visible::is_visible(c)),
            "{everywhere}"
        );
    }

    #[tokio::test]
    async fn everything_is_accepted() {
        for verbosity in [Verbosity::Basic, Verbosity::Normal, Verbosity::Detailed] {
            let mut exporter = Debug::new(&Config { verbosity });
            assert_eq!(
                exporter.send(&samples::findings(3)).await,
                Outcome::Accepted(3)
            );
        }
    }
}
