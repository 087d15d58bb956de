//! Bounds of what the service keeps. `scan`'s rows know none of them.

/// Bounds of the state of one detection processor. Everything beyond is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Keys (cluster and address) that are tracked at a time.
    pub keys: usize,
    /// Bytes on the heap that they may take with all that is kept for them.
    pub memory: usize,
    /// Requests that are remembered for one key.
    pub hits_per_key: usize,
    /// Distinct values that are kept of one field of one finding.
    pub values_per_field: usize,
    /// Bytes that are kept of one value.
    pub value_bytes: usize,
    /// Elements of `sourceIPs` that are kept of one event, from the right.
    pub source_ips: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys: 1_000_000,
            memory: 256 * 1024 * 1024,
            hits_per_key: 10_000,
            values_per_field: 100,
            value_bytes: 1024,
            source_ips: 64,
        }
    }
}

/// Bounds of what is kept of one event when it is a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one value; of a longer one a character more is kept, which shows that it is cut.
    pub value_bytes: usize,
    /// Elements of `sourceIPs`, from the right.
    pub source_ips: usize,
    /// Distinct values of a field; of more than these, one more is kept, which shows that some are
    /// missing.
    pub values: usize,
}

impl Bounds {
    /// All of an event is kept.
    pub const NONE: Self = Self {
        value_bytes: usize::MAX,
        source_ips: usize::MAX,
        values: usize::MAX,
    };
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            value_bytes: limits.value_bytes,
            source_ips: limits.source_ips,
            values: limits.values_per_field,
        }
    }
}
