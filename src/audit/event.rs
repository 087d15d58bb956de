//! One audit event: the fields that are kept of it, whatever sent them and however they were spelled.
//!
//! An event is read from JSON text ([`super::json`]) or from a parsed map (`map.rs`), both by
//! `reading.rs`. A field of the wrong type is absent, never an error. An event owns
//! nothing: its fields are views of its record until it is a hit, which keeps as much of them as
//! its bounds allow.

use std::borrow::Cow;

use super::{
    fields::{self, AuditField, Kind, Row},
    json, map,
    text::Text,
    time::Micros,
};
use crate::pdata::{AnyValue, Values};

/// The value of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Field<'a> {
    /// Absent or null.
    #[default]
    Absent,
    /// A text, or a number as it was spelled.
    Text(Text<'a>),
    /// A truth value.
    Bool(bool),
    /// An object or a list: no value for the rule, but part of a request's identity.
    Composite(Composite<'a>),
}

/// A value of any kind, where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Composite<'a> {
    /// Checked JSON text.
    Json(&'a [u8]),
    /// A value of a parsed map.
    Otlp(AnyValue<'a>),
}

impl<'a> Composite<'a> {
    /// The value as a field.
    pub(crate) fn field(self) -> Field<'a> {
        match self {
            Self::Json(raw) => json::field(raw),
            Self::Otlp(value) => map::field(value),
        }
    }
}

/// A list of fields, where it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum List<'a> {
    /// Without elements.
    #[default]
    Empty,
    /// Checked JSON text.
    Json(&'a [u8]),
    /// A list of a parsed map.
    Otlp(Values<'a>),
}

impl<'a> List<'a> {
    /// Shows each element in order.
    pub fn for_each(self, mut show: impl FnMut(Field<'a>)) {
        match self {
            Self::Empty => {}
            Self::Json(raw) => json::elements(raw, |element| show(json::field(element))),
            Self::Otlp(list) => list.for_each(|element| show(map::field(element))),
        }
    }
}

impl<'a> Field<'a> {
    /// The value as Splunk's JSON extraction names it; `None` when it has none.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        self.value().map(Text::whole)
    }

    /// The same, not decoded yet.
    pub fn value(&self) -> Option<Text<'a>> {
        match self {
            Self::Text(text) => Some(*text),
            Self::Bool(true) => Some(Text::fixed("true")),
            Self::Bool(false) => Some(Text::fixed("false")),
            Self::Absent | Self::Composite(_) => None,
        }
    }

    /// The elements, when it is a list.
    pub fn list(&self) -> Option<List<'a>> {
        match self {
            Self::Composite(Composite::Json(raw)) if json::is_list(raw) => Some(List::Json(raw)),
            Self::Composite(Composite::Otlp(AnyValue::Array(list))) => Some(List::Otlp(*list)),
            _ => None,
        }
    }

    /// Shows each member in order, when it is an object; of equal keys each.
    pub fn for_each_member(&self, mut show: impl FnMut(Text<'a>, Field<'a>)) {
        match self {
            Self::Composite(Composite::Json(raw)) => {
                json::texts(raw, |key, value| show(key, json::field(value)));
            }
            Self::Composite(Composite::Otlp(AnyValue::Map(map))) => {
                map.for_each(|key, value| show(Text::plain(key), map::field(value)));
            }
            _ => {}
        }
    }
}

/// One value of a field that is evidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value<'a> {
    /// The key before it, if the field is an object.
    pub key: Option<Text<'a>>,
    /// The value.
    pub text: Text<'a>,
}

/// The fields of one audit event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event<'a> {
    /// `requestReceivedTimestamp`
    pub received: Field<'a>,
    /// The field named by the rule's `time_field`.
    pub time: Field<'a>,
    /// Whether `user` is an object.
    pub(super) has_user: bool,
    /// Whether `responseStatus` is an object.
    pub(super) has_status: bool,
    /// The fields of the table, in its order.
    pub(super) values: [Field<'a>; fields::COUNT],
    /// The members that hold others, for [`super::path::Path`].
    pub(crate) parts: Parts<'a>,
}

/// The whole event, and the values of those members that rules look into: a path begins at the
/// nearest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Parts<'a> {
    /// The event itself.
    pub(crate) whole: Option<Composite<'a>>,
    /// `user`
    pub(crate) user: Option<Composite<'a>>,
    /// `impersonatedUser`
    pub(crate) impersonated_user: Option<Composite<'a>>,
    /// `objectRef`
    pub(crate) object_ref: Option<Composite<'a>>,
    /// `responseStatus`
    pub(crate) response_status: Option<Composite<'a>>,
    /// `requestObject`
    pub(crate) request_object: Option<Composite<'a>>,
    /// `responseObject`
    pub(crate) response_object: Option<Composite<'a>>,
    /// `annotations`
    pub(crate) annotations: Option<Composite<'a>>,
}

