//! A value inside an envelope, written in JSON or in OTLP.

use std::borrow::Cow;

use super::super::{json, map, text::Text, time::Micros};
use crate::pdata::AnyValue;

/// A value, where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Node<'a> {
    /// Checked JSON text.
    Json(&'a [u8]),
    /// A value of OTLP.
    Otlp(AnyValue<'a>),
}

impl<'a> Node<'a> {
    /// Shows each member of an object; false when it is none.
    pub(super) fn members(self, mut show: impl FnMut(&[u8], Self)) -> bool {
        match self {
            Self::Json(raw) => json::members(raw, |key, value| show(key, Self::Json(value))),
            Self::Otlp(AnyValue::Map(map)) => {
                map.for_each(|key, value| show(key, Self::Otlp(value)));
                true
            }
            Self::Otlp(_) => false,
        }
    }

    /// Shows each element of a list.
    pub(super) fn elements(self, mut show: impl FnMut(Self)) {
        match self {
            Self::Json(raw) => json::elements(raw, |element| show(Self::Json(element))),
            Self::Otlp(AnyValue::Array(list)) => {
                list.for_each(|element| show(Self::Otlp(element)));
            }
            Self::Otlp(_) => {}
        }
    }

    /// The last member of this name.
    pub(super) fn member(self, name: &[u8]) -> Option<Self> {
        let mut found = None;
        self.members(|key, value| {
            if key == name {
                found = Some(value);
            }
        });
        found
    }

    pub(super) fn is_object(self) -> bool {
        match self {
            Self::Json(raw) => raw.first() == Some(&b'{'),
            Self::Otlp(value) => matches!(value, AnyValue::Map(_)),
        }
    }

    pub(super) fn is_list(self) -> bool {
        match self {
            Self::Json(raw) => raw.first() == Some(&b'['),
            Self::Otlp(value) => matches!(value, AnyValue::Array(_)),
        }
    }

    pub(super) fn is_text(self) -> bool {
        match self {
            Self::Json(raw) => raw.first() == Some(&b'"'),
            Self::Otlp(value) => matches!(value, AnyValue::Text(_) | AnyValue::Bytes(_)),
        }
    }

    /// Bytes of its text at most.
    pub(super) fn text_bytes(self) -> usize {
        match self {
            // What is escaped is never longer. A byte that is no UTF-8 reads as U+FFFD.
            Self::Json(raw) if std::str::from_utf8(raw).is_ok() => raw.len(),
            Self::Json(raw) => raw.len().saturating_mul('\u{fffd}'.len_utf8()),
            Self::Otlp(AnyValue::Text(text) | AnyValue::Bytes(text)) => text.len(),
            Self::Otlp(_) => 0,
        }
    }

    /// The text that a string is.
    pub(super) fn text(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Json(raw) if self.is_text() => {
                let text = json::string(raw);
                if let Some(plain) = text.as_plain() {
                    return Some(Cow::Borrowed(plain));
                }
                let mut out = Vec::with_capacity(self.text_bytes());
                text.decode(|piece| {
                    out.extend_from_slice(piece.as_bytes());
                    true
                });
                Some(Cow::Owned(out))
            }
            Self::Otlp(AnyValue::Text(text) | AnyValue::Bytes(text)) => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }

    /// A short text, or a number as it is spelled.
    pub(super) fn short(self) -> Option<Cow<'a, str>> {
        let field = match self {
            Self::Json(raw) => json::field(raw),
            Self::Otlp(value) => map::field(value),
        };
        field.value().and_then(Text::short)
    }

    /// The time that it is: a date-time, or milliseconds since 1970. In nanoseconds since 1970.
    pub(super) fn time(self) -> Option<u64> {
        let text = self.short()?;
        if let Some(time) = Micros::parse(&text) {
            return u64::try_from(time.0).ok()?.checked_mul(1000);
        }
        let millis: u64 = text.parse().ok()?;
        millis.checked_mul(1_000_000)
    }

    /// The same as the body of a record, if it is an object.
    pub(super) fn body(self) -> Option<AnyValue<'a>> {
        match self {
            Self::Json(raw) => self.is_object().then_some(AnyValue::Text(raw)),
            Self::Otlp(value) => self.is_object().then_some(value),
        }
    }
}
