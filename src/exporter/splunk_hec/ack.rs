//! Indexer acknowledgement: whether what HEC accepted is in the index too. Pure.
//!
//! HEC answers a request when it is in a queue, which a crash of Splunk empties. With
//! acknowledgement the answer carries a number, and asking for that number says later whether the
//! events are safe. Splunk may forget numbers, so silence for long enough means to send again:
//! duplicates under the same finding ids rather than a hole.

use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Header with the channel that numbers belong to.
pub(super) const CHANNEL: &str = "x-splunk-request-channel";

/// A channel of our own: a random GUID (RFC 9562, version 4) in lower case.
pub(super) fn channel(random: u128) -> String {
    let version = (random & !(0xf << 76)) | (0x4 << 76);
    let hex = format!("{:032x}", (version & !(0x3 << 62)) | (0x2 << 62));
    let mut guid = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            guid.push('-');
        }
        guid.push(digit);
    }
    guid
}

/// Where to ask, beside where the events go.
pub(super) fn url(endpoint: &Url) -> Url {
    let path = endpoint.path().trim_end_matches('/');
    let path = path.strip_suffix("/1.0").unwrap_or(path);
    let path = path.strip_suffix("/event").unwrap_or(path);
    let mut url = endpoint.clone();
    url.set_path(&format!("{path}/ack"));
    url
}

/// The number in an answer that accepts events; `None` when the token gives none.
pub(super) fn number(body: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Accepted {
        #[serde(rename = "ackId")]
        ack_id: Value,
    }
    let Accepted { ack_id } = serde_json::from_str(body).ok()?;
    // What stands before Splunk may write it as a text.
    match ack_id {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    }
}

/// The question for a number.
pub(super) fn question(number: u64) -> String {
    format!("{{\"acks\":[{number}]}}")
}

/// Whether an answer says that the events under this number are indexed; `None` when it is no
/// answer to that.
pub(super) fn is_indexed(status: u16, body: &str, number: u64) -> Option<bool> {
    #[derive(Deserialize)]
    struct Reply {
        acks: Map<String, Value>,
    }
    if status != 200 {
        return None;
    }
    let reply: Reply = serde_json::from_str(body).ok()?;
    reply.acks.get(&number.to_string())?.as_bool()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_random_guids() {
        assert_eq!(channel(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(channel(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let guid: uuid::Uuid = channel(rand::random()).parse().unwrap();
        assert_eq!(guid.get_version_num(), 4);
        assert_eq!(guid.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn asks_beside_where_the_events_go() {
        for (endpoint, wanted) in [
            ("/services/collector", "/services/collector/ack"),
            ("/services/collector/", "/services/collector/ack"),
            ("/services/collector/event", "/services/collector/ack"),
            ("/services/collector/event/1.0", "/services/collector/ack"),
            ("/proxy/hec", "/proxy/hec/ack"),
        ] {
            let url = url(&Url::parse(&format!("https://splunk:8088{endpoint}?a=b")).unwrap());
            assert_eq!(url.as_str(), format!("https://splunk:8088{wanted}?a=b"));
        }
    }

    #[test]
    fn reads_numbers_and_answers_and_nothing_else() {
        assert_eq!(number(r#"{"text":"Success","code":0,"ackId":7}"#), Some(7));
        assert_eq!(number(r#"{"code":0,"ackId":"7"}"#), Some(7));
        for none in [
            r#"{"code":0}"#,
            r#"{"ackId":-1}"#,
            r#"{"ackId":"seven"}"#,
            r#"{"ackId":null}"#,
            "<html>",
            "",
        ] {
            assert_eq!(number(none), None, "{none}");
        }
        assert_eq!(question(7), r#"{"acks":[7]}"#);
        for (status, body, wanted) in [
            (200, r#"{"acks":{"7":true}}"#, Some(true)),
            (200, r#"{"acks":{"7":false,"8":true}}"#, Some(false)),
            (200, r#"{"acks":{"8":true}}"#, None),
            (200, r#"{"acks":{"7":"true"}}"#, None),
            (200, r#"{"acks":[7]}"#, None),
            (200, r#"{"code":0}"#, None),
            (200, "<html>", None),
            (503, r#"{"acks":{"7":true}}"#, None),
        ] {
            assert_eq!(is_indexed(status, body, 7), wanted, "{status} {body}");
        }
    }
}
