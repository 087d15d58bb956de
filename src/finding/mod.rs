//! The finding as it leaves auditwatch: the message of `finding.proto`, and its JSON form.
//!
//! Every form (JSON, OTLP log records, HEC events) is made from this one type, and its lists of
//! evidence from the table of the audit event ([`fields`]). `annotate` writes what the detection
//! says, `message` the line for people, with what `summary` says in it, [`ids`] the id and the search behind the finding,
//! `group` is the text of what events are grouped by. What a finding holds while it grows is
//! known to the engine alone.

pub(crate) mod annotate;
pub(crate) mod assess;
pub mod fields;
pub mod ids;
pub(crate) mod message;
mod state;
pub(crate) mod summary;

use prost::Message as _;

use crate::rules::settings::Semantics;
pub use crate::rules::severity::{Severity, UnknownSeverity};

pub use crate::proto::finding::{Finding, GroupValue, Label, Member, New, Sample};
pub use state::{CloseReason, FindingState, UnknownState};

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
    /// What became of the finding; `None` when its text names no state.
    pub fn state(&self) -> Option<FindingState> {
        self.state.parse().ok()
    }

    /// How bad it is; `None` when its text names no level.
    pub fn severity(&self) -> Option<Severity> {
        self.severity.parse().ok()
    }

    /// Gives it a severity, and the risk score of that.
    pub(crate) fn set_severity(&mut self, severity: Severity) {
        severity.as_str().clone_into(&mut self.severity);
        self.risk_score = severity.score();
    }

    /// Whether it is a row of a tumbling window, which is sent once.
    pub fn is_row(&self) -> bool {
        self.semantics.parse() == Ok(Semantics::Escu)
    }

    /// Bytes of memory it takes, about.
    pub fn heap_bytes(&self) -> usize {
        let lists = self.lists().map(|list| list.values.len());
        let others = [
            &self.truncated,
            &self.matched_rules,
            &self.false_positives,
            &self.references,
            &self.attack_techniques,
        ];
        let others = others.into_iter().map(Vec::len);
        let groups = 2 * self.group_by.len();
        let values = lists.chain(others).sum::<usize>() + groups;
        // Six texts and a time each.
        let samples = self.samples.len() * (size_of::<Sample>() + 6 * 16);
        // The encoded form holds every text once and little else.
        size_of::<Self>() + self.encoded_len() + values * PER_VALUE + samples
    }
}
