//! Findings as HEC events, `format: finding`. Pure.
//!
//! The event itself is the finding's JSON. Beside it stand the columns of the ESCU search as
//! indexed `fields` under their exact names, because Splunk would name the arrays of a JSON event
//! `verb{}` and the like. Splunk refuses a whole request for one field that is neither a string
//! nor a non-empty array of strings, so nothing else ever stands there, and what is empty is left
//! out.

use std::fmt::Write as _;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use crate::{
    detection::{Finding, time::Micros},
    exporter::time,
};

/// What the configuration says about every event. Empty: left out, Splunk's default applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `source`.
    pub source: String,
    /// `sourcetype`.
    pub sourcetype: String,
    /// `index`.
    pub index: String,
    /// `host`. Empty: the name of the cluster.
    pub host: String,
}

/// The HEC event of one finding, as JSON without line ends.
///
/// `time` is the time of the finding's state; it is left out when the finding has none or one
/// before 1970, which HEC does not define, and Splunk then takes the time of arrival. `host` is
/// the name of the cluster unless it is set; it is left out when the sender names none.
///
/// # Errors
/// None that is known: plain data always has a JSON form.
pub fn encode(finding: &Finding, metadata: &Metadata) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Envelope {
        fields: Some(Fields(finding)),
        ..Envelope::of(finding, metadata, finding)
    })
}

/// The HEC event of a text about a finding. A text has its fields in itself.
pub(super) fn encode_risk(
    finding: &Finding,
    text: &str,
    metadata: &Metadata,
) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Envelope::of(finding, metadata, text))
}

#[derive(Serialize)]
struct Envelope<'a, E: ?Sized> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sourcetype: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    index: &'a str,
    event: &'a E,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Fields<'a>>,
}

impl<'a, E: ?Sized> Envelope<'a, E> {
    fn of(finding: &'a Finding, metadata: &'a Metadata, event: &'a E) -> Self {
        Self {
            time: time::of_state(finding).and_then(decimal_seconds),
            host: if metadata.host.is_empty() {
                &finding.cluster
            } else {
                &metadata.host
            },
            source: &metadata.source,
            sourcetype: &metadata.sourcetype,
            index: &metadata.index,
            event,
            fields: None,
        }
    }
}

/// Seconds since 1970 with six digits after the point. Written digit by digit: a floating-point
/// number would lose the last digits and might come out with an exponent.
fn decimal_seconds(time: Micros) -> Option<Box<RawValue>> {
    let micros = u64::try_from(time.0).ok()?;
    let mut text = String::with_capacity(20);
    write!(text, "{}.{:06}", micros / 1_000_000, micros % 1_000_000).ok()?;
    RawValue::from_string(text).ok()
}

