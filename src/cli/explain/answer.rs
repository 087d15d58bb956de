//! The answer of `explain`, as JSON has it.

use serde::Serialize;

use super::service::Emitted;
use crate::detection::explain::{Record, Summary};

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The address that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    /// The auditID that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audit_id: Option<String>,
    /// Events of any kind.
    pub(super) events: u64,
    /// Records of the subject.
    pub(super) count: u64,
    /// Those of them that match a detection.
    pub(super) matching: u64,
    /// What each detection says of it.
    pub(super) detections: Vec<Summary>,
    /// The findings that the service would send, by state.
    pub(super) findings: Vec<Emitted>,
    /// The first and the last of the records that match.
    pub(super) records: Vec<Record>,
}

impl Answer {
    /// Records that match and are not shown.
    pub(super) fn left_out(&self) -> u64 {
        self.matching.saturating_sub(self.records.len() as u64)
    }

    /// What was asked for, for people.
    pub(super) fn subject(&self) -> String {
        match (&self.address, &self.audit_id) {
            (Some(address), _) => address.clone(),
            (None, id) => format!("auditID {}", id.as_deref().unwrap_or_default()),
        }
    }
}
