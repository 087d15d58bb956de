//! Audit events from parsed maps: a map body, or the attributes of a record.
//!
//! A collector that parses JSON turns numbers into doubles; a whole one is then spelled as the
//! whole number it was.

use std::borrow::Cow;

use serde_json::Value;

use super::event::{Event, Field, Status, User};
use crate::pdata::{AnyValue, KeyValues};

/// Reads an event from a map.
pub(super) fn event(map: &KeyValues<'_>, time_field: &str) -> Event<'static> {
    let mut event = Event::default();
    map.for_each(|key, value| {
        if key == time_field.as_bytes() {
            event.time = field(&value);
        }
        match key {
            b"auditID" => event.audit_id = field(&value),
            b"stage" => event.stage = field(&value),
            b"verb" => event.verb = field(&value),
            b"requestURI" => event.uri = field(&value),
            b"userAgent" => event.agent = field(&value),
            b"requestReceivedTimestamp" => event.received = field(&value),
            b"user" => event.user = user(&value),
            b"sourceIPs" => event.sources = elements(&value),
            b"responseStatus" => event.status = status(&value),
            _ => {}
        }
    });
    event
}

fn user(value: &AnyValue<'_>) -> Option<User<'static>> {
    let AnyValue::Map(map) = value else {
        return None;
    };
    let mut user = User::default();
    map.for_each(|key, value| match key {
        b"username" => user.name = field(&value),
        b"groups" => user.groups = elements(&value).unwrap_or_default(),
        _ => {}
    });
    Some(user)
}

fn status(value: &AnyValue<'_>) -> Option<Status<'static>> {
    let AnyValue::Map(map) = value else {
        return None;
    };
    let mut status = Status::default();
    map.for_each(|key, value| match key {
        b"code" => status.code = field(&value),
        b"message" => status.message = field(&value),
        b"reason" => status.reason = field(&value),
        b"status" => status.status = field(&value),
        _ => {}
    });
    Some(status)
}

fn elements(value: &AnyValue<'_>) -> Option<Vec<Field<'static>>> {
    let AnyValue::Array(list) = value else {
        return None;
    };
    let mut all = Vec::new();
    list.for_each(|element| all.push(field(&element)));
    Some(all)
}

fn field(value: &AnyValue<'_>) -> Field<'static> {
    match value {
        AnyValue::Text(text) => Field::Text(Cow::Owned(String::from_utf8_lossy(text).into_owned())),
        AnyValue::Bool(value) => Field::Bool(*value),
        AnyValue::Int(number) => Field::Text(Cow::Owned(number.to_string())),
        // Rust spells a whole double without a fraction and never with an exponent.
        AnyValue::Double(number) => Field::Text(Cow::Owned(number.to_string())),
        AnyValue::Array(_) | AnyValue::Map(_) => {
            Field::Composite(Cow::Owned(json(value).to_string()))
        }
        AnyValue::Bytes(_) | AnyValue::Empty => Field::Absent,
    }
}

/// The JSON that a collector has parsed to this value: one request is one, however it is sent.
fn json(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Text(text) => String::from_utf8_lossy(text).into(),
        AnyValue::Bool(value) => (*value).into(),
        AnyValue::Int(number) => (*number).into(),
        // A whole double was a whole number, and is spelled as one.
        AnyValue::Double(number) => {
            serde_json::from_str(&number.to_string()).unwrap_or(Value::Null)
        }
        AnyValue::Array(list) => {
            let mut all = Vec::new();
            list.for_each(|element| all.push(json(&element)));
            all.into()
        }
        AnyValue::Map(map) => {
            let mut members = serde_json::Map::new();
            map.for_each(|key, value| {
                members.insert(String::from_utf8_lossy(key).into_owned(), json(&value));
            });
            members.into()
        }
        AnyValue::Bytes(_) | AnyValue::Empty => Value::Null,
    }
}
