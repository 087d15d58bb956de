//! What an event must hold to match: texts and status codes that the prefilter looks for.
//!
//! A text is one that a value or a key of a matching event holds, whatever body the event comes in.
//! So it has no character that JSON writers escape as a matter of course, and none that is part of a
//! number or truth value, which a map does not spell.

use std::collections::BTreeSet;

use super::{
    pattern::{Piece, Wanted},
    predicate::{Condition, Kind, Operand, Test},
};

/// Texts that nearly every audit event holds.
const EVERYWHERE: [&str; 45] = [
    "annotations",
    "apiversion",
    "audit.k8s.io",
    "audit.k8s.io/v1",
    "auditid",
    "authorization.k8s.io",
    "authorization.k8s.io/decision",
    "authorization.k8s.io/reason",
    "allow",
    "code",
    "decision",
    "event",
    "groups",
    "kind",
    "level",
    "metadata",
    "name",
    "namespace",
    "objectref",
    "panic",
    "request",
    "requestreceived",
    "requestreceivedtimestamp",
    "requestresponse",
    "requestobject",
    "requesturi",
    "resource",
    "responsecomplete",
    "responseobject",
    "responsestarted",
    "responsestatus",
    "sourceips",
    "stage",
    "stagetimestamp",
    "status",
    "system:",
    "system:authenticated",
    "uid",
    "user",
    "useragent",
    "username",
    "verb",
    "api",
    "v1",
    "success",
];

/// Texts that many audit events hold: another one is better.
const COMMON: [&str; 29] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "pods",
    "nodes",
    "leases",
    "events",
    "configmaps",
    "endpoints",
    "deployments",
    "default",
    "kube-system",
    "apps",
    "kubectl",
    "system:serviceaccount",
    "system:serviceaccount:",
    "system:serviceaccounts",
    "spec",
    "containers",
    "initcontainers",
    "labels",
    "securitycontext",
    "subresource",
    "template",
    "volumes",
];

/// The literals of which a matching event contains at least one; or none can be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) codes: Vec<u16>,
    /// Texts in any case, here in lower case.
    pub(crate) literals: Vec<String>,
    /// Texts in this case alone, which are found several times faster.
    pub(crate) exact: Vec<String>,
    /// Any event may match.
    pub(crate) every: bool,
    /// How rare it is: of several that are all needed, the rarest is looked for.
    rarity: usize,
}

/// Nothing is as rare as what never matches.
const NEVER: usize = 100;

impl Need {
    /// Nothing matches.
    pub(crate) fn impossible() -> Self {
        Self {
            codes: Vec::new(),
            literals: Vec::new(),
            exact: Vec::new(),
            every: false,
            rarity: NEVER,
        }
    }

    fn every() -> Self {
        Self {
            every: true,
            rarity: 0,
            ..Self::impossible()
        }
    }

    /// Values of which at least one is present.
    fn values(literals: &[String]) -> Self {
        Self {
            literals: literals.to_vec(),
            rarity: literals
                .iter()
                .map(|one| rarity(one))
                .min()
                .unwrap_or(NEVER),
            ..Self::impossible()
        }
    }

    /// The same in this case.
    fn exact_values(exact: &[String]) -> Self {
        let lower: Vec<_> = exact.iter().map(|one| one.to_ascii_lowercase()).collect();
        Self {
            literals: Vec::new(),
            exact: exact.to_vec(),
            ..Self::values(&lower)
        }
    }

    /// A key that is present. Many events have it with another value.
    fn key(literal: String) -> Self {
        Self {
            rarity: 1 + rarity(&literal) / 4,
            literals: vec![literal],
            ..Self::impossible()
        }
    }

    /// One of these status codes.
    pub(super) fn codes(codes: &[u16]) -> Self {
        // Most requests succeed; other codes are rare, and the fastest to look for.
        let is_usual = codes.iter().any(|code| (200..300).contains(code));
        Self {
            codes: codes.to_vec(),
            rarity: if is_usual { 1 } else { NEVER / 2 },
            ..Self::impossible()
        }
    }

    /// What is needed to match one or the other.
    pub(crate) fn or(mut self, other: Self) -> Self {
        if self.every || other.every {
            return Self::every();
        }
        self.codes.extend(other.codes);
        self.codes.sort_unstable();
        self.codes.dedup();
        self.literals.extend(other.literals);
        self.literals.sort_unstable();
        self.literals.dedup();
        self.exact.extend(other.exact);
        self.exact.sort_unstable();
        self.exact.dedup();
        self.rarity = self.rarity.min(other.rarity);
        self
    }

    /// The rarer of two that are both needed.
    fn and(self, other: Self) -> Self {
        if other.rarity > self.rarity {
            other
        } else {
            self
        }
    }
}

/// How rare a text is, roughly: long ones are.
fn rarity(literal: &str) -> usize {
    if COMMON.contains(&literal) {
        1
    } else {
        1 + literal.len().min(16)
    }
}

/// What an event needs for a condition to hold.
pub(crate) fn of(condition: &Condition) -> Need {
    match condition {
        Condition::All(parts) => parts.iter().map(of).fold(Need::every(), Need::and),
        Condition::Some(0, _) | Condition::Not(_) => Need::every(),
        // At least one of them holds.
        Condition::Any(parts) | Condition::Some(_, parts) => {
            parts.iter().map(of).fold(Need::impossible(), Need::or)
        }
        Condition::Test(test) => of_test(test),
    }
}

