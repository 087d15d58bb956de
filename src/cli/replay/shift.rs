//! The times of an audit event in its JSON text: read, and moved. All else stays byte for byte.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::detection::time::Micros;

/// The events of one line: the items of an EventList, else the line itself, whatever it is.
pub(super) fn events(line: &str) -> Vec<&str> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    match serde_json::from_str::<List<'_>>(line) {
        Ok(list) => list.items.into_iter().map(RawValue::get).collect(),
        Err(_) => vec![line],
    }
}

/// The times of one event.
#[derive(Default, Deserialize)]
struct Times<'a> {
    #[serde(borrow, rename = "requestReceivedTimestamp")]
    received: Option<&'a RawValue>,
    #[serde(borrow, rename = "stageTimestamp")]
    stage: Option<&'a RawValue>,
}

fn read(value: &RawValue) -> Option<Micros> {
    Micros::parse(value.get().strip_prefix('"')?.strip_suffix('"')?)
}

/// When a request was received; `None` when the text does not say.
pub(super) fn time(event: &str) -> Option<Micros> {
    let times: Times<'_> = serde_json::from_str(event).ok()?;
    times.received.or(times.stage).and_then(read)
}

/// The event with its times moved by a number of microseconds, those that can be read.
pub(super) fn moved(event: &str, by: i64) -> String {
    let times: Times<'_> = serde_json::from_str(event).unwrap_or_default();
    let mut places: Vec<_> = [times.received, times.stage]
        .into_iter()
        .flatten()
        .filter_map(|value| Some((place(event, value.get()), value.get().len(), read(value)?)))
        .collect();
    places.sort_unstable();
    let mut text = String::with_capacity(event.len() + 16);
    let mut done = 0;
    for (at, length, time) in places {
        text.push_str(event.get(done..at).unwrap_or_default());
        // Writing into a string cannot fail.
        let _ok = write!(text, "\"{}\"", time.plus(by));
        done = at + length;
    }
    text.push_str(event.get(done..).unwrap_or_default());
    text
}

/// Where a part of a text begins in it.
fn place(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn times_are_moved_and_nothing_else() {
        let event = r#"{"a": 1,"stageTimestamp":"2026-11-25T10:00:00.5Z" ,
"b":{"stageTimestamp":"2026-11-25T10:00:00Z"},"requestReceivedTimestamp": "2026-11-25T11:59:59.999999+02:00"}"#;
        assert_eq!(
            time(event).unwrap().to_string(),
            "2026-11-25T09:59:59.999999Z"
        );
        assert_eq!(
            moved(event, HOUR),
            r#"{"a": 1,"stageTimestamp":"2026-11-25T11:00:00.500000Z" ,
"b":{"stageTimestamp":"2026-11-25T10:00:00Z"},"requestReceivedTimestamp": "2026-11-25T10:59:59.999999Z"}"#
        );
        assert_eq!(
            time(&moved(event, -HOUR)).unwrap().to_string(),
            "2026-11-25T08:59:59.999999Z"
        );
    }

    #[test]
    fn what_cannot_be_read_stays() {
        for event in [
            "",
            "a line",
            "[1]",
            r#"{"stageTimestamp":null,"requestReceivedTimestamp":7}"#,
            r#"{"stageTimestamp":"yesterday"}"#,
            r#"{"stageTimestamp":"2026-11-25T10:00:00Z","stageTimestamp":"2026-11-25T10:00:00Z"}"#,
        ] {
            assert_eq!(moved(event, HOUR), event);
            assert_eq!(time(event), None);
        }
    }

    #[test]
    fn lists_are_taken_apart() {
        assert_eq!(
            events(r#"{"kind":"EventList","items":[{"a":1}, {"b":2}]}"#),
            [r#"{"a":1}"#, r#"{"b":2}"#]
        );
        for line in ["", "x", r#"{"items":7}"#, r#"{"a":[]}"#] {
            assert_eq!(events(line), [line]);
        }
    }
}
