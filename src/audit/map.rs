//! Audit events from parsed maps: a map body, or the attributes of a record.
//!
//! A collector that parses JSON turns numbers into doubles; a whole one is then spelled as the
//! whole number it was.

use super::{
    event::{Composite, Event, Field, List, Status, User},
    text::Text,
};
use crate::pdata::{AnyValue, KeyValues};

/// Reads an event from a map.
pub(crate) fn event<'a>(map: &KeyValues<'a>, time_field: &str) -> Event<'a> {
    let mut event = Event::default();
    event.parts.whole = Some(Composite::Otlp(AnyValue::Map(*map)));
    map.for_each(|key, value| {
        if key == time_field.as_bytes() {
            event.time = field(value);
        }
        event.parts.member(key, || Composite::Otlp(value));
        match key {
            b"auditID" => event.audit_id = field(value),
            b"stage" => event.stage = field(value),
            b"verb" => event.verb = field(value),
            b"requestURI" => event.uri = field(value),
            b"userAgent" => event.agent = field(value),
            b"requestReceivedTimestamp" => event.received = field(value),
            b"user" => event.user = user(value),
            b"sourceIPs" => event.sources = list(value),
            b"responseStatus" => event.status = status(value),
            _ => {}
        }
    });
    event
}

fn user(value: AnyValue<'_>) -> Option<User<'_>> {
    let AnyValue::Map(map) = value else {
        return None;
    };
    let mut user = User::default();
    map.for_each(|key, value| match key {
        b"username" => user.name = field(value),
        b"groups" => user.groups = list(value).unwrap_or_default(),
        _ => {}
    });
    Some(user)
}

fn status(value: AnyValue<'_>) -> Option<Status<'_>> {
    let AnyValue::Map(map) = value else {
        return None;
    };
    let mut status = Status::default();
    map.for_each(|key, value| match key {
        b"code" => status.code = field(value),
        b"message" => status.message = field(value),
        b"reason" => status.reason = field(value),
        b"status" => status.status = field(value),
        _ => {}
    });
    Some(status)
}

fn list(value: AnyValue<'_>) -> Option<List<'_>> {
    match value {
        AnyValue::Array(list) => Some(List::Otlp(list)),
        _ => None,
    }
}

/// A value as a field.
pub(crate) fn field(value: AnyValue<'_>) -> Field<'_> {
    match value {
        AnyValue::Text(text) => Field::Text(Text::plain(text)),
        AnyValue::Bool(value) => Field::Bool(value),
        AnyValue::Int(number) => Field::Text(Text::int(number)),
        AnyValue::Double(number) => Field::Text(Text::double(number)),
        AnyValue::Array(_) | AnyValue::Map(_) => Field::Composite(Composite::Otlp(value)),
        AnyValue::Bytes(_) | AnyValue::Empty => Field::Absent,
    }
}
