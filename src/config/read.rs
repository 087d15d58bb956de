//! Typed reading of the tree. A reader records each error and continues with a default, so that one
//! run reports all errors.
use std::{cell::RefCell, fmt::Display, path::PathBuf, str::FromStr};

use secrecy::SecretString;

use super::{
    components::{PLACES, SECRETS},
    env::{self, Env, ExpandError, Look},
    hints::{Advice, Suggestion},
    settings::{Fact, Table},
    value::{Value, shown},
};
use crate::yaml::{Key, Mark, Node, Problem, Value as Tree};

/// An entry of what the Collector takes as a list of pairs or as a map.
const PAIR: Table = Table {
    facts: &[
        Fact::new("name", "The name."),
        Fact::new("value", "The value that goes with it."),
    ],
    hints: &[],
};

/// What all places of one file share.
pub(crate) struct Reader<'a> {
    env: Env<'a>,
    problems: RefCell<Vec<Problem>>,
    notes: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(env: Env<'a>, problems: Vec<Problem>) -> Self {
        Self {
            env,
            problems: RefCell::new(problems),
            notes: RefCell::default(),
        }
    }

    /// The errors, and the keys without effect, each in no order.
    pub(crate) fn into_found(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems.into_inner(), self.notes.into_inner())
    }

    fn note(&self, mark: Mark, path: &str, why: &str) {
        let text = format!("{path} has no effect here: {why}");
        self.notes.borrow_mut().push(Problem { mark, text });
    }

    /// The place of the whole file.
    pub(crate) fn root<'t>(&'t self, node: &'t Node) -> Place<'t> {
        Place {
            reader: self,
            path: String::new(),
            key: node.mark,
            node,
        }
    }

    pub(super) fn fail(&self, mark: Mark, path: &str, message: impl Display) {
        let text = if path.is_empty() {
            message.to_string()
        } else {
            format!("{path}: {message}")
        };
        self.problems.borrow_mut().push(Problem { mark, text });
    }
}

/// A node and the path that leads to it.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    reader: &'a Reader<'a>,
    path: String,
    /// Where its key is.
    key: Mark,
    node: &'a Node,
}

impl<'a> Place<'a> {
    /// Reports an error of the component with this name.
    pub(crate) fn fail_key(&self, message: impl Display) {
        self.reader.fail(self.key, &self.path, message);
    }

    fn under(&self, key: &'a Key, node: &'a Node) -> Self {
        let path = if self.path.is_empty() {
            key.name.clone()
        } else {
            format!("{}::{}", self.path, key.name)
        };
        Self {
            reader: self.reader,
            path,
            key: key.mark,
            node,
        }
    }

    /// The entries of a map whose keys the user chose. Null has none.
    pub(crate) fn children(&self) -> Vec<(&'a Key, Place<'a>)> {
        match &self.node.value {
            Tree::Map(entries) => entries
                .iter()
                .map(|(key, node)| (key, self.under(key, node)))
                .collect(),
            Tree::Null => Vec::new(),
            _ => {
                self.reader
                    .fail(self.node.mark, &self.path, "expected a map");
                Vec::new()
            }
        }
    }

