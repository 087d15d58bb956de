//! The byte filter: says of a body, without reading it, that it cannot match.
//!
//! Both semantics need a `code` of a wanted value inside `responseStatus`, so a body matches only
//! if it holds the key `"code"` followed by something that may be such a value. JSON may spell a
//! key with escapes; each letter of this one then starts with `\u006`, and a body that holds those
//! bytes is read in full. The filter may only say "cannot match"; the reader alone decides.

use memchr::memmem::Finder;

use crate::{
    audit::event::is_code,
    pdata::{AnyValue, KeyValues},
};

/// The filter for a set of status codes.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    codes: Vec<u16>,
    key: Finder<'static>,
    escape: Finder<'static>,
}

impl Filter {
    pub(crate) fn new(codes: &[u16]) -> Self {
        Self {
            codes: codes.to_vec(),
            key: Finder::new(b"\"code\""),
            escape: Finder::new(b"\\u006"),
        }
    }

    /// Whether a JSON text may match.
    #[inline]
    pub(crate) fn may_match_text(&self, text: &[u8]) -> bool {
        self.key
            .find_iter(text)
            .any(|at| self.may_be_wanted(text.get(at + b"\"code\"".len()..).unwrap_or_default()))
            || self.escape.find(text).is_some()
    }

    /// Whether a map may match.
    pub(crate) fn may_match_map(&self, map: &KeyValues<'_>) -> bool {
        let mut may = false;
        map.for_each(|key, value| {
            if let (b"responseStatus", AnyValue::Map(status)) = (key, value) {
                status.for_each(|key, value| may |= key == b"code" && self.may_be_value(&value));
            }
        });
        may
    }

    fn may_be_value(&self, value: &AnyValue<'_>) -> bool {
        match value {
            AnyValue::Int(number) => self.codes.iter().any(|code| i64::from(*code) == *number),
            AnyValue::Double(number) => self
                .codes
                .iter()
                .any(|code| f64::from(*code).total_cmp(number).is_eq()),
            AnyValue::Text(_) => true,
            _ => false,
        }
    }

    /// Whether what follows the key may be a wanted value.
    fn may_be_wanted(&self, after_key: &[u8]) -> bool {
        let Some(value) = after_key.trim_ascii_start().strip_prefix(b":") else {
            return false;
        };
        let value = value.trim_ascii_start();
        match value.first() {
            Some(b'"') => {
                let inner = value.get(1..).unwrap_or_default();
                let end = memchr::memchr(b'"', inner).unwrap_or(inner.len());
                let inner = inner.get(..end).unwrap_or_default();
                inner.contains(&b'\\') || self.reads_as_wanted(inner)
            }
            Some(b'-' | b'0'..=b'9') => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let end = value
                    .iter()
                    .position(|byte| !is_part(byte))
                    .unwrap_or(value.len());
                self.reads_as_wanted(value.get(..end).unwrap_or_default())
            }
            _ => false,
        }
    }

    fn reads_as_wanted(&self, number: &[u8]) -> bool {
        std::str::from_utf8(number)
            .is_ok_and(|number| self.codes.iter().any(|code| is_code(number, *code)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_every_spelling_and_rejects_other_codes() {
        let filter = Filter::new(&[401, 403]);
        for text in [
            r#"{"responseStatus":{"code":403}}"#,
            "{\"responseStatus\":{\"code\" \t\r\n: 4.03e2}}",
            r#"{"responseStatus":{"code":"+401"}}"#,
            r#"{"responseStatus":{"code":"\u003403"}}"#,
            r#"{"responseStatus":{"\u0063ode":403}}"#,
            r#"{"code":200,"x":{"code":401}}"#,
            r#"{"code":403"#,
        ] {
            assert!(filter.may_match_text(text.as_bytes()), "{text}");
        }
        for text in [
            r#"{"responseStatus":{"code":200}}"#,
            r#"{"responseStatus":{"code":4030}}"#,
            r#"{"responseStatus":{"code":"AccessDenied"}}"#,
            r#"{"responseStatus":{"code":null,"reason":"403"}}"#,
            r#"{"requestURI":"/api\u0026code=403"}"#,
            "",
        ] {
            assert!(!filter.may_match_text(text.as_bytes()), "{text}");
        }
    }
}
