//! YAML text to a small tree in which every key and every value knows its line and column.
//!
//! It refuses what a configuration has no use for: a second document, tags, keys that are no text,
//! a key given twice. A file of rules may hold several documents ([`documents`]). Anchors, aliases and `<<` work, within bounds on size and depth.
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

/// Nodes of one file, aliases counted as what they stand for.
const MOST_NODES: usize = 10_000;
/// Maps and lists within each other.
const MOST_DEPTH: usize = 32;

/// A place in a source; line and column are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    /// Which source, in the order in which they were read.
    pub(crate) source: usize,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Mark {
    /// The beginning of a source.
    pub(crate) fn start_of(source: usize) -> Self {
        Self {
            source,
            line: 1,
            column: 1,
        }
    }

    fn of(source: usize, marker: &Marker) -> Self {
        Self {
            source,
            line: marker.line(),
            column: marker.col() + 1,
        }
    }
}

/// Something that is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) mark: Mark,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn new(mark: Mark, text: impl Into<String>) -> Self {
        Self {
            mark,
            text: text.into(),
        }
    }
}

/// A value and where it stands. What an alias stands for keeps the place where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// What a node holds. A scalar is text until a reader asks for a type.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) mark: Mark,
}

/// Reads the one document of `text`, the source of this number. Problems that do not hide the rest
/// go to `problems`; the first that does ends the reading.
pub(crate) fn parse(
    text: &str,
    source: usize,
    problems: &mut Vec<Problem>,
) -> Result<Node, Problem> {
    let mut root = None;
    let mut reader = Reader::new(text, source, MOST_NODES, problems);
    while let Some((event, mark)) = reader.next()? {
        if root.is_some() && matches!(event, Event::DocumentStart(_)) {
            return Err(Problem::new(
                mark,
                "a second YAML document: one file holds one configuration, remove the \"---\"",
            ));
        }
        if let Some(node) = reader.builder.take(event, mark)? {
            root = Some(node);
        }
    }
    Ok(root.unwrap_or(Node {
        mark: Mark::start_of(source),
        value: Value::Null,
    }))
}

/// The documents of one text, and which of their scalars are quoted.
pub(crate) struct Documents {
    /// Their roots, in order. One that holds nothing is left out.
    pub(crate) roots: Vec<Node>,
    quoted: HashSet<Mark>,
}

impl Documents {
    /// Whether a scalar is quoted, or a block of text: then it is a text, whatever it looks like.
    pub(crate) fn is_quoted(&self, node: &Node) -> bool {
        self.quoted.contains(&node.mark)
    }
}

/// Reads all documents of `text`, of at most `nodes` values. Problems as in [`parse`].
pub(crate) fn documents(
    text: &str,
    source: usize,
    nodes: usize,
    problems: &mut Vec<Problem>,
) -> Result<Documents, Problem> {
    let mut found = Documents {
        roots: Vec::new(),
        quoted: HashSet::new(),
    };
    let mut reader = Reader::new(text, source, nodes, problems);
    while let Some((event, mark)) = reader.next()? {
        if let Event::Scalar(_, style, ..) = &event
            && *style != ScalarStyle::Plain
        {
            found.quoted.insert(mark);
        }
        if let Some(node) = reader.builder.take(event, mark)?
            && !matches!(node.value, Value::Null)
        {
            found.roots.push(node);
        }
    }
    Ok(found)
}

/// The events of a text, and the tree that is made of them.
struct Reader<'t, 'p> {
    parser: Parser<'t, StrInput<'t>>,
    source: usize,
    builder: Builder<'p>,
}

impl<'t, 'p> Reader<'t, 'p> {
    fn new(text: &'t str, source: usize, nodes: usize, problems: &'p mut Vec<Problem>) -> Self {
        Self {
            parser: Parser::new_from_str(text),
            source,
            builder: Builder {
                problems,
                open: Vec::new(),
                anchors: HashMap::new(),
                nodes: 0,
                most_nodes: nodes,
            },
        }
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Mark)>, Problem> {
        let Some(event) = self.parser.next_event() else {
            return Ok(None);
        };
        let (event, span) = event.map_err(|error| {
            Problem::new(
                Mark::of(self.source, error.marker()),
                format!("not valid YAML: {}{}", error.info(), hint(error.info())),
            )
        })?;
        let mark = Mark::of(self.source, &span.start);
        Ok(Some((event, mark)))
    }
}

/// What is usually behind words of the parser.
fn hint(info: &str) -> &'static str {
    const HINTS: [(&str, &str); 6] = [
        ("tabs disallowed", ": indent with blanks"),
        (
            "did not find expected key",
            ": do the keys of one map begin in the same column, each with a colon and a blank behind it?",
        ),
        (
            "mapping values are not allowed",
            ": is the indentation right, and is there a blank behind each colon?",
        ),
        ("in quoted scalar", ": is a closing quote missing?"),
        ("unknown anchor", ": a text that begins with * needs quotes"),
        (
            "unexpected character",
            ": a text that begins with it needs quotes",
        ),
    ];
    let found = HINTS.iter().find(|(words, _)| info.contains(words));
    found.map_or("", |(_, hint)| hint)
}

/// A map or list whose end has not come yet.
struct Open {
    mark: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<(Key, Node)>,
        merged: Vec<Node>,
        next: Option<NextKey>,
    },
}

/// The key whose value comes next.
enum NextKey {
    Fresh(Key),
    /// Already there: its value is read and dropped.
    Repeated,
    /// `<<`: its value lends its entries.
    Merge,
}

struct Builder<'a> {
    problems: &'a mut Vec<Problem>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    most_nodes: usize,
}

