//! The selections of a rule: fields, modifiers and values become conditions.

use std::sync::Arc;

use super::{
    condition::{Selections, joined},
    reader::{Map, Reader, Scalar, Typed, hint, is_name, placeholder, quoted},
};
use crate::{
    audit::path::Path,
    rules::{
        derived::Derived,
        matcher::{BadPattern, OneOf, Place},
        pattern::{self, Comparison, Piece, Wanted},
        predicate::{Condition, Kind, Operand, Test},
        settings::parse_proxy,
    },
    yaml::{Key, Mark, Node, Value},
};

/// Bytes of one value.
const MOST_VALUE_BYTES: usize = 8192;

/// The modifiers that there are.
const MODIFIERS: [&str; 19] = [
    "contains",
    "startswith",
    "endswith",
    "all",
    "re",
    "i",
    "m",
    "s",
    "cidr",
    "exists",
    "cased",
    "fieldref",
    "lt",
    "lte",
    "gt",
    "gte",
    "neq",
    "expand",
    "ignorecase",
];

/// Modifiers of Sigma that mean nothing for audit events, and what to write.
const REFUSED: [(&str, &str); 17] = [
    (
        "base64",
        "audit events hold plain text: write the text itself",
    ),
    (
        "base64offset",
        "audit events hold plain text: write the text itself",
    ),
    ("wide", "audit events are UTF-8: remove it"),
    ("utf16", "audit events are UTF-8: remove it"),
    ("utf16le", "audit events are UTF-8: remove it"),
    ("utf16be", "audit events are UTF-8: remove it"),
    (
        "windash",
        "it is for command lines of Windows: list the spellings",
    ),
    (
        "minute",
        "parts of a time are not supported: remove the field",
    ),
    (
        "hour",
        "parts of a time are not supported: remove the field",
    ),
    ("day", "parts of a time are not supported: remove the field"),
    (
        "week",
        "parts of a time are not supported: remove the field",
    ),
    (
        "month",
        "parts of a time are not supported: remove the field",
    ),
    (
        "year",
        "parts of a time are not supported: remove the field",
    ),
    ("equals", "it is the default: remove it"),
    ("any", "it is the default: remove it"),
    ("not", "write neq, or not in the condition"),
    ("regex", "write re"),
];

/// What stands behind a field name.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a modifier that is given or not"
)]
struct Modifiers {
    place: Place,
    all: bool,
    cased: bool,
    neq: bool,
    exists: bool,
    fieldref: bool,
    cidr: bool,
    expand: bool,
    compare: Option<Comparison>,
    re: bool,
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
}

impl<'d> Reader<'d> {
    /// The selections of `detection`.
    pub(super) fn selections(&self, detection: &Map<'d, '_>) -> Selections {
        let mut selections = Selections::new();
        for (key, node) in detection.entries {
            match key.name.as_str() {
                "condition" => {}
                "timeframe" => self.fail(
                    key.mark,
                    "timeframe is Sigma 1: write a correlation with timespan",
                ),
                name => {
                    let condition = self.selection(name, node);
                    selections.insert(
                        name.to_owned(),
                        condition.unwrap_or(Condition::constant(false)),
                    );
                }
            }
        }
        selections
    }

    /// One selection: a map of fields, or a list of such maps.
    pub(super) fn selection(&self, name: &str, node: &'d Node) -> Option<Condition> {
        match &node.value {
            Value::Map(entries) if entries.is_empty() => {
                self.fail(
                    node.mark,
                    format!("selection {name} is empty: name a field"),
                );
                None
            }
            Value::Map(entries) => Some(self.fields(entries)),
            Value::List(items) if items.is_empty() => {
                self.fail(
                    node.mark,
                    format!("selection {name} is empty: name a field"),
                );
                None
            }
            Value::List(items) => {
                let parts = items.iter().map(|item| match &item.value {
                    Value::Map(entries) if !entries.is_empty() => self.fields(entries),
                    _ => {
                        self.keywords(item.mark);
                        Condition::constant(false)
                    }
                });
                Some(joined(parts.collect(), Condition::Any))
            }
            Value::Null | Value::Scalar(_) => {
                self.keywords(node.mark);
                None
            }
        }
    }

    fn keywords(&self, mark: Mark) {
        self.fail(
            mark,
            "keywords search a whole event, which is not supported: name the field, such as \
             requestURI|contains",
        );
    }

