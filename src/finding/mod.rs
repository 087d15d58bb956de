//! The finding as the world sees it: the message of `finding.proto`, and its JSON form.
//!
//! Everything that leaves auditwatch (JSON, OTLP log records, HEC events) is made from this one
//! type. What a finding holds while it grows is the business of the engine.

pub mod ids;
mod state;

use prost::Message as _;

pub use crate::proto::finding::{Finding, Sample};
pub use state::FindingState;

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
        let lists = [
            &self.verbs,
            &self.paths,
            &self.user_agents,
            &self.users,
            &self.groups,
            &self.codes,
            &self.messages,
            &self.reasons,
            &self.statuses,
            &self.claimed_ips,
            &self.truncated,
        ];
        let values = lists.into_iter().map(Vec::len).sum::<usize>();
        // Six texts and a time each.
        let samples = self.samples.len() * (size_of::<Sample>() + 6 * 16);
        // The encoded form holds every text once and little else.
        size_of::<Self>() + self.encoded_len() + values * PER_VALUE + samples
    }
}
