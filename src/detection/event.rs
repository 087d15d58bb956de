//! One audit event: the fields the rule needs, whoever sent them and however they were spelled.
//!
//! An event is read from JSON text ([`super::json`]) or from a parsed map (`map.rs`); both
//! give the same [`Event`]. A field of the wrong type is absent, never an error. An event owns
//! nothing: its fields are views of its record until it is a hit, which keeps so much of them as
//! its [`Bounds`] say.

use std::borrow::Cow;

use super::{
    address,
    hit::Hit,
    identity, json,
    limits::Bounds,
    map,
    rule::{Rule, Semantics, Who},
    text::Text,
    time::Micros,
};
use crate::pdata::{AnyValue, Values};

/// The group of every request without credentials.
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of every request without credentials.
const ANONYMOUS: &str = "system:anonymous";

/// The value of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Field<'a> {
    /// There is none, or it is null.
    #[default]
    Absent,
    /// A text, or a number as it was spelled.
    Text(Text<'a>),
    /// A truth value.
    Bool(bool),
    /// An object or a list: no value for the rule, but part of a request's identity.
    Composite(Composite<'a>),
}

/// An object or a list, where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Composite<'a> {
    /// Checked JSON text.
    Json(&'a [u8]),
    /// A value of a parsed map.
    Otlp(AnyValue<'a>),
}

/// A list of fields, where it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum List<'a> {
    /// Without elements.
    #[default]
    Empty,
    /// Checked JSON text.
    Json(&'a [u8]),
    /// A list of a parsed map.
    Otlp(Values<'a>),
}

impl<'a> List<'a> {
    /// Shows each element in order.
    pub fn for_each(self, mut show: impl FnMut(Field<'a>)) {
        match self {
            Self::Empty => {}
            Self::Json(raw) => json::elements(raw, |element| show(json::field(element))),
            Self::Otlp(list) => list.for_each(|element| show(map::field(element))),
        }
    }
}

impl<'a> Field<'a> {
    /// The value as Splunk's JSON extraction names it; `None` when it has none.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        self.value().map(Text::whole)
    }

    /// The same, not decoded yet.
    pub fn value(&self) -> Option<Text<'a>> {
        match self {
            Self::Text(text) => Some(*text),
            Self::Bool(true) => Some(Text::fixed("true")),
            Self::Bool(false) => Some(Text::fixed("false")),
            Self::Absent | Self::Composite(_) => None,
        }
    }

    fn kept(&self, bounds: &Bounds) -> Option<String> {
        self.value().map(|text| text.cut(bounds.value_bytes))
    }
}

/// The fields of one audit event that the rule looks at.
#[derive(Clone, Debug, Default, PartialEq)]
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
    pub sources: Option<List<'a>>,
    /// `responseStatus`, when it is an object.
    pub status: Option<Status<'a>>,
}

/// `user` of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User<'a> {
    /// `username`
    pub name: Field<'a>,
    /// `groups`, when it is a list: its elements.
    pub groups: List<'a>,
}

