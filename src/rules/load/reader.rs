//! Reading a YAML tree of rules: values by type, every problem with its place.

use std::{cell::RefCell, collections::BTreeMap};

use crate::{
    visible,
    yaml::{Documents, Key, Mark, Node, Problem, Value},
};

/// The parameters of a file: what `%name%` is.
pub(super) type Parameters = BTreeMap<String, Vec<Scalar>>;

/// One value without parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed {
    Null,
    Bool(bool),
    /// With its spelling.
    Number(f64, String),
    Text(String),
}

/// A value without parts, where it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scalar {
    pub(super) value: Typed,
    pub(super) mark: Mark,
}

impl Scalar {
    /// How it is spelled.
    pub(super) fn text(&self) -> &str {
        match &self.value {
            Typed::Null => "",
            Typed::Bool(true) => "true",
            Typed::Bool(false) => "false",
            Typed::Number(_, text) | Typed::Text(text) => text,
        }
    }
}

/// What reading a file needs.
pub(super) struct Reader<'d> {
    pub(super) documents: &'d Documents,
    pub(super) parameters: Parameters,
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

/// A map, in which each key is known or wrong.
pub(super) struct Map<'d, 'r> {
    pub(super) reader: &'r Reader<'d>,
    pub(super) entries: &'d [(Key, Node)],
    pub(super) mark: Mark,
}

