//! One document of a rule file: a rule or a correlation, before they are linked.

use super::{
    condition,
    custom::Custom,
    duration,
    reader::{Map, Reader, Typed, quoted},
};
use crate::{
    rules::{model::Annotations, predicate::Condition},
    yaml::{Mark, Node, Value},
};

/// Keys of any document that say something about it.
const HEAD: [&str; 19] = [
    "title",
    "id",
    "name",
    "taxonomy",
    "status",
    "description",
    "license",
    "references",
    "author",
    "date",
    "modified",
    "tags",
    "falsepositives",
    "level",
    "related",
    "scope",
    "fields",
    "regression_tests_path",
    "simulation",
];

const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
const STATUSES: [&str; 5] = [
    "stable",
    "test",
    "experimental",
    "deprecated",
    "unsupported",
];

/// A rule or a correlation.
pub(super) struct Document {
    pub(super) annotations: Annotations,
    pub(super) custom: Custom,
    /// What findings are made from.
    pub(super) body: Body,
    /// Names by which others may refer to it, each where it is.
    pub(super) names: Vec<(String, Mark)>,
    pub(super) mark: Mark,
    /// What of the text shapes the state, for the fingerprint.
    pub(super) shape: String,
}

pub(super) enum Body {
    Rule(Condition),
    Correlation(Correlation),
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
        let own: &[&str] = if is_correlation {
            &["correlation", "custom"]
        } else {
            &["logsource", "detection", "custom"]
        };
        let known: Vec<&str> = HEAD.iter().chain(own).copied().collect();
        let map = self.map(root, "a rule", &known)?;
        let custom = self.custom(&map, is_correlation);
        let annotations = self.annotations(&map, &custom);
        let body = if is_correlation {
            Body::Correlation(self.correlation(&map)?)
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

    fn annotations(&self, map: &Map<'d, '_>, custom: &Custom) -> Annotations {
        let mut out = Annotations {
            title: map.text("title").unwrap_or_default(),
            name: map.text("name").unwrap_or_default(),
            description: map
                .text("description")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            version: custom.version.clone().unwrap_or_default(),
            drilldown: custom.drilldown.clone().unwrap_or_default(),
            technique: custom.attack_technique.clone().unwrap_or_default(),
            ..Annotations::default()
        };
        if map.get("title").is_none() {
            self.fail(map.mark, "title is missing: write what the rule finds");
        } else if out.title.chars().count() > 256 {
            let mark = map.mark_of("title").unwrap_or(map.mark);
            self.fail(mark, "title: is longer than 256 characters");
        }
        self.check_id(map, &mut out);
        let level = map.word("level", &LEVELS).unwrap_or_else(|| {
            if map.get("level").is_none() {
                self.warn(map.mark, "no level: low is taken");
            }
            "low"
        });
        level.clone_into(&mut out.level);
        out.score = custom.score.unwrap_or(match level {
            "informational" => 0,
            "medium" => 40,
            "high" => 60,
            "critical" => 80,
            _ => 20,
        });
        out.message = custom.message.clone().unwrap_or_else(|| out.title.clone());
        map.word("status", &STATUSES);
        for key in ["date", "modified"] {
            if let Some(node) = map.get(key)
                && let Some(text) = self.text(node, key)
                && !is_date(&text)
            {
                self.fail(
                    node.mark,
                    format!(
                        "{key}: expected a date such as 2026-01-31, found {}",
                        quoted(&text)
                    ),
                );
            }
        }
        out.false_positives = map
            .texts("falsepositives")
            .into_iter()
            .map(|(text, _)| text)
            .collect();
        out.references = map
            .texts("references")
            .into_iter()
            .map(|(text, _)| text)
            .collect();
        for (tag, mark) in map.texts("tags") {
            self.tag(&tag, mark, &mut out);
        }
        out
    }

    fn check_id(&self, map: &Map<'d, '_>, out: &mut Annotations) {
        let Some(id) = map.text("id") else {
            if map.get("id").is_none() && out.name.is_empty() {
                self.warn(
                    map.mark,
                    "no id: findings name the title instead, which may change",
                );
            }
            out.id = if out.name.is_empty() {
                out.title.clone()
            } else {
                out.name.clone()
            };
            return;
        };
        if !is_uuid(&id) {
            let mark = map.mark_of("id").unwrap_or(map.mark);
            self.fail(
                mark,
                format!(
                    "id: {} is no UUID: write one such as 929a690e-bef0-4204-a928-ef5e620d6fcc",
                    quoted(&id)
                ),
            );
        }
        out.id = id.to_ascii_lowercase();
    }

    /// `attack.t1046` is a technique, `attack.discovery` a tactic; other tags are passed over.
    fn tag(&self, tag: &str, mark: Mark, out: &mut Annotations) {
        let Some((space, name)) = tag.split_once('.') else {
            self.fail(
                mark,
                format!(
                    "tags: {} has no namespace: write attack.t1046 or attack.discovery",
                    quoted(tag)
                ),
            );
            return;
        };
        if space != "attack" {
            return;
        }
        let mut letters = name.chars();
        match (letters.next(), letters.next()) {
            (Some('t' | 'T'), Some(digit)) if digit.is_ascii_digit() => {
                out.techniques.push(name.to_ascii_uppercase());
                if out.technique_id.is_empty() {
                    out.technique_id = name.to_ascii_uppercase();
                }
            }
            (Some('g' | 's' | 'G' | 'S'), Some(digit)) if digit.is_ascii_digit() => {}
            _ => {
                let words = name.split(['-', '_']).map(|word| match word {
                    "and" | "or" | "of" => word.to_owned(),
                    word => {
                        let mut letters = word.chars();
                        let first = letters.next().map(|c| c.to_ascii_uppercase());
                        first.into_iter().chain(letters).collect()
                    }
                });
                let tactic = words.collect::<Vec<String>>().join(" ");
                if out.tactic.is_empty() {
                    out.tactic.clone_from(&tactic);
                }
                out.tactics.push(tactic);
            }
        }
    }

    fn logsource(&self, map: &Map<'d, '_>) {
        let Some(node) = map.get("logsource") else {
            self.fail(
                map.mark,
                "logsource is missing: write {product: kubernetes, service: audit}",
            );
            return;
        };
        let known = ["product", "service", "category", "definition"];
        let Some(source) = self.map(node, "logsource", &known) else {
            return;
        };
        for (key, wanted, is_needed) in [
            ("product", "kubernetes", true),
            ("service", "audit", true),
            ("category", "application", false),
        ] {
            match source.get(key) {
                None if is_needed => self.fail(
                    source.mark,
                    format!("logsource: {key} is missing: write {key}: {wanted}"),
                ),
                None => {}
                Some(node) => {
                    if self.text(node, key).is_some_and(|text| text != wanted) {
                        self.fail(
                            node.mark,
                            format!(
                                "logsource: {key}: only audit events of Kubernetes are read: write \
                                 {key}: {wanted}"
                            ),
                        );
                    }
                }
            }
        }
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

/// What of a document shapes its state: its logic, and not its words.
fn shape(map: &Map<'_, '_>) -> String {
    let mut out = String::new();
    for key in ["detection", "correlation"] {
        if let Some(node) = map.get(key) {
            write(node, &mut out);
        }
    }
    if let Some(Value::Map(entries)) = map.get("custom").map(|node| &node.value) {
        for (key, node) in entries {
            if matches!(
                key.name.as_str(),
                "group_by"
                    | "window"
                    | "window_offset"
                    | "lateness"
                    | "dedup"
                    | "emit"
                    | "location"
            ) {
                out.push_str(&key.name);
                write(node, &mut out);
            }
        }
    }
    out
}

fn write(node: &Node, out: &mut String) {
    match &node.value {
        Value::Null => out.push('~'),
        Value::Scalar(text) => out.push_str(&format!("{text:?}")),
        Value::List(items) => {
            out.push('[');
            items.iter().for_each(|item| write(item, out));
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (key, node) in entries {
                out.push_str(&format!("{:?}", key.name));
                write(node, out);
            }
            out.push('}');
        }
    }
}

/// 8-4-4-4-12 hex digits.
fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    lengths.iter().all(|length| {
        parts.next().is_some_and(|part| {
            part.len() == *length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }) && parts.next().is_none()
}

fn is_date(text: &str) -> bool {
    let text = text.replace('/', "-");
    text.parse::<jiff::civil::Date>().is_ok()
}
