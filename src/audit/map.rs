//! Audit events from parsed maps: a map body, or the attributes of a record.
//!
//! A collector that parses JSON turns numbers into doubles; a whole one is then spelled as the
//! whole number it was.

use super::{
    event::{Composite, Event, Field},
    reading::{Member, Reading},
    text::Text,
};
use crate::pdata::{AnyValue, KeyValues};

/// Reads an event from a map.
pub(crate) fn event<'a>(map: &KeyValues<'a>, time_field: &str) -> Event<'a> {
    let mut reading = Reading::new(time_field);
    reading.whole(Composite::Otlp(AnyValue::Map(*map)));
    map.for_each(|key, value| reading.member(key, value));
    reading.event()
}

impl<'a> Member<'a> for AnyValue<'a> {
    fn value(self) -> Composite<'a> {
        Composite::Otlp(self)
    }

    fn members(self, mut show: impl FnMut(&[u8], Self)) -> bool {
        let Self::Map(map) = self else {
            return false;
        };
        map.for_each(&mut show);
        true
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
