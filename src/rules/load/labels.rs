//! The labels of a rule or correlation: what its events may look like, and what that says of a
//! finding's severity.
//!
//! A severity never falls while a finding grows. So a label that raises it has no upper bounds, and
//! one that lowers it (a benign cause) has upper bounds alone.

use super::{
    condition::{self, Selections},
    custom::Custom,
    reader::{Map, Reader, Typed, find, hint, is_name, quoted},
};
use crate::{
    rules::{
        derived::Derived,
        model::{Aggregate, Dedup, Emit, Label, LabelBounds, LabelKind, LabelSet},
        predicate::Condition,
        severity::Severity,
    },
    yaml::{Mark, Node, Problem, Value},
};

/// Letters of a title.
const MOST_TITLE: usize = 120;

/// The keys of a label, as docs/rules.md describes them.
const KEYS: [&str; 14] = [
    "name",
    "kind",
    "title",
    "severity",
    "match",
    "join",
    "min_requests",
    "min_paths",
    "min_user_agents",
    "max_requests",
    "max_requests_per_path",
    "max_paths",
    "max_user_agents",
    "explains",
];

/// Those of them that are bounds.
const BOUNDS: [&str; 7] = [
    "min_requests",
    "min_paths",
    "min_user_agents",
    "max_requests",
    "max_requests_per_path",
    "max_paths",
    "max_user_agents",
];

const KINDS: [LabelKind; 4] = [
    LabelKind::Behaviour,
    LabelKind::Shape,
    LabelKind::Tool,
    LabelKind::Benign,
];

/// The value of `join`: what two logs of a request have in common.
const JOIN: &str = "audit_id";

/// What a label with `join` must not have: it has bounds of its own, and explains all labels.
const NOT_WITH_JOIN: [&str; 9] = [
    "match",
    "min_requests",
    "min_paths",
    "min_user_agents",
    "max_requests",
    "max_requests_per_path",
    "max_paths",
    "max_user_agents",
    "explains",
];

/// What is wrong with a label that has `join`, in a rule that counts by these fields.
pub(super) fn misused_join(
    custom: &Custom,
    names: &[String],
    aggregate: Aggregate,
) -> Option<Problem> {
    let mark = custom.join?;
    let counts_once = custom.dedup == Dedup::Request
        && aggregate == Aggregate::Events
        && custom.emit.is_none_or(|(emit, _)| emit == Emit::Finding);
    let is_fit = counts_once && names == [Derived::Address.to_string()];
    (!is_fit).then(|| {
        Problem::new(
            mark,
            "join: is for a correlation with type: event_count and group-by: source.address that \
             counts each request once: remove it",
        )
    })
}

/// A label that was read, and the names of those that it explains.
struct Read {
    label: Label,
    mark: Mark,
    explains: Vec<(String, Mark)>,
}

impl<'d> Reader<'d> {
    /// Where a label has `join`.
    pub(super) fn join(custom: &Map<'d, '_>) -> Option<Mark> {
        match &custom.get("labels")?.value {
            Value::List(nodes) => nodes.iter().find_map(|node| {
                let join = find(node, "join")?;
                matches!(&join.value, Value::Scalar(text) if text == JOIN).then_some(join.mark)
            }),
            _ => None,
        }
    }

    /// Reads `labels` and the `selections` that their conditions name.
    pub(super) fn labels(&self, custom: &Map<'d, '_>) -> Vec<Label> {
        let selections = self.label_selections(custom);
        let Some(node) = custom.get("labels") else {
            return Vec::new();
        };
        let Value::List(nodes) = &node.value else {
            self.fail(node.mark, "labels: expected a list");
            return Vec::new();
        };
        if nodes.len() > LabelSet::MOST {
            self.fail(
                node.mark,
                format!("labels: more than {}: join some of them", LabelSet::MOST),
            );
            return Vec::new();
        }
        let mut read: Vec<Read> = Vec::new();
        for node in nodes {
            let Some(one) = self.label(node, &selections) else {
                continue;
            };
            if read.iter().any(|other| other.label.name == one.label.name) {
                let name = quoted(&one.label.name);
                self.fail(one.mark, format!("labels: the name {name} is given twice"));
            }
            let has_join = |other: &Read| other.label.is_joined;
            if has_join(&one) && read.iter().any(has_join) {
                self.fail(one.mark, "labels: another label has join: keep one of them");
            }
            read.push(one);
        }
        for at in 0..read.len() {
            let explained = self.explained(at, &read);
            if let Some(one) = read.get_mut(at) {
                one.label.bounds.explains = explained;
            }
        }
        read.into_iter().map(|one| one.label).collect()
    }

