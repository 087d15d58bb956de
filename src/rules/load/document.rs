//! One document of a rule file: a rule or a correlation, before they are linked.

use std::fmt::Write as _;

use super::{
    blind_spot::Spot,
    condition,
    custom::Custom,
    duration,
    head::HEAD,
    reader::{Map, Reader, Typed, find, quoted},
};
use crate::{
    rules::{model::Annotations, predicate::Condition},
    yaml::{Mark, Node, Value},
};

/// A rule or a correlation.
pub(super) struct Document {
    pub(super) annotations: Annotations,
    pub(super) custom: Custom,
    /// What findings are made from.
    pub(super) body: Body,
    /// Names by which others may refer to it, each where it is.
    pub(super) names: Vec<(String, Mark)>,
    pub(super) mark: Mark,
    /// The parts that shape the state, for the fingerprint.
    pub(super) shape: String,
}

pub(super) enum Body {
    Rule(Condition),
    Correlation(Correlation),
    BlindSpot(Spot),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Events,
    Values,
    Rules,
}

/// What is under `correlation:`.
pub(super) struct Correlation {
    pub(super) counted: Counted,
    pub(super) rules: Vec<(String, Mark)>,
    pub(super) group_by: Vec<(String, Mark)>,
    pub(super) timespan: i64,
    /// A window with more than this makes a finding; `None`: all rules (temporal).
    pub(super) threshold: Option<u64>,
    pub(super) field: Option<(String, Mark)>,
    /// What a name is in each rule.
    pub(super) aliases: Vec<Alias>,
    pub(super) generate: bool,
}

/// One name of `aliases`.
pub(super) struct Alias {
    pub(super) name: String,
    /// Rule and field.
    pub(super) fields: Vec<(String, String, Mark)>,
}

impl<'d> Reader<'d> {
    /// Reads one document; `None` when it cannot be linked.
    pub(super) fn document(&self, root: &'d Node) -> Option<Document> {
        let any = self.any_map(root, "a rule")?;
        for (key, what) in [
            (
                "filter",
                "filters are not supported: write the exception into the rule's condition",
            ),
            (
                "action",
                "rule collections with action are not supported: write each rule whole",
            ),
        ] {
            if let Some(mark) = any.mark_of(key) {
                self.fail(mark, what);
                return None;
            }
        }
        let is_correlation = any.get("correlation").is_some();
        let is_blind_spot =
            find(root, "custom").is_some_and(|custom| find(custom, "blind_spot").is_some());
        let own: &[&str] = if is_correlation {
            &["correlation", "custom"]
        } else if is_blind_spot {
            &["custom"]
        } else {
            &["logsource", "detection", "custom"]
        };
        let known: Vec<&str> = HEAD.iter().chain(own).copied().collect();
        let map = self.map(root, "a rule", &known)?;
        let custom = self.custom(&map, is_correlation);
        let annotations = self.annotations(&map, &custom);
        let body = if is_correlation {
            Body::Correlation(self.correlation(&map)?)
        } else if is_blind_spot {
            Body::BlindSpot(custom.blind_spot?)
        } else {
            self.logsource(&map);
            Body::Rule(self.detection(&map)?)
        };
        let names = ["id", "name", "title"].into_iter().filter_map(|key| {
            let node = map.get(key)?;
            match &node.value {
                Value::Scalar(text) => Some((text.clone(), node.mark)),
                _ => None,
            }
        });
        Some(Document {
            annotations,
            custom,
            body,
            names: names.collect(),
            mark: root.mark,
            shape: shape(&map),
        })
    }

    fn detection(&self, map: &Map<'d, '_>) -> Option<Condition> {
        let Some(node) = map.get("detection") else {
            self.fail(
                map.mark,
                "detection is missing (or correlation): write selections and a condition",
            );
            return None;
        };
        let detection = self.any_map(node, "detection")?;
        let selections = self.selections(&detection);
        let Some(node) = detection.get("condition") else {
            self.fail(
                detection.mark,
                "detection: condition is missing: write condition: selection",
            );
            return None;
        };
        let text = match &node.value {
            Value::List(_) => {
                self.fail(node.mark, "condition: expected one, join several with or");
                return None;
            }
            _ => self.text(node, "condition")?,
        };
        match condition::read(&text, &selections) {
            Ok(condition) => Some(condition),
            Err(error) => {
                self.fail(node.mark, format!("condition: {error}"));
                None
            }
        }
    }

    fn correlation(&self, map: &Map<'d, '_>) -> Option<Correlation> {
        let known = [
            "type",
            "rules",
            "group-by",
            "timespan",
            "condition",
            "aliases",
            "generate",
        ];
        let own = self.map(map.get("correlation")?, "correlation", &known)?;
        let counted = self.counted(&own);
        let rules = own.texts("rules");
        if rules.is_empty() {
            self.fail(
                own.mark,
                "correlation: rules is missing: name the rules whose events count",
            );
        }
        let timespan = match own.get("timespan") {
            None => {
                self.fail(
                    own.mark,
                    "correlation: timespan is missing: write one such as 1h",
                );
                None
            }
            Some(node) => {
                let scalar = self.filled(node, "timespan")?;
                match duration::read(scalar.text()) {
                    Ok(0) => {
                        self.fail(node.mark, "timespan: is longer than nothing, such as 1h");
                        None
                    }
                    Ok(length) => Some(length),
                    Err(text) => {
                        self.fail(node.mark, format!("timespan: {text}"));
                        None
                    }
                }
            }
        };
        let (threshold, field) = self.threshold(&own, counted?)?;
        Some(Correlation {
            counted: counted?,
            rules,
            group_by: own.texts("group-by"),
            timespan: timespan?,
            threshold,
            field,
            aliases: self.aliases(&own),
            generate: own
                .get("generate")
                .and_then(|node| self.boolean(node, "generate"))
                .unwrap_or(false),
        })
    }

