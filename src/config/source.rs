//! Where a configuration comes from, and how several sources become one tree.
//!
//! As in the Collector, sources are merged in their order: maps with maps, anything else is replaced
//! by what comes later. A key may name several within each other (`a::b: 1`). A value that is
//! `${file:PATH}` as a whole may be a map or list of its own.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{
    env::{self, Env},
    error::ConfigError,
};
use crate::visible;
use crate::yaml::{self, Key, Mark, Node, Problem, Value};

/// Files that values may pull in, all in all; enough for anybody, and an end to a file in itself.
const MOST_INCLUDED: usize = 64;

/// One source of a configuration, as the command line names it.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// `--config PATH` or `--config file:PATH`.
    File(PathBuf),
    /// `--config env:NAME`: an environment variable that holds YAML.
    Variable(String),
    /// `--config yaml:TEXT`: YAML.
    Yaml(String),
    /// `--set KEY=VALUE`: one setting.
    Set {
        /// Its path, with dots or double colons.
        key: String,
        /// Its value, YAML.
        value: String,
    },
}

// Yaml and values may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Source {
    /// Reads what `--set` takes: `service.telemetry.logs.level=debug`.
    ///
    /// # Errors
    /// A text for people when there is no key or no value.
    pub fn set(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("expected KEY=VALUE, such as service.telemetry.logs.level=debug")?;
        let key = key.trim().replace('.', "::");
        if key.split("::").any(|step| step.trim().is_empty()) {
            return Err(
                "expected KEY=VALUE with a key such as service.telemetry.logs.level".into(),
            );
        }
        Ok(Self::Set {
            key,
            value: value.to_owned(),
        })
    }

    /// What messages call it. Holds no value.
    fn name(&self) -> String {
        match self {
            Self::File(path) => visible::path(path).to_string(),
            Self::Variable(name) => format!("env:{name}"),
            Self::Yaml(_) => "yaml:".to_owned(),
            Self::Set { key, .. } => format!("--set {}", key.replace("::", ".")),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    /// Reads what `--config` takes: a path, or `file:`, `env:` or `yaml:` and what belongs to it.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        match scheme {
            "file" => Ok(Self::File(rest.into())),
            "env" => Ok(Self::Variable(rest.to_owned())),
            "yaml" => Ok(Self::Yaml(rest.to_owned())),
            "http" | "https" => Err(format!(
                "{scheme}: is not available, fetch the file first and give its path"
            )),
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// The merged tree of all sources, and its errors.
pub(super) struct Loaded {
    /// The merged tree; `None` when a part of it could not be read.
    pub(super) root: Option<Node>,
    pub(super) problems: Vec<Problem>,
    pub(super) places: Places,
}

/// The names of the sources, those that values pulled in too.
#[derive(Default)]
pub(super) struct Places(Vec<Named>);

struct Named {
    name: String,
    /// Whether a line in it means anything to anybody.
    lines: bool,
}

impl Places {
    pub(super) fn add(&mut self, name: String, lines: bool) -> usize {
        self.0.push(Named { name, lines });
        self.0.len() - 1
    }

    /// All problems, or notes, as lines for people, in the order of the sources.
    pub(super) fn lines(&self, mut problems: Vec<Problem>) -> Vec<String> {
        problems.sort();
        problems.dedup();
        let line = |Problem { mark, text }: Problem| match self.0.get(mark.source) {
            Some(Named { name, lines: true }) => {
                format!("{name}:{}:{}: {text}", mark.line, mark.column)
            }
            Some(Named { name, .. }) => format!("{name}: {text}"),
            None => text,
        };
        // Names of keys and of variables are in it as they were written.
        let shown = |line: String| visible::escaped(&line).to_string();
        problems.into_iter().map(line).map(shown).collect()
    }

    /// All problems, as the error that they are.
    pub(super) fn error(&self, problems: Vec<Problem>) -> ConfigError {
        ConfigError {
            problems: self.lines(problems),
        }
    }
}

/// Reads sources and merges them.
pub(super) fn load(sources: &[Source], env: Env<'_>) -> Loaded {
    let mut loading = Loading {
        env,
        problems: Vec::new(),
        places: Places::default(),
        included: 0,
    };
    let mut root = Some(Node {
        mark: Mark::start_of(0),
        value: Value::Null,
    });
    for source in sources {
        root = match (loading.source(source), root) {
            // A source without anything in it says nothing.
            (
                Some(Node {
                    value: Value::Null, ..
                }),
                base,
            ) => base,
            (Some(over), Some(base)) => Some(merge(base, over)),
            _ => None,
        };
    }
    Loaded {
        root,
        problems: loading.problems,
        places: loading.places,
    }
}

/// The same for one text, which messages call `name`.
pub(super) fn load_text(name: &str, text: &str, env: Env<'_>) -> Loaded {
    let mut loading = Loading {
        env,
        problems: Vec::new(),
        places: Places::default(),
        included: 0,
    };
    let source = loading.places.add(name.to_owned(), true);
    Loaded {
        root: loading.tree(text, source),
        problems: loading.problems,
        places: loading.places,
    }
}

struct Loading<'a> {
    env: Env<'a>,
    problems: Vec<Problem>,
    places: Places,
    included: usize,
}

impl Loading<'_> {
    /// The tree of a source; `None` when it has none, which was reported.
    fn source(&mut self, source: &Source) -> Option<Node> {
        let name = source.name();
        let text = match source {
            Source::File(path) => env::read(path),
            Source::Variable(name) => (self.env)(name).ok_or_else(|| {
                format!("environment variable {name} is not set, set it to a configuration")
            }),
            Source::Yaml(text) => Ok(text.clone()),
            Source::Set { value, .. } => Ok(value.clone()),
        };
        // What cannot be read has no lines.
        let lines = text.is_ok() && !matches!(source, Source::Set { .. });
        let place = self.places.add(name, lines);
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                self.problems.push(Problem::new(Mark::start_of(place), why));
                return None;
            }
        };
        let tree = self.tree(&text, place)?;
        Some(match source {
            Source::Set { key, .. } => nested(key, Mark::start_of(place), tree),
            _ => tree,
        })
    }

    fn tree(&mut self, text: &str, source: usize) -> Option<Node> {
        match yaml::parse(text, source, &mut self.problems) {
            Ok(node) => Some(self.complete(node)),
            Err(fatal) => {
                self.problems.push(fatal);
                None
            }
        }
    }

    /// Takes keys that name several apart, and pulls in what `${file:...}` names.
    fn complete(&mut self, node: Node) -> Node {
        let mark = node.mark;
        let value = match node.value {
            Value::Map(entries) => {
                let empty = Node {
                    mark,
                    value: Value::Map(Vec::new()),
                };
                let whole = entries.into_iter().fold(empty, |whole, (key, node)| {
                    let node = self.complete(node);
                    merge(whole, nested(&key.name, key.mark, node))
                });
                whole.value
            }
            Value::List(items) => {
                Value::List(items.into_iter().map(|item| self.complete(item)).collect())
            }
            Value::Scalar(text) => match self.included(&text, mark) {
                Some(node) => return node,
                None => Value::Scalar(text),
            },
            Value::Null => Value::Null,
        };
        Node { mark, value }
    }

    /// The map or list that a file or variable holds, where a value is that as a whole. Anything
    /// else, and what is wrong with it, is for the reader of the value.
    fn included(&mut self, text: &str, mark: Mark) -> Option<Node> {
        let (name, content) = if let Some(path) = env::whole_file(text) {
            (visible::path(&path).to_string(), env::read(&path).ok()?)
        } else {
            let (name, content) = env::whole_variable(text, self.env)?;
            (format!("env:{name}"), content)
        };
        // Most of them hold a secret, which is no YAML to complain of.
        let known = self.problems.len();
        let source = self.places.add(name, true);
        let parsed = yaml::parse(&content, source, &mut self.problems);
        let node = match parsed {
            Ok(node) if matches!(node.value, Value::Map(_) | Value::List(_)) => node,
            _ => {
                self.problems.truncate(known);
                return None;
            }
        };
        self.included += 1;
        if self.included > MOST_INCLUDED {
            let text = format!(
                "more than {MOST_INCLUDED} files or variables are pulled in, is one in itself?"
            );
            if self.included == MOST_INCLUDED + 1 {
                self.problems.push(Problem::new(mark, text));
            }
            return Some(Node {
                mark,
                value: Value::Null,
            });
        }
        Some(self.complete(node))
    }
}

/// A node under a key that may name several within each other.
fn nested(key: &str, mark: Mark, node: Node) -> Node {
    key.rsplit("::").fold(node, |node, step| Node {
        mark,
        value: Value::Map(vec![(
            Key {
                name: step.trim().to_owned(),
                mark,
            },
            node,
        )]),
    })
}

/// One tree over another.
fn merge(base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (Value::Map(mut entries), Value::Map(more)) => {
            for (key, node) in more {
                match entries.iter_mut().find(|(known, _)| known.name == key.name) {
                    Some((_, known)) => {
                        let empty = Node {
                            mark: known.mark,
                            value: Value::Null,
                        };
                        *known = merge(std::mem::replace(known, empty), node);
                    }
                    None => entries.push((key, node)),
                }
            }
            Node {
                mark: base.mark,
                value: Value::Map(entries),
            }
        }
        (_, value) => Node {
            mark: over.mark,
            value,
        },
    }
}
