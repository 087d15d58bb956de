//! Findings as OTLP log records: what `otlp_grpc`, `otlp_http` and `debug` share.
//!
//! Attributes carry the names of OpenTelemetry's semantic conventions where there are such, and
//! `auditwatch.finding.<field of finding.proto>` otherwise. As in the JSON form, what is not set
//! is left out and times are RFC 3339 in UTC.

pub mod request;
pub mod response;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
    resource::v1::Resource,
};
use prost_types::Timestamp;

use crate::{
    detection::{
        Finding, Sample,
        finding::{FindingState, GroupValue, Label, Member, New, Severity},
        time::Micros,
    },
    exporter::{text, time},
    throttle::Throttle,
};

/// Before the name of a field that no convention names.
const OWN: &str = "auditwatch.finding.";
/// What a collector with a `splunk_hec` exporter makes the sourcetype.
const SOURCETYPE: &str = "auditwatch:finding";

/// Warnings of a receiver that takes everything.
#[derive(Debug)]
pub(super) struct Warnings(Throttle<(), String>);

impl Default for Warnings {
    fn default() -> Self {
        Self(Throttle::new(|line| {
            let (warning, suppressed) = (line.detail, line.suppressed());
            tracing::warn!(
                warning,
                suppressed,
                "the receiver took the findings with a warning"
            );
        }))
    }
}

impl Warnings {
    pub(super) fn log(&self, warning: Option<String>) {
        if let Some(warning) = warning {
            self.0.log((), warning);
        }
    }
}

/// The log record of one finding.
///
/// Its time is that of the finding's state, the same as in a HEC event; 0, unknown, where the
/// finding has none or OTLP cannot hold it. `observed_unix_nano` is when it was found, 0 if that
/// is not known. `log.record.uid` is equal for deliveries of one state, and for them alone: the
/// finding's id and its state, and of an update its counts, which grow with each.
pub fn log_record(finding: &Finding, observed_unix_nano: u64) -> LogRecord {
    let micros = time::of_state(finding).map_or(0, |time| time.0);
    let (severity, severity_text) = severity(finding);
    LogRecord {
        time_unix_nano: u64::try_from(micros)
            .ok()
            .and_then(|t| t.checked_mul(1000))
            .unwrap_or(0),
        observed_time_unix_nano: observed_unix_nano,
        severity_number: severity.into(),
        severity_text: severity_text.to_owned(),
        event_name: format!("auditwatch.finding.{}", finding.state),
        body: Some(any(Value::StringValue(text::line(finding)))),
        attributes: attributes(finding),
        ..LogRecord::default()
    }
}

/// How OTLP names the level of a finding.
fn severity(finding: &Finding) -> (SeverityNumber, &'static str) {
    match finding.severity() {
        Some(Severity::Informational) => (SeverityNumber::Info, "INFO"),
        Some(Severity::Low) | None => (SeverityNumber::Warn, "WARN"),
        Some(Severity::Medium) => (SeverityNumber::Warn3, "WARN3"),
        Some(Severity::High) => (SeverityNumber::Error, "ERROR"),
        Some(Severity::Critical) => (SeverityNumber::Fatal, "FATAL"),
    }
}

/// The resource of a finding: this service, on behalf of the cluster.
pub fn resource(finding: &Finding) -> Resource {
    let mut list = Attributes(Vec::with_capacity(3));
    list.text("service.name", "auditwatch");
    list.text("k8s.cluster.name", &finding.cluster);
    list.text("com.splunk.sourcetype", SOURCETYPE);
    Resource {
        attributes: list.0,
        ..Resource::default()
    }
}

/// Every field but the cluster, which the resource carries. A test compares them with the schema.
fn attributes(finding: &Finding) -> Vec<KeyValue> {
    let mut list = Attributes(Vec::with_capacity(40));
    identity(&mut list, finding);
    place_and_time(&mut list, finding);
    counts(&mut list, finding);
    evidence(&mut list, finding);
    assessment(&mut list, finding);
    list.0
}

