//! The check of a filter when it is loaded: names, types as far as they are known, and what
//! evaluating it costs. What is accepted can only fail for a value, never for a name.

use std::{collections::BTreeMap, sync::Arc};

use cel::{
    IdedExpr,
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, SourceInfo,
    },
};
use regex::{Regex, RegexBuilder};

use super::{
    error::FilterError,
    schema::{FINDING, SCHEMA, Shape},
};

/// The one variable.
pub(super) const VARIABLE: &str = "finding";
/// Loops within each other: `all`, `exists`, `exists_one`, `map`, `filter`.
const MOST_LOOPS: usize = 2;
/// Expressions within each other. Evaluating takes stack for each.
const MOST_DEPTH: usize = 64;
/// Bytes that a compiled pattern may take.
const PATTERN_BYTES: usize = 1 << 20;
/// Functions, beside operators.
const FUNCTIONS: [&str; 11] = [
    "bool",
    "contains",
    "double",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// What evaluating costs: visits of expressions, by how often the length of a list multiplies them.
#[derive(Clone, Debug, Default)]
pub(super) struct Cost {
    visits: Vec<u64>,
    /// The length of the longest list that is written out.
    written: usize,
    /// Additions, each of which may join two lists.
    additions: u64,
}

impl Cost {
    fn visit(&mut self, loops: usize) {
        if self.visits.len() <= loops {
            self.visits.resize(loops + 1, 0);
        }
        if let Some(visits) = self.visits.get_mut(loops) {
            *visits += 1;
        }
    }

    /// The most visits for a finding whose lists have at most this many elements.
    pub(super) fn visits(&self, longest: usize) -> u64 {
        let longest = u64::try_from(longest.max(self.written)).unwrap_or(u64::MAX);
        let longest = longest.max(1).saturating_mul(1 + self.additions);
        let mut all = 0_u64;
        let mut times = 1_u64;
        for visits in &self.visits {
            all = all.saturating_add(visits.saturating_mul(times));
            times = times.saturating_mul(longest);
        }
        all
    }
}

/// What a check has found out.
pub(super) struct Checked {
    pub(super) cost: Cost,
    pub(super) patterns: Arc<BTreeMap<String, Regex>>,
}

/// Checks a whole filter.
pub(super) fn check(expression: &IdedExpr, info: &SourceInfo) -> Result<Checked, FilterError> {
    let mut checker = Checker {
        info,
        scope: Vec::new(),
        loops: 0,
        depth: 0,
        cost: Cost::default(),
        patterns: BTreeMap::new(),
    };
    let shape = checker.shape(expression)?;
    checker.wants(expression, &shape, &Shape::Truth, "a filter")?;
    Ok(Checked {
        cost: checker.cost,
        patterns: Arc::new(checker.patterns),
    })
}

struct Checker<'e> {
    info: &'e SourceInfo,
    /// The variables of the loops around.
    scope: Vec<(&'e str, Shape)>,
    loops: usize,
    depth: usize,
    cost: Cost,
    patterns: BTreeMap<String, Regex>,
}

impl<'e> Checker<'e> {
    fn error(&self, at: &IdedExpr, text: String) -> FilterError {
        let offset = self.info.offset_for(at.id).map(|(start, _)| start);
        let offset = offset.and_then(|start| usize::try_from(start).ok());
        FilterError::at(&self.info.source, offset.unwrap_or_default(), text)
    }

    /// Checks an expression and finds the type of its value.
    fn shape(&mut self, at: &'e IdedExpr) -> Result<Shape, FilterError> {
        self.cost.visit(self.loops);
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            let text = format!("more than {MOST_DEPTH} expressions are within each other");
            return Err(self.error(at, text));
        }
        let shape = match &at.expr {
            Expr::Ident(name) => self.variable(at, name)?,
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Shape::Truth,
                LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => {
                    Shape::Number
                }
                LiteralValue::String(_) => Shape::Text,
                LiteralValue::Null => Shape::Null,
                LiteralValue::Bytes(_) => {
                    return Err(self.error(at, "a finding has no bytes, write text".to_owned()));
                }
            },
            Expr::Select(select) => self.select(at, select)?,
            Expr::Call(call) => self.call(at, call)?,
            Expr::Comprehension(each) => self.comprehension(at, each)?,
            Expr::List(list) => {
                self.cost.written = self.cost.written.max(list.elements.len());
                let mut of: Option<Shape> = None;
                for element in &list.elements {
                    let shape = self.shape(element)?;
                    of = Some(match of {
                        Some(known) if known != shape => Shape::Any,
                        _ => shape,
                    });
                }
                Shape::List(Box::new(of.unwrap_or(Shape::Any)))
            }
            Expr::Map(map) => {
                self.cost.written = self.cost.written.max(map.entries.len());
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.shape(&entry.key)?;
                        self.shape(&entry.value)?;
                    }
                }
                Shape::Map(Box::new(Shape::Any))
            }
            Expr::Struct(_) | Expr::Unspecified => {
                return Err(
                    self.error(at, "this makes a message, which no filter needs".to_owned())
                );
            }
        };
        self.depth -= 1;
        Ok(shape)
    }

    fn variable(&self, at: &IdedExpr, name: &str) -> Result<Shape, FilterError> {
        let own = self.scope.iter().rev().find(|(known, _)| *known == name);
        if let Some((_, shape)) = own {
            return Ok(shape.clone());
        }
        match name {
            VARIABLE => Ok(Shape::Message(FINDING)),
            // Names of types, as type() gives them.
            "bool" | "double" | "int" | "list" | "map" | "null_type" | "string" | "uint" => {
                Ok(Shape::Any)
            }
            _ if SCHEMA.field(FINDING, name).is_some() => {
                Err(self.error(at, format!("unknown name {name:?}, write finding.{name}")))
            }
            _ => Err(self.error(
                at,
                format!("unknown name {name:?}, the finding is called finding"),
            )),
        }
    }

    fn select(&mut self, at: &'e IdedExpr, select: &'e SelectExpr) -> Result<Shape, FilterError> {
        let of = self.shape(&select.operand)?;
        if select.test {
            let text = "has() is always true here: compare with \"\", 0, [] or null".to_owned();
            return Err(self.error(at, text));
        }
        match of.filled() {
            Shape::Message(message) => {
                if let Some(shape) = SCHEMA.field(message, &select.field) {
                    return Ok(shape.clone());
                }
                let known: Vec<_> = SCHEMA.fields(message).collect();
                let hint = hint(&select.field, &known);
                let field = &select.field;
                Err(self.error(at, format!("unknown field {field:?}{hint}")))
            }
            Shape::Map(of) => Ok((**of).clone()),
            Shape::Any => Ok(Shape::Any),
            other => {
                let (name, field) = (other.name(), &select.field);
                Err(self.error(at, format!("{name} has no field {field:?}")))
            }
        }
    }

    fn call(&mut self, at: &'e IdedExpr, call: &'e CallExpr) -> Result<Shape, FilterError> {
        let all = call.target.as_deref().into_iter().chain(&call.args);
        let mut parts = Vec::new();
        for part in all {
            parts.push((part, self.shape(part)?));
        }
        let name = call.func_name.as_str();
        match (name, parts.as_slice()) {
            ("_&&_" | "_||_" | "!_" | "@not_strictly_false", parts) => {
                for (part, shape) in parts {
                    self.wants(part, shape, &Shape::Truth, "&&, || and !")?;
                }
                Ok(Shape::Truth)
            }
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [(_, a), (_, b)]) => {
                if !a.may_equal(b) {
                    let text = format!("compares {} with {}", a.name(), b.name());
                    return Err(self.error(at, text));
                }
                Ok(Shape::Truth)
            }
            ("@in", [(_, one), (_, all)]) => {
                let of = match all.filled() {
                    Shape::List(of) => (**of).clone(),
                    Shape::Map(_) => Shape::Text,
                    Shape::Any => Shape::Any,
                    other => {
                        let text = format!("in needs a list, this is {}", other.name());
                        return Err(self.error(at, text));
                    }
                };
                if !one.may_equal(&of) {
                    let text = format!("looks for {} among {}", one.name(), of.name());
                    return Err(self.error(at, text));
                }
                Ok(Shape::Truth)
            }
            ("_[_]", [(_, of), _]) => Ok(match of.filled() {
                Shape::List(of) | Shape::Map(of) => (**of).clone(),
                _ => Shape::Any,
            }),
            ("_?_:_", [(test, shape), (_, a), (_, b)]) => {
                self.wants(test, shape, &Shape::Truth, "?")?;
                Ok(if a == b { a.clone() } else { Shape::Any })
            }
            ("_+_", [(_, a), (_, b)]) => {
                self.cost.additions += 1;
                Ok(if a == b { a.clone() } else { Shape::Any })
            }
            ("_-_" | "_*_" | "_/_" | "_%_" | "-_", _) => Ok(Shape::Number),
            _ => self.function(at, name, &parts),
        }
    }

    fn function(
        &mut self,
        at: &IdedExpr,
        name: &str,
        parts: &[(&'e IdedExpr, Shape)],
    ) -> Result<Shape, FilterError> {
        if !FUNCTIONS.contains(&name) {
            let hint = hint(name, &FUNCTIONS);
            return Err(self.error(at, format!("unknown function {name:?}{hint}")));
        }
        let wanted = match name {
            "contains" | "startsWith" | "endsWith" | "matches" => 2,
            _ => 1,
        };
        if parts.len() != wanted {
            let text = format!("{name} is for {wanted} values, {} are given", parts.len());
            return Err(self.error(at, text));
        }
        match name {
            "contains" | "startsWith" | "endsWith" | "matches" => {
                for (part, shape) in parts {
                    self.wants(part, shape, &Shape::Text, name)?;
                }
                if name == "matches" {
                    self.pattern(at, parts)?;
                }
                Ok(Shape::Truth)
            }
            "size" => match parts {
                [(_, Shape::Number | Shape::Truth | Shape::Null)] => {
                    Err(self.error(at, "size is for text and lists".to_owned()))
                }
                _ => Ok(Shape::Number),
            },
            "int" | "uint" | "double" => Ok(Shape::Number),
            "string" => Ok(Shape::Text),
            "bool" => Ok(Shape::Truth),
            _ => Ok(Shape::Any),
        }
    }

    /// Compiles the pattern of `matches`, which has to be there when the filter is loaded: a pattern
    /// out of a finding would be one that a client writes.
    fn pattern(
        &mut self,
        at: &IdedExpr,
        parts: &[(&'e IdedExpr, Shape)],
    ) -> Result<(), FilterError> {
        let literal = parts.get(1).map(|(pattern, _)| &pattern.expr);
        let Some(Expr::Literal(LiteralValue::String(pattern))) = literal else {
            let text = "matches needs a pattern in quotes".to_owned();
            return Err(self.error(at, text));
        };
        let pattern = pattern.inner();
        let regex = RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES)
            .build();
        let regex = regex.map_err(|error| {
            // The last line of several says what it is.
            let text = error.to_string();
            let line = text.lines().last().unwrap_or_default();
            let why = line.trim_start_matches("error: ");
            self.error(at, format!("the pattern is invalid: {why}"))
        })?;
        self.patterns.insert(pattern.to_owned(), regex);
        Ok(())
    }

    fn comprehension(
        &mut self,
        at: &'e IdedExpr,
        each: &'e ComprehensionExpr,
    ) -> Result<Shape, FilterError> {
        let range = self.shape(&each.iter_range)?;
        let element = match range.filled() {
            Shape::List(of) => (**of).clone(),
            // Keys.
            Shape::Map(_) => Shape::Text,
            Shape::Any => Shape::Any,
            other => {
                let text = format!("goes over a list, and this is {}", other.name());
                return Err(self.error(at, text));
            }
        };
        let accumulator = self.shape(&each.accu_init)?;
        if self.loops == MOST_LOOPS {
            let text = format!("more than {MOST_LOOPS} loops are within each other");
            return Err(self.error(at, text));
        }
        let outside = self.scope.len();
        let makes_list = matches!(accumulator, Shape::List(_));
        self.scope.push((&each.accu_var, accumulator));
        self.scope.push((&each.iter_var, element));
        if let Some(second) = &each.iter_var2 {
            self.scope.push((second, Shape::Any));
        }
        self.loops += 1;
        if makes_list {
            // Each step may copy the list so far.
            self.cost.visit(self.loops + 1);
        }
        let additions = self.cost.additions;
        self.shape(&each.loop_cond)?;
        self.shape(&each.loop_step)?;
        if makes_list {
            // The one that the loop itself makes adds one element.
            self.cost.additions = self.cost.additions.saturating_sub(1).max(additions);
        }
        self.loops -= 1;
        self.scope.truncate(outside + 1);
        let result = self.shape(&each.result)?;
        self.scope.truncate(outside);
        Ok(result)
    }

    /// Refuses a value of another type.
    fn wants(
        &self,
        at: &IdedExpr,
        shape: &Shape,
        wanted: &Shape,
        what: &str,
    ) -> Result<(), FilterError> {
        let shape = shape.filled();
        if shape == wanted || *shape == Shape::Any {
            return Ok(());
        }
        let (wanted, found) = (wanted.name(), shape.name());
        Err(self.error(at, format!("{what} needs {wanted}, this is {found}")))
    }
}

/// What a word may have meant, to follow it in a message.
fn hint(word: &str, known: &[&str]) -> String {
    /// Letters of a word that are compared: the time grows with their square.
    const COMPARED: usize = 64;
    let short: String = word.chars().take(COMPARED).collect();
    let near = known
        .iter()
        .map(|known| (strsim::osa_distance(&short, known), *known))
        .min();
    match near {
        Some((distance, known)) if distance <= 1 + short.len() / 4 => {
            format!(", did you mean {known:?}?")
        }
        _ => format!(", known: {}", known.join(", ")),
    }
}