struct Fields<'a>(&'a Finding);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let finding = self.0;
        let mut map = out.serialize_map(None)?;
        let country = finding.country.as_deref().unwrap_or_default();
        let city = finding.city.as_deref().unwrap_or_default();
        for (name, value) in [
            ("src_ip", finding.src_ip.as_str()),
            ("Country", country),
            ("City", city),
            ("finding_id", &finding.finding_id),
            ("state", &finding.state),
            ("cluster", &finding.cluster),
        ] {
            if !value.is_empty() {
                map.serialize_entry(name, value)?;
            }
        }
        for (name, values) in finding.columns() {
            let values: Vec<&str> = values
                .iter()
                .map(String::as_str)
                .filter(|value| !value.is_empty())
                .collect();
            if !values.is_empty() {
                map.serialize_entry(name, &values)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::exporter::samples;

    fn text(finding: &Finding) -> String {
        let metadata = Metadata {
            source: "auditwatch".to_owned(),
            sourcetype: "auditwatch:finding".to_owned(),
            ..Metadata::default()
        };
        String::from_utf8(encode(finding, &metadata).unwrap()).unwrap()
    }

    #[test]
    fn the_envelope_of_a_small_finding() {
        let finding = samples::opened(1);
        let event = text(&finding);
        assert!(event.starts_with(
            r#"{"time":1764055023.035818,"host":"prod","source":"auditwatch","sourcetype":"auditwatch:finding","event":{"finding_id":"#
        ), "{event}");
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(
            event["event"],
            serde_json::from_str::<Value>(&finding.to_json()).unwrap()
        );
        assert_eq!(
            event["fields"],
            json!({
                "src_ip": "203.0.113.7", "verb": ["get"], "cluster": "prod", "state": "opened",
                "finding_id": "00000000000000000000000000000001",
            })
        );
        assert_eq!(event.get("index"), None);
    }

    #[test]
    fn a_host_that_is_set_is_that_of_every_event() {
        let metadata = Metadata {
            host: "detector".to_owned(),
            ..Metadata::default()
        };
        let event = encode(&samples::opened(1), &metadata).unwrap();
        let event: Value = serde_json::from_slice(&event).unwrap();
        assert_eq!(event["host"], "detector");
        assert_eq!(event["event"]["cluster"], "prod");
    }

    #[test]
    fn every_column_of_the_search_is_a_field() {
        let event: Value = serde_json::from_str(&text(&samples::full().1)).unwrap();
        let fields = event["fields"].as_object().unwrap();
        for name in [
            "src_ip",
            "Country",
            "City",
            "finding_id",
            "state",
            "cluster",
        ] {
            assert!(
                fields[name].as_str().is_some_and(|value| !value.is_empty()),
                "{name}"
            );
        }
        for (name, field) in [
            ("userAgent", "user_agents"),
            ("user", "users"),
            ("user.groups{}", "groups"),
            ("verb", "verbs"),
            ("requestURI", "paths"),
            ("responseStatus.code", "codes"),
            ("responseStatus.message", "messages"),
            ("responseStatus.reason", "reasons"),
            ("responseStatus.status", "statuses"),
        ] {
            let value = format!("value of {field}");
            assert_eq!(fields[name], json!([value, value]), "{name}");
        }
        assert_eq!(
            fields["objectRef.resource"],
            json!(["value of resources", "value of resources"])
        );
        assert_eq!(fields.len(), 16);
    }

    #[test]
    fn nothing_empty_is_written() {
        let finding = Finding {
            verbs: vec![String::new()],
            users: vec![String::new(), "system:anonymous".to_owned()],
            city: Some(String::new()),
            ..Finding::default()
        };
        let event = String::from_utf8(encode(&finding, &Metadata::default()).unwrap()).unwrap();
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(event["fields"], json!({"user": ["system:anonymous"]}));
        assert_eq!(
            event.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["event", "fields"]
        );
    }

    /// All that is said of a finding is in the event; fields hold texts alone, or Splunk refuses the
    /// request.
    #[test]
    fn what_labels_and_successes_say_is_in_the_event_and_not_in_its_fields() {
        for finding in samples::states() {
            let event: Value = serde_json::from_str(&text(&finding)).unwrap();
            assert_eq!(
                event["event"],
                serde_json::from_str::<Value>(&finding.to_json()).unwrap()
            );
            assert_eq!(event["host"], *finding.cluster);
            let fields = event["fields"].as_object().unwrap();
            assert_eq!(fields["cluster"], *finding.cluster);
            let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            for (name, value) in fields {
                let is_list = |list: &Vec<Value>| !list.is_empty() && list.iter().all(is_text);
                assert!(
                    is_text(value) || value.as_array().is_some_and(is_list),
                    "{name}: {value}"
                );
            }
        }
    }

    #[test]
    fn a_finding_without_an_address_has_no_field_for_it() {
        let event: Value = serde_json::from_str(&text(&samples::by_user())).unwrap();
        assert_eq!(
            event["fields"],
            json!({
                "user": ["eve"], "verb": ["get"], "cluster": "prod", "state": "opened",
                "objectRef.resource": ["secrets"],
                "finding_id": "00000000000000000000000000000001",
            })
        );
        assert_eq!(
            event["event"]["group_by"],
            json!([{"name": "user.username", "value": "eve"}])
        );
    }

    #[test]
    fn times_are_plain_decimals_or_absent() {
        for (micros, wanted) in [
            (0, Some("0.000000")),
            (1, Some("0.000001")),
            (1_764_055_023_035_818, Some("1764055023.035818")),
            (1_700_000_000_000_000, Some("1700000000.000000")),
            (i64::MAX, Some("9223372036854.775807")),
            (-1, None),
            (i64::MIN, None),
        ] {
            let time = decimal_seconds(Micros(micros));
            assert_eq!(time.as_deref().map(RawValue::get), wanted, "{micros}");
        }
    }

    #[test]
    fn hostile_values_stay_inside_their_strings() {
        let hostile = "\"}}{\"event\":\"x\"}\n\r\0\u{1b}[2J\u{7f}\u{2028}";
        let finding = Finding {
            src_ip: hostile.to_owned(),
            cluster: hostile.to_owned(),
            user_agents: vec![hostile.to_owned()],
            ..Finding::default()
        };
        let event = text(&finding);
        assert!(!event.bytes().any(|byte| byte < 0x20), "{event}");
        let mut events = serde_json::Deserializer::from_str(&event).into_iter::<Value>();
        let only = events.next().unwrap().unwrap();
        assert!(events.next().is_none());
        assert_eq!(only["fields"]["userAgent"], json!([hostile]));
        assert_eq!(only["host"], json!(hostile));

        // In every field, also of labels, members and what is new.
        let event = text(&samples::hostile(hostile));
        assert!(!event.bytes().any(|byte| byte < 0x20), "{event}");
        let event: Value = serde_json::from_str(&event).unwrap();
        for place in [
            &event["event"]["labels"][0]["example"],
            &event["event"]["members"][0]["source"],
            &event["event"]["new"]["paths"][0],
            &event["event"]["severity_reasons"][0],
        ] {
            assert_eq!(place, hostile);
        }
    }
}