fn identity(list: &mut Attributes, finding: &Finding) {
    let Finding {
        finding_id,
        state,
        rule_id,
        rule_name,
        rule_version,
        semantics,
        severity,
        risk_score,
        mitre_technique_id,
        mitre_technique,
        mitre_tactic,
        config_fingerprint,
        drilldown_search,
        message,
        false_positives,
        references,
        attack_techniques,
        matched_rules,
        // The other fields are in `place_and_time`, `counts`, `evidence` and `assessment`.
        ..
    } = finding;
    list.text("log.record.uid", &uid(finding));
    list.own_text("finding_id", finding_id);
    list.own_text("state", state);
    list.text("security_rule.uuid", rule_id);
    list.text("security_rule.name", rule_name);
    list.text("security_rule.version", rule_version);
    list.own_text("semantics", semantics);
    list.own_text("severity", severity);
    list.own_number("risk_score", u64::from(*risk_score));
    list.own_text("mitre_technique_id", mitre_technique_id);
    list.own_text("mitre_technique", mitre_technique);
    list.own_text("mitre_tactic", mitre_tactic);
    list.own_text("config_fingerprint", config_fingerprint);
    list.own_text("drilldown_search", drilldown_search);
    list.own_text("message", message);
    list.own_texts("false_positives", false_positives);
    list.own_texts("references", references);
    list.own_texts("attack_techniques", attack_techniques);
    list.own_texts("matched_rules", matched_rules);
}

/// What tells this state of the finding from its other states.
fn uid(finding: &Finding) -> String {
    let Finding {
        finding_id,
        state,
        count,
        success_count,
        ..
    } = finding;
    if finding.state() == Some(FindingState::Updated) {
        format!("{finding_id}-{state}-{count}-{success_count}")
    } else {
        format!("{finding_id}-{state}")
    }
}

fn place_and_time(list: &mut Attributes, finding: &Finding) {
    list.text("client.address", &finding.src_ip);
    list.own_text("src", &finding.src);
    list.own_list("group_by", finding.group_by.iter().map(group_value));
    // The conventions know no name of a country, and a region only by its code.
    list.optional(
        "auditwatch.finding.country",
        finding.country.as_deref().map(text_value),
    );
    list.optional("geo.locality.name", finding.city.as_deref().map(text_value));
    list.optional(
        "auditwatch.finding.region",
        finding.region.as_deref().map(text_value),
    );
    list.optional(
        "geo.country.iso_code",
        finding.country_iso_code.as_deref().map(text_value),
    );
    list.optional("geo.location.lat", finding.lat.map(Value::DoubleValue));
    list.optional("geo.location.lon", finding.lon.map(Value::DoubleValue));
    for (name, time) in [
        ("first_time", finding.first_time),
        ("last_time", finding.last_time),
        ("alert_at", finding.alert_at),
        ("window_start", finding.window_start),
        ("window_end", finding.window_end),
    ] {
        list.optional(&format!("{OWN}{name}"), time.map(time_value));
    }
}

fn counts(list: &mut Attributes, finding: &Finding) {
    list.own_number("count", finding.count);
    list.own_counts("count_by_code", &finding.count_by_code);
    list.own_number("threshold", finding.threshold);
    if finding.window_seconds != 0.0 {
        list.own("window_seconds", Value::DoubleValue(finding.window_seconds));
    }
    list.own_text("value_field", &finding.value_field);
    list.own_number("value_count", finding.value_count);
    list.own_number("unverified", finding.unverified);
    list.own_number("success_count", finding.success_count);
    list.own_counts("distinct", &finding.distinct);
    list.own_texts("estimated", &finding.estimated);
    list.own_number("duplicates", finding.duplicates);
    list.own_number("count_error", finding.count_error);
    list.own_number("member_count", finding.member_count);
    let measures = finding.measures.iter();
    list.own_map(
        "measures",
        measures.map(|(name, value)| (name, Value::DoubleValue(*value))),
    );
    for (name, is) in [
        ("time_clamped", finding.time_clamped),
        ("is_partial", finding.is_partial),
    ] {
        if is {
            list.own(name, Value::BoolValue(true));
        }
    }
}

fn evidence(list: &mut Attributes, finding: &Finding) {
    for evidence in finding.lists() {
        if let ([only], Some(name)) = (evidence.values.as_slice(), evidence.row.convention) {
            list.text(name, only);
        }
        list.own_texts(evidence.name, evidence.values);
    }
    list.own_texts("truncated", &finding.truncated);
    list.own_list("samples", finding.samples.iter().map(sample_value));
    list.own_list("successes", finding.successes.iter().map(sample_value));
}

/// How bad it is and why, what is new, and what it belongs to.
fn assessment(list: &mut Attributes, finding: &Finding) {
    list.own_list("labels", finding.labels.iter().map(label_value));
    list.own_texts("severity_reasons", &finding.severity_reasons);
    list.own_text("outcome", &finding.outcome);
    list.optional(
        "auditwatch.finding.new",
        finding.new.as_ref().map(new_value),
    );
    list.own_text("close_reason", &finding.close_reason);
    list.own_text("continues", &finding.continues);
    list.own_texts("related", &finding.related);
    list.own_text("prefix", &finding.prefix);
    list.own_list("members", finding.members.iter().map(member_value));
}

