//! What the screening of a request results in.

use super::{activity::Activities, envelope::Outcome, hit::Hit, shapes::Shapes};
use crate::pdata::{AnyValue, KeyValues};

/// Resource attribute that names the cluster (OpenTelemetry semantic conventions).
const CLUSTER: &[u8] = b"k8s.cluster.name";

/// The result of screening a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screened {
    /// Matching events, in the order of the request.
    pub hits: Vec<Hit>,
    /// When the request began to arrive, in nanoseconds since 1970; 0: unknown.
    pub received: u64,
    /// Log records of any kind.
    pub records: u64,
    /// Records that the prefilter let through.
    pub candidates: u64,
    /// Records that were read besides, because a success of their source is followed up.
    pub followed: u64,
    /// Candidates that are not one JSON value. Only these records are rejected.
    pub unreadable: u64,
    /// Matching events that the selector excluded.
    pub deselected: u64,
    /// Selected audit events among the sampled records; above 0 the feed check is done.
    pub events: u64,
    /// Audit events among the sampled records that the selector excluded.
    pub unselected: u64,
    /// What was found in records that are no plain events, and what of them was ignored.
    pub opened: Outcome,
    /// Shapes of records that were ignored, of a sample.
    pub ignored: Shapes,
    /// Shapes of the sampled records that hold no audit event.
    pub shapes: Shapes,
    /// What arrived of each cluster.
    pub activity: Activities,
}

/// Whether a text begins as a JSON object does.
pub(super) fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{')
}

/// The name of the cluster among the attributes of a resource.
pub(super) fn named<'a>(attributes: &KeyValues<'a>) -> Option<&'a [u8]> {
    let mut name = None;
    attributes.for_each(|key, value| name = naming(key, &value).or(name));
    name
}

/// The name of the cluster, if this attribute says it.
#[inline]
pub(super) fn naming<'a>(key: &[u8], value: &AnyValue<'a>) -> Option<&'a [u8]> {
    match value {
        AnyValue::Text(text) if key == CLUSTER => Some(text),
        _ => None,
    }
}