    /// The selections that conditions of labels name.
    fn label_selections(&self, custom: &Map<'d, '_>) -> Selections {
        let mut selections = Selections::new();
        let Some(node) = custom.get("selections") else {
            return selections;
        };
        if custom.get("labels").is_none() {
            self.fail(
                node.mark,
                "selections are for labels: add labels, or remove them",
            );
            return selections;
        }
        let Some(map) = self.any_map(node, "selections") else {
            return selections;
        };
        for (key, node) in map.entries {
            let condition = self.selection(&key.name, node);
            let condition = condition.unwrap_or(Condition::constant(false));
            selections.insert(key.name.clone(), condition);
        }
        selections
    }

    fn label(&self, node: &'d Node, selections: &Selections) -> Option<Read> {
        let map = self.map(node, "labels", &KEYS)?;
        let missing = |key: &str, what: &str| {
            if map.get(key).is_none() {
                self.fail(map.mark, format!("labels: {key} is missing: {what}"));
            }
        };
        missing("name", "write one such as reads_secrets");
        missing("kind", "write behaviour, shape, tool or benign");
        missing("title", "say what the requests do, for people");
        let (name, name_node) = (map.text("name")?, map.get("name")?);
        if !is_name(&name) {
            self.fail(
                name_node.mark,
                format!(
                    "name: {} is no name: use letters, digits and _",
                    quoted(&name)
                ),
            );
            return None;
        }
        let words = KINDS.map(LabelKind::as_str);
        let word = map.word("kind", &words)?;
        let kind = KINDS.into_iter().find(|kind| kind.as_str() == word)?;
        let title = map.text("title")?;
        if title.chars().count() > MOST_TITLE {
            let mark = map.get("title")?.mark;
            self.fail(
                mark,
                format!("title: is longer than {MOST_TITLE} characters"),
            );
        }
        let severity = self.label_severity(&map, kind);
        let is_joined = self.label_join(&map, kind)?;
        let (bounds, condition) = if is_joined {
            (LabelBounds::default(), Condition::constant(false))
        } else {
            let bounds = self.bounds(&map, (kind, severity));
            (bounds, self.label_match(&map, kind, selections)?)
        };
        Some(Read {
            label: Label {
                name,
                kind,
                title,
                severity,
                condition,
                is_joined,
                bounds,
            },
            mark: name_node.mark,
            explains: map.texts("explains"),
        })
    }

    fn label_severity(&self, map: &Map<'d, '_>, kind: LabelKind) -> Option<Severity> {
        let node = map.get("severity")?;
        match kind {
            LabelKind::Behaviour | LabelKind::Shape => {}
            LabelKind::Tool => {
                self.fail(
                    node.mark,
                    "severity: a tool has none, a user agent is a claim of the client: remove it",
                );
                return None;
            }
            LabelKind::Benign => {
                self.fail(
                    node.mark,
                    "severity: that of a benign cause is informational: remove it",
                );
                return None;
            }
        }
        let word = map.word("severity", &Severity::ALL.map(Severity::as_str))?;
        word.parse().ok()
    }

    /// Whether requests have it that two API servers have logged.
    fn label_join(&self, map: &Map<'d, '_>, kind: LabelKind) -> Option<bool> {
        let Some(mark) = map.mark_of("join") else {
            return Some(false);
        };
        map.word("join", &[JOIN])?;
        if kind != LabelKind::Benign {
            self.fail(
                mark,
                "join is for a benign cause: remove it, or write kind: benign",
            );
        }
        for mark in NOT_WITH_JOIN.iter().filter_map(|key| map.mark_of(key)) {
            self.fail(
                mark,
                "labels: a label with join is bounded by the threshold and explains all labels: \
                 remove this key, or join",
            );
        }
        Some(true)
    }