    fn fields(&self, entries: &'d [(Key, Node)]) -> Condition {
        let parts = entries
            .iter()
            .map(|(key, node)| self.field(key, node).unwrap_or(Condition::constant(false)));
        joined(parts.collect(), Condition::All)
    }

    fn field(&self, key: &Key, node: &'d Node) -> Option<Condition> {
        let mut words = key.name.split('|');
        let name = words.next().unwrap_or_default();
        if name.is_empty() {
            self.keywords(key.mark);
            return None;
        }
        let modifiers = self.modifiers(key, words)?;
        if let Some(parameter) = placeholder(name) {
            return self.folded(parameter, key, node);
        }
        let operand = self.operand(name, key.mark)?;
        let values = self.values(&key.name, node, modifiers)?;
        let test = |wanted| {
            Condition::Test(Arc::new(Test {
                operand: operand.clone(),
                wanted,
                text: format!("{} (line {})", key.name, key.mark.line),
            }))
        };
        if modifiers.exists {
            let [one] = values.as_slice() else {
                self.fail(key.mark, "exists takes one value, true or false");
                return None;
            };
            let Typed::Bool(wanted) = one.value else {
                self.fail(one.mark, "exists takes true or false");
                return None;
            };
            return Some(test(Kind::Exists(wanted)));
        }
        let condition = if modifiers.fieldref {
            let parts = values.iter().map(|value| {
                let other = self.operand(value.text(), value.mark)?;
                Some(test(Kind::FieldRef {
                    other,
                    place: modifiers.place,
                    cased: modifiers.cased,
                }))
            });
            joined(parts.collect::<Option<_>>()?, join_of(modifiers))
        } else if modifiers.all {
            let parts = values.iter().map(|value| {
                self.one_of(key, std::slice::from_ref(value), modifiers)
                    .map(test)
            });
            joined(parts.collect::<Option<_>>()?, Condition::All)
        } else {
            test(self.one_of(key, &values, modifiers)?)
        };
        Some(if modifiers.neq {
            Condition::Not(Box::new(condition))
        } else {
            condition
        })
    }

    /// What a value is taken from; `cluster` is known to groups alone.
    pub(super) fn operand(&self, name: &str, mark: Mark) -> Option<Operand> {
        if name == "cluster" {
            self.fail(
                mark,
                "cluster is no field of an event: it is always part of the group",
            );
            return None;
        }
        if let Some(derived) = Derived::named(name) {
            return Some(Operand::Derived(derived));
        }
        if name.starts_with("source.") {
            let known = Derived::NAMES;
            self.fail(
                mark,
                format!(
                    "no derived field is named {}{}",
                    quoted(name),
                    hint(name, &known)
                ),
            );
            return None;
        }
        match Path::parse(name) {
            Ok(path) => {
                if !path.begins_as_audit_event() {
                    self.warn(
                        mark,
                        format!("audit events of Kubernetes have no field {}", quoted(name)),
                    );
                }
                Some(Operand::Field(path))
            }
            Err(error) => {
                self.fail(mark, format!("{} is no path: {error}", quoted(name)));
                None
            }
        }
    }