fn of_test(test: &Test) -> Need {
    // What is derived is spelled otherwise in the event.
    if let Operand::Derived(_) = test.operand {
        return Need::every();
    }
    match &test.wanted {
        Kind::OneOf { null: true, .. } | Kind::Exists(false) => Need::every(),
        Kind::OneOf { values, .. } => {
            let is_code = matches!(&test.operand, Operand::Field(path) if path.is_code());
            match (&values.codes, &values.literals) {
                (Some(codes), _) if is_code && !codes.is_empty() => Need::codes(codes),
                _ if values.exact.as_ref().is_some_and(|exact| !exact.is_empty()) => {
                    let exact = values.exact.as_deref().unwrap_or_default();
                    Need::exact_values(exact).and(key(&test.operand))
                }
                (_, Some(literals)) if !literals.is_empty() => {
                    Need::values(literals).and(key(&test.operand))
                }
                _ => key(&test.operand),
            }
        }
        Kind::Exists(true) => key(&test.operand),
        Kind::FieldRef { other, .. } => key(&test.operand).and(key(other)),
    }
}

/// The status codes that an event may have for a condition to hold; `None`: any, or none at all.
pub(super) fn codes_of(condition: &Condition) -> Option<BTreeSet<u16>> {
    match condition {
        Condition::All(parts) => {
            let sets = parts.iter().filter_map(codes_of);
            sets.reduce(|a, b| a.intersection(&b).copied().collect())
        }
        Condition::Some(0, _) | Condition::Not(_) => None,
        Condition::Any(parts) | Condition::Some(_, parts) => {
            let sets: Option<Vec<_>> = parts.iter().map(codes_of).collect();
            Some(sets?.into_iter().flatten().collect())
        }
        Condition::Test(test) => match (&test.operand, &test.wanted) {
            (
                Operand::Field(path),
                Kind::OneOf {
                    values,
                    null: false,
                },
            ) if path.is_code() => values.whole_numbers(999),
            _ => None,
        },
    }
}

/// The rarest key that a field needs.
fn key(operand: &Operand) -> Need {
    let Operand::Field(path) = operand else {
        return Need::every();
    };
    let keys = path
        .names()
        .iter()
        .filter_map(|name| run(name.chars().map(Some)))
        .map(|name| name.to_ascii_lowercase());
    keys.map(Need::key)
        .max_by_key(|need| need.rarity)
        .unwrap_or(Need::every())
}

/// The longest text that any value holds which is this one, in lower case.
pub(super) fn literal(wanted: &Wanted) -> Option<String> {
    exact(wanted).map(|text| text.to_ascii_lowercase())
}

/// The same as it is written.
pub(super) fn exact(wanted: &Wanted) -> Option<String> {
    match wanted {
        Wanted::Text(pieces) => run(pieces.iter().map(|piece| match piece {
            Piece::Letter(letter) => Some(*letter),
            Piece::One | Piece::Any => None,
        })),
        _ => None,
    }
}

/// The status code that a value is.
pub(super) fn code(wanted: &Wanted) -> Option<u16> {
    match wanted {
        Wanted::Number(number) => (0..=999).find(|code| f64::from(*code).total_cmp(number).is_eq()),
        _ => None,
    }
}

/// The best run of letters that can be looked for.
fn run(letters: impl Iterator<Item = Option<char>>) -> Option<String> {
    let (mut best, mut current): (Option<String>, String) = (None, String::new());
    for letter in letters.chain([None]) {
        match letter {
            Some(letter) if is_plain(letter) => current.push(letter),
            _ => {
                let is_better = best.as_ref().is_none_or(|best| best.len() < current.len());
                if is_better && is_telling(&current.to_ascii_lowercase()) {
                    best = Some(std::mem::take(&mut current));
                }
                current.clear();
            }
        }
    }
    best
}

/// A letter that JSON writers leave as it is. They may escape it all the same, which the prefilter
/// looks for.
fn is_plain(letter: char) -> bool {
    (letter.is_ascii_graphic() || letter == ' ')
        && !matches!(letter, '"' | '\\' | '&' | '<' | '>' | '\'')
}

/// Whether a text is selective and is spelled in the same way in every body.
fn is_telling(text: &str) -> bool {
    let is_of_number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'+'));
    let is_of_word = ["true", "false", "inf", "nan"]
        .iter()
        .any(|word| word.contains(text));
    text.len() >= 2 && !is_of_number && !is_of_word && !EVERYWHERE.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::pattern::pieces;

    #[test]
    fn literals_are_the_longest_runs_that_can_be_looked_for() {
        for (text, wanted) in [
            ("secrets", Some("secrets")),
            ("*/Exec?command*", Some("command")),
            ("/etc/kubernetes", Some("/etc/kubernetes")),
            ("a&longer<b", Some("longer")),
            ("403", None),
            ("true", None),
            ("*", None),
            ("", None),
            ("ResponseComplete", None),
            ("äöü", None),
            ("x", None),
        ] {
            let found = literal(&Wanted::Text(pieces(text)));
            assert_eq!(found.as_deref(), wanted, "{text}");
        }
        assert_eq!(code(&Wanted::Number(403.0)), Some(403));
        assert_eq!(code(&Wanted::Number(403.5)), None);
    }
}