    /// What an event has to be: a selection, or a condition over `selections`.
    fn label_match(
        &self,
        map: &Map<'d, '_>,
        kind: LabelKind,
        selections: &Selections,
    ) -> Option<Condition> {
        let Some(node) = map.get("match") else {
            let is_bounded = BOUNDS.iter().any(|key| map.get(key).is_some());
            if kind == LabelKind::Shape && is_bounded {
                return Some(Condition::constant(true));
            }
            self.fail(
                map.mark,
                "labels: match is missing: write a selection, a condition over custom: selections:, \
                 or for a shape a bound such as min_paths",
            );
            return None;
        };
        let Value::Scalar(text) = &node.value else {
            return self.selection("match", node);
        };
        match condition::read(text, selections) {
            Ok(condition) => Some(condition),
            Err(error) => {
                self.fail(node.mark, format!("match: {error}"));
                None
            }
        }
    }

    fn bounds(
        &self,
        map: &Map<'d, '_>,
        (kind, severity): (LabelKind, Option<Severity>),
    ) -> LabelBounds {
        let bounds = LabelBounds {
            min_requests: self.bound(map, "min_requests"),
            min_paths: self.bound(map, "min_paths"),
            min_user_agents: self.bound(map, "min_user_agents"),
            max_requests: self.bound(map, "max_requests"),
            max_requests_per_path: self.bound(map, "max_requests_per_path"),
            max_paths: self.bound(map, "max_paths"),
            max_user_agents: self.bound(map, "max_user_agents"),
            explains: LabelSet::default(),
        };
        let refuse = |keys: &[&str], why: &str| {
            for mark in keys.iter().filter_map(|key| map.mark_of(key)) {
                self.fail(mark, format!("labels: {why}"));
            }
        };
        if kind == LabelKind::Benign {
            refuse(
                &[
                    "min_requests",
                    "min_paths",
                    "min_user_agents",
                    "max_requests_per_path",
                ],
                "a benign cause has upper bounds alone, else more requests would lower the \
                 severity: remove it",
            );
            if bounds.max_paths.is_none() || bounds.max_user_agents.is_none() {
                self.fail(
                    map.mark,
                    "labels: a benign cause needs max_paths and max_user_agents, else a scan hides \
                     behind it",
                );
            }
        } else if severity.is_some() {
            refuse(
                &[
                    "max_requests",
                    "max_requests_per_path",
                    "max_paths",
                    "max_user_agents",
                ],
                "with an upper bound, more requests would lower the severity: remove the bound or \
                 the severity",
            );
        }
        if kind != LabelKind::Benign {
            refuse(
                &["explains"],
                "explains is for a benign cause: remove it, or write kind: benign",
            );
        }
        bounds
    }

    fn bound(&self, map: &Map<'d, '_>, key: &str) -> Option<u64> {
        let node = map.get(key)?;
        let number = match self.filled(node, key)?.value {
            Typed::Number(_, text) => text.parse().ok().filter(|number| *number > 0),
            _ => None,
        };
        if number.is_none() {
            self.fail(
                node.mark,
                format!("{key}: expected a whole number, at least 1"),
            );
        }
        number
    }

    /// The places of the labels that one of them explains.
    fn explained(&self, at: usize, all: &[Read]) -> LabelSet {
        let mut explained = LabelSet::default();
        let names = all.get(at).map(|one| one.explains.as_slice());
        for (name, mark) in names.unwrap_or_default() {
            let place = all.iter().position(|other| other.label.name == *name);
            match place.and_then(|place| Some((place, all.get(place)?))) {
                Some((place, other)) if other.label.severity.is_some() => explained.insert(place),
                Some(_) => self.fail(
                    *mark,
                    format!("explains: {} has no severity: remove it", quoted(name)),
                ),
                None => {
                    let known: Vec<&str> = all.iter().map(|one| one.label.name.as_str()).collect();
                    let hint = hint(name, &known);
                    self.fail(
                        *mark,
                        format!("explains: no label is named {}{hint}", quoted(name)),
                    );
                }
            }
        }
        explained
    }
}