impl Builder<'_> {
    /// Takes the next event; gives the root when it is whole.
    fn take(&mut self, event: Event<'_>, mark: Mark) -> Result<Option<Node>, Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(mark, tag.as_deref());
                self.grow(mark, 1, 0)?;
                let plain = style == ScalarStyle::Plain;
                if self.take_key(mark, &text, plain) {
                    return Ok(None);
                }
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar(text.into_owned())
                };
                Ok(self.close(Node { mark, value }, anchor))
            }
            Event::Alias(id) => {
                // The parser knows every anchor that has begun; here are those that have ended.
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Problem::new(mark, "an alias of a value that holds it"));
                };
                let (nodes, depth) = measure(&node);
                self.grow(mark, nodes, depth)?;
                if self.wants_key() {
                    return Err(Problem::new(
                        mark,
                        "an alias cannot be a key, write the key",
                    ));
                }
                Ok(self.close(node, 0))
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(mark, anchor, tag.as_deref(), Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map {
                    entries: Vec::new(),
                    merged: Vec::new(),
                    next: None,
                };
                self.begin(mark, anchor, tag.as_deref(), content)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(done) = self.open.pop() else {
                    return Ok(None);
                };
                let value = match done.content {
                    Content::List(items) => Value::List(items),
                    Content::Map {
                        entries, merged, ..
                    } => Value::Map(self.merge(entries, merged)),
                };
                Ok(self.close(
                    Node {
                        mark: done.mark,
                        value,
                    },
                    done.anchor,
                ))
            }
            _ => Ok(None),
        }
    }

    fn refuse_tag(&mut self, mark: Mark, tag: Option<&Tag>) {
        if let Some(tag) = tag {
            let text = if tag.is_yaml_core_schema() {
                format!(
                    "the tag !!{} is not supported, remove it (quotes make a text)",
                    tag.suffix
                )
            } else {
                // It may be a secret, which is not shown.
                "what begins with ! is a tag, which is not supported, remove it (quotes make a text)"
                    .to_owned()
            };
            self.problems.push(Problem::new(mark, text));
        }
    }

    fn grow(&mut self, mark: Mark, nodes: usize, depth: usize) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.most_nodes {
            let text = format!(
                "more than {} values, aliases counted as what they hold",
                self.most_nodes
            );
            return Err(Problem::new(mark, text));
        }
        if self.open.len() + depth > MOST_DEPTH {
            let text = format!("more than {MOST_DEPTH} maps and lists within each other");
            return Err(Problem::new(mark, text));
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                content: Content::Map { next: None, .. },
                ..
            })
        )
    }

    /// Keeps a scalar as the next key, if a key is due.
    fn take_key(&mut self, mark: Mark, text: &str, plain: bool) -> bool {
        let Some(Open {
            content:
                Content::Map {
                    entries,
                    next: next @ None,
                    ..
                },
            ..
        }) = self.open.last_mut()
        else {
            return false;
        };
        let earlier = entries.iter().find(|(key, _)| key.name == text);
        *next = Some(if plain && text == "<<" {
            NextKey::Merge
        } else if let Some((earlier, _)) = earlier {
            let line = earlier.mark.line;
            self.problems.push(Problem::new(
                mark,
                format!("the key {text:?} is defined twice, first in line {line}: remove one"),
            ));
            NextKey::Repeated
        } else {
            NextKey::Fresh(Key {
                name: text.to_owned(),
                mark,
            })
        });
        true
    }

    fn begin(
        &mut self,
        mark: Mark,
        anchor: usize,
        tag: Option<&Tag>,
        content: Content,
    ) -> Result<Option<Node>, Problem> {
        self.refuse_tag(mark, tag);
        self.grow(mark, 1, 1)?;
        if self.wants_key() {
            return Err(Problem::new(
                mark,
                "a map or list cannot be a key, write a text",
            ));
        }
        self.open.push(Open {
            mark,
            anchor,
            content,
        });
        Ok(None)
    }

    /// Puts a whole node where it belongs.
    fn close(&mut self, node: Node, anchor: usize) -> Option<Node> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => return Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map {
                entries,
                merged,
                next,
            }) => match next.take() {
                Some(NextKey::Fresh(key)) => entries.push((key, node)),
                Some(NextKey::Merge) => merged.push(node),
                Some(NextKey::Repeated) | None => {}
            },
        }
        None
    }

    /// The entries of a map with those that `<<` lends it; its own win, then the earlier.
    fn merge(&mut self, mut entries: Vec<(Key, Node)>, merged: Vec<Node>) -> Vec<(Key, Node)> {
        for node in merged {
            let lenders = match node.value {
                Value::List(items) => items,
                _ => vec![node],
            };
            for lender in lenders {
                let Value::Map(lent) = lender.value else {
                    self.problems.push(Problem::new(
                        lender.mark,
                        "\"<<\" takes a map or a list of maps",
                    ));
                    continue;
                };
                for (key, node) in lent {
                    if entries.iter().all(|(own, _)| own.name != key.name) {
                        entries.push((key, node));
                    }
                }
            }
        }
        entries
    }
}

/// Number of nodes, and maps and lists within each other.
fn measure(node: &Node) -> (usize, usize) {
    let (nodes, depth) = match &node.value {
        Value::Null | Value::Scalar(_) => return (1, 0),
        Value::List(items) => sum(items.iter()),
        Value::Map(entries) => sum(entries.iter().map(|(_, node)| node)),
    };
    (nodes + 1, depth + 1)
}

fn sum<'a>(nodes: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    nodes
        .map(measure)
        .fold((0, 0), |(nodes, depth), (more, deeper)| {
            (nodes + more, depth.max(deeper))
        })
}