impl<'a> Parts<'a> {
    /// Keeps the value of a member if it is one of these.
    pub(crate) fn member(&mut self, key: &[u8], value: impl FnOnce() -> Composite<'a>) {
        let part = match key {
            b"user" => &mut self.user,
            b"impersonatedUser" => &mut self.impersonated_user,
            b"objectRef" => &mut self.object_ref,
            b"responseStatus" => &mut self.response_status,
            b"requestObject" => &mut self.request_object,
            b"responseObject" => &mut self.response_object,
            b"annotations" => &mut self.annotations,
            _ => return,
        };
        *part = Some(value());
    }
}

impl<'a> Event<'a> {
    /// A field of the table.
    pub fn field(&self, field: AuditField) -> Field<'a> {
        self.values.get(field.index()).copied().unwrap_or_default()
    }

    /// Shows each value of a field of the table, in order: of `sourceIPs` all that have a text.
    pub fn for_each_value(&self, row: &Row, mut show: impl FnMut(Value<'a>)) {
        let field = self.field(row.field);
        let mut plain = |field: Field<'a>| {
            if let Some(text) = field.value() {
                show(Value { key: None, text });
            }
        };
        match row.kind {
            Kind::Single => plain(field),
            Kind::List | Kind::Claimed => field.list().unwrap_or_default().for_each(plain),
            // What an event has of that name is another thing.
            Kind::Peer => {}
            Kind::Map => field.for_each_member(|key, value| {
                if let Some(text) = value.value() {
                    show(Value {
                        key: Some(key),
                        text,
                    });
                }
            }),
        }
    }

    /// `sourceIPs`, when it is a list: its elements.
    pub fn sources(&self) -> Option<List<'a>> {
        self.field(AuditField::ClaimedIps).list()
    }

    /// Whether this is an audit event at all: a request (its URI or verb), and two of who
    /// (`user`), from where (`sourceIPs`) and how it ended (`responseStatus`). Not `kind`,
    /// `apiVersion` or `level`, which senders drop or rename.
    pub fn is_audit_event(&self) -> bool {
        let has = |field| self.field(field).value().is_some();
        let request = has(AuditField::RequestUri) || has(AuditField::Verb);
        let parts = [self.has_user, self.sources().is_some(), self.has_status];
        request && parts.into_iter().filter(|there| *there).count() >= 2
    }

    /// Sets the event time to one that its envelope names.
    pub(crate) fn set_time(&mut self, time: &'a str) {
        self.time = Field::Text(Text::from(time));
    }

    /// The event time, if it can be read.
    pub fn time(&self) -> Option<Micros> {
        self.read_time().map(|(time, _)| time)
    }

    /// The same, and whether it was logged in whole seconds: the API server never does, so
    /// a sender has cut it.
    pub(crate) fn read_time(&self) -> Option<(Micros, bool)> {
        let text = self.time.value()?.short()?;
        let time = Micros::parse(&text)?;
        let fraction = text.split_once('.').map(|(_, fraction)| fraction);
        let digits = fraction.map(|fraction| {
            let end = fraction.find(|one: char| !one.is_ascii_digit());
            fraction
                .get(..end.unwrap_or(fraction.len()))
                .unwrap_or_default()
        });
        // Of a million whole microseconds, one has six zeros.
        let is_cut = |digits: &str| digits.len() <= 3 && digits.bytes().all(|digit| digit == b'0');
        Some((time, digits.is_none_or(is_cut)))
    }

    /// Shows the text of each element of `sourceIPs` that has one, in order.
    pub fn for_each_source(&self, mut show: impl FnMut(&str)) {
        self.sources().unwrap_or_default().for_each(|source| {
            if let Some(text) = source.value() {
                show(&text.whole());
            }
        });
    }
}

/// Whether a number or a text reads as this status code: `403`, `403.0`, `+4.03e2`.
pub fn is_code(text: &str, wanted: u16) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Keeps out what only Rust reads as a number: .5, inf, nan.
    digits.starts_with(|c: char| c.is_ascii_digit())
        && text
            .parse::<f64>()
            .is_ok_and(|number| number.total_cmp(&f64::from(wanted)).is_eq())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_compared_as_numbers() {
        for text in [
            "403",
            "403.0",
            "403.",
            "+403",
            "00403",
            "4.03e2",
            "4.03E+2",
            "4030e-1",
            "40300.e-2",
        ] {
            assert!(is_code(text, 403), "{text}");
        }
        for text in [
            "",
            "401",
            "-403",
            "403x",
            " 403",
            "0x193",
            "inf",
            "nan",
            ".403e3",
            "4e",
            "403.5",
            "４０３",
            "1e999",
        ] {
            assert!(!is_code(text, 403), "{text}");
        }
    }
}
