//! Our own protobuf messages, one module for each file of `proto/auditwatch/v1`.
//!
//! The modules are generated and checked in, so that a build needs no protobuf compiler. After a
//! change to a `.proto` file, and after a new one got its `mod` here, write them anew with
//!
//! ```text
//! UPDATE_GENERATED=1 cargo test --test generated
//! ```
//!
//! The same test without the variable fails when a module is not what its schema says.

use std::fmt::Write as _;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _, ser::Error as _};

#[rustfmt::skip]
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; proto/auditwatch/v1/coverage.proto documents each field"
)]
pub mod coverage;
#[rustfmt::skip]
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; proto/auditwatch/v1/finding.proto documents each field"
)]
pub mod finding;
#[rustfmt::skip]
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; proto/auditwatch/v1/journal.proto documents each field"
)]
pub mod journal;
#[rustfmt::skip]
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; proto/auditwatch/v1/state.proto documents each field"
)]
pub mod state;

/// For `skip_serializing_if`: the JSON form leaves out what has its default.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// For `serialize_with`: a time as RFC 3339 in UTC with six fraction digits.
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

/// For `deserialize_with`: the same, read again.
fn from_rfc3339<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<prost_types::Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
    Ok(Some(prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }))
}