    /// The entries of a map whose keys the user chose, or of a list of `{name: ..., value: ...}`,
    /// which the Collector takes for the same. Each with its name.
    pub(crate) fn pairs(&self) -> Vec<(String, Place<'a>)> {
        let Tree::List(items) = &self.node.value else {
            let named = |(key, place): (&Key, _)| (key.name.clone(), place);
            return self.children().into_iter().map(named).collect();
        };
        let pair = |node: &'a Node| {
            let item = Place {
                node,
                key: node.mark,
                ..self.clone()
            };
            let item = item.section(&PAIR);
            let name = item.required("name").and_then(|name| name.filled());
            let value = item.place("value");
            if value.is_none() {
                item.fail("value is required");
            }
            let (name, value) = (name?, value?);
            let path = format!("{}::{name}", self.path);
            Some((name, Place { path, ..value }))
        };
        items.iter().filter_map(pair).collect()
    }

    /// Reports an error of the name itself, without showing it.
    pub(crate) fn fail_name(&self, message: impl Display) {
        let around = self.path.rsplit_once("::").map_or("", |(around, _)| around);
        self.reader.fail(self.key, around, message);
    }

    /// The map here, with the keys of `table`. Null is an empty map, as in the Collector.
    pub(crate) fn section(self, table: &Table) -> Section<'a> {
        let entries = self.children();
        for (key, place) in &entries {
            if !table.has(&key.name) && !place.is_harmless(&key.name, table) {
                self.reader
                    .fail(key.mark, &self.path, unknown(&key.name, table));
            }
        }
        Section {
            place: self,
            entries,
            table: *table,
        }
    }

    /// Whether this is a key of the Collector whose value changes nothing here.
    fn is_harmless(&self, key: &str, table: &Table) -> bool {
        let Some(hint) = table.hint(key) else {
            return false;
        };
        if matches!(self.node.value, Tree::Null) {
            // Unless it belongs somewhere else.
            return matches!(hint.advice, Advice::Remove(_));
        }
        let Some(values) = hint.kept else {
            return false;
        };
        if values.is_empty() {
            self.reader.note(self.key, &self.path, hint.advice.why());
            return true;
        }
        let texts: Vec<&str> = match &self.node.value {
            Tree::Scalar(text) => vec![text],
            Tree::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Tree::Scalar(text) => text.as_str(),
                    _ => "",
                })
                .collect(),
            _ => return false,
        };
        texts.iter().all(|text| values.contains(text))
    }

    /// The text here; empty for null.
    pub(crate) fn text_or_null(&self) -> Option<String> {
        match self.node.value {
            Tree::Null => Some(String::new()),
            _ => self.value().map(|value| value.text),
        }
    }

    /// What is here as the value of a header, which may be secret. No message shows any of it.
    pub(crate) fn header(&self) -> Option<SecretString> {
        let value = self.value()?;
        if http::HeaderValue::from_str(&value.text).is_err() {
            value.fail("holds a line end or another character no header has");
            return None;
        }
        Some(value.text.into())
    }

    /// The text here, its variables replaced.
    pub(crate) fn value(&self) -> Option<Value<'a>> {
        let Tree::Scalar(text) = &self.node.value else {
            self.reader
                .fail(self.node.mark, &self.path, "expected a single value");
            return None;
        };
        if let Some(why) = self.unbraced(text) {
            self.reader.fail(self.node.mark, &self.path, why);
            return None;
        }
        match env::expand(text, self.reader.env) {
            Ok(done) => {
                let from = if done.from.is_empty() {
                    String::new()
                } else {
                    format!(" (from {})", done.from.join(", "))
                };
                let (mark, path) = (self.node.mark, self.path.clone());
                Some(Value {
                    reader: self.reader,
                    path,
                    mark,
                    text: done.text,
                    from,
                    hidden: done.hidden,
                })
            }
            Err(problems) => {
                let key = self.path.rsplit("::").next().unwrap_or_default();
                for problem in problems {
                    let why = match problem {
                        // A secret with a default is none.
                        ExpandError::Unset(name) if SECRETS.contains(key) => {
                            format!("environment variable {name} is not set, set it")
                        }
                        problem => problem.to_string(),
                    };
                    self.reader.fail(self.node.mark, &self.path, why);
                }
                None
            }
        }
    }

    /// What is wrong with a text that holds `$NAME`. As in the Collector it is literal, which is a
    /// mistake where it is a whole value, or part of a secret, an address or a path.
    fn unbraced(&self, text: &str) -> Option<String> {
        let key = self.path.rsplit("::").next().unwrap_or_default();
        let is_secret = self.path.split("::").any(|step| SECRETS.contains(step));
        let look = if is_secret {
            Look::Words
        } else if PLACES.contains(key) {
            Look::Anywhere
        } else {
            Look::Whole
        };
        let name = env::unbraced(text, look)?;
        Some(
            if look == Look::Whole && text.trim().len() == name.len() + 1 {
                format!(
                    "${name} is literal here, write ${{env:{name}}} for the environment \
                 variable, or $${name} for this text"
                )
            } else {
                // The name may be a part of a secret.
                "a $ before a word is literal here, write ${env:NAME} for an environment \
             variable, or $$ for a dollar sign"
                    .to_owned()
            },
        )
    }

    /// Whether the text here is one its type reads. What is wrong with it is not reported again.
    pub(crate) fn reads<T: FromStr>(&self) -> bool {
        let Tree::Scalar(text) = &self.node.value else {
            return false;
        };
        env::expand(text, self.reader.env).is_ok_and(|done| done.text.parse::<T>().is_ok())
    }

    /// The elements of a list, or of a text with commas.
    fn values(&self) -> Vec<Value<'a>> {
        if let Tree::List(items) = &self.node.value {
            let item = |node| {
                Place {
                    node,
                    ..self.clone()
                }
                .value()
            };
            return items.iter().filter_map(item).collect();
        }
        if matches!(self.node.value, Tree::Map(_)) {
            let message = "expected a list, or a text with commas";
            self.reader.fail(self.node.mark, &self.path, message);
            return Vec::new();
        }
        let Some(whole) = self.value() else {
            return Vec::new();
        };
        let parts = whole
            .text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts
            .map(|part| Value {
                text: part.to_owned(),
                ..whole.clone()
            })
            .collect()
    }
}