/// `responseStatus` of an event.
#[derive(Clone, Debug, Default, PartialEq)]
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
        let request = self.uri.value().is_some() || self.verb.value().is_some();
        let parts = [
            self.user.is_some(),
            self.sources.is_some(),
            self.status.is_some(),
        ];
        request && parts.into_iter().filter(|there| *there).count() >= 2
    }

    /// The event time, if it can be read.
    pub fn time(&self) -> Option<Micros> {
        Micros::parse(&self.time.value()?.short()?)
    }

    /// Judges the event by who and outcome: a [`Hit`] with all of the event when it counts.
    pub fn judge(&self, rule: &Rule) -> Option<Hit> {
        self.judge_within(rule, &Bounds::NONE)
    }

    /// Judges the event, and keeps so much of it as these bounds say when it counts.
    pub fn judge_within(&self, rule: &Rule, bounds: &Bounds) -> Option<Hit> {
        let status = self.status.as_ref()?;
        let code_text = status.code.value()?;
        let code = code_text.short()?;
        let wanted = *rule
            .wanted_codes()
            .iter()
            .find(|wanted| is_code(&code, **wanted))?;
        if !self.counts(rule) {
            return None;
        }
        let (tail, sources) = sources(self.sources.unwrap_or_default(), bounds);
        Some(Hit {
            time: self.time(),
            clamped: false,
            cluster: "".into(),
            key: match rule.semantics {
                Semantics::Native => address::key(&tail, rule),
                Semantics::Escu => String::new(),
            },
            sources,
            code: wanted,
            code_text: code_text.cut(bounds.value_bytes),
            user: self.user.as_ref().and_then(|user| user.name.kept(bounds)),
            groups: match &self.user {
                Some(user) => groups(user.groups, bounds),
                None => Vec::new(),
            },
            verb: self.verb.kept(bounds),
            uri: self.uri.kept(bounds),
            agent: self.agent.kept(bounds),
            message: status.message.kept(bounds),
            reason: status.reason.kept(bounds),
            status: status.status.kept(bounds),
            audit_id: self.audit_id.kept(bounds),
            stage: self.stage.kept(bounds),
            identity: identity::of([&self.audit_id, &self.received, &self.verb, &self.uri]),
        })
    }

    /// Shows the text of each element of `sourceIPs` that has one, in order.
    pub fn for_each_source(&self, mut show: impl FnMut(&str)) {
        self.sources.unwrap_or_default().for_each(|source| {
            if let Some(text) = source.value() {
                show(&text.whole());
            }
        });
    }

    fn counts(&self, rule: &Rule) -> bool {
        let mut no_group = true;
        let mut is_unauthenticated = false;
        if let Some(user) = &self.user {
            user.groups.for_each(|group| {
                if let Some(group) = group.value() {
                    no_group = false;
                    // SPL's search command compares without case.
                    is_unauthenticated |= group.is_ignoring_case(UNAUTHENTICATED);
                }
            });
        }
        if is_unauthenticated {
            return true;
        }
        let name = self.user.as_ref().and_then(|user| user.name.value());
        let nobody = no_group && name.is_none_or(Text::is_empty);
        let anonymous = name.is_some_and(|name| name.is(ANONYMOUS));
        rule.semantics == Semantics::Native && rule.who == Who::Any && (anonymous || nobody)
    }
}

/// The last of very many.
struct Last<T> {
    most: usize,
    kept: Vec<T>,
    /// Where the oldest is.
    oldest: usize,
}

impl<T> Last<T> {
    fn new(most: usize) -> Self {
        Self {
            most,
            kept: Vec::new(),
            oldest: 0,
        }
    }

    fn push(&mut self, one: T) {
        if self.kept.len() < self.most {
            self.kept.push(one);
        } else if let Some(oldest) = self.kept.get_mut(self.oldest) {
            *oldest = one;
            self.oldest = (self.oldest + 1) % self.most;
        }
    }

    fn into_vec(mut self) -> Vec<T> {
        self.kept.rotate_left(self.oldest);
        self.kept
    }
}

/// The last elements of `sourceIPs`, as many as the key may depend on, and the texts that are kept:
/// the last ones too, those that a client can least write.
fn sources<'a>(list: List<'a>, bounds: &Bounds) -> (Vec<Field<'a>>, Vec<String>) {
    let mut tail = Last::new(address::MAX_HOPS);
    let mut texts = Last::new(bounds.source_ips);
    list.for_each(|source| {
        tail.push(source);
        if let Some(text) = source.value() {
            texts.push(text);
        }
    });
    let texts = texts.into_vec();
    let mut kept = Vec::with_capacity(texts.len());
    kept.extend(texts.iter().map(|text| text.cut(bounds.value_bytes)));
    (tail.into_vec(), kept)
}