fn group_value(group: &GroupValue) -> Value {
    let GroupValue { name, value } = group;
    let mut list = Attributes(Vec::with_capacity(2));
    list.text("name", name);
    list.optional("value", value.as_deref().map(text_value));
    list.into_value()
}

fn sample_value(sample: &Sample) -> Value {
    let Sample {
        time,
        audit_id,
        stage,
        verb,
        path,
        code,
        user_agent,
        user,
    } = sample;
    let mut list = Attributes(Vec::with_capacity(8));
    list.optional("time", time.map(time_value));
    list.text("audit_id", audit_id);
    list.text("stage", stage);
    list.text("verb", verb);
    list.text("path", path);
    list.text("code", code);
    list.text("user_agent", user_agent);
    list.text("user", user);
    list.into_value()
}

fn label_value(label: &Label) -> Value {
    let Label {
        name,
        kind,
        title,
        severity,
        count,
        first_time,
        example,
    } = label;
    let mut list = Attributes(Vec::with_capacity(7));
    list.text("name", name);
    list.text("kind", kind);
    list.text("title", title);
    list.text("severity", severity);
    list.number("count", *count);
    list.optional("first_time", first_time.map(time_value));
    list.text("example", example);
    list.into_value()
}

fn new_value(new: &New) -> Value {
    let New {
        paths,
        user_agents,
        verbs,
        codes,
        users,
        labels,
        severity_before,
        count,
        successes,
    } = new;
    let mut list = Attributes(Vec::with_capacity(9));
    list.texts("paths", paths);
    list.texts("user_agents", user_agents);
    list.texts("verbs", verbs);
    list.texts("codes", codes);
    list.texts("users", users);
    list.texts("labels", labels);
    list.text("severity_before", severity_before);
    list.number("count", *count);
    list.number("successes", *successes);
    list.into_value()
}

fn member_value(member: &Member) -> Value {
    let Member {
        source,
        count,
        finding_id,
    } = member;
    let mut list = Attributes(Vec::with_capacity(3));
    list.text("source", source);
    list.number("count", *count);
    list.text("finding_id", finding_id);
    list.into_value()
}

/// Attributes in the making. What is not set is not added.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn push(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(any(value)),
            ..KeyValue::default()
        });
    }

    fn optional(&mut self, key: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.push(key, value);
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.push(key, Value::StringValue(value.to_owned()));
        }
    }

    fn own(&mut self, field: &str, value: Value) {
        self.push(&format!("{OWN}{field}"), value);
    }

    fn own_text(&mut self, field: &str, value: &str) {
        self.text(&format!("{OWN}{field}"), value);
    }

    fn number(&mut self, key: &str, value: u64) {
        if value != 0 {
            self.push(key, number_value(value));
        }
    }

    fn own_number(&mut self, field: &str, value: u64) {
        self.number(&format!("{OWN}{field}"), value);
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = Value>) {
        let values: Vec<AnyValue> = values.map(any).collect();
        if !values.is_empty() {
            self.push(key, Value::ArrayValue(ArrayValue { values }));
        }
    }

    fn own_list(&mut self, field: &str, values: impl Iterator<Item = Value>) {
        self.list(&format!("{OWN}{field}"), values);
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        self.list(key, texts.iter().map(|text| text_value(text)));
    }

    fn own_texts(&mut self, field: &str, texts: &[String]) {
        self.texts(&format!("{OWN}{field}"), texts);
    }

    fn own_map<'a>(&mut self, field: &str, values: impl Iterator<Item = (&'a String, Value)>) {
        let mut list = Self(Vec::new());
        for (name, value) in values {
            list.push(name, value);
        }
        if !list.0.is_empty() {
            self.own(field, list.into_value());
        }
    }

    fn own_counts(&mut self, field: &str, counts: &BTreeMap<String, u64>) {
        let counts = counts.iter();
        self.own_map(
            field,
            counts.map(|(name, count)| (name, number_value(*count))),
        );
    }

    fn into_value(self) -> Value {
        Value::KvlistValue(KeyValueList { values: self.0 })
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn text_value(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn number_value(number: u64) -> Value {
    Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX))
}

fn time_value(time: Timestamp) -> Value {
    Value::StringValue(Micros::from_proto(time).to_string())
}

#[cfg(test)]
mod tests;