/// A map with known keys.
pub(crate) struct Section<'a> {
    place: Place<'a>,
    entries: Vec<(&'a Key, Place<'a>)>,
    table: Table,
}

impl<'a> Section<'a> {
    /// The place of a key that is given and not null.
    pub(crate) fn get(&self, key: &str) -> Option<Place<'a>> {
        self.place(key)
            .filter(|place| !matches!(place.node.value, Tree::Null))
    }

    /// The place of a key that is given, maybe as null.
    pub(crate) fn place(&self, key: &str) -> Option<Place<'a>> {
        debug_assert!(self.table.has(key), "{key} is missing in its table");
        self.entries
            .iter()
            .find(|(name, _)| name.name == key)
            .map(|(_, place)| place.clone())
    }

    /// Whether no key is given at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the environment holds under a name.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.place.reader.env)(name)
    }

    /// Reports an error of the section as a whole.
    pub(crate) fn fail(&self, message: impl Display) {
        self.place.fail_key(message);
    }

    /// The section under `key`; a key that is not given is an empty section, which is all defaults.
    pub(crate) fn section(&self, key: &str, table: &Table) -> Section<'a> {
        match self.place(key) {
            Some(place) => place.section(table),
            None => Section {
                place: self.place.clone(),
                entries: Vec::new(),
                table: *table,
            },
        }
    }

    pub(crate) fn value(&self, key: &str) -> Option<Value<'a>> {
        self.get(key).and_then(|place| place.value())
    }

    /// The elements of a list; `None` when it is not given.
    pub(crate) fn values(&self, key: &str) -> Option<Vec<Value<'a>>> {
        self.get(key).map(|place| place.values())
    }

    /// The places of the elements of a list that is given.
    pub(crate) fn items(&self, key: &str) -> Option<Vec<Place<'a>>> {
        let place = self.get(key)?;
        let Tree::List(items) = &place.node.value else {
            let message = "expected a list";
            place.reader.fail(place.node.mark, &place.path, message);
            return None;
        };
        let item = |node: &'a Node| Place {
            node,
            key: node.mark,
            ..place.clone()
        };
        Some(items.iter().map(item).collect())
    }

    /// How many elements a list was written with, the wrong ones too.
    pub(crate) fn count(&self, key: &str) -> usize {
        self.get(key).map_or(0, |place| match &place.node.value {
            Tree::List(items) => items.len(),
            Tree::Scalar(text) => match env::expand(text, place.reader.env) {
                Ok(done) => done
                    .text
                    .split(',')
                    .filter(|part| !part.trim().is_empty())
                    .count(),
                // Not known. That was reported, so it must not be reported that there are none.
                Err(_) => 1,
            },
            Tree::Null => 0,
            Tree::Map(_) => 1,
        })
    }

    /// The value of a key that must be given.
    pub(crate) fn required(&self, key: &str) -> Option<Value<'a>> {
        if self.get(key).is_none() {
            self.fail(format_args!("{key} is required"));
        }
        self.value(key)
    }

    /// A path, where no path is a setting too.
    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        self.value(key)
            .map(|value| value.text)
            .filter(|text| !text.is_empty())
            .map(PathBuf::from)
    }
}

/// What to say of a key that is none of a table's. A key whose colon has no blank behind it holds its
/// value too, which may be a secret.
fn unknown(name: &str, table: &Table) -> String {
    let known = table.names();
    let suggestion = |word| {
        let hint = table.hint(word).map(|hint| hint.advice);
        Suggestion::of(word, &known, hint)
    };
    let Some((word, _)) = name.split_once([':', '=', ' ']) else {
        return format!("unknown key {}{}", shown(name), suggestion(name));
    };
    if table.has(word) {
        return format!("expected a blank behind \"{word}:\", before the value");
    }
    format!(
        "unknown key that begins with {}{}",
        shown(word),
        suggestion(word)
    )
}