/// The groups, in order. Of more distinct ones than are kept the first in order of bytes, as
/// evidence keeps them, and one more, so that it shows that there are more.
fn groups(list: List<'_>, bounds: &Bounds) -> Vec<String> {
    let most = bounds.groups.saturating_add(1);
    let reduce = |kept: &mut Vec<String>| {
        kept.sort_unstable();
        let shown = |text: &str| text.floor_char_boundary(bounds.value_bytes);
        kept.dedup_by(|a, b| a.get(..shown(a)) == b.get(..shown(b)));
        kept.truncate(most);
    };
    let mut kept: Vec<String> = Vec::new();
    let mut is_reduced = false;
    list.for_each(|group| {
        let Some(group) = group.value() else { return };
        let group = group.cut(bounds.value_bytes);
        // In order: what is behind the last that is kept will not be.
        if is_reduced && kept.len() >= most && kept.get(most - 1).is_some_and(|last| group >= *last)
        {
            return;
        }
        kept.push(group);
        if kept.len() >= most.saturating_mul(2) {
            reduce(&mut kept);
            is_reduced = true;
        }
    });
    if kept.len() > most {
        reduce(&mut kept);
    }
    kept.shrink_to_fit();
    kept
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

    /// What a hit keeps is what a hit without bounds keeps, cut afterwards.
    #[test]
    fn reading_within_bounds_is_reading_all_and_cutting() {
        let sources: Vec<_> = (0..200).map(|at| format!("\"192.0.2.{at}\"")).collect();
        let groups: Vec<_> = (0..300)
            .map(|at| format!("\"g{}\"", at * 7 % 250))
            .collect();
        let long = "\\u00e9x".repeat(3000);
        let text = format!(
            r#"{{"verb":"{long}","requestURI":"/{long}","auditID":"{long}","userAgent":"a\n",
            "user":{{"username":"","groups":["system:UNauthenticated",7,null,{}]}},
            "sourceIPs":[{}, null, {{}}, true],"responseStatus":{{"code":403,"message":"{long}"}}}}"#,
            groups.join(","),
            sources.join(","),
        );
        let event = json::one(text.as_bytes(), "t").unwrap().unwrap();
        let rule = Rule::default();
        let whole = event.judge(&rule).unwrap();
        assert_eq!((whole.sources.len(), whole.groups.len()), (201, 302));
        for (value_bytes, source_ips, most) in [(1024, 64, 100), (1, 1, 1), (5, 500, 500)] {
            let bounds = Bounds {
                value_bytes,
                source_ips,
                groups: most,
            };
            let hit = event.judge_within(&rule, &bounds).unwrap();
            let mut wanted = whole.clone();
            wanted.cut(value_bytes);
            wanted.keep_sources(source_ips);
            if wanted.groups.len() > most + 1 {
                let groups: std::collections::BTreeSet<_> = wanted.groups.drain(..).collect();
                wanted.groups = groups.into_iter().collect();
                let shown = |text: &str| text.floor_char_boundary(value_bytes);
                let groups = &mut wanted.groups;
                groups.dedup_by(|a, b| a.get(..shown(a)) == b.get(..shown(b)));
                wanted.groups.truncate(most + 1);
            }
            assert_eq!(hit, wanted, "{bounds:?}");
            assert!(hit.held() <= wanted.held() + 64, "{bounds:?}");
        }
    }

    /// One among very many is found, wherever it stands.
    #[test]
    fn the_group_of_the_unauthenticated_is_found_among_all() {
        let event = |groups: &str| {
            format!(
                r#"{{"verb":"get","user":{{"username":"u","groups":[{groups}]}},"sourceIPs":[],
                "responseStatus":{{"code":403}}}}"#
            )
        };
        let many = "\"g\",".repeat(10_000);
        let hit = |text: &str| {
            let event = json::one(text.as_bytes(), "t").unwrap().unwrap();
            event.judge(&Rule::default())
        };
        let with = hit(&event(&format!("{many}\"system:unauthenticated\",\"h\"")));
        assert_eq!(with.unwrap().groups.len(), 10_002);
        assert_eq!(hit(&event(&format!("{many}\"h\""))), None);
    }

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