    fn modifiers<'n>(&self, key: &Key, names: impl Iterator<Item = &'n str>) -> Option<Modifiers> {
        let mut modifiers = Modifiers::default();
        let mut given: Vec<&str> = Vec::new();
        for name in names {
            if given.contains(&name) {
                self.fail(key.mark, format!("the modifier {name} is given twice"));
                return None;
            }
            given.push(name);
            if let Err(text) = modifiers.add(name) {
                self.fail(key.mark, format!("{}: {text}", quoted(&key.name)));
                return None;
            }
        }
        if let Some(text) = modifiers.contradiction(&given) {
            self.fail(key.mark, format!("{}: {text}", quoted(&key.name)));
            return None;
        }
        Some(modifiers)
    }

    /// A comparison of a parameter with constants: so or not, for all events.
    fn folded(&self, parameter: &str, key: &Key, node: &'d Node) -> Option<Condition> {
        let Some(values) = self.parameters.get(parameter) else {
            self.fail(
                key.mark,
                format!("no parameter {parameter}: write it under custom: parameters:"),
            );
            return None;
        };
        let wanted = self.values(&key.name, node, Modifiers::default())?;
        let is_one = wanted
            .iter()
            .any(|wanted| values.iter().any(|value| value.text() == wanted.text()));
        Some(Condition::constant(is_one))
    }

    fn values(&self, name: &str, node: &'d Node, modifiers: Modifiers) -> Option<Vec<Scalar>> {
        let nodes = match &node.value {
            Value::List(nodes) if nodes.is_empty() => {
                self.fail(
                    node.mark,
                    format!("{}: the list is empty, name a value", quoted(name)),
                );
                return None;
            }
            Value::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut values = Vec::with_capacity(nodes.len());
        let mut well = true;
        for node in nodes {
            let Some(scalar) = self.scalar(node) else {
                let what = match node.value {
                    Value::Map(_) => {
                        "a map is no value: write the path of the field, such as \
                         objectRef.resource"
                    }
                    _ => "a list in a list is no value: write one list",
                };
                self.fail(node.mark, format!("{}: {what}", quoted(name)));
                well = false;
                continue;
            };
            if scalar.text().len() > MOST_VALUE_BYTES {
                self.fail(
                    node.mark,
                    format!(
                        "{}: a value of more than {MOST_VALUE_BYTES} bytes",
                        quoted(name)
                    ),
                );
                well = false;
            } else if modifiers.expand {
                well &= self.expand(scalar, &mut values).is_some();
            } else {
                values.push(scalar);
            }
        }
        well.then_some(values)
    }

    /// Puts in the parameters for the placeholders of a value.
    fn expand(&self, scalar: Scalar, values: &mut Vec<Scalar>) -> Option<()> {
        let Typed::Text(text) = &scalar.value else {
            values.push(scalar);
            return Some(());
        };
        let Some((before, name, behind)) = first_placeholder(text) else {
            values.push(scalar);
            return Some(());
        };
        let Some(parameter) = self.parameters.get(name) else {
            self.fail(
                scalar.mark,
                format!("no parameter {name}: write it under custom: parameters:"),
            );
            return None;
        };
        if parameter.is_empty() {
            self.fail(
                scalar.mark,
                format!(
                    "the parameter {name} is empty: this rule needs a list, give it as \
                     custom: {{rule: NAME, parameters: {{{name}: [...]}}}} in a file of yours"
                ),
            );
            return None;
        }
        for value in parameter {
            values.push(if before.is_empty() && behind.is_empty() {
                Scalar {
                    value: value.value.clone(),
                    mark: scalar.mark,
                }
            } else {
                Scalar {
                    value: Typed::Text(format!("{before}{}{behind}", value.text())),
                    mark: scalar.mark,
                }
            });
        }
        Some(())
    }

    fn one_of(&self, key: &Key, values: &[Scalar], modifiers: Modifiers) -> Option<Kind> {
        let mut null = false;
        let mut wanted = Vec::with_capacity(values.len());
        for value in values {
            match modifiers.wanted(value) {
                Ok(Some(one)) => wanted.push(one),
                Ok(None) => null = true,
                Err(text) => {
                    self.fail(value.mark, format!("{}: {text}", quoted(&key.name)));
                    return None;
                }
            }
        }
        match OneOf::new(&wanted, modifiers.cased) {
            Ok(values) => Some(Kind::OneOf { values, null }),
            Err(error) => {
                let mark = values.first().map_or(key.mark, |value| value.mark);
                let name = quoted(&key.name);
                let text = match error {
                    BadPattern::Syntax(text) => format!(
                        "{name}: no regular expression: {text} (linear time: no look-around, no \
                         backreferences)"
                    ),
                    BadPattern::TooLarge => format!("{name}: {error}"),
                };
                self.fail(mark, text);
                None
            }
        }
    }
}

fn join_of(modifiers: Modifiers) -> fn(Vec<Condition>) -> Condition {
    if modifiers.all {
        Condition::All
    } else {
        Condition::Any
    }
}

/// The first `%name%` in a text, and what is around it.
fn first_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('%')?;
    let (name, behind) = rest.split_once('%')?;
    is_name(name).then_some((before, name, behind))
}