    fn counted(&self, own: &Map<'d, '_>) -> Option<Counted> {
        let Some(node) = own.get("type") else {
            self.fail(
                own.mark,
                "correlation: type is missing: write event_count, value_count or temporal",
            );
            return None;
        };
        Some(match self.text(node, "type")?.as_str() {
            "event_count" => Counted::Events,
            "value_count" => Counted::Values,
            "temporal" => Counted::Rules,
            "temporal_ordered" => {
                self.fail(
                    node.mark,
                    "type: temporal_ordered is not supported, events arrive in any order: write \
                     temporal",
                );
                return None;
            }
            other => {
                self.fail(
                    node.mark,
                    format!(
                        "type: expected event_count, value_count or temporal, found {}",
                        quoted(other)
                    ),
                );
                return None;
            }
        })
    }

    /// The threshold, and the field whose values are counted.
    #[expect(
        clippy::type_complexity,
        reason = "two parts of one condition, taken apart at once"
    )]
    fn threshold(
        &self,
        own: &Map<'d, '_>,
        counted: Counted,
    ) -> Option<(Option<u64>, Option<(String, Mark)>)> {
        let Some(node) = own.get("condition") else {
            if counted == Counted::Rules {
                return Some((None, None));
            }
            self.fail(
                own.mark,
                "correlation: condition is missing: write one such as {gt: 5}",
            );
            return None;
        };
        if let Value::Scalar(_) = node.value {
            self.fail(
                node.mark,
                "condition: an expression over rules is not supported: write {gte: N}, or no \
                 condition, which asks for all rules",
            );
            return None;
        }
        let known = ["gt", "gte", "lt", "lte", "eq", "neq", "field"];
        let map = self.map(node, "condition", &known)?;
        for key in ["lt", "lte", "eq", "neq"] {
            if let Some(mark) = map.mark_of(key) {
                self.fail(
                    mark,
                    format!("condition: {key} would be so before the window ends: write gt or gte"),
                );
                return None;
            }
        }
        let (node, is_inclusive) = match (map.get("gt"), map.get("gte")) {
            (Some(node), None) => (node, false),
            (None, Some(node)) => (node, true),
            (None, None) => {
                self.fail(map.mark, "condition: a number is missing: write gt or gte");
                return None;
            }
            (Some(_), Some(node)) => {
                self.fail(node.mark, "condition: gt and gte exclude each other");
                return None;
            }
        };
        let threshold = match self.filled(node, "condition")?.value {
            Typed::Number(_, text) => text.parse::<u64>().ok(),
            _ => None,
        }
        .and_then(|number| number.checked_sub(u64::from(is_inclusive)));
        let Some(threshold) = threshold else {
            self.fail(
                node.mark,
                "condition: expected a whole number, for gte at least 1",
            );
            return None;
        };
        let field = match (counted, map.get("field")) {
            (Counted::Values, None) => {
                self.fail(
                    map.mark,
                    "condition: field is missing: name whose values count",
                );
                return None;
            }
            (Counted::Values, Some(node)) => Some((self.text(node, "field")?, node.mark)),
            (_, Some(node)) => {
                self.fail(node.mark, "condition: field is for value_count: remove it");
                return None;
            }
            (_, None) => None,
        };
        Some((Some(threshold), field))
    }

    fn aliases(&self, own: &Map<'d, '_>) -> Vec<Alias> {
        let map = own
            .get("aliases")
            .and_then(|node| self.any_map(node, "aliases"));
        let entries = map.map(|map| map.entries).unwrap_or_default();
        entries
            .iter()
            .filter_map(|(key, node)| {
                let map = self.any_map(node, "aliases")?;
                let fields = map.entries.iter().filter_map(|(rule, node)| {
                    Some((rule.name.clone(), self.text(node, "aliases")?, node.mark))
                });
                Some(Alias {
                    name: key.name.clone(),
                    fields: fields.collect(),
                })
            })
            .collect()
    }
}

/// The part of a document that shapes its state: its logic without its texts.
fn shape(map: &Map<'_, '_>) -> String {
    let mut out = String::new();
    for key in ["detection", "correlation"] {
        if let Some(node) = map.get(key) {
            write_node(node, &mut out);
        }
    }
    if let Some(Value::Map(entries)) = map.get("custom").map(|node| &node.value) {
        for (key, node) in entries {
            if matches!(
                key.name.as_str(),
                "blind_spot"
                    | "group_by"
                    | "window"
                    | "window_offset"
                    | "lateness"
                    | "dedup"
                    | "emit"
                    | "location"
            ) {
                out.push_str(&key.name);
                write_node(node, &mut out);
            }
        }
    }
    out
}

fn write_node(node: &Node, out: &mut String) {
    match &node.value {
        Value::Null => out.push('~'),
        Value::Scalar(text) => {
            let _ok = write!(out, "{text:?}");
        }
        Value::List(items) => {
            out.push('[');
            for item in items {
                write_node(item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (key, node) in entries {
                // Writing into a string cannot fail.
                let _ok = write!(out, "{:?}", key.name);
                write_node(node, out);
            }
            out.push('}');
        }
    }
}
