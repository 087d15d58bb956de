//! One audit event: the fields the rule needs, whoever sent them and however they were spelled.
//!
//! An event is read from JSON text ([`super::json`]) or from a parsed map (`map.rs`); both
//! give the same [`Event`]. A field of the wrong type is absent, never an error.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::{
    address,
    hit::{Hit, Identity},
    rule::{Rule, Semantics, Who},
    time::Micros,
};

/// The group of every request without credentials.
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of every request without credentials.
const ANONYMOUS: &str = "system:anonymous";

/// The value of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    /// There is none, or it is null.
    #[default]
    Absent,
    /// A text, or a number as it was spelled.
    Text(Cow<'a, str>),
    /// A truth value.
    Bool(bool),
    /// An object or a list: no value for the rule, but part of a request's identity. JSON text.
    Composite(Cow<'a, str>),
}

impl Field<'_> {
    /// The value as Splunk's JSON extraction names it; `None` when it has none.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::Absent | Self::Composite(_) => None,
        }
    }

    fn owned(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    fn hash_into(&self, hash: &mut Sha256) {
        let plain;
        let (kind, text) = match self {
            Self::Absent => (0u8, ""),
            Self::Text(text) => (1, text.as_ref()),
            Self::Bool(value) => (2, if *value { "true" } else { "false" }),
            Self::Composite(text) => {
                // However it was spelled; a text that is too odd for that stands for itself.
                plain = serde_json::from_str::<serde_json::Value>(text)
                    .map_or_else(|_| text.to_string(), |value| value.to_string());
                (3, plain.as_str())
            }
        };
        hash.update([kind]);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
}

/// The fields of one audit event that the rule looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// `auditID`
    pub audit_id: Field<'a>,
    /// `stage`
    pub stage: Field<'a>,
    /// `verb`
    pub verb: Field<'a>,
    /// `requestURI`
    pub uri: Field<'a>,
    /// `userAgent`
    pub agent: Field<'a>,
    /// `requestReceivedTimestamp`
    pub received: Field<'a>,
    /// The field named by the rule's `time_field`.
    pub time: Field<'a>,
    /// `user`, when it is an object.
    pub user: Option<User<'a>>,
    /// `sourceIPs`, when it is a list: its elements.
    pub sources: Option<Vec<Field<'a>>>,
    /// `responseStatus`, when it is an object.
    pub status: Option<Status<'a>>,
}

/// `user` of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User<'a> {
    /// `username`
    pub name: Field<'a>,
    /// `groups`, when it is a list: its elements.
    pub groups: Vec<Field<'a>>,
}

/// `responseStatus` of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status<'a> {
    /// `code`
    pub code: Field<'a>,
    /// `message`
    pub message: Field<'a>,
    /// `reason`
    pub reason: Field<'a>,
    /// `status`
    pub status: Field<'a>,
}

impl Event<'_> {
    /// Whether this is an audit event at all: a request (its URI or verb), and two of who
    /// (`user`), from where (`sourceIPs`) and how it ended (`responseStatus`). Not `kind`,
    /// `apiVersion` or `level`, which senders drop or rename.
    pub fn is_audit_event(&self) -> bool {
        let request = self.uri.text().is_some() || self.verb.text().is_some();
        let parts = [
            self.user.is_some(),
            self.sources.is_some(),
            self.status.is_some(),
        ];
        request && parts.into_iter().filter(|there| *there).count() >= 2
    }

    /// Judges the event by who and outcome: a [`Hit`] when it counts.
    pub fn judge(&self, rule: &Rule) -> Option<Hit> {
        let status = self.status.as_ref()?;
        let code = status.code.text()?;
        let wanted = *rule
            .wanted_codes()
            .iter()
            .find(|wanted| is_code(code, **wanted))?;
        if !self.counts(rule) {
            return None;
        }
        let sources = self.sources.as_deref().unwrap_or_default();
        let (name, groups) = match &self.user {
            Some(user) => (user.name.owned(), texts(&user.groups)),
            None => (None, Vec::new()),
        };
        Some(Hit {
            time: self.time.text().and_then(Micros::parse),
            clamped: false,
            cluster: "".into(),
            key: match rule.semantics {
                Semantics::Native => address::key(sources, rule),
                Semantics::Escu => String::new(),
            },
            sources: texts(sources),
            code: wanted,
            code_text: code.to_owned(),
            user: name,
            groups,
            verb: self.verb.owned(),
            uri: self.uri.owned(),
            agent: self.agent.owned(),
            message: status.message.owned(),
            reason: status.reason.owned(),
            status: status.status.owned(),
            audit_id: self.audit_id.owned(),
            stage: self.stage.owned(),
            identity: self.identity(),
        })
    }

    fn counts(&self, rule: &Rule) -> bool {
        let (name, groups) = match &self.user {
            Some(user) => (user.name.text(), user.groups.as_slice()),
            None => (None, [].as_slice()),
        };
        let mut groups = groups.iter().filter_map(Field::text).peekable();
        let no_group = groups.peek().is_none();
        // SPL's search command compares without case.
        if groups.any(|group| group.to_lowercase() == UNAUTHENTICATED) {
            return true;
        }
        let nobody = no_group && name.is_none_or(str::is_empty);
        rule.semantics == Semantics::Native
            && rule.who == Who::Any
            && (name == Some(ANONYMOUS) || nobody)
    }

    /// What makes two deliveries one request. Together with the key; the audit id alone is not
    /// enough, for clients choose it.
    fn identity(&self) -> Identity {
        let mut hash = Sha256::new();
        for field in [&self.audit_id, &self.received, &self.verb, &self.uri] {
            field.hash_into(&mut hash);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut identity = [0; 16];
        identity
            .iter_mut()
            .zip(digest)
            .for_each(|(to, from)| *to = from);
        Identity(identity)
    }
}

fn texts(fields: &[Field<'_>]) -> Vec<String> {
    fields.iter().filter_map(Field::owned).collect()
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