impl Modifiers {
    fn add(&mut self, name: &str) -> Result<(), String> {
        let mut place = |place| {
            let is_first = self.place == Place::Whole;
            self.place = place;
            if is_first {
                Ok(())
            } else {
                Err("contains, startswith and endswith exclude each other".to_owned())
            }
        };
        match name {
            "contains" => return place(Place::Inside),
            "startswith" => return place(Place::Start),
            "endswith" => return place(Place::End),
            "all" => self.all = true,
            "cased" => self.cased = true,
            "neq" => self.neq = true,
            "exists" => self.exists = true,
            "fieldref" => self.fieldref = true,
            "cidr" => self.cidr = true,
            "expand" => self.expand = true,
            "re" => self.re = true,
            "i" | "ignorecase" => self.ignore_case = true,
            "m" => self.multi_line = true,
            "s" => self.dot_all = true,
            "lt" => self.compare = Some(Comparison::Less),
            "lte" => self.compare = Some(Comparison::LessOrEqual),
            "gt" => self.compare = Some(Comparison::Greater),
            "gte" => self.compare = Some(Comparison::GreaterOrEqual),
            other => {
                let refused = REFUSED.iter().find(|(name, _)| *name == other);
                return Err(match refused {
                    Some((name, what)) => format!("the modifier {name} is not supported, {what}"),
                    None => format!(
                        "no modifier is named {}{}",
                        quoted(other),
                        hint(other, &MODIFIERS)
                    ),
                });
            }
        }
        Ok(())
    }

    /// Why these modifiers do not go together.
    fn contradiction(&self, given: &[&str]) -> Option<String> {
        let compares = given
            .iter()
            .filter(|name| matches!(**name, "lt" | "lte" | "gt" | "gte"))
            .count();
        let kinds = [
            self.re,
            self.cidr,
            self.exists,
            self.fieldref,
            self.compare.is_some(),
        ];
        let kinds = kinds.iter().filter(|kind| **kind).count();
        let flags = self.ignore_case || self.multi_line || self.dot_all;
        if kinds > 1 || compares > 1 {
            Some("re, cidr, exists, fieldref, lt, lte, gt and gte exclude each other".to_owned())
        } else if kinds == 1 && !self.fieldref && self.place != Place::Whole {
            Some("contains, startswith and endswith are for text: remove one modifier".to_owned())
        } else if flags && !self.re {
            Some("i, m and s are flags of re: write re before them".to_owned())
        } else if self.cased && kinds == 1 && !self.fieldref {
            Some("cased is for text: remove it (re is cased unless i follows it)".to_owned())
        } else if self.exists && (self.all || self.neq || self.expand) {
            Some("exists stands alone: write exists with true or false".to_owned())
        } else {
            None
        }
    }

    /// A value as it is to be compared; `None` for null.
    fn wanted(&self, value: &Scalar) -> Result<Option<Wanted>, String> {
        let text = value.text();
        if self.re {
            if text.is_empty() {
                return Err("re with an empty expression matches everything".to_owned());
            }
            return Ok(Some(Wanted::Expression {
                text: text.to_owned(),
                ignore_case: self.ignore_case,
                multi_line: self.multi_line,
                dot_all: self.dot_all,
            }));
        }
        if self.cidr {
            return parse_proxy(text)
                .map(|network| Some(Wanted::Network(network)))
                .map_err(|error| format!("no network: {error}"));
        }
        if let Some(how) = self.compare {
            return match &value.value {
                Typed::Number(number, _) => Ok(Some(Wanted::Compare(how, *number))),
                _ => Err(format!("expected a number, found {}", quoted(text))),
            };
        }
        if self.place == Place::Whole {
            match &value.value {
                Typed::Null => return Ok(None),
                Typed::Bool(value) => return Ok(Some(Wanted::Bool(*value))),
                Typed::Number(number, _) => return Ok(Some(Wanted::Number(*number))),
                Typed::Text(_) => {}
            }
        }
        if text.is_empty() && self.place != Place::Whole {
            return Err(
                "an empty text is part of every text: write a text, or exists: true".to_owned(),
            );
        }
        let mut pieces = pattern::pieces(text);
        if matches!(self.place, Place::Inside | Place::End) {
            pieces.insert(0, Piece::Any);
        }
        if matches!(self.place, Place::Inside | Place::Start) {
            pieces.push(Piece::Any);
        }
        Ok(Some(Wanted::Text(pieces)))
    }
}