impl<'d> Reader<'d> {
    /// Notes that something is wrong.
    pub(super) fn fail(&self, mark: Mark, text: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::new(mark, text));
    }

    /// Notes that something may be meant otherwise.
    pub(super) fn warn(&self, mark: Mark, text: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem::new(mark, text));
    }

    /// A map with these keys; `None` and a problem when it is none.
    pub(super) fn map<'r>(
        &'r self,
        node: &'d Node,
        what: &str,
        known: &[&str],
    ) -> Option<Map<'d, 'r>> {
        let map = self.any_map(node, what)?;
        for (key, _) in map.entries {
            if !known.contains(&key.name.as_str()) {
                let hint = hint(&key.name, known);
                self.fail(
                    key.mark,
                    format!("{what}: unknown key {}{hint}", quoted(&key.name)),
                );
            }
        }
        Some(map)
    }

    /// A map whose keys are names of the author.
    pub(super) fn any_map<'r>(&'r self, node: &'d Node, what: &str) -> Option<Map<'d, 'r>> {
        if let Value::Map(entries) = &node.value {
            Some(Map {
                reader: self,
                entries,
                mark: node.mark,
            })
        } else {
            self.fail(
                node.mark,
                format!("{what}: expected a map of keys and values"),
            );
            None
        }
    }

    /// A value without parts.
    pub(super) fn scalar(&self, node: &Node) -> Option<Scalar> {
        let value = match &node.value {
            Value::Null => Typed::Null,
            Value::Scalar(text) if self.documents.is_quoted(node) => Typed::Text(text.clone()),
            Value::Scalar(text) => typed(text),
            Value::List(_) | Value::Map(_) => return None,
        };
        Some(Scalar {
            value,
            mark: node.mark,
        })
    }

    /// A value, or the value of the parameter that it names.
    pub(super) fn filled(&self, node: &Node, what: &str) -> Option<Scalar> {
        let Some(scalar) = self.scalar(node) else {
            self.fail(node.mark, format!("{what}: expected one value"));
            return None;
        };
        let Typed::Text(text) = &scalar.value else {
            return Some(scalar);
        };
        let Some(name) = placeholder(text) else {
            return Some(scalar);
        };
        match self.parameters.get(name).map(Vec::as_slice) {
            Some([one]) => Some(Scalar {
                value: one.value.clone(),
                mark: node.mark,
            }),
            Some(_) => {
                self.fail(
                    node.mark,
                    format!("{what}: the parameter {name} is a list, expected one value"),
                );
                None
            }
            None => {
                self.fail(
                    node.mark,
                    format!("{what}: no parameter {name}: write it under custom: parameters:"),
                );
                None
            }
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Scalar(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Scalar(_) | Value::Null => {
                self.fail(node.mark, format!("{what}: is empty, write a text"));
                None
            }
            Value::List(_) | Value::Map(_) => {
                self.fail(node.mark, format!("{what}: expected a text"));
                None
            }
        }
    }

    /// A text, or a list of texts, each where it is.
    pub(super) fn texts(&self, node: &'d Node, what: &str) -> Vec<(String, Mark)> {
        let nodes = match &node.value {
            Value::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let texts = nodes
            .iter()
            .map(|node| Some((self.text(node, what)?, node.mark)));
        texts.flatten().collect()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, node: &Node, what: &str) -> Option<bool> {
        if let Some(Typed::Bool(value)) = self.scalar(node).map(|scalar| scalar.value) {
            return Some(value);
        }
        self.fail(node.mark, format!("{what}: expected true or false"));
        None
    }
}

impl<'d> Map<'d, '_> {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'d Node> {
        let found = self.entries.iter().find(|(own, _)| own.name == key);
        found.map(|(_, node)| node)
    }

    /// Where a key is.
    pub(super) fn mark_of(&self, key: &str) -> Option<Mark> {
        let found = self.entries.iter().find(|(own, _)| own.name == key);
        found.map(|(key, _)| key.mark)
    }

    /// The text of a key.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(|node| self.reader.text(node, key))
    }

    /// The texts of a key.
    pub(super) fn texts(&self, key: &str) -> Vec<(String, Mark)> {
        self.get(key)
            .map(|node| self.reader.texts(node, key))
            .unwrap_or_default()
    }

    /// The text of a key that is one of these words; `None` without a key too.
    pub(super) fn word(&self, key: &str, words: &[&'static str]) -> Option<&'static str> {
        let node = self.get(key)?;
        let text = self.reader.filled(node, key)?.text().to_owned();
        let found = words.iter().find(|word| **word == text).copied();
        if found.is_none() {
            let (last, others) = words.split_last()?;
            let expected = if others.is_empty() {
                (*last).to_owned()
            } else {
                format!("{} or {last}", others.join(", "))
            };
            self.reader.fail(
                node.mark,
                format!("{key}: expected {expected}, found {}", quoted(&text)),
            );
        }
        found
    }
}

/// The name in `%name%`, when that is all there is.
pub(super) fn placeholder(text: &str) -> Option<&str> {
    let name = text.strip_prefix('%')?.strip_suffix('%')?;
    is_name(name).then_some(name)
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What a scalar without quotes is.
fn typed(text: &str) -> Typed {
    match text {
        "true" | "True" | "TRUE" => return Typed::Bool(true),
        "false" | "False" | "FALSE" => return Typed::Bool(false),
        _ => {}
    }
    match crate::rules::matcher::number(text) {
        Some(number) if number.is_finite() => Typed::Number(number, text.to_owned()),
        _ => Typed::Text(text.to_owned()),
    }
}

/// What a name that is not known may mean.
pub(super) fn hint(name: &str, known: &[&str]) -> String {
    let lower = name.to_ascii_lowercase();
    let near = known
        .iter()
        .map(|known| {
            (
                strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase()),
                known,
            )
        })
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((distance, known))
            if distance <= 1 + known.len() / 4 && distance < known.len().min(name.len()) =>
        {
            format!(", did you mean {known}?")
        }
        _ => String::new(),
    }
}

/// A text of others in a message: visible, and not too long.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 100;
    let shown = text.get(..text.floor_char_boundary(MOST)).unwrap_or(text);
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("\"{}{more}\"", visible::escaped(shown))
}

/// The value of a key of a map.
pub(super) fn find<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let found = entries.iter().find(|(own, _)| own.name == key);
    found.map(|(_, node)| node)
}
