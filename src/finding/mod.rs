//! The finding as the world sees it: the message of `finding.proto`, and its JSON form.
//!
//! Everything that leaves auditwatch (JSON, OTLP log records, HEC events) is made from this one
//! type. What a finding holds while it grows is the business of the engine.

pub mod fields;
pub mod ids;

use std::fmt::Write as _;

use prost::Message as _;
use serde::{Serializer, ser::Error as _};

pub use generated::{Finding, Sample};

#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated from proto/auditwatch/v1/finding.proto, which documents each field"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/auditwatch.v1.rs"));
}

impl Finding {
    /// The JSON form: one object on one line, field names as in `finding.proto`. What a terminal
    /// might obey or hide is escaped.
    ///
    /// ```
    /// let finding = auditwatch::detection::Finding { count: 6, ..Default::default() };
    /// assert_eq!(finding.to_json(), r#"{"count":6}"#);
    /// ```
    pub fn to_json(&self) -> String {
        // Serializing plain data into memory has no way to fail; an empty object would show it.
        crate::visible::json(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// What a value of a list takes beside its bytes: its place in the list, which grows in steps, and
/// what the allocator rounds up to.
const PER_VALUE: usize = 2 * size_of::<String>();

impl Finding {
    /// Bytes of memory it holds, about.
    pub fn heap_bytes(&self) -> usize {
        let lists = self.lists().map(|list| list.values.len());
        let values = lists.sum::<usize>() + self.truncated.len();
        // Six texts and a time each.
        let samples = self.samples.len() * (size_of::<Sample>() + 6 * 16);
        // The encoded form holds every text once and little else.
        size_of::<Self>() + self.encoded_len() + values * PER_VALUE + samples
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(clippy::ref_option, reason = "the signature serde asks for")]
fn rfc3339<S: Serializer>(
    time: &Option<prost_types::Timestamp>,
    out: S,
) -> Result<S::Ok, S::Error> {
    let time = time.unwrap_or_default();
    let micros = time
        .seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(time.nanos) / 1000);
    let mut text = String::with_capacity(27);
    write!(text, "{}", crate::audit::time::Micros(micros)).map_err(S::Error::custom)?;
    out.serialize_str(&text)
}
